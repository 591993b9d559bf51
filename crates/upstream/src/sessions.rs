//! What `sticky learn` has learnt: which session belongs to which peer (`ngx_http_upstream_sticky_module`).
//!
//! Bounded by the size of its zone; where that is full, the session that was used longest ago makes room.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use md5::{Digest, Md5};

use crate::now::Now;

/// Bytes of a zone that one session takes in nginx: a megabyte holds about 8000.
const SESSION_BYTES: usize = 128;
/// Most parts that are locked apart.
const MAX_SHARDS: usize = 16;
/// Sessions for which a part of their own is worth while.
const SESSIONS_PER_SHARD: usize = 1024;

type Id = [u8; 16];

/// The sessions of one zone.
#[derive(Debug)]
pub struct SessionTable {
    shards: Box<[Mutex<Shard>]>,
    /// Most sessions of one shard.
    capacity: usize,
}

#[derive(Debug, Default)]
struct Shard {
    sessions: HashMap<Id, Session>,
    /// By time of use, then by the order of arrival.
    by_use: BTreeMap<(u64, u64), Id>,
    next: u64,
}

#[derive(Debug)]
struct Session {
    sid: Box<str>,
    place: (u64, u64),
}

/// What became of a session that was to be learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learnt {
    /// It was known, perhaps with another peer, or is known now.
    Noted,
    /// It is known now, and another one, used longest ago, had to go for it.
    Evicted,
    /// It was not known and was not to be created.
    Unknown,
}

/// Whether a session that is not known may be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Create {
    /// It is.
    Yes,
    /// It is not: the client has named it, but no answer.
    No,
}

impl SessionTable {
    /// A table for a zone of so many bytes.
    #[must_use]
    pub fn new(zone_bytes: usize) -> Self {
        let capacity = (zone_bytes / SESSION_BYTES).max(1);
        let shards = (capacity / SESSIONS_PER_SHARD).clamp(1, MAX_SHARDS);
        Self { shards: (0..shards).map(|_| Mutex::default()).collect(), capacity: capacity / shards }
    }

    /// The [`sid`](crate::Peer::sid) of the peer that a session belongs to.
    #[must_use]
    pub fn find(&self, session: &[u8], timeout_ms: u64, now: Now) -> Option<Box<str>> {
        let id = id_of(session);
        let shard = self.lock(&id)?;
        let found = shard.sessions.get(&id)?;
        is_alive(found.place, timeout_ms, now).then(|| found.sid.clone())
    }

    /// Notes that a session was served by the peer of that `sid`.
    pub fn learn(&self, session: &[u8], sid: &str, create: Create, timeout_ms: u64, now: Now) -> Learnt {
        let id = id_of(session);
        let Some(mut shard) = self.lock(&id) else { return Learnt::Unknown };
        shard.expire(timeout_ms, now);
        let place = (now.ms(), shard.next);
        shard.next += 1;
        if let Some(known) = shard.sessions.get_mut(&id) {
            let before = std::mem::replace(&mut known.place, place);
            if *known.sid != *sid {
                known.sid = sid.into();
            }
            shard.by_use.remove(&before);
            shard.by_use.insert(place, id);
            return Learnt::Noted;
        }
        if create == Create::No {
            return Learnt::Unknown;
        }
        let is_full = shard.sessions.len() >= self.capacity;
        if is_full {
            shard.drop_oldest();
        }
        shard.sessions.insert(id, Session { sid: sid.into(), place });
        shard.by_use.insert(place, id);
        if is_full { Learnt::Evicted } else { Learnt::Noted }
    }

    /// Forgets sessions that nobody used for so long.
    pub fn expire(&self, timeout_ms: u64, now: Now) {
        for shard in &self.shards {
            shard.lock().unwrap_or_else(PoisonError::into_inner).expire(timeout_ms, now);
        }
    }

    /// Sessions that are known now.
    #[must_use]
    pub fn count(&self) -> usize {
        let count =
            |shard: &Mutex<Shard>| shard.lock().unwrap_or_else(PoisonError::into_inner).sessions.len();
        self.shards.iter().map(count).sum()
    }

    fn lock(&self, id: &Id) -> Option<MutexGuard<'_, Shard>> {
        let shard = self.shards.get(usize::from(id[0]) % self.shards.len())?;
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Shard {
    fn expire(&mut self, timeout_ms: u64, now: Now) {
        while let Some((place, _)) = self.by_use.first_key_value()
            && !is_alive(*place, timeout_ms, now)
        {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((_, id)) = self.by_use.pop_first() {
            self.sessions.remove(&id);
        }
    }
}

fn is_alive((used_ms, _): (u64, u64), timeout_ms: u64, now: Now) -> bool {
    now.ms().saturating_sub(used_ms) < timeout_ms
}

/// As in nginx, so that a session may be of any length.
fn id_of(session: &[u8]) -> Id {
    Md5::digest(session).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: u64 = 1000;

    fn at(ms: u64) -> Now {
        Now::from_ms(ms)
    }

    #[test]
    fn sessions_are_learnt_moved_and_forgotten() {
        let table = SessionTable::new(1 << 20);
        let learn = |session: &str, sid: &str, create, ms| {
            table.learn(session.as_bytes(), sid, create, TIMEOUT, at(ms))
        };
        let find = |session: &str, ms| table.find(session.as_bytes(), TIMEOUT, at(ms)).map(String::from);
        assert_eq!(learn("s", "a", Create::No, 0), Learnt::Unknown);
        assert_eq!(find("s", 0), None);
        assert_eq!(learn("s", "a", Create::Yes, 0), Learnt::Noted);
        assert_eq!(find("s", 999).as_deref(), Some("a"));
        assert_eq!(find("S", 0), None);
        assert_eq!(learn("s", "b", Create::No, 900), Learnt::Noted, "a request prolongs it, also elsewhere");
        assert_eq!(find("s", 1500).as_deref(), Some("b"));
        assert_eq!(find("s", 1900), None);
        table.expire(TIMEOUT, at(1900));
        assert_eq!(table.count(), 0);
    }

    #[test]
    fn a_full_zone_loses_what_was_used_longest_ago() {
        let table = SessionTable::new(3 * SESSION_BYTES);
        for (ms, session) in (0..).zip([b"a", b"b", b"c"]) {
            assert_eq!(table.learn(session, "x", Create::Yes, TIMEOUT, at(ms)), Learnt::Noted);
        }
        table.learn(b"a", "x", Create::No, TIMEOUT, at(5));
        assert_eq!(table.learn(b"d", "x", Create::Yes, TIMEOUT, at(6)), Learnt::Evicted);
        let known: Vec<bool> =
            [b"a", b"b", b"c", b"d"].map(|s| table.find(s, TIMEOUT, at(7)).is_some()).to_vec();
        assert_eq!(known, [true, false, true, true]);
    }

    #[test]
    fn the_bound_holds_with_many_shards() {
        let table = SessionTable::new(1 << 20);
        for n in 0..50_000u32 {
            table.learn(&n.to_le_bytes(), "x", Create::Yes, TIMEOUT, at(0));
        }
        assert!(table.count() <= (1 << 20) / SESSION_BYTES, "{}", table.count());
        assert!(table.count() > 7000, "{}", table.count());
    }
}
