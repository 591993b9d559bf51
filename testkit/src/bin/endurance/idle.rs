//! Thousands of idle keep-alive connections: what each costs the worker, beside what it costs nginx.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use testkit::process::Binary;

use crate::Plan;
use crate::ground::{Ground, PATIENCE, rule, text};
use crate::proc_fs::rss_kib;
use crate::report::{Report, when};

const FILE_SIZE: usize = 100;

/// Long enough for whatever is given back with a delay after requests.
const SETTLE_TIME: Duration = Duration::from_secs(3);

fn conf(connections: usize) -> String {
    format!(
        "events {{ worker_connections {connections}; }}
        http {{
            keepalive_timeout 1h;
            server {{ listen @ADDR1@ backlog=4096; root @ROOT@/html; }}
        }}"
    )
}

/// Runs the part.
pub fn run(plan: &Plan, report: &mut Report) -> Result<(), String> {
    let ours = measure(&plan.binary, plan.idle)?;
    let Some(oracle) = &plan.oracle else {
        report.check(&format!("{} idle connections", plan.idle), Ok(ours.to_string()));
        return Ok(());
    };
    let theirs = measure(oracle, plan.idle)?;
    let what = format!("{} idle connections cost no more than nginx's", plan.idle);
    report.check(&what, when(ours.whole <= theirs.whole, format!("{ours}; nginx {theirs}")));
    Ok(())
}

/// Bytes of worker memory for each connection that has had an answer and idles.
struct Cost {
    /// What a worker for so many connections, all of them idle, has more than a worker for a few. nginx makes
    /// room for all `worker_connections` at its start.
    whole: u64,
    /// By how much the worker grows when they connect.
    growth: u64,
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes each, {} of them when it connects", self.whole, self.growth)
    }
}

fn measure(binary: &Binary, count: usize) -> Result<Cost, String> {
    let few = Warm::new(binary, WARM * 4)?.rss_kib;
    // nginx closes idle connections when fewer than a sixteenth of its connections are free.
    let warm = Warm::new(binary, count * 16 / 15 + WARM * 4)?;
    let address = warm.ground.address();
    let mut all = warm.connections;
    for nth in 0..count {
        all.push(Idle::new(&address).map_err(|error| format!("connection {nth}: {error}"))?);
    }
    let after = settled_rss(warm.ground.worker()?)?;
    for idle in all.iter_mut().step_by(97) {
        idle.ask().map_err(|error| format!("a connection that idled: {error}"))?;
    }
    let each = |before: u64| after.saturating_sub(before) * 1024 / count as u64;
    Ok(Cost { whole: each(few), growth: each(warm.rss_kib) })
}

/// Connections whose requests make what all later ones share.
const WARM: usize = 10;

/// A server that has answered some requests.
struct Warm {
    ground: Ground,
    connections: Vec<Idle>,
    rss_kib: u64,
}

impl Warm {
    fn new(binary: &Binary, limit: usize) -> Result<Self, String> {
        let mut ground = Ground::new(FILE_SIZE, vec![rule("*", &[])])?;
        ground.start(binary, &conf(limit))?;
        let connections = (0..WARM).map(|_| Idle::new(&ground.address())).collect::<Result<Vec<_>, _>>()?;
        let rss_kib = settled_rss(ground.worker()?)?;
        Ok(Self { ground, connections, rss_kib })
    }
}

/// The memory once it has not shrunk for a while.
fn settled_rss(pid: u32) -> Result<u64, String> {
    let mut least = rss_kib(pid)?;
    let (begun, mut since) = (Instant::now(), Instant::now());
    while since.elapsed() < SETTLE_TIME && begun.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(50));
        let now = rss_kib(pid)?;
        if now < least {
            (least, since) = (now, Instant::now());
        }
    }
    Ok(least)
}

/// A connection with a single descriptor, so that ten thousand fit into this process.
struct Idle(TcpStream);

impl Idle {
    fn new(address: &str) -> Result<Self, String> {
        let stream = TcpStream::connect(address).map_err(text)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(text)?;
        let mut idle = Self(stream);
        idle.ask()?;
        Ok(idle)
    }

    fn ask(&mut self) -> Result<(), String> {
        self.0.write_all(b"GET /file.bin HTTP/1.1\r\nHost: a\r\n\r\n").map_err(text)?;
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let length = self.0.read(&mut buffer).map_err(text)?;
            answer.extend_from_slice(buffer.get(..length).unwrap_or_default());
            let body = testkit::text::find(&answer, b"\r\n\r\n").map(|at| answer.len() - at - 4);
            match body {
                Some(FILE_SIZE) if answer.starts_with(b"HTTP/1.1 200") => return Ok(()),
                _ if length == 0 => return Err("closed".into()),
                _ => {}
            }
        }
    }
}
