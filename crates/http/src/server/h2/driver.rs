//! The task of a connection: reads frames, begins streams, writes what they made, and ends in nginx's words.
//!
//! Having begun streams it does not write at once but lets their tasks run first, so that control frames and answers
//! leave together.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use net::Buf;
use net::timer::Pause;
use os::errlog::{Errno, Level};
use proto::h2::hpack::Decoder;
use proto::h2::{
    DEFAULT_WINDOW, ErrorCode, Event, HeadersFrame, MAX_WINDOW, Priorities, Receiver, Role,
    SERVER_FRAME_SIZE, Setting, Violation, push_settings,
};

use super::farewell::Farewell;
use super::head::{self, Head};
use super::request::Task;
use super::session::Session;
use super::stream::Stream;
use super::{Http2, Http2Settings};
use crate::conf::core::{CoreSettings, LingeringClose};
use crate::connection::Conn;
use crate::cycle::{Local, Worker};
use crate::server::{is_quitting, lingering};

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

    /// Whether a frame holds more than its stream may bring, whose handler has not begun: it may let the client, as
    /// nginx's does before it looks at another frame.
    fn is_early(&self, input: &[u8]) -> bool {
        let Some((id, length)) = self.receiver.peek_data(input) else { return false };
        self.session.stream(id).is_some_and(|stream| !stream.may_bring(length) && !stream.has_begun())
    }

    /// Takes one frame, or a piece of one; `None` when more must come first.
    fn step(&mut self, input: &[u8], began: &mut u32) -> Result<Option<usize>, Violation> {
        let step = self.receiver.next(input)?;
        let used = step.used;
        match step.event {
            None if used == 0 => return Ok(None),
            None => {}
            Some(Event::Headers(frame, mut block)) => {
                let is_wanted = frame.is_new && !self.farewell.is_told() && frame.stream != self.late_stream;
                if is_wanted {
                    let head = Head::decode(&mut self.decoder, &mut block, &self.core)?;
                    *began += self.begin(frame, head, *began)?;
                } else {
                    let is_valid = head::pass_over(&mut self.decoder, &mut block, &self.core)?;
                    self.trailers(frame, is_valid)?;
                }
            }
            Some(Event::Data { stream: id, flow, bytes, is_end }) => {
                let stream = self.session.stream(id);
                let fault = match &stream {
                    Some(stream) if !stream.is_gone() => receive(stream, flow, bytes, is_end),
                    Some(stream) if !stream.is_ended() => None,
                    _ => self.closed(id),
                };
                if let Some((code, sentence)) = fault {
                    self.log(Level::Info, format_args!("{sentence}"));
                    match stream {
                        Some(stream) if !stream.is_gone() => stream.terminate(code),
                        _ => {
                            self.session.reset(id, code);
                            self.session.abandon(id);
                        }
                    }
                    self.receiver.budget.reset()?;
                }
            }
            Some(Event::Priority(id, dependency)) => {
                self.priorities.get_or_insert_default().depend(id, dependency);
                self.is_order_new = true;
            }
            Some(Event::Reset(id, code)) => {
                if let Some(stream) = self.session.stream(id)
                    && !stream.is_gone()
                {
                    self.log_reset(id, code);
                    stream.lose();
                    self.receiver.budget.reset()?;
                }
            }
            Some(Event::Settings { window_delta }) => self.apply_settings(window_delta)?,
            Some(Event::SettingsAcknowledged) => self.is_acknowledged = true,
            Some(Event::Ping(payload)) => self.session.pong(payload),
            Some(Event::WindowUpdate(0, increment)) => {
                let grown = self.session.grow_window(increment);
                grown.map_err(|window| Violation::WindowOverflow(increment, window))?;
            }
            Some(Event::WindowUpdate(id, increment)) => self.grow_window(id, increment)?,
            Some(Event::Pong) if self.farewell.has_begun() => self.go_away(ErrorCode::NO_ERROR),
            Some(Event::GoAway(..) | Event::Pong) => {}
        }
        Ok(Some(used))
    }

    /// Begins a stream or refuses it; gives how many were begun.
    fn begin(&mut self, frame: HeadersFrame, mut head: Box<Head>, began: u32) -> Result<u32, Violation> {
        self.follow_configuration();
        let most = self.http2.max_concurrent_streams;
        let open = u32::try_from(self.session.len()).unwrap_or(u32::MAX);
        let refusal = if open >= most {
            Some(format!("concurrent streams exceeded {open}"))
        } else if began >= most.saturating_mul(2) {
            Some("client sent too many streams at once".to_owned())
        } else if !self.is_acknowledged && !frame.is_end && self.http2.body_preread_size < DEFAULT_WINDOW {
            // The client does not know yet how little it may send.
            Some("client sent stream with data before settings were acknowledged".to_owned())
        } else {
            None
        };
        if let Some(refusal) = refusal {
            self.log(Level::Info, format_args!("{refusal}"));
            head.give_back();
            self.receiver.budget.refused()?;
            self.session.reset(frame.stream, ErrorCode::REFUSED_STREAM);
            self.session.abandon(frame.stream);
            return Ok(0);
        }
        let conn = &self.session.conn;
        conn.requests.set(conn.requests.get() + 1);
        head.is_end = frame.is_end;
        head.length = frame.length;
        head.started = net::timer::wall_clock();
        head.started_ms = net::timer::now_ms();
        self.receiver.budget.payload(frame.length);
        let age = head.started_ms.saturating_sub(conn.started_ms);
        let is_last = self.core.keepalive_timeout == 0
            || u64::from(conn.requests.get()) >= self.core.keepalive_requests
            || age > self.core.keepalive_time;
        let stream = Rc::new(Stream::new(
            frame.stream,
            Rc::clone(&self.session),
            head,
            self.receiver.peer.initial_window,
            self.http2.body_preread_size,
            frame.is_end,
        ));
        self.session.enter(Rc::clone(&stream));
        if frame.dependency.is_some() || self.priorities.is_some() {
            self.priorities.get_or_insert_default().open(frame.stream, frame.dependency);
            self.is_order_new = true;
        }
        tokio::task::spawn_local(Task::new(stream));
        if is_last && self.session.len() > 1 {
            self.ask_to_go();
        } else if is_last {
            // Who has one stream at a time reads this before it begins the next one.
            self.go_away(ErrorCode::NO_ERROR);
        }
        Ok(1)
    }

    /// What is wrong with DATA on a stream that is no more: nothing, where the client could not know that.
    fn closed(&self, id: u32) -> Option<(ErrorCode, String)> {
        let is_known = self.farewell.is_told() || id == self.late_stream || self.session.is_abandoned(id);
        // RFC 9113, 5.1. nginx passes over it.
        (!is_known)
            .then(|| (ErrorCode::STREAM_CLOSED, format!("client sent DATA frame for closed stream {id}")))
    }

    /// A header block on a stream that was begun before.
    fn trailers(&mut self, frame: HeadersFrame, is_valid: bool) -> Result<(), Violation> {
        let is_abandoned = frame.stream == self.late_stream || self.session.is_abandoned(frame.stream);
        if frame.is_new || is_abandoned {
            // The client has been told that nobody looks at it.
            return Ok(());
        }
        let stream = self.session.stream(frame.stream).filter(|stream| !stream.is_ended());
        let wrong = Violation::HeadersStream(frame.stream, self.receiver.last_stream);
        let stream = stream.filter(|_| frame.is_end).ok_or(wrong)?;
        if !is_valid && !stream.is_gone() {
            self.log(Level::Info, format_args!("client sent invalid trailers"));
            stream.terminate(ErrorCode::PROTOCOL);
            return self.receiver.budget.reset();
        }
        stream.receive(b"", true);
        Ok(())
    }

    fn apply_settings(&mut self, window_delta: i64) -> Result<(), Violation> {
        self.session.apply(&self.receiver.peer);
        if window_delta == 0 {
            return Ok(());
        }
        for stream in self.session.all() {
            let mut window = stream.window.get();
            if window.shift(window_delta).is_err() {
                stream.terminate(ErrorCode::FLOW_CONTROL);
                self.receiver.budget.reset()?;
                continue;
            }
            stream.window.set(window);
            self.session.unstall(&stream);
        }
        Ok(())
    }

    fn grow_window(&mut self, id: u32, increment: u32) -> Result<(), Violation> {
        let Some(stream) = self.session.stream(id) else { return Ok(()) };
        let mut window = stream.window.get();
        if window.grow(increment).is_err() {
            self.log(
                Level::Info,
                format_args!(
                    "client violated flow control for stream {id}: received WINDOW_UPDATE frame with window \
                     increment {increment} not allowed for window {}",
                    window.size()
                ),
            );
            stream.terminate(ErrorCode::FLOW_CONTROL);
            return self.receiver.budget.reset();
        }
        stream.window.set(window);
        self.session.unstall(&stream);
        Ok(())
    }

    /// Puts the streams into the order that the client wishes.
    fn reorder(&mut self) {
        let Some(priorities) = &mut self.priorities else { return };
        priorities.close_all_but(|id| self.session.stream(id).is_some());
        priorities.settle();
        for stream in self.session.all() {
            stream.urgency.set(priorities.urgency(stream.id));
        }
        self.session.reorder();
    }

    /// Settings follow the configuration that is in force when a stream begins.
    fn follow_configuration(&mut self) {
        let cycle = Worker::current().cycle();
        if cycle.generation != self.generation {
            self.generation = cycle.generation;
            (self.core, self.http2) = settings(&cycle, &self.session.conn);
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

    fn log_reset(&self, id: u32, code: ErrorCode) {
        match code {
            ErrorCode::CANCEL => self.log(Level::Info, format_args!("client canceled stream {id}")),
            ErrorCode::INTERNAL => {
                self.log(Level::Info, format_args!("client terminated stream {id} due to internal error"));
            }
            ErrorCode(code) => {
                self.log(Level::Info, format_args!("client terminated stream {id} with status {code}"));
            }
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

/// Takes a piece of a body; gives what the client did wrong with it.
fn receive(stream: &Stream, flow: usize, bytes: &[u8], is_end: bool) -> Option<(ErrorCode, String)> {
    let id = stream.id;
    if let Err(window) = stream.account(flow) {
        let sentence = format!(
            "client violated flow control for stream {id}: received DATA frame length {flow}, available window \
             {window}"
        );
        return Some((ErrorCode::FLOW_CONTROL, sentence));
    }
    if stream.is_ended() {
        let sentence = format!("client sent DATA frame for half-closed stream {id}");
        return Some((ErrorCode::STREAM_CLOSED, sentence));
    }
    stream.receive(bytes, is_end);
    None
}

/// What rules the connection: the settings of the default server of its address.
fn settings(cycle: &Local, conn: &Conn) -> (Arc<CoreSettings>, Http2Settings) {
    let listener = conn.listener_in(cycle).and_then(|index| cycle.http.listeners.get(index));
    let server = listener.map(|listener| {
        let local = if listener.needs_local_address() { conn.local_ip() } else { None };
        listener.address(local).default_server
    });
    let root = server.map_or(crate::conf::LocationId(0), |server| cycle.http.server(server).root);
    let location = cycle.http.location(root);
    (Arc::clone(&location.core), location.settings::<Http2>().clone())
}
