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

#[cfg(test)]
mod tests {
    use crate::testing::{request, sec, shared};
    use crate::{Balancer, Key};

    /// What nginx answers for forty clients of each family.
    #[test]
    fn places_are_those_of_nginx() {
        let check = |lines: &[&str], v4: &str, v6: &str| {
            let group = shared(Balancer::IpHash, lines);
            let place =
                |addr: String| request(&group, Key::Client(Some(addr.parse().expect("address"))), sec(0));
            let of_v4 = |i: u32| place(format!("10.{i}.{}.{}", i * 37 % 256, i * 11 % 256));
            let of_v6 = |i: u32| place(format!("2001:db8::{i:x}:{:x}", i * 4099 % 65536));
            assert_eq!((0..40).map(of_v4).collect::<String>(), v4);
            assert_eq!((0..40).map(of_v6).collect::<String>(), v6);
        };
        check(
            &["127.0.0.1:18081 weight=2", "127.0.0.1:18082", "127.0.0.1:18083 weight=3"],
            "ccccccccccccccaaaaaaaccccccccccccccaaaaa",
            "acbacaccacbacacbbacbccacbacacbaccbccacba",
        );
        check(
            &["127.0.0.1:18081", "127.0.0.1:18082 down", "127.0.0.1:18083", "127.0.0.1:18084 weight=2"],
            "aaaaaaaddddddddddddddcccccccdaddaaaddddd",
            "dcdcacadadddadcddddcdcacadadddaddcdddadc",
        );
    }

    #[test]
    fn a_client_without_an_address_stays_at_one_peer() {
        let group = shared(Balancer::IpHash, &["10.0.0.1:8081", "10.0.0.1:8082"]);
        let first = request(&group, Key::Client(None), sec(0));
        assert_eq!(request(&group, Key::Client(None), sec(0)), first);
    }
}
