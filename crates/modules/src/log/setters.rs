//! What `log_format`, `access_log` and `open_log_file_cache` do with their words.
//!
//! A file that several lines name is opened once, and its buffer must be the same in all of them.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use conf::{Directive, Error, Word};
use http::conf::compile::Cx;
use http::log_buffer::{Buffering, LogSink};
use http::side::Side;
use http::variables::Template;
use os::errlog::Errno;
use os::syslog::{Syslog, SyslogOptions};

use super::by_path::CacheConf;
use super::format::{COMBINED, Format};
use super::{AccessLog, DEFAULT_PATH, Log, LogMain, LogSettings, Logs, Place};

type Done = Result<(), Error>;

/// Bytes of the buffer of a log with `gzip` and without `buffer=`.
const GZIP_BUFFER: usize = 64 << 10;

pub(super) fn log_format(_: &mut LogSettings, cx: &mut Cx<'_>, d: &Directive) -> Done {
    let word = d.arg(0)?;
    let is_known = cx.side == Side::Http && word.is("combined");
    if cx.main::<Log>().formats.contains_key(&*word.bytes) || is_known {
        return Err(Error::at(word, format!("duplicate \"log_format\" name \"{}\"", word.as_str())));
    }
    let format = Arc::new(Format::read(cx, d)?);
    cx.main::<Log>().formats.insert(word.bytes.to_boxed(), format);
    Ok(())
}

/// The format of this name, in any case of letters as nginx looks it up.
fn find_format(cx: &mut Cx<'_>, word: &Word, name: &[u8]) -> Result<Arc<Format>, Error> {
    if cx.side == Side::Http && name.eq_ignore_ascii_case(b"combined") {
        return combined(cx, word);
    }
    let formats = &cx.main::<Log>().formats;
    let found = formats.get(name).or_else(|| {
        formats.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, format)| format)
    });
    found
        .cloned()
        .ok_or_else(|| Error::at(word, format!("unknown log format \"{}\"", String::from_utf8_lossy(name))))
}

fn combined(cx: &mut Cx<'_>, word: &Word) -> Result<Arc<Format>, Error> {
    let mut format = Format::default();
    format.add(cx, word, COMBINED)?;
    Ok(Arc::new(format))
}

#[derive(Default)]
struct Parameters {
    size: usize,
    flush_ms: Option<u64>,
    gzip: Option<u32>,
    condition: Option<Template>,
}

fn parameters(cx: &mut Cx<'_>, words: &[Word]) -> Result<Parameters, Error> {
    let mut found = Parameters::default();
    for word in words {
        let refuse = |what: &str, text: &[u8]| {
            Err(Error::at(word, format!("invalid {what} \"{}\"", String::from_utf8_lossy(text))))
        };
        if let Some(text) = word.after("buffer=") {
            match base::parse_size(text).ok().and_then(|size| usize::try_from(size).ok()) {
                Some(size @ 1..) => found.size = size,
                _ => return refuse("buffer size", text),
            }
        } else if let Some(text) = word.after("flush=") {
            match base::parse_time_ms(text) {
                Ok(flush @ 1..) => found.flush_ms = Some(flush),
                _ => return refuse("flush time", text),
            }
        } else if word.is("gzip") {
            found.gzip = Some(1);
        } else if let Some(text) = word.after("gzip=") {
            match conf::parse_number(text) {
                Some(level @ 1..=9) => found.gzip = u32::try_from(level).ok(),
                _ => return refuse("compression level", text),
            }
        } else if let Some(text) = word.after("if=") {
            found.condition = Some(Template::compile_bytes(cx, word, text)?);
        } else {
            return refuse("parameter", &word.bytes);
        }
    }
    if found.gzip.is_some() && found.size == 0 {
        found.size = GZIP_BUFFER;
    }
    Ok(found)
}

pub(super) fn access_log(s: &mut LogSettings, cx: &mut Cx<'_>, d: &Directive) -> Done {
    if d.is_default() {
        // The default log is opened only where it turns out to be used.
        return Ok(());
    }
    let word = d.arg(0)?;
    let inherited = std::mem::take(&mut s.is_inherited);
    if word.is("off") {
        if let Some(more) = d.args.get(1) {
            return Err(Error::at(more, format!("invalid parameter \"{}\"", more.as_str())));
        }
        s.logs = Logs::Off;
        return Ok(());
    }
    if cx.side == Side::Stream && d.args.len() < 2 {
        return Err(Error::at(word, "log format is not specified"));
    }
    let name = d.args.get(1).map_or(&b"combined"[..], |word| &word.bytes);
    let format = find_format(cx, d.args.get(1).unwrap_or(word), name)?;
    let parameters = parameters(cx, d.args.get(2..).unwrap_or_default())?;
    let place = place(cx, word, &parameters)?;
    let log = Arc::new(AccessLog { place, format, condition: parameters.condition });
    match &mut s.logs {
        // `off` wins over every other line of its block.
        Logs::Off if !inherited => {}
        Logs::Lines(lines) if !inherited => lines.push(log),
        logs => *logs = Logs::Lines(vec![log]),
    }
    Ok(())
}

fn place(cx: &mut Cx<'_>, word: &Word, parameters: &Parameters) -> Result<Place, Error> {
    let shown = word.as_str();
    if parameters.flush_ms.is_some() && parameters.size == 0 {
        return Err(Error::at(word, format!("no buffer is defined for access_log \"{shown}\"")));
    }
    let buffering = (parameters.size > 0).then_some(Buffering {
        size: parameters.size,
        flush_ms: parameters.flush_ms,
        gzip: parameters.gzip,
    });
    if let Some(address) = word.after("syslog:") {
        if buffering.is_some() {
            return Err(Error::at(word, "logs to syslog cannot be buffered"));
        }
        let options = SyslogOptions::parse(&String::from_utf8_lossy(address));
        let syslog = options.and_then(|options| {
            let addr = options.resolve(|host| cx.resources.resolve(host))?;
            Ok(Syslog::new(options, addr))
        });
        return Ok(Place::Syslog(syslog.map_err(|error| Error::at(word, error.to_string()))?));
    }
    if Template::has_variables(&word.bytes) {
        if buffering.is_some() {
            return Err(Error::at(word, "buffered logs cannot have variables in name"));
        }
        use std::os::unix::ffi::OsStrExt;
        let path = cx.path(&word.bytes);
        return Ok(Place::Path(Template::compile_bytes(cx, word, path.as_os_str().as_bytes())?));
    }
    let mut main = std::mem::take(cx.main::<Log>());
    let sink = sink(&mut main, cx, &word.bytes, buffering);
    *cx.main::<Log>() = main;
    match sink {
        Ok(sink) => Ok(Place::File(sink)),
        Err(sentence) => Err(Error::at(word, sentence)),
    }
}

/// The sink of a file; a buffer may be defined by any of the lines that name it, but only one way.
fn sink(
    main: &mut LogMain,
    cx: &mut Cx<'_>,
    path: &[u8],
    buffering: Option<Buffering>,
) -> Result<Arc<LogSink>, String> {
    let full = cx.path(path);
    let sink = match main.sinks.entry(full.clone()) {
        Entry::Occupied(known) => Arc::clone(known.get()),
        Entry::Vacant(place) => {
            let file = cx.resources.log(&full);
            let file =
                file.map_err(|error| format!("open() \"{}\" failed {}", full.display(), Errno(&error)))?;
            Arc::clone(place.insert(LogSink::new(file)))
        }
    };
    if let Some(buffering) = buffering
        && sink.buffer(buffering).is_err()
    {
        let shown = String::from_utf8_lossy(path);
        return Err(format!("access_log \"{shown}\" already defined with conflicting parameters"));
    }
    Ok(sink)
}

/// The log of blocks that say nothing about logs.
pub(super) fn default_log(main: &mut LogMain, cx: &mut Cx<'_>) -> Result<Arc<AccessLog>, Error> {
    let sink = sink(main, cx, DEFAULT_PATH, None).map_err(Error::bare)?;
    let text = Directive::from_default(&super::ROWS[1].row)?;
    let format = match text.as_ref().and_then(|directive| directive.args.get(1)) {
        Some(word) => combined(cx, word)?,
        None => Arc::default(),
    };
    Ok(Arc::new(AccessLog { place: Place::File(sink), format, condition: None }))
}

pub(super) fn open_log_file_cache(s: &mut LogSettings, _: &mut Cx<'_>, d: &Directive) -> Done {
    let mut conf = CacheConf { max: 0, inactive_ms: 10_000, min_uses: 1, valid_ms: 60_000 };
    for word in &d.args {
        let seconds = |text| base::parse_time_sec(text).ok().map(|seconds| seconds.saturating_mul(1000));
        let is_read = if let Some(text) = word.after("max=") {
            let max = conf::parse_number(text).and_then(|max| usize::try_from(max).ok());
            max.map(|max| conf.max = max)
        } else if let Some(text) = word.after("inactive=") {
            seconds(text).map(|inactive| conf.inactive_ms = inactive)
        } else if let Some(text) = word.after("min_uses=") {
            conf::parse_number(text).map(|uses| conf.min_uses = uses)
        } else if let Some(text) = word.after("valid=") {
            seconds(text).map(|valid| conf.valid_ms = valid)
        } else if word.is("off") {
            s.cache = None;
            return Ok(());
        } else {
            None
        };
        if is_read.is_none() {
            let sentence = format!("invalid \"open_log_file_cache\" parameter \"{}\"", word.as_str());
            return Err(Error::at(word, sentence));
        }
    }
    if conf.max == 0 {
        return Err(Error::at(&d.name, "\"open_log_file_cache\" must have \"max\" parameter"));
    }
    s.cache = Some(conf);
    Ok(())
}
