//! The limits of a zone while it runs, and what many entries cost: memory, time until service, time per hit.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use testkit::client::Client;

use super::origin::{Maker, body};
use crate::Plan;
use crate::ground::{Ground, ask, text, wait_for};
use crate::proc_fs::{cpu_us, rss_kib};
use crate::report::{Report, when};

const CLIENTS: usize = 4;
/// Bytes of a body.
const SIZE: usize = 100;
/// Most bytes of memory for an entry: what nginx takes of its zone, and half of that again.
const EACH: u64 = 192;
/// What the log says once all entries of an earlier run are known.
const FOUND: &str = "http file cache:";
/// Entries that a hit is compared with.
const FEW: usize = 1000;
/// How much more a hit may cost among many entries; what the disk's own index costs is part of it.
const SLOWER: f64 = 1.5;

/// Runs the part.
pub fn run(plan: &Plan, report: &mut Report) -> Result<(), String> {
    report.check("max_size holds", held(plan, 10 << 20, 1 << 20));
    report.check("keys_zone holds", held(plan, 64 << 10, u64::MAX));
    many(plan, report)
}

fn conf(origin: &Maker, parameters: &str) -> String {
    format!(
        "worker_processes 1;
        http {{
            proxy_cache_path @ROOT@/cache levels=1:2 use_temp_path=off {parameters};
            proxy_cache_key $uri; keepalive_requests 1000000000; access_log off;
            proxy_cache_valid 1h; proxy_http_version 1.1;
            upstream origin {{ server 127.0.0.1:{}; keepalive 16; keepalive_requests 1000000000; }}
            server {{
                listen @ADDR1@;
                add_header X-Cache $upstream_cache_status;
                location / {{ proxy_cache c; proxy_pass http://origin; proxy_set_header Connection \"\"; }}
            }}
        }}",
        origin.port
    )
}

/// Files and their bytes as blocks of the disk.
fn disk(directory: &Path) -> (usize, u64) {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.fold((0, 0), |(files, bytes), entry| match entry.metadata() {
        Ok(data) if data.is_dir() => {
            let (more, size) = disk(&entry.path());
            (files + more, bytes + size)
        }
        Ok(data) => (files + 1, bytes + data.size().next_multiple_of(4096)),
        Err(_) => (files, bytes),
    })
}

/// Asks for entries `0..count`; the first wrong answer ends it. How many came from the cache.
fn ask_all(ground: &Ground, count: usize, nth: impl Fn(usize) -> usize + Sync) -> Result<usize, String> {
    let (next, hits) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let client = || -> Result<(), String> {
        let mut client = Client::connect(&ground.address()).map_err(text)?;
        loop {
            let turn = next.fetch_add(1, Ordering::Relaxed);
            if turn >= count {
                return Ok(());
            }
            let target = format!("/length/{SIZE}/{}", nth(turn));
            let answer = ask(&mut client, &target)?;
            if answer.status() != Some(200) || answer.body != body(&target) {
                return Err(format!("{target} was answered {:?}", answer.start));
            }
            hits.fetch_add(usize::from(answer.header("X-Cache") == Some("HIT")), Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        all.into_iter().try_for_each(|one| one.join().map_err(|_| "a client panicked".to_owned())?)
    })?;
    Ok(hits.into_inner())
}

/// Bytes of the zone that nginx needs for an entry.
const NODE: u64 = 128;

/// Bytes over `max_size` that wait for the manager's turn, as in nginx.
const SLACK: u64 = 64 << 10;
/// Its turns are no further apart.
const TURN: Duration = Duration::from_secs(10);
/// How long all that is more may take, and how late a turn may come.
const SOON: Duration = Duration::from_secs(2);

/// Far more entries than there is room for: how much of them lies on the disk right then, soon after, and in the end.
fn held(plan: &Plan, keys: u64, max_size: u64) -> Result<String, String> {
    const ENTRIES: usize = 5000;
    let origin = Maker::start().map_err(text)?;
    let mut ground = Ground::new(1, Vec::new())?;
    let mut parameters = format!("keys_zone=c:{keys} manager_sleep=1ms manager_files=1000");
    if max_size < u64::MAX {
        parameters += &format!(" max_size={max_size}");
    }
    ground.start(&plan.binary, &conf(&origin, &parameters))?;
    let cache = ground.root().join("cache");
    let start = Instant::now();
    ask_all(&ground, ENTRIES, |nth| nth)?;
    let (files_then, bytes_then) = disk(&cache);
    let all = start.elapsed();
    let fits = |most: u64| {
        let (files, bytes) = disk(&cache);
        Ok((bytes <= most && files as u64 <= keys / NODE).then_some((files, bytes)))
    };
    let (files_soon, bytes_soon) = wait_for("the limit, about", || fits(max_size.saturating_add(SLACK)))?;
    let soon = start.elapsed() - all;
    // A turn of the manager may be further off than anything else is waited for.
    let (files, bytes) =
        wait_for("the limit", || fits(max_size)).or_else(|_| wait_for("the limit", || fits(max_size)))?;
    let end = start.elapsed() - all;
    let seen = format!(
        "{ENTRIES} entries in {} ms, then {files_then} files, {} KB; {files_soon}, {} KB after {} ms more; {files}, {} KB \
         after {} ms",
        all.as_millis(),
        bytes_then >> 10,
        bytes_soon >> 10,
        soon.as_millis(),
        bytes >> 10,
        end.as_millis()
    );
    when(soon < SOON && end < TURN + SOON, seen)
}

/// Many entries: found again after a start, and served as quickly as few.
fn many(plan: &Plan, report: &mut Report) -> Result<(), String> {
    let entries = plan.entries;
    let origin = Maker::start().map_err(text)?;
    let mut ground = Ground::new(1, Vec::new())?;
    let conf = conf(&origin, "keys_zone=c:1024m inactive=1d loader_files=10000 loader_sleep=1ms");
    ground.start(&plan.binary, &conf)?;
    ask_all(&ground, FEW, |nth| nth)?;
    let worker = ground.worker()?;
    let before = rss_kib(worker)?;
    let few = hit_cost(&ground, worker, FEW)?;
    let start = Instant::now();
    ask_all(&ground, entries, |nth| nth)?;
    let filled = start.elapsed();
    let each = (rss_kib(worker)?.saturating_sub(before) << 10) / entries as u64;
    let seen = format!("{each} bytes each, filled in {} s", filled.as_secs());
    report.check(&format!("memory of {entries} entries"), when(each <= EACH, seen));
    let among = hit_cost(&ground, worker, entries)?;
    let seen = format!("{among:.1} µs, {few:.1} among {FEW}");
    report.check(&format!("a hit among {entries} entries"), when(among <= few * SLOWER, seen));
    let before = ground.lines_with(FOUND).len();
    ground.stop();
    let start = Instant::now();
    ground.start(&plan.binary, &conf)?;
    ask_all(&ground, 1, |_| entries / 2)?;
    let served = start.elapsed();
    let deadline = Instant::now() + Duration::from_secs(600);
    while ground.lines_with(FOUND).len() <= before {
        if Instant::now() > deadline {
            return Err("the entries were not found again".into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let known = start.elapsed();
    let hits = ask_all(&ground, FEW, |nth| nth * (entries / FEW))?;
    let seen = format!(
        "the first served after {} ms, all known after {} ms, {hits} of {FEW} hits",
        served.as_millis(),
        known.as_millis()
    );
    report.check("entries are found again", when(served < Duration::from_secs(2) && hits == FEW, seen));
    Ok(())
}

/// Microseconds of the worker for a hit, over entries that lie apart.
fn hit_cost(ground: &Ground, worker: u32, among: usize) -> Result<f64, String> {
    const HITS: usize = 10_000;
    // A step without a common divisor meets each of them once in a while.
    let nth = |turn: usize| turn.wrapping_mul(7_919) % among;
    ask_all(ground, HITS, nth)?;
    let before = cpu_us(worker)?;
    let hits = ask_all(ground, HITS, nth)?;
    if hits != HITS {
        return Err(format!("{hits} hits of {HITS}"));
    }
    Ok((cpu_us(worker)? - before) as f64 / HITS as f64)
}
