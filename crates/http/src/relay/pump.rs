//! The body of an answer on its way from the upstream to the client.
//!
//! With buffering the upstream is read while the client is slow, into memory and then a temporary file, within
//! the configured bounds; without it one piece is written before the next is read. Once all is read the upstream is
//! let go, however long the client takes.

use std::future::poll_fn;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use net::{Buf, Deadline};
use os::errlog::{Errno, Level};

use super::cache::{Ending, Sink};
use super::codec::{BodyLength, Carrier, Closing, Codec, Decoded, Received, SendError, Wire};
use super::connect::Connected;
use super::exchange::Answer;
use super::{Relay, now};
use crate::chunk::{Chunk, Queue};
use crate::filters::More;
use crate::output;
use crate::phases::Outcome;
use crate::request::Request;

/// Sizes of reads: small at first, larger while a body streams faster than it is asked for.
const READ_SIZES: [usize; 3] = [32 << 10, 64 << 10, 256 << 10];

/// How a body ended.
enum End {
    /// All of it is there; the client may not have got it yet.
    Complete,
    /// The upstream broke off: the client gets no proper end either.
    Truncated,
    /// The client failed.
    ClientFailed,
}

struct Pump<'a> {
    conn: &'a Connected,
    wire: &'a mut Wire,
    deadline: &'a Deadline,
    read_timeout: u64,
    /// Bytes that may wait in memory.
    memory_limit: u64,
    /// Bytes that may wait in a file; zero without buffering.
    file_limit: u64,
    spool: Option<Spool>,
    /// Where the body goes besides.
    sink: Option<Box<Sink>>,
    size: usize,
    is_done: bool,
    is_buffered: bool,
    rate: u64,
    rate_started_ms: u64,
    rate_received: u64,
    temp_path: &'a crate::conf::core::TempPath,
}

/// A temporary file that takes what the client has no time for.
struct Spool {
    file: Arc<std::fs::File>,
    length: u64,
}

impl Spool {
    /// Once nobody is to send a part of the file, it is used from its beginning again. It is emptied for that:
    /// what `sendfile` gave to the kernel are pages of the file, and writing over them would change what the
    /// client has not received yet. Emptying takes them away from the file.
    fn begin_again(&mut self) {
        if self.length > 0 && Arc::strong_count(&self.file) == 1 && self.file.set_len(0).is_ok() {
            self.length = 0;
        }
    }
}

/// Passes the body on; the head is queued already.
pub(super) async fn run(
    relay: &mut Relay<'_>,
    r: &mut Request,
    mut answer: Answer,
    length: BodyLength,
    deadline: &Deadline,
) -> Outcome {
    let is_buffered = r.upstream_buffering.unwrap_or(relay.settings.buffering);
    let is_kept = r.cache.is_some() || relay.settings.cache.store != super::cache::Store::Off;
    let sink = if is_kept { begin_sink(relay, r, length, is_buffered) } else { None };
    if r.response.header_only && sink.is_none() {
        return finish_head_only(relay, r, answer).await;
    }
    let (buf, body) = (std::mem::take(&mut answer.buf), answer.body);
    let rate = relay
        .settings
        .limit_rate
        .as_ref()
        .and_then(|rate| base::parse_size(&rate.value(r)).ok())
        .unwrap_or(0);
    let received = buf.len().saturating_sub(body) as u64;
    let mut pump = Pump {
        conn: &answer.conn,
        wire: &mut relay.wire,
        deadline,
        read_timeout: relay.settings.read_timeout,
        memory_limit: if is_buffered { relay.settings.memory_limit() } else { 0 },
        file_limit: if is_buffered { relay.settings.file_limit() } else { 0 },
        spool: None,
        sink,
        size: 0,
        is_done: false,
        is_buffered,
        rate,
        rate_started_ms: net::timer::now_ms(),
        rate_received: received,
        temp_path: &relay.settings.temp_path,
    };
    let is_empty = matches!(length, BodyLength::None | BodyLength::Known(0));
    let first = if received > 0 || is_empty { pump.take(r, buf, body) } else { Ok(()) };
    let end = match first {
        Err(end) => end,
        Ok(()) => pump.run(r).await,
    };
    let sink = pump.sink.take();
    let settings = relay.settings;
    let is_mute = sink.as_ref().is_some_and(|sink| sink.is_mute);
    if let (Some(case), Some(state)) = (&mut r.cache, r.upstreams.last()) {
        case.bytes = state.received;
    }
    if let (Some(sink), End::Complete) = (sink, &end) {
        sink.commit(r, settings);
    }
    relay.succeed(r);
    match end {
        End::Complete => {
            if relay.may_serve_on(r) {
                relay.keep(answer);
            } else {
                drop(answer);
            }
            if is_mute {
                finish_mute(r).await
            } else if output::is_flushed(r) {
                Outcome::Sent
            } else {
                Box::pin(finish(r)).await
            }
        }
        End::Truncated => {
            let _ = output::flush(r).await;
            Outcome::Broken(0)
        }
        End::ClientFailed => Outcome::Broken(0),
    }
}

/// Queues a body that is there as a whole, where it goes to the client alone. Says whether it did: nothing is left to be
/// pumped then.
pub(super) fn take_whole(relay: &mut Relay<'_>, r: &mut Request, answer: &mut Answer) -> bool {
    let is_kept = r.cache.is_some() || relay.settings.cache.store != super::cache::Store::Off;
    if is_kept || r.response.header_only {
        return false;
    }
    let Some(length) = relay.wire.take_whole(answer.rest()) else { return false };
    if let Some(state) = r.upstreams.last_mut() {
        state.response_length += answer.rest().len() as u64;
        state.response_ms = Some(net::timer::now_ms().saturating_sub(state.started_ms));
    }
    output::push_whole(r, std::mem::take(&mut answer.buf), answer.body, length);
    true
}

/// How far the client got a body that was [taken whole](take_whole).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passed {
    /// All of it was sent.
    Sent,
    /// It still waits for the client.
    Waits,
    /// The client failed.
    Broken,
}

/// The upstream's part in an answer that was [taken whole](take_whole) is over; `written` came of the first write.
pub(super) fn end_whole(relay: &mut Relay<'_>, r: &mut Request, written: &Poll<io::Result<()>>) -> Passed {
    relay.succeed(r);
    if let Poll::Ready(Err(error)) = written {
        client_failed(r, error);
        return Passed::Broken;
    }
    if output::is_flushed(r) { Passed::Sent } else { Passed::Waits }
}

impl Relay<'_> {
    /// Whether the connection of an answer that was read to its end may serve another request. If not it is to be closed:
    /// processes of application servers wait for that, and are not to wait for a slow client.
    #[inline]
    pub(super) fn may_serve_on(&self, r: &Request) -> bool {
        self.may_go_on() && self.wire.may_keep(r)
    }

    /// Keeps the connection of such an answer.
    pub(super) fn keep(&mut self, mut answer: Answer) {
        self.wire.release(&mut answer.conn);
        answer.conn.keep(&self.upstream, now());
    }
}

/// Where an answer goes that is to be kept or saved; one that is not buffered is neither.
#[inline(never)]
fn begin_sink(
    relay: &Relay<'_>,
    r: &mut Request,
    length: BodyLength,
    is_buffered: bool,
) -> Option<Box<Sink>> {
    let may_keep = is_buffered || relay.settings.keeps_unbuffered;
    let ending = may_keep.then(|| Ending { length, closing: relay.wire.closing() });
    let sink = Sink::begin(r, relay.settings, ending);
    r.ignores_client_abort = relay.settings.ignore_client_abort || sink.is_some();
    sink
}

/// The client gets what it has not got yet.
pub(super) async fn finish(r: &mut Request) -> Outcome {
    match output::flush(r).await {
        Ok(()) => Outcome::Sent,
        Err(error) => {
            client_failed(r, &error);
            Outcome::Broken(0)
        }
    }
}

/// The body went into the sink alone: what the client gets has ended before.
async fn finish_mute(r: &mut Request) -> Outcome {
    if !r.response.header_only && !r.is_detached() {
        return Outcome::Broken(0);
    }
    if output::flush(r).await.is_err() { Outcome::Broken(0) } else { Outcome::Sent }
}

/// The client wants no body: what the upstream sends of one is not read.
async fn finish_head_only(relay: &mut Relay<'_>, r: &mut Request, answer: Answer) -> Outcome {
    relay.succeed(r);
    relay.finish_unread(answer, r);
    output::push_body(r, Queue::default(), More::End);
    if output::flush(r).await.is_err() {
        return Outcome::Broken(0);
    }
    Outcome::Sent
}

impl Pump<'_> {
    async fn run(&mut self, r: &mut Request) -> End {
        if !self.is_done {
            self.deadline.set_after(self.read_timeout);
        }
        r.client_deadline().set_after(r.location().core.send_timeout);
        poll_fn(|cx| self.poll(r, cx)).await
    }

    fn poll(&mut self, r: &mut Request, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            match self.wire.poll_send(r, self.conn.stream(), self.deadline, cx) {
                Poll::Ready(Err(SendError::Peer(error))) => {
                    r.log(
                        Level::Error,
                        format_args!("send() failed {} while sending request to upstream", Errno(&error)),
                    );
                    return Poll::Ready(End::Truncated);
                }
                Poll::Ready(Err(SendError::Client(error))) => {
                    // What the log says of it; the answer is under way already.
                    let _ = error.outcome(r);
                    return Poll::Ready(End::ClientFailed);
                }
                _ => {}
            }
            let is_stuck = match output::poll_flush(r, cx) {
                Poll::Ready(Ok(())) => {
                    if let Some(spool) = &mut self.spool {
                        spool.begin_again();
                    }
                    false
                }
                Poll::Ready(Err(error)) => {
                    let end = client_failed(r, &error);
                    if !self.go_on_alone(r) {
                        return Poll::Ready(end);
                    }
                    continue;
                }
                Poll::Pending => true,
            };
            if self.is_done {
                return Poll::Ready(End::Complete);
            }
            if is_stuck && !self.make_room(r) {
                return Poll::Pending;
            }
            if let Some(wait) = self.rate_wait() {
                self.deadline.set_after(wait);
                if self.deadline.poll_over(cx).is_pending() {
                    return Poll::Pending;
                }
                self.deadline.set_after(self.read_timeout);
            }
            match self.poll_read(r, cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(end)) => return Poll::Ready(end),
                Poll::Pending => {
                    if self.deadline.poll_over(cx).is_ready() {
                        r.log(
                            Level::Error,
                            format_args!(
                                "upstream timed out (110: Connection timed out) while reading upstream"
                            ),
                        );
                        return Poll::Ready(End::Truncated);
                    }
                    if let Some(sink) = &mut self.sink {
                        sink.flush(r);
                    }
                    if !is_stuck && self.client_is_gone(r, cx) {
                        return Poll::Ready(End::ClientFailed);
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// A client that went away is noticed while nothing is written to it.
    fn client_is_gone(&self, r: &Request, cx: &mut Context<'_>) -> bool {
        if r.ignores_client_abort || r.poll_client_gone(cx).is_pending() {
            return false;
        }
        r.log(Level::Info, format_args!("client prematurely closed connection while reading upstream"));
        true
    }

    /// The client failed: what it does not get still goes into the sink. Says whether there is one.
    fn go_on_alone(&mut self, r: &mut Request) -> bool {
        let Some(sink) = self.sink.as_mut().filter(|sink| !sink.is_mute && sink.is_sound()) else {
            return false;
        };
        sink.is_mute = true;
        r.output.discard();
        true
    }

    /// Bytes per second from the upstream (`proxy_limit_rate`): milliseconds until more may be read.
    fn rate_wait(&self) -> Option<u64> {
        if self.rate == 0 {
            return None;
        }
        let seconds = net::timer::now_ms().saturating_sub(self.rate_started_ms) / 1000 + 1;
        let allowed = self.rate.saturating_mul(seconds);
        (self.rate_received >= allowed).then(|| (self.rate_received - allowed) * 1000 / self.rate + 1)
    }

    /// The client is slow: room for more is made by moving what waits in memory to a file. Says whether there is
    /// any.
    fn make_room(&mut self, r: &mut Request) -> bool {
        if !self.is_buffered {
            return false;
        }
        if self.sink.as_ref().is_some_and(|sink| sink.is_sound()) {
            return true;
        }
        if r.output.in_memory() < self.memory_limit {
            return true;
        }
        let used = self.spool.as_ref().map_or(0, |spool| spool.length);
        if self.file_limit == 0 || used + r.output.in_memory() > self.file_limit {
            return false;
        }
        if self.spool.is_none() {
            match crate::temp_file::create(self.temp_path) {
                Ok((file, path)) => {
                    r.log(
                        Level::Warn,
                        format_args!(
                            "an upstream response is buffered to a temporary file {} while reading upstream",
                            path.display()
                        ),
                    );
                    let _ = std::fs::remove_file(&path);
                    self.spool = Some(Spool { file: Arc::new(file), length: 0 });
                }
                Err(error) => {
                    r.log(Level::Crit, format_args!("creating a temporary file failed {}", Errno(&error)));
                    self.file_limit = 0;
                    return false;
                }
            }
        }
        let Some(spool) = &mut self.spool else { return false };
        match spill(r.output.waiting(), spool) {
            Ok(()) => true,
            Err(error) => {
                // A full disk costs the buffering, not the answer.
                r.log(Level::Crit, format_args!("writing a temporary file failed {}", Errno(&error)));
                self.file_limit = 0;
                false
            }
        }
    }

    fn poll_read(&mut self, r: &mut Request, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        if let Err(error) = ready!(self.wire.poll_readable(self.conn.stream(), cx)) {
            return Poll::Ready(Err(upstream_failed(r, &error)));
        }
        let size = self.read_size();
        let mut buf = Buf::with_capacity(size);
        let count = match ready!(self.wire.poll_receive(self.conn.stream(), cx, &mut buf, size)) {
            Err(error) => return Poll::Ready(Err(upstream_failed(r, &error))),
            Ok(Received::Closed) => return Poll::Ready(self.end_of_stream(r)),
            Ok(Received::Bytes(count)) => count,
        };
        if count == size && self.size + 1 < READ_SIZES.len() {
            self.size += 1;
        }
        self.rate_received += count as u64;
        if let Some(state) = r.upstreams.last_mut() {
            state.received += count as u64;
        }
        self.deadline.set_after(self.read_timeout);
        Poll::Ready(self.take(r, buf, 0))
    }

    fn read_size(&self) -> usize {
        let size = READ_SIZES[self.size];
        if self.rate == 0 {
            return size;
        }
        let seconds = net::timer::now_ms().saturating_sub(self.rate_started_ms) / 1000 + 1;
        let left = self.rate.saturating_mul(seconds).saturating_sub(self.rate_received);
        size.min(usize::try_from(left).unwrap_or(size)).max(1)
    }

    fn end_of_stream(&mut self, r: &mut Request) -> Result<(), End> {
        if self.wire.closing() == Closing::Complete {
            return self.end(r);
        }
        r.log(Level::Error, format_args!("upstream prematurely closed connection while reading upstream"));
        Err(End::Truncated)
    }

    /// The body is over.
    fn end(&mut self, r: &mut Request) -> Result<(), End> {
        self.is_done = true;
        if let Some(state) = r.upstreams.last_mut() {
            state.response_ms = Some(net::timer::now_ms().saturating_sub(state.started_ms));
        }
        output::push_body(r, Queue::default(), More::End);
        Ok(())
    }

    /// Decodes what lies in `buf` from `start` and queues it.
    fn take(&mut self, r: &mut Request, buf: Buf, start: usize) -> Result<(), End> {
        let mut part = output::new_part(r);
        let length = buf.len().saturating_sub(start) as u64;
        let decoded = self.wire.decode(r, buf, start, &mut part);
        if let Some(state) = r.upstreams.last_mut() {
            state.response_length += length;
            if decoded == Decoded::End {
                state.response_ms = Some(net::timer::now_ms().saturating_sub(state.started_ms));
            }
        }
        if let Some(sink) = &mut self.sink {
            // Without buffering the client is what is waited for.
            let most = if self.is_buffered { self.memory_limit } else { u64::MAX };
            sink.take(r, &mut part, r.output.in_memory(), most);
        }
        self.is_done = decoded == Decoded::End;
        let more = match (self.is_done, self.is_buffered) {
            (true, _) => More::End,
            (false, true) => More::Later,
            (false, false) => More::Flush,
        };
        output::push_body(r, part, more);
        if decoded == Decoded::Broken { Err(End::Truncated) } else { Ok(()) }
    }
}

/// Writes what waits in memory to the file; the queue then names the file's part in its place.
fn spill(queue: &mut Queue, spool: &mut Spool) -> io::Result<()> {
    let mut kept = Queue::default();
    let from = spool.length;
    let mut written = from;
    let mut file_part: Option<(u64, u64)> = None;
    while let Some(chunk) = queue.pop() {
        match chunk.bytes() {
            None => {
                if let Some((start, end)) = file_part.take() {
                    kept.push(Chunk::File { file: Arc::clone(&spool.file), offset: start, end });
                }
                kept.push(chunk);
            }
            Some(bytes) => {
                if let Err(error) = spool.file.write_all_at(bytes, written) {
                    if let Some((start, end)) = file_part.take() {
                        kept.push(Chunk::File { file: Arc::clone(&spool.file), offset: start, end });
                    }
                    spool.length = written;
                    kept.push(chunk);
                    kept.append(queue);
                    *queue = kept;
                    return Err(error);
                }
                let end = written + bytes.len() as u64;
                file_part = Some((file_part.map_or(written, |(start, _)| start), end));
                written = end;
            }
        }
    }
    if let Some((start, end)) = file_part {
        kept.push(Chunk::File { file: Arc::clone(&spool.file), offset: start, end });
    }
    spool.length = written;
    *queue = kept;
    Ok(())
}

fn upstream_failed(r: &Request, error: &io::Error) -> End {
    let call = net::tls::failed_call(error, "recv()", "SSL_read()");
    r.log(Level::Error, format_args!("{call} failed {} while reading upstream", Errno(error)));
    End::Truncated
}

fn client_failed(r: &Request, error: &io::Error) -> End {
    if error.kind() == io::ErrorKind::InvalidData {
        // A filter could not go on, and has said why.
    } else if error.kind() == io::ErrorKind::ConnectionReset && error.raw_os_error().is_none() {
        r.log(Level::Info, format_args!("client prematurely closed connection"));
    } else if error.kind() == io::ErrorKind::TimedOut {
        r.log(
            Level::Info,
            format_args!("client timed out (110: Connection timed out) while sending to client"),
        );
    } else {
        let call = net::tls::failed_call(error, "send()", "SSL_write()");
        r.log(Level::Info, format_args!("{call} failed {} while sending to client", Errno(error)));
    }
    End::ClientFailed
}
