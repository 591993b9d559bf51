//! Bytes both ways: WebSocket and whatever else was agreed on by a 101, and what a CONNECT asked for.
//!
//! A tunnel is opened only after the upstream's own 101; what the client sent before that is not passed. Each
//! direction ends by itself, and the tunnel with both.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use net::{Buf, Deadline};
use os::errlog::Level;
use proto::h2::ErrorCode;

use super::Relay;
use super::exchange::Answer;
use crate::client::Client;
use crate::connection::Conn;
use crate::output;
use crate::phases::Outcome;
use crate::request::Request;
use crate::server::h2;

/// Least bytes in flight in each direction.
const PIECE: usize = 16 << 10;
/// Pieces before others have their turn.
const MAX_PIECES: u32 = 16;

/// One end of a tunnel.
enum End<'a> {
    /// A connection of its own.
    Socket(&'a net::Stream),
    /// A stream of HTTP/2, and most bytes of a frame.
    Stream(&'a Rc<h2::Stream>, usize),
}

impl End<'_> {
    /// Fills `out` with up to `max` bytes that have come; zero is the end.
    fn poll_take(&self, cx: &mut Context<'_>, out: &mut Buf, max: usize) -> Poll<io::Result<usize>> {
        match self {
            Self::Socket(socket) => {
                ready!(socket.poll_readable(cx))?;
                *out = Buf::with_capacity(max);
                let polled = socket.poll_recv(cx, out, max);
                if polled.is_pending() {
                    *out = Buf::empty();
                }
                polled
            }
            Self::Stream(stream, _) => stream.poll_take(cx, out, max),
        }
    }

    /// Hands over some of `bytes`.
    fn poll_give(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Socket(socket) => socket.poll_send(cx, bytes),
            Self::Stream(stream, most) => h2::poll_send_bytes(stream, bytes, *most, cx),
        }
    }

    /// Says that nothing more comes.
    fn poll_finish(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Socket(socket) => Poll::Ready(socket.shut_down_sending()),
            Self::Stream(stream, _) => h2::poll_send_end(stream, cx),
        }
    }
}

/// How far a direction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Nothing more comes; what came before is on its way.
    Ending,
    Ended,
}

/// One direction.
struct Pipe {
    buf: Buf,
    at: usize,
    piece: usize,
    state: State,
    moved: u64,
    /// Since when the taking end takes nothing, and the milliseconds that it may.
    stuck: Option<Deadline>,
    patience_ms: u64,
}

impl Pipe {
    fn new(buf: Buf, at: usize, piece: usize, patience_ms: u64) -> Self {
        Self { buf, at, piece, state: State::Open, moved: 0, stuck: None, patience_ms }
    }

    /// Moves bytes as far as both ends let it; ready when the direction has ended.
    fn poll(&mut self, cx: &mut Context<'_>, from: &End<'_>, to: &End<'_>) -> Poll<io::Result<()>> {
        for _ in 0..MAX_PIECES {
            while self.at < self.buf.len() {
                let given = to.poll_give(cx, self.buf.get(self.at..).unwrap_or_default());
                let count = ready!(self.in_time(given, cx))?;
                self.at += count;
                self.moved += count as u64;
            }
            // An idle tunnel holds no buffer.
            self.buf = Buf::empty();
            self.at = 0;
            match self.state {
                State::Open => {
                    if ready!(from.poll_take(cx, &mut self.buf, self.piece))? == 0 {
                        self.state = State::Ending;
                    }
                }
                State::Ending => {
                    let finished = to.poll_finish(cx);
                    ready!(self.in_time(finished, cx))?;
                    self.state = State::Ended;
                }
                State::Ended => return Poll::Ready(Ok(())),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// The taking end may take its time, but not for ever.
    fn in_time<T>(&mut self, polled: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stuck = None;
            return polled;
        }
        let patience_ms = self.patience_ms;
        let stuck = self.stuck.get_or_insert_with(|| {
            let deadline = Deadline::new();
            deadline.set_after(patience_ms);
            deadline
        });
        stuck.poll_over(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// How a tunnel ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    /// Both ends have said so.
    Done,
    /// One of them failed, or the worker ends.
    Broken,
    /// The client took nothing for `send_timeout`.
    ClientTimedOut,
    /// The upstream took nothing for its own, or nothing moved for `read_timeout`.
    PeerTimedOut,
}

/// Sends the head and tunnels until both sides have ended, one fails, or nothing moved for `read_timeout`.
pub(super) async fn run(relay: &mut Relay<'_>, r: &mut Request, answer: Answer) -> Outcome {
    let Answer { conn, buf, body } = answer;
    if r.is_subrequest {
        r.log(Level::Error, format_args!("connection upgrade in subrequest"));
        relay.succeed(r);
        return Outcome::Broken(0);
    }
    if let Err(outcome) = begin(r).await {
        relay.succeed(r);
        return outcome;
    }
    conn.send_small_pieces();
    let piece = relay.settings.buffer_size.max(PIECE);
    let patience_ms = (r.location().core.send_timeout, relay.settings.send_timeout);
    let mut down = Pipe::new(buf, body, piece, patience_ms.0);
    let mut up = Pipe::new(r.reader.take_rest(), 0, piece, patience_ms.1);
    let over = {
        let chunk_size = r.location().settings::<h2::Http2>().chunk_size;
        let client = match &r.client {
            Client::Connection => End::Socket(&r.conn.stream),
            Client::Stream(stream) => End::Stream(stream, chunk_size),
        };
        let peer = End::Socket(conn.stream());
        let idle = Idle { deadline: &r.peer_deadline, most_ms: relay.settings.read_timeout };
        idle.deadline.set_after(idle.most_ms);
        poll_fn(|cx| poll(cx, [&mut down, &mut up], [&client, &peer], &idle, &r.conn)).await
    };
    end(r, over);
    if r.stream().is_none() {
        // What goes over a stream counts itself.
        r.output.sent += down.moved;
    }
    r.received += up.moved;
    if let Some(state) = r.upstreams.last_mut() {
        state.received += down.moved;
        state.sent += up.moved;
    }
    relay.succeed(r);
    Outcome::Sent
}

/// Sends the head of the answer.
async fn begin(r: &mut Request) -> Result<(), Outcome> {
    r.keepalive = false;
    r.response.header_only = true;
    output::send_head(r)?;
    if let Client::Stream(stream) = &r.client {
        // Its head does not end the stream.
        r.response.header_only = false;
        stream.open_window(PIECE);
    } else {
        r.output.is_ended = true;
    }
    output::flush(r).await.map_err(|_| Outcome::Broken(0))?;
    r.client_deadline().clear();
    Ok(())
}

/// The time in which something must move.
struct Idle<'a> {
    deadline: &'a Deadline,
    most_ms: u64,
}

/// Moves bytes in both directions: `[down, up]` between `[client, peer]`.
fn poll(
    cx: &mut Context<'_>,
    [down, up]: [&mut Pipe; 2],
    [client, peer]: [&End<'_>; 2],
    idle: &Idle<'_>,
    conn: &Conn,
) -> Poll<Over> {
    let before = down.moved + up.moved;
    let to_client = down.poll(cx, peer, client);
    let to_peer = up.poll(cx, client, peer);
    if down.moved + up.moved != before {
        idle.deadline.set_after(idle.most_ms);
    }
    let failed =
        |error: &io::Error, late| if error.kind() == io::ErrorKind::TimedOut { late } else { Over::Broken };
    match (to_client, to_peer) {
        (Poll::Ready(Err(error)), _) => return Poll::Ready(failed(&error, Over::ClientTimedOut)),
        (_, Poll::Ready(Err(error))) => return Poll::Ready(failed(&error, Over::PeerTimedOut)),
        (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(Over::Done),
        _ => {}
    }
    let is_gone = match client {
        End::Socket(_) => conn.is_aborted.get() || conn.deadline.poll_over(cx).is_ready(),
        // Who has ended one direction can still give up the other.
        End::Stream(stream, _) => stream.poll_gone(cx).is_ready(),
    };
    if is_gone {
        return Poll::Ready(Over::Broken);
    }
    idle.deadline.poll_over(cx).map(|()| Over::PeerTimedOut)
}

/// Tells of the end: the log, and over HTTP/2 the client.
fn end(r: &mut Request, over: Over) {
    const DOING: &str = "proxying upgraded connection";
    match over {
        Over::ClientTimedOut => {
            r.log(Level::Info, format_args!("client timed out (110: Connection timed out) while {DOING}"));
        }
        Over::PeerTimedOut => {
            r.log(Level::Error, format_args!("upstream timed out (110: Connection timed out) while {DOING}"));
        }
        Over::Done | Over::Broken => {}
    }
    if let Client::Stream(stream) = &r.client {
        if over != Over::Done {
            // RFC 8441, 5: what is an exceptional end over TCP.
            stream.terminate(ErrorCode::CANCEL);
        }
        r.output.is_ended = true;
    }
}
