//! The other end of a request: where its body comes from and its answer goes.
//!
//! Whoever waits asks here and not at the socket, since under HTTP/2 a request is one of many on it.

use std::task::{Context, Poll};

use net::Deadline;

use crate::request::Request;

impl Request {
    /// Ready when nobody is left who would read the answer: the client closed, or it reset the stream.
    #[inline]
    pub fn poll_client_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.conn.stream.poll_peer_closed(cx)
    }

    /// The deadline of whatever this request waits for at its client.
    #[inline]
    #[must_use]
    pub fn client_deadline(&self) -> &Deadline {
        &self.conn.deadline
    }
}
