//! Active health checks (`health_check`): peers are asked at intervals whether they are well.
//!
//! One thread does it for the whole server, with the request and the codec of the location's own protocol, so every
//! protocol that requests can be passed with can be checked with.

mod expect;
mod grpc;
mod probe;
mod talk;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use net::TaskHandle;
use os::errlog::Level;
use os::socket::Kind;
use upstream::{Admin, CheckVerdict, Checked, Health, PeerId, PeerUid};

pub use self::expect::{Expect, Header, HeaderTest, Must, Statuses, Text};
use self::probe::{Finding, Probe};
pub use self::talk::{Reply, Talk};
use super::{Passing, Upstream, now};
use crate::conf::LocationId;
use crate::cycle::Cycle;
use crate::side::Side;

/// Peers whose first check is not spread over the interval.
const FEW_PEERS: usize = 64;

/// One `health_check` of a location, compiled.
pub struct HealthCheck {
    /// What it is called in the log: the name of its `match`.
    pub name: Box<str>,
    /// Where it stands.
    pub location: LocationId,
    /// How the location passes requests.
    pub passing: Passing,
    /// What is asked.
    pub kind: CheckKind,
    /// Time between two checks of a peer, milliseconds.
    pub interval_ms: u64,
    /// Each check is put off by up to so much, milliseconds.
    pub jitter_ms: u64,
    /// Failures in a row that make a peer unhealthy.
    pub fails: u32,
    /// Successes in a row that make it healthy again.
    pub passes: u32,
    /// A port in the place of the peer's.
    pub port: Option<u16>,
    /// What the answer must be.
    pub expect: Arc<Expect>,
    /// Whether peers wait for their first check.
    pub checked: Checked,
    /// How long a connection serves check after check, milliseconds; `None` opens one for each.
    pub keepalive_ms: Option<u64>,
    /// Longest time of one check, milliseconds; `None` leaves it to the location's time-outs.
    pub timeout_ms: Option<u64>,
}

/// What a check does.
#[derive(Clone)]
pub enum CheckKind {
    /// Passes a GET request for this URI.
    Request {
        /// Path and arguments.
        uri: Box<[u8]>,
    },
    /// Asks by gRPC's own protocol for health checks (`type=grpc`).
    Grpc {
        /// The service that is asked for; empty for the server as a whole.
        service: Box<[u8]>,
        /// A status that is as good as health, of a server that does not know the protocol.
        status: Option<u32>,
    },
    /// Only connects (`type=tcp`).
    Connect,
    /// Of `stream`: sends something, and waits for something.
    Talk(Arc<Talk>),
}

impl CheckKind {
    /// What the peer is spoken to over.
    fn transport(&self) -> Kind {
        match self {
            Self::Talk(talk) if talk.is_by_datagrams => Kind::Datagram,
            _ => Kind::Stream,
        }
    }

    /// What is checked for.
    fn side(&self) -> Side {
        match self {
            Self::Talk(_) => Side::Stream,
            Self::Request { .. } | Self::Grpc { .. } | Self::Connect => Side::Http,
        }
    }
}

/// Appended to messages that arise in a check.
pub(crate) struct Subject {
    check: Box<str>,
    peer: Arc<str>,
    upstream: Box<str>,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { check, peer, upstream } = self;
        write!(f, ", health check \"{check}\" of peer {peer} in upstream \"{upstream}\"")
    }
}

/// The tasks of one configuration; they end with it.
#[derive(Default)]
pub struct Checkers {
    tasks: Vec<TaskHandle>,
}

impl Checkers {
    /// Checks the peers of a configuration, and those of the one before no more.
    pub fn follow(&mut self, cycle: &Cycle) {
        self.stop();
        for (upstream, checks) in by_upstream(cycle) {
            let board = Rc::new(Board { all: checks.len(), seen: RefCell::default() });
            for (place, check) in checks.into_iter().enumerate() {
                let watch = Watch { upstream: Arc::clone(&upstream), check, place, board: Rc::clone(&board) };
                self.tasks.push(net::spawn(watch.peers()));
            }
        }
    }

    /// Checks nobody any more.
    pub fn stop(&mut self) {
        self.tasks.drain(..).for_each(|task| task.abort());
    }
}

impl Drop for Checkers {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The checks of each upstream that has some.
fn by_upstream(cycle: &Cycle) -> Vec<(Arc<Upstream>, Vec<Arc<HealthCheck>>)> {
    let mut found: Vec<(Arc<Upstream>, Vec<Arc<HealthCheck>>)> = Vec::new();
    for (id, check) in &cycle.http.checks {
        let Some(upstream) = cycle.http.upstreams.get(id.0 as usize) else { continue };
        match found.iter_mut().find(|(known, _)| Arc::ptr_eq(known, upstream)) {
            Some((_, checks)) => checks.push(Arc::clone(check)),
            None => found.push((Arc::clone(upstream), vec![Arc::clone(check)])),
        }
    }
    found
}

/// What all checks of an upstream say of its peers: one that condemns is enough.
struct Board {
    all: usize,
    /// By peer, the places of the checks that found it well, and of those that did not.
    seen: RefCell<HashMap<PeerUid, (u64, u64)>>,
}

impl Board {
    /// Takes the verdict of a check; what the peer is by that, if anything is settled.
    fn settle(&self, peer: PeerUid, place: usize, is_well: bool) -> Option<Health> {
        let bit = 1u64 << (place % 64);
        let mut seen = self.seen.borrow_mut();
        let (well, ill) = seen.entry(peer).or_default();
        if is_well {
            *well |= bit;
            *ill &= !bit;
        } else {
            *ill |= bit;
            *well &= !bit;
        }
        if *ill != 0 {
            return Some(Health::Unhealthy);
        }
        (well.count_ones() as usize >= self.all.min(64)).then_some(Health::Healthy)
    }

    fn forget(&self, gone: PeerUid) {
        self.seen.borrow_mut().remove(&gone);
    }
}

#[derive(Clone)]
struct Watch {
    upstream: Arc<Upstream>,
    check: Arc<HealthCheck>,
    place: usize,
    board: Rc<Board>,
}

/// A peer while it is checked.
struct Checker {
    uid: PeerUid,
    task: TaskHandle,
}

impl Drop for Checker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watch {
    /// Checks each peer, also those that come later.
    async fn peers(self) {
        let mut checkers: HashMap<PeerUid, Checker> = HashMap::new();
        let mut known = None;
        let mut changes = self.upstream.changed.subscribe();
        loop {
            let group = self.upstream.group();
            if known.as_ref().is_none_or(|known| !Arc::ptr_eq(known, &group)) {
                let wanted: HashMap<PeerUid, PeerId> = group
                    .peers()
                    .filter(|(_, _, peer)| peer.admin != Admin::Down)
                    .map(|(id, _, peer)| (peer.uid(), id))
                    .collect();
                checkers.retain(|uid, _| {
                    let stays = wanted.contains_key(uid);
                    if !stays {
                        self.board.forget(*uid);
                    }
                    stays
                });
                let spread_ms = if wanted.len() > FEW_PEERS { self.check.interval_ms } else { 0 };
                for (uid, id) in wanted {
                    checkers.entry(uid).or_insert_with(|| {
                        let task = net::spawn(self.clone().peer(uid, id, spread_ms));
                        Checker { uid, task }
                    });
                }
                debug_assert!(checkers.iter().all(|(uid, checker)| *uid == checker.uid));
                known = Some(group);
            }
            // What a name brings is not told, so the wait ends by itself too.
            let _ = net::timer::within(self.check.interval_ms.clamp(100, 5000), changes.changed()).await;
        }
    }

    /// Checks one peer for ever; `id` is where it was when it was found.
    async fn peer(self, uid: PeerUid, mut id: PeerId, spread_ms: u64) {
        net::timer::sleep(draw(spread_ms)).await;
        let (mut streak, mut is_first) = (Streak::default(), true);
        let mut probe = Probe::new(&self.upstream, &self.check);
        loop {
            net::timer::sleep(draw(self.check.jitter_ms)).await;
            let group = self.upstream.group();
            let Some(found) = group.find(uid, id) else { return };
            id = found;
            let finding = probe.run(&group, id).await;
            let Some(peer) = group.peer(id) else { return };
            let is_well = streak.take(finding.is_ok(), self.check.fails, self.check.passes, is_first);
            let before = peer.counters().health;
            let health = is_well.and_then(|is_well| self.board.settle(uid, self.place, is_well));
            let is_news = health.is_some_and(|health| health != before);
            peer.count_check(match (&finding, health) {
                (Ok(()), _) => CheckVerdict::Passed,
                (Err(_), Some(Health::Unhealthy)) if is_news => CheckVerdict::Condemned,
                (Err(_), _) => CheckVerdict::Failed,
            });
            if let Some(health) = health.filter(|_| is_news) {
                group.set_health(peer, health, now());
                probe.tell(peer, health, &finding);
                if let Some(queue) = &self.upstream.queue {
                    queue.wake();
                }
            }
            is_first = false;
            drop(group);
            net::timer::sleep(self.check.interval_ms).await;
        }
    }
}

impl Probe {
    /// Tells the log that a peer's health has changed.
    fn tell(&self, peer: &upstream::Peer, health: Health, finding: &Finding) {
        let (level, said) = match (health, finding) {
            (Health::Unhealthy, Err(doing)) => (Level::Warn, format!("peer is unhealthy while {doing}")),
            (Health::Unhealthy, Ok(())) => (Level::Warn, "peer is unhealthy".to_owned()),
            _ => (Level::Notice, "peer is healthy".to_owned()),
        };
        self.log(level, peer, &said);
    }
}

/// How a peer's last checks went.
#[derive(Debug, Default)]
struct Streak {
    passed: u32,
    failed: u32,
}

impl Streak {
    /// Counts a check; whether the peer is well or ill by now, where enough in a row said so. The first check
    /// of a peer decides at once that it is well: `passes` is for those that were ill.
    fn take(&mut self, passed: bool, fails: u32, passes: u32, is_first: bool) -> Option<bool> {
        if passed {
            self.failed = 0;
            self.passed = self.passed.saturating_add(1);
            (self.passed >= passes || (is_first && passes <= 1)).then_some(true)
        } else {
            self.passed = 0;
            self.failed = self.failed.saturating_add(1);
            (self.failed >= fails).then_some(false)
        }
    }
}

/// A random time up to the given one, milliseconds.
fn draw(most_ms: u64) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    if most_ms == 0 { 0 } else { RandomState::new().hash_one(most_ms) % most_ms }
}

/// The longest time that a check may take.
fn limit(check: &HealthCheck) -> Option<Duration> {
    check.timeout_ms.map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_in_a_row_decide() {
        let mut streak = Streak::default();
        let seen: Vec<_> =
            [false, false, true, true, true, false].map(|passed| streak.take(passed, 2, 3, false)).to_vec();
        assert_eq!(seen, [None, Some(false), None, None, Some(true), None]);
    }

    #[test]
    fn one_check_that_condemns_is_enough() {
        let board = Board { all: 2, seen: RefCell::default() };
        let peer = PeerUid(1);
        assert_eq!(board.settle(peer, 0, true), None, "the other has not spoken");
        assert_eq!(board.settle(peer, 1, false), Some(Health::Unhealthy));
        assert_eq!(board.settle(peer, 0, true), Some(Health::Unhealthy));
        assert_eq!(board.settle(peer, 1, true), Some(Health::Healthy));
    }
}
