//! `ngx_http_autoindex_module`: lists a directory.
//!
//! The head is sent before the directory is read, since the charset decides how names are shortened.

mod formats;

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use conf::{Arity, Contexts};
use http::chunk::Chunk;
use http::conf::Location;
use http::filters::More;
use http::module::{Module, Registry, Settings, Slot};
use http::output;
use http::paths::map_uri;
use http::phases::{Answer, Answered, Outcome};
use http::request::Request;
use http::rows::{Row, flag, value};
use os::errlog::Level;
use os::errno;
use os::file::{FileInfo, link_info, path_info};
use proto::h1::Method;

use self::formats::{Entry, Sizes, html, json, xml};
use crate::directory;

/// `ngx_http_autoindex_module`.
pub struct Autoindex;

/// Settings of [`Autoindex`].
#[derive(Clone, Copy, Default)]
pub struct AutoindexSettings {
    enabled: bool,
    format: Format,
    localtime: bool,
    exact_size: bool,
}

impl Settings for AutoindexSettings {}

/// `autoindex_format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Format {
    #[default]
    Html,
    Json,
    Jsonp,
    Xml,
}

impl Format {
    fn media_type(self) -> &'static [u8] {
        match self {
            Self::Html => b"text/html",
            Self::Json => b"application/json",
            Self::Jsonp => b"application/javascript",
            Self::Xml => b"text/xml",
        }
    }
}

const FORMATS: [(&str, Format); 4] =
    [("html", Format::Html), ("json", Format::Json), ("jsonp", Format::Jsonp), ("xml", Format::Xml)];

static SLOT: Slot = Slot::new();

const ALL: Contexts = Contexts::HTTP_ALL;

static ROWS: [Row<AutoindexSettings>; 4] = [
    flag("autoindex", ALL, "off", "Lists directories.", |s, v| s.enabled = v),
    value("autoindex_format", ALL, Arity::ONE, "html", "Format of a listing.", |s, d| {
        s.format = d.one_of(&FORMATS)?;
        Ok(())
    }),
    flag("autoindex_localtime", ALL, "off", "Shows local times in HTML.", |s, v| s.localtime = v),
    flag("autoindex_exact_size", ALL, "on", "Shows exact sizes in HTML.", |s, v| s.exact_size = v),
];

impl Module for Autoindex {
    const NAME: &'static str = "ngx_http_autoindex_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = AutoindexSettings;
    type Main = ();

    fn rows() -> &'static [Row<Self::Settings>] {
        &ROWS
    }

    fn register(registry: &mut Registry) {
        registry.content(&Self);
    }
}

impl Answer for Autoindex {
    fn concerns(&self, location: &Location) -> bool {
        location.settings::<Self>().enabled
    }

    fn answer<'r>(&'r self, r: &'r mut Request) -> Answered<'r> {
        let settings = *r.location().settings::<Self>();
        if !settings.enabled || r.uri.last() != Some(&b'/') || !matches!(r.method, Method::Get | Method::Head)
        {
            return Answered::Now(Outcome::Declined);
        }
        Answered::Wait(Box::pin(list(r, settings)))
    }
}

async fn list(r: &mut Request, settings: AutoindexSettings) -> Outcome {
    let mapped = match map_uri(r) {
        Ok(mapped) => mapped,
        Err(status) => return Outcome::Status(status),
    };
    let mut path = mapped.full;
    if path.len() > 1 {
        path.pop();
    }
    let mut format = settings.format;
    let mut callback = None;
    if format == Format::Jsonp {
        callback = argument(&r.args, b"callback").filter(|name| !name.is_empty()).map(<[u8]>::to_vec);
        match &callback {
            None => format = Format::Json,
            Some(name) if !is_callback_name(r, name) => return Outcome::Status(400),
            Some(_) => {}
        }
    }
    let dir = match directory::open(r, &path) {
        Ok(dir) => dir,
        Err(status) => return Outcome::Status(status),
    };
    r.response.status = 200;
    r.response.content_type = format.media_type().to_vec();
    if format == Format::Xml {
        r.response.charset = b"utf-8".to_vec();
    }
    if let Err(outcome) = output::send_head(r) {
        return outcome;
    }
    let mut body = Vec::new();
    if !r.response.header_only {
        let Some(entries) = read(r, dir, path) else { return Outcome::Broken(0) };
        match format {
            Format::Html => {
                let offset_min = if settings.localtime {
                    os::clock::local_offset_min(os::clock::realtime_coarse().0)
                } else {
                    0
                };
                let sizes = if settings.exact_size { Sizes::Exact } else { Sizes::Rounded };
                html(&r.uri, &entries, &r.response.charset, offset_min, sizes, &mut body);
            }
            Format::Json | Format::Jsonp => json(&entries, callback.as_deref(), &mut body),
            Format::Xml => xml(&entries, &mut body),
        }
    }
    output::push_chunk(r, Chunk::copied(&body), More::End);
    if output::flush(r).await.is_err() {
        return Outcome::Broken(0);
    }
    Outcome::Sent
}

/// The entries in the order in which they are shown; `None` where reading failed, which was logged.
fn read(r: &Request, dir: std::fs::ReadDir, path: Vec<u8>) -> Option<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in dir {
        let name = match entry {
            Ok(entry) => entry.file_name(),
            Err(error) => {
                directory::failed(r, Level::Crit, "readdir()", &path, &error);
                return None;
            }
        };
        if name.as_bytes().starts_with(b".") {
            continue;
        }
        match look(r, &[&*path, b"/", name.as_bytes()].concat()) {
            Looked::At(info) => entries.push(entry_of(name, &info)),
            Looked::Forbidden => {}
            Looked::Failed => return None,
        }
    }
    entries.sort_by(|a, b| b.is_dir.cmp(&a.is_dir).then_with(|| a.name.cmp(&b.name)));
    Some(entries)
}

fn entry_of(name: OsString, info: &FileInfo) -> Entry {
    Entry {
        name: name.into_vec(),
        is_dir: info.is_dir(),
        is_file: info.is_file(),
        mtime: info.mtime,
        size: info.size,
    }
}

enum Looked {
    At(FileInfo),
    Forbidden,
    Failed,
}

/// What a name stands for; a link that leads nowhere stands for itself.
fn look(r: &Request, path: &[u8]) -> Looked {
    let error = match path_info(directory::as_path(path)) {
        Ok(info) => return Looked::At(info),
        Err(error) => error,
    };
    if !matches!(error.raw_os_error(), Some(errno::ENOENT | errno::ELOOP)) {
        directory::failed(r, Level::Crit, "stat()", path, &error);
        return if error.raw_os_error() == Some(errno::EACCES) { Looked::Forbidden } else { Looked::Failed };
    }
    match link_info(directory::as_path(path)) {
        Ok(info) => Looked::At(info),
        Err(error) => {
            directory::failed(r, Level::Crit, "lstat()", path, &error);
            Looked::Failed
        }
    }
}

/// The value of an argument, its name compared without regard to case (`ngx_http_arg`).
fn argument<'a>(args: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    args.split(|byte| *byte == b'&').find_map(|pair| {
        let (key, rest) = pair.split_at_checked(name.len())?;
        key.eq_ignore_ascii_case(name).then(|| rest.strip_prefix(b"=")).flatten()
    })
}

fn is_callback_name(r: &Request, name: &[u8]) -> bool {
    let shown = String::from_utf8_lossy(name);
    if name.len() > 128 {
        r.log(Level::Info, format_args!("client sent too long callback name: \"{shown}\""));
        return false;
    }
    if !name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.')) {
        r.log(Level::Info, format_args!("client sent invalid callback name: \"{shown}\""));
        return false;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        let check = |args: &str, expected: Option<&str>| {
            assert_eq!(argument(args.as_bytes(), b"callback"), expected.map(str::as_bytes), "{args}");
        };
        check("callback=a", Some("a"));
        check("x=1&CallBack=a.b&callback=c", Some("a.b"));
        check("callback=", Some(""));
        check("callback", None);
        check("xcallback=a", None);
        check("callbackx=a", None);
        check("", None);
    }
}
