//! Name and password of HTTP basic authentication (RFC 7617), as `$remote_user` and `auth_basic` need them.
//!
//! Nothing is checked here: whoever asks decides what the words are worth.

use proto::h1::{Known, Method};

use crate::request::Request;

/// Decoded credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Basic {
    text: Vec<u8>,
    colon: usize,
}

impl Basic {
    /// Reads the value of an Authorization field (`ngx_http_auth_basic_user`); the user's name is not empty.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (scheme, encoded) = value.split_at_checked(6)?;
        if !scheme.eq_ignore_ascii_case(b"Basic ") {
            return None;
        }
        let spaces = encoded.iter().take_while(|byte| **byte == b' ').count();
        let encoded = encoded.get(spaces..).filter(|encoded| !encoded.is_empty())?;
        let text = decode_base64(encoded)?;
        let colon = memchr::memchr(b':', &text).filter(|colon| *colon > 0)?;
        Some(Self { text, colon })
    }

    /// What stands before the colon.
    #[must_use]
    pub fn user(&self) -> &[u8] {
        self.text.get(..self.colon).unwrap_or_default()
    }

    /// What stands behind it.
    #[must_use]
    pub fn password(&self) -> &[u8] {
        self.text.get(self.colon + 1..).unwrap_or_default()
    }
}

/// Decodes base64 up to its padding (`ngx_decode_base64`); `None` where it is none.
#[must_use]
pub fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    decode(text, *b"+/")
}

/// Decodes base64 in the alphabet for URLs up to its padding (`ngx_decode_base64url`); `None` where it is none.
#[must_use]
pub fn decode_base64url(text: &[u8]) -> Option<Vec<u8>> {
    decode(text, *b"-_")
}

/// Decodes; `last` are the last two letters of the alphabet.
fn decode(text: &[u8], last: [u8; 2]) -> Option<Vec<u8>> {
    let length = text.iter().position(|byte| *byte == b'=').unwrap_or(text.len());
    if length % 4 == 1 {
        return None;
    }
    let mut out = Vec::with_capacity(length / 4 * 3 + 2);
    let (mut bits, mut count) = (0u32, 0);
    for byte in text.get(..length)? {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            byte if *byte == last[0] => 62,
            byte if *byte == last[1] => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count & 0xff) as u8);
        }
    }
    Some(out)
}

/// Encodes base64 with padding (`ngx_encode_base64`).
#[must_use]
pub fn encode_base64(bytes: &[u8]) -> Vec<u8> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4u32 {
            let is_filled = at as usize <= group.len();
            out.push(if is_filled { LETTERS[(bits >> (18 - 6 * at) & 0x3f) as usize] } else { b'=' });
        }
    }
    out
}

impl Request {
    /// The client's basic credentials, where it sent some that can be read.
    #[must_use]
    pub fn basic_credentials(&self) -> Option<Basic> {
        // A tunnel's client authenticates itself to a proxy.
        let is_tunnel = self.method == Method::Connect;
        Basic::parse(self.header(if is_tunnel { Known::ProxyAuthorization } else { Known::Authorization })?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic() {
        let check = |value: &str, expected: Option<(&str, &str)>| {
            let seen = Basic::parse(value.as_bytes());
            let seen = seen.as_ref().map(|basic| (basic.user(), basic.password()));
            assert_eq!(seen, expected.map(|(user, word)| (user.as_bytes(), word.as_bytes())), "{value}");
        };
        check("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", Some(("Aladdin", "open sesame")));
        check("basic   QWxhZGRpbjpvcGVuIHNlc2FtZQ", Some(("Aladdin", "open sesame")));
        check("Basic YTo=", Some(("a", "")));
        check("Basic OmE=", None);
        check("Basic YQ==", None);
        check("Basic ", None);
        check("Basic !!!!", None);
        check("Bearer YTpi", None);
        check("", None);
    }

    #[test]
    fn base64() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(decode_base64(text.as_bytes()).as_deref(), expected.map(str::as_bytes), "{text}");
        };
        check("", Some(""));
        check("YQ", Some("a"));
        check("YWI=", Some("ab"));
        check("YWJj", Some("abc"));
        check("Y", None);
        check("YW*j", None);
        check("_-_-", None);
        assert_eq!(decode_base64url(b"_-_-"), Some(vec![0xff, 0xef, 0xfe]));
        assert_eq!(decode_base64url(b"+/+/"), None);
        for (text, expected) in
            [("", ""), ("a", "YQ=="), ("ab", "YWI="), ("abc", "YWJj"), ("abcd", "YWJjZA==")]
        {
            assert_eq!(encode_base64(text.as_bytes()), expected.as_bytes(), "{text}");
        }
    }
}
