//! What the log says at `debug` of a request's way: its head, its location, its upstreams, its answer.
//!
//! The words are nginx's where it has a line for the same thing. Each function costs one look at the log's level
//! unless somebody wants to see it (`error_log … debug`, `debug_connection`).

use std::borrow::Cow;

use os::errlog::Level;
use proto::h1::Fields;

use crate::conf::location::Kind;
use crate::request::Request;

/// The head of the request, once it was read and its path is known.
#[inline]
pub(crate) fn head(r: &Request) {
    if r.logs(Level::Debug) {
        write_head(r);
    }
}

#[cold]
fn write_head(r: &Request) {
    r.debug(format_args!("http request line: \"{}\"", text(r.line.line.of(&r.head))));
    r.debug(format_args!("http uri: \"{}\"", text(&r.uri)));
    r.debug(format_args!("http args: \"{}\"", text(&r.args)));
    write_fields(r, "http header", &r.line.fields, &r.head);
}

fn write_fields(r: &Request, label: &str, fields: &Fields, head: &[u8]) {
    for field in fields.iter() {
        let (name, value) = (field.name.of(head), field.value.of(head));
        r.debug(format_args!("{label}: \"{}: {}\"", text(name), text(value)));
    }
    r.debug(format_args!("{label} done"));
}

/// The location that was found.
#[inline]
pub(crate) fn location(r: &Request) {
    if r.logs(Level::Debug) {
        write_location(r);
    }
}

#[cold]
fn write_location(r: &Request) {
    let location = r.location();
    let sign = match location.kind {
        Kind::Exact => "=",
        Kind::Unnamed => "*",
        Kind::Prefix | Kind::PrefixOnly | Kind::Regex | Kind::Named => "",
    };
    r.debug(format_args!("using configuration \"{sign}{}\"", text(&location.name)));
}

/// The peer that is asked.
#[inline]
pub(crate) fn peer(r: &Request, name: &str) {
    if r.logs(Level::Debug) {
        write_peer(r, name);
    }
}

#[cold]
fn write_peer(r: &Request, name: &str) {
    r.debug(format_args!("connect to {name}, upstream try #{}", r.upstreams.len()));
}

/// The head of the upstream's answer.
#[inline]
pub(crate) fn upstream_head(r: &Request) {
    if r.logs(Level::Debug) {
        write_upstream_head(r);
    }
}

#[cold]
fn write_upstream_head(r: &Request) {
    let (head, bytes) = (&r.upstream_head.head, &r.upstream_head.text);
    let line = text(head.status_line.of(bytes));
    r.debug(format_args!("http upstream status {} \"{line}\"", head.status));
    write_fields(r, "http upstream header", &head.fields, bytes);
}

/// The head of the answer as it goes to the client.
#[inline]
pub(crate) fn answer(r: &Request, head: &[u8]) {
    if r.logs(Level::Debug) {
        write_answer(r, head);
    }
}

#[cold]
fn write_answer(r: &Request, head: &[u8]) {
    r.debug(format_args!("{}", text(head)));
}

/// The end of the request.
#[inline]
pub(crate) fn end(r: &Request) {
    if r.logs(Level::Debug) {
        write_end(r);
    }
}

#[cold]
fn write_end(r: &Request) {
    let (status, sent) = (r.response.status, r.output.sent);
    r.debug(format_args!("http finalize request: {status}, \"{}\" sent: {sent}", text(&r.uri)));
}

fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
