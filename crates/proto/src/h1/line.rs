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

/// A one in each byte: times a byte it repeats that byte.
const ONES: u64 = 0x0101_0101_0101_0101;

const TOKEN: u8 = 0;
const UNDERSCORE: u8 = 1;
const LINE_END: u8 = 2;
const REFUSED: u8 = 3;
const STRANGE: u8 = 4;

static CLASS: [u8; 256] = {
    let mut class = [STRANGE; 256];
    let mut byte = 0;
    while byte < 256 {
        class[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => TOKEN,
            b'_' => UNDERSCORE,
            b'\r' | b'\n' => LINE_END,
            // A colon is refused where a name should begin; behind a name it is looked for first.
            0..=b' ' | b':' | 0x7f => REFUSED,
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
        if self.name_end == 0
            && let Some(line) = self.name(buffer, sender)
        {
            return line;
        }
        self.value(buffer, sender)
    }

    /// Scans the name; `None` when it has ended and the value follows.
    #[inline]
    fn name(&mut self, buffer: &[u8], sender: Sender) -> Option<Line> {
        let mut at = self.at;
        loop {
            at = skip_token(buffer, at);
            let Some(&byte) = buffer.get(at) else {
                self.at = at;
                return Some(Line::Partial);
            };
            if byte == b':' && at > self.start {
                self.name_end = at;
                self.at = at + 1;
                return None;
            }
            if let Some(line) = self.stray(buffer, at, byte, sender) {
                return line;
            }
            at += 1;
        }
    }

    /// A byte of a name that is no token. `None` to go on behind it, `Some(None)` when the name has ended.
    fn stray(&mut self, buffer: &[u8], at: usize, byte: u8, sender: Sender) -> Option<Option<Line>> {
        match CLASS[byte as usize] {
            LINE_END if at > self.start => {
                self.name_end = at;
                self.at = at;
                return Some(None);
            }
            LINE_END => return Some(Some(self.end(buffer))),
            UNDERSCORE => self.invalid |= sender == Sender::Client,
            REFUSED => return Some(Some(Line::Bad(at))),
            _ => {
                if byte == b'/' && sender == Sender::Upstream && buffer.get(self.start..at) == Some(b"HTTP") {
                    self.at = at;
                    self.skipping = true;
                    return Some(Some(self.skip(buffer)));
                }
                self.invalid = true;
            }
        }
        None
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
    fn value(&mut self, buffer: &[u8], sender: Sender) -> Line {
        let stop = find_control(buffer, self.at);
        let next = match buffer.get(stop) {
            Some(b'\n') => stop + 1,
            Some(b'\r') => {
                // nginx takes any number of CRs in front of the LF. Programs do write it; but a client's value would
                // end here for one reader and there for another (RFC 9112, 2.2).
                let mut at = stop + 1;
                while sender == Sender::Upstream && buffer.get(at) == Some(&b'\r') {
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

/// The offset of the first byte at or behind `at` that is no letter, digit or hyphen.
#[inline]
fn skip_token(buffer: &[u8], mut at: usize) -> usize {
    const HIGH: u64 = ONES << 7;
    // Eight bytes at once. Sums of seven-bit values and constants never carry into the next byte, so bit 7
    // of a byte tells whether it is at least the character that the constant was made from.
    while let Some(word) = buffer.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*word);
        let low = word & !HIGH;
        let folded = low | (ONES * 0x20);
        let letter = (folded + ONES * (0x80 - b'a' as u64)) & !(folded + ONES * (0x7f - b'z' as u64));
        let digit = (low + ONES * (0x80 - b'0' as u64)) & !(low + ONES * (0x7f - b'9' as u64));
        let hyphen = !((low ^ (ONES * b'-' as u64)) + ONES * 0x7f);
        let stop = !((letter | digit | hyphen) & !word) & HIGH;
        if stop != 0 {
            return at + stop.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while buffer.get(at).is_some_and(|byte| CLASS[*byte as usize] == TOKEN) {
        at += 1;
    }
    at
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
        check(b"A: b\r\r\n", "Bad(4)");
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
        assert_eq!(scan(b"A: b\r\r\n", Sender::Upstream), "A|b|ok");
        assert_eq!(scan(b"a_b: 1\r\n", Sender::ClientWithUnderscores), "a_b|1|ok");
    }

    #[test]
    fn tokens_end_where_the_table_says() {
        for length in 0..20 {
            for byte in 0..=255u8 {
                let mut name = vec![b'x'; length];
                name.push(byte);
                let expected = if CLASS[byte as usize] == TOKEN { length + 1 } else { length };
                for tail in [&b""[..], b": tail of the line"] {
                    name.truncate(length + 1);
                    name.extend_from_slice(tail);
                    assert_eq!(skip_token(&name, 0), expected, "{byte:#x} at {length}");
                }
            }
        }
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
