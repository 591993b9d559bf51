//! `error_log` of the http side and the context that nginx appends to a request's messages.

use std::fmt;
use std::sync::Arc;

use conf::{Directive, Error};
use os::errlog::{ErrorLog, Level, Sink, Target};
use os::syslog::Syslog;

use crate::conf::compile::Cx;
use crate::request::Request;

/// The error logs of one level of the configuration; `None` while it has none of its own.
#[derive(Clone, Default)]
pub struct ErrorLogs {
    lines: Vec<(Target, Level)>,
    log: Option<Arc<ErrorLog>>,
}

impl ErrorLogs {
    /// The log, unless the one around is meant.
    #[must_use]
    pub fn get(&self) -> Option<&Arc<ErrorLog>> {
        self.log.as_ref()
    }

    /// These logs and the one of an `error_log` line.
    ///
    /// # Errors
    /// What [`read`] says.
    pub fn with(mut self, cx: &mut Cx<'_>, directive: &Directive) -> Result<Self, Error> {
        let path = cx.path(&directive.arg(0)?.bytes);
        self.lines.push(read(directive, || {
            cx.resources.log(&path).map_err(|error| open_error(directive, &path, &error)).map(|file| Target::File(file))
        })?);
        let sinks = self.lines.iter().map(|(target, level)| Sink::new(target.clone(), *level)).collect();
        self.log = Some(Arc::new(ErrorLog::new(sinks)));
        Ok(self)
    }
}

/// Target and level of an `error_log` line (`ngx_log_set_log`).
///
/// # Errors
/// `invalid log level "…"`, a bad syslog address, a file that cannot be opened.
pub fn read(directive: &Directive, open: impl FnOnce() -> Result<Target, Error>) -> Result<(Target, Level), Error> {
    let word = directive.arg(0)?;
    let level = match directive.args.get(1) {
        None => Level::Error,
        Some(level) => Level::from_name(&level.as_str())
            .ok_or_else(|| Error::at(level, format!("invalid log level \"{}\"", level.as_str())))?,
    };
    let target = if word.is("stderr") {
        Target::Stderr
    } else if let Some(address) = word.after("syslog:") {
        let text = String::from_utf8_lossy(address);
        let syslog = Syslog::parse(&text).map_err(|error| Error::at(word, error.to_string()))?;
        Target::Syslog(Arc::new(syslog))
    } else {
        open()?
    };
    Ok((target, level))
}

/// nginx's sentence for a log that cannot be opened.
#[must_use]
pub fn open_error(directive: &Directive, path: &std::path::Path, error: &std::io::Error) -> Error {
    let sentence = format!("open() \"{}\" failed {}", path.display(), os::errlog::Errno(error));
    Error::on(directive, sentence)
}

/// The request in which a message arose, as nginx names it at the message's end.
pub struct Context<'a>(pub &'a Request);

impl fmt::Display for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let r = self.0;
        write!(f, ", client: {}, server: {}", r.conn.peer, String::from_utf8_lossy(&r.server().name))?;
        let line = r.line.line.of(&r.head);
        if !line.is_empty() {
            write!(f, ", request: \"{}\"", String::from_utf8_lossy(line))?;
        }
        if let Some(upstream) = &r.upstream_url {
            write!(f, ", upstream: \"{}\"", String::from_utf8_lossy(upstream))?;
        }
        for (label, known) in [("host", proto::h1::Known::Host), ("referrer", proto::h1::Known::Referer)] {
            if let Some(value) = r.line.fields.value(known, &r.head) {
                write!(f, ", {label}: \"{}\"", String::from_utf8_lossy(value))?;
            }
        }
        Ok(())
    }
}
