//! The one place where modules open or look up files for a request (`ngx_open_cached_file`).
//!
//! It obeys `disable_symlinks` and `open_file_cache`; nobody else opens a file that a URI names.

mod cache;

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use os::errlog::{Level, strerror};
use os::errno;
use os::file::FileInfo;
use os::symlinks::{SymlinkPolicy, open_checked};

pub use self::cache::OpenFileCache;
use crate::chunk::Chunk;
use crate::paths::{Mapped, map_uri};
use crate::phases::{Body, Outcome};
use crate::request::Request;
use crate::response::Ranges;
use crate::variables::Template;

/// `disable_symlinks`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Symlinks {
    /// `off`.
    #[default]
    Allowed,
    /// `on` or `if_not_owner`.
    Refused {
        /// Links are allowed whose owner is also the owner of what they point to.
        only_foreign: bool,
        /// The front of the path that may contain links.
        from: Option<Template>,
    },
}

impl Symlinks {
    /// What holds for this path, and how many of its first bytes are trusted
    /// (`ngx_http_set_disable_symlinks`).
    fn policy(&self, r: &Request, path: &[u8]) -> Links {
        let Self::Refused { only_foreign, from } = self else { return Links::default() };
        let policy = if *only_foreign { SymlinkPolicy::SameOwner } else { SymlinkPolicy::Refuse };
        let from = from.as_ref().map(|from| from.value(r)).unwrap_or_default();
        match trusted(path, &from) {
            Some(trusted) => Links { policy, trusted },
            None => Links::default(),
        }
    }
}

/// Bytes of `path` that lie below `from=`; `None` where that is all of it.
fn trusted(path: &[u8], from: &[u8]) -> Option<usize> {
    let Some(rest) = path.strip_prefix(from).filter(|_| !from.is_empty()) else { return Some(0) };
    match rest.first() {
        None => None,
        Some(b'/') => Some(from.len()),
        Some(_) if from.ends_with(b"/") => Some(from.len() - 1),
        Some(_) => Some(0),
    }
}

/// Which links are followed on the way to a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Links {
    policy: SymlinkPolicy,
    trusted: usize,
}

/// What the caller needs of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// To read it.
    File,
    /// To know about it; a cache opens it nevertheless, since it will be read next.
    Info,
    /// To know about what is probably a directory.
    Dir,
}

/// A file or directory that is there.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The open file; none for directories and for [`Want::Info`] without a cache.
    pub file: Option<Arc<File>>,
    /// Size, times, kind.
    pub info: FileInfo,
}

/// Why a file cannot be opened or looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenError {
    /// The system's error number.
    pub errno: i32,
    /// The call that failed, as nginx names it: `open()`, `stat()`.
    pub call: &'static str,
}

impl OpenError {
    fn new(error: &io::Error, call: &'static str) -> Self {
        Self { errno: error.raw_os_error().unwrap_or(errno::EINVAL), call }
    }

    /// There is no such file (`ENOENT`, `ENOTDIR`, `ENAMETOOLONG`).
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self.errno, errno::ENOENT | errno::ENOTDIR | errno::ENAMETOOLONG)
    }

    /// A link is in the way that must not be followed.
    #[must_use]
    pub fn is_link(&self) -> bool {
        matches!(self.errno, errno::EMLINK | errno::ELOOP)
    }

    /// The status that answers it (`ngx_http_static_handler`).
    #[must_use]
    pub fn status(&self) -> u16 {
        if self.is_missing() {
            404
        } else if self.is_link() || self.errno == errno::EACCES {
            403
        } else {
            500
        }
    }

    /// The level at which nginx logs it.
    #[must_use]
    pub fn level(&self) -> Level {
        if self.status() == 500 { Level::Crit } else { Level::Error }
    }
}

impl fmt::Display for OpenError {
    /// `(2: No such file or directory)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}: {})", self.errno, strerror(self.errno))
    }
}

/// Opens the file that the request's URI names, and gives its path too. A URI with a slash at its end names none.
///
/// # Errors
/// What becomes of the request where there is nothing to open.
pub fn open_uri(r: &mut Request) -> Result<(Mapped, Opened), Outcome> {
    if r.uri.last() == Some(&b'/') {
        return Err(Outcome::Declined);
    }
    let path = map_uri(r).map_err(Outcome::Status)?;
    match open(r, &path.full, Want::File) {
        Ok(opened) => Ok((path, opened)),
        Err(error) => Err(refuse(r, &path.full, &error)),
    }
}

/// Opens or looks up the file at `path` as the request's location says.
///
/// # Errors
/// The call that failed; [`refuse`] makes the usual answer of it.
pub fn open(r: &Request, path: &[u8], want: Want) -> Result<Opened, OpenError> {
    let core = &r.location().core;
    let links = core.disable_symlinks.policy(r, path);
    let Some(cache) = &core.open_file_cache else {
        return match want {
            Want::File => open_now(path, links),
            Want::Info | Want::Dir => info_now(path, links).map(|info| Opened { file: None, info }),
        };
    };
    let rules = cache::Rules {
        links,
        valid_ms: core.open_file_cache_valid,
        min_uses: core.open_file_cache_min_uses,
        keeps_errors: core.open_file_cache_errors,
    };
    cache.open(path, want, &rules)
}

/// Logs why a file cannot be served, obeying `log_not_found`, and gives the status that says so.
#[must_use]
pub fn refuse(r: &Request, path: &[u8], error: &OpenError) -> Outcome {
    let status = error.status();
    if status != 404 || r.location().core.log_not_found {
        let shown = String::from_utf8_lossy(path);
        r.log(error.level(), format_args!("{} \"{shown}\" failed {error}", error.call));
    }
    Outcome::Status(status)
}

/// Makes `length` bytes of the file the answer, of which parts may be asked for: its time, tag and type.
pub fn announce(r: &mut Request, info: &FileInfo, length: u64) {
    r.response.status = 200;
    r.response.content_length = Some(length);
    r.response.set_last_modified(Some(info.mtime));
    r.set_etag();
    r.set_content_type();
    r.response.ranges = Ranges::Allowed;
}

/// The whole file as a body.
#[must_use]
pub fn whole(file: Arc<File>, size: u64) -> Body {
    if size == 0 { Body::Empty } else { Body::One(Chunk::File { file, offset: 0, end: size }) }
}

fn as_path(path: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(path))
}

fn open_call(links: Links) -> &'static str {
    if links.policy == SymlinkPolicy::Follow { "open()" } else { "openat()" }
}

fn open_now(path: &[u8], links: Links) -> Result<Opened, OpenError> {
    let fd = open_checked(as_path(path), links.policy, links.trusted)
        .map_err(|error| OpenError::new(&error, open_call(links)))?;
    let info = os::file::info(fd.as_fd()).map_err(|error| OpenError::new(&error, "fstat()"))?;
    let file = (!info.is_dir()).then(|| Arc::new(File::from(fd)));
    Ok(Opened { file, info })
}

fn info_now(path: &[u8], links: Links) -> Result<FileInfo, OpenError> {
    if links.policy == SymlinkPolicy::Follow {
        return os::file::path_info(as_path(path)).map_err(|error| OpenError::new(&error, "stat()"));
    }
    open_now(path, links).map(|opened| opened.info)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_trusts_whole_components_only() {
        let check = |path: &str, from: &str, expected| {
            assert_eq!(trusted(path.as_bytes(), from.as_bytes()), expected, "{path} {from}");
        };
        check("/a/b", "", Some(0));
        check("/a/b", "/a", Some(2));
        check("/a/b", "/a/", Some(2));
        check("/a/b", "/a/b", None);
        check("/a/bc", "/a/b", Some(0));
        check("/a/b", "/a/bc", Some(0));
        check("/a/b", "/c", Some(0));
        check("/a/b", "/", Some(0));
    }

    #[test]
    fn errors_become_statuses() {
        let check = |errno, status| assert_eq!(OpenError { errno, call: "open()" }.status(), status);
        check(errno::ENOENT, 404);
        check(errno::ENOTDIR, 404);
        check(errno::ENAMETOOLONG, 404);
        check(errno::EACCES, 403);
        check(errno::ELOOP, 403);
        check(errno::EMLINK, 403);
        check(errno::EINVAL, 500);
        let error = OpenError { errno: errno::ENOENT, call: "open()" };
        assert_eq!(error.to_string(), "(2: No such file or directory)");
    }
}
