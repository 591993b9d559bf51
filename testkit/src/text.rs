//! Bytes as a script writes them: escapes, globs, generated bodies.
//!
//! Bytes that are not ASCII travel as Latin-1 characters, so that any octet survives a round trip.

/// What is wrong with an escaped text.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TextError {
    /// A backslash is followed by something that is no escape.
    #[error("unknown escape \"\\{0}\"")]
    UnknownEscape(String),
    /// `\x` is not followed by two hexadecimal digits.
    #[error("\\x wants two hexadecimal digits")]
    BadHex,
}

/// The bytes of a text with `\r \n \t \0 \s \\ \xHH` written out; `\s` is a space.
///
/// # Errors
/// An unknown or incomplete escape.
pub fn unescape(text: &str) -> Result<Vec<u8>, TextError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            push_char(&mut bytes, c);
            continue;
        }
        match chars.next() {
            Some('r') => bytes.push(b'\r'),
            Some('n') => bytes.push(b'\n'),
            Some('t') => bytes.push(b'\t'),
            Some('0') => bytes.push(0),
            Some('s') => bytes.push(b' '),
            Some('\\') => bytes.push(b'\\'),
            Some('x') => {
                let digits: String = chars.by_ref().take(2).collect();
                bytes.push(u8::from_str_radix(&digits, 16).map_err(|_| TextError::BadHex)?);
            }
            other => return Err(TextError::UnknownEscape(other.map(String::from).unwrap_or_default())),
        }
    }
    Ok(bytes)
}

fn push_char(bytes: &mut Vec<u8>, c: char) {
    let mut utf8 = [0; 4];
    bytes.extend_from_slice(c.encode_utf8(&mut utf8).as_bytes());
}

/// The bytes as a string in which each octet is the character of that number (Latin-1).
#[must_use]
pub fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&b| char::from(b)).collect()
}

/// The bytes as a reader of a failure wants them: line ends visible, everything unprintable escaped.
#[must_use]
pub fn show(bytes: &[u8]) -> String {
    let mut shown = String::new();
    for &b in bytes {
        match b {
            b'\n' => shown.push_str("\\n"),
            b'\r' => shown.push_str("\\r"),
            b'\t' => shown.push_str("\\t"),
            b'\\' => shown.push_str("\\\\"),
            0x20..=0x7e => shown.push(char::from(b)),
            _ => shown.push_str(&format!("\\x{b:02x}")),
        }
    }
    shown
}

/// Like [`show`], cut after `limit` bytes, with the whole length named.
#[must_use]
pub fn show_some(bytes: &[u8], limit: usize) -> String {
    match bytes.get(..limit) {
        Some(start) if start.len() < bytes.len() => format!("{}... ({} bytes)", show(start), bytes.len()),
        _ => show(bytes),
    }
}

/// Whether `text` is matched by `pattern`, in which `*` stands for any run of bytes.
#[must_use]
pub fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let mut parts = pattern.split(|&b| b == b'*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&[u8]> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = find(rest, part) else { return false };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    rest.ends_with(last)
}

/// Where `needle` first stands in `hay`.
#[must_use]
pub fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    if needle.is_empty() {
        return Some(0);
    }
    hay.windows(needle.len()).position(|window| window == needle)
}

/// A generated body of `length` bytes: letters whose order has no short period, so a lost, doubled or
/// displaced piece shows.
#[must_use]
pub fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| b"abcdefghijklmnopqrstuvwxyz"[(i + i / 26 + i / 677 + i / 17_581) % 26]).collect()
}

/// The body without its gzip coding.
///
/// # Errors
/// The decoder's, when the bytes are not one whole gzip member.
pub fn gunzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(bytes), &mut plain)?;
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes() {
        let check = |text: &str, expected: Result<&[u8], TextError>| {
            assert_eq!(unescape(text), expected.map(<[u8]>::to_vec), "{text}");
        };
        check("abc", Ok(b"abc"));
        check(r"a\r\n\t\0\s\\", Ok(b"a\r\n\t\0 \\"));
        check(r"\x41\xff", Ok(b"A\xff"));
        check("é", Ok("é".as_bytes()));
        check(r"\q", Err(TextError::UnknownEscape("q".into())));
        check(r"\", Err(TextError::UnknownEscape(String::new())));
        check(r"\x4", Ok(b"\x04"));
        check(r"\xzz", Err(TextError::BadHex));
    }

    #[test]
    fn globs() {
        let check = |pattern: &str, text: &str, expected: bool| {
            assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        };
        check("", "", true);
        check("", "a", false);
        check("abc", "abc", true);
        check("abc", "abcd", false);
        check("a*", "abc", true);
        check("*c", "abc", true);
        check("a*c", "ac", true);
        check("a*bc", "abc", true);
        check("a*b*c", "a1b2b3c", true);
        check("a*b*c", "a1c", false);
        check("ab*ba", "aba", false);
        check("*", "", true);
        check("**", "x", true);
    }

    #[test]
    fn patterns_have_the_length_asked_for() {
        for length in [0, 1, 26, 27, 100_000] {
            assert_eq!(pattern(length).len(), length);
        }
        assert_ne!(pattern(60)[..26], pattern(60)[26..52]);
    }

    #[test]
    fn shown_bytes() {
        assert_eq!(show(b"a\r\n\x01\\"), r"a\r\n\x01\\");
        assert_eq!(show_some(b"abcdef", 3), "abc... (6 bytes)");
        assert_eq!(show_some(b"abc", 3), "abc");
    }
}
