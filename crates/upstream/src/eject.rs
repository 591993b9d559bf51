//! Peers that err too often or answer too slowly are shut out for a while (`eject`); nginx has nothing like it.
//!
//! It comes on top of `max_fails`: that counts failures in a row of connections, this the share of bad answers.

use crate::attempt::Outcome;
use crate::group::Group;
use crate::now::Now;
use crate::peer::Peer;
use crate::server::Role;

/// A peer that is shut out again and again stays out for at most so many times the configured time.
const LONGEST: u64 = 10;

/// When a peer is shut out, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Eject {
    /// Share of the requests of one window that failed or were answered with 5xx, per cent.
    pub errors_percent: Option<u64>,
    /// Average time until the head of an answer within one window, milliseconds.
    pub latency_ms: Option<u64>,
    /// Length of a window, milliseconds.
    pub window_ms: u64,
    /// Requests of a window without which nothing is decided.
    pub requests: u64,
    /// How long it is shut out for the first time, milliseconds; longer each time in a row.
    pub time_ms: u64,
    /// Share of the primaries that may be shut out at a time, per cent.
    pub most_percent: u64,
}

impl Default for Eject {
    fn default() -> Self {
        Self {
            errors_percent: None,
            latency_ms: None,
            window_ms: 10_000,
            requests: 20,
            time_ms: 30_000,
            most_percent: 50,
        }
    }
}

/// What one attempt showed of its peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub outcome: Outcome,
    /// The answer was one of a broken server.
    pub is_error: bool,
    /// Time until the head of the answer.
    pub head_ms: Option<u64>,
}

impl Eject {
    /// Takes note of an attempt; whether the peer is shut out for it. Under the group's lock.
    pub(crate) fn count(&self, group: &Group, peer: &Peer, seen: Seen, now: Now) -> bool {
        let window = &peer.state.window;
        if now.ms().saturating_sub(window.started_ms.load()) >= self.window_ms {
            window.started_ms.store(now.ms());
            for count in [&window.requests, &window.errors, &window.timed, &window.time_ms] {
                count.store(0);
            }
        }
        let add = |cell: &crate::state::Cell, more: u64| cell.store(cell.load().saturating_add(more));
        add(&window.requests, 1);
        if seen.is_error || seen.outcome == Outcome::Failure {
            add(&window.errors, 1);
        }
        if let Some(head_ms) = seen.head_ms {
            add(&window.timed, 1);
            add(&window.time_ms, head_ms);
        }
        if window.requests.load() < self.requests || peer.is_ejected(now) || !self.is_bad(peer) {
            return false;
        }
        let (_, primaries) = group.set(Role::Primary);
        let out = primaries.iter().filter(|peer| peer.is_ejected(now)).count() as u64;
        if (out + 1) * 100 > self.most_percent.saturating_mul(primaries.len() as u64) {
            return false;
        }
        self.shut_out(peer, now);
        true
    }

    fn is_bad(&self, peer: &Peer) -> bool {
        let window = &peer.state.window;
        let (requests, errors) = (window.requests.load(), window.errors.load());
        let errs = self.errors_percent.is_some_and(|percent| errors * 100 >= percent * requests);
        let average_ms = window.time_ms.load().checked_div(window.timed.load());
        let is_slow = self.latency_ms.zip(average_ms).is_some_and(|(limit, average)| average >= limit);
        errs || is_slow
    }

    fn shut_out(&self, peer: &Peer, now: Now) {
        let window = &peer.state.window;
        // Once it has behaved for as long as it was last shut out, it begins anew.
        let rested = now.ms().saturating_sub(window.until_ms.load());
        let before = if rested > self.time_ms * LONGEST { 0 } else { window.times.load() };
        let times = (before + 1).min(LONGEST);
        let until_ms = now.ms().saturating_add(self.time_ms.saturating_mul(times));
        window.times.store(times);
        window.until_ms.store(until_ms);
        window.started_ms.store(0);
        peer.state.recovered_ms.store(until_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{group, pick, requests};
    use crate::{Balancer, Key, Policy};
    use std::sync::Arc;

    fn at(ms: u64) -> Now {
        Now::from_ms(1_000_000_000 + ms)
    }

    fn group_of(eject: Eject, lines: &[&str]) -> Arc<Group> {
        let policy = Policy { eject: Some(eject), ..Policy::from(Balancer::RoundRobin) };
        Arc::new(group(policy, lines))
    }

    /// One request; its answer comes after `ms` and is an error where the peer is among `bad`.
    fn ask(group: &Arc<Group>, now_ms: u64, ms: u64, bad: &str) -> (char, bool) {
        let mut attempt = group.attempt();
        let peer = pick(&mut attempt, Key::Nothing, at(now_ms));
        let is_bad = bad.contains(peer);
        attempt.head_seen(at(now_ms + if is_bad { ms } else { 1 }));
        if is_bad && ms == 0 {
            attempt.note_error();
        }
        (peer, attempt.release(Outcome::Success, at(now_ms + ms)).is_some())
    }

    const LINES: [&str; 3] = ["10.0.0.1:8081", "10.0.0.1:8082", "10.0.0.1:8083"];

    #[test]
    fn errors_shut_a_peer_out_for_a_time() {
        let eject = Eject { errors_percent: Some(50), requests: 5, time_ms: 1000, ..Eject::default() };
        let group = group_of(eject, &LINES);
        let told: Vec<(char, bool)> =
            (0..30).map(|n| ask(&group, n, 0, "b")).filter(|(_, told)| *told).collect();
        assert_eq!(told, [('b', true)], "once, and the log hears of it");
        assert!(!requests(&group, 10, at(500)).contains('b'));
        assert!(requests(&group, 10, at(1100)).contains('b'));
        for n in 0..30 {
            ask(&group, 1200 + n, 0, "b");
        }
        assert!(!requests(&group, 10, at(3000)).contains('b'), "twice as long the second time");
        assert!(requests(&group, 10, at(3300)).contains('b'));
    }

    #[test]
    fn slowness_too_but_never_all() {
        let eject = Eject { latency_ms: Some(200), requests: 5, most_percent: 67, ..Eject::default() };
        let group = group_of(eject, &LINES);
        let gone = (0..100).filter(|n| ask(&group, *n, 300, "abc").1).count();
        assert_eq!(gone, 2);
        assert!(!requests(&group, 3, at(500)).contains('-'));
    }

    #[test]
    fn few_requests_decide_nothing() {
        let eject = Eject { errors_percent: Some(1), requests: 20, window_ms: 100, ..Eject::default() };
        let group = group_of(eject, &LINES);
        assert!((0..100).all(|n| !ask(&group, n * 50, 0, "abc").1));
    }
}
