//! A request's head as a header block, from the text that the plan has it in.

use proto::h1::Known;
use proto::h2::hpack::{Encoder, Indexing};

/// Where the head ends that a plan begins with.
pub(super) fn end(text: &[u8]) -> usize {
    memchr::memmem::find(text, b"\r\n\r\n").map_or(text.len(), |at| at + 4)
}

/// Appends the block of a head.
pub(super) fn write(head: &[u8], scheme: &[u8], encoder: &mut Encoder, out: &mut Vec<u8>) {
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut words = lines.next().unwrap_or_default().split(|byte| *byte == b' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    encoder.begin(out);
    encoder.field(b":method", method, Indexing::Allowed, out);
    encoder.field(b":scheme", scheme, Indexing::Allowed, out);
    encoder.field(b":path", path, Indexing::Useless, out);
    let fields = lines.filter_map(|line| {
        let at = memchr::memchr(b':', line)?;
        let value = line.get(at + 1..).unwrap_or_default();
        Some((line.get(..at)?, value.strip_prefix(b" ").unwrap_or(value)))
    });
    for (name, value) in fields {
        match Known::of(name) {
            Known::Host => encoder.field(b":authority", value, Indexing::Allowed, out),
            // They are about one connection of HTTP/1 (RFC 9113, 8.2.2).
            Known::Connection | Known::KeepAlive | Known::TransferEncoding | Known::Upgrade => {}
            Known::Cookie | Known::Authorization | Known::ContentLength => {
                encoder.field(name, value, Indexing::Useless, out);
            }
            _ => encoder.field(name, value, Indexing::Allowed, out),
        }
    }
}

#[cfg(test)]
mod tests {
    use base::Span;
    use proto::h2::hpack::{BlockLimits, Decoder};

    use super::*;

    #[test]
    fn a_head_becomes_a_block() {
        let text =
            b"POST /a?b HTTP/1.1\r\nHost: h:1\r\nConnection: close\r\nX-A: b: c\r\nTE: trailers\r\n\r\nbody";
        let mut out = Vec::new();
        let (head, body) = text.split_at(end(text));
        assert_eq!(body, b"body");
        write(head, b"http", &mut Encoder::default(), &mut out);
        let (mut decoder, mut block, mut fields, mut shown) =
            (Decoder::default(), &out[..], Vec::new(), String::new());
        let mut limits = BlockLimits { field: 1000, total: 1000 };
        while let Some(field) = decoder.next(&mut block, &mut limits, &mut fields).expect("a block") {
            let part = |span: Span| String::from_utf8_lossy(span.of(&fields)).into_owned();
            shown += &format!("[{}={}]", part(field.name), part(field.value));
        }
        assert_eq!(shown, "[:method=POST][:scheme=http][:path=/a?b][:authority=h:1][x-a=b: c][te=trailers]");
    }
}
