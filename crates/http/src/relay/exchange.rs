//! One attempt at one peer: connect, send the request, read the head of the answer.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use net::{Buf, Deadline};
use os::errlog::{Errno, Level};
use upstream::Peer;

use super::codec::{Codec, HeadStep, Opening, SendError};
use super::connect::{self, Connected, OpenError};
use super::settings::next;
use super::tls::{TlsError, Wanted};
use super::{Framing, PlanBody, Relay, now};
use crate::body::{BodyError, RequestBody};
use crate::cycle::Worker;
use crate::phases::Outcome;
use crate::request::Request;
use crate::trace;

/// Bytes that the first read of an answer asks for: head and most bodies in one call.
const FIRST_READ: usize = 32 << 10;
/// Most fields of an answer.
pub const MAX_FIELDS: usize = 1000;
/// Bytes of a streamed request body in flight.
const BODY_PIECE: usize = 16 << 10;
/// Bytes of a body that is read from its file to be framed.
const FILE_PIECE: usize = 128 << 10;

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

/// What came of waiting for the upstream's head.
enum Waited {
    /// It is complete: where the body begins, or the condition of `next_upstream`.
    Head(Result<usize, u32>),
    Closed,
    Failed(io::Error),
    Unsent(SendError),
    TimedOut,
    ClientGone,
}

const CONNECTING: &str = "connecting to upstream";
const SENDING: &str = "sending request to upstream";
/// For the error log: what is done until the head is there.
pub const READING: &str = "reading response header from upstream";

/// A complete head and what came with it.
pub(super) struct Answer {
    /// The connection.
    pub conn: Connected,
    /// What was read.
    pub buf: Buf,
    /// Where the body begins in it.
    pub body: usize,
}

impl Answer {
    /// What has come behind the head.
    pub(super) fn rest(&self) -> &[u8] {
        self.buf.get(self.body..).unwrap_or_default()
    }
}

/// What was read of an answer before its head was complete.
#[derive(Default)]
pub(super) struct Heard {
    buf: Buf,
    /// Where the body begins, or the condition of `next_upstream`, once the head is decided.
    head: Option<Result<usize, u32>>,
}

/// What a look at the connection brought while the request is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Early {
    /// The head, or the end of the connection: what is left of the request is not wanted.
    Answer,
    /// Something that is no head yet: the upstream may still wait for the rest of the request.
    Part,
}

/// What a piece of an exchange came to when it did not succeed.
pub(super) enum Trouble {
    /// The upstream failed.
    Peer(Failure),
    /// The client went away or failed: the request is over.
    Client(Outcome),
}

/// A connection that could not be had.
fn not_connected(kind: u32) -> Trouble {
    Trouble::Peer(Failure { kind, is_stale: false, is_final: false, while_doing: CONNECTING })
}

impl Relay<'_> {
    /// Talks to the peer that was picked. `Ok` is what becomes of the request, `Err` asks for the next peer.
    pub(super) async fn exchange(&mut self, r: &mut Request) -> Result<Outcome, Failure> {
        let deadline = Rc::clone(&r.peer_deadline);
        self.wire = self.protocol.wire(r);
        let done = self.talk(r, &deadline).await;
        match done {
            Ok(answer) => self.answer(r, answer).await,
            Err(Trouble::Client(outcome)) => Ok(outcome),
            Err(Trouble::Peer(failure)) => Err(failure),
        }
    }

    async fn talk(&mut self, r: &mut Request, deadline: &Deadline) -> Result<Answer, Trouble> {
        let wanted = self.wanted(r)?;
        let conn = match self.reuse(r, wanted.as_ref())? {
            Some(conn) => conn,
            // A request for which a connection is at hand is not to carry what opening one takes.
            None => Box::pin(self.open(r, wanted.as_ref(), deadline)).await?,
        };
        self.talk_over(r, conn, deadline).await
    }

    /// Sends the request over a connection and reads the head of the answer.
    pub(super) async fn talk_over(
        &mut self,
        r: &mut Request,
        mut conn: Connected,
        deadline: &Deadline,
    ) -> Result<Answer, Trouble> {
        r.upstream_head.clear();
        self.heard = Heard::default();
        if self.wire.open(r, &mut conn.pooled.conn, &self.plan, self.settings) == Opening::Plan {
            self.send(r, &conn, deadline).await?;
        } else {
            self.is_request_sent = true;
            self.is_request_whole = true;
            conn.send_small_pieces();
        }
        let (buf, body) = self.read_head(r, &conn, deadline).await?;
        Ok(Answer { conn, buf, body })
    }

    /// An idle connection to the peer.
    fn reuse(&self, r: &mut Request, wanted: Option<&Wanted>) -> Result<Option<Connected>, Trouble> {
        let Some(peer) = self.attempt.peer() else { return Err(not_connected(next::ERROR)) };
        let (upstream, location, channel) = (&self.upstream, self.location, self.wire.channel());
        let conn = connect::reuse(upstream, peer, location, wanted, channel, &Worker::current(), now());
        if conn.is_some()
            && let Some(state) = r.upstreams.last_mut()
        {
            state.connect_ms = Some(0);
        }
        Ok(conn)
    }

    /// A new connection to the peer that was picked.
    async fn open(
        &self,
        r: &mut Request,
        wanted: Option<&Wanted>,
        deadline: &Deadline,
    ) -> Result<Connected, Trouble> {
        let Some(peer) = self.attempt.peer() else { return Err(not_connected(next::ERROR)) };
        self.open_to(r, peer, wanted, deadline).await
    }

    /// What TLS towards the peer must be, where the protocol speaks it.
    pub(super) fn wanted(&self, r: &Request) -> Result<Option<Wanted>, Trouble> {
        let Some(alpn) = self.protocol.tls(r) else { return Ok(None) };
        match Wanted::new(r, &self.settings.tls, &self.upstream.name, alpn) {
            Ok(wanted) => Ok(Some(wanted)),
            Err(error) => Err(self.tls_failed(r, error)),
        }
    }

    /// Opens a connection to a peer.
    pub(super) async fn open_to(
        &self,
        r: &mut Request,
        peer: &Peer,
        wanted: Option<&Wanted>,
        deadline: &Deadline,
    ) -> Result<Connected, Trouble> {
        let fail = not_connected;
        let opened = {
            let opening =
                connect::open(r, &self.upstream, self.settings, peer, self.location, wanted, deadline);
            let mut opening = std::pin::pin!(opening);
            let is_abort_ignored = r.ignores_client_abort;
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
            Ok(mut conn) => {
                conn.key.channel = conn.key.channel.take().or_else(|| self.wire.channel());
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
            Err(OpenError::Tls(error)) => Err(self.tls_failed(r, error)),
            Err(OpenError::Refused(error)) => {
                let name = &peer.name;
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

    /// Tells of TLS that does not stand, and what becomes of the request.
    fn tls_failed(&self, r: &Request, error: TlsError) -> Trouble {
        const SHAKING: &str = "SSL handshaking to upstream";
        let fail =
            |kind| Trouble::Peer(Failure { kind, is_stale: false, is_final: false, while_doing: SHAKING });
        match error {
            TlsError::TimedOut => {
                r.log(
                    Level::Error,
                    format_args!("upstream timed out (110: Connection timed out) while {SHAKING}"),
                );
                fail(next::TIMEOUT)
            }
            TlsError::Certificate(sentence) => {
                r.log(Level::Error, format_args!("{sentence} while {SHAKING}"));
                fail(next::ERROR)
            }
            TlsError::Handshake(error) => {
                match net::tls::fault(&error) {
                    Some((net::tls::Error::Closed, _)) => r.log(
                        Level::Error,
                        format_args!("peer closed connection in SSL handshake while {SHAKING}"),
                    ),
                    Some((reason, _)) => {
                        r.log(
                            Level::Error,
                            format_args!("SSL_do_handshake() failed ({reason}) while {SHAKING}"),
                        );
                    }
                    None => r.log(
                        Level::Error,
                        format_args!(
                            "peer closed connection in SSL handshake {} while {SHAKING}",
                            Errno(&error)
                        ),
                    ),
                }
                fail(next::ERROR)
            }
            TlsError::Setup(sentence) => {
                r.log(Level::Error, format_args!("{sentence} while {SHAKING}"));
                Trouble::Client(Outcome::Status(500))
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
        let whole = match self.plan.body {
            PlanBody::Whole if self.plan.framing == Framing::Plain => r.body.memory().map(<[u8]>::len),
            _ => None,
        };
        let first = self.first_piece(r);
        let total = head.len() + whole.unwrap_or(first.len());
        let result = poll_fn(|cx| {
            while sent < total {
                let body = match r.body.memory() {
                    Some(body) if whole.is_some() => body,
                    _ => &first[..],
                };
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
        let has_more = match self.plan.body {
            PlanBody::None => false,
            PlanBody::Whole => matches!(r.body, RequestBody::File { .. }),
            PlanBody::Stream => true,
        };
        if has_more {
            return Box::pin(self.send_rest(r, conn, deadline)).await;
        }
        self.is_request_whole = true;
        Ok(())
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

    /// Reads what has come while the request is on its way. A head that is not complete, or what stands on FastCGI's
    /// stderr, is no answer.
    fn hear(&mut self, r: &mut Request, conn: &Connected) -> Early {
        let mut heard = std::mem::take(&mut self.heard);
        heard.buf.reserve(FIRST_READ);
        let early = match conn.stream().try_recv(&mut heard.buf, FIRST_READ) {
            Ok(None) => Early::Part,
            // The end shows itself again where the head is waited for.
            Ok(Some(0)) | Err(_) => Early::Answer,
            Ok(Some(count)) => {
                count_received(r, count);
                heard.head = self.parse_head(r, &mut heard.buf);
                if heard.head.is_some() { Early::Answer } else { Early::Part }
            }
        };
        self.heard = heard;
        early
    }

    /// What the codec makes of the bytes that are there; `None`: more must be read.
    fn parse_head(&mut self, r: &mut Request, buf: &mut Buf) -> Option<Result<usize, u32>> {
        match self.wire.head(r, buf, self.settings) {
            Ok(HeadStep::Complete { text, body }) => {
                let end = text + r.upstream_head.head.length;
                r.upstream_head.text.extend_from_slice(buf.get(text..end).unwrap_or_default());
                trace::upstream_head(r);
                Some(Ok(body))
            }
            Ok(HeadStep::Partial) => None,
            Err(kind) => Some(Err(kind)),
        }
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
                let call = net::tls::failed_call(&error, "send()", "SSL_write()");
                r.log(Level::Error, format_args!("{call} failed {} while {SENDING}", Errno(&error)));
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
        file: &std::fs::File,
        length: u64,
    ) -> Result<(), Trouble> {
        let mut offset = 0u64;
        let result = poll_fn(|cx| {
            while offset < length {
                let count = usize::try_from((length - offset).min(2 << 20)).unwrap_or(usize::MAX);
                match conn.stream().poll_send_file(cx, file, offset, count) {
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
            let mut sent = 0;
            let result = poll_fn(|cx| {
                while sent < framed.len() {
                    match conn.stream().poll_send(cx, &framed[sent..]) {
                        Poll::Ready(Ok(count)) => {
                            sent += count;
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
                state.sent += sent as u64;
            }
            self.conclude_sending(r, conn, result)?;
            if sent < framed.len() {
                return Ok(());
            }
            if is_last {
                self.is_request_whole = true;
                return Ok(());
            }
        }
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

    /// Reads until the head is complete; gives the buffer, and where the body begins in it.
    async fn read_head(
        &mut self,
        r: &mut Request,
        conn: &Connected,
        deadline: &Deadline,
    ) -> Result<(Buf, usize), Trouble> {
        let Heard { mut buf, mut head } = std::mem::take(&mut self.heard);
        if head.is_none() {
            deadline.set_after(self.settings.read_timeout);
            let waited = poll_fn(|cx| self.poll_head(r, conn, deadline, &mut buf, cx)).await;
            match waited {
                Waited::Head(parsed) => head = Some(parsed),
                broken => return Err(unheard(r, conn, broken)),
            }
        }
        match head {
            Some(Ok(body)) => Ok((buf, body)),
            Some(Err(kind)) => Err(unread(conn, kind)),
            None => Err(unread(conn, next::ERROR)),
        }
    }

    fn poll_head(
        &mut self,
        r: &mut Request,
        conn: &Connected,
        deadline: &Deadline,
        buf: &mut Buf,
        cx: &mut Context<'_>,
    ) -> Poll<Waited> {
        loop {
            if let Poll::Ready(Err(error)) = self.wire.poll_send(r, conn.stream(), deadline, cx) {
                return Poll::Ready(Waited::Unsent(error));
            }
            // A buffer is borrowed only once there is something for it.
            if conn.stream().poll_readable(cx).is_pending() {
                if !r.ignores_client_abort && r.poll_client_gone(cx).is_ready() {
                    return Poll::Ready(Waited::ClientGone);
                }
                return deadline.poll_over(cx).map(|()| Waited::TimedOut);
            }
            buf.reserve(FIRST_READ);
            match conn.stream().try_recv(buf, FIRST_READ) {
                Ok(None) => continue,
                Ok(Some(0)) => return Poll::Ready(Waited::Closed),
                Ok(Some(count)) => count_received(r, count),
                Err(error) => return Poll::Ready(Waited::Failed(error)),
            }
            if let Some(head) = self.parse_head(r, buf) {
                return Poll::Ready(Waited::Head(head));
            }
            if !r.output.queue.is_empty() {
                // Early hints are of use only now. What the client does not take at once leaves with the answer.
                let _ = crate::output::poll_flush(r, cx);
            }
            deadline.set_after(self.settings.read_timeout);
        }
    }
}

fn unread(conn: &Connected, kind: u32) -> Trouble {
    Trouble::Peer(Failure { kind, is_stale: conn.is_reused, is_final: false, while_doing: READING })
}

/// Tells why there is no head.
#[cold]
fn unheard(r: &Request, conn: &Connected, waited: Waited) -> Trouble {
    let (call, error, doing) = match waited {
        Waited::ClientGone => return Trouble::Client(client_gone(r, SENDING)),
        Waited::Unsent(SendError::Client(error)) => return Trouble::Client(error.outcome(r)),
        Waited::Unsent(SendError::Peer(error)) => ("send()", error, SENDING),
        Waited::Failed(error) => (net::tls::failed_call(&error, "recv()", "SSL_read()"), error, READING),
        Waited::TimedOut => {
            r.log(
                Level::Error,
                format_args!("upstream timed out (110: Connection timed out) while {READING}"),
            );
            return unread(conn, next::TIMEOUT);
        }
        Waited::Closed | Waited::Head(_) => {
            r.log(Level::Error, format_args!("upstream prematurely closed connection while {READING}"));
            return unread(conn, next::ERROR);
        }
    };
    r.log(Level::Error, format_args!("{call} failed {} while {doing}", Errno(&error)));
    unread(conn, next::ERROR)
}

fn count_received(r: &mut Request, count: usize) {
    if let Some(state) = r.upstreams.last_mut() {
        state.received += count as u64;
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
