//! Sets of keys that were read not long ago (`auth_jwt_key_cache`), per thread.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;

use base::lru::Lru;

use super::keys::Keys;

/// Sets that a thread keeps.
const MOST: usize = 64;

#[derive(Default)]
struct Entry {
    keys: Option<Rc<Keys>>,
    since_ms: u64,
}

struct Cache {
    hasher: RandomState,
    table: Lru<Entry>,
}

thread_local! {
    static CACHE: RefCell<Cache> =
        RefCell::new(Cache { hasher: RandomState::new(), table: Lru::default() });
}

/// The keys of this name, if they were read within the last `keep_ms` milliseconds.
pub(super) fn find(name: &[u8], keep_ms: u64) -> Option<Rc<Keys>> {
    if keep_ms == 0 {
        return None;
    }
    CACHE.with_borrow_mut(|cache| {
        let place = cache.table.find(cache.hasher.hash_one(name), name)?;
        if cache.table.value(place).since_ms.saturating_add(keep_ms) <= net::timer::now_ms() {
            cache.table.remove(place);
            return None;
        }
        cache.table.touch(place);
        cache.table.value(place).keys.clone()
    })
}

/// Keeps keys for the next requests.
pub(super) fn keep(name: &[u8], keys: &Rc<Keys>, keep_ms: u64) {
    if keep_ms == 0 {
        return;
    }
    CACHE.with_borrow_mut(|cache| {
        let hash = cache.hasher.hash_one(name);
        if let Some(place) = cache.table.find(hash, name) {
            cache.table.remove(place);
        }
        if cache.table.len() >= MOST
            && let Some(oldest) = cache.table.oldest()
        {
            cache.table.remove(oldest);
        }
        let entry = Entry { keys: Some(Rc::clone(keys)), since_ms: net::timer::now_ms() };
        cache.table.insert(hash, name, entry);
    });
}
