//! Rates of requests by key: nginx's leaky bucket (`ngx_http_limit_req_module`).
//!
//! Rates, bursts and what exceeds them are counted in thousandths of a request, per second. A key that is known
//! costs a hash, a lock and no allocation.

use std::fmt;
use std::sync::atomic::Ordering::Relaxed;

use super::shards::{Shard, Shards};
use crate::lru::{Lru, Place};

/// Bytes of an entry in nginx: the node of its tree and the state in front of the key.
const HEAD: u64 = 80;
/// An entry that was not used for so long, and owes nothing, may go.
const STALE_MS: u64 = 60_000;

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// When requests were last accounted for.
    last_ms: u64,
    used_ms: u64,
    excess: u64,
    /// Requests that will come back to account for themselves; the entry must not go before.
    pins: u32,
}

/// What a key is allowed.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// Requests per second, in thousandths.
    pub rate: u64,
    /// Requests beyond the rate, in thousandths.
    pub burst: u64,
}

/// Whether a request is accounted for at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accounting {
    /// There is no other limit that might refuse it.
    Now,
    /// Only when every other limit has let it pass: see [`RequestTable::account`].
    Later,
}

/// The entry of a request that waits to be accounted for.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the entry stays in memory until it is accounted for or released"]
pub struct Pin {
    shard: u32,
    place: Place,
}

/// The answer for one request; excess is in thousandths of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// It is accounted for, and leaves this excess.
    Passed(u64),
    /// It would pass.
    Pinned(Pin),
    /// It would exceed the burst.
    Exceeded(u64),
    /// There is no room for its key.
    Full,
}

/// The state of a zone: one bucket per key.
pub struct RequestTable {
    shards: Shards<Bucket>,
}

impl fmt::Debug for RequestTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RequestTable")
    }
}

impl RequestTable {
    /// The state of a zone of `size` bytes. As many keys fit as fit into nginx's.
    #[must_use]
    pub fn new(size: u64) -> Self {
        Self { shards: Shards::new(size, HEAD) }
    }

    /// Asks for one request; `now_ms` is the monotonic time, milliseconds (`ngx_http_limit_req_lookup`).
    pub fn ask(&self, key: &[u8], limit: Limit, now_ms: u64, accounting: Accounting) -> Asked {
        let hash = self.shards.hash(key);
        let number = self.shards.number(hash);
        let shard = self.shards.shard(number);
        let mut table = shard.lock();
        if let Some(place) = table.find(hash, key) {
            let asked = ask_known(&mut table, number, place, limit, now_ms, accounting);
            publish_oldest(shard, &table);
            return asked;
        }
        self.drop_stale(&mut table, limit.rate, now_ms);
        if !self.shards.take_room(key) {
            // The oldest may lie in any shard, and only one is locked at a time.
            publish_oldest(shard, &table);
            drop(table);
            if !self.evict(limit.rate, now_ms) || !self.shards.take_room(key) {
                return Asked::Full;
            }
            table = shard.lock();
            if let Some(place) = table.find(hash, key) {
                self.shards.give_room(key.len());
                let asked = ask_known(&mut table, number, place, limit, now_ms, accounting);
                publish_oldest(shard, &table);
                return asked;
            }
        }
        let asked = ask_new(&mut table, number, hash, key, now_ms, accounting);
        publish_oldest(shard, &table);
        asked
    }

    /// Accounts for a request that every limit has let pass, and gives its excess.
    pub fn account(&self, pin: Pin, limit: Limit, now_ms: u64) -> u64 {
        let mut table = self.shards.shard(pin.shard).lock();
        let bucket = table.value_mut(pin.place);
        bucket.pins = bucket.pins.saturating_sub(1);
        let (excess, elapsed_ms) = bucket.after(limit.rate, now_ms);
        bucket.excess = excess;
        if elapsed_ms > 0 {
            bucket.last_ms = now_ms;
        }
        excess
    }

    /// Lets go of the entry of a request that another limit has refused.
    pub fn release(&self, pin: Pin) {
        let mut table = self.shards.shard(pin.shard).lock();
        let bucket = table.value_mut(pin.place);
        bucket.pins = bucket.pins.saturating_sub(1);
    }

    /// Removes one or two entries that owe nothing any more.
    fn drop_stale(&self, table: &mut Lru<Bucket>, rate: u64, now_ms: u64) {
        for _ in 0..2 {
            let Some(oldest) = table.oldest() else { return };
            if !table.value(oldest).is_stale(rate, now_ms) {
                return;
            }
            self.shards.give_room(table.remove(oldest));
        }
    }

    /// Removes the oldest entry of all, whatever it owes; says whether that was possible.
    fn evict(&self, rate: u64, now_ms: u64) -> bool {
        let Some(shard) = self.shards.oldest() else { return false };
        let mut table = shard.lock();
        let Some(oldest) = table.oldest() else { return false };
        if table.value(oldest).pins > 0 {
            return false;
        }
        self.shards.give_room(table.remove(oldest));
        self.drop_stale(&mut table, rate, now_ms);
        publish_oldest(shard, &table);
        true
    }
}

impl Bucket {
    /// The excess that one more request would leave, and the milliseconds since the last one.
    fn after(&self, rate: u64, now_ms: u64) -> (u64, u64) {
        // Threads read the clock at different moments, so a time may lie a little before the last one.
        let elapsed_ms = now_ms.saturating_sub(self.last_ms);
        let drained = rate.saturating_mul(elapsed_ms) / 1000;
        ((self.excess + 1000).saturating_sub(drained), elapsed_ms)
    }

    fn is_stale(&self, rate: u64, now_ms: u64) -> bool {
        let elapsed_ms = now_ms.saturating_sub(self.last_ms);
        self.pins == 0 && elapsed_ms >= STALE_MS && self.excess <= rate.saturating_mul(elapsed_ms) / 1000
    }
}

fn ask_known(
    table: &mut Lru<Bucket>,
    shard: u32,
    place: Place,
    limit: Limit,
    now_ms: u64,
    accounting: Accounting,
) -> Asked {
    table.touch(place);
    let bucket = table.value_mut(place);
    bucket.used_ms = now_ms;
    let (excess, elapsed_ms) = bucket.after(limit.rate, now_ms);
    if excess > limit.burst {
        return Asked::Exceeded(excess);
    }
    if accounting == Accounting::Later {
        bucket.pins += 1;
        return Asked::Pinned(Pin { shard, place });
    }
    bucket.excess = excess;
    if elapsed_ms > 0 {
        bucket.last_ms = now_ms;
    }
    Asked::Passed(excess)
}

fn ask_new(
    table: &mut Lru<Bucket>,
    shard: u32,
    hash: u64,
    key: &[u8],
    now_ms: u64,
    accounting: Accounting,
) -> Asked {
    let mut bucket = Bucket { last_ms: now_ms, used_ms: now_ms, excess: 0, pins: 0 };
    if accounting == Accounting::Now {
        table.insert(hash, key, bucket);
        return Asked::Passed(0);
    }
    // Its first request is accounted for later, and finds as much time behind it as it needs.
    bucket.last_ms = 0;
    bucket.pins = 1;
    Asked::Pinned(Pin { shard, place: table.insert(hash, key, bucket) })
}

fn publish_oldest(shard: &Shard<Bucket>, table: &Lru<Bucket>) {
    let oldest_ms = table.oldest().map_or(u64::MAX, |oldest| table.value(oldest).used_ms);
    shard.oldest_ms.store(oldest_ms, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000;

    fn ask(table: &RequestTable, key: &str, limit: Limit, now_ms: u64) -> Asked {
        table.ask(key.as_bytes(), limit, now_ms, Accounting::Now)
    }

    #[test]
    fn a_bucket_leaks_at_its_rate() {
        let table = RequestTable::new(65536);
        let limit = Limit { rate: 2000, burst: 1000 };
        let check = |after_ms: u64, expected: Asked| {
            assert_eq!(ask(&table, "a", limit, NOW + after_ms), expected, "after {after_ms} ms");
        };
        check(0, Asked::Passed(0));
        check(0, Asked::Passed(1000));
        check(0, Asked::Exceeded(2000));
        check(250, Asked::Exceeded(1500));
        check(500, Asked::Passed(1000));
        check(499, Asked::Exceeded(2000));
        check(1250, Asked::Passed(500));
        check(9000, Asked::Passed(0));
        assert_eq!(ask(&table, "b", limit, NOW), Asked::Passed(0));
    }

    #[test]
    fn a_request_that_another_limit_refuses_costs_nothing() {
        let table = RequestTable::new(65536);
        let limit = Limit { rate: 1000, burst: 0 };
        let later = || match table.ask(b"a", limit, NOW, Accounting::Later) {
            Asked::Pinned(pin) => pin,
            other => panic!("{other:?}"),
        };
        table.release(later());
        let pin = later();
        assert_eq!(table.account(pin, limit, NOW), 0);
        assert_eq!(ask(&table, "a", limit, NOW), Asked::Exceeded(1000));
    }

    #[test]
    fn the_oldest_key_leaves_a_full_zone() {
        let table = RequestTable::new(32768);
        let limit = Limit { rate: 1, burst: 0 };
        let most = 6 * 32;
        for number in 0..most {
            assert_eq!(ask(&table, &format!("{number:4}"), limit, NOW + number), Asked::Passed(0));
        }
        assert_eq!(table.shards.len() as u64, most);
        // Key 0 is used again, so key 1 is the oldest; then there is no room for two more.
        assert_eq!(ask(&table, "   0", limit, NOW + most), Asked::Exceeded(1000));
        assert_eq!(ask(&table, "new1", limit, NOW + most), Asked::Passed(0));
        assert_eq!(table.shards.len() as u64, most);
        assert_eq!(ask(&table, "   0", limit, NOW + most), Asked::Exceeded(1000));
        assert_eq!(ask(&table, "   1", limit, NOW + most), Asked::Passed(0));
        assert_eq!(ask(&table, "   3", limit, NOW + most), Asked::Exceeded(1000));
    }

    #[test]
    fn shards_give_way_to_each_other() {
        let table = RequestTable::new(1 << 20);
        let limit = Limit { rate: 1, burst: 0 };
        for number in 0..50_000u64 {
            assert_eq!(ask(&table, &format!("{number:8}"), limit, NOW + number), Asked::Passed(0));
        }
        assert!((8000..8200).contains(&table.shards.len()), "{}", table.shards.len());
        assert_eq!(ask(&table, &format!("{:8}", 42_500), limit, NOW + 50_000), Asked::Exceeded(993));
        assert_eq!(ask(&table, &format!("{:8}", 41_500), limit, NOW + 50_000), Asked::Passed(0));
    }

    #[test]
    fn pinned_entries_stay() {
        let table = RequestTable::new(32768);
        let limit = Limit { rate: 1, burst: 0 };
        let pins: Vec<Pin> = (0..6 * 32)
            .map(|number| match table.ask(format!("{number:4}").as_bytes(), limit, NOW, Accounting::Later) {
                Asked::Pinned(pin) => pin,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(ask(&table, "new1", limit, NOW), Asked::Full);
        pins.into_iter().for_each(|pin| table.release(pin));
        assert_eq!(ask(&table, "new1", limit, NOW), Asked::Passed(0));
    }

    #[test]
    fn what_owes_nothing_goes_by_itself() {
        let table = RequestTable::new(65536);
        let limit = Limit { rate: 1000, burst: 0 };
        for number in 0..10 {
            let _ = ask(&table, &format!("{number}"), limit, NOW);
        }
        let _ = ask(&table, "x", limit, NOW + STALE_MS - 1);
        assert_eq!(table.shards.len(), 11);
        let _ = ask(&table, "y", limit, NOW + STALE_MS);
        assert_eq!(table.shards.len(), 10);
    }

    #[test]
    fn threads_together_get_the_rate() {
        let table = RequestTable::new(1 << 20);
        let limit = Limit { rate: 100_000, burst: 0 };
        let count = || {
            let passes = |ms: &u64| matches!(ask(&table, "k", limit, NOW + ms), Asked::Passed(_));
            (0..2000u64).filter(passes).count()
        };
        let passed: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(count)).collect();
            threads.into_iter().map(|thread| thread.join().expect("thread")).sum()
        });
        assert!((195..=201).contains(&passed), "{passed}");
    }
}
