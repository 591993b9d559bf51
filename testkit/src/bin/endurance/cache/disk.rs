//! Disks that are full, files that change, directories that go away or cannot be entered: nobody gets a wrong byte,
//! no request fails, and the log says it once.

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use testkit::process::Binary;

use super::drink::Drink;
use super::origin::{Maker, body};
use crate::Plan;
use crate::ground::{Ground, text, wait_for};
use crate::report::{Report, when};

const CLIENTS: usize = 8;
/// Requests while something is wrong.
const REQUESTS: usize = 400;
const SIZES: [usize; 5] = [10, 3000, 30_000, 300_000, 1_200_000];
/// Bytes of a disk that is full before long.
const SMALL_DISK: &str = "2m";
/// Longest file where there is no such disk, in blocks of 512 bytes or more.
const SMALL_FILE: u32 = 128;
/// Lines about the same trouble within the time that a part takes.
const LINES: usize = 2;

/// Runs the part.
pub fn run(plan: &Plan, report: &mut Report) -> Result<(), String> {
    full(plan, report)?;
    gone(plan, report)?;
    flipped(plan, report)
}

fn conf(origin: &Maker, parameters: &str) -> String {
    format!(
        "worker_processes 2;
        http {{
            proxy_cache_path @ROOT@/disk/cache levels=1:2 keys_zone=c:10m {parameters};
            proxy_temp_path @ROOT@/disk/temp;
            proxy_cache_valid 1h; proxy_cache_lock on; proxy_http_version 1.1;
            add_header X-Cache $upstream_cache_status;
            server {{ listen @ADDR1@; location / {{ proxy_cache c; proxy_pass http://127.0.0.1:{}; }} }}
        }}",
        origin.port
    )
}

/// Clients ask for `REQUESTS` answers of a few entries, with a slow one among them; the first failure ends it.
fn load(ground: &Ground, name: &str) -> Result<usize, String> {
    let (next, hits, is_over) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    let address = ground.address();
    let client = |number: usize| {
        while !is_over.load(Ordering::SeqCst) {
            let nth = next.fetch_add(1, Ordering::SeqCst);
            if nth >= REQUESTS {
                break;
            }
            let size = SIZES[nth % SIZES.len()];
            let form = ["length", "chunks", "close"][nth / 5 % 3];
            let target = format!("/{form}/{size}/{name}-{}", nth / 20 % 6);
            let mut drink = Drink::connect(&address)?;
            drink.ask(&target, "")?;
            if number == 0 {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            let answered = drink.read_head().and_then(|()| drink.finish(&body(&target)));
            if let Err(why) = answered {
                is_over.store(true, Ordering::SeqCst);
                return Err(format!("{target}: {why}; {:?}", drink.head));
            }
            hits.fetch_add(usize::from(drink.head.contains("X-Cache: HIT")), Ordering::SeqCst);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let client = &client;
        let all: Vec<_> = (0..CLIENTS).map(|number| scope.spawn(move || client(number))).collect();
        all.into_iter().try_for_each(|one| one.join().map_err(|_| "a client panicked".to_owned())?)
    })?;
    Ok(hits.load(Ordering::SeqCst))
}

/// The load, and how many lines the log got of it.
fn check(ground: &Ground, name: &str, lines: usize) -> Result<String, String> {
    let count = || ground.lines_with("[crit]").len();
    let before = count();
    let hits = load(ground, name)?;
    let all = ground.lines_with("[crit]");
    let told = all.len() - before;
    let first = all.get(before).map(String::as_str).unwrap_or_default();
    when(
        told <= lines,
        format!("{REQUESTS} requests, {hits} from the cache, {told} lines in the log {first}"),
    )
}

// --- Full -------------------------------------------------------------------------------------------------------

/// A file system of its own, or none where it cannot be made.
struct Disk(PathBuf);

impl Disk {
    fn mount(path: &Path) -> Option<Self> {
        let words = ["-t", "tmpfs", "-o", &format!("size={SMALL_DISK},mode=755"), "tmpfs"];
        let status = Command::new("mount").args(words).arg(path).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success()).then(|| Self(path.to_owned()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l".as_ref(), self.0.as_os_str()]).status();
    }
}

fn full(plan: &Plan, report: &mut Report) -> Result<(), String> {
    let origin = Maker::start().map_err(text)?;
    for parameters in ["", "memory=8m", "use_temp_path=off"] {
        let mut ground = Ground::new(1, Vec::new())?;
        let folder = ground.root().join("disk");
        fs::create_dir(&folder).map_err(text)?;
        let disk = Disk::mount(&folder);
        let what = if disk.is_some() { "a full disk" } else { "files that cannot grow" };
        let binary = match &disk {
            Some(_) => plan.binary.clone(),
            None => limited(&plan.binary, ground.root())?,
        };
        ground.start(&binary, &conf(&origin, parameters))?;
        report.check(&format!("{what} {parameters}"), check(&ground, "full", LINES));
        ground.stop();
    }
    Ok(())
}

/// The binary with a limit on the length of its files.
fn limited(binary: &Binary, root: &Path) -> Result<Binary, String> {
    let path = root.join("limited");
    let script = format!("#!/bin/sh\nulimit -f {SMALL_FILE}\nexec {} \"$@\"\n", binary.path.display());
    fs::write(&path, script).map_err(text)?;
    fs::set_permissions(&path, Permissions::from_mode(0o755)).map_err(text)?;
    Ok(Binary { path, ..binary.clone() })
}

// --- Gone -------------------------------------------------------------------------------------------------------

fn gone(plan: &Plan, report: &mut Report) -> Result<(), String> {
    let origin = Maker::start().map_err(text)?;
    for parameters in ["", "memory=8m", "use_temp_path=off"] {
        let mut ground = Ground::new(1, Vec::new())?;
        let folder = ground.root().join("disk");
        fs::create_dir(&folder).map_err(text)?;
        ground.start(&plan.binary, &conf(&origin, parameters))?;
        load(&ground, "gone")?;
        let cache = folder.join("cache");
        let permit = |mode| {
            let permissions = || Permissions::from_mode(mode);
            fs::set_permissions(&cache, permissions()).map_err(text)
        };
        permit(0o000)?;
        let forbidden = check(&ground, "gone", LINES);
        permit(0o777)?;
        report.check(&format!("a directory that must not be entered {parameters}"), forbidden);
        fs::remove_dir_all(&cache).map_err(text)?;
        report.check(&format!("a directory that was removed {parameters}"), check(&ground, "gone", LINES));
        fs::remove_dir_all(folder.join("temp")).map_err(text)?;
        report.check(&format!("and that of temporary files {parameters}"), check(&ground, "temp", LINES));
    }
    Ok(())
}

// --- Flipped ----------------------------------------------------------------------------------------------------

fn flipped(plan: &Plan, report: &mut Report) -> Result<(), String> {
    let origin = Maker::start().map_err(text)?;
    for parameters in ["", "memory=8m", "use_temp_path=off"] {
        let mut ground = Ground::new(1, Vec::new())?;
        fs::create_dir(ground.root().join("disk")).map_err(text)?;
        let conf = conf(&origin, parameters);
        ground.start(&plan.binary, &conf)?;
        let cache = ground.root().join("disk/cache");
        load(&ground, "flip")?;
        for round in 0..4 {
            let (count, when) = match round % 2 {
                0 => (flip_all(&cache, round)?, "while it runs"),
                _ => {
                    ground.stop();
                    let count = flip_all(&cache, round)?;
                    ground.start(&plan.binary, &conf)?;
                    (count, "between two runs")
                }
            };
            if parameters.contains("memory") {
                // What is in memory is compared with its file once a second; it is right either way.
                next_second()?;
            }
            let what = format!("a bit of {count} files flipped {when} {parameters}");
            report.check(&what, check(&ground, "flip", count));
        }
    }
    Ok(())
}

fn next_second() -> Result<(), String> {
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_err(text);
    let begun = now()?.as_secs();
    wait_for("the next second", || Ok((now()?.as_secs() > begun).then_some(())))
}

/// Flips one bit in each file below a directory; says in how many.
fn flip_all(directory: &Path, round: u64) -> Result<usize, String> {
    let mut count = 0;
    for entry in fs::read_dir(directory).map_err(text)?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            count += flip_all(&path, round)?;
            continue;
        }
        let file = fs::OpenOptions::new().read(true).write(true).open(&path).map_err(text)?;
        let length = file.metadata().map_err(text)?.len();
        let mut sum = round.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        sum = path.as_os_str().len() as u64
            ^ sum.wrapping_add(length.wrapping_mul(0xff51_afd7_ed55_8ccd))
            ^ count as u64;
        let at = sum.rotate_left(17) % length.max(1);
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).map_err(text)?;
        byte[0] ^= 1 << (sum % 8);
        file.write_all_at(&byte, at).map_err(text)?;
        count += 1;
    }
    Ok(count)
}
