//! Messages with descriptors between two processes, over a blocking Unix stream socket.
//!
//! A frame is a header (payload length, number of descriptors), then one byte per 200 descriptors that
//! carries them, then the payload. The byte keeps the kernel from merging two lots of descriptors.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::syscall::{check_len, retry};

/// Descriptors per call; the kernel takes 253.
const CHUNK: usize = 200;
/// The largest payload, bytes.
pub const MAX_PAYLOAD: usize = 256 << 20;
/// The largest number of descriptors of one message.
pub const MAX_DESCRIPTORS: usize = 65_536;

const HEADER: usize = 12;

/// A message as it was received.
#[derive(Debug, Default)]
pub struct Message {
    /// The bytes.
    pub payload: Vec<u8>,
    /// The descriptors in the order in which they were sent; all close-on-exec.
    pub fds: Vec<OwnedFd>,
}

/// Sends a message and waits until all of it is under way.
///
/// # Errors
/// Those of `sendmsg(2)`; `InvalidInput` beyond [`MAX_PAYLOAD`] or [`MAX_DESCRIPTORS`].
pub fn send(socket: BorrowedFd<'_>, payload: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if payload.len() > MAX_PAYLOAD || fds.len() > MAX_DESCRIPTORS {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut header = [0u8; HEADER];
    header[..8].copy_from_slice(&(payload.len() as u64).to_le_bytes());
    header[8..].copy_from_slice(&(fds.len() as u32).to_le_bytes());
    send_all(socket, &header)?;
    for chunk in fds.chunks(CHUNK) {
        send_chunk(socket, chunk)?;
    }
    send_all(socket, payload)
}

fn send_all(socket: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let sent = crate::io::send(socket, bytes)?;
        bytes = bytes.get(sent..).unwrap_or_default();
    }
    Ok(())
}

/// Room for the control message of one chunk, aligned as the kernel wants it.
#[repr(C)]
union Control {
    header: libc::cmsghdr,
    bytes: [u8; 16 + CHUNK * size_of::<RawFd>() + 16],
}

fn send_chunk(socket: BorrowedFd<'_>, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let numbers: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let size = size_of_val(numbers.as_slice()) as u32;
    let mut mark = [0u8; 1];
    let mut vector = libc::iovec { iov_base: mark.as_mut_ptr().cast(), iov_len: 1 };
    // SAFETY: all zeros is valid for the control union and for an empty msghdr.
    let (mut control, mut message): (Control, libc::msghdr) = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    // SAFETY: CMSG_SPACE and CMSG_LEN only compute.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(size) } as _;
    // SAFETY: the control room is aligned and at least `CMSG_SPACE(size)` long since a chunk has at most
    // CHUNK descriptors, so the first header and `size` bytes behind it lie inside.
    unsafe {
        let first = libc::CMSG_FIRSTHDR(&raw const message);
        (*first).cmsg_level = libc::SOL_SOCKET;
        (*first).cmsg_type = libc::SCM_RIGHTS;
        (*first).cmsg_len = libc::CMSG_LEN(size) as _;
        std::ptr::copy_nonoverlapping(numbers.as_ptr().cast(), libc::CMSG_DATA(first), size as usize);
    }
    // SAFETY: `message` points to locals that live across the call.
    retry(|| check_len(unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) }))
        .map(drop)
}

/// Waits for a message; `None` when the other side has closed.
///
/// # Errors
/// Those of `recvmsg(2)`; `UnexpectedEof` in the middle of a message, `InvalidData` for one beyond the limits
/// or with fewer descriptors than it tells.
pub fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<Message>> {
    let mut header = [0u8; HEADER];
    match crate::io::recv(socket, &mut header)? {
        0 => return Ok(None),
        got => receive_exact(socket, &mut header[got..])?,
    }
    let (length, count) = header.split_at(8);
    let length = length.try_into().map(u64::from_le_bytes).unwrap_or(u64::MAX);
    let count = count.try_into().map(u32::from_le_bytes).unwrap_or(u32::MAX) as usize;
    let length = usize::try_from(length).ok().filter(|length| *length <= MAX_PAYLOAD);
    let Some(length) = length.filter(|_| count <= MAX_DESCRIPTORS) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let mut fds = Vec::with_capacity(count);
    while fds.len() < count {
        let before = fds.len();
        receive_chunk(socket, &mut fds)?;
        if fds.len() == before || fds.len() > count {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    let mut payload = vec![0; length];
    receive_exact(socket, &mut payload)?;
    Ok(Some(Message { payload, fds }))
}

fn receive_exact(socket: BorrowedFd<'_>, mut buf: &mut [u8]) -> io::Result<()> {
    while !buf.is_empty() {
        match crate::io::recv(socket, buf)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            got => buf = buf.get_mut(got..).unwrap_or_default(),
        }
    }
    Ok(())
}

fn receive_chunk(socket: BorrowedFd<'_>, fds: &mut Vec<OwnedFd>) -> io::Result<()> {
    let mut mark = [0u8; 1];
    let mut vector = libc::iovec { iov_base: mark.as_mut_ptr().cast(), iov_len: 1 };
    // SAFETY: all zeros is valid for the control union and for an empty msghdr.
    let (mut control, mut message): (Control, libc::msghdr) = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<Control>() as _;
    let fd = socket.as_raw_fd();
    // SAFETY: `message` points to locals of the sizes it tells, which live across the call.
    let got = retry(|| check_len(unsafe { libc::recvmsg(fd, &raw mut message, libc::MSG_CMSG_CLOEXEC) }))?;
    // SAFETY: the kernel has written whole control messages and told their length in `message`.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    while !next.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return null or a header inside the control room.
        let header = unsafe { std::ptr::read_unaligned(next) };
        if header.cmsg_level == libc::SOL_SOCKET && header.cmsg_type == libc::SCM_RIGHTS {
            // SAFETY: CMSG_LEN only computes.
            let bytes = (header.cmsg_len as usize).saturating_sub(unsafe { libc::CMSG_LEN(0) } as usize);
            for index in 0..bytes / size_of::<RawFd>() {
                // SAFETY: the header's length says that this many descriptors lie behind it; each one is new
                // in this process and has no other owner.
                fds.push(unsafe {
                    let data = libc::CMSG_DATA(next).cast::<RawFd>().add(index);
                    OwnedFd::from_raw_fd(std::ptr::read_unaligned(data))
                });
            }
        }
        // SAFETY: as above.
        next = unsafe { libc::CMSG_NXTHDR(&raw const message, next) };
    }
    if got == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::AsFd;

    #[test]
    fn a_message_arrives_with_its_descriptors_in_order() {
        let (a, b) = crate::socket::pair().expect("pair");
        let dir = std::env::temp_dir().join(format!("tidegate-fdpass-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("dir");
        let files: Vec<std::fs::File> = (0..450)
            .map(|index| {
                let path = dir.join(index.to_string());
                std::fs::write(&path, index.to_string()).expect("write");
                std::fs::File::open(path).expect("open")
            })
            .collect();
        let sender = std::thread::spawn(move || {
            let fds: Vec<_> = files.iter().map(AsFd::as_fd).collect();
            send(a.as_fd(), &vec![7; 300_000], &fds).expect("send");
            send(a.as_fd(), b"second", &fds[..1]).expect("send");
            send(a.as_fd(), b"", &[]).expect("send");
        });
        let first = receive(b.as_fd()).expect("receive").expect("message");
        assert_eq!((first.payload.len(), first.fds.len()), (300_000, 450));
        for (index, fd) in first.fds.into_iter().enumerate() {
            let mut text = String::new();
            std::fs::File::from(fd).read_to_string(&mut text).expect("read");
            assert_eq!(text, index.to_string());
        }
        let second = receive(b.as_fd()).expect("receive").expect("message");
        assert_eq!((second.payload.as_slice(), second.fds.len()), (&b"second"[..], 1));
        let third = receive(b.as_fd()).expect("receive").expect("message");
        assert!(third.payload.is_empty() && third.fds.is_empty());
        sender.join().expect("sender");
        assert!(receive(b.as_fd()).expect("end").is_none());
        let _ = std::fs::remove_dir_all(&dir);
    }

    #[test]
    fn a_cut_message_is_an_error() {
        let (a, b) = crate::socket::pair().expect("pair");
        crate::io::send(a.as_fd(), &[5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]).expect("send");
        drop(a);
        assert_eq!(receive(b.as_fd()).expect_err("cut").kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_message_beyond_the_limits_is_refused() {
        let (a, b) = crate::socket::pair().expect("pair");
        crate::io::send(a.as_fd(), &[255; HEADER]).expect("send");
        assert_eq!(receive(b.as_fd()).expect_err("huge").kind(), io::ErrorKind::InvalidData);
    }
}
