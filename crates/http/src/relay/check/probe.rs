//! One check of one peer: connect, ask, look at the answer.
//!
//! It goes the way of a request but for the choice of the peer, and leaves no trace in the peer's counters.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use net::Deadline;
use os::errlog::Level;
use proto::h1::{HeadLimits, Method, Progress};
use upstream::{Group, Peer, PeerAddr, PeerId};

use super::super::codec::{Carrier, Closing, Codec, Decoded, Received};
use super::super::connect::{Connected, Link};
use super::super::exchange::{Answer, Trouble};
use super::super::queue::Bell;
use super::super::sticky::Visit;
use super::super::target::Found;
use super::super::{Plan, Relay, Upstream};
use super::{CheckKind, HealthCheck, Subject, grpc};
use crate::chunk::{Chunk, Queue};
use crate::cycle::Worker;
use crate::request::Request;

/// Bytes of an answer's body that are looked at, as in nginx.
const BODY_LIMIT: usize = 256 << 10;
/// Bytes that one read of a body asks for.
const PIECE: usize = 32 << 10;

/// What a check found: nothing wrong, or what was being done when it went wrong.
pub(super) type Finding = Result<(), &'static str>;

/// Who checks one peer.
pub(super) struct Probe {
    upstream: Arc<Upstream>,
    check: Arc<HealthCheck>,
    /// A connection that serves the next check too, and until when.
    kept: Option<(Connected, u64)>,
}

impl Probe {
    pub(super) fn new(upstream: &Arc<Upstream>, check: &Arc<HealthCheck>) -> Self {
        Self { upstream: Arc::clone(upstream), check: Arc::clone(check), kept: None }
    }

    /// Checks the peer once.
    pub(super) async fn run(&mut self, group: &Arc<Group>, id: PeerId) -> Finding {
        let limit = super::limit(&self.check);
        let asking = self.ask(group, id);
        match limit {
            None => asking.await,
            Some(limit) => {
                let ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
                net::timer::within(ms, asking).await.unwrap_or(Err("waiting for the end of the check"))
            }
        }
    }

    /// Writes a message about a peer.
    pub(super) fn log(&self, level: Level, peer: &Peer, said: &str) {
        if let Some(r) = self.request(peer) {
            r.log(level, format_args!("{said}"));
        }
    }

    /// The request that a check passes, in the location that it stands in.
    fn request(&self, peer: &Peer) -> Option<Box<Request>> {
        let worker = Worker::try_current()?;
        let mut r = worker.new_request();
        r.cycle = worker.cycle_of(self.check.kind.side());
        r.location = self.check.location;
        // Nobody waits for the answer.
        r.is_subrequest = true;
        r.started_ms = net::timer::now_ms();
        r.started = net::timer::wall_clock();
        let subject = Subject {
            check: self.check.name.clone(),
            peer: Arc::clone(&peer.name),
            upstream: self.upstream.name.clone(),
        };
        let (method, uri, fields): (_, &[u8], &[u8]) = match &self.check.kind {
            CheckKind::Request { uri } => (Method::Get, uri, b""),
            CheckKind::Connect => (Method::Get, b"/", b""),
            CheckKind::Talk(_) => {
                r.contexts.put(subject);
                return Some(r);
            }
            CheckKind::Grpc { .. } => {
                (Method::Post, grpc::PATH, b"TE: trailers\r\nContent-Type: application/grpc\r\n")
            }
        };
        for part in [method.name().as_bytes(), b" ", uri, b" HTTP/1.1\r\n", fields, b"\r\n"] {
            r.head.extend_from_slice(part);
        }
        let limits = HeadLimits { initial: r.head.len() + 1, ..HeadLimits::default() };
        let parsed = {
            let Request { line, head, .. } = &mut *r;
            line.parse(head, &limits)
        };
        if !matches!(parsed, Ok(Progress::Complete)) {
            return None;
        }
        r.method = method;
        let path = r.line.path.of(&r.head).to_vec();
        r.uri = path;
        let args = r.line.args.map(|args| args.of(&r.head).to_vec());
        r.args = args.unwrap_or_default();
        // The URI is the check's own, whatever path the location puts in the place of its name.
        r.valid_location = false;
        r.contexts.put(subject);
        Some(r)
    }

    async fn ask(&mut self, group: &Arc<Group>, id: PeerId) -> Finding {
        const PREPARING: &str = "preparing the request";
        let Some(peer) = group.peer(id) else { return Ok(()) };
        let Some(mut r) = self.request(peer) else { return Err(PREPARING) };
        let r = &mut *r;
        let cycle = Rc::clone(&r.cycle);
        let protocol = (self.check.passing)(cycle.http.location(r.location));
        let settings = protocol.settings();
        let mut plan = Plan::default();
        if matches!(self.check.kind, CheckKind::Request { .. } | CheckKind::Grpc { .. }) {
            let mut body = net::Buf::empty();
            if let CheckKind::Grpc { service, .. } = &self.check.kind {
                body.extend_from_slice(&grpc::question(service));
                r.content_length = Some(body.len() as u64);
            }
            r.body = crate::body::RequestBody::Memory(body);
            // It leaves behind what variables and the request itself are made of.
            if protocol.target(r).is_err() || protocol.create(r, &mut plan).is_err() {
                return Err(PREPARING);
            }
        }
        let mut relay = Relay {
            protocol,
            settings,
            attempt: group.aim(id),
            bell: Bell::of(None),
            visit: Visit::default(),
            queue_ms: None,
            upstream: Found::Configured(&self.upstream),
            plan,
            wire: protocol.wire(r),
            started_ms: net::timer::now_ms(),
            location: r.location.0,
            greeting: protocol.greeting(r),
            kind: self.check.kind.transport(),
            body_is_spent: false,
            is_request_sent: false,
            is_request_whole: false,
            heard: None,
        };
        relay.begin_state(r, Arc::clone(&peer.name), None);
        let deadline = Rc::new(Deadline::new());
        let conn = match self.kept.take().filter(|(conn, until)| is_good(conn, *until)) {
            Some((conn, _)) => conn,
            None => {
                let wanted = relay.wanted(r).map_err(doing)?;
                let peer = self.target(peer);
                relay.open(r, &peer, wanted.as_ref(), &deadline).await.map_err(doing)?
            }
        };
        match &self.check.kind {
            CheckKind::Connect => return Ok(()),
            CheckKind::Talk(talk) => return talk.hold(conn.stream(), settings.read_timeout, &deadline).await,
            CheckKind::Request { .. } | CheckKind::Grpc { .. } => {}
        }
        let mut answer = Answer::over(conn);
        relay.talk_over(r, &mut answer, &deadline).await.map_err(doing)?;
        let status = r.upstream_head.head.status;
        let method = relay.plan.method.unwrap_or(Method::Get);
        if relay.wire.begin(r, method, settings).is_err() {
            return Err("reading response header");
        }
        let (text, is_whole) = self.read_body(r, &mut relay, &mut answer, &deadline).await?;
        let finding = match &self.check.kind {
            CheckKind::Grpc { status, .. } => grpc::test(r, *status, &text),
            _ => self.check.expect.test(r, status, &text),
        };
        if is_whole && relay.may_go_on() && relay.wire.may_keep(r) {
            relay.wire.release(&mut answer.conn);
            self.keep(answer.conn);
        }
        finding
    }

    /// The peer at the port that is checked.
    fn target(&self, peer: &Peer) -> Peer {
        let mut peer = peer.clone();
        if let (Some(port), PeerAddr::Inet(addr)) = (self.check.port, &mut peer.addr) {
            addr.set_port(port);
        }
        peer
    }

    /// The beginning of the body, as far as it decides anything, and whether that was all of it.
    async fn read_body(
        &self,
        r: &mut Request,
        relay: &mut Relay<'_>,
        answer: &mut Answer,
        deadline: &Deadline,
    ) -> Result<(Vec<u8>, bool), &'static str> {
        const READING: &str = "reading response body";
        let mut text = Vec::new();
        let is_grpc = matches!(self.check.kind, CheckKind::Grpc { .. });
        let is_wanted = is_grpc || self.check.expect.needs_body() || self.check.keepalive_ms.is_some();
        if !is_wanted {
            return Ok((text, false));
        }
        let (mut buf, mut start) = (std::mem::replace(&mut answer.buf, net::Buf::empty()), answer.body);
        loop {
            let mut part = Queue::default();
            let decoded = relay.wire.decode(r, buf, start, &mut part);
            part.iter().filter_map(Chunk::bytes).for_each(|bytes| text.extend_from_slice(bytes));
            match decoded {
                Decoded::End => return Ok((text, true)),
                Decoded::Broken => return Err(READING),
                Decoded::More if text.len() >= BODY_LIMIT => {
                    text.truncate(BODY_LIMIT);
                    return Ok((text, false));
                }
                Decoded::More => {}
            }
            (buf, start) = (net::Buf::empty(), 0);
            deadline.set_after(relay.settings.read_timeout);
            let stream = answer.conn.stream();
            let received = poll_fn(|cx| match relay.wire.poll_receive(stream, cx, &mut buf, PIECE) {
                Poll::Ready(received) => Poll::Ready(received.ok()),
                Poll::Pending => deadline.poll_over(cx).map(|()| None),
            });
            match received.await {
                Some(Received::Closed) if relay.wire.closing() == Closing::Complete => {
                    return Ok((text, false));
                }
                Some(Received::Closed) | None => return Err(READING),
                Some(Received::Bytes(_)) => {}
            }
        }
    }

    fn keep(&mut self, conn: Connected) {
        if let Some(keepalive_ms) = self.check.keepalive_ms {
            let Link::Own(pooled) = &conn.link else { return };
            let until_ms = pooled.created().ms().saturating_add(keepalive_ms);
            self.kept = Some((conn, until_ms));
        }
    }
}

fn is_good(conn: &Connected, until_ms: u64) -> bool {
    super::now().ms() < until_ms && conn.stream().is_quiet()
}

fn doing(trouble: Trouble) -> &'static str {
    match trouble {
        Trouble::Peer(failure) => failure.while_doing.text(),
        Trouble::Client(_) => "connecting to upstream",
    }
}
