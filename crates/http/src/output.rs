//! The answer's way out: header filters, the head as bytes, body filters, framing, and writing to the client.
//!
//! Head and first bytes of the body lie in one queue, so they leave in one write.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use net::{Buf, Deadline};
use os::errlog::Level;
use proto::h1::{Known, Method, Version};

use crate::chain::Chain;
use crate::chunk::{Chunk, FileWrite, Queue};
use crate::client::Client;
use crate::conf::core::ServerTokens;
use crate::filters::{BodyFilter, ENOUGH, Filtered, More};
use crate::phases::{Body, Outcome};
use crate::request::Request;
use crate::server::h2;
use crate::status::status_line;
use crate::subrequest;
use crate::trace;
use crate::variables::Template;

/// nginx's version, which Tidegate answers as.
pub const NGINX_VERSION: &str = "1.31.5";

/// Bytes of small bodies that are copied behind the head instead of leaving as a slice of their own.
const COPY_MAX: u64 = 2048;
/// Bytes of files that are read instead of being left to `sendfile`.
const SMALL_FILE: u64 = 16 << 10;
/// Pieces that filters may work on before other connections have their turn.
const FILTER_STEPS: u32 = 16;

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
    spare: Queue,
    /// What was framed last is to leave at once.
    wants_flush: bool,
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

/// Runs the header filters and queues the head.
///
/// # Errors
/// What a filter wants answered instead.
pub fn send_head(r: &mut Request) -> Result<(), Outcome> {
    if r.response.head_sent {
        return Ok(());
    }
    if r.error_status != 0 {
        r.response.status = r.error_status;
        r.response.status_line.clear();
    }
    if let Client::Stream(stream) = &r.client
        && stream.asks_tunnel()
        && !r.is_subrequest
        && matches!(r.response.status, 200..=299)
    {
        return Err(no_tunnel(r));
    }
    let cycle = std::rc::Rc::clone(&r.cycle);
    for filter in &cycle.http.location(r.location).concerned.header_filters {
        match filter.filter(r) {
            Filtered::Next => {}
            Filtered::Instead(outcome) => {
                r.output.filters = None;
                return Err(outcome);
            }
        }
    }
    r.response.head_sent = true;
    if r.version() == Version::HTTP_09 && !r.is_subrequest && r.stream().is_none() {
        r.output.framing = Framing::UntilClose;
        r.keepalive = false;
        return Ok(());
    }
    decide_framing(r);
    if r.is_subrequest {
        return Ok(());
    }
    if let Client::Stream(_) = r.client {
        r.output.is_head_queued = true;
        trace::answer(r, b"");
        return Ok(());
    }
    let mut out = Buf::with_capacity(4096);
    write_head(r, &mut out);
    trace::answer(r, &out);
    r.output.header_size = out.len() as u64;
    r.output.queue.push(out.into());
    Ok(())
}

/// What becomes of an answer that a client over HTTP/2 would take for the beginning of the tunnel that it asks for
/// (RFC 8441), though nobody switched protocols.
fn no_tunnel(r: &Request) -> Outcome {
    let (level, status) = if r.upstreams.is_empty() { (Level::Info, 501) } else { (Level::Error, 502) };
    let given = r.response.status;
    r.log(level, format_args!("an extended CONNECT is answered with status {given} without a tunnel"));
    Outcome::Status(status)
}

/// Queues an interim answer with these fields, where `early_hints` says so and the client can understand it
/// (`ngx_http_send_early_hints`).
pub fn send_early_hints<'f>(r: &mut Request, fields: impl Iterator<Item = (&'f [u8], &'f [u8])>) {
    let conditions = r.location().core.early_hints.clone();
    if r.is_subrequest
        || r.is_post_action
        || r.response.head_sent
        || (r.version() != Version::HTTP_11 && r.stream().is_none())
        || !conditions.iter().any(|condition| condition.holds(r))
    {
        return;
    }
    if let Client::Stream(stream) = &r.client {
        h2::send_early_hints(stream, fields);
        return;
    }
    let mut out = Buf::empty();
    for (name, value) in fields {
        if out.is_empty() {
            out.extend_from_slice(b"HTTP/1.1 103 Early Hints\r\n");
        }
        out.extend_from_slice(name);
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
    if !out.is_empty() {
        out.extend_from_slice(b"\r\n");
        r.output.queue.push(out.into());
    }
}

/// How the body will end, and whether the connection can serve another request (`ngx_http_header_filter`,
/// `ngx_http_chunked_header_filter`).
fn decide_framing(r: &mut Request) {
    let response = &mut r.response;
    if r.method == Method::Head {
        response.header_only = true;
    }
    match response.status {
        204 if response.status_line.is_empty() => {
            response.header_only = true;
            response.content_type.clear();
            response.set_last_modified(None);
            response.clear_content_length();
        }
        304 | 100..=199 => response.header_only = true,
        204 => response.header_only = true,
        _ => {}
    }
    if crate::server::is_quitting() {
        r.keepalive = false;
    }
    let is_11 = r.line.version >= Version::HTTP_11;
    let may_chunk = is_11 && r.cycle.http.location(r.location).core.chunked_transfer_encoding;
    r.output.framing = if matches!(response.status, 0..=199 | 204 | 304) || r.method == Method::Head {
        Framing::None
    } else if (r.method == Method::Connect && response.status < 300) || matches!(r.client, Client::Stream(_))
    {
        Framing::UntilClose
    } else if let Some(length) = response.content_length
        && !(response.expect_trailers && may_chunk)
    {
        Framing::Length(length)
    } else if may_chunk {
        response.clear_content_length();
        Framing::Chunked
    } else {
        r.keepalive = false;
        Framing::UntilClose
    };
}

/// Appends the head as it goes over the wire, in nginx's order of fields.
fn write_head(r: &Request, out: &mut Vec<u8>) {
    let response = &r.response;
    let core = &r.location().core;
    out.extend_from_slice(b"HTTP/1.1 ");
    write_status(response.status, &response.status_line, out);
    let headers = &response.headers;
    if !response.omits_server && !headers.has(Known::Server) {
        out.extend_from_slice(match core.server_tokens {
            ServerTokens::On => b"Server: nginx/1.31.5\r\n",
            ServerTokens::Off => b"Server: nginx\r\n".as_slice(),
            ServerTokens::Build => BUILD_LINE.as_bytes(),
        });
    }
    if !response.omits_date && !headers.has(Known::Date) {
        write_date(out);
    }
    if !response.content_type.is_empty() {
        out.extend_from_slice(b"Content-Type: ");
        out.extend_from_slice(&response.content_type);
        if !response.charset.is_empty() {
            out.extend_from_slice(b"; charset=");
            out.extend_from_slice(&response.charset);
        }
        out.extend_from_slice(b"\r\n");
    }
    if let Some(length) = response.content_length
        && !headers.has(Known::ContentLength)
    {
        out.extend_from_slice(b"Content-Length: ");
        push_decimal(length, out);
        out.extend_from_slice(b"\r\n");
    }
    if !headers.has(Known::LastModified)
        && matches!(response.status, 200 | 206 | 304)
        && let Some(time) = response.last_modified()
    {
        out.extend_from_slice(b"Last-Modified: ");
        out.extend_from_slice(&proto::date::http(time));
        out.extend_from_slice(b"\r\n");
    }
    let location = crate::redirect::absolute_location(r);
    if let Some(location) = &location {
        out.extend_from_slice(b"Location: ");
        out.extend_from_slice(location);
        out.extend_from_slice(b"\r\n");
    }
    if r.output.framing == Framing::Chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    if response.status == 101 {
        out.extend_from_slice(b"Connection: upgrade\r\n");
    } else if r.keepalive {
        out.extend_from_slice(b"Connection: keep-alive\r\n");
        if core.keepalive_header > 0 {
            out.extend_from_slice(b"Keep-Alive: timeout=");
            push_decimal(core.keepalive_header, out);
            out.extend_from_slice(b"\r\n");
        }
    } else {
        out.extend_from_slice(b"Connection: close\r\n");
    }
    if response.varies_by_coding && core.gzip_vary {
        out.extend_from_slice(b"Vary: Accept-Encoding\r\n");
    }
    match location {
        None => headers.write_to(out),
        Some(_) => headers.write_without(Known::Location, out),
    }
    out.extend_from_slice(b"\r\n");
}

/// Our name with `server_tokens build`.
pub(crate) const BUILD: &str = concat!("nginx/1.31.5 (tidegate/", env!("CARGO_PKG_VERSION"), ")");
const BUILD_LINE: &str = concat!("Server: nginx/1.31.5 (tidegate/", env!("CARGO_PKG_VERSION"), ")\r\n");

fn write_status(status: u16, line: &[u8], out: &mut Vec<u8>) {
    if !line.is_empty() {
        out.extend_from_slice(line);
    } else if let Some(line) = status_line(status) {
        out.extend_from_slice(line.as_bytes());
    } else {
        push_decimal(u64::from(status), out);
        out.push(b' ');
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends a number in decimal.
pub fn push_decimal(number: u64, out: &mut Vec<u8>) {
    let digit = |value: u64| b'0' + (value % 10) as u8;
    match number {
        // Most are short: statuses, lengths, the parts of addresses.
        0..=9 => out.push(digit(number)),
        10..=99 => out.extend_from_slice(&[digit(number / 10), digit(number)]),
        100..=999 => out.extend_from_slice(&[digit(number / 100), digit(number / 10), digit(number)]),
        _ => push_long(number, out),
    }
}

fn push_long(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn write_date(out: &mut Vec<u8>) {
    with_date_line(|line| out.extend_from_slice(line));
}

/// The present time as HTTP writes it; made once a second.
pub(crate) fn with_date(act: impl FnOnce(&[u8])) {
    with_date_line(|line| {
        let text = line.get(DATE_NAME.len()..line.len() - 2).unwrap_or_default();
        act(text);
    });
}

const DATE_NAME: &[u8] = b"Date: ";

fn with_date_line(act: impl FnOnce(&[u8])) {
    thread_local! {
        static LINE: RefCell<(i64, Vec<u8>)> = const { RefCell::new((i64::MIN, Vec::new())) };
    }
    let now = net::timer::wall_clock().0;
    LINE.with(|line| {
        let mut line = line.borrow_mut();
        if line.0 != now {
            line.0 = now;
            line.1.clear();
            line.1.extend_from_slice(DATE_NAME);
            line.1.extend_from_slice(&proto::date::http(now));
            line.1.extend_from_slice(b"\r\n");
        }
        act(&line.1);
    });
}

/// A queue for a part of the body.
#[inline]
pub fn new_part(r: &mut Request) -> Queue {
    std::mem::take(&mut r.output.spare)
}

/// Queues a part of the body: for the filters where there are any, else framed for the client.
pub fn push_body(r: &mut Request, part: Queue, more: More) {
    r.output.had_body |= !part.is_empty();
    match &mut r.output.filters {
        Some(chain) if !r.response.header_only => chain.put(part, more),
        _ => frame(r, part, more),
    }
}

/// As [`push_body`], for one chunk.
pub fn push_chunk(r: &mut Request, chunk: Chunk, more: More) {
    let mut part = Queue::default();
    part.push(chunk);
    push_body(r, part, more);
}

/// Lets the filters make more of what came in; says how many steps they took.
fn refill(r: &mut Request, steps: u32) -> io::Result<u32> {
    let Some(mut chain) = r.output.filters.take() else { return Ok(0) };
    let mut part = Queue::default();
    match chain.run(r, &mut part, steps) {
        Ok(ran) => {
            r.output.filters = Some(chain);
            frame(r, part, ran.more);
            Ok(ran.steps)
        }
        Err(error) => {
            r.output.is_failed = true;
            if part.is_empty() && r.output.sent == 0 {
                return Err(error);
            }
            // What was made of the beginning still goes out, but no head alone.
            r.output.is_broken = true;
            frame(r, part, More::Later);
            Ok(steps)
        }
    }
}

fn frame(r: &mut Request, mut part: Queue, more: More) {
    let is_end = more == More::End;
    r.output.wants_flush = more == More::Flush;
    if r.response.header_only {
        r.output.is_ended |= is_end;
        return;
    }
    if r.is_subrequest {
        match &r.output.capture {
            Some(_) => gather(r, part),
            None => r.output.queue.append(&mut part),
        }
        r.output.is_ended |= is_end;
        return;
    }
    match &mut r.output.framing {
        Framing::None => {}
        Framing::Length(left) => {
            *left = left.saturating_sub(part.len());
            push_all(&mut r.output.queue, &mut part);
        }
        Framing::UntilClose => push_all(&mut r.output.queue, &mut part),
        Framing::Chunked => {
            let length = part.len();
            if length > 0 {
                let mut size = [0u8; 20];
                r.output.queue.push_bytes(chunk_head(length, &mut size));
                push_all(&mut r.output.queue, &mut part);
                r.output.queue.push_bytes(b"\r\n");
            }
            if is_end && !r.output.is_ended {
                r.output.queue.push_bytes(b"0\r\n");
                let mut trailers = Vec::new();
                r.response.trailers.write_to(&mut trailers);
                trailers.extend_from_slice(b"\r\n");
                r.output.queue.push_bytes(&trailers);
            }
        }
    }
    r.output.is_ended |= is_end;
    if part.is_empty() {
        r.output.spare = part;
    }
}

/// Small pieces are copied behind what is there already; one buffer is cheaper to send than two.
fn push_all(queue: &mut Queue, part: &mut Queue) {
    if part.len() <= COPY_MAX && part.iter().all(|chunk| chunk.bytes().is_some()) {
        part.iter().filter_map(Chunk::bytes).for_each(|bytes| queue.push_bytes(bytes));
        part.clear();
        return;
    }
    if part.len() <= SMALL_FILE && append_file(queue, part) {
        return;
    }
    queue.append(part);
}

/// A small file is read behind the head: one write is cheaper than a write and a `sendfile`. Says whether it
/// was; otherwise nothing has changed.
fn append_file(queue: &mut Queue, part: &mut Queue) -> bool {
    let Some(Chunk::File { file, offset, end }) = part.iter().next() else { return false };
    if part.len() != end - offset {
        return false;
    }
    let length = usize::try_from(end - offset).unwrap_or(usize::MAX);
    let mut buf = Buf::with_capacity(length);
    let read = os::io::pread_append(file.as_fd(), &mut buf, length, *offset);
    if read.is_ok_and(|count| count == length) {
        part.clear();
        queue.push_bytes_of(buf);
        return true;
    }
    false
}

fn gather(r: &mut Request, mut part: Queue) {
    let Some(capture) = &mut r.output.capture else { return };
    let limit = r.cycle.http.location(r.location).core.subrequest_output_buffer_size as u64;
    // A known length is judged before anything is taken, and then is all the room that there is, as in nginx.
    let announced = r.response.content_length;
    if let Some(length) = announced.filter(|length| *length > limit) {
        r.output.is_failed = true;
        r.log(Level::Error, format_args!("too big subrequest response: {length}"));
        return;
    }
    if capture.len() as u64 + part.len() > announced.unwrap_or(limit) {
        r.output.is_failed = true;
        r.log(Level::Error, format_args!("too big subrequest response"));
        return;
    }
    while let Some(chunk) = part.pop() {
        match chunk.into_memory() {
            Ok(chunk) => capture.extend_from_slice(chunk.bytes().unwrap_or_default()),
            Err(_) => r.output.is_failed = true,
        }
    }
}

/// The line in front of a chunk: its length in hexadecimal.
fn chunk_head(length: u64, buffer: &mut [u8; 20]) -> &[u8] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut at = 18;
    buffer[18] = b'\r';
    buffer[19] = b'\n';
    let mut rest = length;
    while at == 18 || rest > 0 {
        at -= 1;
        buffer[at] = DIGITS[(rest & 15) as usize];
        rest >>= 4;
    }
    &buffer[at..]
}

/// Writes what is queued as far as the client takes it, and filters as much as that needs; ready when nothing is
/// left.
///
/// # Errors
/// The error of the write, [`io::ErrorKind::TimedOut`] after `send_timeout` without progress, or that of a filter
/// that cannot go on ([`io::ErrorKind::InvalidData`]).
pub fn poll_flush(r: &mut Request, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    let mut steps = FILTER_STEPS;
    loop {
        while steps > 0 && r.output.queue.len() < ENOUGH && r.output.is_behind() {
            steps -= refill(r, steps)?;
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
        if r.output.is_waiting() && !r.output.is_behind() && postpones(r) {
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
        match r.output.queue.poll_write(cx, &r.conn.stream, files, most) {
            Poll::Ready(sent) => {
                let sent = sent?;
                r.output.sent += sent;
                r.client_deadline().set_after(core.send_timeout);
                pause(r, sent);
                if sent == most && !r.output.queue.is_empty() {
                    // A fast client is not to keep the others of this thread waiting.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
            Poll::Pending => {
                return r.client_deadline().poll_over(cx).map(|()| Err(io::ErrorKind::TimedOut.into()));
            }
        }
    }
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

/// How many bytes may be written now; pending while `limit_rate` holds the answer back.
pub(crate) fn rate_limit(r: &mut Request, cx: &mut Context<'_>) -> Poll<u64> {
    if r.limit_rate.is_none() && r.location().core.limit_rate.is_none() {
        return Poll::Ready(u64::MAX);
    }
    let (rate, after) = rates(r);
    if rate == 0 {
        return Poll::Ready(u64::MAX);
    }
    if let Some(delay) = &r.output.delay {
        ready!(delay.poll_over(cx));
        r.output.delay = None;
    }
    let seconds = r.elapsed_ms() / 1000 + 1;
    let allowed = rate.saturating_mul(seconds).saturating_add(after);
    if allowed > r.output.sent {
        return Poll::Ready(allowed - r.output.sent);
    }
    let wait_ms = (r.output.sent - allowed).saturating_mul(1000) / rate + 1;
    let delay = Deadline::new();
    delay.set_after(wait_ms);
    let _ = delay.poll_over(cx);
    r.output.delay = Some(delay);
    Poll::Pending
}

/// Waits as long after a write as `limit_rate` says that its bytes take.
pub(crate) fn pause(r: &mut Request, sent: u64) {
    let (Some(rate @ 1..), after) = (r.limit_rate, r.limit_rate_after.unwrap_or(0)) else { return };
    let before = r.output.sent.saturating_sub(sent).saturating_sub(after);
    let wait_ms = (r.output.sent.saturating_sub(after) - before).saturating_mul(1000) / rate;
    if wait_ms > 0 {
        let delay = Deadline::new();
        delay.set_after(wait_ms);
        r.output.delay = Some(delay);
    }
}

/// `limit_rate` and `limit_rate_after` of this request, computed once.
fn rates(r: &mut Request) -> (u64, u64) {
    let core = std::sync::Arc::clone(&r.location().core);
    let number = |template: Option<&Template>| template.map_or(0, |template| template.size(r));
    let rate = r.limit_rate.unwrap_or_else(|| number(core.limit_rate.as_ref()));
    let after = r.limit_rate_after.unwrap_or_else(|| number(core.limit_rate_after.as_ref()));
    r.limit_rate = Some(rate);
    r.limit_rate_after = Some(after);
    (rate, after)
}

/// Writes all that is queued.
///
/// # Errors
/// As [`poll_flush`].
pub async fn flush(r: &mut Request) -> io::Result<()> {
    if r.output.is_idle() && !has_queued(r) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let check = |number, decimal: &str, head: &str| {
            let mut out = Vec::new();
            push_decimal(number, &mut out);
            assert_eq!(out, decimal.as_bytes());
            assert_eq!(chunk_head(number, &mut [0; 20]), head.as_bytes());
        };
        check(0, "0", "0\r\n");
        check(7, "7", "7\r\n");
        check(10, "10", "a\r\n");
        check(99, "99", "63\r\n");
        check(100, "100", "64\r\n");
        check(255, "255", "ff\r\n");
        check(999, "999", "3e7\r\n");
        check(1000, "1000", "3e8\r\n");
        check(65536, "65536", "10000\r\n");
        check(u64::MAX, "18446744073709551615", "ffffffffffffffff\r\n");
    }
}
