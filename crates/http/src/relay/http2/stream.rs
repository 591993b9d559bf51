//! What is known of one stream: its windows, and what has come of its answer and was not taken yet.
//!
//! How much can wait here is bounded by the window that the upstream has for the stream.

use std::task::Context;

use net::Buf;
use proto::h1::ResponseHead;
use proto::h2::hpack::BlockLimits;
use proto::h2::{ReceiveWindow, SendWindow};

use super::answer::Invalid;
use crate::watcher::Watcher;

/// Interim answers that are kept for a request that does not look at them.
const MAX_HINTS: usize = 16;

/// A head of an answer; its spans lie in `text`.
#[derive(Debug, Default)]
pub(super) struct Head {
    /// The head.
    pub head: ResponseHead,
    /// Its text.
    pub text: Vec<u8>,
}

/// Why nothing more comes of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// The upstream broke the protocol, or gave the stream up.
    Invalid(Invalid),
    /// The upstream has not looked at the request and says so: it may be sent again, whatever it is.
    Unprocessed,
    /// The connection failed with this error number.
    Failed(Option<i32>),
    /// The upstream closed the connection.
    Closed,
}

/// One stream.
#[derive(Debug)]
pub(super) struct StreamState {
    /// Its number.
    pub id: u32,
    /// Bytes of the request's body that the upstream takes.
    pub window: SendWindow,
    /// Bytes of the answer's body that the upstream may send.
    pub receive: ReceiveWindow,
    /// What a header block may hold.
    pub limits: BlockLimits,
    /// When it began, monotonic milliseconds.
    pub began_ms: u64,
    /// Interim answers (RFC 8297).
    pub hints: Vec<Head>,
    /// The head, until it is taken.
    pub head: Option<Head>,
    /// The head has come.
    pub has_head: bool,
    /// The head was the end.
    pub is_bodiless: bool,
    /// What has come of the body.
    pub data: Buf,
    /// Fields behind the body.
    pub trailers: Vec<(Vec<u8>, Vec<u8>)>,
    /// The upstream has ended the stream.
    pub is_ended: bool,
    /// The upstream has given the stream up.
    pub is_reset: bool,
    /// All of the request is written or waits to be.
    pub is_sent: bool,
    /// Nothing more comes, for this reason.
    pub broken: Option<Broken>,
    /// Bytes that have come since somebody looked.
    pub received: usize,
    /// The end, or what broke it, is known to the request.
    pub is_told: bool,
    watcher: Watcher,
}

impl StreamState {
    pub(super) fn new(id: u32, window: SendWindow, receive: ReceiveWindow, limits: BlockLimits) -> Self {
        Self {
            id,
            window,
            receive,
            limits,
            began_ms: net::timer::now_ms(),
            hints: Vec::new(),
            head: None,
            has_head: false,
            is_bodiless: false,
            data: Buf::empty(),
            trailers: Vec::new(),
            is_ended: false,
            is_reset: false,
            is_sent: false,
            broken: None,
            received: 0,
            is_told: false,
            watcher: Watcher::default(),
        }
    }

    /// Has `cx` woken when something comes.
    pub(super) fn watch(&self, cx: &Context<'_>) {
        self.watcher.watch(cx);
    }

    /// Wakes the request.
    pub(super) fn wake(&self) {
        self.watcher.wake();
    }

    /// Nothing more comes. What broke it first counts.
    pub(super) fn fail(&mut self, broken: Broken) {
        if !self.is_ended && self.broken.is_none() {
            self.broken = Some(broken);
        }
        self.wake();
    }

    /// Keeps an interim answer for the request.
    pub(super) fn hint(&mut self, head: Head) {
        if self.hints.len() < MAX_HINTS {
            self.hints.push(head);
        }
    }

    /// Whether something has come that was not taken.
    pub(super) fn has_news(&self) -> bool {
        self.received > 0
            || self.head.is_some()
            || !self.hints.is_empty()
            || !self.data.is_empty()
            || (!self.is_told && (self.is_ended || self.broken.is_some()))
    }

    /// Whether both sides have said all.
    pub(super) fn is_over(&self) -> bool {
        self.is_ended && self.is_sent
    }
}
