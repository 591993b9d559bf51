//! DELETE.

use http::paths::map_uri;
use http::phases::Outcome;
use http::request::Request;
use os::errlog::Errno;
use os::errno;

use super::as_path;
use super::{DavSettings, Depth, depth, failure, has_body, is_collection, refuse, tree};

/// What a path stands for, without following it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
}

pub(super) fn delete(r: &Request, settings: DavSettings) -> Outcome {
    if has_body(r) {
        return refuse(r, 415, format_args!("DELETE with body is unsupported"));
    }
    if settings.min_delete_depth > 0
        && let Err(depth) = check_depth(&r.uri, settings.min_delete_depth)
    {
        return refuse(r, 409, format_args!("insufficient URI depth:{depth} to DELETE"));
    }
    let mut path = match map_uri(r) {
        Ok(mapped) => mapped.full,
        Err(status) => return Outcome::Status(status),
    };
    let info = match os::file::link_info(as_path(&path)) {
        Ok(info) => info,
        Err(error) => {
            let missing = if error.raw_os_error() == Some(errno::ENOTDIR) { 409 } else { 404 };
            return Outcome::Status(failure(r, "lstat()", &path, &error, missing));
        }
    };
    let kind = if info.is_dir() {
        if !is_collection(&r.uri) {
            let (shown, error) =
                (String::from_utf8_lossy(&path), std::io::Error::from_raw_os_error(errno::EISDIR));
            return refuse(r, 409, format_args!("DELETE \"{shown}\" failed {}", Errno(&error)));
        }
        if depth(r, Depth::Infinity) != Depth::Infinity {
            return refuse(r, 400, format_args!("\"Depth\" header must be infinity"));
        }
        path.pop();
        Kind::Directory
    } else {
        if !matches!(depth(r, Depth::Zero), Depth::Zero | Depth::Infinity) {
            return refuse(r, 400, format_args!("\"Depth\" header must be 0 or infinity"));
        }
        Kind::File
    };
    match delete_path(r, &path, kind) {
        Ok(()) => Outcome::Status(204),
        Err(status) => Outcome::Status(status),
    }
}

/// Deletes a file, or a directory with all that is in it.
///
/// # Errors
/// The status that answers the request.
pub(super) fn delete_path(r: &Request, path: &[u8], kind: Kind) -> Result<(), u16> {
    match kind {
        Kind::Directory => tree::remove(r, as_path(path)),
        Kind::File => {
            std::fs::remove_file(as_path(path)).map_err(|error| failure(r, "unlink()", path, &error, 404))
        }
    }
}

/// Whether a path has as many elements as must not be fewer; if not, how many it has.
fn check_depth(uri: &[u8], least: u64) -> Result<(), u64> {
    let mut depth = 0;
    for (at, _) in uri.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
        depth += 1;
        if depth >= least && at + 1 < uri.len() {
            return Ok(());
        }
    }
    Err(depth)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depths() {
        let check = |uri: &str, least, expected| {
            assert_eq!(check_depth(uri.as_bytes(), least), expected, "{uri} {least}");
        };
        check("/a", 1, Ok(()));
        check("/", 1, Err(1));
        check("/a", 2, Err(1));
        check("/a/", 2, Err(2));
        check("/a/b", 2, Ok(()));
        check("/a/b/", 3, Err(3));
        check("/a/b/c", 3, Ok(()));
    }
}
