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
    usize::try_from(value).map_err(|_| io::Error::last_os_error())
}

/// Calls again as long as a signal interrupts.
#[inline]
pub(crate) fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
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
