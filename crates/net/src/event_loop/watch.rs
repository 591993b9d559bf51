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

use os::readiness::{Event, Events};
use os::ring::{Lasting, NOBODY, Patience, Ring};

pub use os::readiness::Interest;

use super::alarm::Alarm;
use super::home::Home;
use super::submissions::{Subject, Submissions};
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
const BELL: u64 = NOBODY - 1;
/// That of its alarm.
const ALARM: u64 = NOBODY - 2;
/// That of the epoll set which stands beside a ring.
const SET: u64 = NOBODY - 3;

/// Events that one look at that set tells.
const SET_EVENTS: usize = 64;

/// Bytes, or the end of them.
const READABLE: u8 = 1;
/// Room.
const WRITABLE: u8 = 2;
/// The end of what the peer sends.
const READ_CLOSED: u8 = 4;
/// The ring has told what it watched once for: nothing more is told until what was there has been read.
const UNWATCHED: u8 = 8;

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

    /// Has the ring watch what it has told of once, now that somebody waits for more.
    #[cold]
    fn watch_on(self: &Arc<Self>) {
        SOURCES.with(|sources| {
            let mut sources = sources.borrow_mut();
            if sources.of(self).is_some() {
                self.take(UNWATCHED);
                sources.submit(self.place, Lasting::Always);
            }
        });
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
    /// How often the place was left: what the kernel still tells of an earlier descriptor is nobody's.
    generation: u32,
    subject: Subject,
    /// Those who are waiting: [`READABLE`], [`WRITABLE`].
    waiting: Cell<u8>,
    reader: Waiter,
    writer: Waiter,
}

impl Source {
    /// The name of its descriptor: the place, and above it how often that was left.
    fn token(&self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.known.place)
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
    /// What the ring is told, where the loop waits by one.
    submissions: Option<Box<Submissions>>,
}

/// The place that the kernel names.
#[inline]
fn find(list: &[Source], token: u64) -> Option<&Source> {
    // Its halves, which fit.
    let (place, generation) = ((token & u64::from(u32::MAX)) as usize, (token >> 32) as u32);
    list.get(place).filter(|source| source.generation == generation)
}

impl Sources {
    const NONE: Self = Self { home: None, list: Vec::new(), free: Vec::new(), submissions: None };

    /// A place for one more descriptor; none without a loop.
    #[inline]
    fn enter(&mut self, fd: RawFd, interest: Interest) -> Option<&Source> {
        let place = match self.free.pop() {
            Some(place) => place,
            None => self.add_place()?,
        };
        let source = self.list.get_mut(place as usize)?;
        source.subject = Subject::new(fd, interest);
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
            generation: 0,
            subject: Subject::new(-1, Interest::Readable),
            waiting: Cell::new(0),
            reader: Waiter::Nobody,
            writer: Waiter::Nobody,
        });
        Some(place)
    }

    /// Gives a place to others.
    #[inline]
    fn leave(&mut self, place: u32) {
        if let Some(source) = self.list.get_mut(place as usize) {
            if let Some(submissions) = &mut self.submissions {
                submissions.end(&source.subject, source.token());
            }
            source.generation = source.generation.wrapping_add(1);
            source.waiting.set(0);
            self.free.push(place);
        }
    }

    /// Has the ring watch a place from the next wait on.
    fn submit(&mut self, place: u32, lasting: Lasting) {
        if let (Some(source), Some(submissions)) = (self.list.get(place as usize), &mut self.submissions) {
            submissions.begin(&source.subject, lasting, source.token());
        }
    }

    fn wait(&mut self, events: &mut Events, patience: Patience) -> io::Result<()> {
        if let Some(submissions) = &mut self.submissions {
            return submissions.wait(|token| Some(&find(&self.list, token)?.subject), events, patience);
        }
        let most_ms = (patience == Patience::None).then_some(0);
        self.home.as_ref().map_or(Ok(()), |home| home.epoll.wait(events, most_ms))
    }

    /// Tells those who wait for what is in the set beside the ring.
    #[cold]
    fn tell_set(&self) {
        let Some(home) = &self.home else { return };
        let mut events = Events::with_capacity(SET_EVENTS);
        // The set rings once for all that it has.
        while home.epoll.wait(&mut events, Some(0)).is_ok() {
            for event in events.iter() {
                find(&self.list, event.token).into_iter().for_each(|source| source.tell(bits_of(event)));
            }
            if events.iter().count() < SET_EVENTS {
                return;
            }
        }
    }

    /// The ring watches a place no longer, having told of it.
    fn ended(&mut self, event: Event) {
        let Some(source) = find(&self.list, event.token) else {
            return self.submissions.iter_mut().for_each(|submissions| submissions.begin_own(event.token));
        };
        source.subject.has_ended();
        // Whoever reads says when there is more to be waited for; not so who also writes.
        if source.subject.interest == Interest::Readable && bits_of(event) != 0 {
            source.known.add(UNWATCHED);
        } else {
            self.submit(source.known.place, Lasting::Always);
        }
    }

    /// The place of a watch, where it is of this thread.
    #[inline]
    fn of(&mut self, known: &Arc<Known>) -> Option<&mut Source> {
        self.list.get_mut(known.place as usize).filter(|source| Arc::ptr_eq(&source.known, known))
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
pub(super) fn open(home: &Arc<Home>, alarm: &Alarm, ring: Option<Ring>) -> io::Result<()> {
    if SOURCES.with(|sources| sources.borrow().home.is_some()) {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let own = [(home.bell(), BELL), (alarm.as_raw_fd(), ALARM), (home.epoll.as_raw_fd(), SET)];
    let submissions = ring.map(|ring| Box::new(Submissions::new(ring, own)));
    if submissions.is_none() {
        home.epoll.add(home.bell(), Interest::Readable, BELL)?;
        home.epoll.add(alarm.as_raw_fd(), Interest::Readable, ALARM)?;
    }
    SOURCES.with(|sources| {
        let mut sources = sources.borrow_mut();
        (sources.home, sources.submissions) = (Some(Arc::clone(home)), submissions);
    });
    Ok(())
}

/// Watches nothing more.
pub(super) fn close() {
    let mut sources = SOURCES.with(|sources| sources.replace(Sources::NONE));
    // Files that are closed and still watched are let go of now, and not when the kernel comes to the ring's end.
    let _ = sources.wait(&mut Events::with_capacity(1), Patience::None);
}

/// Waits for what is watched.
///
/// # Errors
/// Those of `epoll_wait(2)` and `io_uring_enter(2)`.
pub(super) fn wait(events: &mut Events, patience: Patience) -> io::Result<()> {
    SOURCES.with(|sources| sources.borrow_mut().wait(events, patience))
}

/// Tells those who wait what has happened. That the bell was rung is seen by the news.
pub(super) fn tell(events: &Events, alarm: &mut Alarm) {
    SOURCES.with(|sources| {
        let mut sources = sources.borrow_mut();
        for event in events.iter() {
            if let Some(source) = find(&sources.list, event.token) {
                source.tell(bits_of(event));
            } else if event.token == ALARM {
                alarm.has_rung();
            } else if event.token == SET {
                sources.tell_set();
            }
            if event.has_ended() {
                sources.ended(event);
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
    /// It is in an epoll set, which has to be told of its end.
    is_in_set: Cell<bool>,
}

/// Has this thread's event loop watch a descriptor. It must stay open as long as it is watched: `T` owns it, or is
/// [`Lent`].
///
/// # Errors
/// Those of `epoll_ctl(2)`, such as that there are too many; `NotConnected` on a thread without an event loop.
pub fn watch<T: AsRawFd>(fd: T, interest: Interest) -> io::Result<Watch<T>> {
    watch_by(fd, interest, Keeping::Allowed)
}

/// As [`watch`], for a socket that others connect to. Its address is free as soon as the process is gone, however it went: a
/// ring would keep it for some milliseconds.
///
/// # Errors
/// As [`watch`].
pub fn watch_listening<T: AsRawFd>(fd: T) -> io::Result<Watch<T>> {
    watch_by(fd, Interest::Readable, Keeping::Forbidden)
}

/// Whether the kernel may keep the file of a descriptor that is closed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keeping {
    Allowed,
    Forbidden,
}

#[inline]
fn watch_by<T: AsRawFd>(fd: T, interest: Interest, keeping: Keeping) -> io::Result<Watch<T>> {
    SOURCES.with(|sources| {
        let mut sources = sources.borrow_mut();
        let source = sources.enter(fd.as_raw_fd(), interest).ok_or(io::ErrorKind::NotConnected)?;
        let (token, known) = (source.token(), Arc::clone(&source.known));
        let is_in_set = keeping == Keeping::Forbidden || sources.submissions.is_none();
        if !is_in_set {
            // Most connections that are only read are closed behind what is told first.
            let is_read = interest == Interest::Readable;
            sources.submit(known.place, if is_read { Lasting::Once } else { Lasting::Always });
        } else if let Err(error) = known.home.epoll.add(fd.as_raw_fd(), interest, token) {
            sources.leave(known.place);
            return Err(error);
        }
        Ok(Watch { fd, known, is_in_set: Cell::new(is_in_set) })
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
        if self.known.ready.load(Relaxed) & (UNWATCHED | READ_CLOSED) == UNWATCHED {
            self.known.watch_on();
        }
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
        self.is_in_set.set(false);
    }
}

impl<T: AsRawFd> Drop for Watch<T> {
    fn drop(&mut self) {
        if self.is_in_set.get() {
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
    use crate::event_loop::{Hooks, Method, run, yield_now};

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

    /// Runs a test on an event loop of each kind.
    fn by_each_method(test: impl AsyncFn()) {
        for method in [Method::IoUring, Method::Epoll] {
            run(Hooks { method, ..Hooks::default() }, test()).expect("an event loop");
        }
    }

    #[test]
    fn what_was_told_is_so_until_it_is_taken_back() {
        by_each_method(async || {
            let (mut peer, mut ours) = pair();
            let watched =
                watch(ours.try_clone().expect("a descriptor"), Interest::Readable).expect("a watch");
            yield_now().await;
            assert!(!watched.is_readable());
            for _ in 0..3 {
                peer.write_all(b"told").expect("room");
                watched.readable().await;
                assert!(watched.is_readable() && !watched.is_read_closed());
                ours.read_exact(&mut [0; 4]).expect("bytes");
                watched.clear_readable();
                yield_now().await;
                assert!(!watched.is_readable());
            }
            drop(peer);
            watched.readable().await;
            watched.clear_readable();
            assert!(watched.is_readable() && watched.is_read_closed());
        });
    }

    #[test]
    fn room_is_told_once_there_was_none() {
        by_each_method(async || {
            let (mut peer, mut ours) = pair();
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
        by_each_method(async || {
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
        by_each_method(async || {
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
    fn what_is_closed_is_closed_with_the_next_turn() {
        by_each_method(async || {
            for interest in [Interest::Readable, Interest::Both] {
                let (mut peer, ours) = pair();
                peer.set_nonblocking(true).expect("a flag");
                let watched = watch(ours, interest).expect("a watch");
                yield_now().await;
                drop(watched);
                yield_now().await;
                assert_eq!(peer.read(&mut [0; 8]).expect("the end"), 0);
            }
            assert_eq!(count(), 0);
            yield_now().await;
            let is_quiet = SOURCES.with(|sources| {
                sources.borrow().submissions.as_ref().is_none_or(|submissions| submissions.is_empty())
            });
            assert!(is_quiet, "the ring has nothing more to be told");
            // By another thread, while nothing happens here.
            let (mut peer, ours) = pair();
            let watched = watch(ours, Interest::Readable).expect("a watch");
            yield_now().await;
            let (told, heard) = watch_pair();
            let there = std::thread::spawn(move || {
                drop(watched);
                let end = peer.read(&mut [0; 8]);
                drop(told);
                end
            });
            heard.readable().await;
            assert_eq!(there.join().expect("no panic").expect("the end"), 0);
        });
    }

    #[test]
    fn connections_are_told_of_until_there_are_no_more() {
        by_each_method(async || {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("an address");
            listener.set_nonblocking(true).expect("a flag");
            let address = listener.local_addr().expect("its address");
            let watched = watch_listening(listener).expect("a watch");
            yield_now().await;
            assert!(!watched.is_readable());
            for _ in 0..3 {
                let _clients: Vec<_> = (0..3).map(|_| std::net::TcpStream::connect(address)).collect();
                watched.readable().await;
                let accepted = std::iter::from_fn(|| watched.get_ref().accept().ok()).count();
                assert_eq!(accepted, 3);
                watched.clear_readable();
                yield_now().await;
                assert!(!watched.is_readable());
            }
            drop(watched);
            assert!(std::net::TcpListener::bind(address).is_ok());
        });
    }

    /// A descriptor, and one that is watched and told when the former is closed.
    fn watch_pair() -> (UnixStream, Watch<UnixStream>) {
        let (peer, ours) = pair();
        (peer, watch(ours, Interest::Readable).expect("a watch"))
    }

    #[test]
    fn bytes_that_stay_unread_are_told_once_more_at_most() {
        by_each_method(async || {
            let (mut peer, ours) = pair();
            peer.write_all(b"told").expect("room");
            let watched = watch(ours, Interest::Readable).expect("a watch");
            watched.readable().await;
            let mut again = 0;
            for _ in 0..10 {
                watched.clear_readable();
                yield_now().await;
                again += u32::from(watched.is_readable());
            }
            assert!(again <= 1, "{again}");
        });
    }

    #[test]
    fn without_a_loop_nothing_is_watched() {
        let (_peer, ours) = pair();
        let refused = watch(Lent::new(ours.as_fd()), Interest::Readable).err().map(|error| error.kind());
        assert_eq!(refused, Some(io::ErrorKind::NotConnected));
    }
}
