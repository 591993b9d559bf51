//! The dynamic table: the fields indexed last, within a number of bytes (RFC 7541, 2.3.2 and 4).

use std::collections::VecDeque;

/// What an entry costs besides its text (RFC 7541, 4.1).
const OVERHEAD: usize = 32;

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Where its text begins, counted over all text that there ever was.
    start: usize,
    name: u32,
    value: u32,
    hash: u32,
}

impl Entry {
    fn size(&self) -> usize {
        self.name as usize + self.value as usize + OVERHEAD
    }
}

/// Fields, the newest first; the text of all lies in one buffer.
#[derive(Debug)]
pub(super) struct Table {
    entries: VecDeque<Entry>,
    text: Vec<u8>,
    /// Text that was dropped from the front of the buffer so far.
    dropped: usize,
    size: usize,
    limit: usize,
    /// Entries that there ever were, the lowest bits: there are never 256 at a time.
    added: u8,
    /// By hash, the number of the last entry that was added, counted in the same way.
    newest: [u8; SLOTS],
}

/// Hashes that the newest entries are known by.
const SLOTS: usize = 64;

impl Table {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            text: Vec::new(),
            dropped: 0,
            size: 0,
            limit,
            added: 0,
            newest: [0; SLOTS],
        }
    }

    /// Number of entries.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Changes the number of bytes; the oldest go until the rest fits.
    pub(super) fn resize(&mut self, limit: usize) {
        self.limit = limit;
        self.evict(0);
    }

    /// Name and value of an entry; 0 is the newest.
    #[inline]
    pub(super) fn get(&self, index: usize) -> Option<(&[u8], &[u8])> {
        let entry = self.entries.get(index)?;
        let start = entry.start - self.dropped;
        let text = self.text.get(start..start + entry.name as usize + entry.value as usize)?;
        text.split_at_checked(entry.name as usize)
    }

    /// Adds a field under a hash of its name and value; one that is larger than the table empties it.
    pub(super) fn add(&mut self, name: &[u8], value: &[u8], hash: u32) {
        let length = name.len() + value.len();
        self.evict(length + OVERHEAD);
        if length + OVERHEAD > self.limit {
            return;
        }
        self.compact(length);
        let start = self.dropped + self.text.len();
        self.text.extend_from_slice(name);
        self.text.extend_from_slice(value);
        self.entries.push_front(Entry { start, name: name.len() as u32, value: value.len() as u32, hash });
        self.size += length + OVERHEAD;
        self.added = self.added.wrapping_add(1);
        self.newest[hash as usize % SLOTS] = self.added;
    }

    /// The newest entry of this name and value.
    #[inline]
    pub(super) fn find(&self, name: &[u8], value: &[u8], hash: u32) -> Option<usize> {
        let is_it = |index: &usize| {
            self.entries.get(*index).is_some_and(|entry| entry.hash == hash)
                && self.get(*index) == Some((name, value))
        };
        let newest = usize::from(self.added.wrapping_sub(self.newest[hash as usize % SLOTS]));
        // What is older than the newest entry of its slot is there only if that is.
        if newest >= self.entries.len() {
            return None;
        }
        (newest..self.entries.len()).find(is_it)
    }

    /// Makes room for an entry of so many bytes.
    fn evict(&mut self, room: usize) {
        while self.size + room > self.limit {
            let Some(oldest) = self.entries.pop_back() else { return };
            self.size -= oldest.size();
        }
    }

    /// Drops the text of entries that are gone, once the buffer would become larger than twice the table.
    fn compact(&mut self, more: usize) {
        if self.text.len() + more <= self.limit * 2 {
            return;
        }
        let first = self.entries.back().map_or(self.dropped + self.text.len(), |oldest| oldest.start);
        self.text.drain(..first - self.dropped);
        self.dropped = first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first() {
        let mut table = Table::new(100);
        table.add(b"a", b"1", 0);
        table.add(b"b", b"2", 0);
        assert_eq!(table.get(0), Some((&b"b"[..], &b"2"[..])));
        assert_eq!(table.get(1), Some((&b"a"[..], &b"1"[..])));
        table.add(b"c", b"3", 0);
        assert_eq!((table.len(), table.get(1)), (2, Some((&b"b"[..], &b"2"[..]))));
        table.resize(40);
        assert_eq!((table.len(), table.get(0)), (1, Some((&b"c"[..], &b"3"[..]))));
        table.add(&[b'x'; 20], b"", 0);
        assert_eq!(table.len(), 0, "too large for the table");
        assert_eq!(table.find(b"c", b"3", 0), None);
    }

    #[test]
    fn memory_is_bounded() {
        let mut table = Table::new(4096);
        for round in 0..100_000u32 {
            let value = vec![b'v'; (round % 3000) as usize];
            table.add(&round.to_be_bytes(), &value, round);
            assert!(table.text.len() <= 8192 && table.entries.len() <= 128);
            assert_eq!(table.find(&round.to_be_bytes(), &value, round), Some(0));
        }
    }
}
