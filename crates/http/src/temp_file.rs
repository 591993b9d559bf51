//! Temporary files for bodies: made in the directories of the configuration, gone when nobody needs them.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::conf::core::TempPath;

/// Names that are tried before giving up, when files of an earlier run are in the way.
const TRIES: u32 = 10_000;

/// A file that is removed when the request that holds this ends.
#[derive(Debug)]
pub struct Removed(pub PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Creates a file with nginx's kind of name: ten digits, the last ones naming its subdirectories.
///
/// # Errors
/// The error of creating it.
pub fn create(dir: &TempPath) -> io::Result<(File, PathBuf)> {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    for _ in 0..TRIES {
        let path = path_of(dir, NEXT.fetch_add(1, Ordering::Relaxed));
        let open = || OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let opened = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(parent) = path.parent() {
                    std::fs::create_dir_all(parent)?;
                }
                open()
            }
            other => other,
        };
        match opened {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => return other.map(|file| (file, path)),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn path_of(dir: &TempPath, number: u32) -> PathBuf {
    let name = format!("{number:010}");
    let mut path = dir.path.clone();
    let mut end = name.len();
    for level in dir.levels.iter().map(|level| usize::from(*level)).filter(|level| *level > 0) {
        path.push(&name[end - level..end]);
        end -= level;
    }
    path.push(name);
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subdirectories_are_named_by_the_last_digits() {
        let check = |levels, expected: &str| {
            let dir = TempPath { path: "/t".into(), levels };
            assert_eq!(path_of(&dir, 123_457), PathBuf::from(expected));
        };
        check([0, 0, 0], "/t/0000123457");
        check([1, 2, 0], "/t/7/45/0000123457");
        check([1, 1, 1], "/t/7/5/4/0000123457");
    }
}
