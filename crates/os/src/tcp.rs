//! Options of one connection: delay, keepalive, linger, buffers, and what TCP knows of its path.
//!
//! Each function is one system call; a caller that ignores the error loses speed, not correctness.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;

use crate::socket::{Kind, PeerAddr, open};
use crate::syscall::{read_option, set_option};

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// The option is set.
    On,
    /// The option is cleared.
    Off,
}

impl Switch {
    fn value(self) -> libc::c_int {
        libc::c_int::from(self == Self::On)
    }
}

/// `TCP_NODELAY`: small segments leave at once.
///
/// # Errors
/// Those of `setsockopt(2)`.
pub fn set_nodelay(fd: BorrowedFd<'_>, switch: Switch) -> io::Result<()> {
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, switch.value())
}

/// `SO_LINGER` with zero seconds: closing resets the connection (`reset_timedout_connection`).
///
/// # Errors
/// Those of `setsockopt(2)`.
pub fn set_reset_on_close(fd: BorrowedFd<'_>) -> io::Result<()> {
    set_option(fd, libc::SOL_SOCKET, libc::SO_LINGER, libc::linger { l_onoff: 1, l_linger: 0 })
}

/// Times of TCP keepalive; `None` leaves the system's value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Keepalive {
    /// `TCP_KEEPIDLE`, seconds.
    pub idle_sec: Option<u32>,
    /// `TCP_KEEPINTVL`, seconds.
    pub interval_sec: Option<u32>,
    /// `TCP_KEEPCNT`.
    pub count: Option<u32>,
}

/// `SO_KEEPALIVE`: on with the given times, or off with `None`.
///
/// # Errors
/// Those of `setsockopt(2)`.
pub fn set_keepalive(fd: BorrowedFd<'_>, keepalive: Option<Keepalive>) -> io::Result<()> {
    set_option(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE, libc::c_int::from(keepalive.is_some()))?;
    let times = keepalive.unwrap_or_default();
    let rows = [
        (libc::TCP_KEEPIDLE, times.idle_sec),
        (libc::TCP_KEEPINTVL, times.interval_sec),
        (libc::TCP_KEEPCNT, times.count),
    ];
    for (name, value) in rows {
        if let Some(value) = value {
            set_option(fd, libc::IPPROTO_TCP, name, value)?;
        }
    }
    Ok(())
}

/// `SO_SNDBUF`, bytes.
///
/// # Errors
/// Those of `setsockopt(2)`.
pub fn set_sndbuf(fd: BorrowedFd<'_>, bytes: u32) -> io::Result<()> {
    set_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, bytes)
}

/// `SO_RCVBUF`, bytes.
///
/// # Errors
/// Those of `setsockopt(2)`.
pub fn set_rcvbuf(fd: BorrowedFd<'_>, bytes: u32) -> io::Result<()> {
    set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, bytes)
}

/// `TCP_CONGESTION`: the name of a congestion control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Congestion([u8; Self::NAME_MAX]);

impl Congestion {
    /// `TCP_CA_NAME_MAX`, bytes.
    const NAME_MAX: usize = 16;

    /// Reno, which every kernel has and lets everybody choose. For connections within the machine, where there is no
    /// link that more could be sent over than it carries.
    pub const RENO: Self = Self(*b"reno\0\0\0\0\0\0\0\0\0\0\0\0");

    /// That of a socket.
    ///
    /// # Errors
    /// Those of `getsockopt(2)`; a Unix socket has none.
    pub fn of(fd: BorrowedFd<'_>) -> io::Result<Self> {
        // SAFETY: every bit pattern is a valid array of bytes.
        unsafe { read_option(fd, libc::IPPROTO_TCP, libc::TCP_CONGESTION) }.map(Self)
    }

    /// The system's, which sockets have that nothing is set for; asked for once.
    #[must_use]
    pub fn system() -> Self {
        static SYSTEM: OnceLock<Congestion> = OnceLock::new();
        let ask = || Self::of(open(&PeerAddr::Inet((Ipv4Addr::LOCALHOST, 0).into()), Kind::Stream)?.as_fd());
        *SYSTEM.get_or_init(|| ask().unwrap_or(Self::RENO))
    }

    /// Whether it spreads what is sent over time by timers, as BBR does. Within the machine they cost more than the
    /// sending.
    #[must_use]
    pub fn is_paced(self) -> bool {
        self.0.starts_with(b"bbr")
    }

    /// Gives it to a socket. What a listening socket accepts takes after it, which spares more than giving it to each
    /// connection: one that was paced keeps a part of the work.
    ///
    /// # Errors
    /// Those of `setsockopt(2)`.
    pub fn set(self, fd: BorrowedFd<'_>) -> io::Result<()> {
        set_option(fd, libc::IPPROTO_TCP, libc::TCP_CONGESTION, self.0)
    }
}

/// What `$tcpinfo_rtt`, `$tcpinfo_rttvar`, `$tcpinfo_snd_cwnd` and `$tcpinfo_rcv_space` show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpInfo {
    /// Round trip, microseconds.
    pub rtt: u32,
    /// Its variation, microseconds.
    pub rttvar: u32,
    /// Congestion window, segments.
    pub snd_cwnd: u32,
    /// Receive space, bytes.
    pub rcv_space: u32,
}

/// `TCP_INFO` of a connection.
///
/// # Errors
/// Those of `getsockopt(2)`; a Unix socket has none.
pub fn tcp_info(fd: BorrowedFd<'_>) -> io::Result<TcpInfo> {
    // SAFETY: `tcp_info` consists of integers, so every bit pattern is valid.
    let info: libc::tcp_info = unsafe { read_option(fd, libc::IPPROTO_TCP, libc::TCP_INFO) }?;
    Ok(TcpInfo {
        rtt: info.tcpi_rtt,
        rttvar: info.tcpi_rttvar,
        snd_cwnd: info.tcpi_snd_cwnd,
        rcv_space: info.tcpi_rcv_space,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn accepted_connections_take_after_their_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        set_nodelay(listener.as_fd(), Switch::On).expect("nodelay");
        let _client = TcpStream::connect(listener.local_addr().expect("addr")).expect("connect");
        let (accepted, _) = listener.accept().expect("accept");
        assert!(accepted.nodelay().expect("nodelay"));
    }

    #[test]
    fn congestion_controls_are_told_and_set() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        assert_eq!(Congestion::of(listener.as_fd()).expect("name"), Congestion::system());
        Congestion::RENO.set(listener.as_fd()).expect("reno");
        let _client = TcpStream::connect(listener.local_addr().expect("addr")).expect("connect");
        let (accepted, _) = listener.accept().expect("accept");
        assert_eq!(Congestion::of(accepted.as_fd()).expect("name"), Congestion::RENO);
        assert!(!Congestion::RENO.is_paced());
        assert!(Congestion(*b"bbr\0\0\0\0\0\0\0\0\0\0\0\0\0").is_paced());
    }

    #[test]
    fn options_are_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let stream = TcpStream::connect(listener.local_addr().expect("addr")).expect("connect");
        let fd = stream.as_fd();
        set_nodelay(fd, Switch::On).expect("nodelay");
        assert!(stream.nodelay().expect("nodelay"));
        let times = Keepalive { idle_sec: Some(30), interval_sec: None, count: Some(4) };
        set_keepalive(fd, Some(times)).expect("keepalive");
        set_keepalive(fd, None).expect("keepalive");
        set_reset_on_close(fd).expect("linger");
        assert!(tcp_info(fd).expect("info").snd_cwnd > 0);
    }
}
