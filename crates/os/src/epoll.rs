//! Sets of descriptors that a thread waits on: the event loop's own, and one that several threads wait on.
//!
//! The latter holds listening sockets, of which one thread is woken per connection. A set is itself a descriptor: each
//! thread hangs its own into its event loop.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::readiness::{Events, Interest};
use crate::syscall::{check, direct, retry};

fn create() -> io::Result<OwnedFd> {
    // SAFETY: plain integers are passed.
    let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
    // SAFETY: the call succeeded, so the descriptor is open and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn add(set: &OwnedFd, fd: RawFd, events: libc::c_int, token: u64) -> io::Result<()> {
    let mut event = libc::epoll_event { events: events.cast_unsigned(), u64: token };
    // SAFETY: `event` is a local that the kernel reads.
    check(unsafe { libc::epoll_ctl(set.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event) }).map(drop)
}

fn remove(set: &OwnedFd, fd: RawFd) -> io::Result<()> {
    let none = std::ptr::null_mut();
    // SAFETY: removing reads no event.
    check(unsafe { libc::epoll_ctl(set.as_raw_fd(), libc::EPOLL_CTL_DEL, fd, none) }).map(drop)
}

/// An epoll set of one thread. It tells of a descriptor each time that something happens to it (`EPOLLET`).
#[derive(Debug)]
pub struct Epoll {
    fd: OwnedFd,
}

impl Epoll {
    /// An empty set.
    ///
    /// # Errors
    /// Those of `epoll_create1(2)`.
    pub fn new() -> io::Result<Self> {
        Ok(Self { fd: create()? })
    }

    /// Watches a descriptor, under the name `token`, until it is removed or no descriptor refers to its file any more.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`; `AlreadyExists` when it is watched already.
    pub fn add(&self, fd: RawFd, interest: Interest, token: u64) -> io::Result<()> {
        add(&self.fd, fd, interest.flags() | libc::EPOLLET, token)
    }

    /// Watches a descriptor no longer.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`; `NotFound` when it is not watched.
    pub fn remove(&self, fd: RawFd) -> io::Result<()> {
        remove(&self.fd, fd)
    }

    /// Waits until something has happened, at most so many milliseconds. A signal ends the wait with nothing told.
    ///
    /// # Errors
    /// Those of `epoll_wait(2)`.
    pub fn wait(&self, events: &mut Events, most_ms: Option<u32>) -> io::Result<()> {
        events.count = 0;
        let timeout = most_ms.map_or(-1, |ms| libc::c_int::try_from(ms).unwrap_or(libc::c_int::MAX));
        match direct::epoll_wait(self.fd.as_fd(), &mut events.list, timeout) {
            Ok(count) => events.count = count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

impl AsRawFd for Epoll {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// An epoll set whose members are watched with `EPOLLEXCLUSIVE`.
#[derive(Debug)]
pub struct ExclusiveEpoll {
    fd: OwnedFd,
}

impl ExclusiveEpoll {
    /// An empty set.
    ///
    /// # Errors
    /// Those of `epoll_create1(2)`.
    pub fn new() -> io::Result<Self> {
        Ok(Self { fd: create()? })
    }

    /// Watches `fd` for connections; [`ExclusiveEpoll::ready`] names it by `token`.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`; `AlreadyExists` when it is watched already.
    pub fn add(&self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        add(&self.fd, fd.as_raw_fd(), libc::EPOLLIN | libc::EPOLLEXCLUSIVE, token)
    }

    /// Watches `fd` no longer.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`; `NotFound` when it is not watched.
    pub fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        remove(&self.fd, fd.as_raw_fd())
    }

    /// Writes the tokens of sockets with waiting connections to the front of `tokens` and says how many.
    ///
    /// Never waits; at most 64 are told at once.
    ///
    /// # Errors
    /// Those of `epoll_wait(2)`.
    pub fn ready(&self, tokens: &mut [u64]) -> io::Result<usize> {
        const MOST: usize = 64;
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; MOST];
        let room = tokens.len().min(MOST);
        if room == 0 {
            return Ok(0);
        }
        let count = retry(|| direct::epoll_wait(self.fd.as_fd(), &mut events[..room], 0))?;
        for (token, event) in tokens.iter_mut().zip(&events[..count]) {
            *token = event.u64;
        }
        Ok(count)
    }
}

impl AsFd for ExclusiveEpoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for ExclusiveEpoll {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.fd.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::readiness::Event;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_waiting_connection_is_told_by_its_token() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let set = ExclusiveEpoll::new().expect("epoll");
        set.add(listener.as_fd(), 7).expect("add");
        let mut tokens = [0; 4];
        assert_eq!(set.ready(&mut tokens).expect("ready"), 0);
        let _client = TcpStream::connect(listener.local_addr().expect("addr")).expect("connect");
        assert_eq!(set.ready(&mut tokens).expect("ready"), 1);
        assert_eq!(tokens[0], 7);
        set.remove(listener.as_fd()).expect("remove");
        assert_eq!(set.ready(&mut tokens).expect("ready"), 0);
    }

    #[test]
    fn what_happens_is_told_once() {
        use std::io::Write;
        use std::os::unix::net::UnixStream;
        let (mut peer, ours) = UnixStream::pair().expect("a pair");
        let (set, mut events) = (Epoll::new().expect("epoll"), Events::with_capacity(0));
        let mut told = |most_ms| {
            set.wait(&mut events, most_ms).expect("a wait");
            let seen = |event: Event| {
                (event.token, event.is_readable(), event.is_writable(), event.is_read_closed())
            };
            events.iter().map(seen).collect::<Vec<_>>()
        };
        set.add(ours.as_raw_fd(), Interest::Both, 7).expect("add");
        assert_eq!(told(None), [(7, false, true, false)]);
        assert_eq!(told(Some(0)), []);
        peer.write_all(b"x").expect("room");
        assert_eq!(told(None), [(7, true, true, false)]);
        drop(peer);
        assert_eq!(told(None), [(7, true, true, true)]);
        assert_eq!(told(Some(1)), []);
        set.remove(ours.as_raw_fd()).expect("remove");
        let gone = set.remove(ours.as_raw_fd()).expect_err("removed already");
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_bell_is_heard_each_time() {
        let bell = crate::event::Bell::new().expect("a bell");
        let (set, mut events) = (Epoll::new().expect("epoll"), Events::with_capacity(4));
        set.add(bell.as_raw_fd(), Interest::Readable, 1).expect("add");
        for _ in 0..3 {
            bell.ring();
            set.wait(&mut events, None).expect("a wait");
            assert_eq!(events.iter().map(|event| event.token).collect::<Vec<_>>(), [1]);
            set.wait(&mut events, Some(0)).expect("a wait");
            assert_eq!(events.iter().count(), 0);
        }
    }

    #[test]
    fn an_alarm_is_heard_each_time_that_it_was_set() {
        use std::time::{Duration, Instant};
        let alarm = crate::event::Alarm::new().expect("an alarm");
        let (set, mut events) = (Epoll::new().expect("epoll"), Events::with_capacity(4));
        set.add(alarm.as_raw_fd(), Interest::Readable, 1).expect("add");
        let begun = Instant::now();
        for rings in 1..=3 {
            alarm.set_after(60_000).expect("a time");
            set.wait(&mut events, Some(0)).expect("a wait");
            assert_eq!(events.iter().count(), 0);
            alarm.set_after(10).expect("a time");
            set.wait(&mut events, None).expect("a wait");
            assert_eq!(events.iter().map(|event| event.token).collect::<Vec<_>>(), [1]);
            assert!(begun.elapsed() >= Duration::from_millis(rings * 10));
        }
    }
}
