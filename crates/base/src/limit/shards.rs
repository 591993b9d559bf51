//! A table in shards, bounded as a whole.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::slab;
use crate::lru::Lru;

/// Zones below this many bytes have one shard: in them the oldest entry is the oldest to the letter.
const SHARDED_FROM: u64 = 1 << 20;
const SHARDS: usize = 16;

/// On a cache line of its own, so that one shard's traffic does not slow down another's.
#[repr(align(64))]
pub(super) struct Shard<V> {
    pub table: Mutex<Lru<V>>,
    /// When the oldest entry was used last, milliseconds; `u64::MAX` without one.
    pub oldest_ms: AtomicU64,
}

pub(super) struct Shards<V> {
    shards: Box<[Shard<V>]>,
    /// Keyed, since clients choose the keys.
    hasher: RandomState,
    capacity: u64,
    used: AtomicU64,
    /// Bytes of an entry besides its key.
    head: u64,
}

impl<V: Default> Shards<V> {
    /// Shards for a zone of `size` bytes whose entries take `head` bytes besides their key in nginx.
    pub fn new(size: u64, head: u64) -> Self {
        let count = if size < SHARDED_FROM { 1 } else { SHARDS };
        let shard = || Shard { table: Mutex::default(), oldest_ms: AtomicU64::new(u64::MAX) };
        Self {
            shards: (0..count).map(|_| shard()).collect(),
            hasher: RandomState::new(),
            capacity: slab::capacity(size),
            used: AtomicU64::new(0),
            head,
        }
    }

    #[inline]
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }

    /// The number of the shard of a hash.
    #[inline]
    pub fn number(&self, hash: u64) -> u32 {
        (hash as u32) & (self.shards.len() as u32 - 1)
    }

    #[inline]
    pub fn shard(&self, number: u32) -> &Shard<V> {
        &self.shards[number as usize]
    }

    /// Takes room for an entry; says whether there was any.
    pub fn take_room(&self, key: &[u8]) -> bool {
        let cost = slab::cost(self.head + key.len() as u64);
        let before = self.used.fetch_add(cost, Relaxed);
        if before + cost > self.capacity {
            self.used.fetch_sub(cost, Relaxed);
            return false;
        }
        true
    }

    /// Gives back the room of an entry that was removed.
    pub fn give_room(&self, key_length: usize) {
        self.used.fetch_sub(slab::cost(self.head + key_length as u64), Relaxed);
    }

    /// The shard whose oldest entry was used longest ago.
    pub fn oldest(&self) -> Option<&Shard<V>> {
        let oldest = self.shards.iter().min_by_key(|shard| shard.oldest_ms.load(Relaxed))?;
        (oldest.oldest_ms.load(Relaxed) != u64::MAX).then_some(oldest)
    }

    /// Number of entries.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }
}

impl<V> Shard<V> {
    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, Lru<V>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
