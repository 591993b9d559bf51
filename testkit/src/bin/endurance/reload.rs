//! Reload after reload under load: nothing fails, nothing is closed, nothing grows.
//!
//! A download and a tunnel begin under the first configuration and go on to the end; each reload moves both on
//! by one step, so that neither needs a clock.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use testkit::client::Client;
use testkit::message::{Reader, Stream};
use testkit::origin::ReplyAct;
use testkit::process::{Binary, signal};
use testkit::text::pattern;

use crate::Plan;
use crate::ground::{Ground, PATIENCE, ask, rule, text, wait_for};
use crate::load::{FILE_SIZE, Load, Losses};
use crate::proc_fs::{descriptors, rss_kib};
use crate::report::{Report, when};

const CLIENTS: usize = 8;
/// More than the kernel's buffers on the way can hold.
const DOWNLOAD: usize = 64 << 20;
/// Memory may differ by so many percent between the [`warm`] server and the end.
const GROWTH_PERCENT: u64 = 10;

fn conf(generation: usize) -> String {
    format!(
        "worker_processes 2;
        events {{ worker_connections 1024; }}
        http {{
            keepalive_requests 1000000000; keepalive_timeout 1h; send_timeout 1h; proxy_read_timeout 1h;
            proxy_http_version 1.1;
            upstream origin {{ server @ORIGIN1@; keepalive 16; }}
            server {{
                listen @ADDR1@;
                root @ROOT@/html;
                location = /generation {{ return 200 \"{generation}\"; }}
                location /api/ {{ proxy_pass http://origin; proxy_set_header Connection \"\"; }}
                location = /download {{
                    proxy_pass http://origin; proxy_set_header Connection \"\"; proxy_buffering off;
                }}
                location = /tunnel {{
                    proxy_pass http://origin;
                    proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;
                }}
            }}
        }}"
    )
}

/// Runs the part.
pub fn run(plan: &Plan, report: &mut Report) -> Result<(), String> {
    let upgraded = [
        ReplyAct::Status("101 Switching Protocols".into()),
        ReplyAct::Header("Upgrade".into(), "echo".into()),
        ReplyAct::Header("Connection".into(), "upgrade".into()),
        ReplyAct::Tunnel,
    ];
    let rules = vec![
        rule("/download", &[ReplyAct::Pattern(DOWNLOAD)]),
        rule("/tunnel", &upgraded),
        rule("*", &[ReplyAct::Echo]),
    ];
    let mut ground = Ground::new(FILE_SIZE, rules)?;
    ground.start(&plan.binary, &conf(0))?;
    let load = Load::new(ground.address(), Losses::Forbidden);
    let rounds = plan.reloads;
    let outcome = std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let load = &load;
            scope.spawn(move || load.client(number));
        }
        let outcome = Rounds::new(&ground).and_then(|mut all| all.run(&ground, &plan.binary, &load, rounds));
        load.stop();
        outcome
    });
    let failures = load.failures();
    let answered = format!("{} requests on {CLIENTS} connections", load.answered.load(Ordering::SeqCst));
    let loaded = if failures.is_empty() { Ok(answered) } else { Err(failures.join("; ")) };
    report.check("no request fails and no connection closes", loaded);
    let seen = outcome?;
    let rate = seen.time.as_secs_f64() * 1000.0 / rounds as f64;
    report.check(&format!("{rounds} reloads take effect"), Ok(format!("{rate:.1} ms each under load")));
    report.check("the download is whole and byte-exact", seen.download);
    report.check("the tunnel echoes to the end", seen.tunnel);
    let (before, after) = seen.rss_kib;
    let course: Vec<String> = seen.course_kib.iter().map(u64::to_string).collect();
    let course = course.join(" ");
    let warm = warm(rounds);
    let growth =
        format!("{before} KiB after {warm} reloads, {after} KiB after {rounds}; each tenth: {course}");
    report.check("memory stays flat", when(after * 100 <= before * (100 + GROWTH_PERCENT), growth));
    let (before, after) = seen.descriptors;
    report.check("descriptors stay flat", when(after <= before + CLIENTS, format!("{before}, then {after}")));
    // Each connection to the origin serves a thousand requests unless something closes it before.
    let (connections, asked) = (ground.origins.connections(), load.answered() / 2);
    let seen = format!("{connections} connections for {asked} requests");
    report.check("connections to the origin outlive reloads", when(connections <= 100 + asked / 500, seen));
    let grave = ground.grave_lines();
    report.check("nothing grave in the error log", when(grave.is_empty(), grave.join("; ")));
    Ok(())
}

/// After how many reloads memory should have found its size.
fn warm(rounds: usize) -> usize {
    (rounds / 2).min(100)
}

/// What is left when all rounds are done.
struct Seen {
    time: Duration,
    download: Result<String, String>,
    tunnel: Result<String, String>,
    rss_kib: (u64, u64),
    course_kib: Vec<u64>,
    descriptors: (usize, usize),
}

/// The long-lived connections that are moved on by one step in each round.
struct Rounds {
    poller: Client,
    download: Download,
    tunnel: Tunnel,
}

impl Rounds {
    fn new(ground: &Ground) -> Result<Self, String> {
        Ok(Self {
            poller: ground.client()?,
            download: Download::new(&ground.address())?,
            tunnel: Tunnel::new(&ground.address())?,
        })
    }

    fn run(&mut self, ground: &Ground, binary: &Binary, load: &Load, rounds: usize) -> Result<Seen, String> {
        let master = ground.master()?;
        let worker = ground.worker()?;
        let (warm, mut early) = (warm(rounds), (0, 0));
        let mut course_kib = Vec::new();
        let start = Instant::now();
        for round in 1..=rounds {
            ground.configure(binary, &conf(round))?;
            let before = load.answered();
            signal("HUP", master);
            self.wait_until(round)?;
            self.download.read(DOWNLOAD / (rounds + 1));
            self.tunnel.echo(round);
            let newcomer = ground.once("/generation")?;
            if newcomer.status() != Some(200) {
                return Err(format!("round {round}: a new connection got {:?}", newcomer.start));
            }
            if !load.failures().is_empty() {
                return Err(format!("given up in round {round}"));
            }
            ground.origins.forget();
            // A reload counts only while requests go on.
            wait_for("load", || Ok((load.answered() > before).then_some(())))?;
            if round % (rounds / 10).max(1) == 0 {
                course_kib.push(rss_kib(worker)?);
            }
            if round == warm {
                early = (rss_kib(worker)?, descriptors(worker)?);
            }
        }
        let time = start.elapsed();
        let late = (rss_kib(worker)?, descriptors(worker)?);
        if ground.worker()? != worker {
            return Err(format!("worker {worker} was replaced"));
        }
        Ok(Seen {
            time,
            download: self.download.finish(),
            tunnel: self.tunnel.finish(),
            rss_kib: (early.0, late.0),
            course_kib,
            descriptors: (early.1, late.1),
        })
    }

    /// Asks for the generation until it is the one that was just written.
    fn wait_until(&mut self, round: usize) -> Result<(), String> {
        let wanted = round.to_string();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = ask(&mut self.poller, "/generation").map_err(|error| format!("polling: {error}"))?;
            if answer.body == wanted.as_bytes() {
                return Ok(());
            }
            if Instant::now() > deadline {
                let served = String::from_utf8_lossy(&answer.body).into_owned();
                return Err(format!("generation {round} does not come, {served} is served"));
            }
        }
    }
}

/// A download that is read a slice at a time.
struct Download {
    reader: Reader,
    expected: Vec<u8>,
    at: usize,
    wrong: Option<String>,
}

impl Download {
    fn new(address: &str) -> Result<Self, String> {
        let reader = open(address, "GET /download HTTP/1.1\r\nHost: a\r\n\r\n", "200")?;
        Ok(Self { reader, expected: pattern(DOWNLOAD), at: 0, wrong: None })
    }

    fn read(&mut self, length: usize) {
        self.reader.begin();
        let end = (self.at + length).min(self.expected.len());
        let expected = self.expected.get(self.at..end).unwrap_or_default();
        match self.reader.bytes(expected.len()) {
            _ if self.wrong.is_some() => {}
            Ok(got) if got == expected => self.at = end,
            Ok(got) => {
                let wrong =
                    format!("{} of {} bytes from {} differ or are missing", got.len(), length, self.at);
                self.wrong = Some(wrong);
            }
            Err(error) => self.wrong = Some(format!("after {} bytes: {error}", self.at)),
        }
    }

    fn finish(&mut self) -> Result<String, String> {
        let begun = self.at;
        self.read(DOWNLOAD);
        match self.wrong.take() {
            Some(wrong) => Err(wrong),
            None => Ok(format!("{} MiB, {} of them while reloading", DOWNLOAD >> 20, begun >> 20)),
        }
    }
}

/// An upgraded connection through which a line goes and comes back in each round.
struct Tunnel {
    reader: Reader,
    writer: Stream,
    rounds: usize,
    wrong: Option<String>,
}

impl Tunnel {
    fn new(address: &str) -> Result<Self, String> {
        let writer = Stream::connect(address).map_err(text)?;
        let mut reader = Reader::new(writer.another().map_err(text)?, PATIENCE);
        let mut tunnel_writer = writer.another().map_err(text)?;
        let request = "GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
        std::io::Write::write_all(&mut tunnel_writer, request.as_bytes()).map_err(text)?;
        let head = reader.head().map_err(text)?;
        if head.status() != Some(101) {
            return Err(format!("the upgrade was answered {:?}", head.start));
        }
        Ok(Self { reader, writer, rounds: 0, wrong: None })
    }

    fn echo(&mut self, round: usize) {
        let line = format!("round {round}\n");
        self.reader.begin();
        let sent = std::io::Write::write_all(&mut self.writer, line.as_bytes()).map_err(text);
        let got = sent.and_then(|()| self.reader.bytes(line.len()).map_err(text));
        match got {
            _ if self.wrong.is_some() => {}
            Ok(got) if got == line.as_bytes() => self.rounds += 1,
            Ok(got) => self.wrong = Some(format!("round {round} came back as {got:?}")),
            Err(error) => self.wrong = Some(format!("round {round}: {error}")),
        }
    }

    fn finish(&mut self) -> Result<String, String> {
        self.echo(self.rounds + 1);
        match self.wrong.take() {
            Some(wrong) => Err(wrong),
            None => Ok(format!("{} echoes", self.rounds)),
        }
    }
}

/// Sends a request on a new connection and reads the head of its answer.
fn open(address: &str, request: &str, status: &str) -> Result<Reader, String> {
    let mut stream = Stream::connect(address).map_err(text)?;
    std::io::Write::write_all(&mut stream, request.as_bytes()).map_err(text)?;
    let mut reader = Reader::new(stream, PATIENCE);
    let head = reader.head().map_err(text)?;
    if head.status().map(|seen| seen.to_string()).as_deref() != Some(status) {
        return Err(format!("{request:?} was answered {:?}", head.start));
    }
    Ok(reader)
}
