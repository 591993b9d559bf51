//! Prints what a limit costs per request, in nanoseconds, for a key that is known, one that is new in a full zone,
//! and a connection that is counted.
//!
//! Run with optimisations: `cargo run -p tidegate-base --profile quick --example limit_cost`.

use std::hint::black_box;
use std::time::Instant;

use base::limit::{Accounting, ConnectionTable, Limit, RequestTable};

const ROUNDS: u64 = 2_000_000;

fn main() {
    let limit = Limit { rate: 1_000_000_000, burst: 1_000_000 };
    let known = RequestTable::new(10 << 20);
    let ask = |key: u64, now_ms: u64| {
        black_box(known.ask(&key.to_le_bytes(), limit, now_ms, Accounting::Now));
    };
    print("known key, always the same", |round| ask(1, round));
    print("known key, one of 10,000", |round| ask(round % 10_000, round));
    print("new key in a full zone", |round| ask(round + 1_000_000, round));
    let connections = ConnectionTable::new(10 << 20);
    print("connection counted and released", |round| {
        black_box(connections.enter(&(round % 10_000).to_le_bytes(), 100));
    });
}

fn print(what: &str, mut act: impl FnMut(u64)) {
    let start = Instant::now();
    (0..ROUNDS).for_each(&mut act);
    println!("{what:32} {:6.1} ns", start.elapsed().as_secs_f64() * 1e9 / ROUNDS as f64);
}
