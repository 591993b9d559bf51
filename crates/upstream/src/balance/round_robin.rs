//! Smooth weighted round robin (`ngx_http_upstream_get_peer`).
//!
//! Each eligible peer gains its effective weight, the highest is picked and pays the sum: weights 5, 1, 1 give
//! a a b a c a a and not a a a a a b c.

use crate::eligible::Field;
use crate::peer::Peer;

/// The peer whose turn it is; a session's own peer goes before, but pays for it.
pub(super) fn pick(field: &Field<'_>, session: Option<usize>) -> Option<usize> {
    if let Some(index) = session {
        let peer = field.peers.get(index)?;
        if has_paid_enough(field, peer, peer.state.current_weight.load()) {
            return session;
        }
    }
    let (mut best, mut total) = (None, 0i64);
    for (index, peer) in field.open() {
        let (standing, added) = peer.advance(field.group.scale(), field.now);
        total = total.saturating_add(added);
        if best.is_none_or(|(_, highest)| standing > highest) {
            best = Some((index, standing));
        }
    }
    let picked = session.or(best.map(|(index, _)| index))?;
    field.peers.get(picked)?.pay(total);
    Some(picked)
}

/// Whether a session's peer is picked without paying: one request in a row is paid for, more would shut it out for
/// others too long.
pub(super) fn has_paid_enough(field: &Field<'_>, peer: &Peer, standing: i64) -> bool {
    let others = i64::try_from(field.total_weight()).unwrap_or(i64::MAX) - i64::from(peer.weight);
    standing <= -others.saturating_mul(i64::from(field.group.scale()))
}

#[cfg(test)]
mod tests {
    use crate::testing::{requests, sec, shared};
    use crate::{Balancer, Key, Outcome};

    #[test]
    fn sequences() {
        let check = |weights: &[&str], expected: &str| {
            let lines: Vec<String> = weights
                .iter()
                .zip(1..)
                .map(|(weight, n)| format!("10.0.0.1:808{n} weight={weight}"))
                .collect();
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let group = shared(Balancer::RoundRobin, &lines);
            assert_eq!(requests(&group, expected.len(), sec(0)), expected, "{weights:?}");
        };
        check(&["5", "1", "1"], "aabacaaaabacaa");
        check(&["1", "1", "1"], "abcabc");
        check(&["2", "1"], "abaaba");
        check(&["4", "2", "1"], "abacabaabacaba");
        check(&["3", "2"], "ababaababa");
        check(&["1"], "aaaa");
    }

    #[test]
    fn a_failure_costs_weight_that_comes_back() {
        let lines = ["10.0.0.1:8081 weight=4 max_fails=2", "10.0.0.1:8082 weight=4"];
        let group = shared(Balancer::RoundRobin, &lines);
        let mut attempt = group.attempt();
        attempt.pick(Key::Nothing, sec(0)).expect("peer");
        assert_eq!(attempt.release(Outcome::Failure, sec(0)), None);
        let weight = || group.peer(crate::PeerId(0)).expect("peer").effective_weight();
        assert_eq!(weight(), 2);
        requests(&group, 1, sec(0));
        assert_eq!(weight(), 3);
        requests(&group, 5, sec(0));
        assert_eq!(weight(), 4);
    }

    #[test]
    fn a_session_gets_its_peer_and_pays() {
        let lines = ["10.0.0.1:8081 route=x", "10.0.0.1:8082 route=y drain", "10.0.0.1:8083"];
        let group = shared(Balancer::RoundRobin, &lines);
        let with = |sid: &str| {
            let mut attempt = group.attempt();
            attempt.prefer(sid);
            crate::testing::pick(&mut attempt, Key::Nothing, sec(0))
        };
        assert_eq!((with("x"), with("x"), with("x")), ('a', 'a', 'a'));
        assert_eq!(with("y"), 'b', "draining, but its own");
        assert_eq!(requests(&group, 2, sec(0)), "cc", "c makes up for what a got out of turn");
        assert_eq!(with("z"), 'a');
    }
}
