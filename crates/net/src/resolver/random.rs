//! Numbers that nobody outside can guess: ids of queries, starting points of rotations.
//!
//! A keyed hash (SipHash under a key from the system's generator) of a counter, so nothing is asked per number.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

thread_local! {
    static KEY: RandomState = RandomState::new();
    static COUNTER: Cell<u64> = const { Cell::new(0) };
}

/// The next number of this thread.
fn next() -> u64 {
    let counter = COUNTER.get().wrapping_add(1);
    COUNTER.set(counter);
    KEY.with(|key| key.hash_one(counter))
}

/// The id of a query.
pub(super) fn query_id() -> u16 {
    (next() >> 48) as u16
}

/// A number below `limit`; zero when there is none.
pub(super) fn below(limit: u64) -> u64 {
    next().checked_rem(limit).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn numbers_vary_and_keep_their_limit() {
        let ids: HashSet<_> = (0..1000).map(|_| query_id()).collect();
        assert!(ids.len() > 950);
        assert!((0..1000).all(|_| below(7) < 7));
        assert_eq!(below(0), 0);
    }
}
