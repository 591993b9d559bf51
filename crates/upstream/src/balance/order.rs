//! Who is next among many: what round robin, `least_conn` and `least_time` find by looking at every peer, kept in order.
//!
//! Peers of one weight and one load gain alike in each round, so a round is counted once for all of them and their
//! order stays. The few of which that is not true, because failures or a slow start have lowered their weight, are
//! looked at one by one. The picks are those of the plain loops, to which smaller groups keep.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

use super::{Balancer, LeastTime, least_conn, least_time, round_robin};
use crate::eligible::{Asks, Field, Gate, Rules};
use crate::group::Group;
use crate::now::Now;
use crate::peer::Peer;

/// Peers from which on an order is kept.
const MANY: usize = 64;
/// Peers for each different weight without which an order is not worth its upkeep.
const ALIKE: usize = 8;
/// What all weights may add up to, and what rounds may add to a standing before it is written down anew.
const FAR: i64 = 1 << 58;

/// What order a group keeps its primaries in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    by: By,
    /// Whether releases change the order.
    pub hears: bool,
}

/// What peers are ordered by before their standings.
#[derive(Clone, Copy, Debug)]
enum By {
    Turns,
    Conns,
    Time(LeastTime),
}

impl Kept {
    /// The order that is worth keeping for these primaries.
    pub fn of(balancer: &Balancer, primaries: &[Peer]) -> Option<Self> {
        (primaries.len() >= MANY).then(|| Self::of_any(balancer, primaries)).flatten()
    }

    /// As [`of`](Self::of), for however few.
    pub fn of_any(balancer: &Balancer, primaries: &[Peer]) -> Option<Self> {
        let by = match balancer {
            Balancer::RoundRobin => By::Turns,
            Balancer::LeastConn => By::Conns,
            Balancer::LeastTime(how) => By::Time(*how),
            _ => return None,
        };
        let weights: BTreeSet<u32> = primaries.iter().map(|peer| peer.weight).collect();
        let sum: i64 = primaries.iter().map(|peer| i64::from(peer.weight)).sum();
        let is_worth_it = weights.len() * ALIKE <= primaries.len().max(ALIKE * 4) && sum < FAR >> 10;
        let is_limited = primaries.iter().any(|peer| peer.max_conns > 0);
        is_worth_it.then_some(Self { by, hears: is_limited || !matches!(by, By::Turns) })
    }
}

/// What is decided under the lock of a group.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    order: Option<Order>,
}

impl Turn {
    /// The order of the primaries of that snapshot, where it keeps one.
    #[inline]
    pub fn order_of(&mut self, group: &Group, now: Now) -> Option<&mut Order> {
        if self.order.as_ref().is_some_and(|order| !Arc::ptr_eq(&order.peers, group.all())) {
            self.settle();
        }
        if self.order.is_none()
            && let Some(kept) = group.kept()
        {
            group.hear(kept);
            self.order = Some(Order::new(group, kept.by, now));
        }
        self.order.as_mut()
    }

    /// Finds the place of a peer of which something has changed, whatever snapshot it was seen in.
    #[inline]
    pub fn changed(&mut self, peer: &Peer, now: Now) {
        if let Some(order) = &mut self.order {
            order.changed(peer, now);
        }
    }

    /// Writes the standings back to the peers and keeps no order, until it is asked for again.
    pub fn settle(&mut self) {
        if let Some(order) = self.order.take() {
            order.settle();
        }
    }
}

/// The primaries of one snapshot in order.
#[derive(Debug)]
pub(crate) struct Order {
    peers: Arc<[Peer]>,
    by: By,
    rules: Rules,
    scale: u32,
    /// Where each primary is.
    seats: Box<[Seat]>,
    /// Those that gain their whole weight in each round, by weight.
    classes: Box<[Class]>,
    /// Those that gain less.
    odd: BTreeSet<u32>,
    /// When who is to be looked at again though nothing happens to it, milliseconds.
    dues: BinaryHeap<Reverse<(u64, u32)>>,
}

#[derive(Clone, Copy, Debug)]
struct Seat {
    class: usize,
    stand: Stand,
    /// The first of its dues.
    due_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    /// It takes no requests.
    Out,
    Odd,
    Ranked {
        load: u64,
        base: i64,
    },
}

#[derive(Debug)]
struct Class {
    /// The weight in units of the group's scale: what each gains in a round.
    share: u64,
    levels: BTreeMap<u64, Level>,
}

/// Peers of one weight and one load.
#[derive(Debug, Default)]
struct Level {
    /// Rounds that all have taken part in.
    rounds: i64,
    /// Standing less what the rounds have added, and place: who is next comes first.
    ranks: BTreeSet<(Reverse<i64>, u32)>,
}

/// What a round has found.
#[derive(Debug, Default)]
struct Round {
    best: Option<(i64, u32)>,
    total: i64,
}

/// The least load for its weight that was seen.
#[derive(Clone, Copy, Debug)]
struct Least {
    load: u64,
    weight: u64,
    /// How many have it, and one of them.
    peers: usize,
    place: u32,
}

impl Order {
    fn new(group: &Group, by: By, now: Now) -> Self {
        let (_, primaries) = group.set(crate::Role::Primary);
        let weights: BTreeSet<u32> = primaries.iter().map(|peer| peer.weight).collect();
        let weights: Box<[u32]> = weights.into_iter().collect();
        let seat = |peer: &Peer| Seat {
            class: weights.partition_point(|weight| *weight < peer.weight),
            stand: Stand::Out,
            due_ms: u64::MAX,
        };
        let share = |weight: &u32| u64::from(*weight) * u64::from(group.scale());
        let mut order = Self {
            peers: Arc::clone(group.all()),
            by,
            rules: group.rules(),
            scale: group.scale(),
            seats: primaries.iter().map(seat).collect(),
            classes: weights.iter().map(|weight| Class::new(share(weight))).collect(),
            odd: BTreeSet::new(),
            dues: BinaryHeap::new(),
        };
        for (place, peer) in (0u32..).zip(primaries) {
            peer.state.seat.store(u64::from(place));
            order.sit(place, now);
        }
        order
    }

    /// The peer whose turn it is. It has no place until its caller tells that it has [changed](Turn::changed).
    pub fn pick(&mut self, field: &Field<'_>, session: Option<usize>) -> Option<usize> {
        self.wake(field.now);
        let tried = field.tried.places().filter(|place| *place < self.seats.len());
        let tried: Vec<u32> = tried.filter_map(|place| u32::try_from(place).ok()).collect();
        for place in &tried {
            self.rise(*place);
        }
        let picked = match (self.by, session) {
            (By::Turns, _) => self.next_in_turn(field, session),
            (_, Some(_)) => session,
            (_, None) => self.least_busy(field.now),
        };
        for place in tried {
            self.sit(place, field.now);
        }
        picked
    }

    /// As [`round_robin::pick`].
    fn next_in_turn(&mut self, field: &Field<'_>, session: Option<usize>) -> Option<usize> {
        if let Some(index) = session {
            let standing = self.standing(index)?;
            if round_robin::has_paid_enough(field, field.peers.get(index)?, standing) {
                return session;
            }
        }
        let round = self.advance(field.now, None);
        let place = match session {
            Some(index) => u32::try_from(index).ok()?,
            None => round.best?.1,
        };
        self.charge(place, round.total, field.now)
    }

    /// As [`least_conn::pick_least`].
    fn least_busy(&mut self, now: Now) -> Option<usize> {
        if let By::Time(_) = self.by {
            self.odd_peers().for_each(|(_, peer)| least_time::watch(peer, now));
        }
        let least = self.least(now)?;
        if least.peers == 1 {
            self.rise(least.place);
            return Some(least.place as usize);
        }
        let round = self.advance(now, Some(least));
        self.charge(round.best?.1, round.total, now)
    }

    fn least(&self, now: Now) -> Option<Least> {
        let mut least: Option<Least> = None;
        for class in &self.classes {
            if let Some((load, level)) = class.levels.first_key_value()
                && let Some((_, place)) = level.ranks.first()
            {
                let peers = level.ranks.len();
                Least::offer(&mut least, Least { load: *load, weight: class.share, peers, place: *place });
            }
        }
        for (place, peer) in self.odd_peers() {
            let weight = peer.weight_now(self.scale, now).max(1);
            Least::offer(&mut least, Least { load: self.load(peer, now), weight, peers: 1, place });
        }
        least
    }

    /// Lets all gain, or those that are as little busy as `among`.
    fn advance(&mut self, now: Now, among: Option<Least>) -> Round {
        let mut round = Round::default();
        let takes_part =
            |load, weight| among.is_none_or(|least| least.compare(load, weight) == Ordering::Equal);
        for class in &mut self.classes {
            let share = i64::try_from(class.share).unwrap_or(i64::MAX);
            let Some(mut entry) = class.levels.first_entry() else { continue };
            if !takes_part(*entry.key(), class.share) {
                continue;
            }
            let level = entry.get_mut();
            level.rounds += 1;
            round.total += share * i64::try_from(level.ranks.len()).unwrap_or(i64::MAX);
            if let Some((Reverse(base), place)) = level.ranks.first() {
                round.offer(base + level.rounds * share, *place);
            }
        }
        for (place, peer) in self.odd_peers() {
            if takes_part(self.load(peer, now), peer.weight_now(self.scale, now).max(1)) {
                let (standing, added) = peer.advance(self.scale, now);
                round.total += added;
                round.offer(standing, place);
            }
        }
        round
    }

    /// Has the picked one pay for the round.
    fn charge(&mut self, place: u32, total: i64, now: Now) -> Option<usize> {
        self.rise(place);
        self.peers.get(place as usize)?.pay(total);
        let steady: Vec<u32> = self
            .odd_peers()
            .filter(|(_, peer)| peer.is_steady(self.scale, now))
            .map(|(place, _)| place)
            .collect();
        for place in steady {
            self.sit(place, now);
        }
        let has_gone_far = |class: &Class| {
            let share = i64::try_from(class.share).unwrap_or(i64::MAX);
            class.levels.values().next().is_some_and(|level| level.rounds.saturating_mul(share) > FAR)
        };
        if self.classes.iter().any(has_gone_far) {
            self.renew(now);
        }
        Some(place as usize)
    }

    /// Writes all standings down, so that the rounds count from nothing again.
    fn renew(&mut self, now: Now) {
        let places = 0..u32::try_from(self.seats.len()).unwrap_or(u32::MAX);
        places.clone().for_each(|place| self.rise(place));
        places.for_each(|place| self.sit(place, now));
    }

    /// Looks again at those whose time has come.
    fn wake(&mut self, now: Now) {
        while let Some(Reverse((due_ms, place))) = self.dues.peek().copied()
            && due_ms <= now.ms()
        {
            self.dues.pop();
            if let Some(seat) = self.seats.get_mut(place as usize) {
                seat.due_ms = u64::MAX;
            }
            self.sit(place, now);
        }
    }

    fn changed(&mut self, peer: &Peer, now: Now) {
        let Ok(place) = u32::try_from(peer.state.seat.load()) else { return };
        if self.peers.get(place as usize).is_some_and(|known| Arc::ptr_eq(&known.state, &peer.state)) {
            self.sit(place, now);
        }
    }

    /// Takes the place that a peer has by what is true of it now.
    fn sit(&mut self, place: u32, now: Now) {
        let Some((peer, seat)) = self.peers.get(place as usize).zip(self.seats.get(place as usize).copied())
        else {
            return;
        };
        let (load, until_ms) = match Gate::of(peer, self.rules, Asks::Balancer, now) {
            Gate::Shut(until_ms) => {
                self.rise(place);
                self.look_at(place, until_ms);
                return;
            }
            Gate::Open => match self.steady_load(peer, now) {
                Some(steady) => steady,
                None if seat.stand == Stand::Odd => return,
                None => {
                    self.rise(place);
                    self.stand(place, Stand::Odd);
                    self.odd.insert(place);
                    return;
                }
            },
        };
        if !matches!(seat.stand, Stand::Ranked { load: before, .. } if before == load) {
            self.rise(place);
            self.rank(place, load);
        }
        self.look_at(place, until_ms);
    }

    /// The load of a peer that gains its whole weight in each round, and until when that holds.
    fn steady_load(&self, peer: &Peer, now: Now) -> Option<(u64, u64)> {
        if !peer.is_steady(self.scale, now) {
            return None;
        }
        let until_ms = match self.by {
            By::Time(how) => least_time::steady_until_ms(how, peer, now)?,
            By::Turns | By::Conns => u64::MAX,
        };
        Some((self.load(peer, now), until_ms))
    }

    fn rank(&mut self, place: u32, load: u64) {
        let Some((peer, seat)) = self.peers.get(place as usize).zip(self.seats.get_mut(place as usize))
        else {
            return;
        };
        let Some(class) = self.classes.get_mut(seat.class) else { return };
        let level = class.levels.entry(load).or_default();
        let share = i64::try_from(class.share).unwrap_or(i64::MAX);
        let base = peer.state.current_weight.load() - level.rounds * share;
        level.ranks.insert((Reverse(base), place));
        seat.stand = Stand::Ranked { load, base };
    }

    /// Leaves its place, with its standing written down.
    fn rise(&mut self, place: u32) {
        let Some(seat) = self.seats.get(place as usize).copied() else { return };
        self.stand(place, Stand::Out);
        match seat.stand {
            Stand::Out => {}
            Stand::Odd => {
                self.odd.remove(&place);
            }
            Stand::Ranked { load, base } => {
                let Some(class) = self.classes.get_mut(seat.class) else { return };
                let Some(level) = class.levels.get_mut(&load) else { return };
                level.ranks.remove(&(Reverse(base), place));
                if let Some(peer) = self.peers.get(place as usize) {
                    peer.state.current_weight.store(level.standing(base, class.share));
                }
                if level.ranks.is_empty() {
                    class.levels.remove(&load);
                }
            }
        }
    }

    fn stand(&mut self, place: u32, stand: Stand) {
        if let Some(seat) = self.seats.get_mut(place as usize) {
            seat.stand = stand;
        }
    }

    fn look_at(&mut self, place: u32, until_ms: u64) {
        if let Some(seat) = self.seats.get_mut(place as usize)
            && until_ms < seat.due_ms
        {
            seat.due_ms = until_ms;
            self.dues.push(Reverse((until_ms, place)));
        }
    }

    fn standing(&self, index: usize) -> Option<i64> {
        let seat = self.seats.get(index)?;
        match seat.stand {
            Stand::Ranked { load, base } => {
                let class = self.classes.get(seat.class)?;
                Some(class.levels.get(&load)?.standing(base, class.share))
            }
            Stand::Out | Stand::Odd => Some(self.peers.get(index)?.state.current_weight.load()),
        }
    }

    fn odd_peers(&self) -> impl Iterator<Item = (u32, &Peer)> {
        self.odd.iter().filter_map(|place| Some((*place, self.peers.get(*place as usize)?)))
    }

    fn load(&self, peer: &Peer, now: Now) -> u64 {
        match self.by {
            By::Turns => 0,
            By::Conns => peer.conns(),
            By::Time(how) => least_time::estimate_ms(how, peer, now),
        }
    }

    fn settle(&self) {
        for class in &self.classes {
            for level in class.levels.values() {
                for (Reverse(base), place) in &level.ranks {
                    if let Some(peer) = self.peers.get(*place as usize) {
                        peer.state.current_weight.store(level.standing(*base, class.share));
                    }
                }
            }
        }
    }
}

impl Class {
    fn new(share: u64) -> Self {
        Self { share, levels: BTreeMap::new() }
    }
}

impl Level {
    fn standing(&self, base: i64, share: u64) -> i64 {
        base + self.rounds * i64::try_from(share).unwrap_or(i64::MAX)
    }
}

impl Round {
    /// The highest standing wins, and of equals the first.
    fn offer(&mut self, standing: i64, place: u32) {
        let is_better = |(highest, first)| standing > highest || (standing == highest && place < first);
        if self.best.is_none_or(is_better) {
            self.best = Some((standing, place));
        }
    }
}

impl Least {
    fn compare(self, load: u64, weight: u64) -> Ordering {
        least_conn::compare((load, weight), (self.load, self.weight))
    }

    fn offer(least: &mut Option<Self>, other: Self) {
        match least.map(|least| least.compare(other.load, other.weight)) {
            None | Some(Ordering::Less) => *least = Some(other),
            Some(Ordering::Equal) => {
                if let Some(least) = least {
                    least.peers += other.peers;
                }
            }
            Some(Ordering::Greater) => {}
        }
    }
}

#[cfg(test)]
mod tests;
