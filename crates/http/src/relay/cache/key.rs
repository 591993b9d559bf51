//! What tells one answer in the cache from another.

use ::cache::Key;

use crate::body::RequestBody;
use crate::relay::head::Heading;
use crate::request::Request;

/// What the key of a request is made of.
pub(super) fn text(r: &Request, heading: Heading<'_>) -> Vec<u8> {
    let mut text = Vec::with_capacity(128);
    match &heading.settings.cache.key {
        Some(key) => key.append(r, &mut text),
        None => heading.protocol.cache_key(r, &mut text),
    }
    text
}

/// The key that a location without `*_cache_key` has: the name that the client knows the site by, and what it asks
/// for there.
pub(in crate::relay) fn push_default_key(r: &Request, out: &mut Vec<u8>) {
    push_site(r, out);
    out.extend_from_slice(r.line.target.of(&r.head));
}

/// Appends scheme and host as the client knows them: answers of one site are never another's.
pub fn push_site(r: &Request, out: &mut Vec<u8>) {
    out.extend_from_slice(if r.conn.is_tls() { b"https://" } else { b"http://" });
    out.extend_from_slice(if r.host.is_empty() { &r.server().name } else { &r.host });
}

/// Appends a sum over the request's body, which must have been read.
pub fn push_body_sum(r: &Request, out: &mut Vec<u8>) {
    out.push(b'#');
    if let Some(body) = r.body.memory() {
        out.extend_from_slice(&Key::of(body).name());
    } else if let RequestBody::File { file, length, .. } = &r.body {
        let mut body = vec![0; usize::try_from(*length).unwrap_or(0)];
        // What cannot be read is like no other body.
        match std::os::unix::fs::FileExt::read_exact_at(&**file, &mut body, 0) {
            Ok(()) => out.extend_from_slice(&Key::of(&body).name()),
            Err(_) => out.extend_from_slice(format!("{:p}", &raw const *r).as_bytes()),
        }
    }
}
