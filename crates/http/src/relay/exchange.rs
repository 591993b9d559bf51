//! One attempt at one peer: connect, send the request, read the head of the answer.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use net::{Buf, Deadline};
use os::errlog::{Errno, Level};
use proto::h1::{Progress, ResponseError, Version};

use super::connect::{self, Connected, OpenError};
use super::settings::next;
use super::{PlanBody, Relay, now};
use crate::body::{BodyError, RequestBody};
use crate::cycle::Worker;
use crate::phases::Outcome;
use crate::request::Request;
use crate::trace;

/// Bytes that the first read of an answer asks for: head and most bodies in one call.
const FIRST_READ: usize = 32 << 10;
/// Most fields of an answer.
const MAX_FIELDS: usize = 1000;
/// Bytes of a streamed request body in flight.
const BODY_PIECE: usize = 16 << 10;

/// Why an attempt failed, in terms of `next_upstream`.
#[derive(Debug)]
pub(super) struct Failure {
    /// The condition, one bit of [`next`].
    pub kind: u32,
    /// The connection had served other requests before.
    pub is_stale: bool,
    /// No other peer is to be tried, whatever the configuration allows.
    pub is_final: bool,
    /// For the log: what was being done.
    pub while_doing: &'static str,
}

impl Failure {
    pub(super) fn status(&self) -> u16 {
        match self.kind {
            next::TIMEOUT | next::HTTP_504 => 504,
            next::HTTP_500 => 500,
            next::HTTP_503 => 503,
            next::HTTP_403 => 403,
            next::HTTP_404 => 404,
            next::HTTP_429 => 429,
            _ => 502,
        }
    }
}

/// What ends a wait for the upstream.
enum Waited {
    Ready,
    TimedOut,
    ClientGone,
}

const CONNECTING: &str = "connecting to upstream";
const SENDING: &str = "sending request to upstream";
const READING: &str = "reading response header from upstream";

/// What a piece of an exchange came to when it did not succeed.
pub(super) enum Trouble {
    /// The upstream failed.
    Peer(Failure),
    /// The client went away or failed: the request is over.
    Client(Outcome),
}

impl Relay<'_> {
    /// Talks to the peer that was picked. `Ok` is what becomes of the request, `Err` asks for the next peer.
    pub(super) async fn exchange(&mut self, r: &mut Request) -> Result<Outcome, Failure> {
        let deadline = Rc::clone(&r.peer_deadline);
        let done = self.talk(r, &deadline).await;
        match done {
            Ok((conn, buf)) => self.answer(r, conn, buf).await,
            Err(Trouble::Client(outcome)) => Ok(outcome),
            Err(Trouble::Peer(failure)) => Err(failure),
        }
    }

    async fn talk(&mut self, r: &mut Request, deadline: &Deadline) -> Result<(Connected, Buf), Trouble> {
        let conn = self.connect(r, deadline).await?;
        self.send(r, &conn, deadline).await?;
        let buf = self.read_head(r, &conn, deadline).await?;
        Ok((conn, buf))
    }

    async fn connect(&mut self, r: &mut Request, deadline: &Deadline) -> Result<Connected, Trouble> {
        let worker = Worker::current();
        let fail =
            |kind| Trouble::Peer(Failure { kind, is_stale: false, is_final: false, while_doing: CONNECTING });
        let Some(peer) = self.attempt.peer() else { return Err(fail(next::ERROR)) };
        if let Some(conn) = connect::reuse(&self.upstream, peer, self.location, &worker, now()) {
            if let Some(state) = r.upstreams.last_mut() {
                state.connect_ms = Some(0);
            }
            return Ok(conn);
        }
        let opened = {
            let opening = connect::open(r, &self.upstream, self.settings, peer, self.location, deadline);
            let mut opening = std::pin::pin!(opening);
            let is_abort_ignored = self.settings.ignore_client_abort;
            poll_fn(|cx| {
                if let Poll::Ready(opened) = opening.as_mut().poll(cx) {
                    return Poll::Ready(Some(opened));
                }
                if !is_abort_ignored && r.poll_client_gone(cx).is_ready() {
                    return Poll::Ready(None);
                }
                Poll::Pending
            })
            .await
        };
        let opened = match opened {
            None => return Err(Trouble::Client(client_gone(r, CONNECTING))),
            Some(opened) => opened,
        };
        match opened {
            Ok(conn) => {
                if let Some(state) = r.upstreams.last_mut() {
                    state.connect_ms = Some(net::timer::now_ms().saturating_sub(state.started_ms));
                }
                Ok(conn)
            }
            Err(OpenError::TimedOut) => {
                r.log(
                    Level::Error,
                    format_args!("upstream timed out (110: Connection timed out) while {CONNECTING}"),
                );
                Err(fail(next::TIMEOUT))
            }
            Err(OpenError::Refused(error)) => {
                let name = self.attempt.peer().map(|peer| Arc::clone(&peer.name)).unwrap_or_default();
                r.log(
                    level_of(&error),
                    format_args!("connect() to {name} failed {} while {CONNECTING}", Errno(&error)),
                );
                Err(fail(next::ERROR))
            }
            Err(OpenError::Failed(error)) => {
                r.log(
                    level_of(&error),
                    format_args!("connect() failed {} while {CONNECTING}", Errno(&error)),
                );
                Err(fail(next::ERROR))
            }
            Err(OpenError::Bind(local, error)) => {
                r.log(Level::Crit, format_args!("bind({local}) failed {} while {CONNECTING}", Errno(&error)));
                Err(Trouble::Client(Outcome::Status(500)))
            }
            Err(OpenError::Socket(error)) => {
                r.log(Level::Alert, format_args!("socket() failed {} while {CONNECTING}", Errno(&error)));
                Err(Trouble::Client(Outcome::Status(500)))
            }
        }
    }

    /// Sends the request; an upstream that answers before its end is listened to.
    async fn send(&mut self, r: &mut Request, conn: &Connected, deadline: &Deadline) -> Result<(), Trouble> {
        deadline.set_after(self.settings.send_timeout);
        self.is_request_whole = false;
        let mut sent = 0usize;
        let head = std::mem::take(&mut self.plan.head);
        // What goes in front of the first piece of a body is sent together with it where that is in memory.
        let whole = match (&self.plan.body, &r.body) {
            (PlanBody::Whole, RequestBody::Memory(body)) => Some(body.len()),
            _ => None,
        };
        let first = self.first_piece(r);
        let total = head.len() + whole.unwrap_or(first.len());
        let result = poll_fn(|cx| {
            let body = match &r.body {
                RequestBody::Memory(body) if whole.is_some() => &body[..],
                _ => &first[..],
            };
            while sent < total {
                let written = if sent < head.len() && !body.is_empty() {
                    let slices = [io::IoSlice::new(&head[sent..]), io::IoSlice::new(body)];
                    conn.stream().poll_send_vectored(cx, &slices)
                } else if sent < head.len() {
                    conn.stream().poll_send(cx, &head[sent..])
                } else {
                    conn.stream().poll_send(cx, &body[sent - head.len()..])
                };
                match written {
                    Poll::Ready(Ok(count)) => sent += count,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(Wait::Failed(error))),
                    Poll::Pending => return self.poll_stuck(cx, r, conn, deadline),
                }
            }
            Poll::Ready(Ok(()))
        })
        .await;
        self.plan.head = head;
        self.is_request_sent |= sent > 0;
        if let Some(state) = r.upstreams.last_mut() {
            state.sent += sent as u64;
        }
        self.conclude_sending(r, conn, result)?;
        if sent < total {
            // The upstream has answered: what is left of the request is not wanted.
            return Ok(());
        }
        match self.plan.body {
            PlanBody::Whole if whole.is_none() => self.send_file(r, conn, deadline).await,
            PlanBody::Stream | PlanBody::StreamChunked => {
                conn.send_small_pieces();
                self.send_stream(r, conn, deadline).await
            }
            PlanBody::None | PlanBody::Whole => {
                self.is_request_whole = true;
                Ok(())
            }
        }
    }

    /// What of a streamed body is there already, framed.
    fn first_piece(&mut self, r: &mut Request) -> Buf {
        if !matches!(self.plan.body, PlanBody::Stream | PlanBody::StreamChunked) {
            return Buf::empty();
        }
        let piece = r.reader.take_ahead();
        if piece.is_empty() {
            return piece;
        }
        r.received += piece.len() as u64;
        self.body_is_spent = true;
        let mut framed = Buf::with_capacity(piece.len() + 32);
        self.frame_piece(&piece, &mut framed);
        framed
    }

    /// Appends a piece of a streamed body as it goes to the upstream; an empty one ends it.
    fn frame_piece(&self, piece: &[u8], framed: &mut Buf) {
        if self.plan.body != PlanBody::StreamChunked {
            framed.extend_from_slice(piece);
        } else if piece.is_empty() {
            framed.extend_from_slice(proto::h1::LAST_CHUNK);
        } else {
            framed.extend_from_slice(proto::h1::write_chunk_header(piece.len() as u64, &mut [0; 18]));
            framed.extend_from_slice(piece);
            framed.extend_from_slice(b"\r\n");
        }
    }

    /// While the upstream takes no more: it may have answered already, or the client may be gone.
    fn poll_stuck(
        &self,
        cx: &mut Context<'_>,
        r: &Request,
        conn: &Connected,
        deadline: &Deadline,
    ) -> Poll<Result<(), Wait>> {
        if let Poll::Ready(result) = conn.stream().poll_readable(cx) {
            return Poll::Ready(result.map_err(Wait::Failed));
        }
        if !self.settings.ignore_client_abort && r.poll_client_gone(cx).is_ready() {
            return Poll::Ready(Err(Wait::ClientGone));
        }
        deadline.poll_over(cx).map(|()| Err(Wait::TimedOut))
    }

    fn conclude_sending(
        &self,
        r: &Request,
        conn: &Connected,
        result: Result<(), Wait>,
    ) -> Result<(), Trouble> {
        let fail = |kind| {
            Trouble::Peer(Failure { kind, is_stale: conn.is_reused, is_final: false, while_doing: SENDING })
        };
        match result {
            Ok(()) => Ok(()),
            Err(Wait::ClientGone) => Err(Trouble::Client(client_gone(r, SENDING))),
            Err(Wait::TimedOut) => {
                r.log(
                    Level::Error,
                    format_args!("upstream timed out (110: Connection timed out) while {SENDING}"),
                );
                Err(fail(next::TIMEOUT))
            }
            Err(Wait::Failed(error)) => {
                r.log(Level::Error, format_args!("send() failed {} while {SENDING}", Errno(&error)));
                Err(fail(next::ERROR))
            }
        }
    }

    /// A body that was written to a file goes from there.
    async fn send_file(
        &mut self,
        r: &mut Request,
        conn: &Connected,
        deadline: &Deadline,
    ) -> Result<(), Trouble> {
        let RequestBody::File { file, length, .. } = &r.body else { return Ok(()) };
        let (file, length) = (Rc::clone(file), *length);
        let mut offset = 0u64;
        let result = poll_fn(|cx| {
            while offset < length {
                let count = usize::try_from((length - offset).min(2 << 20)).unwrap_or(usize::MAX);
                let written = conn.stream().poll_write_with(cx, |fd| {
                    let mut at = offset;
                    os::io::sendfile(fd, std::os::fd::AsFd::as_fd(&*file), &mut at, count)
                });
                match written {
                    Poll::Ready(Ok(0)) => {
                        return Poll::Ready(Err(Wait::Failed(io::ErrorKind::UnexpectedEof.into())));
                    }
                    Poll::Ready(Ok(count)) => {
                        offset += count as u64;
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
            state.sent += offset;
        }
        self.is_request_whole = offset == length;
        self.conclude_sending(r, conn, result)
    }

    /// A body that is handed on as it comes in (`proxy_request_buffering off`).
    async fn send_stream(
        &mut self,
        r: &mut Request,
        conn: &Connected,
        deadline: &Deadline,
    ) -> Result<(), Trouble> {
        let mut piece = Buf::with_capacity(BODY_PIECE);
        let mut framed = Buf::with_capacity(BODY_PIECE);
        loop {
            piece.clear();
            framed.clear();
            let count = match self.read_piece(r, conn, &mut piece).await {
                Ok(Some(count)) => count,
                // The upstream has answered: what is left of the body is not wanted.
                Ok(None) => return Ok(()),
                Err(error) => {
                    let outcome = error.outcome(r);
                    return Err(Trouble::Client(outcome));
                }
            };
            self.body_is_spent |= count > 0;
            self.frame_piece(&piece, &mut framed);
            deadline.set_after(self.settings.send_timeout);
            let mut sent = 0;
            let result = poll_fn(|cx| {
                while sent < framed.len() {
                    match conn.stream().poll_send(cx, &framed[sent..]) {
                        Poll::Ready(Ok(count)) => sent += count,
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(Wait::Failed(error))),
                        Poll::Pending => return self.poll_stuck(cx, r, conn, deadline),
                    }
                }
                Poll::Ready(Ok(()))
            })
            .await;
            if let Some(state) = r.upstreams.last_mut() {
                state.sent += sent as u64;
            }
            self.conclude_sending(r, conn, result)?;
            if sent < framed.len() {
                return Ok(());
            }
            if count == 0 {
                self.is_request_whole = true;
                return Ok(());
            }
        }
    }

    /// Reads a piece of the client's body; `None` when the upstream answers first.
    async fn read_piece(
        &self,
        r: &mut Request,
        conn: &Connected,
        piece: &mut Buf,
    ) -> Result<Option<usize>, BodyError> {
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

    async fn wait(&self, r: &Request, conn: &Connected, deadline: &Deadline) -> Waited {
        poll_fn(|cx| {
            if conn.stream().poll_readable(cx).is_ready() {
                return Poll::Ready(Waited::Ready);
            }
            if !self.settings.ignore_client_abort && r.poll_client_gone(cx).is_ready() {
                return Poll::Ready(Waited::ClientGone);
            }
            deadline.poll_over(cx).map(|()| Waited::TimedOut)
        })
        .await
    }

    /// Reads until the head is complete; interim answers are dropped. What follows the head is in the buffer.
    async fn read_head(
        &self,
        r: &mut Request,
        conn: &Connected,
        deadline: &Deadline,
    ) -> Result<Buf, Trouble> {
        let fail = |kind| {
            Trouble::Peer(Failure { kind, is_stale: conn.is_reused, is_final: false, while_doing: READING })
        };
        let mut buf = Buf::empty();
        r.upstream_head.clear();
        loop {
            deadline.set_after(self.settings.read_timeout);
            match self.wait(r, conn, deadline).await {
                Waited::Ready => {}
                Waited::ClientGone => return Err(Trouble::Client(client_gone(r, SENDING))),
                Waited::TimedOut => {
                    r.log(
                        Level::Error,
                        format_args!("upstream timed out (110: Connection timed out) while {READING}"),
                    );
                    return Err(fail(next::TIMEOUT));
                }
            }
            buf.reserve(FIRST_READ);
            match conn.stream().try_recv(&mut buf, FIRST_READ) {
                Ok(None) => continue,
                Ok(Some(0)) => {
                    r.log(
                        Level::Error,
                        format_args!("upstream prematurely closed connection while {READING}"),
                    );
                    return Err(fail(next::ERROR));
                }
                Ok(Some(count)) => {
                    if let Some(state) = r.upstreams.last_mut() {
                        state.received += count as u64;
                    }
                }
                Err(error) => {
                    r.log(Level::Error, format_args!("recv() failed {} while {READING}", Errno(&error)));
                    return Err(fail(next::ERROR));
                }
            }
            match self.parse_head(r, &mut buf) {
                Ok(Progress::Complete) => {
                    r.upstream_head.text.extend_from_slice(&buf[..r.upstream_head.head.length]);
                    trace::upstream_head(r);
                    return Ok(buf);
                }
                Ok(Progress::Partial) => {}
                Err(kind) => return Err(fail(kind)),
            }
        }
    }

    /// Parses what is there; interim answers (1xx but 101) are cut off.
    fn parse_head(&self, r: &mut Request, buf: &mut Buf) -> Result<Progress, u32> {
        loop {
            let parsed = r.upstream_head.head.parse(buf, self.settings.buffer_size, MAX_FIELDS);
            match parsed {
                Ok(Progress::Complete) => {
                    let status = r.upstream_head.head.status;
                    if !(100..200).contains(&status) || status == 101 {
                        return Ok(Progress::Complete);
                    }
                    let length = r.upstream_head.head.length;
                    buf.drain(..length);
                    r.upstream_head.head.reset();
                }
                Ok(Progress::Partial) => return Ok(Progress::Partial),
                Err(ResponseError::NoStatusLine) => {
                    r.log(
                        Level::Error,
                        format_args!("upstream sent no valid HTTP/1.0 header while {READING}"),
                    );
                    // As nginx: all that comes is the body of a 200.
                    r.upstream_head.head.reset();
                    r.upstream_head.head.status = 200;
                    r.upstream_head.head.version = Version::HTTP_09;
                    // The client gets it as it came, without a head.
                    r.line.version = Version::HTTP_09;
                    return Ok(Progress::Complete);
                }
                Err(error) => {
                    let culprit = String::from_utf8_lossy(r.upstream_head.head.culprit.of(buf)).into_owned();
                    match error {
                        ResponseError::InvalidHeader => {
                            let wrong =
                                buf.get(r.upstream_head.head.culprit.end as usize).copied().unwrap_or(b'\n');
                            r.log(
                                Level::Error,
                                format_args!("{error}: \"{culprit}\\x{wrong:02x}...\" while {READING}"),
                            );
                        }
                        _ => r.log(Level::Error, format_args!("{error} while {READING}")),
                    }
                    return Err(next::INVALID_HEADER);
                }
            }
        }
    }
}

/// How sending ended early.
enum Wait {
    Failed(io::Error),
    TimedOut,
    ClientGone,
}

/// The client closed while its request was being passed on.
pub(super) fn client_gone(r: &Request, doing: &str) -> Outcome {
    r.log(
        Level::Info,
        format_args!(
            "epoll_wait() reported that client prematurely closed connection, so upstream connection is closed too \
             while {doing}"
        ),
    );
    Outcome::Broken(499)
}

/// Faults of this machine rather than of the peer are critical. A Unix peer whose backlog is full would block.
fn level_of(error: &io::Error) -> Level {
    match error.kind() {
        io::ErrorKind::ConnectionRefused
        | io::ErrorKind::WouldBlock
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::NotConnected
        | io::ErrorKind::TimedOut => Level::Error,
        _ => Level::Crit,
    }
}
