//! The request of a stream: its task, its way through the phases like any other's, and its end.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use os::errlog::Level;
use proto::h1::{Framing, Known, Method};
use proto::h2::ErrorCode;

use super::Http2;
use super::head::Head;
use super::stream::Stream;
use crate::body::BodyReader;
use crate::client::Client;
use crate::cycle::Worker;
use crate::output;
use crate::process;
use crate::request::Request;
use crate::server::handler::{Handler, Job};
use crate::server::{route, stats};
use crate::trace;
use crate::websocket;

/// The task of a stream.
pub(super) struct Task {
    stream: Rc<Stream>,
    handler: Option<Box<Handler>>,
}

impl Task {
    /// Begins with what was received.
    pub(super) fn new(stream: Rc<Stream>) -> Self {
        Self { stream, handler: None }
    }
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        // Whatever the request waits for, its end must reach it.
        this.stream.watch(cx);
        if this.handler.is_none() && this.stream.is_gone() {
            // Given up before anything was done for it.
            return Poll::Ready(());
        }
        let stream = &this.stream;
        let handler = this.handler.get_or_insert_with(|| Handler::take(Job::Stream(Rc::clone(stream))));
        ready!(handler.poll(cx));
        if let Some(handler) = this.handler.take() {
            Worker::current().give_handler(handler);
        }
        Poll::Ready(())
    }
}

impl Drop for Task {
    /// Also after a panic, so that the client is told and the connection does not wait for it.
    fn drop(&mut self) {
        self.handler = None;
        let stream = &self.stream;
        if let Some(head) = stream.head.take() {
            head.give_back();
        }
        if stream.is_answered.get() {
            stream.session.completed.set(stream.session.completed.get() + 1);
            if stream.is_malformed.get() && !stream.is_gone() {
                // RFC 9113, 8.1.1: an answer may come first. Whoever has read that does not look at this.
                stream.session.reset(stream.id, ErrorCode::PROTOCOL);
            } else if !stream.is_ended() && !stream.is_gone() {
                // RFC 9113, 8.1: what is left of the request is not wanted.
                stream.session.reset(stream.id, ErrorCode::NO_ERROR);
            }
        } else if !stream.is_gone() {
            let code = if stream.is_timed_out.get() { ErrorCode::PROTOCOL } else { ErrorCode::INTERNAL };
            stream.session.reset(stream.id, code);
        }
        stream.session.leave(stream);
    }
}

/// Handles the request of a stream from its head to the log.
pub(crate) async fn handle(worker: &Rc<Worker>, r: &mut Request, stream: &Rc<Stream>) {
    let Some(mut head) = stream.head.take() else { return };
    r.begin(worker.cycle(), Rc::clone(&stream.session.conn));
    r.client = Client::Stream(Rc::clone(stream));
    std::mem::swap(&mut r.head, &mut head.text);
    std::mem::swap(&mut r.line, &mut head.line);
    r.started = head.started;
    r.started_ms = head.started_ms;
    r.received = head.length as u64;
    let counters = stats::own();
    stats::add(&counters.requests);
    stats::shift(&counters.writing, 1);
    route::begin(r);
    let routed = route(r, &head);
    head.give_back();
    match routed {
        Ok(()) => process::process(r).await,
        Err(status) => {
            if status == 400 {
                stream.condemn();
            }
            process::process_failed(r, status).await;
        }
    }
    if !r.is_complete && output::flush(r).await.is_err() {
        r.is_complete = true;
    }
    process::log(r).await;
    stats::shift(&counters.writing, -1);
}

/// What is wrong with the request, or its server, path and body (`ngx_http_v2_run_request`).
fn route(r: &mut Request, head: &Head) -> Result<(), u16> {
    const READING: &str = "while reading client request headers";
    r.method = r.line.method;
    if let Some(refusal) = &head.refusal {
        r.log(Level::Info, format_args!("{refusal} {READING}"));
        return Err(refusal.status);
    }
    route::place(r)?;
    if !is_enabled(r) {
        r.log(
            Level::Info,
            format_args!(
                "client attempted to request the server name for which the negotiated protocol is disabled \
                 {READING}"
            ),
        );
        return Err(421);
    }
    if head.protocol.is_some() {
        websocket::complete(r);
    }
    trace::head(r);
    let framing = proto::h1::request_framing(&r.line, &r.head).map_err(|error| {
        r.log(Level::Info, format_args!("client sent {error} {READING}"));
        error.status()
    })?;
    let length = match framing {
        Framing::Length(length) => Some(length),
        Framing::None | Framing::Chunked => None,
    };
    if length > Some(0) && head.is_end {
        r.log(Level::Info, format_args!("client prematurely closed stream {READING}"));
        return Err(400);
    }
    if head.protocol.is_some() {
        if length > Some(0) {
            r.log(Level::Info, format_args!("client sent CONNECT request with body {READING}"));
            return Err(400);
        }
        // What comes behind the head belongs to the tunnel.
        r.reader = BodyReader::of_stream(None, false);
        return Ok(());
    }
    r.content_length = length;
    r.reader = BodyReader::of_stream(length, !head.is_end);
    if matches!(r.method, Method::Trace | Method::Connect) {
        let name = r.method.name();
        r.log(Level::Info, format_args!("client sent {name} method {READING}"));
        return Err(405);
    }
    if r.header(Known::Expect).is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue")) {
        r.expects_continue.set(!head.is_end);
    }
    Ok(())
}

fn is_enabled(r: &Request) -> bool {
    r.cycle.http.location(r.server().root).settings::<Http2>().enable
        || crate::server::route::address_of(r).is_some_and(|address| address.options.http2)
}
