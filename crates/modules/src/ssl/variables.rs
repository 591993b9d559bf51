//! `$ssl_*`: what is known of the client's TLS.

use http::request::Request;
use http::variables::Variable;
use net::tls::{Session, name_of_cipher, name_of_curve};

/// The variables.
pub(super) static VARIABLES: [Variable; 10] = [
    Variable::new("ssl_protocol", |r, out| text(r, out, |session| Some(session.protocol()))),
    Variable::new("ssl_cipher", |r, out| text(r, out, Session::cipher)),
    Variable::new("ssl_ciphers", |r, out| numbers(r, out, |hello| &hello.ciphers, name_of_cipher)).cached(),
    Variable::new("ssl_curve", |r, out| text(r, out, Session::curve)),
    Variable::new("ssl_curves", |r, out| numbers(r, out, |hello| &hello.curves, name_of_curve)).cached(),
    Variable::new("ssl_session_id", session_id),
    Variable::new("ssl_session_reused", |r, out| {
        text(r, out, |session| Some(if session.is_resumed() { "r" } else { "." }))
    }),
    Variable::new("ssl_early_data", |r, out| text(r, out, |session| session.is_early().then_some("1"))),
    Variable::new("ssl_server_name", |r, out| {
        let name = r.conn.stream.tls().and_then(|session| session.hello()?.name.as_deref());
        push(name.map(str::as_bytes), out)
    }),
    Variable::new("ssl_alpn_protocol", |r, out| {
        let protocol = r.conn.stream.tls().and_then(Session::alpn);
        push(protocol.as_deref(), out)
    }),
];

fn push(value: Option<&[u8]>, out: &mut Vec<u8>) -> bool {
    match value {
        Some(value) if !value.is_empty() => {
            out.extend_from_slice(value);
            true
        }
        _ => false,
    }
}

fn text(r: &Request, out: &mut Vec<u8>, read: impl Fn(&Session) -> Option<&'static str>) -> bool {
    push(r.conn.stream.tls().and_then(read).map(str::as_bytes), out)
}

fn session_id(r: &Request, out: &mut Vec<u8>) -> bool {
    let Some(id) = r.conn.stream.tls().and_then(Session::id) else { return false };
    push_hex(&id, out);
    !id.is_empty()
}

/// Appends bytes in hexadecimal.
pub(super) fn push_hex(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}

/// Names of the numbers in the client's hello, parted by colons; GREASE is left away, as OpenSSL leaves it.
fn numbers(
    r: &Request,
    out: &mut Vec<u8>,
    of: impl Fn(&net::tls::Hello) -> &[u16],
    name: impl Fn(u16) -> Option<&'static str>,
) -> bool {
    let Some(hello) = r.conn.stream.tls().and_then(Session::hello) else { return false };
    let start = out.len();
    for number in of(hello).iter().filter(|number| **number & 0x0f0f != 0x0a0a) {
        if out.len() > start {
            out.push(b':');
        }
        match name(*number) {
            Some(name) => out.extend_from_slice(name.as_bytes()),
            None => out.extend_from_slice(format!("0x{number:04x}").as_bytes()),
        }
    }
    out.len() > start
}
