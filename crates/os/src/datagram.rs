//! Datagrams on a socket that many share: who sent each, and to which of this machine's addresses.
//!
//! A socket on a wildcard address has to answer from the address that it was asked at, or the client takes the answer
//! for somebody else's.

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::PathBuf;

use socket2::{SockAddr, SockAddrStorage};

use crate::socket::PeerAddr;
use crate::syscall::{check_len, retry};

/// Room for what the kernel tells beside a datagram: the address that it was sent to, of either family.
#[repr(align(8))]
struct Control([u8; 64]);

/// A datagram that was taken off a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its bytes; the rest of a longer one than there was room for is gone.
    pub length: usize,
    /// Who sent it.
    pub peer: PeerAddr,
    /// The address that it was sent to, where the socket tells (`IP_PKTINFO`).
    pub local: Option<IpAddr>,
}

/// Takes one datagram into `buffer`.
///
/// # Errors
/// Those of `recvmsg(2)`: `WouldBlock` when none waits.
pub fn recv(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Received> {
    let mut name = MaybeUninit::<SockAddrStorage>::zeroed();
    let mut control = Control([0; 64]);
    let mut vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all zeros are a valid header, whose pointers are set before it is used.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_name = name.as_mut_ptr().cast();
    header.msg_namelen = size_of::<SockAddrStorage>() as libc::socklen_t;
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = control.0.len();
    // SAFETY: everything that the header points to lives across the call and is as long as the header says.
    let length = retry(|| check_len(unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut header, 0) }))?;
    let peer = if header.msg_namelen <= 2 {
        // An unnamed Unix peer comes with no more than its family, or without even that.
        PeerAddr::Unix(PathBuf::new())
    } else {
        // SAFETY: the storage was zeroed and the kernel wrote an address of `msg_namelen` bytes into it.
        PeerAddr::of(&unsafe { SockAddr::new(name.assume_init(), header.msg_namelen) })
    };
    Ok(Received { length, peer, local: local_of(&header) })
}

/// The address that a datagram was sent to.
fn local_of(header: &libc::msghdr) -> Option<IpAddr> {
    // SAFETY: the kernel filled the control buffer and set its length; the macros walk within it.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !message.is_null() {
        // SAFETY: `message` points to a whole header within the control buffer, which is aligned for it.
        let (level, kind, length) =
            unsafe { ((*message).cmsg_level, (*message).cmsg_type, (*message).cmsg_len as usize) };
        // SAFETY: as above; the data behind the header may be read as bytes in any alignment.
        let data = unsafe { libc::CMSG_DATA(message) };
        // A message for which there was not enough room is cut; who left the socket may have asked for others.
        // SAFETY: the macro only computes.
        let has = |size: usize| length >= unsafe { libc::CMSG_LEN(size as libc::c_uint) } as usize;
        if (level, kind) == (libc::IPPROTO_IP, libc::IP_PKTINFO) && has(size_of::<libc::in_pktinfo>()) {
            // SAFETY: a message of this kind carries an `in_pktinfo`, and all of it is there.
            let info = unsafe { data.cast::<libc::in_pktinfo>().read_unaligned() };
            return Some(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)).into());
        }
        if (level, kind) == (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) && has(size_of::<libc::in6_pktinfo>()) {
            // SAFETY: a message of this kind carries an `in6_pktinfo`, and all of it is there.
            let info = unsafe { data.cast::<libc::in6_pktinfo>().read_unaligned() };
            return Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
        }
        // SAFETY: as for the first.
        message = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
    None
}

/// Sends one datagram to `peer`, from `local` where that is given.
///
/// # Errors
/// Those of `sendmsg(2)`.
pub fn send(fd: BorrowedFd<'_>, bytes: &[u8], peer: &PeerAddr, local: Option<IpAddr>) -> io::Result<usize> {
    let name = peer.raw()?;
    let mut control = Control([0; 64]);
    let mut vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: all zeros are a valid header, whose pointers are set before it is used.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_name = name.as_ptr().cast_mut().cast();
    header.msg_namelen = name.len();
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    match local {
        None => {}
        Some(IpAddr::V4(ip)) => {
            // SAFETY: all zeros are a valid structure of integers.
            let mut info: libc::in_pktinfo = unsafe { std::mem::zeroed() };
            info.ipi_spec_dst.s_addr = u32::from(ip).to_be();
            attach(&mut header, &mut control, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
        }
        Some(IpAddr::V6(ip)) => {
            let address = libc::in6_addr { s6_addr: ip.octets() };
            let info = libc::in6_pktinfo { ipi6_addr: address, ipi6_ifindex: 0 };
            attach(&mut header, &mut control, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
        }
    }
    // SAFETY: everything that the header points to lives across the call; the kernel only reads it.
    retry(|| check_len(unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL) }))
}

/// Puts one message into the control buffer.
fn attach<T: Copy>(
    header: &mut libc::msghdr,
    control: &mut Control,
    level: libc::c_int,
    kind: libc::c_int,
    data: T,
) {
    // The header of a message takes sixteen bytes.
    const { assert!(size_of::<T>() <= size_of::<Control>() - 16) };
    let length = size_of::<T>() as libc::c_uint;
    header.msg_control = control.0.as_mut_ptr().cast();
    // SAFETY: the macros only compute.
    header.msg_controllen = unsafe { libc::CMSG_SPACE(length) } as usize;
    // SAFETY: the buffer is aligned and has room for one message of either kind, so there is a first one; its data
    // may be written in any alignment.
    unsafe {
        let message = libc::CMSG_FIRSTHDR(header);
        (*message).cmsg_level = level;
        (*message).cmsg_type = kind;
        (*message).cmsg_len = libc::CMSG_LEN(length) as usize;
        libc::CMSG_DATA(message).cast::<T>().write_unaligned(data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::{ListenerOptions, open_listener};
    use crate::socket::{Kind, local_addr};
    use std::net::{SocketAddr, UdpSocket};
    use std::os::fd::AsFd;

    fn check(listen: &str, client: &str, at: &str) {
        let listen: SocketAddr = listen.parse().expect("address");
        let Ok(socket) = open_listener(&ListenerOptions::new(PeerAddr::Inet(listen), Kind::Datagram)) else {
            // No such family on this machine.
            return;
        };
        let port = local_addr(socket.as_fd()).expect("address").port();
        let Ok(client) = UdpSocket::bind(client) else { return };
        let at = SocketAddr::new(at.parse().expect("address"), port);
        client.send_to(b"ask", at).expect("sent");
        let mut buffer = [0; 16];
        let received = loop {
            match recv(socket.as_fd(), &mut buffer) {
                Ok(received) => break received,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        };
        let own = client.local_addr().expect("address");
        assert_eq!((received.length, &received.peer), (3, &PeerAddr::Inet(own)));
        let expected = listen.ip().is_unspecified().then_some(at.ip());
        assert_eq!(received.local, expected);
        assert_eq!(send(socket.as_fd(), b"", &received.peer, received.local).expect("sent"), 0);
        let mut answer = [0; 16];
        let (length, from) = client.recv_from(&mut answer).expect("answer");
        assert_eq!((length, from), (0, at));
    }

    #[test]
    fn answers_come_from_where_was_asked() {
        check("127.0.0.1:0", "127.0.0.1:0", "127.0.0.1");
        check("0.0.0.0:0", "127.0.0.1:0", "127.0.0.5");
        check("[::]:0", "[::1]:0", "::1");
    }

    #[test]
    fn nothing_waits() {
        let addr = PeerAddr::Inet(([127, 0, 0, 1], 0).into());
        let socket = open_listener(&ListenerOptions::new(addr, Kind::Datagram)).expect("socket");
        let error = recv(socket.as_fd(), &mut [0; 4]).expect_err("empty");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
