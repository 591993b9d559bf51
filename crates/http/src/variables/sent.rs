//! The answer's header fields as variables: `$sent_http_*` and `$sent_trailer_*`.
//!
//! Fields that the engine writes itself are no header fields of the answer and are told from what they are
//! written from.

use proto::h1::Known;

use super::header::{join_values, name_matches};
use crate::output::{Framing, push_decimal};
use crate::request::Request;
use crate::response::Headers;

fn named(headers: &Headers, name: &[u8], out: &mut Vec<u8>) -> bool {
    let values = headers.iter().filter(|(field, ..)| name_matches(field, name)).map(|(_, value, _)| value);
    join_values(values, b", ", out)
}

fn known(r: &Request, known: Known, out: &mut Vec<u8>) -> bool {
    let fields = r.response.headers.iter().filter(|(.., kind)| *kind == known);
    join_values(fields.map(|(_, value, _)| value), b", ", out)
}

pub(super) fn header(r: &Request, name: &[u8], out: &mut Vec<u8>) -> bool {
    named(&r.response.headers, name, out)
}

pub(super) fn trailer(r: &Request, name: &[u8], out: &mut Vec<u8>) -> bool {
    named(&r.response.trailers, name, out)
}

pub(super) fn content_type(r: &Request, out: &mut Vec<u8>) -> bool {
    let response = &r.response;
    if response.content_type.is_empty() {
        return false;
    }
    out.extend_from_slice(&response.content_type);
    // The charset belongs to the type from the moment at which the head is written.
    if response.head_sent && !response.charset.is_empty() {
        out.extend_from_slice(b"; charset=");
        out.extend_from_slice(&response.charset);
    }
    true
}

pub(super) fn content_length(r: &Request, out: &mut Vec<u8>) -> bool {
    if known(r, Known::ContentLength, out) {
        return true;
    }
    let length = r.response.content_length;
    if let Some(length) = length {
        push_decimal(length, out);
    }
    length.is_some()
}

/// A path is absolute as soon as it was sent so.
pub(super) fn location(r: &Request, out: &mut Vec<u8>) -> bool {
    if r.response.head_sent
        && let Some(location) = crate::redirect::absolute_location(r)
    {
        out.extend_from_slice(&location);
        return true;
    }
    known(r, Known::Location, out)
}

/// A time that was not sent, since the answer is an error, is none any more.
pub(super) fn last_modified(r: &Request, out: &mut Vec<u8>) -> bool {
    if known(r, Known::LastModified, out) {
        return true;
    }
    let is_sent = !r.response.head_sent || matches!(r.response.status, 200 | 206 | 304);
    let time = r.response.last_modified().filter(|_| is_sent);
    if let Some(time) = time {
        out.extend_from_slice(&proto::date::http(time));
    }
    time.is_some()
}

/// In nginx's access log this is `close` even where the connection was kept: it forgets before it logs. Here it
/// is what was sent.
pub(super) fn connection(r: &Request, out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(match (r.response.status, r.keepalive) {
        (101, _) => b"upgrade".as_slice(),
        (_, true) => b"keep-alive",
        (_, false) => b"close",
    });
    true
}

pub(super) fn keep_alive(r: &Request, out: &mut Vec<u8>) -> bool {
    let seconds = r.location().core.keepalive_header;
    if !r.keepalive || seconds == 0 {
        return false;
    }
    out.extend_from_slice(b"timeout=");
    push_decimal(seconds, out);
    true
}

pub(super) fn transfer_encoding(r: &Request, out: &mut Vec<u8>) -> bool {
    let is_chunked = r.output.framing == Framing::Chunked;
    if is_chunked {
        out.extend_from_slice(b"chunked");
    }
    is_chunked
}

pub(super) fn cache_control(r: &Request, out: &mut Vec<u8>) -> bool {
    known(r, Known::CacheControl, out)
}

pub(super) fn link(r: &Request, out: &mut Vec<u8>) -> bool {
    known(r, Known::Link, out)
}
