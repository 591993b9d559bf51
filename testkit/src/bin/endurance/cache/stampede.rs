//! A thousand clients ask at once for an answer that is missing: its origin is asked once, and all read along.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use super::drink::Drink;
use super::origin::{Maker, body};
use crate::Plan;
use crate::ground::{Ground, text};
use crate::report::{Report, when};

const CLIENTS: usize = 1000;
/// What the slowest client may wait for an answer whose last byte leaves the origin after a second.
const LIMIT: Duration = Duration::from_millis(1200);
const ATTEMPTS: usize = 5;

/// Runs the part.
pub fn run(plan: &Plan, report: &mut Report) -> Result<(), String> {
    for (zone, what) in [("", "on disk"), (" memory=64m", "in memory")] {
        let origin = Maker::start().map_err(text)?;
        let conf = format!(
            "worker_processes 2; events {{ worker_connections 4096; }}
            http {{
                sendfile on;
                proxy_cache_path @ROOT@/cache keys_zone=c:10m{zone};
                server {{
                    listen @ADDR1@ backlog=4096;
                    proxy_cache c; proxy_cache_valid 1h; proxy_cache_lock on; proxy_http_version 1.1;
                    location / {{ proxy_pass http://127.0.0.1:{}; }}
                }}
            }}",
            origin.port
        );
        let mut ground = Ground::new(1, Vec::new())?;
        ground.start(&plan.binary, &conf)?;
        let (took, asked) = best(&ground, &origin)?;
        let seen = format!("the last byte after {} ms", took.as_millis());
        report.check(&format!("{CLIENTS} clients, one entry {what}"), when(took < LIMIT, seen));
        report.check("one request to the origin each time", when(asked == 1, format!("{asked}")));
        // All bytes at once behind a second of silence: the machine then has to move a gigabyte, which takes as long as
        // it does with the entry in the cache.
        let target = "/chunks/1048576/b?after=1000";
        let (took, asked) = storm(&ground, &origin, target)?;
        let (hot, _) = storm(&ground, &origin, target)?;
        let seen = format!("the last byte after {} ms, from the cache {}", took.as_millis(), hot.as_millis());
        report.check("one request to an origin that hesitates", when(asked == 1, seen));
    }
    Ok(())
}

/// The quickest of a few attempts, since others use the machine too, and the most requests to the origin in any.
fn best(ground: &Ground, origin: &Maker) -> Result<(Duration, usize), String> {
    let (mut quickest, mut most) = (Duration::MAX, 0);
    for attempt in 0..ATTEMPTS {
        let (took, asked) = storm(ground, origin, &format!("/length/1048576/{attempt}?over=1000"))?;
        (quickest, most) = (quickest.min(took), most.max(asked));
        if took < LIMIT {
            break;
        }
    }
    Ok((quickest, most))
}

/// How long the slowest took, and how often the origin was asked.
fn storm(ground: &Ground, origin: &Maker, target: &str) -> Result<(Duration, usize), String> {
    let before = origin.requests();
    let (address, expected) = (ground.address(), body(target));
    let ready = Barrier::new(CLIENTS + 1);
    let took = std::thread::scope(|scope| {
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            let (address, expected, ready) = (&address, &expected, &ready);
            let client = move || {
                let connected = Drink::connect(address);
                ready.wait();
                let begun = Instant::now();
                let mut client = connected?;
                client.ask(target, "")?;
                client.read_head()?;
                client.finish(expected)?;
                Ok::<_, String>((begun, Instant::now()))
            };
            let client = std::thread::Builder::new().stack_size(128 << 10).spawn_scoped(scope, client);
            clients.push(client.map_err(text)?);
        }
        ready.wait();
        // Each tells its own times: this thread may be the last to go on.
        let mut all: Option<(Instant, Instant)> = None;
        for client in clients {
            let (begun, ended) = client.join().map_err(|_| "a client panicked".to_owned())??;
            let (first, last) = all.unwrap_or((begun, ended));
            all = Some((first.min(begun), last.max(ended)));
        }
        Ok::<_, String>(all.map_or(Duration::MAX, |(first, last)| last - first))
    })?;
    Ok((took, origin.requests() - before))
}
