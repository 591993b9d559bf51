//! A table of byte strings that knows which of its entries was used longest ago.
//!
//! Entries lie in one vector and name each other by index, so finding, moving and removing one allocates nothing.

use crate::recency::{Neighbours, Ordered, Recency};

const NIL: u32 = u32::MAX;

/// Where an entry lies; it stays there until it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(u32);

#[derive(Debug)]
struct Entry<V> {
    hash: u64,
    key: Box<[u8]>,
    /// The next entry with the same bucket, or the next free place.
    next: u32,
    neighbours: Neighbours,
    value: V,
}

impl<V> Ordered for Entry<V> {
    #[inline]
    fn neighbours(&mut self) -> &mut Neighbours {
        &mut self.neighbours
    }
}

/// The table. Hashes are the caller's, who should key them where the keys come from outside.
///
/// Its size is the caller's to bound, by removing the oldest entries.
#[derive(Debug)]
pub struct Lru<V> {
    entries: Vec<Entry<V>>,
    /// The first entry of each bucket; a power of two of them.
    buckets: Vec<u32>,
    free: u32,
    order: Recency,
    len: usize,
}

impl<V> Default for Lru<V> {
    fn default() -> Self {
        Self { entries: Vec::new(), buckets: Vec::new(), free: NIL, order: Recency::default(), len: 0 }
    }
}

impl<V: Default> Lru<V> {
    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The entry with this key.
    #[inline]
    #[must_use]
    pub fn find(&self, hash: u64, key: &[u8]) -> Option<Place> {
        let mut at = *self.buckets.get(self.bucket(hash))?;
        while let Some(entry) = self.entries.get(at as usize) {
            if entry.hash == hash && *entry.key == *key {
                return Some(Place(at));
            }
            at = entry.next;
        }
        None
    }

    /// Makes an entry the newest.
    #[inline]
    pub fn touch(&mut self, place: Place) {
        self.order.touch(&mut self.entries, place.0);
    }

    /// Adds an entry as the newest. There must be none with this key.
    ///
    /// # Panics
    /// With four thousand million entries.
    pub fn insert(&mut self, hash: u64, key: &[u8], value: V) -> Place {
        if self.len >= self.buckets.len() {
            self.grow();
        }
        let bucket = self.bucket(hash);
        let next = self.buckets[bucket];
        let entry = Entry { hash, key: key.into(), next, neighbours: Neighbours::default(), value };
        let at = if let Some(free) = self.entries.get(self.free as usize) {
            let at = std::mem::replace(&mut self.free, free.next);
            self.entries[at as usize] = entry;
            at
        } else {
            self.entries.push(entry);
            u32::try_from(self.entries.len() - 1).expect("fewer entries than four thousand million")
        };
        self.buckets[bucket] = at;
        self.len += 1;
        self.order.insert(&mut self.entries, at);
        Place(at)
    }

    /// Removes an entry and says how long its key was.
    pub fn remove(&mut self, place: Place) -> usize {
        let at = place.0;
        self.order.remove(&mut self.entries, at);
        let bucket = self.bucket(self.entries[at as usize].hash);
        let next = self.entries[at as usize].next;
        let mut before = self.buckets[bucket];
        if before == at {
            self.buckets[bucket] = next;
        } else {
            while self.entries[before as usize].next != at {
                before = self.entries[before as usize].next;
            }
            self.entries[before as usize].next = next;
        }
        let entry = &mut self.entries[at as usize];
        entry.next = std::mem::replace(&mut self.free, at);
        entry.value = V::default();
        self.len -= 1;
        std::mem::take(&mut entry.key).len()
    }

    /// The entry that was used longest ago.
    #[must_use]
    pub fn oldest(&self) -> Option<Place> {
        self.order.oldest().map(Place)
    }

    /// What an entry holds.
    #[inline]
    #[must_use]
    pub fn value(&self, place: Place) -> &V {
        &self.entries[place.0 as usize].value
    }

    /// As [`Self::value`], to be changed.
    #[inline]
    pub fn value_mut(&mut self, place: Place) -> &mut V {
        &mut self.entries[place.0 as usize].value
    }

    #[inline]
    fn bucket(&self, hash: u64) -> usize {
        // The upper half: a caller may have chosen this very table by the lower one.
        usize::try_from(hash >> 32).unwrap_or(0) & self.buckets.len().wrapping_sub(1)
    }

    fn grow(&mut self) {
        self.buckets.clear();
        self.buckets.resize((self.len * 2).next_power_of_two().max(8), NIL);
        let mut next = self.order.newest();
        while let Some(at) = next {
            let bucket = self.bucket(self.entries[at as usize].hash);
            let entry = &mut self.entries[at as usize];
            entry.next = std::mem::replace(&mut self.buckets[bucket], at);
            next = entry.neighbours.older();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sixteen hashes for all keys, so that buckets have chains.
    fn hash(key: &[u8]) -> u64 {
        key.iter().map(|byte| u64::from(*byte)).sum::<u64>() << 32 & 0xf_0000_0000
    }

    #[test]
    fn it_does_what_a_list_would() {
        let mut table = Lru::default();
        // The oldest first.
        let mut list: Vec<(Vec<u8>, usize)> = Vec::new();
        let mut random = 12345u64;
        for step in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let key = format!("{}", random >> 33 & 0x7f).into_bytes();
            let known = list.iter().position(|(known, _)| *known == key);
            let found = table.find(hash(&key), &key);
            assert_eq!(found.map(|place| *table.value(place)), known.map(|at| list[at].1));
            match (found, known, random >> 60) {
                (Some(place), Some(at), 0..8) => {
                    table.touch(place);
                    let entry = list.remove(at);
                    list.push(entry);
                }
                (Some(place), Some(at), _) => {
                    assert_eq!(table.remove(place), key.len());
                    list.remove(at);
                }
                _ => {
                    table.insert(hash(&key), &key, step);
                    list.push((key, step));
                }
            }
            assert_eq!(table.len(), list.len());
            assert_eq!(
                table.oldest().map(|place| *table.value(place)),
                list.first().map(|(_, value)| *value)
            );
        }
        while let Some(oldest) = table.oldest() {
            assert_eq!(*table.value(oldest), list.remove(0).1);
            table.remove(oldest);
        }
        assert!(list.is_empty() && table.is_empty());
    }
}
