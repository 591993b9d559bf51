//! Readiness of descriptors by io_uring: what `epoll_ctl(2)` would be called for travels with the next wait.
//!
//! A descriptor is watched once or until it is called off. As long as it is, its file stays open: closing the descriptor
//! does not end a watch, other than with epoll.

use std::io;
use std::os::fd::RawFd;

use io_uring::squeue::Flags;
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue, types};

use crate::readiness::{Events, Interest};

/// Changes that travel with one wait; more of them cost a call of their own.
const CHANGES: u32 = 256;
/// Events that the kernel has room for; it keeps more of them aside.
const ROOM: u32 = 4096;
/// The name of what nobody is told, which is no descriptor's: the answers to calling off.
pub const NOBODY: u64 = u64::MAX;

/// How long a descriptor is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasting {
    /// Until something has happened to it.
    Once,
    /// Until it is called off; each thing that happens is told once, as with `EPOLLET`.
    Always,
}

/// A ring of one thread, which alone may use it.
pub struct Ring {
    ring: IoUring,
}

impl Ring {
    /// An empty ring of this thread.
    ///
    /// # Errors
    /// Those of `io_uring_setup(2)`: `PermissionDenied` where the system does not allow it, `InvalidInput` and
    /// `Unsupported` where its kernel is older than 6.15.
    pub fn new() -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_cqsize(ROOM)
            .build(CHANGES)?;
        // Who waits for clients is not to be shown as waiting for a disk.
        if !ring.params().is_feature_no_iowait() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(Self { ring })
    }

    /// Watches a descriptor from the next wait on, under the name `token`, which is not [`NOBODY`]. What is so already is
    /// told at once.
    ///
    /// # Errors
    /// Those of `io_uring_enter(2)`, where there are many changes; `WouldBlock` where the kernel has no room for more at the
    /// moment.
    pub fn add(&mut self, fd: RawFd, interest: Interest, lasting: Lasting, token: u64) -> io::Result<()> {
        let poll = opcode::PollAdd::new(types::Fd(fd), interest.flags().cast_unsigned());
        self.push(&poll.multi(lasting == Lasting::Always).build().user_data(token))
    }

    /// Calls off at the next wait what is watched under the name `token`.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn remove(&mut self, token: u64) -> io::Result<()> {
        // Removing a poll is refused while something happens to it; calling it off is not.
        let remove = opcode::AsyncCancel::new(token).build();
        self.push(&remove.flags(Flags::SKIP_SUCCESS).user_data(NOBODY))
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        if self.ring.submission().is_full()
            && let Err(error) = self.ring.submit()
        {
            return Err(if is_transient(&error) { io::ErrorKind::WouldBlock.into() } else { error });
        }
        // SAFETY: neither kind of entry points to memory.
        let pushed = unsafe { self.ring.submission().push(entry) };
        pushed.map_err(|_| io::ErrorKind::WouldBlock.into())
    }

    /// Waits until something has happened, or only looks whether it has. A signal ends the wait with nothing told.
    ///
    /// # Errors
    /// Those of `io_uring_enter(2)`.
    pub fn wait(&mut self, events: &mut Events, patience: Patience) -> io::Result<()> {
        let is_told = !self.ring.completion().is_empty();
        let least = u32::from(patience == Patience::Endless && !is_told);
        let changes = self.ring.submission().len();
        let changes = u32::try_from(changes).unwrap_or(CHANGES);
        let flags = (EnterFlags::GETEVENTS | EnterFlags::NO_IOWAIT).bits();
        // SAFETY: no argument is passed; entries point to no memory.
        let entered = unsafe { self.ring.submitter().enter::<libc::sigset_t>(changes, least, flags, None) };
        if let Err(error) = entered
            && !is_transient(&error)
        {
            return Err(error);
        }
        let told = self.ring.completion();
        events.fill(told.filter(|entry| entry.user_data() != NOBODY).map(|entry| event_of(&entry)));
        Ok(())
    }
}

/// How long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Not at all.
    None,
    /// Until something happens.
    Endless,
}

/// A signal; or the kernel is out of memory, or wants what it keeps aside to be taken first.
fn is_transient(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY | libc::ENOMEM))
}

/// The name and the flags of an event, in epoll's terms.
fn event_of(entry: &cqueue::Entry) -> (u64, libc::c_int, bool) {
    let flags = match entry.result() {
        flags @ 0.. => flags,
        // Nothing has happened to it, and there may be memory the next time.
        error if error == -libc::ENOMEM => 0,
        // It cannot be watched: whoever uses it learns why.
        _ => libc::EPOLLERR | libc::EPOLLHUP,
    };
    (entry.user_data(), flags, !cqueue::more(entry.flags()))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    /// A ring, where the system has them. Where not, that is told past what tests print, which nobody sees.
    fn ring() -> Option<Ring> {
        Ring::new().inspect_err(|error| _ = writeln!(io::stderr(), "skipped io_uring: {error}")).ok()
    }

    /// What is so now, as names with whether they are readable, whether the end was seen and whether the watch has ended.
    fn told(ring: &mut Ring, patience: Patience) -> Vec<(u64, bool, bool, bool)> {
        let mut events = Events::with_capacity(8);
        ring.wait(&mut events, patience).expect("a wait");
        let shown = |event: crate::readiness::Event| {
            (event.token, event.is_readable(), event.is_read_closed(), event.has_ended())
        };
        events.iter().map(shown).collect()
    }

    #[test]
    fn one_thing_is_told_and_the_watch_is_over() {
        let Some(mut ring) = ring() else { return };
        let (mut peer, ours) = UnixStream::pair().expect("a pair");
        ring.add(ours.as_raw_fd(), Interest::Readable, Lasting::Once, 7).expect("room");
        assert_eq!(told(&mut ring, Patience::None), []);
        peer.write_all(b"told").expect("room");
        assert_eq!(told(&mut ring, Patience::Endless), [(7, true, false, true)]);
        drop(peer);
        assert_eq!(told(&mut ring, Patience::None), []);
        // What is so already is told at once.
        ring.add(ours.as_raw_fd(), Interest::Readable, Lasting::Once, 8).expect("room");
        assert_eq!(told(&mut ring, Patience::Endless), [(8, true, true, true)]);
    }

    #[test]
    fn each_thing_is_told_until_the_watch_is_called_off() {
        let Some(mut ring) = ring() else { return };
        let (mut peer, mut ours) = UnixStream::pair().expect("a pair");
        ring.add(ours.as_raw_fd(), Interest::Readable, Lasting::Always, 7).expect("room");
        for _ in 0..3 {
            peer.write_all(b"told").expect("room");
            assert_eq!(told(&mut ring, Patience::Endless), [(7, true, false, false)]);
            // Bytes that nobody reads are not told again.
            assert_eq!(told(&mut ring, Patience::None), []);
        }
        ours.read_exact(&mut [0; 12]).expect("bytes");
        ring.remove(7).expect("room");
        // That of the watch itself; calling off has no answer.
        assert_eq!(told(&mut ring, Patience::None), [(7, true, true, true)]);
        peer.write_all(b"told").expect("room");
        assert_eq!(told(&mut ring, Patience::None), []);
        ring.remove(7).expect("room");
        assert_eq!(told(&mut ring, Patience::None), []);
    }

    #[test]
    fn a_closed_descriptor_is_open_until_its_watch_is_called_off() {
        let Some(mut ring) = ring() else { return };
        let (mut peer, ours) = UnixStream::pair().expect("a pair");
        peer.set_nonblocking(true).expect("a flag");
        ring.add(ours.as_raw_fd(), Interest::Both, Lasting::Always, 7).expect("room");
        assert_eq!(told(&mut ring, Patience::None).len(), 1);
        drop(ours);
        let is_over = |peer: &mut UnixStream| peer.read(&mut [0; 8]).is_ok_and(|count| count == 0);
        assert!(!is_over(&mut peer));
        ring.remove(7).expect("room");
        told(&mut ring, Patience::None);
        assert!(is_over(&mut peer));
    }

    #[test]
    fn what_is_called_off_while_something_happens_to_it_is_let_go_of_too() {
        let Some(mut ring) = ring() else { return };
        let (mut peer, mut ours) = UnixStream::pair().expect("a pair");
        peer.set_nonblocking(true).expect("a flag");
        ring.add(ours.as_raw_fd(), Interest::Both, Lasting::Always, 7).expect("room");
        told(&mut ring, Patience::None);
        peer.write_all(b"told").expect("room");
        ours.read_exact(&mut [0; 4]).expect("bytes");
        ring.remove(7).expect("room");
        drop(ours);
        told(&mut ring, Patience::None);
        assert!(peer.read(&mut [0; 8]).is_ok_and(|count| count == 0));
    }

    #[test]
    fn more_changes_than_there_is_room_for_and_more_events_than_are_asked_for() {
        let Some(mut ring) = ring() else { return };
        let (mut peer, ours) = UnixStream::pair().expect("a pair");
        let all = u64::from(CHANGES) * 2 + 3;
        for token in 0..all {
            ring.add(ours.as_raw_fd(), Interest::Readable, Lasting::Once, token).expect("room");
        }
        assert_eq!(told(&mut ring, Patience::None), []);
        peer.write_all(b"told").expect("room");
        let mut heard: Vec<u64> = Vec::new();
        while heard.len() < all as usize {
            heard.extend(told(&mut ring, Patience::Endless).iter().map(|(token, ..)| token));
        }
        heard.sort_unstable();
        assert_eq!(heard, (0..all).collect::<Vec<_>>());
    }

    #[test]
    fn what_cannot_be_watched_is_told_as_broken() {
        let Some(mut ring) = ring() else { return };
        ring.add(-1, Interest::Readable, Lasting::Always, 7).expect("room");
        assert_eq!(told(&mut ring, Patience::Endless), [(7, true, true, true)]);
    }
}
