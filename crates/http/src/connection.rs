//! A client's connection: what outlives its single requests.
//!
//! It is all that an idle keep-alive connection holds, so every field is paid for ten thousand times.

use std::cell::{Cell, OnceCell, RefCell};
use std::net::IpAddr;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use conf::resources::ListenAddr;
use net::{Buf, Deadline, Stream};
use os::errlog::{Scope, Verbosity};
use os::socket::PeerAddr;
use proto::haproxy::Endpoint;

use crate::cycle::Cycle;

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
    pub listen_addr: ListenAddr,
    /// Place of its listener among those of a generation of the configuration.
    listener: Cell<(u64, Option<usize>)>,
    /// Requests so far (`$connection_requests`).
    pub requests: Cell<u64>,
    /// When it was accepted, monotonic milliseconds.
    pub started_ms: u64,
    /// Whether `debug_connection` names this client.
    pub verbosity: Verbosity,
    /// Waiting for its next request.
    pub is_idle: Cell<bool>,
    /// To be closed at once: the worker ends.
    pub is_aborted: Cell<bool>,
    /// Bytes of the next request that came with the last one.
    pub leftover: RefCell<Buf>,
    /// PROXY protocol, where the listener asks for it.
    pub proxy: OnceCell<Box<ProxyInfo>>,
    local: OnceCell<PeerAddr>,
    /// Place in the thread's list of connections.
    pub(crate) place: Cell<usize>,
}

impl Conn {
    /// Wraps an accepted socket.
    #[must_use]
    pub fn new(
        stream: Stream,
        peer: PeerAddr,
        number: u64,
        (generation, listener): (u64, usize),
        listen_addr: ListenAddr,
        verbosity: Verbosity,
    ) -> Self {
        Self {
            stream,
            deadline: Deadline::new(),
            number,
            peer,
            listen_addr,
            listener: Cell::new((generation, Some(listener))),
            requests: Cell::new(0),
            started_ms: net::timer::now_ms(),
            verbosity,
            is_idle: Cell::new(true),
            is_aborted: Cell::new(false),
            leftover: RefCell::new(Buf::empty()),
            proxy: OnceCell::new(),
            local: OnceCell::new(),
            place: Cell::new(usize::MAX),
        }
    }

    /// A connection that nobody uses, for requests that wait to be used again.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub(crate) fn nobody() -> io::Result<Self> {
        let (fd, _) = os::socket::pair()?;
        let unnamed = || PathBuf::new();
        let stream = Stream::new(fd)?;
        let listener = ListenAddr::Unix(unnamed());
        Ok(Self::new(stream, PeerAddr::Unix(unnamed()), 0, (0, 0), listener, Verbosity::Configured))
    }

    /// Its listener in a configuration; `None` where that one listens there no more.
    #[must_use]
    pub fn listener_in(&self, cycle: &Cycle) -> Option<usize> {
        let (generation, index) = self.listener.get();
        if generation == cycle.generation {
            return index;
        }
        let index = cycle.http.listeners.iter().position(|listener| listener.spec.addr == self.listen_addr);
        self.listener.set((cycle.generation, index));
        index
    }

    /// The address that the client connected to; asked from the kernel once.
    pub fn local(&self) -> &PeerAddr {
        self.local.get_or_init(|| os::socket::local_addr(self.stream.as_fd()).unwrap_or(PeerAddr::Unix(PathBuf::new())))
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
        false
    }

    /// How messages about this connection are marked and filtered.
    #[must_use]
    pub fn scope(&self) -> Scope {
        Scope { connection: self.number, verbosity: self.verbosity }
    }
}
