//! The server under test: started as nginx is, watched by its pid file, ended by signals to its own pids.
//!
//! Signals go through the shell's `kill`, which spares the testkit a binding to libc.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use crate::prelude::PATHS;

/// How long the server may take to start, and to end.
pub const START_TIME: Duration = Duration::from_secs(10);

/// A binary that understands nginx's command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binary {
    /// Where it lies, or its name in `PATH`.
    pub path: PathBuf,
    /// Whether it is nginx itself, so that lines marked `[nginx]` hold.
    pub kind: Kind,
    /// The version that `-V` names.
    pub version: (u32, u32, u32),
    /// Those of [`PATHS`] that it knows.
    pub paths: Vec<(&'static str, &'static str)>,
    /// What stands in `events` where a configuration has none.
    pub events: String,
}

/// Which of the two programs a binary is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Tidegate.
    Ours,
    /// nginx.
    Nginx,
}

/// Why a server could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The binary could not be run at all.
    #[error("cannot run {path}: {error}")]
    Run {
        /// The binary.
        path: PathBuf,
        /// The kernel's reason.
        error: std::io::Error,
    },
    /// It ended before it listened.
    #[error("server did not start ({status}):\n{said}")]
    Ended {
        /// Its exit status.
        status: ExitStatus,
        /// What it wrote on stderr and into its error log.
        said: String,
    },
    /// It wrote no pid file in time.
    #[error("server wrote no pid file within {} s:\n{said}", START_TIME.as_secs())]
    Silent {
        /// What it wrote on stderr and into its error log.
        said: String,
    },
}

impl Binary {
    /// Asks the binary for its version and tells nginx from Tidegate by its name and what it says.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn probe(path: &Path) -> Result<Self, ProcessError> {
        let output = Command::new(path)
            .arg("-V")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| ProcessError::Run { path: path.to_owned(), error })?;
        let said = String::from_utf8_lossy(&output.stderr).to_lowercase();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let kind =
            if name.starts_with("nginx") && !said.contains("tidegate") { Kind::Nginx } else { Kind::Ours };
        let version = said.split_once("nginx/").map(|(_, rest)| version(rest)).unwrap_or_default();
        let mut binary =
            Self { path: path.to_owned(), kind, version, paths: Vec::new(), events: String::new() };
        binary.paths = PATHS.into_iter().filter(|(name, _)| binary.knows(name)).collect();
        Ok(binary)
    }

    /// Whether a directive that names a folder is accepted in `http`, however far the binary has come.
    fn knows(&self, directive: &str) -> bool {
        let root = std::env::temp_dir().join(format!("tgprobe{:07}", std::process::id()));
        let path = root.display();
        let conf =
            format!("pid {path}/pid; error_log {path}/log; events {{}} http {{ {directive} {path}/t; }}");
        let tested = std::fs::create_dir_all(&root).and_then(|()| std::fs::write(root.join("c"), conf));
        let words = ["-t", "-p", &format!("{path}/"), "-c", "c", "-e", "log"].map(str::to_owned);
        let output = self.run(&words, &root);
        let _ = std::fs::remove_dir_all(&root);
        let refused =
            |output: Output| String::from_utf8_lossy(&output.stderr).contains(&format!("\"{directive}\""));
        tested.is_ok() && !output.is_ok_and(refused)
    }

    /// Runs the binary to its end with the given arguments.
    ///
    /// # Errors
    /// When it cannot be run, or does not end in time.
    pub fn run(&self, arguments: &[String], root: &Path) -> Result<Output, ProcessError> {
        let failed = |error| ProcessError::Run { path: self.path.clone(), error };
        let mut child = Command::new(&self.path)
            .args(arguments)
            .current_dir(root)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let deadline = Instant::now() + START_TIME;
        while child.try_wait().map_err(failed)?.is_none() {
            if Instant::now() > deadline {
                // The descriptors close with it, so what it wrote can still be read.
                let _ = child.kill();
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        child.wait_with_output().map_err(failed)
    }
}

/// The three numbers at the start of a text like `1.22.1 (debian)`.
#[must_use]
pub fn version(text: &str) -> (u32, u32, u32) {
    let word: String = text.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    let mut numbers = word.split('.').map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    root: PathBuf,
}

impl Server {
    /// Starts the binary in the foreground under `root` and waits for its pid file.
    ///
    /// # Errors
    /// When it does not start; then its messages are in the error.
    pub fn start(binary: &Binary, root: &Path) -> Result<Self, ProcessError> {
        let failed = |error| ProcessError::Run { path: binary.path.clone(), error };
        let stderr = File::create(root.join("stderr.txt")).map_err(failed)?;
        let stdout = File::create(root.join("stdout.txt")).map_err(failed)?;
        let _ = std::fs::remove_file(root.join("nginx.pid"));
        let child = Command::new(&binary.path)
            .args(["-p", &format!("{}/", root.display()), "-c", "nginx.conf", "-e", "error.log"])
            .current_dir(root)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .map_err(failed)?;
        let mut server = Self { child, root: root.to_owned() };
        let deadline = Instant::now() + START_TIME;
        loop {
            if std::fs::read_to_string(root.join("nginx.pid")).is_ok_and(|pid| pid.ends_with('\n')) {
                return Ok(server);
            }
            if let Some(status) = server.child.try_wait().map_err(failed)? {
                return Err(ProcessError::Ended { status, said: server.said() });
            }
            if Instant::now() > deadline {
                return Err(ProcessError::Silent { said: server.said() });
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// What the server wrote on stderr and into its error log.
    #[must_use]
    pub fn said(&self) -> String {
        ["stderr.txt", "error.log"]
            .iter()
            .map(|name| {
                String::from_utf8_lossy(&std::fs::read(self.root.join(name)).unwrap_or_default()).into_owned()
            })
            .collect()
    }

    /// The process that was started.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The processes that it started.
    #[must_use]
    pub fn workers(&self) -> Vec<u32> {
        children(self.pid())
    }

    /// Waits for the end of the server.
    ///
    /// # Errors
    /// The text says that it is still there.
    pub fn wait(&mut self, time: Duration) -> Result<ExitStatus, String> {
        let deadline = Instant::now() + time;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) if Instant::now() > deadline => {
                    return Err(format!("the server still runs after {} ms", time.as_millis()));
                }
                Ok(None) => std::thread::sleep(Duration::from_millis(2)),
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        let workers = self.workers();
        signal("TERM", self.pid());
        if self.wait(Duration::from_secs(4)).is_err() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        for worker in workers {
            // A worker that lost its master is told from a later process of that number by its folder.
            if std::fs::read_link(format!("/proc/{worker}/cwd")).is_ok_and(|folder| folder == self.root) {
                signal("KILL", worker);
            }
        }
    }
}

/// Sends a signal by its name (`HUP`) to one process.
pub fn signal(name: &str, pid: u32) {
    let _ = Command::new("sh").args(["-c", &format!("kill -s {name} {pid}")]).stderr(Stdio::null()).status();
}

/// The processes whose parent is `pid`.
#[must_use]
pub fn children(pid: u32) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let mut found: Vec<u32> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|&candidate| parent(candidate) == Some(pid))
        .collect();
    found.sort_unstable();
    found
}

fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may contain anything.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn versions() {
        assert_eq!(super::version("1.22.1 (x)"), (1, 22, 1));
        assert_eq!(super::version("1.25"), (1, 25, 0));
        assert_eq!(super::version(""), (0, 0, 0));
    }

    #[test]
    fn own_parent_has_children() {
        let parent = super::parent(std::process::id());
        assert!(parent.is_some_and(|pid| super::children(pid).contains(&std::process::id())));
    }
}
