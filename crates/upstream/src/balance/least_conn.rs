//! The peer with the fewest connections for its weight (`ngx_http_upstream_least_conn_module`).
//!
//! Peers that are equally busy take turns by round robin, which starts at the first of them.

use std::cmp::Ordering;

use crate::eligible::Field;
use crate::peer::Peer;

/// The least busy peer.
pub(super) fn pick(field: &Field<'_>) -> Option<usize> {
    pick_least(field, Peer::conns)
}

/// The peer with the least of what `load` measures, for its weight; shared with `least_time`.
pub(super) fn pick_least(field: &Field<'_>, load: impl Fn(&Peer) -> u64) -> Option<usize> {
    // One whose slow start has hardly begun weighs a little, too.
    let measure = |peer: &Peer| (load(peer), field.weight_now(peer).max(1));
    let (mut best, mut equals): (Option<(usize, Busy)>, _) = (None, 0usize);
    for (index, peer) in field.open() {
        let busy = measure(peer);
        match best.map(|(_, least)| compare(busy, least)) {
            None | Some(Ordering::Less) => {
                best = Some((index, busy));
                equals = 0;
            }
            Some(Ordering::Equal) => equals += 1,
            Some(Ordering::Greater) => {}
        }
    }
    let (first, least) = best?;
    if equals == 0 {
        return Some(first);
    }
    let is_equal = |peer: &Peer| compare(measure(peer), least) == Ordering::Equal;
    let (mut picked, mut highest, mut total) = (first, i64::MIN, 0i64);
    for (index, peer) in
        field.open().skip_while(|(index, _)| *index < first).filter(|(_, peer)| is_equal(peer))
    {
        let (standing, added) = peer.advance(field.group.scale(), field.now);
        total = total.saturating_add(added);
        if standing > highest {
            (picked, highest) = (index, standing);
        }
    }
    field.peers.get(picked)?.pay(total);
    Some(picked)
}

/// A load and the weight of who bears it.
pub(super) type Busy = (u64, u64);

/// Which of two is less busy for its weight.
#[inline]
pub(super) fn compare((load, weight): Busy, (other_load, other_weight): Busy) -> Ordering {
    // Without dividing: a/w < b/v  <=>  a*v < b*w.
    load.saturating_mul(other_weight).cmp(&other_load.saturating_mul(weight))
}

#[cfg(test)]
mod tests {
    use crate::testing::{pick, requests, sec, shared};
    use crate::{Attempt, Balancer, Key};

    fn held(lines: &[&str], count: usize) -> String {
        let group = shared(Balancer::LeastConn, lines);
        let mut attempts: Vec<Attempt> = (0..count).map(|_| group.attempt()).collect();
        attempts.iter_mut().map(|attempt| pick(attempt, Key::Nothing, sec(0))).collect()
    }

    #[test]
    fn connections_divide_by_weight() {
        let check = |lines: &[&str], expected: &str| assert_eq!(held(lines, expected.len()), expected);
        check(&["10.0.0.1:8081", "10.0.0.1:8082"], "abba");
        check(&["10.0.0.1:8081 weight=2", "10.0.0.1:8082"], "ababaa");
        check(&["10.0.0.1:8081 max_conns=1", "10.0.0.1:8082 max_conns=2"], "abb-");
        check(
            &["10.0.0.1:8081 max_conns=1", "10.0.0.1:8082 backup max_conns=1", "10.0.0.1:8083 backup"],
            "abcc",
        );
    }

    #[test]
    fn the_idle_take_turns() {
        let group = shared(Balancer::LeastConn, &["10.0.0.1:8081", "10.0.0.1:8082", "10.0.0.1:8083"]);
        assert_eq!(requests(&group, 6, sec(0)), "abcabc");
        let mut long = group.attempt();
        assert_eq!(pick(&mut long, Key::Nothing, sec(0)), 'a');
        assert_eq!(requests(&group, 4, sec(0)), "bcbc");
    }
}
