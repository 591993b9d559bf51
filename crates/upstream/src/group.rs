//! An upstream: its peers, primary and backup, and how requests are spread over them.
//!
//! A group is a snapshot that never changes. A reload, a new address from DNS and a live change all make a new
//! one that adopts the running state of the old; requests under way end on the snapshot that they began with.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::attempt::Attempt;
use crate::balance::Balancer;
use crate::peer::{Admin, Peer, PeerAddr, PeerId};
use crate::server::{Resolve, Role, ServerSpec};

/// One `server` line with the addresses that its name has.
#[derive(Clone, Debug)]
pub struct Server {
    /// The address as the configuration writes it.
    pub name: String,
    /// What it resolves to; each address becomes a peer with the whole weight.
    pub addrs: Vec<PeerAddr>,
    /// The parameters.
    pub spec: ServerSpec,
}

/// Why a group cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// No primary server is there; the caller adds `in upstream "…" in FILE:LINE`.
    #[error("no servers")]
    NoServers,
    /// More peers than a [`PeerId`] can name.
    #[error("too many servers")]
    TooManyServers,
}

/// A named group of peers with one balancing method.
#[derive(Debug)]
pub struct Group {
    name: Box<str>,
    /// The primaries, then the backups.
    peers: Box<[Peer]>,
    primaries: usize,
    weights: [u64; 2],
    tries: u32,
    balancer: Balancer,
    shared: Arc<Shared>,
}

/// What all snapshots of one group have in common.
#[derive(Debug)]
struct Shared {
    turn: Mutex<()>,
    random: AtomicU64,
}

impl Group {
    /// A group as an `upstream` block declares it (`ngx_http_upstream_init_round_robin`).
    ///
    /// # Errors
    /// [`GroupError`]; a server that is yet to be resolved counts as one.
    pub fn new(name: &str, servers: &[Server], balancer: Balancer) -> Result<Self, GroupError> {
        let is_primary = |server: &&Server| server.spec.role == Role::Primary;
        let waits = |server: &Server| server.spec.resolve == Resolve::WhileRunning;
        if !servers.iter().filter(is_primary).any(|server| !server.addrs.is_empty() || waits(server)) {
            return Err(GroupError::NoServers);
        }
        let mut peers = peers_of(servers, Role::Primary);
        let primaries = peers.len();
        peers.extend(peers_of(servers, Role::Backup));
        if u32::try_from(peers.len()).is_err() {
            return Err(GroupError::TooManyServers);
        }
        number_servers(&mut peers);
        let (head, tail) = peers.split_at(primaries);
        let weights = [head, tail].map(|set| set.iter().map(|peer| u64::from(peer.weight)).sum());
        let tries = peers.iter().filter(|peer| peer.admin == Admin::Up).count();
        let balancer = balancer.prepared(head);
        Ok(Self {
            name: name.into(),
            peers: peers.into(),
            primaries,
            weights,
            tries: u32::try_from(tries).unwrap_or(u32::MAX),
            balancer,
            shared: Arc::new(Shared {
                turn: Mutex::new(()),
                random: AtomicU64::new(RandomState::new().build_hasher().finish()),
            }),
        })
    }

    /// The group that a directive such as `proxy_pass http://host:port` makes without an `upstream` block.
    ///
    /// # Errors
    /// [`GroupError::NoServers`] without addresses.
    pub fn implicit(host: &str, addrs: Vec<PeerAddr>) -> Result<Self, GroupError> {
        let server = Server { name: host.to_owned(), addrs, spec: ServerSpec::default() };
        Self::new(host, &[server], Balancer::RoundRobin)
    }

    /// Goes on with the running state of `old`, a snapshot of the same group, for each peer of the same server
    /// and address. `old` keeps working and counts on the same counters.
    pub fn adopt(&mut self, old: &Group) {
        self.shared = Arc::clone(&old.shared);
        let mut known: HashMap<(&str, &str), VecDeque<&Peer>> = HashMap::new();
        for peer in &old.peers {
            known.entry((&peer.server, &peer.name)).or_default().push_back(peer);
        }
        for peer in &mut self.peers {
            let Some(same) = known.get_mut(&(&*peer.server, &*peer.name)) else { continue };
            if let Some(before) = same.pop_front() {
                peer.state = Arc::clone(&before.state);
            }
        }
    }

    /// The name of the `upstream` block, or the host; `$upstream_addr` shows it when no peer could be tried.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How requests are spread.
    #[must_use]
    pub fn balancer(&self) -> &Balancer {
        &self.balancer
    }

    /// The peer of that id, if this group gave it out.
    #[must_use]
    pub fn peer(&self, id: PeerId) -> Option<&Peer> {
        self.peers.get(id.0 as usize)
    }

    /// All peers in the order of the configuration, the backups last.
    pub fn peers(&self) -> impl Iterator<Item = (PeerId, Role, &Peer)> {
        (0u32..).zip(&self.peers).map(|(id, peer)| {
            let role = if (id as usize) < self.primaries { Role::Primary } else { Role::Backup };
            (PeerId(id), role, peer)
        })
    }

    /// Whether the group is one peer alone, which failures never disable.
    #[inline]
    #[must_use]
    pub fn is_single(&self) -> bool {
        self.peers.len() == 1 && self.primaries == 1
    }

    /// How many peers a request may try: all that are not `down` or `drain`.
    #[must_use]
    pub fn tries(&self) -> u32 {
        self.tries
    }

    /// Begins the attempts of one request.
    #[must_use]
    pub fn attempt(self: &Arc<Self>) -> Attempt {
        Attempt::new(Arc::clone(self))
    }

    /// The peers of a set, and the place of its first.
    #[inline]
    pub(crate) fn set(&self, role: Role) -> (usize, &[Peer]) {
        let (primaries, backups) = self.peers.split_at(self.primaries);
        match role {
            Role::Primary => (0, primaries),
            Role::Backup => (self.primaries, backups),
        }
    }

    #[inline]
    pub(crate) fn total_weight(&self, first: usize) -> u64 {
        let [primary, backup] = self.weights;
        if first < self.primaries { primary } else { backup }
    }

    pub(crate) fn len(&self) -> usize {
        self.peers.len()
    }

    /// The right to change what several peers must agree on.
    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, ()> {
        self.shared.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number that nobody foresees, but no secret (SplitMix64).
    pub(crate) fn random(&self) -> u64 {
        let mut x = self.shared.random.fetch_add(0x9E37_79B9_7F4A_7C15, Relaxed);
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }
}

fn peers_of(servers: &[Server], role: Role) -> Vec<Peer> {
    let of_role = servers.iter().filter(|server| server.spec.role == role);
    of_role
        .flat_map(|server| {
            let name: Arc<str> = server.name.as_str().into();
            server.addrs.iter().map(move |addr| Peer::new(&name, addr.clone(), &server.spec))
        })
        .collect()
}

/// Gives all peers of equally written servers the same index.
fn number_servers(peers: &mut [Peer]) {
    let mut seen: HashMap<Arc<str>, u32> = HashMap::new();
    for (index, peer) in (0u32..).zip(peers) {
        peer.server_index = *seen.entry(Arc::clone(&peer.server)).or_insert(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{group, requests, sec};

    #[test]
    fn servers_become_peers() {
        let group = group(
            Balancer::RoundRobin,
            &["10.0.0.1:8081 backup", "name:80=10.0.0.1:8082,[::1]:8083 weight=2", "10.0.0.1:8084 down"],
        );
        let text: Vec<String> = group
            .peers()
            .map(|(id, role, peer)| {
                format!("{} {role:?} {} {} {}", id.0, peer.name, peer.server, peer.weight)
            })
            .collect();
        let expected = [
            "0 Primary 10.0.0.1:8082 name:80 2",
            "1 Primary [::1]:8083 name:80 2",
            "2 Primary 10.0.0.1:8084 10.0.0.1:8084 1",
            "3 Backup 10.0.0.1:8081 10.0.0.1:8081 1",
        ];
        assert_eq!(text, expected);
        assert_eq!((group.tries(), group.is_single(), group.name()), (3, false, "backend"));
    }

    #[test]
    fn one_peer_is_single_unless_it_has_a_backup() {
        let check = |lines: &[&str], expected: bool| {
            assert_eq!(group(Balancer::RoundRobin, lines).is_single(), expected, "{lines:?}");
        };
        check(&["10.0.0.1:8081"], true);
        check(&["10.0.0.1:8081", "10.0.0.1:8082"], false);
        check(&["10.0.0.1:8081", "10.0.0.1:8082 backup"], false);
        check(&["name=10.0.0.1:8081,10.0.0.1:8082"], false);
    }

    #[test]
    fn a_group_needs_a_primary() {
        let server = |role, resolve| Server {
            name: "a".to_owned(),
            addrs: vec![],
            spec: ServerSpec { role, resolve, ..ServerSpec::default() },
        };
        let make = |server| Group::new("a", &[server], Balancer::RoundRobin).map(|_| ());
        assert_eq!(make(server(Role::Primary, Resolve::AtLoad)), Err(GroupError::NoServers));
        assert_eq!(make(server(Role::Backup, Resolve::WhileRunning)), Err(GroupError::NoServers));
        assert_eq!(make(server(Role::Primary, Resolve::WhileRunning)), Ok(()));
    }

    #[test]
    fn an_implicit_group_holds_all_addresses() {
        let addrs =
            ["10.0.0.1:8081", "10.0.0.1:8082"].map(|addr| PeerAddr::Inet(addr.parse().expect("address")));
        let group = Arc::new(Group::implicit("example.com", addrs.to_vec()).expect("addresses"));
        assert_eq!(requests(&group, 3, sec(0)), "aba");
        let unix = Group::implicit("unix:/tmp/a", vec![PeerAddr::Unix("/tmp/a".into())]).expect("address");
        assert_eq!(unix.peer(PeerId(0)).map(|peer| &*peer.name), Some("unix:/tmp/a"));
    }
}
