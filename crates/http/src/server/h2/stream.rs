//! A stream: the other end of one request, as its handler and its connection see it.
//!
//! Both run on the same thread, so all is in cells; nothing is borrowed while somebody else is called.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use net::Buf;
use proto::h2::{ErrorCode, ReceiveWindow, SendWindow, Urgency};

use super::head::Head;
use super::session::Session;
use crate::watcher::Watcher;

/// What came of a body and was not asked for yet.
struct Incoming {
    bytes: Buf,
    at: usize,
    window: ReceiveWindow,
    /// Bytes that the client may have under way while somebody reads.
    target: u32,
}

/// One stream of a connection.
pub struct Stream {
    /// Its number.
    pub id: u32,
    pub(super) session: Rc<Session>,
    pub(super) head: Cell<Option<Box<Head>>>,
    pub(super) window: Cell<SendWindow>,
    /// It stands in the connection's queue of those that want to send.
    pub(super) is_queued: Cell<bool>,
    /// When its turn is, as the client wishes.
    pub(super) urgency: Cell<Urgency>,
    /// Its own window keeps it from sending.
    pub(super) is_stalled: Cell<bool>,
    /// The connection has called it up: it may send one frame.
    pub(super) is_called: Cell<bool>,
    /// The last frame of the answer is written.
    pub(super) is_answered: Cell<bool>,
    /// The client did not do its part in time.
    pub(super) is_timed_out: Cell<bool>,
    /// The request is none that HTTP allows, so the stream ends with an error behind its answer.
    pub(super) is_malformed: Cell<bool>,
    /// The client asks for a tunnel (RFC 8441): what follows the head is no body.
    asks_tunnel: bool,
    /// The client has ended its side.
    is_ended: Cell<bool>,
    /// The client gave it up, its connection is gone, or we have told the client that we gave it up.
    is_gone: Cell<bool>,
    incoming: RefCell<Incoming>,
    watcher: Watcher,
}

impl Stream {
    pub(super) fn new(
        id: u32,
        session: Rc<Session>,
        head: Box<Head>,
        send: u32,
        receive: u32,
        is_ended: bool,
    ) -> Self {
        let asks_tunnel = head.protocol.is_some();
        let incoming =
            Incoming { bytes: Buf::empty(), at: 0, window: ReceiveWindow::new(receive), target: receive };
        Self {
            id,
            session,
            head: Cell::new(Some(head)),
            window: Cell::new(SendWindow::new(send)),
            is_queued: Cell::new(false),
            urgency: Cell::default(),
            is_stalled: Cell::new(false),
            is_called: Cell::new(false),
            is_answered: Cell::new(false),
            is_timed_out: Cell::new(false),
            is_malformed: Cell::new(false),
            asks_tunnel,
            is_ended: Cell::new(is_ended),
            is_gone: Cell::new(false),
            incoming: RefCell::new(incoming),
            watcher: Watcher::default(),
        }
    }

    /// Whether nobody reads the answer any more.
    #[inline]
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.is_gone.get()
    }

    /// Whether the client asks for a tunnel (RFC 8441), and takes any 2xx for its beginning.
    #[inline]
    #[must_use]
    pub fn asks_tunnel(&self) -> bool {
        self.asks_tunnel
    }

    /// Whether the client has sent all that it will send.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.is_ended.get()
    }

    /// Has `cx` woken when something happens to the stream.
    pub(crate) fn watch(&self, cx: &Context<'_>) {
        self.watcher.watch(cx);
    }

    /// Wakes whoever waits for the stream.
    pub(super) fn wake(&self) {
        self.watcher.wake();
    }

    /// Ready when nobody reads the answer any more.
    pub fn poll_gone(&self, cx: &Context<'_>) -> Poll<()> {
        if self.is_gone() {
            return Poll::Ready(());
        }
        self.watch(cx);
        Poll::Pending
    }

    /// The client gave it up, or its connection is gone.
    pub(super) fn lose(&self) {
        self.is_gone.set(true);
        self.is_ended.set(true);
        self.wake();
    }

    /// The client did not do its part in time.
    pub(crate) fn time_out(&self) {
        self.is_timed_out.set(true);
    }

    /// The request is none that HTTP allows.
    pub(crate) fn condemn(&self) {
        self.is_malformed.set(true);
    }

    /// Gives it up, with a code that tells the client why.
    pub(crate) fn terminate(&self, code: ErrorCode) {
        if !self.is_gone.replace(true) {
            self.session.reset(self.id, code);
            self.wake();
        }
    }

    /// Whether its handler has begun.
    pub(super) fn has_begun(&self) -> bool {
        let head = self.head.take();
        let has_begun = head.is_none();
        self.head.set(head);
        has_begun
    }

    /// Whether the client may send so many bytes on this stream.
    pub(super) fn may_bring(&self, length: usize) -> bool {
        length <= self.incoming.borrow().window.size() as usize
    }

    /// Bytes of a frame that the client may send on this stream; `false` when it may not.
    pub(super) fn account(&self, flow: usize) -> Result<(), u32> {
        let mut incoming = self.incoming.borrow_mut();
        let window = incoming.window.size();
        if incoming.window.take(flow) { Ok(()) } else { Err(window) }
    }

    /// Takes a piece of the body.
    pub(super) fn receive(&self, bytes: &[u8], is_end: bool) {
        if !bytes.is_empty() && !self.is_answered.get() {
            let mut incoming = self.incoming.borrow_mut();
            if incoming.at > 0 {
                let at = std::mem::take(&mut incoming.at);
                incoming.bytes.drain(..at);
            }
            incoming.bytes.reserve(bytes.len());
            incoming.bytes.extend_from_slice(bytes);
        }
        if is_end {
            self.is_ended.set(true);
        }
        self.wake();
    }

    /// Somebody begins to read the body: the client may have so many bytes under way.
    pub(crate) fn open_window(&self, target: usize) {
        let target = u32::try_from(target).unwrap_or(u32::MAX);
        {
            let mut incoming = self.incoming.borrow_mut();
            incoming.target = incoming.target.max(target);
        }
        self.update_window();
    }

    /// Bytes that have come and were not asked for yet.
    pub(crate) fn available(&self) -> usize {
        let incoming = self.incoming.borrow();
        incoming.bytes.len() - incoming.at
    }

    /// Appends up to `max` bytes of a tunnel to `out`; zero is the client's end of it.
    ///
    /// # Errors
    /// [`io::ErrorKind::ConnectionReset`] when the client gave the stream up.
    pub(crate) fn poll_take(
        &self,
        cx: &Context<'_>,
        out: &mut Vec<u8>,
        max: usize,
    ) -> Poll<io::Result<usize>> {
        if self.is_gone() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let count = self.take(out, max);
        if count > 0 || self.is_ended() {
            return Poll::Ready(Ok(count));
        }
        self.watch(cx);
        Poll::Pending
    }

    /// Appends up to `max` bytes that have come to `out`.
    pub(crate) fn take(&self, out: &mut Vec<u8>, max: usize) -> usize {
        let count = {
            let mut incoming = self.incoming.borrow_mut();
            let here = incoming.bytes.get(incoming.at..).unwrap_or_default();
            let count = here.len().min(max);
            out.extend_from_slice(&here[..count]);
            incoming.at += count;
            if incoming.at >= incoming.bytes.len() {
                incoming.bytes = Buf::empty();
                incoming.at = 0;
            }
            count
        };
        if count > 0 && !self.is_ended.get() {
            self.update_window();
        }
        count
    }

    /// Opens the client's window again once half of it is used.
    fn update_window(&self) {
        let increment = {
            let mut incoming = self.incoming.borrow_mut();
            let held = incoming.bytes.len() - incoming.at;
            let wanted = incoming.target.saturating_sub(u32::try_from(held).unwrap_or(u32::MAX));
            if incoming.window.size() > wanted / 2 {
                return;
            }
            incoming.window.open_to(wanted)
        };
        if let Some(increment) = increment
            && !self.is_gone()
            && !self.is_ended.get()
        {
            self.session.update_window(self.id, increment);
        }
    }
}
