//! `ngx_http_index_module`: a URI that ends with a slash becomes that of an index file.
//!
//! The file is looked at first: it saves looking at the directory, which is there nearly always.

use conf::{Arity, Contexts, Directive, Error, Level as ConfLevel};
use http::conf::Lines;
use http::conf::compile::Cx;
use http::module::{Module, Registry, Settings, Slot};
use http::open_file::{self, OpenError, Want};
use http::paths::map_uri;
use http::phases::{Answer, Answered, Outcome};
use http::request::Request;
use http::rows::{Row, row};
use http::variables::Template;
use os::errlog::Level;
use os::errno;
use proto::h1::Method;

/// `ngx_http_index_module`.
pub struct Index;

/// Settings of [`Index`].
#[derive(Clone, Default)]
pub struct IndexSettings {
    names: Lines<Template>,
}

impl Settings for IndexSettings {
    fn enter(&mut self) {
        self.names.enter();
    }
}

static SLOT: Slot = Slot::new();

static ROWS: [Row<IndexSettings>; 1] = [row(
    "index",
    Contexts::HTTP_ALL,
    Arity::MORE1,
    "index.html",
    "Files that stand for a directory, in the order in which they are looked for.",
    set_index,
)
.many()];

impl Module for Index {
    const NAME: &'static str = "ngx_http_index_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = IndexSettings;
    type Main = ();

    fn rows() -> &'static [Row<Self::Settings>] {
        &ROWS
    }

    fn register(registry: &mut Registry) {
        registry.content(&Self);
    }
}

fn set_index(s: &mut IndexSettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let names = s.names.own();
    for (number, word) in d.args.iter().enumerate() {
        if word.bytes.first() == Some(&b'/') && number + 1 != d.args.len() {
            let sentence = "only the last index in \"index\" directive should be absolute";
            cx.notices.push(Error::at(word, sentence).with_level(ConfLevel::Warn));
        }
        if word.bytes.is_empty() {
            return Err(Error::at(word, "index \"\" in \"index\" directive is invalid"));
        }
        names.push(Template::compile(cx, word)?);
    }
    Ok(())
}

impl Answer for Index {
    fn answer<'r>(&'r self, r: &'r mut Request) -> Answered<'r> {
        if r.uri.last() != Some(&b'/') || !matches!(r.method, Method::Get | Method::Head | Method::Post) {
            return Answered::Now(Outcome::Declined);
        }
        Answered::Now(find(r))
    }
}

fn find(r: &Request) -> Outcome {
    let settings = r.location().settings::<Index>();
    let mut path = Vec::new();
    let mut directory = 0;
    let mut is_directory_known = false;
    for name in settings.names.iter() {
        let name = name.value(r);
        if name.first() == Some(&b'/') {
            return Outcome::redirect(name, r.args.clone());
        }
        if path.is_empty() {
            let mapped = match map_uri(r) {
                Ok(mapped) => mapped,
                Err(status) => return Outcome::Status(status),
            };
            path = mapped.full;
            directory = path.len();
        }
        path.truncate(directory);
        path.extend_from_slice(&name);
        match test(r, &path, directory, is_directory_known) {
            Tested::Found => {
                let uri = [&*r.uri, &*name].concat();
                return Outcome::redirect(uri, r.args.clone());
            }
            Tested::Missing => is_directory_known = true,
            Tested::Failed(status) => return Outcome::Status(status),
        }
    }
    Outcome::Declined
}

enum Tested {
    Found,
    Missing,
    Failed(u16),
}

/// Looks for one index file; `directory` is the length of the path without its name.
fn test(r: &Request, path: &[u8], directory: usize, is_directory_known: bool) -> Tested {
    let Err(error) = open_file::open(r, path, Want::Info) else { return Tested::Found };
    if error.is_link() {
        return Tested::Failed(403);
    }
    if matches!(error.errno, errno::ENOTDIR | errno::ENAMETOOLONG | errno::EACCES) {
        return Tested::Failed(refuse(r, path, error));
    }
    if !is_directory_known && let Err(status) = test_directory(r, path, directory) {
        return Tested::Failed(status);
    }
    if error.errno == errno::ENOENT {
        return Tested::Missing;
    }
    let shown = String::from_utf8_lossy(path);
    r.log(Level::Crit, format_args!("{} \"{shown}\" failed {error}", error.call));
    Tested::Failed(500)
}

/// Whether the directory is there, so that the next name may be tried.
fn test_directory(r: &Request, path: &[u8], directory: usize) -> Result<(), u16> {
    let whole = path.get(..directory).unwrap_or(path);
    // An `alias` need not end with a slash.
    let dir = match whole.strip_suffix(b"/") {
        Some(dir) if !dir.is_empty() => dir,
        _ => whole,
    };
    let shown = String::from_utf8_lossy(dir);
    match open_file::open(r, dir, Want::Dir) {
        Ok(opened) if opened.info.is_dir() => Ok(()),
        Ok(_) => {
            r.log(Level::Alert, format_args!("\"{shown}\" is not a directory"));
            Err(500)
        }
        Err(error) if error.is_link() => Err(403),
        Err(error) if error.errno == errno::ENOENT => Err(refuse(r, path, error)),
        // A file in it was looked for in vain before, so the directory may be searched.
        Err(error) if error.errno == errno::EACCES => Ok(()),
        Err(error) => {
            r.log(Level::Crit, format_args!("{} \"{shown}\" failed {error}", error.call));
            Err(500)
        }
    }
}

fn refuse(r: &Request, path: &[u8], error: OpenError) -> u16 {
    let shown = String::from_utf8_lossy(path);
    if error.errno == errno::EACCES {
        r.log(Level::Error, format_args!("\"{shown}\" is forbidden {error}"));
        return 403;
    }
    if r.location().core.log_not_found {
        r.log(Level::Error, format_args!("\"{shown}\" is not found {error}"));
    }
    404
}
