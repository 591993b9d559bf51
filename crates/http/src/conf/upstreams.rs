//! `upstream` blocks and the plain addresses that `proxy_pass` and its like name.
//!
//! A reference may stand before the block that it names; both are brought together when all was read, and only
//! then are names looked up.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use conf::resources::Resources;
use conf::{Error, Level, Word};
use upstream::{
    Balancer, Checked, Eject, Limits, Live, PeerAddr, Policy, Resolve, Server, ServerSpec, Sessions,
};

use super::upstream_url::{UriPart, parse_upstream_url};
use crate::relay::queue::QueueConf;
use crate::relay::state_file::StateFile;
use crate::relay::sticky::Sticky;
use crate::relay::{HeadMoment, KeepaliveConf, Naming, Upstream};
use crate::resolver::ResolverConf;
use crate::variables::Template;

/// Index of an upstream in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UpstreamId(pub u32);

/// What a directive such as `proxy_pass` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamRef {
    /// A group's name, a host name, an address, or the path of a Unix socket behind `unix:`.
    pub host: String,
    /// The port as written.
    pub port: Option<u16>,
    /// The port of the scheme; without one a port must be written.
    pub default_port: Option<u16>,
}

/// An `upstream` block while it is read and afterwards.
#[derive(Debug)]
pub struct UpstreamBlock {
    /// Its name.
    pub name: String,
    /// Its servers and where each is written.
    pub servers: Vec<(Server, Word)>,
    /// Its method.
    pub balancer: Balancer,
    /// Whether a method was written, which may happen once.
    pub has_balancer: bool,
    /// `hash KEY`.
    pub key: Option<Template>,
    /// What `least_time` measures.
    pub head_moment: HeadMoment,
    /// Idle connections.
    pub limits: Limits,
    /// `keepalive … local`.
    pub is_local: bool,
    /// `zone`: the group may be changed and looked at while running.
    pub zone: Option<Box<str>>,
    /// `state`: where changes are kept.
    pub state: Option<StateFile>,
    /// `sticky`.
    pub sticky: Option<Sticky>,
    /// `queue`.
    pub queue: Option<QueueConf>,
    /// `resolver`.
    pub resolver: Option<Arc<ResolverConf>>,
    /// `resolver_timeout`, milliseconds.
    pub resolver_timeout: Option<u64>,
    /// `eject`.
    pub eject: Option<Eject>,
    /// Where the block begins, for messages.
    pub word: Word,
}

impl UpstreamBlock {
    /// A block without servers and with nginx's defaults: `keepalive 32 local`.
    #[must_use]
    pub fn new(name: String, word: Word) -> Self {
        Self {
            name,
            servers: Vec::new(),
            balancer: Balancer::RoundRobin,
            has_balancer: false,
            key: None,
            head_moment: HeadMoment::default(),
            limits: Limits::default(),
            is_local: true,
            zone: None,
            state: None,
            sticky: None,
            queue: None,
            resolver: None,
            resolver_timeout: None,
            eject: None,
            word,
        }
    }
}

/// What a name that cannot be resolved at load is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unresolvable {
    /// A warning, and a server that is down until its name is found.
    #[default]
    Down,
    /// An error, as in nginx (`upstream_strict_resolve on`).
    Refused,
}

/// What upstreams without a word of their own about names go by.
pub(super) struct Defaults {
    pub resolver: Option<Arc<ResolverConf>>,
    pub resolver_timeout: u64,
}

/// All upstreams of a configuration.
#[derive(Debug, Default)]
pub struct Upstreams {
    blocks: Vec<UpstreamBlock>,
    references: Vec<(UpstreamRef, Word)>,
    checked: Vec<(UpstreamId, Checked)>,
    /// Worker threads, which pools are sharded by.
    pub threads: usize,
    /// `upstream_strict_resolve`.
    pub unresolvable: Unresolvable,
}

/// What finishing needs from around it.
struct Finish<'a> {
    resources: &'a mut dyn Resources,
    notices: &'a mut Vec<Error>,
    defaults: Defaults,
    threads: usize,
    unresolvable: Unresolvable,
}

impl Upstreams {
    /// Adds a block.
    ///
    /// # Errors
    /// `duplicate upstream "…"`.
    pub fn add(&mut self, block: UpstreamBlock) -> Result<(), Error> {
        if self.blocks.iter().any(|known| known.name.eq_ignore_ascii_case(&block.name)) {
            return Err(Error::at(&block.word, format!("duplicate upstream \"{}\"", block.name)));
        }
        self.blocks.push(block);
        Ok(())
    }

    /// The upstream that `reference` names; `word` is where it is written.
    pub fn refer(&mut self, reference: UpstreamRef, word: &Word) -> UpstreamId {
        let known = self.references.iter().position(|(other, _)| *other == reference);
        let index = known.unwrap_or_else(|| {
            self.references.push((reference, word.clone()));
            self.references.len() - 1
        });
        UpstreamId(u32::try_from(index).unwrap_or(u32::MAX))
    }

    /// The block that a reference names, if one does so far.
    #[must_use]
    pub fn block(&self, id: UpstreamId) -> Option<&UpstreamBlock> {
        let (reference, _) = self.references.get(id.0 as usize)?;
        self.blocks.iter().find(|block| block.name.eq_ignore_ascii_case(&reference.host))
    }

    /// Notes that the peers of an upstream are actively checked.
    pub fn check(&mut self, id: UpstreamId, checked: Checked) {
        self.checked.push((id, checked));
    }

    /// Makes the upstreams, in the order of their ids; blocks that nobody refers to come last.
    pub(super) fn finish(
        self,
        resources: &mut dyn Resources,
        notices: &mut Vec<Error>,
        defaults: Defaults,
    ) -> Result<Vec<Arc<Upstream>>, Error> {
        let (threads, unresolvable) = (self.threads, self.unresolvable);
        let mut finish = Finish { resources, notices, defaults, threads, unresolvable };
        let mut made: Vec<(String, Arc<Upstream>)> = Vec::new();
        for block in self.blocks {
            made.push((block.name.to_ascii_lowercase(), Arc::new(finish.group(block)?)));
        }
        let mut upstreams = Vec::new();
        for (reference, word) in &self.references {
            let name = reference.host.to_ascii_lowercase();
            if let Some((_, group)) = made.iter().find(|(known, _)| *known == name) {
                if reference.port.is_some() {
                    let port = reference.port.unwrap_or_default();
                    return Err(Error::at(
                        word,
                        format!("upstream \"{}\" may not have port {port}", reference.host),
                    ));
                }
                upstreams.push(Arc::clone(group));
                continue;
            }
            upstreams.push(Arc::new(finish.plain(reference, word)?));
        }
        for (id, checked) in self.checked {
            let Some(upstream) = upstreams.get(id.0 as usize) else { continue };
            // Of several checks the strictest decides how peers begin.
            if checked as u8 > upstream.live.checked() as u8 {
                upstream.live.set_checked(checked);
            }
        }
        for (_, group) in made {
            if !upstreams.iter().any(|known| Arc::ptr_eq(known, &group)) {
                upstreams.push(group);
            }
        }
        Ok(upstreams)
    }
}

impl Finish<'_> {
    fn group(&mut self, block: UpstreamBlock) -> Result<Upstream, Error> {
        let refuse = |why: &str| Err(Error::at(&block.word, format!("{why} in upstream \"{}\"", block.name)));
        let resolver = block.resolver.or_else(|| self.defaults.resolver.clone());
        let waits = block.servers.iter().any(|(server, _)| server.spec.resolve == Resolve::WhileRunning);
        if waits && block.zone.is_none() {
            let before = format!("resolving names at run time requires upstream \"{}\"", block.name);
            return Err(Error::around(&block.word, before, " to be in shared memory"));
        }
        if waits && resolver.is_none() {
            return refuse("no resolver defined to resolve names at run time");
        }
        let mut servers = Vec::new();
        for (server, word) in block.servers {
            servers.push(self.looked_up(server, &word)?);
        }
        let sessions = if block.sticky.is_some() { Sessions::Sticky } else { Sessions::None };
        let policy = Policy { balancer: block.balancer, sessions, eject: block.eject };
        let make = if block.state.is_some() { Live::of } else { Live::new };
        let live = match make(&block.name, servers, policy) {
            Ok(live) => live,
            Err(error) => return refuse(&error.to_string()),
        };
        let keepalive = (block.limits.capacity > 0)
            .then_some(KeepaliveConf { limits: block.limits, is_local: block.is_local });
        let timeout_ms = block.resolver_timeout.unwrap_or(self.defaults.resolver_timeout);
        let mut upstream = Upstream::new(&block.name, live, keepalive, self.threads);
        upstream.key = block.key;
        upstream.head_moment = block.head_moment;
        upstream.zone = block.zone;
        upstream.state = block.state;
        upstream.sticky = block.sticky;
        upstream.queue = block.queue.map(QueueConf::queue);
        upstream.naming = Naming { resolver, timeout_ms };
        Ok(upstream)
    }

    fn plain(&mut self, reference: &UpstreamRef, word: &Word) -> Result<Upstream, Error> {
        let name = shown(reference);
        let port = match reference.port.or(reference.default_port) {
            Some(port) => port,
            None if reference.host.starts_with("unix:") => 0,
            None => return Err(Error::at(word, format!("no port in upstream \"{}\"", reference.host))),
        };
        let server = server_at(&name, &reference.host, port, ServerSpec::default())
            .map_err(|why| Error::at(word, format!("{why} in upstream \"{name}\"")))?;
        let server = self.looked_up(server, word)?;
        let live = Live::new(&name, vec![server], Policy::default())
            .map_err(|error| Error::at(word, format!("{error}")))?;
        let mut upstream = Upstream::new(&name, live, None, self.threads);
        let Defaults { resolver, resolver_timeout } = &self.defaults;
        upstream.naming = Naming { resolver: resolver.clone(), timeout_ms: *resolver_timeout };
        Ok(upstream)
    }

    /// Looks the name of a server up, if it has one and is not to wait.
    fn looked_up(&mut self, mut server: Server, word: &Word) -> Result<Server, Error> {
        let Some(named) = &server.named else { return Ok(server) };
        if server.spec.resolve == Resolve::WhileRunning {
            return Ok(server);
        }
        let found = self.resources.resolve(&named.host).unwrap_or_default();
        if found.is_empty() {
            let sentence = format!("host not found in upstream \"{}\"", server.name);
            if self.unresolvable == Unresolvable::Refused {
                return Err(Error::at(word, sentence));
            }
            let sentence = format!("{sentence}, which is down until it is found");
            self.notices.push(Error::at(word, sentence).with_level(Level::Warn));
            return Ok(Server::unresolved(&server.name, &named.host, named.port, server.spec.clone()));
        }
        let mut addrs: Vec<PeerAddr> = Vec::new();
        for ip in found {
            let addr = PeerAddr::Inet(SocketAddr::new(ip, named.port));
            if !addrs.contains(&addr) {
                addrs.push(addr);
            }
        }
        server.members = Server::new(&server.name, addrs, ServerSpec::default()).members;
        Ok(server)
    }
}

fn shown(reference: &UpstreamRef) -> String {
    match reference.port {
        Some(port) => format!("{}:{port}", reference.host),
        None => reference.host.clone(),
    }
}

/// A server as it is written in an `upstream` block, a `state` file or a request of the API. Names are not looked
/// up.
///
/// # Errors
/// nginx's words: what [`parse_upstream_url`] says; ` in upstream "…"` follows them.
pub fn parse_server(address: &str, spec: ServerSpec) -> Result<Server, &'static str> {
    let url = parse_upstream_url(address.as_bytes(), UriPart::Refused)?;
    server_at(address, &url.host_text(), url.port.unwrap_or(80), spec)
}

/// A server at a host: a literal address, a Unix socket, or a name that is yet to be looked up.
fn server_at(name: &str, host: &str, port: u16, spec: ServerSpec) -> Result<Server, &'static str> {
    if let Some(path) = host.strip_prefix("unix:") {
        if path.is_empty() {
            return Err("no path in the unix domain socket");
        }
        return Ok(Server::new(name, vec![PeerAddr::Unix(PathBuf::from(path))], spec));
    }
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    if let Some(ip) = base::address::ip(bare) {
        return Ok(Server::new(name, vec![PeerAddr::Inet(SocketAddr::new(ip, port))], spec));
    }
    if host.is_empty() {
        return Err("no host");
    }
    Ok(Server::new(name, Vec::new(), spec).named(host, port))
}
