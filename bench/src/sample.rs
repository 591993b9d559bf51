//! One measurement of one server, and the medians over several.
//! Every slice of load is drained before counters are read, so no request is half inside.

use std::io;
use std::ops::AddAssign;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::clients::Tally;
use crate::engine::Engine;
use crate::process::{Usage, resident_kib, workers};

/// Above this part of the time server or load waited for a core, which something else used too.
pub const CROWDED: f64 = 0.05;

/// Time for what a server does behind its last response, such as closing and logging.
const AFTERMATH: Duration = Duration::from_millis(5);

/// When a measurement ends.
#[derive(Clone, Copy, Debug)]
pub enum Extent {
    /// Behind this much time.
    Time(Duration),
    /// Behind this many answers.
    Count(u64),
}

/// What one window of load cost one server.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// Right responses in the window.
    pub requests: u64,
    /// Length of the window in seconds.
    pub seconds: f64,
    /// CPU time per request in microseconds.
    pub cpu_us: f64,
    /// The user part of `cpu_us`, estimated from clock ticks.
    pub user_us: f64,
    /// Requests per second.
    pub rps: f64,
    /// CPU time in the window as a part of one core; near 1 where the server was saturated.
    pub busy: f64,
    /// Time that server or load, whichever is more, waited for its core, as a part of the window;
    /// near 0 on a quiet machine.
    pub wait: f64,
    /// Resident memory of the workers at the end, in KiB.
    pub rss_kib: u64,
    /// Resident memory that one idle connection costs, in bytes; only in rows that hold connections.
    pub per_connection: Option<f64>,
    /// Wrong or missing responses since the server started.
    pub errors: u64,
    /// Connections that the server closed in good order since it started.
    pub reconnects: u64,
}

/// A stretch of load that begins and ends with no request under way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Slice {
    /// Right responses.
    pub requests: u64,
    /// Length in seconds, from the first request to the last response.
    pub seconds: f64,
    /// What the server used.
    pub usage: Usage,
    /// How long the load generator waited for its own core, in nanoseconds.
    pub load_wait_ns: u64,
}

impl Slice {
    /// Loads the server whose processes are `pids`, waits for the last response and reads the counters.
    ///
    /// Since nothing is under way at either end, requests and CPU time belong to each other exactly, and
    /// the kernel's counters are up to date because the server sleeps.
    ///
    /// # Errors
    /// What the system says on `epoll_wait`; `TimedOut` when a response takes 10 seconds.
    pub fn take(engine: &mut Engine, pids: &[u32], extent: Extent) -> io::Result<Self> {
        let requests = engine.tally().requests;
        let me = [std::process::id()];
        let (usage, own) = (Usage::of(pids), Usage::of(&me));
        let start = Instant::now();
        engine.resume()?;
        match extent {
            Extent::Time(length) => engine.run_until(start + length)?,
            Extent::Count(count) => engine.run_count(count)?,
        }
        engine.drain()?;
        let seconds = start.elapsed().as_secs_f64();
        let load_wait_ns = (Usage::of(&me) - own).wait_ns;
        sleep(AFTERMATH);
        let requests = engine.tally().requests - requests;
        Ok(Self { requests, seconds, usage: Usage::of(pids) - usage, load_wait_ns })
    }

    /// Whether server and load generator had their cores to themselves.
    pub fn is_quiet(&self) -> bool {
        let longest = self.usage.wait_ns.max(self.load_wait_ns);
        longest as f64 / 1e9 / self.seconds < CROWDED
    }
}

impl AddAssign for Slice {
    fn add_assign(&mut self, more: Self) {
        self.requests += more.requests;
        self.seconds += more.seconds;
        self.usage += more.usage;
        self.load_wait_ns += more.load_wait_ns;
    }
}

impl Sample {
    /// What `slice` says of the server whose processes are `tree`, as it stands now.
    pub fn new(slice: &Slice, tree: &[u32], tally: &Tally) -> Self {
        let Slice { requests, seconds, usage, load_wait_ns } = *slice;
        let cpu_us = usage.cpu_ns as f64 / 1e3 / requests.max(1) as f64;
        Self {
            requests,
            seconds,
            cpu_us,
            user_us: cpu_us * usage.user_share(),
            rps: requests as f64 / seconds,
            busy: usage.cpu_ns as f64 / 1e9 / seconds,
            wait: usage.wait_ns.max(load_wait_ns) as f64 / 1e9 / seconds,
            rss_kib: resident_kib(workers(tree)),
            per_connection: None,
            errors: tally.errors,
            reconnects: tally.reconnects,
        }
    }
}

/// The median; 0 of nothing, the mean of the middle two of an even number.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle.wrapping_sub(1)), values.get(middle)) {
        (Some(low), Some(high)) if values.len().is_multiple_of(2) => f64::midpoint(*low, *high),
        (_, Some(high)) => *high,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        let check = |input: &[f64], expected: f64| {
            assert!((median(input.iter().copied()) - expected).abs() < 1e-12, "{input:?}");
        };
        check(&[], 0.0);
        check(&[3.0], 3.0);
        check(&[3.0, 1.0], 2.0);
        check(&[9.0, 1.0, 3.0], 3.0);
        check(&[4.0, 1.0, 3.0, 2.0], 2.5);
    }
}
