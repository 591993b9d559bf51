//! The command `load-time`: what it costs to load large configurations, told by `-t`.
//! CPU time of ended children is kept exactly by the kernel and shown in ticks, so several runs are read at once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use crate::args::Args;
use crate::error::{BenchError, Context};
use crate::run::{Scratch, find, own_sibling};
use crate::sample::median;
use crate::scale::{self, Scale};

/// Runs whose time is read together.
const TOGETHER: u32 = 5;
/// Milliseconds of a tick of the clock in `/proc`.
const TICK_MS: f64 = 10.0;

/// `load-time`: prints the CPU milliseconds of `-t` for both servers and their ratio.
///
/// # Errors
/// [`BenchError`] for a wrong command line or a server that refuses a configuration.
pub fn load_time(mut args: Args) -> Result<ExitCode, BenchError> {
    let a = find(&args.option("--bin-a")?.unwrap_or_else(|| PathBuf::from("nginx")))?;
    let b = find(&args.option("--bin-b")?.unwrap_or_else(own_sibling))?;
    let rounds: usize = args.option("--rounds")?.unwrap_or(5);
    args.finish()?;
    if rounds == 0 {
        return Err(BenchError::Usage("--rounds out of range".to_owned()));
    }
    let scratch = Scratch::new()?;
    println!("{:16}{:>12}{:>12}{:>10}", "CPU ms of -t", "a", "b", "ratio");
    let tables = Scale::ALL.map(|scale| (scale.name(), scale.config(1)));
    let groups = [("peers-10k", ""), ("peers-10k-hash", "hash $uri consistent;")]
        .map(|(name, method)| (name, scale::group(method, 1)));
    for (name, http) in tables.into_iter().chain(groups) {
        let config = scratch.path.join(format!("{name}.conf"));
        let prefix = scratch.path.display();
        let text = format!(
            "error_log stderr;\npid {prefix}/pid;\nevents {{}}\nhttp {{\n    access_log off;\n{http}}}\n"
        );
        fs::write(&config, text).context(|| format!("cannot write {}", config.display()))?;
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            for (binary, times) in [&a, &b].into_iter().zip(&mut times) {
                times.push(test(binary, &scratch.path, &config)?);
            }
        }
        let [a, b] = times.map(|times| median(times.into_iter()));
        println!("{name:16}{a:>12.1}{b:>12.1}{:>10.2}", b / a.max(f64::MIN_POSITIVE));
    }
    Ok(ExitCode::SUCCESS)
}

/// CPU milliseconds of one `-t`.
fn test(binary: &Path, prefix: &Path, config: &Path) -> Result<f64, BenchError> {
    let before = children_ticks();
    for _ in 0..TOGETHER {
        let mut command = Command::new(binary);
        command.arg("-t").arg("-p").arg(format!("{}/", prefix.display())).arg("-c").arg(config);
        let output = command.stdin(Stdio::null()).output();
        let output = output.context(|| format!("cannot start {}", binary.display()))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(BenchError::Server(format!("{}: {said}", binary.display())));
        }
    }
    Ok((children_ticks() - before) * TICK_MS / f64::from(TOGETHER))
}

/// User and system time of the children that have ended, in ticks.
fn children_ticks() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name, in parentheses, may hold anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    fields.split_whitespace().skip(13).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum()
}
