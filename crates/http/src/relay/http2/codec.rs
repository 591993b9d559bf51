//! HTTP/2 for one attempt: its stream on a connection of its own or a shared one, and the request's body on its way
//! while the answer comes.

use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};

use net::{Buf, Deadline, Stream};
use os::errlog::Level;
use proto::h1::{FramingError, Known, Method, NameSet, ResponseFraming};
use proto::h2::hpack::BlockLimits;
use proto::h2::{FRAME_HEAD, Flags, push_data_head, push_headers};

use super::answer::Invalid;
use super::body::{Body, Piece, Source};
use super::head;
use super::session::{Session, Sharing};
use super::shared::Shared;
use super::stream::{Broken, StreamState};
use crate::body::BodyError;
use crate::chunk::{Chunk, Queue};
use crate::output;
use crate::relay::codec::{
    BodyLength, Carrier, Closing, Codec, Decoded, HeadStep, Opening, Received, SendError,
};
use crate::relay::connect::{Connected, Link};
use crate::relay::exchange::READING;
use crate::relay::settings::next;
use crate::relay::{BodyCoding, Plan, PlanBody, RelaySettings};
use crate::request::Request;

/// Bytes of requests' bodies that wait to be written at once on a connection.
const PIECE: usize = 16 << 10;
/// The same where many requests share it.
const SHARED_PIECES: usize = 64 << 10;

/// Where the state of the connection is.
enum Home {
    /// Nowhere: there is no connection.
    None,
    /// Here: the connection is this request's.
    Own(Box<Session>),
    /// With the connection, which others use too and a task of its own reads and writes.
    Shared(Rc<Shared>),
}

/// HTTP/2 for one attempt.
pub struct Http2 {
    home: Home,
    /// The number of the stream; zero before it begins.
    stream: u32,
    body: Body,
    send_timeout: u64,
    /// Bytes of the answer's body that were announced and have not come.
    left: Option<u64>,
    /// Fields that are not passed on.
    hidden: Arc<NameSet>,
    /// Whether the client gets the trailers too; they are for variables otherwise.
    passes_trailers: bool,
}

impl Default for Http2 {
    fn default() -> Self {
        Self {
            home: Home::None,
            stream: 0,
            body: Body::new(Source::Done, BodyCoding::Same),
            send_timeout: 0,
            left: None,
            hidden: Arc::default(),
            passes_trailers: false,
        }
    }
}

impl Home {
    fn with<T>(&mut self, call: impl FnOnce(&mut Session) -> T) -> Option<T> {
        match self {
            Self::None => None,
            Self::Own(session) => Some(call(session)),
            Self::Shared(shared) => Some(call(&mut shared.session())),
        }
    }

    fn with_stream<T>(&mut self, id: u32, call: impl FnOnce(&mut StreamState) -> T) -> Option<T> {
        self.with(|session| session.stream(id).map(call)).flatten()
    }
}

impl Carrier for Http2 {
    fn channel(&self) -> Option<Arc<str>> {
        static CHANNEL: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from("h2"));
        Some(Arc::clone(&CHANNEL))
    }

    fn may_share(&self) -> bool {
        true
    }

    fn open(&mut self, r: &Request, conn: &mut Connected, plan: &Plan, settings: &RelaySettings) -> Opening {
        let scheme: &[u8] = if conn.stream().tls().is_some() { b"https" } else { b"http" };
        self.home = match &mut conn.link {
            Link::Own(pooled) => {
                let session = pooled.conn.session.take();
                Home::Own(session.unwrap_or_else(|| Box::new(Session::begin(Sharing::Off))))
            }
            Link::Shared(shared) => Home::Shared(Rc::clone(shared)),
        };
        self.send_timeout = settings.send_timeout;
        self.hidden = Arc::clone(&settings.hidden);
        self.passes_trailers = settings.pass_trailers;
        let (head, set) = plan.head.split_at(head::end(&plan.head));
        let source = match plan.body {
            _ if !set.is_empty() => Source::Set(set.to_vec(), 0),
            PlanBody::None => Source::Done,
            PlanBody::Whole => Source::whole(r),
            PlanBody::Stream => {
                r.client_deadline().set_after(r.location().core.client_body_timeout);
                Source::Client
            }
        };
        self.body = Body::new(source, plan.coding);
        let limits = BlockLimits { field: settings.buffer_size, total: settings.buffer_size };
        let is_sent = self.body.is_done();
        self.stream =
            self.home.with(|session| begin(session, limits, head, scheme, is_sent)).unwrap_or_default();
        self.wake_connection();
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
            let filled = self.fill(r, cx).map_err(SendError::Client)?;
            let Home::Own(session) = &mut self.home else {
                if filled > 0 {
                    count_sent(r, filled);
                    deadline.set_after(self.send_timeout);
                    self.wake_connection();
                }
                self.home.with_stream(self.stream, |stream| stream.watch(cx));
                return self.sent();
            };
            if session.out.pending().is_empty() {
                return self.sent();
            }
            match stream.poll_send(cx, session.out.pending()) {
                Poll::Ready(Ok(count)) => {
                    session.out.advance(count);
                    count_sent(r, count);
                    deadline.set_after(self.send_timeout);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(SendError::Peer(error))),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn poll_readable(&mut self, stream: &Stream, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let id = self.stream;
        let has_news = self.home.with_stream(id, |stream| {
            stream.watch(cx);
            stream.has_news()
        });
        match self.home {
            _ if has_news == Some(true) => Poll::Ready(Ok(())),
            Home::Own(_) => stream.poll_readable(cx),
            _ => Poll::Pending,
        }
    }

    fn poll_receive(
        &mut self,
        stream: &Stream,
        cx: &mut Context<'_>,
        _: &mut Buf,
        max: usize,
    ) -> Poll<std::io::Result<Received>> {
        let id = self.stream;
        let has_news = self.home.with_stream(id, |stream| stream.has_news());
        if let Home::Own(session) = &mut self.home
            && has_news != Some(true)
        {
            let mut buf = Buf::with_capacity(max);
            let count = match stream.poll_recv(cx, &mut buf, max) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(Received::Closed)),
                Poll::Ready(count) => count?,
            };
            if let Err(invalid) = session.feed(buf) {
                session.fail(&Broken::Invalid(invalid));
            }
            if let Some(stream) = session.stream(id) {
                stream.received = 0;
            }
            return Poll::Ready(Ok(Received::Bytes(count)));
        }
        self.home.with_stream(id, take_news).unwrap_or(Poll::Pending)
    }

    fn release(&mut self, conn: &mut Connected) {
        let Link::Own(pooled) = &mut conn.link else { return };
        if let Home::Own(mut session) = std::mem::replace(&mut self.home, Home::None) {
            session.end_stream(self.stream);
            pooled.conn.session = Some(session);
        }
    }
}

impl Codec for Http2 {
    fn head(&mut self, r: &mut Request, buf: &mut Buf, _: &RelaySettings) -> Result<HeadStep, u32> {
        let id = self.stream;
        let hints = self.home.with_stream(id, |stream| std::mem::take(&mut stream.hints));
        for hint in hints.unwrap_or_default() {
            self.pass_hints(r, &hint);
        }
        let state = self
            .home
            .with_stream(id, |stream| (stream.head.take(), stream.is_bodiless, stream.broken.clone()));
        let (head, is_bodiless, broken) = state.unwrap_or_default();
        if let Some(head) = head {
            if self.passes_trailers && !is_bodiless && r.stream().is_some() {
                r.response.expect_trailers = true;
            }
            r.upstream_head.head = head.head;
            *buf = Buf::with_capacity(head.text.len());
            buf.extend_from_slice(&head.text);
            return Ok(HeadStep::Complete { text: 0, body: head.text.len() });
        }
        match broken {
            None | Some(Broken::Failed(_) | Broken::Closed) => Ok(HeadStep::Partial),
            Some(Broken::Unprocessed) => {
                r.log(Level::Info, format_args!("upstream has not processed the request while {READING}"));
                Err(next::UNPROCESSED)
            }
            Some(Broken::Invalid(Invalid(sentence))) => {
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
        let is_bodiless = self.home.with_stream(self.stream, |stream| stream.is_bodiless);
        if is_bodiless == Some(true) && !r.upstream_head.head.fields.has(Known::ContentLength) {
            return Ok(BodyLength::Known(0));
        }
        if let ResponseFraming::Length(length) = framing {
            self.left = Some(length);
        }
        Ok(framing.into())
    }

    fn decode(&mut self, r: &mut Request, _: Buf, _: usize, part: &mut Queue) -> Decoded {
        let id = self.stream;
        let state = self.home.with(|session| {
            let stream = session.stream(id)?;
            let data = std::mem::replace(&mut stream.data, Buf::empty());
            let is_ended = stream.is_ended;
            stream.is_told |= is_ended || stream.broken.is_some();
            let trailers = if is_ended { std::mem::take(&mut stream.trailers) } else { Vec::new() };
            let broken = stream.broken.clone();
            session.consumed(id);
            Some((data, is_ended, trailers, broken))
        });
        let Some((mut data, is_ended, trailers, broken)) = state.flatten() else { return Decoded::Broken };
        self.wake_connection();
        let decoded = self.judge(&mut data, is_ended, broken);
        if !data.is_empty() {
            part.push(Chunk::Buf { buf: data, start: 0 });
        }
        match decoded {
            Ok(decoded) => {
                for (name, value) in trailers {
                    if self.passes_trailers {
                        r.response.trailers.push(&name, &value);
                    }
                    r.upstream_head.trailers.push((name, value));
                }
                decoded
            }
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
        match &self.home {
            Home::None => false,
            Home::Own(session) => {
                let is_over = session.only().is_some_and(StreamState::is_over);
                is_over && session.is_quiet() && session.has_streams() && !session.is_closing
            }
            Home::Shared(_) => true,
        }
    }

    fn may_keep_unread(&self, r: &Request, _: &[u8]) -> bool {
        let has_body = match &self.home {
            Home::Own(session) => session.only().is_some_and(|stream| !stream.data.is_empty()),
            _ => false,
        };
        !has_body && self.may_keep(r)
    }
}

/// Begins a stream with the head of its request; gives its number.
fn begin(session: &mut Session, limits: BlockLimits, head: &[u8], scheme: &[u8], is_sent: bool) -> u32 {
    let id = session.begin_stream(limits);
    let frame_size = session.receiver.peer.max_frame_size as usize;
    let out = &mut session.out.bytes;
    if out.capacity() == 0 {
        *out = Buf::with_capacity(4096);
    }
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_HEAD]);
    head::write(head, scheme, &mut session.encoder, out);
    let flags = if is_sent { Flags::END_STREAM } else { Flags::NONE };
    push_headers(id, flags, frame_size, start, out);
    if let Some(stream) = session.stream(id) {
        stream.is_sent = is_sent;
    }
    id
}

/// Takes note of what has come on a shared connection.
fn take_news(stream: &mut StreamState) -> Poll<std::io::Result<Received>> {
    let received = std::mem::take(&mut stream.received);
    let is_bare = stream.head.is_none() && stream.data.is_empty() && received == 0;
    match &stream.broken {
        _ if !stream.has_news() && received == 0 => Poll::Pending,
        Some(Broken::Closed) if is_bare => Poll::Ready(Ok(Received::Closed)),
        Some(Broken::Failed(number)) if is_bare => {
            let error = number.map(std::io::Error::from_raw_os_error);
            Poll::Ready(Err(error.unwrap_or_else(|| std::io::ErrorKind::ConnectionReset.into())))
        }
        _ => Poll::Ready(Ok(Received::Bytes(received))),
    }
}

fn count_sent(r: &mut Request, count: usize) {
    if let Some(state) = r.upstreams.last_mut() {
        state.sent += count as u64;
    }
}

impl Http2 {
    /// Whether nothing of the request is left to be made.
    fn sent(&mut self) -> Poll<Result<(), SendError>> {
        let is_done = self.home.with_stream(self.stream, |stream| stream.is_sent || stream.is_ended);
        if is_done == Some(false) { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    /// There is something to write on a shared connection.
    fn wake_connection(&self) {
        if let Home::Shared(shared) = &self.home {
            shared.wake_to_write();
        }
    }

    /// Makes frames of the request's body while the upstream takes them and not too much waits to be written; gives
    /// their bytes.
    fn fill(&mut self, r: &mut Request, cx: &mut Context<'_>) -> Result<usize, BodyError> {
        let Self { home, body, stream: id, .. } = self;
        let most_pending = if matches!(home, Home::Shared(_)) { SHARED_PIECES } else { PIECE };
        home.with(|session| {
            let share = session.share_of(most_pending);
            let mut filled = 0;
            loop {
                let piece = fill_one(session, *id, body, most_pending, r, cx)?;
                filled += piece;
                if piece == 0 || filled >= share {
                    return Ok(filled);
                }
            }
        })
        .unwrap_or(Ok(0))
    }

    /// `early_hints`: an interim answer goes to the client as it is, but for what is never passed on.
    fn pass_hints(&self, r: &mut Request, hint: &super::stream::Head) {
        if r.location().core.early_hints.is_empty() {
            return;
        }
        let text = &hint.text;
        let passed =
            hint.head.fields.iter().filter(|field| {
                field.known != Known::ContentLength && !self.hidden.contains_field(field, text)
            });
        output::send_early_hints(r, passed.map(|field| (field.name.of(text), field.value.of(text))));
    }

    /// What a piece of the body means for its end. Nothing passes that the client would not take for part of it.
    fn judge(&mut self, data: &mut Buf, is_ended: bool, broken: Option<Broken>) -> Result<Decoded, Invalid> {
        if let Some(left) = &mut self.left {
            let most = usize::try_from(*left).unwrap_or(usize::MAX);
            if data.len() > most {
                data.truncate(most);
                *left = 0;
                return Err(Invalid("sent response body larger than indicated content length".into()));
            }
            *left -= data.len() as u64;
        }
        match broken {
            Some(Broken::Invalid(invalid)) => return Err(invalid),
            Some(Broken::Failed(_) | Broken::Closed | Broken::Unprocessed) => {
                return Err(Invalid("prematurely closed connection".into()));
            }
            None => {}
        }
        if is_ended && self.left.is_some_and(|left| left > 0) {
            return Err(Invalid("prematurely closed stream".into()));
        }
        Ok(if is_ended { Decoded::End } else { Decoded::More })
    }
}

/// Makes one frame of the body; gives its bytes, zero where none can be made now.
fn fill_one(
    session: &mut Session,
    id: u32,
    body: &mut Body,
    most_pending: usize,
    r: &mut Request,
    cx: &mut Context<'_>,
) -> Result<usize, BodyError> {
    let frame_size = session.receiver.peer.max_frame_size as usize;
    let room = session.window.available();
    let is_full = session.out.pending().len() >= most_pending;
    let Some(stream) = session.stream(id) else { return Ok(0) };
    let most = frame_size.min(PIECE).min(stream.window.available()).min(room);
    if stream.is_sent || stream.is_ended || stream.broken.is_some() || is_full || most == 0 {
        return Ok(0);
    }
    let out = &mut session.out.bytes;
    let start = out.len();
    out.reserve(FRAME_HEAD + most);
    out.extend_from_slice(&[0; FRAME_HEAD]);
    let piece = match body.poll_piece(r, cx, most, out) {
        Poll::Ready(Ok(piece)) => piece,
        Poll::Ready(Err(error)) => {
            out.truncate(start);
            return Err(error);
        }
        Poll::Pending => {
            out.truncate(start);
            return Ok(0);
        }
    };
    let length = out.len() - start - FRAME_HEAD;
    let flags = if piece == Piece::Last { Flags::END_STREAM } else { Flags::NONE };
    let mut head = Vec::with_capacity(FRAME_HEAD);
    push_data_head(id, length, flags, &mut head);
    if let Some(gap) = out.get_mut(start..start + FRAME_HEAD) {
        gap.copy_from_slice(&head);
    }
    session.window.take(length);
    if let Some(stream) = session.stream(id) {
        stream.window.take(length);
        stream.is_sent = piece == Piece::Last;
    }
    Ok(FRAME_HEAD + length)
}

impl Drop for Http2 {
    /// Whatever ended the request, its stream on a shared connection ends with it.
    fn drop(&mut self) {
        if let Home::Shared(shared) = &self.home {
            shared.session().end_stream(self.stream);
            shared.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_passes_than_was_announced() {
        let mut codec = Http2::default();
        codec.left = Some(8);
        let mut judge = |text: &[u8], is_ended| {
            let mut data = Buf::with_capacity(16);
            data.extend_from_slice(text);
            let judged = codec.judge(&mut data, is_ended, None).map_err(|Invalid(sentence)| sentence);
            (judged, data.to_vec())
        };
        let sentence = "sent response body larger than indicated content length".to_owned();
        assert_eq!(judge(b"hello", false), (Ok(Decoded::More), b"hello".to_vec()));
        assert_eq!(judge(b"hello", true), (Err(sentence.clone()), b"hel".to_vec()));
        assert_eq!(judge(b"x", true), (Err(sentence), Vec::new()));
    }
}
