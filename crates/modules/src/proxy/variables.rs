//! `$proxy_host`, `$proxy_port`, `$proxy_add_x_forwarded_for` and what the default fields are made of.
//!
//! The first two have a value once the request came to its `proxy_pass`.

use http::output::push_decimal;
use http::relay::fields::BodyLength;
use http::request::Request;
use http::variables::{Variable, push_addr};
use proto::h1::Known;

use super::Proxy;
use super::pass;
use super::request::body_length;

/// The variables.
pub(super) static VARIABLES: [Variable; 5] = [
    Variable::new("proxy_host", host).changeable(),
    Variable::new("proxy_port", port).changeable(),
    Variable::new("proxy_add_x_forwarded_for", add_x_forwarded_for).cached(),
    Variable::new("proxy_internal_body_length", internal_body_length),
    Variable::new("proxy_internal_chunked", internal_chunked),
];

fn host(r: &Request, out: &mut Vec<u8>) -> bool {
    let Some(parts) = pass::parts(r) else { return false };
    out.extend_from_slice(&parts.host);
    true
}

fn port(r: &Request, out: &mut Vec<u8>) -> bool {
    let Some(parts) = pass::parts(r) else { return false };
    out.extend_from_slice(parts.port.as_deref().unwrap_or_default());
    true
}

/// The client's own fields, then its address.
fn add_x_forwarded_for(r: &Request, out: &mut Vec<u8>) -> bool {
    for field in r.line.fields.all(Known::XForwardedFor) {
        out.extend_from_slice(field.value.of(&r.head));
        out.extend_from_slice(b", ");
    }
    push_addr(r.client(), out);
    true
}

fn internal_body_length(r: &Request, out: &mut Vec<u8>) -> bool {
    if pass::parts(r).is_none() {
        return false;
    }
    let length = match (&r.location().settings::<Proxy>().body, body_length(r)) {
        (Some(body), _) => body.value(r).len() as u64,
        (None, BodyLength::Bytes(length)) => length,
        (None, _) => return false,
    };
    push_decimal(length, out);
    true
}

fn internal_chunked(r: &Request, out: &mut Vec<u8>) -> bool {
    let has_own_body = r.location().settings::<Proxy>().body.is_some();
    if pass::parts(r).is_none() || has_own_body || body_length(r) != BodyLength::Chunked {
        return false;
    }
    out.extend_from_slice(b"chunked");
    true
}
