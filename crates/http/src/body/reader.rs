//! The rest of a body on its connection or stream, and how it is decoded.
//!
//! With a known length nothing behind the body is read; of a chunked one what came behind it is given back.

use std::task::{Context, Poll, ready};

use net::timer::Pause;
use net::{Buf, Deadline, Stream};
use proto::h1::{ChunkLimits, ChunkStep, ChunkedDecoder, Framing, Trailers};

use super::{BodyError, READ_SIZE};
use crate::server::h2;

/// Bytes between the data of chunks that are read in one go, as others wait meanwhile.
const FRAMING_MOST: usize = 2 << 10;
/// What such a byte costs, in bytes that are only read.
const FRAMING: u64 = 512;
/// Milliseconds of wait behind a piece of more framing than data, as no application sends it.
const PAUSE_MS: u64 = 1;
/// Where the rest of a body comes from and how it is delimited.
#[derive(Debug, Default)]
pub struct BodyReader {
    left: u64,
    decoder: Option<Box<ChunkedDecoder>>,
    /// Bytes that were received and not yet decoded.
    pending: Buf,
    at: usize,
    /// Bytes that were decoded and handed back.
    pub(super) ahead: Buf,
    is_open: bool,
    /// It comes on a stream, and how long it is shows at its end.
    is_unmeasured: bool,
    /// Bytes decoded so far.
    pub decoded: u64,
    /// Most bytes of a chunked body; zero: any number.
    pub(super) limit: u64,
    /// There was much between the data of the last piece.
    is_dear: bool,
    /// There was more than data: nothing is taken before this is over.
    pause: Pause,
}

impl BodyReader {
    /// Begins a body; `pending` is what came with the head.
    #[must_use]
    pub fn new(framing: Framing, pending: Buf) -> Self {
        let (left, decoder, is_open) = match framing {
            Framing::None => (0, None, false),
            Framing::Length(length) => (length, None, length > 0),
            Framing::Chunked => {
                (0, Some(Box::new(ChunkedDecoder::new(Trailers::Discard, ChunkLimits::default()))), true)
            }
        };
        Self { left, decoder, pending, is_open, ..Self::default() }
    }

    /// Makes ready for another body.
    #[inline]
    pub(crate) fn reset(&mut self) {
        let is_pristine = !self.is_open
            && self.decoded == 0
            && self.pending.capacity() == 0
            && self.ahead.capacity() == 0
            && self.decoder.is_none()
            && !self.is_unmeasured;
        if !is_pristine {
            *self = Self::default();
        }
    }

    /// Whether bytes of the body are still to be read.
    #[inline]
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Whether chunks that nobody has read are broken as far as they have come. What is good of them is kept.
    pub(crate) fn is_broken(&mut self) -> bool {
        if self.decoder.is_none()
            || self.is_spent()
            || !self.ahead.is_empty()
            || self.at >= self.pending.len()
        {
            return false;
        }
        let mut ahead = Buf::with_capacity(self.pending.len());
        let broken = loop {
            match self.decode(&mut ahead, READ_SIZE) {
                Ok(1..) if self.is_open => {}
                Ok(_) => break false,
                Err(error) => break matches!(error, BodyError::Invalid),
            }
        };
        self.decoded = ahead.len() as u64;
        self.ahead = ahead;
        broken
    }

    /// Takes what was read before anybody asked for it.
    #[must_use]
    pub fn take_ahead(&mut self) -> Buf {
        std::mem::replace(&mut self.ahead, Buf::empty())
    }

    /// Whether bytes of the body were handed out for good.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.decoded > self.ahead.len() as u64
    }

    /// Whether the body comes without its length: in chunks, or on a stream.
    #[must_use]
    pub fn is_chunked(&self) -> bool {
        self.decoder.is_some() || self.is_unmeasured
    }

    /// Begins a body that comes as frames of a stream, with its length where that was declared.
    #[must_use]
    pub fn of_stream(length: Option<u64>, is_open: bool) -> Self {
        Self {
            left: length.unwrap_or(0),
            is_unmeasured: length.is_none() && is_open,
            is_open,
            ..Self::default()
        }
    }

    /// As [`Self::poll_read`], from a stream.
    pub(super) fn poll_stream(
        &mut self,
        cx: &mut Context<'_>,
        stream: &h2::Stream,
        deadline: &Deadline,
        out: &mut Vec<u8>,
        max: usize,
    ) -> Poll<Result<usize, BodyError>> {
        if !self.ahead.is_empty() || !self.is_open {
            let count = self.ahead.len().min(max);
            out.extend(self.ahead.drain(..count));
            return Poll::Ready(Ok(count));
        }
        if stream.is_gone() {
            return Poll::Ready(Err(BodyError::Closed));
        }
        // Nothing is handed on of a body that is known to be wrong.
        let available = stream.available() as u64;
        let so_far = self.decoded + available;
        if self.is_unmeasured {
            if self.limit > 0 && so_far > self.limit {
                return Poll::Ready(Err(BodyError::StreamTooLarge(so_far)));
            }
        } else if available > self.left {
            return Poll::Ready(Err(BodyError::MoreThanDeclared));
        } else if available < self.left && stream.is_ended() {
            return Poll::Ready(Err(BodyError::LessThanDeclared(so_far, self.decoded + self.left)));
        }
        let count = stream.take(out, max);
        if count > 0 {
            self.decoded += count as u64;
            self.left = self.left.saturating_sub(count as u64);
            self.is_open = !(stream.is_ended() && stream.available() == 0);
            return Poll::Ready(Ok(count));
        }
        if stream.is_ended() {
            self.is_open = false;
            return Poll::Ready(Ok(0));
        }
        stream.watch(cx);
        deadline.poll_over(cx).map(|()| Err(BodyError::TimedOut))
    }

    /// Bytes that came in behind the body: the next request's.
    #[must_use]
    pub fn take_rest(&mut self) -> Buf {
        let mut rest = std::mem::take(&mut self.pending);
        if self.at > 0 {
            let used = self.at.min(rest.len());
            rest.drain(..used);
            self.at = 0;
        }
        rest
    }

    /// Appends up to `max` bytes of the body to `out`; zero is its end.
    ///
    /// # Errors
    /// [`BodyError`].
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        stream: &Stream,
        deadline: &Deadline,
        out: &mut Vec<u8>,
        max: usize,
    ) -> Poll<Result<usize, BodyError>> {
        if !self.ahead.is_empty() {
            let count = self.ahead.len().min(max);
            out.extend(self.ahead.drain(..count));
            return Poll::Ready(Ok(count));
        }
        loop {
            if !self.is_open {
                return Poll::Ready(Ok(0));
            }
            ready!(self.pause.poll_over(cx));
            if self.is_dear {
                ready!(net::poll_turn(cx));
            }
            let from = self.at;
            let count = self.decode(out, max)?;
            let framing = self.at.saturating_sub(from + count);
            self.is_dear = framing > FRAMING_MOST;
            if self.is_dear && framing > count {
                self.pause.begin(PAUSE_MS);
            }
            net::charge(cx, framing as u64 * FRAMING);
            if count > 0 {
                self.decoded += count as u64;
                return Poll::Ready(Ok(count));
            }
            if !self.is_open {
                return Poll::Ready(Ok(0));
            }
            ready!(self.poll_fill(cx, stream, deadline))?;
        }
    }

    /// Decodes from what is pending.
    fn decode(&mut self, out: &mut Vec<u8>, max: usize) -> Result<usize, BodyError> {
        let Some(decoder) = &mut self.decoder else {
            let here = self.pending.get(self.at..).unwrap_or_default();
            let count = here.len().min(max).min(usize::try_from(self.left).unwrap_or(usize::MAX));
            out.extend_from_slice(&here[..count]);
            self.at += count;
            self.left -= count as u64;
            self.is_open = self.left > 0;
            return Ok(count);
        };
        let (from, mut count) = (self.at, 0);
        while count < max && self.at - from <= count + FRAMING_MOST {
            let here = self.pending.get(self.at..).unwrap_or_default();
            match decoder.decode(here).map_err(|_| BodyError::Invalid)? {
                ChunkStep::Data(range) => {
                    let (so_far, chunk) =
                        (self.decoded + count as u64, range.len() as u64 + decoder.left_in_chunk());
                    if self.limit > 0 && so_far + chunk > self.limit {
                        return Err(BodyError::TooLarge(so_far, chunk));
                    }
                    out.extend_from_slice(here.get(range.clone()).unwrap_or_default());
                    count += range.len();
                    self.at += range.end;
                }
                ChunkStep::NeedMore => {
                    self.at = self.pending.len();
                    break;
                }
                ChunkStep::Done(used) => {
                    self.at += used;
                    self.is_open = false;
                    break;
                }
            }
        }
        Ok(count)
    }

    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        stream: &Stream,
        deadline: &Deadline,
    ) -> Poll<Result<(), BodyError>> {
        if stream.poll_readable(cx).is_pending() {
            return deadline.poll_over(cx).map(|()| Err(BodyError::TimedOut));
        }
        if self.pending.capacity() < READ_SIZE {
            self.pending = Buf::with_capacity(READ_SIZE);
        }
        self.pending.clear();
        self.at = 0;
        // With a known length nothing behind the body is read, so the next request stays in the socket.
        let max = match &self.decoder {
            Some(_) => READ_SIZE,
            None => READ_SIZE.min(usize::try_from(self.left).unwrap_or(usize::MAX)),
        };
        match stream.poll_recv(cx, &mut self.pending, max) {
            Poll::Pending => deadline.poll_over(cx).map(|()| Err(BodyError::TimedOut)),
            Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(Err(BodyError::Closed)),
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(())),
        }
    }
}
