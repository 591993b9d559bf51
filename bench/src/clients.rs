//! Closed-loop clients: each connection sends its next request when the last response is complete.
//! Every response is checked for status 200 and its length; what is wrong is counted, never skipped.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream as StdStream};
use std::ops::Range;
use std::sync::Arc;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::ClientConfig;
use socket2::{Domain, Socket, Type};

use crate::head::{Head, HeadCache, Parsed, Persistence};
use crate::http2::{self, Call};
use crate::wire::{self, Security, Wire};

/// Connections that share one source address before the next loopback address is used.
const PER_SOURCE: usize = 10_000;

/// One buffer for all connections; a body is only counted, so none keeps its own.
const BUFFER: usize = 256 * 1024;

/// Bodies from here on are long, in bytes.
const LONG: u64 = 512 * 1024;

/// What a connection does behind a complete response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Sends the next request.
    KeepAlive,
    /// Waits until the server closes, then opens a new connection.
    Close,
    /// Stays open and silent.
    Idle,
}

/// Whether complete responses are followed by new requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    Runs,
    /// Responses are still awaited, but nothing new is sent.
    Drains,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The host that is asked.
    pub host: String,
    /// The path, with arguments where there are some.
    pub path: String,
}

impl Ask {
    /// A request for a path.
    pub fn new(path: &str) -> Self {
        Self { host: "bench.example".to_owned(), path: path.to_owned() }
    }
}

/// Requests as they are sent, one after the other and over again.
struct Requests {
    list: Vec<Vec<u8>>,
    next: usize,
}

impl Requests {
    fn next(&mut self) -> &[u8] {
        let at = self.next;
        self.next = if at + 1 < self.list.len() { at + 1 } else { 0 };
        self.list.get(at).map_or(&[], |request| request)
    }
}

/// What to ask for, and of whom.
pub struct Plan {
    /// The server's address.
    pub target: SocketAddr,
    /// The requests, which take turns; at least one.
    pub asks: Vec<Ask>,
    /// The length that every response must have, in bytes.
    pub body: u64,
    /// What follows a complete response.
    pub mode: Mode,
    /// Whether it is asked under TLS.
    pub security: Security,
    /// What is spoken.
    pub speech: Speech,
}

/// What is spoken to the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, with so many streams at once.
    Http2(Call, usize),
}

/// What happened since the clients were made.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Responses that were complete and right.
    pub requests: u64,
    /// Responses that were wrong or broken off, and connections that could not be opened.
    pub errors: u64,
    /// Connections opened after the server closed one in good order.
    pub reconnects: u64,
    /// The first error, for a human.
    pub first_error: Option<String>,
}

/// A set of connections; the token of each is its index.
pub struct Clients {
    plan: Plan,
    tls: Option<Arc<ClientConfig>>,
    pace: Pace,
    requests: Requests,
    connections: Vec<Option<Connection>>,
    heads: HeadCache,
    buffer: Vec<u8>,
    tally: Tally,
}

struct Connection {
    stream: Wire,
    stage: Stage,
    partial: Vec<u8>,
    http2: Option<Box<http2::Client>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Head,
    Body(u64, Persistence),
    /// The response is complete and the server is to close.
    End,
    /// The response is complete and nothing more is to come.
    Rest,
}

/// What the connection asks of its owner after it has read.
enum Next {
    Wait,
    /// So many responses were complete and right; the connection goes on.
    Done(u64),
    /// A response was complete and right; the connection is used up.
    DoneAndClosed,
    Failed(String),
}

impl Clients {
    /// Makes clients without connections; [`Clients::open`] adds them.
    pub fn new(plan: Plan) -> Self {
        let connection = if plan.mode == Mode::Close { "Connection: close\r\n" } else { "" };
        let request = |ask: &Ask| {
            let (path, host) = (&ask.path, &ask.host);
            format!(
                "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: tidegate-bench\r\n\
                 Accept: */*\r\n{connection}\r\n"
            )
            .into_bytes()
        };
        let requests = Requests { list: plan.asks.iter().map(request).collect(), next: 0 };
        let pace = if plan.mode == Mode::Idle { Pace::Drains } else { Pace::Runs };
        let tls = wire::config(plan.security).ok().flatten();
        Self {
            plan,
            tls,
            pace,
            requests,
            connections: Vec::new(),
            heads: HeadCache::default(),
            buffer: vec![0; BUFFER],
            tally: Tally::default(),
        }
    }

    /// What happened until now.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Connections that are open.
    pub fn alive(&self) -> usize {
        self.connections.iter().flatten().count()
    }

    /// Connections that await a response or the end behind it.
    pub fn awaiting(&self) -> usize {
        self.connections.iter().flatten().filter(|connection| connection.stage != Stage::Rest).count()
    }

    /// Sends nothing more; what is on its way still arrives.
    pub fn pause(&mut self) {
        self.pace = Pace::Drains;
    }

    /// How many connections were asked for.
    pub fn count(&self) -> usize {
        self.connections.len()
    }

    /// Closes connections to be opened anew where bodies are long, on which much depends on how the windows
    /// of a connection happened to grow; a turn each evens that out.
    pub fn renew_long(&mut self) {
        if self.plan.body >= LONG && self.plan.mode == Mode::KeepAlive {
            self.connections.fill_with(|| None);
        }
    }

    /// Runs again: of the connections `range`, sends a request on those that rest, opens those that are gone.
    pub fn resume(&mut self, range: Range<usize>, registry: &Registry) {
        self.pace = Pace::Runs;
        for index in range {
            match self.connections.get_mut(index) {
                Some(Some(connection)) if connection.stage == Stage::Rest => {
                    if let Err(error) = connection.send(self.requests.next()) {
                        self.fail(index, format!("write: {error}"), registry);
                    }
                }
                Some(None) => self.connect(index, registry),
                _ => {}
            }
        }
    }

    /// Opens `count` more connections and sends a request on each.
    ///
    /// A connection that cannot be opened is counted as an error.
    pub fn open(&mut self, count: usize, registry: &Registry) {
        for _ in 0..count {
            let index = self.connections.len();
            self.connections.push(None);
            self.connect(index, registry);
        }
    }

    /// Handles one event of the connection whose index is its token.
    pub fn handle(&mut self, event: &Event, registry: &Registry) {
        let index = event.token().0;
        let Some(Some(connection)) = self.connections.get_mut(index) else {
            return;
        };
        let closed = event.is_read_closed();
        loop {
            let buffer = &mut self.buffer;
            let got = match connection.stream.read(buffer) {
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return self.fail(index, format!("read: {error}"), registry),
            };
            let short = got < buffer.len();
            let bytes = buffer.get(..got).unwrap_or_default();
            match connection.take(bytes, &self.plan, &mut self.heads) {
                Next::Wait => {}
                Next::Done(count) => {
                    self.tally.requests += count;
                    if let Err(error) = connection.proceed(self.pace, &mut self.requests) {
                        return self.fail(index, format!("write: {error}"), registry);
                    }
                }
                Next::DoneAndClosed => {
                    self.tally.requests += 1;
                    self.tally.reconnects += 1;
                    return self.renew(index, registry);
                }
                Next::Failed(reason) => return self.fail(index, reason, registry),
            }
            // A short read emptied the socket; the next bytes raise a new edge, but an end that is
            // already known does not.
            if short && !closed && connection.stream.is_emptied_by_short_reads() {
                return;
            }
        }
    }

    fn connect(&mut self, index: usize, registry: &Registry) {
        self.connections[index] = None;
        let opened = dial(self.plan.target, index / PER_SOURCE).and_then(|mut stream| {
            registry.register(&mut stream, Token(index), Interest::READABLE)?;
            let stream = Wire::new(stream, self.tls.as_ref())?;
            let http2 = match (self.plan.speech, self.plan.asks.first()) {
                (Speech::Http2(call, streams), Some(ask)) => {
                    Some(Box::new(http2::Client::new(call, streams, ask)))
                }
                _ => None,
            };
            let mut connection = Connection { stream, stage: Stage::Head, partial: Vec::new(), http2 };
            connection.send(self.requests.next())?;
            Ok(connection)
        });
        match opened {
            Ok(connection) => self.connections[index] = Some(connection),
            Err(error) => self.count_error(format!("connect: {error}")),
        }
    }

    /// Counts an error and begins afresh.
    fn fail(&mut self, index: usize, reason: String, registry: &Registry) {
        self.count_error(reason);
        self.renew(index, registry);
    }

    /// Replaces a connection that is used up; while draining that is left to [`Clients::resume`].
    fn renew(&mut self, index: usize, registry: &Registry) {
        match self.pace {
            Pace::Runs => self.connect(index, registry),
            Pace::Drains => self.connections[index] = None,
        }
    }

    fn count_error(&mut self, reason: String) {
        self.tally.errors += 1;
        self.tally.first_error.get_or_insert(reason);
    }
}

impl Connection {
    /// Takes what one read brought; no bytes are the end of the stream.
    fn take(&mut self, bytes: &[u8], plan: &Plan, heads: &mut HeadCache) -> Next {
        if bytes.is_empty() {
            return match self.stage {
                Stage::End => Next::DoneAndClosed,
                Stage::Rest => Next::Failed("an idle connection was closed".to_owned()),
                Stage::Head => Next::Failed("closed before the response".to_owned()),
                Stage::Body(left, _) => Next::Failed(format!("closed {left} bytes before the end")),
            };
        }
        if let Some(http2) = &mut self.http2 {
            return match http2.take(bytes, plan.body) {
                Ok(0) => self.send_control(),
                Ok(count) => Next::Done(count),
                Err(reason) => Next::Failed(reason),
            };
        }
        match self.stage {
            Stage::Head if self.partial.is_empty() => self.take_head(bytes, plan, heads),
            Stage::Head => {
                let mut whole = std::mem::take(&mut self.partial);
                whole.extend_from_slice(bytes);
                self.take_head(&whole, plan, heads)
            }
            Stage::Body(left, persistence) => self.take_body(left, persistence, bytes.len(), plan.mode),
            Stage::End | Stage::Rest => Next::Failed("bytes behind the response".to_owned()),
        }
    }

    fn take_head(&mut self, bytes: &[u8], plan: &Plan, heads: &mut HeadCache) -> Next {
        let Head { len, status, body, persistence } = match heads.parse(bytes) {
            Parsed::Whole(head) => head,
            Parsed::Malformed => return Next::Failed("not an HTTP/1.1 response".to_owned()),
            Parsed::Partial => {
                self.partial = bytes.to_vec();
                return Next::Wait;
            }
        };
        if status != 200 {
            return Next::Failed(format!("status {status}"));
        }
        match body {
            Some(body) if body == plan.body => {
                self.take_body(body, persistence, bytes.len() - len, plan.mode)
            }
            Some(body) => Next::Failed(format!("Content-Length {body} instead of {}", plan.body)),
            None => Next::Failed("no Content-Length".to_owned()),
        }
    }

    fn take_body(&mut self, left: u64, persistence: Persistence, got: usize, mode: Mode) -> Next {
        let got = got as u64;
        if got > left {
            return Next::Failed("bytes behind the response".to_owned());
        }
        if got < left {
            self.stage = Stage::Body(left - got, persistence);
            return Next::Wait;
        }
        match (mode, persistence) {
            (Mode::Close, _) => {
                self.stage = Stage::End;
                Next::Wait
            }
            (Mode::KeepAlive, Persistence::Close) => Next::DoneAndClosed,
            (Mode::Idle, Persistence::Close) => Next::Failed("not kept alive".to_owned()),
            (_, Persistence::KeepAlive) => Next::Done(1),
        }
    }

    fn proceed(&mut self, pace: Pace, requests: &mut Requests) -> io::Result<()> {
        match pace {
            Pace::Runs => self.send(requests.next()),
            Pace::Drains => {
                if self.http2.as_ref().is_none_or(|http2| http2.is_idle()) {
                    self.stage = Stage::Rest;
                }
                Ok(())
            }
        }
    }

    /// Confirms settings and the like.
    fn send_control(&mut self) -> Next {
        let pending = self.http2.as_mut().map(|http2| http2.pending()).unwrap_or_default();
        if pending.is_empty() {
            return Next::Wait;
        }
        match self.stream.write(&pending) {
            Ok(sent) if sent == pending.len() => Next::Wait,
            _ => Next::Failed("a control frame could not be written".to_owned()),
        }
    }

    /// Sends the request in one write; an idle connection's socket has room for it.
    fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.stage = Stage::Head;
        let streams = self.http2.as_mut().map(|http2| http2.fill());
        let request = streams.as_deref().unwrap_or(request);
        let sent = self.stream.write(request)?;
        if sent == request.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }
}

/// Connects from the `source`th loopback address, the first being left to the system.
fn dial(target: SocketAddr, source: usize) -> io::Result<TcpStream> {
    let stream = if source == 0 {
        StdStream::connect(target)?
    } else {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        let last = u8::try_from(source + 1).map_err(|_| io::ErrorKind::AddrNotAvailable)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)).into())?;
        socket.connect(&target.into())?;
        socket.into()
    };
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(TcpStream::from_std(stream))
}
