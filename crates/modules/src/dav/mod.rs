//! `ngx_http_dav_module`: PUT, DELETE, MKCOL, COPY and MOVE on files.
//!
//! A body that is put becomes a temporary file first and is renamed when it is complete, so nobody ever reads
//! half of it.

mod put;
mod remove;
mod transfer;
mod tree;

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use conf::{Arity, Contexts, Directive, Error};
use http::conf::Location;
use http::conf::compile::Cx;
use http::conf::core::method_bit;
use http::module::{Module, Registry, Settings, Slot};
use http::phases::{Answer, Answered, Outcome};
use http::request::Request;
use http::rows::{Row, flag, number, row, value};
use os::errlog::{Errno, Level};
use os::errno;
use proto::h1::{Known, Method};
use proto::uri::EscapeKind;

/// `ngx_http_dav_module`.
pub struct Dav;

static SLOT: Slot = Slot::new();

/// Settings of [`Dav`].
#[derive(Clone, Copy, Default)]
pub struct DavSettings {
    methods: u32,
    min_delete_depth: u64,
    /// Permission bits of files; directories may be searched as well by whoever may read them.
    access: u32,
    create_full_put_path: bool,
}

impl Settings for DavSettings {}

const ALL: Contexts = Contexts::HTTP_ALL;

static ROWS: [Row<DavSettings>; 4] = [
    row("dav_methods", ALL, Arity::MORE1, "off", "Methods that change files.", methods).many(),
    flag("create_full_put_path", ALL, "off", "Makes missing directories of a file that is put.", |s, v| {
        s.create_full_put_path = v
    }),
    number(
        "min_delete_depth",
        ALL,
        "0",
        "Least number of elements in a path that may be deleted.",
        |s, v| s.min_delete_depth = v,
    ),
    value(
        "dav_access",
        ALL,
        Arity::TAKE123,
        "user:rw",
        "Permissions of new files and directories.",
        |s: &mut DavSettings, d| {
            s.access = http::rows::access(d)?;
            Ok(())
        },
    ),
];

impl Module for Dav {
    const NAME: &'static str = "ngx_http_dav_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = DavSettings;
    type Main = ();

    fn rows() -> &'static [Row<DavSettings>] {
        &ROWS
    }

    fn register(registry: &mut Registry) {
        registry.content(&Self);
    }
}

fn methods(s: &mut DavSettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let names = [
        ("off", 0),
        ("put", method_bit(Method::Put)),
        ("delete", method_bit(Method::Delete)),
        ("mkcol", method_bit(Method::Mkcol)),
        ("copy", method_bit(Method::Copy)),
        ("move", method_bit(Method::Move)),
    ];
    s.methods = cx.bits(d, &names)?;
    Ok(())
}

impl Answer for Dav {
    fn concerns(&self, location: &Location) -> bool {
        location.settings::<Self>().methods != 0
    }

    fn answer<'r>(&'r self, r: &'r mut Request) -> Answered<'r> {
        let settings = *r.location().settings::<Self>();
        if settings.methods & method_bit(r.method) == 0 {
            return Answered::Now(Outcome::Declined);
        }
        Answered::Now(match r.method {
            Method::Put => return Answered::Wait(Box::pin(put::put(r, settings))),
            Method::Delete => remove::delete(r, settings),
            Method::Mkcol => put::make_collection(r, settings),
            Method::Copy | Method::Move => transfer::transfer(r, settings),
            _ => Outcome::Declined,
        })
    }
}

/// Whether the client sends a body, which only PUT may have.
fn has_body(r: &Request) -> bool {
    r.content_length.is_some_and(|length| length > 0) || r.reader.is_chunked()
}

fn is_collection(uri: &[u8]) -> bool {
    uri.last() == Some(&b'/')
}

/// Logs a refusal and gives its status.
fn refuse(r: &Request, status: u16, why: std::fmt::Arguments<'_>) -> Outcome {
    r.log(Level::Error, why);
    Outcome::Status(status)
}

/// `Depth`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depth {
    Zero,
    One,
    Infinity,
    Invalid,
}

fn depth(r: &Request, default: Depth) -> Depth {
    match field(r, b"Depth") {
        None => default,
        Some(b"0") => Depth::Zero,
        Some(b"1") => Depth::One,
        Some(b"infinity") => Depth::Infinity,
        Some(other) => {
            let shown = String::from_utf8_lossy(other);
            r.log(Level::Error, format_args!("client sent invalid \"Depth\" header: \"{shown}\""));
            Depth::Invalid
        }
    }
}

/// The last field of this name, as nginx keeps it of several.
fn field<'r>(r: &'r Request, name: &'r [u8]) -> Option<&'r [u8]> {
    r.line.fields.by_name(&r.head, name).next().map(|field| field.value.of(&r.head))
}

/// `Location` of what was made.
fn set_location(r: &mut Request) {
    let mut location = Vec::with_capacity(r.uri.len());
    proto::uri::escape(&r.uri, EscapeKind::Uri, &mut location);
    r.response.headers.set_known(Known::Location, b"Location", &location);
}

/// Logs that a call failed; the status that this means, `missing` where there is no such path
/// (`ngx_http_dav_error`).
fn failure(r: &Request, call: &str, path: &[u8], error: &io::Error, missing: u16) -> u16 {
    let (level, status) = match error.raw_os_error() {
        Some(errno::ENOENT | errno::ENOTDIR | errno::ENAMETOOLONG) => (Level::Error, missing),
        Some(errno::EACCES | errno::EPERM) => (Level::Error, 403),
        Some(errno::EEXIST) => (Level::Error, 405),
        Some(errno::ENOSPC) => (Level::Crit, 507),
        _ => (Level::Crit, 500),
    };
    let shown = String::from_utf8_lossy(path);
    r.log(level, format_args!("{call} \"{shown}\" failed {}", Errno(error)));
    status
}

/// The text as a path.
fn as_path(path: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(path))
}
