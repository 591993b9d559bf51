//! How a peer is chosen: one file for each method, a function of (eligible peers, key, state).
//!
//! All run under the group's lock. The hashing methods place keys exactly as nginx does, so that the servers of a
//! fleet can be switched one by one.

mod crc32;
pub(crate) mod ewma;
mod hash;
mod ip_hash;
mod ketama;
mod least_conn;
pub(crate) mod least_time;
pub(crate) mod order;
mod random;
mod round_robin;

use std::net::IpAddr;

pub use ketama::Ring;
pub use least_time::{Inflight, LeastTime, Metric};

use crate::eligible::Field;
use crate::peer::Peer;
use crate::server::Accepts;

/// Places that a hashing or random method looks at for one request before it turns to round robin.
const PROBES_LIMIT: u8 = 20;

/// A balancing method.
#[derive(Clone, Debug, Default)]
pub enum Balancer {
    /// Smooth weighted round robin, where no method is named.
    #[default]
    RoundRobin,
    /// `least_conn`.
    LeastConn,
    /// `ip_hash`.
    IpHash,
    /// `hash KEY`.
    Hash,
    /// `hash KEY consistent`; the group fills the ring.
    ConsistentHash(Ring),
    /// `hash KEY consistent bound=`: as before, but no peer has more than this many hundredths of its share.
    BoundedHash(Ring, u32),
    /// `random`.
    Random,
    /// `random two` or `random two least_conn`.
    RandomTwo,
    /// `random two least_time`: the better of two by chance.
    RandomTwoLeastTime(LeastTime),
    /// `ewma`: of two by chance the one with the lesser peak average and load.
    Ewma,
    /// `least_time`.
    LeastTime(LeastTime),
}

/// What a request brings to a hashing method.
#[derive(Clone, Copy, Debug)]
pub enum Key<'a> {
    /// Nothing: the method uses none.
    Nothing,
    /// The client's address for `ip_hash`; `None` for a client on a Unix socket.
    Client(Option<IpAddr>),
    /// The evaluated text of `hash`; where it is empty, round robin decides.
    Text(&'a [u8]),
}

/// How far one request has walked along the places of its hash.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    hash: Option<u64>,
    rehash: u32,
    probes: u8,
}

impl Walk {
    /// Counts a place that could not be used; `false` when it was the last.
    fn may_probe_on(&mut self) -> bool {
        self.probes = self.probes.saturating_add(1);
        self.probes <= PROBES_LIMIT
    }

    fn has_given_up(&self) -> bool {
        self.probes > PROBES_LIMIT
    }
}

impl Balancer {
    /// Whether it goes by how long answers take.
    pub(crate) fn measures(&self) -> bool {
        matches!(self, Self::LeastTime(_) | Self::RandomTwoLeastTime(_) | Self::Ewma)
    }

    /// The method with what it derives from the primary peers.
    pub(crate) fn prepared(self, primaries: &[Peer]) -> Self {
        match self {
            Self::ConsistentHash(_) => Self::ConsistentHash(Ring::new(primaries)),
            Self::BoundedHash(_, bound) => Self::BoundedHash(Ring::new(primaries), bound),
            other => other,
        }
    }

    /// Which parameters the servers behind the method may have.
    #[must_use]
    pub fn accepts(&self) -> Accepts {
        match self {
            Self::RoundRobin | Self::LeastConn | Self::LeastTime(_) | Self::Ewma => Accepts::All,
            _ => Accepts::NoBackup,
        }
    }

    /// Whether the method must know how many attempts the whole group has under way.
    #[inline]
    pub(crate) fn counts_group(&self) -> bool {
        matches!(self, Self::BoundedHash(..))
    }

    /// The method that looks for a backup within the same pick: only `least_conn` and `least_time` go on as they
    /// began, the others have turned to round robin by then.
    pub(crate) fn after_primaries(&self) -> &Self {
        match self {
            Self::LeastConn | Self::LeastTime(_) => self,
            _ => &Self::RoundRobin,
        }
    }

    /// The index of a peer of the set; `session` is the eligible peer that a sticky session asks for.
    pub(crate) fn pick(
        &self,
        field: &Field<'_>,
        session: Option<usize>,
        walk: &mut Walk,
        key: Key<'_>,
    ) -> Option<usize> {
        if !self.has_choice(field, walk, key) {
            return round_robin::pick(field, session);
        }
        if session.is_some() {
            return session;
        }
        match self {
            Self::RoundRobin => None,
            Self::LeastConn => least_conn::pick(field),
            Self::IpHash => ip_hash::pick(field, walk, key),
            Self::Hash => hash::pick(field, walk, key),
            Self::ConsistentHash(ring) => ketama::pick(ring, None, field, walk, key),
            Self::BoundedHash(ring, bound) => ketama::pick(ring, Some(*bound), field, walk, key),
            Self::Random => random::pick(field, walk),
            Self::RandomTwo => random::pick_of_two(field, walk, |peer| peer.conns()),
            Self::RandomTwoLeastTime(how) => {
                random::pick_of_two(field, walk, |peer| least_time::estimate_ms(*how, peer, field.now))
            }
            Self::Ewma => random::pick_of_two(field, walk, |peer| ewma::load(peer, field.now)),
            Self::LeastTime(how) => least_time::pick(*how, field),
        }
    }

    /// Whether the method itself decides, or round robin in its place.
    fn has_choice(&self, field: &Field<'_>, walk: &Walk, key: Key<'_>) -> bool {
        match self {
            Self::RoundRobin => false,
            Self::LeastConn | Self::LeastTime(_) => !field.group.is_single(),
            Self::IpHash | Self::Random | Self::RandomTwo | Self::RandomTwoLeastTime(_) | Self::Ewma => {
                !walk.has_given_up() && field.peers.len() > 1
            }
            Self::Hash => !walk.has_given_up() && field.peers.len() > 1 && key.text().is_some(),
            Self::ConsistentHash(_) | Self::BoundedHash(..) => {
                !walk.has_given_up() && !field.group.is_single() && key.text().is_some()
            }
        }
    }
}

impl<'a> Key<'a> {
    fn text(self) -> Option<&'a [u8]> {
        match self {
            Self::Text(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }
}
