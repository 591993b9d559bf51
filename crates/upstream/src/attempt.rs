//! The attempts of one request at the peers of a group: pick, release, pick the next.
//!
//! Dropping it gives back a peer that is still held, so a request that is cancelled anywhere leaks no connection
//! from the counters.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use crate::balance::ewma;
use crate::balance::least_time::{self, Counting, Spent};
use crate::balance::{Key, Walk};
use crate::eject::Seen;
use crate::eligible::{Field, Tried};
use crate::group::Group;
use crate::now::Now;
use crate::peer::{Peer, PeerId};
use crate::server::Role;

/// No peer of the group may be tried; nginx logs `no live upstreams` and answers 502.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no live upstreams")]
pub struct NoPeer;

/// How an attempt at a peer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The peer answered, or the client went away: nothing is held against the peer.
    Success,
    /// The peer failed: it counts against `max_fails` (`NGX_PEER_FAILED`).
    Failure,
    /// Another peer is asked though this one works: its answer was 403 or 404 (`NGX_PEER_NEXT`).
    Next,
}

/// What the error log must tell, with level `warn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The failures of the peer reached `max_fails`.
    Disabled,
    /// Too many of its answers were errors or late (`eject`).
    Ejected,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disabled => f.write_str("upstream server temporarily disabled"),
            Self::Ejected => f.write_str("upstream server ejected for its errors or latency"),
        }
    }
}

/// One request's way through the peers of a group; holds at most one peer at a time.
#[derive(Debug)]
pub struct Attempt {
    group: Arc<Group>,
    set: Role,
    tried: Tried,
    tries: u32,
    held: Option<Held>,
    session: Option<Box<str>>,
    walk: Walk,
}

/// The peer that is being tried.
#[derive(Clone, Copy, Debug)]
struct Held {
    id: PeerId,
    since: Now,
    head_ms: Option<u64>,
    is_error: bool,
    counting: Counting,
}

impl Attempt {
    pub(crate) fn new(group: Arc<Group>) -> Self {
        Self {
            tried: Tried::new(group.size()),
            tries: group.tries(),
            set: Role::Primary,
            held: None,
            session: None,
            walk: Walk::default(),
            group,
        }
    }

    /// An attempt at that peer, whatever state it is in, which counts nowhere: for health checks.
    pub(crate) fn at(group: Arc<Group>, id: PeerId) -> Self {
        let mut attempt = Self::new(group);
        let counting = Counting::Check;
        attempt.held = Some(Held { id, since: Now::from_ms(0), head_ms: None, is_error: false, counting });
        attempt
    }

    /// The group that the peers are picked from.
    #[must_use]
    pub fn group(&self) -> &Arc<Group> {
        &self.group
    }

    /// Attempts that are left; at 0 the request must not be passed on to a next peer.
    #[must_use]
    pub fn tries(&self) -> u32 {
        self.tries
    }

    /// Lowers the attempts to `limit` (`proxy_next_upstream_tries`); 0 is no limit.
    pub fn limit_tries(&mut self, limit: u32) {
        if limit > 0 {
            self.tries = self.tries.min(limit);
        }
    }

    /// Allows one attempt more, when the one that failed was on a reused connection that had gone stale.
    pub fn grant_try(&mut self) {
        self.tries = self.tries.saturating_add(1);
    }

    /// Prefers the peer with that [`sid`](Peer::sid), as long as it may be tried.
    pub fn prefer(&mut self, sid: &str) {
        self.session = Some(sid.into());
    }

    /// The peer that is held.
    #[must_use]
    pub fn peer(&self) -> Option<&Peer> {
        self.group.peer(self.held?.id)
    }

    /// Picks a peer and counts a connection to it; one that is still held is released first, as [`Outcome::Next`].
    ///
    /// # Errors
    /// [`NoPeer`] when neither a primary nor a backup may be tried.
    pub fn pick(&mut self, key: Key<'_>, now: Now) -> Result<PeerId, NoPeer> {
        if self.held.is_some() {
            self.release(Outcome::Next, now);
        }
        let held = match self.alone(now) {
            Some(held) => held,
            None => self.pick_in_turn(key, now)?,
        };
        self.held = Some(held);
        Ok(held.id)
    }

    /// As [`Self::pick`] for the only peer of a group without choice, whatever the key; says whether there is one that may
    /// be tried.
    #[inline]
    pub fn pick_alone(&mut self, now: Now) -> bool {
        if self.held.is_none() {
            self.held = self.alone(now);
            return self.held.is_some();
        }
        false
    }

    /// The one peer of a group without choice and limit: nothing must agree with anything, so no lock is taken.
    #[inline]
    fn alone(&self, now: Now) -> Option<Held> {
        let (first, peers) = self.group.set(Role::Primary);
        let [peer] = peers else { return None };
        let field = Field { group: &self.group, peers, first, tried: &self.tried, now };
        if !self.group.is_single() || peer.max_conns > 0 || !field.eligible(0) {
            return None;
        }
        peer.state.conns.fetch_add(1, Relaxed);
        peer.state.requests.fetch_add(1, Relaxed);
        Some(Held { id: PeerId(0), since: now, head_ms: None, is_error: false, counting: Counting::Alone })
    }

    fn pick_in_turn(&mut self, key: Key<'_>, now: Now) -> Result<Held, NoPeer> {
        let group = &*self.group;
        let mut turn = group.lock();
        let mut balancer = group.balancer();
        loop {
            let (first, peers) = group.set(self.set);
            let field = Field { group, peers, first, tried: &self.tried, now };
            let session = self.session.as_deref().and_then(|sid| field.of_session(sid));
            let index = match turn.order_of(group, now) {
                Some(order) if self.set == Role::Primary => order.pick(&field, session),
                _ => balancer.pick(&field, session, &mut self.walk, key),
            };
            if let Some((index, peer)) = index.and_then(|index| Some((index, peers.get(index)?))) {
                let place = first + index;
                self.tried.insert(place);
                let counting = least_time::begin(balancer, group, peer, now);
                if peer.window_is_over(now) {
                    peer.state.checked_sec.store(now.sec());
                }
                // A release lowers the connections without the lock; only a pick raises the requests.
                peer.state.conns.fetch_add(1, Relaxed);
                if balancer.counts_group() {
                    group.conns().fetch_add(1, Relaxed);
                }
                peer.state.requests.store(peer.state.requests.load(Relaxed) + 1, Relaxed);
                turn.changed(peer, now);
                let id = PeerId(u32::try_from(place).unwrap_or(u32::MAX));
                return Ok(Held { id, since: now, head_ms: None, is_error: false, counting });
            }
            if self.set == Role::Backup || group.set(Role::Backup).1.is_empty() {
                return Err(NoPeer);
            }
            self.set = Role::Backup;
            balancer = balancer.after_primaries();
        }
    }

    /// Tells that a connection for a byte stream stands: a peer that was let try again has passed. `stream` alone
    /// counts that as success (`ngx_stream_upstream_notify_round_robin_peer`).
    pub fn connected(&mut self, now: Now) {
        let Some(peer) = self.peer() else { return };
        if peer.state.fails.load() > 0 {
            let mut turn = self.group.lock();
            peer.state.forgive(peer.max_fails, now);
            turn.changed(peer, now);
        }
    }

    /// Tells that what `least_time` measures is there: the answer's head, or for `stream` the connection or the
    /// first byte.
    pub fn head_seen(&mut self, now: Now) {
        let Some(held) = &mut self.held else { return };
        if !self.group.measures() {
            return;
        }
        let head_ms = now.ms().saturating_sub(held.since.ms());
        held.head_ms = Some(head_ms);
        if let Some(peer) = self.group.peer(held.id) {
            held.counting = least_time::head_seen(&self.group, peer, held.counting, head_ms, now);
        }
    }

    /// Tells that the peer's answer is that of a broken server, which `eject` counts.
    pub fn note_error(&mut self) {
        if let Some(held) = &mut self.held {
            held.is_error = true;
        }
    }

    /// Gives back the peer that is held, if one is; what is returned belongs in the error log.
    pub fn release(&mut self, outcome: Outcome, now: Now) -> Option<Notice> {
        let held = self.held.take()?;
        if held.counting == Counting::Check {
            return None;
        }
        let group = &*self.group;
        let peer = group.peer(held.id)?;
        self.tries = if group.is_single() { 0 } else { self.tries.saturating_sub(1) };
        if group.measures() {
            take_times(group, peer, &held, outcome, now);
        }
        let mut notice = settle(group, peer, outcome, now);
        if group.measures() && counts_out(group, peer, &held, outcome, now) {
            notice = notice.or(Some(Notice::Ejected));
        }
        if group.balancer().counts_group() && held.counting != Counting::Alone {
            group.conns().fetch_sub(1, Relaxed);
        }
        // An order that is made meanwhile either reads the new number or is told of it.
        peer.state.conns.fetch_sub(1, SeqCst);
        if group.hears() {
            group.lock().changed(peer, now);
        }
        notice
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(held) = self.held {
            self.release(Outcome::Next, held.since);
        }
    }
}

/// Takes the times of an attempt for the methods that go by them.
#[inline(never)]
fn take_times(group: &Group, peer: &Peer, held: &Held, outcome: Outcome, now: Now) {
    let spent = Spent { since: held.since, head_ms: held.head_ms, counting: held.counting };
    least_time::end(group, peer, spent, outcome, now);
    ewma::end(group, peer, now.ms().saturating_sub(held.since.ms()), outcome, now);
}

/// Counts an attempt for `eject`; says whether that puts the peer out.
#[inline(never)]
fn counts_out(group: &Group, peer: &Peer, held: &Held, outcome: Outcome, now: Now) -> bool {
    let Some(eject) = group.eject().filter(|_| !group.is_single()) else { return false };
    let mut turn = group.lock();
    let seen = Seen { outcome, is_error: held.is_error, head_ms: held.head_ms };
    let is_out = eject.count(group, peer, seen, now);
    if is_out {
        turn.changed(peer, now);
    }
    is_out
}

/// Counts or clears failures (`ngx_http_upstream_free_round_robin_peer`); the common case takes no lock.
#[inline]
fn settle(group: &Group, peer: &Peer, outcome: Outcome, now: Now) -> Option<Notice> {
    if outcome != Outcome::Failure && peer.state.fails.load() == 0 {
        return None;
    }
    let mut turn = group.lock();
    let mut notice = None;
    if group.is_single() {
        peer.state.fails.store(0);
    } else if outcome == Outcome::Failure {
        notice = peer.fail(now).then_some(Notice::Disabled);
    } else {
        peer.state.forgive(peer.max_fails, now);
    }
    turn.changed(peer, now);
    notice
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{fail_all, group, pick, request, requests, sec, shared};
    use crate::{Admin, Balancer, Health, Ring};

    /// Runs steps such as `0 a+ 1 b! 12 -`: at that second a request gets that peer and succeeds or fails.
    fn timeline(lines: &[&str], steps: &str) {
        let group = shared(Balancer::RoundRobin, lines);
        let mut words = steps.split(' ');
        while let (Some(second), Some(expected)) = (words.next(), words.next()) {
            let now = sec(second.parse().expect("second"));
            let mut attempt = group.attempt();
            let picked = pick(&mut attempt, Key::Nothing, now);
            assert_eq!(Some(picked), expected.chars().next(), "{lines:?} at {second} in {steps}");
            let outcome = if expected.ends_with('!') { Outcome::Failure } else { Outcome::Success };
            attempt.release(outcome, now);
        }
    }

    #[test]
    fn failures_disable_for_fail_timeout() {
        let two = ["10.0.0.1:8081", "10.0.0.1:8082"];
        timeline(&two, "0 a! 0 b+ 1 b+ 10 b+ 11 b+ 11 b+ 11 a+ 11 b+ 11 a+");
        // A failure at its test disables it for as long again.
        timeline(&two, "0 a! 0 b+ 11 b+ 11 b+ 11 a! 12 b+ 21 b+ 22 b+ 22 b+ 22 a+");
        timeline(&["10.0.0.1:8081 fail_timeout=2", "10.0.0.1:8082"], "0 a! 2 b+ 3 b+ 3 b+ 3 a+ 3 b+ 3 a+");
        timeline(&["10.0.0.1:8081 max_fails=0", "10.0.0.1:8082"], "0 a! 0 b+ 0 a! 0 b+ 0 a! 0 b+");
        timeline(&["10.0.0.1:8081 max_fails=2", "10.0.0.1:8082"], "0 a! 0 b+ 0 a! 0 b+ 0 b+ 9 b+");
        // All disabled: no peer, and nothing is forgotten for that.
        timeline(&two, "0 a! 0 b! 0 - 1 - 10 - 11 b+ 11 b+ 11 a+");
        timeline(&["10.0.0.1:8081"], "0 a! 0 a! 0 a!");
    }

    #[test]
    fn while_a_peer_is_tested_others_stay_away() {
        let group = shared(Balancer::RoundRobin, &["10.0.0.1:8081", "10.0.0.1:8082 down"]);
        assert_eq!(fail_all(&group, Key::Nothing, sec(0)), "a");
        let mut test = group.attempt();
        assert_eq!(pick(&mut test, Key::Nothing, sec(11)), 'a');
        assert_eq!(request(&group, Key::Nothing, sec(11)), '-');
        test.release(Outcome::Success, sec(12));
        assert_eq!(requests(&group, 2, sec(12)), "aa");
    }

    #[test]
    fn a_connection_is_success_to_stream() {
        let group = shared(Balancer::RoundRobin, &["10.0.0.1:8081", "10.0.0.1:8082 down"]);
        assert_eq!(fail_all(&group, Key::Nothing, sec(0)), "a");
        let mut test = group.attempt();
        assert_eq!(pick(&mut test, Key::Nothing, sec(11)), 'a');
        test.connected(sec(11));
        assert_eq!(request(&group, Key::Nothing, sec(11)), 'a');
    }

    #[test]
    fn the_log_hears_of_a_disabled_peer() {
        let group = shared(Balancer::RoundRobin, &["10.0.0.1:8081 max_fails=2", "10.0.0.1:8082 down"]);
        let notices: Vec<_> = (0..2)
            .map(|_| {
                let mut attempt = group.attempt();
                attempt.pick(Key::Nothing, sec(0)).expect("peer");
                attempt.release(Outcome::Failure, sec(0))
            })
            .collect();
        assert_eq!(notices, [None, Some(Notice::Disabled)]);
        assert_eq!(Notice::Disabled.to_string(), "upstream server temporarily disabled");
        let alone = shared(Balancer::RoundRobin, &["10.0.0.1:8081"]);
        let mut attempt = alone.attempt();
        attempt.pick(Key::Nothing, sec(0)).expect("peer");
        assert_eq!(attempt.release(Outcome::Failure, sec(0)), None);
    }

    #[test]
    fn requests_go_from_peer_to_peer() {
        let check = |lines: &[&str], expected: &str| {
            assert_eq!(
                fail_all(&shared(Balancer::RoundRobin, lines), Key::Nothing, sec(0)),
                expected,
                "{lines:?}"
            );
        };
        check(&["10.0.0.1:8081", "10.0.0.1:8082", "10.0.0.1:8083"], "abc");
        check(&["10.0.0.1:8081 backup", "10.0.0.1:8082", "10.0.0.1:8083 backup"], "bac");
        check(&["10.0.0.1:8081", "10.0.0.1:8082 down", "10.0.0.1:8083 backup"], "ac");
        check(&["10.0.0.1:8081"], "a");
        check(&["10.0.0.1:8081 down"], "-");
        check(&["10.0.0.1:8081 drain", "10.0.0.1:8082"], "b");
    }

    #[test]
    fn tries_are_counted() {
        let lines = ["10.0.0.1:8081", "10.0.0.1:8082 down", "10.0.0.1:8083", "10.0.0.1:8084 backup"];
        let group = shared(Balancer::RoundRobin, &lines);
        let mut attempt = group.attempt();
        assert_eq!(attempt.tries(), 3);
        attempt.limit_tries(0);
        attempt.limit_tries(2);
        assert_eq!(attempt.tries(), 2);
        attempt.pick(Key::Nothing, sec(0)).expect("peer");
        attempt.release(Outcome::Failure, sec(0));
        attempt.grant_try();
        assert_eq!(attempt.tries(), 2);
        let mut alone = shared(Balancer::RoundRobin, &["10.0.0.1:8081"]).attempt();
        alone.pick(Key::Nothing, sec(0)).expect("peer");
        alone.release(Outcome::Failure, sec(0));
        assert_eq!(alone.tries(), 0);
        alone.grant_try();
        assert_eq!(pick(&mut alone, Key::Nothing, sec(0)), 'a', "the only peer is asked again");
    }

    #[test]
    fn the_only_peer_needs_no_key() {
        let check = |lines: &[&str], expected: [bool; 2]| {
            let mut attempt = shared(Balancer::Hash, lines).attempt();
            assert_eq!([attempt.pick_alone(sec(0)), attempt.pick_alone(sec(0))], expected, "{lines:?}");
        };
        check(&["10.0.0.1:8081"], [true, false]);
        check(&["10.0.0.1:8081 max_conns=1"], [false, false]);
        check(&["10.0.0.1:8081", "10.0.0.1:8082"], [false, false]);
    }

    #[test]
    fn max_conns_and_drop() {
        for lines in
            [&["10.0.0.1:8081 max_conns=2"][..], &["10.0.0.1:8081 max_conns=2", "10.0.0.1:8082 down"]]
        {
            let group = shared(Balancer::RoundRobin, lines);
            let mut held: Vec<_> = (0..3).map(|_| group.attempt()).collect();
            let picks: String = held.iter_mut().map(|attempt| pick(attempt, Key::Nothing, sec(0))).collect();
            assert_eq!(picks, "aa-");
            held.clear();
            let counters = group.peer(PeerId(0)).expect("peer").counters();
            assert_eq!((counters.conns, counters.requests, counters.fails), (0, 2, 0));
        }
    }

    #[test]
    fn the_unhealthy_get_nothing() {
        let group = shared(Balancer::RoundRobin, &["10.0.0.1:8081", "10.0.0.1:8082"]);
        let peer = group.peer(PeerId(0)).expect("peer");
        group.set_health(peer, Health::Unhealthy, sec(0));
        assert_eq!(requests(&group, 2, sec(0)), "bb");
        group.set_health(peer, Health::Healthy, sec(0));
        assert!(requests(&group, 2, sec(0)).contains('a'));
    }

    #[test]
    fn state_outlives_a_reload() {
        let old = shared(Balancer::RoundRobin, &["10.0.0.1:8081", "10.0.0.1:8082"]);
        let mut under_way = old.attempt();
        assert_eq!(pick(&mut under_way, Key::Nothing, sec(0)), 'a');
        let lines = ["10.0.0.1:8083", "10.0.0.1:8082", "10.0.0.1:8081 max_conns=1"];
        let mut new = group(Balancer::RoundRobin, &lines);
        new.adopt(&old);
        let new = Arc::new(new);
        assert_eq!(requests(&new, 4, sec(0)).matches('a').count(), 0, "a is full");
        let uid = |group: &Group, id| group.peer(PeerId(id)).expect("peer").uid();
        assert_eq!((uid(&new, 2), uid(&new, 1)), (uid(&old, 0), uid(&old, 1)));
        assert_ne!(uid(&new, 0), uid(&old, 0));
        under_way.release(Outcome::Failure, sec(0));
        let counters = new.peer(PeerId(2)).expect("peer").counters();
        assert_eq!((counters.conns, counters.fails), (0, 1));
    }

    fn methods() -> Vec<Balancer> {
        use crate::{Inflight, LeastTime, Metric};
        let least_time = LeastTime { metric: Metric::LastByte, inflight: Inflight::Counted };
        let ring = Balancer::ConsistentHash(Ring::default());
        vec![
            Balancer::RoundRobin,
            Balancer::LeastConn,
            Balancer::IpHash,
            Balancer::Hash,
            ring,
            Balancer::Random,
            Balancer::RandomTwo,
            Balancer::LeastTime(least_time),
        ]
    }

    /// In many groups with many ends of requests: none is tried twice, `down` never, and all is given back.
    #[test]
    fn no_peer_twice_and_nothing_leaks() {
        for balancer in methods() {
            for size in [1, 2, 5, 64, 65, 130] {
                let line = |n: usize| {
                    let more = ["", " down", " weight=3", " backup", " max_fails=0"][n * 7 % 5];
                    format!("10.0.{}.{}:8081{more}", n / 250, n % 250)
                };
                let lines: Vec<String> = (0..size).map(line).collect();
                let group = shared(balancer.clone(), &lines.iter().map(String::as_str).collect::<Vec<_>>());
                for round in 0..40u32 {
                    let mut attempt = group.attempt();
                    let (mut seen, now) = (Vec::new(), sec(u64::from(round) * 3));
                    let key = round.to_string();
                    let key = match &balancer {
                        Balancer::IpHash => {
                            Key::Client(Some(std::net::IpAddr::from([10, 0, round as u8, 0])))
                        }
                        _ => Key::Text(key.as_bytes()),
                    };
                    while let Ok(id) = attempt.pick(key, now) {
                        assert!(!seen.contains(&id), "{balancer:?} {size}: {id:?} again");
                        assert_eq!(attempt.peer().expect("held").admin, Admin::Up);
                        seen.push(id);
                        let failed = (round as usize + seen.len()) % 3 != 1;
                        attempt.release(if failed { Outcome::Failure } else { Outcome::Next }, now);
                        if attempt.tries() == 0 {
                            break;
                        }
                    }
                    assert!(seen.len() <= group.tries() as usize);
                }
                assert!(group.peers().all(|(_, _, peer)| peer.counters().conns == 0), "{balancer:?}");
            }
        }
    }

    #[test]
    fn threads_agree() {
        for balancer in methods() {
            let lines = ["10.0.0.1:8081 max_conns=3 max_fails=0", "10.0.0.1:8082 max_conns=3 max_fails=2"];
            let group = Arc::new(group(balancer, &lines).in_order());
            std::thread::scope(|scope| {
                for thread in 0..4u64 {
                    let group = &group;
                    scope.spawn(move || {
                        for round in 0..2000 {
                            let mut attempt = group.attempt();
                            let picked = attempt.pick(Key::Text(&[round as u8]), sec(round));
                            for (_, _, peer) in group.peers() {
                                assert!(peer.counters().conns <= 3);
                            }
                            let failed = picked.is_ok() && (round + thread) % 5 == 0;
                            if failed {
                                attempt.release(Outcome::Failure, sec(round));
                            }
                        }
                    });
                }
            });
            assert!(group.peers().all(|(_, _, peer)| peer.counters().conns == 0));
        }
    }
}
