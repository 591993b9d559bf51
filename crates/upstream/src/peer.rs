//! One peer: an address that requests may go to, as configured, with a handle to its running state.
//!
//! The settings belong to one snapshot of a group; the state outlives it, so a request that began before a
//! reload still counts down the same connection counter.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::now::Now;
use crate::server::ServerSpec;
use crate::state::{PeerCounters, PeerState};

/// A peer's place in its [`Group`](crate::Group); means nothing in another group or snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(pub u32);

/// A peer's name for the life of the process, the same in every snapshot of its group; keys the idle connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerUid(pub u64);

/// Where a peer listens. Its text is what `$upstream_addr` prints.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PeerAddr {
    /// An address and a port.
    Inet(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
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
    /// The last checks failed, or a mandatory one has not passed yet: the peer takes no requests.
    Unhealthy = 2,
}

/// One address of a `server`, as configured.
#[derive(Clone, Debug)]
pub struct Peer {
    /// As printed in `$upstream_addr`: `127.0.0.1:3000`, `[::1]:80` or `unix:/path`.
    pub name: Arc<str>,
    /// The `server` as the configuration writes it; the addresses of one server share it, and `consistent` hashes it.
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
    /// Time in which a recovered peer grows back to its weight, milliseconds; 0 is at once. Not applied yet.
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
    pub(crate) fn new(server: &Arc<str>, addr: PeerAddr, spec: &ServerSpec) -> Self {
        Self {
            name: addr.to_string().into(),
            server: Arc::clone(server),
            addr,
            weight: spec.weight.max(1),
            max_fails: spec.max_fails,
            fail_timeout_sec: spec.fail_timeout_sec,
            max_conns: spec.max_conns,
            slow_start_ms: spec.slow_start_ms,
            admin: spec.admin,
            sid: spec.route.clone().unwrap_or_default(),
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

    /// Takes the verdict of the active health checks, for every snapshot that knows the peer.
    pub fn set_health(&self, health: Health) {
        self.state.set_health(health);
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

    #[inline]
    pub(crate) fn conns(&self) -> u64 {
        self.state.conns.load(Relaxed)
    }

    /// Adds the effective weight to the standing and lets it recover by one: (the new standing, what was added).
    #[inline]
    pub(crate) fn advance(&self) -> (i64, i64) {
        let penalty = self.state.penalty.load();
        let added = i64::from(self.weight).saturating_sub_unsigned(penalty).max(0);
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
