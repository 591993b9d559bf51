//! An answer as frames: the head as a header block, the body as DATA, within the windows of the client.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use proto::h1::Known;
use proto::h2::hpack::{Encoder, Indexing};
use proto::h2::{FRAME_HEAD, Flags, push_data_head, push_headers};

use super::Http2;
use super::stream::Stream;
use crate::conf::core::ServerTokens;
use crate::output::{self, push_decimal};
use crate::relay::SWITCHING_PROTOCOLS;
use crate::request::Request;
use crate::websocket;

/// Whether something of the answer is not in the connection's hands yet.
pub(crate) fn has_more(r: &Request, stream: &Stream) -> bool {
    let output = &r.output;
    output.is_head_queued || !output.queue.is_empty() || (output.is_ended && !stream.is_answered.get())
}

/// Hands over one frame as soon as the client's windows and the other streams let it.
///
/// # Errors
/// When nobody reads the answer any more, or [`io::ErrorKind::TimedOut`] after `send_timeout` without progress.
pub(crate) fn poll_send(r: &mut Request, stream: &Rc<Stream>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    if stream.is_gone() {
        return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
    }
    // Heads and what ends a stream without a byte of its body need no window.
    let is_body = !r.output.is_head_queued && !r.output.queue.is_empty();
    let limit = if is_body { ready!(output::rate_limit(r, cx)) } else { u64::MAX };
    if poll_turn(stream, if is_body { Needs::Window } else { Needs::Nothing }).is_pending() {
        return wait(r, stream, cx);
    }
    if r.output.is_head_queued {
        send_head(r, stream);
    } else {
        let sent = send_body(r, stream, limit)?;
        output::pause(r, sent);
    }
    stream.session.wake();
    r.client_deadline().set_after(r.location().core.send_timeout);
    Poll::Ready(Ok(()))
}

/// What a frame needs besides its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    Nothing,
    /// The client's windows.
    Window,
}

/// Ready when the stream may add one frame; otherwise it queues up, and who waits is to watch it.
fn poll_turn(stream: &Rc<Stream>, needs: Needs) -> Poll<()> {
    if needs == Needs::Window {
        if stream.window.get().available() == 0 {
            stream.is_stalled.set(true);
            return Poll::Pending;
        }
        if !stream.session.has_window() {
            stream.session.queue_for_window(stream);
            return Poll::Pending;
        }
    }
    if !stream.session.may_send(stream) {
        stream.session.queue(stream);
        return Poll::Pending;
    }
    Poll::Ready(())
}

/// Hands over some of the bytes of a tunnel, in one frame of at most `chunk_size`.
///
/// # Errors
/// [`io::ErrorKind::ConnectionReset`] when the client gave the stream up.
pub(crate) fn poll_send_bytes(
    stream: &Rc<Stream>,
    bytes: &[u8],
    chunk_size: usize,
    cx: &Context<'_>,
) -> Poll<io::Result<usize>> {
    ready!(poll_tunnel(stream, Needs::Window, cx))?;
    let length = {
        let mut sending = stream.session.sending.borrow_mut();
        let sending = &mut *sending;
        let mut window = stream.window.get();
        let most = sending.room(&window, chunk_size).min(bytes.len());
        sending.make_room(FRAME_HEAD + most);
        push_data_head(stream.id, most, Flags::NONE, &mut sending.bytes);
        sending.bytes.extend_from_slice(bytes.get(..most).unwrap_or_default());
        sending.window.take(most);
        window.take(most);
        stream.window.set(window);
        most
    };
    stream.session.sent.set(stream.session.sent.get() + length);
    stream.session.wake();
    Poll::Ready(Ok(length))
}

/// Ends our side of a tunnel.
///
/// # Errors
/// As [`poll_send_bytes`].
pub(crate) fn poll_send_end(stream: &Rc<Stream>, cx: &Context<'_>) -> Poll<io::Result<()>> {
    ready!(poll_tunnel(stream, Needs::Nothing, cx))?;
    {
        let mut sending = stream.session.sending.borrow_mut();
        sending.make_room(FRAME_HEAD);
        push_data_head(stream.id, 0, Flags::END_STREAM, &mut sending.bytes);
    }
    stream.is_answered.set(true);
    stream.session.wake();
    Poll::Ready(Ok(()))
}

fn poll_tunnel(stream: &Rc<Stream>, needs: Needs, cx: &Context<'_>) -> Poll<io::Result<()>> {
    if stream.is_gone() {
        return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
    }
    if poll_turn(stream, needs).is_pending() {
        stream.watch(cx);
        return Poll::Pending;
    }
    Poll::Ready(Ok(()))
}

fn wait(r: &Request, stream: &Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    stream.watch(cx);
    match r.client_deadline().poll_over(cx) {
        Poll::Ready(()) => {
            stream.is_timed_out.set(true);
            Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
        }
        Poll::Pending => Poll::Pending,
    }
}

/// `100 Continue` for a client that waits for it.
pub(crate) fn send_continue(stream: &Stream) {
    let mut sending = stream.session.sending.borrow_mut();
    let sending = &mut *sending;
    sending.make_room(64);
    let start = sending.bytes.len();
    sending.bytes.extend_from_slice(&[0; FRAME_HEAD]);
    sending.encoder.begin(&mut sending.bytes);
    sending.encoder.status(100, &mut sending.bytes);
    push_headers(stream.id, Flags::NONE, sending.frame_size, start, &mut sending.bytes);
    stream.session.wake();
}

/// An interim answer with these fields (RFC 8297).
pub(crate) fn send_early_hints<'f>(stream: &Stream, fields: impl Iterator<Item = (&'f [u8], &'f [u8])>) {
    let mut fields = fields.peekable();
    if fields.peek().is_none() {
        return;
    }
    let mut sending = stream.session.sending.borrow_mut();
    let sending = &mut *sending;
    sending.make_room(1024);
    let start = sending.bytes.len();
    sending.bytes.extend_from_slice(&[0; FRAME_HEAD]);
    sending.encoder.begin(&mut sending.bytes);
    sending.encoder.status(103, &mut sending.bytes);
    for (name, value) in fields {
        sending.encoder.field(name, value, Indexing::Allowed, &mut sending.bytes);
    }
    push_headers(stream.id, Flags::NONE, sending.frame_size, start, &mut sending.bytes);
    stream.session.wake();
}

fn send_head(r: &mut Request, stream: &Stream) {
    r.output.is_head_queued = false;
    let response = &r.response;
    let is_end = response.header_only || (response.content_length == Some(0) && !response.expect_trailers);
    let mut sending = stream.session.sending.borrow_mut();
    let sending = &mut *sending;
    sending.make_room(1024);
    let start = sending.bytes.len();
    sending.bytes.extend_from_slice(&[0; FRAME_HEAD]);
    write_head(r, &mut sending.encoder, &mut sending.bytes);
    let flags = if is_end { Flags::END_STREAM } else { Flags::NONE };
    push_headers(stream.id, flags, sending.frame_size, start, &mut sending.bytes);
    let length = (sending.bytes.len() - start) as u64;
    r.output.sent += length;
    r.output.header_size += length;
    if is_end {
        r.output.queue.clear();
        stream.is_answered.set(true);
    }
}

/// The fields of the answer, in nginx's order (`ngx_http_v2_header_filter`).
fn write_head(r: &Request, encoder: &mut Encoder, out: &mut Vec<u8>) {
    let response = &r.response;
    let headers = &response.headers;
    encoder.begin(out);
    // RFC 8441, 5: what HTTP/1 says by 101 is a 200 here.
    let is_tunnel = response.status == SWITCHING_PROTOCOLS;
    encoder.status(if is_tunnel { 200 } else { response.status }, out);
    if !response.omits_server && !headers.has(Known::Server) {
        let server = match r.location().core.server_tokens {
            ServerTokens::On => base::version::NGINX,
            ServerTokens::Off => "nginx",
            ServerTokens::Build => base::version::BUILD,
        };
        encoder.field(b"server", server.as_bytes(), Indexing::Allowed, out);
    }
    if !response.omits_date && !headers.has(Known::Date) {
        output::with_date(|date| encoder.field(b"date", date, Indexing::Allowed, out));
    }
    if !response.content_type.is_empty() {
        if response.charset.is_empty() {
            encoder.field(b"content-type", &response.content_type, Indexing::Allowed, out);
        } else {
            let value = [&response.content_type[..], b"; charset=", &response.charset].concat();
            encoder.field(b"content-type", &value, Indexing::Allowed, out);
        }
    }
    if let Some(length) = response.content_length
        && !headers.has(Known::ContentLength)
    {
        let mut digits = Vec::with_capacity(20);
        push_decimal(length, &mut digits);
        encoder.field(b"content-length", &digits, Indexing::Useless, out);
    }
    if !headers.has(Known::LastModified)
        && matches!(response.status, 200 | 206 | 304)
        && let Some(time) = response.last_modified()
    {
        encoder.field(b"last-modified", &proto::date::http(time), Indexing::Allowed, out);
    }
    let location = crate::redirect::absolute_location(r);
    if let Some(location) = &location {
        encoder.field(b"location", location, Indexing::Useless, out);
    }
    if response.varies_by_coding && r.location().core.gzip_vary {
        encoder.field(b"vary", b"Accept-Encoding", Indexing::Allowed, out);
    }
    for (name, value, known) in headers.iter() {
        let indexing = match known {
            Known::Location if location.is_some() => continue,
            Known::Upgrade => continue,
            _ if is_tunnel && name.eq_ignore_ascii_case(websocket::ACCEPT) => continue,
            Known::ContentLength | Known::ETag | Known::Location | Known::ContentRange | Known::SetCookie => {
                Indexing::Useless
            }
            _ => Indexing::Allowed,
        };
        encoder.field(name, value, indexing, out);
    }
}

/// One DATA frame, or the trailers; gives the bytes that count for `limit_rate`.
fn send_body(r: &mut Request, stream: &Stream, limit: u64) -> io::Result<u64> {
    let chunk_size = r.location().settings::<Http2>().chunk_size;
    let is_last_known = r.output.is_ended;
    let mut sending = stream.session.sending.borrow_mut();
    let sending = &mut *sending;
    let mut window = stream.window.get();
    let most = sending.room(&window, chunk_size).min(usize::try_from(limit).unwrap_or(usize::MAX));
    let length = most.min(usize::try_from(r.output.queue.len()).unwrap_or(usize::MAX));
    let is_last = is_last_known && length as u64 == r.output.queue.len();
    let has_trailers = is_last && !r.response.trailers.is_empty();
    let mut sent = 0;
    if length > 0 || !has_trailers {
        sending.make_room(FRAME_HEAD + length);
        let flags = if is_last && !has_trailers { Flags::END_STREAM } else { Flags::NONE };
        let start = sending.bytes.len();
        push_data_head(stream.id, length, flags, &mut sending.bytes);
        if let Err(error) = r.output.queue.take_into(length, &mut sending.bytes) {
            sending.bytes.truncate(start);
            return Err(error);
        }
        sending.window.take(length);
        window.take(length);
        stream.window.set(window);
        sent = (FRAME_HEAD + length) as u64;
        stream.session.sent.set(stream.session.sent.get() + length);
    }
    if has_trailers {
        sent += send_trailers(r, stream, sending);
    }
    r.output.sent += sent;
    if is_last {
        stream.is_answered.set(true);
    }
    Ok(sent)
}

fn send_trailers(r: &Request, stream: &Stream, sending: &mut super::session::Sending) -> u64 {
    sending.make_room(1024);
    let start = sending.bytes.len();
    sending.bytes.extend_from_slice(&[0; FRAME_HEAD]);
    sending.encoder.begin(&mut sending.bytes);
    for (name, value, _) in r.response.trailers.iter() {
        sending.encoder.field(name, value, Indexing::Allowed, &mut sending.bytes);
    }
    push_headers(stream.id, Flags::END_STREAM, sending.frame_size, start, &mut sending.bytes);
    (sending.bytes.len() - start) as u64
}
