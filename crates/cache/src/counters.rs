//! How requests fared with a zone, counted as nginx's commercial edition counts them.

use std::sync::atomic::{AtomicU64, Ordering};

/// How a request fared with the cache (`$upstream_cache_status`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Nothing was there.
    Miss,
    /// It was not looked for.
    Bypass,
    /// What was there is too old, and was fetched anew.
    Expired,
    /// What was there is too old, and was served all the same.
    Stale,
    /// As [`Self::Stale`], while another fetches it anew.
    Updating,
    /// What was there is too old, but the origin says that it is unchanged.
    Revalidated,
    /// It was there.
    Hit,
}

impl Status {
    const COUNT: usize = Self::Hit as usize + 1;

    /// nginx's word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Miss => "MISS",
            Self::Bypass => "BYPASS",
            Self::Expired => "EXPIRED",
            Self::Stale => "STALE",
            Self::Updating => "UPDATING",
            Self::Revalidated => "REVALIDATED",
            Self::Hit => "HIT",
        }
    }
}

#[derive(Debug, Default)]
struct Row {
    responses: AtomicU64,
    bytes: AtomicU64,
    responses_written: AtomicU64,
    bytes_written: AtomicU64,
}

/// What was counted of one [`Status`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Answers.
    pub responses: u64,
    /// Bytes read, from the cache or from the upstream.
    pub bytes: u64,
    /// Answers that were stored.
    pub responses_written: u64,
    /// Bytes that were stored.
    pub bytes_written: u64,
}

/// The counters of a zone.
#[derive(Debug, Default)]
pub struct Counters([Row; Status::COUNT]);

fn add(counter: &AtomicU64, value: u64) {
    counter.fetch_add(value, Ordering::Relaxed);
}

impl Counters {
    fn row(&self, status: Status) -> &Row {
        let [miss, bypass, expired, stale, updating, revalidated, hit] = &self.0;
        match status {
            Status::Miss => miss,
            Status::Bypass => bypass,
            Status::Expired => expired,
            Status::Stale => stale,
            Status::Updating => updating,
            Status::Revalidated => revalidated,
            Status::Hit => hit,
        }
    }

    /// A request was answered with so many bytes from the cache, or from the upstream.
    pub fn answered(&self, status: Status, bytes: u64) {
        let row = self.row(status);
        add(&row.responses, 1);
        add(&row.bytes, bytes);
    }

    /// An answer was stored.
    pub fn stored(&self, status: Status, bytes: u64) {
        let row = self.row(status);
        add(&row.responses_written, 1);
        add(&row.bytes_written, bytes);
    }

    /// What was counted since the start or the last [reset](Self::reset).
    #[must_use]
    pub fn count(&self, status: Status) -> Count {
        let row = self.row(status);
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Count {
            responses: value(&row.responses),
            bytes: value(&row.bytes),
            responses_written: value(&row.responses_written),
            bytes_written: value(&row.bytes_written),
        }
    }

    /// Counts from zero again.
    pub fn reset(&self) {
        for row in &self.0 {
            for counter in [&row.responses, &row.bytes, &row.responses_written, &row.bytes_written] {
                counter.store(0, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_has_its_own() {
        let counters = Counters::default();
        counters.answered(Status::Hit, 7);
        counters.answered(Status::Miss, 5);
        counters.stored(Status::Miss, 3);
        let count = counters.count(Status::Miss);
        assert_eq!(count, Count { responses: 1, bytes: 5, responses_written: 1, bytes_written: 3 });
        assert_eq!(counters.count(Status::Hit), Count { responses: 1, bytes: 7, ..Count::default() });
        counters.reset();
        assert_eq!(counters.count(Status::Hit), Count::default());
    }
}
