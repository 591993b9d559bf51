//! The request towards the upstream: request line, fields, and what the configuration sets as its body.
//!
//! After the parser this is the code that runs most; it writes into one pooled buffer and allocates nothing else.

use http::body::RequestBody;
use http::phases::Outcome;
use http::relay::fields::{BodyLength, Default};
use http::relay::{Framing, Plan, PlanBody, SWITCHING_PROTOCOLS};
use http::request::Request;
use net::Buf;
use os::errlog::Level;
use proto::h1::{Known, Method};

use super::{HttpVersion, ProxySettings, uri};

/// Bytes that nearly every head fits in; a buffer of its own is found for a longer one.
const HEAD_SIZE: usize = 4096;

/// Writes the request (`ngx_http_proxy_create_request`).
pub(super) fn create(settings: &ProxySettings, r: &Request, plan: &mut Plan) -> Result<(), Outcome> {
    let Some(pass) = settings.pass.as_deref() else { return Err(Outcome::Status(500)) };
    let Some(parts) = pass.parts(r) else { return Err(Outcome::Status(500)) };
    let mut head = Buf::with_capacity(HEAD_SIZE.max(r.head.len() + HEAD_SIZE / 4));
    let out = head.vec();
    plan.method = write_method(r, settings, out);
    out.push(b' ');
    let uri_start = out.len();
    uri::append_for(pass, r, out);
    if out.len() == uri_start {
        r.log(Level::Error, format_args!("zero length URI to proxy"));
        return Err(Outcome::Status(500));
    }
    let set_body = settings.body.as_ref().map(|body| body.value(r));
    let body = match &set_body {
        Some(body) => BodyLength::Bytes(body.len() as u64),
        None => body_length(r),
    };
    let host = match settings.http_version {
        HttpVersion::Http10 => {
            out.extend_from_slice(b" HTTP/1.0\r\n");
            Default::WhenUnset(&parts.host)
        }
        // The head is translated for HTTP/2 once its connection is known.
        HttpVersion::Http11 | HttpVersion::Http2 => {
            out.extend_from_slice(b" HTTP/1.1\r\n");
            Default::WhenEmpty(&parts.host)
        }
    };
    let program = if r.fills_cache() { &settings.cache_program } else { &settings.program };
    program.write_host(r, host, out);
    let asked = program.write(r, body, out);
    if settings.relay.pass_request_headers {
        program.write_rest(&r.line.fields, &r.head, out);
    }
    out.extend_from_slice(b"\r\n");
    if settings.http_version != HttpVersion::Http2 {
        let may_upgrade = asked.upgrade && r.header(Known::Upgrade).is_some();
        plan.tunnel = may_upgrade.then_some(SWITCHING_PROTOCOLS);
        plan.closes = asked.close;
    }
    plan.body = match set_body {
        Some(body) => {
            out.extend_from_slice(&body);
            PlanBody::None
        }
        None => PlanBody::of(r, &settings.relay),
    };
    if plan.body == PlanBody::Stream && r.reader.is_chunked() && settings.http_version != HttpVersion::Http2 {
        plan.framing = Framing::Pieces;
    }
    plan.head = head;
    Ok(())
}

/// Appends the method; where it is not the client's, says what it means.
fn write_method(r: &Request, settings: &ProxySettings, out: &mut Vec<u8>) -> Option<Method> {
    let start = out.len();
    match &settings.method {
        _ if r.is_head_converted() => out.extend_from_slice(b"GET"),
        Some(method) => method.append(r, out),
        None if r.method == r.line.method => {
            out.extend_from_slice(r.line.method_text.of(&r.head));
            return None;
        }
        None => out.extend_from_slice(r.method.name().as_bytes()),
    }
    let written = out.get(start..).unwrap_or_default();
    Some(if written.eq_ignore_ascii_case(b"HEAD") { Method::Head } else { Method::of(written) })
}

/// How the client's body is announced: its length is known once it was read, or from the client's own word.
pub(super) fn body_length(r: &Request) -> BodyLength {
    match (r.content_length, &r.body) {
        (Some(length), _) => BodyLength::Bytes(length),
        (None, RequestBody::Streaming) if r.reader.is_chunked() => BodyLength::Chunked,
        (None, _) => BodyLength::Untold,
    }
}
