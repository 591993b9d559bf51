//! `ngx_http_range_filter_module`: cuts the ranges that the client asked for out of a body.
//!
//! One range is cut while the body passes; several need the whole body at once, as in nginx.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use http::chunk::{Chunk, Queue};
use http::conf::Location;
use http::filters::{Answers, BodyFilter, Filtered, HeaderFilter, More, Sees, Taken};
use http::module::{Module, Registry, Slot};
use http::output::push_decimal;
use http::phases::Outcome;
use http::request::Request;
use http::response::{Ranges, Response};
use os::errlog::Level;
use proto::h1::{Known, Version};
use proto::range::{self, Ranges as Parsed};

/// `ngx_http_range_header_filter_module` and `ngx_http_range_body_filter_module`.
pub struct Range;

static SLOT: Slot = Slot::new();

impl Module for Range {
    const NAME: &'static str = "ngx_http_range_header_filter_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = ();
    type Main = ();

    fn register(registry: &mut Registry) {
        registry.header_filter(&Self);
    }
}

impl HeaderFilter for Range {
    fn answers(&self, _: &Location) -> Answers {
        Answers::Comparable
    }

    fn filter(&self, r: &mut Request) -> Filtered {
        let Some(length) = r.response.content_length else { return Filtered::Next };
        let max_ranges = match r.location().core.max_ranges {
            Some(0) => return Filtered::Next,
            max => max.map(|max| u32::try_from(max).unwrap_or(u32::MAX)),
        };
        if r.version() < Version::HTTP_10
            || r.response.status != 200
            || (r.is_subrequest && r.response.ranges != Ranges::OfPart)
            || r.response.ranges == Ranges::Refused
        {
            return Filtered::Next;
        }
        let is_single = matches!(r.response.ranges, Ranges::SingleOnly | Ranges::OfPart);
        let max_ranges = if is_single { Some(1) } else { max_ranges };
        let parsed = match r.header(Known::Range) {
            Some(value) if if_range_holds(r.header(Known::IfRange), &r.response) => {
                range::parse(value, length, max_ranges)
            }
            _ => Parsed::Ignore,
        };
        match parsed {
            Parsed::Ignore => {
                r.response.headers.push_known(Known::AcceptRanges, b"Accept-Ranges", b"bytes");
                Filtered::Next
            }
            Parsed::NotSatisfiable => {
                r.response.status = 416;
                r.set_content_range(None, length);
                r.response.clear_content_length();
                Filtered::Instead(Outcome::Status(416))
            }
            Parsed::Parts(parts) => {
                r.response.status = 206;
                r.response.status_line.clear();
                match *parts {
                    [(start, end)] => one(r, start, end, length),
                    _ => many(r, parts, length),
                }
                Filtered::Next
            }
        }
    }
}

/// Whether the condition allows ranges (RFC 9110, 13.1.5).
fn if_range_holds(if_range: Option<&[u8]>, response: &Response) -> bool {
    let Some(value) = if_range else { return true };
    if value.len() >= 2 && value.ends_with(b"\"") {
        return response.headers.known(Known::ETag) == Some(value);
    }
    response.last_modified().is_some_and(|modified| proto::date::parse(value).unwrap_or(-1) == modified)
}

fn one(r: &mut Request, start: u64, end: u64, length: u64) {
    r.set_content_range(Some((start, end)), length);
    r.response.clear_content_length();
    r.response.content_length = Some(end - start);
    let at = std::mem::replace(&mut r.response.content_offset, start);
    r.output.add_first_filter(Box::new(One { at, start, end }));
}

fn many(r: &mut Request, parts: Vec<(u64, u64)>, length: u64) {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let boundary = format!("{:020}", NEXT.fetch_add(1, Ordering::Relaxed));
    let response = &mut r.response;
    let mut head = format!("\r\n--{boundary}\r\n").into_bytes();
    if !response.content_type.is_empty() {
        head.extend_from_slice(b"Content-Type: ");
        head.extend_from_slice(&response.content_type);
        if !response.charset.is_empty() {
            head.extend_from_slice(b"; charset=");
            head.extend_from_slice(&response.charset);
        }
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"Content-Range: bytes ");
    let heads: Vec<_> = parts
        .iter()
        .map(|(start, end)| {
            let mut head = head.clone();
            push_decimal(*start, &mut head);
            head.push(b'-');
            push_decimal(end - 1, &mut head);
            head.push(b'/');
            push_decimal(length, &mut head);
            head.extend_from_slice(b"\r\n\r\n");
            head
        })
        .collect();
    let tail = format!("\r\n--{boundary}--\r\n").into_bytes();
    let whole = heads.iter().map(|head| head.len() as u64).sum::<u64>()
        + parts.iter().map(|(start, end)| end - start).sum::<u64>()
        + tail.len() as u64;
    response.content_type = format!("multipart/byteranges; boundary={boundary}").into_bytes();
    response.charset.clear();
    response.clear_content_length();
    response.headers.remove_known(Known::ContentRange);
    response.content_length = Some(whole);
    r.output.add_first_filter(Box::new(Many { parts, heads, tail }));
}

/// Lets one range through.
struct One {
    /// Offset of the next byte that comes in.
    at: u64,
    start: u64,
    end: u64,
}

impl BodyFilter for One {
    fn sees(&self) -> Sees {
        Sees::Chunks
    }

    fn filter(
        &mut self,
        _: &mut Request,
        input: &mut Queue,
        output: &mut Queue,
        _: More,
    ) -> io::Result<Taken> {
        while let Some(mut chunk) = input.pop() {
            let (first, last) = (self.at, self.at + chunk.len());
            self.at = last;
            let (from, to) = (self.start.max(first), self.end.min(last));
            if from >= to {
                continue;
            }
            chunk.advance(from - first);
            output.push(if to < last { chunk.split_front(to - from) } else { chunk });
        }
        Ok(Taken::All)
    }
}

/// Makes the parts of a `multipart/byteranges` body.
struct Many {
    parts: Vec<(u64, u64)>,
    heads: Vec<Vec<u8>>,
    tail: Vec<u8>,
}

impl BodyFilter for Many {
    fn sees(&self) -> Sees {
        Sees::Chunks
    }

    fn filter(
        &mut self,
        r: &mut Request,
        input: &mut Queue,
        output: &mut Queue,
        more: More,
    ) -> io::Result<Taken> {
        if input.is_empty() || self.parts.is_empty() {
            input.clear();
            return Ok(Taken::All);
        }
        let last = self.parts.iter().map(|(_, end)| *end).max().unwrap_or(0);
        if more != More::End && input.len() < last {
            r.log(Level::Alert, format_args!("range in overlapped buffers"));
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut body = Vec::new();
        while let Some(chunk) = input.pop() {
            body.push(chunk);
        }
        for ((start, end), head) in self.parts.drain(..).zip(&self.heads) {
            output.push_bytes(head);
            copy(&mut body, start, end, output);
        }
        output.push_bytes(&self.tail);
        Ok(Taken::All)
    }
}

/// Appends the bytes `start..end` of a body in pieces.
fn copy(body: &mut [Chunk], start: u64, end: u64, output: &mut Queue) {
    let mut at = 0;
    for chunk in body {
        let (first, last) = (at, at + chunk.len());
        at = last;
        let (from, to) = (start.max(first), end.min(last));
        if from < to {
            output.push(chunk.part(from - first, to - first));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(queue: &mut Queue) -> String {
        let mut text = String::new();
        while let Some(chunk) = queue.pop() {
            text.push_str(std::str::from_utf8(chunk.bytes().expect("memory")).expect("ASCII"));
        }
        text
    }

    #[test]
    fn parts_are_cut_across_chunks() {
        let check = |start, end, expected: &str| {
            let mut body = vec![Chunk::Static(b"abc"), Chunk::copied(b"defg"), Chunk::Static(b"h")];
            let mut out = Queue::default();
            copy(&mut body, start, end, &mut out);
            assert_eq!(text(&mut out), expected);
        };
        check(0, 8, "abcdefgh");
        check(0, 1, "a");
        check(2, 4, "cd");
        check(3, 7, "defg");
        check(4, 5, "e");
        check(6, 8, "gh");
    }

    #[test]
    fn if_range_compares_strongly() {
        let check = |value: &str, etag: Option<&str>, modified, expected| {
            let mut response = Response::default();
            response.set_last_modified(modified);
            if let Some(etag) = etag {
                response.headers.push(b"ETag", etag.as_bytes());
            }
            assert_eq!(if_range_holds(Some(value.as_bytes()), &response), expected, "{value} {etag:?}");
        };
        check("\"a\"", Some("\"a\""), None, true);
        check("\"b\"", Some("\"a\""), None, false);
        check("\"a\"", None, Some(1), false);
        check("W/\"a\"", Some("W/\"a\""), None, true);
        check("Sun, 06 Nov 1994 08:49:37 GMT", None, Some(784_111_777), true);
        check("Sun, 06 Nov 1994 08:49:37 GMT", None, Some(784_111_778), false);
        check("Sun, 06 Nov 1994 08:49:37 GMT", None, None, false);
        check("x", None, Some(1), false);
    }
}
