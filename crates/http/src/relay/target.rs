//! Where a request goes: an upstream of the configuration, or an address that variables gave.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;

use ::upstream::{Live, PeerAddr, Policy, Server, ServerSpec};
use os::errlog::Level;

use super::Upstream;
use crate::conf::UpstreamId;
use crate::cycle::Cycle;
use crate::phases::Outcome;
use crate::request::Request;

/// Where a request goes.
#[derive(Clone, Debug)]
pub enum Target {
    /// An upstream that the configuration names.
    Known(UpstreamId),
    /// A host that variables named: a group, an address or a name to be resolved.
    Host {
        /// Group, address, name, or `unix:` and a path.
        host: String,
        /// The port as written.
        port: Option<u16>,
        /// The port of the scheme; without one a port must be written.
        default_port: Option<u16>,
    },
}

/// The upstream that a request goes to. One of the configuration is not counted: a counter that all threads share
/// costs more than most of what is done with it.
pub(super) enum Found<'c> {
    /// The configuration's, which whoever asks holds.
    Configured(&'c Arc<Upstream>),
    /// One that is held here.
    Held(Arc<Upstream>),
}

impl Deref for Found<'_> {
    type Target = Arc<Upstream>;

    #[inline]
    fn deref(&self) -> &Arc<Upstream> {
        match self {
            Self::Configured(upstream) => upstream,
            Self::Held(upstream) => upstream,
        }
    }
}

/// An upstream that the configuration names.
#[inline]
pub(super) fn known(cycle: &Cycle, id: UpstreamId) -> Result<Found<'_>, Outcome> {
    let upstream = cycle.http.upstreams.get(id.0 as usize).ok_or_else(|| Outcome::Status(500))?;
    Ok(Found::Configured(upstream))
}

/// The upstream of a target; names are resolved by the location's `resolver`.
pub(super) async fn find(r: &mut Request, target: Target) -> Result<Found<'static>, Outcome> {
    let (host, port, default_port) = match target {
        Target::Known(id) => return known(&r.cycle, id).map(|found| Found::Held(Arc::clone(&found))),
        Target::Host { host, port, default_port } => (host, port, default_port),
    };
    let written = port.map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
    if let Some(known) = r.cycle.http.upstreams.iter().find(|known| known.name.eq_ignore_ascii_case(&written))
    {
        return Ok(Found::Held(Arc::clone(known)));
    }
    let port = match port.or(default_port) {
        Some(port) => port,
        None if host.starts_with("unix:") => 0,
        None => {
            r.log(Level::Error, format_args!("no port in upstream \"{host}\""));
            return Err(Outcome::Status(500));
        }
    };
    let addrs = addresses(r, &host, port).await?;
    let server = Server::new(&written, addrs, ServerSpec::default());
    match Live::new(&written, vec![server], Policy::default()) {
        Ok(live) => Ok(Found::Held(Arc::new(Upstream::new(&written, live, None, 1)))),
        Err(_) => Err(Outcome::Status(502)),
    }
}

async fn addresses(r: &mut Request, host: &str, port: u16) -> Result<Vec<PeerAddr>, Outcome> {
    if let Some(path) = host.strip_prefix("unix:") {
        return Ok(vec![PeerAddr::Unix(path.into())]);
    }
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    if let Ok(ip) = bare.parse() {
        return Ok(vec![PeerAddr::Inet(SocketAddr::new(ip, port))]);
    }
    let core = Arc::clone(&r.location().core);
    let Some(resolver) = &core.resolver else {
        r.log(Level::Error, format_args!("no resolver defined to resolve {host}"));
        return Err(Outcome::Status(502));
    };
    match net::resolver::resolve(resolver, host, port, core.resolver_timeout).await {
        Ok(addrs) => Ok(addrs.into_iter().map(PeerAddr::Inet).collect()),
        Err(error) => {
            r.log(Level::Error, format_args!("{host} could not be resolved ({}: {error})", error.code()));
            Err(Outcome::Status(502))
        }
    }
}
