//! memcached's text protocol as far as reading one key: `get`, the `VALUE` line, the bytes, `END`.

/// What stands behind the bytes of a value.
const TRAILER: &[u8] = b"\r\nEND\r\n";

/// The first line of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// It is not complete.
    Partial,
    /// The key is there.
    Value {
        /// What the client that stored it said of it; zero where they were not asked for.
        flags: u64,
        /// Bytes of the value.
        length: u64,
        /// Bytes of the line; the value begins here.
        used: usize,
    },
    /// The key is not there.
    Miss {
        /// Bytes of the line.
        used: usize,
    },
}

/// Whether the flags of a value matter; where they do not, anything may stand there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flags {
    /// They are not looked at.
    Ignored,
    /// They must be a number.
    Wanted,
}

/// Why a first line is of no use; displays as nginx's sentence up to the line itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Another key's value.
    #[error("memcached sent invalid key in response")]
    Key,
    /// Flags that are no number.
    #[error("memcached sent invalid flags in response")]
    Flags,
    /// A length that is no number of at most 63 bits.
    #[error("memcached sent invalid length in response")]
    Length,
    /// Anything else.
    #[error("memcached sent invalid response")]
    Response,
}

/// Appends the request for a key, which is escaped; gives back where the key lies.
pub fn write_get(key: &[u8], out: &mut Vec<u8>) -> std::ops::Range<usize> {
    out.extend_from_slice(b"get ");
    let start = out.len();
    crate::uri::escape(key, crate::uri::EscapeKind::Memcached, out);
    let end = out.len();
    out.extend_from_slice(b"\r\n");
    start..end
}

/// The first line without its end, for messages.
#[must_use]
pub fn first_line(buffer: &[u8]) -> &[u8] {
    let line = buffer.split(|byte| *byte == b'\n').next().unwrap_or_default();
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Parses the first line of the answer to `get KEY` (`ngx_http_memcached_process_header`).
///
/// # Errors
/// [`LineError`].
pub fn parse(buffer: &[u8], key: &[u8], flags: Flags) -> Result<Line, LineError> {
    let Some(end) = memchr::memchr(b'\n', buffer) else { return Ok(Line::Partial) };
    let line = buffer.get(..end).and_then(|line| line.strip_suffix(b"\r")).ok_or(LineError::Response)?;
    let used = end + 1;
    if line == b"END" {
        return Ok(Line::Miss { used });
    }
    let rest = line.strip_prefix(b"VALUE ").ok_or(LineError::Response)?;
    let rest = rest.strip_prefix(key).ok_or(LineError::Key)?;
    let rest = rest.strip_prefix(b" ").ok_or(LineError::Response)?;
    let space = memchr::memchr(b' ', rest).ok_or(LineError::Response)?;
    let (flag_text, length) = rest.split_at(space);
    let flags = match flags {
        Flags::Ignored => 0,
        Flags::Wanted => crate::h1::content_length(flag_text).ok_or(LineError::Flags)?,
    };
    let length = length.strip_prefix(b" ").and_then(crate::h1::content_length).ok_or(LineError::Length)?;
    Ok(Line::Value { flags, length, used })
}

/// What comes behind the line of a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Value {
    left: u64,
    matched: usize,
}

/// What a piece of a value holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// So many bytes of the value, then perhaps a part of its trailer.
    Data(usize),
    /// The same, and the answer is complete.
    End(usize),
    /// The same, and what follows is no trailer.
    Invalid(usize),
}

impl Value {
    /// A value of so many bytes.
    #[must_use]
    pub fn new(length: u64) -> Self {
        Self { left: length, matched: 0 }
    }

    /// Looks at the next bytes; all of them are used.
    pub fn next(&mut self, bytes: &[u8]) -> Step {
        let count = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= count as u64;
        let rest = bytes.get(count..).unwrap_or_default();
        if !TRAILER.get(self.matched..).is_some_and(|trailer| trailer.starts_with(rest)) {
            return Step::Invalid(count);
        }
        self.matched += rest.len();
        if self.left == 0 && self.matched == TRAILER.len() { Step::End(count) } else { Step::Data(count) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        let mut out = Vec::new();
        let key = write_get(b"/a b%\r\n\xe9", &mut out);
        assert_eq!(&out, b"get /a%20b%25%0D%0A\xe9\r\n");
        assert_eq!(&out[key], b"/a%20b%25%0D%0A\xe9");
    }

    #[test]
    fn lines() {
        let check = |line: &str, flags, expected| {
            assert_eq!(parse(line.as_bytes(), b"/k", flags), expected, "{line:?}");
        };
        let value = |flags, length, used| Ok(Line::Value { flags, length, used });
        let ignored = |line, expected| check(line, Flags::Ignored, expected);
        ignored("VALUE /k 0 8\r\nabc", value(0, 8, 14));
        ignored("VALUE /k x 8\r\n", value(0, 8, 14));
        check("VALUE /k 5 8\r\n", Flags::Wanted, value(5, 8, 14));
        check("VALUE /k x 8\r\n", Flags::Wanted, Err(LineError::Flags));
        check("VALUE /k  8\r\n", Flags::Wanted, Err(LineError::Flags));
        ignored("END\r\n", Ok(Line::Miss { used: 5 }));
        ignored("VALUE /k 0 8", Ok(Line::Partial));
        ignored("", Ok(Line::Partial));
        ignored("VALUE /x 0 8\r\n", Err(LineError::Key));
        ignored("VALUE /kx 0 8\r\n", Err(LineError::Response));
        ignored("VALUE /k 8\r\n", Err(LineError::Response));
        ignored("VALUE /k 0 8 9\r\n", Err(LineError::Length));
        ignored("VALUE /k 0 -8\r\n", Err(LineError::Length));
        ignored("VALUE /k 0 9223372036854775808\r\n", Err(LineError::Length));
        ignored("VALUE /k 0 8\n", Err(LineError::Response));
        ignored("\r\n", Err(LineError::Response));
        ignored("\n", Err(LineError::Response));
        ignored("ERROR\r\n", Err(LineError::Response));
        ignored("END \r\n", Err(LineError::Response));
    }

    #[test]
    fn values_and_their_trailer() {
        let check = |length, pieces: &[&str], expected: &[Step]| {
            let mut value = Value::new(length);
            let found: Vec<Step> = pieces.iter().map(|piece| value.next(piece.as_bytes())).collect();
            assert_eq!(found, expected, "{pieces:?}");
        };
        check(3, &["abc\r\nEND\r\n"], &[Step::End(3)]);
        check(
            3,
            &["a", "bc", "\r\nEN", "D\r\n"],
            &[Step::Data(1), Step::Data(2), Step::Data(0), Step::End(0)],
        );
        check(0, &["\r\nEND\r\n"], &[Step::End(0)]);
        check(3, &["abcd"], &[Step::Invalid(3)]);
        check(3, &["abc\r\nEND\r\nx"], &[Step::Invalid(3)]);
        check(3, &["abc\r\n", "ENX"], &[Step::Data(3), Step::Invalid(0)]);
    }
}
