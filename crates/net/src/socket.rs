//! A connected socket, TCP or Unix, on this thread's event loop.
//!
//! It moves bytes as they are; what they mean, plain or TLS, is [`crate::Stream`]'s business.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::pin;
use std::task::{Context, Poll, ready};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Bytes that cost a task a share of its turn, where more wait behind them. With a turn's 128 shares a peer that sends
/// as fast as it is read keeps the thread for half a megabyte at a time.
const SHARE: usize = 4 << 10;

/// A connected, nonblocking stream socket.
pub(crate) struct Socket {
    io: AsyncFd<OwnedFd>,
    /// Bytes were seen but left in the socket, so no event will announce them again.
    left_unread: Cell<bool>,
    /// The last read took all that it might: more is likely to be there, and others must have their turn.
    was_full: Cell<bool>,
}

impl Socket {
    /// Registers a connected nonblocking socket with this thread's event loop.
    ///
    /// # Errors
    /// The error of the registration, such as a full descriptor table.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        #[expect(
            deprecated,
            reason = "its successor is unsafe; the socket is owned and stays open as long as it is watched"
        )]
        let io = AsyncFd::new(fd)?;
        Ok(Self { io, left_unread: Cell::new(false), was_full: Cell::new(false) })
    }

    /// Ready when a read would not block (or the peer has closed).
    ///
    /// # Errors
    /// Only when the event loop is shutting down.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What has been announced needs no waker. Behind a full read the task's share is asked for, as reading does.
        if self.left_unread.get() || (!self.was_full.get() && !self.is_quiet()) {
            return Poll::Ready(Ok(()));
        }
        self.io.poll_read_ready(cx).map_ok(drop)
    }

    /// Ready when the peer has shut down its side; bytes may still be unread.
    pub fn poll_peer_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Ok(mut guard) = ready!(self.io.poll_read_ready(cx)) else { return Poll::Ready(()) };
            if guard.ready().is_read_closed() {
                return Poll::Ready(());
            }
            // Readable with bytes that nobody wants now: whether the peer is still there must be asked.
            match os::io::peek(self.io.as_fd(), &mut [0]) {
                Ok(0) => return Poll::Ready(()),
                Ok(_) => {
                    self.left_unread.set(true);
                    guard.clear_ready();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Poll::Ready(()),
            }
        }
    }

    /// Whether nothing has arrived, as far as the event loop knows: neither bytes nor the end.
    pub fn is_quiet(&self) -> bool {
        !self.left_unread.get() && self.io.try_io(Interest::READABLE, |_| Ok(())).is_err()
    }

    /// Reads what has been announced and is less than `max`, without a waker and without a share of the task's
    /// budget: behind a short read nothing is left, so a task cannot stay here for long.
    fn recv_announced(&self, into: &mut Vec<u8>, max: usize) -> Option<io::Result<usize>> {
        let mut received = None;
        let done = self.io.try_io(Interest::READABLE, |fd| {
            let count = os::io::recv_append(fd.as_fd(), into, max)?;
            received = Some(count);
            // Read to its end, the socket has to be announced anew.
            if count > 0 && count < max { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        match (received, done) {
            (Some(count), _) => Some(Ok(count)),
            (None, Err(error)) if !is_transient(&error) => Some(Err(error)),
            _ => None,
        }
    }

    /// Reads at most `max` bytes behind the end of `into`; zero is the end of the stream.
    ///
    /// # Errors
    /// The error of `recv(2)`.
    pub fn poll_recv(&self, cx: &mut Context<'_>, into: &mut Vec<u8>, max: usize) -> Poll<io::Result<usize>> {
        if self.left_unread.take() {
            match os::io::recv_append(self.io.as_fd(), into, max) {
                Err(error) if is_transient(&error) => {}
                done => {
                    self.left_unread.set(done.as_ref().is_ok_and(|count| *count == max));
                    return Poll::Ready(done);
                }
            }
        }
        if !self.was_full.replace(false)
            && let Some(done) = self.recv_announced(into, max)
        {
            self.was_full.set(done.as_ref().is_ok_and(|count| *count == max));
            return Poll::Ready(done);
        }
        loop {
            let mut guard = ready!(self.io.poll_read_ready(cx))?;
            match os::io::recv_append(self.io.as_fd(), into, max) {
                Ok(count) => {
                    // A short read has emptied the socket: waiting needs no further call to find that out.
                    if count > 0 && count < max && !guard.ready().is_read_closed() {
                        guard.clear_ready();
                    }
                    self.was_full.set(count == max);
                    if count == max {
                        charge(cx, count);
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Runs a system call that writes; waits for room only after it was refused.
    ///
    /// # Errors
    /// The call's own error.
    pub fn poll_write_with(
        &self,
        cx: &mut Context<'_>,
        mut call: impl FnMut(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        match call(self.io.as_fd()) {
            Err(error) if is_transient(&error) => {}
            done => return Poll::Ready(done),
        }
        loop {
            let mut guard = ready!(self.io.poll_write_ready(cx))?;
            match call(self.io.as_fd()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return Poll::Ready(done),
            }
        }
    }

    /// Ready when a nonblocking connect has ended, with its error if it failed.
    pub fn poll_connected(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.io.poll_write_ready(cx)).map(drop)?;
        Poll::Ready(os::socket::take_error(self.io.as_fd())?.map_or(Ok(()), Err))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.as_fd()
    }
}

/// Takes from the task's turn what reading `count` bytes was worth, but for the share that every read costs.
fn charge(cx: &mut Context<'_>, count: usize) {
    for _ in 1..count / SHARE {
        if pin!(tokio::task::coop::consume_budget()).poll(cx).is_pending() {
            return;
        }
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    const PIECE: usize = 64 << 10;

    #[test]
    fn a_peer_with_much_to_say_gives_others_their_turn() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
        let (mut peer, ours) = UnixStream::pair().expect("a pair");
        ours.set_nonblocking(true).expect("a flag");
        let pieces = runtime.block_on(async {
            let socket = Socket::new(OwnedFd::from(ours)).expect("a registration");
            peer.write_all(&[b'x'; PIECE]).expect("room");
            poll_fn(|cx| socket.poll_readable(cx)).await.expect("bytes");
            let mut into = Vec::with_capacity(PIECE);
            // In one turn, with a peer that is as fast as we are.
            poll_fn(|cx| {
                let read = |_: &usize| {
                    into.clear();
                    let is_read = socket.poll_recv(cx, &mut into, PIECE).is_ready();
                    is_read && peer.write_all(&[b'x'; PIECE]).is_ok()
                };
                Poll::Ready((0..1000).take_while(read).count())
            })
            .await
        });
        let turn = 128 * SHARE / PIECE;
        assert!((turn..=turn + 2).contains(&pieces), "{pieces}");
    }
}
