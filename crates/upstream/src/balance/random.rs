//! A random peer by weight, or the less busy of two (`ngx_http_upstream_random_module`).
//!
//! Twenty throws that hit none that may be tried, and round robin decides.

use super::{Walk, round_robin};
use crate::eligible::Field;
use crate::peer::Peer;

/// A peer by chance.
pub(super) fn pick(field: &Field<'_>, walk: &mut Walk) -> Option<usize> {
    loop {
        let index = throw(field);
        if field.eligible(index) {
            return Some(index);
        }
        if !walk.may_probe_on() {
            return round_robin::pick(field, None);
        }
    }
}

/// Of two different peers by chance, the one with the lesser load for its weight.
pub(super) fn pick_of_two(field: &Field<'_>, walk: &mut Walk, load: impl Fn(&Peer) -> u64) -> Option<usize> {
    let mut before = None;
    loop {
        let index = throw(field);
        if before != Some(index) && field.eligible(index) {
            match before {
                None => before = Some(index),
                Some(other) => return less_busy(field, other, index, load),
            }
            continue;
        }
        if !walk.may_probe_on() {
            return round_robin::pick(field, None);
        }
    }
}

fn throw(field: &Field<'_>) -> usize {
    field.at_weight(field.group.random() % field.total_weight())
}

fn less_busy(field: &Field<'_>, first: usize, second: usize, load: impl Fn(&Peer) -> u64) -> Option<usize> {
    let (a, b) = (field.peers.get(first)?, field.peers.get(second)?);
    let of_a = u128::from(load(a)) * u128::from(field.weight_now(b));
    let of_b = u128::from(load(b)) * u128::from(field.weight_now(a));
    Some(if of_b > of_a { first } else { second })
}

#[cfg(test)]
mod tests {
    use crate::testing::{fail_all, pick, requests, sec, shared};
    use crate::{Balancer, Key};

    #[test]
    fn weights_hold_on_average() {
        let lines = ["10.0.0.1:8081", "10.0.0.1:8082 weight=3", "10.0.0.1:8083 down"];
        let picks = requests(&shared(Balancer::Random, &lines), 4000, sec(0));
        let of_b = picks.matches('b').count();
        assert!((2800..3200).contains(&of_b), "{of_b}");
        assert!(!picks.contains('c') && !picks.contains('-'));
    }

    #[test]
    fn of_two_the_less_busy_is_picked() {
        let lines = ["10.0.0.1:8081", "10.0.0.1:8082"];
        let group = shared(Balancer::RandomTwo, &lines);
        let mut attempts: Vec<_> = (0..100).map(|_| group.attempt()).collect();
        let picks: String = attempts.iter_mut().map(|attempt| pick(attempt, Key::Nothing, sec(0))).collect();
        // Where twenty throws hit the same one, round robin decides: hence the small play.
        assert!((48..=52).contains(&picks.matches('a').count()), "{picks}");
    }

    #[test]
    fn every_peer_is_tried_once() {
        for balancer in [Balancer::Random, Balancer::RandomTwo] {
            let group = shared(balancer, &["10.0.0.1:8081", "10.0.0.1:8082", "10.0.0.1:8083"]);
            let mut tried: Vec<char> = fail_all(&group, Key::Nothing, sec(0)).chars().collect();
            tried.sort_unstable();
            assert_eq!(tried, ['a', 'b', 'c']);
        }
    }
}
