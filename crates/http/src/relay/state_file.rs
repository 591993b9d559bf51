//! `state`: the servers of a group in a file of `server` lines, written anew with each change.
//!
//! The file takes the place of the old one in one step, so a crash leaves either of them.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use upstream::{Admin, Resolve, Role, Server, ServerSpec};

/// The file that keeps the servers of a group.
#[derive(Clone, Debug)]
pub struct StateFile {
    /// Its absolute path.
    pub path: PathBuf,
}

impl StateFile {
    /// Writes the servers.
    ///
    /// # Errors
    /// The error of writing or renaming.
    pub fn save(&self, servers: &[Server]) -> io::Result<()> {
        let text: String = servers.iter().map(line).collect();
        let fresh = with_suffix(&self.path, ".tmp");
        let done = write(&fresh, &text).and_then(|()| std::fs::rename(&fresh, &self.path));
        match done {
            // Where the folder belongs to somebody else, the file alone may be ours.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => write(&self.path, &text),
            done => done,
        }
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file = std::fs::File::create(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_data()
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A `server` line, with the parameters that are not nginx's defaults.
fn line(server: &Server) -> String {
    let mut line = format!("server {}", server.name);
    let (spec, default) = (&server.spec, ServerSpec::default());
    let mut say = |text: String| {
        line.push(' ');
        line.push_str(&text);
    };
    if spec.weight != default.weight {
        say(format!("weight={}", spec.weight));
    }
    if spec.max_conns != default.max_conns {
        say(format!("max_conns={}", spec.max_conns));
    }
    if spec.max_fails != default.max_fails {
        say(format!("max_fails={}", spec.max_fails));
    }
    if spec.fail_timeout_sec != default.fail_timeout_sec {
        say(format!("fail_timeout={}s", spec.fail_timeout_sec));
    }
    if spec.slow_start_ms != default.slow_start_ms {
        say(format!("slow_start={}ms", spec.slow_start_ms));
    }
    if let Some(route) = &spec.route {
        say(format!("route={route}"));
    }
    if let Some(service) = &spec.service {
        say(format!("service={service}"));
    }
    if spec.resolve == Resolve::WhileRunning {
        say("resolve".to_owned());
    }
    if spec.role == Role::Backup {
        say("backup".to_owned());
    }
    match spec.admin {
        Admin::Up => {}
        Admin::Down => say("down".to_owned()),
        Admin::Draining => say("drain".to_owned()),
    }
    line.push_str(";\n");
    line
}

/// The address and the parameters of each `server` line.
///
/// # Errors
/// The first statement that is no `server` line.
pub fn read(text: &str) -> Result<Vec<Vec<&str>>, &str> {
    let without_comments = text.lines().all(|line| !line.trim_start().starts_with('#'));
    if !without_comments {
        return Err("#");
    }
    let statements = text.split(';').map(str::trim).filter(|statement| !statement.is_empty());
    statements
        .map(|statement| {
            let mut words = statement.split_ascii_whitespace();
            let is_server = words.next() == Some("server");
            let words: Vec<&str> = words.collect();
            if is_server && !words.is_empty() { Ok(words) } else { Err(statement) }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use upstream::{Accepts, parse_server_params};

    #[test]
    fn what_is_written_is_read_again() {
        let lines = "server 10.0.0.1:80;\nserver unix:/tmp/a weight=2 max_conns=3 max_fails=0 fail_timeout=5s \
                     slow_start=1500ms route=r backup down;\nserver a:1 service=http resolve drain;\n";
        let mut again = String::new();
        for words in read(lines).expect("lines") {
            let spec = parse_server_params(&words[1..], Accepts::All).expect("parameters");
            again.push_str(&line(&Server::new(words[0], Vec::new(), spec)));
        }
        assert_eq!(again, lines);
        assert_eq!(read("server 10.0.0.1;\nlisten 80;"), Err("listen 80"));
        assert_eq!(read("server;"), Err("server"));
        assert_eq!(read(" \n"), Ok(Vec::new()));
    }
}
