//! `ngx_http_random_index_module`: a URI that ends with a slash becomes that of a random file.
//!
//! Names that begin with a dot are left out, links are followed.

use std::collections::hash_map::RandomState;
use std::fs::DirEntry;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::os::unix::ffi::OsStrExt;

use conf::Contexts;
use http::conf::Location;
use http::module::{Module, Registry, Settings, Slot};
use http::paths::map_uri;
use http::phases::{Answer, Answered, Outcome};
use http::request::Request;
use http::rows::{Row, flag};
use os::errlog::Level;
use proto::h1::Method;

use crate::directory;

/// `ngx_http_random_index_module`.
pub struct RandomIndex;

/// Settings of [`RandomIndex`].
#[derive(Clone, Default)]
pub struct RandomIndexSettings {
    enabled: bool,
}

impl Settings for RandomIndexSettings {}

static SLOT: Slot = Slot::new();

static ROWS: [Row<RandomIndexSettings>; 1] =
    [flag("random_index", Contexts::LOCATION, "off", "Picks a random file of a directory.", |s, v| {
        s.enabled = v
    })];

impl Module for RandomIndex {
    const NAME: &'static str = "ngx_http_random_index_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = RandomIndexSettings;
    type Main = ();

    fn rows() -> &'static [Row<Self::Settings>] {
        &ROWS
    }

    fn register(registry: &mut Registry) {
        registry.content(&Self);
    }
}

impl Answer for RandomIndex {
    fn concerns(&self, location: &Location) -> bool {
        location.settings::<Self>().enabled
    }

    fn answer<'r>(&'r self, r: &'r mut Request) -> Answered<'r> {
        let is_meant = r.uri.last() == Some(&b'/')
            && matches!(r.method, Method::Get | Method::Head | Method::Post)
            && r.location().settings::<Self>().enabled;
        Answered::Now(if is_meant { pick(r) } else { Outcome::Declined })
    }
}

fn pick(r: &Request) -> Outcome {
    let mapped = match map_uri(r) {
        Ok(mapped) => mapped,
        Err(status) => return Outcome::Status(status),
    };
    let path = mapped.full.strip_suffix(b"/").unwrap_or(&mapped.full);
    let dir = match directory::open(r, path) {
        Ok(dir) => dir,
        Err(status) => return Outcome::Status(status),
    };
    let mut names = Vec::new();
    for entry in dir {
        match entry.and_then(|entry| Ok((is_file(&entry)?, entry.file_name()))) {
            Ok((true, name)) if !name.as_bytes().starts_with(b".") => names.push(name),
            Ok(_) => {}
            Err(error) => {
                directory::failed(r, Level::Crit, "readdir()", path, &error);
                return Outcome::Status(500);
            }
        }
    }
    if names.is_empty() {
        return Outcome::Declined;
    }
    let Some(name) = names.get(random_below(names.len())) else { return Outcome::Declined };
    Outcome::redirect([&*r.uri, name.as_bytes()].concat(), r.args.clone())
}

fn is_file(entry: &DirEntry) -> io::Result<bool> {
    let kind = entry.file_type()?;
    if !kind.is_symlink() {
        return Ok(kind.is_file());
    }
    match os::file::path_info(&entry.path()) {
        Ok(info) => Ok(info.is_file()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// A number from zero to below `count`, which is not zero. Nobody is hurt who can foresee it.
fn random_below(count: usize) -> usize {
    let random = RandomState::new().build_hasher().finish();
    usize::try_from(random % count as u64).unwrap_or(0)
}
