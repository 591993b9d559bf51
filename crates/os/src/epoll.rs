//! A set of listening sockets that several threads wait on, of which one is woken per connection.
//!
//! The set is itself a descriptor: each thread hangs its own set into its event loop.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::syscall::{check, retry};

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
        // SAFETY: plain integers are passed.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the call succeeded, so the descriptor is open and belongs to nobody else.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// Watches `fd` for connections; [`ExclusiveEpoll::ready`] names it by `token`.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`; `AlreadyExists` when it is watched already.
    pub fn add(&self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        let events = (libc::EPOLLIN | libc::EPOLLEXCLUSIVE) as u32;
        let mut event = libc::epoll_event { events, u64: token };
        let set = self.fd.as_raw_fd();
        // SAFETY: `event` is a local that the kernel reads.
        check(unsafe { libc::epoll_ctl(set, libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &raw mut event) }).map(drop)
    }

    /// Watches `fd` no longer.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`; `NotFound` when it is not watched.
    pub fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let set = self.fd.as_raw_fd();
        let none = std::ptr::null_mut();
        // SAFETY: removing reads no event.
        check(unsafe { libc::epoll_ctl(set, libc::EPOLL_CTL_DEL, fd.as_raw_fd(), none) }).map(drop)
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
        let set = self.fd.as_raw_fd();
        // SAFETY: the kernel writes at most `room` events, and there is room for `MOST`.
        let count =
            retry(|| check(unsafe { libc::epoll_wait(set, events.as_mut_ptr(), room as libc::c_int, 0) }))?;
        let count = count.unsigned_abs() as usize;
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
}
