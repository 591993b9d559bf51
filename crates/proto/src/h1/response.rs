//! A response head of an upstream: the status line and the fields, as offsets into the buffer read into.
//!
//! What does not begin with a status line is not refused here: nginx passes it on as HTTP/0.9, all body.

use base::Span;

use super::fields::{Fields, MAX_FIELDS};
use super::line::{Line, LineScan, Sender, Taken};
use super::request::Progress;
use super::request_line::Version;
use super::search::find_low_control;

/// Why a response head is of no use; displays as nginx's sentence in the error log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// There is no status line. nginx answers 200 with all the bytes as the body, until the upstream closes;
    /// with a cache, silently.
    #[error("upstream sent no valid HTTP/1.0 header")]
    NoStatusLine,
    /// A field line is broken; [`ResponseHead::culprit`] is its beginning.
    #[error("upstream sent invalid header")]
    InvalidHeader,
    /// The head does not fit the buffer.
    #[error("upstream sent too big header")]
    TooBig,
    /// There are more fields than allowed.
    #[error("upstream sent too many header lines")]
    TooManyFields,
    /// A status of 103 in HTTP/1.0.
    #[error("upstream sent HTTP/1.0 response with early hints")]
    OldEarlyHints,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Protocol,
    Major,
    MajorMore,
    Minor,
    MinorMore,
    Status,
    AfterStatus,
    Text,
    LineFeed,
    Fields,
    Complete,
}

/// One response head. Reuse it with [`ResponseHead::reset`]: its list keeps its memory.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// The version of the status line.
    pub version: Version,
    /// The status: any three digits, 000 too.
    pub status: u16,
    /// Status and reason as they were sent: what nginx passes on as the status line.
    pub status_line: Span,
    /// The reason without the space in front of it.
    pub reason: Span,
    /// The fields.
    pub fields: Fields,
    /// Bytes up to and with the empty line; the body begins here.
    pub length: usize,
    /// After [`ResponseError::InvalidHeader`]: the part of the line in front of the byte that is wrong.
    pub culprit: Span,
    step: Step,
    at: usize,
    digits: u8,
    scan: LineScan,
}

impl ResponseHead {
    /// Forgets the response and keeps the memory.
    pub fn reset(&mut self) {
        self.fields.clear();
        self.version = Version::default();
        self.status = 0;
        self.status_line = Span::EMPTY;
        self.reason = Span::EMPTY;
        self.length = 0;
        self.culprit = Span::EMPTY;
        self.step = Step::Protocol;
        self.at = 0;
        self.digits = 0;
    }

    /// Becomes a copy of a response that was parsed to its end, and keeps the memory.
    pub fn copy_from(&mut self, other: &Self) {
        self.fields.copy_from(&other.fields);
        self.version = other.version;
        self.status = other.status;
        self.status_line = other.status_line;
        self.reason = other.reason;
        self.length = other.length;
        self.culprit = other.culprit;
        self.step = other.step;
        self.at = other.at;
        self.digits = other.digits;
    }

    /// Forgets the response and makes ready for fields without a status line in front of them, as CGI programs
    /// send them (RFC 3875, 6.3).
    pub fn expect_fields(&mut self) {
        self.reset();
        self.step = Step::Fields;
        self.scan = LineScan::from(0);
    }

    /// Parses what is new in `buffer`, which begins with the same byte at every call and only grows.
    ///
    /// `max_bytes` is what a head may take (`proxy_buffer_size`), `max_fields` how many fields it may have.
    /// Follows `ngx_http_parse_status_line` and `ngx_http_proxy_process_header`.
    ///
    /// # Errors
    /// [`ResponseError`].
    #[inline]
    pub fn parse(
        &mut self,
        buffer: &[u8],
        max_bytes: usize,
        max_fields: usize,
    ) -> Result<Progress, ResponseError> {
        let window = buffer.get(..max_bytes).unwrap_or(buffer);
        let progress = match self.step {
            Step::Complete => return Ok(Progress::Complete),
            Step::Fields => self.parse_fields(window, max_fields)?,
            _ => match self.parse_status(window)? {
                Progress::Complete => self.parse_fields(window, max_fields)?,
                Progress::Partial => Progress::Partial,
            },
        };
        if progress == Progress::Partial && buffer.len() >= max_bytes {
            return Err(ResponseError::TooBig);
        }
        Ok(progress)
    }

    fn parse_status(&mut self, buffer: &[u8]) -> Result<Progress, ResponseError> {
        if self.at == 0 {
            self.known_start(buffer);
        }
        while self.step != Step::Fields {
            let Some(&byte) = buffer.get(self.at) else { return Ok(Progress::Partial) };
            self.step = self.status_byte(byte).ok_or(ResponseError::NoStatusLine)?;
            self.at += 1;
        }
        if self.status == 103 && self.version < Version::HTTP_11 {
            return Err(ResponseError::OldEarlyHints);
        }
        let text = self.status_line.start as usize + 4;
        self.reason = Span::new(text.min(self.status_line.end as usize), self.status_line.end as usize);
        self.scan = LineScan::from(self.at);
        Ok(Progress::Complete)
    }

    /// How nearly every response begins, in one comparison.
    fn known_start(&mut self, buffer: &[u8]) {
        let Some(start) = buffer.first_chunk::<9>() else { return };
        // Not a `match`, which would compare byte by byte.
        self.version = if start == b"HTTP/1.1 " {
            Version::HTTP_11
        } else if start == b"HTTP/1.0 " {
            Version::HTTP_10
        } else {
            return;
        };
        self.at = 9;
        self.step = Step::Status;
        let Some([a, b, c, b' ']) = buffer.get(9..).and_then(|rest| rest.first_chunk::<4>()) else { return };
        let digits = [a, b, c].map(|byte| byte.wrapping_sub(b'0'));
        let Some(end) = find_low_control(buffer, 13) else { return };
        if digits.iter().any(|digit| *digit > 9) || buffer.get(end..end + 2) != Some(b"\r\n") {
            return;
        }
        self.status = digits.iter().fold(0, |status, digit| status * 10 + u16::from(*digit));
        self.status_line = Span::new(9, end);
        self.at = end + 2;
        self.step = Step::Fields;
    }

    fn status_byte(&mut self, byte: u8) -> Option<Step> {
        let digit = u16::from(byte.wrapping_sub(b'0'));
        Some(match (self.step, byte) {
            (Step::Protocol, _) if b"HTTP/".get(self.at) == Some(&byte) => {
                if self.at == 4 {
                    Step::Major
                } else {
                    Step::Protocol
                }
            }
            (Step::Major, b'1'..=b'9') => {
                self.version.major = digit;
                Step::MajorMore
            }
            (Step::MajorMore, b'.') => Step::Minor,
            (Step::MajorMore, b'0'..=b'9') if self.version.major <= 99 => {
                self.version.major = self.version.major * 10 + digit;
                Step::MajorMore
            }
            (Step::Minor, b'0'..=b'9') => {
                self.version.minor = digit;
                Step::MinorMore
            }
            (Step::MinorMore, b' ') => Step::Status,
            (Step::MinorMore, b'0'..=b'9') if self.version.minor <= 99 => {
                self.version.minor = self.version.minor * 10 + digit;
                Step::MinorMore
            }
            (Step::Status, b' ') => Step::Status,
            (Step::Status, b'0'..=b'9') => self.status_digit(digit),
            // IIS is known to send 403.1 and the like.
            (Step::AfterStatus, b' ' | b'.') | (Step::Text, _) if byte != b'\r' && byte != b'\n' => {
                Step::Text
            }
            (Step::AfterStatus | Step::Text, b'\r') => {
                self.status_line.end = Span::new(0, self.at).end;
                Step::LineFeed
            }
            (Step::AfterStatus | Step::Text, b'\n') => {
                self.status_line.end = Span::new(0, self.at).end;
                Step::Fields
            }
            (Step::LineFeed, b'\n') => Step::Fields,
            _ => return None,
        })
    }

    fn status_digit(&mut self, digit: u16) -> Step {
        self.status = self.status * 10 + digit;
        self.digits += 1;
        if self.digits < 3 {
            return Step::Status;
        }
        self.status_line.start = Span::new(self.at - 2, self.at).start;
        Step::AfterStatus
    }

    #[inline]
    fn parse_fields(&mut self, buffer: &[u8], max_fields: usize) -> Result<Progress, ResponseError> {
        let max_fields = max_fields.min(MAX_FIELDS);
        loop {
            if self.scan.take_plain(buffer, &mut self.fields, max_fields) == Taken::All {
                return Ok(self.complete());
            }
            let start = self.scan.start();
            match self.scan.next(buffer, Sender::Upstream) {
                Line::Field(field, _) => {
                    if self.fields.len() >= max_fields {
                        return Err(ResponseError::TooManyFields);
                    }
                    self.fields.push(field);
                }
                Line::Skipped => {}
                Line::Partial => return Ok(Progress::Partial),
                Line::End => return Ok(self.complete()),
                Line::Bad(at) => {
                    self.culprit = Span::new(start, at);
                    return Err(ResponseError::InvalidHeader);
                }
            }
        }
    }

    /// The empty line was the last that was scanned.
    #[inline]
    fn complete(&mut self) -> Progress {
        self.length = self.scan.start();
        self.step = Step::Complete;
        Progress::Complete
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(head: &ResponseHead, result: Result<Progress, ResponseError>, buffer: &[u8]) -> String {
        let text = |span: Span| span.of(buffer).escape_ascii().to_string();
        match result {
            Err(error) => format!("{error:?}"),
            Ok(Progress::Partial) => "partial".into(),
            Ok(Progress::Complete) => {
                let mut out = format!(
                    "{}.{} {} <{}> <{}>",
                    head.version.major,
                    head.version.minor,
                    head.status,
                    text(head.status_line),
                    text(head.reason)
                );
                for field in &head.fields {
                    out += &format!(" [{}={}]", text(field.name), text(field.value));
                }
                out + if head.length == buffer.len() { "" } else { " and more" }
            }
        }
    }

    fn check(input: &str, expected: &str) {
        let input = input.as_bytes();
        let mut head = ResponseHead::default();
        let result = head.parse(input, 100, 3);
        assert_eq!(show(&head, result, input), expected, "{}", input.escape_ascii());
        head.reset();
        for end in 1..=input.len() {
            let result = head.parse(&input[..end], 100, 3);
            let shown = show(&head, result, &input[..end]);
            if shown != "partial" || end == input.len() {
                assert_eq!(shown, expected.trim_end_matches(" and more"), "fed: {}", input.escape_ascii());
                break;
            }
        }
    }

    #[test]
    fn status_lines() {
        check("HTTP/1.1 200 OK\r\n\r\n", "1.1 200 <200 OK> <OK>");
        check("HTTP/1.0 200 OK\n\n", "1.0 200 <200 OK> <OK>");
        check("HTTP/1.1 200\r\n\r\n", "1.1 200 <200> <>");
        check("HTTP/1.1 200 \r\n\r\n", "1.1 200 <200 > <>");
        check("HTTP/1.1  403.1 No way\r\n\r\n", "1.1 403 <403.1 No way> <1 No way>");
        check("HTTP/12.34 200 OK\r\n\r\n", "12.34 200 <200 OK> <OK>");
        check("HTTP/1.1 2 00 OK\r\n\r\n", "1.1 200 < 00 OK> <OK>");
        check("HTTP/1.1 999 \u{e9}\r\n\r\nbody", "1.1 999 <999 \\xc3\\xa9> <\\xc3\\xa9> and more");
        check("HTTP/1.0 103 Early Hints\r\n", "OldEarlyHints");
        for bad in [
            "hello",
            "http/1.1 200 OK\r\n",
            "HTTP/1.1 20 OK\r\n",
            "HTTP/1.1 2000 OK\r\n",
            "HTTP/1.1\r\n",
            "HTTP/0.9 200 OK\r\n",
            "HTTP/.1 200 OK\r\n",
            "HTTP/1. 200 OK\r\n",
            "HTTP/1.1 200 O\rK\r\n",
            "\r\nHTTP/1.1 200 OK\r\n",
        ] {
            check(bad, "NoStatusLine");
        }
        check("HTTP/1.1 20", "partial");
        check("HT", "partial");
    }

    #[test]
    fn fields() {
        let check = |lines: &str, expected: &str| {
            check(&format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n"), expected);
        };
        check("A_b: c\nD.e:f ", "1.1 200 <200 OK> <OK> [A_b=c] [D.e=f]");
        check("HTTP/1.1 302 Found\r\nA: b", "1.1 200 <200 OK> <OK> [A=b]");
        check("A: b\r\nB: b\r\nC: b", "1.1 200 <200 OK> <OK> [A=b] [B=b] [C=b]");
        check("A: b\r\nB: b\r\nC: b\r\nD: b", "TooManyFields");
        check("A : b", "InvalidHeader");
        check("A: b\r\n c", "InvalidHeader");
        check("A: b\0", "InvalidHeader");
        check("A: b\rc", "InvalidHeader");
        check(&"a".repeat(79), &format!("1.1 200 <200 OK> <OK> [{}=]", "a".repeat(79)));
        check(&"a".repeat(80), "TooBig");
    }
}
