//! Options of one connection: delay, keepalive, linger, buffers, and what TCP knows of its path.
//!
//! Each function is one system call; a caller that ignores the error loses speed, not correctness.

use std::io;
use std::os::fd::BorrowedFd;

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
    use std::os::fd::AsFd;

    #[test]
    fn accepted_connections_take_after_their_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        set_nodelay(listener.as_fd(), Switch::On).expect("nodelay");
        let _client = TcpStream::connect(listener.local_addr().expect("addr")).expect("connect");
        let (accepted, _) = listener.accept().expect("accept");
        assert!(accepted.nodelay().expect("nodelay"));
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
