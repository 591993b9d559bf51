//! Reading a directory for a request, as `autoindex` and `random_index` do.
//!
//! Errors become statuses and log lines as in nginx's two handlers, which agree on them.

use std::fs::ReadDir;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use http::request::Request;
use os::errlog::{Errno, Level};
use os::errno;

/// The text as a path.
pub fn as_path(path: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(path))
}

/// Opens the directory; logs and gives the status where it cannot be.
///
/// # Errors
/// The status that answers the request.
pub fn open(r: &Request, path: &[u8]) -> Result<ReadDir, u16> {
    let error = match std::fs::read_dir(as_path(path)) {
        Ok(dir) => return Ok(dir),
        Err(error) => error,
    };
    let (level, status) = match error.raw_os_error() {
        Some(errno::ENOENT | errno::ENOTDIR | errno::ENAMETOOLONG) => (Level::Error, 404),
        Some(errno::EACCES) => (Level::Error, 403),
        _ => (Level::Crit, 500),
    };
    failed(r, level, "opendir()", path, &error);
    Err(status)
}

/// Logs that a call failed.
pub fn failed(r: &Request, level: Level, call: &str, path: &[u8], error: &std::io::Error) {
    let shown = String::from_utf8_lossy(path);
    r.log(level, format_args!("{call} \"{shown}\" failed {}", Errno(error)));
}
