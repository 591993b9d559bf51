//! What the streams of a connection share: the bytes on their way out, the window for all, and whose turn it is.
//!
//! A stream puts its frames into the buffer at once while there is room. Otherwise it queues up; when the buffer has
//! been written those in front are called up, for one frame each, so that a long answer never keeps a short one back.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use net::Buf;
use proto::h2::hpack::Encoder;
use proto::h2::{
    DEFAULT_FRAME_SIZE, DEFAULT_WINDOW, ErrorCode, Flags, PeerSettings, SendWindow, push_goaway, push_ping,
    push_reset, push_settings_ack, push_window_update,
};

use super::stream::Stream;
use crate::connection::Conn;
use crate::watcher::Watcher;

/// Bytes on their way out from which streams wait. What else goes in is bounded by what the client asks for, and it
/// is not read from while so much is there.
const FULL: usize = 64 << 10;

/// Streams that are remembered because the client was not done with them.
const ABANDONED: usize = 128;

/// The sending side, which all streams share.
pub(super) struct Sending {
    /// Frames that are not written yet.
    pub bytes: Buf,
    /// Bytes of them that are written.
    at: usize,
    /// Bytes of bodies that the client takes on all streams.
    pub window: SendWindow,
    /// Header compression.
    pub encoder: Encoder,
    /// Largest payload of a frame.
    pub frame_size: usize,
    /// Those that wait for room.
    waiting: VecDeque<Rc<Stream>>,
    /// Those that wait for the window of the connection.
    starved: VecDeque<Rc<Stream>>,
}

/// A connection as its streams see it.
pub(super) struct Session {
    /// The connection.
    pub conn: Rc<Conn>,
    /// The sending side.
    pub sending: RefCell<Sending>,
    streams: RefCell<Vec<Rc<Stream>>>,
    /// The last streams that we were done with before the client was; what comes on them was under way.
    abandoned: RefCell<VecDeque<u32>>,
    /// Streams that came to their end, and those that were given up, since the driver looked last.
    pub completed: Cell<u32>,
    /// Bytes of bodies sent since the driver looked last.
    pub sent: Cell<usize>,
    driver: Watcher,
}

impl Session {
    pub(super) fn new(conn: Rc<Conn>) -> Rc<Self> {
        let sending = Sending {
            bytes: Buf::empty(),
            at: 0,
            window: SendWindow::new(DEFAULT_WINDOW),
            encoder: Encoder::default(),
            frame_size: DEFAULT_FRAME_SIZE as usize,
            waiting: VecDeque::new(),
            starved: VecDeque::new(),
        };
        Rc::new(Self {
            conn,
            sending: RefCell::new(sending),
            streams: RefCell::default(),
            abandoned: RefCell::default(),
            completed: Cell::new(0),
            sent: Cell::new(0),
            driver: Watcher::default(),
        })
    }

    /// Has the driver woken by `cx` from now on.
    pub(super) fn drive(&self, cx: &Context<'_>) {
        self.driver.watch(cx);
    }

    /// Wakes the driver: there is something to write.
    pub(super) fn wake(&self) {
        self.driver.wake();
    }

    /// Number of streams that are being handled.
    pub(super) fn len(&self) -> usize {
        self.streams.borrow().len()
    }

    /// The stream of a number, while it is being handled.
    pub(super) fn stream(&self, id: u32) -> Option<Rc<Stream>> {
        let streams = self.streams.borrow();
        let place = streams.binary_search_by_key(&id, |stream| stream.id).ok()?;
        streams.get(place).cloned()
    }

    /// Adds a stream; numbers only grow.
    pub(super) fn enter(&self, stream: Rc<Stream>) {
        self.streams.borrow_mut().push(stream);
    }

    /// A stream has come to its end.
    pub(super) fn leave(&self, stream: &Stream) {
        {
            let mut streams = self.streams.borrow_mut();
            if let Ok(place) = streams.binary_search_by_key(&stream.id, |other| other.id) {
                streams.remove(place);
            }
        }
        if !stream.is_ended() {
            self.abandon(stream.id);
        }
        self.wake();
    }

    /// What the client still sends on a stream is not wanted.
    pub(super) fn abandon(&self, id: u32) {
        let mut abandoned = self.abandoned.borrow_mut();
        if abandoned.len() >= ABANDONED {
            abandoned.pop_front();
        }
        abandoned.push_back(id);
    }

    /// Whether the client may still send on a stream that is no more.
    pub(super) fn is_abandoned(&self, id: u32) -> bool {
        self.abandoned.borrow().contains(&id)
    }

    /// All streams, as they are now.
    pub(super) fn all(&self) -> Vec<Rc<Stream>> {
        self.streams.borrow().clone()
    }

    /// Has a stream wait for its turn.
    pub(super) fn queue(&self, stream: &Rc<Stream>) {
        if !stream.is_queued.replace(true) {
            push_in_order(&mut self.sending.borrow_mut().waiting, Rc::clone(stream));
        }
    }

    /// Has a stream wait until the client takes more on the connection.
    pub(super) fn queue_for_window(&self, stream: &Rc<Stream>) {
        if !stream.is_queued.replace(true) {
            push_in_order(&mut self.sending.borrow_mut().starved, Rc::clone(stream));
        }
    }

    /// Whether the client takes any byte of a body on the connection.
    pub(super) fn has_window(&self) -> bool {
        self.sending.borrow().window.available() > 0
    }

    /// The client takes more on the connection.
    ///
    /// # Errors
    /// The window that it cannot add so much to.
    pub(super) fn grow_window(&self, increment: u32) -> Result<(), i64> {
        let mut sending = self.sending.borrow_mut();
        let sending = &mut *sending;
        sending.window.grow(increment).map_err(|_| sending.window.size())?;
        // They have waited longer.
        let later = std::mem::replace(&mut sending.waiting, std::mem::take(&mut sending.starved));
        later.into_iter().for_each(|stream| push_in_order(&mut sending.waiting, stream));
        Ok(())
    }

    /// The client takes more on a stream: one that could not send gets in line.
    pub(super) fn unstall(&self, stream: &Rc<Stream>) {
        if !stream.is_stalled.get() || stream.window.get().available() == 0 {
            return;
        }
        stream.is_stalled.set(false);
        if self.has_window() {
            self.queue(stream);
        } else {
            self.queue_for_window(stream);
        }
    }

    /// The urgencies of streams have changed.
    pub(super) fn reorder(&self) {
        let mut sending = self.sending.borrow_mut();
        sending.waiting.make_contiguous().sort_by_key(|stream| stream.urgency.get());
        sending.starved.make_contiguous().sort_by_key(|stream| stream.urgency.get());
    }

    /// Whether a stream may add a frame now: there is room and nobody waits, or it was called up.
    pub(super) fn may_send(&self, stream: &Stream) -> bool {
        let sending = self.sending.borrow();
        stream.is_called.take() || (sending.waiting.is_empty() && sending.pending() < FULL)
    }

    /// Calls up as many of those that wait as there is room for.
    pub(super) fn call_up(&self) {
        let mut called = Vec::new();
        {
            let mut sending = self.sending.borrow_mut();
            let mut room = FULL.saturating_sub(sending.pending());
            while room > 0 {
                let Some(stream) = sending.waiting.pop_front() else { break };
                room = room.saturating_sub(sending.frame_size.min(FULL / 8));
                stream.is_queued.set(false);
                stream.is_called.set(true);
                called.push(stream);
            }
        }
        for stream in called {
            stream.wake();
        }
    }

    /// Whether so much waits to be written that nothing more is to be asked for.
    pub(super) fn is_full(&self) -> bool {
        self.sending.borrow().pending() >= FULL
    }

    /// Whether anything waits to be written.
    pub(super) fn has_pending(&self) -> bool {
        self.sending.borrow().pending() > 0
    }

    /// Adds a frame of control.
    fn control(&self, write: impl FnOnce(&mut Vec<u8>)) {
        {
            let mut sending = self.sending.borrow_mut();
            sending.make_room(64);
            write(&mut sending.bytes);
        }
        self.wake();
    }

    /// Opens the client's window of a stream, or with 0 of the connection.
    pub(super) fn update_window(&self, stream: u32, increment: u32) {
        self.control(|out| push_window_update(stream, increment, out));
    }

    /// Tells the client that a stream is given up.
    pub(super) fn reset(&self, stream: u32, code: ErrorCode) {
        self.control(|out| push_reset(stream, code, out));
    }

    /// Answers a PING.
    pub(super) fn pong(&self, payload: [u8; 8]) {
        self.control(|out| push_ping(Flags::ACK, payload, out));
    }

    /// Asks whether the client has read what was sent so far.
    pub(super) fn ping(&self) {
        self.control(|out| push_ping(Flags::NONE, *b"farewell", out));
    }

    /// Tells the client that streams above `last` are not handled.
    pub(super) fn go_away(&self, last: u32, code: ErrorCode) {
        self.control(|out| push_goaway(last, code, out));
    }

    /// Takes the client's settings on and confirms them.
    pub(super) fn apply(&self, peer: &PeerSettings) {
        let mut sending = self.sending.borrow_mut();
        sending.frame_size = peer.max_frame_size as usize;
        sending.encoder.set_limit(peer.header_table_size);
        sending.make_room(64);
        push_settings_ack(&mut sending.bytes);
    }

    /// Writes what is there; ready once all of it is.
    pub(super) fn poll_write(&self, cx: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        let mut sending = self.sending.borrow_mut();
        let sending = &mut *sending;
        let mut written = 0;
        while sending.pending() > 0 {
            let rest = sending.bytes.get(sending.at..).unwrap_or_default();
            let count = match self.conn.stream.poll_send(cx, rest) {
                Poll::Pending if written > 0 => return Poll::Ready(Ok(written)),
                other => ready!(other)?,
            };
            sending.at += count;
            written += count;
        }
        sending.bytes = Buf::empty();
        sending.at = 0;
        Poll::Ready(Ok(written))
    }

    /// Drops what is not written yet.
    pub(super) fn drop_output(&self) {
        let mut sending = self.sending.borrow_mut();
        sending.bytes = Buf::empty();
        sending.at = 0;
    }

    /// The connection ends: so do all of its streams.
    pub(super) fn lose(&self) {
        {
            let mut sending = self.sending.borrow_mut();
            sending.waiting.clear();
            sending.starved.clear();
        }
        for stream in self.all() {
            stream.lose();
        }
    }
}

/// Behind all that are as urgent.
fn push_in_order(queue: &mut VecDeque<Rc<Stream>>, stream: Rc<Stream>) {
    let urgency = stream.urgency.get();
    let behind = queue.iter().rev().take_while(|other| other.urgency.get() > urgency).count();
    queue.insert(queue.len() - behind, stream);
}

impl Sending {
    /// Bytes that are not written yet.
    pub(super) fn pending(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Bytes of a body that one frame may bring on a stream with this window.
    pub(super) fn room(&self, window: &SendWindow, chunk_size: usize) -> usize {
        chunk_size.min(self.frame_size).min(window.available()).min(self.window.available())
    }

    /// Room for so many more bytes: in a small buffer, and from the second frame on in one that holds many.
    pub(super) fn make_room(&mut self, count: usize) {
        if self.bytes.capacity() == 0 {
            self.bytes = Buf::with_capacity(count.max(4096));
        } else if self.bytes.capacity() - self.bytes.len() < count {
            let at = std::mem::take(&mut self.at);
            self.bytes.drain(..at);
            self.bytes.reserve(count);
        }
    }
}
