//! The HTTP/1 driver: one task per connection, which reads heads and handles requests one after another.
//!
//! While a connection idles, all that is left is a small future with the connection; when bytes arrive it
//! borrows a handler from the thread, with a request whose memory has served others before.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use net::Buf;
use os::errlog::Level;
use proto::h1::{HeadError, HeadLimits, InvalidFields, Progress, Underscores};

use super::accept::Served;
use super::h2::{self, Preface};
use super::handler::{Handler, Job, Next};
use super::{is_quitting, lingering, proxy_header, route, stats, tls};
use crate::body;
use crate::conf::core::{CoreSettings, LingeringClose};
use crate::connection::Conn;
use crate::cycle::Worker;
use crate::output;
use crate::phases::apart;
use crate::process;
use crate::request::Request;

/// Bytes of the buffer that a head is first read into.
const HEAD_SIZE: usize = 4096;
/// Requests that a client has sent without waiting and that are handled before others have their turn; so they have
/// behind each that follows.
const PIPELINED: u32 = 4;

/// The task of a connection. Written by hand, since an idle connection pays for each of its bytes: an `async fn`
/// would take twice the memory.
pub struct Serve {
    // Whatever it is about ends before the connection counts no more.
    work: Work,
    served: Served,
}

/// What a connection is about.
enum Work {
    /// Waiting for a request.
    Idle,
    /// Handling what has arrived.
    Requests(Box<Handler>),
    /// HTTP/2, which does all of that in the place of this driver. Boxed twice, as two words are one too many.
    Http2(Box<Pin<Box<dyn Future<Output = ()>>>>),
}

impl Serve {
    /// Waits for the first request.
    #[must_use]
    pub fn new(served: Served) -> Self {
        let conn = served.conn();
        conn.deadline.set_after(first_timeout(conn));
        Self { work: Work::Idle, served }
    }

    /// Goes on with a connection whose first bytes were read already.
    #[must_use]
    pub fn passed(served: Served) -> Self {
        let has_begun = served.conn().has_leftover();
        let mut serve = Self::new(served);
        if has_begun {
            serve.begin();
        }
        serve
    }

    /// Bytes have arrived.
    fn begin(&mut self) {
        self.served.conn().is_idle.set(false);
        self.work = Work::Requests(Handler::take(Job::Connection(Rc::clone(self.served.conn()))));
    }

    /// Goes over to waiting for another request.
    fn idle(&mut self, timeout_ms: u64) {
        self.served.conn().is_idle.set(true);
        self.served.conn().deadline.set_after(timeout_ms);
    }
}

impl Future for Serve {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        loop {
            let next = match &mut this.work {
                Work::Idle => match this.served.conn().stream.poll_readable(cx) {
                    Poll::Ready(Ok(())) => {
                        this.begin();
                        continue;
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => return this.served.conn().deadline.poll_over(cx),
                },
                Work::Requests(handler) => ready!(handler.poll(cx)),
                Work::Http2(driver) => return driver.as_mut().as_mut().poll(cx),
            };
            if let Work::Requests(handler) = std::mem::replace(&mut this.work, Work::Idle) {
                Worker::with(|worker| worker.give_handler(handler));
            }
            match next {
                Next::Idle(timeout_ms) if !is_quitting() => this.idle(timeout_ms),
                Next::Http2 => {
                    this.work = Work::Http2(Box::new(Box::pin(h2::serve(Rc::clone(this.served.conn())))))
                }
                Next::Idle(_) | Next::Close => return Poll::Ready(()),
            }
        }
    }
}

fn first_timeout(conn: &Conn) -> u64 {
    let cycle = Worker::current().cycle();
    conn.listener_in(&cycle)
        .map_or(60_000, |index| cycle.http.default_location(index).core.client_header_timeout)
}

/// Handles the requests that are there.
pub(super) async fn active(worker: &Rc<Worker>, r: &mut Request, conn: &Rc<Conn>) -> Next {
    // What stands in front of the first request is to weigh on none of the others.
    if conn.requests.get() == 0
        && let Some(next) = apart(greet(worker, r, conn)).await
    {
        return next;
    }
    for nth in 1u32.. {
        r.begin(worker.cycle(), Rc::clone(conn));
        if !handle(r).await {
            return Next::Close;
        }
        if !r.keepalive || conn.is_aborted.get() {
            let core = std::sync::Arc::clone(&r.location().core);
            if needs_lingering(r, &core) {
                r.head = Buf::empty();
                apart(lingering::close(conn, &core)).await;
            }
            return Next::Close;
        }
        let core = &r.location().core;
        if core.tcp_nodelay {
            conn.send_small_packets();
        }
        if !conn.has_leftover() {
            return Next::Idle(core.keepalive_timeout);
        }
        r.reset();
        if nth >= PIPELINED {
            net::yield_now().await;
        }
    }
    Next::Close
}

/// The PROXY protocol, TLS, and the preface of HTTP/2. `None`: the first request of HTTP/1 follows.
async fn greet(worker: &Rc<Worker>, r: &mut Request, conn: &Rc<Conn>) -> Option<Next> {
    if !conn.is_tls() {
        if !conn.has_leftover()
            && let Some(next) = hear(worker, conn)
        {
            return Some(next);
        }
        if !proxy_header::read(worker, conn).await || !tls::begin(worker, r, conn).await {
            return Some(Next::Close);
        }
        r.reset();
        if conn.stream.tls().is_some_and(|session| !session.has_pending()) {
            return Some(Next::Idle(first_timeout(conn)));
        }
    }
    match h2::read_preface(&worker.cycle(), conn).await {
        Preface::Http1 => None,
        Preface::Http2 => Some(Next::Http2),
        Preface::Closed => Some(Next::Close),
    }
}

/// Reads what a connection begins with, mostly there when it is accepted. `None`: something was, and is kept.
fn hear(worker: &Worker, conn: &Conn) -> Option<Next> {
    let mut bytes = Buf::with_capacity(HEAD_SIZE);
    match conn.stream.try_recv(&mut bytes, HEAD_SIZE) {
        Ok(Some(1..)) => {
            conn.keep_leftover(bytes);
            None
        }
        // A connection that waits is to hold no handler.
        Ok(None) => Some(Next::Idle(first_timeout(conn))),
        Ok(Some(0)) => Some(Next::Close),
        Err(error) => {
            let reason = os::errlog::Errno(&error);
            conn.log(
                &worker.cycle(),
                Level::Info,
                format_args!("recv() failed {reason} while waiting for request"),
            );
            Some(Next::Close)
        }
    }
}

fn needs_lingering(r: &Request, core: &CoreSettings) -> bool {
    match core.lingering_close {
        LingeringClose::Off => false,
        LingeringClose::Always => true,
        LingeringClose::On => r.lingering,
    }
}

/// Reads and handles one request; says whether anything was asked.
async fn handle(r: &mut Request) -> bool {
    let counters = stats::own();
    stats::shift(&counters.reading, 1);
    let mut reading = begin_head(r);
    let read = poll_fn(|cx| poll_head(r, &mut reading, cx)).await;
    stats::shift(&counters.reading, -1);
    let bad = match read {
        Head::Ready => None,
        Head::Bad(status) => Some(status),
        Head::Nothing => return false,
        Head::Lost(status) => {
            r.close_silently(status);
            apart(process::log(r)).await;
            return false;
        }
    };
    stats::shift(&counters.writing, 1);
    match bad {
        None => {
            r.lingering = r.reader.is_open();
            process::process(r).await;
        }
        Some(status) => {
            r.keepalive = false;
            apart(process::process_failed(r, status)).await;
            // What stands behind the fault is not read, and whoever is still sending would lose the answer.
            r.lingering = r.head.len() > r.line.length;
        }
    }
    // Mostly all was sent, and nothing is left of the client's body.
    let is_tidy = r.output.is_idle() && !r.reader.is_open() && !process::has_more(r);
    if is_tidy {
        process::write_log(r);
    }
    if is_tidy || apart(finish(r)).await {
        keep_rest(r);
    }
    stats::shift(&counters.writing, -1);
    true
}

/// What is left to do once the answer is made: send the rest, log, and bring the connection to the next head. Says
/// whether that is where it is.
async fn finish(r: &mut Request) -> bool {
    if !r.output.is_idle() && output::flush(r).await.is_err() {
        r.keepalive = false;
        r.lingering = false;
    }
    process::log(r).await;
    !r.reader.is_open() || reach_end(r).await
}

/// Keeps what has come behind a request for the next one.
fn keep_rest(r: &mut Request) {
    let rest = r.reader.take_rest();
    if rest.is_empty() {
        return;
    }
    if r.keepalive {
        r.conn.keep_leftover(rest);
    } else {
        r.lingering = true;
    }
}

/// Reads what nobody wanted of a body; says whether its end was reached.
async fn reach_end(r: &mut Request) -> bool {
    if r.keepalive && !body::discard(r).await {
        r.keepalive = false;
    }
    if r.reader.is_open() {
        r.lingering = true;
        return false;
    }
    true
}

enum Head {
    Ready,
    Bad(u16),
    /// Nobody asked anything.
    Nothing,
    /// It broke off: nobody is answered, and the log shows this status.
    Lost(u16),
}

/// How far the head of a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// Nothing was waited for yet.
    Fresh,
    /// Its first byte is waited for.
    Waiting,
    /// Its first byte was there.
    Begun,
}

fn begin_head(r: &mut Request) -> Reading {
    r.head = r.conn.take_leftover();
    r.is_pipelined = !r.head.is_empty() && r.conn.requests.get() > 0;
    route::begin(r);
    Reading::Fresh
}

fn poll_head(r: &mut Request, reading: &mut Reading, cx: &mut Context<'_>) -> Poll<Head> {
    loop {
        if !r.head.is_empty() {
            if *reading != Reading::Begun {
                *reading = Reading::Begun;
                start(r);
            }
            if r.cycle.http.heads_differ
                && let Err(error) = parse_to_host(r)
            {
                r.method = r.line.method;
                return Poll::Ready(Head::Bad(route::refuse(r, error)));
            }
            let limits = head_limits(&r.location().core);
            match r.line.parse(&r.head, &limits) {
                Ok(Progress::Complete) => {
                    return Poll::Ready(route::route(r).map_or_else(Head::Bad, |()| Head::Ready));
                }
                Ok(Progress::Partial) => {}
                Err(error) => {
                    r.method = r.line.method;
                    route::enter(r);
                    return Poll::Ready(Head::Bad(route::refuse(r, error)));
                }
            }
        }
        let room = if r.head.len() < HEAD_SIZE { HEAD_SIZE - r.head.len() } else { 16 << 10 };
        r.head.reserve(room);
        match r.conn.stream.poll_recv(cx, &mut r.head, room) {
            Poll::Ready(Ok(1..)) => {}
            Poll::Ready(received) => return Poll::Ready(broken_off(r, received)),
            Poll::Pending => return poll_more(r, reading, cx),
        }
    }
}

/// Goes over to the server of the host as soon as that is named, since it reads what follows in its own way.
#[inline(never)]
fn parse_to_host(r: &mut Request) -> Result<(), HeadError> {
    if r.line.host().is_none() {
        let limits = head_limits(&r.location().core);
        if r.line.parse_to_host(&r.head, &limits)? == Progress::Complete {
            route::enter(r);
        }
    }
    Ok(())
}

/// Nothing more of the head is there now.
#[cold]
fn poll_more(r: &mut Request, reading: &mut Reading, cx: &mut Context<'_>) -> Poll<Head> {
    if r.head.is_empty() {
        // Only what is readable is worth a buffer.
        r.head = Buf::empty();
    }
    if *reading == Reading::Fresh {
        *reading = Reading::Waiting;
        r.conn.deadline.set_after(r.location().core.client_header_timeout);
    }
    ready!(r.conn.deadline.poll_over(cx));
    if r.head.is_empty() || r.conn.is_aborted.get() {
        return Poll::Ready(Head::Nothing);
    }
    let reading = describe(r);
    r.log(Level::Info, format_args!("client timed out (110: Connection timed out) while reading {reading}"));
    Poll::Ready(Head::Lost(408))
}

/// The client closed or failed.
#[cold]
fn broken_off(r: &Request, received: std::io::Result<usize>) -> Head {
    match received {
        Err(error) => {
            log_failed_read(r, &error);
            Head::Nothing
        }
        Ok(_) if r.line.begun() => {
            let reading = describe(r);
            r.log(Level::Info, format_args!("client prematurely closed connection while reading {reading}"));
            Head::Lost(400)
        }
        Ok(_) => Head::Nothing,
    }
}

fn log_failed_read(r: &Request, error: &std::io::Error) {
    let reading = describe(r);
    match net::tls::fault(error) {
        Some((reason, fault)) => {
            let level = if fault == net::tls::Fault::Peer { Level::Info } else { Level::Crit };
            r.log(level, format_args!("SSL_read() failed ({reason}) while reading {reading}"));
        }
        None => {
            let reason = os::errlog::Errno(error);
            r.log(Level::Info, format_args!("recv() failed {reason} while reading {reading}"));
        }
    }
}

/// What of the head is being read, for the log.
fn describe(r: &Request) -> &'static str {
    if r.line.line.is_empty() { "client request line" } else { "client request headers" }
}

/// The first byte of a request is here.
fn start(r: &mut Request) {
    r.conn.requests.set(r.conn.requests.get() + 1);
    stats::add(&stats::own().requests);
    r.started = net::timer::wall_clock();
    r.started_ms = net::timer::now_ms();
    r.conn.deadline.set_after(r.location().core.client_header_timeout);
}

pub(super) fn head_limits(core: &CoreSettings) -> HeadLimits {
    HeadLimits {
        initial: core.client_header_buffer_size,
        large_count: core.large_client_header_buffers.0 as usize,
        large_size: core.large_client_header_buffers.1,
        max_fields: core.max_headers,
        underscores: if core.underscores_in_headers { Underscores::Allow } else { Underscores::Invalid },
        invalid: if core.ignore_invalid_headers { InvalidFields::Ignore } else { InvalidFields::Keep },
    }
}

#[cfg(test)]
mod tests {
    use super::Serve;

    #[test]
    fn the_task_of_an_idle_connection_stays_small() {
        // It is what the event loop keeps of a connection that idles, beside where its task and its socket are found.
        assert!(size_of::<Serve>() <= 3 * size_of::<usize>(), "{}", size_of::<Serve>());
    }
}
