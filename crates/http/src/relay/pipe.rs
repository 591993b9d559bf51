//! One direction of bytes that pass as they are, between a client and a peer: of a tunnel, and of a session of `stream`.
//!
//! What has not been taken yet is all that is held, and nothing more is read until it was: a slow end holds the other
//! back.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use net::{Buf, Deadline};

use crate::server::h2;

/// Least bytes in flight in each direction.
pub const PIECE: usize = 16 << 10;
/// Pieces before others have their turn.
const MAX_PIECES: u32 = 16;

/// One end of a tunnel.
pub enum End<'a> {
    /// A connection of its own.
    Socket(&'a net::Stream),
    /// A stream of HTTP/2, and most bytes of a frame.
    Stream(&'a Rc<h2::Stream>, usize),
}

impl End<'_> {
    /// Fills `out` with up to `max` bytes that have come; zero is the end.
    fn poll_take(&self, cx: &mut Context<'_>, out: &mut Buf, max: usize) -> Poll<io::Result<usize>> {
        match self {
            Self::Socket(socket) => {
                ready!(socket.poll_readable(cx))?;
                *out = Buf::with_capacity(max);
                let polled = socket.poll_recv(cx, out, max);
                if polled.is_pending() {
                    *out = Buf::empty();
                }
                polled
            }
            Self::Stream(stream, _) => stream.poll_take(cx, out, max),
        }
    }

    /// Hands over some of `bytes`.
    fn poll_give(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Socket(socket) => socket.poll_send(cx, bytes),
            Self::Stream(stream, most) => h2::poll_send_bytes(stream, bytes, *most, cx),
        }
    }

    /// Says that nothing more comes.
    fn poll_finish(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Socket(socket) => Poll::Ready(socket.shut_down_sending()),
            Self::Stream(stream, _) => h2::poll_send_end(stream, cx),
        }
    }
}

/// How far a direction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Nothing more comes; what came before is on its way.
    Ending,
    Ended,
}

/// One direction.
pub struct Pipe {
    buf: Buf,
    at: usize,
    piece: usize,
    state: State,
    /// Bytes that were handed over.
    pub moved: u64,
    /// Bytes that were read.
    pub taken: u64,
    /// Since when the taking end takes nothing.
    stuck: Option<Deadline>,
    patience_ms: Option<u64>,
    pace: Option<Pace>,
}

impl Pipe {
    /// A direction in which `buf` from `at` on is the first to be handed over. The taking end may take nothing for
    /// `patience_ms` at a time.
    #[must_use]
    pub fn new(buf: Buf, at: usize, piece: usize, patience_ms: Option<u64>) -> Self {
        let taken = buf.len().saturating_sub(at) as u64;
        Self { buf, at, piece, state: State::Open, moved: 0, taken, stuck: None, patience_ms, pace: None }
    }

    /// Reads no more than so many bytes a second; zero: as many as there are.
    #[must_use]
    pub fn paced(mut self, rate: u64) -> Self {
        self.pace = (rate > 0).then(|| Pace::new(rate));
        self
    }

    /// Whether reading waits for the pace, and not for bytes.
    #[must_use]
    pub fn is_held_back(&self) -> bool {
        self.pace.as_ref().is_some_and(|pace| pace.is_waiting)
    }

    /// Moves bytes as far as both ends let it; ready when the direction has ended.
    ///
    /// # Errors
    /// Those of either end, and that the taking end has taken nothing for too long.
    pub fn poll(&mut self, cx: &mut Context<'_>, from: &End<'_>, to: &End<'_>) -> Poll<io::Result<()>> {
        for _ in 0..MAX_PIECES {
            while self.at < self.buf.len() {
                let given = to.poll_give(cx, self.buf.get(self.at..).unwrap_or_default());
                let count = ready!(self.in_time(given, cx))?;
                self.at += count;
                self.moved += count as u64;
            }
            // An idle tunnel holds no buffer.
            self.buf = Buf::empty();
            self.at = 0;
            match self.state {
                State::Open => {
                    let most = match &mut self.pace {
                        None => self.piece,
                        Some(pace) => ready!(pace.poll_most(cx, self.taken)).min(self.piece),
                    };
                    let count = ready!(from.poll_take(cx, &mut self.buf, most))?;
                    self.taken += count as u64;
                    if let Some(pace) = &mut self.pace {
                        pace.took(count);
                    }
                    if count == 0 {
                        self.state = State::Ending;
                    }
                }
                State::Ending => {
                    let finished = to.poll_finish(cx);
                    ready!(self.in_time(finished, cx))?;
                    self.state = State::Ended;
                }
                State::Ended => return Poll::Ready(Ok(())),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// The taking end may take its time, but not for ever.
    fn in_time<T>(&mut self, polled: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stuck = None;
            return polled;
        }
        let Some(patience_ms) = self.patience_ms else { return Poll::Pending };
        let stuck = self.stuck.get_or_insert_with(|| {
            let deadline = Deadline::new();
            deadline.set_after(patience_ms);
            deadline
        });
        stuck.poll_over(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// So many bytes a second, as nginx counts them: a second's worth at once, and after each piece the time that it is
/// worth.
pub struct Pace {
    rate: u64,
    started_sec: i64,
    is_waiting: bool,
    until: Deadline,
}

impl Pace {
    /// A pace of so many bytes a second, from now on.
    #[must_use]
    pub fn new(rate: u64) -> Self {
        let started_sec = net::timer::wall_clock().0;
        Self { rate, started_sec, is_waiting: false, until: Deadline::new() }
    }

    /// How many bytes may be read now, after so many.
    pub fn poll_most(&mut self, cx: &mut Context<'_>, taken: u64) -> Poll<usize> {
        loop {
            if self.is_waiting {
                ready!(self.until.poll_over(cx));
                self.until.clear();
                self.is_waiting = false;
            }
            let seconds = net::timer::wall_clock().0.saturating_sub(self.started_sec).saturating_add(1);
            let due = self.rate.saturating_mul(u64::try_from(seconds).unwrap_or(0));
            if let Some(most) = due.checked_sub(taken).filter(|most| *most > 0) {
                return Poll::Ready(usize::try_from(most).unwrap_or(usize::MAX));
            }
            self.wait(wait_ms(taken.saturating_sub(due), self.rate) + 1);
        }
    }

    /// Some were read.
    pub fn took(&mut self, count: usize) {
        let ms = wait_ms(count as u64, self.rate);
        if ms > 0 {
            self.wait(ms);
        }
    }

    /// Whether the next bytes are waited with.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    fn wait(&mut self, ms: u64) {
        self.until.set_after(ms);
        self.is_waiting = true;
    }
}

/// The time that so many bytes are worth.
fn wait_ms(bytes: u64, rate: u64) -> u64 {
    bytes.saturating_mul(1000).checked_div(rate).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    #[test]
    fn a_pace_gives_a_second_at_once() {
        let mut cx = Context::from_waker(Waker::noop());
        let mut pace = Pace::new(1000);
        assert_eq!(pace.poll_most(&mut cx, 0), Poll::Ready(1000));
        pace.took(0);
        assert!(!pace.is_waiting());
        pace.took(500);
        assert!(pace.is_waiting());
        assert_eq!(pace.poll_most(&mut cx, 500), Poll::Pending);
    }

    #[test]
    fn times_of_bytes() {
        assert_eq!(wait_ms(500, 1000), 500);
        assert_eq!(wait_ms(1, 2000), 0);
        assert_eq!(wait_ms(u64::MAX, 1), u64::MAX);
    }
}
