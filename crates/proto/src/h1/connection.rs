//! What the Connection field asks for (`ngx_http_process_connection`).
//!
//! nginx looks for words anywhere in the value, so `disclose` closes too; the last line that says something wins.

use super::fields::Fields;
use super::known::Known;
use super::request::RequestHead;
use super::request_line::{Method, Version};
use super::response::ResponseHead;

/// What a Connection field says about the time after the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// The connection ends.
    Close,
    /// The connection stays.
    KeepAlive,
}

/// What a version means without a Connection field: from HTTP/1.1 on connections stay.
#[inline]
#[must_use]
pub fn keep_alive_default(version: Version) -> Persistence {
    if version > Version::HTTP_10 { Persistence::KeepAlive } else { Persistence::Close }
}

/// What the Connection fields of a request say; `None` where they say nothing of it.
#[inline]
#[must_use]
pub fn connection(fields: &Fields, buffer: &[u8]) -> Option<Persistence> {
    let mut persistence = None;
    for field in fields.all(Known::Connection) {
        let value = field.value.of(buffer);
        if contains(value, b"close") {
            persistence = Some(Persistence::Close);
        } else if contains(value, b"keep-alive") {
            persistence = Some(Persistence::KeepAlive);
        }
    }
    persistence
}

/// Whether a client's connection may be used again (`ngx_http_handler`), before any limit is looked at.
#[inline]
#[must_use]
pub fn request_persistence(head: &RequestHead, buffer: &[u8]) -> Persistence {
    if head.method == Method::Connect {
        return Persistence::Close;
    }
    connection(&head.fields, buffer).unwrap_or_else(|| keep_alive_default(head.version))
}

/// Whether an upstream's connection may be used again, once the body was read to its end: HTTP/1.1 without
/// `close`. A keep-alive of HTTP/1.0 does not count, as in nginx.
#[inline]
#[must_use]
pub fn response_persistence(head: &ResponseHead, buffer: &[u8]) -> Persistence {
    let close = head.version < Version::HTTP_11
        || head.status == 101
        || head.fields.all(Known::Connection).any(|field| contains(field.value.of(buffer), b"close"));
    if close { Persistence::Close } else { Persistence::KeepAlive }
}

/// Whether a Connection field names `upgrade` among its options (RFC 9110, 7.8).
#[must_use]
pub fn asks_upgrade(fields: &Fields, buffer: &[u8]) -> bool {
    fields.all(Known::Connection).any(|field| {
        let mut options = field.value.of(buffer).split(|byte| *byte == b',');
        options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
    })
}

/// Whether `needle` lies in `haystack`, letters compared without case.
#[inline]
fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.eq_ignore_ascii_case(needle)
        || haystack.windows(needle.len()).any(|window| window.eq_ignore_ascii_case(needle))
}

#[cfg(test)]
mod tests {
    use super::super::HeadLimits;
    use super::*;

    #[test]
    fn connections() {
        let check = |version: &str, lines: &str, expected, upgrade| {
            let input = format!("GET / HTTP/{version}\r\n{lines}\r\n\r\n");
            let mut head = RequestHead::default();
            head.parse(input.as_bytes(), &HeadLimits::default()).expect(lines);
            assert_eq!(request_persistence(&head, input.as_bytes()), expected, "{version} {lines}");
            assert_eq!(asks_upgrade(&head.fields, input.as_bytes()), upgrade, "{lines}");
        };
        use Persistence::{Close, KeepAlive};
        check("1.1", "A: b", KeepAlive, false);
        check("1.0", "A: b", Close, false);
        check("1.0", "Connection: Keep-Alive", KeepAlive, false);
        check("1.1", "Connection: close", Close, false);
        check("1.1", "Connection: keep-alive, CLOSE", Close, false);
        check("1.1", "Connection: disclose", Close, false);
        check("1.0", "Connection: close\r\nConnection: keep-alive", KeepAlive, false);
        check("1.1", "Connection: keep-alive, Upgrade", KeepAlive, true);
        check("1.1", "Connection: upgraded", KeepAlive, false);
    }

    #[test]
    fn upstream_connections() {
        let check = |text: &str, expected| {
            let input = format!("HTTP/{text}\r\n\r\n");
            let mut head = ResponseHead::default();
            head.parse(input.as_bytes(), 4096, 10).expect(text);
            assert_eq!(response_persistence(&head, input.as_bytes()), expected, "{text}");
        };
        check("1.1 200 OK", Persistence::KeepAlive);
        check("1.0 200 OK", Persistence::Close);
        check("1.0 200 OK\r\nConnection: keep-alive", Persistence::Close);
        check("1.1 200 OK\r\nConnection: a, Close", Persistence::Close);
        check("1.1 101 Switching\r\nConnection: upgrade", Persistence::Close);
    }
}
