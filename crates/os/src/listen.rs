//! Listening sockets with the options of `listen`.
//!
//! Follows `ngx_open_listening_sockets`: a stale Unix socket file is `Address already in use`, not removed.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;

use crate::socket::{Kind, PeerAddr, bind, open};
use crate::syscall::{check, read_option, set_option};
use crate::tcp::{Keepalive, Switch, set_keepalive, set_nodelay, set_rcvbuf, set_sndbuf};

/// Whether several sockets share the address (`reuseport`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// One socket has the address for itself.
    #[default]
    Sole,
    /// `SO_REUSEPORT`.
    Shared,
}

/// Whether an IPv6 socket takes IPv4 connections too (`ipv6only`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Families {
    /// `ipv6only=on`.
    #[default]
    Ipv6Only,
    /// `ipv6only=off`.
    Both,
}

/// When a connection is handed over (`deferred`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Handover {
    /// When it stands.
    #[default]
    AtOnce,
    /// `TCP_DEFER_ACCEPT`: when its first bytes are there.
    WithData,
}

/// Where and how to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerOptions {
    /// The address.
    pub addr: PeerAddr,
    /// Stream or datagram.
    pub kind: Kind,
    /// Alone or shared.
    pub sharing: Sharing,
    /// `listen(2)` backlog.
    pub backlog: i32,
    /// `SO_RCVBUF`, bytes.
    pub rcvbuf: Option<u32>,
    /// `SO_SNDBUF`, bytes.
    pub sndbuf: Option<u32>,
    /// `so_keepalive`: `None` leaves the default, `Some(None)` is off.
    pub keepalive: Option<Option<Keepalive>>,
    /// `deferred`.
    pub handover: Handover,
    /// `ipv6only`.
    pub families: Families,
    /// `TCP_FASTOPEN` queue length.
    pub fastopen: Option<u32>,
}

impl ListenerOptions {
    /// nginx's defaults for an address.
    #[must_use]
    pub fn new(addr: PeerAddr, kind: Kind) -> Self {
        Self {
            addr,
            kind,
            sharing: Sharing::default(),
            backlog: 511,
            rcvbuf: None,
            sndbuf: None,
            keepalive: None,
            handover: Handover::default(),
            families: Families::default(),
            fastopen: None,
        }
    }
}

/// Which step of opening a listener failed; nginx's messages name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// `socket()`
    Socket,
    /// `setsockopt()`
    Option,
    /// `bind()`
    Bind,
    /// `chmod()`
    Chmod,
    /// `listen()`
    Listen,
}

/// A listener that could not be opened.
#[derive(Debug)]
pub struct ListenError {
    /// The step that failed.
    pub step: Step,
    /// Why.
    pub error: io::Error,
}

impl ListenError {
    /// Whether somebody else has the address, which nginx tries again and `-t` forgives.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        self.error.raw_os_error() == Some(libc::EADDRINUSE)
    }
}

impl From<ListenError> for io::Error {
    fn from(failed: ListenError) -> Self {
        failed.error
    }
}

/// Opens, binds and (for a stream) listens; non-blocking, close-on-exec, `SO_REUSEADDR`.
///
/// # Errors
/// [`ListenError`] with the step that failed.
pub fn open_listener(options: &ListenerOptions) -> Result<OwnedFd, ListenError> {
    let at = |step: Step| move |error: io::Error| ListenError { step, error };
    let owned = open(&options.addr, options.kind).map_err(at(Step::Socket))?;
    let fd = owned.as_fd();
    set_option(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1i32).map_err(at(Step::Option))?;
    if options.sharing == Sharing::Shared {
        set_reuseport(fd).map_err(at(Step::Option))?;
    }
    if let PeerAddr::Inet(std::net::SocketAddr::V6(_)) = options.addr {
        let only = libc::c_int::from(options.families == Families::Ipv6Only);
        set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, only).map_err(at(Step::Option))?;
    }
    bind(fd, &options.addr).map_err(at(Step::Bind))?;
    if let PeerAddr::Unix(path) = &options.addr {
        let everyone = std::fs::Permissions::from_mode(0o666);
        std::fs::set_permissions(path, everyone).map_err(at(Step::Chmod))?;
    }
    configure_listener(fd, options).map_err(at(Step::Option))?;
    if options.kind == Kind::Stream {
        listen(fd, options.backlog).map_err(at(Step::Listen))?;
    }
    Ok(owned)
}

/// Lets further sockets share the address of this one, as nginx does where `reuseport` is added by a reload.
///
/// # Errors
/// Those of `setsockopt(2)`.
pub fn set_reuseport(fd: BorrowedFd<'_>) -> io::Result<()> {
    set_option(fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1i32)
}

/// Starts listening, or changes the backlog of a socket that listens already.
///
/// # Errors
/// Those of `listen(2)`.
pub fn listen(fd: BorrowedFd<'_>, backlog: i32) -> io::Result<()> {
    // SAFETY: plain integers are passed and the descriptor is open.
    check(unsafe { libc::listen(fd.as_raw_fd(), backlog) }).map(drop)
}

/// Applies what may change on a bound socket: buffers, keepalive, deferred accept, fast open. Connections send at once by
/// what they have from here, be they made before anybody is there to accept them.
///
/// # Errors
/// Those of `setsockopt(2)`.
pub fn configure_listener(fd: BorrowedFd<'_>, options: &ListenerOptions) -> io::Result<()> {
    if let Some(bytes) = options.rcvbuf {
        set_rcvbuf(fd, bytes)?;
    }
    if let Some(bytes) = options.sndbuf {
        set_sndbuf(fd, bytes)?;
    }
    if let PeerAddr::Unix(_) = options.addr {
        return Ok(());
    }
    if options.kind == Kind::Datagram {
        return set_packet_info(fd, &options.addr);
    }
    set_nodelay(fd, Switch::On)?;
    if let Some(keepalive) = options.keepalive {
        set_keepalive(fd, keepalive)?;
    }
    if let Some(queue) = options.fastopen {
        set_option(fd, libc::IPPROTO_TCP, libc::TCP_FASTOPEN, queue)?;
    }
    // SAFETY: every bit pattern is a valid integer.
    let deferred = unsafe { read_option::<libc::c_int>(fd, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT) }? != 0;
    let wanted = options.handover == Handover::WithData;
    if deferred != wanted {
        set_option(fd, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, libc::c_int::from(wanted))?;
    }
    Ok(())
}

/// A datagram socket on a wildcard address must learn where each datagram was sent to.
fn set_packet_info(fd: BorrowedFd<'_>, addr: &PeerAddr) -> io::Result<()> {
    match addr {
        PeerAddr::Inet(std::net::SocketAddr::V4(v4)) if v4.ip().is_unspecified() => {
            set_option(fd, libc::IPPROTO_IP, libc::IP_PKTINFO, 1i32)
        }
        PeerAddr::Inet(std::net::SocketAddr::V6(v6)) if v6.ip().is_unspecified() => {
            set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1i32)
        }
        _ => Ok(()),
    }
}

/// Stream or datagram, for a socket that came from elsewhere.
///
/// # Errors
/// Those of `getsockopt(2)`, and `InvalidInput` for another kind of socket.
pub fn kind_of(fd: BorrowedFd<'_>) -> io::Result<Kind> {
    // SAFETY: every bit pattern is a valid integer.
    match unsafe { read_option::<libc::c_int>(fd, libc::SOL_SOCKET, libc::SO_TYPE) }? {
        libc::SOCK_STREAM => Ok(Kind::Stream),
        libc::SOCK_DGRAM => Ok(Kind::Datagram),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Whether a socket shares its address, for a socket that came from elsewhere.
///
/// # Errors
/// Those of `getsockopt(2)`.
pub fn sharing_of(fd: BorrowedFd<'_>) -> io::Result<Sharing> {
    // SAFETY: every bit pattern is a valid integer.
    match unsafe { read_option::<libc::c_int>(fd, libc::SOL_SOCKET, libc::SO_REUSEPORT) }? {
        0 => Ok(Sharing::Sole),
        _ => Ok(Sharing::Shared),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::{Transparency, accept4, connect_start, local_addr};

    fn options(addr: &str) -> ListenerOptions {
        ListenerOptions::new(PeerAddr::Inet(addr.parse().expect("address")), Kind::Stream)
    }

    #[test]
    fn an_address_listens_once_unless_shared() {
        let first = open_listener(&options("127.0.0.1:0")).expect("listen");
        let addr = local_addr(first.as_fd()).expect("addr");
        let mut again = options("127.0.0.1:0");
        again.addr = addr.clone();
        let failed = open_listener(&again).expect_err("in use");
        assert!(failed.is_in_use());
        // Linux finds an address in use only while listening when SO_REUSEADDR is set on a bound socket.
        assert!(matches!(failed.step, Step::Bind | Step::Listen));

        set_reuseport(first.as_fd()).expect("reuseport");
        again.sharing = Sharing::Shared;
        let second = open_listener(&again).expect("shared");
        assert_eq!(sharing_of(second.as_fd()).expect("sharing"), Sharing::Shared);
        assert_eq!(kind_of(second.as_fd()).expect("kind"), Kind::Stream);
    }

    #[test]
    fn connections_that_nobody_has_accepted_yet_hold_nothing_back() {
        let listener = open_listener(&options("127.0.0.1:0")).expect("a listener");
        let addr = crate::socket::local_addr(listener.as_fd()).expect("its address");
        let PeerAddr::Inet(addr) = addr else { unreachable!("{addr:?}") };
        let _client = std::net::TcpStream::connect(addr).expect("a connection");
        let accepted = std::net::TcpListener::from(listener).accept().expect("the connection").0;
        assert!(accepted.nodelay().expect("an option"));
    }

    #[test]
    fn a_unix_socket_is_open_to_all_and_a_stale_file_is_in_use() {
        let path = std::env::temp_dir().join(format!("tidegate-listen-{}.sock", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let options = ListenerOptions::new(PeerAddr::Unix(path.clone()), Kind::Stream);
        let listener = open_listener(&options).expect("listen");
        let mode = std::fs::metadata(&path).expect("stat").permissions().mode();
        assert_eq!(mode & 0o777, 0o666);
        connect_start(&options.addr, None, Transparency::Own).expect("connect");
        accept4(listener.as_fd()).expect("accept");
        drop(listener);
        assert!(open_listener(&options).expect_err("stale").is_in_use());
        let _ = std::fs::remove_file(&path);
    }
}
