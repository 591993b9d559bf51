//! What a health check of `stream` says to a peer and what it must hear (`match` with `send` and `expect`).
//!
//! Without either it is enough that the peer can be connected to.

use std::future::poll_fn;
use std::os::fd::AsFd;
use std::task::Poll;

use net::{Buf, Deadline, Stream};

use super::probe::Finding;
use crate::regex::Regex;

/// Bytes of an answer that are looked at, as in a check of `http`.
const MOST: usize = 256 << 10;
/// Bytes that one read asks for.
const PIECE: usize = 16 << 10;

/// What a peer is asked by a datagram where nothing else is said.
const QUESTION: &[u8] = b"nginx health check";
/// How long it is waited for word that nobody listens, milliseconds.
const REFUSAL_MS: u64 = 1000;

/// One `match` block of `stream`.
#[derive(Clone, Default)]
pub struct Talk {
    /// `send`
    pub send: Box<[u8]>,
    /// `expect`
    pub expect: Option<Reply>,
    /// `udp`: the peer is spoken to by datagrams.
    pub is_by_datagrams: bool,
}

/// What must be heard.
#[derive(Clone)]
pub enum Reply {
    /// This text, somewhere in what is heard.
    Text(Box<[u8]>),
    /// Something that matches.
    Pattern(Regex),
}

impl Reply {
    fn is_in(&self, heard: &[u8]) -> bool {
        match self {
            Self::Text(text) => memchr::memmem::find(heard, text).is_some(),
            Self::Pattern(pattern) => pattern.is_match(heard),
        }
    }
}

impl Talk {
    /// Talks to a peer; each step may take so many milliseconds.
    pub(super) async fn hold(&self, peer: &Stream, timeout_ms: u64, deadline: &Deadline) -> Finding {
        if self.is_by_datagrams {
            return self.exchange(peer, timeout_ms, deadline).await;
        }
        if !self.send.is_empty() {
            deadline.set_after(timeout_ms);
            peer.send_all(&self.send, deadline).await.map_err(|_| "sending data to upstream")?;
        }
        let Some(expect) = &self.expect else { return Ok(()) };
        let mut heard = Buf::empty();
        while !expect.is_in(&heard) {
            deadline.set_after(timeout_ms);
            let is_more =
                heard.len() < MOST && matches!(peer.recv(&mut heard, PIECE, deadline).await, Ok(1..));
            if !is_more {
                return Err("reading data from upstream");
            }
        }
        Ok(())
    }
}

impl Talk {
    /// As [`Self::hold`], where whole datagrams are sent and heard. Without a text to hear, it is enough that nobody
    /// says that nobody listens there.
    async fn exchange(&self, peer: &Stream, timeout_ms: u64, deadline: &Deadline) -> Finding {
        const SENDING: &str = "sending data to upstream";
        let text = if self.send.is_empty() { QUESTION } else { &self.send };
        os::io::send(peer.as_fd(), text).map_err(|_| SENDING)?;
        deadline.set_after(if self.expect.is_some() { timeout_ms } else { timeout_ms.min(REFUSAL_MS) });
        loop {
            let mut heard = Buf::empty();
            let received = poll_fn(|cx| match peer.poll_recv_datagram(cx, &mut heard, PIECE) {
                Poll::Pending => deadline.poll_over(cx).map(|()| None),
                received => received.map(Some),
            });
            match (received.await, &self.expect) {
                (Some(Ok(_)) | None, None) => return Ok(()),
                (Some(Ok(_)), Some(expect)) if expect.is_in(&heard) => return Ok(()),
                (Some(Ok(_)), Some(_)) => {}
                (Some(Err(_)) | None, _) => return Err("reading data from upstream"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies() {
        let text = |expected: &[u8]| Reply::Text(expected.into());
        assert!(text(b"PONG").is_in(b"+PONG\r\n"));
        assert!(!text(b"PONG").is_in(b"+PON"));
        assert!(text(b"\0\xff").is_in(b"a\0\xffb"));
        let pattern = Reply::Pattern(Regex::compile_once(b"^220 .* ESMTP").expect("pattern"));
        assert!(pattern.is_in(b"220 mail ESMTP\r\n"));
        assert!(!pattern.is_in(b"421 busy\r\n"));
    }
}
