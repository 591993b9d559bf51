//! `$ssl_*`: what is known of the client's TLS.

use http::request::Request;
use http::variables::Variable;
use net::tls::x509::Certificate;
use net::tls::{Flaw, Session, Verification, name_of_cipher, name_of_curve, names};

/// The variables.
pub(super) static VARIABLES: [Variable; 28] = [
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
    // OpenSSL 3.0, whose directives these are, tells neither; encrypted hellos are not spoken.
    Variable::new("ssl_sigalg", |_, _| false),
    Variable::new("ssl_sigalgs", |_, _| false),
    Variable::new("ssl_client_sigalg", |_, _| false),
    Variable::new("ssl_ech_status", |_, _| false),
    Variable::new("ssl_ech_outer_server_name", |_, _| false),
    Variable::new("ssl_client_verify", client_verify),
    Variable::new("ssl_client_cert", client_cert),
    Variable::new("ssl_client_raw_cert", |r, out| of_cert(r, out, |cert, out| out.extend(names_pem(cert)))),
    Variable::new("ssl_client_escaped_cert", |r, out| {
        of_cert(r, out, |cert, out| {
            let text = names_pem(cert);
            proto::uri::escape(&text, proto::uri::EscapeKind::UriComponent, out);
        })
    }),
    Variable::new("ssl_client_s_dn", |r, out| {
        of_cert(r, out, |cert, out| out.extend(names::rfc2253(cert.subject())))
    }),
    Variable::new("ssl_client_i_dn", |r, out| {
        of_cert(r, out, |cert, out| out.extend(names::rfc2253(cert.issuer())))
    }),
    Variable::new("ssl_client_s_dn_legacy", |r, out| {
        of_cert(r, out, |cert, out| out.extend(names::oneline(cert.subject())))
    }),
    Variable::new("ssl_client_i_dn_legacy", |r, out| {
        of_cert(r, out, |cert, out| out.extend(names::oneline(cert.issuer())))
    }),
    Variable::new("ssl_client_serial", |r, out| of_cert(r, out, |cert, out| out.extend(names::serial(cert)))),
    Variable::new("ssl_client_fingerprint", |r, out| {
        of_cert(r, out, |cert, out| push_hex(&names::fingerprint(cert.der()), out))
    }),
    Variable::new("ssl_client_v_start", |r, out| {
        of_cert(r, out, |cert, out| out.extend(names::time(cert.not_before).into_bytes()))
    }),
    Variable::new("ssl_client_v_end", |r, out| {
        of_cert(r, out, |cert, out| out.extend(names::time(cert.not_after).into_bytes()))
    }),
    Variable::new("ssl_client_v_remain", |r, out| {
        of_cert(r, out, |cert, out| {
            let left = (cert.not_after - net::timer::wall_clock().0).max(0) / 86_400;
            out.extend(left.to_string().into_bytes());
        })
    }),
];

/// `NONE`, `SUCCESS` or `FAILED:reason` (`ngx_ssl_get_client_verify`).
fn client_verify(r: &Request, out: &mut Vec<u8>) -> bool {
    let Some(session) = r.conn.stream.tls() else { return false };
    let policy = r.server().tls.as_ref().and_then(|tls| tls.client.as_ref());
    let judged = match policy {
        Some(policy) => policy.judge(session),
        None if session.has_peer_certificate() => Verification::Bad(Flaw::UnableToVerifyLeaf),
        None => Verification::Absent,
    };
    match judged {
        Verification::Absent => out.extend_from_slice(b"NONE"),
        Verification::Good => match session.doubt() {
            None => out.extend_from_slice(b"SUCCESS"),
            Some(doubt) => push_failed(doubt.text(), out),
        },
        Verification::Bad(flaw) => push_failed(flaw.text(), out),
    }
    true
}

fn push_failed(why: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"FAILED:");
    out.extend_from_slice(why.as_bytes());
}

/// Appends something of the client's certificate, where it has one.
fn of_cert(r: &Request, out: &mut Vec<u8>, write: impl Fn(&Certificate, &mut Vec<u8>)) -> bool {
    let Some(session) = r.conn.stream.tls().filter(|session| session.has_peer_certificate()) else {
        return false;
    };
    let chain = session.peer_certificates();
    let Some(certificate) = chain.first().and_then(|der| Certificate::parse(der).ok()) else { return false };
    write(&certificate, out);
    true
}

fn names_pem(certificate: &Certificate) -> Vec<u8> {
    net::tls::pem::write("CERTIFICATE", certificate.der())
}

/// The certificate in PEM, each line but the first behind a tab, as it was once put into headers.
fn client_cert(r: &Request, out: &mut Vec<u8>) -> bool {
    of_cert(r, out, |certificate, out| {
        let mut text = names_pem(certificate);
        text.pop();
        for byte in text {
            out.push(byte);
            if byte == b'\n' {
                out.push(b'\t');
            }
        }
    })
}

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
