//! The host that a request names: checked, without port and trailing dot, in lower case.
//!
//! Follows `ngx_http_validate_host`; the name picks the server, so nothing else may decide what it is.

use std::borrow::Cow;

use wide::u8x16;

use crate::h1::{Known, RequestHead, Version};

/// A checked host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host<'a> {
    /// Lower case; an IPv6 literal keeps its brackets. Borrowed where it was lower case already.
    pub name: Cow<'a, [u8]>,
    /// The port that was named; zero where none was.
    pub port: u16,
}

/// The text is no host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidHost;

/// Why a request's host is refused, always with 400; displays as nginx's sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// The authority of an absolute form or of CONNECT.
    #[error("client sent invalid host in request line")]
    RequestLine,
    /// The Host field.
    #[error("client sent invalid host header")]
    Field,
    /// From HTTP/1.1 on there must be a Host field, whatever the request line says.
    #[error("client sent HTTP/1.1 request without \"Host\" header")]
    Missing,
}

/// The host that a request is for: the one of its request line, or the Host field, and both are checked.
///
/// # Errors
/// [`HostError`]. That there are not two Host fields is for
/// [`request_framing`](crate::h1::request_framing) to see.
#[inline]
pub fn request_host<'a>(head: &RequestHead, buffer: &'a [u8]) -> Result<Option<Host<'a>>, HostError> {
    let authority = match head.authority {
        Some(text) => Some(validate_host(text.of(buffer)).map_err(|_| HostError::RequestLine)?),
        None => None,
    };
    let field = match head.fields.value(Known::Host, buffer) {
        // HTTP/2 has both by one name, which was looked at.
        Some(text) if head.authority.is_some_and(|authority| authority.of(buffer) == text) => None,
        Some(text) => Some(validate_host(text).map_err(|_| HostError::Field)?),
        None if head.version > Version::HTTP_10 => return Err(HostError::Missing),
        None => None,
    };
    Ok(authority.or(field))
}

/// What a byte means in a host.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// Nothing besides itself: unreserved and sub-delimiters.
    Plain,
    Upper,
    Dot,
    Colon,
    Percent,
    OpeningBracket,
    ClosingBracket,
    Refused,
}

static MEANINGS: [Meaning; 256] = {
    let mut meanings = [Meaning::Refused; 256];
    let mut byte = 0;
    while byte < 256 {
        meanings[byte] = match byte as u8 {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => Meaning::Plain,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' => Meaning::Plain,
            b'A'..=b'Z' => Meaning::Upper,
            b'.' => Meaning::Dot,
            b':' => Meaning::Colon,
            b'%' => Meaning::Percent,
            b'[' => Meaning::OpeningBracket,
            b']' => Meaning::ClosingBracket,
            _ => Meaning::Refused,
        };
        byte += 1;
    }
    meanings
};

/// Checks `host[:port]` and takes it apart.
///
/// # Errors
/// [`InvalidHost`] for an empty name, two dots in a row, a port above 65535 and bytes that RFC 3986 does
/// not allow in a host.
pub fn validate_host(text: &[u8]) -> Result<Host<'_>, InvalidHost> {
    if is_usual(text) { Ok(Host { name: Cow::Borrowed(text), port: 0 }) } else { take_apart(text) }
}

/// Bytes that are looked at at once.
const BLOCK: usize = 16;

/// Whether a text is a host of usual length that is its own name: lower case, without a port and without anything rare.
#[inline]
fn is_usual(text: &[u8]) -> bool {
    let are_usual = match (text.first_chunk::<BLOCK>(), text.last_chunk::<BLOCK>()) {
        // Two blocks that overlap show all neighbours of all bytes.
        (Some(first), Some(last)) if text.len() < 2 * BLOCK => {
            is_usual_block(*first) && is_usual_block(*last)
        }
        (None, None) => match (text.first_chunk::<8>(), text.last_chunk::<8>()) {
            (Some(first), Some(last)) => {
                let mut block = [0; BLOCK];
                block[..8].copy_from_slice(first);
                block[8..].copy_from_slice(last);
                is_usual_block(block)
            }
            _ => false,
        },
        _ => false,
    };
    are_usual && text.last() != Some(&b'.')
}

/// Whether there are small letters, digits, hyphens and lone dots and nothing else.
#[inline]
fn is_usual_block(block: [u8; BLOCK]) -> bool {
    let bytes = u8x16::from(block);
    let (letter, other) = (bytes - u8x16::splat(b'a'), bytes - u8x16::splat(b'-'));
    let is_letter = letter.min(u8x16::splat(25)).simd_eq(letter);
    // From the hyphen to the nine there is a slash too.
    let is_other = other.min(u8x16::splat(b'9' - b'-')).simd_eq(other);
    let is_slash = bytes.simd_eq(u8x16::splat(b'/'));
    let dots = bytes.simd_eq(u8x16::splat(b'.')).to_bitmask();
    (is_letter | is_other & !is_slash).all() && dots & dots >> 1 == 0
}

/// As [`validate_host`] for any host.
#[inline(never)]
fn take_apart(text: &[u8]) -> Result<Host<'_>, InvalidHost> {
    let literal = text.first() == Some(&b'[');
    let mut end = text.len();
    let mut upper = false;
    for (at, &byte) in text.iter().enumerate() {
        let meaning = MEANINGS[byte as usize];
        if meaning == Meaning::Plain {
            continue;
        }
        match meaning {
            Meaning::Upper => upper = true,
            Meaning::Dot if at == 0 || text.get(at - 1) != Some(&b'.') => {}
            Meaning::Colon if !literal => {
                end = at;
                break;
            }
            Meaning::Colon => {}
            Meaning::OpeningBracket if at == 0 => {}
            Meaning::ClosingBracket if literal => {
                end = at + 1;
                break;
            }
            Meaning::Percent if !literal => {}
            _ => return Err(InvalidHost),
        }
    }
    let (name, rest) = text.split_at_checked(end).ok_or(InvalidHost)?;
    if literal && name.last() != Some(&b']') {
        return Err(InvalidHost);
    }
    let port = match rest.split_first() {
        Some((b':', digits)) => port(digits)?,
        Some(_) => return Err(InvalidHost),
        None => 0,
    };
    let name = name.strip_suffix(b".").unwrap_or(name);
    if name.is_empty() {
        return Err(InvalidHost);
    }
    let name = if upper { Cow::Owned(name.to_ascii_lowercase()) } else { Cow::Borrowed(name) };
    Ok(Host { name, port })
}

/// Decimal digits, none of them too.
fn port(digits: &[u8]) -> Result<u16, InvalidHost> {
    let mut port = 0;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        port = port * 10 + u32::from(digit);
        if digit > 9 || port > u32::from(u16::MAX) {
            return Err(InvalidHost);
        }
    }
    Ok(port as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::HeadLimits;

    #[test]
    fn hosts() {
        let check = |text: &str, name: &str, port| {
            let host = validate_host(text.as_bytes()).expect(text);
            assert_eq!((&*host.name, host.port), (name.as_bytes(), port), "{text}");
        };
        check("example.com", "example.com", 0);
        check("EXAMPLE.com.", "example.com", 0);
        check("Example.com.:8080", "example.com", 8080);
        check("a:", "a", 0);
        check("a:0", "a", 0);
        check("a:65535", "a", 65535);
        check("127.0.0.1:80", "127.0.0.1", 80);
        check("[::1]", "[::1]", 0);
        check("[FE80::1]:443", "[fe80::1]", 443);
        check("a_b~!$&'()*+,;=%41", "a_b~!$&'()*+,;=%41", 0);
        check(".a", ".a", 0);
        check("[]", "[]", 0);
        assert!(matches!(validate_host(b"a.b:1").map(|host| host.name), Ok(Cow::Borrowed(_))));
    }

    #[test]
    fn usual_hosts_are_taken_apart_as_all_others_are() {
        let mut usual = 0;
        for length in 0..40 {
            let plain: Vec<u8> = b"example-1.org.".iter().copied().cycle().take(length).collect();
            for (at, byte) in (0..length).flat_map(|at| (0..=255).map(move |byte| (at, byte))) {
                let mut text = plain.clone();
                text[at] = byte;
                usual += u32::from(is_usual(&text));
                assert_eq!(validate_host(&text), take_apart(&text), "{}", text.escape_ascii());
            }
        }
        assert!(usual > 0);
        assert!(is_usual(b"localhost") && is_usual(b"www.example.com") && is_usual(b"www.some.example.com"));
    }

    #[test]
    fn no_hosts() {
        for text in [
            "",
            ".",
            ":80",
            ".:80",
            "a..b",
            "a..",
            "a/b",
            "a b",
            "a\0",
            "a@b",
            "a?b",
            "a#b",
            "a\\b",
            "a\"",
            "<a>",
            "a[",
            "a]",
            "[::1",
            "[::1]a",
            "[::1]]",
            "[::1%25lo]",
            "[[::1]]",
            "a:b",
            "a:80x",
            "a:65536",
            "a:99999",
            "a:80:80",
            "a:+1",
            "\u{e9}",
            "[:..:]",
        ] {
            assert_eq!(validate_host(text.as_bytes()), Err(InvalidHost), "{text:?}");
        }
    }

    #[test]
    fn hosts_of_requests() {
        let check = |input: &str, expected: Result<Option<&str>, HostError>| {
            let mut head = RequestHead::default();
            head.parse(input.as_bytes(), &HeadLimits::default()).expect(input);
            let host = request_host(&head, input.as_bytes());
            let host = host.map(|host| host.map(|host| String::from_utf8_lossy(&host.name).into_owned()));
            assert_eq!(host, expected.map(|name| name.map(str::to_owned)), "{input:?}");
        };
        check("GET / HTTP/1.1\r\nHost: A:80\r\n\r\n", Ok(Some("a")));
        check("GET / HTTP/1.0\r\n\r\n", Ok(None));
        check("GET /\r\n", Ok(None));
        check("GET / HTTP/1.1\r\n\r\n", Err(HostError::Missing));
        check("GET http://a/ HTTP/1.1\r\n\r\n", Err(HostError::Missing));
        check("GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", Ok(Some("a")));
        check("GET http://a/ HTTP/1.1\r\nHost: b/\r\n\r\n", Err(HostError::Field));
        check("GET http:///b HTTP/1.1\r\nHost: b\r\n\r\n", Err(HostError::RequestLine));
        check("GET / HTTP/1.1\r\nHost:\r\n\r\n", Err(HostError::Field));
    }
}
