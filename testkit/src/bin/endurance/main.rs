//! `endurance [OPTION…] [PART…]`: what only time, load and malice bring to light.
//!
//! Options are `--quick`, `--reloads N`, `--bin PATH` and `--oracle PATH` (nginx, for its memory). Parts are
//! `malformed`, `limits`, `floods`, `peers`, `kill`, `idle`, `reload`, `chaos`, `connections`, `names` and `cache`; all
//! without a name. With `TIDEGATE_KEEP` in the environment the folders of the runs are kept.

mod cache;
mod chaos;
mod connections;
mod fickle;
mod floods;
mod ground;
mod idle;
mod kill;
mod limits;
mod load;
mod malformed;
mod names;
mod peers;
mod proc_fs;
mod reload;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use testkit::process::{Binary, Kind};

use report::Report;

const USAGE: &str = "usage: endurance [--quick] [--reloads N] [--bin PATH] [--oracle PATH] [PART...]";

/// How much is done.
struct Plan {
    binary: Binary,
    /// nginx, whose memory is compared; none where it is not installed.
    oracle: Option<Binary>,
    reloads: usize,
    kills: usize,
    idle: usize,
    /// How long requests are counted.
    rated: Duration,
    /// How long origins are disturbed.
    chaos: Duration,
    /// Requests of which the connections are counted.
    requests: usize,
    /// How often a cache is killed while it writes.
    crashes: usize,
    /// Entries that a cache is filled with.
    entries: usize,
    /// Bytes that a slow client reads, and how many a second.
    slow: (u64, u64),
    /// How long requests are measured while addresses change.
    flux: Duration,
}

type Part = fn(&Plan, &mut Report) -> Result<(), String>;

const PARTS: [(&str, Part); 11] = [
    ("malformed", malformed::run),
    ("limits", limits::run),
    ("floods", floods::run),
    ("peers", peers::run),
    ("kill", kill::run),
    ("idle", idle::run),
    ("reload", reload::run),
    ("chaos", chaos::run),
    ("connections", connections::run),
    ("names", names::run),
    ("cache", cache::run),
];

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("endurance: {error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<ExitCode, String> {
    let (mut binary, mut oracle, mut wanted) = (None, None, Vec::new());
    let (mut reloads, mut kills, mut idle, mut rated) = (1000, 20, 10_000, 10);
    let (mut chaos, mut requests, mut flux) = (300, 100_000, 10);
    let (mut crashes, mut entries, mut slow) = (200, 1_000_000, (100 << 20, 1 << 20));
    let mut words = std::env::args().skip(1);
    if let [mark, name, address] = &std::env::args().skip(1).collect::<Vec<_>>()[..]
        && mark == "--attack"
    {
        return floods::attack(name, address).map(|()| ExitCode::SUCCESS);
    }
    while let Some(word) = words.next() {
        let mut value = || words.next().map(PathBuf::from).ok_or_else(|| format!("{word} wants a value"));
        match word.as_str() {
            "--quick" => {
                (reloads, kills, idle, rated) = (100, 5, 2000, 2);
                (chaos, requests, flux) = (10, 10_000, 3);
                (crashes, entries, slow) = (10, 10_000, (32 << 20, 16 << 20));
            }
            "--reloads" => {
                let number = value()?;
                reloads = number.to_str().and_then(|n| n.parse().ok()).ok_or("--reloads wants a number")?;
            }
            "--bin" => binary = Some(value()?),
            "--oracle" => oracle = Some(value()?),
            "--help" | "-h" => {
                println!("{USAGE}");
                return Ok(ExitCode::SUCCESS);
            }
            name if PARTS.iter().any(|(part, _)| *part == name) => wanted.push(word),
            other => return Err(format!("no part or option {other}\n{USAGE}")),
        }
    }
    let binary = binary.map_or_else(testkit::suite::built_binary, Ok)?;
    // The server runs in a folder of its own.
    let binary = binary.canonicalize().map_err(|error| format!("{}: {error}", binary.display()))?;
    let binary = Binary::probe(&binary).map_err(|error| error.to_string())?;
    let oracle = oracle.or_else(installed_nginx).and_then(|path| Binary::probe(&path).ok());
    let oracle = oracle.filter(|oracle| oracle.kind == Kind::Nginx);
    let [rated, chaos, flux] = [rated, chaos, flux].map(Duration::from_secs);
    let plan =
        Plan { binary, oracle, reloads, kills, idle, rated, chaos, requests, crashes, entries, slow, flux };
    let mut report = Report::default();
    for (name, part) in PARTS {
        if wanted.is_empty() || wanted.iter().any(|word| word == name) {
            report.begin(name);
            if let Err(error) = part(&plan, &mut report) {
                report.check("the part runs to its end", Err(error));
            }
        }
    }
    println!("{}", report.summary());
    Ok(if report.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// nginx where distributions put it.
fn installed_nginx() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([Path::new("/usr/sbin").to_owned()]);
    folders.map(|folder| folder.join("nginx")).find(|file| file.is_file())
}
