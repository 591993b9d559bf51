//! The peer that will be done first: its average time, times the requests it has (`least_time`).
//!
//! Follows `ngx_http_upstream_least_time_module` and its twin in stream; only what succeeded is averaged, so that
//! a peer that fails fast is not preferred.

use super::{Balancer, least_conn};
use crate::attempt::Outcome;
use crate::eligible::Field;
use crate::group::Group;
use crate::now::Now;
use crate::peer::Peer;
use crate::state::Cell;

/// Times above this are equally bad, milliseconds.
const SLOW_MS: u64 = 5000;
/// Times within one step of this are equally good, milliseconds.
const STEP_MS: u64 = 20;

/// What `least_time` goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeastTime {
    /// The time that is measured.
    pub metric: Metric,
    /// Whether requests under way count too.
    pub inflight: Inflight,
}

/// The time that `least_time` measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// `header`, in stream `connect` or `first_byte`: until [`head_seen`](crate::Attempt::head_seen).
    Head,
    /// `last_byte`: until the release.
    LastByte,
}

impl Metric {
    fn average_ms(self, peer: &Peer) -> u64 {
        match self {
            Self::Head => peer.state.times.head.load(),
            Self::LastByte => peer.state.times.response.load(),
        }
    }
}

/// Whether requests under way count too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inflight {
    /// Only those that have ended.
    Ignored,
    /// `inflight`.
    Counted,
}

/// Whether an attempt counts among those under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counting {
    Idle,
    Inflight,
    /// The group has no other peer: nothing is counted.
    Alone,
    /// No request, but a check of this peer: it leaves no trace.
    Check,
}

/// What is known of an attempt when it ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spent {
    pub since: Now,
    pub head_ms: Option<u64>,
    pub counting: Counting,
}

/// The peer with the least estimated time.
pub(super) fn pick(how: LeastTime, field: &Field<'_>) -> Option<usize> {
    let now = field.now;
    for (_, peer) in field.open() {
        watch(peer, now);
    }
    least_conn::pick_least(field, |peer| estimate_ms(how, peer, now))
}

/// Averages how long the requests of a peer have been under way by now.
pub(super) fn watch(peer: &Peer, now: Now) {
    let times = &peer.state.times;
    if let Some(each) = times.inflight_last.load().checked_div(times.inflight_requests.load()) {
        average(&times.inflight, each + now.ms().saturating_sub(times.inflight_changed.load()));
    }
}

/// Until when [`estimate_ms`] stays as it is if nothing happens to the peer, milliseconds; none where it changes all
/// the time.
pub(super) fn steady_until_ms(how: LeastTime, peer: &Peer, now: Now) -> Option<u64> {
    if peer.state.times.inflight_requests.load() > 0 {
        return None;
    }
    if how.metric.average_ms(peer) < STEP_MS {
        return Some(u64::MAX);
    }
    let period = peer.fail_timeout_sec.saturating_add(1);
    let checked_sec = peer.state.checked_sec.load();
    let halvings = now.sec().saturating_sub(checked_sec) / period;
    let next_sec = halvings.saturating_add(1).saturating_mul(period).saturating_add(checked_sec);
    Some(next_sec.saturating_mul(1000))
}

pub(super) fn estimate_ms(how: LeastTime, peer: &Peer, now: Now) -> u64 {
    let times = &peer.state.times;
    let mut ms = how.metric.average_ms(peer);
    if peer.window_is_over(now) {
        // Halved for each fail_timeout without a request, so that a slow peer gets its chance again.
        let rested = now.sec().saturating_sub(peer.state.checked_sec.load());
        let halvings = rested / peer.fail_timeout_sec.saturating_add(1);
        ms = u32::try_from(halvings).ok().and_then(|halvings| ms.checked_shr(halvings)).unwrap_or(0);
    }
    if times.inflight_requests.load() > 0 {
        ms = ms.max(times.inflight.load());
    }
    let ms = if ms > SLOW_MS { SLOW_MS } else { ms + STEP_MS - ms % STEP_MS };
    ms.saturating_mul(1 + peer.conns())
}

/// Counts an attempt that was just picked; under the group's lock.
pub(crate) fn begin(balancer: &Balancer, group: &Group, peer: &Peer, now: Now) -> Counting {
    let Some(LeastTime { inflight: Inflight::Counted, .. }) = measured(balancer) else {
        return Counting::Idle;
    };
    if group.is_single() {
        return Counting::Idle;
    }
    let times = &peer.state.times;
    let requests = times.inflight_requests.load();
    let passed = now.ms().saturating_sub(times.inflight_changed.load());
    if requests > 0 {
        times.inflight_last.store(times.inflight_last.load().saturating_add(passed.saturating_mul(requests)));
    }
    times.inflight_changed.store(now.ms());
    times.inflight_requests.store(requests + 1);
    Counting::Inflight
}

/// Takes the time of the head where the method waits for it.
pub(crate) fn head_seen(group: &Group, peer: &Peer, counting: Counting, head_ms: u64, now: Now) -> Counting {
    let early = LeastTime { metric: Metric::Head, inflight: Inflight::Counted };
    if measured(group.balancer()) != Some(early) {
        return counting;
    }
    let mut turn = group.lock();
    average(&peer.state.times.head, head_ms);
    if counting == Counting::Inflight {
        leave(peer, head_ms, now);
    }
    turn.changed(peer, now);
    Counting::Idle
}

/// Takes the times of an attempt that ends.
#[inline]
pub(crate) fn end(group: &Group, peer: &Peer, spent: Spent, outcome: Outcome, now: Now) {
    let Some(how) = measured(group.balancer()) else { return };
    let _turn = group.lock();
    let response_ms = now.ms().saturating_sub(spent.since.ms());
    if spent.counting == Counting::Inflight {
        leave(peer, response_ms, now);
    }
    let (Outcome::Success, Some(head_ms)) = (outcome, spent.head_ms) else { return };
    average(&peer.state.times.response, response_ms);
    if how != (LeastTime { metric: Metric::Head, inflight: Inflight::Counted }) {
        average(&peer.state.times.head, head_ms);
    }
}

fn leave(peer: &Peer, last_ms: u64, now: Now) {
    let times = &peer.state.times;
    let requests = times.inflight_requests.load();
    if requests <= 1 {
        times.inflight_last.store(0);
    } else {
        let passed = now.ms().saturating_sub(times.inflight_changed.load()).saturating_mul(requests);
        times.inflight_last.store(times.inflight_last.load().saturating_add(passed).saturating_sub(last_ms));
        times.inflight_changed.store(now.ms());
    }
    times.inflight_requests.store(requests.saturating_sub(1));
}

/// What a method measures.
#[inline]
fn measured(balancer: &Balancer) -> Option<LeastTime> {
    match balancer {
        Balancer::LeastTime(how) | Balancer::RandomTwoLeastTime(how) => Some(*how),
        _ => None,
    }
}

/// Moves an average by a twentieth towards `value`.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "nginx rounds so, and times are far below 2^52 ms"
)]
fn average(cell: &Cell, value: u64) {
    let moved = match cell.load() {
        0 => value,
        old => (0.5 + (value as f64 * 0.05 + old as f64 * 0.95)) as u64,
    };
    cell.store(moved);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{pick, request, sec, shared};
    use crate::{Key, PeerId};

    fn later(now: Now, ms: u64) -> Now {
        Now::from_ms(now.ms() + ms)
    }

    #[test]
    fn the_fast_peer_gets_more() {
        let how = LeastTime { metric: Metric::LastByte, inflight: Inflight::Ignored };
        let group = shared(Balancer::LeastTime(how), &["10.0.0.1:8081", "10.0.0.1:8082"]);
        let mut now = sec(0);
        let mut picks = String::new();
        for _ in 0..20 {
            let mut attempt = group.attempt();
            let peer = pick(&mut attempt, Key::Nothing, now);
            picks.push(peer);
            now = later(now, if peer == 'a' { 200 } else { 10 });
            attempt.head_seen(now);
            attempt.release(Outcome::Success, now);
        }
        assert_eq!(picks, "abbbbbbbbbbbbbbbbbbb");
    }

    #[test]
    fn requests_under_way_make_a_peer_look_slow() {
        let how = LeastTime { metric: Metric::LastByte, inflight: Inflight::Counted };
        let group = shared(Balancer::LeastTime(how), &["10.0.0.1:8081", "10.0.0.1:8082"]);
        let mut stuck = group.attempt();
        assert_eq!(pick(&mut stuck, Key::Nothing, sec(0)), 'a');
        let times = |id| &group.peer(PeerId(id)).expect("peer").state.times;
        assert_eq!(times(0).inflight_requests.load(), 1);
        assert_eq!(request(&group, Key::Nothing, sec(3)), 'b');
        assert!(times(0).inflight.load() >= 3000);
        drop(stuck);
        assert_eq!((times(0).inflight_requests.load(), times(1).inflight_requests.load()), (0, 0));
    }

    #[test]
    fn averages() {
        let check = |old, value, expected| {
            let cell = Cell::default();
            cell.store(old);
            average(&cell, value);
            assert_eq!(cell.load(), expected, "{old} {value}");
        };
        check(0, 100, 100);
        check(100, 200, 105);
        check(100, 100, 100);
        check(1000, 0, 950);
    }
}
