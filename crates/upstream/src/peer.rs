//! One peer: an address that requests may go to, as configured, with a handle to its running state.
//!
//! The settings belong to one snapshot of a group; the state outlives it, so a request that began before a
//! reload still counts down the same connection counter.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use os::socket::PeerAddr;

use crate::group::{Member, Origin, Server, Sessions};
use crate::now::Now;
use crate::state::{PeerCounters, PeerState};

/// A peer's place in its [`Group`](crate::Group); means nothing in another group or snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(pub u32);

/// A peer's name for the life of the process, the same in every snapshot of its group; keys the idle connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerUid(pub u64);

/// An address as `$upstream_addr` prints it: `127.0.0.1:3000`, `[::1]:80` or `unix:/path`.
#[must_use]
pub fn addr_name(addr: &PeerAddr) -> String {
    match addr {
        PeerAddr::Inet(addr) => base::address::with_port(*addr),
        PeerAddr::Unix(path) => format!("unix:{}", path.display()),
    }
}

/// What the operator decided about a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Admin {
    /// Takes requests.
    #[default]
    Up,
    /// `down`: takes none.
    Down,
    /// `drain`: takes those alone that a sticky session binds to it.
    Draining,
}

/// What the active health checks say of a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Health {
    /// No check has ended, or none is configured: the peer takes requests.
    #[default]
    Unchecked = 0,
    /// The last checks passed.
    Healthy = 1,
    /// The last checks failed: the peer takes no requests.
    Unhealthy = 2,
    /// A mandatory check has not passed yet: the peer takes no requests.
    Checking = 3,
}

/// How an active check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckVerdict {
    /// It passed.
    Passed,
    /// It failed.
    Failed,
    /// It failed, and made the peer unhealthy.
    Condemned,
}

/// One address of a `server`, as configured.
#[derive(Clone, Debug)]
pub struct Peer {
    /// What the API knows it by.
    pub id: u32,
    /// As printed in `$upstream_addr` ([`addr_name`]).
    pub name: Arc<str>,
    /// The `server` as the configuration writes it; the addresses of one server share it, and `consistent` hashes it. It
    /// is one with the name where both are the same.
    pub server: Arc<str>,
    /// Where to connect.
    pub addr: PeerAddr,
    /// Share of the requests, at least 1.
    pub weight: u32,
    /// Failures within [`fail_timeout_sec`](Self::fail_timeout_sec) that disable the peer; 0 never does.
    pub max_fails: u32,
    /// Both the window of the failures and the time that a disabled peer rests, seconds.
    pub fail_timeout_sec: u64,
    /// Most attempts at a time; 0 is no limit.
    pub max_conns: u32,
    /// Time in which a recovered peer grows back to its weight, milliseconds; 0 is at once.
    pub slow_start_ms: u64,
    /// `down` and `drain`.
    pub admin: Admin,
    /// What a sticky session names this peer by; empty if nothing does.
    pub sid: Box<str>,
    /// Index of the first peer with the same `server` text.
    pub(crate) server_index: u32,
    pub(crate) state: Arc<PeerState>,
}

impl Peer {
    pub(crate) fn new(server: &Server, member: &Member, sessions: Sessions) -> Self {
        let spec = &server.spec;
        let name: Arc<str> = match member.origin {
            Origin::Unresolved => Arc::clone(&server.name),
            _ => addr_name(&member.addr).into(),
        };
        let (server_name, weight) = match &member.origin {
            Origin::Service(target, weight, _) if spec.weight == 1 => (target, *weight),
            Origin::Service(target, ..) => (target, spec.weight),
            _ => (&server.name, spec.weight),
        };
        let sid = match (&spec.route, sessions) {
            (Some(route), _) => route.clone(),
            (None, Sessions::None) => Box::default(),
            (None, Sessions::Sticky) => digest(name.as_bytes()),
        };
        Self {
            id: member.id,
            server: Arc::clone(if *server_name == name { &name } else { server_name }),
            name,
            addr: member.addr.clone(),
            weight: weight.max(1),
            max_fails: spec.max_fails,
            fail_timeout_sec: spec.fail_timeout_sec,
            max_conns: spec.max_conns,
            slow_start_ms: spec.slow_start_ms,
            admin: if member.origin == Origin::Unresolved { Admin::Down } else { spec.admin },
            sid,
            server_index: 0,
            state: Arc::new(PeerState::new()),
        }
    }

    /// The name that stays through reloads.
    #[must_use]
    pub fn uid(&self) -> PeerUid {
        self.state.uid
    }

    /// The running figures at this moment.
    #[must_use]
    pub fn counters(&self) -> PeerCounters {
        self.state.counters()
    }

    /// The weight that failures have lowered and picks raise again; 0 to [`weight`](Self::weight).
    #[inline]
    #[must_use]
    pub fn effective_weight(&self) -> u32 {
        let penalty = u32::try_from(self.state.penalty.load()).unwrap_or(u32::MAX);
        self.weight.saturating_sub(penalty)
    }

    /// As [`Group::set_health`](crate::Group::set_health), under the group's lock.
    pub(crate) fn set_health(&self, health: Health, now: Now) {
        match (self.state.health(), health) {
            (Health::Unhealthy, Health::Healthy) => {
                self.begin_slow_start(now);
                self.state.end_downtime(now.ms());
            }
            (_, Health::Unhealthy) => self.state.begin_downtime(now.ms()),
            _ => {}
        }
        self.state.set_health(health);
    }

    /// Has the peer start with a small share of the requests that grows to its weight (`slow_start`); under the
    /// group's lock.
    pub(crate) fn begin_slow_start(&self, now: Now) {
        self.state.recovered_ms.store(now.ms());
    }

    /// Counts the answers and bytes of one attempt, for status pages.
    pub fn count(&self, status: u16, sent: u64, received: u64) {
        self.state.traffic.count(status, sent, received);
    }

    /// Counts an active check that has ended.
    pub fn count_check(&self, verdict: CheckVerdict) {
        self.state.checks.count(verdict);
    }

    /// Whether errors or slowness shut the peer out for now.
    #[inline]
    #[must_use]
    pub fn is_ejected(&self, now: Now) -> bool {
        self.state.window.until_ms.load() > now.ms()
    }

    /// Whether the failures of late keep requests away for now (`max_fails`, `fail_timeout`).
    #[inline]
    #[must_use]
    pub fn is_disabled(&self, now: Now) -> bool {
        let fails = self.state.fails.load();
        self.max_fails > 0 && fails >= u64::from(self.max_fails) && !self.window_is_over(now)
    }

    /// Whether as many attempts are under way as `max_conns` allows.
    #[inline]
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.max_conns > 0 && self.state.conns.load(Relaxed) >= u64::from(self.max_conns)
    }

    #[inline]
    pub(crate) fn window_is_over(&self, now: Now) -> bool {
        now.sec().saturating_sub(self.state.checked_sec.load()) > self.fail_timeout_sec
    }

    /// The moment at which [`window_is_over`](Self::window_is_over), milliseconds.
    pub(crate) fn window_ends_ms(&self) -> u64 {
        let window_sec = self.fail_timeout_sec.saturating_add(1);
        self.state.checked_sec.load().saturating_add(window_sec).saturating_mul(1000)
    }

    #[inline]
    pub(crate) fn conns(&self) -> u64 {
        self.state.conns.load(Relaxed)
    }

    /// The share of requests that the peer may have by now: less than its whole weight while it starts slowly.
    /// In units of the group's scale.
    #[inline]
    pub(crate) fn weight_now(&self, scale: u32, now: Now) -> u64 {
        self.ramped(u64::from(self.weight), scale, now)
    }

    #[inline]
    fn ramped(&self, weight: u64, scale: u32, now: Now) -> u64 {
        if scale == 1 {
            return weight;
        }
        let whole = weight * u64::from(scale);
        let since = self.state.recovered_ms.load();
        if self.slow_start_ms == 0 || since == 0 {
            return whole;
        }
        let passed = now.ms().saturating_sub(since);
        if passed >= self.slow_start_ms {
            return whole;
        }
        let share = u128::from(whole) * u128::from(passed) / u128::from(self.slow_start_ms);
        u64::try_from(share).unwrap_or(whole)
    }

    /// Whether a round gives the peer its whole weight, and will until something happens to it.
    #[inline]
    pub(crate) fn is_steady(&self, scale: u32, now: Now) -> bool {
        let whole = u64::from(self.weight) * u64::from(scale);
        self.state.penalty.load() == 0 && self.weight_now(scale, now) == whole
    }

    /// Adds the effective weight to the standing and lets it recover by one: (the new standing, what was added).
    #[inline]
    pub(crate) fn advance(&self, scale: u32, now: Now) -> (i64, i64) {
        let penalty = self.state.penalty.load();
        let weight = u64::from(self.weight).saturating_sub(penalty);
        let added = i64::try_from(self.ramped(weight, scale, now)).unwrap_or(i64::MAX);
        let standing = self.state.current_weight.load().saturating_add(added);
        self.state.current_weight.store(standing);
        if penalty > 0 {
            self.state.penalty.store(penalty - 1);
        }
        (standing, added)
    }

    /// Pays for having been picked out of peers that advanced by `total`.
    #[inline]
    pub(crate) fn pay(&self, total: i64) {
        let standing = self.state.current_weight.load().saturating_sub(total);
        self.state.current_weight.store(standing);
    }

    /// Counts a failure; whether it disables the peer.
    pub(crate) fn fail(&self, now: Now) -> bool {
        let state = &self.state;
        let fails = state.fails.load().saturating_add(1);
        state.fails.store(fails);
        state.failures.store(state.failures.load().wrapping_add(1));
        if self.max_fails > 0 && fails == u64::from(self.max_fails) {
            state.begin_downtime(now.ms());
        }
        state.accessed_sec.store(now.sec());
        state.checked_sec.store(now.sec());
        if self.max_fails == 0 {
            return false;
        }
        let lost = state.penalty.load().saturating_add(u64::from(self.weight / self.max_fails));
        state.penalty.store(lost.min(u64::from(self.weight)));
        fails >= u64::from(self.max_fails)
    }
}

/// The MD5 digest in hexadecimal digits (`ngx_http_upstream_init_round_robin_sid`).
fn digest(bytes: &[u8]) -> Box<str> {
    use md5::Digest;
    use std::fmt::Write;
    let mut text = String::with_capacity(32);
    for byte in md5::Md5::digest(bytes) {
        let _ = write!(text, "{byte:02x}");
    }
    text.into()
}
