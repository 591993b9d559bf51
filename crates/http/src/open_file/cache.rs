//! `open_file_cache`: descriptors, facts about files, and errors, each thread for itself.
//!
//! An entry is evicted when it is the least recently used one of a full cache or was not used for `inactive`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use base::lru::{Lru, Place};
use os::file::FileInfo;

use super::{Links, OpenError, Opened, Want, info_now, open_now};

/// Inactive entries that one use of the cache removes at most, as in nginx.
const EXPIRED_AT_ONCE: usize = 2;

/// A cache of the configuration; what it holds lies with each thread that uses it.
#[derive(Debug)]
pub struct OpenFileCache {
    id: u64,
    max: usize,
    inactive_ms: u64,
    alive: Arc<()>,
}

/// The directives that say how one location uses the cache.
pub(super) struct Rules {
    pub links: Links,
    pub valid_ms: u64,
    pub min_uses: u32,
    pub keeps_errors: bool,
}

thread_local! {
    static STORES: RefCell<HashMap<u64, (Weak<()>, Store)>> = RefCell::default();
}

impl OpenFileCache {
    /// A cache of at most `max` entries, each of which goes when it was not used for `inactive_sec` seconds.
    #[must_use]
    pub fn new(max: usize, inactive_sec: u64) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            max,
            inactive_ms: inactive_sec.saturating_mul(1000),
            alive: Arc::new(()),
        }
    }

    pub(super) fn open(&self, path: &[u8], want: Want, rules: &Rules) -> Result<Opened, OpenError> {
        STORES.with(|stores| {
            let mut stores = stores.borrow_mut();
            if !stores.contains_key(&self.id) {
                // Configurations that are gone took their caches with them.
                stores.retain(|_, (alive, _)| alive.strong_count() > 0);
            }
            let (_, store) = stores
                .entry(self.id)
                .or_insert_with(|| (Arc::downgrade(&self.alive), Store::new(self.max, self.inactive_ms)));
            store.open(path, want, rules, net::timer::now_ms())
        })
    }
}

/// What is known of a path.
#[derive(Default)]
enum Found {
    /// A file that is kept open.
    File(Arc<File>, FileInfo),
    /// A file that was not used often enough to be kept open.
    #[default]
    Rare,
    Dir(FileInfo),
    Failed(OpenError),
}

#[derive(Default)]
struct Entry {
    found: Found,
    links: Links,
    uses: u32,
    checked_ms: u64,
    used_ms: u64,
}

/// The entries of one thread.
struct Store {
    max: usize,
    inactive_ms: u64,
    entries: Lru<Entry>,
    hashing: RandomState,
}

impl Store {
    fn new(max: usize, inactive_ms: u64) -> Self {
        Self { max, inactive_ms, entries: Lru::default(), hashing: RandomState::new() }
    }

    fn open(&mut self, path: &[u8], want: Want, rules: &Rules, now_ms: u64) -> Result<Opened, OpenError> {
        let hash = self.hashing.hash_one(path);
        let result = match self.entries.find(hash, path) {
            Some(at) => self.reopen(at, path, want, rules, now_ms),
            None => self.open_new(hash, path, want, rules, now_ms),
        };
        self.expire(now_ms, EXPIRED_AT_ONCE);
        result
    }

    fn open_new(
        &mut self,
        hash: u64,
        path: &[u8],
        want: Want,
        rules: &Rules,
        now_ms: u64,
    ) -> Result<Opened, OpenError> {
        let result = open_fresh(path, want, rules.links);
        if result.is_err() && !rules.keeps_errors {
            return result;
        }
        if self.entries.len() >= self.max
            && let Some(oldest) = self.entries.oldest()
        {
            self.entries.remove(oldest);
        }
        let entry = Entry {
            found: found(&result, 1, rules),
            links: rules.links,
            uses: 1,
            checked_ms: now_ms,
            used_ms: now_ms,
        };
        self.entries.insert(hash, path, entry);
        result
    }

    fn reopen(
        &mut self,
        at: Place,
        path: &[u8],
        want: Want,
        rules: &Rules,
        now_ms: u64,
    ) -> Result<Opened, OpenError> {
        self.entries.touch(at);
        let entry = self.entries.value_mut(at);
        entry.uses = entry.uses.saturating_add(1);
        entry.used_ms = now_ms;
        let is_valid = now_ms.saturating_sub(entry.checked_ms) < rules.valid_ms && entry.links == rules.links;
        let result = match &entry.found {
            Found::File(file, info) if is_valid => {
                return Ok(Opened { file: Some(Arc::clone(file)), info: *info });
            }
            Found::Dir(info) if is_valid => return Ok(Opened { file: None, info: *info }),
            Found::Failed(error) if is_valid => return Err(*error),
            Found::File(file, known) => match info_now(path, rules.links) {
                Ok(info) if (info.inode, info.dev) == (known.inode, known.dev) => {
                    Ok(Opened { file: Some(Arc::clone(file)), info })
                }
                Ok(_) => open_now(path, rules.links),
                Err(error) => Err(error),
            },
            Found::Dir(_) => open_fresh(path, Want::Dir, rules.links),
            Found::Rare | Found::Failed(_) => open_fresh(path, want, rules.links),
        };
        if result.is_err() && !rules.keeps_errors {
            self.entries.remove(at);
            return result;
        }
        entry.found = found(&result, entry.uses, rules);
        entry.links = rules.links;
        entry.checked_ms = now_ms;
        result
    }

    /// Removes up to `count` entries that were not used for too long.
    fn expire(&mut self, now_ms: u64, count: usize) {
        for _ in 0..count {
            let Some(oldest) = self.entries.oldest() else { return };
            if now_ms.saturating_sub(self.entries.value(oldest).used_ms) <= self.inactive_ms {
                return;
            }
            self.entries.remove(oldest);
        }
    }
}

/// A cache opens also what is only asked about, but for directories.
fn open_fresh(path: &[u8], want: Want, links: Links) -> Result<Opened, OpenError> {
    if want == Want::Dir {
        let info = info_now(path, links)?;
        if info.is_dir() {
            return Ok(Opened { file: None, info });
        }
    }
    open_now(path, links)
}

fn found(result: &Result<Opened, OpenError>, uses: u32, rules: &Rules) -> Found {
    match result {
        Ok(Opened { file: Some(file), info }) if uses >= rules.min_uses => {
            Found::File(Arc::clone(file), *info)
        }
        Ok(Opened { file: Some(_), .. }) => Found::Rare,
        Ok(Opened { file: None, info }) => Found::Dir(*info),
        Err(error) => Found::Failed(*error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scratch(std::path::PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("tidegate-cache-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&dir);
            std::fs::create_dir_all(&dir).expect("dir");
            Self(dir)
        }

        fn path(&self, name: &str) -> Vec<u8> {
            self.0.join(name).into_os_string().into_encoded_bytes()
        }

        fn write(&self, name: &str, text: &str) {
            // A rename gives the name to another file, as editors and deployments do.
            std::fs::write(self.0.join("new"), text).expect("write");
            std::fs::rename(self.0.join("new"), self.0.join(name)).expect("rename");
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn rules(min_uses: u32, keeps_errors: bool) -> Rules {
        Rules { links: Links::default(), valid_ms: 100, min_uses, keeps_errors }
    }

    fn size(result: Result<Opened, OpenError>) -> Option<u64> {
        result.ok().map(|opened| opened.info.size)
    }

    #[test]
    fn files_are_looked_at_again_when_they_are_no_longer_valid() {
        let dir = Scratch::new("valid");
        let (path, rules) = (dir.path("a"), rules(1, false));
        let mut store = Store::new(10, 1000);
        dir.write("a", "1");
        let mut look = |now| size(store.open(&path, Want::File, &rules, now));
        assert_eq!(look(0), Some(1));
        dir.write("a", "12");
        assert_eq!(look(99), Some(1));
        assert_eq!(look(100), Some(2));
        std::fs::remove_file(dir.0.join("a")).expect("remove");
        assert_eq!(look(199), Some(2));
        assert_eq!(look(200), None);
        dir.write("a", "123");
        assert_eq!(look(201), Some(3));
    }

    #[test]
    fn a_rarely_used_file_is_not_kept_open() {
        let dir = Scratch::new("uses");
        let (path, rules) = (dir.path("a"), rules(2, false));
        let mut store = Store::new(10, 1000);
        dir.write("a", "1");
        let mut look = |now| size(store.open(&path, Want::Info, &rules, now));
        assert_eq!(look(0), Some(1));
        dir.write("a", "12");
        assert_eq!(look(1), Some(2));
        dir.write("a", "123");
        assert_eq!(look(2), Some(2));
    }

    #[test]
    fn errors_are_kept_on_request_only() {
        let dir = Scratch::new("errors");
        let path = dir.path("a");
        for keeps_errors in [false, true] {
            let mut store = Store::new(10, 1000);
            let rules = rules(1, keeps_errors);
            assert_eq!(size(store.open(&path, Want::File, &rules, 0)), None);
            dir.write("a", "1");
            let seen = size(store.open(&path, Want::File, &rules, 1));
            assert_eq!(seen, (!keeps_errors).then_some(1));
            assert_eq!(size(store.open(&path, Want::File, &rules, 200)), Some(1));
            std::fs::remove_file(dir.0.join("a")).expect("remove");
        }
    }

    #[test]
    fn the_least_recently_used_and_the_inactive_go() {
        let dir = Scratch::new("lru");
        let rules = rules(1, false);
        let mut store = Store::new(2, 1000);
        for name in ["a", "b", "c"] {
            dir.write(name, name);
        }
        let mut look = |name: &str, now| {
            let _ = store.open(&dir.path(name), Want::File, &rules, now);
            let is_kept = |name: &&str| {
                let path = dir.path(name);
                store.entries.find(store.hashing.hash_one(&*path), &path).is_some()
            };
            [".", "a", "b", "c"].iter().filter(|name| is_kept(name)).copied().collect::<String>()
        };
        assert_eq!(look("a", 0), "a");
        assert_eq!(look("b", 1), "ab");
        assert_eq!(look("a", 2), "ab");
        assert_eq!(look("c", 3), "ac");
        assert_eq!(look("c", 1002), "ac");
        assert_eq!(look("c", 1003), "c");
        assert_eq!(look(".", 1004), ".c");
    }
}
