//! A connection to a client or an upstream: a socket, and the TLS session on it where there is one.
//!
//! Who reads and writes need not know which it is. A plain connection pays one look at an empty pointer.

use std::cell::OnceCell;
use std::fs::File;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll, Waker};

use crate::Deadline;
use crate::socket::{Kind, Socket};
use crate::tls::Session;

/// A connected, nonblocking stream socket, plain or under TLS.
pub struct Stream {
    socket: Socket,
    session: OnceCell<Box<Session>>,
}

impl Stream {
    /// A connected nonblocking TCP socket, for this thread's event loop.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Self {
        Self { socket: Socket::new(fd, Kind::Tcp), session: OnceCell::new() }
    }

    /// As [`Self::new`], for a Unix socket.
    #[must_use]
    pub fn local(fd: OwnedFd) -> Self {
        Self { socket: Socket::new(fd, Kind::Unix), session: OnceCell::new() }
    }

    /// Has the first read try the socket before it waits, as the bytes of a client mostly are there when its connection
    /// is accepted.
    #[must_use]
    pub fn expect_bytes(self) -> Self {
        self.socket.expect_bytes();
        self
    }

    /// Tells that the kernel spreads what is sent over time (see [`os::tcp::Congestion::is_paced`]).
    #[must_use]
    pub fn paced(mut self) -> Self {
        self.socket.set_paced();
        self
    }

    /// Whether the kernel spreads what is sent over time.
    #[inline]
    #[must_use]
    pub fn is_paced(&self) -> bool {
        self.socket.is_paced()
    }

    /// The TLS session; none on a plain connection.
    #[inline]
    #[must_use]
    pub fn tls(&self) -> Option<&Session> {
        self.session.get().map(|session| &**session)
    }

    /// Puts everything from now on under TLS; the first session that is set stays.
    pub fn secure(&self, session: Session) {
        let _ = self.session.set(Box::new(session));
    }

    /// Ready when a read would not block (or the peer has closed).
    ///
    /// # Errors
    /// Where the event loop cannot watch it, such as that there are too many.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.tls() {
            None => self.socket.poll_readable(cx),
            Some(session) => session.poll_readable(&self.socket, cx),
        }
    }

    /// Whether the event loop watches the socket, as it does from the first wait on.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.socket.is_watched()
    }

    /// Ready when the peer has shut down its side; bytes may still be unread.
    pub fn poll_peer_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.socket.poll_peer_closed(cx)
    }

    /// Whether nothing has arrived that a reader would see: neither bytes nor the end.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        match self.tls() {
            None => self.socket.is_quiet(),
            // Tickets for later sessions come unasked and mean nothing to a reader.
            Some(session) => {
                session.poll_readable(&self.socket, &mut Context::from_waker(Waker::noop())).is_pending()
            }
        }
    }

    /// Reads at most `max` bytes behind the end of `into`; zero is the end of the stream.
    ///
    /// # Errors
    /// The error of `recv(2)`, or what is wrong with the peer's TLS (see [`crate::tls::Error`]).
    pub fn poll_recv(&self, cx: &mut Context<'_>, into: &mut Vec<u8>, max: usize) -> Poll<io::Result<usize>> {
        match self.tls() {
            None => self.socket.poll_recv(cx, into, max),
            Some(session) => session.poll_recv(&self.socket, cx, into, max),
        }
    }

    /// Takes one datagram, where the other end is one.
    ///
    /// # Errors
    /// Those of `recv(2)`, such as that nobody listens there.
    pub fn poll_recv_datagram(
        &self,
        cx: &mut Context<'_>,
        into: &mut Vec<u8>,
        max: usize,
    ) -> Poll<io::Result<usize>> {
        self.socket.poll_recv_datagram(cx, into, max)
    }

    /// Waits until there is something to read, at most until `deadline`.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] when the deadline came first.
    pub async fn readable(&self, deadline: &Deadline) -> io::Result<()> {
        poll_fn(|cx| in_time(self.poll_readable(cx), deadline, cx)).await
    }

    /// Reads at most `max` bytes behind the end of `into`, waiting at most until `deadline`.
    ///
    /// # Errors
    /// As [`Self::poll_recv`], or [`io::ErrorKind::TimedOut`].
    pub async fn recv(&self, into: &mut Vec<u8>, max: usize, deadline: &Deadline) -> io::Result<usize> {
        poll_fn(|cx| in_time(self.poll_recv(cx, into, max), deadline, cx)).await
    }

    /// Waits until there is something on the wire, whatever it means, at most until `deadline`.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] when the deadline came first.
    pub async fn arrived(&self, deadline: &Deadline) -> io::Result<()> {
        poll_fn(|cx| in_time(self.socket.poll_readable(cx), deadline, cx)).await
    }

    /// Takes at most `max` bytes off the wire that nobody wants, whatever they mean; zero is the end of the stream, and
    /// `None` that there is nothing now.
    ///
    /// # Errors
    /// The error of `recv(2)`.
    pub fn discard(&self, max: usize) -> io::Result<Option<usize>> {
        match self.socket.poll_discard(&mut Context::from_waker(Waker::noop()), max) {
            Poll::Ready(result) => result.map(Some),
            Poll::Pending => Ok(None),
        }
    }

    /// Reads without waiting: `None` when there is nothing now.
    ///
    /// # Errors
    /// As [`Self::poll_recv`].
    pub fn try_recv(&self, into: &mut Vec<u8>, max: usize) -> io::Result<Option<usize>> {
        match self.poll_recv(&mut Context::from_waker(Waker::noop()), into, max) {
            Poll::Ready(result) => result.map(Some),
            Poll::Pending => Ok(None),
        }
    }

    /// Writes some of `bytes`. Under TLS a call that was pending is to be repeated with the same bytes, as they
    /// may be on their way already.
    ///
    /// # Errors
    /// The error of `send(2)`.
    pub fn poll_send(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.tls() {
            None => self.socket.poll_write_with(cx, |fd| os::io::send(fd, bytes)),
            Some(session) => session.poll_send(&self.socket, cx, &[IoSlice::new(bytes)]),
        }
    }

    /// Writes bytes past the session: an alert before there is one.
    pub(crate) fn poll_send_plain(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.socket.poll_write_with(cx, |fd| os::io::send(fd, bytes))
    }

    /// As [`Self::poll_send`], for bytes that others follow at once and may share a packet with.
    ///
    /// # Errors
    /// As [`Self::poll_send`].
    pub fn poll_send_more(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.tls() {
            None => self.socket.poll_send_more(cx, bytes),
            Some(session) => session.poll_send_more(&self.socket, cx, bytes),
        }
    }

    /// Writes some of several slices in one call.
    ///
    /// # Errors
    /// As [`Self::poll_send`].
    pub fn poll_send_vectored(
        &self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.tls() {
            None => self.socket.poll_write_with(cx, |fd| os::io::send_vectored(fd, slices)),
            Some(session) => session.poll_send(&self.socket, cx, slices),
        }
    }

    /// Writes some of the `count` bytes of a file from `offset`: by `sendfile(2)`, under TLS through a buffer.
    /// Zero says that the file has become shorter.
    ///
    /// # Errors
    /// The error of the call, or of reading the file.
    pub fn poll_send_file(
        &self,
        cx: &mut Context<'_>,
        file: &File,
        offset: u64,
        count: usize,
    ) -> Poll<io::Result<usize>> {
        match self.tls() {
            None => self.socket.poll_write_with(cx, |fd| {
                let mut at = offset;
                os::io::sendfile(fd, file.as_fd(), &mut at, count)
            }),
            Some(session) => session.poll_send_file(&self.socket, cx, file, offset, count),
        }
    }

    /// Writes all of `bytes`, each wait at most until `deadline`.
    ///
    /// # Errors
    /// The error of `send(2)`, or [`io::ErrorKind::TimedOut`].
    pub async fn send_all(&self, mut bytes: &[u8], deadline: &Deadline) -> io::Result<()> {
        while !bytes.is_empty() {
            let sent = poll_fn(|cx| in_time(self.poll_send(cx, bytes), deadline, cx)).await?;
            bytes = bytes.get(sent..).unwrap_or_default();
        }
        Ok(())
    }

    /// Waits until a nonblocking connect has ended.
    ///
    /// # Errors
    /// The error of the connect, or [`io::ErrorKind::TimedOut`].
    pub async fn connected(&self, deadline: &Deadline) -> io::Result<()> {
        poll_fn(|cx| in_time(self.socket.poll_connected(cx), deadline, cx)).await
    }

    /// Waits until the TLS handshake has ended; at once on a plain connection.
    ///
    /// # Errors
    /// The peer's fault, the socket's, or [`io::ErrorKind::TimedOut`].
    pub async fn handshake(&self, deadline: &Deadline) -> io::Result<()> {
        let Some(session) = self.tls() else { return Ok(()) };
        poll_fn(|cx| in_time(session.poll_handshake(&self.socket, cx), deadline, cx)).await
    }

    /// Says that nothing more will be sent (a TLS peer is told so in its own words too).
    ///
    /// # Errors
    /// The error of `shutdown(2)`.
    pub fn shut_down_sending(&self) -> io::Result<()> {
        if let Some(session) = self.tls() {
            session.say_farewell(&self.socket);
        }
        os::io::shutdown(self.socket.as_fd(), std::net::Shutdown::Write)
    }

    /// Moves the connection to this thread's event loop.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn move_here(mut self) -> io::Result<Self> {
        let session = std::mem::take(&mut self.session);
        Ok(Self { socket: self.socket.move_here()?, session })
    }
}

impl Drop for Stream {
    /// A TLS peer must be able to tell the end from an attacker's cut.
    fn drop(&mut self) {
        if let Some(session) = self.session.get() {
            session.say_farewell(&self.socket);
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What came of a poll, or the error of a deadline that is over.
fn in_time<T>(polled: Poll<io::Result<T>>, deadline: &Deadline, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
    match polled {
        Poll::Ready(result) => Poll::Ready(result),
        Poll::Pending => deadline.poll_over(cx).map(|()| Err(io::ErrorKind::TimedOut.into())),
    }
}
