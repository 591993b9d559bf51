//! What a peer sends, taken apart: frames are checked against the connection's state and come out as events.
//!
//! A frame is looked at once it is there as a whole; DATA, and what nobody knows, pass in pieces.

use super::budget::Budget;
use super::error::{ErrorCode, Violation};
use super::flow::{MAX_WINDOW, ReceiveWindow};
use super::frame::{FRAME_HEAD, Flags, FrameHead, Kind};
use super::priority::Dependency;
use super::settings::{MAX_FRAME_SIZE, PeerSettings, SERVER_FRAME_SIZE};

/// CONTINUATION frames of one block.
const MAX_CONTINUATIONS: u32 = 128;
/// Bytes of one SETTINGS frame.
const MAX_SETTINGS: usize = 6 * 256;

/// Which end of a connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The peer begins streams.
    Server,
    /// We begin them.
    Client,
}

/// The frame that a header block came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadersFrame {
    /// Its stream.
    pub stream: u32,
    /// Nothing follows on the stream.
    pub is_end: bool,
    /// The stream has not been seen before.
    pub is_new: bool,
    /// Bytes of the block as it came.
    pub length: usize,
    /// When its turn is to be.
    pub dependency: Option<Dependency>,
}

/// What a peer said.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A header block. It must be decoded, wanted or not, since the next one builds on it.
    Headers(HeadersFrame, &'a [u8]),
    /// A piece of a stream's body.
    Data {
        /// The stream.
        stream: u32,
        /// Bytes that count for flow control: those of the frame, with its first piece.
        flow: usize,
        /// The bytes.
        bytes: &'a [u8],
        /// Nothing follows on the stream.
        is_end: bool,
    },
    /// When a stream's turn is to be.
    Priority(u32, Dependency),
    /// A stream was given up.
    Reset(u32, ErrorCode),
    /// Other settings than before, which must be confirmed; windows of streams move by this.
    Settings {
        /// What is added to the windows of all streams.
        window_delta: i64,
    },
    /// The peer confirmed our settings.
    SettingsAcknowledged,
    /// A PING that must be answered.
    Ping([u8; 8]),
    /// An answer to a PING of ours.
    Pong,
    /// More may be sent on a stream, or with 0 on the connection.
    WindowUpdate(u32, u32),
    /// The peer begins no more streams, and looked at none of ours above this one.
    GoAway(u32, ErrorCode),
}

/// How far one call came.
#[derive(Debug, PartialEq, Eq)]
pub struct Step<'a> {
    /// Bytes of the input that are done with. Zero without an event: more is needed.
    pub used: usize,
    /// What they said, where they said something.
    pub event: Option<Event<'a>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At the head of a frame.
    Head,
    /// In a DATA frame: its stream, bytes of content and of padding that are left, and whether it ends the stream.
    Data { stream: u32, left: usize, padding: usize, is_end: bool },
    /// In a frame that nobody wants.
    Skip(usize),
    /// Between the frames of a block.
    Continuation(HeadersFrame, u32),
}

/// The receiving side of a connection.
#[derive(Debug)]
pub struct Receiver {
    role: Role,
    state: State,
    /// A block that came in several frames.
    block: Vec<u8>,
    /// Most bytes of a block.
    max_block: usize,
    /// The last stream that the peer began.
    pub last_stream: u32,
    /// What the peer told about itself.
    pub peer: PeerSettings,
    /// Bytes that the peer may still send on the connection.
    pub window: ReceiveWindow,
    /// What the peer may ask for.
    pub budget: Budget,
}

impl Receiver {
    /// For a connection whose preface is behind it, with so many streams at once, and blocks of so many bytes.
    #[must_use]
    pub fn new(role: Role, streams: u32, max_block: usize) -> Self {
        Self {
            role,
            state: State::Head,
            block: Vec::new(),
            max_block,
            last_stream: 0,
            peer: PeerSettings::default(),
            window: ReceiveWindow::new(MAX_WINDOW),
            budget: Budget::new(streams),
        }
    }

    /// The stream whose header block has begun to come and is not there as a whole, which the peer must not take its
    /// time for; `rest` is what of the input was left.
    #[must_use]
    pub fn stream_of_block(&self, rest: &[u8]) -> Option<u32> {
        match self.state {
            State::Continuation(frame, _) => Some(frame.stream),
            State::Head => {
                FrameHead::read(rest).filter(|head| head.kind == Kind::HEADERS).map(|head| head.stream)
            }
            _ => None,
        }
    }

    /// Stream and length of the DATA frame that comes next, where it is one.
    #[must_use]
    pub fn peek_data(&self, input: &[u8]) -> Option<(u32, usize)> {
        let head = FrameHead::read(input).filter(|_| self.state == State::Head)?;
        (head.kind == Kind::DATA).then_some((head.stream, head.length))
    }

    /// Whether the peer is in the middle of a frame.
    #[must_use]
    pub fn is_in_frame(&self) -> bool {
        self.state != State::Head
    }

    /// Takes the next piece off the front of `input`. To be called until nothing is used and nothing said; what is
    /// left is to be handed in again with what comes behind it.
    ///
    /// # Errors
    /// [`Violation`] ends the connection.
    pub fn next<'a>(&'a mut self, input: &'a [u8]) -> Result<Step<'a>, Violation> {
        match self.state {
            State::Head => self.frame(input),
            State::Data { stream, left, padding, is_end } => {
                Ok(self.data(input, 0, stream, left, padding, is_end, 0))
            }
            State::Skip(left) => {
                let used = left.min(input.len());
                self.state = if used == left { State::Head } else { State::Skip(left - used) };
                Ok(Step { used, event: None })
            }
            State::Continuation(frame, count) => self.continuation(input, frame, count),
        }
    }

    /// The head of a frame, whose length is one that the peer was told.
    fn head(&self, input: &[u8]) -> Result<Option<FrameHead>, Violation> {
        let Some(head) = FrameHead::read(input) else { return Ok(None) };
        let most = if self.role == Role::Server { SERVER_FRAME_SIZE } else { MAX_FRAME_SIZE };
        if head.length > most as usize { Err(Violation::FrameTooLarge(head.length)) } else { Ok(Some(head)) }
    }

    fn frame<'a>(&'a mut self, input: &'a [u8]) -> Result<Step<'a>, Violation> {
        let Some(head) = self.head(input)? else { return Ok(NEED_MORE) };
        match head.kind {
            Kind::DATA => return self.begin_data(input, head),
            Kind::HEADERS => return self.headers(input, head),
            Kind::CONTINUATION => return Err(Violation::UnexpectedContinuation),
            Kind::PUSH_PROMISE => return Err(Violation::PushPromise),
            Kind::GOAWAY => {}
            _ => check_length(head)?,
        }
        let wanted = match head.kind {
            Kind::GOAWAY if head.length < 8 => return Err(Violation::GoAwayLength(head.length)),
            // What the peer wrote behind the code is for people.
            Kind::GOAWAY => 8,
            Kind(0..=9) => head.length,
            Kind(_) => 0,
        };
        let Some(payload) = input.get(FRAME_HEAD..FRAME_HEAD + wanted) else { return Ok(NEED_MORE) };
        self.budget.control()?;
        let rest = head.length - wanted;
        if rest > 0 {
            self.state = State::Skip(rest);
        }
        let event = self.control(head, payload)?;
        Ok(Step { used: FRAME_HEAD + wanted, event })
    }

    /// A frame other than those that carry something.
    fn control<'a>(&mut self, head: FrameHead, payload: &'a [u8]) -> Result<Option<Event<'a>>, Violation> {
        let word = |at: usize| {
            payload
                .get(at..)
                .and_then(|rest| rest.first_chunk())
                .map_or(0, |bytes| u32::from_be_bytes(*bytes))
        };
        Ok(match head.kind {
            Kind::PRIORITY => {
                self.budget.priority()?;
                if head.stream == 0 {
                    return Err(Violation::PriorityStream);
                }
                let dependency = Dependency::read(payload);
                if dependency.is_some_and(|dependency| dependency.on == head.stream) {
                    return Err(Violation::PriorityDependency(head.stream));
                }
                dependency.map(|dependency| Event::Priority(head.stream, dependency))
            }
            Kind::RST_STREAM if head.stream == 0 => return Err(Violation::ResetStream),
            Kind::RST_STREAM => {
                self.check_known(head.stream)?;
                Some(Event::Reset(head.stream, ErrorCode(word(0))))
            }
            Kind::SETTINGS if head.stream != 0 => return Err(Violation::SettingsStream),
            Kind::SETTINGS if head.flags.has(Flags::ACK) => Some(Event::SettingsAcknowledged),
            Kind::SETTINGS => {
                let before = self.peer.initial_window;
                self.peer.apply(payload)?;
                let window_delta = i64::from(self.peer.initial_window) - i64::from(before);
                Some(Event::Settings { window_delta })
            }
            Kind::PING if head.stream != 0 => return Err(Violation::PingStream),
            Kind::PING if head.flags.has(Flags::ACK) => Some(Event::Pong),
            Kind::PING => payload.first_chunk().map(|payload| Event::Ping(*payload)),
            Kind::GOAWAY if head.stream != 0 => return Err(Violation::GoAwayStream),
            Kind::GOAWAY => Some(Event::GoAway(word(0) & 0x7fff_ffff, ErrorCode(word(4)))),
            Kind::WINDOW_UPDATE => {
                let increment = word(0) & 0x7fff_ffff;
                if increment == 0 {
                    return Err(Violation::ZeroIncrement);
                }
                if head.stream != 0 {
                    self.check_known(head.stream)?;
                }
                Some(Event::WindowUpdate(head.stream, increment))
            }
            _ => None,
        })
    }

    /// Nothing but HEADERS and PRIORITY belongs on a stream that nobody has begun (RFC 9113, 5.1). nginx does not mind.
    fn check_known(&self, stream: u32) -> Result<(), Violation> {
        let is_known = !stream.is_multiple_of(2) && (self.role == Role::Client || stream <= self.last_stream);
        if is_known { Ok(()) } else { Err(Violation::IdleStream) }
    }

    fn begin_data<'a>(&'a mut self, input: &'a [u8], head: FrameHead) -> Result<Step<'a>, Violation> {
        let (mut used, mut left, mut padding) = (FRAME_HEAD, head.length, 0);
        if head.flags.has(Flags::PADDED) {
            if head.length == 0 {
                return Err(Violation::PaddedDataLength(0));
            }
            let Some(byte) = input.get(FRAME_HEAD) else { return Ok(NEED_MORE) };
            padding = usize::from(*byte);
            if padding >= head.length {
                return Err(Violation::DataPadding(head.length, padding));
            }
            used += 1;
            left = head.length - 1 - padding;
        }
        if head.stream == 0 {
            return Err(Violation::DataStream);
        }
        self.check_known(head.stream)?;
        if !self.window.take(head.length) {
            return Err(Violation::FlowControl(head.length, self.window.size()));
        }
        if left == 0 && !head.flags.has(Flags::END_STREAM) {
            self.budget.control()?;
        }
        self.budget.payload(left);
        let is_end = head.flags.has(Flags::END_STREAM);
        Ok(self.data(input, used, head.stream, left, padding, is_end, head.length))
    }

    /// A piece of a DATA frame's content, which begins at `at`.
    #[expect(
        clippy::too_many_arguments,
        reason = "they are the fields of a state and where its input begins"
    )]
    fn data<'a>(
        &mut self,
        input: &'a [u8],
        at: usize,
        stream: u32,
        left: usize,
        padding: usize,
        is_end: bool,
        flow: usize,
    ) -> Step<'a> {
        let rest = input.get(at..).unwrap_or_default();
        if rest.is_empty() && left > 0 && at == 0 {
            return NEED_MORE;
        }
        let bytes = &rest[..left.min(rest.len())];
        let left = left - bytes.len();
        self.state = match (left, padding) {
            (0, 0) => State::Head,
            (0, _) => State::Skip(padding),
            _ => State::Data { stream, left, padding, is_end },
        };
        let event = Event::Data { stream, flow, bytes, is_end: is_end && left == 0 };
        Step { used: at + bytes.len(), event: Some(event) }
    }

    fn headers<'a>(&'a mut self, input: &'a [u8], head: FrameHead) -> Result<Step<'a>, Violation> {
        let (has_padding, has_priority) = (head.flags.has(Flags::PADDED), head.flags.has(Flags::PRIORITY));
        let front = usize::from(has_padding) + if has_priority { 5 } else { 0 };
        if head.length < front {
            return Err(Violation::HeadersLength(head.length));
        }
        if head.length == front {
            return Err(Violation::EmptyBlock);
        }
        if head.length > self.max_block {
            return Err(Violation::HeaderTooLarge);
        }
        let used = FRAME_HEAD + head.length;
        let Some(payload) = input.get(FRAME_HEAD..used) else { return Ok(NEED_MORE) };
        let padding = if has_padding { usize::from(payload[0]) } else { 0 };
        let Some(end) = head.length.checked_sub(padding).filter(|end| *end >= front) else {
            return Err(Violation::HeadersPadding(head.length - front, padding));
        };
        let block = &payload[front..end];
        let mut dependency = None;
        if has_priority {
            dependency = Dependency::read(payload.get(usize::from(has_padding)..).unwrap_or_default());
            if dependency.is_some_and(|dependency| dependency.on == head.stream) {
                return Err(Violation::HeadersDependency(head.stream));
            }
        }
        let is_new = self.begin_stream(head.stream)?;
        let is_end = head.flags.has(Flags::END_STREAM);
        let frame = HeadersFrame { stream: head.stream, is_end, is_new, length: block.len(), dependency };
        if head.flags.has(Flags::END_HEADERS) {
            return Ok(Step { used, event: Some(Event::Headers(frame, block)) });
        }
        self.block.clear();
        self.block.extend_from_slice(block);
        self.state = State::Continuation(frame, 0);
        Ok(Step { used, event: None })
    }

    /// Whether a HEADERS frame begins a stream. The peer counts its own upwards and in odd numbers.
    fn begin_stream(&mut self, stream: u32) -> Result<bool, Violation> {
        let is_new = stream > self.last_stream;
        let is_wrong = stream.is_multiple_of(2) || (self.role == Role::Client && is_new);
        if is_wrong {
            return Err(Violation::HeadersStream(stream, self.last_stream));
        }
        self.last_stream = self.last_stream.max(stream);
        if is_new {
            self.budget.request();
        }
        Ok(is_new)
    }

    fn continuation<'a>(
        &'a mut self,
        input: &'a [u8],
        mut frame: HeadersFrame,
        count: u32,
    ) -> Result<Step<'a>, Violation> {
        let Some(head) = self.head(input)? else { return Ok(NEED_MORE) };
        if head.kind != Kind::CONTINUATION {
            return Err(Violation::ContinuationExpected);
        }
        if head.stream != frame.stream {
            return Err(Violation::ContinuationStream);
        }
        if count >= MAX_CONTINUATIONS {
            return Err(Violation::TooManyContinuations);
        }
        if self.block.len() + head.length > self.max_block {
            return Err(Violation::HeaderTooLarge);
        }
        let used = FRAME_HEAD + head.length;
        let Some(payload) = input.get(FRAME_HEAD..used) else { return Ok(NEED_MORE) };
        self.block.extend_from_slice(payload);
        frame.length += payload.len();
        if !head.flags.has(Flags::END_HEADERS) {
            self.state = State::Continuation(frame, count + 1);
            return Ok(Step { used, event: None });
        }
        self.state = State::Head;
        Ok(Step { used, event: Some(Event::Headers(frame, &self.block)) })
    }

    /// Lets go of memory, as an idle connection does.
    pub fn release(&mut self) {
        if !matches!(self.state, State::Continuation(..)) {
            self.block = Vec::new();
        }
    }

    /// Our own streams are known by their numbers: the last one that we began.
    pub fn began(&mut self, stream: u32) {
        self.last_stream = self.last_stream.max(stream);
    }
}

const NEED_MORE: Step<'static> = Step { used: 0, event: None };

/// Frames whose length is fixed.
fn check_length(head: FrameHead) -> Result<(), Violation> {
    match head.kind {
        Kind::PRIORITY if head.length != 5 => Err(Violation::PriorityLength(head.length)),
        Kind::RST_STREAM if head.length != 4 => Err(Violation::ResetLength(head.length)),
        Kind::SETTINGS if head.flags.has(Flags::ACK) && head.length != 0 => Err(Violation::SettingsAckLength),
        Kind::SETTINGS if !head.length.is_multiple_of(6) || head.length > MAX_SETTINGS => {
            Err(Violation::SettingsLength(head.length))
        }
        Kind::PING if head.length != 8 => Err(Violation::PingLength(head.length)),
        Kind::WINDOW_UPDATE if head.length != 4 => Err(Violation::WindowUpdateLength(head.length)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::push_head;
    use super::*;

    fn frame(kind: Kind, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        push_head(payload.len(), kind, Flags(flags), stream, &mut out);
        out.extend_from_slice(payload);
        out
    }

    /// All that is said, with pieces of bodies put together.
    fn run(input: &[u8], step: usize, last_stream: u32) -> Result<Vec<String>, Violation> {
        let mut receiver = Receiver::new(Role::Server, 128, 1000);
        receiver.last_stream = last_stream;
        let (mut said, mut at, mut end) = (Vec::<String>::new(), 0, 0);
        while end < input.len() {
            end = (end + step).min(input.len());
            loop {
                let Step { used, event } = receiver.next(&input[at..end])?;
                at += used;
                let text = match &event {
                    None if used == 0 => break,
                    None => continue,
                    Some(Event::Headers(frame, block)) => format!("headers {} {:?}", frame.stream, block),
                    Some(Event::Data { stream, flow, bytes, is_end }) => {
                        let last = said.last_mut().filter(|last| last.starts_with("data") && *flow == 0);
                        if let Some(last) = last {
                            last.push_str(&String::from_utf8_lossy(bytes));
                            if *is_end {
                                last.push('.');
                            }
                            continue;
                        }
                        let dot = if *is_end { "." } else { "" };
                        format!("data {stream} {flow} {}{dot}", String::from_utf8_lossy(bytes))
                    }
                    Some(other) => format!("{other:?}"),
                };
                said.push(text);
            }
        }
        Ok(said)
    }

    fn check(input: &[Vec<u8>], expected: Result<&[&str], Violation>) {
        check_behind(0, input, expected);
    }

    /// With streams up to this one behind it.
    fn check_behind(last_stream: u32, input: &[Vec<u8>], expected: Result<&[&str], Violation>) {
        let input = input.concat();
        for step in [1, 2, 3, 7, 10, input.len().max(1)] {
            let said = run(&input, step, last_stream);
            let expected = expected.map(|said| said.iter().map(ToString::to_string).collect::<Vec<_>>());
            assert_eq!(said, expected, "{input:?} in steps of {step}");
        }
    }

    #[test]
    fn frames() {
        check(&[frame(Kind::SETTINGS, 0, 0, &[])], Ok(&["Settings { window_delta: 0 }"]));
        check(
            &[frame(Kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 5])],
            Ok(&["Settings { window_delta: -65530 }"]),
        );
        check(&[frame(Kind::SETTINGS, 1, 0, &[])], Ok(&["SettingsAcknowledged"]));
        check(&[frame(Kind::PING, 0, 0, b"12345678")], Ok(&["Ping([49, 50, 51, 52, 53, 54, 55, 56])"]));
        check(&[frame(Kind::PING, 1, 0, b"12345678")], Ok(&["Pong"]));
        check(&[frame(Kind(99), 0, 7, b"whatever")], Ok(&[]));
        check(&[frame(Kind::GOAWAY, 0, 0, b"\0\0\0\x03\0\0\0\x02bye")], Ok(&["GoAway(3, ErrorCode(2))"]));
        check_behind(1, &[frame(Kind::WINDOW_UPDATE, 0, 1, &[0x80, 0, 0, 9])], Ok(&["WindowUpdate(1, 9)"]));
        check_behind(5, &[frame(Kind::RST_STREAM, 0, 5, &[0, 0, 0, 8])], Ok(&["Reset(5, ErrorCode(8))"]));
        check(
            &[frame(Kind::PRIORITY, 0, 5, &[0, 0, 0, 1, 0])],
            Ok(&["Priority(5, Dependency { on: 1, weight: 1, is_exclusive: false })"]),
        );
    }

    #[test]
    fn bodies() {
        check_behind(3, &[frame(Kind::DATA, 1, 1, b"hello")], Ok(&["data 1 5 hello."]));
        check_behind(3, &[frame(Kind::DATA, 0, 1, b""), frame(Kind::DATA, 1, 1, b"")], Ok(&["data 1 0 ."]));
        check_behind(3, &[frame(Kind::DATA, 9, 3, b"\x02abpp")], Ok(&["data 3 5 ab."]));
        check_behind(3, &[frame(Kind::DATA, 9, 3, b"\0ab")], Ok(&["data 3 3 ab."]));
        check_behind(3, &[frame(Kind::DATA, 8, 3, b"\x02pp")], Ok(&["data 3 3 "]));
        check_behind(3, &[frame(Kind::DATA, 8, 1, b"")], Err(Violation::PaddedDataLength(0)));
        check_behind(3, &[frame(Kind::DATA, 8, 1, b"\x03ab")], Err(Violation::DataPadding(3, 3)));
        check_behind(3, &[frame(Kind::DATA, 0, 0, b"a")], Err(Violation::DataStream));
    }

    #[test]
    fn blocks() {
        check(&[frame(Kind::HEADERS, 5, 1, b"ab")], Ok(&["headers 1 [97, 98]"]));
        check(&[frame(Kind::HEADERS, 0x2c, 1, b"\x01\0\0\0\0\x10ap")], Ok(&["headers 1 [97]"]));
        check(
            &[
                frame(Kind::HEADERS, 8, 1, b"\x01ap"),
                frame(Kind::CONTINUATION, 0, 1, b"b"),
                frame(Kind::CONTINUATION, 4, 1, b"c"),
                frame(Kind::HEADERS, 4, 3, b"d"),
            ],
            Ok(&["headers 1 [97, 98, 99]", "headers 3 [100]"]),
        );
        let begun = frame(Kind::HEADERS, 0, 1, b"a");
        check(&[begun.clone(), frame(Kind::DATA, 0, 1, b"")], Err(Violation::ContinuationExpected));
        check(&[begun.clone(), frame(Kind::CONTINUATION, 4, 3, b"")], Err(Violation::ContinuationStream));
        check(&[begun.clone(), frame(Kind::CONTINUATION, 4, 1, &[0; 1000])], Err(Violation::HeaderTooLarge));
        let flood = std::iter::once(begun).chain((0..200).map(|_| frame(Kind::CONTINUATION, 0, 1, b"")));
        check(&flood.collect::<Vec<_>>(), Err(Violation::TooManyContinuations));
        check(&[frame(Kind::CONTINUATION, 4, 1, b"a")], Err(Violation::UnexpectedContinuation));
        check(&[frame(Kind::HEADERS, 4, 2, b"a")], Err(Violation::HeadersStream(2, 0)));
        check(&[frame(Kind::HEADERS, 4, 0, b"a")], Err(Violation::HeadersStream(0, 0)));
        check(&[frame(Kind::HEADERS, 4, 1, b"")], Err(Violation::EmptyBlock));
        check(&[frame(Kind::HEADERS, 0x24, 1, b"abc")], Err(Violation::HeadersLength(3)));
        check(&[frame(Kind::HEADERS, 0x24, 1, b"\0\0\0\x01\0a")], Err(Violation::HeadersDependency(1)));
        check(&[frame(Kind::HEADERS, 0xc, 1, b"\x02a")], Err(Violation::HeadersPadding(1, 2)));
    }

    #[test]
    fn streams_that_nobody_began() {
        for stream in [2, 5] {
            check_behind(3, &[frame(Kind::DATA, 1, stream, b"a")], Err(Violation::IdleStream));
            check_behind(3, &[frame(Kind::RST_STREAM, 0, stream, &[0; 4])], Err(Violation::IdleStream));
            check_behind(3, &[frame(Kind::WINDOW_UPDATE, 0, stream, &[1; 4])], Err(Violation::IdleStream));
        }
        check_behind(
            3,
            &[frame(Kind::PRIORITY, 0, 9, &[0; 5])],
            Ok(&["Priority(9, Dependency { on: 0, weight: 1, is_exclusive: false })"]),
        );
    }

    #[test]
    fn too_large_frames() {
        let head = |kind, length: usize| {
            let mut out = Vec::new();
            push_head(length, kind, Flags(1), 1, &mut out);
            out
        };
        for kind in [Kind::DATA, Kind::HEADERS, Kind::PING, Kind(99)] {
            check_behind(1, &[head(kind, 131_073)], Err(Violation::FrameTooLarge(131_073)));
        }
        check_behind(1, &[head(Kind::DATA, 131_072), b"a".to_vec()], Ok(&["data 1 131072 a"]));
        let begun = frame(Kind::HEADERS, 0, 1, b"a");
        check(&[begun, head(Kind::CONTINUATION, 131_073)], Err(Violation::FrameTooLarge(131_073)));
    }

    #[test]
    fn wrong_frames() {
        check(&[frame(Kind::PUSH_PROMISE, 0, 1, b"")], Err(Violation::PushPromise));
        check(&[frame(Kind::PING, 0, 0, b"1")], Err(Violation::PingLength(1)));
        check(&[frame(Kind::PING, 0, 1, b"12345678")], Err(Violation::PingStream));
        check(&[frame(Kind::SETTINGS, 1, 0, b"abcdef")], Err(Violation::SettingsAckLength));
        check(&[frame(Kind::SETTINGS, 0, 0, b"abcde")], Err(Violation::SettingsLength(5)));
        check(&[frame(Kind::SETTINGS, 0, 1, b"")], Err(Violation::SettingsStream));
        check(&[frame(Kind::WINDOW_UPDATE, 0, 0, &[0; 4])], Err(Violation::ZeroIncrement));
        check(&[frame(Kind::WINDOW_UPDATE, 0, 0, &[0; 3])], Err(Violation::WindowUpdateLength(3)));
        check(&[frame(Kind::RST_STREAM, 0, 0, &[0; 4])], Err(Violation::ResetStream));
        check(&[frame(Kind::PRIORITY, 0, 0, &[0; 5])], Err(Violation::PriorityStream));
        check(&[frame(Kind::PRIORITY, 0, 3, &[0, 0, 0, 3, 0])], Err(Violation::PriorityDependency(3)));
        check(&[frame(Kind::GOAWAY, 0, 0, &[0; 7])], Err(Violation::GoAwayLength(7)));
        check(&[frame(Kind::GOAWAY, 0, 1, &[0; 8])], Err(Violation::GoAwayStream));
    }
}
