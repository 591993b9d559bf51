//! What runs of a peer: connections, failures, weights and times, shared by all threads and all snapshots.
//!
//! Whatever must agree with something else changes under the group's lock, so plain loads and stores do there;
//! only `conns` and `requests` also change outside of it, and they alone are added to atomically.

use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering::Relaxed};

use crate::peer::{Health, PeerUid};

static NEXT_UID: AtomicU64 = AtomicU64::new(1);

/// On cache lines of its own: threads that use different peers do not slow each other down.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct PeerState {
    pub uid: PeerUid,
    pub conns: AtomicU64,
    pub requests: AtomicU64,
    pub fails: Cell,
    pub failures: Cell,
    pub accessed_sec: Cell,
    pub checked_sec: Cell,
    /// The weight less the effective weight, so that it stays true when the configured weight changes.
    pub penalty: Cell,
    pub current_weight: SignedCell,
    health: AtomicU8,
    pub times: Times,
}

/// Moving averages and the requests under way, for `least_time`; milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Times {
    pub head: Cell,
    pub response: Cell,
    pub inflight: Cell,
    pub inflight_last: Cell,
    pub inflight_changed: Cell,
    pub inflight_requests: Cell,
}

impl PeerState {
    pub fn new() -> Self {
        Self {
            uid: PeerUid(NEXT_UID.fetch_add(1, Relaxed)),
            conns: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            fails: Cell::default(),
            failures: Cell::default(),
            accessed_sec: Cell::default(),
            checked_sec: Cell::default(),
            penalty: Cell::default(),
            current_weight: SignedCell::default(),
            health: AtomicU8::new(Health::Unchecked as u8),
            times: Times::default(),
        }
    }

    #[inline]
    pub fn health(&self) -> Health {
        match self.health.load(Relaxed) {
            1 => Health::Healthy,
            2 => Health::Unhealthy,
            _ => Health::Unchecked,
        }
    }

    pub fn set_health(&self, health: Health) {
        self.health.store(health as u8, Relaxed);
    }

    /// A success clears the failures only if the peer was let try again after the last of them.
    #[inline]
    pub fn forgive(&self) {
        if self.accessed_sec.load() < self.checked_sec.load() {
            self.fails.store(0);
        }
    }

    pub fn counters(&self) -> PeerCounters {
        PeerCounters {
            conns: self.conns.load(Relaxed),
            requests: self.requests.load(Relaxed),
            fails: self.fails.load(),
            failures: self.failures.load(),
            accessed_sec: self.accessed_sec.load(),
            checked_sec: self.checked_sec.load(),
            current_weight: self.current_weight.load(),
            health: self.health(),
        }
    }
}

/// A peer's running figures at one moment, for status pages and tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerCounters {
    /// Attempts under way, which `max_conns` limits; idle connections do not count.
    pub conns: u64,
    /// Attempts since the peer is known.
    pub requests: u64,
    /// Failures that count against `max_fails` now.
    pub fails: u64,
    /// Failures since the peer is known.
    pub failures: u64,
    /// Second of the last failure.
    pub accessed_sec: u64,
    /// Second of the last failure or of the start of the current window of `fail_timeout`.
    pub checked_sec: u64,
    /// Standing in the smooth weighted round robin.
    pub current_weight: i64,
    /// What the active checks say.
    pub health: Health,
}

/// A number that changes only under the group's lock and may be read without it.
#[derive(Debug, Default)]
pub(crate) struct Cell(AtomicU64);

impl Cell {
    #[inline]
    pub fn load(&self) -> u64 {
        self.0.load(Relaxed)
    }

    #[inline]
    pub fn store(&self, value: u64) {
        self.0.store(value, Relaxed);
    }
}

/// As [`Cell`], with a sign.
#[derive(Debug, Default)]
pub(crate) struct SignedCell(AtomicI64);

impl SignedCell {
    #[inline]
    pub fn load(&self) -> i64 {
        self.0.load(Relaxed)
    }

    #[inline]
    pub fn store(&self, value: i64) {
        self.0.store(value, Relaxed);
    }
}
