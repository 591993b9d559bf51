//! Bytes both ways after a 101: WebSocket and whatever else was agreed on.
//!
//! A tunnel is opened only after the upstream's own 101; what the client sent before that is not passed.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use net::{Buf, Stream};
use os::errlog::Level;

use super::Relay;
use super::exchange::Answer;
use crate::output;
use crate::phases::Outcome;
use crate::request::Request;

/// Bytes in flight in each direction.
const PIECE: usize = 16 << 10;

/// One direction.
struct Pipe {
    buf: Buf,
    at: usize,
    is_ended: bool,
    moved: u64,
}

impl Pipe {
    fn new(buf: Buf, at: usize) -> Self {
        Self { buf, at, is_ended: false, moved: 0 }
    }

    /// Moves bytes as far as both ends let it; ready when the direction has ended.
    fn poll(&mut self, cx: &mut Context<'_>, from: &Stream, to: &Stream) -> Poll<io::Result<()>> {
        loop {
            while self.at < self.buf.len() {
                match to.poll_send(cx, &self.buf[self.at..]) {
                    Poll::Ready(Ok(count)) => {
                        self.at += count;
                        self.moved += count as u64;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            if self.is_ended {
                return Poll::Ready(Ok(()));
            }
            // An idle tunnel holds no buffer.
            self.buf = Buf::empty();
            self.at = 0;
            if from.poll_readable(cx)?.is_pending() {
                return Poll::Pending;
            }
            self.buf = Buf::with_capacity(PIECE);
            match from.poll_recv(cx, &mut self.buf, PIECE) {
                Poll::Ready(Ok(0)) => self.is_ended = true,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// Sends the 101 and tunnels until one side ends or nothing moved for `read_timeout`.
pub(super) async fn run(relay: &mut Relay<'_>, r: &mut Request, answer: Answer) -> Outcome {
    let Answer { conn, buf, body } = answer;
    r.keepalive = false;
    r.response.header_only = true;
    if let Err(outcome) = output::send_head(r) {
        relay.succeed(r);
        return outcome;
    }
    r.output.is_ended = true;
    if output::flush(r).await.is_err() {
        relay.succeed(r);
        return Outcome::Broken(0);
    }
    conn.send_small_pieces();
    let mut down = Pipe::new(buf, body);
    let mut up = Pipe::new(r.reader.take_rest(), 0);
    let client = Rc::clone(&r.conn);
    let deadline = Rc::clone(&r.peer_deadline);
    let timeout = relay.settings.read_timeout;
    deadline.set_after(timeout);
    client.deadline.clear();
    let mut moved = 0;
    let result = poll_fn(|cx| {
        let peer = conn.stream();
        let to_client = down.poll(cx, peer, &client.stream);
        let to_peer = up.poll(cx, &client.stream, peer);
        if down.moved + up.moved != moved {
            moved = down.moved + up.moved;
            deadline.set_after(timeout);
        }
        if let Poll::Ready(result) = to_client {
            return Poll::Ready(result);
        }
        if let Poll::Ready(result) = to_peer {
            return Poll::Ready(result);
        }
        if client.is_aborted.get() || client.deadline.poll_over(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        deadline.poll_over(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    })
    .await;
    if let Err(error) = result
        && error.kind() == io::ErrorKind::TimedOut
    {
        r.log(
            Level::Error,
            format_args!("upstream timed out (110: Connection timed out) while proxying upgraded connection"),
        );
    }
    r.output.sent += down.moved;
    r.received += up.moved;
    if let Some(state) = r.upstreams.last_mut() {
        state.received += down.moved;
        state.sent += up.moved;
    }
    relay.succeed(r);
    Outcome::Sent
}
