//! The program from outside: start, reload, reopen, crash, upgrade, end, as an operator and nginx's tests do it.
//!
//! Waiting means looking again until a deadline; ports are chosen at run time.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use os::process::{Pid, kill};
use os::signal::Signal;

const BINARY: &str = env!("CARGO_BIN_EXE_tidegate");

struct Server {
    dir: PathBuf,
    port: u16,
    process: Child,
}

/// Looks again until there is something to see.
fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn directory() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("tidegate-processes-{}-{number}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).expect("directory");
    dir
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    listener.local_addr().expect("address").port()
}

fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.arg("-p").arg(dir).args(["-c", "nginx.conf", "-e", "error.log"]).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

impl Server {
    /// Starts with some lines of the main level; every request is answered with `text`.
    fn start(main: &str, text: &str) -> Self {
        let (dir, port) = (directory(), free_port());
        write_conf(&dir, port, main, text);
        let process = command(&dir, &[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start");
        let server = Self { dir, port, process };
        eventually("pid file", || server.pid());
        server
    }

    fn configure(&self, main: &str, text: &str) {
        write_conf(&self.dir, self.port, main, text);
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.dir.join(name)).unwrap_or_default()
    }

    fn pid(&self) -> Option<Pid> {
        self.file("nginx.pid").trim().parse().ok().map(Pid)
    }

    fn signal(&self, signal: Signal) {
        kill(self.pid().expect("pid"), signal).expect("kill");
    }

    fn get(&self) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
    }

    fn answers(&self, text: &str) {
        eventually(text, || self.get().filter(|body| body == text));
    }

    fn logged(&self, part: &str, times: usize) {
        eventually(part, || (self.file("error.log").matches(part).count() == times).then_some(()));
    }

    fn worker(&self) -> Pid {
        eventually("worker", || {
            let log = self.file("error.log");
            let last =
                log.lines().filter_map(|line| line.split("start worker process ").nth(1)).next_back()?;
            last.trim().parse().ok().map(Pid)
        })
    }

    fn ended(&mut self) -> ExitStatus {
        eventually("end", || self.process.try_wait().expect("wait"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(pid) = self.pid() {
            let _ = kill(pid, Signal::Term);
        }
        if !std::thread::panicking() {
            let _ = self.process.wait();
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

fn write_conf(dir: &Path, port: u16, main: &str, text: &str) {
    let daemon = if main.contains("daemon ") { "" } else { "daemon off;" };
    let conf = format!(
        "{daemon} pid nginx.pid; error_log error.log notice; {main}\n\
         events {{}}\nhttp {{ access_log off; server {{ listen 127.0.0.1:{port}; return 200 {text}; }} }}\n"
    );
    fs::write(dir.join("nginx.conf"), conf).expect("configuration");
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_reload_is_seen_and_ends_the_old_configuration_once() {
    let server = Server::start("", "one");
    server.answers("one");
    let worker = server.worker();
    for (round, text) in ["two", "three"].into_iter().enumerate() {
        server.configure("", text);
        server.signal(Signal::Hup);
        server.answers(text);
        server.logged("exited with code", round + 1);
    }
    assert_eq!(server.worker(), worker);
}

#[test]
fn a_broken_configuration_changes_nothing() {
    let server = Server::start("", "one");
    server.configure("nonsense on;", "two");
    server.signal(Signal::Hup);
    server.logged("unknown directive \"nonsense\"", 1);
    server.answers("one");
    server.configure("", "three");
    server.signal(Signal::Hup);
    server.answers("three");
    server.logged("exited with code", 1);
}

#[test]
fn threads_come_and_go_with_a_reload() {
    let server = Server::start("worker_processes 3;", "one");
    let threads = || fs::read_dir(format!("/proc/{}/task", server.worker().0)).map_or(0, Iterator::count);
    eventually("three threads", || (threads() == 3).then_some(()));
    server.configure("worker_processes 1;", "two");
    server.signal(Signal::Hup);
    server.answers("two");
    eventually("one thread", || (threads() == 1).then_some(()));
    server.logged("exited with code", 1);
}

#[test]
fn what_only_a_new_process_can_have_gets_one() {
    let server = Server::start("", "one");
    let worker = server.worker();
    server.configure("worker_rlimit_core 0;", "two");
    server.signal(Signal::Hup);
    server.answers("two");
    server.logged(&format!("worker process {worker} exited with code 0"), 1);
    assert_ne!(server.worker(), worker);
}

#[test]
fn a_variable_without_a_name_ends_nobody() {
    let server = Server::start("env =x; env A=b;", "one");
    server.answers("one");
    server.logged("exited with code", 0);
}

#[test]
fn logs_are_reopened_in_master_and_worker() {
    let server = Server::start("", "one");
    server.answers("one");
    fs::rename(server.dir.join("error.log"), server.dir.join("moved.log")).expect("rename");
    let output = command(&server.dir, &["-s", "reopen"]).output().expect("signal");
    assert!(output.status.success(), "{}", told(&output));
    // The signal, the master and the worker each tell it in the old file.
    let told = || server.file("moved.log").matches("reopening logs").count();
    eventually("reopened", || (told() == 3).then_some(()));
    server.configure("", "two");
    server.signal(Signal::Hup);
    server.logged("reconfiguring", 2);
    server.answers("two");
    server.logged("exited with code", 1);
    assert!(!server.file("moved.log").contains("reconfiguring"));
}

#[test]
fn a_dead_worker_is_replaced() {
    let server = Server::start("", "one");
    let worker = server.worker();
    kill(worker, Signal::Kill).expect("kill");
    server.logged(&format!("worker process {worker} exited on signal 9"), 1);
    server.answers("one");
    assert_ne!(server.worker(), worker);
    // One that is told to end is replaced too, and the master stays.
    let worker = server.worker();
    kill(worker, Signal::Term).expect("kill");
    server.logged(&format!("worker process {worker} exited with code 0"), 1);
    server.answers("one");
    // A reload reaches the new worker.
    server.configure("", "two");
    server.signal(Signal::Hup);
    server.answers("two");
}

#[test]
fn every_way_to_end_is_clean() {
    for (signal, main) in [
        (Signal::Quit, ""),
        (Signal::Term, ""),
        (Signal::Int, ""),
        (Signal::Quit, "master_process off;"),
        (Signal::Term, "master_process off;"),
    ] {
        let mut server = Server::start(main, "one");
        server.answers("one");
        server.signal(signal);
        assert_eq!(server.ended().code(), Some(0), "{signal:?}");
        assert_eq!(server.pid(), None, "{signal:?}");
        assert!(server.get().is_none(), "{signal:?}");
        assert!(!server.file("error.log").contains("[alert]"), "{signal:?}");
    }
}

#[test]
fn one_process_reloads_too() {
    let server = Server::start("master_process off;", "one");
    server.answers("one");
    server.configure("master_process off;", "two");
    server.signal(Signal::Hup);
    server.answers("two");
    server.logged("exited with code", 1);
}

#[test]
fn a_daemon_leaves_its_starter() {
    let mut server = Server::start("daemon on;", "one");
    assert_eq!(server.ended().code(), Some(0));
    assert_ne!(server.pid(), Some(Pid(server.process.id().cast_signed())));
    server.answers("one");
    server.signal(Signal::Quit);
    eventually("no pid file", || server.pid().is_none().then_some(()));
}

#[test]
fn a_new_binary_takes_the_sockets_over() {
    let mut server = Server::start("", "one");
    let old = server.pid().expect("pid");
    server.configure("", "two");
    kill(old, Signal::Usr2).expect("kill");
    eventually("new pid", || server.pid().filter(|pid| *pid != old));
    assert_eq!(server.file("nginx.pid.oldbin").trim(), old.to_string());
    // A second one beside it is refused.
    kill(old, Signal::Usr2).expect("kill");
    server.logged("the changing binary signal is ignored", 1);
    kill(old, Signal::Quit).expect("kill");
    assert_eq!(server.ended().code(), Some(0));
    server.answers("two");
    eventually("old pid file", || (!server.dir.join("nginx.pid.oldbin").exists()).then_some(()));
    server.signal(Signal::Quit);
    eventually("no pid file", || server.pid().is_none().then_some(()));
}

#[test]
fn a_failed_upgrade_brings_the_old_pid_file_back() {
    let server = Server::start("", "one");
    let old = server.pid().expect("pid");
    server.configure("nonsense on;", "two");
    kill(old, Signal::Usr2).expect("kill");
    server.logged("new binary process", 1);
    eventually("old pid file", || server.pid().filter(|pid| *pid == old));
    server.answers("one");
}

#[test]
fn an_address_in_use_fails_a_start_but_not_a_test() {
    let server = Server::start("", "one");
    let output = command(&server.dir, &["-t"]).output().expect("test");
    let text = told(&output);
    assert!(output.status.success() && text.contains("test is successful"), "{text}");
    assert!(text.contains("nginx.conf syntax is ok"), "{text}");

    let output = command(&server.dir, &["-T", "-q"]).output().expect("test");
    let dump = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        dump.starts_with("# configuration file /") && dump.contains("nginx.conf:\ndaemon off;"),
        "{dump}"
    );

    let other = directory();
    write_conf(&other, server.port, "", "two");
    let output = command(&other, &[]).output().expect("start");
    let text = told(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("nginx: [emerg] bind() to 127.0.0.1:"), "{text}");
    assert!(text.contains(" failed (98: Address already in use)"), "{text}");
    assert!(text.contains("nginx: [emerg] still could not bind()"), "{text}");
    assert!(!other.join("nginx.pid").exists());
    let _ = fs::remove_dir_all(&other);
}

#[test]
fn signalling_nobody_fails() {
    let dir = directory();
    write_conf(&dir, free_port(), "", "one");
    let check = |expected: &str| {
        let output = command(&dir, &["-s", "reload"]).output().expect("signal");
        assert_eq!(output.status.code(), Some(1));
        assert!(told(&output).contains(expected), "{}", told(&output));
    };
    check("nginx: [error] open() \"");
    fs::write(dir.join("nginx.pid"), "none\n").expect("write");
    check("nginx: [error] invalid PID number \"none\" in \"");
    let _ = fs::remove_dir_all(&dir);
}

#[test]
fn a_failed_test_says_so() {
    let dir = directory();
    write_conf(&dir, free_port(), "nonsense on;", "one");
    let output = command(&dir, &["-t"]).output().expect("test");
    let text = told(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("nginx: [emerg] unknown directive \"nonsense\" in "), "{text}");
    assert!(text.contains("nginx.conf test failed"), "{text}");
    let _ = fs::remove_dir_all(&dir);
}
