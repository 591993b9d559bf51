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
use std::task::{Context, Poll};

use os::epoll::{Event, Events};

pub use os::epoll::Interest;

use super::alarm::Alarm;
use super::home::Home;
use super::task::{poll_turn, wake_next_turn};
use super::waiter::Waiter;

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
/// That of its alarm.
const ALARM: u64 = u64::MAX - 1;

/// Bytes, or the end of them.
const READABLE: u8 = 1;
/// Room.
const WRITABLE: u8 = 2;
/// The end of what the peer sends.
const READ_CLOSED: u8 = 4;

/// What is known of a descriptor. It stays with a place of its loop, and tells of one descriptor after the other there.
struct Known {
    home: Arc<Home>,
    place: u32,
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

    /// Has a task woken, once it has been told of what it waits for.
    #[inline]
    fn wait(self: &Arc<Self>, cx: &Context<'_>, side: Side) -> Poll<()> {
        let is_set = SOURCES.with(|sources| {
            let mut sources = sources.borrow_mut();
            sources.of(self).is_some_and(|source| source.wait(side).set_task(cx.waker()))
        });
        if is_set { Poll::Pending } else { self.wait_anew(cx, side) }
    }

    #[cold]
    fn wait_anew(self: &Arc<Self>, cx: &Context<'_>, side: Side) -> Poll<()> {
        let waiter = Waiter::of(cx.waker());
        let before = SOURCES.with(|sources| {
            let mut sources = sources.borrow_mut();
            sources.of(self).map(|source| std::mem::replace(source.wait(side), waiter))
        });
        // Without a place, nobody would tell this thread: it has to look by itself.
        before.map_or_else(|| wake_next_turn(cx.waker()), |_| Poll::Pending)
    }

    /// Gives the place back.
    #[inline]
    fn leave(self: &Arc<Self>) {
        let is_here = SOURCES.with(|sources| {
            let mut sources = sources.borrow_mut();
            let is_here = sources.of(self).is_some();
            if is_here {
                sources.leave(self.place);
            }
            is_here
        });
        if !is_here {
            self.leave_elsewhere();
        }
    }

    #[cold]
    fn leave_elsewhere(&self) {
        self.home.leave(self.place);
    }
}

fn bits_of(event: Event) -> u8 {
    let bit = |is_so: bool, bit: u8| if is_so { bit } else { 0 };
    bit(event.is_readable(), READABLE)
        | bit(event.is_writable(), WRITABLE)
        | bit(event.is_read_closed(), READ_CLOSED)
}

/// A place for a descriptor, and who waits for it.
struct Source {
    known: Arc<Known>,
    /// How often the place was used: what the kernel still tells of an earlier descriptor is nobody's.
    uses: u32,
    /// Those who are waiting: [`READABLE`], [`WRITABLE`].
    waiting: Cell<u8>,
    reader: Waiter,
    writer: Waiter,
}

impl Source {
    /// The name of its descriptor: the place, and above it how often that was used.
    fn token(&self) -> u64 {
        u64::from(self.uses) << 32 | u64::from(self.known.place)
    }

    /// Somebody waits: whoever is put into this place.
    #[inline]
    fn wait(&mut self, side: Side) -> &mut Waiter {
        let (waiter, bit) = match side {
            Side::Reader => (&mut self.reader, READABLE),
            Side::Writer => (&mut self.writer, WRITABLE),
        };
        self.waiting.set(self.waiting.get() | bit);
        waiter
    }

    fn tell(&self, bits: u8) {
        self.known.add(bits);
        // The end of what the peer sends is for readers.
        let told = if bits & READ_CLOSED == 0 { bits } else { bits | READABLE };
        let waiting = self.waiting.get();
        self.waiting.set(waiting & !told);
        if waiting & told & READABLE != 0 {
            self.reader.wake();
        }
        if waiting & told & WRITABLE != 0 {
            self.writer.wake();
        }
    }
}

/// What somebody waits for.
#[derive(Clone, Copy)]
enum Side {
    Reader,
    Writer,
}

/// All that a thread watches.
///
/// No waiter may be dropped while this is borrowed: with it may go a task, and with that other watches.
struct Sources {
    /// None without a loop.
    home: Option<Arc<Home>>,
    list: Vec<Source>,
    /// Places that nobody has.
    free: Vec<u32>,
}

impl Sources {
    const NONE: Self = Self { home: None, list: Vec::new(), free: Vec::new() };

    /// A place for one more descriptor; none without a loop.
    #[inline]
    fn enter(&mut self) -> Option<&Source> {
        let place = match self.free.pop() {
            Some(place) => place,
            None => self.add_place()?,
        };
        let source = self.list.get_mut(place as usize)?;
        source.uses = source.uses.wrapping_add(1);
        source.known.ready.store(0, Relaxed);
        Some(source)
    }

    #[cold]
    fn add_place(&mut self) -> Option<u32> {
        let home = Arc::clone(self.home.as_ref()?);
        let place = u32::try_from(self.list.len()).ok()?;
        let known = Arc::new(Known { home, place, ready: AtomicU8::new(0) });
        self.list.push(Source {
            known,
            uses: 0,
            waiting: Cell::new(0),
            reader: Waiter::Nobody,
            writer: Waiter::Nobody,
        });
        Some(place)
    }

    /// Gives a place to others.
    #[inline]
    fn leave(&mut self, place: u32) {
        if let Some(source) = self.list.get(place as usize) {
            source.waiting.set(0);
            self.free.push(place);
        }
    }

    /// The place of a watch, where it is of this thread.
    #[inline]
    fn of(&mut self, known: &Arc<Known>) -> Option<&mut Source> {
        self.list.get_mut(known.place as usize).filter(|source| Arc::ptr_eq(&source.known, known))
    }

    /// The place that the kernel names.
    #[inline]
    fn find(&self, token: u64) -> Option<&Source> {
        // Its halves, which fit.
        let (place, uses) = ((token & u64::from(u32::MAX)) as usize, (token >> 32) as u32);
        self.list.get(place).filter(|source| source.uses == uses)
    }
}

thread_local! {
    // The loop empties it.
    static SOURCES: ManuallyDrop<RefCell<Sources>> = const { ManuallyDrop::new(RefCell::new(Sources::NONE)) };
}

/// Begins to watch on this thread.
///
/// # Errors
/// Those of `epoll_ctl(2)`; `AlreadyExists` where another loop is under way.
pub(super) fn open(home: &Arc<Home>, alarm: &Alarm) -> io::Result<()> {
    if SOURCES.with(|sources| sources.borrow().home.is_some()) {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    home.epoll.add(home.bell(), Interest::Readable, BELL)?;
    home.epoll.add(alarm.as_raw_fd(), Interest::Readable, ALARM)?;
    SOURCES.with(|sources| sources.borrow_mut().home = Some(Arc::clone(home)));
    Ok(())
}

/// Watches nothing more.
pub(super) fn close() {
    drop(SOURCES.with(|sources| sources.replace(Sources::NONE)));
}

/// Tells those who wait what has happened. That the bell was rung is seen by the news.
pub(super) fn tell(events: &Events, alarm: &mut Alarm) {
    SOURCES.with(|sources| {
        let sources = sources.borrow();
        for event in events.iter() {
            if let Some(source) = sources.find(event.token) {
                source.tell(bits_of(event));
            } else if event.token == ALARM {
                alarm.has_rung();
            }
        }
    });
}

/// Forgets descriptors that other threads have closed.
pub(super) fn forget(places: &[u32]) {
    SOURCES.with(|sources| places.iter().for_each(|place| sources.borrow_mut().leave(*place)));
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
        let source = sources.enter().ok_or(io::ErrorKind::NotConnected)?;
        let (token, known) = (source.token(), Arc::clone(&source.known));
        if let Err(error) = known.home.epoll.add(fd.as_raw_fd(), interest, token) {
            sources.leave(known.place);
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
        self.known.wait(cx, Side::Reader)
    }

    /// Ready when there is room; it costs a share of the task's turn then.
    pub fn poll_writable(&self, cx: &Context<'_>) -> Poll<()> {
        if self.known.has(WRITABLE) {
            return poll_turn(cx);
        }
        self.known.wait(cx, Side::Writer)
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
        self.known.leave();
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
            let sources = sources.borrow();
            sources.list.len() - sources.free.len()
        })
    }

    /// The name under which the kernel tells of a descriptor.
    fn token<T: AsRawFd>(watch: &Watch<T>) -> u64 {
        SOURCES.with(|sources| sources.borrow_mut().of(&watch.known).expect("a place").token())
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
            let (place, name) = (first.known.place, token(&first));
            // Told by the kernel, and not yet by the loop.
            peer.write_all(b"late").expect("room");
            first.end_by_close();
            drop((first, ours));
            let (_quiet, ours) = pair();
            let second = watch(Lent::new(ours.as_fd()), Interest::Readable).expect("a watch");
            assert_eq!((second.known.place, token(&second) == name), (place, false));
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
