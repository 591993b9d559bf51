//! The client's address decides (`ngx_http_upstream_ip_hash_module`).
//!
//! Of an IPv4 address the first three bytes count: a whole /24 goes to one peer.

use std::net::IpAddr;

use super::{Key, Walk, round_robin};
use crate::eligible::Field;

const SEED: u64 = 89;

/// The peer of the client's address, or the next along its walk.
pub(super) fn pick(field: &Field<'_>, walk: &mut Walk, key: Key<'_>) -> Option<usize> {
    let mut octets = [0u8; 16];
    let octets: &[u8] = match key {
        Key::Client(Some(IpAddr::V4(addr))) => {
            let [a, b, c, _] = addr.octets();
            octets[..3].copy_from_slice(&[a, b, c]);
            &octets[..3]
        }
        Key::Client(Some(IpAddr::V6(addr))) => {
            octets = addr.octets();
            &octets
        }
        // A client without an IP address counts as 0.0.0.
        _ => &octets[..3],
    };
    let mut hash = walk.hash.unwrap_or(SEED);
    loop {
        hash = octets.iter().fold(hash, |hash, octet| (hash * 113 + u64::from(*octet)) % 6271);
        let index = field.at_weight(hash % field.total_weight());
        if field.eligible(index) {
            walk.hash = Some(hash);
            return Some(index);
        }
        if !walk.may_probe_on() {
            return round_robin::pick(field, None);
        }
    }
}
