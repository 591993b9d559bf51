//! The server is killed in the middle of writing: whatever is found afterwards is served whole or not at all.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::drink::Drink;
use super::origin::{Maker, body};
use crate::Plan;
use crate::ground::{Ground, text, wait_for};
use crate::report::{Report, when};

const CLIENTS: usize = 6;
/// Sizes of bodies: none, one write, several, and one that is checked aside.
const SIZES: [usize; 8] = [0, 1, 700, 5000, 40_000, 200_000, 1_100_000, 3_000_000];

/// Runs the part.
pub fn run(plan: &Plan, report: &mut Report) -> Result<(), String> {
    let origin = Maker::start().map_err(text)?;
    let conf = format!(
        "worker_processes 2;
        http {{
            proxy_cache_path @ROOT@/cache levels=1:2 keys_zone=c:10m memory=16m max_size=200m;
            proxy_cache_path @ROOT@/beside keys_zone=d:10m use_temp_path=off max_size=200m;
            proxy_cache_valid 1h; proxy_cache_lock on; proxy_http_version 1.1;
            proxy_cache_key $request_uri;
            add_header X-Cache $upstream_cache_status;
            server {{
                listen @ADDR1@;
                location / {{ proxy_cache c; proxy_pass http://127.0.0.1:{0}; }}
                location ~ (odd)$ {{ proxy_cache d; proxy_pass http://127.0.0.1:{0}; }}
            }}
        }}",
        origin.port
    );
    let mut ground = Ground::new(1, Vec::new())?;
    ground.configure(&plan.binary, &conf)?;
    let mut seen = Seen::default();
    let rounds = plan.crashes;
    let mut outcome = Ok(());
    for round in 0..rounds {
        ground.start(&plan.binary, &conf)?;
        outcome = verify(&ground, round, &mut seen).and_then(|()| write_and_die(&mut ground, round));
        if outcome.is_err() {
            break;
        }
    }
    let told = format!("{} entries served from before, {} fetched anew", seen.hits, seen.misses);
    report.check(
        &format!("{rounds} times kill -9 while writing: no wrong byte"),
        outcome.and_then(|()| when(seen.hits > rounds, told)),
    );
    let grave = ground.grave_lines();
    report.check(
        "nothing grave in the log",
        if grave.is_empty() { Ok(String::new()) } else { Err(grave.join("; ")) },
    );
    Ok(())
}

#[derive(Default)]
struct Seen {
    hits: usize,
    misses: usize,
}

fn targets(round: usize) -> impl Iterator<Item = String> {
    SIZES.iter().enumerate().flat_map(move |(at, size)| {
        let form = ["length", "chunks", "close"][(at + round) % 3];
        ["even", "odd"].map(|side| format!("/{form}/{size}/{round}-{side}"))
    })
}

/// Everything that the round before may have left.
fn verify(ground: &Ground, round: usize, seen: &mut Seen) -> Result<(), String> {
    let Some(last) = round.checked_sub(1) else { return Ok(()) };
    for target in targets(last) {
        let mut client = Drink::connect(&ground.address())?;
        client.ask(&target, "")?;
        client.read_head()?;
        let is_hit = client.head.contains("X-Cache: HIT");
        client
            .finish(&body(&target))
            .map_err(|why| format!("round {round}, {target}, hit: {is_hit}: {why}"))?;
        *(if is_hit { &mut seen.hits } else { &mut seen.misses }) += 1;
    }
    Ok(())
}

/// Clients fetch new entries, and all dies at another moment in each round.
fn write_and_die(ground: &mut Ground, round: usize) -> Result<(), String> {
    let (is_over, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let all: Vec<String> = targets(round).collect();
    let address = ground.address();
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (is_over, done, all, address) = (&is_over, &done, &all, &address);
            scope.spawn(move || {
                for target in all.iter().skip(number).step_by(CLIENTS / 2) {
                    if is_over.load(Ordering::SeqCst) {
                        return;
                    }
                    let asked = Drink::connect(address).and_then(|mut client| {
                        client.ask(target, "")?;
                        client.read_head()?;
                        client.finish(&body(target))
                    });
                    if asked.is_ok() {
                        done.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
        let least = 1 + round % 12;
        let served = wait_for("load", || Ok((done.load(Ordering::SeqCst) >= least).then_some(())));
        std::thread::sleep(Duration::from_micros((round as u64 * 397) % 3000));
        let killed = ground.kill();
        is_over.store(true, Ordering::SeqCst);
        served.and(killed)
    })
}
