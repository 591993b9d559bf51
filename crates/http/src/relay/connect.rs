//! A connection to a peer: an idle one from the pool, or a new one.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::task::{Context, Waker};

use net::{Deadline, Stream};
use os::socket::{PeerAddr as OsAddr, Transparency};
use upstream::{Now, Peer, PeerAddr, PeerKey, Pooled, Put, Scope};

use super::settings::{Bind, RelaySettings};
use super::upstream::{PeerConn, Upstream};
use crate::cycle::Worker;
use crate::request::Request;

/// A connection in use for one request.
pub struct Connected {
    /// The connection with its age and number of requests.
    pub pooled: Pooled<PeerConn>,
    /// It has served a request before, so its failure may be its age's.
    pub is_reused: bool,
    key: PeerKey,
}

impl Connected {
    /// The socket.
    #[inline]
    #[must_use]
    pub fn stream(&self) -> &Stream {
        &self.pooled.conn.stream
    }

    /// Gives the connection to the pool; what does not stay is closed.
    pub fn keep(self, upstream: &Upstream, worker: &Worker, now: Now) {
        let Some(keepalive) = &upstream.keepalive else { return };
        if worker.is_quitting() || !is_quiet(self.stream()) {
            return;
        }
        match upstream.pool.put(worker.index, self.key, self.pooled, &keepalive.limits, now) {
            Put::Kept => {}
            Put::Evicted(old) | Put::Refused(old) => drop(old),
        }
    }
}

/// Whether an idle connection has neither been closed by the peer nor sent anything unasked.
pub(super) fn is_quiet(stream: &Stream) -> bool {
    stream.poll_readable(&mut Context::from_waker(Waker::noop())).is_pending()
}

/// Takes an idle connection to the peer, if there is one that is still good.
pub fn reuse(upstream: &Upstream, peer: &Peer, location: u32, worker: &Worker, now: Now) -> Option<Connected> {
    let keepalive = upstream.keepalive.as_ref()?;
    let key = key_of(peer, keepalive.is_local, location);
    while let Some(pooled) = upstream.pool.take(worker.index, &key, &keepalive.limits, now) {
        if !is_quiet(&pooled.conn.stream) {
            continue;
        }
        let Ok(pooled) = pooled.try_map(|conn| conn.adopt(worker.index)) else { continue };
        return Some(Connected { pooled, is_reused: true, key });
    }
    None
}

fn key_of(peer: &Peer, is_local: bool, location: u32) -> PeerKey {
    let scope = if is_local { Scope::Local(location) } else { Scope::Shared };
    PeerKey { peer: peer.uid(), scope, channel: None }
}

/// Opens a connection to the peer.
///
/// # Errors
/// The error of `bind(2)` or `connect(2)`, or [`io::ErrorKind::TimedOut`].
pub async fn open(
    r: &Request,
    upstream: &Upstream,
    settings: &RelaySettings,
    peer: &Peer,
    location: u32,
    deadline: &Deadline,
) -> io::Result<Connected> {
    let addr = match &peer.addr {
        PeerAddr::Inet(addr) => OsAddr::Inet(*addr),
        PeerAddr::Unix(path) => OsAddr::Unix(path.clone()),
    };
    let (bind, transparency) = bind_address(r, &settings.bind);
    let connecting = os::socket::connect_start(&addr, bind, transparency)?;
    if settings.socket_keepalive {
        os::tcp::set_keepalive(connecting.fd.as_fd(), Some(os::tcp::Keepalive::default()))?;
    }
    if matches!(addr, OsAddr::Inet(_)) {
        let _ = os::tcp::set_nodelay(connecting.fd.as_fd(), os::tcp::Switch::On);
    }
    let is_connected = connecting.state == os::socket::ConnectState::Connected;
    let stream = Stream::new(connecting.fd)?;
    if !is_connected {
        deadline.set_after(settings.connect_timeout);
        stream.connected(deadline).await?;
    }
    let worker = Worker::current();
    let is_local = upstream.keepalive.is_some_and(|keepalive| keepalive.is_local);
    let conn = PeerConn { stream, owner: worker.index };
    let now = super::now();
    Ok(Connected { pooled: Pooled::new(conn, now), is_reused: false, key: key_of(peer, is_local, location) })
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
    let text = std::str::from_utf8(text).ok()?;
    if let Ok(addr) = text.parse::<SocketAddr>() {
        return Some(addr);
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 0))
}
