//! The worker is killed under load: the master brings it back, and nobody finds the door shut.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use testkit::origin::ReplyAct;
use testkit::process::signal;

use crate::Plan;
use crate::ground::{Ground, rule, wait_for};
use crate::load::{FILE_SIZE, Load, Losses};
use crate::report::{Report, when};

const CLIENTS: usize = 8;
/// Requests that a worker must have answered before it is killed in its turn.
const REQUESTS_PER_LIFE: usize = 200;
/// The longest time without service.
const LIMIT: Duration = Duration::from_secs(1);

const CONF: &str = "worker_processes 2;
    http {
        proxy_http_version 1.1; keepalive_requests 1000000000;
        upstream origin { server @ORIGIN1@; keepalive 16; }
        server {
            listen @ADDR1@;
            root @ROOT@/html;
            location /api/ { proxy_pass http://origin; proxy_set_header Connection \"\"; }
        }
    }";

/// Runs the part.
pub fn run(plan: &Plan, report: &mut Report) -> Result<(), String> {
    let mut ground = Ground::new(FILE_SIZE, vec![rule("*", &[ReplyAct::Echo])])?;
    ground.start(&plan.binary, CONF)?;
    let load = Load::new(ground.address(), Losses::Expected);
    let outcome = std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let load = &load;
            scope.spawn(move || load.client(number));
        }
        let gaps: Result<Vec<Duration>, String> =
            (0..plan.kills).map(|_| kill_once(&ground, &load)).collect();
        load.stop();
        gaps
    });
    let mut gaps = outcome?;
    gaps.sort_unstable();
    let middle = gaps.get(gaps.len() / 2).copied().unwrap_or_default();
    let longest = gaps.last().copied().unwrap_or_default();
    let seen = format!("median {} ms, longest {} ms", middle.as_millis(), longest.as_millis());
    report.check(
        &format!("service is back within a second, {} times", gaps.len()),
        when(longest < LIMIT, seen),
    );
    let failures = load.failures();
    let (answered, lost) = (load.answered(), load.lost.load(Ordering::SeqCst));
    let seen = format!("{answered} requests answered, {lost} connections lost with their workers");
    let clients = if failures.is_empty() { Ok(seen) } else { Err(failures.join("; ")) };
    report.check("no connect is refused and no answer is wrong", clients);
    Ok(())
}

/// Kills the worker once it has proven that it works, and measures until a new connection is served.
fn kill_once(ground: &Ground, load: &Load) -> Result<Duration, String> {
    let before = load.answered();
    wait_for("load", || Ok((load.answered() >= before + REQUESTS_PER_LIFE).then_some(())))?;
    let worker = ground.worker()?;
    let start = Instant::now();
    signal("KILL", worker);
    wait_for("service", || match ground.once("/file.bin") {
        Ok(answer) => Ok((answer.status() == Some(200) && answer.body.len() == FILE_SIZE).then_some(())),
        Err(error) if error.starts_with("connect") => Err(error),
        Err(_) => Ok(None),
    })?;
    let gap = start.elapsed();
    if ground.worker()? == worker {
        return Err(format!("worker {worker} outlived its death"));
    }
    Ok(gap)
}
