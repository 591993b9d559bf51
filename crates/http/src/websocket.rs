//! WebSocket's handshake (RFC 6455), as far as it is ours to do: over HTTP/2 it has no keys, and the upstream over
//! HTTP/1 must have some (RFC 8441, 5.1).
//!
//! The client cannot check the upstream's answer then, so it is checked here.

use std::hash::{BuildHasher, RandomState};

use base::Span;
use proto::h1::{Field, Known};
use sha1::{Digest, Sha1};

use crate::credentials::encode_base64;
use crate::request::Request;

/// The field of an answer that proves that the upstream understood.
pub(crate) const ACCEPT: &[u8] = b"sec-websocket-accept";
const KEY: &[u8] = b"sec-websocket-key";
/// What the answer is made with.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Gives a request for a WebSocket the key that it lacks.
pub(crate) fn complete(r: &mut Request) {
    if !is_websocket(r) || key_of(r).is_some() {
        return;
    }
    let name_at = r.head.len();
    r.head.extend_from_slice(KEY);
    let value_at = r.head.len();
    r.head.extend_from_slice(&new_key());
    let (name, value) = (Span::new(name_at, value_at), Span::new(value_at, r.head.len()));
    r.line.fields.push(Field::new(name, value, Known::of(KEY)));
}

/// Whether the upstream's 101 answers the key of this request. Only asked where the client cannot tell: others are
/// free to pass keys as they like.
pub(crate) fn is_accepted(r: &Request) -> bool {
    let is_ours = r.stream().is_some_and(|stream| stream.asks_tunnel()) && is_websocket(r);
    let Some(key) = key_of(r).filter(|_| is_ours) else { return true };
    let head = &r.upstream_head;
    let mut answers =
        head.head.fields.iter().filter(|field| field.name.of(&head.text).eq_ignore_ascii_case(ACCEPT));
    answers.next().is_some_and(|field| field.value.of(&head.text) == answer_to(key))
        && answers.next().is_none()
}

fn is_websocket(r: &Request) -> bool {
    r.header(Known::Upgrade).is_some_and(|protocol| protocol.eq_ignore_ascii_case(b"websocket"))
}

fn key_of(r: &Request) -> Option<&[u8]> {
    let field = r.line.fields.iter().find(|field| field.name.of(&r.head).eq_ignore_ascii_case(KEY))?;
    Some(field.value.of(&r.head))
}

/// Sixteen bytes that nobody need be unable to guess: they only tell this answer from a cached one.
fn new_key() -> Vec<u8> {
    let random = RandomState::new();
    let bytes = [random.hash_one(0u8).to_le_bytes(), random.hash_one(1u8).to_le_bytes()].concat();
    encode_base64(&bytes)
}

fn answer_to(key: &[u8]) -> Vec<u8> {
    encode_base64(&Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        // RFC 6455, 1.3.
        assert_eq!(answer_to(b"dGhlIHNhbXBsZSBub25jZQ=="), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(new_key().len(), 24);
        assert_ne!(new_key(), new_key());
    }
}
