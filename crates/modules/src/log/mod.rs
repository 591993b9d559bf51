//! `ngx_http_log_module`: a line for every request, in files, at a syslog server, or in files named by variables.
//!
//! Lines are gathered per thread and written together ([`http::log_buffer`]).

mod by_path;
mod format;
mod setters;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use conf::{Arity, Contexts, Error};
use http::conf::Location;
use http::conf::compile::Cx;
use http::log_buffer::LogSink;
use http::module::{Module, Registry, Settings, Slot};
use http::phases::{Phase, PhaseHandler, Verdict};
use http::request::Request;
use http::rows::{Row, row};
use http::side::Side;
use http::variables::Template;
use os::errlog::Level;
use os::syslog::Syslog;

use self::by_path::CacheConf;
use self::format::Format;

/// `ngx_http_log_module`.
pub struct Log;

static SLOT: Slot = Slot::new();

/// The log of a configuration that says nothing about logs, as in the packages of nginx.org.
const DEFAULT_PATH: &[u8] = b"/var/log/nginx/access.log";

/// Where lines go.
enum Place {
    File(Arc<LogSink>),
    Syslog(Syslog),
    /// A file whose path has variables.
    Path(Template),
}

/// One `access_log` line.
struct AccessLog {
    place: Place,
    format: Arc<Format>,
    /// `if=`
    condition: Option<Template>,
}

/// The logs of one block.
#[derive(Clone, Default)]
enum Logs {
    /// Nothing was written about them.
    #[default]
    Default,
    Off,
    Lines(Vec<Arc<AccessLog>>),
}

/// Settings of the module in one block.
#[derive(Clone, Default)]
pub struct LogSettings {
    logs: Logs,
    is_inherited: bool,
    cache: Option<CacheConf>,
}

impl Settings for LogSettings {
    fn enter(&mut self) {
        self.is_inherited = true;
    }
}

/// What the module has once: formats by name, files by path, and the default log where it is used.
#[derive(Default)]
pub struct LogMain {
    formats: HashMap<Box<[u8]>, Arc<Format>>,
    sinks: HashMap<PathBuf, Arc<LogSink>>,
    default: Option<Arc<AccessLog>>,
}

const PLACES: Contexts =
    Contexts::HTTP_ALL.or(Contexts::IF_LOCATION).or(Contexts::LIMIT_EXCEPT).or(Contexts::STREAM_ALL);

static ROWS: [Row<LogSettings>; 3] = [
    row(
        "log_format",
        Contexts::HTTP.or(Contexts::STREAM),
        Arity::MORE2,
        "",
        "Names a format of lines.",
        setters::log_format,
    )
    .many(),
    row(
        "access_log",
        PLACES,
        Arity::MORE1,
        "/var/log/nginx/access.log combined",
        "Logs requests.",
        setters::access_log,
    )
    .many(),
    row(
        "open_log_file_cache",
        Contexts::HTTP_ALL.or(Contexts::STREAM_ALL),
        Arity::TAKE1234,
        "off",
        "Keeps logs open whose paths have variables.",
        setters::open_log_file_cache,
    ),
];

impl Module for Log {
    const NAME: &'static str = "ngx_http_log_module";
    const ALSO: &'static [&'static str] = &["ngx_stream_log_module"];
    const SLOT: &'static Slot = &SLOT;
    type Settings = LogSettings;
    type Main = LogMain;

    fn rows() -> &'static [Row<LogSettings>] {
        &ROWS
    }

    fn register(registry: &mut Registry) {
        registry.phase(Phase::Log, &Log);
        registry.stream_phase(Phase::Log, &Log);
    }

    /// The default log is opened where some block relies on it, as nginx does; sessions of `stream` have none.
    fn finish(main: &mut LogMain, cx: &mut Cx<'_>) -> Result<(), Error> {
        let is_used =
            cx.locations().any(|location| matches!(location.settings::<Self>().logs, Logs::Default));
        if is_used && cx.side == Side::Http {
            main.default = Some(setters::default_log(main, cx)?);
        }
        Ok(())
    }
}

impl PhaseHandler for Log {
    fn concerns(&self, location: &Location) -> bool {
        !matches!(location.settings::<Self>().logs, Logs::Off)
    }

    fn run<'r>(&self, r: &'r mut Request) -> Verdict<'r> {
        let r = &*r;
        let location = r.location();
        let settings = location.settings::<Self>();
        if r.is_subrequest && !location.core.log_subrequest {
            return Verdict::Declined;
        }
        match &settings.logs {
            Logs::Off => {}
            Logs::Lines(logs) => logs.iter().for_each(|log| log.write(r, settings.cache)),
            // Sessions of `stream` have none.
            Logs::Default => r.cycle.http.main::<Self>().default.iter().for_each(|log| log.write(r, None)),
        }
        Verdict::Declined
    }
}

impl AccessLog {
    fn write(&self, r: &Request, cache: Option<CacheConf>) {
        if self.condition.as_ref().is_some_and(|condition| !condition.holds(r)) {
            return;
        }
        match &self.place {
            Place::File(sink) => sink.line(|out| self.format.append(r, out)),
            Place::Path(path) => {
                if let Some(sink) = by_path::sink(r, &path.value(r), cache) {
                    sink.line(|out| self.format.append(r, out));
                }
            }
            Place::Syslog(syslog) => {
                let mut line = Vec::new();
                self.format.append(r, &mut line);
                if syslog.send(&line).is_err() {
                    r.log(Level::Warn, format_args!("send() to syslog failed while logging request"));
                }
            }
        }
    }
}
