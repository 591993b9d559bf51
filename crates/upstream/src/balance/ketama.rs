//! Consistent hashing (`hash KEY consistent`, `ngx_http_upstream_hash_module`).
//!
//! The points of the ring are those of Cache::Memcached::Fast and belong to the server as written, not to its
//! addresses: those take turns by round robin.

use super::{Key, Walk, crc32::Crc32, round_robin};
use crate::eligible::Field;
use crate::peer::Peer;

const POINTS_PER_WEIGHT: u64 = 160;

/// The points of all servers, sorted; empty until a group fills it from its peers.
#[derive(Clone, Debug, Default)]
pub struct Ring {
    points: Box<[Point]>,
}

#[derive(Clone, Copy, Debug)]
struct Point {
    hash: u32,
    /// [`Peer::server_index`].
    server: u32,
}

impl Ring {
    pub(super) fn new(peers: &[Peer]) -> Self {
        let mut points: Vec<Point> = peers.iter().flat_map(points_of).collect();
        points.sort_by_key(|point| point.hash);
        points.dedup_by_key(|point| point.hash);
        Self { points: points.into() }
    }

    /// The first point at or after the hash; one past the last wraps round when it is used.
    fn find(&self, hash: u32) -> u64 {
        self.points.partition_point(|point| point.hash < hash) as u64
    }

    fn server_at(&self, place: u64) -> Option<u32> {
        let place = place.checked_rem(self.points.len() as u64)?;
        self.points.get(usize::try_from(place).ok()?).map(|point| point.server)
    }
}

/// crc32(HOST \0 PORT PREVIOUS), the previous hash as four bytes, little end first.
fn points_of(peer: &Peer) -> impl Iterator<Item = Point> {
    let (host, port) = host_and_port(&peer.server);
    let base = Crc32::new().with(host.as_bytes()).with(b"\0").with(port.as_bytes());
    let (mut previous, server) = (0u32, peer.server_index);
    (0..u64::from(peer.weight) * POINTS_PER_WEIGHT).map(move |_| {
        previous = base.with(&previous.to_le_bytes()).value();
        Point { hash: previous, server }
    })
}

fn host_and_port(server: &str) -> (&str, &str) {
    if let Some((scheme, path)) = server.split_at_checked(5)
        && scheme.eq_ignore_ascii_case("unix:")
    {
        return (path, "");
    }
    match server.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (host, port),
        _ => (server, ""),
    }
}

/// The peer of the key's point, or of the next points.
pub(super) fn pick(ring: &Ring, field: &Field<'_>, walk: &mut Walk, key: Key<'_>) -> Option<usize> {
    let text = key.text()?;
    let mut place = match walk.hash {
        Some(place) => place,
        None => ring.find(Crc32::new().with(text).value()),
    };
    loop {
        let server = ring.server_at(place)?;
        walk.hash = Some(place);
        if let Some(index) = turn_of(server, field) {
            return Some(index);
        }
        place += 1;
        if !walk.may_probe_on() {
            return round_robin::pick(field, None);
        }
    }
}

/// The next address of a server, by round robin among its addresses.
fn turn_of(server: u32, field: &Field<'_>) -> Option<usize> {
    let (mut best, mut total) = (None, 0i64);
    for (index, peer) in field.open().filter(|(_, peer)| peer.server_index == server) {
        let (standing, added) = peer.advance();
        total = total.saturating_add(added);
        if best.is_none_or(|(_, _, highest)| standing > highest) {
            best = Some((index, peer, standing));
        }
    }
    let (index, peer, _) = best?;
    peer.pay(total);
    Some(index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Balancer;
    use crate::testing::{fail_all, request, sec, shared};

    /// What nginx answers for the keys k0 to k39.
    #[test]
    fn places_are_those_of_nginx() {
        let check = |lines: &[&str], expected: &str| {
            let group = shared(Balancer::ConsistentHash(Ring::default()), lines);
            let place = |n| request(&group, Key::Text(format!("k{n}").as_bytes()), sec(0));
            assert_eq!((0..40).map(place).collect::<String>(), expected);
        };
        let weighted = ["127.0.0.1:18081 weight=2", "127.0.0.1:18082", "127.0.0.1:18083 weight=3"];
        check(&weighted, "ccaaaacccccacccacacbabbacccbccccabacabcc");
        let named = ["127.0.0.1:18081", "localhost:18082=127.0.0.1:18082", "127.0.0.1:18083"];
        check(&named, "cbacaacbcacaccbacabaacaacbaaacbcabacbbca");
    }

    #[test]
    fn the_addresses_of_a_server_take_turns() {
        let lines = ["x:80=10.0.0.1:8081,10.0.0.1:8082", "y:80=10.0.0.1:8083"];
        let group = shared(Balancer::ConsistentHash(Ring::default()), &lines);
        let key = (0..)
            .map(|n: u32| n.to_string())
            .find(|key| request(&group, Key::Text(key.as_bytes()), sec(0)) != 'c');
        let key = key.expect("a key of x");
        let turns: String = (0..4).map(|_| request(&group, Key::Text(key.as_bytes()), sec(0))).collect();
        assert_eq!(turns, "baba");
        let tried = fail_all(&group, Key::Text(key.as_bytes()), sec(0));
        assert_eq!(tried, "bac");
    }

    #[test]
    fn server_names_split_as_nginx_does() {
        let check = |server, expected| assert_eq!(host_and_port(server), expected, "{server}");
        check("127.0.0.1:8080", ("127.0.0.1", "8080"));
        check("backend.example.com", ("backend.example.com", ""));
        check("backend:", ("backend", ""));
        check("[::1]:80", ("[::1]", "80"));
        check("[::1]", ("[::1]", ""));
        check("unix:/tmp/a:1", ("/tmp/a:1", ""));
        check("UNIX:/tmp/a", ("/tmp/a", ""));
        check("aéé", ("aéé", ""));
    }
}
