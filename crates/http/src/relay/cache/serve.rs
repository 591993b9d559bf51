//! An answer out of the cache (`ngx_http_upstream_cache_send`).

use std::sync::Arc;

use ::cache::Stored;
use os::errlog::Level;
use proto::h1::{Known, Progress, ResponseHead};

use super::{Case, Status, Use, trailers};
use crate::chunk::Chunk;
use crate::client::Client;
use crate::phases::{Body, Outcome};
use crate::relay::codec::BodyLength;
use crate::relay::exchange::MAX_FIELDS;
use crate::relay::head::Heading;
use crate::request::Request;

/// Bytes from which on a body that is in memory leaves for less from its file, which has to be opened.
const FILE_LEAST: u64 = 64 << 10;
/// Longest head of an entry, bytes.
const HEAD_MAX: usize = 1 << 20;

/// Makes an answer of an entry. `None`: it is of no use after all, and the upstream is to be asked.
pub(super) fn send(
    r: &mut Request,
    heading: Heading<'_>,
    mut case: Box<Case>,
    stored: Stored,
) -> Option<Outcome> {
    let length = recall_head(r, &stored);
    let bytes = stored.head().len() as u64 + stored.length();
    let has_trailers = has_trailers(&stored);
    let in_file = if stored.length() >= FILE_LEAST && leaves_from_file(r) {
        stored.body_in_file(&case.zone.path_of(&case.key))
    } else {
        None
    };
    let mut body = in_file.unwrap_or_else(|| stored.into_body());
    let trailers = if has_trailers { trailers::cut(&mut body) } else { Some(Vec::new()) };
    let (Some(length), Some(trailers)) = (length, trailers) else {
        r.log(Level::Crit, format_args!("cache file \"{}\" contains invalid header", case.path()));
        case.status = Status::Miss;
        r.cache = Some(case);
        return None;
    };
    case.answer = Use::Cached;
    case.bytes = bytes;
    r.cache = Some(case);
    if let Some(outcome) = heading.accel_redirect(r) {
        return Some(outcome);
    }
    heading.copy_head(r, length);
    if heading.settings.pass_trailers {
        trailers.iter().for_each(|(name, value)| r.response.trailers.push(name, value));
        r.response.expect_trailers |= !trailers.is_empty() && r.stream().is_some();
    }
    r.upstream_head.trailers = trailers;
    let chunk = match body {
        ::cache::Body::Shared(bytes) => {
            let end = bytes.len();
            Chunk::Shared { bytes, start: 0, end }
        }
        ::cache::Body::Read { buf, start } => Chunk::Buf { buf, start },
        ::cache::Body::File { file, offset, end } => Chunk::File { file: Arc::new(file), offset, end },
    };
    Some(Outcome::send(Body::One(chunk)))
}

/// Whether a body goes to its client in such a way that `sendfile` can take it, as far as is known by now.
pub(super) fn leaves_from_file(r: &Request) -> bool {
    matches!(r.client, Client::Connection) && !r.is_subrequest && r.sends_by_sendfile()
}

/// What the head of an entry in memory was found to be.
struct Parsed {
    head: ResponseHead,
    length: BodyLength,
}

fn has_trailers(stored: &Stored) -> bool {
    stored.head().first() == Some(&trailers::MARK)
}

fn without_mark(head: &[u8]) -> &[u8] {
    head.strip_prefix(&[trailers::MARK]).unwrap_or(head)
}

/// As [`load_head`]; the head of an entry in memory is parsed once.
fn recall_head(r: &mut Request, stored: &Stored) -> Option<BodyLength> {
    let length = (!has_trailers(stored)).then(|| stored.length());
    let Some(note) = stored.note() else { return load_head(r, stored.head(), length) };
    if let Some(parsed) = note.get().and_then(|parsed| parsed.downcast_ref::<Parsed>()) {
        r.upstream_head.trailers.clear();
        r.upstream_head.text.clear();
        r.upstream_head.text.extend_from_slice(without_mark(stored.head()));
        r.upstream_head.head.copy_from(&parsed.head);
        return Some(parsed.length);
    }
    let length = load_head(r, stored.head(), length)?;
    let _ = note.set(Box::new(Parsed { head: r.upstream_head.head.clone(), length }));
    Some(length)
}

/// Makes a head out of the cache the upstream's. `None` where it is none, or does not go with a body of `length`
/// bytes.
pub(super) fn load_head(r: &mut Request, head: &[u8], length: Option<u64>) -> Option<BodyLength> {
    let head = without_mark(head);
    r.upstream_head.clear();
    r.upstream_head.text.extend_from_slice(head);
    let parsed = r.upstream_head.head.parse(head, HEAD_MAX, MAX_FIELDS);
    if parsed.ok() != Some(Progress::Complete) {
        return None;
    }
    if r.upstream_head.head.status_line.of(head).ends_with(b" ") {
        // It came without a reason.
        r.upstream_head.head.status_line = base::Span::EMPTY;
    }
    let announced =
        r.upstream_head.head.fields.value(Known::ContentLength, head).and_then(proto::h1::content_length);
    let is_empty = length == Some(0);
    match (announced, length) {
        // An answer to HEAD, or one without a body.
        (Some(_), Some(0)) => Some(BodyLength::None),
        (Some(announced), Some(length)) if announced != length => None,
        (Some(announced), _) => Some(BodyLength::Known(announced)),
        (None, _) if is_empty && matches!(r.upstream_head.head.status, 204 | 304) => Some(BodyLength::None),
        (None, _) => Some(BodyLength::Open),
    }
}
