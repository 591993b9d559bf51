//! Connection and request counters of `stub_status`, one set per worker thread so that counting costs nothing.

use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// The counters of one thread; only that thread writes them.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counters {
    /// Connections accepted.
    pub accepted: AtomicU64,
    /// Connections that were not dropped for want of room.
    pub handled: AtomicU64,
    /// Requests begun.
    pub requests: AtomicU64,
    /// Connections open now.
    pub active: AtomicI64,
    /// Heads being read now.
    pub reading: AtomicI64,
    /// Answers being made or sent now.
    pub writing: AtomicI64,
}

static ALL: Mutex<Vec<&'static Counters>> = Mutex::new(Vec::new());

thread_local! {
    static OWN: Cell<Option<&'static Counters>> = const { Cell::new(None) };
}

/// This thread's counters. They live as long as the process, as the numbers must.
#[must_use]
pub fn own() -> &'static Counters {
    OWN.with(|own| {
        own.get().unwrap_or_else(|| {
            let counters: &'static Counters = Box::leak(Box::default());
            if let Ok(mut all) = ALL.lock() {
                all.push(counters);
            }
            own.set(Some(counters));
            counters
        })
    })
}

/// Adds to a counter that only this thread writes: no locked instruction is needed.
#[inline]
pub fn add(counter: &AtomicU64) {
    counter.store(counter.load(Relaxed) + 1, Relaxed);
}

/// Moves a gauge that only this thread writes.
#[inline]
pub fn shift(gauge: &AtomicI64, by: i64) {
    gauge.store(gauge.load(Relaxed) + by, Relaxed);
}

/// Sums over all threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections handled.
    pub handled: u64,
    /// Requests.
    pub requests: u64,
    /// Open connections.
    pub active: i64,
    /// Heads being read.
    pub reading: i64,
    /// Answers under way.
    pub writing: i64,
    /// Idle connections.
    pub waiting: i64,
}

/// The sums of all threads' counters.
#[must_use]
pub fn totals() -> Totals {
    let mut totals = Totals::default();
    if let Ok(all) = ALL.lock() {
        for counters in all.iter() {
            totals.accepted += counters.accepted.load(Relaxed);
            totals.handled += counters.handled.load(Relaxed);
            totals.requests += counters.requests.load(Relaxed);
            totals.active += counters.active.load(Relaxed);
            totals.reading += counters.reading.load(Relaxed);
            totals.writing += counters.writing.load(Relaxed);
        }
    }
    totals.waiting = totals.active - totals.reading - totals.writing;
    totals
}
