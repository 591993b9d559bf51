//! The head of an answer: header filters, how the body will end, and the fields in nginx's order.

use std::cell::RefCell;
use std::rc::Rc;

use net::Buf;
use os::errlog::Level;
use proto::h1::{Known, Method, Version};

use super::{Framing, push_decimal};
use crate::body::CONTINUE;
use crate::client::Client;
use crate::conf::core::ServerTokens;
use crate::filters::Filtered;
use crate::phases::Outcome;
use crate::request::Request;
use crate::response::Response;
use crate::server::h2;
use crate::status::status_line;
use crate::trace;

/// Runs the header filters and queues the head.
///
/// # Errors
/// What a filter wants answered instead.
pub fn send_head(r: &mut Request) -> Result<(), Outcome> {
    if r.response.head_sent {
        return Ok(());
    }
    if r.error_status != 0 {
        r.response.status = r.error_status;
        r.response.status_line.clear();
    }
    if let Client::Stream(stream) = &r.client
        && stream.asks_tunnel()
        && !r.is_subrequest
        && matches!(r.response.status, 200..=299)
    {
        return Err(no_tunnel(r));
    }
    let cycle = Rc::clone(&r.cycle);
    for (answers, filter) in &cycle.http.location(r.location).concerned.header_filters {
        if !answers.include(r) {
            continue;
        }
        match filter.filter(r) {
            Filtered::Next => {}
            Filtered::Instead(outcome) => {
                r.output.filters = None;
                return Err(outcome);
            }
        }
    }
    r.response.head_sent = true;
    if r.version() == Version::HTTP_09 && !r.is_subrequest && r.stream().is_none() {
        r.output.framing = Framing::UntilClose;
        r.keepalive = false;
        return Ok(());
    }
    decide_framing(r);
    if r.is_subrequest {
        return Ok(());
    }
    if let Client::Stream(_) = r.client {
        r.output.is_head_queued = true;
        trace::answer(r, b"");
        return Ok(());
    }
    let_body_come(r);
    let mut out = Buf::with_capacity(4096);
    write_head(r, &mut out);
    trace::answer(r, &out);
    r.output.header_size = out.len() as u64;
    r.output.queue.push(out.into());
    Ok(())
}

/// What becomes of an answer that a client over HTTP/2 would take for the beginning of the tunnel that it asks for
/// (RFC 8441), though nobody switched protocols.
#[cold]
fn no_tunnel(r: &Request) -> Outcome {
    let (level, status) = if r.upstreams.is_empty() { (Level::Info, 501) } else { (Level::Error, 502) };
    let given = r.response.status;
    r.log(level, format_args!("an extended CONNECT is answered with status {given} without a tunnel"));
    Outcome::Status(status)
}

/// Lets the body come that nobody wants, where the client waits for that (`ngx_http_discard_request_body`).
pub fn let_body_come(r: &mut Request) {
    if r.stream().is_none() && r.expects_continue.take() {
        push_continue(r);
    }
}

#[cold]
fn push_continue(r: &mut Request) {
    let mut out = Buf::empty();
    out.extend_from_slice(CONTINUE);
    r.output.queue.push(out.into());
}

/// Queues an interim answer with these fields, where `early_hints` says so and the client can understand it
/// (`ngx_http_send_early_hints`).
pub fn send_early_hints<'f>(r: &mut Request, fields: impl Iterator<Item = (&'f [u8], &'f [u8])>) {
    let conditions = r.location().core.early_hints.clone();
    if r.is_subrequest
        || r.is_post_action
        || r.response.head_sent
        || (r.version() != Version::HTTP_11 && r.stream().is_none())
        || !conditions.iter().any(|condition| condition.holds(r))
    {
        return;
    }
    if let Client::Stream(stream) = &r.client {
        h2::send_early_hints(stream, fields);
        return;
    }
    let mut out = Buf::empty();
    for (name, value) in fields {
        if out.is_empty() {
            out.extend_from_slice(b"HTTP/1.1 103 Early Hints\r\n");
        }
        out.extend_from_slice(name);
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
    if !out.is_empty() {
        out.extend_from_slice(b"\r\n");
        r.output.queue.push(out.into());
    }
}

/// How the body will end, and whether the connection can serve another request (`ngx_http_header_filter`,
/// `ngx_http_chunked_header_filter`).
fn decide_framing(r: &mut Request) {
    let response = &mut r.response;
    if r.method == Method::Head {
        response.header_only = true;
    }
    match response.status {
        204 if response.status_line.is_empty() => {
            response.header_only = true;
            response.content_type.clear();
            response.set_last_modified(None);
            response.clear_content_length();
        }
        304 | 100..=199 => response.header_only = true,
        204 => response.header_only = true,
        _ => {}
    }
    if crate::server::is_quitting() {
        r.keepalive = false;
    }
    let is_11 = r.line.version >= Version::HTTP_11;
    let may_chunk = is_11 && r.cycle.http.location(r.location).core.chunked_transfer_encoding;
    r.output.framing = if matches!(response.status, 0..=199 | 204 | 304) || r.method == Method::Head {
        Framing::None
    } else if (r.method == Method::Connect && response.status < 300) || matches!(r.client, Client::Stream(_))
    {
        Framing::UntilClose
    } else if let Some(length) = response.content_length
        && !(response.expect_trailers && may_chunk)
    {
        Framing::Length(length)
    } else if may_chunk {
        response.clear_content_length();
        Framing::Chunked
    } else {
        r.keepalive = false;
        Framing::UntilClose
    };
}

/// Appends the head as it goes over the wire, in nginx's order of fields.
fn write_head(r: &Request, out: &mut Vec<u8>) {
    let response = &r.response;
    let core = &r.location().core;
    let headers = &response.headers;
    let has_own =
        response.omits_server || response.omits_date || headers.may_have(&[Known::Server, Known::Date]);
    if response.status == 200 && response.status_line.is_empty() && !has_own {
        with_usual(Some(core.server_tokens), |usual| out.extend_from_slice(&usual.text));
    } else {
        write_beginning(response, core.server_tokens, out);
    }
    if !response.content_type.is_empty() {
        out.extend_from_slice(b"Content-Type: ");
        out.extend_from_slice(&response.content_type);
        if !response.charset.is_empty() {
            out.extend_from_slice(b"; charset=");
            out.extend_from_slice(&response.charset);
        }
        out.extend_from_slice(b"\r\n");
    }
    if let Some(length) = response.content_length
        && !headers.has(Known::ContentLength)
    {
        out.extend_from_slice(b"Content-Length: ");
        push_decimal(length, out);
        out.extend_from_slice(b"\r\n");
    }
    if !headers.has(Known::LastModified)
        && matches!(response.status, 200 | 206 | 304)
        && let Some(time) = response.last_modified()
    {
        out.extend_from_slice(b"Last-Modified: ");
        out.extend_from_slice(&proto::date::http(time));
        out.extend_from_slice(b"\r\n");
    }
    let location = if headers.has(Known::Location) { crate::redirect::absolute_location(r) } else { None };
    if let Some(location) = &location {
        out.extend_from_slice(b"Location: ");
        out.extend_from_slice(location);
        out.extend_from_slice(b"\r\n");
    }
    if r.output.framing == Framing::Chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    if response.status == 101 {
        out.extend_from_slice(b"Connection: upgrade\r\n");
    } else if r.keepalive {
        out.extend_from_slice(b"Connection: keep-alive\r\n");
        if core.keepalive_header > 0 {
            out.extend_from_slice(b"Keep-Alive: timeout=");
            push_decimal(core.keepalive_header, out);
            out.extend_from_slice(b"\r\n");
        }
    } else {
        out.extend_from_slice(b"Connection: close\r\n");
    }
    if response.varies_by_coding && core.gzip_vary {
        out.extend_from_slice(b"Vary: Accept-Encoding\r\n");
    }
    match location {
        None => headers.write_to(out),
        Some(_) => headers.write_without(Known::Location, out),
    }
    out.extend_from_slice(b"\r\n");
}

/// The status line, `Server` and `Date`.
#[inline(never)]
fn write_beginning(response: &Response, tokens: ServerTokens, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    write_status(response.status, &response.status_line, out);
    if !response.omits_server && !response.headers.has(Known::Server) {
        out.extend_from_slice(server_line(tokens));
    }
    if !response.omits_date && !response.headers.has(Known::Date) {
        with_usual(None, |usual| out.extend_from_slice(usual.date_line()));
    }
}

fn write_status(status: u16, line: &[u8], out: &mut Vec<u8>) {
    if !line.is_empty() {
        out.extend_from_slice(line);
    } else if let Some(line) = status_line(status) {
        out.extend_from_slice(line.as_bytes());
    } else {
        push_decimal(u64::from(status), out);
        out.push(b' ');
    }
    out.extend_from_slice(b"\r\n");
}

/// The present time as HTTP writes it.
pub(crate) fn with_date(act: impl FnOnce(&[u8])) {
    with_usual(None, |usual| {
        act(usual.date_line().get(DATE_NAME.len()..).unwrap_or_default().trim_ascii_end())
    });
}

const DATE_NAME: &[u8] = b"Date: ";

/// What a head usually begins with, made once a second: the status line of a 200, `Server` and `Date`.
struct Usual {
    second: i64,
    tokens: ServerTokens,
    text: Vec<u8>,
    /// Where `Date` begins in it.
    date: usize,
}

impl Usual {
    const NONE: Self = Self { second: i64::MIN, tokens: ServerTokens::On, text: Vec::new(), date: 0 };

    #[cold]
    fn make(&mut self, second: i64, tokens: ServerTokens) {
        self.text.clear();
        self.text.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        self.text.extend_from_slice(server_line(tokens));
        self.date = self.text.len();
        self.text.extend_from_slice(DATE_NAME);
        self.text.extend_from_slice(&proto::date::http(second));
        self.text.extend_from_slice(b"\r\n");
        (self.second, self.tokens) = (second, tokens);
    }

    fn date_line(&self) -> &[u8] {
        self.text.get(self.date..).unwrap_or_default()
    }
}

/// Looks at what is usual at this moment, with these tokens where they matter.
#[inline]
fn with_usual(tokens: Option<ServerTokens>, act: impl FnOnce(&Usual)) {
    thread_local! {
        static USUAL: RefCell<Usual> = const { RefCell::new(Usual::NONE) };
    }
    let now = net::timer::wall_clock().0;
    USUAL.with(|usual| {
        let mut usual = usual.borrow_mut();
        let tokens = tokens.unwrap_or(usual.tokens);
        if usual.second != now || usual.tokens != tokens {
            usual.make(now, tokens);
        }
        act(&usual);
    });
}

fn server_line(tokens: ServerTokens) -> &'static [u8] {
    match tokens {
        ServerTokens::On => concat!("Server: nginx/", base::nginx_version!(), "\r\n").as_bytes(),
        ServerTokens::Off => b"Server: nginx\r\n",
        ServerTokens::Build => concat!("Server: ", base::build!(), "\r\n").as_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_usual_has_its_own_second_and_tokens() {
        let mut usual = Usual::NONE;
        for (tokens, server) in [(ServerTokens::Off, "nginx"), (ServerTokens::Build, base::build!())] {
            usual.make(0, tokens);
            let date = "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n";
            let text = format!("HTTP/1.1 200 OK\r\nServer: {server}\r\n{date}");
            assert_eq!((&*usual.text, usual.date_line()), (text.as_bytes(), date.as_bytes()));
            assert_eq!((usual.second, usual.tokens), (0, tokens));
        }
    }
}
