//! `error_log`: one line of it as a sink for messages.
//!
//! The same line may stand in `http`, `server` and `location`; whoever compiles those calls [`sink`] as well.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use conf::resources::Resources;
use conf::{Arity, Contexts, Directive, Error, Row, Word};
use os::errlog::{Level, Sink, Target};
use os::syslog::{Syslog, SyslogOptions};

/// The directive in one of its contexts.
#[must_use]
pub const fn row(contexts: Contexts) -> Row {
    Row::new("error_log", contexts, Arity::MORE1)
        .many()
        .doc("A log of errors: a file, `stderr` or `syslog:`, and the least grave level that it takes.")
}

/// Opens what an `error_log` line names. Relative files are below `prefix`.
///
/// # Errors
/// nginx's sentences about levels and syslog parameters, and the error of opening the file.
pub fn sink(line: &Directive, prefix: &Path, resources: &mut dyn Resources) -> Result<Sink, Error> {
    let (target, level) = target_and_level(line, prefix, resources)?;
    Ok(Sink::new(target, level))
}

/// As [`sink`], for those who gather several lines into one log.
///
/// # Errors
/// As [`sink`].
pub fn target_and_level(
    line: &Directive,
    prefix: &Path,
    resources: &mut dyn Resources,
) -> Result<(Target, Level), Error> {
    let level = level(line)?;
    Ok((target(line.arg(0)?, prefix, resources)?, level))
}

fn target(word: &Word, prefix: &Path, resources: &mut dyn Resources) -> Result<Target, Error> {
    if word.is("stderr") {
        return Ok(Target::Stderr);
    }
    if word.after("memory:").is_some() {
        return Err(Error::at(word, "logging to memory is not supported"));
    }
    if let Some(parameters) = word.after("syslog:") {
        let parameters = String::from_utf8_lossy(parameters);
        let options =
            SyslogOptions::parse(&parameters).map_err(|error| Error::at(word, error.to_string()))?;
        let addr = options
            .resolve(|host| resources.resolve(host))
            .map_err(|error| Error::at(word, error.to_string()))?;
        return Ok(Target::Syslog(Arc::new(Syslog::new(options, addr))));
    }
    let path = prefix.join(OsStr::from_bytes(&word.bytes));
    let file = resources.log(&path).map_err(|error| {
        let reason = os::errlog::Errno(&error);
        Error::at(word, format!("open() \"{}\" failed {reason}", path.display()))
    })?;
    Ok(Target::File(file))
}

/// One level, or several of `debug_core` and its kin, which all mean `debug` here (`ngx_log_set_levels`).
fn level(line: &Directive) -> Result<Level, Error> {
    let mut chosen: Option<(Level, bool)> = None;
    for word in line.args.iter().skip(1) {
        let name = word.as_str();
        let is_kind = name.starts_with("debug_");
        let invalid = || Error::at(word, format!("invalid log level \"{name}\""));
        let level = Level::from_name(&name).ok_or_else(invalid)?;
        match chosen {
            Some((_, true)) if is_kind => {}
            Some(_) if is_kind => return Err(invalid()),
            Some(_) => return Err(Error::at(word, format!("duplicate log level \"{name}\""))),
            None => chosen = Some((level, is_kind)),
        }
    }
    Ok(chosen.map_or(Level::Error, |(level, _)| level))
}
