//! From a request's URI to a file's path (`ngx_http_map_uri_to_path`): the one place that does it.

use std::os::unix::ffi::OsStrExt;

use os::errlog::Level;

use crate::conf::core::{Replaced, Root};
use crate::request::Request;
use crate::variables::Template;

/// A path, and how much of its front is the root that was configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// The path.
    pub full: Vec<u8>,
    /// Bytes of `root` or `alias`.
    pub root_length: usize,
}

/// The path that the request's URI names.
///
/// # Errors
/// As [`map_path`].
pub fn map_uri(r: &Request) -> Result<Mapped, u16> {
    map_path(r, &r.uri)
}

/// The path that another URI of this location names.
///
/// # Errors
/// The status to answer with: 404 where the path would leave its root (`location /a { alias /b/; }` asked for
/// `/a../c`, which nginx serves), 500 where `alias` cannot be applied.
pub fn map_path(r: &Request, uri: &[u8]) -> Result<Mapped, u16> {
    let location = r.location();
    if location.core.root.replaced().is_some() && !r.valid_location {
        let name = String::from_utf8_lossy(&location.name);
        r.log(
            Level::Alert,
            format_args!("\"alias\" cannot be used in location \"{name}\" where URI was rewritten"),
        );
        return Err(500);
    }
    // NUL never comes this far in a URI, but a variable may hold anything.
    let checked = |full: Vec<u8>, root_length: usize| {
        if full.contains(&0) || climbs(&full, root_length) {
            let shown = String::from_utf8_lossy(&full);
            r.log(Level::Error, format_args!("path \"{shown}\" leaves its root"));
            return Err(404);
        }
        Ok(Mapped { full, root_length })
    };
    // What variables put into a path may not climb either, unless the configuration itself does.
    let from_variables = |template: &Template, full: &[u8]| {
        if template.has_literal(b"..") { full.len() } else { 0 }
    };
    // What of the URI follows an `alias`.
    let behind = |replaced: Replaced| match replaced {
        Replaced::Prefix(length) => uri.get(length..).unwrap_or_default(),
        Replaced::Whole if r.add_uri_to_alias => uri,
        Replaced::Whole => b"",
    };
    let plain = |root: &[u8]| {
        let mut full = Vec::with_capacity(root.len() + uri.len() + 16);
        full.extend_from_slice(root);
        let root_length = full.len();
        full.extend_from_slice(uri);
        checked(full, root_length)
    };
    match &location.core.root {
        Root::Default => plain(b"html"),
        Root::Path(path) => plain(path.as_os_str().as_bytes()),
        Root::Template(template) => {
            let mut full = absolute(r, template.value(r));
            let checked_from = from_variables(template, &full);
            let root_length = full.len();
            full.extend_from_slice(uri);
            checked(full, checked_from).map(|mapped| Mapped { root_length, ..mapped })
        }
        Root::Alias(path, replaced) => {
            let mut full = path.as_os_str().as_bytes().to_vec();
            let root_length = full.len();
            full.extend_from_slice(behind(*replaced));
            checked(full, root_length)
        }
        Root::AliasTemplate(template, replaced) => {
            let mut full = absolute(r, template.value(r));
            let checked_from = from_variables(template, &full);
            let root_length = full.len();
            full.extend_from_slice(behind(*replaced));
            checked(full, checked_from).map(|mapped| Mapped { root_length, ..mapped })
        }
    }
}

/// Whether a `..` segment begins at or behind `from`.
fn climbs(path: &[u8], from: usize) -> bool {
    memchr::memmem::find_iter(path, b"..").any(|at| {
        let begins = at == 0 || path[at - 1] == b'/';
        let ends = path.get(at + 2).is_none_or(|byte| *byte == b'/');
        at >= from && begins && ends
    })
}

/// Appends the directory of `root`, or the path of `alias` (`$document_root`).
pub fn push_document_root(r: &Request, out: &mut Vec<u8>) {
    match &r.location().core.root {
        Root::Path(path) | Root::Alias(path, _) => out.extend_from_slice(path.as_os_str().as_bytes()),
        Root::Default => out.extend_from_slice(&absolute(r, b"html".to_vec())),
        Root::Template(template) | Root::AliasTemplate(template, _) => {
            out.extend_from_slice(&absolute(r, template.value(r)));
        }
    }
}

/// A path from variables is relative to the prefix, as a literal one is.
fn absolute(r: &Request, path: Vec<u8>) -> Vec<u8> {
    if path.first() == Some(&b'/') {
        return path;
    }
    let prefix = r.cycle.http.prefix.as_os_str().as_bytes();
    [prefix, if prefix.ends_with(b"/") { b"" } else { b"/" }, &path].concat()
}

#[cfg(test)]
mod tests {
    use super::climbs;

    #[test]
    fn only_whole_segments_climb() {
        let check =
            |path: &str, from, expected| assert_eq!(climbs(path.as_bytes(), from), expected, "{path}");
        check("/data/../secret", 6, true);
        check("/data/../secret", 7, false);
        check("/data/..", 6, true);
        check("/data../secret", 5, false);
        check("/data/...", 0, false);
        check("/data/a..b/..c", 0, false);
        check("../x", 0, true);
    }
}
