//! Passing a request to an upstream and its answer back (`ngx_http_upstream.c`), for every upstream protocol.
//!
//! A protocol brings its request's bytes, its settings and a few rewrites; peers, retries, buffering and
//! tunnels are here once.

pub mod cache;
pub mod cgi;
pub mod check;
mod codec;
mod connect;
mod exchange;
pub mod fields;
pub mod follow;
mod head;
mod http1;
mod http2;
mod join;
mod params;
mod pass;
pub mod pipe;
mod pump;
pub mod queue;
mod rows;
mod send;
pub mod session;
pub mod settings;
mod state;
pub mod state_file;
pub mod sticky;
mod target;
pub mod tls;
mod tunnel;
mod upstream;
pub mod variables;

use std::sync::Arc;

use ::upstream::{Attempt, Key, NoPeer, Now};
use net::Buf;
pub use net::tls::Offer;
use os::errlog::Level;
use os::socket::Kind;
use proto::h1::Method;

pub use self::codec::{
    BodyLength, Carrier, Closing, Codec, Decoded, Extra, HeadStep, Opening, Plain, Received, SendError, Wire,
};
pub(crate) use self::connect::in_use;
pub use self::connect::{Connected, parse_bind};
pub use self::exchange::{MAX_FIELDS, READING};
pub use self::http1::Http1;
pub use self::http2::{Http2, Session};
pub use self::params::{Layout, Params};
pub use self::pass::{Pass, Schemes, Security, push_peer_url, split_scheme};
pub use self::settings::RelaySettings;
pub use self::state::{UpstreamHead, UpstreamState};
pub use self::target::Target;
pub use self::upstream::{HeadMoment, KeepaliveConf, Naming, PeerConn, Upstream};

use self::exchange::{Failure, Heard};
use self::head::Heading;
use self::queue::{Bell, Stranded};
use self::sticky::Visit;
use self::target::Found;
use crate::body;
use crate::body::RequestBody;
use crate::conf::UpstreamId;
use crate::conf::location::Location;
use crate::cycle::Cycle;
use crate::phases::{Outcome, apart};
use crate::request::Request;
use crate::trace;

/// The clock of failure windows and idle connections.
#[must_use]
pub fn now() -> Now {
    let (seconds, millis) = net::timer::wall_clock();
    Now::from_ms(u64::try_from(seconds).unwrap_or(0) * 1000 + u64::from(millis))
}

/// Once a second closes idle connections to upstreams that are over their time or were closed by the peer.
pub async fn janitor() {
    loop {
        net::timer::sleep(1000).await;
        let worker = crate::cycle::Worker::current();
        worker.trim_handlers();
        let cycle = worker.cycle();
        http2::retain(|pool| cycle.http.upstreams.iter().any(|upstream| Arc::ptr_eq(upstream.pool(), pool)));
        for upstream in &cycle.http.upstreams {
            if let Some(keepalive) = &upstream.keepalive {
                drop(upstream.pool().expire(worker.index, &keepalive.limits, now()));
                drop(upstream.pool().sift(worker.index, |_, conn| {
                    if conn.stream.is_quiet() { ::upstream::Keep::Yes } else { ::upstream::Keep::Close }
                }));
            }
            if let Some(sticky::Sticky { method: sticky::StickyMethod::Learn(learn), .. }) = &upstream.sticky
                && worker.index == 0
            {
                learn.sessions().expire(learn.timeout_ms, now());
            }
        }
    }
}

/// What goes on beside requests for a configuration: names are followed, peers are checked, caches kept in order. On
/// one thread for all.
#[derive(Default)]
pub struct Attendants {
    followers: follow::Followers,
    checkers: check::Checkers,
    keeper: Option<::cache::Keeper>,
}

impl Attendants {
    /// Attends to a configuration, and to the one before no more.
    pub fn follow(&mut self, cycle: &Cycle) {
        self.followers.follow(cycle);
        self.checkers.follow(cycle);
        self.keeper = cache::path::keep(cycle);
    }

    /// Ends all of it.
    pub fn stop(&mut self) {
        self.followers.stop();
        self.checkers.stop();
        self.keeper = None;
    }
}

/// How the request's body follows its head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlanBody {
    /// No body.
    #[default]
    None,
    /// The body that was read (memory or file).
    Whole,
    /// As it comes from the client.
    Stream,
}

impl PlanBody {
    /// The client's body as far as the location passes it on.
    #[must_use]
    pub fn of(r: &Request, settings: &RelaySettings) -> Self {
        match &r.body {
            _ if !settings.pass_request_body => Self::None,
            body if body.is_whole() => Self::Whole,
            RequestBody::Streaming => Self::Stream,
            _ => Self::None,
        }
    }
}

/// The status by which an upstream agrees to an upgrade (RFC 9110, 15.2.2).
pub const SWITCHING_PROTOCOLS: u16 = 101;

/// What becomes of the bytes of the client's body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyCoding {
    /// They pass as they are.
    #[default]
    Same,
    /// They are base64, perhaps in padded pieces, and pass decoded; for codecs that write the request themselves.
    Base64,
}

/// What lies around the pieces of a request's body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// Nothing.
    #[default]
    Plain,
    /// A frame of the codec's round each piece, and one behind the last.
    Pieces,
}

/// What becomes of the client's body before the upstream is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyUse {
    /// It is read as a whole, unless `request_buffering` is off.
    Stream,
    /// It is read as a whole.
    Whole,
    /// Nobody wants it.
    Discard,
}

/// The bytes of a request to an upstream.
#[derive(Debug, Default)]
pub struct Plan {
    /// The head, and a body that the configuration sets.
    pub head: Buf,
    /// The client's body.
    pub body: PlanBody,
    /// What of it is sent.
    pub coding: BodyCoding,
    /// How that is sent.
    pub framing: Framing,
    /// The method that the upstream is asked with, where that is not the client's: an answer to HEAD has no body.
    pub method: Option<Method>,
    /// The status of an answer from which on the connection is a tunnel.
    pub tunnel: Option<u16>,
    /// The request says that it is the last on its connection, whatever the answer says (RFC 9112, 9.6).
    pub closes: bool,
}

/// What a protocol makes of a value of the upstream's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rewritten {
    /// It stays as it is.
    Same,
    /// The new value was appended to the buffer.
    Changed,
}

/// How the requests of a location are passed on: finds the protocol among what the location says.
pub type Passing = fn(&Location) -> &dyn Protocol;

/// The settings of an upstream protocol in a location, which say how its requests are made and with which codec they
/// are exchanged.
pub trait Protocol: Send + Sync {
    /// What all protocols have.
    fn settings(&self) -> &RelaySettings;

    /// What to do with the client's body.
    ///
    /// # Errors
    /// What becomes of a request that the protocol does not take.
    fn body_use(&self, _r: &mut Request) -> Result<BodyUse, Outcome> {
        Ok(BodyUse::Stream)
    }

    /// The protocol for one attempt at one peer.
    fn wire(&self, _r: &Request) -> Wire {
        Wire::default()
    }

    /// Where requests go, if that is said without a path.
    fn pass(&self) -> Option<&Pass> {
        None
    }

    /// Where this request goes.
    ///
    /// # Errors
    /// What becomes of a request whose target cannot be made out.
    fn target(&self, r: &mut Request) -> Result<Target, Outcome> {
        self.pass().ok_or_else(|| no_upstream(r))?.target(r)
    }

    /// Appends what tells one answer from another where the configuration does not say it.
    fn cache_key(&self, r: &Request, out: &mut Vec<u8>) {
        cache::push_default_key(r, out);
    }

    /// The upstream that all requests go to, where it is known at load and can be checked.
    fn upstream(&self) -> Option<UpstreamId> {
        self.pass()?.known()
    }

    /// Whether it is gRPC, which has health checks of its own.
    fn is_grpc(&self) -> bool {
        false
    }

    /// Writes the request.
    ///
    /// # Errors
    /// What becomes of a request that cannot be expressed.
    fn create(&self, r: &mut Request, plan: &mut Plan) -> Result<(), Outcome>;

    /// The protocol that TLS offers to carry where this request goes over TLS; empty for none in particular.
    fn tls(&self, _r: &Request) -> Option<Offer> {
        None
    }

    /// What a session of `stream` sends to a peer before all else, TLS included.
    fn greeting(&self, _r: &Request) -> Vec<u8> {
        Vec::new()
    }

    /// What the error log shows in front of the peer.
    fn scheme(&self, r: &Request) -> &'static str;

    /// How the error log shows the upstream: with the scheme, and with a path where the protocol has one.
    fn log_url(&self, r: &Request, peer: &str, out: &mut Vec<u8>) {
        push_peer_url(self.scheme(r), peer, out);
    }

    /// `Location` and `Refresh` of the answer.
    fn rewrite_redirect(&self, _r: &Request, _value: &[u8], _out: &mut Vec<u8>) -> Rewritten {
        Rewritten::Same
    }

    /// A `Set-Cookie` of the answer.
    fn rewrite_cookie(&self, _r: &Request, _value: &[u8], _out: &mut Vec<u8>) -> Rewritten {
        Rewritten::Same
    }
}

/// One request's way through its peers.
struct Relay<'a> {
    protocol: &'a dyn Protocol,
    settings: &'a RelaySettings,
    upstream: Found<'a>,
    attempt: Attempt,
    /// Rung when the attempt above it is over: fields are dropped in their order.
    bell: Bell,
    visit: Visit,
    /// Time that the request waited for its peer.
    queue_ms: Option<u32>,
    plan: Plan,
    wire: Wire,
    /// What was read of the answer while the request was on its way.
    heard: Option<Box<Heard>>,
    started_ms: u64,
    location: u32,
    /// What a peer is sent as soon as it is connected to, before TLS.
    greeting: Vec<u8>,
    kind: Kind,
    /// Bytes of the client's body were taken from it: they cannot be sent again.
    body_is_spent: bool,
    /// Some of the request has reached a peer, which may act on it.
    is_request_sent: bool,
    /// The last peer took all of the request: only then may its connection serve another.
    is_request_whole: bool,
}

impl<'a> Relay<'a> {
    #[inline]
    fn new(
        r: &Request,
        protocol: &'a dyn Protocol,
        settings: &'a RelaySettings,
        upstream: Found<'a>,
    ) -> Self {
        let mut attempt = upstream.attempt();
        attempt.limit_tries(settings.next_upstream_tries);
        Self {
            protocol,
            settings,
            attempt,
            bell: Bell::of(upstream.queue.as_ref()),
            visit: Visit::default(),
            queue_ms: None,
            upstream,
            plan: Plan::default(),
            wire: Wire::default(),
            heard: None,
            started_ms: net::timer::now_ms(),
            location: r.location.0,
            greeting: Vec::new(),
            kind: Kind::Stream,
            body_is_spent: false,
            is_request_sent: false,
            is_request_whole: false,
        }
    }
}

/// Passes the request on and its answer back. The cycle is the request's own.
pub async fn run(r: &mut Request, cycle: &Cycle, protocol: &dyn Protocol) -> Outcome {
    let upstream = match begin(r, cycle, protocol) {
        Ok(Step::Found(upstream)) => upstream,
        Ok(step) => match apart(go_on(r, cycle, protocol, step)).await {
            Ok(upstream) => upstream,
            Err(outcome) => return outcome,
        },
        Err(outcome) => return outcome,
    };
    let mut relay = Relay::new(r, protocol, protocol.settings(), upstream);
    match relay.create(r) {
        Ok(()) => relay.try_peers(r).await,
        Err(outcome) => outcome,
    }
}

/// How far a request is on its way to an upstream.
enum Step<'c> {
    /// The client's body is to be read.
    Read(BodyUse),
    /// It is to be seen what comes of what the cache has.
    Consult(Target, Box<cache::Undecided>),
    /// A host that variables named is to be found.
    Find(Target),
    /// This is the upstream.
    Found(Found<'c>),
}

/// Goes as far as nothing is to be waited for.
fn begin<'c>(r: &mut Request, cycle: &'c Cycle, protocol: &dyn Protocol) -> Result<Step<'c>, Outcome> {
    // What is tried from now on is another upstream's: a redirect or an error page lies between.
    r.upstream_redirected = !r.upstreams.is_empty();
    if matches!(r.body, RequestBody::Streaming) && r.reader.is_spent() {
        respend(r)?;
    }
    match protocol.body_use(r)? {
        BodyUse::Discard => {}
        BodyUse::Stream | BodyUse::Whole if !r.reader.is_open() => body::read_none(r),
        body_use => return Ok(Step::Read(body_use)),
    }
    aim(r, cycle, protocol)
}

/// What follows once the client's body is there as the protocol wants it.
fn aim<'c>(r: &mut Request, cycle: &'c Cycle, protocol: &dyn Protocol) -> Result<Step<'c>, Outcome> {
    let target = protocol.target(r)?;
    let settings = protocol.settings();
    r.cache = None;
    if settings.cache.is_on() {
        match cache::look(r, Heading { protocol, settings }) {
            cache::Look::Ask => {}
            cache::Look::Done(outcome) => return Err(outcome),
            cache::Look::Undecided(undecided) => return Ok(Step::Consult(target, undecided)),
        }
    }
    find(cycle, target)
}

fn find(cycle: &Cycle, target: Target) -> Result<Step<'_>, Outcome> {
    match target {
        Target::Known(id) => Ok(Step::Found(target::known(cycle, id)?)),
        host => Ok(Step::Find(host)),
    }
}

/// Goes all the way.
async fn go_on<'c>(
    r: &mut Request,
    cycle: &'c Cycle,
    protocol: &dyn Protocol,
    mut step: Step<'c>,
) -> Result<Found<'c>, Outcome> {
    let settings = protocol.settings();
    loop {
        step = match step {
            Step::Read(BodyUse::Stream) if !settings.request_buffering => {
                body::begin_stream(r).await?;
                aim(r, cycle, protocol)?
            }
            Step::Read(_) => {
                body::read_all(r).await?;
                aim(r, cycle, protocol)?
            }
            Step::Consult(target, undecided) => {
                let heading = Heading { protocol, settings };
                match Box::pin(cache::consult(r, heading, undecided)).await {
                    Some(outcome) => return Err(outcome),
                    None => find(cycle, target)?,
                }
            }
            Step::Find(host) => return Box::pin(target::find(r, host)).await,
            Step::Found(upstream) => return Ok(upstream),
        };
    }
}

/// What becomes of a request that came to a protocol from a block which says of where to, into one which does not.
#[cold]
pub fn no_upstream(r: &Request) -> Outcome {
    r.log(Level::Alert, format_args!("no upstream configuration"));
    Outcome::Status(500)
}

/// An error page leads to another upstream: what the first one got of the body is gone. Nothing is lost where the
/// method gives it no meaning.
#[cold]
fn respend(r: &mut Request) -> Result<(), Outcome> {
    if matches!(r.method, Method::Get | Method::Head) {
        r.body = RequestBody::None;
        r.content_length = None;
        return Ok(());
    }
    r.log(Level::Error, format_args!("request body was passed to another upstream already"));
    Err(Outcome::Status(502))
}

impl Relay<'_> {
    /// Has the request made.
    fn create(&mut self, r: &mut Request) -> Result<(), Outcome> {
        let settings = self.settings;
        r.ignores_client_abort =
            settings.ignore_client_abort || r.fills_cache() || settings.cache.store != cache::Store::Off;
        if r.is_subrequest && r.ignores_client_abort {
            r.family().ignores_client_abort.set(true);
        }
        self.protocol.create(r, &mut self.plan)?;
        self.begin_visit(r);
        Ok(())
    }

    /// Tries peers until one answers or none is left.
    async fn try_peers(&mut self, r: &mut Request) -> Outcome {
        loop {
            let picked = if self.upstream.queue.is_none() {
                self.pick(r).map_err(|NoPeer| Stranded::NoPeer)
            } else {
                apart(self.pick_or_wait(r)).await
            };
            if let Err(outcome) = self.begin_attempt(r, picked) {
                return outcome;
            }
            match self.exchange(r).await {
                Ok(outcome) => {
                    end_state(r);
                    if self.attempt.peer().is_some() {
                        self.succeed(r);
                    }
                    return outcome;
                }
                Err(failure) => {
                    if let Some(outcome) = self.end_failed(r, &failure) {
                        return outcome;
                    }
                }
            }
        }
    }

    /// Begins an attempt at the peer that was picked.
    fn begin_attempt(&mut self, r: &mut Request, picked: Result<(), Stranded>) -> Result<(), Outcome> {
        if let Err(stranded) = picked {
            return Err(self.strand(r, stranded));
        }
        let Some(peer) = self.attempt.peer() else { return Err(Outcome::Status(500)) };
        let server = (!Arc::ptr_eq(&peer.server, &peer.name)).then(|| Arc::clone(&peer.server));
        self.begin_state(r, Arc::clone(&peer.name), server);
        trace::peer(r, &peer.name);
        self.bind_visit(r);
        Ok(())
    }

    /// What becomes of a request that has no peer.
    #[cold]
    fn strand(&mut self, r: &mut Request, stranded: Stranded) -> Outcome {
        if let Stranded::ClientGone = stranded {
            return exchange::client_gone(r, "waiting for an upstream");
        }
        self.push_visit(r);
        self.begin_state(r, Arc::from(&*self.upstream.name), None);
        if let Some(state) = r.upstreams.last_mut() {
            state.status = 502;
        }
        end_state(r);
        r.log(Level::Error, format_args!("no live upstreams while connecting to upstream"));
        self.fail(r, settings::next::ERROR, 502)
    }

    /// Ends an attempt that failed; says what becomes of the request where it was the last.
    #[cold]
    fn end_failed(&mut self, r: &mut Request, failure: &Failure) -> Option<Outcome> {
        end_state(r);
        let status = self.give_up(r, failure)?;
        self.push_visit(r);
        Some(self.fail(r, failure.kind, status))
    }

    /// No peer answers: the cache may have something better than this status.
    fn fail(&self, r: &mut Request, kind: u32, status: u16) -> Outcome {
        if r.cache.is_some()
            && let Some(outcome) = cache::heard::failed(r, self.heading(), kind, status)
        {
            return outcome;
        }
        Outcome::Status(status)
    }

    fn pick(&mut self, r: &Request) -> Result<(), NoPeer> {
        let now = now();
        if self.attempt.pick_alone(now) { Ok(()) } else { self.pick_by_key(r, now) }
    }

    #[inline(never)]
    fn pick_by_key(&mut self, r: &Request, now: Now) -> Result<(), NoPeer> {
        let key_text;
        let key = match &self.upstream.key {
            Some(template) => {
                key_text = template.value(r);
                Key::Text(&key_text)
            }
            None => Key::Client(r.client().ip()),
        };
        self.attempt.pick(key, now).map(drop)
    }

    fn begin_state(&self, r: &mut Request, addr: Arc<str>, server: Option<Arc<str>>) {
        let after_redirect = std::mem::take(&mut r.upstream_redirected);
        let state = UpstreamState::begun(addr, server, self.queue_ms, after_redirect);
        r.upstreams.push(state);
    }

    /// Counts the attempt where a status page can show it.
    fn count_attempt(&self, r: &Request) {
        if self.upstream.zone.is_some()
            && let (Some(peer), Some(state)) = (self.attempt.peer(), r.upstreams.last())
        {
            peer.count(state.status, state.sent, state.received);
        }
    }

    /// Whether another peer may be tried after a failure; if not, the status of the answer
    /// (`ngx_http_upstream_next`).
    fn give_up(&mut self, r: &mut Request, failure: &Failure) -> Option<u16> {
        let outcome = match failure.kind {
            settings::next::HTTP_403 | settings::next::HTTP_404 | settings::next::UNPROCESSED => {
                ::upstream::Outcome::Next
            }
            _ => ::upstream::Outcome::Failure,
        };
        self.count_attempt(r);
        if let Some(notice) = self.attempt.release(outcome, now()) {
            r.log(Level::Warn, format_args!("{notice} while {}", failure.while_doing.text()));
        }
        self.bell.ring();
        if failure.is_stale && matches!(failure.kind, settings::next::UNPROCESSED | settings::next::ERROR) {
            self.attempt.grant_try();
        }
        let status = failure.status();
        if let Some(state) = r.upstreams.last_mut()
            && state.status == 0
        {
            state.status = status;
        }
        let may_go_on = !failure.is_final && self.may_repeat(r, failure.kind, self.attempt.tries());
        if may_go_on { None } else { Some(status) }
    }

    /// As [`Self::give_up`] for an answer whose status asks for the next peer, while there is one
    /// (`ngx_http_upstream_test_next`).
    #[inline]
    fn wants_next(&self, r: &Request, status: u16) -> Option<u32> {
        if status < 400 { None } else { self.next_after(r, status) }
    }

    #[inline(never)]
    fn next_after(&self, r: &Request, status: u16) -> Option<u32> {
        let kind = settings::next::of_status(status);
        let others = self.attempt.tries().saturating_sub(1);
        (kind != 0 && self.may_repeat(r, kind, others)).then_some(kind)
    }

    /// Whether the request may be sent again after such a failure, with so many tries left. The only place that
    /// decides it.
    fn may_repeat(&self, r: &Request, kind: u32, tries: u32) -> bool {
        use settings::next;
        let needed = match kind {
            // Nobody has acted on it.
            next::UNPROCESSED => next::ERROR,
            kind if self.is_request_sent && !is_idempotent(r) => kind | next::NON_IDEMPOTENT,
            kind => kind,
        };
        // A codec that takes the body from the client itself does not tell.
        let is_spent =
            self.body_is_spent || (matches!(r.body, RequestBody::Streaming) && r.reader.is_spent());
        let timeout = self.settings.next_upstream_timeout;
        let is_late = timeout > 0 && net::timer::now_ms().saturating_sub(self.started_ms) >= timeout;
        tries > 0 && self.settings.next_upstream & needed == needed && !is_spent && !is_late
    }
}

fn end_state(r: &mut Request) {
    if let Some(state) = r.upstreams.last_mut()
        && state.response_ms.is_none()
    {
        state.response_ms = Some(net::timer::now_ms().saturating_sub(state.started_ms));
    }
}

/// Whether a request may be sent twice: not for POST, LOCK and PATCH, as in nginx.
fn is_idempotent(r: &Request) -> bool {
    !matches!(r.method, Method::Post | Method::Lock | Method::Patch)
}
