//! One field line at a time, as `ngx_http_parse_header_line`: requests, responses and trailers.
//!
//! A line without a colon is a field with an empty value; a tab is part of a value, only spaces are trimmed.

use base::Span;

/// What the scanner found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// The line goes on behind the bytes at hand.
    Partial,
    /// A whole field line; `next` of the scanner is behind it.
    Field { name: Span, value: Span, validity: Validity },
    /// A second status line among the fields of a response, which IIS is known to send.
    Skipped,
    /// The empty line.
    End,
    /// The byte at this offset must not be there.
    Bad(usize),
}

/// Whether a name consists of letters, digits and hyphens (and underscores, where they are allowed).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Validity {
    Valid,
    Invalid,
}

/// Who sent the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    /// A client whose underscores make a name invalid.
    Client,
    /// A client whose underscores are as good as letters.
    ClientWithUnderscores,
    /// An upstream: underscores are allowed and a stray status line is skipped.
    Upstream,
}

/// Where the scan of a line stands, so that no byte of a name or value is looked at twice.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LineScan {
    start: usize,
    at: usize,
    /// Behind the last byte of the name; zero while the name goes on.
    name_end: usize,
    invalid: bool,
    skipping: bool,
}

const TOKEN: u8 = 0;
const UNDERSCORE: u8 = 1;
const COLON: u8 = 2;
const LINE_END: u8 = 3;
const REFUSED: u8 = 4;
const STRANGE: u8 = 5;

static CLASS: [u8; 256] = {
    let mut class = [STRANGE; 256];
    let mut byte = 0;
    while byte < 256 {
        class[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => TOKEN,
            b'_' => UNDERSCORE,
            b':' => COLON,
            b'\r' | b'\n' => LINE_END,
            0..=b' ' | 0x7f => REFUSED,
            _ => STRANGE,
        };
        byte += 1;
    }
    class
};

impl LineScan {
    /// A scan that begins with the line at `start`.
    #[inline]
    pub(crate) fn from(start: usize) -> Self {
        Self { start, at: start, ..Self::default() }
    }

    /// Where the current line begins.
    #[inline]
    pub(crate) fn start(&self) -> usize {
        self.start
    }

    /// Scans on in `buffer`; after anything but `Partial` and `Bad` the scanner stands at the next line.
    #[inline]
    pub(crate) fn next(&mut self, buffer: &[u8], sender: Sender) -> Line {
        if self.skipping {
            return self.skip(buffer);
        }
        if self.name_end == 0 {
            if let Some(line) = self.name(buffer, sender) {
                return line;
            }
        }
        self.value(buffer)
    }

    /// Scans the name; `None` when it has ended and the value follows.
    #[inline]
    fn name(&mut self, buffer: &[u8], sender: Sender) -> Option<Line> {
        let mut at = self.at;
        loop {
            let Some(&byte) = buffer.get(at) else {
                self.at = at;
                return Some(Line::Partial);
            };
            match CLASS[byte as usize] {
                TOKEN => {}
                COLON if at > self.start => {
                    self.name_end = at;
                    self.at = at + 1;
                    return None;
                }
                LINE_END if at > self.start => {
                    self.name_end = at;
                    self.at = at;
                    return None;
                }
                LINE_END => return Some(self.end(buffer)),
                UNDERSCORE => self.invalid |= sender == Sender::Client,
                COLON | REFUSED => return Some(Line::Bad(at)),
                _ => {
                    if byte == b'/'
                        && sender == Sender::Upstream
                        && buffer.get(self.start..at) == Some(b"HTTP")
                    {
                        self.at = at;
                        self.skipping = true;
                        return Some(self.skip(buffer));
                    }
                    self.invalid = true;
                }
            }
            at += 1;
        }
    }

    /// The first byte of a line is CR or LF: the empty line.
    fn end(&mut self, buffer: &[u8]) -> Line {
        let next = match (buffer.get(self.start), buffer.get(self.start + 1)) {
            (Some(b'\n'), _) => self.start + 1,
            (_, Some(b'\n')) => self.start + 2,
            (_, None) => return Line::Partial,
            (_, Some(_)) => return Line::Bad(self.start),
        };
        *self = Self::from(next);
        Line::End
    }

    #[inline]
    fn value(&mut self, buffer: &[u8]) -> Line {
        let stop = find_control(buffer, self.at);
        let next = match buffer.get(stop) {
            Some(b'\n') => stop + 1,
            Some(b'\r') => {
                // nginx takes any number of CRs in front of the LF.
                let mut at = stop + 1;
                while buffer.get(at) == Some(&b'\r') {
                    at += 1;
                }
                match buffer.get(at) {
                    Some(b'\n') => at + 1,
                    Some(_) => return Line::Bad(stop),
                    None => {
                        self.at = stop;
                        return Line::Partial;
                    }
                }
            }
            Some(_) => return Line::Bad(stop),
            None => {
                self.at = stop;
                return Line::Partial;
            }
        };
        let name = Span::new(self.start, self.name_end);
        let value = trimmed(buffer, self.name_end, stop);
        let validity = if self.invalid { Validity::Invalid } else { Validity::Valid };
        *self = Self::from(next);
        Line::Field { name, value, validity }
    }

    fn skip(&mut self, buffer: &[u8]) -> Line {
        match memchr::memchr(b'\n', buffer.get(self.at..).unwrap_or_default()) {
            Some(offset) => {
                *self = Self::from(self.at + offset + 1);
                Line::Skipped
            }
            None => {
                self.at = buffer.len();
                Line::Partial
            }
        }
    }
}

/// The value of a line whose name ends at `name_end`, without its colon and the spaces around it.
#[inline]
fn trimmed(buffer: &[u8], name_end: usize, stop: usize) -> Span {
    let mut start = name_end;
    let mut end = stop;
    if buffer.get(start) == Some(&b':') {
        start += 1;
    }
    while start < end && buffer.get(start) == Some(&b' ') {
        start += 1;
    }
    while end > start && buffer.get(end - 1) == Some(&b' ') {
        end -= 1;
    }
    Span::new(start, end)
}

/// The offset of the first CR, LF or NUL at or behind `from`; the length of `buffer` where there is none.
#[inline]
pub(crate) fn find_control(buffer: &[u8], from: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // Most values are short; a vectorised search pays off behind these many bytes only.
    const NEAR: usize = 48;
    let mut at = from;
    while at < from + NEAR {
        let Some(word) = buffer.get(at..).and_then(|rest| rest.first_chunk::<8>()) else { break };
        let word = u64::from_le_bytes(*word);
        // The lowest byte that this marks is below 14; the ones above it may be marked by a borrow.
        let marked = word.wrapping_sub(ONES * 14) & !word & (ONES << 7);
        if marked == 0 {
            at += 8;
            continue;
        }
        at += marked.trailing_zeros() as usize / 8;
        if matches!(buffer.get(at), Some(b'\r' | b'\n' | 0)) {
            return at;
        }
        at += 1;
    }
    let rest = buffer.get(at..).unwrap_or_default();
    memchr::memchr3(b'\r', b'\n', 0, rest).map_or(buffer.len(), |offset| at + offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scans one line, prints it compactly.
    fn scan(line: &[u8], sender: Sender) -> String {
        match LineScan::from(0).next(line, sender) {
            Line::Field { name, value, validity } => format!(
                "{}|{}|{}",
                name.of(line).escape_ascii(),
                value.of(line).escape_ascii(),
                if validity == Validity::Valid { "ok" } else { "invalid" }
            ),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn lines() {
        let check = |line: &[u8], expected| {
            assert_eq!(scan(line, Sender::Client), expected, "{}", line.escape_ascii())
        };
        check(b"A: b\r\n", "A|b|ok");
        check(b"A:b\n", "A|b|ok");
        check(b"A:   b  c  \r\n", "A|b  c|ok");
        check(b"A:\tb\t\r\n", "A|\\tb\\t|ok");
        check(b"A: b\r\r\n", "A|b|ok");
        check(b"A\r\n", "A||ok");
        check(b"A\n", "A||ok");
        check(b"A:\r\n", "A||ok");
        check(b"A: \n", "A||ok");
        check(b"a_b: 1\r\n", "a_b|1|invalid");
        check(b"a.b: 1\r\n", "a.b|1|invalid");
        check(b"\x80: 1\r\n", "\\x80|1|invalid");
        check(b"A: \x80\x01\r\n", "A|\\x80\\x01|ok");
        check(b"\r\n", "End");
        check(b"\n", "End");
        check(b"\r", "Partial");
        check(b"\rA", "Bad(0)");
        check(b"A: b\rc\r\n", "Bad(4)");
        check(b"A: b\0c\r\n", "Bad(4)");
        check(b"A: \0\r\n", "Bad(3)");
        check(b"A : b\r\n", "Bad(1)");
        check(b"A\t: b\r\n", "Bad(1)");
        check(b" A: b\r\n", "Bad(0)");
        check(b"\tfolded\r\n", "Bad(0)");
        check(b": b\r\n", "Bad(0)");
        check(b"A\0: b\r\n", "Bad(1)");
        check(b"A: b", "Partial");
        check(b"A: b\r", "Partial");
        check(b"A", "Partial");
        check(b"", "Partial");
        check(b"HTTP/1.1 200 OK\r\n", "Bad(8)");
    }

    #[test]
    fn lines_of_upstreams() {
        assert_eq!(scan(b"a_b: 1\r\n", Sender::Upstream), "a_b|1|ok");
        assert_eq!(scan(b"HTTP/1.1 200 OK\r\n", Sender::Upstream), "Skipped");
        assert_eq!(scan(b"HTTP/1.1 200", Sender::Upstream), "Partial");
        assert_eq!(scan(b"a_b: 1\r\n", Sender::ClientWithUnderscores), "a_b|1|ok");
    }

    #[test]
    fn control_bytes_are_found_at_every_distance() {
        for length in 0..200 {
            let mut line = vec![b'\t'; length];
            assert_eq!(find_control(&line, 0), length);
            for stop in [0, b'\r', b'\n'] {
                line.push(stop);
                line.extend_from_slice(b"\x0d tail tail tail");
                assert_eq!(find_control(&line, 0), length);
                line.truncate(length);
            }
        }
    }
}
