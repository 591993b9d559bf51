//! Bytes both ways: WebSocket and whatever else was agreed on by a 101, and what a CONNECT asked for.
//!
//! A tunnel is opened only after the upstream's own 101; what the client sent before that is not passed. Each
//! direction ends by itself, and the tunnel with both.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use net::Deadline;
use os::errlog::Level;
use proto::h2::ErrorCode;

use super::Relay;
use super::exchange::Answer;
use super::pipe::{End, PIECE, Pipe};
use crate::client::Client;
use crate::connection::Conn;
use crate::output;
use crate::phases::Outcome;
use crate::request::Request;
use crate::server::h2;

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
    let mut down = Pipe::new(buf, body, piece, Some(patience_ms.0));
    let mut up = Pipe::new(r.reader.take_rest(), 0, piece, Some(patience_ms.1));
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
    }
    output::flush(r).await.map_err(|_| Outcome::Broken(0))?;
    // Not before: the end of an answer may wait for that of its connection.
    r.output.is_ended |= matches!(r.client, Client::Connection);
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
