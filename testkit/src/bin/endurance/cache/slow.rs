//! Slow clients: their origins are let go at once, and the server holds no more for them than its buffers.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::drink::Drink;
use super::origin::{Maker, body, fill};
use crate::Plan;
use crate::ground::{Ground, text, wait_for};
use crate::proc_fs::rss_kib;
use crate::report::{Report, when};

/// `proxy_buffer_size` and `proxy_buffers`.
const BUFFERS: u64 = (16 << 10) + 8 * (16 << 10);
/// What the upstream is read with at most.
const READ: u64 = 256 << 10;
/// What a compressor may take for itself (`gzip_window` and `gzip_hash` are at their largest).
const GZIP: u64 = 320 << 10;
/// Connections, requests and what the allocator does not give back, for each of many.
const OWN: u64 = 32 << 10;
/// Clients that are slow at once.
const CLIENTS: usize = 64;
/// Bytes that each of them asks for: more than the kernel takes for a client that reads nothing.
const BODY: u64 = 12 << 20;
/// How long an origin's progress must have rested to be held back.
const STILL: Duration = Duration::from_millis(400);

fn conf(origin: &Maker) -> String {
    format!(
        "worker_processes 1;
        http {{
            proxy_cache_path @ROOT@/cache keys_zone=c:10m;
            proxy_buffer_size 16k; proxy_buffers 8 16k; proxy_http_version 1.1;
            proxy_cache_valid 1h; send_timeout 300s; gzip_min_length 1; gzip_proxied any; gzip_comp_level 1;
            server {{
                listen @ADDR1@;
                location /plain/ {{ proxy_pass http://127.0.0.1:{0}/; }}
                location /gzip/ {{ gzip on; proxy_pass http://127.0.0.1:{0}/; }}
                location /cache/ {{ proxy_cache c; proxy_pass http://127.0.0.1:{0}/; }}
                location /direct/ {{ proxy_buffering off; proxy_pass http://127.0.0.1:{0}/; }}
                location /nofile/ {{ proxy_max_temp_file_size 0; proxy_pass http://127.0.0.1:{0}/; }}
            }}
        }}",
        origin.port
    )
}

/// Runs the part.
pub fn run(plan: &Plan, report: &mut Report) -> Result<(), String> {
    let (size, rate) = plan.slow;
    for place in ["plain", "cache"] {
        let what = format!("{} MB to a client that reads {} MB/s, {place}", size >> 20, rate >> 20);
        report.check(&what, one(plan, place, size, rate));
    }
    for place in ["direct", "nofile"] {
        report.check(&format!("the origin is held back, {place}"), held(plan, place, size));
    }
    for (place, bound) in
        [("plain", BUFFERS + READ), ("cache", BUFFERS + READ), ("gzip", BUFFERS + READ + GZIP)]
    {
        report
            .check(&format!("memory for each of {CLIENTS} slow clients, {place}"), many(plan, place, bound));
    }
    Ok(())
}

fn started(plan: &Plan) -> Result<(Ground, Maker), String> {
    let origin = Maker::start().map_err(text)?;
    let mut ground = Ground::new(1, Vec::new())?;
    ground.start(&plan.binary, &conf(&origin))?;
    Ok((ground, origin))
}

/// The first answer makes what all later ones share.
fn warm_up(ground: &Ground, place: &str) -> Result<(), String> {
    let mut client = Drink::connect(&ground.address())?;
    client.ask(&format!("/{place}/length/1000000/warm"), "")?;
    client.read_head()?;
    client.finish(&body("/length/1000000/warm"))
}

/// One client at its own speed: how soon the origin is done, and by how much the worker grows.
fn one(plan: &Plan, place: &str, size: u64, rate: u64) -> Result<String, String> {
    let (ground, origin) = started(plan)?;
    let worker = ground.worker()?;
    warm_up(&ground, place)?;
    let (before, sent_before) = (rss_kib(worker)?, origin.sent());
    let start = Instant::now();
    let target = format!("/length/{size}/slow");
    let mut client = Drink::connect(&ground.address())?;
    client.ask(&format!("/{place}{target}"), "")?;
    client.read_head()?;
    let mut released = None;
    let (mut at, mut most) = (0, before);
    let (mut buffer, mut expected) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        let mut have = 0;
        while have < buffer.len() {
            match client.some(&mut buffer[have..])? {
                0 => break,
                count => have += count,
            }
        }
        if have == 0 {
            break;
        }
        fill(&target, at, &mut expected[..have]);
        if buffer[..have] != expected[..have] {
            return Err(format!("a wrong byte behind {at}"));
        }
        at += have as u64;
        if origin.sent() - sent_before == size {
            released.get_or_insert_with(|| start.elapsed());
        }
        if at % (1 << 20) == 0 {
            most = most.max(rss_kib(worker)?);
        }
        sleep(Duration::from_secs_f64(at as f64 / rate as f64).saturating_sub(start.elapsed()));
    }
    let (took, released) = (start.elapsed(), released.ok_or("the origin was never done")?);
    let grown = (most - before) << 10;
    let bound = BUFFERS + READ + (1 << 20);
    let seen = format!(
        "origin done after {} ms of {} ms, {} KB more at most",
        released.as_millis(),
        took.as_millis(),
        grown >> 10
    );
    when(at == size && released < took / 3 && grown <= bound, seen)
}

/// A client that reads nothing: the origin stops, and goes on with the client.
fn held(plan: &Plan, place: &str, size: u64) -> Result<String, String> {
    let (ground, origin) = started(plan)?;
    let target = format!("/length/{size}/held");
    let mut client = Drink::connect(&ground.address())?;
    client.ask(&format!("/{place}{target}"), "")?;
    client.read_head()?;
    let stopped = rest(&origin)?;
    let (length, start) = (usize::try_from(size).map_err(text)?, Instant::now());
    let mut expected = vec![0; length];
    fill(&target, 0, &mut expected);
    client.finish(&expected)?;
    let seen = format!(
        "after {} MB of {}; the rest took {} ms",
        stopped >> 20,
        size >> 20,
        start.elapsed().as_millis()
    );
    when(stopped < size, seen)
}

/// Bytes that the origin has sent once that stays as it is.
fn rest(origin: &Maker) -> Result<u64, String> {
    let (mut last, mut since) = (origin.sent(), Instant::now());
    wait_for("an origin that rests", || {
        let now = origin.sent();
        if now != last {
            (last, since) = (now, Instant::now());
        }
        Ok((now > 0 && since.elapsed() >= STILL).then_some(now))
    })
}

/// Many clients that read nothing for now: the memory that the worker has for each.
fn many(plan: &Plan, place: &str, bound: u64) -> Result<String, String> {
    let (ground, origin) = started(plan)?;
    let worker = ground.worker()?;
    warm_up(&ground, place)?;
    let before = rss_kib(worker)?;
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let mut client = Drink::connect(&ground.address())?;
        client.ask(&format!("/{place}/length/{BODY}/{number}"), "Accept-Encoding: gzip\r\n")?;
        clients.push(client);
    }
    rest(&origin)?;
    let each = (rss_kib(worker)?.saturating_sub(before) << 10) / CLIENTS as u64;
    let mut buffer = vec![0; 256 << 10];
    let mut came = 0;
    if let Some(client) = clients.first_mut() {
        client.read_head()?;
        loop {
            match client.some(&mut buffer)? {
                0 => break,
                count => came += count as u64,
            }
        }
    }
    // What cannot be compressed grows a little.
    let seen = format!("{} KB each, at most {} allowed; {came} bytes came", each >> 10, (bound + OWN) >> 10);
    when(each <= bound + OWN && came >= BODY, seen)
}
