//! `$upstream_*`: what is known of a request's attempts at upstreams (`ngx_http_upstream.c`).
//!
//! One value per attempt, parted by commas; a colon parts the upstreams that an internal redirect led to.

use std::io::Write;

use proto::h1::Known;

use super::UpstreamState;
use crate::request::Request;
use crate::variables::{PrefixVariable, Variable, join_values, name_matches, without_spaces};

/// The variables.
pub static VARIABLES: [Variable; 14] = [
    Variable::new("upstream_addr", |r, out| {
        each(&r.upstreams, out, |state, out| out.extend_from_slice(state.addr.as_bytes()))
    }),
    Variable::new("upstream_status", |r, out| {
        each(&r.upstreams, out, |state, out| match state.status {
            0 => out.push(b'-'),
            status => number(u64::from(status), out),
        })
    }),
    Variable::new("upstream_queue_time", |r, out| {
        r.upstreams.iter().any(|state| state.queue_ms.is_some())
            && each(&r.upstreams, out, |state, out| time(state.queue_ms.map(u64::from), out))
    }),
    Variable::new("upstream_last_addr", |r, out| {
        r.upstreams.last().is_some_and(|state| {
            out.extend_from_slice(state.addr.as_bytes());
            true
        })
    }),
    Variable::new("upstream_last_server_name", |r, out| {
        r.upstreams.last().is_some_and(|state| {
            out.extend_from_slice(host_of(state.server.as_ref().unwrap_or(&state.addr)).as_bytes());
            true
        })
    }),
    Variable::new("upstream_connect_time", |r, out| {
        each(&r.upstreams, out, |state, out| time(state.connect_ms, out))
    }),
    Variable::new("upstream_header_time", |r, out| {
        each(&r.upstreams, out, |state, out| time(state.header_ms, out))
    }),
    Variable::new("upstream_response_time", |r, out| {
        each(&r.upstreams, out, |state, out| time(state.response_ms, out))
    }),
    Variable::new("upstream_response_length", |r, out| {
        each(&r.upstreams, out, |state, out| number(state.response_length, out))
    }),
    Variable::new("upstream_bytes_received", |r, out| {
        each(&r.upstreams, out, |state, out| number(state.received, out))
    }),
    Variable::new("upstream_bytes_sent", |r, out| {
        each(&r.upstreams, out, |state, out| number(state.sent, out))
    }),
    Variable::new("upstream_cache_status", |r, out| {
        r.cache.as_ref().is_some_and(|case| {
            out.extend_from_slice(case.status.name().as_bytes());
            true
        })
    }),
    Variable::new("upstream_cache_last_modified", |r, out| {
        r.cache.as_ref().and_then(|case| case.last_modified()).is_some_and(|time| {
            out.extend_from_slice(&proto::date::http(time));
            true
        })
    }),
    Variable::new("upstream_cache_etag", |r, out| {
        r.cache.as_ref().and_then(|case| case.etag()).is_some_and(|etag| {
            out.extend_from_slice(etag);
            true
        })
    }),
];

/// The variables of `stream` (`ngx_stream_upstream.c`).
pub static STREAM_VARIABLES: [Variable; 6] = [
    Variable::new("upstream_addr", |r, out| {
        each(&r.upstreams, out, |state, out| out.extend_from_slice(state.addr.as_bytes()))
    }),
    Variable::new("upstream_connect_time", |r, out| {
        each(&r.upstreams, out, |state, out| time(state.connect_ms, out))
    }),
    Variable::new("upstream_first_byte_time", |r, out| {
        each(&r.upstreams, out, |state, out| time(state.header_ms, out))
    }),
    Variable::new("upstream_session_time", |r, out| {
        each(&r.upstreams, out, |state, out| time(state.response_ms, out))
    }),
    Variable::new("upstream_bytes_received", |r, out| {
        each(&r.upstreams, out, |state, out| number(state.received, out))
    }),
    Variable::new("upstream_bytes_sent", |r, out| {
        each(&r.upstreams, out, |state, out| number(state.sent, out))
    }),
];

/// `$upstream_http_*`, `$upstream_trailer_*` and `$upstream_cookie_*`.
pub static PREFIXES: [PrefixVariable; 3] = [
    PrefixVariable { prefix: "upstream_http_", read: field },
    PrefixVariable { prefix: "upstream_trailer_", read: trailer },
    PrefixVariable { prefix: "upstream_cookie_", read: cookie },
];

fn each(states: &[UpstreamState], out: &mut Vec<u8>, write: impl Fn(&UpstreamState, &mut Vec<u8>)) -> bool {
    for (index, state) in states.iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(if state.after_redirect { b" : " } else { b", " });
        }
        write(state, out);
    }
    !states.is_empty()
}

/// The server without its port, as TLS wants it.
fn host_of(server: &str) -> &str {
    match server.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => server,
    }
}

fn number(value: u64, out: &mut Vec<u8>) {
    let _ = write!(out, "{value}");
}

/// Seconds with three places.
fn time(ms: Option<u64>, out: &mut Vec<u8>) {
    let _ = match ms {
        Some(ms) => write!(out, "{}.{:03}", ms / 1000, ms % 1000),
        None => write!(out, "-"),
    };
}

fn field(r: &Request, name: &[u8], out: &mut Vec<u8>) -> bool {
    let head = &r.upstream_head;
    let fields = head.head.fields.iter().map(|field| (field.name.of(&head.text), field.value.of(&head.text)));
    join(fields, name, out)
}

fn trailer(r: &Request, name: &[u8], out: &mut Vec<u8>) -> bool {
    join(r.upstream_head.trailers.iter().map(|(name, value)| (&name[..], &value[..])), name, out)
}

/// Appends the values of all fields that a variable's name means.
fn join<'a>(fields: impl Iterator<Item = (&'a [u8], &'a [u8])>, name: &[u8], out: &mut Vec<u8>) -> bool {
    let values = fields.filter(|(field, _)| name_matches(field, name)).map(|(_, value)| value);
    join_values(values, b", ", out)
}

/// The value of a cookie that the upstream sets (`ngx_http_parse_set_cookie_lines`).
fn cookie(r: &Request, name: &[u8], out: &mut Vec<u8>) -> bool {
    let head = &r.upstream_head;
    let mut lines = head.head.fields.all(Known::SetCookie).map(|field| field.value.of(&head.text));
    lines.find_map(|line| cookie_value(line, name)).is_some_and(|value| {
        out.extend_from_slice(value);
        true
    })
}

fn cookie_value<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (head, rest) = line.split_at_checked(name.len())?;
    if !head.eq_ignore_ascii_case(name) {
        return None;
    }
    let value = without_spaces(without_spaces(rest).strip_prefix(b"=")?);
    value.split(|byte| *byte == b';').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(addr: &str, status: u16, header_ms: Option<u64>) -> UpstreamState {
        UpstreamState { addr: addr.into(), status, header_ms, ..UpstreamState::default() }
    }

    #[test]
    fn attempts_are_listed_as_nginx_lists_them() {
        let mut redirected = state("unix:/tmp/b", 200, Some(12_345));
        redirected.after_redirect = true;
        let states = [state("10.0.0.1:80", 502, None), state("10.0.0.2:80", 0, Some(7)), redirected];
        let check = |expected: &str, write: fn(&UpstreamState, &mut Vec<u8>)| {
            let mut out = Vec::new();
            assert!(each(&states, &mut out, write));
            assert_eq!(String::from_utf8_lossy(&out), expected);
        };
        check("10.0.0.1:80, 10.0.0.2:80 : unix:/tmp/b", |state, out| {
            out.extend_from_slice(state.addr.as_bytes())
        });
        check("-, 0.007 : 12.345", |state, out| time(state.header_ms, out));
        assert!(!each(&[], &mut Vec::new(), |_, _| {}));
    }

    #[test]
    fn fields_are_joined() {
        let fields: [(&[u8], &[u8]); 3] = [(b"X-A_b", b"1"), (b"x-a-B", b"2"), (b"X-A", b"3")];
        let check = |name: &str, expected: Option<&str>| {
            let mut out = Vec::new();
            let found = join(fields.into_iter(), name.as_bytes(), &mut out);
            assert_eq!(found.then_some(&out[..]), expected.map(str::as_bytes), "{name}");
        };
        check("x_a_b", Some("1, 2"));
        check("x_a", Some("3"));
        check("x", None);
    }

    #[test]
    fn cookies() {
        let check = |line: &str, expected: Option<&str>| {
            assert_eq!(cookie_value(line.as_bytes(), b"sid"), expected.map(str::as_bytes), "{line}");
        };
        check("sid=abc; Path=/", Some("abc"));
        check("SID = abc", Some("abc"));
        check("sid\t=\tabc", None);
        check("sid=\tabc", Some("\tabc"));
        check("sid=", Some(""));
        check("sid", None);
        check("sidx=abc", None);
        check("x=1; sid=abc", None);
    }
}
