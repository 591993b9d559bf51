//! The core module's variables (`ngx_http_variables.c`), one row each.
//!
//! Nearly all are computed at each use: they are a copy of what the request holds anyway, so keeping them would
//! cost more than it saves.

use std::cell::Cell;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;

use base::version::NGINX_VERSION;
use os::errlog::{Errno, Level};
use proto::h1::{Known, Method, Version};

use super::header::{join_values, name_matches};
use super::{PrefixVariable, Variable, address, clock, find_cookie, sent};
use crate::body::RequestBody;
use crate::output::push_decimal;
use crate::paths;
use crate::request::Request;

const fn row(name: &'static str, read: super::Read) -> Variable {
    Variable::new(name, read)
}

const fn lying(name: &'static str, find: super::Find) -> Variable {
    Variable::lying(name, find)
}

/// Every variable of the core module whose name is fixed.
pub static VARIABLES: [Variable; 70] = [
    row("http_host", |r, out| header(r, Known::Host, b", ", out)),
    row("http_user_agent", |r, out| header(r, Known::UserAgent, b", ", out)),
    row("http_referer", |r, out| header(r, Known::Referer, b", ", out)),
    row("http_via", |r, out| header(r, Known::Via, b", ", out)),
    row("http_x_forwarded_for", |r, out| header(r, Known::XForwardedFor, b", ", out)),
    row("http_cookie", |r, out| header(r, Known::Cookie, b"; ", out)),
    row("content_length", content_length),
    row("content_type", |r, out| header(r, Known::ContentType, b", ", out)),
    lying("host", host),
    row("binary_remote_addr", address::binary_remote_addr),
    row("remote_addr", address::remote_addr).lasting(),
    row("remote_port", address::remote_port).lasting(),
    row("proxy_protocol_addr", address::proxy_protocol_addr),
    row("proxy_protocol_port", address::proxy_protocol_port),
    row("proxy_protocol_server_addr", address::proxy_protocol_server_addr),
    row("proxy_protocol_server_port", address::proxy_protocol_server_port),
    row("server_addr", address::server_addr).lasting(),
    row("server_port", address::server_port).lasting(),
    lying("server_protocol", |r| filled(r.line.protocol.of(&r.head))),
    lying("scheme", |r| Some(if r.conn.is_tls() { b"https" } else { b"http" })).lasting(),
    lying("https", |r| Some(if r.conn.is_tls() { b"on" } else { b"" })).lasting(),
    row("request_port", |r, out| {
        r.host_port.into_iter().for_each(|port| push_decimal(u64::from(port), out));
        true
    }),
    lying("is_request_port", |r| Some(if r.host_port.is_some() { b":" } else { b"" })),
    lying("request_uri", |r| filled(r.line.target.of(&r.head))),
    lying("uri", uri),
    lying("document_uri", uri),
    lying("request", shown_request_line),
    row("document_root", |r, out| {
        paths::push_document_root(r, out);
        true
    }),
    row("realpath_root", realpath_root),
    lying("query_string", |r| filled(&r.args)),
    lying("args", |r| filled(&r.args)).settable(set_args),
    lying("is_args", |r| Some(if r.args.is_empty() { b"" } else { b"?" })),
    row("request_filename", |r, out| paths::map_uri(r).is_ok_and(|path| text(&path.full, out))),
    lying("server_name", |r| Some(&r.server().name)).lasting(),
    lying("request_method", request_method),
    row("remote_user", |r, out| r.basic_credentials().is_some_and(|basic| text(basic.user(), out))),
    row("bytes_sent", |r, out| decimal(r.bytes_sent().0, out)),
    row("body_bytes_sent", |r, out| decimal(r.bytes_sent().1, out)),
    lying("pipe", |r| Some(if r.is_pipelined { b"p" } else { b"." })),
    lying("request_completion", |r| Some(if r.is_answered() { b"OK" } else { b"" })),
    lying("request_body", |r| r.body.memory().and_then(filled)),
    row("request_body_file", request_body_file),
    row("request_length", |r, out| decimal(r.received, out)),
    row("request_time", |r, out| seconds(r.elapsed_ms(), out)),
    row("request_id", request_id).cached(),
    row("status", |r, out| {
        push_status(r, out);
        true
    }),
    row("sent_http_content_type", sent::content_type),
    row("sent_http_content_length", sent::content_length),
    row("sent_http_location", sent::location),
    row("sent_http_last_modified", sent::last_modified),
    row("sent_http_connection", sent::connection),
    row("sent_http_keep_alive", sent::keep_alive),
    row("sent_http_transfer_encoding", sent::transfer_encoding),
    row("sent_http_cache_control", sent::cache_control),
    row("sent_http_link", sent::link),
    row("limit_rate", |r, out| decimal(r.limit_rate.unwrap_or(0), out)).settable(set_limit_rate),
    row("connection", |r, out| decimal(r.conn.number, out)),
    row("connection_requests", |r, out| decimal(u64::from(r.conn.requests.get()), out)),
    row("connection_time", |r, out| seconds(net::timer::now_ms().saturating_sub(r.conn.started_ms), out)),
    row("nginx_version", |_, out| text(NGINX_VERSION.as_bytes(), out)).always(NGINX_VERSION),
    row("hostname", hostname),
    row("pid", |_, out| decimal(u64::from(std::process::id()), out)),
    row("msec", |_, out| {
        clock::push_msec(out);
        true
    }),
    row("time_iso8601", |_, out| {
        clock::push_time_iso8601(out);
        true
    }),
    row("time_iso8601_ms", |_, out| {
        clock::push_time_iso8601_ms(out);
        true
    }),
    row("time_local", |_, out| {
        clock::push_time_local(out);
        true
    }),
    row("tcpinfo_rtt", address::tcpinfo_rtt),
    row("tcpinfo_rttvar", address::tcpinfo_rttvar),
    row("tcpinfo_snd_cwnd", address::tcpinfo_snd_cwnd),
    row("tcpinfo_rcv_space", address::tcpinfo_rcv_space),
];

/// The families of variables of the core module.
pub static PREFIXES: [PrefixVariable; 6] = [
    PrefixVariable { prefix: "http_", read: unknown_header },
    PrefixVariable { prefix: "sent_http_", read: sent::header },
    PrefixVariable { prefix: "sent_trailer_", read: sent::trailer },
    PrefixVariable { prefix: "cookie_", read: cookie },
    PrefixVariable { prefix: "arg_", read: argument },
    PrefixVariable { prefix: "proxy_protocol_tlv_", read: address::proxy_protocol_tlv },
];

/// A value that is always there.
pub(super) fn text(value: &[u8], out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(value);
    true
}

/// A value that counts as missing when it is empty.
fn filled(value: &[u8]) -> Option<&[u8]> {
    (!value.is_empty()).then_some(value)
}

pub(super) fn decimal(number: u64, out: &mut Vec<u8>) -> bool {
    push_decimal(number, out);
    true
}

pub(super) fn seconds(millis: u64, out: &mut Vec<u8>) -> bool {
    clock::push_seconds(millis, out);
    true
}

fn header(r: &Request, known: Known, separator: &[u8], out: &mut Vec<u8>) -> bool {
    let fields = &r.line.fields;
    join_values(fields.all(known).map(|field| field.value.of(&r.head)), separator, out)
}

fn unknown_header(r: &Request, name: &[u8], out: &mut Vec<u8>) -> bool {
    let fields = r.line.fields.iter().filter(|field| name_matches(field.name.of(&r.head), name));
    join_values(fields.map(|field| field.value.of(&r.head)), b", ", out)
}

fn content_length(r: &Request, out: &mut Vec<u8>) -> bool {
    if let Some(value) = r.header(Known::ContentLength) {
        return text(value, out);
    }
    // Of a chunked body the length is known once it has been read.
    r.content_length.is_some_and(|length| decimal(length, out))
}

/// A path that could not be normalised is empty; there is none while no request line was read.
fn uri(r: &Request) -> Option<&[u8]> {
    let is_there = !(r.uri.is_empty() && r.line.target.is_empty());
    is_there.then_some(&r.uri)
}

fn host(r: &Request) -> Option<&[u8]> {
    Some(if r.host.is_empty() { &r.server().name } else { &r.host })
}

/// The request line without its end, or as much of a bad one as was read; `None` before its first byte.
#[must_use]
pub fn shown_request_line(r: &Request) -> Option<&[u8]> {
    let line = r.line.line.of(&r.head);
    if !line.is_empty() {
        return Some(line);
    }
    let rest = r.head.get(r.line.start..).filter(|rest| !rest.is_empty())?;
    let end = memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
    rest.get(..end)
}

fn request_method(r: &Request) -> Option<&[u8]> {
    // An error page is asked for by GET, whatever the client's own request was; to a subrequest it is the client's.
    if r.method == Method::Get && r.line.method != Method::Get && !r.is_subrequest {
        return Some(b"GET");
    }
    filled(r.line.method_text.of(&r.head))
}

fn realpath_root(r: &Request, out: &mut Vec<u8>) -> bool {
    let mut root = Vec::new();
    paths::push_document_root(r, &mut root);
    match std::fs::canonicalize(Path::new(std::ffi::OsStr::from_bytes(&root))) {
        Ok(real) => text(real.as_os_str().as_bytes(), out),
        Err(error) => {
            let shown = String::from_utf8_lossy(&root);
            r.log(Level::Crit, format_args!("realpath() \"{shown}\" failed {}", Errno(&error)));
            false
        }
    }
}

fn set_args(r: &mut Request, value: &[u8]) {
    r.args.clear();
    r.args.extend_from_slice(value);
    r.valid_unparsed_uri = false;
}

fn set_limit_rate(r: &mut Request, value: &[u8]) {
    match base::parse_size(value) {
        Ok(rate) => r.limit_rate = Some(rate),
        Err(_) => {
            let shown = String::from_utf8_lossy(value).into_owned();
            r.log(Level::Error, format_args!("invalid $limit_rate \"{shown}\""));
        }
    }
}

fn request_body_file(r: &Request, out: &mut Vec<u8>) -> bool {
    match &r.body {
        RequestBody::File { path, .. } => text(path.as_os_str().as_bytes(), out),
        _ => false,
    }
}

/// Appends the status of the answer with at least three digits (`$status`).
pub fn push_status(r: &Request, out: &mut Vec<u8>) {
    let status = match (r.error_status, r.response.status) {
        (0, 0) if r.version() < Version::HTTP_10 => 9,
        (0, status) | (status, _) => status,
    };
    if status < 100 {
        out.extend_from_slice(if status < 10 { b"00" } else { b"0" });
    }
    push_decimal(u64::from(status), out);
}

/// 32 hexadecimal digits that nobody can guess: a keyed hash of a counter, as nginx's are.
fn request_id(_: &Request, out: &mut Vec<u8>) -> bool {
    thread_local! {
        static KEY: RandomState = RandomState::new();
        static COUNTER: Cell<u64> = const { Cell::new(0) };
    }
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let counter = COUNTER.get();
    COUNTER.set(counter + 2);
    let bytes =
        KEY.with(|key| [key.hash_one(counter).to_le_bytes(), key.hash_one(counter + 1).to_le_bytes()]);
    let mut digits = [0; 32];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes.as_flattened()) {
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    text(&digits, out)
}

pub(super) fn hostname(_: &Request, out: &mut Vec<u8>) -> bool {
    static NAME: OnceLock<String> = OnceLock::new();
    text(NAME.get_or_init(|| os::process::hostname().to_ascii_lowercase()).as_bytes(), out)
}

fn cookie(r: &Request, name: &[u8], out: &mut Vec<u8>) -> bool {
    let fields = r.line.fields.all(Known::Cookie).map(|field| field.value.of(&r.head));
    find_cookie(fields, name).is_some_and(|value| text(value, out))
}

fn argument(r: &Request, name: &[u8], out: &mut Vec<u8>) -> bool {
    find_argument(&r.args, name).is_some_and(|value| text(value, out))
}

/// The value of the first argument of this name, in any case of letters, as it was sent (`ngx_http_arg`).
#[must_use]
pub fn find_argument<'a>(args: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    if name.is_empty() {
        return None;
    }
    args.split(|byte| *byte == b'&').find_map(|argument| {
        let (start, rest) = argument.split_at_checked(name.len())?;
        start.eq_ignore_ascii_case(name).then(|| rest.strip_prefix(b"=")).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        let check = |args: &str, name: &str, expected: Option<&str>| {
            let found = find_argument(args.as_bytes(), name.as_bytes());
            assert_eq!(found, expected.map(str::as_bytes), "{args} {name}");
        };
        check("a=1&b=2", "a", Some("1"));
        check("a=1&b=2", "b", Some("2"));
        check("A=1", "a", Some("1"));
        check("ab=1&a=2", "a", Some("2"));
        check("xa=1", "a", None);
        check("a=", "a", Some(""));
        check("a", "a", None);
        check("a&a=1", "a", Some("1"));
        check("a=1&a=2", "a", Some("1"));
        check("a=x=y", "a", Some("x=y"));
        check("", "a", None);
        check("=1", "", None);
    }

    #[test]
    fn no_name_stands_twice_or_in_capitals() {
        let mut names: Vec<_> = VARIABLES.iter().map(|variable| variable.name).collect();
        names.extend(PREFIXES.iter().map(|family| family.prefix));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(
            names
                .iter()
                .all(|name| name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_')))
        );
    }
}
