//! Consistent hashing (`hash KEY consistent`, `ngx_http_upstream_hash_module`).
//!
//! The points of the ring are those of Cache::Memcached::Fast and belong to the server as written, not to its
//! addresses: those take turns by round robin.

use std::sync::atomic::Ordering::Relaxed;

use super::{Key, Walk, crc32::Crc32, round_robin};
use crate::eligible::Field;
use crate::peer::Peer;

const POINTS_PER_WEIGHT: u64 = 160;
/// Points of busy servers that one request passes over.
const MAX_OVERLOADED: u32 = 10_000;

/// The points of all servers, sorted; empty until a group fills it from its peers.
#[derive(Clone, Debug, Default)]
pub struct Ring {
    points: Box<[Point]>,
    /// The peers by their server, so that those of one lie side by side: [`Peer::server_index`], index.
    members: Box<[(u32, u32)]>,
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
        let mut members: Vec<(u32, u32)> =
            (0..).zip(peers).map(|(index, peer): (u32, _)| (peer.server_index, index)).collect();
        members.sort_unstable();
        Self { points: points.into(), members: members.into() }
    }

    /// The indexes of a server's peers.
    fn members(&self, server: u32) -> impl Iterator<Item = usize> + '_ {
        let first = self.members.partition_point(|(other, _)| *other < server);
        let of_server = self.members.get(first..).unwrap_or_default().iter();
        of_server.take_while(move |(other, _)| *other == server).map(|(_, index)| *index as usize)
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

/// The peer of the key's point, or of the next points. With a bound, given in hundredths, a peer that has more than
/// that of its share of all attempts is passed over.
pub(super) fn pick(
    ring: &Ring,
    bound: Option<u32>,
    field: &Field<'_>,
    walk: &mut Walk,
    key: Key<'_>,
) -> Option<usize> {
    let text = key.text()?;
    let mut overloaded = 0;
    let mut place = match walk.hash {
        Some(place) => place,
        None => ring.find(Crc32::new().with(text).value()),
    };
    loop {
        let server = ring.server_at(place)?;
        walk.hash = Some(place);
        match turn_of(ring, server, bound, field) {
            Turn::Peer(index) => return Some(index),
            // What is too busy costs no probe: it will do again in a moment.
            Turn::TooBusy if overloaded < MAX_OVERLOADED => {
                overloaded += 1;
                place += 1;
                continue;
            }
            Turn::TooBusy | Turn::Nobody => {}
        }
        place += 1;
        if !walk.may_probe_on() {
            return round_robin::pick(field, None);
        }
    }
}

/// What a server has to offer.
enum Turn {
    Peer(usize),
    /// All its peers that may be tried have more than their share.
    TooBusy,
    Nobody,
}

/// The next address of a server, by round robin among its addresses.
fn turn_of(ring: &Ring, server: u32, bound: Option<u32>, field: &Field<'_>) -> Turn {
    let (mut best, mut total, mut nobody) = (None, 0i64, Turn::Nobody);
    for index in ring.members(server).filter(|index| field.eligible(*index)) {
        let Some(peer) = field.peers.get(index) else { continue };
        if bound.is_some_and(|bound| exceeds(field, peer, bound)) {
            nobody = Turn::TooBusy;
            continue;
        }
        let (standing, added) = peer.advance(field.group.scale(), field.now);
        total = total.saturating_add(added);
        if best.is_none_or(|(_, _, highest)| standing > highest) {
            best = Some((index, peer, standing));
        }
    }
    let Some((index, peer, _)) = best else { return nobody };
    peer.pay(total);
    Turn::Peer(index)
}

/// Whether one more attempt would be more than `bound` hundredths of the peer's share of all, rounded up
/// (consistent hashing with bounded loads, Mirrokni and others).
fn exceeds(field: &Field<'_>, peer: &Peer, bound: u32) -> bool {
    let all = u128::from(field.group.conns().load(Relaxed)) + 1;
    let allowed = all * u128::from(bound) * u128::from(peer.weight);
    u128::from(peer.conns()) >= allowed.div_ceil(u128::from(field.total_weight()) * 100)
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
