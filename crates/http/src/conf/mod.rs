//! The running configuration of the http side: servers, locations, listeners, and how a request finds its own.
//!
//! It is made once at load and never changed; requests hold it by a counted pointer.

pub mod compile;
pub mod concerned;
pub mod core;
mod ends;
mod lines;
pub mod listen;
pub mod location;
mod network;
pub mod server_name;
mod type_set;
mod upstream_url;
mod upstreams;

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;

use conf::Error;
use conf::zones::Zones;

pub use self::lines::Lines;
pub use self::location::{Location, LocationId, LocationTree};
pub use self::network::network;
pub use self::type_set::TypeSet;
pub use self::upstream_url::{UpstreamUrl, UriPart, parse_upstream_url};
pub use self::upstreams::{Unresolvable, UpstreamBlock, UpstreamId, UpstreamRef, Upstreams, parse_server};

use crate::module::Module;
use crate::relay::sticky::{Learn, StickyMethod};
use crate::variables::{KnownVariables, PrefixVariable, Table};

/// Index of a server among all servers of the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(pub u32);

/// A `server` block.
pub struct Server {
    /// The first name, for `$server_name`, redirects and the error log.
    pub name: Box<[u8]>,
    /// The settings and locations of the server itself.
    pub root: LocationId,
    /// Locations `@name`.
    pub named: Vec<(Box<[u8]>, LocationId)>,
    /// TLS, where it has certificates or refuses handshakes.
    pub tls: Option<Arc<crate::tls::ServerTls>>,
    /// It takes CONNECT: one of its locations has `tunnel_pass`.
    pub allows_connect: bool,
}

/// The `http` block, compiled.
#[derive(Default)]
pub struct HttpConf {
    /// All servers in the order of the text.
    pub servers: Vec<Server>,
    /// Some servers read the heads of requests in another way than others.
    pub heads_differ: bool,
    /// All locations, those that stand for a whole server among them.
    pub locations: Vec<Location>,
    /// Listening sockets and what is served on them.
    pub listeners: Vec<listen::Listener>,
    /// Variables in use.
    pub variables: Table,
    /// Variables that the modules define, in use or not.
    pub known_variables: KnownVariables,
    /// Families of them.
    pub known_families: Vec<&'static PrefixVariable>,
    /// Upstream groups, named ones and those made by a plain address.
    pub upstreams: Vec<Arc<crate::relay::Upstream>>,
    /// Shared zones.
    pub zones: Zones,
    /// Active health checks, and the upstreams that they check.
    pub checks: Vec<(UpstreamId, Arc<crate::relay::check::HealthCheck>)>,
    /// A local address is `transparent`: the worker keeps `CAP_NET_RAW`.
    pub needs_net_raw: bool,
    /// The prefix (`-p`) that relative paths refer to.
    pub prefix: PathBuf,
    main: Vec<Box<dyn Any + Send + Sync>>,
}

fn learn_of(upstream: &crate::relay::Upstream) -> Option<&Learn> {
    match &upstream.sticky.as_ref()?.method {
        StickyMethod::Learn(learn) => Some(learn),
        _ => None,
    }
}

impl HttpConf {
    /// Takes over what outlives a reload: the state of upstreams and zones of the same name.
    ///
    /// # Errors
    /// A zone is declared so differently that it cannot keep its state.
    pub fn inherit(&self, earlier: &Self) -> Result<(), Error> {
        self.zones.inherit(&earlier.zones)?;
        for upstream in &self.upstreams {
            if let Some(same) = earlier.upstreams.iter().find(|other| other.name == upstream.name) {
                upstream.inherit(same);
            }
            let Some(learn) = learn_of(upstream) else { continue };
            earlier
                .upstreams
                .iter()
                .filter_map(|other| learn_of(other))
                .for_each(|other| learn.inherit(other));
        }
        Ok(())
    }

    /// The settings of a listener's connections as long as no request tells more: those of its default server.
    ///
    /// # Panics
    /// Not for the number of a listener.
    #[must_use]
    pub fn default_location(&self, listener: usize) -> &Location {
        self.location(self.server(self.listeners[listener].address(None).default_server).root)
    }

    /// The server with this id.
    #[inline]
    #[must_use]
    pub fn server(&self, id: ServerId) -> &Server {
        &self.servers[id.0 as usize]
    }

    /// The location with this id.
    #[inline]
    #[must_use]
    pub fn location(&self, id: LocationId) -> &Location {
        &self.locations[id.0 as usize]
    }

    /// The settings that module `M` has once.
    ///
    /// # Panics
    /// When `M` was never registered, which is a mistake in the program.
    #[must_use]
    pub fn main<M: Module>(&self) -> &M::Main {
        match self.main.get(M::SLOT.index()).and_then(|main| main.downcast_ref()) {
            Some(main) => main,
            None => panic!("module {} is not in the registry", M::NAME),
        }
    }
}
