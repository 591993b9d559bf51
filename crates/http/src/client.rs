//! The other end of a request: where its body comes from and its answer goes.
//!
//! Whoever waits asks here and not at the socket, since under HTTP/2 a request is one of many on it.

use std::rc::Rc;
use std::task::{Context, Poll, ready};

use net::Deadline;

use crate::request::Request;
use crate::server::h2::Stream;

/// How long a busy thread leaves a client's end unseen at a connection that it does not watch yet, at least; at most twice
/// as long. Those of a while end together, since each end wakes the thread.
const PATIENCE_MS: u64 = 20;

/// Who asks.
#[derive(Clone, Default)]
pub enum Client {
    /// All of the connection, until the request is answered.
    #[default]
    Connection,
    /// One of its streams.
    Stream(Rc<Stream>),
}

impl Request {
    /// Ready when nobody is left who would read the answer: the client closed, or it reset the stream. A
    /// subrequest leaves the watch to the main request.
    ///
    /// A busy thread does not watch a connection at once that nothing was waited for at: most answers are made before that
    /// would pay, and with its answer a connection may end.
    #[inline]
    pub fn poll_client_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &self.client {
            _ if self.is_subrequest => Poll::Pending,
            Client::Connection => {
                if !self.conn.stream.is_watched() {
                    ready!(self.poll_impatient(cx));
                }
                self.conn.stream.poll_peer_closed(cx)
            }
            Client::Stream(stream) => stream.poll_gone(cx),
        }
    }

    fn poll_impatient(&self, cx: &mut Context<'_>) -> Poll<()> {
        let patience = match self.patience.take() {
            Some(patience) => patience,
            None if !net::timer::is_busy() => return Poll::Ready(()),
            None => {
                let patience = Deadline::new();
                patience.set_at((net::timer::now_ms() / PATIENCE_MS + 2) * PATIENCE_MS);
                patience
            }
        };
        let is_over = patience.poll_over(cx);
        self.patience.set(is_over.is_pending().then_some(patience));
        is_over
    }

    /// Whether an upstream is to be heard out, by this request or a subrequest, even if the client is gone.
    pub(crate) fn hears_out(&self) -> bool {
        self.ignores_client_abort
            || self.known_family().is_some_and(|family| family.ignores_client_abort.get())
    }

    /// Bytes sent to the client, and those of them that are no head. To a subrequest it is what the main request
    /// has sent, as in nginx.
    #[must_use]
    pub fn bytes_sent(&self) -> (u64, u64) {
        if self.is_subrequest {
            return self.known_family().map_or((0, 0), |family| family.sent.get());
        }
        (self.output.sent, self.output.body_sent())
    }

    /// Whether all of the answer was sent (`$request_completion`).
    #[must_use]
    pub fn is_answered(&self) -> bool {
        !self.is_subrequest && self.output.is_complete()
    }

    /// The deadline of whatever this request waits for at its client.
    #[inline]
    #[must_use]
    pub fn client_deadline(&self) -> &Deadline {
        match &self.client {
            Client::Connection => &self.conn.deadline,
            Client::Stream(_) => &self.stream_deadline,
        }
    }

    /// The stream that the request came on, under HTTP/2.
    #[inline]
    #[must_use]
    pub fn stream(&self) -> Option<&Rc<Stream>> {
        match &self.client {
            Client::Connection => None,
            Client::Stream(stream) => Some(stream),
        }
    }
}
