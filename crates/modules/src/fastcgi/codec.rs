//! FastCGI on one connection: the answer is taken out of its records, what stands on stderr goes to the error log
//! (`ngx_http_fastcgi_process_header`, `ngx_http_fastcgi_input_filter`).
//!
//! An answer is read up to the record that ends the request, or to the connection's end once its stdout was closed
//! or was as long as its head says.

use std::ops::Range;

use http::chunk::{Chunk, Queue};
use http::relay::cgi::{body_length, conclude_head, log_too_much};
use http::relay::settings::next;
use http::relay::{BodyLength, Closing, Codec, Decoded, HeadStep, MAX_FIELDS, READING, RelaySettings};
use http::request::Request;
use net::Buf;
use os::errlog::Level;
use proto::fastcgi::{self, AfterAnswer, Event, Records};
use proto::h1::{FramingError, Method, Progress};

use super::Fastcgi;

/// FastCGI at work on one connection.
pub(super) struct FastcgiCodec {
    after: AfterAnswer,
    records: Records,
    /// Where the head's text lies in the buffer, as far as it is there.
    text: Option<Range<usize>>,
    /// Bytes of the body that are still to come, where the head says how many there are.
    left: Option<u64>,
    /// The same for an answer to HEAD, which may go without.
    left_if_any: Option<u64>,
    /// No more stdout is to come.
    is_closed: bool,
    /// The record that ends the request was read, and nothing behind it.
    is_reusable: bool,
}

impl FastcgiCodec {
    pub(super) fn new(after: AfterAnswer) -> Self {
        Self {
            after,
            records: Records::default(),
            text: None,
            left: None,
            left_if_any: None,
            is_closed: false,
            is_reusable: false,
        }
    }

    /// Takes a piece of stdout at `piece` behind the text that is there and parses on.
    fn head_text(
        &mut self,
        r: &mut Request,
        buf: &mut Buf,
        piece: Range<usize>,
        settings: &RelaySettings,
    ) -> Result<HeadStep, u32> {
        let before = self.text.clone().unwrap_or(piece.start..piece.start);
        // The text moves up to the piece, over the header of its record: mostly there is none to be moved.
        let start = piece.start.saturating_sub(before.len());
        if before.end != piece.start {
            buf.copy_within(before, start);
        }
        let text = buf.get(start..piece.end).unwrap_or_default();
        let parsed = r.upstream_head.head.parse(text, settings.buffer_size, MAX_FIELDS);
        self.text = Some(start..piece.end);
        match conclude_head(r, text, parsed)? {
            Progress::Partial => Ok(HeadStep::Partial),
            Progress::Complete => {
                let body = start + r.upstream_head.head.length;
                // The rest of the piece is body, and is read again as that.
                self.records.unread(piece.end.saturating_sub(body));
                Ok(HeadStep::Complete { text: start, body })
            }
        }
    }

    /// Looks at what an event means for the body; the bytes of stdout are at `from`.
    fn body_event(&mut self, r: &Request, event: &Event, piece: &[u8]) -> Step {
        match event {
            Event::Stdout(_) => return self.count(r, piece.len()),
            Event::Stderr(_) => log_stderr(r, piece, "reading upstream"),
            Event::StdoutEnd | Event::RequestEnd => {
                if self.left.is_some_and(|left| left > 0) {
                    let what = if *event == Event::StdoutEnd { "stdout" } else { "request" };
                    r.log(
                        Level::Error,
                        format_args!("upstream prematurely closed FastCGI {what} while reading upstream"),
                    );
                    return Step::Ends(0, Decoded::Broken);
                }
                self.is_closed = true;
            }
            Event::Finished => return Step::Ends(0, Decoded::End),
            Event::NeedMore => return Step::Ends(0, Decoded::More),
        }
        Step::Goes(0)
    }

    /// So many bytes of stdout are here.
    fn count(&mut self, r: &Request, count: usize) -> Step {
        self.left = self.left.or(self.left_if_any.take());
        let Some(left) = self.left else { return Step::Goes(count) };
        let wanted = usize::try_from(left).unwrap_or(usize::MAX);
        self.left = Some(left.saturating_sub(count as u64));
        if count > wanted {
            log_too_much(r);
            return Step::Ends(wanted, Decoded::End);
        }
        Step::Goes(count)
    }
}

/// What an event comes to: bytes of the body that it brought, and whether more events follow.
enum Step {
    Goes(usize),
    Ends(usize, Decoded),
}

impl Codec for FastcgiCodec {
    fn head(&mut self, r: &mut Request, buf: &mut Buf, settings: &RelaySettings) -> Result<HeadStep, u32> {
        let mut at = match &self.text {
            Some(text) => text.end,
            None => {
                r.upstream_head.head.expect_fields();
                0
            }
        };
        loop {
            let next = self.records.next(buf.get(at..).unwrap_or_default());
            let (used, event) = next.map_err(|error| {
                r.log(Level::Error, format_args!("{error} while {READING}"));
                next::INVALID_HEADER
            })?;
            let (from, unexpected) = (at, |what: std::fmt::Arguments<'_>| {
                r.log(Level::Error, format_args!("upstream {what} while {READING}"));
                Err(next::INVALID_HEADER)
            });
            at += used;
            match event {
                Event::Stdout(range) => {
                    let step = self.head_text(r, buf, from + range.start..from + range.end, settings)?;
                    if step != HeadStep::Partial {
                        return Ok(step);
                    }
                }
                Event::Stderr(range) => {
                    let message = buf.get(from + range.start..from + range.end).unwrap_or_default();
                    log_stderr(r, message, READING);
                    let caught = &r.location().settings::<Fastcgi>().catch_stderr;
                    if caught.iter().any(|text| memchr::memmem::find(message, text).is_some()) {
                        return Err(next::INVALID_HEADER);
                    }
                }
                Event::StdoutEnd => return unexpected(format_args!("prematurely closed FastCGI stdout")),
                Event::RequestEnd | Event::Finished => {
                    return unexpected(format_args!("sent unexpected FastCGI record: 3"));
                }
                Event::NeedMore => {
                    // All was used: the text alone is still needed, at the start of the buffer.
                    let text = self.text.take().unwrap_or(0..0);
                    buf.truncate(text.end);
                    buf.drain(..text.start);
                    self.text = Some(0..text.len());
                    return Ok(HeadStep::Partial);
                }
            }
        }
    }

    fn begin(&mut self, r: &Request, method: Method, _: &RelaySettings) -> Result<BodyLength, FramingError> {
        // A program that is asked by HEAD may well answer with all of the body, and that is as good as one by GET.
        let asked = if method == Method::Head { Method::Get } else { method };
        let length = body_length(r, asked)?;
        let left = match length {
            BodyLength::None => Some(0),
            BodyLength::Known(length) => Some(length),
            BodyLength::Open => None,
        };
        (self.left, self.left_if_any) = if method == Method::Head { (None, left) } else { (left, None) };
        Ok(length)
    }

    /// The usual end of an answer, whose stdout is as long as its head says.
    fn take_whole(&mut self, rest: &[u8]) -> Option<usize> {
        let mut records = self.records.clone();
        let length = records.take_end(rest)?;
        if self.left.or(self.left_if_any).is_some_and(|left| left != length as u64) {
            return None;
        }
        self.records = records;
        self.left = self.left.or(self.left_if_any.take()).map(|_| 0);
        self.is_closed = true;
        self.is_reusable = true;
        Some(length)
    }

    fn decode(&mut self, r: &mut Request, mut buf: Buf, start: usize, part: &mut Queue) -> Decoded {
        if let Some(length) = self.take_whole(buf.get(start..).unwrap_or_default()) {
            buf.truncate(start + length);
            part.push(Chunk::Buf { buf, start });
            return Decoded::End;
        }
        let mut at = start;
        let mut data: Option<Range<usize>> = None;
        let decoded = loop {
            let (used, event) = match self.records.next(buf.get(at..).unwrap_or_default()) {
                Ok(next) => next,
                Err(error) => {
                    r.log(Level::Error, format_args!("{error} while reading upstream"));
                    break Decoded::Broken;
                }
            };
            let piece = match &event {
                Event::Stdout(range) | Event::Stderr(range) => at + range.start..at + range.end,
                _ => at..at,
            };
            at += used;
            let step = self.body_event(r, &event, buf.get(piece.clone()).unwrap_or_default());
            let (Step::Goes(count) | Step::Ends(count, _)) = step;
            if count > 0 {
                data = Some(join(&mut buf, data, piece.start..piece.start + count));
            }
            if let Step::Ends(_, decoded) = step {
                self.is_reusable = event == Event::Finished && at == buf.len();
                break decoded;
            }
        };
        let data = data.unwrap_or(0..0);
        buf.truncate(data.end);
        part.push(Chunk::Buf { buf, start: data.start });
        decoded
    }

    /// An answer without its end is none, whatever was sent of it: nginx takes it for complete without
    /// `fastcgi_keep_conn`, and a worker that died in the middle of a page goes unnoticed.
    fn closing(&self) -> Closing {
        if self.is_closed || self.left == Some(0) { Closing::Complete } else { Closing::Premature }
    }

    fn may_keep(&self, _: &Request) -> bool {
        self.after == AfterAnswer::Keep && self.is_reusable
    }

    fn may_keep_unread(&self, _: &Request, rest: &[u8]) -> bool {
        let mut records = self.records.clone();
        let mut at = 0;
        loop {
            match records.next(rest.get(at..).unwrap_or_default()) {
                Err(_) | Ok((_, Event::NeedMore)) => return false,
                Ok((used, Event::Finished)) => {
                    return self.after == AfterAnswer::Keep && at + used == rest.len();
                }
                Ok((used, _)) => at += used,
            }
        }
    }

    fn frame(&self, piece: &[u8], out: &mut Vec<u8>) {
        fastcgi::push_stdin(piece, out);
    }
}

/// Moves a piece down to the data before it, so that one slice remains.
fn join(buf: &mut Buf, data: Option<Range<usize>>, piece: Range<usize>) -> Range<usize> {
    let Some(data) = data else { return piece };
    let length = piece.len();
    buf.copy_within(piece, data.end);
    data.start..data.end + length
}

/// What the application says on stderr, without the line ends and dots at its end.
fn log_stderr(r: &Request, message: &[u8], doing: &str) {
    let end = message.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r' | b'.' | b' '));
    let shown = String::from_utf8_lossy(message.get(..end.unwrap_or(0) + 1).unwrap_or_default());
    r.log(Level::Error, format_args!("FastCGI sent in stderr: \"{shown}\" while {doing}"));
}
