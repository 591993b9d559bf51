//! The request's body on its way to the upstream, in DATA frames within the upstream's windows.

use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use net::Buf;

use crate::body::{self, BodyError, RequestBody};
use crate::relay::BodyCoding;
use crate::request::Request;

/// Written bytes that are kept in front of what waits.
const KEPT: usize = 256 << 10;

/// Where a body comes from.
pub(super) enum Source {
    /// There is none, or all of it is sent.
    Done,
    /// The configuration sets it.
    Set(Vec<u8>, usize),
    /// It was read into memory, and so much of it is sent.
    Memory(usize),
    /// It was read into a file.
    File { file: Rc<std::fs::File>, offset: u64, length: u64 },
    /// It comes from the client.
    Client,
}

/// A body and what is made of its bytes.
pub(super) struct Body {
    source: Source,
    /// For one that comes in base64.
    base64: Option<Box<Base64>>,
}

/// Whether a piece is the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// More follows.
    More,
    /// Nothing follows.
    Last,
}

impl Source {
    /// The body of a request that was read as a whole.
    pub(super) fn whole(r: &Request) -> Self {
        match &r.body {
            RequestBody::File { file, length, .. } if *length > 0 => {
                Self::File { file: Rc::clone(file), offset: 0, length: *length }
            }
            body if body.memory().is_some_and(|memory| !memory.is_empty()) => Self::Memory(0),
            _ => Self::Done,
        }
    }

    /// Appends up to `max` bytes to `out`.
    pub(super) fn poll_piece(
        &mut self,
        r: &mut Request,
        cx: &mut Context<'_>,
        max: usize,
        out: &mut Vec<u8>,
    ) -> Poll<Result<Piece, BodyError>> {
        let last = |is_last| if is_last { Piece::Last } else { Piece::More };
        let piece = match self {
            Self::Done => Piece::Last,
            Self::Set(bytes, at) => last(take(bytes, at, max, out)),
            Self::Memory(at) => last(take(r.body.memory().unwrap_or_default(), at, max, out)),
            Self::File { file, offset, length } => {
                let wanted = usize::try_from(*length - *offset).unwrap_or(usize::MAX).min(max);
                let count =
                    os::io::pread_append(file.as_fd(), out, wanted, *offset).map_err(BodyError::File)?;
                if count == 0 {
                    return Poll::Ready(Err(BodyError::File(io::ErrorKind::UnexpectedEof.into())));
                }
                *offset += count as u64;
                last(offset == length)
            }
            Self::Client => {
                let count = ready!(body::poll_some(r, cx, out, max))?;
                last(count == 0 || !r.reader.is_open())
            }
        };
        if piece == Piece::Last {
            *self = Self::Done;
        }
        Poll::Ready(Ok(piece))
    }
}

impl Body {
    pub(super) fn new(source: Source, coding: BodyCoding) -> Self {
        let base64 = (coding == BodyCoding::Base64).then(Box::default);
        Self { source, base64 }
    }

    /// Whether nothing is left to be sent.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.source, Source::Done)
    }

    /// Appends up to `max` bytes to `out`.
    pub(super) fn poll_piece(
        &mut self,
        r: &mut Request,
        cx: &mut Context<'_>,
        max: usize,
        out: &mut Vec<u8>,
    ) -> Poll<Result<Piece, BodyError>> {
        let Some(base64) = &mut self.base64 else { return self.source.poll_piece(r, cx, max, out) };
        let start = out.len();
        loop {
            let mut text = Buf::empty();
            let piece = ready!(self.source.poll_piece(r, cx, max, &mut text))?;
            let decoded = base64.decode(&text, out);
            let is_whole = piece == Piece::More || base64.is_whole();
            if decoded.is_none() || !is_whole {
                return Poll::Ready(Err(BodyError::NotBase64));
            }
            if piece == Piece::Last || out.len() > start {
                return Poll::Ready(Ok(piece));
            }
        }
    }
}

/// Base64 that comes in pieces, each of which may be padded.
#[derive(Default)]
pub(super) struct Base64 {
    bits: u32,
    /// Letters of a group of four.
    letters: u32,
    padding: u32,
}

impl Base64 {
    /// Appends what the letters mean; `None` where they mean nothing.
    fn decode(&mut self, text: &[u8], out: &mut Vec<u8>) -> Option<()> {
        for letter in text {
            let value = match letter {
                b'A'..=b'Z' => letter - b'A',
                b'a'..=b'z' => letter - b'a' + 26,
                b'0'..=b'9' => letter - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                b'=' if self.letters + self.padding >= 2 => {
                    self.padding += 1;
                    0
                }
                _ => return None,
            };
            if self.padding > 0 && *letter != b'=' {
                return None;
            }
            self.bits = self.bits << 6 | u32::from(value);
            self.letters += u32::from(*letter != b'=');
            if self.letters + self.padding == 4 {
                let bytes = self.bits.to_be_bytes();
                out.extend_from_slice(bytes.get(1..self.letters as usize)?);
                *self = Self::default();
            }
        }
        Some(())
    }

    /// Whether no group has begun that is not complete.
    fn is_whole(&self) -> bool {
        self.letters + self.padding == 0
    }
}

/// Copies the next piece; says whether it was the last.
fn take(bytes: &[u8], at: &mut usize, max: usize, out: &mut Vec<u8>) -> bool {
    let rest = bytes.get(*at..).unwrap_or_default();
    let count = rest.len().min(max);
    out.extend_from_slice(&rest[..count]);
    *at += count;
    count == rest.len()
}

/// Bytes on their way to the upstream.
#[derive(Default)]
pub(super) struct Outgoing {
    pub(super) bytes: Buf,
    pub(super) at: usize,
}

impl Outgoing {
    /// Bytes that are not written yet.
    pub(super) fn pending(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// So many of them are written.
    pub(super) fn advance(&mut self, count: usize) {
        self.at += count;
        if self.at >= self.bytes.len() {
            self.bytes = Buf::empty();
            self.at = 0;
        } else if self.at >= KEPT {
            self.bytes.drain(..self.at);
            self.at = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_in_pieces() {
        let check = |pieces: &[&str], expected: Option<&str>| {
            let (mut base64, mut out) = (Base64::default(), Vec::new());
            let decoded = pieces.iter().all(|piece| base64.decode(piece.as_bytes(), &mut out).is_some());
            let got = (decoded && base64.is_whole()).then(|| String::from_utf8_lossy(&out).into_owned());
            assert_eq!(got.as_deref(), expected, "{pieces:?}");
        };
        check(&[], Some(""));
        check(&["YWJj"], Some("abc"));
        check(&["Y", "WJ", "jZ", "GU="], Some("abcde"));
        check(&["YQ==YmM=", "ZGVm"], Some("abcdef"));
        check(&["YQ=", "=YQ=="], Some("aa"));
        check(&["+/+/"], Some("\u{fffd}\u{fffd}\u{fffd}"));
        check(&["YW"], None);
        check(&["YQ="], None);
        check(&["Y==="], None);
        check(&["=YWJ"], None);
        check(&["YQ=a"], None);
        check(&["YW J"], None);
    }
}
