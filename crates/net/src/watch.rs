//! Descriptors on this thread's event loop.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

pub use tokio::io::Interest;
pub use tokio::io::unix::AsyncFd;

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

/// Registers a descriptor with this thread's event loop. It must stay open as long as it is watched: `T` owns it, or is
/// [`Lent`].
///
/// # Errors
/// The error of the registration, such as that there are too many.
pub fn watch<T: AsRawFd>(fd: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    #[expect(deprecated, reason = "its successor is unsafe")]
    AsyncFd::with_interest(fd, interest)
}
