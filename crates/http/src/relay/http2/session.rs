//! One HTTP/2 connection to an upstream: what its streams share, and what has come for each. No I/O.
//!
//! Whoever holds the connection hands in what was read and writes what waits in `out`: the only request on it, or the
//! task of a connection that many requests share.

use net::Buf;
use proto::h2::hpack::{BlockLimits, Decoder, Encoder};
use proto::h2::{
    DEFAULT_WINDOW, ErrorCode, Event, FRAME_HEAD, Flags, HeadersFrame, MAX_WINDOW, PREFACE, ReceiveWindow,
    Receiver, Role, SendWindow, Setting, push_goaway, push_ping, push_reset, push_settings,
    push_settings_ack, push_window_update,
};

use super::answer::{self, Invalid};
use super::body::Outgoing;
use super::stream::{Broken, Head, StreamState};

/// Most bytes of a header block.
const MAX_BLOCK: usize = 256 << 10;
/// The last number that a stream can have.
const LAST_STREAM: u32 = MAX_WINDOW - 2;
/// Bytes of one answer that may wait on a shared connection: a client that takes nothing holds up nobody else.
const SHARED_WINDOW: u32 = 256 << 10;
/// Most streams at once on a connection, whatever the peer allows.
const MAX_STREAMS: usize = 1000;

/// Streams given up, beyond those that came to their end, after which no more begin on a connection: a peer that takes
/// many resets for an attack would end it under those who did nothing.
const MOST_RESETS: u32 = 100;

/// How many requests a connection serves at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// One, as in nginx.
    Off,
    /// As many as the peer allows.
    On,
}

/// The state of an HTTP/2 connection to an upstream, which goes to the pool with it.
pub struct Session {
    pub(super) receiver: Receiver,
    decoder: Decoder,
    pub(super) encoder: Encoder,
    /// Bytes of bodies that the upstream takes on the connection.
    pub(super) window: SendWindow,
    /// Bytes on their way to the upstream.
    pub(super) out: Outgoing,
    /// A frame that is not there as a whole.
    input: Buf,
    next_stream: u32,
    streams: Vec<StreamState>,
    sharing: Sharing,
    /// The peer's settings have come.
    pub(super) is_settled: bool,
    /// No other stream may begin.
    pub(super) is_closing: bool,
    /// Streams that were given up, less those that came to their end.
    resets: u32,
    /// Where the next round of those that send begins.
    turn: usize,
    /// When bytes came last, monotonic milliseconds.
    heard_ms: u64,
}

impl Session {
    /// A new connection: the preface and the settings wait to be written.
    pub(super) fn begin(sharing: Sharing) -> Self {
        let mut out = Outgoing { bytes: Buf::with_capacity(4096), at: 0 };
        out.bytes.extend_from_slice(PREFACE);
        // One stream that has the connection for itself is held back by the socket, and no window need do it.
        let window = if sharing == Sharing::On { SHARED_WINDOW } else { MAX_WINDOW };
        let settings =
            [Setting::HeaderTableSize(0), Setting::EnablePush(0), Setting::InitialWindowSize(window)];
        push_settings(&settings, &mut out.bytes);
        push_window_update(0, MAX_WINDOW - DEFAULT_WINDOW, &mut out.bytes);
        Self {
            receiver: Receiver::new(Role::Client, 1, MAX_BLOCK),
            decoder: Decoder::with_limit(0),
            encoder: Encoder::default(),
            window: SendWindow::new(DEFAULT_WINDOW),
            out,
            input: Buf::empty(),
            next_stream: 1,
            streams: Vec::new(),
            sharing,
            is_settled: false,
            is_closing: false,
            resets: 0,
            turn: 0,
            heard_ms: 0,
        }
    }

    /// Begins another stream; gives its number.
    pub(super) fn begin_stream(&mut self, limits: BlockLimits) -> u32 {
        let id = self.next_stream;
        self.next_stream += 2;
        self.receiver.began(id);
        self.receiver.budget.request();
        let window = SendWindow::new(self.receiver.peer.initial_window);
        let receive = if self.sharing == Sharing::On { SHARED_WINDOW } else { MAX_WINDOW };
        self.streams.push(StreamState::new(id, window, ReceiveWindow::new(receive), limits));
        id
    }

    /// A stream that was begun and not ended by [`Self::end_stream`].
    pub(super) fn stream(&mut self, id: u32) -> Option<&mut StreamState> {
        let place = self.streams.binary_search_by_key(&id, |stream| stream.id).ok()?;
        self.streams.get_mut(place)
    }

    /// The stream of a connection that is one request's.
    pub(super) fn only(&self) -> Option<&StreamState> {
        self.streams.first()
    }

    /// Streams that are under way.
    pub(super) fn len(&self) -> usize {
        self.streams.len()
    }

    /// A request is done with its stream. What the upstream would still send of it is not wanted.
    pub(super) fn end_stream(&mut self, id: u32) {
        let Ok(place) = self.streams.binary_search_by_key(&id, |stream| stream.id) else { return };
        let stream = self.streams.remove(place);
        let is_refused = matches!(stream.broken, Some(Broken::Unprocessed));
        if stream.is_over() {
            self.resets = self.resets.saturating_sub(1);
            return;
        }
        if stream.is_reset || is_refused || self.sharing == Sharing::Off {
            return;
        }
        self.resets += 1;
        self.is_closing |= self.resets >= MOST_RESETS;
        let code = if stream.is_ended { ErrorCode::NO_ERROR } else { ErrorCode::CANCEL };
        push_reset(id, code, &mut self.out.bytes);
        // Nothing at all has come since it began: the peer may be dead, so nobody else is to wait for it.
        if !stream.is_ended && self.heard_ms < stream.began_ms {
            self.is_closing = true;
        }
    }

    /// Whether there are numbers for another stream.
    pub(super) fn has_streams(&self) -> bool {
        self.next_stream < LAST_STREAM
    }

    /// Whether another request may begin. How many at once is known only when the peer's settings have come.
    pub(super) fn has_room(&self) -> bool {
        let most = usize::try_from(self.receiver.peer.max_concurrent_streams).unwrap_or(MAX_STREAMS);
        let is_within = self.is_settled && self.streams.len() < most.min(MAX_STREAMS);
        !self.is_closing && self.has_streams() && (is_within || self.streams.is_empty())
    }

    /// Whether nothing is half read or half written.
    pub(super) fn is_quiet(&self) -> bool {
        self.out.pending().is_empty() && self.input.is_empty()
    }

    /// Takes what was read.
    ///
    /// # Errors
    /// What the upstream did wrong with the connection as a whole.
    pub(super) fn feed(&mut self, bytes: Buf) -> Result<(), Invalid> {
        self.heard_ms = net::timer::now_ms();
        let input = if self.input.is_empty() {
            bytes
        } else {
            let mut input = std::mem::replace(&mut self.input, Buf::empty());
            input.reserve(bytes.len());
            input.extend_from_slice(&bytes);
            input
        };
        let mut at = 0;
        let done = loop {
            // What comes behind the end of the only stream is for the next request to see.
            if self.sharing == Sharing::Off && self.streams.first().is_some_and(|stream| stream.is_ended) {
                break Ok(());
            }
            match self.step(input.get(at..).unwrap_or_default()) {
                Ok(0) => break Ok(()),
                Ok(used) => at += used,
                Err(invalid) => break Err(invalid),
            }
        };
        let rest = input.get(at..).unwrap_or_default();
        if !rest.is_empty() {
            self.input = Buf::with_capacity(rest.len());
            self.input.extend_from_slice(rest);
        }
        if self.receiver.window.size() < MAX_WINDOW / 4
            && let Some(increment) = self.receiver.window.open_to(MAX_WINDOW)
        {
            push_window_update(0, increment, &mut self.out.bytes);
        }
        done
    }

    /// Takes one frame, or a piece of one; gives the bytes used.
    fn step(&mut self, input: &[u8]) -> Result<usize, Invalid> {
        // The event borrows the receiver, the streams lie beside it.
        let Self { receiver, streams, decoder, out, window, .. } = self;
        let step = receiver.next(input)?;
        let used = step.used;
        let mut unknown = None;
        match step.event {
            None | Some(Event::SettingsAcknowledged | Event::Pong | Event::Priority(..)) => {}
            Some(Event::Headers(frame, block)) => match find(streams, frame.stream) {
                Some(stream) => {
                    stream.received += FRAME_HEAD + frame.length;
                    if let Err(invalid) = take_headers(stream, decoder, frame, block) {
                        stream.fail(Broken::Invalid(invalid));
                    }
                    stream.wake();
                }
                // Nothing of it goes into a table, so it need not be decoded.
                None => unknown = Some(frame.stream),
            },
            Some(Event::Data { stream, flow, bytes, is_end }) => match find(streams, stream) {
                Some(stream) => {
                    stream.received +=
                        bytes.len() + if flow > 0 || bytes.is_empty() { FRAME_HEAD } else { 0 };
                    if let Err(invalid) = take_data(stream, flow, bytes, is_end) {
                        stream.fail(Broken::Invalid(invalid));
                    }
                    stream.wake();
                }
                None => unknown = Some(stream),
            },
            Some(Event::Reset(id, code)) => match find(streams, id) {
                Some(stream) => {
                    stream.is_reset = true;
                    stream.fail(self.sharing.reset(code));
                    // One that was refused says that there are more than the peer takes.
                    self.is_closing |= code == ErrorCode::REFUSED_STREAM;
                }
                None => unknown = Some(id),
            },
            Some(Event::Settings { window_delta }) => self.settle(window_delta)?,
            Some(Event::Ping(payload)) => push_ping(Flags::ACK, payload, &mut out.bytes),
            Some(Event::WindowUpdate(0, increment)) => {
                window.grow(increment).map_err(|_| Invalid("sent too large window update".into()))?;
                streams.iter().for_each(|stream| stream.wake());
            }
            Some(Event::WindowUpdate(id, increment)) => match find(streams, id) {
                Some(stream) => {
                    if stream.window.grow(increment).is_err() {
                        stream.fail(Broken::Invalid(Invalid("sent too large window update".into())));
                    }
                    stream.wake();
                }
                None => unknown = Some(id),
            },
            Some(Event::GoAway(last, code)) => {
                self.is_closing = true;
                for stream in streams.iter_mut().filter(|stream| stream.id > last) {
                    stream.fail(self.sharing.go_away(code));
                }
            }
        }
        match unknown {
            Some(id) if !self.was_begun(id) => Err(Invalid(format!("sent frame for unknown stream {id}"))),
            _ => Ok(used),
        }
    }

    /// Takes the peer's settings on.
    fn settle(&mut self, window_delta: i64) -> Result<(), Invalid> {
        for stream in &mut self.streams {
            let grown = stream.window.shift(window_delta);
            grown.map_err(|_| Invalid("sent settings frame with too large initial window".into()))?;
            stream.wake();
        }
        self.encoder.set_limit(self.receiver.peer.header_table_size);
        push_settings_ack(&mut self.out.bytes);
        self.is_settled = true;
        Ok(())
    }

    /// Whether a stream was one of ours that others than its request gave up: frames for it may still be under way.
    fn was_begun(&self, id: u32) -> bool {
        self.sharing == Sharing::On && id < self.next_stream && !id.is_multiple_of(2)
    }

    /// A piece of a stream's answer has been taken: the upstream may send as much again.
    pub(super) fn consumed(&mut self, id: u32) {
        let target = if self.sharing == Sharing::On { SHARED_WINDOW } else { MAX_WINDOW };
        let Some(stream) = self.stream(id) else { return };
        if stream.is_ended || stream.receive.size() > target / 2 || !stream.data.is_empty() {
            return;
        }
        if let Some(increment) = stream.receive.open_to(target) {
            push_window_update(id, increment, &mut self.out.bytes);
        }
    }

    /// The connection is over, and with it all streams.
    pub(super) fn fail(&mut self, broken: &Broken) {
        self.is_closing = true;
        self.streams.iter_mut().for_each(|stream| stream.fail(broken.clone()));
    }

    /// Says that nothing more is wanted.
    pub(super) fn go_away(&mut self, code: ErrorCode) {
        push_goaway(0, code, &mut self.out.bytes);
    }

    /// Wakes the requests that wait to send more, each time beginning with another.
    pub(super) fn wake_senders(&mut self) {
        self.turn = self.turn.wrapping_add(1);
        let (before, first) = self.streams.split_at(self.turn % self.streams.len().max(1));
        let senders = first.iter().chain(before).filter(|stream| !stream.is_sent);
        senders.for_each(StreamState::wake);
    }

    /// Bytes of a body that a request may add at once: with others that have something to send it shares the room.
    pub(super) fn share_of(&self, room: usize) -> usize {
        let senders = self.streams.iter().filter(|stream| !stream.is_sent).count();
        room / senders.max(1)
    }
}

/// A stream that frames may still be for.
fn find(streams: &mut [StreamState], id: u32) -> Option<&mut StreamState> {
    let place = streams.binary_search_by_key(&id, |stream| stream.id).ok()?;
    streams.get_mut(place).filter(|stream| stream.broken.is_none())
}

impl Sharing {
    /// What a stream that the upstream gave up means.
    fn reset(self, code: ErrorCode) -> Broken {
        let ErrorCode(number) = code;
        match self {
            // RFC 9113, 8.7: it was not looked at.
            Self::On if code == ErrorCode::REFUSED_STREAM => Broken::Unprocessed,
            _ => Broken::Invalid(Invalid(format!("rejected request with error {number}"))),
        }
    }

    /// What it means for a stream that the upstream takes none of its number any more (RFC 9113, 6.8).
    fn go_away(self, ErrorCode(number): ErrorCode) -> Broken {
        match self {
            Self::On => Broken::Unprocessed,
            Self::Off => Broken::Invalid(Invalid(format!("sent goaway with error {number}"))),
        }
    }
}

/// The status of early hints (RFC 8297).
const EARLY_HINTS: u16 = 103;

/// Takes a header block: an interim answer, the head, or the trailers.
fn take_headers(
    stream: &mut StreamState,
    decoder: &mut Decoder,
    frame: HeadersFrame,
    block: &[u8],
) -> Result<(), Invalid> {
    if stream.is_ended {
        return Err(Invalid(format!("sent frame for closed stream {}", stream.id)));
    }
    if stream.has_head {
        if !frame.is_end {
            return Err(Invalid("sent trailer without end stream flag".into()));
        }
        answer::trailers(decoder, block, stream.limits, &mut stream.trailers)?;
        stream.is_ended = true;
        return Ok(());
    }
    let mut head = Head::default();
    answer::read(decoder, block, stream.limits, &mut head.head, &mut head.text)?;
    match head.head.status {
        ..200 if frame.is_end => return Err(Invalid("prematurely closed stream".into())),
        EARLY_HINTS => stream.hint(head),
        ..200 => {}
        _ => {
            stream.has_head = true;
            stream.head = Some(head);
            stream.is_bodiless = frame.is_end;
            stream.is_ended = frame.is_end;
        }
    }
    Ok(())
}

/// Takes a piece of a body.
fn take_data(stream: &mut StreamState, flow: usize, bytes: &[u8], is_end: bool) -> Result<(), Invalid> {
    if !stream.has_head {
        return Err(Invalid("sent unexpected http2 frame: 0".into()));
    }
    if stream.is_ended {
        return Err(Invalid(format!("sent frame for closed stream {}", stream.id)));
    }
    if !stream.receive.take(flow) {
        let window = stream.receive.size();
        let sentence =
            format!("violated stream flow control, received {flow} data frame with window {window}");
        return Err(Invalid(sentence));
    }
    if stream.data.is_empty() && !bytes.is_empty() {
        stream.data = Buf::with_capacity(bytes.len());
    }
    stream.data.extend_from_slice(bytes);
    stream.is_ended = is_end;
    Ok(())
}

#[cfg(test)]
mod tests {
    use proto::h2::hpack::Indexing;
    use proto::h2::{push_data_head, push_headers};

    use super::*;

    const LIMITS: BlockLimits = BlockLimits { field: 1000, total: 1000 };

    /// A connection of which all that was to be written is written, with so many streams.
    fn session(sharing: Sharing, streams: usize) -> Session {
        let mut session = Session::begin(sharing);
        for _ in 0..streams {
            session.begin_stream(LIMITS);
        }
        flush(&mut session);
        session
    }

    /// What waits to be written.
    fn flush(session: &mut Session) -> Vec<u8> {
        let bytes = session.out.pending().to_vec();
        session.out.advance(bytes.len());
        bytes
    }

    fn feed(session: &mut Session, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), Invalid> {
        let mut bytes = Buf::with_capacity(64);
        write(&mut bytes);
        session.feed(bytes)
    }

    fn headers(stream: u32, flags: Flags, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; FRAME_HEAD]);
        Encoder::default().field(b":status", b"200", Indexing::Useless, out);
        push_headers(stream, flags, 16384, start, out);
    }

    fn data(stream: u32, length: usize, flags: Flags, out: &mut Vec<u8>) {
        push_data_head(stream, length, flags, out);
        out.resize(out.len() + length, b'x');
    }

    fn broken(session: &mut Session) -> Vec<(u32, Option<Broken>)> {
        session.streams.iter().map(|stream| (stream.id, stream.broken.clone())).collect()
    }

    #[test]
    fn answers_come_to_their_streams_in_any_order() {
        let mut session = session(Sharing::On, 2);
        let fed = feed(&mut session, |out| {
            headers(3, Flags::NONE, out);
            headers(1, Flags::NONE, out);
            data(3, 5, Flags::END_STREAM, out);
            data(1, 2, Flags::NONE, out);
        });
        assert_eq!(fed, Ok(()));
        let seen: Vec<_> =
            session.streams.iter().map(|s| (s.id, s.has_head, s.data.len(), s.is_ended)).collect();
        assert_eq!(seen, [(1, true, 2, false), (3, true, 5, true)]);
    }

    #[test]
    fn room_follows_the_settings_of_the_peer() {
        let check = |streams, most: Option<u32>, expected: bool| {
            let mut session = session(Sharing::On, streams);
            if let Some(most) = most {
                let settings = [Setting::MaxConcurrentStreams(most)];
                assert_eq!(feed(&mut session, |out| push_settings(&settings, out)), Ok(()));
            }
            assert_eq!(session.has_room(), expected, "{streams} of {most:?}");
        };
        check(0, None, true);
        check(1, None, false);
        check(1, Some(2), true);
        check(2, Some(2), false);
        check(1, Some(0), false);
    }

    #[test]
    fn what_was_not_looked_at_is_told_apart() {
        let refused = ErrorCode::REFUSED_STREAM;
        let check = |write: fn(&mut Vec<u8>), expected: [Option<Broken>; 2]| {
            let mut session = session(Sharing::On, 2);
            assert_eq!(feed(&mut session, write), Ok(()));
            assert_eq!(broken(&mut session), [1, 3].into_iter().zip(expected).collect::<Vec<_>>());
            assert!(!session.has_room(), "nobody else is to come");
        };
        assert_eq!(refused, ErrorCode(7));
        check(|out| push_goaway(1, ErrorCode::NO_ERROR, out), [None, Some(Broken::Unprocessed)]);
        check(|out| push_goaway(3, ErrorCode::NO_ERROR, out), [None, None]);
        check(|out| push_reset(1, ErrorCode::REFUSED_STREAM, out), [Some(Broken::Unprocessed), None]);
        let rejected = Broken::Invalid(Invalid("rejected request with error 2".into()));
        let mut session = session(Sharing::On, 2);
        assert_eq!(feed(&mut session, |out| push_reset(1, ErrorCode::INTERNAL, out)), Ok(()));
        assert_eq!(broken(&mut session), [(1, Some(rejected)), (3, None)]);
    }

    #[test]
    fn a_stream_is_given_up_alone() {
        let mut session = session(Sharing::On, 2);
        session.end_stream(1);
        let mut reset = Vec::new();
        push_reset(1, ErrorCode::CANCEL, &mut reset);
        assert_eq!(flush(&mut session), reset);
        // What was under way for it is nobody's fault; a stream that never was is.
        assert_eq!(feed(&mut session, |out| data(1, 10, Flags::NONE, out)), Ok(()));
        let unknown = Err(Invalid("sent frame for unknown stream 5".into()));
        assert_eq!(feed(&mut session, |out| data(5, 10, Flags::NONE, out)), unknown);
        let mut own = self::session(Sharing::Off, 1);
        own.end_stream(1);
        let unknown = Err(Invalid("sent frame for unknown stream 1".into()));
        assert_eq!(feed(&mut own, |out| data(1, 10, Flags::NONE, out)), unknown);
    }

    #[test]
    fn many_resets_are_spread_over_connections() {
        let mut session = session(Sharing::On, 0);
        assert_eq!(feed(&mut session, |out| push_settings(&[], out)), Ok(()));
        let give_up = |session: &mut Session| {
            let id = session.begin_stream(LIMITS);
            // The peer is alive.
            session.stream(id).expect("a stream").began_ms = 0;
            session.end_stream(id);
        };
        (1..MOST_RESETS).for_each(|_| give_up(&mut session));
        assert!(session.has_room());
        give_up(&mut session);
        assert!(!session.has_room());
    }

    #[test]
    fn a_peer_that_says_nothing_gets_no_more_streams() {
        let mut session = session(Sharing::On, 0);
        assert_eq!(feed(&mut session, |out| push_settings(&[], out)), Ok(()));
        let id = session.begin_stream(LIMITS);
        session.stream(id).expect("a stream").began_ms = session.heard_ms + 1;
        assert!(session.has_room());
        session.end_stream(id);
        assert!(!session.has_room());
    }

    #[test]
    fn windows_bound_what_waits_for_a_stream() {
        let mut session = session(Sharing::On, 1);
        let piece = 16 << 10;
        let count = SHARED_WINDOW as usize / piece;
        let fed = feed(&mut session, |out| {
            headers(1, Flags::NONE, out);
            (0..count).for_each(|_| data(1, piece, Flags::NONE, out));
        });
        assert_eq!(fed, Ok(()));
        session.consumed(1);
        assert_eq!(flush(&mut session), b"", "nothing was taken");
        session.stream(1).expect("a stream").data = Buf::empty();
        session.consumed(1);
        let mut update = Vec::new();
        push_window_update(1, SHARED_WINDOW, &mut update);
        assert_eq!(flush(&mut session), update);
        let fed = feed(&mut session, |out| (0..=count).for_each(|_| data(1, piece, Flags::NONE, out)));
        assert_eq!(fed, Ok(()), "the stream is at fault, not the connection");
        let sentence = "violated stream flow control, received 16384 data frame with window 0";
        assert_eq!(broken(&mut session), [(1, Some(Broken::Invalid(Invalid(sentence.into()))))]);
    }
}
