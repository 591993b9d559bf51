//! The rounds of one row: both servers start afresh, then are loaded in turn for a quarter of a second each.
//! Turns are that short because a machine's speed drifts over seconds; so both servers meet the same drift.

use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::application::Application;
use crate::clients::{Mode, Plan};
use crate::engine::Engine;
use crate::error::{BenchError, Context};
use crate::process::{open_files_limit, resident_kib, tree, workers};
use crate::report::{Contender, RowResult};
use crate::rows::Row;
use crate::sample::{Extent, Sample, Slice};
use crate::server::Server;

/// The longest turn of one server, in seconds.
const TURN: f64 = 0.25;

/// Time for a server to settle before its memory is read.
const SETTLE: Duration = Duration::from_millis(200);

/// Descriptors that a process needs besides those of the clients' connections.
const SPARE_FILES: usize = 512;

/// How much is measured, and where.
pub struct Pace {
    /// Rounds per row.
    pub rounds: usize,
    /// Load on each server in each round, in seconds.
    pub seconds: f64,
    /// Load before the first turn that counts.
    pub warm_up: Duration,
    /// The core that servers run on.
    pub server_core: usize,
}

/// A server with the load that belongs to it.
struct Side<'a> {
    row: &'a Row,
    binary: &'a Path,
    engine: Engine,
    server: Server,
}

/// Measures one row; a server that fails is out for the rest of the row.
pub fn measure_row(row: &Row, contenders: &[Contender; 2], pace: &Pace, scratch: &Path) -> RowResult {
    let mut result = RowResult::new(*row);
    let application = match row.application() {
        None => None,
        Some(kind) => match Application::start(kind, &scratch.join(row.name)) {
            Ok(application) => Some(application),
            Err(error) => {
                result.failed = [Some(error.to_string()), Some(error.to_string())];
                return result;
            }
        },
    };
    let socket = application.as_ref().map(Application::socket);
    for round in 0..pace.rounds {
        let prefix = |which: usize| scratch.join(format!("{}-{round}-{which}", row.name));
        match row.mode {
            Mode::Idle => hold_round(contenders, pace, &prefix, &mut result),
            Mode::KeepAlive | Mode::Close => {
                load_round(contenders, pace, &prefix, socket, round, &mut result);
            }
        }
    }
    result
}

/// A round of rows about CPU time: both servers at once, only one of them ever busy.
fn load_round(
    contenders: &[Contender; 2],
    pace: &Pace,
    prefix: &dyn Fn(usize) -> PathBuf,
    socket: Option<&Path>,
    round: usize,
    result: &mut RowResult,
) {
    let row = result.row;
    let mut sides = [None, None];
    for which in [0, 1] {
        if result.failed[which].is_none() {
            let side = Side::start(&row, &contenders[which].binary, pace, prefix(which), socket);
            keep(&mut sides[which], side.and_then(|side| side.warm_up(pace)), &mut result.failed[which]);
        }
    }
    let turns = (pace.seconds / TURN).ceil().max(1.0);
    let length = Duration::from_secs_f64(pace.seconds / turns);
    let mut slices = [Vec::new(), Vec::new()];
    for turn in 0..turns as usize {
        // ab ba ab ba: neither is always the one behind the other.
        let order = if (turn + round).is_multiple_of(2) { [0, 1] } else { [1, 0] };
        for which in order {
            let Some(side) = &mut sides[which] else { continue };
            match side.turn(length) {
                Ok(slice) => slices[which].push(slice),
                Err(error) => {
                    result.failed[which] = Some(error.to_string());
                    sides[which] = None;
                }
            }
        }
    }
    let sums = add_up(&slices);
    for (which, side) in sides.iter().enumerate() {
        if let Some(side) = side {
            match side.sample(&sums[which]) {
                Ok(sample) => result.samples[which].push(sample),
                Err(error) => result.failed[which] = Some(error.to_string()),
            }
        }
    }
}

/// A round of the row about memory: one server after the other, each with all connections.
fn hold_round(
    contenders: &[Contender; 2],
    pace: &Pace,
    prefix: &dyn Fn(usize) -> PathBuf,
    result: &mut RowResult,
) {
    let row = result.row;
    for which in [0, 1] {
        if result.failed[which].is_none() {
            let side = Side::start(&row, &contenders[which].binary, pace, prefix(which), None);
            let mut sample = None;
            keep(&mut sample, side.and_then(Side::hold), &mut result.failed[which]);
            result.samples[which].extend(sample);
        }
    }
}

/// Adds the turns up, without those in which one of the two servers or its load was disturbed, as
/// long as half of the turns remain.
fn add_up(slices: &[Vec<Slice>; 2]) -> [Slice; 2] {
    let turns = slices[0].len().max(slices[1].len());
    let calm = |turn: &usize| slices.iter().filter_map(|side| side.get(*turn)).all(Slice::is_quiet);
    let quiet: Vec<usize> = (0..turns).filter(calm).collect();
    let chosen: Vec<usize> = if quiet.len() * 2 < turns { (0..turns).collect() } else { quiet };
    slices.each_ref().map(|side| {
        let mut sum = Slice::default();
        for slice in chosen.iter().filter_map(|turn| side.get(*turn)) {
            sum += *slice;
        }
        sum
    })
}

fn keep<T>(place: &mut Option<T>, outcome: Result<T, BenchError>, failed: &mut Option<String>) {
    match outcome {
        Ok(value) => *place = Some(value),
        Err(error) => *failed = Some(error.to_string()),
    }
}

impl<'a> Side<'a> {
    /// Behind the server stands the application at `socket`, or else an origin of its own.
    fn start(
        row: &'a Row,
        binary: &'a Path,
        pace: &Pace,
        prefix: PathBuf,
        socket: Option<&Path>,
    ) -> Result<Self, BenchError> {
        if open_files_limit().is_some_and(|limit| limit < row.connections + SPARE_FILES) {
            let text = format!("{} connections exceed the limit on open files", row.connections);
            return Err(BenchError::Server(text));
        }
        let failed = || format!("load on {}", binary.display());
        let mut engine = Engine::new().context(failed)?;
        let origin = match socket {
            Some(socket) => format!("unix:{}", socket.display()),
            None => engine.start_origin(([127, 0, 0, 1], 0).into()).context(failed)?.to_string(),
        };
        let server = Server::start(binary, pace.server_core, row, prefix, &origin)?;
        engine.start_clients(Plan {
            target: server.address(),
            asks: row.asks(),
            body: row.body,
            mode: row.mode,
            security: row.security,
            speech: row.speech,
        });
        Ok(Self { row, binary, engine, server })
    }

    fn warm_up(mut self, pace: &Pace) -> Result<Self, BenchError> {
        let outcome = self.engine.open(self.row.connections);
        let outcome = outcome.and_then(|()| self.engine.run_until(Instant::now() + pace.warm_up));
        let outcome = outcome.and_then(|()| self.engine.drain());
        self.explain(outcome)?;
        Ok(self)
    }

    fn turn(&mut self, length: Duration) -> Result<Slice, BenchError> {
        // The tree is read anew each time: a worker may have been replaced.
        let slice = Slice::take(&mut self.engine, &tree(self.server.pid()), Extent::Time(length));
        self.explain(slice)
    }

    fn sample(&self, sum: &Slice) -> Result<Sample, BenchError> {
        let tally = self.engine.tally();
        match (sum.requests, &tally.first_error) {
            (0, Some(first)) => Err(BenchError::Server(format!("no right response: {first}"))),
            (_, Some(first)) => {
                let (row, binary) = (self.row.name, self.binary.display());
                eprintln!("{row}: {binary}: {} wrong or missing responses, the first: {first}", tally.errors);
                Ok(Sample::new(sum, &tree(self.server.pid()), &tally))
            }
            _ => Ok(Sample::new(sum, &tree(self.server.pid()), &tally)),
        }
    }

    /// Opens all connections, lets each have one response, and tells by how much the server grew.
    fn hold(mut self) -> Result<Sample, BenchError> {
        let outcome = self.engine.open(1);
        self.explain(outcome)?;
        sleep(SETTLE);
        let before = resident_kib(workers(&tree(self.server.pid())));
        let start = Instant::now();
        let outcome = self.engine.open(self.row.connections);
        self.explain(outcome)?;
        let seconds = start.elapsed().as_secs_f64();
        let outcome = self.engine.run_until(Instant::now() + SETTLE);
        self.explain(outcome)?;
        let slice = Slice { requests: self.engine.tally().requests, seconds, ..Slice::default() };
        let mut sample = self.sample(&slice)?;
        let grown = sample.rss_kib.saturating_sub(before) * 1024;
        sample.per_connection = Some(grown as f64 / self.row.connections.max(1) as f64);
        Ok(sample)
    }

    /// Adds to an error of the loop the first one that a client met, which most likely is the cause.
    fn explain<T>(&self, outcome: io::Result<T>) -> Result<T, BenchError> {
        let what = format!("load on {}", self.binary.display());
        outcome.map_err(|source| match self.engine.tally().first_error {
            None => BenchError::Io { what, source },
            Some(first) => BenchError::Server(format!("{what}: {source}; the first error: {first}")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Usage;

    #[test]
    fn disturbed_turns_are_left_out_for_both() {
        let slice = |wait: u64| Slice {
            requests: 1,
            seconds: 1.0,
            usage: Usage { wait_ns: wait * 10_000_000, ..Usage::default() },
            load_wait_ns: 0,
        };
        let check = |a: [u64; 4], b: [u64; 4], expected: u64| {
            let sums = add_up(&[a.map(slice).to_vec(), b.map(slice).to_vec()]);
            assert_eq!(sums.map(|sum| sum.requests), [expected; 2], "{a:?} {b:?}");
        };
        check([0, 0, 0, 0], [0, 0, 0, 0], 4);
        check([90, 0, 0, 0], [0, 0, 0, 50], 2);
        check([90, 90, 0, 0], [0, 0, 0, 50], 4);
    }
}
