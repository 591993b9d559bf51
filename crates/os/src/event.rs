//! A bell that any thread may ring for one that waits for events (`eventfd(2)`).

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

impl AsRawFd for Bell {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
