//! What is known of all entries of a zone, in memory: where each stands in the order of use, whether it has a file,
//! who fetches it.
//!
//! Entries lie in one vector and name each other by number. A file is removed only after its entry was, so at worst
//! a file is missing that an entry names, which shows when it is opened.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use base::recency::{Neighbours, Ordered, Recency};

use crate::filling::Filling;
use crate::key::Key;
use crate::stored::Hot;

/// What shows that a file is still the one that was checked: never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp(pub u64);

/// What few entries have.
#[derive(Default)]
struct Extra {
    filling: Option<Arc<Filling>>,
    hot: Option<Arc<Hot>>,
}

impl Extra {
    fn is_empty(&self) -> bool {
        self.filling.is_none() && self.hot.is_none()
    }
}

struct Node {
    key: Key,
    neighbours: Neighbours,
    /// Unix seconds after which nobody has used it for too long.
    expires: u32,
    /// Unix seconds until which the error stands for an answer.
    error_until: u32,
    /// Bytes on disk, in blocks.
    blocks: u32,
    uses: u16,
    /// The status that stands for an answer; 0: none.
    error: u16,
    /// The file that was checked; 0: none was.
    stamp: u64,
    has_file: bool,
    extra: Option<Box<Extra>>,
}

impl Ordered for Node {
    #[inline]
    fn neighbours(&mut self) -> &mut Neighbours {
        &mut self.neighbours
    }
}

/// Bytes of a block.
pub(crate) const BLOCK: u64 = 4096;

/// What an entry is if it has no file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Otherwise {
    Missing,
    /// It was not asked for often enough.
    Scarce,
}

/// What the index knows of an entry that is asked for.
pub(crate) enum Seen {
    /// It is this error.
    Failed(u16),
    /// There may be a file.
    Test { stamp: Option<Stamp>, hot: Option<Arc<Hot>>, otherwise: Otherwise },
    /// There is none.
    Known(Otherwise),
    /// There is no room for one more entry.
    NoRoom,
}

/// What there is to remove.
pub(crate) enum Expired {
    /// The entry is gone; its file, if it has one, is to follow.
    Entry(Key, HasFile),
    /// Nothing for so many seconds.
    Wait(u64),
}

/// Whether an entry that was removed leaves a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HasFile {
    Yes,
    No,
}

/// Entries that are being fetched and so pass by when one must go.
const SKIPPED_MAX: u32 = 20;

pub(crate) struct Index {
    nodes: Vec<Node>,
    free: Vec<u32>,
    by_key: HashMap<Key, u32, Seed>,
    order: Recency,
    blocks: u64,
    /// Some entry may be an error.
    has_errors: bool,
    /// From so many entries on the manager makes room.
    pub watermark: usize,
    /// Entries in memory, in the order in which they are looked at when one must go.
    hot: VecDeque<Key>,
    hot_bytes: u64,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            free: Vec::new(),
            by_key: HashMap::default(),
            order: Recency::default(),
            blocks: 0,
            has_errors: false,
            watermark: usize::MAX,
            hot: VecDeque::new(),
            hot_bytes: 0,
        }
    }
}

fn seconds(time: u64) -> u32 {
    u32::try_from(time).unwrap_or(u32::MAX)
}

impl Index {
    /// Number of entries.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Bytes on disk.
    pub fn disk_bytes(&self) -> u64 {
        self.blocks * BLOCK
    }

    /// Bytes of bodies in memory.
    pub fn hot_bytes(&self) -> u64 {
        self.hot_bytes
    }

    fn find(&mut self, key: &Key) -> Option<&mut Node> {
        let at = *self.by_key.get(key)?;
        self.nodes.get_mut(at as usize)
    }

    fn insert(&mut self, key: Key) -> &mut Node {
        let node = Node {
            key,
            neighbours: Neighbours::default(),
            expires: 0,
            error_until: 0,
            blocks: 0,
            uses: 1,
            error: 0,
            stamp: 0,
            has_file: false,
            extra: None,
        };
        let at = match self.free.pop() {
            Some(at) => {
                self.nodes[at as usize] = node;
                at
            }
            None => {
                self.nodes.push(node);
                seconds(self.nodes.len() as u64 - 1)
            }
        };
        self.by_key.insert(key, at);
        self.order.insert(&mut self.nodes, at);
        &mut self.nodes[at as usize]
    }

    fn remove(&mut self, key: &Key) -> HasFile {
        let Some(at) = self.by_key.remove(key) else { return HasFile::No };
        self.order.remove(&mut self.nodes, at);
        self.forget_hot(at);
        let node = &mut self.nodes[at as usize];
        node.extra = None;
        let has_file = std::mem::take(&mut node.has_file);
        self.blocks -= u64::from(std::mem::take(&mut node.blocks));
        self.free.push(at);
        if has_file { HasFile::Yes } else { HasFile::No }
    }

    fn touch(&mut self, at: u32, expires: u32) {
        self.order.touch(&mut self.nodes, at);
        self.nodes[at as usize].expires = expires;
    }

    /// Somebody asks for an entry (`ngx_http_file_cache_exists`). With it goes an entry that had to make room.
    pub fn visit(&mut self, key: &Key, visit: Visit) -> (Seen, Option<(Key, HasFile)>) {
        let expires = seconds(visit.now_s + visit.inactive_s);
        let few = if visit.min_uses > 1 { Otherwise::Scarce } else { Otherwise::Missing };
        if let Some(at) = self.by_key.get(key).copied() {
            self.touch(at, expires);
            let node = &mut self.nodes[at as usize];
            node.uses = node.uses.saturating_add(visit.uses);
            if node.error != 0 {
                if u64::from(node.error_until) >= visit.now_s {
                    return (Seen::Failed(node.error), None);
                }
                node.error = 0;
                self.forget_file(key);
                return (self.unknown(few, visit.is_cold), None);
            }
            if !node.has_file && u64::from(node.uses) < visit.min_uses {
                return (Seen::Known(Otherwise::Scarce), None);
            }
            if !node.has_file {
                return (Seen::Known(Otherwise::Missing), None);
            }
            let stamp = (node.stamp != 0).then_some(Stamp(node.stamp));
            let hot = node.extra.as_ref().and_then(|extra| extra.hot.clone());
            return (Seen::Test { stamp, hot, otherwise: Otherwise::Missing }, None);
        }
        let mut gone = None;
        if self.len() >= visit.capacity {
            self.watermark = self.len() - self.len() / 8;
            gone = self.force(expires);
            if gone.is_none() {
                return (Seen::NoRoom, None);
            }
        }
        self.insert(*key).expires = expires;
        (self.unknown(few, visit.is_cold), gone)
    }

    fn unknown(&self, otherwise: Otherwise, is_cold: bool) -> Seen {
        if is_cold { Seen::Test { stamp: None, hot: None, otherwise } } else { Seen::Known(otherwise) }
    }

    /// Removes the entry that was used longest ago, but for those that are being fetched.
    pub fn force(&mut self, expires: u32) -> Option<(Key, HasFile)> {
        for _ in 0..SKIPPED_MAX {
            let at = self.order.oldest()?;
            let node = self.nodes.get(at as usize)?;
            if node.is_busy() {
                self.touch(at, expires);
                continue;
            }
            let key = node.key;
            return Some((key, self.remove(&key)));
        }
        None
    }

    /// Removes an entry that nobody has used for too long.
    pub fn expire(&mut self, now_s: u64, inactive_s: u64) -> Expired {
        for _ in 0..SKIPPED_MAX {
            let Some(at) = self.order.oldest() else { return Expired::Wait(10) };
            let Some(node) = self.nodes.get(at as usize) else { return Expired::Wait(10) };
            let wait = u64::from(node.expires).saturating_sub(now_s);
            if wait > 0 {
                return Expired::Wait(wait.min(10));
            }
            if node.is_busy() {
                self.touch(at, seconds(now_s + inactive_s));
                continue;
            }
            let key = node.key;
            let has_file = self.remove(&key);
            return Expired::Entry(key, has_file);
        }
        Expired::Wait(1)
    }

    /// A file was found and checked.
    pub fn vouch(&mut self, key: &Key, stamp: Stamp, bytes: u64, expires_s: u64) {
        let blocks = seconds(bytes.div_ceil(BLOCK));
        if !self.by_key.contains_key(key) {
            self.insert(*key).expires = seconds(expires_s);
        }
        let Some(node) = self.find(key) else { return };
        let before = std::mem::replace(&mut node.blocks, blocks);
        node.has_file = true;
        node.error = 0;
        node.stamp = stamp.0;
        self.blocks = self.blocks + u64::from(blocks) - u64::from(before);
    }

    /// An entry of an earlier run was found on disk. Says whether there is room for it.
    pub fn add(&mut self, key: &Key, bytes: u64, expires_s: u64, capacity: usize) -> bool {
        if let Some(at) = self.by_key.get(key).copied() {
            self.touch(at, seconds(expires_s));
            return true;
        }
        if self.len() >= capacity {
            self.watermark = self.len() - self.len() / 8;
            return false;
        }
        let blocks = seconds(bytes.div_ceil(BLOCK));
        let node = self.insert(*key);
        node.expires = seconds(expires_s);
        node.has_file = true;
        node.blocks = blocks;
        self.blocks += u64::from(blocks);
        true
    }

    /// The file of an entry is gone or of no use.
    pub fn forget_file(&mut self, key: &Key) {
        let Some(at) = self.by_key.get(key).copied() else { return };
        self.forget_hot(at);
        let node = &mut self.nodes[at as usize];
        node.has_file = false;
        node.stamp = 0;
        self.blocks -= u64::from(std::mem::take(&mut node.blocks));
    }

    /// Removes an entry that has neither file nor error nor anybody who fetches it.
    pub fn forget_empty(&mut self, key: &Key) {
        if self.find(key).is_some_and(|node| !node.has_file && node.error == 0 && !node.is_busy()) {
            self.remove(key);
        }
    }

    /// Removes an entry at once, whoever uses it.
    pub fn purge(&mut self, key: &Key) -> HasFile {
        let filling = self.find(key).and_then(|node| node.extra.as_mut()?.filling.take());
        let has_file = self.remove(key);
        if let Some(filling) = filling {
            // Whoever fetches it may end for the sake of those who wait; whether it is stored is not said here.
            self.insert(*key).set_filling(Some(filling));
        }
        has_file
    }

    /// An error stands for the answer until `until_s`.
    pub fn note_error(&mut self, key: &Key, status: u16, until_s: u64) {
        if let Some(node) = self.find(key) {
            node.error = status;
            node.error_until = seconds(until_s);
            self.has_errors = true;
        }
    }

    /// No error stands for an answer any more.
    pub fn clear_errors(&mut self) {
        if std::mem::take(&mut self.has_errors) {
            self.nodes.iter_mut().for_each(|node| node.error = 0);
        }
    }

    /// Who fetches an entry, if anybody does.
    pub fn filling(&mut self, key: &Key) -> Option<Arc<Filling>> {
        self.find(key)?.extra.as_ref()?.filling.clone()
    }

    /// Says who fetches an entry from now on.
    pub fn set_filling(&mut self, key: &Key, filling: Arc<Filling>, expires_s: u64) {
        if self.find(key).is_none() {
            self.insert(*key).expires = seconds(expires_s);
        }
        if let Some(node) = self.find(key) {
            node.set_filling(Some(filling));
        }
    }

    /// Nobody fetches an entry any more, if it was this one who did.
    pub fn clear_filling(&mut self, key: &Key, filling: &Arc<Filling>) {
        if let Some(node) = self.find(key)
            && node
                .extra
                .as_ref()
                .and_then(|extra| extra.filling.as_ref())
                .is_some_and(|own| Arc::ptr_eq(own, filling))
        {
            node.set_filling(None);
        }
    }

    /// Keeps an entry in memory; others make room for it.
    pub fn set_hot(&mut self, key: &Key, hot: Arc<Hot>, memory: u64) {
        let Some(at) = self.by_key.get(key).copied() else { return };
        self.forget_hot(at);
        self.hot_bytes += hot.size();
        let node = &mut self.nodes[at as usize];
        node.extra.get_or_insert_default().hot = Some(hot);
        self.hot.push_back(*key);
        while self.hot_bytes > memory && self.cool() {}
    }

    /// Keeps an entry in memory no more.
    pub fn drop_hot(&mut self, key: &Key) {
        if let Some(at) = self.by_key.get(key).copied() {
            self.forget_hot(at);
        }
    }

    /// Takes out of memory what has not been used since it was last looked at.
    fn cool(&mut self) -> bool {
        for _ in 0..=self.hot.len() {
            let Some(key) = self.hot.pop_front() else { return false };
            let Some(at) = self.by_key.get(&key).copied() else { continue };
            let Some(hot) = self.nodes[at as usize].extra.as_ref().and_then(|extra| extra.hot.as_ref())
            else {
                continue;
            };
            if hot.was_used() {
                self.hot.push_back(key);
                continue;
            }
            self.forget_hot(at);
            return true;
        }
        false
    }

    fn forget_hot(&mut self, at: u32) {
        let node = &mut self.nodes[at as usize];
        let Some(extra) = &mut node.extra else { return };
        if let Some(hot) = extra.hot.take() {
            self.hot_bytes -= hot.size();
        }
        if extra.is_empty() {
            node.extra = None;
        }
        // Its place in the order is dropped when its turn comes; more than two of those for each entry never lie
        // there.
        if self.hot.len() > 2 * self.by_key.len() + 64 {
            let (nodes, by_key) = (&self.nodes, &self.by_key);
            let is_hot = |key: &Key| {
                let node = by_key.get(key).and_then(|at| nodes.get(*at as usize));
                node.and_then(|node| node.extra.as_ref()).is_some_and(|extra| extra.hot.is_some())
            };
            self.hot.retain(is_hot);
        }
    }
}

impl Node {
    fn is_busy(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| extra.filling.is_some())
    }

    fn set_filling(&mut self, filling: Option<Arc<Filling>>) {
        if filling.is_none() && self.extra.is_none() {
            return;
        }
        let extra = self.extra.get_or_insert_default();
        extra.filling = filling;
        if extra.is_empty() {
            self.extra = None;
        }
    }
}

/// How somebody asks for an entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visit {
    pub now_s: u64,
    pub inactive_s: u64,
    pub min_uses: u64,
    pub uses: u16,
    pub capacity: usize,
    /// Not all that lies on disk is known yet.
    pub is_cold: bool,
}

/// Hashes keys, which are hashes already: mixed with a number that nobody outside knows, since keys that agree in
/// a few bytes can be made.
pub(crate) struct Seed(u64);

impl Default for Seed {
    fn default() -> Self {
        Self(RandomState::new().hash_one(0u8))
    }
}

impl BuildHasher for Seed {
    type Hasher = Mix;

    fn build_hasher(&self) -> Mix {
        Mix(self.0)
    }
}

pub(crate) struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            let product = u128::from(self.0 ^ u64::from_le_bytes(word)) * 0x9e37_79b9_7f4a_7c15;
            self.0 = u64::try_from(product >> 64 & u128::from(u64::MAX)).unwrap_or(0)
                ^ u64::try_from(product & u128::from(u64::MAX)).unwrap_or(0);
        }
    }

    fn write_usize(&mut self, _: usize) {
        // The length of a key, which is always the same.
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> Key {
        Key::of(&number.to_le_bytes())
    }

    fn visit(now_s: u64, min_uses: u64, capacity: usize) -> Visit {
        Visit { now_s, inactive_s: 10, min_uses, uses: 1, capacity, is_cold: false }
    }

    fn seen(seen: &Seen) -> &'static str {
        match seen {
            Seen::Failed(_) => "failed",
            Seen::Test { .. } => "test",
            Seen::Known(Otherwise::Missing) => "missing",
            Seen::Known(Otherwise::Scarce) => "scarce",
            Seen::NoRoom => "no room",
        }
    }

    #[test]
    fn entries_are_known_once_they_are_stored() {
        let mut index = Index::default();
        let check = |index: &mut Index, min_uses, now_s, expected: &str| {
            assert_eq!(seen(&index.visit(&key(1), visit(now_s, min_uses, 100)).0), expected);
        };
        check(&mut index, 3, 0, "scarce");
        check(&mut index, 3, 0, "scarce");
        check(&mut index, 3, 0, "missing");
        index.vouch(&key(1), Stamp(7), 5000, 10);
        assert_eq!(index.disk_bytes(), 2 * BLOCK);
        check(&mut index, 3, 0, "test");
        index.forget_file(&key(1));
        assert_eq!(index.disk_bytes(), 0);
        check(&mut index, 1, 0, "missing");
        index.note_error(&key(1), 502, 5);
        check(&mut index, 1, 5, "failed");
        index.clear_errors();
        check(&mut index, 1, 5, "missing");
        index.note_error(&key(1), 502, 5);
        check(&mut index, 1, 6, "missing");
        index.forget_empty(&key(1));
        assert_eq!(index.len(), 0);
    }

    #[test]
    fn the_one_used_longest_ago_makes_room() {
        let mut index = Index::default();
        for number in 0..4 {
            index.visit(&key(number), visit(0, 1, 4));
            index.vouch(&key(number), Stamp(1), 1, 10);
        }
        index.visit(&key(0), visit(1, 1, 4));
        let (_, gone) = index.visit(&key(9), visit(1, 1, 4));
        assert_eq!(gone, Some((key(1), HasFile::Yes)));
        assert_eq!((index.len(), index.watermark), (4, 4));
        let mut order = Vec::new();
        while let Expired::Entry(key, _) = index.expire(100, 10) {
            order.push(key);
        }
        assert_eq!(order, [key(2), key(3), key(0), key(9)]);
        assert!(matches!(index.expire(100, 10), Expired::Wait(10)));
        assert_eq!(index.disk_bytes(), 0);
    }

    #[test]
    fn what_is_being_fetched_stays() {
        let mut index = Index::default();
        let filling = Arc::new(Filling::new(0, 0));
        index.visit(&key(1), visit(0, 1, 1));
        index.set_filling(&key(1), Arc::clone(&filling), 10);
        assert_eq!(seen(&index.visit(&key(2), visit(0, 1, 1)).0), "no room");
        assert!(matches!(index.expire(50, 10), Expired::Wait(_)));
        index.forget_empty(&key(1));
        assert!(index.filling(&key(1)).is_some());
        index.clear_filling(&key(1), &Arc::new(Filling::new(0, 0)));
        assert!(index.filling(&key(1)).is_some());
        index.clear_filling(&key(1), &filling);
        assert_eq!(seen(&index.visit(&key(2), visit(0, 1, 1)).0), "missing");
    }

    #[test]
    fn memory_is_bounded_and_the_used_stay() {
        let mut index = Index::default();
        for number in 0..10 {
            index.vouch(&key(number), Stamp(1), 1, 10);
            index.set_hot(&key(number), Arc::new(Hot::of_body(&[0; 100])), 10 * 500);
            if number == 0 {
                assert!(index.hot_bytes() > 100);
            }
        }
        let each = index.hot_bytes() / index.hot.len() as u64;
        let limit = each * 3;
        if let Seen::Test { hot: Some(hot), .. } = index.visit(&key(5), visit(0, 1, 100)).0 {
            hot.mark_used();
        }
        index.set_hot(&key(5), Arc::new(Hot::of_body(&[0; 100])), u64::MAX);
        if let Seen::Test { hot: Some(hot), .. } = index.visit(&key(5), visit(0, 1, 100)).0 {
            hot.mark_used();
        }
        index.set_hot(&key(1), Arc::new(Hot::of_body(&[0; 100])), limit);
        assert!(index.hot_bytes() <= limit);
        assert!(matches!(index.visit(&key(5), visit(0, 1, 100)).0, Seen::Test { hot: Some(_), .. }));
    }

    #[test]
    fn a_node_is_small() {
        assert!(size_of::<Node>() <= 64, "{}", size_of::<Node>());
    }
}
