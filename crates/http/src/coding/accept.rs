//! Whether a client takes a coding: `Accept-Encoding`, and for gzip the conditions on proxies and old browsers
//! (`ngx_http_gzip_ok`).

use proto::h1::Known;

use super::Coding;
use crate::conf::core::gzip_proxied;
use crate::request::Request;

/// Whether the client takes answers in this coding. Subrequests are never coded: their answers become part of
/// another.
pub fn accepts(r: &mut Request, coding: Coding) -> bool {
    if coding != Coding::Gzip {
        return is_named(r, coding);
    }
    if let Some(known) = r.response.takes_gzip {
        return known;
    }
    let takes = is_named(r, coding) && is_allowed(r);
    r.response.takes_gzip = Some(takes);
    takes
}

fn is_named(r: &Request, coding: Coding) -> bool {
    !r.is_subrequest
        && r.header(Known::AcceptEncoding).is_some_and(|value| names(value, coding.name().as_bytes()))
}

/// Whether an `Accept-Encoding` names a coding with a weight above zero (`ngx_http_gzip_accept_encoding`). As in
/// nginx `*` stands for nothing.
fn names(value: &[u8], name: &[u8]) -> bool {
    let mut at = 0;
    while let Some(window) = value.get(at..at + name.len()) {
        let begins = at == 0 || matches!(value.get(at - 1), Some(b',' | b' '));
        if begins && window.eq_ignore_ascii_case(name) {
            return has_weight(value.get(at + name.len()..).unwrap_or_default());
        }
        at += 1;
    }
    false
}

/// What follows a coding's name: nothing, the next name, or `;q=` and a weight.
fn has_weight(rest: &[u8]) -> bool {
    let rest = rest.trim_ascii_start();
    let rest = match rest {
        [] | [b',', ..] => return true,
        [b';', rest @ ..] => rest.trim_ascii_start(),
        _ => return false,
    };
    match rest {
        [] => true,
        [b'q' | b'Q', b'=', weight @ ..] => weight_of(weight) > 0,
        _ => false,
    }
}

/// A weight in hundredths; what is no weight is none (`ngx_http_gzip_quantity`).
fn weight_of(text: &[u8]) -> u32 {
    let end = text.iter().position(|byte| matches!(byte, b',' | b' ')).unwrap_or(text.len());
    let (first, digits) = match text.get(..end) {
        Some([first @ (b'0' | b'1')]) => (first, &b""[..]),
        Some([first @ (b'0' | b'1'), b'.', digits @ ..]) => (first, digits),
        _ => return 0,
    };
    if digits.len() > 3 || !digits.iter().all(u8::is_ascii_digit) {
        return 0;
    }
    let sum: u32 = digits.iter().map(|digit| u32::from(digit - b'0')).sum();
    let weight = u32::from(first - b'0') * 100 + sum;
    if weight > 100 { 0 } else { weight }
}

/// The directives' conditions.
fn is_allowed(r: &Request) -> bool {
    let core = &r.location().core;
    if core.gzip_disable_msie6 && r.is_msie6() {
        return false;
    }
    if r.version() < core.gzip_http_version {
        return false;
    }
    if r.header(Known::Via).is_some() && !is_allowed_by_proxies(r, core.gzip_proxied) {
        return false;
    }
    let agent = r.header(Known::UserAgent);
    !agent.is_some_and(|agent| core.gzip_disable.iter().any(|regex| regex.is_match(agent)))
}

/// `gzip_proxied`: which answers are coded for clients behind a proxy.
fn is_allowed_by_proxies(r: &Request, allowed: u32) -> bool {
    let has = |bit: u32| allowed & bit != 0;
    if has(gzip_proxied::OFF) {
        return false;
    }
    if has(gzip_proxied::ANY) || (has(gzip_proxied::AUTH) && r.header(Known::Authorization).is_some()) {
        return true;
    }
    let headers = &r.response.headers;
    if let Some(expires) = headers.known(Known::Expires) {
        let date = match headers.known(Known::Date) {
            Some(date) => proto::date::parse(date),
            None => Some(net::timer::wall_clock().0),
        };
        return has(gzip_proxied::EXPIRED)
            && matches!((proto::date::parse(expires), date), (Some(expires), Some(date)) if expires < date);
    }
    if headers.has(Known::CacheControl) {
        let says = |token: &[u8]| {
            headers.by_name(b"Cache-Control").any(|value| {
                value
                    .split(|byte| matches!(byte, b',' | b';'))
                    .any(|part| part.trim_ascii().eq_ignore_ascii_case(token))
            })
        };
        return (has(gzip_proxied::NO_CACHE) && says(b"no-cache"))
            || (has(gzip_proxied::NO_STORE) && says(b"no-store"))
            || (has(gzip_proxied::PRIVATE) && says(b"private"));
    }
    let is_dated = has(gzip_proxied::NO_LAST_MODIFIED) && r.response.last_modified().is_some();
    let is_tagged = has(gzip_proxied::NO_ETAG) && headers.has(Known::ETag);
    !is_dated && !is_tagged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_encoding() {
        let check = |value: &str, name: &str, expected| {
            assert_eq!(names(value.as_bytes(), name.as_bytes()), expected, "{value} {name}");
        };
        check("gzip", "gzip", true);
        check("gzip, deflate, br, zstd", "gzip", true);
        check("gzip, deflate, br, zstd", "br", true);
        check("gzip, deflate, br, zstd", "zstd", true);
        check("deflate,GZip", "gzip", true);
        check("xgzip", "gzip", false);
        check("xgzip, gzip", "gzip", true);
        check("gzipx", "gzip", false);
        check("br2", "br", false);
        check("gzip ", "gzip", true);
        check("gzip ;q=1", "gzip", true);
        check("gzip; q=0.5", "gzip", true);
        check("gzip;q=0", "gzip", false);
        check("gzip;q=0.", "gzip", false);
        check("gzip;q=0.000", "gzip", false);
        check("gzip;q=0.001, br", "gzip", true);
        check("gzip;q=1.0", "gzip", true);
        check("gzip;q=1.001", "gzip", false);
        check("gzip;q=0.0001", "gzip", false);
        check("gzip;q=2", "gzip", false);
        check("gzip;q=0.a", "gzip", false);
        check("gzip;q", "gzip", false);
        check("gzip;q=", "gzip", false);
        check("gzip;x=1", "gzip", false);
        check("gzip;", "gzip", true);
        check("*", "gzip", false);
        check("", "gzip", false);
    }
}
