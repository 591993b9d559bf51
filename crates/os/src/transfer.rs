//! Moving and copying single files (`ngx_ext_rename_file`, `ngx_copy_file`).
//!
//! Across file systems a rename is a copy beside the destination and a rename there, so the destination is
//! always one whole file.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use crate::errlog::Errno;
use crate::errno;
use crate::file::{self, FileInfo};

/// Whether missing directories of a destination are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parents {
    /// They must be there.
    Required,
    /// They are made with these permission bits.
    Made(u32),
}

/// A call that failed, on which file.
#[derive(Debug)]
pub struct Failure {
    /// The call, as the error log names it.
    pub call: &'static str,
    /// The file.
    pub path: PathBuf,
    /// The name that a rename would have given it.
    pub to: Option<PathBuf>,
    /// What it said.
    pub error: io::Error,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} \"{}\"", self.call, self.path.display())?;
        if let Some(to) = &self.to {
            write!(f, " to \"{}\"", to.display())?;
        }
        write!(f, " failed {}", Errno(&self.error))
    }
}

impl std::error::Error for Failure {}

fn failed<'a>(call: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Failure + 'a {
    move |error| Failure { call, path: path.to_owned(), to: None, error }
}

fn not_renamed<'a>(path: &'a Path, to: &'a Path) -> impl FnOnce(io::Error) -> Failure + 'a {
    move |error| Failure { to: Some(to.to_owned()), ..failed("rename()", path)(error) }
}

/// Sets permission bits whatever the process's mask is.
///
/// # Errors
/// The call that failed.
pub fn set_access(path: &Path, access: u32) -> Result<(), Failure> {
    fs::set_permissions(path, fs::Permissions::from_mode(access)).map_err(failed("chmod()", path))
}

/// Sets the time of the last change of a file or directory, Unix seconds.
///
/// # Errors
/// The call that failed.
pub fn set_mtime(path: &Path, mtime: i64) -> Result<(), Failure> {
    let file = File::open(path).map_err(failed("open()", path))?;
    set_mtime_of(&file, path, mtime)
}

/// Makes a directory with these permission bits, the process's mask applied.
///
/// # Errors
/// Those of `mkdir(2)`.
pub fn create_dir(path: &Path, access: u32) -> io::Result<()> {
    fs::DirBuilder::new().mode(access).create(path)
}

/// Moves a file to a name that may be taken.
///
/// # Errors
/// The call that failed; the file is still there under its old name.
pub fn rename(from: &Path, to: &Path, parents: Parents) -> Result<(), Failure> {
    let mut outcome = fs::rename(from, to);
    if let (Err(error), Parents::Made(access)) = (&outcome, parents)
        && error.raw_os_error() == Some(errno::ENOENT)
    {
        create_parents(to, access).map_err(failed("mkdir()", to))?;
        outcome = fs::rename(from, to);
    }
    match outcome {
        Err(error) if error.raw_os_error() == Some(errno::EXDEV) => move_across(from, to),
        other => other.map_err(not_renamed(from, to)),
    }
}

fn create_parents(path: &Path, access: u32) -> io::Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    fs::DirBuilder::new().recursive(true).mode(access).create(parent)
}

fn move_across(from: &Path, to: &Path) -> Result<(), Failure> {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let mut beside = to.as_os_str().to_owned();
    beside.push(format!(".{:010}", NEXT.fetch_add(1, Ordering::Relaxed)));
    let beside = PathBuf::from(beside);
    let info = file::path_info(from).map_err(failed("stat()", from))?;
    let moved =
        copy(from, &beside, &info).and_then(|()| fs::rename(&beside, to).map_err(not_renamed(&beside, to)));
    if let Err(failure) = moved {
        let _ = fs::remove_file(&beside);
        return Err(failure);
    }
    fs::remove_file(from).map_err(failed("unlink()", from))
}

/// Copies a file over another one or to a new name, with the permission bits and the time of `info`.
///
/// # Errors
/// The call that failed; the copy may be there in part.
pub fn copy(from: &Path, to: &Path, info: &FileInfo) -> Result<(), Failure> {
    let mut source = File::open(from).map_err(failed("open()", from))?;
    let mut options = OpenOptions::new();
    let mut copy = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(info.mode & 0o777)
        .open(to)
        .map_err(failed("open()", to))?;
    io::copy(&mut source, &mut copy).map_err(failed("write()", to))?;
    set_mtime_of(&copy, to, info.mtime)
}

/// As [`set_mtime`], of an open file.
///
/// # Errors
/// The call that failed.
pub fn set_mtime_of(file: &File, path: &Path, mtime: i64) -> Result<(), Failure> {
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(mtime.max(0).unsigned_abs()));
    let time = time.ok_or_else(|| failed("utimes()", path)(io::ErrorKind::InvalidInput.into()))?;
    file.set_modified(time).map_err(failed("utimes()", path))
}

/// Permission bits of a directory beside files of these (`ngx_dir_access`).
#[must_use]
pub fn directory_access(access: u32) -> u32 {
    access | (access & 0o444) >> 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("tidegate-transfer-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("dir");
        dir
    }

    #[test]
    fn whoever_may_read_a_directory_may_search_it() {
        assert_eq!(directory_access(0o600), 0o700);
        assert_eq!(directory_access(0o644), 0o755);
        assert_eq!(directory_access(0o640), 0o750);
    }

    #[test]
    fn a_rename_makes_directories_where_it_may() {
        let dir = scratch("rename");
        let (from, to) = (dir.join("a"), dir.join("x/y/b"));
        fs::write(&from, "text").expect("write");
        let failure = rename(&from, &to, Parents::Required).expect_err("no directory");
        let names = format!("rename() \"{}\" to \"{}\" failed (2: ", from.display(), to.display());
        assert!(failure.to_string().starts_with(&names), "{failure}");
        assert!(from.exists());
        rename(&from, &to, Parents::Made(0o700)).expect("rename");
        assert_eq!(fs::read_to_string(&to).expect("read"), "text");
        let _ = fs::remove_dir_all(&dir);
    }

    #[test]
    fn a_copy_has_time_and_permissions() {
        let dir = scratch("copy");
        let (from, to) = (dir.join("a"), dir.join("b"));
        fs::write(&from, "text").expect("write");
        set_access(&from, 0o640).expect("chmod");
        set_mtime(&from, 1_700_000_000).expect("utimes");
        fs::write(&to, "a longer text").expect("write");
        let info = file::path_info(&from).expect("info");
        copy(&from, &to, &info).expect("copy");
        let seen = file::path_info(&to).expect("info");
        assert_eq!((seen.size, seen.mtime), (4, 1_700_000_000));
        move_across(&from, &dir.join("c")).expect("move");
        assert!(!from.exists());
        assert_eq!(file::path_info(&dir.join("c")).expect("info").mode, 0o640);
        let _ = fs::remove_dir_all(&dir);
    }
}
