//! Runs one scenario against one binary.
//!
//! Each run has its own folder under the system's temporary folder, its own ports and its own origins.

mod answer;
mod command;
mod files;
mod logs;
mod program;
mod seen;
mod talk;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use self::program::Program;
use crate::client::Client;
use crate::message::Message;
use crate::origin::Origins;
use crate::places::Places;
use crate::process::{Binary, Kind, ProcessError, Server, signal};
use crate::script::{Addressee, Oracle, Patience, Scenario, Step, StepKind};
use crate::transcript::Transcript;

/// How long something that must happen may take.
const PATIENCE: Duration = Duration::from_secs(8);

/// How a run ended.
#[derive(Debug)]
pub enum Outcome {
    /// All expectations held.
    Passed(Transcript),
    /// One did not.
    Failed(Failure),
    /// The binary cannot do what the scenario needs, for this reason.
    Skipped(String),
}

/// An expectation that did not hold.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The line of the script, 0 when it is about the run as a whole.
    pub line: usize,
    /// The line's text.
    pub text: String,
    /// What was wanted and what came.
    pub what: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.line > 0 {
            writeln!(f, "    script:{}: {}", self.line, self.text)?;
        }
        for line in self.what.lines() {
            writeln!(f, "      {line}")?;
        }
        Ok(())
    }
}

/// Runs a scenario. A run that fails because another program took one of its ports is tried again.
#[must_use]
pub fn run(scenario: &Scenario, binary: &Binary) -> Outcome {
    if let (Oracle::Needs(version), Kind::Nginx) = (&scenario.oracle, binary.kind)
        && binary.version < *version
    {
        let (major, minor, patch) = *version;
        return Outcome::Skipped(format!("needs nginx {major}.{minor}.{patch}"));
    }
    if let (Oracle::Lacks(module), Kind::Nginx) = (&scenario.oracle, binary.kind) {
        return Outcome::Skipped(format!("needs {module}"));
    }
    for _ in 0..3 {
        let outcome = run_once(scenario, binary);
        match &outcome {
            Outcome::Failed(failure) if failure.what.contains("Address already in use") => {}
            _ => return outcome,
        }
    }
    run_once(scenario, binary)
}

fn run_once(scenario: &Scenario, binary: &Binary) -> Outcome {
    let root = match make_root() {
        Ok(root) => root,
        Err(error) => return Outcome::Failed(whole(format!("no folder to run in: {error}"))),
    };
    let outcome = Run::new(scenario, binary, &root).map_or_else(Outcome::Failed, Run::finish);
    let failed = matches!(outcome, Outcome::Failed(_));
    let kept = failed && std::env::var_os("TIDEGATE_KEEP").is_some();
    if !kept {
        let _ = std::fs::remove_dir_all(&root);
    }
    match outcome {
        Outcome::Failed(failure) if kept => Outcome::Failed(Failure {
            what: format!("{}\nkept in {}", failure.what, root.display()),
            ..failure
        }),
        other => other,
    }
}

/// A new folder whose name has the same length in every run.
fn make_root() -> std::io::Result<PathBuf> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("tg{:07}-{number:05}", std::process::id()));
        match std::fs::create_dir(&root) {
            Ok(()) => {
                std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o755))?;
                return Ok(root);
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

fn whole(what: String) -> Failure {
    Failure { line: 0, text: String::new(), what }
}

/// The state of a run.
struct Run<'a> {
    scenario: &'a Scenario,
    binary: &'a Binary,
    places: Places,
    origins: Origins,
    programs: Vec<Program>,
    server: Option<Server>,
    connections: BTreeMap<String, Client>,
    transcript: Transcript,
    /// Requests of attempts that were made again.
    retried: Vec<std::ops::Range<usize>>,
}

/// Why a step failed: for good, or the whole run is to be left away.
enum Stop {
    Failed(Failure),
    Skip(String),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl<'a> Run<'a> {
    fn new(scenario: &'a Scenario, binary: &'a Binary, root: &Path) -> Result<Self, Failure> {
        let places = Places::new(root);
        let origins = Origins::start(&scenario.origins, &places).map_err(|error| whole(error.to_string()))?;
        Ok(Self {
            scenario,
            binary,
            places,
            origins,
            programs: Vec::new(),
            server: None,
            connections: BTreeMap::new(),
            transcript: Transcript::default(),
            retried: Vec::new(),
        })
    }

    fn finish(mut self) -> Outcome {
        match self.all_steps() {
            Ok(()) => {}
            Err(Stop::Skip(reason)) => return Outcome::Skipped(reason),
            Err(Stop::Failed(mut failure)) => {
                let said = self.server.as_ref().map(Server::said).unwrap_or_default();
                if said.lines().any(|line| !line.contains("[notice]")) {
                    failure.what.push_str("\nthe server said:\n");
                    let lines: Vec<&str> = said.lines().filter(|line| !line.contains("[notice]")).collect();
                    for line in lines.iter().skip(lines.len().saturating_sub(12)) {
                        failure.what.push_str(&format!("  {line:.400}\n"));
                    }
                }
                return Outcome::Failed(failure);
            }
        }
        self.connections.clear();
        self.server = None;
        self.record_seen();
        match self.alarms() {
            Some(alarm) => Outcome::Failed(whole(format!("the error log holds an alarm:\n{alarm}"))),
            None => Outcome::Passed(self.transcript),
        }
    }

    fn all_steps(&mut self) -> Result<(), Stop> {
        let scenario = self.scenario;
        if let Some(need) = scenario.needs.iter().find(|need| !self.has(need)) {
            return Err(Stop::Skip(format!(
                "{} fails; to install it: {}",
                need.command.join(" "),
                need.install
            )));
        }
        let started_by_hand = scenario.steps.iter().any(|step| step.kind == StepKind::Start);
        let mut running = started_by_hand || !scenario.folder.join("nginx.conf").exists();
        if self.scenario.folder.join("nginx.conf").exists() {
            self.configure("nginx.conf").map_err(whole)?;
        }
        for step in &scenario.steps {
            if step.only.is_some_and(|kind| kind != self.binary.kind) {
                continue;
            }
            if !running && !prepares(&step.kind) {
                self.start().map_err(|error| self.not_started(&error))?;
                running = true;
            }
            if let StepKind::Program { command, .. } | StepKind::Client(command) = &step.kind
                && let Some(missing) = program::missing(command)
            {
                return Err(Stop::Skip(format!("{missing} is not installed")));
            }
            self.step(step)?;
        }
        if !running {
            self.start().map_err(|error| self.not_started(&error))?;
        }
        Ok(())
    }

    /// An nginx without a directive leaves the scenario away; everything else is a failure.
    fn not_started(&self, error: &ProcessError) -> Stop {
        let text = error.to_string();
        let lacks = text.lines().find(|line| {
            line.contains("[emerg]")
                && (line.contains("unknown directive") || line.contains("unknown variable"))
        });
        match lacks.and_then(|line| line.split('"').nth(1)) {
            Some(name) if self.binary.kind == Kind::Nginx => Stop::Skip(format!("this nginx lacks {name}")),
            _ => Stop::Failed(whole(text)),
        }
    }

    fn step(&mut self, step: &Step) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (mark, seen) = (self.transcript.len(), self.origins.count());
            match self.attempt(step) {
                Err(_) if step.patience == Patience::Eventually && Instant::now() < deadline => {
                    self.transcript.truncate(mark);
                    self.retried.push(seen..self.origins.count());
                    std::thread::sleep(Duration::from_millis(10));
                }
                other => return other,
            }
        }
    }

    fn attempt(&mut self, step: &Step) -> Result<(), Failure> {
        let fail = |what: String| Failure { line: step.line, text: step.text.clone(), what };
        match &step.kind {
            StepKind::Talk { on, to, request } => {
                self.talk(step, on.as_deref(), to.as_deref(), request.as_ref())
            }
            StepKind::Test { .. } | StepKind::Run(_) => self.command(step),
            StepKind::Client(command) => self.real_client(step, command),
            StepKind::Start if step.acts.is_empty() => self.start().map_err(|error| fail(error.to_string())),
            StepKind::Start => self.start_fails(step),
            StepKind::WaitExit => self.wait_exit(step),
            StepKind::Log(path) => self.log(step, path),
            StepKind::Signal { name, to } => self.signal(name, *to).map_err(fail),
            StepKind::Close(name) => match self.connections.remove(name) {
                Some(_) => Ok(()),
                None => Err(fail("no such connection".into())),
            },
            StepKind::Program { number, door, command } => {
                self.program(*number, *door, command).map_err(fail)
            }
            StepKind::Config(file) => self.configure(file).map_err(fail),
            StepKind::Await(count) => {
                if self.origins.wait_for(*count, PATIENCE) {
                    return Ok(());
                }
                Err(fail(format!("the origins saw {} requests", self.origins.count())))
            }
            StepKind::Release(name) => {
                self.origins.release(name);
                Ok(())
            }
            StepKind::OriginDown(number) => {
                self.origins.down(*number);
                Ok(())
            }
            StepKind::OriginUp(number) => {
                self.origins.up(*number, &self.places).map_err(|error| fail(error.to_string()))
            }
            _ => self.file_step(step).map_err(fail),
        }
    }

    fn start(&mut self) -> Result<(), ProcessError> {
        self.server = Some(Server::start(self.binary, self.places.root())?);
        Ok(())
    }

    fn signal(&mut self, name: &str, to: Addressee) -> Result<(), String> {
        let server = self.server.as_ref().ok_or("the server was not started")?;
        let pid = match to {
            Addressee::Master => server.pid(),
            Addressee::Worker => *server.workers().first().ok_or("the server has no worker process")?,
        };
        signal(name, pid);
        Ok(())
    }

    fn expand(&self, text: &str) -> Result<String, String> {
        self.places.expand(text).map_err(|error| error.to_string())
    }

    /// The bytes of an escaped text with placeholders.
    fn bytes(&self, text: &str) -> Result<Vec<u8>, String> {
        crate::text::unescape(&self.expand(text)?).map_err(|error| error.to_string())
    }

    fn record(&mut self, line: usize, answer: &Message) {
        self.transcript.answer(line, answer, &self.places);
    }
}

/// Steps that come before the server starts.
fn prepares(kind: &StepKind) -> bool {
    matches!(
        kind,
        StepKind::File { .. } | StepKind::Dir { .. } | StepKind::Link { .. } | StepKind::Program { .. }
    )
}
