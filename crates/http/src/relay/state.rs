//! What is known of a request's attempts at upstreams, for variables and logs.

use std::sync::Arc;

use proto::h1::ResponseHead;

/// One attempt (`ngx_http_upstream_state_t`). Times are milliseconds.
#[derive(Clone, Debug, Default)]
pub struct UpstreamState {
    /// The peer, or the group's name where none could be chosen.
    pub addr: Arc<str>,
    /// The server as it is written, where that is not the address.
    pub server: Option<Arc<str>>,
    /// Time in the upstream's queue, where the request had to wait in it.
    pub queue_ms: Option<u32>,
    /// Status of the answer; 0: none.
    pub status: u16,
    /// Time to connect.
    pub connect_ms: Option<u64>,
    /// Time until the head was there.
    pub header_ms: Option<u64>,
    /// Time until everything was there.
    pub response_ms: Option<u64>,
    /// When the attempt began, monotonic milliseconds.
    pub started_ms: u64,
    /// Bytes behind the head, with what frames them: chunks, records.
    pub response_length: u64,
    /// Bytes received, head included.
    pub received: u64,
    /// Bytes sent.
    pub sent: u64,
    /// An internal redirect lies between this attempt and the one before (shown as ` : `).
    pub after_redirect: bool,
}

impl UpstreamState {
    /// An attempt that begins now.
    #[inline]
    #[must_use]
    pub(super) fn begun(
        addr: Arc<str>,
        server: Option<Arc<str>>,
        queue_ms: Option<u32>,
        after_redirect: bool,
    ) -> Self {
        Self {
            addr,
            server,
            queue_ms,
            status: 0,
            connect_ms: None,
            header_ms: None,
            response_ms: None,
            started_ms: net::timer::now_ms(),
            response_length: 0,
            received: 0,
            sent: 0,
            after_redirect,
        }
    }
}

/// The head of the last answer of an upstream, kept for `$upstream_http_*` and its trailers.
#[derive(Debug, Default)]
pub struct UpstreamHead {
    /// The bytes that the spans of `head` lie in.
    pub text: Vec<u8>,
    /// The head.
    pub head: ResponseHead,
    /// Trailers, as names and values.
    pub trailers: Vec<(Vec<u8>, Vec<u8>)>,
}

impl UpstreamHead {
    /// Forgets the head and keeps the memory.
    pub fn clear(&mut self) {
        self.text.clear();
        self.head.reset();
        self.trailers.clear();
    }
}
