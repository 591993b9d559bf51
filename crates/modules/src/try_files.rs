//! `ngx_http_try_files_module`: the first file that is there becomes the URI, else the last argument decides.
//!
//! It is not inherited: a location without a line of its own tries nothing.

use std::sync::Arc;

use conf::{Arity, Contexts, Directive, Error};
use http::conf::Location;
use http::conf::compile::Cx;
use http::conf::core::Replaced;
use http::module::{Module, Registry, Settings, Slot};
use http::open_file::{self, Want};
use http::paths::map_path;
use http::phases::{Outcome, Phase, PhaseHandler, Verdict};
use http::request::Request;
use http::rows::{Row, row};
use http::special::split_args;
use http::variables::Template;
use os::errlog::Level;

/// `ngx_http_try_files_module`.
pub struct TryFiles;

/// Settings of [`TryFiles`].
#[derive(Clone, Default)]
pub struct TryFilesSettings(Option<Arc<Tries>>);

struct Tries {
    names: Vec<Try>,
    last: Last,
}

struct Try {
    name: Template,
    kind: Tried,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tried {
    File,
    Directory,
}

enum Last {
    Code(u16),
    Uri(Template),
}

impl Settings for TryFilesSettings {
    fn inherited(&self) -> Option<Self> {
        Some(Self::default())
    }
}

static SLOT: Slot = Slot::new();

static ROWS: [Row<TryFilesSettings>; 1] = [row(
    "try_files",
    Contexts::SERVER.or(Contexts::LOCATION),
    Arity::MORE2,
    "",
    "Looks for files in this order; the last argument is a URI, a named location or =code.",
    set_try_files,
)];

impl Module for TryFiles {
    const NAME: &'static str = "ngx_http_try_files_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = TryFilesSettings;
    type Main = ();

    fn rows() -> &'static [Row<Self::Settings>] {
        &ROWS
    }

    fn register(registry: &mut Registry) {
        registry.phase(Phase::PreContent, &Self);
    }
}

fn set_try_files(s: &mut TryFilesSettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let Some((last, names)) = d.args.split_last() else { return Ok(()) };
    let names = names.iter().map(|word| {
        let (name, kind) = match word.bytes.strip_suffix(b"/") {
            Some(name) => (name, Tried::Directory),
            None => (&*word.bytes, Tried::File),
        };
        Ok(Try { name: Template::compile_bytes(cx, word, name)?, kind })
    });
    let names = names.collect::<Result<_, Error>>()?;
    let code = match last.after("=") {
        Some(code) => match conf::parse_number(code) {
            Some(code @ 0..=999) => u16::try_from(code).unwrap_or(0),
            _ => return Err(Error::at(last, format!("invalid code \"{}\"", last.as_str()))),
        },
        None => 0,
    };
    let last = if code == 0 { Last::Uri(Template::compile(cx, last)?) } else { Last::Code(code) };
    s.0 = Some(Arc::new(Tries { names, last }));
    Ok(())
}

impl PhaseHandler for TryFiles {
    fn concerns(&self, location: &Location) -> bool {
        location.settings::<Self>().0.is_some()
    }

    fn run<'r>(&self, r: &'r mut Request) -> Verdict<'r> {
        match &r.location().settings::<Self>().0 {
            None => Verdict::Declined,
            Some(tries) => try_each(&Arc::clone(tries), r),
        }
    }
}

fn try_each<'r>(tries: &Tries, r: &mut Request) -> Verdict<'r> {
    let alias = r.location().core.root.replaced();
    let root = match map_path(r, b"") {
        Ok(root) => root,
        Err(status) => return Verdict::Finish(Outcome::Status(status)),
    };
    let mut path = root.full;
    // The root alone, also where `try_files` of an earlier pass had the URI follow an alias.
    path.truncate(root.root_length);
    for candidate in &tries.names {
        let name = name_of(&candidate.name, r, alias);
        path.truncate(root.root_length);
        path.extend_from_slice(&name);
        match open_file::open(r, &path, Want::Info) {
            Ok(opened) if opened.info.is_dir() == (candidate.kind == Tried::Directory) => {
                accept(r, alias, name, candidate.kind);
                return Verdict::Declined;
            }
            Ok(_) => {}
            Err(error) if error.is_missing() => {}
            Err(error) => {
                let shown = String::from_utf8_lossy(&path);
                r.log(Level::Crit, format_args!("{} \"{shown}\" failed {error}", error.call));
            }
        }
    }
    Verdict::Finish(match &tries.last {
        Last::Code(code) => Outcome::Status(*code),
        Last::Uri(uri) => {
            let uri = name_of(uri, r, alias);
            if uri.first() == Some(&b'@') {
                Outcome::named(uri)
            } else {
                let (uri, args) = split_args(&uri);
                Outcome::redirect(uri, args)
            }
        }
    })
}

/// A name below the root: with an `alias`, one that begins like the URI loses the location's part.
fn name_of(name: &Template, r: &Request, alias: Option<Replaced>) -> Vec<u8> {
    let mut value = name.value(r);
    if let Some(Replaced::Prefix(length)) = alias
        && name.as_literal().is_none()
        && let Some(prefix) = r.uri.get(..length)
        && value.starts_with(prefix)
    {
        value.drain(..length);
    }
    value
}

/// Makes the name that was found the request's URI.
fn accept(r: &mut Request, alias: Option<Replaced>, name: Vec<u8>, kind: Tried) {
    match alias {
        None => r.uri = name,
        Some(Replaced::Whole) if kind == Tried::Directory => {}
        Some(Replaced::Whole) => {
            r.uri = name;
            r.add_uri_to_alias = true;
        }
        Some(Replaced::Prefix(length)) => {
            r.uri.truncate(length);
            r.uri.extend_from_slice(&name);
        }
    }
}
