//! A connection to a peer: an idle one from the pool, a new one, or one that others use too.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::sync::Arc;

use net::{Deadline, Stream};
use os::socket::{ConnectState, Kind, PeerAddr, Transparency};
use os::tcp::Congestion;
use upstream::{Now, Peer, PeerKey, Pooled, Put, Scope};

use super::http2::Shared;
use super::settings::{Bind, RelaySettings};
use super::tls::{TlsError, Wanted};
use super::upstream::{PeerConn, Upstream};
use crate::cycle::Worker;
use crate::request::Request;

/// A connection in use for one request.
pub struct Connected {
    pub(super) link: Link,
    /// It has served a request before, so its failure may be its age's.
    pub is_reused: bool,
    pub(super) key: PeerKey,
    /// One that others use too is not counted.
    _in_use: Option<InUse>,
}

thread_local! {
    static IN_USE: Cell<usize> = const { Cell::new(0) };
}

/// Connections of this thread to peers that requests are using. They count towards `worker_connections`; idle ones do
/// not, which nginx closes where the number is reached.
pub(crate) fn in_use() -> usize {
    IN_USE.get()
}

/// One connection more in use, until it is dropped.
struct InUse;

impl InUse {
    fn new() -> Self {
        IN_USE.set(IN_USE.get() + 1);
        Self
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        IN_USE.set(IN_USE.get().saturating_sub(1));
    }
}

/// Whose a connection is.
pub(super) enum Link {
    /// The request's, with its age and number of requests.
    Own(Pooled<PeerConn>),
    /// Of all who use it.
    Shared(Rc<Shared>),
}

impl Connected {
    /// One that others use too.
    pub(super) fn shared(shared: Rc<Shared>, key: PeerKey) -> Self {
        let is_reused = shared.take();
        Self { link: Link::Shared(shared), is_reused, key, _in_use: None }
    }

    /// The socket.
    #[inline]
    #[must_use]
    pub fn stream(&self) -> &Stream {
        match &self.link {
            Link::Own(pooled) => &pooled.conn.stream,
            Link::Shared(shared) => &shared.stream,
        }
    }

    /// Small pieces leave at once from now on. A request in one piece needs no such call.
    pub fn send_small_pieces(&self) {
        // Refused for Unix sockets, which gather nothing anyway.
        let _ = os::tcp::set_nodelay(self.stream().as_fd(), os::tcp::Switch::On);
    }

    /// Gives the connection to the pool; what does not stay is closed.
    pub fn keep(self, upstream: &Arc<Upstream>, now: Now) {
        // A shared one is kept by its own task.
        let (Some(keepalive), Link::Own(pooled)) = (&upstream.keepalive, self.link) else { return };
        let thread = Worker::with(|worker| (!worker.is_quitting()).then_some(worker.index));
        let Some(thread) = thread.filter(|_| pooled.conn.stream.is_quiet()) else { return };
        match upstream.pool().put(thread, self.key, pooled, &keepalive.limits, now) {
            Put::Kept => {}
            Put::Surplus => upstream.trim_soon(),
            Put::Evicted(old) | Put::Refused(old) => drop(old),
        }
    }
}

/// Takes an idle connection to the peer, if there is one that is still good.
pub fn reuse(
    upstream: &Upstream,
    peer: &Peer,
    location: u32,
    wanted: Option<&Wanted>,
    channel: Option<Arc<str>>,
) -> Option<Connected> {
    let keepalive = upstream.keepalive.as_ref()?;
    // Mostly so where the peer closes after each answer.
    if upstream.pool().idle() == 0 {
        return None;
    }
    let (thread, now) = (Worker::with(|worker| worker.index), super::now());
    let mut key = key_of(peer, keepalive.is_local, location, wanted);
    key.channel = key.channel.or(channel);
    while let Some(mut pooled) = upstream.pool().take(thread, &key, &keepalive.limits, now) {
        if !pooled.conn.stream.is_quiet() {
            continue;
        }
        if pooled.conn.owner != thread {
            let Ok(adopted) = pooled.try_map(|conn| conn.adopt(thread)) else { continue };
            pooled = adopted;
        }
        return Some(Connected {
            link: Link::Own(pooled),
            is_reused: true,
            key,
            _in_use: Some(InUse::new()),
        });
    }
    None
}

/// What a request must agree on with a connection that others of the group use too.
pub(super) fn shared_key(peer: &Peer, wanted: Option<&Wanted>, channel: Option<Arc<str>>) -> PeerKey {
    let mut key = key_of(peer, false, 0, wanted);
    key.channel = key.channel.or(channel);
    key
}

fn key_of(peer: &Peer, is_local: bool, location: u32, wanted: Option<&Wanted>) -> PeerKey {
    let scope = if is_local { Scope::Local(location) } else { Scope::Shared };
    let channel = wanted.map(|wanted| Arc::clone(&wanted.channel));
    PeerKey { peer: peer.uid(), scope, channel }
}

/// Why a connection does not stand.
#[derive(Debug)]
pub enum OpenError {
    /// No socket could be had: this machine's fault, whatever peer is tried.
    Socket(io::Error),
    /// `worker_connections` does not allow one more.
    Full(usize),
    /// The local address of `bind` cannot be used.
    Bind(SocketAddr, io::Error),
    /// The kernel refused to try.
    Refused(io::Error),
    /// The peer refused, or could not be reached.
    Failed(io::Error),
    /// `connect_timeout` passed.
    TimedOut,
    /// The peer is there, but its TLS does not stand.
    Tls(TlsError),
}

/// A connection that was begun and may be on its way yet.
pub struct Opening {
    conn: PeerConn,
    state: ConnectState,
    in_use: InUse,
}

/// What has to pass over a new connection before a request may.
#[derive(Clone, Copy)]
pub struct Start<'a> {
    /// TLS.
    pub wanted: Option<&'a Wanted>,
    /// What is sent before all else, TLS included.
    pub greeting: &'a [u8],
}

impl Opening {
    /// Begins a connection to the peer.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn new(r: &Request, settings: &RelaySettings, peer: &Peer, kind: Kind) -> Result<Self, OpenError> {
        let addr = &peer.addr;
        let (bind, transparency) = bind_address(r, &settings.bind);
        let owner = Worker::with(|worker| {
            if worker.has_room() { Ok(worker.index) } else { Err(OpenError::Full(worker.most_connections())) }
        })?;
        let in_use = InUse::new();
        let fd = os::socket::open(addr, kind).map_err(OpenError::Socket)?;
        set_options(fd.as_fd(), settings, kind).map_err(OpenError::Socket)?;
        if kind == Kind::Stream && addr.is_loopback() && Congestion::system().is_paced() {
            let _ = Congestion::RENO.set(fd.as_fd());
        }
        if let (PeerAddr::Inet(_), Some(local)) = (addr, bind) {
            os::socket::bind_local(fd.as_fd(), local, kind, transparency)
                .map_err(|error| OpenError::Bind(local, error))?;
        }
        let state = os::socket::connect(fd.as_fd(), addr).map_err(OpenError::Refused)?;
        let stream = match addr {
            PeerAddr::Inet(_) => Stream::new(fd),
            PeerAddr::Unix(_) => Stream::local(fd),
        };
        let conn = PeerConn { stream, owner, session: None };
        Ok(Self { conn, state, in_use })
    }

    /// Whether a request may pass at once, as mostly over a Unix socket.
    pub fn stands(&self, start: Start<'_>) -> bool {
        self.state == ConnectState::Connected && start.wanted.is_none() && start.greeting.is_empty()
    }

    /// Waits until a request may pass.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn complete(
        &self,
        settings: &RelaySettings,
        peer: &Peer,
        start: Start<'_>,
        deadline: &Deadline,
    ) -> Result<(), OpenError> {
        let stream = &self.conn.stream;
        if self.state == ConnectState::InProgress {
            deadline.set_after(settings.connect_timeout);
            stream.connected(deadline).await.map_err(|error| match error.raw_os_error() {
                None if error.kind() == io::ErrorKind::TimedOut => OpenError::TimedOut,
                _ => OpenError::Failed(error),
            })?;
        }
        if !start.greeting.is_empty() {
            deadline.set_after(settings.send_timeout);
            stream.send_all(start.greeting, deadline).await.map_err(OpenError::Failed)?;
        }
        if let Some(wanted) = start.wanted {
            deadline.set_after(settings.connect_timeout);
            // Records are whole messages: nothing is gained by holding a part of one back.
            let _ = os::tcp::set_nodelay(stream.as_fd(), os::tcp::Switch::On);
            wanted.secure(stream, &peer.name, deadline).await.map_err(OpenError::Tls)?;
        }
        Ok(())
    }

    /// The connection, for a request of this location.
    pub fn connected(
        self,
        upstream: &Upstream,
        peer: &Peer,
        location: u32,
        wanted: Option<&Wanted>,
    ) -> Connected {
        let is_local = upstream.keepalive.is_some_and(|keepalive| keepalive.is_local);
        Connected {
            link: Link::Own(Pooled::new(self.conn, super::now())),
            is_reused: false,
            key: key_of(peer, is_local, location, wanted),
            _in_use: Some(self.in_use),
        }
    }
}

/// What must be set before the connection is begun: the window follows from the buffer.
fn set_options(fd: BorrowedFd<'_>, settings: &RelaySettings, kind: Kind) -> io::Result<()> {
    if settings.socket_rcvbuf > 0 {
        os::tcp::set_rcvbuf(fd, settings.socket_rcvbuf)?;
    }
    if settings.socket_sndbuf > 0 {
        os::tcp::set_sndbuf(fd, settings.socket_sndbuf)?;
    }
    if settings.socket_keepalive && kind == Kind::Stream {
        os::tcp::set_keepalive(fd, Some(os::tcp::Keepalive::default()))?;
    }
    Ok(())
}

fn bind_address(r: &Request, bind: &Bind) -> (Option<SocketAddr>, Transparency) {
    let Bind::Address { address, transparent } = bind else { return (None, Transparency::Own) };
    let transparency = if *transparent { Transparency::Any } else { Transparency::Own };
    let text = address.value(r);
    if text.is_empty() {
        return (None, Transparency::Own);
    }
    let parsed = parse_bind(&text);
    if parsed.is_none() {
        let shown = String::from_utf8_lossy(&text).into_owned();
        r.log(os::errlog::Level::Error, format_args!("invalid local address \"{shown}\""));
    }
    (parsed, transparency)
}

/// An address with or without a port.
#[must_use]
pub fn parse_bind(text: &[u8]) -> Option<SocketAddr> {
    std::str::from_utf8(text).ok().and_then(base::address::ip_and_port)
}
