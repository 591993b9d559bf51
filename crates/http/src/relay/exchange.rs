//! One attempt at one peer: connect, send the request, read the head of the answer.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use net::{Buf, Deadline};
use os::errlog::{Errno, Level};
use upstream::Peer;

use super::codec::{self, Carrier, Codec, HeadStep, Received, SendError};
use super::connect::{self, Connected, OpenError, Opening, Start};
use super::head::Judged;
use super::pump::Passed;
use super::send::Front;
use super::settings::next;
use super::tls::{TlsError, Wanted};
use super::{Relay, pump, tunnel};
use crate::output;
use crate::phases::{Outcome, apart, poll_apart};
use crate::request::Request;
use crate::trace;

/// Bytes that the first read of an answer asks for: head and most bodies in one call.
const FIRST_READ: usize = 32 << 10;
/// Most fields of an answer.
pub const MAX_FIELDS: usize = 1000;

/// Why an attempt failed, in terms of `next_upstream`.
#[derive(Debug)]
pub(super) struct Failure {
    /// The condition, one bit of [`next`].
    pub kind: u32,
    /// The connection had served other requests before.
    pub is_stale: bool,
    /// No other peer is to be tried, whatever the configuration allows.
    pub is_final: bool,
    /// What was being done.
    pub while_doing: Doing,
}

/// What was being done when an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    /// A connection was waited for.
    Connecting,
    /// TLS was.
    Handshaking,
    /// The request was sent.
    Sending,
    /// The head of the answer was waited for.
    Reading,
}

impl Doing {
    /// For the log.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Connecting => CONNECTING,
            Self::Handshaking => HANDSHAKING,
            Self::Sending => SENDING,
            Self::Reading => READING,
        }
    }
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

/// Why there is no head of an answer.
enum Unheard {
    Closed,
    Failed(io::Error),
    Unsent(SendError),
    TimedOut,
    ClientGone,
}

pub(super) const CONNECTING: &str = "connecting to upstream";
const HANDSHAKING: &str = "SSL handshaking to upstream";
pub(super) const SENDING: &str = "sending request to upstream";
/// For the error log: what is done until the head is there.
pub const READING: &str = "reading response header from upstream";

/// The connection of an exchange, and what has come over it: in the end a complete head and what follows it. It stays
/// where it is while the peer is talked to, as it is too large to be handed to and fro.
pub(super) struct Answer {
    /// The connection.
    pub conn: Connected,
    /// What was read.
    pub buf: Buf,
    /// Where the body begins in it.
    pub body: usize,
}

impl Answer {
    /// Nothing has come yet.
    pub(super) fn over(conn: Connected) -> Self {
        Self { conn, buf: Buf::empty(), body: 0 }
    }

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
pub(super) enum Early {
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

impl Trouble {
    /// What an exchange comes to with it.
    #[cold]
    fn end(self) -> Result<Outcome, Failure> {
        match self {
            Self::Client(outcome) => Ok(outcome),
            Self::Peer(failure) => Err(failure),
        }
    }
}

/// How far a connection to a peer is at once.
enum Way {
    /// It can be used, and no answer has come over it yet.
    Stands(Answer),
    /// It is to be waited for.
    Waits(Box<Waiting>),
}

/// A connection that is to be waited for.
struct Waiting {
    wanted: Option<Wanted>,
    /// What was begun; nothing where the connection is one that requests share.
    opening: Option<Opening>,
}

/// How much of a request was sent at once.
enum Asked {
    /// All of it: the head of the answer is next.
    Whole,
    /// Some of it.
    Part(Box<Front>),
    /// Nothing is to be sent, and the head of the answer is known.
    Answered,
}

/// A connection that could not be had.
pub(super) fn not_connected(kind: u32) -> Trouble {
    Trouble::Peer(Failure { kind, is_stale: false, is_final: false, while_doing: Doing::Connecting })
}

impl Relay<'_> {
    /// Talks to the peer that was picked. `Ok` is what becomes of the request, `Err` asks for the next peer.
    pub(super) async fn exchange(&mut self, r: &mut Request) -> Result<Outcome, Failure> {
        let deadline = Rc::clone(&r.peer_deadline);
        self.wire = self.protocol.wire(r);
        let mut answer = match self.way(r) {
            Ok(Way::Stands(answer)) => answer,
            // A request for which a connection is at hand is not to carry what another way to one takes.
            Ok(Way::Waits(waiting)) => match apart(self.connection(r, waiting, &deadline)).await {
                Ok(answer) => answer,
                Err(trouble) => return trouble.end(),
            },
            Err(trouble) => return trouble.end(),
        };
        if let Err(trouble) = self.talk_over(r, &mut answer, &deadline).await {
            return trouble.end();
        }
        match self.judge(r) {
            Judged::Failed(failure) => Err(failure),
            Judged::Over(outcome) => Ok(outcome),
            Judged::Unread(end) => {
                self.finish_unread(answer, r);
                end
            }
            Judged::Cached(instead) => Ok(self.answer_from_cache(r, answer, instead)),
            // Boxed, as it would make the future of every request larger.
            Judged::Tunnel => Ok(apart(tunnel::run(self, r, answer)).await),
            Judged::Body(_) if pump::take_whole(self, r, &mut answer) => {
                let flushed = poll_fn(|cx| Poll::Ready(output::poll_write(r, cx))).await;
                let passed = pump::end_whole(self, r, &flushed);
                if passed != Passed::Broken && self.may_serve_on(r) {
                    self.keep(answer);
                } else {
                    drop(answer);
                }
                match passed {
                    Passed::Sent => Ok(Outcome::Sent),
                    Passed::Broken => Ok(Outcome::Broken(0)),
                    Passed::Waits => Ok(apart(pump::finish(r)).await),
                }
            }
            Judged::Body(length) => {
                let mut pumping = pin!(pump::run(self, r, answer, length, &deadline));
                Ok(poll_fn(|cx| poll_apart(pumping.as_mut(), cx)).await)
            }
        }
    }

    /// Looks for a connection to the peer, and begins one where none idles: within the machine it mostly stands at once.
    fn way(&self, r: &mut Request) -> Result<Way, Trouble> {
        let wanted = self.wanted(r)?;
        let peer = self.attempt.peer().ok_or_else(|| not_connected(next::ERROR))?;
        if self.shares() {
            return Ok(Way::Waits(Box::new(Waiting { wanted, opening: None })));
        }
        if let Some(conn) = self.reuse(r, peer, wanted.as_ref()) {
            return Ok(Way::Stands(Answer::over(conn)));
        }
        let opening = self.begin(r, peer)?;
        if opening.stands(self.start(wanted.as_ref())) {
            return Ok(Way::Stands(Answer::over(self.connected(r, peer, wanted.as_ref(), opening))));
        }
        Ok(Way::Waits(Box::new(Waiting { wanted, opening: Some(opening) })))
    }

    /// A connection to the peer that does not stand at once: another's, or a new one.
    async fn connection(
        &self,
        r: &mut Request,
        waiting: Box<Waiting>,
        deadline: &Deadline,
    ) -> Result<Answer, Trouble> {
        let Waiting { wanted, opening } = *waiting;
        let wanted = wanted.as_ref();
        let peer = self.attempt.peer().ok_or_else(|| not_connected(next::ERROR))?;
        let conn = match opening {
            None => Box::pin(self.join(r, peer, wanted, deadline)).await?,
            Some(opening) => {
                self.complete(r, peer, wanted, &opening, deadline).await?;
                self.connected(r, peer, wanted, opening)
            }
        };
        Ok(Answer::over(conn))
    }

    /// Sends the request over a connection and reads the head of the answer.
    pub(super) async fn talk_over(
        &mut self,
        r: &mut Request,
        answer: &mut Answer,
        deadline: &Deadline,
    ) -> Result<(), Trouble> {
        match poll_fn(|cx| Poll::Ready(self.ask(r, answer, deadline, cx))).await? {
            Asked::Whole => poll_fn(|cx| self.poll_head(r, answer, deadline, cx)).await,
            Asked::Answered => Ok(()),
            Asked::Part(front) => apart(self.talk_on(r, answer, deadline, front)).await,
        }
    }

    /// Sends the request as far as the peer takes it at once.
    fn ask(
        &mut self,
        r: &mut Request,
        answer: &mut Answer,
        deadline: &Deadline,
        cx: &mut Context<'_>,
    ) -> Result<Asked, Trouble> {
        r.upstream_head.clear();
        self.heard = None;
        match self.wire.open(r, &mut answer.conn, &self.plan, self.settings) {
            codec::Opening::Plan => {
                if let Some(front) = self.begin_send(r, &answer.conn, cx)? {
                    return Ok(Asked::Part(Box::new(front)));
                }
            }
            codec::Opening::Codec => {
                self.is_request_sent = true;
                self.is_request_whole = true;
                answer.conn.send_small_pieces();
            }
            codec::Opening::Answered(status) => {
                r.upstream_head.head.status = status;
                return Ok(Asked::Answered);
            }
        }
        deadline.set_after(self.settings.read_timeout);
        Ok(Asked::Whole)
    }

    /// Sends what is left of the request and reads the head of the answer, which may have come before.
    async fn talk_on(
        &mut self,
        r: &mut Request,
        answer: &mut Answer,
        deadline: &Deadline,
        front: Box<Front>,
    ) -> Result<(), Trouble> {
        self.send_on(r, &answer.conn, deadline, *front).await?;
        if let Some(heard) = self.heard.take() {
            answer.buf = heard.buf;
            if let Some(head) = heard.head {
                answer.body = head.map_err(|kind| unread(&answer.conn, kind))?;
                return Ok(());
            }
        }
        deadline.set_after(self.settings.read_timeout);
        poll_fn(|cx| self.poll_head(r, answer, deadline, cx)).await
    }

    /// Whether connections to the group serve several requests at once.
    #[inline]
    fn shares(&self) -> bool {
        self.wire.may_share() && self.upstream.shares()
    }

    /// An idle connection to the peer, if there is one.
    fn reuse(&self, r: &mut Request, peer: &Peer, wanted: Option<&Wanted>) -> Option<Connected> {
        let (upstream, location, channel) = (&self.upstream, self.location, self.wire.channel());
        let conn = connect::reuse(upstream, peer, location, wanted, channel);
        if conn.is_some()
            && let Some(state) = r.upstreams.last_mut()
        {
            state.connect_ms = Some(0);
        }
        conn
    }

    /// What TLS towards the peer must be, where the protocol speaks it.
    pub(super) fn wanted(&self, r: &Request) -> Result<Option<Wanted>, Trouble> {
        let Some(alpn) = self.protocol.tls(r) else { return Ok(None) };
        match Wanted::new(r, &self.settings.tls, &self.upstream.name, alpn) {
            Ok(wanted) => Ok(Some(wanted)),
            Err(error) => Err(self.tls_failed(r, error)),
        }
    }

    /// Begins a connection to a peer: plain code, as one within the machine stands at once.
    fn begin(&self, r: &Request, peer: &Peer) -> Result<Opening, Trouble> {
        Opening::new(r, self.settings, peer, self.kind).map_err(|error| self.open_failed(r, peer, error))
    }

    /// Opens a connection to a peer.
    pub(super) async fn open(
        &self,
        r: &mut Request,
        peer: &Peer,
        wanted: Option<&Wanted>,
        deadline: &Deadline,
    ) -> Result<Connected, Trouble> {
        let opening = self.begin(r, peer)?;
        self.complete(r, peer, wanted, &opening, deadline).await?;
        Ok(self.connected(r, peer, wanted, opening))
    }

    /// Waits until a connection that was begun can be used.
    async fn complete(
        &self,
        r: &mut Request,
        peer: &Peer,
        wanted: Option<&Wanted>,
        opening: &Opening,
        deadline: &Deadline,
    ) -> Result<(), Trouble> {
        let completed = opening.complete(self.settings, peer, self.start(wanted), deadline);
        let mut completed = std::pin::pin!(completed);
        let completed = poll_fn(|cx| {
            if let Poll::Ready(completed) = completed.as_mut().poll(cx) {
                return Poll::Ready(Some(completed));
            }
            if !r.ignores_client_abort && r.poll_client_gone(cx).is_ready() {
                return Poll::Ready(None);
            }
            Poll::Pending
        });
        match completed.await {
            None => Err(Trouble::Client(client_gone(r, CONNECTING))),
            Some(completed) => completed.map_err(|error| self.open_failed(r, peer, error)),
        }
    }

    /// What has to pass before the request.
    fn start<'s>(&'s self, wanted: Option<&'s Wanted>) -> Start<'s> {
        Start { wanted, greeting: &self.greeting }
    }

    /// A connection that can be used.
    fn connected(
        &self,
        r: &mut Request,
        peer: &Peer,
        wanted: Option<&Wanted>,
        opening: Opening,
    ) -> Connected {
        let mut conn = opening.connected(&self.upstream, peer, self.location, wanted);
        conn.key.channel = conn.key.channel.take().or_else(|| self.wire.channel());
        if let Some(state) = r.upstreams.last_mut() {
            state.connect_ms = Some(net::timer::now_ms().saturating_sub(state.started_ms));
        }
        conn
    }

    /// Tells why there is no connection, and what becomes of the request.
    #[cold]
    fn open_failed(&self, r: &Request, peer: &Peer, error: OpenError) -> Trouble {
        match error {
            OpenError::TimedOut => {
                r.log(
                    Level::Error,
                    format_args!("upstream timed out (110: Connection timed out) while {CONNECTING}"),
                );
                not_connected(next::TIMEOUT)
            }
            OpenError::Tls(error) => self.tls_failed(r, error),
            OpenError::Refused(error) => {
                let name = &peer.name;
                r.log(
                    level_of(&error),
                    format_args!("connect() to {name} failed {} while {CONNECTING}", Errno(&error)),
                );
                not_connected(next::ERROR)
            }
            OpenError::Failed(error) => {
                r.log(
                    level_of(&error),
                    format_args!("connect() failed {} while {CONNECTING}", Errno(&error)),
                );
                not_connected(next::ERROR)
            }
            OpenError::Bind(local, error) => {
                r.log(Level::Crit, format_args!("bind({local}) failed {} while {CONNECTING}", Errno(&error)));
                Trouble::Client(Outcome::Status(500))
            }
            OpenError::Full(most) => {
                r.log(
                    Level::Alert,
                    format_args!("{most} worker_connections are not enough while {CONNECTING}"),
                );
                Trouble::Client(Outcome::Status(500))
            }
            OpenError::Socket(error) => {
                r.log(Level::Alert, format_args!("socket() failed {} while {CONNECTING}", Errno(&error)));
                Trouble::Client(Outcome::Status(500))
            }
        }
    }

    /// Tells of TLS that does not stand, and what becomes of the request.
    #[cold]
    fn tls_failed(&self, r: &Request, error: TlsError) -> Trouble {
        const SHAKING: &str = HANDSHAKING;
        let fail = |kind| {
            let while_doing = Doing::Handshaking;
            Trouble::Peer(Failure { kind, is_stale: false, is_final: false, while_doing })
        };
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

    /// Reads what has come while the request is on its way. A head that is not complete, or what stands on FastCGI's
    /// stderr, is no answer.
    pub(super) fn hear(&mut self, r: &mut Request, conn: &Connected) -> Early {
        let mut heard = self.heard.take().unwrap_or_default();
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
        self.heard = Some(heard);
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

    /// Reads until the head is complete.
    fn poll_head(
        &mut self,
        r: &mut Request,
        answer: &mut Answer,
        deadline: &Deadline,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Trouble>> {
        let Answer { conn, buf, body } = answer;
        let broken = |r: &Request, why| Poll::Ready(Err(unheard(r, conn, why)));
        loop {
            if let Poll::Ready(Err(error)) = self.wire.poll_send(r, conn.stream(), deadline, cx) {
                return broken(r, Unheard::Unsent(error));
            }
            let mut received = Poll::Pending;
            // A buffer is borrowed only once there is something for it.
            if self.wire.poll_readable(conn.stream(), cx).is_ready() {
                buf.reserve(FIRST_READ);
                received = self.wire.poll_receive(conn.stream(), cx, buf, FIRST_READ);
            }
            match received {
                Poll::Pending => {
                    if !r.ignores_client_abort && r.poll_client_gone(cx).is_ready() {
                        return broken(r, Unheard::ClientGone);
                    }
                    if deadline.poll_over(cx).is_ready() {
                        return broken(r, Unheard::TimedOut);
                    }
                    return Poll::Pending;
                }
                Poll::Ready(Ok(Received::Closed)) => return broken(r, Unheard::Closed),
                Poll::Ready(Ok(Received::Bytes(count))) => count_received(r, count),
                Poll::Ready(Err(error)) => return broken(r, Unheard::Failed(error)),
            }
            if let Some(head) = self.parse_head(r, buf) {
                return Poll::Ready(head.map(|at| *body = at).map_err(|kind| unread(conn, kind)));
            }
            if !r.output.queue.is_empty() {
                // Early hints are of use only now. What the client does not take at once leaves with the answer.
                let _ = output::poll_flush(r, cx);
            }
            deadline.set_after(self.settings.read_timeout);
        }
    }
}

fn unread(conn: &Connected, kind: u32) -> Trouble {
    Trouble::Peer(Failure { kind, is_stale: conn.is_reused, is_final: false, while_doing: Doing::Reading })
}

/// Tells why there is no head.
#[cold]
fn unheard(r: &Request, conn: &Connected, why: Unheard) -> Trouble {
    let (call, error, doing) = match why {
        Unheard::ClientGone => return Trouble::Client(client_gone(r, SENDING)),
        Unheard::Unsent(SendError::Client(error)) => return Trouble::Client(error.outcome(r)),
        Unheard::Unsent(SendError::Peer(error)) => ("send()", error, SENDING),
        Unheard::Failed(error) => (net::tls::failed_call(&error, "recv()", "SSL_read()"), error, READING),
        Unheard::TimedOut => {
            r.log(
                Level::Error,
                format_args!("upstream timed out (110: Connection timed out) while {READING}"),
            );
            return unread(conn, next::TIMEOUT);
        }
        Unheard::Closed => {
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
