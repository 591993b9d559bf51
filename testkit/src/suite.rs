//! Runs many scenarios, found by listing a folder, and reports them.
//!
//! With an oracle each scenario runs on both binaries and the two transcripts are compared.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::process::Binary;
use crate::run::{Outcome, run};
use crate::script::{Oracle, Scenario};

/// What to run.
#[derive(Debug, Clone)]
pub struct Suite {
    /// The folder of all scenarios.
    pub folder: PathBuf,
    /// The binary under test.
    pub binary: Binary,
    /// nginx, to compare with.
    pub oracle: Option<Binary>,
    /// How many run at once.
    pub jobs: usize,
    /// Globs of names; all when empty.
    pub names: Vec<String>,
}

/// How one scenario ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Well.
    Passed,
    /// Badly, with what is to be read about it.
    Failed(String),
    /// It was left away, for this reason.
    Skipped(String),
}

/// How all ended, by name.
#[derive(Debug, Default)]
pub struct Report {
    /// Names and verdicts in the order of the names.
    pub verdicts: Vec<(String, Verdict)>,
}

impl Report {
    /// How many have a verdict of this kind.
    #[must_use]
    pub fn count(&self, of: impl Fn(&Verdict) -> bool) -> usize {
        self.verdicts.iter().filter(|(_, verdict)| of(verdict)).count()
    }

    /// How many failed.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.count(|verdict| matches!(verdict, Verdict::Failed(_)))
    }

    /// The last line: `N passed, M failed`, and how many were skipped if any were.
    #[must_use]
    pub fn summary(&self) -> String {
        let passed = self.count(|verdict| *verdict == Verdict::Passed);
        let skipped = self.count(|verdict| matches!(verdict, Verdict::Skipped(_)));
        let tail = if skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
        format!("{passed} passed, {} failed{tail}", self.failed())
    }
}

/// The names of all scenarios in a folder, sorted.
///
/// # Errors
/// The kernel's, when the folder cannot be read.
pub fn names(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut names: Vec<String> = std::fs::read_dir(folder)?
        .flatten()
        .filter(|entry| entry.path().join("script").is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    Ok(names)
}

impl Suite {
    /// Runs everything and prints each failure and each skipped name as it comes.
    ///
    /// # Errors
    /// The kernel's, when the folder cannot be read.
    pub fn run(&self) -> std::io::Result<Report> {
        let names: Vec<String> = names(&self.folder)?
            .into_iter()
            .filter(|name| {
                self.names.is_empty()
                    || self.names.iter().any(|g| crate::text::glob(g.as_bytes(), name.as_bytes()))
            })
            .collect();
        let next = AtomicUsize::new(0);
        let verdicts = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                scope.spawn(|| {
                    while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let verdict = self.one(name);
                        match &verdict {
                            Verdict::Passed => {}
                            Verdict::Failed(what) => println!("FAILED {name}\n{what}"),
                            Verdict::Skipped(reason) => println!("skipped {name}: {reason}"),
                        }
                        verdicts.lock().unwrap_or_else(PoisonError::into_inner).push((name.clone(), verdict));
                    }
                });
            }
        });
        let mut verdicts = verdicts.into_inner().unwrap_or_else(PoisonError::into_inner);
        verdicts.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(Report { verdicts })
    }

    fn one(&self, name: &str) -> Verdict {
        let scenario = match Scenario::load(&self.folder.join(name)) {
            Ok(scenario) => scenario,
            Err(error) => return Verdict::Failed(format!("    {error}\n")),
        };
        let ours = match run(&scenario, &self.binary) {
            Outcome::Passed(transcript) => transcript,
            Outcome::Failed(failure) => return Verdict::Failed(failure.to_string()),
            Outcome::Skipped(reason) => return Verdict::Skipped(reason),
        };
        let Some(oracle) = &self.oracle else { return Verdict::Passed };
        let theirs = match run(&scenario, oracle) {
            Outcome::Passed(transcript) => transcript,
            Outcome::Failed(failure) => return Verdict::Failed(format!("    on the oracle:\n{failure}")),
            Outcome::Skipped(reason) => return Verdict::Skipped(format!("not compared, {reason}")),
        };
        if let Oracle::Differs(_) = scenario.oracle {
            return Verdict::Passed;
        }
        match ours.difference(&theirs, &scenario.volatile) {
            Some(difference) => {
                let indented: String = difference.lines().map(|line| format!("      {line}\n")).collect();
                Verdict::Failed(format!("    differs from the oracle:\n{indented}"))
            }
            None => Verdict::Passed,
        }
    }
}

/// The binary to test when none is named: `TIDEGATE_BIN`, or what was built last in `target`.
///
/// # Errors
/// The text says where it was looked for.
pub fn built_binary() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("TIDEGATE_BIN") {
        return Ok(PathBuf::from(path));
    }
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let built = ["release", "quick", "debug"]
        .iter()
        .map(|profile| target.join(profile).join("tidegate"))
        .filter_map(|path| Some((std::fs::metadata(&path).ok()?.modified().ok()?, path)))
        .max();
    match built {
        Some((_, path)) => Ok(path),
        None => Err(format!(
            "no binary: build tidegate, or name one in TIDEGATE_BIN (looked in {}/{{release,quick,debug}})",
            target.display()
        )),
    }
}
