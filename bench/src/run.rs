//! The conductor: for each row and round it starts one server, loads it, measures it and ends it.
//! The two servers take turns and swap their order every round, so a drift of the machine hits both.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::args::Args;
use crate::clients::{Mode, Plan};
use crate::engine::Engine;
use crate::error::{BenchError, Context};
use crate::process::{open_files_limit, resident_kib, tree, workers};
use crate::report::{Bench, Contender, RowResult};
use crate::rows::{ROWS, Row};
use crate::sample::{Extent, Sample, measure};
use crate::server::Server;
use crate::table;

/// Load before each measurement.
const WARM_UP: Duration = Duration::from_millis(500);

/// Time for a server to settle before its memory is read.
const SETTLE: Duration = Duration::from_millis(200);

/// Descriptors that a process needs besides those of the clients' connections.
const SPARE_FILES: usize = 512;

struct Options {
    rows: Vec<Row>,
    rounds: usize,
    seconds: f64,
    warm_up: Duration,
    server_core: usize,
    load_core: usize,
    json: PathBuf,
}

/// `run`: measures all rows, prints the table and writes the JSON; exits with 1 when a row has errors.
///
/// # Errors
/// [`BenchError`] for a wrong command line or a machine on which nothing can be measured.
pub fn run(mut args: Args) -> Result<ExitCode, BenchError> {
    if args.switch("--list") {
        for row in &ROWS {
            println!("{:16} {}", row.name, row.what);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let a = args.option("--bin-a")?.unwrap_or_else(|| PathBuf::from("nginx"));
    let b = args.option("--bin-b")?.unwrap_or_else(own_sibling);
    let options = Options::take(args)?;
    let bench = Bench::new(Contender::pair(find(&a)?, find(&b)?), options.rounds, options.seconds);
    pin(options.load_core)?;
    let scratch = Scratch::new()?;

    print!("{}", table::header(&bench));
    let mut rows = Vec::new();
    for row in &options.rows {
        let result = run_row(row, &bench.contenders, &options, &scratch);
        print!("{}", table::row(&result));
        rows.push(result);
    }
    let notes = table::notes(&rows);
    print!("{notes}");
    fs::write(&options.json, bench.json(&rows))
        .context(|| format!("cannot write {}", options.json.display()))?;
    println!("\nfigures of every round: {}", options.json.display());
    let clean = rows.iter().all(RowResult::is_clean);
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Options {
    fn take(mut args: Args) -> Result<Self, BenchError> {
        let quick = args.switch("--quick");
        let (rounds, seconds, idle) = if quick { (3, 0.5, 1_000) } else { (7, 3.0, crate::rows::IDLE) };
        let idle = args.option("--idle")?.unwrap_or(idle);
        let names: Option<String> = args.option("--rows")?;
        let options = Self {
            rows: select(names.as_deref(), idle)?,
            rounds: args.option("--rounds")?.unwrap_or(rounds),
            seconds: args.option("--seconds")?.unwrap_or(seconds),
            warm_up: WARM_UP.mul_f64(if quick { 0.4 } else { 1.0 }),
            server_core: args.option("--server-core")?.unwrap_or(0),
            load_core: args.option("--load-core")?.unwrap_or(1),
            json: args.option("--json")?.unwrap_or_else(|| PathBuf::from("target/bench.json")),
        };
        args.finish()?;
        if options.rounds < 5 && !quick {
            return Err(BenchError::Usage("at least 5 rounds, or --quick".to_owned()));
        }
        if options.rounds == 0 || !(0.01..=3600.0).contains(&options.seconds) {
            return Err(BenchError::Usage("--rounds or --seconds out of range".to_owned()));
        }
        if options.server_core == options.load_core {
            return Err(BenchError::Usage("server and load need a core each".to_owned()));
        }
        Ok(options)
    }
}

/// The rows that `names` (comma-separated) asks for, all without it, in the order of the table.
fn select(names: Option<&str>, idle: usize) -> Result<Vec<Row>, BenchError> {
    let wanted: Vec<&str> = names.map(|names| names.split(',').collect()).unwrap_or_default();
    if let Some(unknown) = wanted.iter().find(|name| ROWS.iter().all(|row| row.name != **name)) {
        return Err(BenchError::Usage(format!("no row \"{unknown}\"; --list names them")));
    }
    let mut rows: Vec<Row> =
        ROWS.into_iter().filter(|row| names.is_none() || wanted.contains(&row.name)).collect();
    for row in rows.iter_mut().filter(|row| row.mode == Mode::Idle) {
        row.connections = idle;
    }
    Ok(rows)
}

/// Measures one row; a contender that fails is out for the rest of the row.
fn run_row(row: &Row, contenders: &[Contender; 2], options: &Options, scratch: &Scratch) -> RowResult {
    let mut result = RowResult::new(*row);
    for round in 0..options.rounds {
        let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
        for which in order {
            if result.failed[which].is_some() {
                continue;
            }
            let prefix = scratch.path.join(format!("{}-{round}-{which}", row.name));
            match run_once(row, &contenders[which].binary, prefix, options) {
                Ok(sample) => result.samples[which].push(sample),
                Err(error) => result.failed[which] = Some(error.to_string()),
            }
        }
    }
    result
}

fn run_once(row: &Row, binary: &Path, prefix: PathBuf, options: &Options) -> Result<Sample, BenchError> {
    if open_files_limit().is_some_and(|limit| limit < row.connections + SPARE_FILES) {
        return Err(BenchError::Server(format!(
            "{} connections exceed the limit on open files",
            row.connections
        )));
    }
    let failed = || format!("load on {}", binary.display());
    let mut engine = Engine::new().context(failed)?;
    let origin = engine.start_origin(([127, 0, 0, 1], 0).into()).context(failed)?;
    let server = Server::start(binary, options.server_core, row, prefix, origin.port())?;
    let path = row.path.to_owned();
    engine.start_clients(Plan { target: server.address(), path, body: row.body, mode: row.mode });
    let sample = match row.mode {
        Mode::Idle => hold(&mut engine, &server, row.connections),
        Mode::KeepAlive | Mode::Close => load(&mut engine, &server, row.connections, options),
    };
    let sample = sample.map_err(|source| match engine.tally().first_error {
        None => BenchError::Io { what: failed(), source },
        Some(first) => BenchError::Server(format!("{}: {source}; the first error: {first}", failed())),
    })?;
    match engine.tally().first_error {
        Some(error) if sample.requests == 0 => Err(BenchError::Server(error)),
        Some(error) => {
            eprintln!("{}: {}: {} errors, the first: {error}", row.name, binary.display(), sample.errors);
            Ok(sample)
        }
        None => Ok(sample),
    }
}

/// Warms up, then measures under full load.
fn load(
    engine: &mut Engine,
    server: &Server,
    connections: usize,
    options: &Options,
) -> std::io::Result<Sample> {
    engine.open(connections)?;
    engine.run_until(Instant::now() + options.warm_up)?;
    measure(engine, Some(server.pid()), Extent::Time(Duration::from_secs_f64(options.seconds)))
}

/// Opens idle connections and tells by how much the server grew.
fn hold(engine: &mut Engine, server: &Server, connections: usize) -> std::io::Result<Sample> {
    engine.open(1)?;
    sleep(SETTLE);
    let before = resident_kib(workers(&tree(server.pid())));
    let start = Instant::now();
    engine.open(connections)?;
    let seconds = start.elapsed().as_secs_f64();
    engine.run_until(Instant::now() + SETTLE)?;
    let rss_kib = resident_kib(workers(&tree(server.pid())));
    let tally = engine.tally();
    Ok(Sample {
        requests: tally.requests,
        seconds,
        rss_kib,
        per_connection: Some(rss_kib.saturating_sub(before) as f64 * 1024.0 / connections.max(1) as f64),
        errors: tally.errors,
        ..Sample::default()
    })
}

/// Binds this process to the load core; servers are bound to theirs when they start.
fn pin(core: usize) -> Result<(), BenchError> {
    let pid = std::process::id().to_string();
    let status =
        Command::new("taskset").args(["-cp", &core.to_string(), &pid]).stdout(Stdio::null()).status();
    match status.context(|| "cannot start taskset".to_owned())?.success() {
        true => Ok(()),
        false => Err(BenchError::Usage(format!("cannot run on core {core}"))),
    }
}

/// The file that a shell would run for `binary`.
fn find(binary: &Path) -> Result<PathBuf, BenchError> {
    if binary.components().count() > 1 {
        return fs::canonicalize(binary).context(|| format!("cannot find {}", binary.display()));
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let mut places = env::split_paths(&path).chain(sbin).map(|directory| directory.join(binary));
    let found = places.find(|file| file.is_file());
    found.ok_or_else(|| BenchError::Usage(format!("cannot find {} in PATH", binary.display())))
}

/// Tidegate as built beside this program.
fn own_sibling() -> PathBuf {
    let sibling = env::current_exe().ok().map(|path| path.with_file_name("tidegate"));
    sibling.filter(|path| path.is_file()).unwrap_or_else(|| PathBuf::from("tidegate"))
}

/// A directory for everything that servers write, removed at the end.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new() -> Result<Self, BenchError> {
        let path = env::temp_dir().join(format!("tidegate-bench-{}", std::process::id()));
        fs::create_dir_all(&path).context(|| format!("cannot create {}", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}
