//! `ssl_ocsp_cache`: what responders have said of clients' certificates, for all threads and over reloads.
//!
//! As many answers fit as fit into nginx's zone of the same size; then the one that came first makes way.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use base::lru::Lru;
use conf::zones::ZoneData;
use net::tls::ocsp::{Answer, CertId, CertStatus};

/// Bytes of an entry in nginx, key and all.
const ENTRY: u64 = 148;
/// Seconds for which an answer is kept that names no end.
const UNTIL_NEWER: i64 = 3600;

#[derive(Default)]
struct Table {
    hasher: RandomState,
    /// Statuses, and until when they hold, in seconds since 1970.
    entries: Lru<Option<(CertStatus, i64)>>,
}

/// The cache of one zone.
pub struct OcspCache {
    most: usize,
    table: OnceLock<Arc<Mutex<Table>>>,
}

impl OcspCache {
    /// The cache of a zone of `size` bytes.
    #[must_use]
    pub fn new(size: u64) -> Self {
        let most = base::limit::entries_of_zone(size, ENTRY);
        Self { most: usize::try_from(most).unwrap_or(usize::MAX).max(1), table: OnceLock::new() }
    }

    fn table(&self) -> &Arc<Mutex<Table>> {
        self.table.get_or_init(Arc::default)
    }

    /// What is known of a certificate at a time (`ngx_ssl_ocsp_cache_lookup`).
    pub(super) fn find(&self, id: &CertId, now: i64) -> Option<CertStatus> {
        let mut table = self.table().lock().unwrap_or_else(PoisonError::into_inner);
        let place = table.entries.find(table.hasher.hash_one(id.0), &id.0)?;
        match *table.entries.value(place) {
            Some((status, valid_until)) if valid_until > now => Some(status),
            _ => {
                table.entries.remove(place);
                None
            }
        }
    }

    /// Keeps an answer as long as it holds (`ngx_ssl_ocsp_cache_store`).
    pub(super) fn store(&self, id: &CertId, answer: Answer, now: i64) {
        let valid_until = answer.valid_until.unwrap_or(now + UNTIL_NEWER);
        if valid_until < now {
            return;
        }
        let mut table = self.table().lock().unwrap_or_else(PoisonError::into_inner);
        let hash = table.hasher.hash_one(id.0);
        // Two connections may have asked at the same time.
        if let Some(known) = table.entries.find(hash, &id.0) {
            table.entries.remove(known);
        }
        while table.entries.len() >= self.most
            && let Some(oldest) = table.entries.oldest()
        {
            table.entries.remove(oldest);
        }
        table.entries.insert(hash, &id.0, Some((answer.status, valid_until)));
    }
}

impl ZoneData for OcspCache {
    fn adopt(&self, _: &str, earlier: &Self) -> Result<(), String> {
        let _ = self.table.set(Arc::clone(earlier.table()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: CertStatus = CertStatus::Good;

    fn id(number: u32) -> CertId {
        let mut id = CertId([7; 60]);
        id.0[40..44].copy_from_slice(&number.to_be_bytes());
        id
    }

    #[test]
    fn answers_hold_as_long_as_they_say() {
        let check = |valid_until: Option<i64>, asked_at: i64, expected: Option<CertStatus>| {
            let cache = OcspCache::new(32 << 10);
            cache.store(&id(1), Answer { status: CertStatus::Revoked, valid_until }, 1000);
            assert_eq!(cache.find(&id(1), asked_at), expected, "{valid_until:?} {asked_at}");
            assert_eq!(cache.find(&id(2), asked_at), None);
        };
        check(Some(1100), 1099, Some(CertStatus::Revoked));
        check(Some(1100), 1100, None);
        check(Some(999), 998, None);
        check(None, 4599, Some(CertStatus::Revoked));
        check(None, 4600, None);
    }

    #[test]
    fn what_came_first_makes_way() {
        let cache = OcspCache::new(32 << 10);
        assert_eq!(cache.most, 96);
        let answer = |status| Answer { status, valid_until: Some(i64::MAX) };
        for number in 0..96 {
            cache.store(&id(number), answer(GOOD), 0);
        }
        // Being asked for makes nothing younger, and the same key takes no second place.
        assert_eq!(cache.find(&id(0), 0), Some(GOOD));
        cache.store(&id(95), answer(CertStatus::Unknown), 0);
        assert_eq!(cache.find(&id(0), 0), Some(GOOD));
        cache.store(&id(96), answer(GOOD), 0);
        assert_eq!(cache.find(&id(0), 0), None);
        assert_eq!(cache.find(&id(1), 0), Some(GOOD));
        assert_eq!(cache.find(&id(95), 0), Some(CertStatus::Unknown));
        assert_eq!(cache.table().lock().map(|table| table.entries.len()).ok(), Some(96));
    }

    #[test]
    fn a_reload_keeps_what_is_known() {
        let (earlier, later) = (OcspCache::new(32 << 10), OcspCache::new(32 << 10));
        assert!(later.adopt("one", &earlier).is_ok());
        earlier.store(&id(1), Answer { status: GOOD, valid_until: None }, 0);
        assert_eq!(later.find(&id(1), 0), Some(GOOD));
    }
}
