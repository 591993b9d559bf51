//! Reading, writing and moving bytes between descriptors without a copy.
//!
//! No call raises SIGPIPE and none returns `EINTR`; `WouldBlock` is the caller's affair.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::syscall::{check, check_len, direct, retry};

/// Receives into `buf`; zero is the end of the stream.
///
/// # Errors
/// Those of `recv(2)`.
#[inline]
pub fn recv(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the slice can be written.
    unsafe { recv_raw(fd, buf.as_mut_ptr(), buf.len(), 0) }
}

/// Receives into memory that need not be initialised; the count says how much of its front now is.
///
/// # Errors
/// Those of `recv(2)`.
#[inline]
pub fn recv_uninit(fd: BorrowedFd<'_>, buf: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
    // SAFETY: the slice can be written.
    unsafe { recv_raw(fd, buf.as_mut_ptr().cast(), buf.len(), 0) }
}

/// Receives at most `max` bytes behind the end of `buf`, which grows only where its spare room is smaller.
///
/// Zero is the end of the stream, so `max` must not be zero.
///
/// # Errors
/// Those of `recv(2)`.
#[inline]
pub fn recv_append(fd: BorrowedFd<'_>, buf: &mut Vec<u8>, max: usize) -> io::Result<usize> {
    buf.reserve(max);
    let spare = buf.spare_capacity_mut();
    let room = spare.len().min(max);
    let received = recv_uninit(fd, &mut spare[..room])?;
    // SAFETY: the kernel has initialised `received` bytes behind the old length, all inside the capacity.
    unsafe { buf.set_len(buf.len() + received) };
    Ok(received)
}

/// As [`recv_append`], but what was received is dropped; TCP does not even copy it to `scrap`.
///
/// # Errors
/// Those of `recv(2)`.
#[inline]
pub fn discard(fd: BorrowedFd<'_>, scrap: &mut Vec<u8>, max: usize) -> io::Result<usize> {
    scrap.reserve(max);
    let spare = scrap.spare_capacity_mut();
    let room = spare.len().min(max);
    // SAFETY: the slice can be written.
    unsafe { recv_raw(fd, spare.as_mut_ptr().cast(), room, libc::MSG_TRUNC) }
}

/// Looks at received bytes without taking them; zero is the end of the stream.
///
/// # Errors
/// Those of `recv(2)`.
#[inline]
pub fn peek(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the slice can be written.
    unsafe { recv_raw(fd, buf.as_mut_ptr(), buf.len(), libc::MSG_PEEK) }
}

/// # Safety
/// `len` bytes from `start` on can be written.
#[inline]
unsafe fn recv_raw(fd: BorrowedFd<'_>, start: *mut u8, len: usize, flags: libc::c_int) -> io::Result<usize> {
    // SAFETY: the caller vouches for the range.
    retry(move || unsafe { direct::recv(fd, start, len, flags) })
}

/// Sends from `buf`.
///
/// # Errors
/// Those of `send(2)`.
#[inline]
pub fn send(fd: BorrowedFd<'_>, buf: &[u8]) -> io::Result<usize> {
    send_raw(fd, buf, libc::MSG_NOSIGNAL)
}

/// Sends from `buf` and tells the kernel that more follows at once, so a head can travel with a file.
///
/// # Errors
/// Those of `send(2)`.
#[inline]
pub fn send_more(fd: BorrowedFd<'_>, buf: &[u8]) -> io::Result<usize> {
    send_raw(fd, buf, libc::MSG_NOSIGNAL | libc::MSG_MORE)
}

#[inline]
fn send_raw(fd: BorrowedFd<'_>, buf: &[u8], flags: libc::c_int) -> io::Result<usize> {
    retry(move || direct::send(fd, buf, flags))
}

/// Sends several slices with one call; at most 1024 of them are looked at.
///
/// # Errors
/// Those of `sendmsg(2)`.
#[inline]
pub fn send_vectored(fd: BorrowedFd<'_>, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    send_vectored_raw(fd, slices, libc::MSG_NOSIGNAL)
}

#[inline]
fn send_vectored_raw(fd: BorrowedFd<'_>, slices: &[IoSlice<'_>], flags: libc::c_int) -> io::Result<usize> {
    const IOV_MAX: usize = 1024;
    // SAFETY: an all-zero msghdr is valid: no name, no control data, no vectors.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    // IoSlice is documented to have the layout of iovec; sendmsg does not write through it.
    message.msg_iov = slices.as_ptr().cast_mut().cast();
    message.msg_iovlen = slices.len().min(IOV_MAX) as _;
    // SAFETY: `message` points to `msg_iovlen` readable slices that live across the call.
    retry(|| unsafe { direct::sendmsg(fd, &message, flags) })
}

/// Sends at most `count` bytes of a file from `offset` on, and moves `offset` behind them.
///
/// Zero means that the file ended early.
///
/// # Errors
/// Those of `sendfile(2)`.
#[inline]
pub fn sendfile(
    out: BorrowedFd<'_>,
    file: BorrowedFd<'_>,
    offset: &mut u64,
    count: usize,
) -> io::Result<usize> {
    let mut at = libc::off_t::try_from(*offset).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: both descriptors are open and `at` is a local that the kernel may write.
    let sent = retry(|| {
        check_len(unsafe { libc::sendfile(out.as_raw_fd(), file.as_raw_fd(), &raw mut at, count) })
    })?;
    *offset += sent as u64;
    Ok(sent)
}

/// A pipe, close-on-exec and non-blocking: reading end, writing end.
///
/// # Errors
/// Those of `pipe2(2)`.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    // SAFETY: `ends` has room for the two descriptors that the kernel writes.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) })?;
    // SAFETY: the call succeeded, so both are open and belong to nobody else.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

/// Reads from a place in a file; zero is its end.
///
/// # Errors
/// Those of `pread(2)`.
#[inline]
pub fn pread(fd: BorrowedFd<'_>, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    // SAFETY: the slice can be written.
    unsafe { pread_raw(fd, buf.as_mut_ptr(), buf.len(), offset) }
}

/// As [`pread`], at most `max` bytes behind the end of `buf`, which grows only where its spare room is smaller.
///
/// # Errors
/// Those of `pread(2)`.
#[inline]
pub fn pread_append(fd: BorrowedFd<'_>, buf: &mut Vec<u8>, max: usize, offset: u64) -> io::Result<usize> {
    buf.reserve(max);
    let spare = buf.spare_capacity_mut();
    // SAFETY: the spare room can be written.
    let read = unsafe { pread_raw(fd, spare.as_mut_ptr().cast(), spare.len().min(max), offset) }?;
    // SAFETY: the kernel has initialised `read` bytes behind the old length, all inside the capacity.
    unsafe { buf.set_len(buf.len() + read) };
    Ok(read)
}

/// As [`pread_append`], again and again until there are `count` bytes more or the file ends; says how many there are.
///
/// # Errors
/// Those of `pread(2)`.
pub fn pread_append_all(
    fd: BorrowedFd<'_>,
    buf: &mut Vec<u8>,
    count: usize,
    offset: u64,
) -> io::Result<usize> {
    let mut done = 0;
    while done < count {
        match pread_append(fd, buf, count - done, offset + done as u64)? {
            0 => break,
            more => done += more,
        }
    }
    Ok(done)
}

/// # Safety
/// `len` bytes from `start` on can be written.
unsafe fn pread_raw(fd: BorrowedFd<'_>, start: *mut u8, len: usize, offset: u64) -> io::Result<usize> {
    let at = libc::off_t::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: the caller vouches for the range, and the kernel keeps to it.
    retry(|| check_len(unsafe { libc::pread(fd.as_raw_fd(), start.cast(), len, at) }))
}

/// Writes to a place in a file.
///
/// # Errors
/// Those of `pwrite(2)`.
#[inline]
pub fn pwrite(fd: BorrowedFd<'_>, buf: &[u8], offset: u64) -> io::Result<usize> {
    let at = libc::off_t::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: `buf` is a readable slice that lives across the call.
    retry(|| check_len(unsafe { libc::pwrite(fd.as_raw_fd(), buf.as_ptr().cast(), buf.len(), at) }))
}

/// Reads from a descriptor that is no socket.
///
/// # Errors
/// Those of `read(2)`.
#[inline]
pub fn read(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<usize> {
    // SAFETY: `buf` is a writable slice that lives across the call.
    retry(|| check_len(unsafe { libc::read(fd.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len()) }))
}

/// Writes once to a descriptor that is no socket.
///
/// # Errors
/// Those of `write(2)`.
#[inline]
pub fn write(fd: BorrowedFd<'_>, buf: &[u8]) -> io::Result<usize> {
    // SAFETY: `buf` is a readable slice that lives across the call.
    retry(|| check_len(unsafe { libc::write(fd.as_raw_fd(), buf.as_ptr().cast(), buf.len()) }))
}

/// Writes all of `buf`, as for a log opened for appending: one call unless the system takes less.
///
/// # Errors
/// Those of `write(2)`; `WriteZero` when nothing is taken any more.
pub fn write_all(fd: BorrowedFd<'_>, mut buf: &[u8]) -> io::Result<()> {
    while !buf.is_empty() {
        match write(fd, buf)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => buf = buf.get(written..).unwrap_or_default(),
        }
    }
    Ok(())
}

/// Ends one or both directions of a connection.
///
/// # Errors
/// Those of `shutdown(2)`.
pub fn shutdown(fd: BorrowedFd<'_>, how: Shutdown) -> io::Result<()> {
    let how = match how {
        Shutdown::Read => libc::SHUT_RD,
        Shutdown::Write => libc::SHUT_WR,
        Shutdown::Both => libc::SHUT_RDWR,
    };
    // SAFETY: plain integers are passed and the descriptor is open.
    check(unsafe { libc::shutdown(fd.as_raw_fd(), how) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn what_is_discarded_is_counted_and_gone() {
        use std::io::Write;
        use std::net::{TcpListener, TcpStream};
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut peer = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
        let (ours, _) = listener.accept().expect("a connection");
        peer.write_all(b"dropped and kept").expect("room");
        let mut scrap = Vec::new();
        assert_eq!(discard(ours.as_fd(), &mut scrap, 12).expect("bytes"), 12);
        assert!(scrap.is_empty());
        assert_eq!(recv_append(ours.as_fd(), &mut scrap, 99).expect("bytes"), 4);
        assert_eq!(scrap, b"kept");
        // A Unix socket copies them all the same.
        let (mut peer, ours) = UnixStream::pair().expect("a pair");
        peer.write_all(b"dropped").expect("room");
        assert_eq!(discard(ours.as_fd(), &mut scrap, 99).expect("bytes"), 7);
        drop(peer);
        assert_eq!(discard(ours.as_fd(), &mut scrap, 99).expect("the end"), 0);
        assert_eq!(scrap, b"kept");
    }

    #[test]
    fn bytes_arrive_as_they_were_sent() {
        let (a, b) = UnixStream::pair().expect("pair");
        assert_eq!(send(a.as_fd(), b"ab").expect("send"), 2);
        let slices = [IoSlice::new(b"cd"), IoSlice::new(b"ef")];
        assert_eq!(send_vectored(a.as_fd(), &slices).expect("send"), 4);
        let mut seen = [0; 1];
        assert_eq!(peek(b.as_fd(), &mut seen).expect("peek"), 1);
        let mut all = Vec::new();
        assert_eq!(recv_append(b.as_fd(), &mut all, 4).expect("recv"), 4);
        assert_eq!(recv_append(b.as_fd(), &mut all, 64).expect("recv"), 2);
        assert_eq!(all, b"abcdef");
        drop(a);
        assert_eq!(recv_append(b.as_fd(), &mut all, 64).expect("end"), 0);
        assert!(send(b.as_fd(), b"x").is_err());
    }
}
