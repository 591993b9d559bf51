//! Chunked bodies, decoded in place: the caller hands in bytes and gets ranges of them back.
//!
//! As `ngx_http_parse_chunked` of today, no bare LF is taken anywhere in the framing, from either side;
//! only trailers that are kept are read like other fields, where a bare LF ends a line.

use std::ops::Range;

use super::fields::Fields;
use super::line::{Line, LineScan, Sender};

/// What becomes of trailers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trailers {
    /// They are read over: requests always, responses without `proxy_pass_trailers`.
    #[default]
    Discard,
    /// They are collected as fields; see [`ChunkedDecoder::trailers`].
    Keep,
}

/// Limits on what surrounds the data, so that a sender cannot keep a proxy busy with nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkLimits {
    /// Bytes of one chunk's size line, extensions included. nginx has no such limit.
    pub line: usize,
    /// Bytes of all trailers (`proxy_buffer_size` where nginx keeps them).
    pub trailers: usize,
}

impl Default for ChunkLimits {
    /// 4 KB for a line and 8 KB for trailers.
    fn default() -> Self {
        Self { line: 4096, trailers: 8192 }
    }
}

/// Why a chunked body is refused; a connection that it came over is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// The framing is broken: `client sent invalid chunked body`, `upstream sent invalid chunked response`.
    #[error("invalid chunked body")]
    Invalid,
    /// A size line is longer than [`ChunkLimits::line`].
    #[error("too long chunk extension")]
    LineTooLong,
    /// The trailers are longer than [`ChunkLimits::trailers`] (`upstream sent too big trailers`).
    #[error("too big trailers")]
    TrailersTooBig,
    /// A trailer is no field line (`upstream sent invalid trailer`).
    #[error("invalid trailer")]
    InvalidTrailer,
}

/// What a piece of input came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChunkStep {
    /// `input[data]` is body. Call again with what lies behind `data.end`.
    Data(Range<usize>),
    /// The input is used up, and the body goes on.
    NeedMore,
    /// The body has ended; the first so many bytes of the input belonged to it.
    Done(usize),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Start,
    Size,
    Extension,
    SizeLineFeed,
    Data,
    AfterData,
    AfterDataLineFeed,
    /// At the beginning of a trailer line, or of the line that ends the body.
    Trailer,
    TrailerLine,
    TrailerLineFeed,
    EndLineFeed,
    KeptTrailers,
    Done,
}

/// Decodes one chunked body.
#[derive(Clone, Debug, Default)]
pub struct ChunkedDecoder {
    step: Step,
    /// Bytes of the current chunk that are still to come.
    left: u64,
    /// Bytes of the current size line, or of all discarded trailers.
    overhead: usize,
    limits: ChunkLimits,
    keep: Trailers,
    kept: Vec<u8>,
    scan: LineScan,
    fields: Fields,
}

/// The largest size: with one digit more, nginx's 63 bits could overflow, and it refuses whatever follows.
const MAX_SIZE: u64 = i64::MAX as u64 / 16;

impl ChunkedDecoder {
    /// A decoder at the beginning of a body.
    #[must_use]
    pub fn new(trailers: Trailers, limits: ChunkLimits) -> Self {
        Self { keep: trailers, limits, ..Self::default() }
    }

    /// Begins another body with the same limits and memory.
    pub fn reset(&mut self) {
        self.step = Step::Start;
        self.left = 0;
        self.overhead = 0;
        self.kept.clear();
        self.fields.clear();
    }

    /// Decodes on up to the next piece of data.
    ///
    /// # Errors
    /// [`ChunkError`].
    #[inline]
    pub fn decode(&mut self, input: &[u8]) -> Result<ChunkStep, ChunkError> {
        let mut at = self.size_line(input).unwrap_or(0);
        while let Some(&byte) = input.get(at) {
            match self.step {
                Step::Done => return Ok(ChunkStep::Done(at)),
                Step::Data => return Ok(ChunkStep::Data(self.data(at, input.len()))),
                Step::KeptTrailers => return self.keep_trailers(input, at),
                _ => self.step = self.framing_byte(byte)?,
            }
            at += 1;
        }
        Ok(if self.step == Step::Done { ChunkStep::Done(at) } else { ChunkStep::NeedMore })
    }

    /// Whether the body has ended.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.step == Step::Done
    }

    /// Bytes of the current chunk that are still to come; zero between chunks.
    #[must_use]
    pub fn left_in_chunk(&self) -> u64 {
        if self.step == Step::Data { self.left } else { 0 }
    }

    /// The trailers that were kept and the buffer that their spans lie in; whole when the body has ended.
    #[must_use]
    pub fn trailers(&self) -> (&Fields, &[u8]) {
        (&self.fields, &self.kept)
    }

    /// The end of a chunk's data and the next size where both are here as nearly everybody writes them; where the data
    /// begins. Anything else is read byte by byte.
    #[inline]
    fn size_line(&mut self, input: &[u8]) -> Option<usize> {
        const DIGITS: usize = 8;
        let line = match self.step {
            Step::Start => input,
            Step::AfterData => input.strip_prefix(b"\r\n")?,
            _ => return None,
        };
        let (mut size, mut digits) = (0, 0);
        while let Some(digit) = line.get(digits).copied().and_then(hex) {
            size = size * 16 + digit;
            digits += 1;
            if digits > DIGITS.min(self.limits.line) {
                return None;
            }
        }
        if size == 0 || !line.get(digits..)?.starts_with(b"\r\n") {
            return None;
        }
        self.left = size;
        self.step = Step::Data;
        Some(input.len() - line.len() + digits + 2)
    }

    #[inline]
    fn data(&mut self, at: usize, end: usize) -> Range<usize> {
        let here = end - at;
        let taken = usize::try_from(self.left).map_or(here, |left| left.min(here));
        self.left -= taken as u64;
        if self.left == 0 {
            self.step = Step::AfterData;
        }
        at..at + taken
    }

    /// One byte that is not data.
    fn framing_byte(&mut self, byte: u8) -> Result<Step, ChunkError> {
        let step = match (self.step, byte) {
            (Step::Start, _) => {
                self.left = hex(byte).ok_or(ChunkError::Invalid)?;
                self.overhead = 0;
                Step::Size
            }
            (Step::Size | Step::Extension, b'\r') => Step::SizeLineFeed,
            (Step::Size, b';' | b' ' | b'\t') => Step::Extension,
            (Step::Size, _) => {
                let digit = hex(byte).ok_or(ChunkError::Invalid)?;
                let size = self.left.checked_mul(16).and_then(|size| size.checked_add(digit));
                self.left = size.filter(|size| *size <= MAX_SIZE).ok_or(ChunkError::Invalid)?;
                Step::Size
            }
            (Step::Extension, byte) if byte != b'\n' => Step::Extension,
            (Step::SizeLineFeed, b'\n') if self.left > 0 => Step::Data,
            (Step::SizeLineFeed, b'\n') => {
                self.overhead = 0;
                if self.keep == Trailers::Keep {
                    self.scan = LineScan::from(0);
                    return Ok(Step::KeptTrailers);
                }
                Step::Trailer
            }
            (Step::AfterData, b'\r') => Step::AfterDataLineFeed,
            (Step::AfterDataLineFeed, b'\n') => Step::Start,
            (Step::Trailer, b'\r') => Step::EndLineFeed,
            (Step::TrailerLine, b'\r') => Step::TrailerLineFeed,
            (Step::Trailer | Step::TrailerLine, byte) if byte != b'\n' => Step::TrailerLine,
            (Step::TrailerLineFeed, b'\n') => Step::Trailer,
            (Step::EndLineFeed, b'\n') => Step::Done,
            _ => return Err(ChunkError::Invalid),
        };
        self.overhead += 1;
        match step {
            Step::Size | Step::Extension if self.overhead > self.limits.line => Err(ChunkError::LineTooLong),
            Step::TrailerLine if self.overhead > self.limits.trailers => Err(ChunkError::TrailersTooBig),
            _ => Ok(step),
        }
    }

    /// Collects trailers and reads them as fields (`ngx_http_proxy_process_trailer`).
    fn keep_trailers(&mut self, input: &[u8], at: usize) -> Result<ChunkStep, ChunkError> {
        let before = self.kept.len();
        let room = self.limits.trailers.saturating_sub(before);
        let rest = input.get(at..).unwrap_or_default();
        let taken = rest.len().min(room);
        self.kept.extend_from_slice(rest.get(..taken).unwrap_or_default());
        loop {
            match self.scan.next(&self.kept, Sender::Upstream) {
                Line::Field(field, _) => self.fields.push(field),
                Line::Skipped => {}
                Line::End => {
                    self.step = Step::Done;
                    return Ok(ChunkStep::Done(at + self.scan.start().saturating_sub(before)));
                }
                Line::Partial if self.kept.len() >= self.limits.trailers => {
                    return Err(ChunkError::TrailersTooBig);
                }
                Line::Partial => return Ok(ChunkStep::NeedMore),
                Line::Bad(_) => return Err(ChunkError::InvalidTrailer),
            }
        }
    }
}

#[inline]
fn hex(byte: u8) -> Option<u64> {
    match byte {
        b'0'..=b'9' => Some(u64::from(byte - b'0')),
        b'a'..=b'f' => Some(u64::from(byte - b'a' + 10)),
        b'A'..=b'F' => Some(u64::from(byte - b'A' + 10)),
        _ => None,
    }
}

/// What ends a chunked body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// The size line in front of `length` bytes of data; CRLF follows the data. A length of zero would end the body.
#[inline]
pub fn write_chunk_header(length: u64, space: &mut [u8; 18]) -> &[u8] {
    let digits = (16 - (length | 1).leading_zeros() as usize / 4).max(1);
    let mut rest = length;
    let line = &mut space[..digits + 2];
    for byte in line[..digits].iter_mut().rev() {
        *byte = b"0123456789abcdef"[(rest & 15) as usize];
        rest >>= 4;
    }
    line[digits..].copy_from_slice(b"\r\n");
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ChunkLimits = ChunkLimits { line: 40, trailers: 30 };

    /// Feeds `input` in pieces of `size` bytes.
    fn decode(input: &[u8], size: usize, trailers: Trailers) -> String {
        let mut decoder = ChunkedDecoder::new(trailers, LIMITS);
        let (mut body, mut used) = (Vec::new(), 0);
        let mut done = false;
        for piece in input.chunks(size) {
            let mut at = 0;
            while !done {
                match decoder.decode(&piece[at..]) {
                    Ok(ChunkStep::Data(data)) => {
                        body.extend_from_slice(&piece[at..][data.clone()]);
                        at += data.end;
                    }
                    Ok(ChunkStep::NeedMore) => {
                        at = piece.len();
                        break;
                    }
                    Ok(ChunkStep::Done(consumed)) => {
                        at += consumed;
                        done = true;
                    }
                    Err(error) => return format!("{error}"),
                }
            }
            used += at;
        }
        let mut out = String::from_utf8_lossy(&body).into_owned();
        let (fields, buffer) = decoder.trailers();
        for field in fields {
            let text = |span: base::Span| String::from_utf8_lossy(span.of(buffer)).into_owned();
            out += &format!(" [{}={}]", text(field.name), text(field.value));
        }
        match (done, input.len() - used) {
            (false, _) => out + " ...",
            (true, 0) => out,
            (true, more) => format!("{out} +{more}"),
        }
    }

    fn check_with(input: &str, trailers: Trailers, expected: &str) {
        for size in 1..=input.len() {
            assert_eq!(decode(input.as_bytes(), size, trailers), expected, "{input:?} by {size}");
        }
    }

    #[test]
    fn bodies() {
        let check = |input: &str, expected: &str| check_with(input, Trailers::Discard, expected);
        check("0\r\n\r\n", "");
        check("3\r\nabc\r\n0\r\n\r\n", "abc");
        check("3\r\nabc\r\n00A\r\n0123456789\r\n0\r\n\r\n", "abc0123456789");
        check("3;x=y\r\nabc\r\n0;z\r\n\r\n", "abc");
        check("3 \r\nabc\r\n0\t;z\r\n\r\n", "abc");
        check("3\r\nabc\r\n0\r\nA: b\r\nC: d\r\n\r\n", "abc");
        check("3\r\nabc\r\n0\r\n\r\nGET /", "abc +5");
        check("3\r\nab", "ab ...");
        check("3\r\nabc\r\n0\r\n", "abc ...");
    }

    #[test]
    fn smuggling() {
        let invalid = "invalid chunked body";
        let check = |input: &str, expected: &str| check_with(input, Trailers::Discard, expected);
        for bad in [
            "\r\n",
            "x\r\n",
            " 3\r\nabc\r\n",
            "+3\r\nabc\r\n",
            "-3\r\n",
            "0x3\r\nabc\r\n",
            "3\nabc\r\n",
            "3\r\nabc\n",
            "3\r\nabcd\r\n",
            "3\rabc",
            "3\r\nabc\r0",
            "3;x\nabc\r\n",
            "0\n\r\n",
            "0;x\n\r\n",
            "0\r\n\n",
            "0\r\nA: b\n",
            "0\r\n\rx",
            "0\r\nA: b\rx",
            "3\r\nabc0\r\n\r\n",
            "3,\r\n",
            "3\0\r\n",
            "8000000000000000\r\n",
            "800000000000000\r\n",
            "ffffffffffffffff\r\n",
            "10000000000000000\r\n",
            "10000000000000003\r\nabc\r\n",
            "7ffffffffffffff0\r\n",
        ] {
            check(bad, invalid);
        }
        check("7ffffffffffffff\r\nabc", "abc ...");
        check(&format!("{}\r\n", "0".repeat(41)), "too long chunk extension");
        check(&format!("3;{}\r\n", "x".repeat(40)), "too long chunk extension");
        check(&format!("0\r\n{}", "x".repeat(40)), "too big trailers");
    }

    #[test]
    fn trailers() {
        let check = |input: &str, expected: &str| check_with(input, Trailers::Keep, expected);
        check("1\r\na\r\n0\r\n\r\n", "a");
        check("1\r\na\r\n0\r\nX: y\r\nZ:\r\n\r\nmore", "a [X=y] [Z=] +4");
        check("0\r\nX: y\n\n", " [X=y]");
        check("0\r\nX : y\r\n\r\n", "invalid trailer");
        check(&format!("0\r\nX: {}\r\n\r\n", "y".repeat(30)), "too big trailers");
        check(&format!("0\r\nX: {}\r\n\r\n", "y".repeat(23)), &format!(" [X={}]", "y".repeat(23)));
    }

    #[test]
    fn size_lines() {
        let mut space = [0; 18];
        for length in [1, 9, 10, 15, 16, 255, 256, 0xabcdef, u64::from(u32::MAX), u64::MAX] {
            assert_eq!(write_chunk_header(length, &mut space), format!("{length:x}\r\n").as_bytes());
        }
        assert_eq!(write_chunk_header(0, &mut space), b"0\r\n");
    }
}
