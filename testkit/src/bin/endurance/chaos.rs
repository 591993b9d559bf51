//! Origins are killed, stalled, made to reset and brought back at random under constant load.
//!
//! As long as one origin has been well for some seconds no request may fail: the next one is asked, and the active
//! checks keep requests away from those that are ill.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::Plan;
use crate::fickle::{Fickle, Mood};
use crate::ground::{Ground, text};
use crate::load::{FILE_SIZE, Load, Losses};
use crate::report::{Report, when};

const ORIGINS: usize = 8;
const CLIENTS: usize = 16;
/// How long an origin must have been well to be counted on: a failure keeps requests away for a second.
const SETTLED: Duration = Duration::from_millis(3500);
/// Time between two changes, at most.
const PAUSE_MS: u64 = 400;

/// Runs the part.
pub fn run(plan: &Plan, report: &mut Report) -> Result<(), String> {
    let origins: Result<Vec<Fickle>, _> = (0..ORIGINS).map(|_| Fickle::start()).collect();
    let origins = origins.map_err(text)?;
    let servers: String = origins
        .iter()
        .map(|origin| format!("server 127.0.0.1:{} max_fails=1 fail_timeout=1s; ", origin.port))
        .collect();
    let conf = format!(
        "worker_processes 2;
        http {{
            proxy_http_version 1.1; keepalive_requests 1000000000;
            upstream origin {{ zone origin 64k; {servers} keepalive 32; }}
            server {{
                listen @ADDR1@; root @ROOT@/html;
                location /api/ {{
                    proxy_pass http://origin; proxy_set_header Connection \"\";
                    proxy_next_upstream error timeout; proxy_connect_timeout 300ms; proxy_read_timeout 300ms;
                    health_check interval=200ms fails=1 passes=2; health_check_timeout 300ms;
                }}
            }}
        }}"
    );
    let mut ground = Ground::new(FILE_SIZE, Vec::new())?;
    ground.start(&plan.binary, &conf)?;
    let load = Load::new(ground.address(), Losses::Forbidden);
    let changes = std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let load = &load;
            scope.spawn(move || load.client(number));
        }
        let changes = disturb(&origins, plan.chaos, &load);
        load.stop();
        changes
    });
    let (answered, failures) = (load.answered.load(Ordering::SeqCst), load.failures());
    let seconds = plan.chaos.as_secs();
    let seen = format!("{answered} requests answered, {changes} changes of mood in {seconds} s");
    let outcome =
        if failures.is_empty() { Ok(seen) } else { Err(format!("{seen}; {}", failures.join("; "))) };
    report.check("no idempotent request fails while one origin is well", outcome);
    report.check("there was load", when(answered > CLIENTS * 10, format!("{answered} requests")));
    Ok(())
}

/// Changes moods at random, never that of the last origin that can be counted on; how often.
fn disturb(origins: &[Fickle], time: Duration, load: &Load) -> usize {
    let mut dice = Dice::new();
    let start = Instant::now();
    // Since when each is well; none while it is not.
    let mut well: Vec<Option<Instant>> = vec![Some(start - SETTLED); origins.len()];
    let mut changes = 0;
    while start.elapsed() < time && load.failures().is_empty() {
        std::thread::sleep(Duration::from_millis(dice.below(PAUSE_MS)));
        let place = usize::try_from(dice.below(origins.len() as u64)).unwrap_or(0);
        let is_settled = |since: &Option<Instant>| since.is_some_and(|since| since.elapsed() >= SETTLED);
        let mood = match dice.below(5) {
            0 => Mood::Dead,
            1 => Mood::Stalled,
            2 => Mood::Resetting,
            _ => Mood::Well,
        };
        let is_last = !well.iter().enumerate().any(|(other, since)| other != place && is_settled(since));
        let Some(since) = well.get_mut(place) else { continue };
        if mood == Mood::Well {
            since.get_or_insert_with(Instant::now);
        } else if is_last {
            continue;
        } else {
            *since = None;
        }
        if let Some(origin) = origins.get(place) {
            origin.be(mood);
            changes += 1;
        }
    }
    changes
}

/// Numbers at random (SplitMix64).
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        use std::hash::{BuildHasher, RandomState};
        Self(RandomState::new().hash_one(0))
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (x ^ (x >> 31)) % limit.max(1)
    }
}
