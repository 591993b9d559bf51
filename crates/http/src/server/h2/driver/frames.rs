//! What the frames of a client do: streams begin, bring bodies, are reset; settings and windows change.
//!
//! What is wrong with one stream ends that stream, and counts; a violation ends the connection.

use std::rc::Rc;

use os::errlog::Level;
use proto::h1::HeadLimits;
use proto::h2::{DEFAULT_WINDOW, ErrorCode, Event, HeadersFrame, Violation};

use super::super::head::{self, Head};
use super::super::request::Task;
use super::super::stream::Stream;
use super::Driver;
use crate::connection::Conn;
use crate::cycle::Worker;
use crate::server::{h1, route};

impl Driver {
    /// Whether a frame holds more than its stream may bring, whose handler has not begun: it may let the client, as
    /// nginx's does before it looks at another frame.
    pub(super) fn is_early(&self, input: &[u8]) -> bool {
        let Some((id, length)) = self.receiver.peek_data(input) else { return false };
        self.session.stream(id).is_some_and(|stream| !stream.may_bring(length) && !stream.has_begun())
    }

    /// Takes one frame, or a piece of one; `None` when more must come first.
    pub(super) fn step(&mut self, input: &[u8], began: &mut u32) -> Result<Option<usize>, Violation> {
        let step = self.receiver.next(input)?;
        let used = step.used;
        match step.event {
            None if used == 0 => return Ok(None),
            None => {}
            Some(Event::Headers(frame, mut block)) => {
                let is_wanted = frame.is_new && !self.farewell.is_told() && frame.stream != self.late_stream;
                if is_wanted {
                    let conn = &self.session.conn;
                    let named = self.heads_differ.then_some(|host: &[u8]| limits_of(conn, host));
                    let head = Head::decode(&mut self.decoder, &mut block, &self.core, named)?;
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
        net::spawn(Task::new(stream));
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
    pub(super) fn reorder(&mut self) {
        let Some(priorities) = &mut self.priorities else { return };
        priorities.close_all_but(|id| self.session.stream(id).is_some());
        priorities.settle();
        for stream in self.session.all() {
            stream.urgency.set(priorities.urgency(stream.id));
        }
        self.session.reorder();
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

/// How the server of a name reads the fields behind that name (`ngx_http_v2_parse_authority`).
fn limits_of(conn: &Conn, host: &[u8]) -> Option<HeadLimits> {
    let cycle = Worker::current().cycle();
    let server = route::server_named(&cycle, conn, host)?;
    Some(h1::head_limits(&cycle.http.location(cycle.http.server(server).root).core))
}
