//! Real programs on both sides of the server under test: Node, Gunicorn and others behind it, clients before it.
//!
//! They run in the scenario's folder; what those behind it say lies in the folder of the run.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::command::Left;
use super::{Failure, Run};
use crate::client::Client;
use crate::origin::Door;
use crate::process::signal;
use crate::script::{ActKind, Expect, Need, Send, Step};
use crate::text::latin1;

/// How long a program may take until it listens: an interpreter on a busy machine is slow.
const START_TIME: Duration = Duration::from_secs(30);
/// How long it may take to end by itself.
const END_TIME: Duration = Duration::from_secs(5);

/// How long a client may take.
const CLIENT_TIME: Duration = Duration::from_secs(40);

/// A running program. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Program {
    child: Child,
}

impl Drop for Program {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        signal("TERM", self.child.id());
        let deadline = Instant::now() + END_TIME;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command's program, when it is not on this machine.
pub(super) fn missing(command: &[String]) -> Option<&str> {
    let name = command.first()?;
    found(name).is_none().then_some(name)
}

/// The first file of that name in `PATH` that can be run at all: the shim of a version manager may be there
/// without anything behind it. A name with `*` at its end is one with a version behind it, such as `php-fpm*`.
fn found(name: &str) -> Option<PathBuf> {
    let works = |path: &PathBuf| {
        // OpenSSL has a word in the place of the option.
        ["--version", "version"].iter().any(|asked| {
            let probe = Command::new(path).arg(asked).stdin(Stdio::null()).output();
            probe.is_ok_and(|output| output.status.success())
        })
    };
    let folders = std::env::var_os("PATH")?;
    // Daemons lie where the paths of users do not lead.
    let folders = std::env::split_paths(&folders).chain([PathBuf::from("/usr/sbin")]);
    folders.flat_map(|folder| named(&folder, name)).filter(|path| path.is_file()).find(works)
}

/// The files of a folder that a name means.
fn named(folder: &Path, name: &str) -> Vec<PathBuf> {
    let Some(prefix) = name.strip_suffix('*') else { return vec![folder.join(name)] };
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(prefix.as_bytes()))
    });
    paths.sort();
    paths
}

impl Run<'_> {
    /// Starts a program and waits until it takes connections.
    pub(super) fn program(&mut self, number: usize, door: Door, command: &[String]) -> Result<(), String> {
        let address = match door {
            Door::Tcp => self.expand(&format!("@ORIGIN{number}@"))?,
            Door::Unix => self.expand(&format!("unix:@OSOCK{number}@"))?,
        };
        let words: Vec<String> = command.iter().map(|word| self.expand(word)).collect::<Result<_, _>>()?;
        let (name, arguments) = words.split_first().ok_or("no command")?;
        let path = found(name).ok_or("not installed")?;
        let said = self.places.root().join(format!("program{number}.txt"));
        let log = File::create(&said).map_err(|error| error.to_string())?;
        let errors = log.try_clone().map_err(|error| error.to_string())?;
        let child = self
            .here(&path)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(|error| format!("{name}: {error}"))?;
        let mut program = Program { child };
        let deadline = Instant::now() + START_TIME;
        while Client::connect(&address).is_err() {
            if let Ok(Some(status)) = program.child.try_wait() {
                return Err(format!("{name} ended ({status}):\n{}", text(&said)));
            }
            if Instant::now() > deadline {
                return Err(format!("{name} does not listen on {address}:\n{}", text(&said)));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.programs.push(program);
        Ok(())
    }
}

impl Run<'_> {
    /// Whether something is installed.
    pub(super) fn has(&self, need: &Need) -> bool {
        let Some((name, arguments)) = need.command.split_first() else { return false };
        let Some(path) = found(name) else { return false };
        let probe = self.here(&path).args(arguments).stdin(Stdio::null()).output();
        probe.is_ok_and(|output| output.status.success())
    }

    /// Runs a client to its end. Without another expectation it must end well.
    pub(super) fn real_client(&mut self, step: &Step, command: &[String]) -> Result<(), Failure> {
        let fail = |what: String| Failure { line: step.line, text: step.text.clone(), what };
        let left = self.run_client(step, command).map_err(fail)?;
        let is_told = |kind: &ActKind| matches!(kind, ActKind::Expect(Expect::Exit(_)));
        if left.code != Some(0) && !step.acts.iter().any(|act| is_told(&act.kind)) {
            let Left { code, stdout, stderr } = &left;
            return Err(fail(format!("exit {code:?}\nstdout: {stdout}\nstderr: {stderr}")));
        }
        self.judge(step, &left)
    }

    fn run_client(&self, step: &Step, command: &[String]) -> Result<Left, String> {
        let words: Vec<String> = command.iter().map(|word| self.expand(word)).collect::<Result<_, _>>()?;
        let (name, arguments) = words.split_first().ok_or("no command")?;
        let path = found(name).ok_or("not installed")?;
        let mut input = Vec::new();
        for act in step.acts.iter().filter(|act| act.only.is_none_or(|kind| kind == self.binary.kind)) {
            match &act.kind {
                ActKind::Send(Send::Line(line)) => input.extend([&*self.bytes(line)?, b"\r\n"].concat()),
                ActKind::Send(Send::Bytes(bytes)) => input.extend(self.bytes(bytes)?),
                ActKind::Send(_) => return Err(format!("not for a client: {}", act.text)),
                _ => {}
            }
        }
        let mut child = self
            .here(&path)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{name}: {error}"))?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let mut program = Program { child };
        std::thread::scope(|scope| {
            // A client that ends without reading what it was given is judged by what it says.
            scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(&input)));
            let stdout = scope.spawn(move || drained(stdout));
            let stderr = scope.spawn(move || drained(stderr));
            let deadline = Instant::now() + CLIENT_TIME;
            let status = loop {
                match program.child.try_wait() {
                    Ok(Some(status)) => break Ok(status),
                    Ok(None) if Instant::now() > deadline => {
                        break Err(format!("{name} did not end within {} s", CLIENT_TIME.as_secs()));
                    }
                    Ok(None) => std::thread::sleep(Duration::from_millis(5)),
                    Err(error) => break Err(error.to_string()),
                }
            };
            drop(program);
            let (stdout, stderr) = (stdout.join().unwrap_or_default(), stderr.join().unwrap_or_default());
            match status {
                Ok(status) => Ok(Left { code: status.code(), stdout, stderr }),
                Err(why) => Err(format!("{why}\nstdout: {stdout}\nstderr: {stderr}")),
            }
        })
    }

    /// A command in the scenario's folder.
    fn here(&self, path: &Path) -> Command {
        let mut command = Command::new(path);
        command.current_dir(&self.scenario.folder).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }
}

fn drained(source: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut source) = source {
        let _ = source.read_to_end(&mut bytes);
    }
    latin1(&bytes)
}

fn text(path: &Path) -> String {
    let mut text = String::new();
    if let Ok(mut file) = File::open(path) {
        let _ = file.read_to_string(&mut text);
    }
    text
}
