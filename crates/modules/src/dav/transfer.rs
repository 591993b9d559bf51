//! COPY and MOVE.

use std::path::Path;

use http::conf::core::Replaced;
use http::paths::{map_path, map_uri};
use http::phases::Outcome;
use http::request::Request;
use os::errlog::{Errno, Level};
use os::errno;
use os::file::FileInfo;
use os::transfer::{self, Parents, create_dir, directory_access};
use proto::h1::Method;

use super::remove::{Kind, delete_path};
use super::{DavSettings, Depth, as_path, depth, failure, field, has_body, is_collection, tree};

pub(super) fn transfer(r: &Request, settings: DavSettings) -> Outcome {
    match plan(r).and_then(|plan| plan.carry_out(r, settings)) {
        Ok(status) | Err(status) => Outcome::Status(status),
    }
}

/// What is to be copied or moved, and whereto.
struct Plan {
    from: Vec<u8>,
    to: Vec<u8>,
    source: FileInfo,
    /// What is in the destination's place and is to be replaced.
    replaced: Option<Kind>,
}

/// Logs why the request cannot be fulfilled; its status.
fn reject(r: &Request, status: u16, why: std::fmt::Arguments<'_>) -> u16 {
    r.log(Level::Error, why);
    status
}

fn plan(r: &Request) -> Result<Plan, u16> {
    if has_body(r) {
        return Err(reject(r, 415, format_args!("COPY and MOVE with body are unsupported")));
    }
    let Some(destination) = field(r, b"Destination") else {
        return Err(reject(r, 400, format_args!("client sent no \"Destination\" header")));
    };
    let shown = String::from_utf8_lossy(destination);
    let target = target_uri(r, destination)?;
    check_depth(r)?;
    let overwrite = overwrite(r)?;
    let mut from = map_uri(r)?.full;
    let mut to = map_path(r, &target)?.full;
    merge_slashes(&mut from);
    merge_slashes(&mut to);
    let is_to_collection = to.len() > 1 && to.pop_if(|last| *last == b'/').is_some();
    check_apart(r, &from, &to, is_to_collection, &shown)?;
    let replaced = match os::file::link_info(as_path(&to)) {
        Ok(info) => {
            let kind = if info.is_dir() { Kind::Directory } else { Kind::File };
            if kind == Kind::Directory && !is_to_collection {
                let (uri, method) = (String::from_utf8_lossy(&r.uri), method_name(r));
                let why = format_args!("\"{uri}\" could not be {method}ed to collection \"{shown}\"");
                return Err(reject(r, 409, why));
            }
            if overwrite == Overwrite::No {
                let path = String::from_utf8_lossy(&to);
                let error = std::io::Error::from_raw_os_error(errno::EEXIST);
                let why = format_args!("\"{path}\" could not be created {}", Errno(&error));
                return Err(reject(r, 412, why));
            }
            Some(kind)
        }
        Err(error) if error.raw_os_error() == Some(errno::ENOENT) => None,
        Err(error) => return Err(failure(r, "lstat()", &to, &error, 404)),
    };
    let source =
        os::file::link_info(as_path(&from)).map_err(|error| failure(r, "lstat()", &from, &error, 404))?;
    if source.is_dir() {
        if !is_collection(&r.uri) {
            let uri = String::from_utf8_lossy(&r.uri);
            return Err(reject(r, 400, format_args!("\"{uri}\" is collection")));
        }
        from.pop_if(|last| *last == b'/');
    }
    Ok(Plan { from, to, source, replaced })
}

impl Plan {
    /// The status of success, or of failure.
    fn carry_out(&self, r: &Request, settings: DavSettings) -> Result<u16, u16> {
        let (from, to) = (as_path(&self.from), as_path(&self.to));
        if self.source.is_dir() {
            return self.directory(r, from, to);
        }
        let done = if r.method == Method::Move {
            transfer::rename(from, to, Parents::Made(directory_access(settings.access)))
        } else {
            transfer::copy(from, to, &self.source)
        };
        match done {
            Ok(()) => Ok(204),
            Err(failure) => {
                r.log(Level::Crit, format_args!("{failure}"));
                Err(500)
            }
        }
    }

    fn directory(&self, r: &Request, from: &Path, to: &Path) -> Result<u16, u16> {
        if let Some(kind) = self.replaced {
            delete_path(r, &self.to, kind)?;
        }
        if r.method == Method::Move && std::fs::rename(from, to).is_ok() {
            return Ok(201);
        }
        create_dir(to, self.source.mode & 0o777)
            .map_err(|error| failure(r, "mkdir()", &self.to, &error, 404))?;
        tree::copy(r, from, to)?;
        if r.method == Method::Move {
            tree::remove(r, from)?;
        }
        Ok(201)
    }
}

/// The path that `Destination` names on this server.
fn target_uri(r: &Request, destination: &[u8]) -> Result<Vec<u8>, u16> {
    let shown = String::from_utf8_lossy(destination);
    let invalid = || reject(r, 400, format_args!("client sent invalid \"Destination\" header: \"{shown}\""));
    let written = if destination.first() == Some(&b'/') {
        destination
    } else {
        if r.host.is_empty() {
            return Err(reject(r, 400, format_args!("client sent no \"Host\" header")));
        }
        let scheme: &[u8] = if r.conn.is_tls() { b"https://" } else { b"http://" };
        let host = destination.strip_prefix(scheme).ok_or_else(invalid)?;
        let Some(behind) = host.strip_prefix(&*r.host) else {
            let why = format_args!(
                "\"Destination\" URI \"{shown}\" is handled by different repository than the source URI"
            );
            return Err(reject(r, 400, why));
        };
        let slash = memchr::memchr(b'/', behind).ok_or_else(invalid)?;
        behind.get(slash..).unwrap_or_default()
    };
    let mut path = Vec::new();
    if let Err(error) = proto::uri::parse_unsafe(written, &mut path) {
        r.log(Level::Error, format_args!("{error}"));
        return Err(invalid());
    }
    if is_collection(&r.uri) != is_collection(destination) {
        let uri = String::from_utf8_lossy(&r.uri);
        let why = format_args!(
            "both URI \"{uri}\" and \"Destination\" URI \"{shown}\" should be either collections or non-collections"
        );
        return Err(reject(r, 409, why));
    }
    match r.location().core.root.replaced() {
        Some(Replaced::Prefix(length)) if path.len() < length => Err(invalid()),
        _ => Ok(path),
    }
}

fn check_depth(r: &Request) -> Result<(), u16> {
    match (depth(r, Depth::Infinity), r.method) {
        (Depth::Infinity, _) | (Depth::Zero, Method::Copy) => Ok(()),
        (_, Method::Copy) => Err(reject(r, 400, format_args!("\"Depth\" header must be 0 or infinity"))),
        _ => Err(reject(r, 400, format_args!("\"Depth\" header must be infinity"))),
    }
}

/// Whether what is in the destination's place may be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Overwrite {
    Yes,
    No,
}

fn overwrite(r: &Request) -> Result<Overwrite, u16> {
    match field(r, b"Overwrite") {
        None | Some(b"T" | b"t") => Ok(Overwrite::Yes),
        Some(b"F" | b"f") => Ok(Overwrite::No),
        Some(other) => {
            let shown = String::from_utf8_lossy(other);
            Err(reject(r, 400, format_args!("client sent invalid \"Overwrite\" header: \"{shown}\"")))
        }
    }
}

fn merge_slashes(path: &mut Vec<u8>) {
    path.dedup_by(|byte, before| *byte == b'/' && *before == b'/');
}

fn method_name(r: &Request) -> &'static str {
    if r.method == Method::Move { "MOVE" } else { "COPY" }
}

/// Nothing is copied onto itself, and no directory into itself or onto one that it lies in.
fn check_apart(r: &Request, from: &[u8], to: &[u8], is_collection: bool, shown: &str) -> Result<(), u16> {
    let from = from.strip_suffix(b"/").unwrap_or(from);
    let uri = String::from_utf8_lossy(&r.uri);
    if from == to {
        let why =
            format_args!("both URI \"{uri}\" and \"Destination\" URI \"{shown}\" point to the same location");
        return Err(reject(r, 403, why));
    }
    if is_collection && (lies_in(from, to) || lies_in(to, from)) {
        let method = method_name(r);
        let why = format_args!("\"{uri}\" could not be {method}ed to collection \"{shown}\"");
        return Err(reject(r, 403, why));
    }
    Ok(())
}

fn lies_in(path: &[u8], dir: &[u8]) -> bool {
    path.strip_prefix(dir).is_some_and(|rest| rest.first() == Some(&b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_in_each_other() {
        let check = |path: &str, dir: &str, expected| {
            assert_eq!(lies_in(path.as_bytes(), dir.as_bytes()), expected, "{path} {dir}");
        };
        check("/a/b", "/a", true);
        check("/ab", "/a", false);
        check("/a", "/a", false);
        check("/a", "/a/b", false);
    }

    #[test]
    fn slashes() {
        let mut path = b"//a///b/c//".to_vec();
        merge_slashes(&mut path);
        assert_eq!(path, b"/a/b/c/");
    }
}
