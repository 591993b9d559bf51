//! Real programs in the place of an origin: Node, Gunicorn and others behind the server under test.
//!
//! They run in the scenario's folder and write what they say into the folder of the run.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Run;
use crate::client::Client;
use crate::origin::Door;
use crate::process::signal;

/// How long a program may take until it listens: an interpreter on a busy machine is slow.
const START_TIME: Duration = Duration::from_secs(30);
/// How long it may take to end by itself.
const END_TIME: Duration = Duration::from_secs(5);

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
        let probe = Command::new(path).arg("--version").stdin(Stdio::null()).output();
        probe.is_ok_and(|output| output.status.success())
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
        let child = Command::new(path)
            .args(arguments)
            .current_dir(&self.scenario.folder)
            .env("PYTHONDONTWRITEBYTECODE", "1")
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

fn text(path: &Path) -> String {
    let mut text = String::new();
    if let Ok(mut file) = File::open(path) {
        let _ = file.read_to_string(&mut text);
    }
    text
}
