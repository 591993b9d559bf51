//! The command `run`: its options, the two programs, the rows one by one, the report.
//! A server that fails in a row does not end the run; only what is wrong here does.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use crate::args::Args;
use crate::clients::Mode;
use crate::error::{BenchError, Context};
use crate::report::{Bench, Contender, RowResult};
use crate::round::{self, Pace};
use crate::rows::{IDLE, ROWS, Row};
use crate::table;

struct Options {
    rows: Vec<Row>,
    pace: Pace,
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
    let bench = Bench::new(Contender::pair(find(&a)?, find(&b)?), options.pace.rounds, options.pace.seconds);
    pin(options.load_core)?;
    let scratch = Scratch::new()?;

    print!("{}", table::header(&bench));
    let mut rows = Vec::new();
    for row in &options.rows {
        let result = round::measure_row(row, &bench.contenders, &options.pace, &scratch.path);
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
        let (rounds, seconds, idle) = if quick { (3, 0.5, 1_000) } else { (7, 3.0, IDLE) };
        let idle = args.option("--idle")?.unwrap_or(idle);
        let names: Option<String> = args.option("--rows")?;
        let options = Self {
            rows: select(names.as_deref(), idle)?,
            pace: Pace {
                rounds: args.option("--rounds")?.unwrap_or(rounds),
                seconds: args.option("--seconds")?.unwrap_or(seconds),
                warm_up: Duration::from_secs_f64(if quick { 0.2 } else { 0.5 }),
                server_core: args.option("--server-core")?.unwrap_or(0),
            },
            load_core: args.option("--load-core")?.unwrap_or(1),
            json: args.option("--json")?.unwrap_or_else(|| PathBuf::from("target/bench.json")),
        };
        args.finish()?;
        let Pace { rounds, seconds, server_core, .. } = options.pace;
        if rounds < 5 && !quick {
            return Err(BenchError::Usage("at least 5 rounds, or --quick".to_owned()));
        }
        if rounds == 0 || !(0.01..=3600.0).contains(&seconds) {
            return Err(BenchError::Usage("--rounds or --seconds out of range".to_owned()));
        }
        if server_core == options.load_core {
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
///
/// # Errors
/// When there is none.
pub fn find(binary: &Path) -> Result<PathBuf, BenchError> {
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
pub fn own_sibling() -> PathBuf {
    let sibling = env::current_exe().ok().map(|path| path.with_file_name("tidegate"));
    sibling.filter(|path| path.is_file()).unwrap_or_else(|| PathBuf::from("tidegate"))
}

/// A directory for everything that servers write, removed at the end.
pub struct Scratch {
    /// Where it is.
    pub path: PathBuf,
}

impl Scratch {
    /// Makes it.
    ///
    /// # Errors
    /// What the system says when it cannot.
    pub fn new() -> Result<Self, BenchError> {
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
