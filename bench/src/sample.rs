//! One measurement of one server, and the medians over several.
//! Counters are read in the load generator's own thread, so requests and CPU time share their window.

use std::io;
use std::time::{Duration, Instant};

use crate::engine::Engine;
use crate::process::{Usage, resident_kib, tree, workers};

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
    /// Time spent waiting for the core as a part of the window; near 0 on a quiet machine.
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

/// Measures the server `root`, which the clients of `engine` are busy with already.
///
/// # Errors
/// What the system says on `epoll_wait`.
pub fn measure(engine: &mut Engine, root: Option<u32>, extent: Extent) -> io::Result<Sample> {
    let tree = root.map(tree).unwrap_or_default();
    let requests = engine.tally().requests;
    let usage = Usage::of(&tree);
    let start = Instant::now();
    match extent {
        Extent::Time(length) => engine.run_until(start + length)?,
        Extent::Count(count) => engine.run_count(count)?,
    }
    let seconds = start.elapsed().as_secs_f64();
    let usage = Usage::of(&tree) - usage;
    let tally = engine.tally();
    let requests = tally.requests - requests;
    let cpu_us = usage.cpu_ns as f64 / 1e3 / requests.max(1) as f64;
    Ok(Sample {
        requests,
        seconds,
        cpu_us,
        user_us: cpu_us * usage.user_share(),
        rps: requests as f64 / seconds,
        busy: usage.cpu_ns as f64 / 1e9 / seconds,
        wait: usage.wait_ns as f64 / 1e9 / seconds,
        rss_kib: resident_kib(workers(&tree)),
        per_connection: None,
        errors: tally.errors,
        reconnects: tally.reconnects,
    })
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
