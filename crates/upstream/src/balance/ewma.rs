//! Peak-sensitive moving averages of response times (`ewma`), as Finagle has them; nginx has no such method.
//!
//! A time above the average is believed at once, one below it only bit by bit: a peer that turns slow loses its
//! requests after one of them, and wins them back within seconds.

use super::Balancer;
use crate::attempt::Outcome;
use crate::group::Group;
use crate::now::Now;
use crate::peer::Peer;

/// Time in which the average forgets all but a third, milliseconds.
const DECAY_MS: f64 = 10_000.0;
/// A failure counts as at least so long an answer, microseconds.
const FAILURE_US: u64 = 1_000_000;
/// Below this all are equally fast, microseconds: the clock is coarse.
const FLOOR_US: u64 = 1_000;

/// What a request more would cost at the peer.
pub(super) fn load(peer: &Peer, now: Now) -> u64 {
    let times = &peer.state.times;
    let faded = times.peak_us.load() as f64 * fading(now.ms().saturating_sub(times.peak_changed.load()));
    (faded as u64).max(FLOOR_US).saturating_mul(peer.conns() + 1)
}

/// Takes the time of an attempt that has ended.
#[inline]
pub(crate) fn end(group: &Group, peer: &Peer, ms: u64, outcome: Outcome, now: Now) {
    if !matches!(group.balancer(), Balancer::Ewma) {
        return;
    }
    let _turn = group.lock();
    let times = &peer.state.times;
    let average = times.peak_us.load();
    let took = match outcome {
        Outcome::Failure => (ms * 1000).max(FAILURE_US).max(average),
        Outcome::Success | Outcome::Next => ms * 1000,
    };
    let kept = fading(now.ms().saturating_sub(times.peak_changed.load()));
    let average = if took > average { took } else { mixed(average, took, kept) };
    times.peak_us.store(average);
    times.peak_changed.store(now.ms());
}

fn mixed(average: u64, took: u64, kept: f64) -> u64 {
    (average as f64 * kept + took as f64 * (1.0 - kept)) as u64
}

/// What is left of an average after so many milliseconds.
fn fading(ms: u64) -> f64 {
    (-(ms as f64) / DECAY_MS).exp()
}

#[cfg(test)]
mod tests {
    use crate::testing::{pick, shared};
    use crate::{Balancer, Key, Now, Outcome};

    fn at(ms: u64) -> Now {
        Now::from_ms(1_000_000_000 + ms)
    }

    #[test]
    fn a_slow_peer_loses_its_requests_and_wins_them_back() {
        let group = shared(Balancer::Ewma, &["10.0.0.1:8081", "10.0.0.1:8082", "10.0.0.1:8083"]);
        let run = |from: u64, count: u64, slow_ms: u64| {
            let mut of_a = 0;
            for n in 0..count {
                let mut attempt = group.attempt();
                let peer = pick(&mut attempt, Key::Nothing, at(from + n));
                let took = if peer == 'a' { slow_ms } else { 2 };
                attempt.release(Outcome::Success, at(from + n + took));
                of_a += u64::from(peer == 'a');
            }
            of_a
        };
        assert!(run(0, 300, 500) < 20, "seen slow once, then avoided");
        assert!((60..150).contains(&run(120_000, 300, 2)), "two minutes later it has its share again");
    }

    #[test]
    fn those_with_many_requests_get_no_more() {
        let group = shared(Balancer::Ewma, &["10.0.0.1:8081", "10.0.0.1:8082"]);
        let mut held: Vec<_> = (0..40).map(|_| group.attempt()).collect();
        let picks: String = held.iter_mut().map(|attempt| pick(attempt, Key::Nothing, at(0))).collect();
        assert!((18..=22).contains(&picks.matches('a').count()), "{picks}");
    }

    #[test]
    fn a_peer_that_fails_fast_is_not_preferred() {
        let group = shared(Balancer::Ewma, &["10.0.0.1:8081 max_fails=0", "10.0.0.1:8082"]);
        let mut of_a = 0;
        for n in 0..200 {
            let mut attempt = group.attempt();
            let is_a = pick(&mut attempt, Key::Nothing, at(n)) == 'a';
            of_a += u32::from(is_a);
            attempt.release(if is_a { Outcome::Failure } else { Outcome::Success }, at(n + 20));
        }
        assert!(of_a < 20, "{of_a}");
    }
}
