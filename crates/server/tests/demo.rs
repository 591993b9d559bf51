//! `tidegate demo` from outside: it answers, fails over, tells when its port is taken, and leaves nothing behind.
//!
//! The port is one that was free a moment ago.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use os::process::{Pid, kill};
use os::signal::Signal;

fn command(port: u16, temporary: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(["demo", "--port", &port.to_string()]).env("TMPDIR", temporary);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn ask(port: u16, method: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: demo\r\n\r\n").ok()?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// A demo that ends with its test, however that ends.
struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn it_shows_what_it_promises_and_leaves_nothing_behind() {
    let temporary = std::env::temp_dir().join(format!("tidegate-demo-test-{}", std::process::id()));
    fs::create_dir_all(&temporary).expect("directory");
    let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("port").port();
    let mut demo = Demo(command(port, &temporary).spawn().expect("start"));
    let deadline = Instant::now() + Duration::from_secs(20);
    while ask(port, "GET", "/").is_none() {
        assert!(Instant::now() < deadline, "it does not listen");
        std::thread::sleep(Duration::from_millis(5));
    }
    let check = |method: &str, path: &str, parts: &[&str]| {
        let text = ask(port, method, path).unwrap_or_default();
        parts.iter().for_each(|part| assert!(text.contains(part), "{method} {path}: {text}"));
    };
    let answers = |name: &str| {
        let texts = (0..12).filter_map(|_| ask(port, "GET", "/hello"));
        texts.filter(|text| text.contains(&format!("\r\n\r\n{name} ("))).count()
    };
    check("GET", "/", &["200 OK", "text/html", "Send 12 requests"]);
    check("GET", "/nginx.conf", &["text/plain", "upstream origins"]);
    check("GET", "/hello", &["X-Served-By: 127.0.0.1:", "\nX-Real-IP: 127.0.0.1\n"]);
    check("GET", "/download/1", &["Content-Length: 1000000\r\n"]);
    assert_eq!(answers("amber"), 6);
    check("POST", "/origins/amber/stop", &["stopped"]);
    assert_eq!(answers("amber"), 0);
    assert_eq!(answers("teal"), 8);

    let second = command(port, &temporary).output().expect("run");
    let told = String::from_utf8_lossy(&second.stderr);
    let sentence = format!("nginx: [emerg] bind() to 127.0.0.1:{port} failed (98: Address already in use)");
    assert!(told.contains(&sentence) && told.contains("--port"), "{told}");

    kill(Pid(demo.0.id().cast_signed()), Signal::Int).expect("kill");
    assert_eq!(demo.0.wait().expect("end").code(), Some(0));
    assert_eq!(fs::read_dir(&temporary).expect("directory").count(), 0);
    fs::remove_dir(&temporary).expect("remove");
}
