//! HTTP/2 at work on one connection: frames of the answer are taken apart as they come, while the request's body is
//! still on its way.

use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};

use net::{Buf, Deadline, Stream};
use os::errlog::Level;
use proto::h1::{FramingError, Known, Method, NameSet, ResponseFraming};
use proto::h2::hpack::BlockLimits;
use proto::h2::{
    ErrorCode, Event, FRAME_HEAD, Flags, MAX_WINDOW, ReceiveWindow, SendWindow, push_data_head, push_headers,
    push_ping, push_settings_ack, push_window_update,
};

use super::answer::{self, Invalid, Passing};
use super::body::{Outgoing, Piece, Source};
use super::head;
use super::session::Session;
use crate::body::BodyError;
use crate::chunk::{Chunk, Queue};
use crate::output;
use crate::relay::codec::{BodyLength, Closing, Codec, Decoded, HeadStep, Opening, SendError};
use crate::relay::exchange::READING;
use crate::relay::settings::next;
use crate::relay::upstream::PeerConn;
use crate::relay::{Plan, PlanBody, RelaySettings};
use crate::request::Request;

/// Bytes of a request's body that wait to be written at once.
const PIECE: usize = 16 << 10;
/// The status of early hints (RFC 8297).
const EARLY_HINTS: u16 = 103;

/// HTTP/2 for one attempt.
pub struct Http2 {
    session: Option<Box<Session>>,
    stream: u32,
    /// Bytes of the body that the upstream takes on the stream.
    window: SendWindow,
    /// Bytes that the upstream may send on the stream.
    receive: ReceiveWindow,
    body: Source,
    /// The last frame of the request is written or waits to be.
    is_sent: bool,
    /// The upstream has ended the stream.
    is_ended: bool,
    /// The connection cannot serve another request.
    is_closing: bool,
    out: Outgoing,
    /// A frame that is not there as a whole.
    input: Buf,
    send_timeout: u64,
    /// Bytes of the answer's body that were announced and have not come.
    left: Option<u64>,
    /// What a block may hold: as in nginx, as much as the buffer for the head.
    limits: BlockLimits,
    /// Fields that are not passed on.
    hidden: Arc<NameSet>,
    /// What becomes of trailers.
    passing: Passing,
    /// The head's text.
    text: Vec<u8>,
    is_head_done: bool,
}

/// What frames came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    /// More must come.
    Nothing,
    /// A head is complete.
    Head,
    /// The stream has ended.
    End,
}

impl Default for Http2 {
    fn default() -> Self {
        Self {
            session: None,
            stream: 0,
            window: SendWindow::new(0),
            receive: ReceiveWindow::new(MAX_WINDOW),
            body: Source::Done,
            is_sent: false,
            is_ended: false,
            is_closing: false,
            out: Outgoing::default(),
            input: Buf::empty(),
            send_timeout: 0,
            left: None,
            limits: BlockLimits { field: 0, total: 0 },
            hidden: Arc::default(),
            passing: Passing::Off,
            text: Vec::new(),
            is_head_done: false,
        }
    }
}

impl Codec for Http2 {
    fn channel(&self) -> Option<Arc<str>> {
        static CHANNEL: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from("h2"));
        Some(Arc::clone(&CHANNEL))
    }

    fn open(&mut self, r: &Request, conn: &mut PeerConn, plan: &Plan, settings: &RelaySettings) -> Opening {
        let out = &mut self.out.bytes;
        *out = Buf::with_capacity(4096);
        let mut session = conn.session.take().unwrap_or_else(|| Box::new(Session::begin(out)));
        self.stream = session.begin_stream();
        self.window = SendWindow::new(session.receiver.peer.initial_window);
        self.send_timeout = settings.send_timeout;
        self.limits = BlockLimits { field: settings.buffer_size, total: settings.buffer_size };
        self.hidden = Arc::clone(&settings.hidden);
        self.passing = if settings.pass_trailers { Passing::On } else { Passing::Off };
        let start = out.len();
        out.extend_from_slice(&[0; FRAME_HEAD]);
        let scheme: &[u8] = if conn.stream.tls().is_some() { b"https" } else { b"http" };
        let end = head::write(&plan.head, scheme, &mut session.encoder, out);
        let set = plan.head.get(end..).unwrap_or_default();
        self.body = match plan.body {
            _ if !set.is_empty() => Source::Set(set.to_vec(), 0),
            PlanBody::None => Source::Done,
            PlanBody::Whole => Source::whole(r),
            PlanBody::Stream => {
                r.client_deadline().set_after(r.location().core.client_body_timeout);
                Source::Client
            }
        };
        self.is_sent = matches!(self.body, Source::Done);
        let flags = if self.is_sent { Flags::END_STREAM } else { Flags::NONE };
        let frame_size = session.receiver.peer.max_frame_size as usize;
        push_headers(self.stream, flags, frame_size, start, out);
        self.session = Some(session);
        Opening::Codec
    }

    fn poll_send(
        &mut self,
        r: &mut Request,
        stream: &Stream,
        deadline: &Deadline,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SendError>> {
        loop {
            self.fill(r, cx).map_err(SendError::Client)?;
            if self.out.pending().is_empty() {
                return if self.is_sent || self.is_ended { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
            match stream.poll_send(cx, self.out.pending()) {
                Poll::Ready(Ok(count)) => {
                    self.out.advance(count);
                    if let Some(state) = r.upstreams.last_mut() {
                        state.sent += count as u64;
                    }
                    deadline.set_after(self.send_timeout);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(SendError::Peer(error))),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn head(&mut self, r: &mut Request, buf: &mut Buf, _: &RelaySettings) -> Result<HeadStep, u32> {
        let input = std::mem::replace(buf, Buf::empty());
        let (used, heard) = self.hear(r, &input, &mut Vec::new());
        let rest = input.get(used..).unwrap_or_default();
        match heard {
            Ok(Heard::Nothing) => {
                *buf = Buf::with_capacity(rest.len().max(1));
                buf.extend_from_slice(rest);
                Ok(HeadStep::Partial)
            }
            Ok(Heard::Head) => {
                if self.passing == Passing::On && !self.is_ended && r.stream().is_some() {
                    r.response.expect_trailers = true;
                }
                let body = self.text.len();
                *buf = Buf::with_capacity(body + rest.len());
                buf.extend_from_slice(&self.text);
                buf.extend_from_slice(rest);
                self.text = Vec::new();
                Ok(HeadStep::Complete { text: 0, body })
            }
            Ok(Heard::End) => {
                r.log(Level::Error, format_args!("upstream prematurely closed stream while {READING}"));
                Err(next::INVALID_HEADER)
            }
            Err(Invalid(sentence)) => {
                r.log(Level::Error, format_args!("upstream {sentence} while {READING}"));
                Err(next::INVALID_HEADER)
            }
        }
    }

    fn begin(&mut self, r: &Request, method: Method, _: &RelaySettings) -> Result<BodyLength, FramingError> {
        let framing = proto::h1::response_framing(&r.upstream_head.head, &r.upstream_head.text, method)?;
        if framing == ResponseFraming::None {
            return Ok(BodyLength::None);
        }
        if self.is_ended && !r.upstream_head.head.fields.has(Known::ContentLength) {
            return Ok(BodyLength::Known(0));
        }
        if let ResponseFraming::Length(length) = framing {
            self.left = Some(length);
        }
        Ok(framing.into())
    }

    fn decode(&mut self, r: &mut Request, buf: Buf, start: usize, part: &mut Queue) -> Decoded {
        let mut data = Buf::empty();
        let decoded = self.take(r, buf, start, &mut data);
        if !data.is_empty() {
            part.push(Chunk::Buf { buf: data, start: 0 });
        }
        match decoded {
            Ok(decoded) => decoded,
            Err(Invalid(sentence)) => {
                r.log(Level::Error, format_args!("upstream {sentence} while reading upstream"));
                Decoded::Broken
            }
        }
    }

    fn closing(&self) -> Closing {
        Closing::Premature
    }

    fn may_keep(&self, _: &Request) -> bool {
        let is_quiet = self.out.pending().is_empty() && self.input.is_empty();
        let has_streams = self.session.as_ref().is_some_and(|session| session.has_streams());
        self.is_ended && self.is_sent && is_quiet && has_streams && !self.is_closing
    }

    fn may_keep_unread(&self, r: &Request, rest: &[u8]) -> bool {
        rest.is_empty() && self.may_keep(r)
    }

    fn release(&mut self, conn: &mut PeerConn) {
        conn.session = self.session.take();
    }
}

impl Http2 {
    /// Makes frames of the request's body while the upstream takes them and not too much waits to be written.
    fn fill(&mut self, r: &mut Request, cx: &mut Context<'_>) -> Result<(), BodyError> {
        let Some(session) = &mut self.session else { return Ok(()) };
        while !self.is_sent && !self.is_ended && self.out.pending().len() < PIECE {
            let most = (session.receiver.peer.max_frame_size as usize)
                .min(PIECE)
                .min(self.window.available())
                .min(session.window.available());
            if most == 0 {
                return Ok(());
            }
            let out = &mut self.out.bytes;
            let start = out.len();
            out.reserve(FRAME_HEAD + most);
            out.extend_from_slice(&[0; FRAME_HEAD]);
            let piece = match self.body.poll_piece(r, cx, most, out) {
                Poll::Ready(Ok(piece)) => piece,
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => {
                    out.truncate(start);
                    return Ok(());
                }
            };
            let length = out.len() - start - FRAME_HEAD;
            self.is_sent = piece == Piece::Last;
            let flags = if self.is_sent { Flags::END_STREAM } else { Flags::NONE };
            let mut head = Vec::with_capacity(FRAME_HEAD);
            push_data_head(self.stream, length, flags, &mut head);
            if let Some(gap) = out.get_mut(start..start + FRAME_HEAD) {
                gap.copy_from_slice(&head);
            }
            self.window.take(length);
            session.window.take(length);
        }
        Ok(())
    }

    /// `early_hints`: an interim answer goes to the client as it is, but for what is never passed on.
    fn pass_hints(&self, r: &mut Request) {
        let head = std::mem::take(&mut r.upstream_head.head);
        let text = &self.text;
        let passed = head.fields.iter().filter(|field| {
            field.known != Known::ContentLength && !self.hidden.contains(field.known, field.name.of(text))
        });
        output::send_early_hints(r, passed.map(|field| (field.name.of(text), field.value.of(text))));
        r.upstream_head.head = head;
    }

    fn take(&mut self, r: &mut Request, buf: Buf, start: usize, data: &mut Buf) -> Result<Decoded, Invalid> {
        let (input, start) = if self.input.is_empty() {
            (buf, start)
        } else {
            let mut input = std::mem::replace(&mut self.input, Buf::empty());
            input.reserve(buf.len());
            input.extend_from_slice(buf.get(start..).unwrap_or_default());
            (input, 0)
        };
        let bytes = input.get(start..).unwrap_or_default();
        *data = Buf::with_capacity(bytes.len().max(1));
        let (used, heard) = if self.is_ended { (0, Ok(Heard::End)) } else { self.hear(r, bytes, data) };
        let rest = bytes.get(used..).unwrap_or_default();
        if !rest.is_empty() {
            self.input = Buf::with_capacity(rest.len());
            self.input.extend_from_slice(rest);
        }
        match heard? {
            Heard::Nothing | Heard::Head => Ok(Decoded::More),
            Heard::End if self.left.is_some_and(|left| left > 0) => {
                Err(Invalid("prematurely closed stream".into()))
            }
            Heard::End => Ok(Decoded::End),
        }
    }

    /// Takes frames until something has come to its end; gives the bytes used.
    fn hear(&mut self, r: &mut Request, input: &[u8], data: &mut Vec<u8>) -> (usize, Result<Heard, Invalid>) {
        let mut at = 0;
        loop {
            match self.step(r, input.get(at..).unwrap_or_default(), data) {
                Err(invalid) => return (at, Err(invalid)),
                Ok((0, Heard::Nothing)) => return (at, Ok(Heard::Nothing)),
                Ok((used, Heard::Nothing)) => at += used,
                Ok((used, heard)) => return (at + used, Ok(heard)),
            }
        }
    }

    fn step(&mut self, r: &mut Request, input: &[u8], data: &mut Vec<u8>) -> Result<(usize, Heard), Invalid> {
        let Some(session) = &mut self.session else { return Ok((0, Heard::Nothing)) };
        let step = session.receiver.next(input)?;
        let used = step.used;
        let out = &mut self.out.bytes;
        match step.event {
            None | Some(Event::SettingsAcknowledged | Event::Pong | Event::Priority(..)) => {}
            Some(Event::Headers(frame, block)) => {
                if frame.stream != self.stream {
                    return Err(unknown_stream(frame.stream));
                }
                if self.is_head_done {
                    if !frame.is_end {
                        return Err(Invalid("sent trailer without end stream flag".into()));
                    }
                    answer::trailers(r, &mut session.decoder, block, self.limits, self.passing)?;
                    self.is_ended = true;
                    return Ok((used, Heard::End));
                }
                self.text.clear();
                let head = &mut r.upstream_head.head;
                answer::read(&mut session.decoder, block, self.limits, head, &mut self.text)?;
                if head.status < 200 {
                    if frame.is_end {
                        return Err(Invalid("prematurely closed stream".into()));
                    }
                    let is_hint = head.status == EARLY_HINTS;
                    if is_hint && !r.location().core.early_hints.is_empty() {
                        self.pass_hints(r);
                    }
                    r.upstream_head.head.reset();
                    return Ok((used, Heard::Nothing));
                }
                self.is_head_done = true;
                self.is_ended = frame.is_end;
                return Ok((used, Heard::Head));
            }
            Some(Event::Data { stream, flow, bytes, is_end }) => {
                if stream != self.stream {
                    return Err(unknown_stream(stream));
                }
                if !self.is_head_done {
                    return Err(Invalid("sent unexpected http2 frame: 0".into()));
                }
                if !self.receive.take(flow) {
                    let window = self.receive.size();
                    let sentence = format!(
                        "violated stream flow control, received {flow} data frame with window {window}"
                    );
                    return Err(Invalid(sentence));
                }
                if let Some(left) = &mut self.left {
                    let rest = left.checked_sub(bytes.len() as u64);
                    let sentence = "sent response body larger than indicated content length";
                    *left = rest.ok_or_else(|| Invalid(sentence.into()))?;
                }
                data.extend_from_slice(bytes);
                if self.receive.size() < MAX_WINDOW / 4
                    && let Some(increment) = self.receive.open_to(MAX_WINDOW)
                {
                    push_window_update(self.stream, increment, out);
                }
                if session.receiver.window.size() < MAX_WINDOW / 4
                    && let Some(increment) = session.receiver.window.open_to(MAX_WINDOW)
                {
                    push_window_update(0, increment, out);
                }
                if is_end {
                    self.is_ended = true;
                    return Ok((used, Heard::End));
                }
            }
            Some(Event::Reset(stream, ErrorCode(code))) if stream == self.stream => {
                return Err(Invalid(format!("rejected request with error {code}")));
            }
            Some(Event::Reset(stream, _)) => return Err(unknown_stream(stream)),
            Some(Event::Settings { window_delta }) => {
                let grown = self.window.shift(window_delta);
                grown.map_err(|_| Invalid("sent settings frame with too large initial window".into()))?;
                session.encoder.set_limit(session.receiver.peer.header_table_size);
                push_settings_ack(out);
            }
            Some(Event::Ping(payload)) => push_ping(Flags::ACK, payload, out),
            Some(Event::WindowUpdate(stream, increment)) => {
                let window = match stream {
                    0 => &mut session.window,
                    stream if stream == self.stream => &mut self.window,
                    stream => return Err(unknown_stream(stream)),
                };
                window.grow(increment).map_err(|_| Invalid("sent too large window update".into()))?;
            }
            Some(Event::GoAway(last, ErrorCode(code))) => {
                if last < self.stream {
                    return Err(Invalid(format!("sent goaway with error {code}")));
                }
                self.is_closing = true;
            }
        }
        Ok((used, Heard::Nothing))
    }
}

fn unknown_stream(stream: u32) -> Invalid {
    Invalid(format!("sent frame for unknown stream {stream}"))
}
