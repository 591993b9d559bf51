//! A random peer by weight, or the less busy of two (`ngx_http_upstream_random_module`).
//!
//! Twenty throws that hit none that may be tried, and round robin decides.

use super::{Walk, round_robin};
use crate::eligible::Field;

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

/// Of two different peers by chance, the one with fewer connections for its weight.
pub(super) fn pick_of_two(field: &Field<'_>, walk: &mut Walk) -> Option<usize> {
    let mut before = None;
    loop {
        let index = throw(field);
        if before != Some(index) && field.eligible(index) {
            match before {
                None => before = Some(index),
                Some(other) => return less_busy(field, other, index),
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

fn less_busy(field: &Field<'_>, first: usize, second: usize) -> Option<usize> {
    let (a, b) = (field.peers.get(first)?, field.peers.get(second)?);
    let of_a = u128::from(a.conns()) * u128::from(b.weight);
    let of_b = u128::from(b.conns()) * u128::from(a.weight);
    Some(if of_b > of_a { first } else { second })
}
