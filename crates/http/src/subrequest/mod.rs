//! Subrequests: requests of a module's own beside that of the client (`ngx_http_subrequest`).
//!
//! Each runs as a task of its own, so that they are on their way at the same time; what comes of one is put into
//! the client's answer by the task of the main request alone ([`Join`]), in the order in which they were asked for.

mod family;
mod join;
mod link;

use std::cell::Cell;
use std::rc::Rc;

use os::errlog::Level;
use proto::h1::{Method, RequestHead};

pub use self::family::Family;
pub(crate) use self::family::Head;
pub use self::join::{Join, Wait};
pub use self::link::Subrequest;
pub(crate) use self::link::hand_over;

use self::link::Link;
use crate::chunk::{Chunk, Queue};
use crate::output;
use crate::phases::{Body, Outcome};
use crate::process::{self, Entry};
use crate::request::{MAX_URI_CHANGES, Request};

/// Subrequests of subrequests: how many before it is taken for a cycle (`NGX_HTTP_MAX_SUBREQUESTS`, and one).
const MAX_DEPTH: u8 = 51;
/// Subrequests of one client request at the same time, as in nginx.
const MAX_LIVE: u32 = 65_535 - 1000;

/// What becomes of a subrequest's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is put into the answer where [`Queue::push_subrequest`] says.
    InOrder,
    /// It is kept, at most `subrequest_output_buffer_size` bytes, for [`Request::on_end`].
    InMemory,
    /// It is dropped. Whoever asked may look at the head ([`Subrequest::ended`]) or not wait at all; the end of
    /// the client's request waits in any case.
    Background,
    /// It is dropped, and the client's request ends without waiting.
    Detached,
}

/// Where a subrequest begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the rewriting of its URI, as a request that came from outside would, but without access control.
    Rewrite,
    /// Where its parent is now, in the same location (`NGX_HTTP_SUBREQUEST_CLONE`).
    Content,
}

/// Why no subrequest can be made; the log says so already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no subrequest can be made")]
pub struct Refused;

/// What a request knows of its being a subrequest.
pub struct Role {
    link: Rc<Link>,
    kind: Kind,
    start: Start,
    /// Subrequests that may still be made of it in depth.
    depth_left: u8,
    /// What is put out where nothing else was (`ssi`'s `stub`).
    stub: Option<Stub>,
    on_end: Option<OnEnd>,
    /// The charset of the answer that its output becomes a part of; empty: none.
    charset: Vec<u8>,
}

/// Called when a subrequest has ended, before anybody who waits for it goes on.
pub type OnEnd = Box<dyn FnOnce(&mut Request)>;

struct Stub {
    content_type: Vec<u8>,
    chunks: Vec<Chunk>,
}

impl Request {
    /// Makes a subrequest of this request's own, which has not begun: it may be changed until [`start`] is called.
    ///
    /// # Errors
    /// Too many at once, too deep, or inside of one whose output is kept in memory.
    pub fn subrequest(
        &mut self,
        uri: &[u8],
        args: &[u8],
        kind: Kind,
        start: Start,
    ) -> Result<Box<Self>, Refused> {
        let depth_left = self.role.as_ref().map_or(MAX_DEPTH, |role| role.depth_left);
        let family = if kind == Kind::Detached { Rc::default() } else { Rc::clone(self.family()) };
        let shown = String::from_utf8_lossy(uri);
        if depth_left == 0 {
            self.log(Level::Error, format_args!("subrequests cycle while processing \"{shown}\""));
            return Err(Refused);
        }
        if family.live() >= MAX_LIVE {
            self.log(
                Level::Crit,
                format_args!("request reference counter overflow while processing \"{shown}\""),
            );
            return Err(Refused);
        }
        if self.role.as_ref().is_some_and(|role| role.kind == Kind::InMemory) {
            self.log(Level::Error, format_args!("nested in-memory subrequest \"{shown}\""));
            return Err(Refused);
        }
        let mut sr = Box::new(Self::new(Rc::clone(&self.cycle), Rc::clone(&self.conn)));
        sr.client = self.client.clone();
        sr.uri.extend_from_slice(uri);
        sr.args.extend_from_slice(args);
        self.lend(&mut sr);
        if start == Start::Content {
            self.lend_place(&mut sr);
        }
        if kind == Kind::InMemory {
            sr.output.capture = Some(Vec::new());
        }
        let charset = match (&self.role, self.response.charset_known()) {
            (Some(role), _) => role.charset.clone(),
            (None, charset) => charset.unwrap_or_default().to_vec(),
        };
        sr.role = Some(Box::new(Role {
            link: Rc::new(Link::new(family)),
            kind,
            start,
            depth_left: depth_left - 1,
            stub: None,
            on_end: None,
            charset,
        }));
        Ok(sr)
    }

    /// What every subrequest has from its parent.
    fn lend(&mut self, sr: &mut Self) {
        sr.head.reserve(self.head.len());
        sr.head.extend_from_slice(&self.head);
        sr.line = RequestHead::clone(&self.line);
        sr.method = Method::Get;
        sr.server = self.server;
        sr.location = self.server().root;
        sr.host.extend_from_slice(&self.host);
        sr.host_port = self.host_port;
        sr.body = self.body.share();
        sr.content_length = self.content_length.filter(|_| sr.body.is_whole());
        sr.discard_body = self.discard_body;
        sr.real_client.clone_from(&self.real_client);
        sr.realm.clone_from(&self.realm);
        sr.limit_req_status = self.limit_req_status;
        sr.limit_conn_status = self.limit_conn_status;
        sr.share_values(self);
        sr.started = net::timer::wall_clock();
        sr.started_ms = net::timer::now_ms();
        sr.is_subrequest = true;
        sr.internal = true;
        sr.uri_changes = MAX_URI_CHANGES + 1;
    }

    /// What one has besides that begins where its parent is.
    fn lend_place(&self, sr: &mut Self) {
        sr.method = self.method;
        sr.location = self.location;
        sr.handled_by = self.handled_by;
        sr.valid_location = self.valid_location;
        sr.valid_unparsed_uri = self.valid_unparsed_uri;
        sr.copy_captures(self);
    }

    /// The charset of the answer that this subrequest's output becomes a part of.
    #[must_use]
    pub fn outer_charset(&self) -> Option<&[u8]> {
        self.role.as_ref().map(|role| &*role.charset).filter(|charset| !charset.is_empty())
    }

    /// Puts out `chunks`, of its parent's type, if nothing else comes of this subrequest.
    pub fn set_stub(&mut self, content_type: &[u8], chunks: Vec<Chunk>) {
        if let Some(role) = &mut self.role {
            role.stub = Some(Stub { content_type: content_type.to_vec(), chunks });
        }
    }

    /// Whether nobody sees what comes of it, and nobody waits.
    #[must_use]
    pub fn is_detached(&self) -> bool {
        self.role.as_ref().is_some_and(|role| role.kind == Kind::Detached)
    }

    /// Has `act` called when this subrequest has ended.
    pub fn on_end(&mut self, act: OnEnd) {
        if let Some(role) = &mut self.role {
            role.on_end = Some(act);
        }
    }

    /// The stub in the place of an outcome without output.
    pub(crate) fn stubbed(&mut self, outcome: Outcome) -> Outcome {
        let wants =
            matches!(&outcome, Outcome::Sent | Outcome::Status(200..=407 | 409..=443 | 445..=498 | 500..));
        let is_empty = matches!(&outcome, Outcome::Send(body) if matches!(**body, Body::Empty));
        if !(wants || is_empty) || self.output.had_body {
            return outcome;
        }
        let Some(stub) = self.role.as_mut().and_then(|role| role.stub.take()) else { return outcome };
        if self.response.head_sent {
            let mut part = Queue::default();
            stub.chunks.into_iter().for_each(|chunk| part.push(chunk));
            self.output.queue.append(&mut part);
            return Outcome::Sent;
        }
        self.response.content_type = stub.content_type;
        self.response.content_length = None;
        Outcome::send(Body::Many(stub.chunks))
    }
}

/// Lets a subrequest begin.
#[must_use]
pub fn start(mut sr: Box<Request>) -> Subrequest {
    let Some(role) = &mut sr.role else { return Subrequest::failed() };
    let link = Rc::clone(&role.link);
    let subrequest = Subrequest::new(Rc::clone(&link));
    let entry = match role.start {
        Start::Rewrite => Entry::ServerRewrite,
        Start::Content => Entry::Content,
    };
    let on_end = role.on_end.take();
    sr.debug(format_args!(
        "http subrequest \"{}?{}\"",
        String::from_utf8_lossy(&sr.uri),
        String::from_utf8_lossy(&sr.args)
    ));
    let running = Running::new(Rc::clone(&link));
    let task = net::spawn(run(sr, running, entry, on_end));
    link.family().enter(task);
    subrequest
}

/// The task of a subrequest.
async fn run(mut sr: Box<Request>, running: Running, entry: Entry, on_end: Option<OnEnd>) {
    process::process_subrequest(&mut sr, entry).await;
    let is_whole = output::flush(&mut sr).await.is_ok() && !sr.output.is_failed;
    if let Some(act) = on_end {
        act(&mut sr);
    }
    if sr.location().core.log_subrequest {
        process::log(&mut sr).await;
    }
    if is_whole {
        running.end(sr);
    }
}

/// A subrequest's being under way; dropped before its end it has failed.
struct Running {
    link: Rc<Link>,
    is_over: Cell<bool>,
}

impl Running {
    fn new(link: Rc<Link>) -> Self {
        Self { link, is_over: Cell::new(false) }
    }

    fn end(&self, mut sr: Box<Request>) {
        self.is_over.set(true);
        // Of one whose output goes into the answer nobody wants to see more, and many may wait for their turn.
        let is_wanted = sr.role.take().is_some_and(|role| role.kind != Kind::InOrder);
        self.link.end(is_wanted.then_some(sr));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.is_over.get() {
            self.link.fail();
        }
        self.link.family().leave();
    }
}
