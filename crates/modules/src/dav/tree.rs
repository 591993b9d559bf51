//! Whole directories: removing and copying all that is in them (`ngx_walk_tree`).
//!
//! Directories are gone through from a list, not by recursion, so that their depth costs no stack. No symbolic
//! link leads into another directory: nginx would empty what it points to, or copy in circles.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use http::request::Request;
use os::errlog::{Errno, Level};
use os::file::FileInfo;
use os::transfer::{self, create_dir, directory_access};

use super::failure;

/// What lies in a directory.
enum Entry {
    File(PathBuf),
    Directory(PathBuf),
    Special(PathBuf),
}

/// The entries of a directory; `None` where it cannot be read, which was logged.
fn entries(r: &Request, dir: &Path) -> Option<Vec<Entry>> {
    let told = |call: &str, error: std::io::Error| {
        r.log(Level::Crit, format_args!("{call} \"{}\" failed {}", dir.display(), Errno(&error)));
    };
    let listed = fs::read_dir(dir).map_err(|error| told("opendir()", error)).ok()?;
    let mut entries = Vec::new();
    for entry in listed {
        let entry = entry.map_err(|error| told("readdir()", error)).ok()?;
        let Ok(kind) = entry.file_type() else { continue };
        entries.push(if kind.is_dir() {
            Entry::Directory(entry.path())
        } else if kind.is_file() {
            Entry::File(entry.path())
        } else {
            Entry::Special(entry.path())
        });
    }
    Some(entries)
}

/// Removes a directory and all that is in it.
///
/// # Errors
/// The status that answers the request.
pub(super) fn remove(r: &Request, root: &Path) -> Result<(), u16> {
    let mut dirs = vec![root.to_owned()];
    let mut next = 0;
    while let Some(dir) = dirs.get(next) {
        let Some(entries) = entries(r, dir) else {
            if next == 0 {
                return Err(500);
            }
            next += 1;
            continue;
        };
        next += 1;
        for entry in entries {
            match entry {
                Entry::Directory(path) => dirs.push(path),
                Entry::File(path) | Entry::Special(path) => {
                    if let Err(error) = fs::remove_file(&path) {
                        failure(r, "unlink()", path.as_os_str().as_bytes(), &error, 0);
                    }
                }
            }
        }
    }
    // What is inside goes first.
    let mut outcome = Ok(());
    for (place, dir) in dirs.iter().enumerate().rev() {
        if let Err(error) = fs::remove_dir(dir) {
            let status = failure(r, "rmdir()", dir.as_os_str().as_bytes(), &error, 404);
            if place == 0 {
                outcome = Err(status);
            }
        }
    }
    outcome
}

/// Copies what is in `from` into `to`, which is there already; special files are left out.
///
/// # Errors
/// When `from` cannot be read, which was logged. What fails further inside is logged and left out.
pub(super) fn copy(r: &Request, from: &Path, to: &Path) -> Result<(), u16> {
    let mut dirs: Vec<(PathBuf, PathBuf, Option<FileInfo>)> = vec![(from.to_owned(), to.to_owned(), None)];
    let mut next = 0;
    while let Some((dir, copy, _)) = dirs.get(next).map(|(dir, copy, info)| (dir.clone(), copy.clone(), info))
    {
        let Some(entries) = entries(r, &dir) else {
            if next == 0 {
                return Err(500);
            }
            next += 1;
            continue;
        };
        next += 1;
        for entry in entries {
            let (Entry::File(path) | Entry::Directory(path) | Entry::Special(path)) = &entry;
            let Some(target) = path.file_name().map(|name| copy.join(name)) else { continue };
            let info = match os::file::path_info(path) {
                Ok(info) => info,
                Err(error) => {
                    failure(r, "stat()", path.as_os_str().as_bytes(), &error, 0);
                    continue;
                }
            };
            match entry {
                // A link to a file is copied as that file, one to a directory is left out.
                Entry::File(path) | Entry::Special(path) => {
                    if info.is_file()
                        && let Err(failure) = transfer::copy(&path, &target, &info)
                    {
                        r.log(Level::Crit, format_args!("{failure}"));
                    }
                }
                Entry::Directory(path) => {
                    if let Err(error) = create_dir(&target, directory_access(info.mode & 0o777)) {
                        failure(r, "mkdir()", target.as_os_str().as_bytes(), &error, 0);
                    }
                    dirs.push((path, target, Some(info)));
                }
            }
        }
    }
    // Last of all, since what is put into a directory changes its time.
    for (_, copy, info) in dirs.iter().rev() {
        if let Some(info) = info
            && let Err(failure) = transfer::set_mtime(copy, info.mtime)
        {
            r.log(Level::Crit, format_args!("{failure}"));
        }
    }
    Ok(())
}
