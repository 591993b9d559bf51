//! Prints what a pick and its release cost, in nanoseconds, for groups of several sizes and methods.
//!
//! Run with optimisations: `cargo run -p tidegate-upstream --profile quick --example pick_cost`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use upstream::{
    Balancer, Group, Inflight, Key, LeastTime, Metric, Now, Outcome, PeerAddr, PeerKey, Pool, Pooled, Ring,
    Scope, Server, ServerSpec,
};

const ROUNDS: u32 = 2_000_000;

fn main() {
    let by_time = LeastTime { metric: Metric::Head, inflight: Inflight::Ignored };
    let methods: [(&str, Balancer); 10] = [
        ("round robin", Balancer::RoundRobin),
        ("least_conn", Balancer::LeastConn),
        ("ip_hash", Balancer::IpHash),
        ("hash", Balancer::Hash),
        ("hash consistent", Balancer::ConsistentHash(Ring::default())),
        ("consistent bound", Balancer::BoundedHash(Ring::default(), 125)),
        ("random", Balancer::Random),
        ("random two", Balancer::RandomTwo),
        ("least_time", Balancer::LeastTime(by_time)),
        ("ewma", Balancer::Ewma),
    ];
    for (name, balancer) in methods {
        for peers in [1, 2, 4, 16, 10_000] {
            let start = Instant::now();
            let group = group(balancer.clone(), peers);
            let made_ms = start.elapsed().as_secs_f64() * 1e3;
            let start = Instant::now();
            once(&group, &balancer);
            let first_ms = start.elapsed().as_secs_f64() * 1e3;
            let rounds = if peers > 16 { ROUNDS / 10 } else { ROUNDS };
            let cost = measure(rounds, || once(&group, &balancer));
            println!(
                "{name:16} {peers:5} peers {cost:9.1} ns, made in {made_ms:7.2} ms, first pick {first_ms:5.2} ms"
            );
        }
    }
    let pool: Pool<u64> = Pool::new(2);
    let group = group(Balancer::RoundRobin, 1);
    let (limits, now) = (upstream::Limits { requests: u64::MAX, ..Default::default() }, Now::from_ms(0));
    let Some((_, _, peer)) = group.peers().next() else { return };
    let key = PeerKey { peer: peer.uid(), scope: Scope::Shared, channel: None };
    let mut conn = Some(Pooled::new(7, now));
    let cost = measure(ROUNDS, || {
        if let Some(kept) = conn.take() {
            drop(black_box(pool.put(0, key.clone(), kept, &limits, now)));
        }
        conn = pool.take(0, &key, &limits, now);
    });
    println!("pool put and take          {cost:6.1} ns");
}

fn once(group: &Arc<Group>, balancer: &Balancer) {
    let now = Now::from_ms(5_000_000);
    let key = match balancer {
        Balancer::IpHash => Key::Client(Some(std::net::IpAddr::from([10, 1, 2, 3]))),
        _ => Key::Text(b"/some/path"),
    };
    let mut attempt = group.attempt();
    let _ = black_box(attempt.pick(key, now));
    black_box(attempt.release(Outcome::Success, now));
}

fn measure(rounds: u32, mut step: impl FnMut()) -> f64 {
    let mut best = f64::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        for _ in 0..rounds {
            step();
        }
        best = best.min(start.elapsed().as_secs_f64() * 1e9 / f64::from(rounds));
    }
    best
}

fn group(balancer: Balancer, peers: u16) -> Arc<Group> {
    let server = |port: u16| {
        let addr = PeerAddr::Inet(([10, 0, 0, 1], port).into());
        Server::new(&format!("10.0.0.1:{port}"), vec![addr], ServerSpec::default())
    };
    let servers: Vec<Server> = (1..=peers).map(server).collect();
    match Group::new("backend", &servers, balancer) {
        Ok(group) => Arc::new(group),
        Err(error) => panic!("{error}"),
    }
}
