//! A key's CRC-32 decides (`hash KEY`, `ngx_http_upstream_hash_module`).
//!
//! As the Perl client Cache::Memcached hashes: a key whose peer is away is hashed again with a counter before it,
//! and the results add up.

use super::{Key, Walk, crc32, round_robin};
use crate::eligible::Field;

/// The peer of the key, or the next along its walk.
pub(super) fn pick(field: &Field<'_>, walk: &mut Walk, key: Key<'_>) -> Option<usize> {
    let text = key.text()?;
    loop {
        let mut crc = crc32::Crc32::new();
        if walk.rehash > 0 {
            crc = crc.with(walk.rehash.to_string().as_bytes());
        }
        let step = crc.with(text).value() >> 16 & 0x7fff;
        // nginx adds up in 32 bits.
        let hash = (walk.hash.unwrap_or(0) + u64::from(step)) & u64::from(u32::MAX);
        walk.hash = Some(hash);
        walk.rehash += 1;
        let index = field.at_weight(hash % field.total_weight());
        if field.eligible(index) {
            return Some(index);
        }
        if !walk.may_probe_on() {
            return round_robin::pick(field, None);
        }
    }
}
