//! Sending a request to a peer: head and body, from memory, from a file, or as the client sends it.
//!
//! An upstream may answer before it has taken all: whoever cannot go on listens.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use net::{Buf, Deadline};
use os::errlog::{Errno, Level};

use super::codec::Codec;
use super::connect::Connected;
use super::exchange::{Doing, Early, Failure, SENDING, Trouble, client_gone};
use super::settings::next;
use super::{Framing, PlanBody, Relay};
use crate::body::{BodyError, RequestBody};
use crate::request::Request;

/// Bytes of a streamed request body in flight.
const BODY_PIECE: usize = 16 << 10;
/// Bytes of a body that is read from its file to be framed.
const FILE_PIECE: usize = 128 << 10;

/// What leaves first of a request.
pub(super) struct Front {
    /// What of the body leaves together with the head, as it is sent.
    piece: Buf,
    /// It is all of a body in memory instead.
    is_whole: bool,
    /// Bytes of both.
    length: usize,
    /// How many of them are gone.
    sent: usize,
}

impl Relay<'_> {
    /// Begins to send the request, which mostly is all: what is not sent is to be [sent on](Self::send_on).
    pub(super) fn begin_send(
        &mut self,
        r: &mut Request,
        conn: &Connected,
        cx: &mut Context<'_>,
    ) -> Result<Option<Front>, Trouble> {
        self.is_request_whole = false;
        let mut front = self.front(r);
        let written = self.write_front(r, conn, &mut front, cx);
        self.count_sent(r, front.sent);
        match written {
            Poll::Ready(Ok(())) if !self.has_rest(r) => {
                self.is_request_whole = true;
                Ok(None)
            }
            Poll::Ready(Err(error)) => Err(self.unsent(r, conn, Wait::Failed(error))),
            _ => Ok(Some(front)),
        }
    }

    /// Sends what is left of the request; an upstream that answers before its end is listened to.
    pub(super) async fn send_on(
        &mut self,
        r: &mut Request,
        conn: &Connected,
        deadline: &Deadline,
        mut front: Front,
    ) -> Result<(), Trouble> {
        let begun = front.sent;
        if begun < front.length {
            deadline.set_after(self.settings.send_timeout);
            // Whether there is room was asked just now.
            let mut may_have_room = false;
            let result = poll_fn(|cx| {
                if std::mem::replace(&mut may_have_room, true)
                    && let Poll::Ready(written) = self.write_front(r, conn, &mut front, cx)
                {
                    return Poll::Ready(written.map_err(Wait::Failed));
                }
                self.poll_stuck(cx, r, conn, deadline)
            })
            .await;
            self.count_sent(r, front.sent - begun);
            result.map_err(|wait| self.unsent(r, conn, wait))?;
            if front.sent < front.length {
                // The upstream has answered: what is left of the request is not wanted.
                return Ok(());
            }
        }
        if self.has_rest(r) {
            return self.send_rest(r, conn, deadline).await;
        }
        self.is_request_whole = true;
        Ok(())
    }

    /// What leaves first: the head, and together with it what of the body is in memory.
    fn front(&mut self, r: &mut Request) -> Front {
        let whole = match self.plan.body {
            PlanBody::Whole if self.plan.framing == Framing::Plain => r.body.memory().map(<[u8]>::len),
            _ => None,
        };
        let piece = if self.plan.body == PlanBody::None { Buf::empty() } else { self.first_piece(r) };
        let length = self.plan.head.len() + whole.unwrap_or(piece.len());
        Front { piece, is_whole: whole.is_some(), length, sent: 0 }
    }

    /// Writes of it what the peer takes; ready when nothing is left.
    fn write_front(
        &self,
        r: &Request,
        conn: &Connected,
        front: &mut Front,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let head = &self.plan.head;
        let body = if front.is_whole { r.body.memory().unwrap_or_default() } else { &front.piece[..] };
        while front.sent < front.length {
            let left = head.get(front.sent..).unwrap_or_default();
            let written = if left.is_empty() {
                conn.stream().poll_send(cx, body.get(front.sent - head.len()..).unwrap_or_default())
            } else if body.is_empty() {
                conn.stream().poll_send(cx, left)
            } else {
                conn.stream().poll_send_vectored(cx, &[io::IoSlice::new(left), io::IoSlice::new(body)])
            };
            front.sent += ready!(written)?;
        }
        Poll::Ready(Ok(()))
    }

    /// So many bytes more have gone.
    fn count_sent(&mut self, r: &mut Request, count: usize) {
        self.is_request_sent |= count > 0;
        if let Some(state) = r.upstreams.last_mut() {
            state.sent += count as u64;
        }
    }

    /// Whether more of the body follows than leaves together with the head.
    fn has_rest(&self, r: &Request) -> bool {
        match self.plan.body {
            PlanBody::None => false,
            PlanBody::Whole => matches!(r.body, RequestBody::File { .. }),
            PlanBody::Stream => true,
        }
    }

    /// Sends what of a body does not leave together with the head.
    async fn send_rest(
        &mut self,
        r: &mut Request,
        conn: &Connected,
        deadline: &Deadline,
    ) -> Result<(), Trouble> {
        let (file, length) = match (self.plan.body, &r.body) {
            (PlanBody::Whole, RequestBody::File { file, length, .. }) => (Rc::clone(file), *length),
            _ => {
                conn.send_small_pieces();
                return self.send_pieces(r, conn, deadline, Pieces::Client).await;
            }
        };
        if self.plan.framing == Framing::Plain {
            return self.send_file(r, conn, deadline, &file, length).await;
        }
        let mut offset = 0;
        self.send_pieces(r, conn, deadline, Pieces::File { file, offset: &mut offset, length }).await
    }

    /// What of a body that is sent in pieces is there already, framed: all of one that lies in memory.
    fn first_piece(&mut self, r: &mut Request) -> Buf {
        let mut framed = Buf::empty();
        match (self.plan.body, &r.body) {
            (PlanBody::Stream, _) => {
                let piece = r.reader.take_ahead();
                if !piece.is_empty() {
                    r.received += piece.len() as u64;
                    self.body_is_spent = true;
                    self.frame_piece(&piece, &mut framed);
                }
            }
            (PlanBody::Whole, body) if self.plan.framing == Framing::Pieces => {
                if let Some(body) = body.memory() {
                    self.frame_piece(body, &mut framed);
                    self.frame_piece(b"", &mut framed);
                }
            }
            _ => {}
        }
        framed
    }

    /// Appends a piece of a body as it goes to the upstream; an empty one ends it.
    fn frame_piece(&self, piece: &[u8], framed: &mut Buf) {
        framed.reserve(piece.len() + 32);
        match self.plan.framing {
            Framing::Plain => framed.extend_from_slice(piece),
            Framing::Pieces => self.wire.frame(piece, framed),
        }
    }

    /// While the upstream takes no more: it may have answered already, or the client may be gone.
    fn poll_stuck(
        &mut self,
        cx: &mut Context<'_>,
        r: &mut Request,
        conn: &Connected,
        deadline: &Deadline,
    ) -> Poll<Result<(), Wait>> {
        while let Poll::Ready(result) = conn.stream().poll_readable(cx) {
            if let Err(error) = result {
                return Poll::Ready(Err(Wait::Failed(error)));
            }
            if self.hear(r, conn) == Early::Answer {
                return Poll::Ready(Ok(()));
            }
        }
        if !r.ignores_client_abort && r.poll_client_gone(cx).is_ready() {
            return Poll::Ready(Err(Wait::ClientGone));
        }
        deadline.poll_over(cx).map(|()| Err(Wait::TimedOut))
    }

    /// Tells why the request did not go.
    #[cold]
    fn unsent(&self, r: &Request, conn: &Connected, wait: Wait) -> Trouble {
        let fail = |kind| {
            let while_doing = Doing::Sending;
            Trouble::Peer(Failure { kind, is_stale: conn.is_reused, is_final: false, while_doing })
        };
        match wait {
            Wait::ClientGone => Trouble::Client(client_gone(r, SENDING)),
            Wait::TimedOut => {
                r.log(
                    Level::Error,
                    format_args!("upstream timed out (110: Connection timed out) while {SENDING}"),
                );
                fail(next::TIMEOUT)
            }
            Wait::Failed(error) => {
                let call = net::tls::failed_call(&error, "send()", "SSL_write()");
                r.log(Level::Error, format_args!("{call} failed {} while {SENDING}", Errno(&error)));
                fail(next::ERROR)
            }
        }
    }

    /// A body that was written to a file goes from there.
    async fn send_file(
        &mut self,
        r: &mut Request,
        conn: &Connected,
        deadline: &Deadline,
        file: &std::fs::File,
        length: u64,
    ) -> Result<(), Trouble> {
        let sent = self
            .send_all(r, conn, deadline, length, |cx, at| {
                let count = usize::try_from((length - at).min(2 << 20)).unwrap_or(usize::MAX);
                match ready!(conn.stream().poll_send_file(cx, file, at, count)) {
                    Ok(0) => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                    sent => Poll::Ready(sent),
                }
            })
            .await?;
        self.is_request_whole = sent == length;
        Ok(())
    }

    /// A body that is handed on as it comes in (`request_buffering off`), or piece by piece from its file.
    async fn send_pieces(
        &mut self,
        r: &mut Request,
        conn: &Connected,
        deadline: &Deadline,
        mut pieces: Pieces<'_>,
    ) -> Result<(), Trouble> {
        let mut piece = Buf::empty();
        let mut framed = Buf::empty();
        loop {
            piece.clear();
            framed.clear();
            let read = match &mut pieces {
                Pieces::Client => self.read_piece(r, conn, &mut piece).await,
                Pieces::File { file, offset, length } => read_file(file, offset, *length, &mut piece),
            };
            let count = match read {
                Ok(Some(count)) => count,
                Ok(None) if self.hear(r, conn) == Early::Part => continue,
                // The upstream has answered: what is left of the body is not wanted.
                Ok(None) => return Ok(()),
                Err(error) => {
                    let outcome = error.outcome(r);
                    return Err(Trouble::Client(outcome));
                }
            };
            self.body_is_spent |= count > 0 && matches!(pieces, Pieces::Client);
            self.frame_piece(&piece, &mut framed);
            // The end goes along where it is known by then.
            let is_last = count == 0 || (matches!(pieces, Pieces::Client) && !r.reader.is_open());
            if is_last && count > 0 {
                self.frame_piece(b"", &mut framed);
            }
            deadline.set_after(self.settings.send_timeout);
            let length = framed.len() as u64;
            let sent = self
                .send_all(r, conn, deadline, length, |cx, at| {
                    let left = usize::try_from(at).ok().and_then(|at| framed.get(at..)).unwrap_or_default();
                    conn.stream().poll_send(cx, left)
                })
                .await?;
            if sent < length {
                return Ok(());
            }
            if is_last {
                self.is_request_whole = true;
                return Ok(());
            }
        }
    }

    /// Sends so many bytes by `write`, which is told how many have gone. Gives the number that went before the upstream
    /// answered.
    async fn send_all(
        &mut self,
        r: &mut Request,
        conn: &Connected,
        deadline: &Deadline,
        length: u64,
        mut write: impl FnMut(&mut Context<'_>, u64) -> Poll<io::Result<usize>>,
    ) -> Result<u64, Trouble> {
        let mut sent = 0;
        let result = poll_fn(|cx| {
            while sent < length {
                match write(cx, sent) {
                    Poll::Ready(Ok(count)) => {
                        sent += count as u64;
                        deadline.set_after(self.settings.send_timeout);
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(Wait::Failed(error))),
                    Poll::Pending => return self.poll_stuck(cx, r, conn, deadline),
                }
            }
            Poll::Ready(Ok(()))
        })
        .await;
        if let Some(state) = r.upstreams.last_mut() {
            state.sent += sent;
        }
        result.map_err(|wait| self.unsent(r, conn, wait))?;
        Ok(sent)
    }

    /// Reads a piece of the client's body; `None` when the upstream says something first.
    async fn read_piece(
        &self,
        r: &mut Request,
        conn: &Connected,
        piece: &mut Buf,
    ) -> Result<Option<usize>, BodyError> {
        piece.reserve(BODY_PIECE);
        let mut reading = std::pin::pin!(crate::body::read_some(r, piece, BODY_PIECE));
        poll_fn(|cx| {
            if let Poll::Ready(read) = reading.as_mut().poll(cx) {
                return Poll::Ready(read.map(Some));
            }
            if conn.stream().poll_readable(cx).is_ready() {
                return Poll::Ready(Ok(None));
            }
            Poll::Pending
        })
        .await
    }
}

/// Where the pieces of a body come from.
enum Pieces<'a> {
    /// From the client, as they come in.
    Client,
    /// From the file that the body was written to.
    File { file: Rc<std::fs::File>, offset: &'a mut u64, length: u64 },
}

/// Reads the next piece of a body's file; zero bytes are its end.
fn read_file(
    file: &std::fs::File,
    offset: &mut u64,
    length: u64,
    piece: &mut Buf,
) -> Result<Option<usize>, BodyError> {
    let wanted = usize::try_from(length.saturating_sub(*offset)).unwrap_or(usize::MAX).min(FILE_PIECE);
    if wanted == 0 {
        return Ok(Some(0));
    }
    piece.reserve(wanted);
    let count = os::io::pread_append(std::os::fd::AsFd::as_fd(file), piece, wanted, *offset)
        .map_err(BodyError::File)?;
    if count == 0 {
        return Err(BodyError::File(io::ErrorKind::UnexpectedEof.into()));
    }
    *offset += count as u64;
    Ok(Some(count))
}

/// How sending ended early.
enum Wait {
    Failed(io::Error),
    TimedOut,
    ClientGone,
}
