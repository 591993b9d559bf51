//! HTTP/1 towards upstreams: status line and fields, then a body by length, in chunks or until the end
//! (`ngx_http_proxy_module.c`).

use net::Buf;
use os::errlog::Level;
use proto::h1::{
    ChunkLimits, ChunkStep, ChunkedDecoder, Field, FramingError, Known, Method, Persistence, Progress,
    ResponseError, ResponseFraming, Trailers, Version,
};

use super::RelaySettings;
use super::cgi::log_too_much;
use super::codec::{BodyLength, Closing, Codec, Decoded, Extra, HeadStep, Plain};
use super::exchange::{MAX_FIELDS, READING};
use super::settings::next;
use crate::chunk::{Chunk, Queue};
use crate::output;
use crate::request::Request;

/// HTTP/1 at work on one connection.
#[derive(Debug, Default)]
pub struct Http1 {
    body: Body,
    extra: Extra,
    /// Bytes of early hints so far.
    hinted: usize,
    /// Interim answers so far.
    interim: u32,
}

/// Interim answers in front of one that counts: more than an upstream that reports its progress sends.
const MAX_INTERIM: u32 = 1000;

/// The status of early hints (RFC 8297).
const EARLY_HINTS: u16 = 103;

impl Http1 {
    /// `early_hints`: an interim answer of the upstream goes to the client as it is, but for what is never passed
    /// on (`ngx_http_upstream_process_early_hints`).
    fn pass_hints(&mut self, r: &mut Request, text: &[u8], settings: &RelaySettings) {
        let head = std::mem::take(&mut r.upstream_head.head);
        self.hinted += head.length;
        if self.hinted > settings.buffer_size {
            r.log(Level::Info, format_args!("upstream sent too big early hints while {READING}"));
        } else {
            let passed = |field: &&Field| {
                // What frames or ends a message belongs to one hop.
                let is_own =
                    matches!(field.known, Known::ContentLength | Known::TransferEncoding | Known::Connection);
                !is_own && !settings.hidden.contains_field(field, text)
            };
            let fields = head.fields.iter().filter(passed);
            output::send_early_hints(r, fields.map(|field| (field.name.of(text), field.value.of(text))));
        }
        r.upstream_head.head = head;
    }
}

#[derive(Debug)]
enum Body {
    Plain(Plain),
    Chunked(Box<ChunkedDecoder>),
}

impl Default for Body {
    fn default() -> Self {
        Self::Plain(Plain::Nothing)
    }
}

impl Codec for Http1 {
    /// Parses what is there; interim answers (1xx but 101) are cut off.
    fn head(&mut self, r: &mut Request, buf: &mut Buf, settings: &RelaySettings) -> Result<HeadStep, u32> {
        loop {
            match r.upstream_head.head.parse(buf, settings.buffer_size, MAX_FIELDS) {
                Ok(Progress::Complete) => {
                    let head = &mut r.upstream_head.head;
                    if !(100..200).contains(&head.status) || head.status == 101 {
                        return Ok(HeadStep::Complete { text: 0, body: head.length });
                    }
                    self.interim += 1;
                    if self.interim > MAX_INTERIM {
                        r.log(
                            Level::Error,
                            format_args!("upstream sent too many interim responses while {READING}"),
                        );
                        return Err(next::INVALID_HEADER);
                    }
                    let (length, is_hint) = (head.length, head.status == EARLY_HINTS);
                    if is_hint && !r.location().core.early_hints.is_empty() {
                        self.pass_hints(r, buf, settings);
                    }
                    buf.drain(..length);
                    r.upstream_head.head.reset();
                }
                Ok(Progress::Partial) => return Ok(HeadStep::Partial),
                Err(ResponseError::NoStatusLine) => {
                    r.log(
                        Level::Error,
                        format_args!("upstream sent no valid HTTP/1.0 header while {READING}"),
                    );
                    if self.interim > 0 {
                        // It can speak HTTP/1.1, so this is no HTTP/0.9.
                        return Err(next::INVALID_HEADER);
                    }
                    // As nginx: all that comes is the body of a 200.
                    r.upstream_head.head.reset();
                    r.upstream_head.head.status = 200;
                    r.upstream_head.head.version = Version::HTTP_09;
                    // The client gets it as it came, without a head.
                    r.line.version = Version::HTTP_09;
                    return Ok(HeadStep::Complete { text: 0, body: 0 });
                }
                Err(error) => {
                    log_head_error(r, buf, error);
                    return Err(next::INVALID_HEADER);
                }
            }
        }
    }

    fn begin(
        &mut self,
        r: &Request,
        method: Method,
        settings: &RelaySettings,
    ) -> Result<BodyLength, FramingError> {
        let framing = proto::h1::response_framing(&r.upstream_head.head, &r.upstream_head.text, method)?;
        self.body = match framing {
            ResponseFraming::Chunked => {
                let trailers = if settings.pass_trailers { Trailers::Keep } else { Trailers::Discard };
                let limits = ChunkLimits { trailers: settings.buffer_size, ..ChunkLimits::default() };
                Body::Chunked(Box::new(ChunkedDecoder::new(trailers, limits)))
            }
            _ => Body::Plain(Plain::of(framing.into())),
        };
        Ok(framing.into())
    }

    fn take_whole(&mut self, rest: &[u8]) -> Option<usize> {
        match &mut self.body {
            Body::Plain(body) => body.take_whole(rest),
            Body::Chunked(_) => None,
        }
    }

    fn decode(&mut self, r: &mut Request, mut buf: Buf, start: usize, part: &mut Queue) -> Decoded {
        let decoded = match &mut self.body {
            Body::Plain(body) => {
                let (decoded, extra) = body.take(buf, start, part);
                self.extra = extra;
                decoded
            }
            Body::Chunked(decoder) => match unchunk(decoder, &mut buf, start) {
                Ok(Unchunked { start, decoded, extra }) => {
                    self.extra = extra;
                    part.push(Chunk::Buf { buf, start });
                    if decoded == Decoded::End {
                        keep_trailers(r, decoder);
                    }
                    decoded
                }
                Err(()) => {
                    r.log(
                        Level::Error,
                        format_args!("upstream sent invalid chunked response while reading upstream"),
                    );
                    Decoded::Broken
                }
            },
        };
        if self.extra == Extra::Bytes && !matches!(self.body, Body::Plain(Plain::Nothing)) {
            log_too_much(r);
        }
        decoded
    }

    fn closing(&self) -> Closing {
        match self.body {
            Body::Plain(Plain::UntilClose) => Closing::Complete,
            _ => Closing::Premature,
        }
    }

    fn may_keep(&self, r: &Request) -> bool {
        let head = &r.upstream_head;
        self.extra == Extra::None
            && !matches!(self.body, Body::Plain(Plain::UntilClose))
            && proto::h1::response_persistence(&head.head, &head.text) == Persistence::KeepAlive
    }

    fn may_keep_unread(&self, r: &Request, rest: &[u8]) -> bool {
        rest.is_empty()
            && matches!(self.body, Body::Plain(Plain::Nothing | Plain::Length(0)))
            && self.may_keep(r)
    }

    /// A chunk (RFC 9112, 7.1).
    fn frame(&self, piece: &[u8], out: &mut Vec<u8>) {
        if piece.is_empty() {
            out.extend_from_slice(proto::h1::LAST_CHUNK);
            return;
        }
        out.extend_from_slice(proto::h1::write_chunk_header(piece.len() as u64, &mut [0; 18]));
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
}

/// Logs why a head is of no use, for every protocol whose heads consist of fields.
pub(super) fn log_head_error(r: &Request, buf: &[u8], error: ResponseError) {
    if error != ResponseError::InvalidHeader {
        r.log(Level::Error, format_args!("{error} while {READING}"));
        return;
    }
    let culprit = r.upstream_head.head.culprit;
    let wrong = buf.get(culprit.end as usize).copied().unwrap_or(b'\n');
    let culprit = String::from_utf8_lossy(culprit.of(buf));
    r.log(Level::Error, format_args!("{error}: \"{culprit}\\x{wrong:02x}...\" while {READING}"));
}

fn keep_trailers(r: &mut Request, decoder: &ChunkedDecoder) {
    let (fields, bytes) = decoder.trailers();
    for field in fields {
        let (name, value) = (field.name.of(bytes), field.value.of(bytes));
        r.upstream_head.trailers.push((name.to_vec(), value.to_vec()));
        r.response.trailers.push(name, value);
    }
}

struct Unchunked {
    start: usize,
    decoded: Decoded,
    extra: Extra,
}

/// Decodes chunks in place: the data moves together, so that one slice remains.
fn unchunk(decoder: &mut ChunkedDecoder, buf: &mut Buf, start: usize) -> Result<Unchunked, ()> {
    let mut at = start;
    let mut data: Option<(usize, usize)> = None;
    let mut decoded = Decoded::More;
    let mut extra = Extra::None;
    while at < buf.len() {
        match decoder.decode(&buf[at..]).map_err(|_| ())? {
            ChunkStep::Data(range) => {
                let (from, to) = (at + range.start, at + range.end);
                data = Some(match data {
                    None => (from, to),
                    Some((first, end)) => {
                        buf.copy_within(from..to, end);
                        (first, end + (to - from))
                    }
                });
                at = to;
            }
            ChunkStep::NeedMore => break,
            ChunkStep::Done(used) => {
                if at + used < buf.len() {
                    extra = Extra::Bytes;
                }
                decoded = Decoded::End;
                break;
            }
        }
    }
    if decoder.is_done() {
        decoded = Decoded::End;
    }
    let (first, end) = data.unwrap_or((buf.len(), buf.len()));
    buf.truncate(end);
    Ok(Unchunked { start: first, decoded, extra })
}
