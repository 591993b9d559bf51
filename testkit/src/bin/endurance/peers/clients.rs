//! Clients that send their heads as slowly as they can.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use testkit::origin::ReplyAct;

use super::{SLACK, TIMEOUT, timely};
use crate::Plan;
use crate::ground::{Ground, PATIENCE, ask, rule, text};
use crate::report::{Report, when};

const SLOW_CLIENTS: usize = 200;
/// What a client who is not slow may have to wait while others are.
const LATENCY: Duration = Duration::from_millis(500);

const CONF: &str = "http {
        client_header_timeout 1s; client_body_timeout 1s; send_timeout 1s; keepalive_requests 1000000000;
        server {
            listen @ADDR1@; root @ROOT@/html;
            location /api/ { proxy_pass http://@ORIGIN1@; }
        }
    }";

/// Checks how such clients end, and that others do not suffer.
pub fn run(plan: &Plan, report: &mut Report) -> Result<(), String> {
    let mut ground = Ground::new(1000, vec![rule("*", &[ReplyAct::Echo])])?;
    ground.start(&plan.binary, CONF)?;
    report.check("a head that comes byte by byte times out", dripping(&ground).and_then(timely));
    report.check("a body that does not come times out", silent_body(&ground).and_then(timely));
    let (others, slow) = slowloris(&ground)?;
    report.check("others are served beside 200 slow heads", others);
    report.check("200 slow heads time out", slow);
    let after = ground.once("/api/after").map(|answer| answer.start);
    report.check("service goes on", after);
    Ok(())
}

fn connect(ground: &Ground) -> Result<TcpStream, String> {
    let stream = TcpStream::connect(ground.address()).map_err(text)?;
    stream.set_nodelay(true).map_err(text)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(text)?;
    Ok(stream)
}

/// Whether the server has closed, without waiting.
fn is_closed(stream: &mut TcpStream) -> bool {
    let _ = stream.set_nonblocking(true);
    let mut buffer = [0; 512];
    let closed = loop {
        match stream.read(&mut buffer) {
            Ok(0) => break true,
            Ok(_) => {}
            Err(error) => break error.kind() != std::io::ErrorKind::WouldBlock,
        }
    };
    let _ = stream.set_nonblocking(false);
    closed
}

/// How long a client lives that sends a byte every 20 ms.
fn dripping(ground: &Ground) -> Result<Duration, String> {
    let mut stream = connect(ground)?;
    let head = format!("GET / HTTP/1.1\r\nX-A: {}", "a".repeat(1000));
    let start = Instant::now();
    for byte in head.bytes() {
        if is_closed(&mut stream) || stream.write_all(&[byte]).is_err() {
            return Ok(start.elapsed());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err("never closed".into())
}

/// How long a client lives that announces a body and sends the half of it.
fn silent_body(ground: &Ground) -> Result<Duration, String> {
    let mut stream = connect(ground)?;
    let start = Instant::now();
    stream
        .write_all(b"POST /api/body HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\naaaaa")
        .map_err(text)?;
    stream.read_to_end(&mut Vec::new()).map_err(text)?;
    Ok(start.elapsed())
}

type Checked = Result<String, String>;

/// Many clients with unfinished heads to which a byte is added all the time, and one that wants answers.
fn slowloris(ground: &Ground) -> Result<(Checked, Checked), String> {
    let mut slow = Vec::new();
    let start = Instant::now();
    for _ in 0..SLOW_CLIENTS {
        let mut stream = connect(ground)?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nX-A: ").map_err(text)?;
        slow.push(stream);
    }
    let over = AtomicBool::new(false);
    Ok(std::thread::scope(|scope| {
        let others = scope.spawn(|| longest_wait(ground, &over));
        let limit = TIMEOUT + SLACK * 2;
        let mut open = slow;
        while !open.is_empty() && start.elapsed() < limit {
            open.retain_mut(|stream| !is_closed(stream) && stream.write_all(b"a").is_ok());
            std::thread::sleep(Duration::from_millis(5));
        }
        let took = start.elapsed();
        over.store(true, Ordering::SeqCst);
        let others = others.join().unwrap_or_else(|_| Err("panic".into()));
        let seen = format!("{} of {SLOW_CLIENTS} still open after {} ms", open.len(), took.as_millis());
        (others, when(open.is_empty(), seen))
    }))
}

/// Asks until it is over; what the slowest answer took.
fn longest_wait(ground: &Ground, over: &AtomicBool) -> Checked {
    let (mut count, mut longest) = (0, Duration::ZERO);
    while !over.load(Ordering::SeqCst) {
        let start = Instant::now();
        let mut client = ground.client()?;
        for target in ["/file.bin", "/api/x"] {
            let answer = ask(&mut client, target)?;
            if answer.status() != Some(200) {
                return Err(format!("{target} was answered {:?}", answer.start));
            }
        }
        longest = longest.max(start.elapsed());
        count += 1;
    }
    when(longest < LATENCY, format!("{count} connections, the slowest {} ms", longest.as_millis()))
}
