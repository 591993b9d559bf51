//! An answer out of the cache (`ngx_http_upstream_cache_send`).

use std::sync::Arc;

use ::cache::{Body, Stored};
use os::errlog::Level;
use proto::h1::{Known, Progress};

use super::{Case, Status, Use, trailers};
use crate::chunk::Chunk;
use crate::output;
use crate::phases::{self, Outcome};
use crate::relay::codec::BodyLength;
use crate::relay::exchange::MAX_FIELDS;
use crate::relay::head::Heading;
use crate::request::Request;

/// Longest head of an entry, bytes.
const HEAD_MAX: usize = 1 << 20;

/// Sends an entry. `None`: it is of no use after all, and the upstream is to be asked.
pub(super) async fn send(
    r: &mut Request,
    heading: Heading<'_>,
    mut case: Box<Case>,
    stored: Stored,
) -> Option<Outcome> {
    let has_trailers = stored.head().first() == Some(&trailers::MARK);
    let length = load_head(r, stored.head(), (!has_trailers).then(|| stored.length()));
    let bytes = stored.head().len() as u64 + stored.length();
    let meta = stored.meta().clone();
    let mut body = stored.into_body();
    let trailers = if has_trailers { trailers::cut(&mut body) } else { Some(Vec::new()) };
    let (Some(length), Some(trailers)) = (length, trailers) else {
        r.log(Level::Crit, format_args!("cache file \"{}\" contains invalid header", super::path(&case)));
        case.status = Status::Miss;
        r.cache = Some(case);
        return None;
    };
    case.answer = Use::Cached;
    case.bytes = bytes;
    case.meta = meta;
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
    let body = match body {
        Body::Shared(bytes) => {
            let end = bytes.len();
            Chunk::Shared { bytes, start: 0, end }
        }
        Body::Read { buf, start } => Chunk::Buf { buf, start },
        Body::File { file, offset, end } => Chunk::File { file: Arc::new(file), offset, end },
    };
    Some(output::send(r, phases::Body::One(body)).await)
}

/// Makes a head out of the cache the upstream's. `None` where it is none, or does not go with a body of `length`
/// bytes.
pub(super) fn load_head(r: &mut Request, head: &[u8], length: Option<u64>) -> Option<BodyLength> {
    let head = head.strip_prefix(&[trailers::MARK]).unwrap_or(head);
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
