//! Which peers may be tried: the one place that decides it, for every balancer and both sets.
//!
//! A group of one peer has no other to turn to, so there neither failures nor an earlier try keep requests away.

use crate::group::Group;
use crate::now::Now;
use crate::peer::{Admin, Health, Peer};

/// Until something is told of the peer, and not by time alone.
const TOLD: u64 = u64::MAX;

/// What a group adds to the decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// The peer has no other beside it.
    pub is_single: bool,
    /// Errors and slowness shut peers out.
    pub ejects: bool,
}

/// Whether a peer takes requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// It does.
    Open,
    /// It does not, and time alone changes nothing before that moment, milliseconds.
    Shut(u64),
}

impl Gate {
    /// The gate of a peer, for whatever request.
    #[inline]
    pub fn of(peer: &Peer, rules: Rules, asks: Asks, now: Now) -> Self {
        match peer.admin {
            Admin::Up => {}
            Admin::Draining if asks == Asks::Session => {}
            Admin::Draining | Admin::Down => return Self::Shut(TOLD),
        }
        if matches!(peer.state.health(), Health::Unhealthy | Health::Checking) || peer.is_full() {
            return Self::Shut(TOLD);
        }
        if rules.is_single {
            return Self::Open;
        }
        if rules.ejects && peer.is_ejected(now) {
            return Self::Shut(peer.state.window.until_ms.load());
        }
        if peer.is_disabled(now) {
            return Self::Shut(peer.window_ends_ms());
        }
        Self::Open
    }
}

/// Who asks for a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asks {
    /// A balancer, for any peer.
    Balancer,
    /// A sticky session, for its own peer, which may be draining.
    Session,
}

/// The peers of one set, as one attempt sees them. Indexes count within the set.
pub(crate) struct Field<'a> {
    pub group: &'a Group,
    pub peers: &'a [Peer],
    /// Place of the set's first peer in the group.
    pub first: usize,
    pub tried: &'a Tried,
    pub now: Now,
}

impl<'a> Field<'a> {
    /// Whether a balancer may pick the peer at `index`.
    #[inline]
    pub fn eligible(&self, index: usize) -> bool {
        self.peers.get(index).is_some_and(|peer| self.admits(index, peer, Asks::Balancer))
    }

    /// The peers that may be picked, with their indexes, in the order of the configuration.
    #[inline]
    pub fn open(&self) -> impl Iterator<Item = (usize, &'a Peer)> + '_ {
        self.peers.iter().enumerate().filter(|(index, peer)| self.admits(*index, peer, Asks::Balancer))
    }

    /// The share of requests that a peer may have by now, in units of the group's scale.
    #[inline]
    pub fn weight_now(&self, peer: &Peer) -> u64 {
        peer.weight_now(self.group.scale(), self.now)
    }

    /// The peer that a sticky session names by `sid`, if it may be picked
    /// (`ngx_http_upstream_get_rr_peer_by_sid`).
    pub fn of_session(&self, sid: &str) -> Option<usize> {
        let index = self.group.of_sid(self.first, sid)?;
        let peer = self.peers.get(index)?;
        self.admits(index, peer, Asks::Session).then_some(index)
    }

    /// Sum of the configured weights, of peers that may not be tried too; at least 1.
    #[inline]
    pub fn total_weight(&self) -> u64 {
        self.group.weight_ends(self.first).last().copied().unwrap_or(0).max(1)
    }

    /// The peer whose share of the line of all weights holds the point `at`.
    #[inline]
    pub fn at_weight(&self, at: u64) -> usize {
        let place = self.group.weight_ends(self.first).partition_point(|end| *end <= at);
        if place < self.peers.len() { place } else { 0 }
    }

    #[inline]
    fn admits(&self, index: usize, peer: &Peer, asks: Asks) -> bool {
        let rules = self.group.rules();
        Gate::of(peer, rules, asks, self.now) == Gate::Open
            && (rules.is_single || !self.tried.contains(self.first + index))
    }
}

/// The peers that one request has tried, by their place in the group.
#[derive(Debug)]
pub(crate) enum Tried {
    Few(u64),
    /// One at most, of many.
    One(Option<usize>, usize),
    Many(Box<[u64]>),
}

impl Tried {
    pub fn new(peers: usize) -> Self {
        if peers <= 64 { Self::Few(0) } else { Self::One(None, peers) }
    }

    #[inline]
    pub fn contains(&self, place: usize) -> bool {
        let word = match self {
            Self::Few(word) => *word,
            Self::One(one, _) => return *one == Some(place),
            Self::Many(words) => words.get(place / 64).copied().unwrap_or(0),
        };
        word >> (place % 64) & 1 == 1
    }

    #[inline]
    pub fn insert(&mut self, place: usize) {
        if let Self::One(one, peers) = self {
            let Some(before) = one.replace(place) else { return };
            *self = Self::Many(vec![0; peers.div_ceil(64)].into());
            self.insert(before);
        }
        let word = match self {
            Self::Few(word) => Some(word),
            Self::One(..) => None,
            Self::Many(words) => words.get_mut(place / 64),
        };
        if let Some(word) = word {
            *word |= 1 << (place % 64);
        }
    }

    /// The places, from the first to the last.
    pub fn places(&self) -> impl Iterator<Item = usize> + '_ {
        let (one, words) = match self {
            Self::Few(word) => (None, std::slice::from_ref(word)),
            Self::One(one, _) => (*one, &[][..]),
            Self::Many(words) => (None, &words[..]),
        };
        let of_word = |(nth, word): (usize, &u64)| {
            let word = *word;
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| nth * 64 + bit)
        };
        one.into_iter().chain(words.iter().enumerate().filter(|(_, word)| **word > 0).flat_map(of_word))
    }
}
