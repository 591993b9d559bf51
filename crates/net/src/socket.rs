//! A connected socket, TCP or Unix, on this thread's event loop.
//!
//! It moves bytes as they are; what they mean, plain or TLS, is [`crate::Stream`]'s business.

use std::cell::{Cell, OnceCell};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll, ready};

use crate::Buf;
use crate::event_loop::poll_turn;
use crate::event_loop::watch::{Interest, Lent, Watch, watch};

/// Bytes that cost a task a share of its turn, where more wait behind them. With a turn's 128 shares a peer that sends
/// as fast as it is read keeps the thread for two megabytes at a time; with less, long bodies pay for their turns.
const SHARE: u64 = 16 << 10;

/// A connected, nonblocking stream socket.
///
/// The event loop watches it from the first time on that there was something to wait for. A connection whose bytes are
/// there when they are wanted is read, answered and closed without.
pub(crate) struct Socket {
    // Before the descriptor, which must be open as long as it is watched.
    watch: OnceCell<Watch<Lent>>,
    /// Where room for more is waited for, while `watch` does not tell of it. It has a descriptor of its own, which is closed
    /// first too.
    room: Cell<Option<Box<Watch<OwnedFd>>>>,
    fd: OwnedFd,
    kind: Kind,
    /// Bytes were seen but left in the socket, so no event will announce them again.
    left_unread: Cell<bool>,
    /// The last read took all that it might: more is likely to be there, and others must have their turn.
    was_full: Cell<bool>,
    end: Cell<End>,
}

/// What its end would be now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Nothing but that.
    Plain,
    /// The kernel keeps the last bytes back for those that were said to follow.
    KeepsBack,
    /// It goes on in another thread, so its end here is not the file's.
    Moved,
}

/// A call that takes so many bytes at most from a socket, and may put them behind the end of a vector.
trait Recv: Copy + Fn(BorrowedFd<'_>, &mut Vec<u8>, usize) -> io::Result<usize> {}

impl<F: Copy + Fn(BorrowedFd<'_>, &mut Vec<u8>, usize) -> io::Result<usize>> Recv for F {}

/// What is at the bottom of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// TCP. It tells of room only after there was none, so the event loop tells of bytes to read and of room to write.
    Tcp,
    /// TCP whose kernel spreads what is sent over time (see [`os::tcp::Congestion::is_paced`]).
    PacedTcp,
    /// A Unix socket. It tells of room each time that its peer has read anything, so that every message would wake its
    /// sender for nothing: the event loop tells of bytes to read.
    Unix,
}

impl Kind {
    fn interest(self) -> Interest {
        match self {
            Self::Tcp | Self::PacedTcp => Interest::Both,
            Self::Unix => Interest::Readable,
        }
    }
}

impl Socket {
    /// A connected nonblocking socket, for this thread's event loop.
    pub fn new(fd: OwnedFd, kind: Kind) -> Self {
        Self {
            watch: OnceCell::new(),
            room: Cell::default(),
            fd,
            kind,
            left_unread: Cell::new(false),
            was_full: Cell::new(false),
            end: Cell::new(End::Plain),
        }
    }

    /// Tells that the kernel paces it, where it is TCP.
    pub fn set_paced(&mut self) {
        if self.kind == Kind::Tcp {
            self.kind = Kind::PacedTcp;
        }
    }

    /// Whether the kernel paces it.
    pub fn is_paced(&self) -> bool {
        self.kind == Kind::PacedTcp
    }

    /// Has the next read try the socket before it waits: bytes may be there already.
    pub fn expect_bytes(&self) {
        self.left_unread.set(true);
    }

    /// Whether the event loop watches it.
    pub fn is_watched(&self) -> bool {
        self.watch.get().is_some()
    }

    /// The socket as the event loop watches it, from now on at the latest.
    ///
    /// # Errors
    /// The error of the registration, such as that there are too many.
    fn watched(&self) -> io::Result<&Watch<Lent>> {
        match self.watch.get() {
            Some(watch) => Ok(watch),
            None => self.begin_watch(),
        }
    }

    #[cold]
    fn begin_watch(&self) -> io::Result<&Watch<Lent>> {
        let watch = watch(Lent::new(self.fd.as_fd()), self.kind.interest())?;
        Ok(self.watch.get_or_init(|| watch))
    }

    /// The socket on this thread's event loop, which it was not made on.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn move_here(&self) -> io::Result<Self> {
        let here = Self::new(self.fd.try_clone()?, self.kind);
        here.end.set(self.end.replace(End::Moved));
        Ok(here)
    }

    /// Ready when a read would not block (or the peer has closed).
    ///
    /// # Errors
    /// Where the event loop cannot watch it, such as that there are too many.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.left_unread.get() {
            return Poll::Ready(Ok(()));
        }
        let Some(watch) = self.watch.get() else { return self.poll_readable_anew(cx) };
        // What has been announced needs no waker. Behind a full read the task's share is asked for, as reading does.
        if watch.is_readable() && !self.was_full.get() {
            return Poll::Ready(Ok(()));
        }
        watch.poll_readable(cx).map(Ok)
    }

    #[cold]
    fn poll_readable_anew(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.begin_watch()?.poll_readable(cx).map(Ok)
    }

    /// Ready when the peer has shut down its side; bytes may still be unread.
    pub fn poll_peer_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        let Ok(watched) = self.watched() else { return Poll::Ready(()) };
        ready!(watched.poll_readable(cx));
        self.look_at_peer(watched, cx)
    }

    /// Finds out what was told, until there is nothing more.
    #[cold]
    fn look_at_peer(&self, watched: &Watch<Lent>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if watched.is_read_closed() {
                return Poll::Ready(());
            }
            // Readable with bytes that nobody wants now: whether the peer is still there must be asked.
            match os::io::peek(self.fd.as_fd(), &mut [0]) {
                Ok(0) => return Poll::Ready(()),
                Ok(_) => {
                    self.left_unread.set(true);
                    watched.clear_readable();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => watched.clear_readable(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Poll::Ready(()),
            }
            ready!(watched.poll_readable(cx));
        }
    }

    /// Whether nothing has arrived, as far as the event loop knows: neither bytes nor the end.
    pub fn is_quiet(&self) -> bool {
        !self.left_unread.get() && !self.watch.get().is_some_and(Watch::is_readable)
    }

    /// The watch, where it told of bytes or of the end, and nothing says that there is more than one read takes.
    #[inline]
    fn announced(&self) -> Option<&Watch<Lent>> {
        if self.left_unread.get() || self.was_full.get() {
            return None;
        }
        self.watch.get().filter(|watch| watch.is_readable())
    }

    /// Reads at most `max` bytes behind the end of `into`; zero is the end of the stream.
    ///
    /// # Errors
    /// The error of `recv(2)`.
    pub fn poll_recv(&self, cx: &mut Context<'_>, into: &mut Vec<u8>, max: usize) -> Poll<io::Result<usize>> {
        self.poll_recv_by(os::io::recv_append, cx, into, max)
    }

    /// Takes at most `max` bytes that nobody wants; zero is the end of the stream.
    ///
    /// # Errors
    /// The error of `recv(2)`.
    pub fn poll_discard(&self, cx: &mut Context<'_>, max: usize) -> Poll<io::Result<usize>> {
        self.poll_recv_by(os::io::discard, cx, &mut Buf::with_capacity(max), max)
    }

    #[inline]
    fn poll_recv_by(
        &self,
        call: impl Recv,
        cx: &mut Context<'_>,
        into: &mut Vec<u8>,
        max: usize,
    ) -> Poll<io::Result<usize>> {
        // What has been announced needs no waker and no share of the task's turn: behind a short read nothing is left, so a
        // task cannot stay here for long.
        if let Some(watch) = self.announced() {
            return match call(self.fd.as_fd(), into, max) {
                Ok(count) => {
                    if count == max {
                        self.was_full.set(true);
                    } else if count > 0 {
                        // Read to its end, the socket has to be announced anew.
                        watch.clear_readable();
                    }
                    Poll::Ready(Ok(count))
                }
                Err(error) => self.poll_recv_after(error, call, cx, into, max),
            };
        }
        self.poll_recv_unannounced(call, cx, into, max)
    }

    /// Goes on where what was announced is not there.
    #[cold]
    fn poll_recv_after(
        &self,
        error: io::Error,
        call: impl Recv,
        cx: &mut Context<'_>,
        into: &mut Vec<u8>,
        max: usize,
    ) -> Poll<io::Result<usize>> {
        if !is_transient(&error) {
            return Poll::Ready(Err(error));
        }
        if error.kind() == io::ErrorKind::WouldBlock {
            self.watch.get().into_iter().for_each(Watch::clear_readable);
        }
        self.poll_recv_unannounced(call, cx, into, max)
    }

    #[cold]
    fn poll_recv_unannounced(
        &self,
        call: impl Recv,
        cx: &mut Context<'_>,
        into: &mut Vec<u8>,
        max: usize,
    ) -> Poll<io::Result<usize>> {
        if self.left_unread.take() {
            match call(self.fd.as_fd(), into, max) {
                Err(error) if is_transient(&error) => {}
                done => {
                    self.left_unread.set(done.as_ref().is_ok_and(|count| *count == max));
                    return Poll::Ready(done);
                }
            }
        }
        self.was_full.set(false);
        let watched = self.watched()?;
        loop {
            ready!(watched.poll_readable(cx));
            match call(self.fd.as_fd(), into, max) {
                Ok(count) => {
                    // A short read has emptied the socket: waiting needs no further call to find that out.
                    if count > 0 && count < max {
                        watched.clear_readable();
                    }
                    self.was_full.set(count == max);
                    if count == max {
                        // But for the share that every read costs.
                        charge(cx, (count as u64).saturating_sub(SHARE));
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => watched.clear_readable(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Takes one datagram. A short one says nothing of whether there are more, so only the kernel's word ends it.
    ///
    /// # Errors
    /// Those of `recv(2)`.
    pub fn poll_recv_datagram(
        &self,
        cx: &mut Context<'_>,
        into: &mut Vec<u8>,
        max: usize,
    ) -> Poll<io::Result<usize>> {
        let watched = self.watched()?;
        while watched.poll_readable(cx).is_ready() {
            match os::io::recv_append(self.fd.as_fd(), into, max) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => watched.clear_readable(),
                done => return Poll::Ready(done),
            }
        }
        Poll::Pending
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
        self.end.set(End::Plain);
        match call(self.fd.as_fd()) {
            Ok(sent) => Poll::Ready(Ok(sent)),
            Err(error) => self.poll_write_after(error, cx, call),
        }
    }

    #[cold]
    fn poll_write_after(
        &self,
        error: io::Error,
        cx: &mut Context<'_>,
        call: impl FnMut(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if is_transient(&error) { self.poll_room_with(cx, call) } else { Poll::Ready(Err(error)) }
    }

    /// Sends bytes that others follow, or the end: they may leave together.
    ///
    /// # Errors
    /// The error of `send(2)`.
    pub fn poll_send_more(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let sent = self.poll_write_with(cx, |fd| os::io::send_more(fd, bytes));
        if matches!(sent, Poll::Ready(Ok(_))) {
            self.end.set(End::KeepsBack);
        }
        sent
    }

    /// Ready when a nonblocking connect has ended, with its error if it failed.
    pub fn poll_connected(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_room_with(cx, |fd| os::socket::take_error(fd)?.map_or(Ok(0), Err)).map_ok(drop)
    }

    /// Waits for room, and then runs a call that needs it.
    fn poll_room_with(
        &self,
        cx: &mut Context<'_>,
        mut call: impl FnMut(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        match self.kind {
            Kind::Tcp | Kind::PacedTcp => poll_room(self.watched()?, cx, || call(self.fd.as_fd())),
            Kind::Unix => {
                let room = match self.room.take() {
                    Some(room) => room,
                    None => Box::new(watch(self.fd.try_clone()?, Interest::Writable)?),
                };
                let done = poll_room(&room, cx, || call(self.fd.as_fd()));
                if done.is_pending() {
                    self.room.set(Some(room));
                }
                done
            }
        }
    }
}

impl Drop for Socket {
    /// Closed with bytes of the peer's unread, a socket is reset and what it keeps back is lost.
    #[inline]
    fn drop(&mut self) {
        if self.end.get() == End::KeepsBack {
            let _ = os::io::shutdown(self.fd.as_fd(), std::net::Shutdown::Write);
        }
        if let Some(watch) = self.watch.get()
            && self.end.get() != End::Moved
        {
            watch.end_by_close();
        }
    }
}

/// Waits until the event loop tells of room, and then runs a call that needs it.
fn poll_room<T: AsRawFd>(
    watched: &Watch<T>,
    cx: &mut Context<'_>,
    mut call: impl FnMut() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(watched.poll_writable(cx));
        match call() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => watched.clear_writable(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return Poll::Ready(done),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Takes from the task's turn what reading `count` bytes was worth, or work that takes as long. Whoever has used up its
/// turn waits at its next read, until others have had theirs.
pub fn charge(cx: &mut Context<'_>, count: u64) {
    for _ in 0..count / SHARE {
        if poll_turn(cx).is_pending() {
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
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::event_loop::block_on;

    const PIECE: usize = 64 << 10;

    #[test]
    fn room_is_waited_for_where_there_is_none() {
        let (mut peer, ours) = UnixStream::pair().expect("a pair");
        ours.set_nonblocking(true).expect("a flag");
        let write = |fd: BorrowedFd<'_>| os::io::send(fd, &[b'x'; PIECE]);
        block_on(async {
            let socket = Socket::new(OwnedFd::from(ours), Kind::Unix);
            for _ in 0..3 {
                let mut waiting = 0;
                let fill = |cx: &mut Context<'_>| {
                    while let Poll::Ready(sent) = socket.poll_write_with(cx, write) {
                        waiting += sent.expect("a peer that listens");
                    }
                    Poll::Ready(())
                };
                poll_fn(fill).await;
                // The peer reads once this task waits.
                let reader =
                    std::thread::spawn(move || peer.read_exact(&mut vec![0; waiting]).map(|()| peer));
                let sent = poll_fn(|cx| socket.poll_write_with(cx, write)).await.expect("room");
                peer = reader.join().expect("no panic").expect("bytes");
                peer.read_exact(&mut vec![0; sent]).expect("bytes");
            }
        });
    }

    #[test]
    fn what_is_never_waited_for_is_never_watched() {
        let (mut peer, ours) = UnixStream::pair().expect("a pair");
        ours.set_nonblocking(true).expect("a flag");
        peer.write_all(b"ask").expect("room");
        block_on(async {
            let socket = Socket::new(OwnedFd::from(ours), Kind::Unix);
            socket.expect_bytes();
            let mut into = Vec::new();
            poll_fn(|cx| socket.poll_readable(cx)).await.expect("bytes");
            assert_eq!(poll_fn(|cx| socket.poll_recv(cx, &mut into, PIECE)).await.expect("bytes"), 3);
            let send = |fd: BorrowedFd<'_>| os::io::send(fd, b"told");
            assert_eq!(poll_fn(|cx| socket.poll_write_with(cx, send)).await.expect("room"), 4);
            assert!(!socket.is_watched());
            // What comes while it is not watched is not lost, neither bytes nor the end.
            peer.read_exact(&mut [0; 4]).expect("bytes");
            peer.write_all(b"more").expect("room");
            drop(peer);
            poll_fn(|cx| socket.poll_peer_closed(cx)).await;
            assert!(socket.is_watched());
            assert_eq!(poll_fn(|cx| socket.poll_recv(cx, &mut into, PIECE)).await.expect("bytes"), 4);
            assert_eq!(poll_fn(|cx| socket.poll_recv(cx, &mut into, PIECE)).await.expect("the end"), 0);
            assert_eq!(into, b"askmore");
        });
    }

    #[test]
    fn a_peer_with_much_to_say_gives_others_their_turn() {
        let (mut peer, ours) = UnixStream::pair().expect("a pair");
        ours.set_nonblocking(true).expect("a flag");
        let pieces = block_on(async {
            let socket = Socket::new(OwnedFd::from(ours), Kind::Unix);
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
        let turn = 128 * SHARE as usize / PIECE;
        assert!((turn..=turn + 2).contains(&pieces), "{pieces}");
    }
}
