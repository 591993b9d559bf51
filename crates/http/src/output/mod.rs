//! The answer's way out: its head (`head.rs`), its body (`body.rs`), and writing both to the client.
//!
//! Head and first bytes of the body lie in one queue, so they leave in one write.

mod body;
mod head;
mod number;
mod rate;

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use net::Deadline;

pub use self::body::{new_part, push_body, push_chunk, push_whole};
pub(crate) use self::head::with_date;
pub use self::head::{let_body_come, send_early_hints, send_head};
pub use self::number::push_decimal;
pub(crate) use self::rate::{pause, rate_limit};

use crate::chain::Chain;
use crate::chunk::{FileWrite, Follows, Queue};
use crate::client::Client;
use crate::conf::core::{CoreSettings, LingeringClose};
use crate::filters::{BodyFilter, ENOUGH, More};
use crate::phases::{Body, Outcome};
use crate::request::Request;
use crate::server::h2;
use crate::subrequest;

/// Work of filters before other connections have their turn, in bytes that are only read from a socket.
const FILTERED: u64 = 1 << 20;

/// How the client knows where the body ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    #[default]
    None,
    /// `Content-Length`: so many bytes are left.
    Length(u64),
    /// Chunks.
    Chunked,
    /// The end of the connection.
    UntilClose,
}

/// What goes to a client for one request.
#[derive(Default)]
pub struct Output {
    /// What is ready to be written.
    pub queue: Queue,
    /// Body filters of this answer.
    filters: Option<Box<Chain>>,
    /// A filter failed: the body ends with what came out before.
    is_broken: bool,
    /// How the body ends.
    pub framing: Framing,
    /// Bytes written so far, head included (`$bytes_sent`).
    pub sent: u64,
    /// Bytes of the head.
    pub header_size: u64,
    /// Under HTTP/2 the head is made into bytes when its turn comes.
    pub is_head_queued: bool,
    /// The last byte of the body is in the queue.
    pub is_ended: bool,
    /// Where a subrequest's answer is gathered instead of being sent.
    pub capture: Option<Vec<u8>>,
    /// A handler has put out something that is not empty.
    pub(crate) had_body: bool,
    /// A filter could not go on.
    pub(crate) is_failed: bool,
    expects_subrequests: bool,
    /// An empty queue that has memory already.
    spare: Option<Queue>,
    /// What was framed last is to leave at once.
    wants_flush: bool,
    /// The client's connection had no room for what was written last.
    is_stuck: bool,
    delay: Option<Deadline>,
}

impl Output {
    pub(crate) fn reset(&mut self) {
        self.discard();
        self.framing = Framing::None;
        self.sent = 0;
        self.header_size = 0;
        self.is_head_queued = false;
        self.is_ended = false;
        self.capture = None;
        self.had_body = false;
        self.is_failed = false;
        self.expects_subrequests = false;
        self.wants_flush = false;
        self.delay = None;
    }

    /// Adds a filter that acts behind those that are there.
    pub fn add_filter(&mut self, filter: Box<dyn BodyFilter>) {
        self.filters.get_or_insert_default().push(filter);
    }

    /// Adds a filter that acts before those that are there.
    pub fn add_first_filter(&mut self, filter: Box<dyn BodyFilter>) {
        self.filters.get_or_insert_default().push_first(filter);
    }

    /// A filter of this answer may make places for subrequests.
    pub fn expect_subrequests(&mut self) {
        self.expects_subrequests = true;
    }

    /// Whether a filter may make places for subrequests.
    #[must_use]
    pub fn expects_subrequests(&self) -> bool {
        self.expects_subrequests
    }

    /// Drops whatever has not been written.
    pub fn discard(&mut self) {
        self.queue.clear();
        self.filters = None;
        self.is_broken = false;
    }

    /// Bytes that wait in memory, before filters and behind them.
    #[must_use]
    pub fn in_memory(&self) -> u64 {
        self.queue.in_memory() + self.filters.as_ref().map_or(0, |chain| chain.in_memory())
    }

    /// What waits longest: in front of the filters where there are any.
    pub fn waiting(&mut self) -> &mut Queue {
        match self.filters.as_mut().and_then(|chain| chain.waiting()) {
            Some(waiting) => waiting,
            None => &mut self.queue,
        }
    }

    /// Whether there is nothing to write and nothing to make of what came in.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && !self.is_behind() && !self.is_waiting()
    }

    /// Whether filters have something to do.
    fn is_behind(&self) -> bool {
        self.filters.as_ref().is_some_and(|chain| chain.has_work())
    }

    /// Whether filters wait for a subrequest.
    fn is_waiting(&self) -> bool {
        self.filters.as_ref().is_some_and(|chain| chain.is_waiting())
    }

    /// Whether all of the answer was written (`$request_completion`).
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.is_ended && self.queue.is_empty()
    }

    /// Bytes of the body sent so far (`$body_bytes_sent`).
    #[must_use]
    pub fn body_sent(&self) -> u64 {
        self.sent.saturating_sub(self.header_size)
    }
}

/// Writes what is queued as far as the client takes it, and filters as much as that needs; ready when nothing is
/// left.
///
/// # Errors
/// The error of the write, [`io::ErrorKind::TimedOut`] after `send_timeout` without progress, or that of a filter
/// that cannot go on ([`io::ErrorKind::InvalidData`]).
pub fn poll_flush(r: &mut Request, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    match poll_write(r, cx) {
        Poll::Pending if r.output.is_stuck => {
            r.client_deadline().poll_over(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
        }
        written => written,
    }
}

/// As [`poll_flush`], for whoever does not wait for the client: nothing of its time is over.
///
/// # Errors
/// As [`poll_flush`], but for the time.
pub fn poll_write(r: &mut Request, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    r.output.is_stuck = false;
    // One that failed leaves none behind.
    let is_filtered = r.output.filters.is_some() || r.output.is_broken;
    let mut left = FILTERED;
    loop {
        while is_filtered && left > 0 && r.output.queue.len() < ENOUGH && r.output.is_behind() {
            let work = body::refill(r, left)?;
            left = left.saturating_sub(work);
            net::charge(cx, work);
        }
        if !has_queued(r) {
            if r.output.is_broken {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            if r.output.is_waiting() && !r.output.is_behind() {
                return subrequest_awaited(r, cx);
            }
            if !r.output.is_behind() {
                return Poll::Ready(Ok(()));
            }
            // The other connections of this thread are to have their turn.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if is_filtered && r.output.is_waiting() && !r.output.is_behind() && postpones(r) {
            return subrequest_awaited(r, cx);
        }
        if r.is_subrequest {
            ready!(subrequest::hand_over(r, cx));
            continue;
        }
        if let Client::Stream(stream) = &r.client {
            let stream = Rc::clone(stream);
            ready!(h2::poll_send(r, &stream, cx))?;
            continue;
        }
        let limit = match rate_limit(r, cx) {
            Poll::Ready(limit) => limit,
            Poll::Pending => return Poll::Pending,
        };
        let core = &r.cycle.http.location(r.location).core;
        let files = if core.sendfile { FileWrite::Sendfile } else { FileWrite::Copy(core.output_buffers.1) };
        let most = match core.sendfile_max_chunk {
            0 => limit,
            chunk => limit.min(chunk),
        };
        let follows = if ends_connection(r, core) { Follows::End } else { Follows::Anything };
        match r.output.queue.poll_write(cx, &r.conn.stream, files, most, follows) {
            Poll::Ready(sent) => {
                let sent = sent?;
                r.output.sent += sent;
                if !r.output.is_complete() {
                    r.client_deadline().set_after(core.send_timeout);
                }
                pause(r, sent);
                if !is_filtered && r.output.queue.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                if sent == most && !r.output.queue.is_empty() {
                    // A fast client is not to keep the others of this thread waiting.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
            Poll::Pending => {
                r.output.is_stuck = true;
                return Poll::Pending;
            }
        }
    }
}

/// Whether with what is queued all is done that the connection is for, so that it is closed right behind.
fn ends_connection(r: &Request, core: &CoreSettings) -> bool {
    !r.keepalive
        && r.output.is_ended
        && !r.output.is_behind()
        && !r.lingering
        && !r.reader.is_open()
        && r.family.is_none()
        && core.lingering_close != LingeringClose::Always
        && core.post_action.is_none()
}

/// Whether what is ready is too little to be sent before a subrequest adds to it (`postpone_output`).
fn postpones(r: &Request) -> bool {
    !r.output.wants_flush && r.output.queue.len() < r.location().core.postpone_output as u64
}

/// Nothing can be written before a subrequest has got on.
fn subrequest_awaited(r: &Request, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    if let Some(chain) = &r.output.filters {
        chain.watch(cx);
    }
    if let Some(family) = r.known_family().filter(|_| !r.is_subrequest) {
        family.sent.set(r.bytes_sent());
    }
    // Nobody else watches the client now.
    if !r.hears_out() && r.poll_client_gone(cx).is_ready() {
        return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
    }
    Poll::Pending
}

/// Whether something is ready to be written.
#[inline]
fn has_queued(r: &Request) -> bool {
    match &r.client {
        Client::Stream(stream) if !r.is_subrequest => h2::has_more(r, stream),
        _ => !r.output.queue.is_empty(),
    }
}

/// Whether nothing is queued, here or in front of a filter.
#[inline]
pub(crate) fn is_flushed(r: &Request) -> bool {
    r.output.is_idle() && !has_queued(r)
}

/// Writes all that is queued.
///
/// # Errors
/// As [`poll_flush`].
pub async fn flush(r: &mut Request) -> io::Result<()> {
    if is_flushed(r) {
        return Ok(());
    }
    r.client_deadline().set_after(r.location().core.send_timeout);
    poll_fn(|cx| match poll_flush(r, cx) {
        // Somebody who went away need not be waited for (`ngx_http_test_reading`).
        Poll::Pending if r.poll_client_gone(cx).is_ready() => {
            Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
        }
        other => other,
    })
    .await
}

/// Sends a whole answer: head, body and end.
pub async fn send(r: &mut Request, body: Body) -> Outcome {
    if let Err(outcome) = send_head(r) {
        return outcome;
    }
    let mut part = Queue::default();
    match body {
        Body::Empty => {}
        Body::One(chunk) => part.push(chunk),
        Body::Many(chunks) => chunks.into_iter().for_each(|chunk| part.push(chunk)),
    }
    push_body(r, part, More::End);
    match flush(r).await {
        Ok(()) => Outcome::Sent,
        Err(_) => Outcome::Broken(0),
    }
}
