//! What runs of a peer: connections, failures, weights and times, shared by all threads and all snapshots.
//!
//! Whatever must agree with something else changes under the group's lock, so plain loads and stores do there;
//! only `conns` and `requests` also change outside of it, and they alone are added to atomically.

use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering::Relaxed};

use crate::now::Now;
use crate::peer::{CheckVerdict, Health, PeerUid};

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
    /// When the peer came back, from which on its weight grows; 0: it has never been away. Milliseconds.
    pub recovered_ms: Cell,
    pub times: Times,
    pub window: Window,
    pub absence: Absence,
    pub checks: Checks,
    pub traffic: Traffic,
    /// Its place in the order of the group, where that keeps one.
    pub seat: Cell,
}

/// What `eject` has counted of late.
#[derive(Debug, Default)]
pub(crate) struct Window {
    pub started_ms: Cell,
    pub requests: Cell,
    pub errors: Cell,
    pub timed: Cell,
    pub time_ms: Cell,
    /// Until when the peer is shut out; 0: it never was.
    pub until_ms: Cell,
    /// How often it was shut out in a row.
    pub times: Cell,
}

/// How often and how long the peer took no requests.
#[derive(Debug, Default)]
pub(crate) struct Absence {
    pub count: Cell,
    pub total_ms: Cell,
    pub since_ms: Cell,
}

/// What the active checks found.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    pub all: AtomicU64,
    pub failed: AtomicU64,
    pub unhealthy: AtomicU64,
    /// 0: none has ended, 1: the last one failed, 2: it passed.
    pub last: AtomicU8,
}

impl Checks {
    pub fn count(&self, verdict: CheckVerdict) {
        self.all.fetch_add(1, Relaxed);
        let passed = verdict == CheckVerdict::Passed;
        if !passed {
            self.failed.fetch_add(1, Relaxed);
        }
        if verdict == CheckVerdict::Condemned {
            self.unhealthy.fetch_add(1, Relaxed);
        }
        self.last.store(if passed { 2 } else { 1 }, Relaxed);
    }
}

/// Answers by the first digit of their status, and bytes; counted where a status page can show them.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Traffic {
    pub answers: [AtomicU64; 5],
    pub sent: AtomicU64,
    pub received: AtomicU64,
}

impl Traffic {
    pub fn count(&self, status: u16, sent: u64, received: u64) {
        let class = usize::from(status / 100).wrapping_sub(1);
        if let Some(answers) = self.answers.get(class) {
            answers.fetch_add(1, Relaxed);
        }
        self.sent.fetch_add(sent, Relaxed);
        self.received.fetch_add(received, Relaxed);
    }
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
    /// Moving average for `ewma`, microseconds, and when it was last changed, milliseconds.
    pub peak_us: Cell,
    pub peak_changed: Cell,
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
            recovered_ms: Cell::default(),
            times: Times::default(),
            window: Window::default(),
            absence: Absence::default(),
            checks: Checks::default(),
            traffic: Traffic::default(),
            seat: Cell::default(),
        }
    }

    /// The peer takes no requests from now on.
    pub fn begin_downtime(&self, now_ms: u64) {
        if self.absence.since_ms.load() == 0 {
            self.absence.since_ms.store(now_ms);
            self.absence.count.store(self.absence.count.load() + 1);
        }
    }

    /// The peer takes requests again.
    pub fn end_downtime(&self, now_ms: u64) {
        let since = self.absence.since_ms.load();
        if since > 0 {
            let gone = now_ms.saturating_sub(since);
            self.absence.total_ms.store(self.absence.total_ms.load().saturating_add(gone));
            self.absence.since_ms.store(0);
        }
    }

    #[inline]
    pub fn health(&self) -> Health {
        match self.health.load(Relaxed) {
            1 => Health::Healthy,
            2 => Health::Unhealthy,
            3 => Health::Checking,
            _ => Health::Unchecked,
        }
    }

    pub fn set_health(&self, health: Health) {
        self.health.store(health as u8, Relaxed);
    }

    /// A success clears the failures only if the peer was let try again after the last of them.
    #[inline]
    pub fn forgive(&self, max_fails: u32, now: Now) {
        if self.accessed_sec.load() >= self.checked_sec.load() {
            return;
        }
        if max_fails > 0 && self.fails.load() >= u64::from(max_fails) {
            self.recovered_ms.store(now.ms());
            self.end_downtime(now.ms());
        }
        self.fails.store(0);
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
            head_ms: self.times.head.load(),
            response_ms: self.times.response.load(),
            unavailable: self.absence.count.load(),
            downtime_ms: self.absence.total_ms.load(),
            down_since_ms: Some(self.absence.since_ms.load()).filter(|since| *since > 0),
            checks: self.checks.all.load(Relaxed),
            checks_failed: self.checks.failed.load(Relaxed),
            checks_unhealthy: self.checks.unhealthy.load(Relaxed),
            last_check: match self.checks.last.load(Relaxed) {
                0 => None,
                1 => Some(CheckVerdict::Failed),
                _ => Some(CheckVerdict::Passed),
            },
            answers: self.traffic.answers.each_ref().map(|answers| answers.load(Relaxed)),
            sent: self.traffic.sent.load(Relaxed),
            received: self.traffic.received.load(Relaxed),
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
    /// Average time until the head of an answer, milliseconds, where the method measures it; 0: unknown.
    pub head_ms: u64,
    /// Average time until the end of an answer, as above.
    pub response_ms: u64,
    /// How often it began to take no requests.
    pub unavailable: u64,
    /// How long it took none in all, milliseconds, without the time that goes on.
    pub downtime_ms: u64,
    /// Since when it takes none, milliseconds.
    pub down_since_ms: Option<u64>,
    /// Active checks that have ended.
    pub checks: u64,
    /// Those that failed.
    pub checks_failed: u64,
    /// How often they made the peer unhealthy.
    pub checks_unhealthy: u64,
    /// How the last one ended.
    pub last_check: Option<CheckVerdict>,
    /// Answers by the first digit of their status, from 1 to 5, where they are counted.
    pub answers: [u64; 5],
    /// Bytes sent to it, where they are counted.
    pub sent: u64,
    /// Bytes received from it, where they are counted.
    pub received: u64,
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
