//! From a request's URI to a file's path (`ngx_http_map_uri_to_path`): the one place that does it.

use std::os::unix::ffi::OsStrExt;

use os::errlog::Level;

use crate::conf::core::Root;
use crate::conf::location::Kind;
use crate::request::Request;

/// A path, and how much of its front is the root that was configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// The path.
    pub full: Vec<u8>,
    /// Bytes of `root` or `alias`.
    pub root_length: usize,
}

/// The path that the request's URI names; `None` where variables of `root` or `alias` give nothing usable.
#[must_use]
pub fn map_uri(r: &Request) -> Option<Mapped> {
    map_path(r, &r.uri)
}

/// The path that another URI of this location names.
#[must_use]
pub fn map_path(r: &Request, uri: &[u8]) -> Option<Mapped> {
    let location = r.location();
    if matches!(location.core.root, Root::Alias(_) | Root::AliasTemplate(_)) && !r.valid_location {
        let name = String::from_utf8_lossy(&location.name);
        r.log(
            Level::Alert,
            format_args!("\"alias\" cannot be used in location \"{name}\" where URI was rewritten"),
        );
        return None;
    }
    // NUL never comes this far in a URI, but a variable may hold anything.
    let checked = |full: Vec<u8>, root_length| {
        (!full.contains(&0)).then_some(Mapped { full, root_length })
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
        Root::Template(template) => plain(&absolute(r, template.value(r))),
        Root::Alias(path) => {
            let mut full = path.as_os_str().as_bytes().to_vec();
            let root_length = full.len();
            full.extend_from_slice(uri.get(location.name.len()..).unwrap_or_default());
            checked(full, root_length)
        }
        Root::AliasTemplate(template) => {
            let mut full = absolute(r, template.value(r));
            let root_length = full.len();
            if location.kind != Kind::Regex {
                full.extend_from_slice(uri.get(location.name.len()..).unwrap_or_default());
            } else if r.add_uri_to_alias {
                full.extend_from_slice(uri);
            }
            checked(full, root_length)
        }
    }
}

/// The directory of `root`, or the path of `alias` (`$document_root`).
#[must_use]
pub fn document_root(r: &Request) -> Vec<u8> {
    match &r.location().core.root {
        Root::Default => absolute(r, b"html".to_vec()),
        Root::Path(path) | Root::Alias(path) => path.as_os_str().as_bytes().to_vec(),
        Root::Template(template) | Root::AliasTemplate(template) => absolute(r, template.value(r)),
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
