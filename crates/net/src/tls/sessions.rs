//! Sessions that are kept on the server (`ssl_session_cache`), shared by all threads and kept over reloads by name.
//!
//! A key belongs to its server block: the same session offered to another block is not found.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use aws_lc_rs::digest;
use rustls::server::StoresServerSessions;

use super::tickets::TicketKeys;

const SHARDS: usize = 16;
/// Bytes that an entry takes besides its key and value.
const ENTRY: usize = 128;

/// What sessions are good for: certificates, client-certificate policy. Two blocks with the same may share them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Context([u8; 32]);

impl Context {
    /// The context that these parts make.
    #[must_use]
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut all = digest::Context::new(&digest::SHA256);
        for part in parts {
            all.update(&(part.len() as u64).to_be_bytes());
            all.update(part);
        }
        let mut bytes = [0; 32];
        bytes.copy_from_slice(all.finish().as_ref());
        Self(bytes)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Seconds since 1970.
pub(super) fn now_sec() -> u64 {
    u64::try_from(crate::timer::wall_clock().0).unwrap_or(0)
}

struct Entry {
    value: Vec<u8>,
    expires_sec: u64,
    /// Which of the key's entries in the queue is meant.
    number: u64,
}

#[derive(Default)]
struct Shard {
    entries: HashMap<Vec<u8>, Entry>,
    /// In the order in which they came.
    queue: VecDeque<(Vec<u8>, u64)>,
    bytes: usize,
    number: u64,
}

impl Shard {
    fn remove(&mut self, key: &[u8]) -> Option<Entry> {
        let entry = self.entries.remove(key)?;
        self.bytes = self.bytes.saturating_sub(size_of_entry(key, &entry.value));
        Some(entry)
    }

    fn make_room(&mut self, limit: usize) {
        while self.bytes > limit || self.queue.len() > 2 * self.entries.len() + 16 {
            let Some((key, number)) = self.queue.pop_front() else { return };
            if self.entries.get(&key).is_some_and(|entry| entry.number == number) {
                self.remove(&key);
            }
        }
    }
}

fn size_of_entry(key: &[u8], value: &[u8]) -> usize {
    2 * key.len() + value.len() + ENTRY
}

/// A cache of sessions with a bound on its memory.
pub struct SessionCache {
    shards: [Mutex<Shard>; SHARDS],
    limit: usize,
    /// The keys of tickets that the servers of this cache share.
    pub ticket_keys: Arc<TicketKeys>,
}

impl fmt::Debug for SessionCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionCache").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl SessionCache {
    /// A cache of at most `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        let ticket_keys = Arc::new(TicketKeys::rotating());
        Self { shards: Default::default(), limit: limit / SHARDS, ticket_keys }
    }

    /// The cache of this name and size; one that an earlier configuration still uses is taken over.
    #[must_use]
    pub fn shared(name: &str, limit: usize) -> Arc<Self> {
        static ALL: Mutex<Vec<(String, usize, Weak<SessionCache>)>> = Mutex::new(Vec::new());
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(.., cache)| cache.strong_count() > 0);
        let known = all.iter().find(|(known, size, _)| known == name && *size == limit);
        if let Some(cache) = known.and_then(|(.., cache)| cache.upgrade()) {
            return cache;
        }
        let cache = Arc::new(Self::new(limit));
        all.push((name.to_owned(), limit, Arc::downgrade(&cache)));
        cache
    }

    fn shard(&self, key: &[u8]) -> &Mutex<Shard> {
        // Keys end in random bytes.
        let index = usize::from(key.last().copied().unwrap_or(0)) % SHARDS;
        &self.shards[index]
    }

    fn put(&self, key: Vec<u8>, value: Vec<u8>, timeout_sec: u64) -> bool {
        let size = size_of_entry(&key, &value);
        if size > self.limit {
            return false;
        }
        let mut shard = self.shard(&key).lock().unwrap_or_else(PoisonError::into_inner);
        shard.remove(&key);
        shard.number += 1;
        let number = shard.number;
        shard.bytes += size;
        shard.queue.push_back((key.clone(), number));
        shard.entries.insert(key, Entry { value, expires_sec: now_sec() + timeout_sec, number });
        shard.make_room(self.limit);
        true
    }

    fn find(&self, key: &[u8], keep: Keep) -> Option<Vec<u8>> {
        let mut shard = self.shard(key).lock().unwrap_or_else(PoisonError::into_inner);
        let entry = shard.entries.get(key)?;
        let is_over = entry.expires_sec < now_sec();
        if keep == Keep::Yes && !is_over {
            return Some(entry.value.clone());
        }
        let entry = shard.remove(key)?;
        (!is_over).then_some(entry.value)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Yes,
    No,
}

/// Whether clients may still be refused when their handshake has ended, by what their certificates turn out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// They may: the sessions of a connection must be found again.
    Judged,
    /// Nobody looks at them.
    Anyone,
}

/// A session that a connection has made.
pub(super) struct Made {
    cache: Arc<SessionCache>,
    key: Vec<u8>,
}

thread_local! {
    /// The sessions of the connection that this thread is at work on: rustls does not say whose it keeps.
    static MADE: RefCell<Vec<Made>> = const { RefCell::new(Vec::new()) };
}

/// Moves the sessions that were kept since the last call to those of the connection that was at work.
pub(super) fn take_made(into: &mut Vec<Made>) {
    MADE.with_borrow_mut(|made| into.append(made));
}

impl Made {
    /// Nobody resumes it any more.
    pub(super) fn forget(self) {
        self.cache.find(&self.key, Keep::No);
    }
}

/// The sessions of one server block.
#[derive(Debug)]
pub struct Sessions {
    /// Where they are kept, perhaps with those of other blocks.
    pub cache: Arc<SessionCache>,
    /// What they are good for.
    pub context: Context,
    /// `ssl_session_timeout`, seconds.
    pub timeout_sec: u64,
    /// Whose they are.
    pub clients: Clients,
}

impl Sessions {
    fn key(&self, id: &[u8]) -> Vec<u8> {
        [self.context.bytes(), id].concat()
    }
}

impl StoresServerSessions for Sessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        let key = self.key(&key);
        if self.clients == Clients::Judged {
            let made = Made { cache: Arc::clone(&self.cache), key: key.clone() };
            MADE.with_borrow_mut(|all| all.push(made));
        }
        self.cache.put(key, value, self.timeout_sec)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.cache.find(&self.key(key), Keep::Yes)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.cache.find(&self.key(key), Keep::No)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

/// No sessions are kept.
#[derive(Debug)]
pub struct NoSessions;

impl StoresServerSessions for NoSessions {
    fn put(&self, _: Vec<u8>, _: Vec<u8>) -> bool {
        false
    }

    fn get(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn take(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn can_cache(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions(cache: &Arc<SessionCache>, context: &[u8]) -> Sessions {
        let context = Context::of([context]);
        Sessions { cache: Arc::clone(cache), context, timeout_sec: 100, clients: Clients::Judged }
    }

    #[test]
    fn sessions_of_a_refused_client_are_forgotten() {
        let here = sessions(&Arc::new(SessionCache::new(1 << 20)), b"a");
        let mut made = [Vec::new(), Vec::new()];
        for (number, made) in made.iter_mut().enumerate() {
            here.put(vec![number as u8, 1], b"value".to_vec());
            here.put(vec![number as u8, 2], b"value".to_vec());
            take_made(made);
        }
        let [refused, _] = made;
        refused.into_iter().for_each(Made::forget);
        let check = |number: u8, which: u8, is_there: bool| {
            assert_eq!(here.get(&[number, which]).is_some(), is_there, "{number} {which}");
        };
        check(0, 1, false);
        check(0, 2, false);
        check(1, 1, true);
        check(1, 2, true);
    }

    #[test]
    fn sessions_belong_to_their_block() {
        let cache = Arc::new(SessionCache::new(1 << 20));
        let (here, there) = (sessions(&cache, b"a"), sessions(&cache, b"b"));
        assert!(here.put(b"id".to_vec(), b"value".to_vec()));
        assert_eq!(here.get(b"id").as_deref(), Some(&b"value"[..]));
        assert_eq!(there.get(b"id"), None);
        assert_eq!(here.take(b"id").as_deref(), Some(&b"value"[..]));
        assert_eq!(here.take(b"id"), None);
    }

    #[test]
    fn memory_is_bounded() {
        let cache = Arc::new(SessionCache::new(64 << 10));
        let here = sessions(&cache, b"a");
        for number in 0..10_000u32 {
            here.put(number.to_be_bytes().to_vec(), vec![7; 200]);
        }
        let held: usize = cache.shards.iter().map(|shard| shard.lock().expect("no panic").bytes).sum();
        assert!(held <= 64 << 10, "{held}");
        let queued: usize =
            cache.shards.iter().map(|shard| shard.lock().expect("no panic").queue.len()).sum();
        assert!(queued < 1000, "{queued}");
        assert!(here.get(&9_999u32.to_be_bytes()).is_some());
        assert!(here.get(&0u32.to_be_bytes()).is_none());
        assert!(!here.put(b"x".to_vec(), vec![0; 8 << 10]));
    }

    #[test]
    fn a_cache_is_found_by_its_name() {
        let one = SessionCache::shared("test one", 1 << 20);
        assert!(Arc::ptr_eq(&one, &SessionCache::shared("test one", 1 << 20)));
        assert!(!Arc::ptr_eq(&one, &SessionCache::shared("test one", 2 << 20)));
        assert!(!Arc::ptr_eq(&one, &SessionCache::shared("test two", 1 << 20)));
    }
}
