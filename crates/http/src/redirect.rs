//! Makes `Location` absolute where a module wrote a path (`absolute_redirect`, `ngx_http_header_filter`).
//!
//! A relative `Location` of an upstream is none of ours: it is filed as [`Known::Other`] and stays as it is.

use proto::h1::Known;

use crate::output::push_decimal;
use crate::request::Request;

/// Appends the absolute form of the answer's `Location`; nothing where it stays as it is.
pub(crate) fn absolute_location(r: &Request) -> Option<Vec<u8>> {
    let path = r.response.headers.known(Known::Location).filter(|value| value.starts_with(b"/"))?;
    let core = &r.location().core;
    if !core.absolute_redirect {
        return None;
    }
    let local = r.conn.local();
    let mut out = Vec::with_capacity(path.len() + 40);
    let (scheme, own_port): (&[u8], u16) =
        if r.conn.is_tls() { (b"https://", 443) } else { (b"http://", 80) };
    out.extend_from_slice(scheme);
    if core.server_name_in_redirect {
        out.extend_from_slice(&r.server().name);
    } else if !r.host.is_empty() {
        out.extend_from_slice(&r.host);
    } else {
        match local.ip() {
            Some(std::net::IpAddr::V6(ip)) => out.extend_from_slice(format!("[{ip}]").as_bytes()),
            Some(ip) => out.extend_from_slice(ip.to_string().as_bytes()),
            None => out.extend_from_slice(local.to_string().as_bytes()),
        }
    }
    let port = local.port();
    if core.port_in_redirect && port != 0 && port != own_port {
        out.push(b':');
        push_decimal(u64::from(port), &mut out);
    }
    out.extend_from_slice(path);
    Some(out)
}
