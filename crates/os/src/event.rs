//! What ends a thread's wait for events besides sockets: a bell that any thread may ring, and an alarm clock.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::syscall::check;

/// A descriptor that becomes readable whenever it is rung.
#[derive(Debug)]
pub struct Bell(OwnedFd);

impl Bell {
    /// A bell that has not been rung.
    ///
    /// # Errors
    /// Those of `eventfd(2)`.
    pub fn new() -> io::Result<Self> {
        // SAFETY: plain integers are passed.
        let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: the call succeeded, so the descriptor is open and belongs to nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Rings it. Who waits for edges hears every ring, so nobody needs to read how many there were: before the sum of them
    /// is too great for the kernel, centuries pass.
    pub fn ring(&self) {
        let one = 1_u64.to_ne_bytes();
        // SAFETY: `one` is a local of eight bytes that the kernel reads.
        let _ = unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }
}

/// A descriptor that becomes readable at a time (`timerfd_create(2)`). Other than a limit to a wait, it costs the wait
/// nothing while the time stays the same.
#[derive(Debug)]
pub struct Alarm(OwnedFd);

impl Alarm {
    /// An alarm for no time.
    ///
    /// # Errors
    /// Those of `timerfd_create(2)`.
    pub fn new() -> io::Result<Self> {
        let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
        // SAFETY: plain integers are passed.
        let fd = check(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) })?;
        // SAFETY: the call succeeded, so the descriptor is open and belongs to nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Sets it to so many milliseconds from now, at least one, and to no other time. Who waits for edges hears it each
    /// time that it was set, so nobody needs to read it.
    ///
    /// # Errors
    /// Those of `timerfd_settime(2)`.
    pub fn set_after(&self, ms: u32) -> io::Result<()> {
        let ms = i64::from(ms.max(1));
        let never = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let after = libc::timespec { tv_sec: ms / 1000, tv_nsec: ms % 1000 * 1_000_000 };
        let time = libc::itimerspec { it_interval: never, it_value: after };
        // SAFETY: `time` is a local that the kernel reads; it is not asked for the time before.
        let done =
            unsafe { libc::timerfd_settime(self.0.as_raw_fd(), 0, &raw const time, std::ptr::null_mut()) };
        check(done).map(drop)
    }
}

impl AsRawFd for Alarm {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsRawFd for Bell {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
