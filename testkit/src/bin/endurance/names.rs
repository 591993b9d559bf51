//! A name server whose answers change thousands of addresses at once, while requests go on.
//!
//! The group of the requests is the one that changes, so its snapshot is made anew each time.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use testkit::client::Client;

use crate::Plan;
use crate::fickle::Fickle;
use crate::ground::{Ground, ask, text, wait_for};
use crate::report::{Report, when};

const NAMES: usize = 10;
const ADDRESSES: usize = 500;
/// What a request may take at the 99th percentile while addresses change.
const LIMIT: Duration = Duration::from_millis(50);

/// Runs the part.
pub fn run(plan: &Plan, report: &mut Report) -> Result<(), String> {
    let origin = Fickle::start().map_err(text)?;
    let names = Names::start().map_err(text)?;
    let servers: String = (0..NAMES).map(|n| format!("server n{n}.example:1 resolve backup; ")).collect();
    let conf = format!(
        "worker_processes 2;
        http {{
            proxy_http_version 1.1; keepalive_requests 1000000000;
            upstream u {{
                zone u 8m; resolver 127.0.0.1:{} ipv6=off;
                server 127.0.0.1:{}; {servers} keepalive 8;
            }}
            server {{
                listen @ADDR1@;
                location / {{ proxy_pass http://u; proxy_set_header Connection \"\"; }}
                location /api/ {{ api; }}
            }}
        }}",
        names.port, origin.port
    );
    let mut ground = Ground::new(1, Vec::new())?;
    ground.start(&plan.binary, &conf)?;
    let peers = || {
        let mut client = ground.client()?;
        let status = ask(&mut client, "/api/9/http/upstreams/u")?;
        Ok::<usize, String>(String::from_utf8_lossy(&status.body).matches("\"server\":").count())
    };
    wait_for("all names", || Ok((peers()? > NAMES * ADDRESSES).then_some(())))?;
    let before = names.turns.load(Ordering::SeqCst);
    let changing = measure(&ground, plan.flux)?;
    let turns = names.turns.load(Ordering::SeqCst) - before;
    names.is_still.store(true, Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(1500));
    let still = measure(&ground, plan.flux)?;
    let seen = format!(
        "p99 {} us and longest {} us while {} answers of {ADDRESSES} addresses came, p99 {} us without",
        changing.0.as_micros(),
        changing.1.as_micros(),
        turns,
        still.0.as_micros()
    );
    report.check(
        "answers that change 5000 addresses stall no request",
        when(turns >= NAMES && changing.0 < LIMIT, seen),
    );
    Ok(())
}

/// Asks without a pause; the 99th percentile and the longest.
fn measure(ground: &Ground, time: Duration) -> Result<(Duration, Duration), String> {
    let mut client: Client = ground.client()?;
    let (start, mut took) = (Instant::now(), Vec::new());
    while start.elapsed() < time {
        let asked = Instant::now();
        let answer = ask(&mut client, "/x")?;
        if answer.status() != Some(200) {
            return Err(format!("answered {:?}", answer.start));
        }
        took.push(asked.elapsed());
        std::thread::sleep(Duration::from_millis(1));
    }
    took.sort_unstable();
    let at = |share: usize| took.get(took.len() * share / 100).or(took.last()).copied().unwrap_or_default();
    Ok((at(99), at(100)))
}

/// A name server: over UDP it says that answers are too long, over TCP it gives other addresses each second.
struct Names {
    port: u16,
    /// Long answers given.
    turns: Arc<AtomicUsize>,
    /// Answers stay the same from now on.
    is_still: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
}

impl Names {
    fn start() -> std::io::Result<Self> {
        let (tcp, udp) = loop {
            let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr()?) {
                break (tcp, udp);
            }
        };
        let names = Self {
            port: tcp.local_addr()?.port(),
            turns: Arc::default(),
            is_still: Arc::default(),
            stop: Arc::default(),
        };
        let stop = Arc::clone(&names.stop);
        udp.set_read_timeout(Some(Duration::from_millis(100)))?;
        std::thread::spawn(move || {
            let mut query = [0; 512];
            while !stop.load(Ordering::SeqCst) {
                let Ok((length, from)) = udp.recv_from(&mut query) else { continue };
                // QR and TC: to be asked again over TCP.
                if let Some(reply) = reply(query.get(..length).unwrap_or_default(), 0x8380, &[]) {
                    let _ = udp.send_to(&reply, from);
                }
            }
        });
        let (stop, turns, is_still) =
            (Arc::clone(&names.stop), Arc::clone(&names.turns), Arc::clone(&names.is_still));
        tcp.set_nonblocking(true)?;
        std::thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                let Ok((mut stream, _)) = tcp.accept() else {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                };
                let turn =
                    if is_still.load(Ordering::SeqCst) { 0 } else { turns.fetch_add(1, Ordering::SeqCst) };
                let _ = stream.set_nonblocking(false);
                let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
                let _ = answer(&mut stream, turn);
            }
        });
        Ok(names)
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

fn answer(stream: &mut std::net::TcpStream, turn: usize) -> std::io::Result<()> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut query)?;
    let [low, high] = u16::try_from(turn % 60_000).unwrap_or(0).to_be_bytes();
    let addrs: Vec<[u8; 4]> = (0..ADDRESSES)
        .map(|n| {
            let [a, b] = u16::try_from(n).unwrap_or(0).to_be_bytes();
            // Others with each turn: nothing is asked of them, they are backups.
            [127, low ^ b, high ^ a, b]
        })
        .collect();
    if let Some(reply) = reply(&query, 0x8180, &addrs) {
        let length = u16::try_from(reply.len()).unwrap_or(0);
        stream.write_all(&[&length.to_be_bytes()[..], &reply].concat())?;
    }
    Ok(())
}

/// An answer to a query: its header, its question, and so many A records that hold for a second.
fn reply(query: &[u8], flags: u16, addrs: &[[u8; 4]]) -> Option<Vec<u8>> {
    let mut reply = query.get(..2)?.to_vec();
    let count = u16::try_from(addrs.len()).ok()?;
    for number in [flags, 1, count, 0, 0] {
        reply.extend_from_slice(&number.to_be_bytes());
    }
    reply.extend_from_slice(query.get(12..)?);
    for addr in addrs {
        reply.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        reply.extend_from_slice(addr);
    }
    Some(reply)
}
