//! The same requests through two groups, one with an order and one without: every pick must be the same.
//!
//! Chance decides what happens to them: failures, limits, slow starts, checks, sessions, retries, new snapshots.

use std::sync::Arc;

use super::Kept;
use crate::testing::server;
use crate::{
    Attempt, Balancer, Eject, Group, Health, Inflight, Key, LeastTime, Metric, Now, Outcome, Policy, Server,
};

/// Numbers at random (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (x ^ (x >> 31)) % limit
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// A group in both forms, and the requests that are under way through both.
struct Pair {
    dice: Dice,
    policy: Policy,
    now: Now,
    plain: Arc<Group>,
    ordered: Arc<Group>,
    held: Vec<(Attempt, Attempt)>,
    done: Vec<String>,
}

/// What makes the servers of a run.
#[derive(Clone, Copy)]
struct Servers {
    count: u64,
    extras: &'static [&'static str],
}

impl Servers {
    fn roll(self, dice: &mut Dice) -> Vec<Server> {
        let line = |n: u64, dice: &mut Dice| {
            let weight = dice.one_of(&["", "", "", " weight=2", " weight=5"]);
            let extra = dice.one_of(self.extras);
            format!("10.0.{}.{}:8081{weight}{extra} route=r{n}", n / 250, n % 250)
        };
        // A few of those before are missing, and the others stand elsewhere.
        let first = dice.below(self.count / 4 + 1);
        let mut lines: Vec<String> = (first..self.count).map(|n| line(n, dice)).collect();
        lines.push("10.9.9.9:8081 backup".to_owned());
        lines.push("10.9.9.8:8081".to_owned());
        lines.iter().map(|line| server(line)).collect()
    }
}

impl Pair {
    fn new(seed: u64, policy: &Policy, servers: Servers) -> Self {
        let mut dice = Dice(seed);
        let rolled = servers.roll(&mut dice);
        let make = || Group::new("u", &rolled, policy.clone()).expect("servers");
        Self {
            plain: Arc::new(make().without_order()),
            ordered: Arc::new(make().in_order()),
            policy: policy.clone(),
            now: Now::from_ms(1_000_000_000),
            held: Vec::new(),
            done: Vec::new(),
            dice,
        }
    }

    fn step(&mut self, servers: Servers) {
        let later_ms = match self.dice.below(40) {
            0 => self.dice.below(15_000),
            1..10 => self.dice.below(60),
            _ => 0,
        };
        self.now = Now::from_ms(self.now.ms() + later_ms);
        match self.dice.below(200) {
            0 => self.change(servers),
            1..20 => self.check(),
            20..110 => {
                let mut both = (self.plain.attempt(), self.ordered.attempt());
                if self.dice.below(6) == 0 {
                    let sid = format!("r{}", self.dice.below(servers.count));
                    both.0.prefer(&sid);
                    both.1.prefer(&sid);
                }
                self.pick(both);
            }
            _ => self.go_on(),
        }
    }

    fn pick(&mut self, (mut plain, mut ordered): (Attempt, Attempt)) {
        let picked = (plain.pick(Key::Nothing, self.now), ordered.pick(Key::Nothing, self.now));
        assert_eq!(picked.0, picked.1, "after {:?}", self.done);
        self.note(format!("pick {:?}", picked.0));
        if picked.0.is_ok() {
            self.held.push((plain, ordered));
        }
    }

    /// Something happens to a request that is under way.
    fn go_on(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let place = self.dice.below(self.held.len() as u64) as usize;
        let (mut plain, mut ordered) = self.held.swap_remove(place);
        let both = [&mut plain, &mut ordered];
        match self.dice.below(8) {
            0 => both.into_iter().for_each(|attempt| attempt.connected(self.now)),
            1..4 => both.into_iter().for_each(|attempt| attempt.head_seen(self.now)),
            4 => both.into_iter().for_each(Attempt::note_error),
            _ => {
                let outcome = self.dice.one_of(&[
                    Outcome::Success,
                    Outcome::Success,
                    Outcome::Success,
                    Outcome::Failure,
                    Outcome::Next,
                ]);
                both.into_iter().for_each(|attempt| {
                    attempt.release(outcome, self.now);
                });
                self.note(format!("{outcome:?}"));
                if outcome != Outcome::Success && plain.tries() > 0 {
                    self.pick((plain, ordered));
                }
                return;
            }
        }
        self.held.push((plain, ordered));
    }

    /// A check decides about a peer.
    fn check(&mut self) {
        let id = crate::PeerId(self.dice.below(self.plain.size() as u64) as u32);
        let health = self.dice.one_of(&[Health::Healthy, Health::Healthy, Health::Unhealthy]);
        for group in [&self.plain, &self.ordered] {
            group.set_health(group.peer(id).expect("peer"), health, self.now);
        }
        self.note(format!("{id:?} {health:?}"));
    }

    /// A new snapshot takes the place of the old one.
    fn change(&mut self, servers: Servers) {
        // Now and then without a slow start, which changes the scale.
        let extras = self.dice.one_of(&[servers.extras, servers.extras, EVEN]);
        let rolled = Servers { extras, ..servers }.roll(&mut self.dice);
        let make = |old: &Group| {
            let mut group = Group::new("u", &rolled, self.policy.clone()).expect("servers");
            group.adopt(old);
            group
        };
        let (plain, ordered) = (make(&self.plain).without_order(), make(&self.ordered).in_order());
        (self.plain, self.ordered) = (Arc::new(plain), Arc::new(ordered));
        self.note("change".to_owned());
    }

    fn note(&mut self, what: String) {
        self.done.push(format!("{} {what}", self.now.ms()));
        if self.done.len() > 30 {
            self.done.remove(0);
        }
    }

    /// All figures of the peers, once the order has written them down.
    fn compare(&self) {
        self.ordered.lock().settle();
        for ((_, _, plain), (_, _, ordered)) in self.plain.peers().zip(self.ordered.peers()) {
            assert_eq!(plain.counters(), ordered.counters(), "{} after {:?}", plain.name, self.done);
        }
    }
}

fn methods() -> Vec<Balancer> {
    let mut methods = vec![Balancer::RoundRobin, Balancer::LeastConn];
    for metric in [Metric::Head, Metric::LastByte] {
        for inflight in [Inflight::Ignored, Inflight::Counted] {
            methods.push(Balancer::LeastTime(LeastTime { metric, inflight }));
        }
    }
    methods
}

const EVEN: &[&str] = &[""];
const FAILING: &[&str] = &["", "", " max_fails=3", " fail_timeout=2s", " max_fails=0", " down", " drain"];
const LIMITED: &[&str] = &["", "", " max_conns=1", " max_conns=3", " max_conns=2 max_fails=2", " drain"];
const SLOW: &[&str] = &["", " slow_start=5s", " slow_start=30s max_fails=2", " slow_start=1s max_conns=2"];

#[test]
fn picks_are_those_of_the_plain_loops() {
    let eject = Eject { errors_percent: Some(50), latency_ms: Some(400), requests: 3, ..Eject::default() };
    for method in methods() {
        for (count, extras) in
            [(3, FAILING), (12, LIMITED), (12, SLOW), (80, EVEN), (80, FAILING), (150, SLOW)]
        {
            for (seed, eject) in [(1, None), (2, Some(eject))] {
                let policy = Policy { eject, ..Policy::from(method.clone()) };
                let servers = Servers { count, extras };
                let mut pair = Pair::new(seed * 1000 + count, &policy, servers);
                for step in 0..3000 {
                    pair.step(servers);
                    if step % 500 == 0 {
                        pair.compare();
                    }
                }
                pair.held.clear();
                pair.compare();
            }
        }
    }
}

#[test]
fn only_many_of_few_weights_are_kept_in_order() {
    let check = |method: &Balancer, count: u32, weights: u32, expected: bool| {
        let line = |n: u32| format!("10.0.0.{n}:8081 weight={}", n % weights + 1);
        let servers: Vec<Server> = (0..count).map(|n| server(&line(n))).collect();
        let group = Group::new("u", &servers, method.clone()).expect("servers");
        assert_eq!(group.kept().is_some(), expected, "{method:?} {count} {weights}");
    };
    check(&Balancer::RoundRobin, 63, 1, false);
    check(&Balancer::RoundRobin, 64, 1, true);
    check(&Balancer::LeastConn, 100, 12, true);
    check(&Balancer::LeastConn, 100, 13, false);
    check(&Balancer::Random, 100, 1, false);
}

#[test]
fn a_release_without_limits_is_not_heard() {
    let hears = |method: &Balancer, line: &str| {
        let servers: Vec<Server> = (0..64).map(|n| server(&format!("10.0.0.{n}:8081{line}"))).collect();
        let group = Group::new("u", &servers, method.clone()).expect("servers");
        Kept::of(method, group.set(crate::Role::Primary).1).map(|kept| kept.hears)
    };
    assert_eq!(hears(&Balancer::RoundRobin, ""), Some(false));
    assert_eq!(hears(&Balancer::RoundRobin, " max_conns=9"), Some(true));
    assert_eq!(hears(&Balancer::LeastConn, ""), Some(true));
}
