//! A request on its way: what the client sent, where it was routed, and the answer as it takes shape.
//!
//! One value serves all requests of a connection in turn and keeps its memory, so a request allocates nothing
//! that its predecessor already had.

use std::any::{Any, TypeId};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use net::{Buf, Deadline};
use os::errlog::{ErrorLog, Level};
use os::socket::PeerAddr;
use proto::h1::{Known, Method, PathFlags, RequestHead, Version};

use crate::body::{BodyReader, RequestBody};
use crate::client::Client;
use crate::conf::location::Location;
use crate::conf::{LocationId, Server, ServerId};
use crate::connection::Conn;
use crate::cycle::Local;
use crate::logging::Context;
use crate::module::{Module, Slot};
use crate::output::Output;
use crate::regex::Regex;
use crate::relay::cache::Case;
use crate::relay::{UpstreamHead, UpstreamState};
use crate::response::Response;
use crate::subrequest::{Head, Role};
use crate::variables::{Cache, Compute, Source, Values, VariableId};

/// Times that a request may start anew by `rewrite` or an internal redirect (`NGX_HTTP_MAX_URI_CHANGES`).
pub const MAX_URI_CHANGES: u8 = 10;

/// Variables made of variables made of variables: how many before it is taken for a cycle, as in nginx.
const MAX_VARIABLE_DEPTH: u8 = 100;

/// Groups of the last regular expression that matched.
#[derive(Clone, Debug, Default)]
pub struct Captures {
    subject: Vec<u8>,
    groups: Vec<Option<(usize, usize)>>,
}

/// What modules remember of one request.
#[derive(Default)]
pub struct Contexts(Vec<(TypeId, Box<dyn Any>)>);

impl Contexts {
    /// What was put under this type.
    #[must_use]
    pub fn get<T: 'static>(&self) -> Option<&T> {
        let (_, value) = self.0.iter().find(|(id, _)| *id == TypeId::of::<T>())?;
        value.downcast_ref()
    }

    /// As [`Self::get`], to be changed.
    pub fn get_mut<T: 'static>(&mut self) -> Option<&mut T> {
        let (_, value) = self.0.iter_mut().find(|(id, _)| *id == TypeId::of::<T>())?;
        value.downcast_mut()
    }

    /// Puts a value in the place of any other of its type.
    pub fn put<T: 'static>(&mut self, value: T) {
        self.0.retain(|(id, _)| *id != TypeId::of::<T>());
        self.0.push((TypeId::of::<T>(), Box::new(value)));
    }

    #[inline]
    fn clear(&mut self) {
        if !self.0.is_empty() {
            self.0.clear();
        }
    }

    /// Takes a value out.
    pub fn take<T: 'static>(&mut self) -> Option<T> {
        let at = self.0.iter().position(|(id, _)| *id == TypeId::of::<T>())?;
        self.0.swap_remove(at).1.downcast().ok().map(|value| *value)
    }
}

/// One request.
#[expect(clippy::struct_excessive_bools, reason = "independent facts about a request, as nginx keeps them")]
pub struct Request {
    /// The configuration that it began under.
    pub cycle: Rc<Local>,
    /// The connection that it came over.
    pub conn: Rc<Conn>,
    /// The connection as a whole, or one stream of it.
    pub client: Client,
    /// The deadline of whatever a stream waits for; a connection has its own.
    pub stream_deadline: Deadline,
    /// The bytes of the head.
    pub head: Buf,
    /// The head, parsed: offsets into [`Self::head`].
    pub line: RequestHead,
    /// The server by name.
    pub server: ServerId,
    /// The location, or the server's own settings while none is known.
    pub location: LocationId,
    /// Whose handler answers, where that is not the location's: an `if` without one leaves that of the `if` before it.
    pub(crate) handled_by: Option<LocationId>,
    /// The method; GET after most error pages.
    pub method: Method,
    /// The normalised path.
    pub uri: Vec<u8>,
    /// The arguments.
    pub args: Vec<u8>,
    /// The name asked for: lower case, without port (`$host` when not empty).
    pub host: Vec<u8>,
    /// The port asked for, where one was written.
    pub host_port: Option<u16>,
    /// The body as far as it was read.
    pub body: RequestBody,
    /// Where the rest of the body comes from.
    pub reader: BodyReader,
    /// The answer's head.
    pub response: Response,
    /// The answer's way out.
    pub output: Output,
    /// Attempts at upstreams (`$upstream_addr` and others).
    pub upstreams: Vec<UpstreamState>,
    /// The head of the upstream's answer (`$upstream_http_*`).
    pub upstream_head: UpstreamHead,
    /// The last answer of an upstream was an internal redirect, so the next attempt is another one's.
    pub upstream_redirected: bool,
    /// Its dealings with the cache, where the location has one.
    pub cache: Option<Box<Case>>,
    /// `X-Accel-Buffering` of the upstream.
    pub upstream_buffering: Option<bool>,
    /// `ignore_client_abort` of the protocol in use.
    pub ignores_client_abort: bool,
    /// From when on the event loop is to tell of the client's end, at a connection that it does not watch.
    pub(crate) patience: Cell<Option<Deadline>>,
    /// The deadline of whatever is waited for at the upstream.
    pub peer_deadline: Rc<Deadline>,
    /// What modules remember until the next internal redirect.
    pub contexts: Contexts,
    /// The slot of the module whose content handler it came to, until then.
    entered: Option<&'static Slot>,
    /// As [`Self::contexts`], for what the reading of a variable leaves.
    pub notes: RefCell<Contexts>,
    /// What modules remember, or hold, until the request ends.
    pub lasting: Contexts,
    /// `$limit_req_status`: what `limit_req` has decided, which it does once for a request.
    pub(crate) limit_req_status: Option<&'static str>,
    /// `$limit_conn_status`: likewise.
    pub(crate) limit_conn_status: Option<&'static str>,
    /// Shared with subrequests.
    values: Rc<RefCell<Values>>,
    captures: RefCell<Captures>,
    /// Wall clock at the start: seconds and milliseconds.
    pub started: (i64, u32),
    /// Monotonic milliseconds at the start.
    pub started_ms: u64,
    /// Bytes received: head and body (`$request_length`).
    pub received: u64,
    /// The status of the error that led here (`error_page`); 0: none.
    pub error_status: u16,
    /// Restarts that are left.
    pub uri_changes: u8,
    /// The path is the client's, so that `proxy_pass` may forward it as it was sent.
    pub valid_unparsed_uri: bool,
    /// `try_files` found a file below an `alias` with captures: the URI follows the alias.
    pub add_uri_to_alias: bool,
    /// The path still begins with the location's name: `rewrite … break` did not change it.
    pub valid_location: bool,
    /// Reached by an internal redirect, a named location or as a subrequest.
    pub internal: bool,
    /// An error page is being served, so no other may be.
    pub error_page: bool,
    /// The client's connection may serve another request.
    pub keepalive: bool,
    /// The client may still be sending: read on before closing.
    pub lingering: bool,
    /// The client asked for `100 Continue` and has not got it.
    pub expects_continue: Cell<bool>,
    /// A body must not be read any more, only discarded.
    pub discard_body: bool,
    /// `Content-Length` of the request, or what was read of a chunked body.
    pub content_length: Option<u64>,
    /// Set by `$limit_rate`; overrides the directive.
    pub limit_rate: Option<u64>,
    /// `limit_rate_after` of this request, once known.
    pub limit_rate_after: Option<u64>,
    /// It is a subrequest; `role` says which.
    pub is_subrequest: bool,
    /// What it is as a subrequest.
    pub(crate) role: Option<Box<Role>>,
    /// Of a main request: what it has in common with its subrequests.
    pub(crate) family: Option<Head>,
    /// What runs is `post_action`: the client has got its answer.
    pub is_post_action: bool,
    /// Access phase: what `satisfy any` remembers.
    pub access_code: u16,
    /// The request's end is known and is logged as this status where nothing was sent.
    pub is_complete: bool,
    /// `$request_id`'s and others' source of randomness is per request.
    pub realm: Option<Arc<[u8]>>,
    /// The client's address where it is not that of the connection (`realip`).
    pub real_client: Option<PeerAddr>,
    /// The head came in together with the request before it.
    pub is_pipelined: bool,
    /// Variables that are being computed of one another.
    depth: Cell<u8>,
}

impl Request {
    /// A fresh request of a connection.
    #[must_use]
    pub fn new(cycle: Rc<Local>, conn: Rc<Conn>) -> Self {
        Self {
            cycle,
            conn,
            client: Client::Connection,
            stream_deadline: Deadline::new(),
            head: Buf::empty(),
            line: RequestHead::default(),
            server: ServerId(0),
            location: LocationId(0),
            handled_by: None,
            method: Method::Other,
            uri: Vec::new(),
            args: Vec::new(),
            host: Vec::new(),
            host_port: None,
            body: RequestBody::Unread,
            reader: BodyReader::default(),
            response: Response::default(),
            output: Output::default(),
            upstreams: Vec::new(),
            upstream_head: UpstreamHead::default(),
            upstream_redirected: false,
            cache: None,
            upstream_buffering: None,
            ignores_client_abort: false,
            patience: Cell::default(),
            peer_deadline: Rc::new(Deadline::new()),
            contexts: Contexts::default(),
            entered: None,
            notes: RefCell::default(),
            lasting: Contexts::default(),
            limit_req_status: None,
            limit_conn_status: None,
            values: Rc::default(),
            captures: RefCell::default(),
            started: (0, 0),
            started_ms: 0,
            received: 0,
            error_status: 0,
            uri_changes: MAX_URI_CHANGES + 1,
            valid_unparsed_uri: false,
            add_uri_to_alias: false,
            valid_location: true,
            internal: false,
            error_page: false,
            keepalive: false,
            lingering: false,
            expects_continue: Cell::new(false),
            discard_body: false,
            content_length: None,
            limit_rate: None,
            limit_rate_after: None,
            is_subrequest: false,
            role: None,
            family: None,
            is_post_action: false,
            access_code: 0,
            is_complete: false,
            realm: None,
            real_client: None,
            is_pipelined: false,
            depth: Cell::new(0),
        }
    }

    /// Begins on a connection. A request that had another life before has been [reset](Self::reset).
    pub fn begin(&mut self, cycle: Rc<Local>, conn: Rc<Conn>) {
        self.cycle = cycle;
        self.conn = conn;
    }

    /// Forgets everything but its connection, and keeps its memory.
    pub(crate) fn reset(&mut self) {
        self.client = Client::Connection;
        self.head.clear();
        self.line.reset();
        self.uri.clear();
        self.args.clear();
        self.host.clear();
        self.host_port = None;
        self.body.let_go(RequestBody::Unread);
        self.reader.reset();
        self.response.reset();
        self.output.reset();
        self.upstreams.clear();
        self.upstream_head.clear();
        self.upstream_redirected = false;
        self.cache = None;
        self.upstream_buffering = None;
        self.ignores_client_abort = false;
        self.patience.set(None);
        self.forget_contexts();
        self.lasting.clear();
        self.limit_req_status = None;
        self.limit_conn_status = None;
        self.reset_values();
        self.captures.get_mut().groups.clear();
        self.server = ServerId(0);
        self.location = LocationId(0);
        self.handled_by = None;
        self.method = Method::Other;
        self.received = 0;
        self.error_status = 0;
        self.uri_changes = MAX_URI_CHANGES + 1;
        self.valid_unparsed_uri = false;
        self.add_uri_to_alias = false;
        self.valid_location = true;
        self.internal = false;
        self.error_page = false;
        self.keepalive = false;
        self.lingering = false;
        self.expects_continue.set(false);
        self.discard_body = false;
        self.content_length = None;
        self.limit_rate = None;
        self.limit_rate_after = None;
        if self.family.is_some() {
            self.family = None;
        }
        self.is_post_action = false;
        self.access_code = 0;
        self.is_complete = false;
        self.realm = None;
        self.real_client = None;
        self.is_pipelined = false;
    }

    /// Lets go of what belongs to others while the request waits to be used again: its connection, buffers,
    /// files, what modules hold.
    pub(crate) fn release(&mut self, cycle: Rc<Local>, nobody: Rc<Conn>) {
        if let Client::Stream(_) = self.client {
            self.stream_deadline.clear();
        }
        self.reset();
        self.head = Buf::empty();
        self.cycle = cycle;
        self.conn = nobody;
    }

    fn reset_values(&mut self) {
        match Rc::get_mut(&mut self.values) {
            Some(values) => values.get_mut().reset(),
            // Somebody still holds a subrequest of the last request.
            None => self.values = Rc::default(),
        }
    }

    /// Has the variables of another request: what one computes or sets, both know.
    pub(crate) fn share_values(&mut self, other: &Self) {
        self.values = Rc::clone(&other.values);
    }

    /// Takes over the groups of the last regular expression that matched.
    pub(crate) fn copy_captures(&mut self, other: &Self) {
        self.captures.replace(other.captures.borrow().clone());
    }

    /// The server's settings.
    #[inline]
    #[must_use]
    pub fn server(&self) -> &Server {
        self.cycle.http.server(self.server)
    }

    /// The location's settings.
    #[inline]
    #[must_use]
    pub fn location(&self) -> &Location {
        self.cycle.http.location(self.location)
    }

    /// Whether files leave by `sendfile(2)`: it is on, and no TLS has to see their bytes.
    #[must_use]
    pub fn sends_by_sendfile(&self) -> bool {
        self.location().core.sendfile && self.conn.stream.tls().is_none()
    }

    /// The version that the client speaks.
    #[inline]
    #[must_use]
    pub fn version(&self) -> Version {
        self.line.version
    }

    /// Who asks: the connection's other end, or whom `realip` put in its place.
    #[inline]
    #[must_use]
    pub fn client(&self) -> &PeerAddr {
        self.real_client.as_ref().unwrap_or(&self.conn.peer)
    }

    /// Whether the client's path had escapes or plus signs, so that captures of it must be escaped in arguments.
    #[must_use]
    pub fn has_quoted_uri(&self) -> bool {
        self.line.path_flags.has(PathFlags::QUOTED) || self.line.path_flags.has(PathFlags::PLUS)
    }

    /// A field of the request's head, the first of its kind.
    #[inline]
    #[must_use]
    pub fn header(&self, known: Known) -> Option<&[u8]> {
        self.line.fields.value(known, &self.head)
    }

    /// The error log in force.
    #[must_use]
    pub fn error_log(&self) -> &Arc<ErrorLog> {
        self.location().core.error_log.get().unwrap_or(&self.cycle.globals.log)
    }

    /// Whether a message of this level would be written anywhere.
    #[inline]
    #[must_use]
    pub fn logs(&self, level: Level) -> bool {
        (level != Level::Debug || os::errlog::wants_debug()) && self.takes_log(level)
    }

    #[inline(never)]
    fn takes_log(&self, level: Level) -> bool {
        self.error_log().enabled_for(level, self.conn.scope())
    }

    /// Writes a message to the error log, with the request's particulars behind it.
    #[cold]
    pub fn log(&self, level: Level, message: fmt::Arguments<'_>) {
        if self.logs(level) {
            let context = Context(self);
            self.error_log().log_for(level, self.conn.scope(), format_args!("{message}{context}"));
        }
    }

    /// Writes a debug message, which has no particulars behind it.
    #[inline]
    pub fn debug(&self, message: fmt::Arguments<'_>) {
        if self.logs(Level::Debug) {
            self.error_log().log_for(Level::Debug, self.conn.scope(), message);
        }
    }

    /// Appends a variable's value and says whether it has one. A cacheable one is computed once.
    pub fn append_variable(&self, id: VariableId, out: &mut Vec<u8>) -> bool {
        // What was assigned wins over any computation, whether or not that is cacheable.
        if let Some(known) = self.values.borrow().get(id) {
            if let Some(value) = known {
                out.extend_from_slice(value);
            }
            return known.is_some();
        }
        let Some(definition) = self.cycle.http.variables.get(id) else { return false };
        let start = out.len();
        let found = match &definition.source {
            Source::Plain(origin) => origin.append(self, out),
            Source::Named(read, name) => read(self, name, out),
            Source::Computed(compute) => self.compute(&**compute, &definition.name, out),
            Source::Assigned => return false,
        };
        if definition.cache == Cache::PerRequest {
            let value = found.then(|| out.get(start..).unwrap_or_default().into());
            self.values.borrow_mut().set(id, value);
        }
        found
    }

    /// Variables that are made of others may lead in a circle.
    fn compute(&self, variable: &dyn Compute, name: &[u8], out: &mut Vec<u8>) -> bool {
        if self.depth.get() >= MAX_VARIABLE_DEPTH {
            let shown = String::from_utf8_lossy(name);
            self.log(Level::Error, format_args!("cycle while evaluating variable \"{shown}\""));
            return false;
        }
        self.depth.set(self.depth.get() + 1);
        let found = variable.compute(self, out);
        self.depth.set(self.depth.get() - 1);
        found
    }

    /// As [`Self::append_variable`], for a name that is only known now: any that the modules define or the
    /// configuration uses.
    pub fn append_named_variable(&self, name: &[u8], out: &mut Vec<u8>) -> bool {
        let http = &self.cycle.http;
        if let Some(id) = http.variables.find(name) {
            return self.append_variable(id, out);
        }
        if let Some(known) = http.known_variables.find(name) {
            return known.origin.append(self, out);
        }
        let mut families = http.known_families.iter();
        let rest = families.find_map(|family| Some((family, name.strip_prefix(family.prefix.as_bytes())?)));
        rest.is_some_and(|(family, rest)| (family.read)(self, rest, out))
    }

    /// A variable's value.
    #[must_use]
    pub fn variable(&self, id: VariableId) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        self.append_variable(id, &mut out).then_some(out)
    }

    /// Assigns a variable (`set`, `auth_request_set`, …).
    pub fn set_variable(&mut self, id: VariableId, value: &[u8]) {
        let write = self.cycle.http.variables.get(id).and_then(|definition| definition.write);
        match write {
            Some(write) => write(self, value),
            None => self.values.borrow_mut().set(id, Some(value.into())),
        }
    }

    /// Matches a regular expression; its groups become `$1` … and its named groups variables.
    pub fn matches(&self, regex: &Regex, subject: &[u8]) -> bool {
        if !regex.has_groups() {
            let matched = regex.is_match(subject);
            if matched {
                self.captures.borrow_mut().groups.clear();
            }
            return matched;
        }
        let Some(groups) = regex.captures(subject) else { return false };
        for (group, id) in regex.named() {
            let text = groups.get(*group).copied().flatten().and_then(|(start, end)| subject.get(start..end));
            self.values.borrow_mut().set(*id, Some(text.unwrap_or_default().into()));
        }
        let mut captures = self.captures.borrow_mut();
        captures.subject.clear();
        captures.subject.extend_from_slice(subject);
        captures.groups = groups;
        true
    }

    /// Appends group `number` of the last match.
    pub fn append_capture(&self, number: u8, out: &mut Vec<u8>) {
        let captures = self.captures.borrow();
        let group = captures.groups.get(usize::from(number)).copied().flatten();
        if let Some((start, end)) = group {
            out.extend_from_slice(captures.subject.get(start..end).unwrap_or_default());
        }
    }

    /// Forgets the groups of the last match, as a `rewrite` or `if` that does not match does.
    pub fn forget_captures(&self) {
        self.captures.borrow_mut().groups.clear();
    }

    /// Forgets what modules remember, as an internal redirect does.
    pub fn forget_contexts(&mut self) {
        self.contexts.clear();
        self.entered = None;
        self.notes.get_mut().clear();
    }

    /// Notes that it came to the content handler of module `M`.
    #[inline]
    pub fn enter_handler<M: Module>(&mut self) {
        self.entered = Some(M::SLOT);
    }

    /// Whether the content handler that it came to last, if any since the last internal redirect, is that of module `M`.
    #[inline]
    #[must_use]
    pub fn has_entered<M: Module>(&self) -> bool {
        self.entered.is_some_and(|slot| std::ptr::eq(slot, M::SLOT))
    }

    /// Milliseconds since the request began.
    #[must_use]
    pub fn elapsed_ms(&self) -> u64 {
        net::timer::now_ms().saturating_sub(self.started_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::Request;

    #[test]
    fn a_request_stays_small() {
        assert!(size_of::<Request>() <= 1936, "{}", size_of::<Request>());
    }
}
