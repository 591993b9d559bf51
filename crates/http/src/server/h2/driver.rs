//! The task of a connection: reads frames, begins streams, writes what they made, and ends in nginx's words.
//!
//! Having begun streams it does not write at once but lets their tasks run first, so that control frames and answers
//! leave together.

mod frames;

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use net::Buf;
use net::timer::Pause;
use os::errlog::{Errno, Level};
use proto::h2::hpack::Decoder;
use proto::h2::{
    DEFAULT_WINDOW, ErrorCode, MAX_WINDOW, Priorities, Receiver, Role, SERVER_FRAME_SIZE, Setting, Violation,
    push_settings,
};

use super::farewell::Farewell;
use super::head;
use super::session::Session;
use super::{Http2, Http2Settings};
use crate::conf::core::{CoreSettings, LingeringClose};
use crate::connection::Conn;
use crate::cycle::{Local, Worker};
use crate::server::{is_quitting, lingering, route};

/// Bytes that a read asks for, and once more comes than that.
const READ_SIZES: [usize; 2] = [16 << 10, 64 << 10];
/// The highest number of a stream.
const MAX_STREAM: u32 = (1 << 31) - 1;
/// Reads before others have their turn.
const MAX_READS: u32 = 4;
/// Frames that are looked at before others have their turn, and the same of a client that only makes work.
const FRAMES: [u32; 2] = [256, 8];
/// Milliseconds that such a client waits for its next turn.
const PAUSE_MS: u64 = 1;

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The client knows: what it still sends is read for a while.
    Told,
    /// It knows too, and is let go a little later: it asked for more than it may.
    Held,
    /// Nobody is there.
    Lost,
}

/// What the connection waits for, and so what its deadline means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// The first stream, or the rest of a header block.
    Header,
    /// Another stream.
    Idle,
    /// That the client takes what is written.
    Write,
    /// Its streams.
    Streams,
}

/// What reading came to.
enum Read {
    /// There is nothing now.
    Nothing,
    /// Frames came, and so many streams began.
    Some(u32),
    /// The client closed.
    Closed,
}

/// Serves a connection whose preface has been read, to its end.
pub(crate) async fn serve(conn: Rc<Conn>) {
    let mut driver = Box::new(Driver::new(Rc::clone(&conn)));
    conn.is_multiplexed.set(true);
    let end = poll_fn(|cx| driver.poll(cx)).await;
    let core = Arc::clone(&driver.core);
    drop(driver);
    conn.is_idle.set(true);
    if end == End::Held && !conn.is_aborted.get() {
        lingering::hold().await;
    }
    if end != End::Lost && core.lingering_close != LingeringClose::Off && !conn.is_aborted.get() {
        lingering::close(&conn, &core).await;
    }
}

struct Driver {
    session: Rc<Session>,
    receiver: Receiver,
    decoder: Decoder,
    input: Buf,
    /// Settings of the default server, which rule the connection.
    core: Arc<CoreSettings>,
    /// Not all servers read the fields of requests as this one's.
    heads_differ: bool,
    http2: Http2Settings,
    generation: u32,
    wait: Wait,
    /// Index into [`READ_SIZES`].
    size: usize,
    /// The client confirmed our settings.
    is_acknowledged: bool,
    farewell: Farewell,
    /// Nothing more is read: only the streams' ends and the last bytes are waited for.
    ending: Option<End>,
    /// A stream whose head took too long; the rest of that is only decoded.
    late_stream: u32,
    /// Bytes have come that were not looked at.
    has_unread: bool,
    /// They are not looked at before this.
    pause: Pause,
    /// Times that it woke from idling.
    wakings: u64,
    /// What the client said of the order of streams, if anything.
    priorities: Option<Box<Priorities>>,
    /// It said something that was not looked at.
    is_order_new: bool,
}

impl Driver {
    fn new(conn: Rc<Conn>) -> Self {
        let cycle = Worker::current().cycle();
        let (core, http2) = settings(&cycle, &conn);
        let header_limit = head::limits(&core).total;
        let receiver =
            Receiver::new(Role::Server, http2.max_concurrent_streams, header_limit.saturating_mul(2));
        let input = conn.take_leftover();
        conn.is_idle.set(false);
        conn.deadline.set_after(core.client_header_timeout);
        let session = Session::new(conn);
        {
            let mut sending = session.sending.borrow_mut();
            sending.make_room(64);
            let settings = [
                Setting::MaxConcurrentStreams(http2.max_concurrent_streams),
                Setting::InitialWindowSize(http2.body_preread_size),
                Setting::MaxFrameSize(SERVER_FRAME_SIZE),
                Setting::EnableConnectProtocol(1),
            ];
            push_settings(&settings, &mut sending.bytes);
        }
        session.update_window(0, MAX_WINDOW - DEFAULT_WINDOW);
        Self {
            session,
            receiver,
            decoder: Decoder::default(),
            input,
            core,
            heads_differ: cycle.http.heads_differ,
            http2,
            generation: cycle.generation,
            wait: Wait::Header,
            size: 0,
            is_acknowledged: false,
            farewell: Farewell::None,
            ending: None,
            late_stream: 0,
            has_unread: true,
            pause: Pause::default(),
            wakings: 0,
            priorities: None,
            is_order_new: false,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.session.drive(cx);
        if self.session.conn.is_aborted.get() {
            self.lose();
        } else if is_quitting() {
            self.ask_to_go();
        }
        if self.farewell.is_due(cx) {
            self.go_away(ErrorCode::NO_ERROR);
        }
        self.pay();
        let is_blocked = loop {
            match self.read_all(cx) {
                Ok(0) => {}
                Ok(_) => {
                    // What was begun puts its answers behind what is there.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Err(violation) => self.violate(violation),
            }
            let was_full = self.session.is_full();
            let is_blocked = self.write(cx);
            // Nothing is read while too much waits to be written, so nothing would wake us for it.
            if !was_full || self.session.is_full() {
                break is_blocked;
            }
        };
        if let Some(end) = self.end() {
            return Poll::Ready(end);
        }
        self.watch(cx, is_blocked)
    }

    /// Reads while there is something; gives the number of streams that began.
    fn read_all(&mut self, cx: &mut Context<'_>) -> Result<u32, Violation> {
        let mut began = 0;
        if self.ending.is_some() {
            return Ok(0);
        }
        if self.has_unread && (self.session.is_full() || self.pause.poll_over(cx).is_pending()) {
            return Ok(0);
        }
        if std::mem::take(&mut self.has_unread) {
            began += self.take()?;
        }
        if self.has_unread {
            self.yield_turn(cx);
            return Ok(began);
        }
        for _ in 0..MAX_READS {
            if self.session.is_full() || began > 0 {
                return Ok(began);
            }
            match self.read(cx)? {
                Read::Nothing => return Ok(began),
                Read::Some(count) => {
                    began += count;
                    if self.has_unread {
                        self.yield_turn(cx);
                        return Ok(began);
                    }
                }
                Read::Closed => {
                    if self.receiver.is_in_frame() || self.session.len() > 0 {
                        self.log(Level::Info, format_args!("client prematurely closed connection"));
                    }
                    self.lose();
                    return Ok(0);
                }
            }
        }
        cx.waker().wake_by_ref();
        Ok(began)
    }

    /// More has come than is looked at in one turn. A client that owes is made to wait for its next one, so that it
    /// cannot take the time of others.
    fn yield_turn(&mut self, cx: &mut Context<'_>) {
        if self.receiver.budget.is_owing() {
            self.pause.begin(PAUSE_MS);
            let _ = self.pause.poll_over(cx);
        } else {
            cx.waker().wake_by_ref();
        }
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Result<Read, Violation> {
        let conn = Rc::clone(&self.session.conn);
        if conn.stream.poll_readable(cx).is_pending() {
            return Ok(Read::Nothing);
        }
        let size = READ_SIZES[self.size].min(self.http2.recv_buffer_size);
        if self.input.capacity() == 0 {
            self.input = Buf::with_capacity(size);
        }
        self.input.reserve(size);
        let count = match conn.stream.poll_recv(cx, &mut self.input, size) {
            Poll::Pending => return Ok(Read::Nothing),
            Poll::Ready(Ok(0)) => return Ok(Read::Closed),
            Poll::Ready(Err(error)) => {
                self.log(Level::Info, format_args!("recv() failed {}", Errno(&error)));
                return Ok(Read::Closed);
            }
            Poll::Ready(Ok(count)) => count,
        };
        self.size = usize::from(count == size).min(READ_SIZES.len() - 1);
        if self.wait == Wait::Idle {
            self.wakings += 1;
            if self.wakings > self.core.keepalive_requests.saturating_mul(10) {
                return Err(Violation::Flood);
            }
        }
        let began = self.take()?;
        self.receiver.budget.received(count)?;
        Ok(Read::Some(began))
    }

    /// Takes apart what was read; gives the number of streams that began.
    fn take(&mut self) -> Result<u32, Violation> {
        let input = std::mem::replace(&mut self.input, Buf::empty());
        let mut rest = &input[..];
        let mut began = 0;
        let mut frames = 0;
        let done = loop {
            if began > 0 && self.is_early(rest) {
                self.has_unread = true;
                break Ok(began);
            }
            match self.step(rest, &mut began) {
                Ok(Some(used)) => rest = rest.get(used..).unwrap_or_default(),
                Ok(None) => break Ok(began),
                Err(violation) => break Err(violation),
            }
            frames += 1;
            if frames >= FRAMES[usize::from(self.receiver.budget.is_owing())] {
                self.has_unread = !rest.is_empty();
                break Ok(began);
            }
        };
        if std::mem::take(&mut self.is_order_new) {
            self.reorder();
        }
        let used = input.len() - rest.len();
        self.input = input;
        if used == self.input.len() {
            self.input = Buf::empty();
        } else {
            self.input.drain(..used);
        }
        if self.receiver.window.size() < MAX_WINDOW / 4
            && let Some(increment) = self.receiver.window.open_to(MAX_WINDOW)
        {
            self.session.update_window(0, increment);
        }
        done
    }

    /// Settings follow the configuration that is in force when a stream begins.
    fn follow_configuration(&mut self) {
        let cycle = Worker::current().cycle();
        if cycle.generation != self.generation {
            self.generation = cycle.generation;
            (self.core, self.http2) = settings(&cycle, &self.session.conn);
            self.heads_differ = cycle.http.heads_differ;
        }
    }

    /// What the streams did pays for what the client may ask for.
    fn pay(&mut self) {
        for _ in 0..self.session.completed.take() {
            self.receiver.budget.completed();
        }
        self.receiver.budget.payload(self.session.sent.take());
    }

    /// Writes what is there; says whether the client takes no more of it for now.
    fn write(&mut self, cx: &mut Context<'_>) -> bool {
        loop {
            if !self.session.has_pending() {
                self.session.call_up();
                return false;
            }
            match self.session.poll_write(cx) {
                Poll::Ready(Ok(_)) if self.wait == Wait::Write => {
                    self.session.conn.deadline.set_after(self.core.send_timeout);
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => return true,
                Poll::Ready(Err(error)) => {
                    self.log(Level::Info, format_args!("send() failed {}", Errno(&error)));
                    self.lose();
                    return false;
                }
            }
        }
    }

    /// How the connection ends, once nothing is left to do on it.
    fn end(&self) -> Option<End> {
        if self.session.len() > 0 {
            return None;
        }
        match self.ending {
            Some(End::Lost) => Some(End::Lost),
            Some(end) if !self.session.has_pending() => Some(end),
            None if self.farewell.is_told() && !self.session.has_pending() => Some(End::Told),
            _ => None,
        }
    }

    /// Waits for the client or the streams, and for the client only so long.
    fn watch(&mut self, cx: &mut Context<'_>, is_blocked: bool) -> Poll<End> {
        let reading = self.receiver.stream_of_block(&self.input).filter(|stream| *stream != self.late_stream);
        let is_fresh = self.receiver.last_stream == 0 && self.late_stream == 0;
        let wait = if is_blocked {
            Wait::Write
        } else if reading.is_some() || (self.wait == Wait::Header && is_fresh) {
            Wait::Header
        } else if self.session.len() > 0 {
            Wait::Streams
        } else {
            Wait::Idle
        };
        let conn = Rc::clone(&self.session.conn);
        if wait != self.wait {
            self.wait = wait;
            conn.is_idle.set(wait == Wait::Idle);
            if wait == Wait::Idle {
                self.receiver.release();
            }
            self.set_deadline();
        }
        if conn.deadline.poll_over(cx).is_pending() {
            return Poll::Pending;
        }
        match wait {
            Wait::Write => self.lose(),
            Wait::Header => {
                self.log(Level::Info, format_args!("client timed out (110: Connection timed out)"));
                match reading {
                    // Only this stream is given up (`ngx_http_v2_close_stream_handler`).
                    Some(stream) => {
                        self.late_stream = stream;
                        self.session.reset(stream, ErrorCode::PROTOCOL);
                    }
                    None => {
                        self.go_away(ErrorCode::PROTOCOL);
                        self.give_up();
                    }
                }
            }
            Wait::Idle => {
                self.go_away(ErrorCode::NO_ERROR);
                self.give_up();
            }
            Wait::Streams => {}
        }
        conn.deadline.clear();
        // The streams learn of it, and what is left is written.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Ends the connection for what the client did.
    fn violate(&mut self, violation: Violation) {
        self.log(Level::Info, format_args!("client {violation}"));
        self.go_away(violation.code());
        if violation.is_excess() {
            self.ending.get_or_insert(End::Held);
        }
        self.give_up();
    }

    /// Sets the deadline of what the connection waits for.
    fn set_deadline(&self) {
        let deadline = &self.session.conn.deadline;
        match self.wait {
            Wait::Header => deadline.set_after(self.core.client_header_timeout),
            Wait::Idle => deadline.set_after(self.core.keepalive_timeout),
            Wait::Write => deadline.set_after(self.core.send_timeout),
            Wait::Streams => deadline.clear(),
        }
    }

    /// Begins the end: streams that are on their way are still taken.
    fn ask_to_go(&mut self) {
        if self.farewell.has_begun() {
            return;
        }
        self.farewell = Farewell::asked(&self.session.conn);
        self.session.go_away(MAX_STREAM, ErrorCode::NO_ERROR);
        self.session.ping();
        // Whoever ends the worker has moved the deadline to wake us.
        self.set_deadline();
    }

    /// Takes no more streams than those that came.
    fn go_away(&mut self, code: ErrorCode) {
        if !self.farewell.is_told() {
            self.farewell = Farewell::Told;
            self.session.go_away(self.receiver.last_stream, code);
        }
    }

    /// Nothing more is read, and nothing more is answered.
    fn give_up(&mut self) {
        self.input = Buf::empty();
        self.ending.get_or_insert(End::Told);
        self.session.lose();
    }

    /// The client is not there any more.
    fn lose(&mut self) {
        if self.ending != Some(End::Lost) {
            self.input = Buf::empty();
            self.ending = Some(End::Lost);
            self.session.drop_output();
            self.session.lose();
        }
    }

    /// Writes a message about the connection to the error log of its default server.
    fn log(&self, level: Level, message: std::fmt::Arguments<'_>) {
        let conn = &self.session.conn;
        let cycle = Worker::current().cycle();
        let log = self.core.error_log.get().unwrap_or(&cycle.globals.log);
        if !log.enabled_for(level, conn.scope()) {
            return;
        }
        let (peer, local) = (&conn.peer, conn.local());
        match peer.ip() {
            Some(ip) => log.log_for(
                level,
                conn.scope(),
                format_args!("{message} while processing HTTP/2 connection, client: {ip}, server: {local}"),
            ),
            None => log.log_for(
                level,
                conn.scope(),
                format_args!("{message} while processing HTTP/2 connection, client: unix:, server: {local}"),
            ),
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Also when the task panicked: no stream waits for it any more.
        self.session.drop_output();
        self.session.lose();
    }
}

/// What rules the connection: the settings of the default server of its address.
fn settings(cycle: &Local, conn: &Conn) -> (Arc<CoreSettings>, Http2Settings) {
    let server = route::address_at(cycle, conn).map(|address| address.default_server);
    let root = server.map_or(crate::conf::LocationId(0), |server| cycle.http.server(server).root);
    let location = cycle.http.location(root);
    (Arc::clone(&location.core), location.settings::<Http2>().clone())
}
