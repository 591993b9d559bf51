//! Floods over HTTP/2: clients that ask for work and want none of it. The server's memory stays bounded, it goes on
//! answering, and it tells each attacker to go away.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::Plan;
use crate::ground::{Ground, ask, text};
use crate::proc_fs::rss_kib;
use crate::report::{Report, when};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// `GET / http` with an authority, all but the last from the static table.
const REQUEST: &[u8] = b"\x82\x86\x84\x41\x01a";
/// Connections that attack at once.
const ATTACKERS: usize = 8;
/// Memory that an attack may cost, KiB.
const MOST_KIB: u64 = 64 << 10;
/// Time in which the bystander's requests are answered under every attack.
const LONGEST: Duration = Duration::from_millis(250);
/// Requests of the bystander that latencies are taken from.
const ASKED: usize = 200;

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

const ATTACKS: [(&str, Attack); 8] = [
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
    let quiet = latency(&ground)?;
    for (name, attack) in ATTACKS {
        let before = rss_kib(pid)?;
        let seen = under(&ground, attack, pid, plan.rated)?;
        let grown = seen.peak_kib.saturating_sub(before);
        let told = format!(
            "{grown} KiB at most, {} connections were ended, latency {} µs, quiet {} µs",
            seen.ended,
            seen.latency.as_micros(),
            quiet.as_micros()
        );
        report.check(&format!("{name}: memory is bounded"), when(grown < MOST_KIB, told));
        // The attackers want all of the processor and share it with everybody; nobody may be shut out.
        let is_kept = seen.latency < LONGEST;
        let times = seen.latency.as_secs_f64() / quiet.as_secs_f64();
        report.check(
            &format!("{name}: others are answered"),
            when(is_kept, format!("{times:.1} times the quiet latency")),
        );
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
    latency: Duration,
}

fn under(ground: &Ground, attack: Attack, pid: u32, time: Duration) -> Result<Seen, String> {
    let (stop, ended) = (AtomicBool::new(false), AtomicUsize::new(0));
    let address = ground.address();
    std::thread::scope(|scope| {
        for _ in 0..ATTACKERS {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    if flood(&address, attack, &stop).is_ok_and(|was_ended| was_ended) {
                        ended.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
        let sampler = scope.spawn(|| {
            let mut peak = 0;
            while !stop.load(Ordering::SeqCst) {
                peak = peak.max(rss_kib(pid).unwrap_or(0));
                std::thread::sleep(Duration::from_millis(20));
            }
            peak
        });
        std::thread::sleep(time.min(Duration::from_secs(3)));
        let latency = latency(ground);
        stop.store(true, Ordering::SeqCst);
        let peak_kib = sampler.join().map_err(|_| "the sampler panicked".to_owned())?;
        Ok(Seen { peak_kib, ended: ended.load(Ordering::SeqCst), latency: latency? })
    })
}

/// Attacks on one connection until the server ends it or it is enough; says which. Nothing that the server says is
/// read before it is full.
fn flood(address: &str, attack: Attack, stop: &AtomicBool) -> std::io::Result<bool> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_write_timeout(Some(Duration::from_millis(100)))?;
    socket.set_read_timeout(Some(Duration::from_millis(1)))?;
    socket.write_all(PREFACE)?;
    let (mut nth, mut out, mut scrap) = (0, Vec::new(), [0; 4096]);
    frame(4, 0, 0, b"", &mut out);
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

/// The median time of an answer to somebody else.
fn latency(ground: &Ground) -> Result<Duration, String> {
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
    Ok(times[ASKED / 2])
}
