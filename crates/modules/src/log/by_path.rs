//! Access logs whose path has variables, and the cache of their open files (`open_log_file_cache`).
//!
//! Without the cache such a file is opened and closed for every line, as in nginx.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use conf::resources::LogFile;
use http::log_buffer::LogSink;
use http::open_file::{self, Want};
use http::paths;
use http::request::Request;
use http::side::Side;
use os::errlog::{Errno, Level};
use os::file::FileInfo;

/// `open_log_file_cache`; times are milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CacheConf {
    /// Files that a thread keeps open at most.
    pub max: usize,
    /// A file that was not used for so long is closed.
    pub inactive_ms: u64,
    /// Uses within `inactive_ms` that keep a file open.
    pub min_uses: u64,
    /// Time after which it is checked whether the path still names the same file.
    pub valid_ms: u64,
}

struct Entry {
    /// The open file; `None` while it was used too seldom to be kept open.
    sink: Option<(Arc<LogSink>, FileInfo)>,
    used_ms: u64,
    checked_ms: u64,
    uses: u64,
}

thread_local! {
    static OPEN: RefCell<HashMap<PathBuf, Entry>> = RefCell::default();
}

/// The sink of a path that variables gave; `None` where it cannot be had, which was logged then.
pub(super) fn sink(r: &Request, path: &[u8], cache: Option<CacheConf>) -> Option<Arc<LogSink>> {
    if r.cycle.side == Side::Http && !root_exists(r) {
        return None;
    }
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    let opened = match cache {
        Some(cache) => OPEN.with_borrow_mut(|open| cached(open, path, cache)),
        None => open(path).map(|(sink, _)| sink),
    };
    opened
        .inspect_err(|error| {
            r.log(Level::Crit, format_args!("open() \"{}\" failed {}", path.display(), Errno(error)));
        })
        .ok()
}

/// Only hosts whose root is there get a log, so that clients cannot make files by inventing names. Sessions of `stream`
/// have no root, and no host that a client could invent.
fn root_exists(r: &Request) -> bool {
    let Ok(mapped) = paths::map_uri(r) else { return false };
    let root = mapped.full.get(..mapped.root_length).unwrap_or_default();
    let shown = String::from_utf8_lossy(root);
    match open_file::open(r, root, Want::Dir) {
        Ok(opened) if opened.info.is_dir() => return true,
        Ok(_) => {
            let error = io::Error::from_raw_os_error(os::errno::ENOTDIR);
            r.log(
                Level::Error,
                format_args!("testing \"{shown}\" existence failed {} while logging request", Errno(&error)),
            );
        }
        Err(error) => r.log(
            Level::Error,
            format_args!("testing \"{shown}\" existence failed {error} while logging request"),
        ),
    }
    false
}

fn open(path: &Path) -> io::Result<(Arc<LogSink>, FileInfo)> {
    use std::os::fd::AsFd;
    let file = os::file::open_append(path)?;
    let info = os::file::info(file.as_fd())?;
    Ok((LogSink::new(Arc::new(LogFile::new(path.to_owned(), file))), info))
}

fn cached(files: &mut HashMap<PathBuf, Entry>, path: &Path, cache: CacheConf) -> io::Result<Arc<LogSink>> {
    let now = os::clock::monotonic_coarse_ms();
    if !files.contains_key(path) {
        make_room(files, now, cache);
    }
    let entry = match files.get_mut(path) {
        Some(entry) => entry,
        None => files.entry(path.to_owned()).or_insert(Entry {
            sink: None,
            used_ms: now,
            checked_ms: now,
            uses: 0,
        }),
    };
    entry.used_ms = now;
    entry.uses += 1;
    if let Some((sink, info)) = &entry.sink {
        if now.saturating_sub(entry.checked_ms) < cache.valid_ms {
            return Ok(Arc::clone(sink));
        }
        entry.checked_ms = now;
        let is_same = |now: FileInfo| (now.dev, now.inode) == (info.dev, info.inode);
        if os::file::path_info(path).is_ok_and(is_same) {
            return Ok(Arc::clone(sink));
        }
    }
    let (sink, info) = open(path)?;
    entry.checked_ms = now;
    entry.sink = (entry.uses >= cache.min_uses).then(|| (Arc::clone(&sink), info));
    Ok(sink)
}

/// Closes what was not used for long, and where that is not enough, what was used longest ago.
fn make_room(files: &mut HashMap<PathBuf, Entry>, now: u64, cache: CacheConf) {
    if files.len() < cache.max {
        return;
    }
    files.retain(|_, entry| now.saturating_sub(entry.used_ms) < cache.inactive_ms);
    while files.len() >= cache.max {
        let oldest = files.iter().min_by_key(|(_, entry)| entry.used_ms).map(|(path, _)| path.clone());
        let Some(oldest) = oldest else { break };
        files.remove(&oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_stay_open_as_long_as_the_cache_says() {
        let dir = std::env::temp_dir().join(format!("tidegate-log-path-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("dir");
        let mut files = HashMap::new();
        let mut get = |name: &str, max, min_uses, valid_ms| {
            let cache = CacheConf { max, inactive_ms: 10_000, min_uses, valid_ms };
            cached(&mut files, &dir.join(name), cache).expect("open")
        };
        let first = get("a", 2, 1, 60_000);
        assert!(Arc::ptr_eq(&first, &get("a", 2, 1, 60_000)));
        std::fs::remove_file(dir.join("a")).expect("remove");
        assert!(Arc::ptr_eq(&first, &get("a", 2, 1, 60_000)));
        let second = get("a", 2, 1, 0);
        assert!(!Arc::ptr_eq(&first, &second), "the path names another file");
        let seldom = get("b", 2, 2, 60_000);
        let kept = get("b", 2, 2, 60_000);
        assert!(!Arc::ptr_eq(&seldom, &kept));
        assert!(Arc::ptr_eq(&kept, &get("b", 2, 2, 60_000)));
        get("c", 2, 1, 60_000);
        assert_eq!(files.len(), 2);
        let _ = std::fs::remove_dir_all(&dir);
    }
}
