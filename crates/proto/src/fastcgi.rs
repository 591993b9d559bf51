//! FastCGI records (FastCGI specification 1.0, 3.3): the request as a responder gets it, the answer's records.
//!
//! As nginx we send one request per connection at a time, so its number is always 1.

use std::ops::Range;

const VERSION: u8 = 1;
const BEGIN_REQUEST: u8 = 1;
const END_REQUEST: u8 = 3;
const PARAMS: u8 = 4;
const STDIN: u8 = 5;
const STDOUT: u8 = 6;
const STDERR: u8 = 7;
const RESPONDER: u8 = 1;

/// Bytes of a record's header.
const HEADER: usize = 8;
/// Content of one record of a request's body: what nginx sends, and a multiple of eight, so that only the last
/// one is padded.
pub const STDIN_PIECE: usize = 32 << 10;

/// What the application does with the connection after its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterAnswer {
    /// It closes it.
    Close,
    /// It waits for another request (`FCGI_KEEP_CONN`).
    Keep,
}

/// The parameters do not fit one record; their length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("fastcgi request record is too big: {0}")]
pub struct TooBig(pub usize);

/// Begins a request; [`end_params`] takes what this returns.
#[must_use]
pub fn begin(after: AfterAnswer, out: &mut Vec<u8>) -> usize {
    let flags = u8::from(after == AfterAnswer::Keep);
    let body = [0, RESPONDER, flags, 0, 0, 0, 0, 0];
    let records = [header(BEGIN_REQUEST, 8, 0), body, header(PARAMS, 0, 0)];
    out.extend_from_slice(records.as_flattened());
    out.len()
}

/// Appends what stands before the name of a parameter, `length` bytes long; [`close_param`] concludes it once the value
/// is there, right behind the name.
#[inline]
pub fn open_param(length: usize, out: &mut Vec<u8>) {
    match u8::try_from(length) {
        // Room for the value's length too.
        Ok(short @ 0..=127) => out.extend_from_slice(&[short, 0]),
        _ => {
            out.extend_from_slice(&long_length(length));
            out.push(0);
        }
    }
}

/// Tells the length of a value that goes from `start` to the end, in front of the name of `name` bytes before it.
#[inline]
pub fn close_param(name: usize, start: usize, out: &mut Vec<u8>) {
    let length = out.len().saturating_sub(start);
    let at = start.wrapping_sub(name + 1);
    match out.get_mut(at) {
        Some(told) if length < 128 => *told = length as u8,
        _ => widen_length(at, length, out),
    }
}

/// Puts a long length where there is room for a short one.
#[cold]
fn widen_length(at: usize, length: usize, out: &mut Vec<u8>) {
    if at < out.len() {
        out.splice(at..=at, long_length(length));
    }
}

/// Ends the parameters that began at `start`.
///
/// # Errors
/// [`TooBig`] above 65535 bytes, which nginx refuses too.
pub fn end_params(start: usize, out: &mut Vec<u8>) -> Result<(), TooBig> {
    let length = out.len().saturating_sub(start);
    let Ok(short) = u16::try_from(length) else { return Err(TooBig(length)) };
    let padding = padding(length);
    let [high, low] = short.to_be_bytes();
    if let Some(header) = start.checked_sub(HEADER).and_then(|at| out.get_mut(at..start)) {
        header[4..7].copy_from_slice(&[high, low, padding]);
    }
    pad(padding, out);
    // An empty record ends the stream; none is needed before it where there are no parameters, and none harms.
    push_header(PARAMS, 0, 0, out);
    Ok(())
}

/// Appends a piece of the body; an empty one ends it.
pub fn push_stdin(piece: &[u8], out: &mut Vec<u8>) {
    if piece.is_empty() {
        push_header(STDIN, 0, 0, out);
        return;
    }
    out.reserve(piece.len() + piece.len().div_ceil(STDIN_PIECE) * (HEADER + 7));
    for content in piece.chunks(STDIN_PIECE) {
        let padding = padding(content.len());
        push_header(STDIN, content.len() as u16, padding, out);
        out.extend_from_slice(content);
        pad(padding, out);
    }
}

fn push_header(kind: u8, length: u16, padding: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(&header(kind, length, padding));
}

fn header(kind: u8, length: u16, padding: u8) -> [u8; HEADER] {
    let [high, low] = length.to_be_bytes();
    [VERSION, kind, 0, 1, high, low, padding, 0]
}

/// Lengths up to 127 take a byte, longer ones four with the highest bit set.
fn long_length(length: usize) -> [u8; 4] {
    (u32::try_from(length).unwrap_or(u32::MAX) | 1 << 31).to_be_bytes()
}

/// Bytes that bring a content to a multiple of eight.
fn padding(length: usize) -> u8 {
    (length.wrapping_neg() & 7) as u8
}

fn pad(padding: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(&[0; 7][..usize::from(padding.min(7))]);
}

/// Why an answer cannot be read; displays as nginx's sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Not version 1.
    #[error("upstream sent unsupported FastCGI protocol version: {0}")]
    Version(u8),
    /// A type that an application does not send.
    #[error("upstream sent invalid FastCGI record type: {0}")]
    Type(u8),
    /// Another request's number, high byte.
    #[error("upstream sent unexpected FastCGI request id high byte: {0}")]
    IdHigh(u8),
    /// Another request's number, low byte.
    #[error("upstream sent unexpected FastCGI request id low byte: {0}")]
    IdLow(u8),
}

/// What the next bytes of an answer are. Ranges count from the first byte handed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Bytes of the answer.
    Stdout(Range<usize>),
    /// Bytes for the error log.
    Stderr(Range<usize>),
    /// The answer's bytes are complete.
    StdoutEnd,
    /// A record that ends the request has begun.
    RequestEnd,
    /// The last record is complete: the connection may carry another request, if nothing follows.
    Finished,
    /// All bytes were used.
    NeedMore,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    /// So many bytes of the header are there.
    #[default]
    Header,
    Content,
    Padding,
    Finished,
}

/// Takes the records of an answer apart.
#[derive(Clone, Debug, Default)]
pub struct Records {
    step: Step,
    header: [u8; HEADER],
    have: usize,
    left: usize,
}

impl Records {
    /// The next event, and how many bytes it used. Hand in the rest the next time; whatever is there when
    /// [`Event::NeedMore`] is returned was used.
    ///
    /// # Errors
    /// [`RecordError`]; nothing sensible follows it.
    pub fn next(&mut self, bytes: &[u8]) -> Result<(usize, Event), RecordError> {
        match self.take_stdout(bytes) {
            Some(range) => Ok((range.end, Event::Stdout(range))),
            None => self.take(bytes),
        }
    }

    /// What [`Self::take`] would come to in several steps where a record of stdout begins.
    #[inline]
    fn take_stdout(&mut self, bytes: &[u8]) -> Option<Range<usize>> {
        let (header, rest) = bytes.split_first_chunk::<HEADER>()?;
        let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let is_stdout = header.first_chunk() == Some(&[VERSION, STDOUT, 0, 1]);
        if self.step != Step::Header || self.have > 0 || !is_stdout || length == 0 || rest.is_empty() {
            return None;
        }
        let count = length.min(rest.len());
        self.header = *header;
        self.left = length - count;
        self.step = Step::Content;
        Some(HEADER..HEADER + count)
    }

    /// The next event, one step after the other.
    #[inline(never)]
    fn take(&mut self, bytes: &[u8]) -> Result<(usize, Event), RecordError> {
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            match self.step {
                Step::Header => {
                    at += match rest.first_chunk() {
                        Some(header) if self.have == 0 && is_expected(header) => self.take_header(*header),
                        _ => self.read_header(rest)?,
                    };
                    if self.have < HEADER {
                        return Ok((at, Event::NeedMore));
                    }
                    self.have = 0;
                    self.left = usize::from(u16::from_be_bytes([self.header[4], self.header[5]]));
                    self.step = Step::Content;
                    match (self.header[1], self.left) {
                        (STDOUT, 0) => return Ok((at, Event::StdoutEnd)),
                        (END_REQUEST, _) => return Ok((at, Event::RequestEnd)),
                        _ => {}
                    }
                }
                Step::Content if self.left == 0 => {
                    self.left = usize::from(self.header[6]);
                    self.step = Step::Padding;
                }
                Step::Content => {
                    if rest.is_empty() {
                        return Ok((at, Event::NeedMore));
                    }
                    let count = self.left.min(rest.len());
                    self.left -= count;
                    let range = at..at + count;
                    at += count;
                    match self.header[1] {
                        STDOUT => return Ok((at, Event::Stdout(range))),
                        STDERR => return Ok((at, Event::Stderr(range))),
                        _ => {}
                    }
                }
                Step::Padding => {
                    let count = self.left.min(rest.len());
                    self.left -= count;
                    at += count;
                    if self.left > 0 {
                        return Ok((at, Event::NeedMore));
                    }
                    if self.header[1] == END_REQUEST {
                        self.step = Step::Finished;
                        return Ok((at, Event::Finished));
                    }
                    self.step = Step::Header;
                }
                Step::Finished => return Ok((at, Event::NeedMore)),
            }
        }
    }

    /// What [`Self::next`] would come to in several steps, where `bytes` are the usual end of an answer: all that is left
    /// of a record of stdout, then the record that ends the request, and nothing else. The bytes of stdout are the first
    /// ones, and so many.
    pub fn take_end(&mut self, bytes: &[u8]) -> Option<usize> {
        if self.step != Step::Content || self.header[1] != STDOUT {
            return None;
        }
        let end = bytes.get(self.left + usize::from(self.header[6])..)?;
        let (header, rest) = end.split_first_chunk::<HEADER>()?;
        let length = usize::from(u16::from_be_bytes([header[4], header[5]])) + usize::from(header[6]);
        if !is_expected(header) || header[1] != END_REQUEST || rest.len() != length {
            return None;
        }
        self.step = Step::Finished;
        Some(std::mem::take(&mut self.left))
    }

    /// Gives back the last `count` bytes of an [`Event::Stdout`], directly after it.
    pub fn unread(&mut self, count: usize) {
        self.left += count;
    }

    /// A header that is there as a whole.
    #[inline]
    fn take_header(&mut self, header: [u8; HEADER]) -> usize {
        self.header = header;
        self.have = HEADER;
        HEADER
    }

    /// As many bytes of a header as are there; says which of them is wrong.
    #[cold]
    fn read_header(&mut self, bytes: &[u8]) -> Result<usize, RecordError> {
        let mut used = 0;
        for &byte in bytes.iter().take(HEADER - self.have) {
            match self.have {
                0 if byte != VERSION => return Err(RecordError::Version(byte)),
                1 if !matches!(byte, STDOUT | STDERR | END_REQUEST) => return Err(RecordError::Type(byte)),
                2 if byte != 0 => return Err(RecordError::IdHigh(byte)),
                3 if byte != 1 => return Err(RecordError::IdLow(byte)),
                _ => {}
            }
            if let Some(slot) = self.header.get_mut(self.have) {
                *slot = byte;
            }
            self.have += 1;
            used += 1;
        }
        Ok(used)
    }
}

/// Whether [`Records::read_header`] has nothing to say against a header.
#[inline]
fn is_expected(header: &[u8; HEADER]) -> bool {
    matches!(header, [VERSION, STDOUT | STDERR | END_REQUEST, 0, 1, ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push_param(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        open_param(name.len(), out);
        out.extend_from_slice(name);
        let start = out.len();
        out.extend_from_slice(value);
        close_param(name.len(), start, out);
    }

    #[test]
    fn a_request_without_a_body() {
        let mut out = Vec::new();
        let start = begin(AfterAnswer::Close, &mut out);
        push_param(b"A", b"bc", &mut out);
        push_param(b"N", &[b'v'; 128], &mut out);
        push_param(&[b'n'; 128], b"", &mut out);
        assert_eq!(end_params(start, &mut out), Ok(()));
        push_stdin(b"", &mut out);
        let mut expected = b"\x01\x01\0\x01\0\x08\0\0\0\x01\0\0\0\0\0\0".to_vec();
        expected.extend_from_slice(b"\x01\x04\0\x01\x01\x10\0\0\x01\x02Abc\x01\x80\0\0\x80N");
        expected.extend_from_slice(&[b'v'; 128]);
        expected.extend_from_slice(b"\x80\0\0\x80\0");
        expected.extend_from_slice(&[b'n'; 128]);
        expected.extend_from_slice(b"\x01\x04\0\x01\0\0\0\0\x01\x05\0\x01\0\0\0\0");
        assert_eq!(out, expected, "{}", out.escape_ascii());
        let mut keep = Vec::new();
        let _ = begin(AfterAnswer::Keep, &mut keep);
        assert_eq!(keep[10], 1);
    }

    #[test]
    fn parameters_have_a_limit() {
        let mut out = Vec::new();
        let start = begin(AfterAnswer::Close, &mut out);
        push_param(b"A", &vec![b'v'; 65_529], &mut out);
        assert_eq!(out.len() - start, 65_535);
        assert_eq!(end_params(start, &mut out), Ok(()));
        push_param(b"A", b"", &mut out);
        let length = out.len() - start;
        assert_eq!(end_params(start, &mut out), Err(TooBig(length)));
    }

    #[test]
    fn bodies_are_cut_into_records() {
        let check = |length: usize, expected: &[(usize, u8)]| {
            let mut out = Vec::new();
            push_stdin(&vec![b'x'; length], &mut out);
            let mut at = 0;
            let mut found = Vec::new();
            while at < out.len() {
                assert_eq!(&out[at..at + 4], b"\x01\x05\0\x01");
                let content = usize::from(u16::from_be_bytes([out[at + 4], out[at + 5]]));
                found.push((content, out[at + 6]));
                at += HEADER + content + usize::from(out[at + 6]);
            }
            assert_eq!((at, &found[..]), (out.len(), expected));
        };
        check(0, &[(0, 0)]);
        check(1, &[(1, 7)]);
        check(8, &[(8, 0)]);
        check(32_768, &[(32_768, 0)]);
        check(32_770, &[(32_768, 0), (2, 6)]);
    }

    fn show(records: &mut Records, bytes: &[u8]) -> String {
        let mut shown = String::new();
        let mut at = 0;
        loop {
            let text = |range: &Range<usize>| {
                String::from_utf8_lossy(&bytes[at + range.start..at + range.end]).into_owned()
            };
            match records.next(&bytes[at..]) {
                Err(error) => return shown + &error.to_string(),
                Ok((used, event)) => {
                    match &event {
                        Event::Stdout(range) => shown += &format!("out {} ", text(range)),
                        Event::Stderr(range) => shown += &format!("err {} ", text(range)),
                        Event::StdoutEnd => shown += "closed ",
                        Event::RequestEnd => shown += "end ",
                        Event::Finished => shown += "finished ",
                        Event::NeedMore => {
                            return shown + if at + used == bytes.len() { "more" } else { "extra" };
                        }
                    }
                    at += used;
                }
            }
        }
    }

    #[test]
    fn answers() {
        let check = |bytes: &[u8], expected: &str| {
            assert_eq!(show(&mut Records::default(), bytes), expected, "{}", bytes.escape_ascii());
        };
        check(b"", "more");
        check(b"\x01\x06\0\x01\0\x03\x05\0abc12345\x01\x06\0\x01\0\0\0\0", "out abc closed more");
        check(b"\x01\x07\0\x01\0\x03\0\0abc\x01\x06\0\x01\0\x02\0\0d", "err abc out d more");
        check(b"\x01\x03\0\x01\0\x08\0\0\0\0\0\0\0\0\0\0", "end finished more");
        check(b"\x01\x03\0\x01\0\x08\x02\0\0\0\0\0\0\0\0\0p", "end more");
        check(b"\x01\x03\0\x01\0\x08\0\0\0\0\0\0\0\0\0\0x", "end finished extra");
        check(b"\x01\x07\0\x01\0\0\0\0\x01\x06\0\x01\0\x01\0\0x", "out x more");
        check(b"\x02", "upstream sent unsupported FastCGI protocol version: 2");
        check(b"HTTP/1.1 200 OK", "upstream sent unsupported FastCGI protocol version: 72");
        check(b"\x01\x01", "upstream sent invalid FastCGI record type: 1");
        check(b"\x01\x06\x01", "upstream sent unexpected FastCGI request id high byte: 1");
        check(b"\x01\x06\0\x02", "upstream sent unexpected FastCGI request id low byte: 2");
    }

    #[test]
    fn the_usual_beginning_is_taken_at_once() {
        let answers: [&[u8]; 6] = [
            b"\x01\x06\0\x01\0\x03\x05\0abc12345\x01\x06\0\x01\0\0\0\0",
            b"\x01\x06\0\x01\0\0\x05\0abc12345",
            b"\x01\x07\0\x01\0\x03\x05\0abc12345",
            b"\x01\x06\0\x01\x01\0\x05\0abc12345",
            b"\x01\x06\0\x02\0\x03\x05\0abc12345",
            b"\x02\x06\0\x01\0\x03\x05\0abc12345",
        ];
        for (answer, cut) in
            answers.iter().flat_map(|answer| (0..=answer.len()).map(move |cut| (answer, cut)))
        {
            let (mut one, mut other) = (Records::default(), Records::default());
            for mut piece in [&answer[..cut], &answer[cut..]] {
                loop {
                    let (next, same) = (one.next(piece), other.take(piece));
                    assert_eq!(next, same, "{} cut at {cut}", answer.escape_ascii());
                    let Ok((used, event)) = next else { break };
                    piece = &piece[used..];
                    if event == Event::NeedMore {
                        break;
                    }
                }
            }
        }
    }

    #[test]
    fn the_usual_end_is_taken_at_once() {
        let begin = b"\x01\x06\0\x01\0\x05\x01\0ab";
        let check = |rest: &[u8], expected: Option<usize>| {
            let mut records = Records::default();
            assert_eq!(records.next(begin), Ok((10, Event::Stdout(8..10))));
            let mut same = records.clone();
            assert_eq!(records.take_end(rest), expected, "{}", rest.escape_ascii());
            let shown = show(&mut same, rest);
            assert_eq!(shown == "out cde end finished more", expected.is_some(), "{shown}");
            let left = if expected.is_some() { "more".to_owned() } else { shown };
            assert_eq!(show(&mut records, if expected.is_some() { b"" } else { rest }), left);
        };
        check(b"cde#\x01\x03\0\x01\0\x08\0\0\0\0\0\0\0\0\0\0", Some(3));
        check(b"cde#\x01\x03\0\x01\0\x08\x01\0\0\0\0\0\0\0\0\0p", Some(3));
        check(b"cde#\x01\x03\0\x01\0\x08\0\0\0\0\0\0\0\0\0\0x", None);
        check(b"cde#\x01\x03\0\x01\0\x08\0\0\0\0\0", None);
        check(b"cde#\x01\x06\0\x01\0\x00\0\0", None);
        check(b"cde#\x01\x03\0\x02\0\x00\0\0", None);
        check(b"cd", None);
        check(b"", None);
    }

    #[test]
    fn bytes_can_be_given_back() {
        let bytes = b"\x01\x06\0\x01\0\x05\x01\0abcde#";
        let mut records = Records::default();
        assert_eq!(records.next(bytes), Ok((13, Event::Stdout(8..13))));
        records.unread(3);
        assert_eq!(show(&mut records, &bytes[10..]), "out cde more");
    }
}
