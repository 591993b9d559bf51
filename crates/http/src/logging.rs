//! `error_log` of the http side and the context that nginx appends to a request's messages.

use std::fmt;
use std::sync::Arc;

use conf::{Directive, Error};
use os::errlog::{ErrorLog, Level, Sink, Target};

use crate::conf::compile::Cx;
use crate::conf::location::Content;
use crate::error_log;
use crate::relay::check::Subject;
use crate::request::Request;
use crate::side::Side;

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
    /// What [`error_log::sink`] says.
    pub fn with(mut self, cx: &mut Cx<'_>, directive: &Directive) -> Result<Self, Error> {
        self.lines.push(error_log::target_and_level(directive, &cx.paths.prefix, cx.resources)?);
        let sinks = self.lines.iter().map(|(target, level)| Sink::new(target.clone(), *level)).collect();
        self.log = Some(Arc::new(ErrorLog::new(sinks)));
        Ok(self)
    }
}

/// The request in which a message arose, as nginx names it at the message's end.
pub struct Context<'a>(pub &'a Request);

impl fmt::Display for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let r = self.0;
        if let Some(subject) = r.contexts.get::<Subject>() {
            return subject.fmt(f);
        }
        if r.cycle.side == Side::Stream {
            return session(r, f);
        }
        match r.client().ip() {
            Some(ip) => write!(f, ", client: {ip}")?,
            None => f.write_str(", client: unix:")?,
        }
        write!(f, ", server: {}", String::from_utf8_lossy(&r.server().name))?;
        let line = r.line.line.of(&r.head);
        if !line.is_empty() {
            write!(f, ", request: \"{}\"", String::from_utf8_lossy(line))?;
        }
        if r.is_subrequest {
            write!(f, ", subrequest: \"{}\"", String::from_utf8_lossy(&r.uri))?;
        }
        if let (Some(state), Some(Content::Relay(passing))) = (r.upstreams.last(), &r.location().content) {
            let mut url = Vec::new();
            passing(r.location()).log_url(r, &state.addr, &mut url);
            write!(f, ", upstream: \"{}\"", String::from_utf8_lossy(&url))?;
        }
        for (label, known) in [("host", proto::h1::Known::Host), ("referrer", proto::h1::Known::Referer)] {
            if let Some(value) = r.line.fields.value(known, &r.head) {
                write!(f, ", {label}: \"{}\"", String::from_utf8_lossy(value))?;
            }
        }
        Ok(())
    }
}

/// The session of `stream` in which a message arose (`ngx_stream_proxy_log_error`).
fn session(r: &Request, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if let Some(Doing(doing)) = r.contexts.get() {
        write!(f, " while {doing}")?;
    }
    write!(f, "{}", r.conn.parties_with(r.client()))?;
    let Some(state) = r.upstreams.last() else { return Ok(()) };
    write!(f, ", upstream: \"{}\"", state.addr)?;
    let Traffic { from_client, to_client, from_upstream, to_upstream } = Traffic::of(r);
    write!(f, ", bytes from/to client:{from_client}/{to_client}")?;
    write!(f, ", bytes from/to upstream:{from_upstream}/{to_upstream}")
}

/// What a session of `stream` is about, for its messages: put among its contexts while it is.
#[derive(Clone, Copy, Debug)]
pub struct Doing(pub &'static str);

/// The bytes that a session of `stream` has moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Read from the client.
    pub from_client: u64,
    /// Sent to the client.
    pub to_client: u64,
    /// Read from the upstream of the last attempt.
    pub from_upstream: u64,
    /// Sent to it.
    pub to_upstream: u64,
}

impl Traffic {
    /// What a session has moved so far.
    #[must_use]
    pub fn of(r: &Request) -> Self {
        let (from_upstream, to_upstream) =
            r.upstreams.last().map_or((0, 0), |state| (state.received, state.sent));
        Self { from_client: r.received, to_client: r.output.sent, from_upstream, to_upstream }
    }
}
