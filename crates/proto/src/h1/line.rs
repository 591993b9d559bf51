//! One field line at a time, as `ngx_http_parse_header_line`: requests, responses and trailers.
//!
//! A line without a colon is a field with an empty value; a tab is part of a value, only spaces are trimmed.

use base::Span;
use wide::u8x16;

use super::fields::{Field, Fields, Form};
use super::known::{BLOCK, Known, middle};
use super::search::{find_colon, find_control, find_low_control, find_non_token, is_token};

/// What the scanner found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// The line goes on behind the bytes at hand.
    Partial,
    /// A whole field line; `next` of the scanner is behind it.
    Field(Field, Validity),
    /// A second status line among the fields of a response, which IIS is known to send.
    Skipped,
    /// The empty line.
    End,
    /// The byte at this offset must not be there.
    Bad(usize),
}

/// How many lines of a head [`LineScan::take_plain`] took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// None or some.
    Some,
    /// The rest of the head with its empty line.
    All,
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
const LINE_END: u8 = 2;
const REFUSED: u8 = 3;
const STRANGE: u8 = 4;

static CLASS: [u8; 256] = {
    let mut class = [STRANGE; 256];
    let mut byte = 0;
    while byte < 256 {
        class[byte] = match byte as u8 {
            token if is_token(token) => TOKEN,
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

    /// Takes all lines up to the first that is not as nearly all are, as long as there are fewer than `most` fields, and
    /// the empty line where it follows. What else is there then is for [`next`](Self::next) to judge.
    #[inline(never)]
    pub(crate) fn take_plain(&mut self, buffer: &[u8], fields: &mut Fields, most: usize) -> Taken {
        // Beyond these bytes offsets might not fit a span.
        if self.at != self.start || u32::try_from(buffer.len()).is_err() {
            return Taken::Some;
        }
        let mut at = self.start;
        let mut lines = buffer.get(at..).unwrap_or_default();
        while fields.len() < most
            && let Some(line) = plain(lines)
            && let Some(([.., last, b'\r', b'\n'], rest)) = lines.split_at_checked(line.end + 2)
            && *last != b' '
        {
            let span = |start: usize, end: usize| Span { start: (at + start) as u32, end: (at + end) as u32 };
            let (name, value) = (span(0, line.name), span(line.name + 2, line.end));
            fields.push(Field::sent(name, value, line.known, Form::Plain));
            at += line.end + 2;
            lines = rest;
        }
        let is_end = lines.starts_with(b"\r\n");
        at += if is_end { 2 } else { 0 };
        (self.start, self.at) = (at, at);
        if is_end { Taken::All } else { Taken::Some }
    }

    /// Scans on in `buffer`; after anything but `Partial` and `Bad` the scanner stands at the next line.
    pub(crate) fn next(&mut self, buffer: &[u8], sender: Sender) -> Line {
        if self.at == self.start && buffer.get(self.start) == Some(&b'\r') {
            return self.end(buffer);
        }
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
    fn name(&mut self, buffer: &[u8], sender: Sender) -> Option<Line> {
        let mut at = self.at;
        loop {
            at = find_non_token(buffer, at);
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
        let form = Form::of(name, value, buffer);
        Line::Field(Field::sent(name, value, Known::of(name.of(buffer)), form), validity)
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

/// Bytes of a name that fits a block, of its colon, the space, and the first one of the value.
const START: usize = BLOCK + 2;

/// A line as nearly all are, sent as `name: value` with CR LF: the name a token, the value without tabs and without more
/// spaces around it.
struct PlainLine {
    /// Bytes of the name.
    name: usize,
    known: Known,
    /// Where the value ends.
    end: usize,
}

/// The first line, where it is plain.
#[inline]
fn plain(lines: &[u8]) -> Option<PlainLine> {
    if lines.first() == Some(&b'\r') {
        return None;
    }
    let Some(start) = lines.first_chunk::<START>() else { return last_plain(lines) };
    let block = u8x16::from(*lines.first_chunk::<BLOCK>()?);
    let colons = block.simd_eq(u8x16::splat(b':')).to_bitmask();
    if colons == 0 {
        return long_plain(lines);
    }
    // The remainder is the number itself, and tells the compiler that all that is asked of `start` lies in it.
    let name = colons.trailing_zeros() as usize % BLOCK;
    let middle = middle(name);
    let known = match Known::of_start(block, name, [start[middle], start[middle + 1]]) {
        // It is a token.
        Some(known) => known,
        None if begins_with_token(start, name) => Known::Other,
        None => return None,
    };
    if start[name + 1] != b' ' || start[name + 2] == b' ' {
        return None;
    }
    let end = find_low_control(lines, name + 2)?;
    Some(PlainLine { name, known, end })
}

/// As [`plain`] for fewer bytes than that: they are looked at elsewhere, with zeros behind them, which no value has.
#[inline(never)]
fn last_plain(lines: &[u8]) -> Option<PlainLine> {
    let mut padded = [0; 2 * START];
    for (place, byte) in padded.iter_mut().zip(lines) {
        *place = *byte;
    }
    plain(&padded)
}

/// As [`plain`] for a name that is longer than a block, or just as long.
#[inline(never)]
fn long_plain(lines: &[u8]) -> Option<PlainLine> {
    let name = find_colon(lines)?;
    let text = lines.get(..name)?;
    let [b' ', first, ..] = lines.get(name + 1..)? else { return None };
    let end = find_low_control(lines, name + 2)?;
    let is_plain = *first != b' ' && find_non_token(text, 0) == name;
    is_plain.then(|| PlainLine { name, known: Known::of(text), end })
}

/// Whether the first `length` bytes, at least one, are letters, digits and hyphens.
#[inline(never)]
fn begins_with_token(bytes: &[u8; START], length: usize) -> bool {
    length > 0 && find_non_token(bytes, 0) >= length
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Scans one line, prints it compactly.
    fn scan(line: &[u8], sender: Sender) -> String {
        match LineScan::from(0).next(line, sender) {
            Line::Field(field, validity) => format!(
                "{}|{}|{}",
                field.name.of(line).escape_ascii(),
                field.value.of(line).escape_ascii(),
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
    fn plain_lines_are_read_as_all_others_are() {
        let names = [
            "",
            "A",
            "Host",
            "content-length",
            "X-Custom-Name",
            "a_b",
            "A b",
            "\u{e9}",
            "HTTP/1.1 200",
            "If-None-Match-To",
            "Transfer-Encoding",
            "A-Name-That-Is-Longer-Than-Two-Blocks",
            "A-Name-That-Is-Not-A.Token",
        ];
        let colons = [":", ": ", ":  ", "", " :", ":\t"];
        let values = [
            "",
            "b",
            "b c",
            "b ",
            " ",
            "a:b",
            "\u{e9}",
            "b\0",
            "a value that is longer than sixty-four bytes, and of many words",
        ];
        let ends = ["\r\n", "\n", "\r\r\n", "\r", "", "\rX", "\r\n\r\n", "\r\nHost: next\r\n"];
        let mut taken = 0;
        for name in names {
            for colon in colons {
                for (value, end) in values.iter().flat_map(|value| ends.map(|end| (value, end))) {
                    let line = format!("{name}{colon}{value}{end}");
                    for sender in [Sender::Client, Sender::ClientWithUnderscores, Sender::Upstream] {
                        let (mut one, mut other) = (LineScan::from(0), LineScan::from(0));
                        let mut fields = Fields::default();
                        let all = one.take_plain(line.as_bytes(), &mut fields, 1);
                        let Some(&field) = fields.get(0) else { continue };
                        taken += 1;
                        let found = Line::Field(field, Validity::Valid);
                        assert_eq!(found, other.next(line.as_bytes(), sender), "{line:?}");
                        let is_plain = line.starts_with(&format!("{name}: {value}\r\n"));
                        assert_eq!(field.plain_line().is_some(), is_plain, "{line:?}");
                        let end = other.start();
                        let is_end = other.next(line.as_bytes(), sender) == Line::End;
                        assert_eq!(all == Taken::All, is_end, "{line:?}");
                        assert_eq!(one.start(), if is_end { other.start() } else { end }, "{line:?}");
                    }
                }
            }
        }
        assert!(taken > 0);
    }
}
