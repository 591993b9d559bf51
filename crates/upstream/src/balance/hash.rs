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

#[cfg(test)]
mod tests {
    use crate::testing::{fail_all, request, requests, sec, shared};
    use crate::{Balancer, Key};

    /// What nginx answers for the keys k0 to k39.
    #[test]
    fn places_are_those_of_nginx() {
        let check = |lines: &[&str], expected: &str| {
            let group = shared(Balancer::Hash, lines);
            let place = |n| request(&group, Key::Text(format!("k{n}").as_bytes()), sec(0));
            assert_eq!((0..40).map(place).collect::<String>(), expected);
        };
        let weighted = ["127.0.0.1:18081 weight=2", "127.0.0.1:18082", "127.0.0.1:18083 weight=3"];
        check(&weighted, "aaaaccacaccacababcccbccccaaccbccccaaacac");
        let down = ["127.0.0.1:18081", "127.0.0.1:18082 down", "127.0.0.1:18083", "127.0.0.1:18084 weight=2"];
        check(&down, "dccacddddccdadddddcdddadcadddddddcdcdadd");
    }

    #[test]
    fn without_a_key_it_is_round_robin() {
        let group = shared(Balancer::Hash, &["10.0.0.1:8081", "10.0.0.1:8082"]);
        assert_eq!(requests(&group, 4, sec(0)), "abab");
        assert_eq!(request(&group, Key::Text(b""), sec(0)), 'a');
    }

    #[test]
    fn every_peer_is_tried_once() {
        let group = shared(Balancer::Hash, &["10.0.0.1:8081", "10.0.0.1:8082", "10.0.0.1:8083"]);
        let mut tried: Vec<char> = fail_all(&group, Key::Text(b"key"), sec(0)).chars().collect();
        tried.sort_unstable();
        assert_eq!(tried, ['a', 'b', 'c']);
    }
}
