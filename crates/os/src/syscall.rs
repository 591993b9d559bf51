//! Return values of system calls as `io::Result`, and the few casts that all wrappers share.
//!
//! A call that a signal interrupted is made again here, so no caller ever sees `EINTR`.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The value, or `errno` where it is -1.
#[inline]
pub(crate) fn check(value: libc::c_int) -> io::Result<libc::c_int> {
    if value == -1 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

/// The count, or `errno` where it is -1.
#[inline]
pub(crate) fn check_len(value: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(value).map_err(|_| last_error())
}

#[cold]
fn last_error() -> io::Error {
    io::Error::last_os_error()
}

/// The calls that requests are made of, without libc's own wrappers: these are where `pthread_cancel` may end a thread, so
/// once a process has had a second one, each of them costs two locked instructions.
pub(crate) mod direct {
    use std::os::fd::{AsRawFd, BorrowedFd};

    use super::check_len;

    /// `recv(2)`.
    ///
    /// # Safety
    /// `len` bytes from `start` on can be written.
    #[inline]
    pub unsafe fn recv(
        fd: BorrowedFd<'_>,
        start: *mut u8,
        len: usize,
        flags: libc::c_int,
    ) -> std::io::Result<usize> {
        let (fd, flags) = (libc::c_long::from(fd.as_raw_fd()), libc::c_long::from(flags));
        let (no_addr, no_len) = (0 as libc::c_long, 0 as libc::c_long);
        // SAFETY: the caller vouches for the range, and the kernel keeps to it.
        check_len(unsafe { libc::syscall(libc::SYS_recvfrom, fd, start, len, flags, no_addr, no_len) } as _)
    }

    /// `connect(2)`.
    ///
    /// # Safety
    /// `len` bytes from `addr` on are readable.
    #[inline]
    pub unsafe fn connect(
        fd: BorrowedFd<'_>,
        addr: *const libc::sockaddr,
        len: libc::socklen_t,
    ) -> std::io::Result<()> {
        let (fd, len) = (libc::c_long::from(fd.as_raw_fd()), libc::c_long::from(len));
        // SAFETY: the caller vouches for the address; the kernel does not write.
        check_len(unsafe { libc::syscall(libc::SYS_connect, fd, addr, len) } as _).map(drop)
    }

    /// `send(2)`.
    #[inline]
    pub fn send(fd: BorrowedFd<'_>, buf: &[u8], flags: libc::c_int) -> std::io::Result<usize> {
        let (fd, flags) = (libc::c_long::from(fd.as_raw_fd()), libc::c_long::from(flags));
        let (no_addr, no_len) = (0 as libc::c_long, 0 as libc::c_long);
        // SAFETY: `buf` is a readable slice that lives across the call.
        let sent =
            unsafe { libc::syscall(libc::SYS_sendto, fd, buf.as_ptr(), buf.len(), flags, no_addr, no_len) };
        check_len(sent as _)
    }

    /// `sendmsg(2)`.
    ///
    /// # Safety
    /// All that `message` points to is readable.
    #[inline]
    pub unsafe fn sendmsg(
        fd: BorrowedFd<'_>,
        message: &libc::msghdr,
        flags: libc::c_int,
    ) -> std::io::Result<usize> {
        let (fd, flags) = (libc::c_long::from(fd.as_raw_fd()), libc::c_long::from(flags));
        // SAFETY: the caller vouches for what it points to; the kernel does not write.
        check_len(unsafe { libc::syscall(libc::SYS_sendmsg, fd, &raw const *message, flags) } as _)
    }

    /// `epoll_wait(2)`; a timeout of -1 is none.
    #[inline]
    pub fn epoll_wait(
        set: BorrowedFd<'_>,
        events: &mut [libc::epoll_event],
        timeout_ms: libc::c_int,
    ) -> std::io::Result<usize> {
        let room = libc::c_long::try_from(events.len().min(1 << 16)).unwrap_or(1);
        let (set, timeout) = (libc::c_long::from(set.as_raw_fd()), libc::c_long::from(timeout_ms));
        let (no_mask, mask_len) = (0 as libc::c_long, 8 as libc::c_long);
        let events = events.as_mut_ptr();
        // SAFETY: the kernel writes at most `room` events, and there is room for as many.
        let told =
            unsafe { libc::syscall(libc::SYS_epoll_pwait, set, events, room, timeout, no_mask, mask_len) };
        check_len(told as _)
    }
}

/// Calls again as long as a signal interrupts.
#[inline]
pub(crate) fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    match call() {
        Ok(done) => Ok(done),
        Err(error) => call_again(error, call),
    }
}

/// Calls again where and as long as a signal has interrupted.
#[cold]
fn call_again<T>(mut error: io::Error, mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    while error.kind() == io::ErrorKind::Interrupted {
        match call() {
            Ok(done) => return Ok(done),
            Err(next) => error = next,
        }
    }
    Err(error)
}

/// A path for the kernel; one with a NUL byte inside is refused.
pub(crate) fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Sets an option of a socket to the bytes of `value`.
pub(crate) fn set_option<T: Copy>(
    fd: std::os::fd::BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: T,
) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` lives across the call and `len` is its size; the kernel only reads it.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), len) }).map(drop)
}

/// Reads an option of a socket that the kernel writes as a plain C structure.
///
/// # Safety
/// All bit patterns, all zeros among them, must be valid for `T`.
pub(crate) unsafe fn read_option<T: Copy>(
    fd: std::os::fd::BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
) -> io::Result<T> {
    use std::os::fd::AsRawFd;
    // SAFETY: the caller vouches that zeros are a valid `T`.
    let mut value: T = unsafe { std::mem::zeroed() };
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes into `value`, which is that long.
    check(unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut len) })?;
    Ok(value)
}
