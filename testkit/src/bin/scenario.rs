//! `scenario [--bin PATH] [--oracle PATH] [--use METHOD] [--jobs N] [--dir DIR] [--list] [NAME…]`: runs scenarios.
//!
//! Names are globs. With `TIDEGATE_KEEP` in the environment the folders of the runs are kept.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use testkit::process::Binary;
use testkit::suite::{Suite, names};

const USAGE: &str =
    "usage: scenario [--bin PATH] [--oracle PATH] [--use METHOD] [--jobs N] [--dir DIR] [--list] [NAME...]";

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("scenario: {error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<ExitCode, String> {
    let mut folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let (mut binary, mut oracle, mut jobs, mut list) = (None, None, 2, None);
    let (mut wanted, mut events) = (Vec::new(), String::new());
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} wants a value"));
        match word.as_str() {
            "--bin" => binary = Some(PathBuf::from(value()?)),
            "--oracle" => oracle = Some(PathBuf::from(value()?)),
            "--use" => events = format!("use {};", value()?),
            "--jobs" => jobs = value()?.parse().map_err(|_| "--jobs wants a number")?,
            "--dir" => folder = PathBuf::from(value()?),
            "--list" => list = Some(()),
            "--help" | "-h" => {
                println!("{USAGE}");
                return Ok(ExitCode::SUCCESS);
            }
            option if option.starts_with('-') => return Err(format!("unknown option {option}\n{USAGE}")),
            name => wanted.push(name.to_owned()),
        }
    }
    if list.is_some() {
        for name in names(&folder).map_err(|error| format!("{}: {error}", folder.display()))? {
            println!("{name}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let binary = match binary {
        Some(path) => path,
        None => testkit::suite::built_binary()?,
    };
    let probe = |path: &Path| Binary::probe(path).map_err(|error| error.to_string());
    let suite = Suite {
        folder,
        binary: Binary { events, ..probe(&binary)? },
        oracle: oracle.as_deref().map(probe).transpose()?,
        jobs,
        names: wanted,
    };
    let report = suite.run().map_err(|error| format!("{}: {error}", suite.folder.display()))?;
    if report.verdicts.is_empty() {
        return Err("no scenario has such a name".into());
    }
    println!("{}", report.summary());
    Ok(if report.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
