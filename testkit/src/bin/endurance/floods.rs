//! Floods, most over HTTP/2: clients that ask for work and want none of it. The server's memory stays bounded, it goes on
//! answering others as fast as before, and it tells each attacker to go away.
//!
//! The attackers are a process of their own that any other is preferred to (`SCHED_IDLE`), and for the quiet values they
//! burn the same time without a word to the server: so what is compared is the server's doing and not that a core is
//! shared.

use std::io::{BufRead, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::Plan;
use crate::ground::{Ground, ask, text};
use crate::proc_fs::rss_kib;
use crate::report::{Report, when};

/// The connection preface of HTTP/2, with empty SETTINGS behind it.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// `GET / http` with an authority, all but the last from the static table.
const REQUEST: &[u8] = b"\x82\x86\x84\x41\x01a";
/// Connections that attack at once.
const ATTACKERS: usize = 8;
/// Memory that an attack may cost, KiB.
const MOST_KIB: u64 = 64 << 10;
/// How many times longer than in quiet the bystander's requests may take.
const TIMES: u32 = 2;
/// What is not counted against the server, in the median and beyond: the machine shares its cores in ticks.
const SLACK: [Duration; 2] = [Duration::from_micros(20), Duration::from_micros(200)];
/// Rounds at least, in which quiet and attack take turns, and at most, as long as the latency is not kept.
const ROUNDS: [usize; 2] = [3, 8];
/// Requests of the bystander that latencies are taken from.
const ASKED: usize = 2000;

const CONF: &str = "
    worker_processes 1;
    events { worker_connections 1024; }
    http {
        access_log off;
        keepalive_requests 1000000000;
        server {
            listen @ADDR1@;
            http2 on;
            root @ROOT@/html;
            location = / { rewrite ^ /file.bin break; }
            location = /small { return 200 small; }
            location = /upload { client_max_body_size 0; proxy_pass http://@ORIGIN1@; }
        }
    }";

/// Appends a frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    out.extend_from_slice(&[length[1], length[2], length[3], kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// What the attacker sends next: its number counts from zero, and streams are odd.
type Attack = fn(u32, &mut Vec<u8>);

/// The attacks that come over HTTP/1.
const PIPELINE: &str = "requests without an end in a pipeline";
const CHUNKS: &str = "a body in chunks of one byte";

const ATTACKS: [(&str, Attack); 10] = [
    (CHUNKS, |nth, out| {
        if nth == 0 {
            out.extend_from_slice(b"POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        }
        out.extend_from_slice(&b"1\r\nx\r\n".repeat(2000));
    }),
    (PIPELINE, |_, out| out.extend_from_slice(&b"GET /small HTTP/1.1\r\nHost: a\r\n\r\n".repeat(10))),
    ("rapid reset", |nth, out| {
        frame(1, 5, nth * 2 + 1, REQUEST, out);
        frame(3, 0, nth * 2 + 1, &8u32.to_be_bytes(), out);
    }),
    ("resets provoked by windows that overflow", |nth, out| {
        frame(1, 4, nth * 2 + 1, REQUEST, out);
        frame(8, 0, nth * 2 + 1, &0x7fff_ffffu32.to_be_bytes(), out);
    }),
    ("CONTINUATION without an end", |nth, out| {
        if nth == 0 {
            frame(1, 1, 1, REQUEST, out);
        }
        frame(9, 0, 1, b"", out);
    }),
    ("a head of crumbs", |nth, out| {
        let mut block = REQUEST.to_vec();
        block.extend_from_slice(b"\x60\x01a");
        block.resize(16_000, 0xbe);
        frame(1, 5, nth * 2 + 1, &block, out);
    }),
    ("a head that HPACK blows up", |nth, out| {
        let mut block = REQUEST.to_vec();
        block.extend_from_slice(b"\x40\x01x\x7f\xa1\x1e");
        block.resize(block.len() + 4000, b'v');
        block.resize(16_000, 0xbe);
        frame(1, 5, nth * 2 + 1, &block, out);
    }),
    ("SETTINGS", |_, out| frame(4, 0, 0, b"", out)),
    ("PING", |_, out| frame(6, 0, 0, b"pingping", out)),
    ("streams without a window", |nth, out| {
        if nth == 0 {
            frame(4, 0, 0, &[0, 4, 0, 0, 0, 0], out);
        }
        if nth < 125 {
            frame(1, 5, nth * 2 + 1, REQUEST, out);
        }
    }),
];

/// Runs the part.
pub fn run(plan: &Plan, report: &mut Report) -> Result<(), String> {
    let mut ground = Ground::new(1 << 20, Vec::new())?;
    ground.start(&plan.binary, CONF)?;
    let pid = ground.worker()?;
    for (name, _) in ATTACKS {
        let before = rss_kib(pid)?;
        let (mut quiet, mut seen) = (Seen::NONE, Seen::NONE);
        for round in 1..=ROUNDS[1] {
            quiet.add(under(&ground, "nothing", pid, Duration::ZERO)?);
            seen.add(under(&ground, name, pid, plan.rated.min(Duration::from_secs(1)))?);
            if round >= ROUNDS[0] && seen.keeps_to(&quiet) {
                break;
            }
        }
        let grown = seen.peak_kib.saturating_sub(before);
        let told = format!("{grown} KiB at most, {} connections were ended", seen.ended);
        report.check(&format!("{name}: memory is bounded"), when(grown < MOST_KIB, told));
        let is_kept = seen.keeps_to(&quiet);
        let [quiet, seen] = [quiet, seen].map(|seen| seen.latency.map(|time| time.as_micros()));
        let told =
            format!("median {} µs, quiet {}; 95 % {} µs, quiet {}", seen[0], quiet[0], seen[1], quiet[1]);
        report.check(&format!("{name}: others are answered as before"), when(is_kept, told));
    }
    let grave = ground.grave_lines();
    let first = grave.first().map(String::as_str).unwrap_or_default();
    let told = if grave.is_empty() { String::new() } else { format!("{} lines, {first}", grave.len()) };
    report.check("nothing grave in the error log", when(grave.is_empty(), told));
    Ok(())
}

/// What was seen under an attack.
struct Seen {
    peak_kib: u64,
    ended: usize,
    /// The median, and that which 95 of 100 requests keep within.
    latency: [Duration; 2],
}

impl Seen {
    const NONE: Self = Self { peak_kib: 0, ended: 0, latency: [Duration::MAX; 2] };

    /// Whether others waited hardly longer than in quiet.
    fn keeps_to(&self, quiet: &Self) -> bool {
        (0..2).all(|at| self.latency[at] <= quiet.latency[at] * TIMES + SLACK[at])
    }

    /// Another round. Whatever else runs on the machine can only make a latency longer, so the shortest counts.
    fn add(&mut self, round: Self) {
        self.peak_kib = self.peak_kib.max(round.peak_kib);
        self.ended += round.ended;
        self.latency = std::array::from_fn(|at| self.latency[at].min(round.latency[at]));
    }
}

/// Measures while an attack goes on, having waited `time` for it to bite.
fn under(ground: &Ground, name: &str, pid: u32, time: Duration) -> Result<Seen, String> {
    let attackers = Attackers::start(name, &ground.address())?;
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            let mut peak = 0;
            while !is_over.load(Ordering::SeqCst) {
                peak = peak.max(rss_kib(pid).unwrap_or(0));
                std::thread::sleep(Duration::from_millis(50));
            }
            peak
        });
        std::thread::sleep(time);
        let latency = latency(ground);
        is_over.store(true, Ordering::SeqCst);
        let peak_kib = sampler.join().map_err(|_| "the sampler panicked".to_owned())?;
        Ok(Seen { peak_kib, ended: attackers.end()?, latency: latency? })
    })
}

/// The process that attacks.
struct Attackers(Child);

impl Attackers {
    fn start(name: &str, address: &str) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(text)?;
        let mut command = Command::new("chrt");
        command.args(["--idle", "0"]).arg(program).args(["--attack", name, address]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(text)?;
        // It says when it has begun.
        let mut said = [0; 1];
        child.stdout.as_mut().ok_or("no pipe")?.read_exact(&mut said).map_err(text)?;
        Ok(Self(child))
    }

    /// Ends it; gives the number of connections that the server ended.
    fn end(mut self) -> Result<usize, String> {
        drop(self.0.stdin.take());
        let mut said = String::new();
        self.0.stdout.as_mut().ok_or("no pipe")?.read_to_string(&mut said).map_err(text)?;
        self.0.wait().map_err(text)?;
        said.trim().parse().map_err(|_| format!("the attackers said {said:?}"))
    }
}

impl Drop for Attackers {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `--attack NAME ADDRESS`: attacks until standard input ends, then tells how many connections the server ended.
pub fn attack(name: &str, address: &str) -> Result<(), String> {
    let attack = ATTACKS.iter().find(|(known, _)| *known == name).map(|(_, attack)| *attack);
    let (stop, ended) = (AtomicBool::new(false), AtomicUsize::new(0));
    println!();
    std::thread::scope(|scope| {
        for _ in 0..ATTACKERS {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    let Some(attack) = attack else { continue };
                    let opening = if [CHUNKS, PIPELINE].contains(&name) { b"" } else { PREFACE };
                    if flood(address, opening, attack, &stop).is_ok_and(|was_ended| was_ended) {
                        ended.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
        let _ = std::io::stdin().lock().read_line(&mut String::new());
        stop.store(true, Ordering::SeqCst);
    });
    println!("{}", ended.load(Ordering::SeqCst));
    Ok(())
}

/// Attacks on one connection until the server ends it or it is enough; says which. Nothing that the server says is
/// read before it is full.
fn flood(address: &str, opening: &[u8], attack: Attack, stop: &AtomicBool) -> std::io::Result<bool> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_write_timeout(Some(Duration::from_millis(100)))?;
    socket.set_read_timeout(Some(Duration::from_millis(1)))?;
    let (mut nth, mut out, mut scrap) = (0, opening.to_vec(), vec![0; 64 << 10]);
    while !stop.load(Ordering::SeqCst) {
        for _ in 0..100 {
            attack(nth, &mut out);
            nth += 1;
        }
        match socket.write_all(&out) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                // It takes no more: that is how it holds us back.
                std::thread::sleep(Duration::from_millis(50));
                return Ok(false);
            }
            Err(_) => return Ok(true),
        }
        if out.is_empty() {
            std::thread::sleep(Duration::from_millis(10));
        }
        out.clear();
        if matches!(socket.read(&mut scrap), Ok(0)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// How long answers to somebody else take.
fn latency(ground: &Ground) -> Result<[Duration; 2], String> {
    let mut client = ground.client()?;
    let mut times = Vec::with_capacity(ASKED);
    for _ in 0..ASKED {
        let start = Instant::now();
        let answer = ask(&mut client, "/small").map_err(text)?;
        if answer.status() != Some(200) {
            return Err(format!("status {:?}", answer.status()));
        }
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok([times[ASKED / 2], times[ASKED * 95 / 100]])
}
