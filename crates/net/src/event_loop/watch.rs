//! Descriptors on this thread's event loop.
//!
//! The loop tells of a descriptor each time that something happens to it and not before; what it told is remembered until
//! somebody has found that it is no longer so.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};

use os::epoll::{Event, Events};

pub use os::epoll::Interest;

use super::home::Home;
use super::task::{poll_turn, wake_next_turn};

/// A descriptor of somebody who keeps it open as long as it is watched.
#[derive(Debug)]
pub struct Lent(RawFd);

impl Lent {
    /// Borrows it.
    #[must_use]
    pub fn new(fd: BorrowedFd<'_>) -> Self {
        Self(fd.as_raw_fd())
    }
}

impl AsRawFd for Lent {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

/// The name under which the bell of the loop is watched.
const BELL: u64 = u64::MAX;

/// Bytes, or the end of them.
const READABLE: u8 = 1;
/// Room.
const WRITABLE: u8 = 2;
/// The end of what the peer sends.
const READ_CLOSED: u8 = 4;

/// What is known of a descriptor.
struct Known {
    home: Arc<Home>,
    /// Its name on that loop: its place, and above it how often the place was used before.
    token: u64,
    /// Only the loop's own thread changes it, so plain loads and stores do.
    ready: AtomicU8,
}

impl Known {
    #[inline]
    fn has(&self, bits: u8) -> bool {
        self.ready.load(Relaxed) & bits != 0
    }

    #[inline]
    fn add(&self, bits: u8) {
        self.ready.store(self.ready.load(Relaxed) | bits, Relaxed);
    }

    #[inline]
    fn take(&self, bits: u8) {
        self.ready.store(self.ready.load(Relaxed) & !bits, Relaxed);
    }
}

fn bits_of(event: Event) -> u8 {
    let bit = |is_so: bool, bit: u8| if is_so { bit } else { 0 };
    bit(event.is_readable(), READABLE)
        | bit(event.is_writable(), WRITABLE)
        | bit(event.is_read_closed(), READ_CLOSED)
}

/// Who waits for one thing.
#[derive(Default)]
struct Waiter {
    /// Stays when it has been woken: mostly the same task waits again.
    waker: Cell<Option<Waker>>,
    is_waiting: Cell<bool>,
}

impl Waiter {
    fn wait(&self, waker: &Waker) {
        let known = self.waker.take().filter(|known| known.will_wake(waker));
        self.waker.set(Some(known.unwrap_or_else(|| waker.clone())));
        self.is_waiting.set(true);
    }

    fn wake(&self) {
        if self.is_waiting.replace(false)
            && let Some(waker) = self.waker.take()
        {
            waker.wake_by_ref();
            self.waker.set(Some(waker));
        }
    }
}

/// A descriptor and who waits for it.
struct Source {
    known: Arc<Known>,
    reader: Waiter,
    writer: Waiter,
}

impl Source {
    fn tell(&self, bits: u8) {
        self.known.add(bits);
        if bits & (READABLE | READ_CLOSED) != 0 {
            self.reader.wake();
        }
        if bits & WRITABLE != 0 {
            self.writer.wake();
        }
    }
}

/// All that a thread watches.
struct Sources {
    home: Arc<Home>,
    list: Vec<Option<Source>>,
    /// What was known of the last ones at places that nobody has.
    free: Vec<Arc<Known>>,
}

/// The place that a token names.
fn place_of(token: u64) -> usize {
    // Its lower half, which fits.
    (token & u64::from(u32::MAX)) as usize
}

impl Sources {
    fn enter(&mut self) -> Arc<Known> {
        let known = match self.free.pop() {
            Some(left) => self.renew(left),
            None => {
                self.list.push(None);
                self.know(self.list.len() as u64 - 1)
            }
        };
        if let Some(place) = self.list.get_mut(place_of(known.token)) {
            let known = Arc::clone(&known);
            *place = Some(Source { known, reader: Waiter::default(), writer: Waiter::default() });
        }
        known
    }

    fn know(&self, token: u64) -> Arc<Known> {
        Arc::new(Known { home: Arc::clone(&self.home), token, ready: AtomicU8::new(0) })
    }

    /// A place under another name: what the kernel still tells of the old one is nobody's.
    fn renew(&self, mut known: Arc<Known>) -> Arc<Known> {
        let token = known.token.wrapping_add(1 << 32);
        // Another thread may be about to drop the old one yet.
        let Some(own) = Arc::get_mut(&mut known) else { return self.know(token) };
        own.token = token;
        *own.ready.get_mut() = 0;
        known
    }

    /// Gives a place to others. Says who waited there.
    fn leave(&mut self, token: u64) -> Option<[Waiter; 2]> {
        let place = self.list.get_mut(place_of(token))?;
        let Source { known, reader, writer } = place.take_if(|source| source.known.token == token)?;
        self.free.push(known);
        Some([reader, writer])
    }

    #[inline]
    fn find(&self, token: u64) -> Option<&Source> {
        self.list.get(place_of(token))?.as_ref().filter(|source| source.known.token == token)
    }
}

thread_local! {
    // The loop empties it.
    static SOURCES: ManuallyDrop<RefCell<Option<Sources>>> = const { ManuallyDrop::new(RefCell::new(None)) };
}

/// Does something with what this thread watches, where `home` is its loop's.
fn at_home<T>(home: &Home, act: impl FnOnce(&Sources) -> T) -> Option<T> {
    SOURCES.with(|sources| {
        let sources = sources.borrow();
        sources.as_ref().filter(|sources| sources.home.id == home.id).map(act)
    })
}

/// Begins to watch on this thread.
///
/// # Errors
/// Those of `epoll_ctl(2)`; `AlreadyExists` where another loop is under way.
pub(super) fn open(home: &Arc<Home>) -> io::Result<()> {
    if SOURCES.with(|sources| sources.borrow().is_some()) {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    home.epoll.add(home.bell(), Interest::Readable, BELL)?;
    let none = Sources { home: Arc::clone(home), list: Vec::new(), free: Vec::new() };
    SOURCES.with(|sources| sources.replace(Some(none)));
    Ok(())
}

/// Watches nothing more.
pub(super) fn close() {
    drop(SOURCES.with(|sources| sources.take()));
}

/// Tells those who wait what has happened. That the bell was rung is seen by the news.
pub(super) fn tell(events: &Events) {
    SOURCES.with(|sources| {
        let sources = sources.borrow();
        let Some(sources) = sources.as_ref() else { return };
        for event in events.iter() {
            if let Some(source) = sources.find(event.token) {
                source.tell(bits_of(event));
            }
        }
    });
}

/// Forgets descriptors that other threads have closed.
pub(super) fn forget(tokens: &[u64]) {
    for token in tokens {
        let left = SOURCES.with(|sources| sources.borrow_mut().as_mut()?.leave(*token));
        drop(left);
    }
}

/// A descriptor that an event loop watches. It may go to another thread, where it can be looked at and dropped.
pub struct Watch<T: AsRawFd> {
    fd: T,
    known: Arc<Known>,
    is_ended_by_close: Cell<bool>,
}

/// Has this thread's event loop watch a descriptor. It must stay open as long as it is watched: `T` owns it, or is
/// [`Lent`].
///
/// # Errors
/// Those of `epoll_ctl(2)`, such as that there are too many; `NotConnected` on a thread without an event loop.
pub fn watch<T: AsRawFd>(fd: T, interest: Interest) -> io::Result<Watch<T>> {
    SOURCES.with(|sources| {
        let mut sources = sources.borrow_mut();
        let sources = sources.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        let known = sources.enter();
        if let Err(error) = known.home.epoll.add(fd.as_raw_fd(), interest, known.token) {
            sources.leave(known.token);
            return Err(error);
        }
        Ok(Watch { fd, known, is_ended_by_close: Cell::new(false) })
    })
}

impl<T: AsRawFd> Watch<T> {
    /// The descriptor.
    pub fn get_ref(&self) -> &T {
        &self.fd
    }

    /// Whether something can be read, as far as the loop knows: bytes, the end, an error.
    #[inline]
    #[must_use]
    pub fn is_readable(&self) -> bool {
        self.known.has(READABLE | READ_CLOSED)
    }

    /// Whether the peer sends nothing more; bytes may still be unread.
    #[inline]
    #[must_use]
    pub fn is_read_closed(&self) -> bool {
        self.known.has(READ_CLOSED)
    }

    /// All that was there has been read: the loop will tell of more. The end is never taken back.
    #[inline]
    pub fn clear_readable(&self) {
        self.known.take(READABLE);
    }

    /// There is no more room: the loop will tell of some.
    #[inline]
    pub fn clear_writable(&self) {
        self.known.take(WRITABLE);
    }

    /// Ready when something can be read; it costs a share of the task's turn then.
    pub fn poll_readable(&self, cx: &Context<'_>) -> Poll<()> {
        if self.is_readable() {
            return poll_turn(cx);
        }
        self.wait(cx, |source| &source.reader)
    }

    /// Ready when there is room; it costs a share of the task's turn then.
    pub fn poll_writable(&self, cx: &Context<'_>) -> Poll<()> {
        if self.known.has(WRITABLE) {
            return poll_turn(cx);
        }
        self.wait(cx, |source| &source.writer)
    }

    fn wait(&self, cx: &Context<'_>, waiter: impl FnOnce(&Source) -> &Waiter) -> Poll<()> {
        let wait =
            |sources: &Sources| sources.find(self.known.token).map(|source| waiter(source).wait(cx.waker()));
        if at_home(&self.known.home, wait).flatten().is_none() {
            // Nobody would tell this thread: it has to look by itself.
            wake_next_turn(cx.waker());
        }
        Poll::Pending
    }

    /// Waits until something can be read.
    pub async fn readable(&self) {
        poll_fn(|cx| self.poll_readable(cx)).await;
    }

    /// Tells that the descriptor is closed as soon as this is dropped, and is its file's only one: with it the kernel ends
    /// the watch by itself.
    pub fn end_by_close(&self) {
        self.is_ended_by_close.set(true);
    }
}

impl<T: AsRawFd> Drop for Watch<T> {
    fn drop(&mut self) {
        if !self.is_ended_by_close.get() {
            let _ = self.known.home.epoll.remove(self.fd.as_raw_fd());
        }
        if at_home(&self.known.home, |_| ()).is_none() {
            self.known.home.leave(self.known.token);
            return;
        }
        forget(&[self.known.token]);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::event_loop::{block_on, yield_now};

    fn pair() -> (UnixStream, UnixStream) {
        let (peer, ours) = UnixStream::pair().expect("a pair");
        ours.set_nonblocking(true).expect("a flag");
        (peer, ours)
    }

    /// How many descriptors this thread's loop watches.
    fn count() -> usize {
        SOURCES.with(|sources| {
            sources.borrow().as_ref().map_or(0, |sources| sources.list.iter().flatten().count())
        })
    }

    #[test]
    fn what_was_told_is_so_until_it_is_taken_back() {
        let (mut peer, ours) = pair();
        block_on(async {
            let watched = watch(Lent::new(ours.as_fd()), Interest::Readable).expect("a watch");
            yield_now().await;
            assert!(!watched.is_readable());
            peer.write_all(b"told").expect("room");
            watched.readable().await;
            assert!(watched.is_readable() && !watched.is_read_closed());
            watched.clear_readable();
            yield_now().await;
            assert!(!watched.is_readable());
            drop(peer);
            watched.readable().await;
            watched.clear_readable();
            assert!(watched.is_readable() && watched.is_read_closed());
        });
    }

    #[test]
    fn room_is_told_once_there_was_none() {
        let (mut peer, mut ours) = pair();
        block_on(async {
            let watched =
                watch(ours.try_clone().expect("a descriptor"), Interest::Writable).expect("a watch");
            poll_fn(|cx| watched.poll_writable(cx)).await;
            let mut sent = 0;
            while let Ok(count) = ours.write(&[0; 4096]) {
                sent += count;
            }
            watched.clear_writable();
            peer.read_exact(&mut vec![0; sent]).expect("bytes");
            poll_fn(|cx| watched.poll_writable(cx)).await;
        });
    }

    #[test]
    fn a_place_that_is_used_again_hears_nothing_of_its_last_user() {
        block_on(async {
            let (mut peer, ours) = pair();
            let first = watch(Lent::new(ours.as_fd()), Interest::Readable).expect("a watch");
            let token = first.known.token;
            // Told by the kernel, and not yet by the loop.
            peer.write_all(b"late").expect("room");
            first.end_by_close();
            drop((first, ours));
            let (_quiet, ours) = pair();
            let second = watch(Lent::new(ours.as_fd()), Interest::Readable).expect("a watch");
            assert_eq!((place_of(second.known.token), second.known.token == token), (place_of(token), false));
            yield_now().await;
            assert!(!second.is_readable());
            assert_eq!(count(), 1);
        });
    }

    #[test]
    fn another_thread_may_look_and_drop() {
        block_on(async {
            for dropped in 1..=2 * super::super::home::LEFT_MAX {
                let (mut peer, ours) = pair();
                let watched = watch(ours, Interest::Readable).expect("a watch");
                peer.write_all(b"x").expect("room");
                watched.readable().await;
                let there = std::thread::spawn(move || watched.is_readable());
                assert!(there.join().expect("no panic"));
                yield_now().await;
                assert!(count() <= 1, "{} watched of {dropped}", count());
            }
        });
    }

    #[test]
    fn without_a_loop_nothing_is_watched() {
        let (_peer, ours) = pair();
        let refused = watch(Lent::new(ours.as_fd()), Interest::Readable).err().map(|error| error.kind());
        assert_eq!(refused, Some(io::ErrorKind::NotConnected));
    }
}
