//! The command `pick`: what choosing a peer costs in a large group, for each way of balancing.
//! No servers and no sockets: the crate of the groups is called, so what is told is the machine's share of a request.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use upstream::{
    Balancer, Group, GroupError, Inflight, Key, LeastTime, Limits, Live, Metric, Now, Outcome, PeerAddr,
    PeerKey, Policy, Pool, Pooled, Ring, Scope, Server, ServerSpec,
};

use crate::args::Args;
use crate::error::BenchError;
use crate::sample::median;

/// Addresses that the servers take turns to have: those of 10.0.0.0/8.
const PEERS_MAX: u32 = 1 << 24;
/// Picks whose time is read together.
const TOGETHER: u32 = 10_000;
/// When all of it happens.
const NOW: Now = Now::from_ms(5_000_000);

/// `pick`: prints for each balancer the nanoseconds of a pick with its release, the milliseconds that it takes to
/// make the group and to change it, and those of the first pick behind each.
///
/// # Errors
/// [`BenchError`] for a wrong command line.
pub fn pick(mut args: Args) -> Result<ExitCode, BenchError> {
    let peers: u32 = args.option("--peers")?.unwrap_or(10_000);
    let rounds: usize = args.option("--rounds")?.unwrap_or(51);
    args.finish()?;
    if !(1..PEERS_MAX).contains(&peers) {
        return Err(BenchError::Usage("--peers out of range".to_owned()));
    }
    if rounds == 0 {
        return Err(BenchError::Usage("--rounds out of range".to_owned()));
    }
    println!("{peers} peers; medians of {rounds} rounds of {TOGETHER} picks on one thread\n");
    println!("{:26}{:>12}{:>26}{:>26}", "", "", "ms to make the group", "ms to add a server");
    println!("{:26}{:>12}{:>26}{:>26}", "", "ns a pick", "(first pick)", "(first pick)");
    for (name, balancer) in balancers() {
        let cost = Cost::of(balancer, peers, rounds)?;
        let [made, changed] =
            [&cost.made, &cost.changed].map(|step| format!("{:.2} ({:.3})", step.ms, step.first_ms));
        println!("{name:26}{:>12.1}{made:>26}{changed:>26}", cost.pick_ns);
    }
    println!("\n{:26}{:>12.1}", "idle connection kept+taken", pool_ns(rounds)?);
    Ok(ExitCode::SUCCESS)
}

/// Each way of balancing under its directive.
fn balancers() -> [(&'static str, Balancer); 11] {
    let by_time = LeastTime { metric: Metric::Head, inflight: Inflight::Ignored };
    [
        ("round robin", Balancer::RoundRobin),
        ("least_conn", Balancer::LeastConn),
        ("least_time header", Balancer::LeastTime(by_time)),
        ("ewma", Balancer::Ewma),
        ("ip_hash", Balancer::IpHash),
        ("hash", Balancer::Hash),
        ("hash consistent", Balancer::ConsistentHash(Ring::default())),
        ("hash consistent bound=1.25", Balancer::BoundedHash(Ring::default(), 125)),
        ("random", Balancer::Random),
        ("random two", Balancer::RandomTwo),
        ("random two least_time", Balancer::RandomTwoLeastTime(by_time)),
    ]
}

/// What one way of balancing costs.
struct Cost {
    /// A pick and its release, in nanoseconds.
    pick_ns: f64,
    /// Making the group.
    made: Step,
    /// Adding a server to it while it runs.
    changed: Step,
}

/// Something that brings a new list of peers.
struct Step {
    /// How long it takes.
    ms: f64,
    /// How long the first pick among them takes.
    first_ms: f64,
}

impl Cost {
    fn of(balancer: Balancer, peers: u32, rounds: usize) -> Result<Self, BenchError> {
        let servers: Vec<Server> = (1..=peers).map(server).collect();
        let (live, made_ms) = timed(|| Live::new("backend", servers, Policy::from(balancer)));
        let live = live.map_err(refused)?;
        let first_ms = first_ms(&live);
        let made = Step { ms: made_ms, first_ms };

        let group = live.group();
        let pick_ns = per_call_ns(rounds, |number| once(&group, number));

        let (added, ms) = timed(|| live.change(NOW, |edit| Ok::<_, GroupError>(edit.add(server(peers + 1)))));
        added.map_err(refused)?;
        Ok(Self { pick_ns, made, changed: Step { ms, first_ms: self::first_ms(&live) } })
    }
}

fn refused(error: GroupError) -> BenchError {
    BenchError::Usage(error.to_string())
}

fn server(number: u32) -> Server {
    let address = Ipv4Addr::from(0x0a00_0000 | number);
    Server::new(&address.to_string(), vec![PeerAddr::Inet((address, 80).into())], ServerSpec::default())
}

fn first_ms(live: &Live) -> f64 {
    let group = live.group();
    timed(|| once(&group, 0)).1
}

/// Picks a peer and releases it, as a request does that succeeds.
fn once(group: &Arc<Group>, number: u32) {
    let path = number.to_ne_bytes();
    let key = match group.balancer() {
        // The last byte does not count there.
        Balancer::IpHash => Key::Client(Some(IpAddr::from((number << 8).to_be_bytes()))),
        _ => Key::Text(&path),
    };
    let mut attempt = group.attempt();
    let _ = black_box(attempt.pick(key, NOW));
    black_box(attempt.release(Outcome::Success, NOW));
}

/// What it costs to hand a connection to the pool and to take it back, in nanoseconds.
fn pool_ns(rounds: usize) -> Result<f64, BenchError> {
    let pool: Pool<u64> = Pool::new(2);
    let group = Group::new("backend", &[server(1)], Balancer::RoundRobin).map_err(refused)?;
    let limits = Limits { requests: u64::MAX, ..Limits::default() };
    let Some((_, _, peer)) = group.peers().next() else { return Ok(0.0) };
    let key = PeerKey { peer: peer.uid(), scope: Scope::Shared, channel: None };
    let mut conn = Some(Pooled::new(7, NOW));
    Ok(per_call_ns(rounds, |_| {
        if let Some(kept) = conn.take() {
            drop(black_box(pool.put(0, key.clone(), kept, &limits, NOW)));
        }
        conn = pool.take(0, &key, &limits, NOW);
    }))
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    let done = work();
    (done, start.elapsed().as_secs_f64() * 1e3)
}

/// The median over the rounds; `step` is told how many went before it.
fn per_call_ns(rounds: usize, mut step: impl FnMut(u32)) -> f64 {
    let mut number = 0_u32;
    median((0..rounds).map(|_| {
        let ((), ms) = timed(|| {
            for _ in 0..TOGETHER {
                step(number);
                number = number.wrapping_add(1);
            }
        });
        ms * 1e6 / f64::from(TOGETHER)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_balancer_has_a_cost() {
        for (name, balancer) in balancers() {
            let cost = Cost::of(balancer, 100, 1).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(cost.pick_ns > 0.0 && cost.made.ms > 0.0 && cost.changed.ms > 0.0, "{name}");
        }
        assert!(pool_ns(1).is_ok_and(|ns| ns > 0.0));
    }

    #[test]
    fn picks_succeed_and_spread() {
        let check = |name: &str, balancer: Balancer| {
            let servers: Vec<Server> = (1..=100).map(server).collect();
            let group = Arc::new(Group::new("backend", &servers, balancer).expect("a group"));
            (0..1000).for_each(|number| once(&group, number));
            let taken = group.peers().filter(|(_, _, peer)| peer.counters().requests > 0).count();
            assert!(taken > 50, "{name}: {taken}");
        };
        for (name, balancer) in balancers() {
            check(name, balancer);
        }
    }
}
