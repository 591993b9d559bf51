//! Idle connections to the peers of a group (`ngx_http_upstream_keepalive_module`), shared by all threads.
//!
//! Each thread puts into its own shard and takes from it, the last one in first; only when that holds none of the
//! peer does it look at the others. The limit counts for the whole server, where nginx has one for each worker.
//! What is over the limit is not closed at once but by [`Pool::trim`], if it stays unused until then: when many
//! requests end together, as many are about to begin, and each would have to connect anew.

use std::collections::VecDeque;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::now::Now;
use crate::peer::PeerUid;

/// What `keepalive` and its companions allow. Handed in with each call, since a reload may change them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `keepalive N`: most idle connections of the group in all threads; 0 keeps none.
    pub capacity: usize,
    /// `keepalive_requests`: requests after which a connection is closed.
    pub requests: u64,
    /// `keepalive_time`: age after which a connection is not kept any more, milliseconds.
    pub time_ms: u64,
    /// `keepalive_timeout`: how long a connection may idle, milliseconds.
    pub timeout_ms: u64,
}

impl Default for Limits {
    /// nginx's defaults; the capacity is that of an `upstream` block without `keepalive`, whose scope is local.
    fn default() -> Self {
        Self { capacity: 32, requests: 1000, time_ms: 3_600_000, timeout_ms: 60_000 }
    }
}

/// Who may take a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Any location that passes requests to the group: `keepalive N`.
    Shared,
    /// Only the location of that number: `keepalive N local`, and the default.
    Local(u32),
}

/// What must agree for a connection to serve another request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PeerKey {
    /// The peer that the connection leads to.
    pub peer: PeerUid,
    /// Who may take it.
    pub scope: Scope,
    /// What else was agreed with the peer, such as TLS, its name and its certificates; `None` on plain connections.
    pub channel: Option<Arc<str>>,
}

/// A connection with its age and use.
#[derive(Debug)]
pub struct Pooled<C> {
    /// The connection itself.
    pub conn: C,
    created: Now,
    requests: u64,
}

impl<C> Pooled<C> {
    /// A connection that was just made for its first request.
    pub fn new(conn: C, now: Now) -> Self {
        Self { conn, created: now, requests: 1 }
    }

    /// The same connection in another form, with its age and use.
    ///
    /// # Errors
    /// What `change` says; the connection is then gone.
    pub fn try_map<D, E>(self, change: impl FnOnce(C) -> Result<D, E>) -> Result<Pooled<D>, E> {
        Ok(Pooled { conn: change(self.conn)?, created: self.created, requests: self.requests })
    }

    /// When it was made.
    pub fn created(&self) -> Now {
        self.created
    }

    /// Requests it was taken for, the first included.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    fn is_spent(&self, limits: &Limits, now: Now) -> bool {
        self.requests >= limits.requests || now.ms().saturating_sub(self.created.ms()) > limits.time_ms
    }
}

/// What became of a connection that was [`put`](Pool::put); what it carries must be closed.
#[derive(Debug)]
#[must_use]
pub enum Put<C> {
    /// It is kept.
    Kept,
    /// It is kept beyond the limit until somebody takes it or [`Pool::trim`] closes it: that must be called soon.
    Surplus,
    /// It is kept in the place of this one, the longest idle of all.
    Evicted(C),
    /// It is not kept: it has served enough or for too long, or none may be kept.
    Refused(C),
}

/// The idle connections of one group.
#[derive(Debug)]
pub struct Pool<C, K = PeerKey> {
    shards: Box<[Shard<C, K>]>,
    idle: AtomicUsize,
    /// The fewest that idled since the last [`Pool::trim`].
    least_idle: AtomicUsize,
}

/// One thread's part, on cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Shard<C, K> {
    /// The longest idle first.
    queue: Mutex<VecDeque<Idle<C, K>>>,
    /// When the first of the queue came to idle, milliseconds; [`EMPTY`] without one.
    oldest_ms: AtomicU64,
}

#[derive(Debug)]
struct Idle<C, K> {
    key: K,
    since: Now,
    pooled: Pooled<C>,
}

const EMPTY: u64 = u64::MAX;
/// Most connections that are kept beyond the limit for a moment.
const SURPLUS: usize = 1024;

impl<C: Send, K: Eq> Pool<C, K> {
    /// A pool for that many threads, at least one.
    #[must_use]
    pub fn new(shards: usize) -> Self {
        let shard = || Shard { queue: Mutex::new(VecDeque::new()), oldest_ms: AtomicU64::new(EMPTY) };
        Self {
            shards: (0..shards.max(1)).map(|_| shard()).collect(),
            idle: AtomicUsize::new(0),
            least_idle: AtomicUsize::new(0),
        }
    }

    /// Connections that idle now, in all threads.
    #[must_use]
    pub fn idle(&self) -> usize {
        self.idle.load(Relaxed)
    }

    /// Keeps a connection whose answer was read to its end. The threads count from 0; higher numbers wrap round.
    pub fn put(&self, shard: usize, key: K, pooled: Pooled<C>, limits: &Limits, now: Now) -> Put<C> {
        if limits.capacity == 0 || pooled.is_spent(limits, now) {
            return Put::Refused(pooled.conn);
        }
        let Some(own) = self.shard(shard) else { return Put::Refused(pooled.conn) };
        // The place is taken before the connection is there, so two threads never fill the same last one.
        let idle = self.idle.fetch_add(1, Relaxed);
        let put = if idle < limits.capacity {
            Put::Kept
        } else if idle < limits.capacity.saturating_add(SURPLUS) {
            Put::Surplus
        } else {
            match self.evict() {
                Some(conn) => Put::Evicted(conn),
                None => {
                    self.idle.fetch_sub(1, Relaxed);
                    return Put::Refused(pooled.conn);
                }
            }
        };
        let mut queue = own.lock();
        queue.push_back(Idle { key, since: now, pooled });
        own.note(&queue);
        drop(queue);
        put
    }

    /// Counts a connection that idles outside of the pool, if there is room for one more; [`Self::unhold`] ends that.
    pub fn hold(&self, limits: &Limits) -> bool {
        let is_held = self.idle.fetch_add(1, Relaxed) < limits.capacity;
        if !is_held {
            self.unhold();
        }
        is_held
    }

    /// A connection that [`Self::hold`] counted is in use again, or gone.
    pub fn unhold(&self) {
        self.idle.fetch_sub(1, Relaxed);
    }

    /// Takes out what is over the limit and was not needed since the last call, the longest idle first. What is
    /// returned must be closed.
    pub fn trim(&self, limits: &Limits) -> Vec<C> {
        let unneeded = self.least_idle.swap(self.idle(), Relaxed).saturating_sub(limits.capacity);
        (0..unneeded).map_while(|_| self.evict()).collect()
    }

    /// A connection of that key: the last that this thread put, else the last that another one did. It counts as
    /// used once more. Whether the peer has closed it meanwhile is for the caller to see.
    pub fn take(&self, shard: usize, key: &K, limits: &Limits, now: Now) -> Option<Pooled<C>> {
        if self.idle.load(Relaxed) == 0 {
            return None;
        }
        let own = self.place(shard);
        let mut pooled = match self.shards.get(own)?.take(key, limits, now) {
            Some(pooled) => pooled,
            None => self.take_elsewhere(own, key, limits, now)?,
        };
        let left = self.idle.fetch_sub(1, Relaxed) - 1;
        // Two threads may overwrite one another; then something is closed that might have been of use.
        if left < self.least_idle.load(Relaxed) {
            self.least_idle.store(left, Relaxed);
        }
        pooled.requests = pooled.requests.saturating_add(1);
        Some(pooled)
    }

    fn take_elsewhere(&self, own: usize, key: &K, limits: &Limits, now: Now) -> Option<Pooled<C>> {
        let (before, from_own) = self.shards.split_at_checked(own)?;
        let mut others = from_own.iter().skip(1).chain(before);
        others.find_map(|shard| shard.take(key, limits, now))
    }

    /// Takes out what has idled for too long in one thread's shard, and what is over the limit after it shrank.
    /// What is returned must be closed.
    pub fn expire(&self, shard: usize, limits: &Limits, now: Now) -> Vec<C> {
        let mut closing = Vec::new();
        let Some(own) = self.shard(shard) else { return closing };
        if own.is_empty() {
            return closing;
        }
        let mut queue = own.lock();
        while let Some(first) = queue.front() {
            if !first.is_late(limits, now) && self.idle.load(Relaxed) <= limits.capacity {
                break;
            }
            closing.extend(queue.pop_front().map(|idle| idle.pooled.conn));
            self.idle.fetch_sub(1, Relaxed);
        }
        own.note(&queue);
        closing
    }

    /// Takes out of one thread's shard what `keep` refuses: connections that the peer has closed, or those of peers
    /// that are gone. What is returned must be closed.
    pub fn sift(&self, shard: usize, mut keep: impl FnMut(&K, &mut C) -> Keep) -> Vec<C> {
        let mut closing = Vec::new();
        let Some(own) = self.shard(shard) else { return closing };
        if own.is_empty() {
            return closing;
        }
        let mut queue = own.lock();
        for mut idle in std::mem::take(&mut *queue) {
            match keep(&idle.key, &mut idle.pooled.conn) {
                Keep::Yes => queue.push_back(idle),
                Keep::Close => closing.push(idle.pooled.conn),
            }
        }
        self.idle.fetch_sub(closing.len(), Relaxed);
        own.note(&queue);
        closing
    }

    /// Takes out the connection that has idled longest in any thread.
    fn evict(&self) -> Option<C> {
        // Another thread may empty the shard that was found; then the next oldest is as good.
        for _ in 0..self.shards.len() {
            let oldest = self.shards.iter().min_by_key(|shard| shard.oldest_ms.load(Relaxed))?;
            let mut queue = oldest.lock();
            if let Some(idle) = queue.pop_front() {
                oldest.note(&queue);
                self.idle.fetch_sub(1, Relaxed);
                return Some(idle.pooled.conn);
            }
        }
        None
    }

    fn shard(&self, index: usize) -> Option<&Shard<C, K>> {
        self.shards.get(self.place(index))
    }

    /// Divides only where it must: a division costs more than the rest of the way to the lock.
    fn place(&self, shard: usize) -> usize {
        if shard < self.shards.len() { shard } else { shard % self.shards.len() }
    }
}

/// What [`Pool::sift`] does with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// It stays.
    Yes,
    /// It is taken out.
    Close,
}

impl<C, K> Idle<C, K> {
    fn is_late(&self, limits: &Limits, now: Now) -> bool {
        now.ms().saturating_sub(self.since.ms()) >= limits.timeout_ms
    }
}

impl<C, K: Eq> Shard<C, K> {
    fn take(&self, key: &K, limits: &Limits, now: Now) -> Option<Pooled<C>> {
        if self.is_empty() {
            return None;
        }
        let mut queue = self.lock();
        let place = queue.iter().rposition(|idle| idle.key == *key && !idle.is_late(limits, now))?;
        // Mostly the last one, which costs the least to take.
        let idle = if place + 1 == queue.len() { queue.pop_back()? } else { queue.remove(place)? };
        self.note(&queue);
        Some(idle.pooled)
    }
}

impl<C, K> Shard<C, K> {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Idle<C, K>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_empty(&self) -> bool {
        self.oldest_ms.load(Relaxed) == EMPTY
    }

    fn note(&self, queue: &VecDeque<Idle<C, K>>) {
        self.oldest_ms.store(queue.front().map_or(EMPTY, |idle| idle.since.ms()), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { capacity: 3, requests: 3, time_ms: 1000, timeout_ms: 100 };

    fn at(ms: u64) -> Now {
        Now::from_ms(ms)
    }

    fn keep(pool: &Pool<u32, char>, shard: usize, key: char, conn: u32, ms: u64) -> Option<u32> {
        match pool.put(shard, key, Pooled::new(conn, at(ms)), &LIMITS, at(ms)) {
            Put::Kept | Put::Surplus => None,
            Put::Evicted(conn) => Some(conn),
            Put::Refused(_) => panic!("refused"),
        }
    }

    fn take(pool: &Pool<u32, char>, shard: usize, key: char, ms: u64) -> Option<u32> {
        pool.take(shard, &key, &LIMITS, at(ms)).map(|pooled| pooled.conn)
    }

    #[test]
    fn the_last_in_goes_first_and_own_before_others() {
        let pool = Pool::new(2);
        assert_eq!(keep(&pool, 0, 'a', 1, 0), None);
        assert_eq!(keep(&pool, 0, 'a', 2, 1), None);
        assert_eq!(keep(&pool, 1, 'a', 3, 2), None);
        assert_eq!(take(&pool, 0, 'b', 3), None);
        assert_eq!(take(&pool, 0, 'a', 3), Some(2));
        assert_eq!(take(&pool, 0, 'a', 3), Some(1));
        assert_eq!(take(&pool, 0, 'a', 3), Some(3));
        assert_eq!(take(&pool, 0, 'a', 3), None);
        assert_eq!(pool.idle(), 0);
    }

    #[test]
    fn a_full_pool_closes_the_longest_idle_of_any_thread() {
        let pool = Pool::new(3);
        assert_eq!(keep(&pool, 1, 'a', 1, 5), None);
        assert_eq!(keep(&pool, 0, 'b', 2, 6), None);
        assert_eq!(keep(&pool, 0, 'a', 3, 7), None);
        assert_eq!(keep(&pool, 0, 'a', 4, 8), None);
        assert_eq!(keep(&pool, 2, 'a', 5, 9), None);
        assert_eq!(pool.idle(), 5);
        assert_eq!(pool.trim(&LIMITS), Vec::<u32>::new(), "none has had the time to be taken");
        assert_eq!(pool.trim(&LIMITS), vec![1, 2]);
        assert_eq!(pool.idle(), 3);
    }

    #[test]
    fn a_surplus_that_is_needed_stays() {
        let pool = Pool::new(1);
        for conn in 1..=5 {
            assert_eq!(keep(&pool, 0, 'a', conn, u64::from(conn)), None);
        }
        assert!(pool.trim(&LIMITS).is_empty());
        assert_eq!(take(&pool, 0, 'a', 6), Some(5));
        assert_eq!(keep(&pool, 0, 'a', 5, 7), None);
        assert_eq!(pool.trim(&LIMITS), vec![1], "four of five were not needed, three may stay");
        assert_eq!(pool.idle(), 4);
    }

    #[test]
    fn what_is_held_outside_counts() {
        let pool: Pool<u32, char> = Pool::new(1);
        assert!((0..3).all(|_| pool.hold(&LIMITS)));
        assert!(!pool.hold(&LIMITS));
        assert_eq!(keep(&pool, 0, 'a', 1, 0), None);
        assert_eq!(pool.trim(&LIMITS), Vec::<u32>::new());
        assert_eq!(pool.trim(&LIMITS), vec![1], "three are elsewhere");
        pool.unhold();
        assert!(pool.hold(&LIMITS));
    }

    #[test]
    fn a_surplus_has_its_limit() {
        let pool = Pool::new(1);
        let most = u32::try_from(LIMITS.capacity + SURPLUS).expect("small");
        for conn in 0..most {
            assert_eq!(keep(&pool, 0, 'a', conn, u64::from(conn)), None);
        }
        assert_eq!(keep(&pool, 0, 'a', most, 0), Some(0));
        assert_eq!(pool.idle(), LIMITS.capacity + SURPLUS);
    }

    #[test]
    fn spent_connections_are_refused() {
        let check = |requests, age_ms, capacity, refused: bool| {
            let pool: Pool<u32, char> = Pool::new(1);
            let pooled = Pooled { conn: 1, created: at(0), requests };
            let put = pool.put(0, 'a', pooled, &Limits { capacity, ..LIMITS }, at(age_ms));
            assert_eq!(matches!(put, Put::Refused(1)), refused, "{requests} {age_ms} {capacity}");
            assert_eq!(pool.idle(), usize::from(!refused));
        };
        check(1, 0, 3, false);
        check(2, 1000, 3, false);
        check(3, 0, 3, true);
        check(1, 1001, 3, true);
        check(1, 0, 0, true);
    }

    #[test]
    fn uses_are_counted() {
        let pool: Pool<u32, char> = Pool::new(1);
        let mut pooled = Pooled::new(7, at(0));
        for used in 2..=3 {
            assert!(matches!(pool.put(0, 'a', pooled, &LIMITS, at(1)), Put::Kept));
            pooled = pool.take(0, &'a', &LIMITS, at(1)).expect("kept");
            assert_eq!((pooled.requests(), pooled.created()), (used, at(0)));
        }
        assert!(matches!(pool.put(0, 'a', pooled, &LIMITS, at(1)), Put::Refused(7)));
    }

    #[test]
    fn idle_ones_expire() {
        let pool = Pool::new(2);
        assert_eq!(keep(&pool, 0, 'a', 1, 0), None);
        assert_eq!(keep(&pool, 0, 'a', 2, 50), None);
        assert_eq!(keep(&pool, 1, 'a', 3, 0), None);
        assert_eq!(pool.expire(0, &LIMITS, at(99)), Vec::<u32>::new());
        assert_eq!(pool.expire(0, &LIMITS, at(100)), vec![1]);
        assert_eq!(take(&pool, 1, 'a', 120), Some(2), "3 is late, though nothing has swept it");
        assert_eq!(pool.expire(1, &LIMITS, at(120)), vec![3]);
        assert_eq!(pool.idle(), 0);
    }

    #[test]
    fn a_lowered_limit_is_reached_by_expiry() {
        let pool = Pool::new(1);
        for conn in 1..=3 {
            assert_eq!(keep(&pool, 0, 'a', conn, u64::from(conn)), None);
        }
        let limits = Limits { capacity: 1, ..LIMITS };
        assert_eq!(pool.expire(0, &limits, at(4)), vec![1, 2]);
        assert_eq!(pool.idle(), 1);
    }

    #[test]
    fn sifting_takes_out_what_is_refused() {
        let pool = Pool::new(1);
        for conn in 1..=3 {
            assert_eq!(keep(&pool, 0, 'a', conn, 0), None);
        }
        let closed = pool.sift(0, |_, conn| if *conn == 2 { Keep::Close } else { Keep::Yes });
        assert_eq!((closed, pool.idle()), (vec![2], 2));
        assert_eq!(take(&pool, 0, 'a', 1), Some(3));
    }

    #[test]
    fn threads_share_the_limit() {
        let pool: Pool<u32, char> = Pool::new(4);
        std::thread::scope(|scope| {
            for shard in 0..4 {
                let pool = &pool;
                scope.spawn(move || {
                    for round in 0..5000u32 {
                        let kept =
                            pool.put(shard, 'a', Pooled::new(round, at(0)), &LIMITS, at(u64::from(round)));
                        drop(kept);
                        if round % 3 == 0 {
                            let _ = pool.take(shard, &'a', &LIMITS, at(u64::from(round)));
                        }
                        if round % 100 == 0 {
                            drop(pool.trim(&LIMITS));
                        }
                        assert!(pool.idle() <= LIMITS.capacity + SURPLUS + 4);
                    }
                });
            }
        });
        let held: usize = pool.shards.iter().map(|shard| shard.lock().len()).sum();
        assert_eq!(held, pool.idle());
        drop(pool.trim(&LIMITS));
        drop(pool.trim(&LIMITS));
        assert!(pool.idle() <= LIMITS.capacity);
    }
}
