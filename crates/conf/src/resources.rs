//! The one door to the outside while a configuration is compiled.
//!
//! Master, worker, `-t` and tests each bring their own [`Resources`], so all compile the same text alike.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Everything that compiling a configuration may ask from outside.
///
/// Paths are absolute: the caller has applied the prefix.
pub trait Resources {
    /// The bytes of a configuration file, key or other file that is read once at load.
    ///
    /// # Errors
    /// The error of opening or reading the file, with the system's number: messages name it as nginx does.
    fn read(&mut self, path: &Path) -> io::Result<Arc<[u8]>>;

    /// As [`Self::read`], for certificates, keys and their like: where the file is the same as when the
    /// configuration before was loaded, it may be the text of that time (`ssl_object_cache_inheritable`).
    ///
    /// # Errors
    /// As [`Self::read`].
    fn read_object(&mut self, path: &Path) -> io::Result<Arc<[u8]>> {
        self.read(path)
    }

    /// Paths that match a glob pattern (`glob(3)`, no flags) in sorted order; empty when none does.
    ///
    /// # Errors
    /// The error of reading a directory.
    fn glob(&mut self, pattern: &Path) -> io::Result<Vec<PathBuf>>;

    /// A bound and listening (or bound datagram) socket. The same spec yields the same socket.
    ///
    /// # Errors
    /// The error of creating, binding or listening.
    fn socket(&mut self, spec: &SocketSpec) -> io::Result<Arc<OwnedFd>>;

    /// A log file opened for appending. The same path yields the same file.
    ///
    /// # Errors
    /// The error of opening the file.
    fn log(&mut self, path: &Path) -> io::Result<Arc<LogFile>>;

    /// Makes sure that a directory (with its parents) is there and belongs to the worker's user.
    ///
    /// # Errors
    /// The error of creating it.
    fn directory(&mut self, path: &Path) -> io::Result<()>;

    /// The addresses of a host, IPv4 before IPv6 as in nginx. The same host yields the same addresses, so a
    /// worker that is started again does not depend on a name server.
    ///
    /// # Errors
    /// The error of the system's resolver; an empty list is no error here.
    fn resolve(&mut self, host: &str) -> io::Result<Vec<IpAddr>> {
        look_up(host)
    }
}

/// Asks the system's resolver for the addresses of a host, IPv4 before IPv6.
///
/// # Errors
/// The error of the resolver.
pub fn look_up(host: &str) -> io::Result<Vec<IpAddr>> {
    let mut found: Vec<IpAddr> = (host, 0).to_socket_addrs()?.map(|addr| addr.ip()).collect();
    found.sort_by_key(IpAddr::is_ipv6);
    Ok(found)
}

/// Where a socket listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ListenAddr {
    /// An IPv4 or IPv6 address and port.
    Inet(SocketAddr),
    /// The path of a Unix domain socket.
    Unix(PathBuf),
}

/// Stream or datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SocketKind {
    /// TCP or a Unix stream socket.
    Stream,
    /// UDP.
    Datagram,
}

/// `so_keepalive=` of `listen`: seconds and a count; `None` leaves the system's value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TcpKeepalive {
    /// `TCP_KEEPIDLE`, seconds.
    pub idle_sec: Option<u32>,
    /// `TCP_KEEPINTVL`, seconds.
    pub interval_sec: Option<u32>,
    /// `TCP_KEEPCNT`.
    pub count: Option<u32>,
}

/// A listening socket with the options of `listen` that the socket itself carries.
///
/// Two specs name the same socket when address, kind and `reuseport` index are equal.
#[derive(Clone, Debug)]
pub struct SocketSpec {
    /// Where to listen.
    pub addr: ListenAddr,
    /// Stream or datagram.
    pub kind: SocketKind,
    /// Which of several sockets under `reuseport`; `None` without it.
    pub reuseport: Option<u32>,
    /// `listen(2)` backlog; nginx's default is 511 on Linux.
    pub backlog: i32,
    /// `SO_RCVBUF`, bytes.
    pub rcvbuf: Option<u32>,
    /// `SO_SNDBUF`, bytes.
    pub sndbuf: Option<u32>,
    /// `so_keepalive`: `None` leaves the default, `Some(None)` is off.
    pub keepalive: Option<Option<TcpKeepalive>>,
    /// `TCP_DEFER_ACCEPT`.
    pub deferred: bool,
    /// `IPV6_V6ONLY`; on by default.
    pub ipv6only: bool,
    /// `TCP_FASTOPEN` queue length.
    pub fastopen: Option<u32>,
}

/// An open log file. Reopening replaces the descriptor in place, so holders need not know.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    fd: OwnedFd,
}

impl LogFile {
    /// Wraps a descriptor opened for appending.
    #[must_use]
    pub fn new(path: PathBuf, fd: OwnedFd) -> Self {
        Self { path, fd }
    }

    /// The path that it was opened under.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for LogFile {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
