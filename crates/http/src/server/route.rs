//! From a parsed head to a routed request: the server, the normalised path, the body's framing.
//!
//! What is wrong with a head is found here, before any module sees the request.

use std::rc::Rc;

use net::Buf;
use os::errlog::Level;
use proto::h1::{Framing, HeadError, Known, Method, Persistence, Version};

use super::tls;
use crate::body::BodyReader;
use crate::conf::ServerId;
use crate::conf::listen::Address;
use crate::conf::server_name::Found;
use crate::connection::Conn;
use crate::cycle::Cycle;
use crate::request::Request;
use crate::trace;

/// Starts the request under the default server of its address, so that even a bad head has settings.
pub(super) fn begin(r: &mut Request) {
    let cycle = Rc::clone(&r.cycle);
    let Some(address) = address_in(&cycle, r) else { return };
    r.server = match r.conn.stream.tls().and_then(net::tls::Session::accepted_name) {
        None => address.default_server,
        // The name of the hello has picked the server; under another configuration it may be another one.
        Some(name) => match address.hosts.find(name) {
            Some(Found::Server(server) | Found::Regex(_, server)) => server,
            None => address.default_server,
        },
    };
    r.location = r.server().root;
}

/// Goes over to the server that a head names which is not whole yet, if it names one.
pub(super) fn enter(r: &mut Request) {
    let Some(span) = r.line.host() else { return };
    let Ok(host) = proto::uri::validate_host(span.of(&r.head)) else { return };
    let name = host.name.to_vec();
    let cycle = Rc::clone(&r.cycle);
    if let Some(address) = address_in(&cycle, r) {
        select(r, address, &name);
    }
}

/// The address that the request came to.
pub(super) fn address_of(r: &Request) -> Option<&Address> {
    address_in(&r.cycle, r)
}

fn address_in<'c>(cycle: &'c Cycle, r: &Request) -> Option<&'c Address> {
    address_at(cycle, &r.conn)
}

/// The address that a connection came to.
pub(super) fn address_at<'c>(cycle: &'c Cycle, conn: &Conn) -> Option<&'c Address> {
    let listener = cycle.http.listeners.get(conn.listener_in(cycle)?)?;
    let local = if listener.needs_local_address() { conn.local_ip() } else { None };
    Some(listener.address(local))
}

/// The server that the text of a Host field leads to.
pub(super) fn server_named(cycle: &Cycle, conn: &Conn, host: &[u8]) -> Option<ServerId> {
    let host = proto::uri::validate_host(host).ok()?;
    match address_at(cycle, conn)?.hosts.find(&host.name)? {
        Found::Server(server) | Found::Regex(_, server) => Some(server),
    }
}

/// The status of a head that cannot be parsed, logged as nginx does.
pub(super) fn refuse(r: &Request, error: HeadError) -> u16 {
    let culprit = String::from_utf8_lossy(r.line.culprit.of(&r.head)).into_owned();
    let reading = if r.line.length == 0 { "client request line" } else { "client request headers" };
    match error {
        HeadError::BadRequest(sentence) if sentence.contains("header line") => {
            r.log(Level::Info, format_args!("{sentence}: \"{culprit}\" while reading {reading}"));
        }
        HeadError::BadRequest(sentence) => {
            r.log(Level::Info, format_args!("{sentence} while reading {reading}"));
        }
        HeadError::UriTooLong => {
            r.log(Level::Info, format_args!("client sent too long URI while reading {reading}"));
        }
        HeadError::HeadTooLarge => {
            r.log(
                Level::Info,
                format_args!("client sent too long header line: \"{culprit}...\" while reading {reading}"),
            );
        }
        HeadError::TooManyFields => {
            r.log(Level::Info, format_args!("client sent too many header lines while reading {reading}"));
        }
        HeadError::VersionNotSupported => {
            r.log(Level::Info, format_args!("client sent invalid version while reading {reading}"));
        }
    }
    error.status()
}

/// Routes a complete head.
///
/// # Errors
/// The status to answer a bad request with.
pub(super) fn route(r: &mut Request) -> Result<(), u16> {
    r.method = r.line.method;
    r.received = r.line.request_length() as u64;
    if r.cycle.http.heads_differ {
        // The path is read before the host is, by the settings of the default server.
        begin(r);
    }
    place(r)?;
    trace::head(r);
    let framing = proto::h1::request_framing(&r.line, &r.head).map_err(|error| {
        r.log(Level::Info, format_args!("client sent {error} while reading client request headers"));
        error.status()
    })?;
    if framing != Framing::None || r.head.len() > r.line.length {
        begin_body(r, framing);
    }
    match r.method {
        Method::Trace => {
            r.log(Level::Info, format_args!("client sent TRACE method"));
            return Err(405);
        }
        Method::Connect if r.line.version != Version::HTTP_11 || !r.server().allows_connect => {
            r.log(Level::Info, format_args!("client sent CONNECT method"));
            return Err(405);
        }
        Method::Connect if r.reader.is_open() => {
            r.log(Level::Info, format_args!("client sent CONNECT request with body"));
            return Err(400);
        }
        _ => {}
    }
    r.keepalive = proto::h1::request_persistence(&r.line, &r.head) == Persistence::KeepAlive;
    if r.version() >= Version::HTTP_11
        && r.header(Known::Expect).is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"))
    {
        r.expects_continue.set(true);
    }
    Ok(())
}

/// What came behind the head: the beginning of a body, or of another request.
fn begin_body(r: &mut Request, framing: Framing) {
    let length = r.line.length;
    let bytes = r.head.get(length..).unwrap_or_default();
    let mut rest = Buf::empty();
    if !bytes.is_empty() {
        rest = Buf::with_capacity(bytes.len());
        rest.extend_from_slice(bytes);
    }
    r.head.truncate(length);
    if let Framing::Length(length) = framing {
        r.content_length = Some(length);
    }
    r.reader = BodyReader::new(framing, rest);
}

/// The path and the server of a head, whatever version it came in.
///
/// # Errors
/// The status to answer a bad request with.
pub(super) fn place(r: &mut Request) -> Result<(), u16> {
    r.args.extend_from_slice(r.line.args.unwrap_or_default().of(&r.head));
    normalize(r)?;
    r.valid_unparsed_uri = !r.line.path_flags.has(proto::h1::PathFlags::EMPTY);
    let found = find_server(r);
    log_ignored(r);
    found
}

fn normalize(r: &mut Request) -> Result<(), u16> {
    let flags = r.line.path_flags;
    let path = r.line.path.of(&r.head);
    if !flags.needs_normalizing() {
        r.uri.extend_from_slice(path);
        return Ok(());
    }
    let merge = if r.cycle.http.location(r.location).core.merge_slashes {
        proto::uri::MergeSlashes::Merge
    } else {
        proto::uri::MergeSlashes::Keep
    };
    if proto::uri::normalize(path, merge, &mut r.uri).is_err() {
        r.uri.clear();
        // nginx has read no field then: the log has none to show, and the page is padded for no browser.
        r.line.fields.clear();
        r.log(Level::Info, format_args!("client sent invalid request while reading client request line"));
        return Err(400);
    }
    Ok(())
}

fn log_ignored(r: &Request) {
    if r.line.ignored_count == 0 || !r.logs(Level::Info) {
        return;
    }
    for span in &r.line.ignored {
        let line = String::from_utf8_lossy(span.of(&r.head)).into_owned();
        if r.stream().is_some() {
            r.log(
                Level::Info,
                format_args!("client sent invalid header: \"{line}\" while reading client request headers"),
            );
            continue;
        }
        r.log(
            Level::Info,
            format_args!("client sent invalid header line: \"{line}\" while reading client request headers"),
        );
    }
}

/// The name asked for, and the server that has it (`ngx_http_set_virtual_server`).
fn find_server(r: &mut Request) -> Result<(), u16> {
    match proto::uri::request_host(&r.line, &r.head) {
        Ok(Some(host)) => {
            r.host.extend_from_slice(&host.name);
            r.host_port = (host.port > 0).then_some(host.port);
        }
        // Who names no host asks for the server with the empty name, if there is one.
        Ok(None) => {}
        Err(error) => {
            enter(r);
            r.log(Level::Info, format_args!("{error} while reading client request headers"));
            return Err(400);
        }
    }
    let cycle = Rc::clone(&r.cycle);
    let Some(address) = address_in(&cycle, r) else { return Ok(()) };
    if address.hosts.lead_only_to(address.default_server) {
        return tls::check(r, address);
    }
    let host = std::mem::take(&mut r.host);
    select(r, address, &host);
    r.host = host;
    tls::check(r, address)
}

/// Goes over to the server that has a name at an address.
fn select(r: &mut Request, address: &Address, host: &[u8]) {
    let has_agreed = r.conn.stream.tls().is_some_and(|session| session.accepted_name().is_some());
    match address.hosts.find(host) {
        Some(Found::Server(server)) => r.server = server,
        Some(Found::Regex(regex, server)) => {
            r.matches(regex, host);
            r.server = server;
        }
        // The server of the name that TLS agreed on is not asked when another name is.
        None if has_agreed => r.server = address.default_server,
        None => {}
    }
    r.location = r.server().root;
}
