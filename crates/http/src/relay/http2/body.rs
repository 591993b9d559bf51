//! The request's body on its way to the upstream, in DATA frames within the upstream's windows.

use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use net::Buf;

use crate::body::{self, BodyError, RequestBody};
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
