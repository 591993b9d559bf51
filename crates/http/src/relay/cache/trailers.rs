//! Trailers of an answer that is kept: gRPC tells in them how a call went.
//!
//! They come when the head of the file has its length already, so they lie behind the body: lines, and how many bytes
//! those are. A mark in front of the answer's head says that they are there.

use std::fs::File;
use std::os::unix::fs::FileExt;

use ::cache::Body;

use crate::relay::UpstreamHead;

/// The mark: no head begins like this.
pub(super) const MARK: u8 = b'+';
/// Bytes of their length.
const LENGTH: u64 = 4;
/// Longest trailers, bytes.
const MAX: u64 = 1 << 20;

/// The bytes that go behind the body.
pub(super) fn encode(head: &UpstreamHead) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in &head.trailers {
        for part in [name, &b": "[..], value, b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    let length = u32::try_from(out.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out
}

/// Cuts the trailers off a body. `None` where they are not what was written.
pub(super) fn cut(body: &mut Body) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let lines = match body {
        Body::Shared(bytes) => {
            let (content, lines) = split(bytes)?;
            let (content, lines) = (content.len(), lines.to_vec());
            *body = Body::Shared(bytes.get(..content)?.into());
            lines
        }
        Body::Read { buf, start } => {
            let (content, lines) = split(buf.get(*start..)?)?;
            let (end, lines) = (*start + content.len(), lines.to_vec());
            buf.truncate(end);
            lines
        }
        Body::File { file, offset, end } => {
            let lines = read(file, *offset, *end)?;
            *end -= lines.len() as u64 + LENGTH;
            lines
        }
    };
    parse(&lines)
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (rest, length) = bytes.split_last_chunk::<4>()?;
    let at = rest.len().checked_sub(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    rest.split_at_checked(at)
}

fn read(file: &File, start: u64, end: u64) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    let at = end.checked_sub(LENGTH).filter(|at| *at >= start)?;
    file.read_exact_at(&mut length, at).ok()?;
    let length = u64::from(u32::from_le_bytes(length));
    let from = at.checked_sub(length).filter(|from| *from >= start && length <= MAX)?;
    let mut lines = vec![0; usize::try_from(length).ok()?];
    file.read_exact_at(&mut lines, from).ok()?;
    Some(lines)
}

fn parse(lines: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut found = Vec::new();
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let at = memchr::memmem::find(line, b": ")?;
        found.push((line.get(..at)?.to_vec(), line.get(at + 2..)?.to_vec()));
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> UpstreamHead {
        let trailers = [("grpc-status", "0"), ("grpc-message", "a: b")];
        let trailers =
            trailers.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).to_vec();
        UpstreamHead { trailers, ..UpstreamHead::default() }
    }

    #[test]
    fn what_was_put_behind_a_body_is_cut_off_again() {
        let all = [b"body".to_vec(), encode(&head())].concat();
        let mut body = Body::Shared(all.as_slice().into());
        assert_eq!(cut(&mut body), Some(head().trailers));
        assert!(matches!(body, Body::Shared(bytes) if &*bytes == b"body"));
        let bare = [b"x".to_vec(), encode(&UpstreamHead::default())].concat();
        assert_eq!(cut(&mut Body::Shared(bare.as_slice().into())), Some(Vec::new()));
    }

    #[test]
    fn nonsense_is_no_trailer() {
        for bytes in [&b""[..], b"abc", b"\xff\xff\xff\xff", b"abc\x04\0\0\0", b"noline\x06\0\0\0"] {
            assert_eq!(cut(&mut Body::Shared(bytes.into())), None, "{bytes:?}");
        }
    }
}
