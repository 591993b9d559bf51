//! `tidegate demo`: Tidegate with three origins behind it, all in this process, to look at and to try out.
//!
//! Its configuration is an ordinary file in a temporary prefix and goes the ordinary way of compiling.

mod control;
mod message;
mod origin;
mod websocket;

use std::ffi::OsString;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use os::errlog::{Errno, ErrorLog, Level, Sink, Target};
use os::signal::SignalFd;

use self::origin::Origin;
use crate::bundle::Bundle;
use crate::engine::Engine;
use crate::load::{Setup, load_to_serve};
use crate::paths::Paths;
use crate::reporter::{Console, Reporter};
use crate::worker::SIGNALS;
use crate::{pid_file, single};

/// Where the demo listens unless told otherwise, on 127.0.0.1.
const PORT: u16 = 8080;
/// Names and weights of the origins.
const ORIGINS: [(&str, u32); 3] = [("amber", 3), ("teal", 2), ("violet", 1)];
/// The configuration, with places to fill in.
const CONF: &str = include_str!("nginx.conf");
/// The page.
const PAGE: &str = include_str!("page.html");

const USAGE: &str = "usage: tidegate demo [--port N]

Starts Tidegate on 127.0.0.1:8080, or on port N, with three small servers behind it, and prints what to try.
Ctrl-C ends it.
";

/// Runs the demo with the arguments behind `demo`.
pub(crate) fn run<E: Engine>(args: &[OsString]) -> ExitCode {
    let port = match parse(args) {
        Ok(Some(port)) => port,
        Ok(None) => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(wrong) => {
            eprintln!("tidegate demo: {wrong}\n{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    // The server itself would try five times; here somebody waits for an answer.
    if let Err(error) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        eprintln!("nginx: [emerg] bind() to 127.0.0.1:{port} failed {}", Errno(&error));
        eprintln!("tidegate demo: choose another port: tidegate demo --port {}", other(port));
        return ExitCode::FAILURE;
    }
    match serve::<E>(port) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tidegate demo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The port; `None` when help is asked for.
fn parse(args: &[OsString]) -> Result<Option<u16>, String> {
    let mut port = PORT;
    let mut words = args.iter().map(|word| word.to_string_lossy());
    while let Some(word) = words.next() {
        let value = match word.as_ref() {
            "-h" | "-?" | "--help" => return Ok(None),
            "-p" | "--port" => words.next().ok_or("--port wants a number")?,
            other => match other.strip_prefix("--port=") {
                Some(value) => value.to_owned().into(),
                None => return Err(format!("unknown option \"{other}\"")),
            },
        };
        port = match value.parse() {
            Ok(number @ 1..) => number,
            _ => return Err(format!("invalid port \"{value}\"")),
        };
    }
    Ok(Some(port))
}

fn other(port: u16) -> u16 {
    if port == u16::MAX { PORT } else { port + 1 }
}

fn serve<E: Engine>(port: u16) -> io::Result<ExitCode> {
    // Before the first thread, so that no signal ends the process behind the back of what must be tidied up.
    let signals = SignalFd::new(SIGNALS)?;
    let mut origins = Vec::new();
    for (name, weight) in ORIGINS {
        origins.push(Origin::start_new(name, weight)?);
    }
    let prefix = Prefix::create()?;
    let control = control::start(origins.clone())?;
    fs::create_dir(prefix.0.join("html"))?;
    fs::write(prefix.0.join("html/index.html"), PAGE)?;
    fs::write(prefix.0.join("nginx.conf"), configuration(port, control, &origins))?;

    let paths = Paths {
        prefix: prefix.0.clone(),
        conf_file: prefix.0.join("nginx.conf"),
        conf_dir: prefix.0.clone(),
        error_log: None,
    };
    let log = ErrorLog::new(vec![Sink::new(Target::Stderr, Level::Warn)]);
    let reporter = Reporter { log: Arc::new(log), console: Console::Shown };
    let setup = Setup::new::<E>(paths, None);
    let Some((loaded, bundle)) = load_to_serve::<E>(&setup, &reporter, &Bundle::default(), None) else {
        return Ok(ExitCode::FAILURE);
    };
    pid_file::write(&loaded.core.pid_file)?;
    // Whoever started it may not read what it says.
    let _ = io::stdout().write_all(welcome(port, &prefix.0, &origins).as_bytes());
    let code = single::serve(setup, loaded, bundle, &signals);
    origins.iter().for_each(|origin| origin.stop());
    Ok(code)
}

/// A directory of its own, removed at the end.
struct Prefix(PathBuf);

impl Prefix {
    fn create() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("tidegate-demo-{}", std::process::id()));
        // Fails where somebody else has put something there.
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Prefix {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn configuration(port: u16, control: u16, origins: &[Arc<Origin>]) -> String {
    let server = |origin: &Arc<Origin>| {
        format!(
            "        server 127.0.0.1:{} weight={} max_fails=1 fail_timeout=5s;  # {}",
            origin.port, origin.weight, origin.name
        )
    };
    let servers: Vec<String> = origins.iter().map(server).collect();
    // A log on the terminal shows each request as it happens; elsewhere standard output may not be a file.
    let log = if io::stdout().is_terminal() { "/dev/stdout" } else { "access.log" };
    CONF.replace("@PORT@", &port.to_string())
        .replace("@PID@", &std::process::id().to_string())
        .replace("@CONTROL@", &control.to_string())
        .replace("@LOG@", log)
        .replace("@SERVERS@", &servers.join("\n"))
}

fn welcome(port: u16, prefix: &Path, origins: &[Arc<Origin>]) -> String {
    let at = format!("http://127.0.0.1:{port}");
    let list: Vec<String> = origins.iter().map(|o| format!("{} (weight {})", o.name, o.weight)).collect();
    let (list, conf, pid) = (list.join(", "), prefix.join("nginx.conf"), std::process::id());
    let conf = conf.display();
    format!(
        "Tidegate {version} runs an nginx.conf on {at}/
Behind it are three small servers, in this process too: {list}.

Look at it in a browser:        {at}/
The configuration that runs:    {at}/nginx.conf

Things to try in another terminal:
  curl {at}/hello                          # who answered, and what it saw
  for i in 1 2 3 4 5 6; do curl -s {at}/hello | head -1; done   # weighted round robin
  curl -X POST {at}/origins/amber/stop     # an origin dies; requests go on to the others
  curl -X POST {at}/origins/amber/start    # and comes back within five seconds
  curl -i -H 'X-Forwarded-For: 192.0.2.7' {at}/hello           # headers, rewritten both ways
  curl -o /dev/null {at}/download/2000     # 2 GB through the proxy
  curl -i -N --max-time 2 -H 'Connection: Upgrade' -H 'Upgrade: websocket' \\
       -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' {at}/ws
  # change {conf}, then: kill -HUP {pid}

Ctrl-C ends all of it.

",
        version = env!("CARGO_PKG_VERSION"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        let check = |line: &str, expected: Result<Option<u16>, &str>| {
            let args: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
            assert_eq!(parse(&args), expected.map_err(str::to_owned), "{line}");
        };
        check("", Ok(Some(8080)));
        check("--port 9000", Ok(Some(9000)));
        check("--port=9000", Ok(Some(9000)));
        check("-p 9000", Ok(Some(9000)));
        check("--help", Ok(None));
        check("--port", Err("--port wants a number"));
        check("--port 0", Err("invalid port \"0\""));
        check("--port 70000", Err("invalid port \"70000\""));
        check("--fast", Err("unknown option \"--fast\""));
    }

    #[test]
    fn nothing_is_left_to_fill_in() {
        let origins = [Origin::start_new("amber", 3).expect("origin")];
        let text = configuration(8080, 1234, &origins);
        origins[0].stop();
        assert!(!text.contains('@'), "{text}");
        assert!(text.contains(&format!("server 127.0.0.1:{} weight=3", origins[0].port)));
    }
}
