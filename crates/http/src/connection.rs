//! A client's connection: what outlives its single requests.
//!
//! It is all that an idle keep-alive connection holds, so every field is paid for ten thousand times.

use std::cell::{Cell, OnceCell};
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::rc::Rc;

use conf::resources::{ListenAddr, SocketKind, SocketSpec};
use net::{Buf, Deadline, Stream};
use os::errlog::{Level, Scope, Verbosity};
use os::socket::PeerAddr;
use proto::haproxy::Endpoint;

use crate::cycle::Cycle;
use crate::lasting::LastingTexts;

/// What the PROXY protocol header of a connection said.
#[derive(Clone, Debug)]
pub struct ProxyInfo {
    /// Address of the client.
    pub source: Endpoint,
    /// Address that the client connected to.
    pub destination: Endpoint,
    /// Type-length-value fields of version 2, as they were sent.
    pub tlvs: Vec<u8>,
}

/// What only some connections need: where the client connected to, and texts with the addresses of both.
struct Ends {
    local: PeerAddr,
    texts: LastingTexts,
}

impl Ends {
    #[cold]
    fn at(local: PeerAddr) -> Box<Self> {
        Box::new(Self { local, texts: LastingTexts::default() })
    }
}

/// A client's connection.
pub struct Conn {
    /// The socket.
    pub stream: Stream,
    /// The one deadline of whatever the connection waits for.
    pub deadline: Deadline,
    /// Number among all connections of the process, from 1 (`$connection`).
    pub number: u64,
    /// The other end.
    pub peer: PeerAddr,
    /// The address that its listener listens on.
    listen_addr: Rc<ListenAddr>,
    /// Place of its listener among those of a generation of the configuration; `u32::MAX`: none.
    listener: Cell<(u32, u32)>,
    /// Whether it is one, or datagrams of one client.
    pub kind: SocketKind,
    /// Requests so far (`$connection_requests`).
    pub requests: Cell<u32>,
    /// When it was accepted, monotonic milliseconds.
    pub started_ms: u64,
    /// Whether `debug_connection` names this client.
    pub verbosity: Verbosity,
    /// Waiting for its next request.
    pub is_idle: Cell<bool>,
    /// Its deadline is not the one of a single request, so it can tell the connection that the worker ends.
    pub is_multiplexed: Cell<bool>,
    /// To be closed at once: the worker ends.
    pub is_aborted: Cell<bool>,
    /// The kernel holds small packets back (`tcp_nodelay off`).
    is_delayed: Cell<bool>,
    /// Bytes of the next request that came with the last one.
    leftover: Cell<Option<Box<Buf>>>,
    /// PROXY protocol, where the listener asks for it.
    pub proxy: OnceCell<Box<ProxyInfo>>,
    ends: OnceCell<Box<Ends>>,
    /// How often it was handed on from one listener to another.
    pub passes: Cell<u8>,
    /// Place in the thread's list of connections.
    pub(crate) place: Cell<u32>,
}

impl Conn {
    /// Wraps an accepted socket.
    #[must_use]
    pub fn new(
        stream: Stream,
        peer: PeerAddr,
        number: u64,
        listener: (u32, usize),
        listen_addr: Rc<ListenAddr>,
        verbosity: Verbosity,
    ) -> Self {
        Self {
            stream,
            deadline: Deadline::new(),
            number,
            peer,
            listen_addr,
            listener: Cell::new((listener.0, place_of(Some(listener.1)))),
            kind: SocketKind::Stream,
            requests: Cell::new(0),
            started_ms: net::timer::now_ms(),
            verbosity,
            is_idle: Cell::new(true),
            is_multiplexed: Cell::new(false),
            is_aborted: Cell::new(false),
            is_delayed: Cell::new(false),
            leftover: Cell::new(None),
            proxy: OnceCell::new(),
            ends: OnceCell::new(),
            passes: Cell::new(0),
            place: Cell::new(u32::MAX),
        }
    }

    /// What stands for the datagrams of one client, which come to a socket that all share. `local` is the address that
    /// they were sent to.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn of_datagrams(
        peer: PeerAddr,
        number: u64,
        listener: (u32, usize),
        listen_addr: Rc<ListenAddr>,
        local: PeerAddr,
        verbosity: Verbosity,
    ) -> io::Result<Self> {
        // A socket of its own that nobody talks to: what waits for the client's end waits in vain.
        let stream =
            Stream::new(os::socket::open(&PeerAddr::Unix(PathBuf::new()), os::socket::Kind::Datagram)?);
        let mut conn = Self::new(stream, peer, number, listener, listen_addr, verbosity);
        conn.kind = SocketKind::Datagram;
        let _ = conn.ends.set(Ends::at(local));
        Ok(conn)
    }

    /// The same connection as if another listener had accepted it, on this local address.
    #[must_use]
    pub fn pass_on(
        self,
        client: PeerAddr,
        listener: (u32, usize),
        listen_addr: Rc<ListenAddr>,
        local: PeerAddr,
    ) -> Self {
        let (leftover, passes) = (self.take_leftover(), self.passes.get().saturating_add(1));
        let passed = Self::new(self.stream, client, self.number, listener, listen_addr, self.verbosity);
        passed.keep_leftover(leftover);
        passed.passes.set(passes);
        let _ = passed.ends.set(Ends::at(local));
        if let Some(proxy) = self.proxy.into_inner() {
            let _ = passed.proxy.set(proxy);
        }
        passed
    }

    /// A connection that nobody uses, for requests that wait to be used again.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub(crate) fn nobody() -> io::Result<Self> {
        let (fd, _) = os::socket::pair()?;
        let unnamed = || PathBuf::new();
        let stream = Stream::local(fd);
        let listener = Rc::new(ListenAddr::Unix(unnamed()));
        Ok(Self::new(stream, PeerAddr::Unix(unnamed()), 0, (0, 0), listener, Verbosity::Configured))
    }

    /// Its listener in a configuration; `None` where that one listens there no more.
    #[inline]
    #[must_use]
    pub fn listener_in(&self, cycle: &Cycle) -> Option<usize> {
        let (generation, index) = self.listener.get();
        if generation != cycle.generation {
            return self.find_listener(cycle);
        }
        (index != u32::MAX).then_some(index as usize)
    }

    #[cold]
    fn find_listener(&self, cycle: &Cycle) -> Option<usize> {
        let is_own = |spec: &SocketSpec| spec.addr == *self.listen_addr && spec.kind == self.kind;
        let index = cycle.http.listeners.iter().position(|listener| is_own(&listener.spec));
        self.listener.set((cycle.generation, place_of(index)));
        index
    }

    /// Lets the kernel hold small packets back, which it does not by itself here.
    pub(crate) fn delay_small_packets(&self) {
        self.is_delayed.set(os::tcp::set_nodelay(self.stream.as_fd(), os::tcp::Switch::Off).is_ok());
    }

    /// Has small packets leave at once again, as nginx does where a connection stays open behind a location with
    /// `tcp_nodelay on`.
    pub(crate) fn send_small_packets(&self) {
        if self.is_delayed.take() {
            let _ = os::tcp::set_nodelay(self.stream.as_fd(), os::tcp::Switch::On);
        }
    }

    /// Keeps what came in behind a request for the next one.
    pub fn keep_leftover(&self, bytes: Buf) {
        self.leftover.set((!bytes.is_empty()).then(|| Box::new(bytes)));
    }

    /// Takes what was kept; empty when nothing was.
    #[must_use]
    pub fn take_leftover(&self) -> Buf {
        self.leftover.take().map_or(Buf::empty(), |bytes| *bytes)
    }

    /// Whether something was kept.
    #[must_use]
    pub fn has_leftover(&self) -> bool {
        let kept = self.leftover.take();
        let has = kept.is_some();
        self.leftover.set(kept);
        has
    }

    /// Counts the configuration that its last request was begun under.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.listener.get().0
    }

    /// Ends whatever it does: to those who wait, the client is gone.
    pub(crate) fn abort(&self) {
        self.is_aborted.set(true);
        self.deadline.set_at(0);
        // Also who waits for an upstream watches the client's socket.
        let _ = os::io::shutdown(self.stream.as_fd(), std::net::Shutdown::Both);
    }

    /// The address that the client connected to; asked from the kernel once.
    #[inline]
    pub fn local(&self) -> &PeerAddr {
        &self.ends().local
    }

    /// What requests keep for those behind them.
    #[inline]
    pub(crate) fn lasting(&self) -> &LastingTexts {
        &self.ends().texts
    }

    #[inline]
    fn ends(&self) -> &Ends {
        self.ends.get_or_init(|| {
            let local = os::socket::local_addr(self.stream.as_fd());
            Ends::at(local.unwrap_or(PeerAddr::Unix(PathBuf::new())))
        })
    }

    /// The IP address that the client connected to.
    #[must_use]
    pub fn local_ip(&self) -> Option<IpAddr> {
        self.local().ip()
    }

    /// Whether the client speaks TLS.
    #[inline]
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.stream.tls().is_some()
    }

    /// Writes a message about the connection, before there is a request that could tell more.
    pub fn log(&self, cycle: &Cycle, level: Level, message: fmt::Arguments<'_>) {
        let log = &cycle.globals.log;
        if log.enabled_for(level, self.scope()) {
            log.log_for(level, self.scope(), format_args!("{message}{}", self.parties()));
        }
    }

    /// Both ends as nginx appends them to messages: the client's address and the one that is listened on.
    #[must_use]
    pub fn parties(&self) -> Parties<'_> {
        self.parties_with(&self.peer)
    }

    /// As [`Self::parties`], where the client is known to be somebody else (`realip`).
    #[must_use]
    pub fn parties_with<'a>(&'a self, client: &'a PeerAddr) -> Parties<'a> {
        Parties { conn: self, client }
    }

    /// The address that its listener listens on.
    #[must_use]
    pub fn listen_addr(&self) -> &ListenAddr {
        &self.listen_addr
    }

    /// How messages about this connection are marked and filtered.
    #[must_use]
    pub fn scope(&self) -> Scope {
        Scope { connection: self.number, verbosity: self.verbosity }
    }
}

/// See [`Conn::parties`].
pub struct Parties<'a> {
    conn: &'a Conn,
    client: &'a PeerAddr,
}

impl fmt::Display for Parties<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let udp = if self.conn.kind == SocketKind::Datagram { "udp " } else { "" };
        write!(f, ", {udp}client: {}, server: ", ClientName(self.client))?;
        match &*self.conn.listen_addr {
            ListenAddr::Inet(addr) => addr.fmt(f),
            ListenAddr::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A client as nginx names it in messages.
struct ClientName<'a>(&'a PeerAddr);

impl fmt::Display for ClientName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.ip() {
            Some(ip) => ip.fmt(f),
            None => f.write_str("unix:"),
        }
    }
}

fn place_of(index: Option<usize>) -> u32 {
    index.and_then(|index| u32::try_from(index).ok()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::Conn;

    #[test]
    fn an_idle_connection_stays_small() {
        assert!(size_of::<Conn>() <= 160, "{}", size_of::<Conn>());
    }
}
