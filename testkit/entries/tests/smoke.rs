//! Every entry reads a few thousand texts of fragments and spoiled seeds: no panic, no growth without bound, in a
//! bounded time.
//!
//! Seeds are the files below `fuzz/seeds/NAME`, and the configurations of scenarios and examples. `TIDEGATE_FUZZ=20` reads
//! twenty times as many texts, and others.

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use entries::{Dice, ENTRIES, Entry, directives};

/// What one entry may take. A test build on a busy machine needs a tenth of it.
const TIME: Duration = Duration::from_secs(60);
/// What one text may take.
const TEXT_TIME: Duration = Duration::from_secs(5);
/// By how much all texts of one entry may make the process grow, KB.
const GROWTH_KB: u64 = 300 << 10;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All files below a folder whose names are wanted.
fn files(folder: &Path, is_wanted: &dyn Fn(&str) -> bool) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let mut found = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            found.extend(files(&path, is_wanted));
        } else if is_wanted(&name) {
            found.extend(std::fs::read(&path));
        }
    }
    found
}

fn seeds(entry: &Entry) -> Vec<Vec<u8>> {
    let mut seeds = files(&root().join("fuzz/seeds").join(entry.name), &|_| true);
    if entry.name == "configuration" {
        for folder in ["scenarios", "examples"] {
            let configurations = files(&root().join(folder), &|name| name.ends_with(".conf"));
            seeds.extend(configurations.into_iter().map(|text| filled(&text)));
        }
    }
    seeds
}

/// A scenario's configuration with something in the place of what the runner fills in.
fn filled(text: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(text);
    let mut out = String::from("events {} ");
    for (nth, part) in text.split('@').enumerate() {
        out.push_str(match part {
            _ if nth % 2 == 0 => part,
            "ROOT" | "CERTS" => "/root",
            _ if part.contains("PORT") => "8080",
            _ => "127.0.0.1:8081",
        });
    }
    out.into_bytes()
}

/// How much memory the process has taken at most, KB.
fn peak_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a process");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("its memory");
    line.split_whitespace().nth(1).and_then(|kb| kb.parse().ok()).expect("a number")
}

#[test]
fn any_bytes() {
    let times = std::env::var("TIDEGATE_FUZZ").ok().and_then(|times| times.parse().ok()).unwrap_or(1u32);
    for entry in ENTRIES {
        let seed = entry.name.len() as u64 + u64::from(times) * 1000;
        let (mut dice, start, before_kb) = (Dice::new(seed), Instant::now(), peak_kb());
        let seeds = seeds(&entry);
        assert!(!seeds.is_empty(), "{} has no seeds", entry.name);
        let rounds = if entry.name == "configuration" { 3000 } else { 50_000 } * times as usize;
        for round in 0..rounds {
            let seed = &seeds[dice.roll(seeds.len())];
            let text = match round % 3 {
                _ if round < seeds.len() => seeds[round].clone(),
                0 | 2 if entry.name == "configuration" => directives(&mut dice),
                0 => dice.text(entry.fragments),
                1 => dice.spoiled(seed, entry.fragments),
                _ => {
                    let text = dice.text(entry.fragments);
                    dice.spoiled(&text, entry.fragments)
                }
            };
            let read = Instant::now();
            let shown = text.escape_ascii();
            assert!(catch_unwind(|| (entry.read)(&text)).is_ok(), "{} panics at {shown}", entry.name);
            assert!(read.elapsed() < TEXT_TIME, "{} takes {:?} for {shown}", entry.name, read.elapsed());
        }
        let (took, grown_kb) = (start.elapsed(), peak_kb() - before_kb);
        println!("{}: {rounds} texts in {took:?}, {grown_kb} KB more", entry.name);
        assert!(took < TIME * times, "{} took {took:?}", entry.name);
        assert!(grown_kb < GROWTH_KB, "{} grew by {grown_kb} KB", entry.name);
    }
}
