//! Connections: opening towards a peer, accepting, and who is at the other end.
//!
//! Every descriptor made here is close-on-exec and non-blocking.

use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use socket2::{SockAddr, SockAddrStorage};

use crate::syscall::{check, direct, read_option, retry, set_option};

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PeerAddr {
    /// An IPv4 or IPv6 address and port.
    Inet(SocketAddr),
    /// A Unix domain socket; the path is empty for one without a name.
    Unix(PathBuf),
}

impl PeerAddr {
    /// The IP address, unless it is a Unix socket.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Inet(addr) => Some(addr.ip()),
            Self::Unix(_) => None,
        }
    }

    /// The port; zero for a Unix socket.
    #[must_use]
    pub fn port(&self) -> u16 {
        match self {
            Self::Inet(addr) => addr.port(),
            Self::Unix(_) => 0,
        }
    }

    /// Whether it is an IP address that only the machine itself can reach.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.ip().is_some_and(|ip| ip.to_canonical().is_loopback())
    }

    pub(crate) fn of(addr: &SockAddr) -> Self {
        match addr.as_socket() {
            Some(inet) => Self::Inet(inet),
            None => Self::Unix(addr.as_pathname().map(Path::to_path_buf).unwrap_or_default()),
        }
    }

    pub(crate) fn raw(&self) -> io::Result<SockAddr> {
        match self {
            Self::Inet(addr) => Ok((*addr).into()),
            Self::Unix(path) => SockAddr::unix(path),
        }
    }
}

impl From<SocketAddr> for PeerAddr {
    fn from(addr: SocketAddr) -> Self {
        Self::Inet(addr)
    }
}

/// As nginx prints it: `127.0.0.1:80`, `[::1]:80`, `unix:/path`.
impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Stream or datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// TCP or a Unix stream socket.
    Stream,
    /// UDP or a Unix datagram socket.
    Datagram,
}

/// Whether the local address of a connection may be somebody else's (`proxy_bind … transparent`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Transparency {
    /// The address must be this machine's.
    #[default]
    Own,
    /// `IP_TRANSPARENT`: any address; needs `CAP_NET_RAW` or `CAP_NET_ADMIN`.
    Any,
}

/// The outcome of starting to connect.
#[derive(Debug)]
pub struct Connecting {
    /// The new socket.
    pub fd: OwnedFd,
    /// Whether it is connected or still on its way: then wait until writable and ask [`take_error`].
    pub state: ConnectState,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectState {
    /// The connection stands.
    Connected,
    /// `EINPROGRESS`.
    InProgress,
}

/// A new socket for the family of `addr`.
///
/// # Errors
/// Those of `socket(2)`.
pub fn open(addr: &PeerAddr, kind: Kind) -> io::Result<OwnedFd> {
    let family = match addr {
        PeerAddr::Inet(SocketAddr::V4(_)) => libc::AF_INET,
        PeerAddr::Inet(SocketAddr::V6(_)) => libc::AF_INET6,
        PeerAddr::Unix(_) => libc::AF_UNIX,
    };
    let kind = match kind {
        Kind::Stream => libc::SOCK_STREAM,
        Kind::Datagram => libc::SOCK_DGRAM,
    };
    // SAFETY: plain integers are passed.
    let fd = check(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0) })?;
    // SAFETY: the call succeeded, so the descriptor is open and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Binds a socket to a local address.
///
/// # Errors
/// Those of `bind(2)`.
pub fn bind(fd: BorrowedFd<'_>, addr: &PeerAddr) -> io::Result<()> {
    let raw = addr.raw()?;
    // SAFETY: `raw` is a socket address of the length that it tells and lives across the call.
    check(unsafe { libc::bind(fd.as_raw_fd(), raw.as_ptr().cast(), raw.len()) }).map(drop)
}

/// Begins to connect a stream socket; `bind_addr` is the local end where one is asked for.
///
/// # Errors
/// Those of `socket(2)`, `bind(2)` and `connect(2)`, `EINPROGRESS` apart. `EAGAIN` is a Unix peer whose
/// backlog is full.
pub fn connect_start(
    addr: &PeerAddr,
    bind_addr: Option<SocketAddr>,
    transparency: Transparency,
) -> io::Result<Connecting> {
    start(addr, Kind::Stream, bind_addr, transparency)
}

/// Opens a datagram socket whose peer is `addr`.
///
/// # Errors
/// As [`connect_start`].
pub fn connect_datagram(
    addr: &PeerAddr,
    bind_addr: Option<SocketAddr>,
    transparency: Transparency,
) -> io::Result<OwnedFd> {
    start(addr, Kind::Datagram, bind_addr, transparency).map(|connecting| connecting.fd)
}

fn start(
    addr: &PeerAddr,
    kind: Kind,
    bind_addr: Option<SocketAddr>,
    transparency: Transparency,
) -> io::Result<Connecting> {
    let fd = open(addr, kind)?;
    if let (Some(local), PeerAddr::Inet(_)) = (bind_addr, addr) {
        bind_local(fd.as_fd(), local, kind, transparency)?;
    }
    let state = connect(fd.as_fd(), addr)?;
    Ok(Connecting { fd, state })
}

/// Binds a socket to the local end that its connection is to have.
///
/// # Errors
/// Those of `bind(2)`, and of [`set_transparent`].
pub fn bind_local(
    fd: BorrowedFd<'_>,
    local: SocketAddr,
    kind: Kind,
    transparency: Transparency,
) -> io::Result<()> {
    if transparency == Transparency::Any {
        set_transparent(fd, local)?;
    }
    if local.port() == 0 && kind == Kind::Stream {
        // The kernel then picks the port while connecting, when it knows the peer, and ports last longer.
        let _ = set_option(fd, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1i32);
    }
    bind(fd, &PeerAddr::Inet(local))
}

/// Begins to connect a socket. Within a machine the handshake is over before `connect(2)` returns, whatever it says, and
/// then nothing has to be waited for.
///
/// # Errors
/// Those of `connect(2)`, `EINPROGRESS` apart.
pub fn connect(fd: BorrowedFd<'_>, addr: &PeerAddr) -> io::Result<ConnectState> {
    let done = match addr {
        PeerAddr::Unix(path) => connect_unix(fd, path),
        PeerAddr::Inet(inet) => connect_raw(fd, &(*inet).into()),
    };
    match done {
        Ok(()) => Ok(ConnectState::Connected),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(match peer_addr(fd) {
            Ok(_) => ConnectState::Connected,
            Err(_) => ConnectState::InProgress,
        }),
        Err(error) => Err(error),
    }
}

fn connect_raw(fd: BorrowedFd<'_>, raw: &SockAddr) -> io::Result<()> {
    // SAFETY: `raw` is a socket address of the length that it tells and lives across the call.
    retry(|| unsafe { direct::connect(fd, raw.as_ptr().cast(), raw.len()) })
}

/// As [`connect_raw`], for the usual path without its address going from hand to hand.
fn connect_unix(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    const ROOM: usize = 108;
    let bytes = path.as_os_str().as_bytes();
    // An abstract name, one that is too long or none at all.
    if bytes.first().is_none_or(|first| *first == 0) || bytes.len() >= ROOM {
        return connect_raw(fd, &SockAddr::unix(path)?);
    }
    let mut raw = MaybeUninit::<libc::sockaddr_un>::uninit();
    let start = raw.as_mut_ptr();
    // SAFETY: these are fields of `raw`, and there is room for the path and a NUL behind it.
    unsafe {
        (&raw mut (*start).sun_family).write(libc::AF_UNIX as libc::sa_family_t);
        let path = (&raw mut (*start).sun_path).cast::<u8>();
        path.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        path.add(bytes.len()).write(0);
    }
    let len = (std::mem::offset_of!(libc::sockaddr_un, sun_path) + bytes.len() + 1) as libc::socklen_t;
    // SAFETY: `len` bytes of `raw` are written, and it lives across the call.
    retry(move || unsafe { direct::connect(fd, raw.as_ptr().cast(), len) })
}

/// Lets a socket bind addresses that are not this machine's.
///
/// # Errors
/// Those of `setsockopt(2)`; `PermissionDenied` without the capability.
pub fn set_transparent(fd: BorrowedFd<'_>, local: SocketAddr) -> io::Result<()> {
    match local {
        SocketAddr::V4(_) => set_option(fd, libc::IPPROTO_IP, libc::IP_TRANSPARENT, 1i32),
        SocketAddr::V6(_) => set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_TRANSPARENT, 1i32),
    }
}

/// The pending error of a socket, taken off it: how a connection attempt ended.
///
/// # Errors
/// That of `getsockopt(2)`.
pub fn take_error(fd: BorrowedFd<'_>) -> io::Result<Option<io::Error>> {
    // SAFETY: every bit pattern is a valid integer.
    match unsafe { read_option::<libc::c_int>(fd, libc::SOL_SOCKET, libc::SO_ERROR) }? {
        0 => Ok(None),
        code => Ok(Some(io::Error::from_raw_os_error(code))),
    }
}

/// Takes one connection off a listening socket, with the address of its peer.
///
/// # Errors
/// Those of `accept4(2)`: `WouldBlock` when none waits, `EMFILE` and `ENFILE` out of descriptors.
#[inline]
pub fn accept4(fd: BorrowedFd<'_>) -> io::Result<(OwnedFd, PeerAddr)> {
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let accepted = retry(|| {
        with_address(|storage, len| {
            // SAFETY: the kernel writes at most `*len` bytes of address into the storage.
            check(unsafe { libc::accept4(fd.as_raw_fd(), storage, len, flags) })
        })
    });
    let (raw, addr) = accepted?;
    // SAFETY: the call succeeded, so the descriptor is open and belongs to nobody else.
    Ok((unsafe { OwnedFd::from_raw_fd(raw) }, addr))
}

/// The local end of a socket.
///
/// # Errors
/// Those of `getsockname(2)`.
pub fn local_addr(fd: BorrowedFd<'_>) -> io::Result<PeerAddr> {
    // SAFETY: the kernel writes at most `*len` bytes of address into the storage.
    with_address(|storage, len| check(unsafe { libc::getsockname(fd.as_raw_fd(), storage, len) }))
        .map(|(_, addr)| addr)
}

/// The remote end of a socket.
///
/// # Errors
/// Those of `getpeername(2)`; `NotConnected` when there is none.
pub fn peer_addr(fd: BorrowedFd<'_>) -> io::Result<PeerAddr> {
    // SAFETY: the kernel writes at most `*len` bytes of address into the storage.
    with_address(|storage, len| check(unsafe { libc::getpeername(fd.as_raw_fd(), storage, len) }))
        .map(|(_, addr)| addr)
}

fn with_address(
    call: impl FnOnce(*mut libc::sockaddr, *mut libc::socklen_t) -> io::Result<libc::c_int>,
) -> io::Result<(libc::c_int, PeerAddr)> {
    let mut storage = MaybeUninit::<SockAddrStorage>::zeroed();
    let mut len = size_of::<SockAddrStorage>() as libc::socklen_t;
    let value = call(storage.as_mut_ptr().cast(), &raw mut len)?;
    // SAFETY: the storage was zeroed and the kernel wrote an address of `len` bytes into it.
    let addr = unsafe { SockAddr::new(storage.assume_init(), len) };
    // An unnamed Unix peer comes with no more than its family, which socket2 cannot tell apart.
    if len <= 2 {
        return Ok((value, PeerAddr::Unix(PathBuf::new())));
    }
    Ok((value, PeerAddr::of(&addr)))
}

/// A connected pair of Unix stream sockets, both blocking, for the talk of two processes.
///
/// # Errors
/// Those of `socketpair(2)`.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (a, b) = std::os::unix::net::UnixStream::pair()?;
    Ok((a.into(), b.into()))
}

/// Non-blocking or blocking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocking {
    /// Calls wait.
    Wait,
    /// Calls return `WouldBlock`.
    Never,
}

/// Switches a descriptor between waiting and not waiting.
///
/// # Errors
/// Those of `fcntl(2)`.
pub fn set_blocking(fd: BorrowedFd<'_>, blocking: Blocking) -> io::Result<()> {
    // SAFETY: plain integers are passed and the descriptor is open.
    let flags = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    let flags = match blocking {
        Blocking::Wait => flags & !libc::O_NONBLOCK,
        Blocking::Never => flags | libc::O_NONBLOCK,
    };
    // SAFETY: as above.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_connection_knows_both_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let addr = listener.local_addr().expect("addr");
        let connecting =
            connect_start(&addr.into(), "127.0.0.1:0".parse().ok(), Transparency::Own).expect("connect");
        // Without a look at the event loop.
        assert_eq!(connecting.state, ConnectState::Connected);
        let (fd, peer) = accept4(listener.as_fd()).expect("accept");
        assert!(take_error(connecting.fd.as_fd()).expect("option").is_none());
        assert_eq!(local_addr(connecting.fd.as_fd()).expect("local"), peer);
        assert_eq!(peer_addr(fd.as_fd()).expect("peer"), peer);
        assert_eq!(local_addr(fd.as_fd()).expect("local"), PeerAddr::Inet(addr));
        assert_eq!(peer_addr(connecting.fd.as_fd()).expect("peer").to_string(), addr.to_string());
    }

    #[test]
    fn an_unnamed_unix_peer_has_an_empty_path() {
        let path = std::env::temp_dir().join(format!("tidegate-os-{}.sock", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).expect("bind");
        let connecting =
            connect_start(&PeerAddr::Unix(path.clone()), None, Transparency::Own).expect("connect");
        assert_eq!(connecting.state, ConnectState::Connected);
        let (fd, peer) = accept4(listener.as_fd()).expect("accept");
        assert_eq!(peer, PeerAddr::Unix(PathBuf::new()));
        assert_eq!(local_addr(fd.as_fd()).expect("local"), PeerAddr::Unix(path.clone()));
        let _ = std::fs::remove_file(&path);
    }

    #[test]
    fn unusual_names_of_unix_sockets_are_connected_to() {
        use std::os::linux::net::SocketAddrExt;
        let name = format!("tidegate-os-{}", std::process::id());
        let abstract_name = std::os::unix::net::SocketAddr::from_abstract_name(&name).expect("a name");
        let _listener = UnixListener::bind_addr(&abstract_name).expect("bind");
        let state = |path: String| {
            connect_start(&PeerAddr::Unix(path.into()), None, Transparency::Own)
                .map(|connecting| connecting.state)
                .map_err(|error| error.kind())
        };
        assert_eq!(state(format!("\0{name}")), Ok(ConnectState::Connected));
        assert_eq!(state("x".repeat(108)), Err(io::ErrorKind::InvalidInput));
        assert_eq!(state("x".repeat(107)), Err(io::ErrorKind::NotFound));
        assert!(state(String::new()).is_err());
    }

    #[test]
    fn a_refused_connection_tells_so() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let addr = listener.local_addr().expect("addr");
        drop(listener);
        let error = match connect_start(&addr.into(), None, Transparency::Own) {
            Ok(connecting) => take_error(connecting.fd.as_fd()).expect("option").expect("pending"),
            Err(error) => error,
        };
        assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
    }
}
