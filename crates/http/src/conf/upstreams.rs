//! `upstream` blocks and the plain addresses that `proxy_pass` and its like name.
//!
//! A reference may stand before the block that it names; both are brought together when all was read.

use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::sync::Arc;

use conf::{Error, Word};
use upstream::{Balancer, Group, Limits, PeerAddr, Server};

use crate::relay::{KeepaliveConf, Upstream};
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
    /// Its servers.
    pub servers: Vec<Server>,
    /// Its method.
    pub balancer: Balancer,
    /// Whether a method was written, which may happen once.
    pub has_balancer: bool,
    /// `hash KEY`.
    pub key: Option<Template>,
    /// Idle connections.
    pub limits: Limits,
    /// `keepalive … local`.
    pub is_local: bool,
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
            limits: Limits::default(),
            is_local: true,
            word,
        }
    }
}

/// All upstreams of a configuration.
#[derive(Debug, Default)]
pub struct Upstreams {
    blocks: Vec<UpstreamBlock>,
    references: Vec<(UpstreamRef, Word)>,
    /// Worker threads, which pools are sharded by.
    pub threads: usize,
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

    /// Makes the upstreams, in the order of their ids; blocks that nobody refers to come last.
    pub(super) fn finish(self, _notices: &mut Vec<Error>) -> Result<Vec<Arc<Upstream>>, Error> {
        let mut made: Vec<(String, Arc<Upstream>)> = Vec::new();
        for block in &self.blocks {
            made.push((block.name.to_ascii_lowercase(), Arc::new(make_group(block, self.threads)?)));
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
            upstreams.push(Arc::new(make_plain(reference, word, self.threads)?));
        }
        for (_, group) in made {
            if !upstreams.iter().any(|known| Arc::ptr_eq(known, &group)) {
                upstreams.push(group);
            }
        }
        Ok(upstreams)
    }
}

fn make_group(block: &UpstreamBlock, threads: usize) -> Result<Upstream, Error> {
    let group = Group::new(&block.name, &block.servers, block.balancer.clone())
        .map_err(|error| Error::at(&block.word, format!("{error} in upstream \"{}\"", block.name)))?;
    let keepalive = (block.limits.capacity > 0)
        .then_some(KeepaliveConf { limits: block.limits, is_local: block.is_local });
    let mut upstream = Upstream::new(&block.name, group, keepalive, threads);
    upstream.key.clone_from(&block.key);
    Ok(upstream)
}

fn make_plain(reference: &UpstreamRef, word: &Word, threads: usize) -> Result<Upstream, Error> {
    let port = match reference.port.or(reference.default_port) {
        Some(port) => port,
        None if reference.host.starts_with("unix:") => 0,
        None => return Err(Error::at(word, format!("no port in upstream \"{}\"", reference.host))),
    };
    let addrs = resolve(&reference.host, port)
        .map_err(|why| Error::at(word, format!("{why} in upstream \"{}\"", shown(reference))))?;
    let name = shown(reference);
    let group = Group::implicit(&name, addrs).map_err(|error| Error::at(word, format!("{error}")))?;
    Ok(Upstream::new(&name, group, None, threads))
}

fn shown(reference: &UpstreamRef) -> String {
    match reference.port {
        Some(port) => format!("{}:{port}", reference.host),
        None => reference.host.clone(),
    }
}

/// The addresses of a host at load: a literal address, a Unix socket, or a name asked from the system.
///
/// # Errors
/// nginx's words for names that cannot be resolved.
pub fn resolve(host: &str, port: u16) -> Result<Vec<PeerAddr>, &'static str> {
    if let Some(path) = host.strip_prefix("unix:") {
        if path.is_empty() {
            return Err("no path in the unix domain socket");
        }
        return Ok(vec![PeerAddr::Unix(PathBuf::from(path))]);
    }
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    if let Ok(ip) = bare.parse() {
        return Ok(vec![PeerAddr::Inet(std::net::SocketAddr::new(ip, port))]);
    }
    if host.is_empty() {
        return Err("no host");
    }
    let found = (host, port).to_socket_addrs().map_err(|_| "host not found")?;
    let mut addrs: Vec<PeerAddr> = Vec::new();
    for addr in found.map(PeerAddr::Inet) {
        if !addrs.contains(&addr) {
            addrs.push(addr);
        }
    }
    if addrs.is_empty() { Err("host not found") } else { Ok(addrs) }
}
