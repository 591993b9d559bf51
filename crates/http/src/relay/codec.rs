//! How an upstream protocol lies on the wire: the head of an answer, its body, and the frames of a request's body.
//!
//! One value serves one attempt at one peer. HTTP/1 is a variant of its own, so that the plain proxy path allocates
//! nothing for it; what other protocols do is asked for once per read, never per byte. Most have no say in how bytes are
//! read and written ([`Carrier`]).

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use net::{Buf, Deadline, Stream};
use proto::h1::{FramingError, Method, ResponseFraming};

use super::connect::Connected;
use super::http1::Http1;
use super::{Plan, RelaySettings};
use crate::body::BodyError;
use crate::chunk::{Chunk, Queue};
use crate::request::Request;

/// How far the head of an answer is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadStep {
    /// More must be read.
    Partial,
    /// `r.upstream_head.head` is complete.
    Complete {
        /// Where the text that its spans count from begins in the buffer; it is `head.length` bytes long.
        text: usize,
        /// Where the body begins in the buffer.
        body: usize,
    },
}

/// What the head says of the body's length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// The status or the method rules out a body.
    None,
    /// So many bytes.
    Known(u64),
    /// The protocol shows its end.
    Open,
}

/// How far the body is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// More must be read.
    More,
    /// The body is complete.
    End,
    /// The peer broke the protocol, as the error log says by now; what was decoded before counts.
    Broken,
}

/// What it means that the peer closed the connection in the middle of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// That is how this body ends.
    Complete,
    /// The body is cut off.
    Premature,
}

/// Who writes a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// The relay, as the plan says.
    Plan,
    /// The codec.
    Codec,
    /// Nobody: that the connection stands is an answer of this status.
    Answered(u16),
}

/// What reading came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// So many bytes came, whatever of them is left to be looked at.
    Bytes(usize),
    /// The peer closed the connection.
    Closed,
}

/// Why a request cannot be written on.
#[derive(Debug)]
pub enum SendError {
    /// The upstream's connection failed.
    Peer(io::Error),
    /// The client's body failed.
    Client(BodyError),
}

/// An upstream protocol at work on one connection.
pub trait Codec {
    /// Reads the head of the answer. `buf` holds all that has come; the codec may move bytes within it and drop
    /// what it has used, and fills in `r.upstream_head.head`.
    ///
    /// # Errors
    /// The condition of `next_upstream` ([`super::settings::next`]); the error log has the reason by then.
    fn head(&mut self, r: &mut Request, buf: &mut Buf, settings: &RelaySettings) -> Result<HeadStep, u32>;

    /// Begins the body behind a complete head. `method` is the one that the peer was asked with.
    ///
    /// # Errors
    /// A length that is said in two ways or cannot be read.
    fn begin(
        &mut self,
        r: &Request,
        method: Method,
        settings: &RelaySettings,
    ) -> Result<BodyLength, FramingError>;

    /// Takes all of a body behind its head, where it is there in one piece and nothing behind it: says how many of the
    /// bytes at the beginning of `rest` are body. Otherwise nothing has changed, and what is there is to be decoded.
    fn take_whole(&mut self, _rest: &[u8]) -> Option<usize> {
        None
    }

    /// Decodes what lies in `buf` from `start` and appends the body's bytes to `part`.
    fn decode(&mut self, r: &mut Request, buf: Buf, start: usize, part: &mut Queue) -> Decoded;

    /// The peer closed the connection before the body's end.
    fn closing(&self) -> Closing;

    /// Whether the connection may serve another request, asked after [`Decoded::End`].
    fn may_keep(&self, r: &Request) -> bool;

    /// As [`Self::may_keep`] where nobody wants the body: `rest` is what has come behind the head.
    fn may_keep_unread(&self, r: &Request, rest: &[u8]) -> bool;

    /// Appends a piece of the request's body in its frame; an empty one ends the body. Called where the plan says
    /// [`super::Framing::Pieces`].
    fn frame(&self, piece: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(piece);
    }
}

/// A codec that has a say in what else happens on its connection: it shares the connection, writes the request itself, or
/// reads what comes in its own way.
pub trait Carrier: Codec {
    /// What must agree besides the peer for a connection to be used again; `None` where nothing must.
    fn channel(&self) -> Option<Arc<str>> {
        None
    }

    /// Whether a connection may serve several requests at once.
    fn may_share(&self) -> bool {
        false
    }

    /// A connection stands. A codec that writes the request itself, from then on by [`Self::poll_send`], takes over
    /// from the plan what it needs.
    fn open(
        &mut self,
        _r: &Request,
        _conn: &mut Connected,
        _plan: &Plan,
        _settings: &RelaySettings,
    ) -> Opening {
        Opening::Plan
    }

    /// Writes what the codec has to write, whatever else is waited for; ready when there is nothing more to come.
    ///
    /// # Errors
    /// [`SendError`].
    fn poll_send(
        &mut self,
        _r: &mut Request,
        _stream: &Stream,
        _deadline: &Deadline,
        _cx: &mut Context<'_>,
    ) -> Poll<Result<(), SendError>> {
        Poll::Ready(Ok(()))
    }

    /// The connection goes to the pool: what the codec knows of it goes along.
    fn release(&mut self, _conn: &mut Connected) {}

    /// Ready when something has come of the answer.
    ///
    /// # Errors
    /// As [`Stream::poll_readable`].
    fn poll_readable(&mut self, stream: &Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        stream.poll_readable(cx)
    }

    /// Reads at most `max` bytes, behind the end of `buf` or for the codec itself to keep.
    ///
    /// # Errors
    /// As [`Stream::poll_recv`].
    fn poll_receive(
        &mut self,
        stream: &Stream,
        cx: &mut Context<'_>,
        buf: &mut Buf,
        max: usize,
    ) -> Poll<io::Result<Received>> {
        receive(stream, cx, buf, max)
    }
}

/// Reads what is there as it is.
#[inline]
fn receive(stream: &Stream, cx: &mut Context<'_>, buf: &mut Buf, max: usize) -> Poll<io::Result<Received>> {
    let count = ready!(stream.poll_recv(cx, buf, max))?;
    Poll::Ready(Ok(if count == 0 { Received::Closed } else { Received::Bytes(count) }))
}

/// The protocol of one attempt.
pub enum Wire {
    /// HTTP/1.
    Http1(Http1),
    /// Another protocol that decodes what comes, and leaves the connection to the relay.
    Plain(Box<dyn Codec>),
    /// One that does not.
    Own(Box<dyn Carrier>),
}

/// Calls a method of the codec, whichever it is.
macro_rules! each {
    ($wire:expr, $codec:ident => $call:expr) => {
        match $wire {
            Wire::Http1($codec) => $call,
            Wire::Plain($codec) => $call,
            Wire::Own($codec) => $call,
        }
    };
}

impl Default for Wire {
    fn default() -> Self {
        Self::Http1(Http1::default())
    }
}

impl Carrier for Wire {
    #[inline]
    fn channel(&self) -> Option<Arc<str>> {
        if let Self::Own(carrier) = self { carrier.channel() } else { None }
    }

    #[inline]
    fn may_share(&self) -> bool {
        if let Self::Own(carrier) = self { carrier.may_share() } else { false }
    }

    #[inline]
    fn open(&mut self, r: &Request, conn: &mut Connected, plan: &Plan, settings: &RelaySettings) -> Opening {
        if let Self::Own(carrier) = self { carrier.open(r, conn, plan, settings) } else { Opening::Plan }
    }

    #[inline]
    fn poll_send(
        &mut self,
        r: &mut Request,
        stream: &Stream,
        deadline: &Deadline,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SendError>> {
        match self {
            Self::Own(carrier) => carrier.poll_send(r, stream, deadline, cx),
            Self::Http1(_) | Self::Plain(_) => Poll::Ready(Ok(())),
        }
    }

    #[inline]
    fn release(&mut self, conn: &mut Connected) {
        if let Self::Own(carrier) = self {
            carrier.release(conn);
        }
    }

    #[inline]
    fn poll_readable(&mut self, stream: &Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Own(carrier) => carrier.poll_readable(stream, cx),
            Self::Http1(_) | Self::Plain(_) => stream.poll_readable(cx),
        }
    }

    #[inline]
    fn poll_receive(
        &mut self,
        stream: &Stream,
        cx: &mut Context<'_>,
        buf: &mut Buf,
        max: usize,
    ) -> Poll<io::Result<Received>> {
        match self {
            Self::Own(carrier) => carrier.poll_receive(stream, cx, buf, max),
            Self::Http1(_) | Self::Plain(_) => receive(stream, cx, buf, max),
        }
    }
}

impl Codec for Wire {
    #[inline]
    fn head(&mut self, r: &mut Request, buf: &mut Buf, settings: &RelaySettings) -> Result<HeadStep, u32> {
        each!(self, codec => codec.head(r, buf, settings))
    }

    #[inline]
    fn begin(
        &mut self,
        r: &Request,
        method: Method,
        settings: &RelaySettings,
    ) -> Result<BodyLength, FramingError> {
        each!(self, codec => codec.begin(r, method, settings))
    }

    #[inline]
    fn take_whole(&mut self, rest: &[u8]) -> Option<usize> {
        each!(self, codec => codec.take_whole(rest))
    }

    #[inline]
    fn decode(&mut self, r: &mut Request, buf: Buf, start: usize, part: &mut Queue) -> Decoded {
        each!(self, codec => codec.decode(r, buf, start, part))
    }

    #[inline]
    fn closing(&self) -> Closing {
        each!(self, codec => codec.closing())
    }

    #[inline]
    fn may_keep(&self, r: &Request) -> bool {
        each!(self, codec => codec.may_keep(r))
    }

    #[inline]
    fn may_keep_unread(&self, r: &Request, rest: &[u8]) -> bool {
        each!(self, codec => codec.may_keep_unread(r, rest))
    }

    #[inline]
    fn frame(&self, piece: &[u8], out: &mut Vec<u8>) {
        each!(self, codec => codec.frame(piece, out));
    }
}

/// A body that lies on the wire as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plain {
    /// There is none.
    #[default]
    Nothing,
    /// So many bytes are left.
    Length(u64),
    /// All until the connection's end.
    UntilClose,
}

impl Plain {
    /// The body of a length that the head told.
    #[must_use]
    pub fn of(length: BodyLength) -> Self {
        match length {
            BodyLength::None => Self::Nothing,
            BodyLength::Known(length) => Self::Length(length),
            BodyLength::Open => Self::UntilClose,
        }
    }

    /// Takes all of it, if it is exactly this long.
    pub fn take_whole(&mut self, rest: &[u8]) -> Option<usize> {
        match self {
            Self::Nothing if rest.is_empty() => {}
            Self::Length(left) if *left == rest.len() as u64 => *left = 0,
            _ => return None,
        }
        Some(rest.len())
    }

    /// Takes what lies in `buf` from `start`; says with the step whether bytes lie behind the end.
    pub fn take(&mut self, mut buf: Buf, start: usize, part: &mut Queue) -> (Decoded, Extra) {
        let here = buf.len().saturating_sub(start);
        let wanted = match self {
            Self::Nothing => 0,
            Self::Length(left) => usize::try_from(*left).unwrap_or(usize::MAX),
            Self::UntilClose => {
                part.push(Chunk::Buf { buf, start });
                return (Decoded::More, Extra::None);
            }
        };
        let extra = if here > wanted { Extra::Bytes } else { Extra::None };
        buf.truncate(start.saturating_add(wanted));
        let taken = here.min(wanted);
        part.push(Chunk::Buf { buf, start });
        if let Self::Length(left) = self {
            *left -= taken as u64;
        }
        (if wanted == taken { Decoded::End } else { Decoded::More }, extra)
    }
}

/// Whether bytes lie behind the end of a message: its connection cannot serve another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Extra {
    /// None.
    #[default]
    None,
    /// Some.
    Bytes,
}

impl From<ResponseFraming> for BodyLength {
    fn from(framing: ResponseFraming) -> Self {
        match framing {
            ResponseFraming::None => Self::None,
            ResponseFraming::Length(length) => Self::Known(length),
            ResponseFraming::Chunked | ResponseFraming::UntilClose => Self::Open,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_body_is_taken_whole_where_nothing_is_missing_or_behind_it() {
        let check = |mut body: Plain, rest: &str, taken, left| {
            assert_eq!((body.take_whole(rest.as_bytes()), body), (taken, left), "{rest}");
        };
        check(Plain::Nothing, "", Some(0), Plain::Nothing);
        check(Plain::Nothing, "x", None, Plain::Nothing);
        check(Plain::Length(3), "abc", Some(3), Plain::Length(0));
        check(Plain::Length(3), "ab", None, Plain::Length(3));
        check(Plain::Length(3), "abcd", None, Plain::Length(3));
        check(Plain::UntilClose, "abc", None, Plain::UntilClose);
    }

    #[test]
    fn plain_bodies_end_where_their_head_says() {
        let check = |mut body: Plain, bytes: &str, decoded, extra, left, passed: u64| {
            let mut buf = Buf::with_capacity(16);
            buf.extend_from_slice(b"##");
            buf.extend_from_slice(bytes.as_bytes());
            let mut part = Queue::default();
            assert_eq!(body.take(buf, 2, &mut part), (decoded, extra), "{body:?} {bytes}");
            assert_eq!((body, part.len()), (left, passed), "{bytes}");
        };
        check(Plain::Nothing, "", Decoded::End, Extra::None, Plain::Nothing, 0);
        check(Plain::Nothing, "x", Decoded::End, Extra::Bytes, Plain::Nothing, 0);
        check(Plain::Length(0), "", Decoded::End, Extra::None, Plain::Length(0), 0);
        check(Plain::Length(3), "ab", Decoded::More, Extra::None, Plain::Length(1), 2);
        check(Plain::Length(3), "abc", Decoded::End, Extra::None, Plain::Length(0), 3);
        check(Plain::Length(3), "abcd", Decoded::End, Extra::Bytes, Plain::Length(0), 3);
        check(Plain::Length(u64::MAX), "ab", Decoded::More, Extra::None, Plain::Length(u64::MAX - 2), 2);
        check(Plain::UntilClose, "ab", Decoded::More, Extra::None, Plain::UntilClose, 2);
    }
}
