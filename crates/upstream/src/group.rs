//! An upstream: its peers, primary and backup, and how requests are spread over them.
//!
//! A group is a snapshot that never changes. A reload, a new address from DNS and a live change all make a new
//! one that adopts the running state of the old; requests under way end on the snapshot that they began with.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use os::socket::PeerAddr;

use crate::attempt::Attempt;
use crate::balance::Balancer;
use crate::balance::order::{Kept, Turn};
use crate::eject::Eject;
use crate::eligible::Rules;
use crate::now::Now;
use crate::peer::{Admin, Health, Peer, PeerId, PeerUid};
use crate::server::{Accepts, Resolve, Role, ServerSpec};

/// One `server` with the addresses that its name has now.
#[derive(Clone, Debug)]
pub struct Server {
    /// What the API knows it by; given by [`Live`](crate::Live), never twice.
    pub id: u32,
    /// The address as the configuration writes it.
    pub name: Arc<str>,
    /// The parameters.
    pub spec: ServerSpec,
    /// Each becomes a peer with the whole weight.
    pub members: Vec<Member>,
    /// The name that its addresses come from; none where it is an address itself.
    pub named: Option<Named>,
}

/// A name with the port that its addresses get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The host's name.
    pub host: Arc<str>,
    /// The port; that of SRV records takes its place.
    pub port: u16,
}

/// One address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// What the API knows it by; that of the server where the server is an address itself.
    pub id: u32,
    /// Where to connect.
    pub addr: PeerAddr,
    /// Where the address comes from.
    pub origin: Origin,
}

/// Where an address of a server comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The address as written, or an answer to the name.
    Name,
    /// An SRV record: its target, its weight, and whether its priority makes it a backup.
    Service(Arc<str>, u32, Role),
    /// The name could not be resolved: the peer stands for it, and is down.
    Unresolved,
}

impl Server {
    /// A server of these addresses.
    #[must_use]
    pub fn new(name: &str, addrs: Vec<PeerAddr>, spec: ServerSpec) -> Self {
        let member = |addr| Member { id: 0, addr, origin: Origin::Name };
        Self { id: 0, name: name.into(), spec, members: addrs.into_iter().map(member).collect(), named: None }
    }

    /// The same server, of a name that may get other addresses.
    #[must_use]
    pub fn named(mut self, host: &str, port: u16) -> Self {
        self.named = Some(Named { host: host.into(), port });
        self
    }

    /// A server whose name could not be resolved.
    #[must_use]
    pub fn unresolved(name: &str, host: &str, port: u16, spec: ServerSpec) -> Self {
        let addr = PeerAddr::Inet((std::net::Ipv4Addr::UNSPECIFIED, port).into());
        let mut server = Self::new(name, vec![addr], spec).named(host, port);
        server.members.iter_mut().for_each(|member| member.origin = Origin::Unresolved);
        server
    }
}

/// What a group does besides spreading requests over its peers.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// How requests are spread.
    pub balancer: Balancer,
    /// What sticky sessions name a peer by.
    pub sessions: Sessions,
    /// Whose failures and slowness shut them out; nobody's unless it is named.
    pub eject: Option<Eject>,
}

/// What sticky sessions name a peer by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sessions {
    /// There are none; `route` alone names peers.
    #[default]
    None,
    /// `route`, otherwise a digest of the peer's address.
    Sticky,
}

impl From<Balancer> for Policy {
    fn from(balancer: Balancer) -> Self {
        Self { balancer, ..Self::default() }
    }
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
    peers: Arc<[Peer]>,
    primaries: usize,
    /// For each peer the sum of the weights in its set up to and with its own.
    ends: Box<[u64]>,
    /// What weights are multiplied by, so that those of slow starts can be small.
    scale: u32,
    tries: u32,
    policy: Policy,
    /// The times of answers matter, or their errors do.
    measures: bool,
    /// What order the primaries are kept in, where looking at each would take too long.
    kept: Option<Kept>,
    /// For each set the peers by their `sid`, likewise.
    by_sid: Option<Box<[Sids; 2]>>,
    shared: Arc<Shared>,
}

/// What all snapshots of one group have in common.
#[derive(Debug)]
struct Shared {
    turn: Mutex<Turn>,
    /// Whether the order is to hear of every release.
    hears: AtomicBool,
    random: AtomicU64,
    conns: AtomicU64,
}

/// Steps in which the weight of a peer grows during its slow start.
const SLOW_START_STEPS: u32 = 1000;

/// The first peer of each `sid` of a set, by its index there.
type Sids = HashMap<Box<str>, u32>;

/// Peers from which on those of sessions are looked up in a table.
const SIDS_MANY: usize = 64;

impl Group {
    /// A group as an `upstream` block declares it (`ngx_http_upstream_init_round_robin`).
    ///
    /// # Errors
    /// [`GroupError`]; a server that is yet to be resolved counts as one.
    pub fn new(name: &str, servers: &[Server], policy: impl Into<Policy>) -> Result<Self, GroupError> {
        let is_primary = |server: &&Server| server.spec.role == Role::Primary;
        let waits = |server: &Server| server.spec.resolve == Resolve::WhileRunning;
        if !servers.iter().filter(is_primary).any(|server| !server.members.is_empty() || waits(server)) {
            return Err(GroupError::NoServers);
        }
        Self::of(name, servers, policy)
    }

    /// A group that may be empty for now, since its servers come while running.
    ///
    /// # Errors
    /// [`GroupError::TooManyServers`].
    pub fn of(name: &str, servers: &[Server], policy: impl Into<Policy>) -> Result<Self, GroupError> {
        let policy = policy.into();
        let mut peers = peers_of(servers, Role::Primary, &policy);
        let primaries = peers.len();
        peers.extend(peers_of(servers, Role::Backup, &policy));
        if u32::try_from(peers.len()).is_err() {
            return Err(GroupError::TooManyServers);
        }
        number_servers(&mut peers);
        let (head, tail) = peers.split_at(primaries);
        let ends = sums(head).chain(sums(tail)).collect();
        let tries = peers.iter().filter(|peer| peer.admin == Admin::Up).count();
        let policy = Policy { balancer: policy.balancer.prepared(head), ..policy };
        let starts_slowly = peers.iter().any(|peer| peer.slow_start_ms > 0);
        let measures = policy.balancer.measures() || policy.eject.is_some();
        let kept = Kept::of(&policy.balancer, head);
        let by_sid = (peers.len() >= SIDS_MANY).then(|| Box::new([by_sid(head), by_sid(tail)]));
        Ok(Self {
            name: name.into(),
            peers: peers.into(),
            primaries,
            ends,
            scale: if starts_slowly { SLOW_START_STEPS } else { 1 },
            tries: u32::try_from(tries).unwrap_or(u32::MAX),
            policy,
            measures,
            kept,
            by_sid,
            shared: Arc::new(Shared {
                turn: Mutex::default(),
                hears: AtomicBool::new(false),
                random: AtomicU64::new(RandomState::new().build_hasher().finish()),
                conns: AtomicU64::new(0),
            }),
        })
    }

    /// The group with its primaries in order, however few they are.
    #[cfg(test)]
    pub(crate) fn in_order(mut self) -> Self {
        self.kept = Kept::of_any(&self.policy.balancer, self.set(Role::Primary).1);
        self
    }

    /// The group without an order, however many its primaries are.
    #[cfg(test)]
    pub(crate) fn without_order(mut self) -> Self {
        self.kept = None;
        self
    }

    /// The group that a directive such as `proxy_pass http://host:port` makes without an `upstream` block.
    ///
    /// # Errors
    /// [`GroupError::NoServers`] without addresses.
    pub fn implicit(host: &str, addrs: Vec<PeerAddr>) -> Result<Self, GroupError> {
        Self::new(host, &[Server::new(host, addrs, ServerSpec::default())], Balancer::RoundRobin)
    }

    /// Goes on with the running state of `old`, a snapshot of the same group, for each peer of the same server
    /// and address. `old` keeps working and counts on the same counters.
    pub fn adopt(&mut self, old: &Group) {
        self.shared = Arc::clone(&old.shared);
        let is_rescaled = self.scale != old.scale;
        if is_rescaled {
            old.lock().settle();
        }
        let mut known: HashMap<(&str, &str), VecDeque<&Peer>> = HashMap::new();
        for peer in old.peers.iter() {
            known.entry((&peer.server, &peer.name)).or_default().push_back(peer);
        }
        for peer in Arc::make_mut(&mut self.peers) {
            let Some(same) = known.get_mut(&(&*peer.server, &*peer.name)) else { continue };
            if let Some(before) = same.pop_front() {
                peer.state = Arc::clone(&before.state);
                if is_rescaled {
                    peer.state.current_weight.store(0);
                }
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
        &self.policy.balancer
    }

    /// Whose failures and slowness shut them out.
    #[must_use]
    pub fn eject(&self) -> Option<&Eject> {
        self.policy.eject.as_ref()
    }

    /// The peer of that id, if this group gave it out.
    #[must_use]
    pub fn peer(&self, id: PeerId) -> Option<&Peer> {
        self.peers.get(id.0 as usize)
    }

    /// Where a peer is in this snapshot, if it is; looked for at `before`, its place in an earlier one, first.
    #[must_use]
    pub fn find(&self, uid: PeerUid, before: PeerId) -> Option<PeerId> {
        if self.peer(before).is_some_and(|peer| peer.uid() == uid) {
            return Some(before);
        }
        self.peers().find(|(_, _, peer)| peer.uid() == uid).map(|(id, ..)| id)
    }

    /// All peers in the order of the configuration, the backups last.
    pub fn peers(&self) -> impl Iterator<Item = (PeerId, Role, &Peer)> {
        (0u32..).zip(self.peers.iter()).map(|(id, peer)| {
            let role = if (id as usize) < self.primaries { Role::Primary } else { Role::Backup };
            (PeerId(id), role, peer)
        })
    }

    /// Takes the verdict of the active health checks on a peer, for every snapshot that knows it. One that recovers
    /// begins its slow start.
    pub fn set_health(&self, peer: &Peer, health: Health, now: Now) {
        let mut turn = self.lock();
        peer.set_health(health, now);
        turn.changed(peer, now);
    }

    /// Has a peer start with a small share of the requests that grows to its weight (`slow_start`).
    pub fn begin_slow_start(&self, peer: &Peer, now: Now) {
        let mut turn = self.lock();
        peer.begin_slow_start(now);
        turn.changed(peer, now);
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

    /// An attempt at one peer that leaves no trace in its counters: a health check.
    #[must_use]
    pub fn aim(self: &Arc<Self>, id: PeerId) -> Attempt {
        Attempt::at(Arc::clone(self), id)
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

    /// For each peer of the set that begins at `first` the sum of the weights up to and with its own.
    #[inline]
    pub(crate) fn weight_ends(&self, first: usize) -> &[u64] {
        let (primaries, backups) = self.ends.split_at_checked(self.primaries).unwrap_or_default();
        if first < self.primaries { primaries } else { backups }
    }

    /// The first peer with that [`sid`](Peer::sid) in the set that begins at `first`, by its index there.
    pub(crate) fn of_sid(&self, first: usize, sid: &str) -> Option<usize> {
        let role = if first < self.primaries { Role::Primary } else { Role::Backup };
        match &self.by_sid {
            Some(tables) => {
                let [primaries, backups] = &**tables;
                let table = if role == Role::Primary { primaries } else { backups };
                table.get(sid).and_then(|index| usize::try_from(*index).ok())
            }
            None => self.set(role).1.iter().position(|peer| !peer.sid.is_empty() && *peer.sid == *sid),
        }
    }

    /// What weights are multiplied by in this group.
    #[inline]
    pub(crate) fn scale(&self) -> u32 {
        self.scale
    }

    /// Attempts under way at all peers, where the method counts them.
    pub(crate) fn conns(&self) -> &AtomicU64 {
        &self.shared.conns
    }

    /// How many peers there are, the backups among them.
    #[must_use]
    pub fn size(&self) -> usize {
        self.peers.len()
    }

    /// What the group adds to the decision who may be tried.
    #[inline]
    pub(crate) fn rules(&self) -> Rules {
        Rules { is_single: self.is_single(), ejects: self.policy.eject.is_some() }
    }

    /// What order the primaries are kept in.
    #[inline]
    pub(crate) fn kept(&self) -> Option<Kept> {
        self.kept
    }

    /// All peers, to be held by their order.
    pub(crate) fn all(&self) -> &Arc<[Peer]> {
        &self.peers
    }

    /// Whether it matters how long answers take or whether they are errors.
    #[inline]
    pub(crate) fn measures(&self) -> bool {
        self.measures
    }

    /// Whether the order is to hear of every release.
    #[inline]
    pub(crate) fn hears(&self) -> bool {
        self.shared.hears.load(SeqCst)
    }

    /// Says whether the order is to hear of every release; before it first reads what releases change.
    pub(crate) fn hear(&self, kept: Kept) {
        self.shared.hears.store(kept.hears, SeqCst);
    }

    /// The right to change what several peers must agree on.
    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, Turn> {
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

fn peers_of(servers: &[Server], role: Role, policy: &Policy) -> Vec<Peer> {
    let takes_backups = policy.balancer.accepts() == Accepts::All;
    let role_of = |server: &Server, member: &Member| match (server.spec.role, &member.origin) {
        (Role::Primary, Origin::Service(_, _, role)) => *role,
        (role, _) => role,
    };
    let mut peers = Vec::new();
    for server in servers {
        // Lesser priorities of a service are backups, which some methods have no use for.
        let members = server.members.iter().filter(|member| role_of(server, member) == role);
        let is_served = |member: &&Member| {
            takes_backups || role == Role::Primary || !matches!(member.origin, Origin::Service(..))
        };
        peers.extend(members.filter(is_served).map(|member| Peer::new(server, member, policy.sessions)));
    }
    peers
}

fn by_sid(peers: &[Peer]) -> Sids {
    let mut table = Sids::new();
    for (index, peer) in (0..).zip(peers).filter(|(_, peer)| !peer.sid.is_empty()) {
        table.entry(peer.sid.clone()).or_insert(index);
    }
    table
}

fn sums(peers: &[Peer]) -> impl Iterator<Item = u64> {
    peers.iter().scan(0u64, |sum, peer| {
        *sum += u64::from(peer.weight);
        Some(*sum)
    })
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
        let server =
            |role, resolve| Server::new("a", vec![], ServerSpec { role, resolve, ..ServerSpec::default() });
        let make = |server| Group::new("a", &[server], Balancer::RoundRobin).map(|_| ());
        assert_eq!(make(server(Role::Primary, Resolve::AtLoad)), Err(GroupError::NoServers));
        assert_eq!(make(server(Role::Backup, Resolve::WhileRunning)), Err(GroupError::NoServers));
        assert_eq!(make(server(Role::Primary, Resolve::WhileRunning)), Ok(()));
    }

    #[test]
    fn peers_are_found_by_what_sessions_and_snapshots_know() {
        for size in [5, SIDS_MANY] {
            let line = |n: usize| {
                let role = if n.is_multiple_of(3) { " backup" } else { "" };
                format!("10.0.0.{n}:8081{role} route=r{}", n / 2)
            };
            let lines: Vec<String> = (0..size).map(line).collect();
            let group = group(Balancer::RoundRobin, &lines.iter().map(String::as_str).collect::<Vec<_>>());
            for role in [Role::Primary, Role::Backup] {
                let (first, peers) = group.set(role);
                for sid in (0..size).map(|n| format!("r{n}")) {
                    let place = peers.iter().position(|peer| *peer.sid == sid);
                    assert_eq!(group.of_sid(first, &sid), place, "{size} {role:?} {sid}");
                }
            }
            for (id, _, peer) in group.peers() {
                assert_eq!(group.find(peer.uid(), id), Some(id));
                assert_eq!(group.find(peer.uid(), PeerId(0)), Some(id));
            }
            assert_eq!(group.find(PeerUid(u64::MAX), PeerId(0)), None);
        }
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
