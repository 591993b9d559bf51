//! The records of a session: what rustls makes of those that come in, and of what is to leave.
//!
//! rustls is driven without buffers of its own: an idle session holds no ciphertext, and what is written is
//! encrypted into one scratch buffer of the thread and leaves from there in large pieces.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, Waker, ready};

use rustls::CommonState;
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};

use super::super::error::{self, Error};
use super::super::sessions::{Made, take_made};
use crate::buf::Buf;
use crate::socket::Socket;

/// Plaintext bytes that are encrypted and written at once.
pub(super) const BATCH: usize = 64 << 10;
/// The most that a record is longer than what it carries: header, explicit nonce, padding, tag.
const RECORD_OVERHEAD: usize = 5 + 16 + 48;
/// The shortest records that may be asked for (`ssl_buffer_size`).
const SHORTEST_RECORD: usize = 512;
/// Most bytes that wait to leave and are sent together with a batch behind them.
const MOST_IN_FRONT: usize = 8 << 10;
/// Room for a batch in the shortest records, and for what is in front of it.
const SCRATCH: usize = BATCH + (BATCH / SHORTEST_RECORD + 1) * RECORD_OVERHEAD + 2 * MOST_IN_FRONT;
/// The longest record of the wire.
const LONGEST_RECORD: usize = 5 + (16 << 10) + 2048;
/// Plaintext of a record.
pub(super) const RECORD_PLAIN: usize = 16 << 10;
/// Ciphertext that may wait for the rest of a message: rustls takes no longer ones.
const MOST_INCOMING: usize = 160 << 10;

thread_local! {
    static SCRATCH_BUF: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

pub(super) enum Side {
    /// A client has said its hello; how it is answered is not decided yet.
    Undecided,
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

impl Side {
    pub(super) fn common(&self) -> Option<&CommonState> {
        match self {
            Self::Undecided => None,
            Self::Server(conn) => Some(conn),
            Self::Client(conn) => Some(conn),
        }
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.common().is_none_or(CommonState::is_handshaking)
    }
}

/// What one look at the records brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Something happened: look again.
    Again,
    /// Nothing more can be done with what is here.
    Blocked,
    /// The peer has said that it sends no more.
    PeerClosed,
}

/// What is under way on a session.
pub(super) struct State {
    pub(super) side: Side,
    /// Ciphertext that came in; the first `start` bytes are done with.
    pub(super) incoming: Buf,
    pub(super) start: usize,
    /// Plaintext that nobody has asked for yet; the first `taken` bytes are gone.
    pub(super) plain: Buf,
    pub(super) taken: usize,
    /// Ciphertext that is to leave; the first `sent` bytes have.
    pub(super) outgoing: Buf,
    sent: usize,
    /// Plaintext bytes in `outgoing` whose writer still waits to hear of it.
    pub(super) committed: usize,
    /// Bytes that the last reader asked for.
    pub(super) wanted: usize,
    pub(super) is_open: bool,
    pub(super) peer_closed: bool,
    pub(super) said_farewell: bool,
    pub(super) has_failed: bool,
    failure: Option<rustls::Error>,
    pub(super) received_early_data: bool,
    pub(super) session_id: Option<Box<[u8]>>,
    /// The sessions that were kept for the client to come back with.
    pub(super) made: Vec<Made>,
}

impl State {
    /// Nothing has been said but `incoming`.
    pub(super) fn new(side: Side, incoming: Buf) -> Self {
        Self {
            side,
            incoming,
            start: 0,
            plain: Buf::empty(),
            taken: 0,
            outgoing: Buf::empty(),
            sent: 0,
            committed: 0,
            wanted: RECORD_PLAIN,
            is_open: false,
            peer_closed: false,
            said_farewell: false,
            has_failed: false,
            failure: None,
            received_early_data: false,
            session_id: None,
            made: Vec::new(),
        }
    }

    /// The end of the handshake may wait for the first answer where the peer does not wait for it: these are
    /// tickets for later sessions.
    pub(super) fn may_defer_sending(&self) -> bool {
        let Side::Server(conn) = &self.side else { return false };
        self.is_open && conn.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3)
    }

    /// Whether a request is here before the handshake's end.
    pub(super) fn has_early_data(&self) -> bool {
        self.received_early_data && self.taken < self.plain.len()
    }

    /// Moves what was decrypted to the reader.
    pub(super) fn take_plain(&mut self, into: &mut Vec<u8>, max: usize) {
        let here = self.plain.get(self.taken..).unwrap_or_default();
        if here.is_empty() {
            return;
        }
        let count = here.len().min(max);
        into.extend_from_slice(&here[..count]);
        self.taken += count;
        if self.taken == self.plain.len() {
            self.plain = Buf::empty();
            self.taken = 0;
        }
    }

    /// As [`Self::step`]; a failure is remembered, and the alert that tells the peer of it is sent.
    pub(super) fn step_or_fail(&mut self, socket: &Socket, into: Option<&mut Vec<u8>>) -> io::Result<Step> {
        if let Some(error) = &self.failure {
            return Err(Error::Protocol(error.clone()).into());
        }
        match self.step(into) {
            Ok(step) => Ok(step),
            Err(error) => {
                self.fail(&error);
                let _ = self.poll_outgoing(socket, &mut Context::from_waker(Waker::noop()));
                Err(Error::Protocol(error).into())
            }
        }
    }

    /// Remembers a failure, behind which no record is looked at again, and makes ready what is still to be said of it.
    fn fail(&mut self, error: &rustls::Error) {
        self.has_failed = true;
        self.failure = Some(error.clone());
        while self.side.common().is_some_and(CommonState::wants_write) {
            if self.step(None).is_err() {
                break;
            }
        }
    }

    /// Looks at the records that are here; plaintext goes to `into` or waits.
    fn step(&mut self, into: Option<&mut Vec<u8>>) -> Result<Step, rustls::Error> {
        let Self { side, incoming, start, plain, outgoing, .. } = self;
        let plain = into.unwrap_or(plain);
        let records = incoming.get_mut(*start..).unwrap_or_default();
        let had = records.len();
        let (discard, step) = match side {
            Side::Undecided => return Ok(Step::Blocked),
            Side::Client(conn) => settle(conn.process_tls_records(records), plain, outgoing),
            Side::Server(conn) => {
                let UnbufferedStatus { discard, state, .. } = conn.process_tls_records(records);
                match state {
                    Ok(ConnectionState::ReadEarlyData(mut early)) => {
                        self.received_early_data = true;
                        while let Some(record) = early.next_record() {
                            plain.extend_from_slice(record?.payload);
                        }
                        (discard, Ok(Step::Again))
                    }
                    Ok(state) => (discard, settle_state(state, plain, outgoing)),
                    Err(error) => (discard, Err(error)),
                }
            }
        };
        self.discard(discard, had);
        self.peer_closed |= matches!(step, Ok(Step::PeerClosed));
        self.note_session_id();
        if !self.is_open && matches!(self.side, Side::Server(_)) {
            take_made(&mut self.made);
        }
        if !self.is_open && step.is_ok() && !self.side.is_handshaking() {
            self.is_open = true;
        }
        step
    }

    /// The server's hello names the session, in the clear and always at the same place.
    fn note_session_id(&mut self) {
        if self.session_id.is_some() || self.is_open || !matches!(self.side, Side::Server(_)) {
            return;
        }
        // Record header, handshake header, version, random.
        const AT: usize = 5 + 4 + 2 + 32;
        if self.sent > 0 || self.outgoing.get(..6).is_none_or(|start| start[0] != 22 || start[5] != 2) {
            return;
        }
        let length = usize::from(self.outgoing.get(AT).copied().unwrap_or(0));
        self.session_id = self.outgoing.get(AT + 1..AT + 1 + length).filter(|_| length <= 32).map(Box::from);
    }

    fn discard(&mut self, count: usize, had: usize) {
        self.start += count.min(had);
        if self.start >= self.incoming.len() {
            self.incoming = Buf::empty();
            self.start = 0;
        }
    }

    /// Reads ciphertext; zero is the end of the stream.
    pub(super) fn poll_fill(&mut self, socket: &Socket, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        ready!(socket.poll_readable(cx))?;
        let here = self.incoming.len() - self.start;
        if here > MOST_INCOMING {
            return Poll::Ready(Err(Error::TooMuch.into()));
        }
        // Whole records and some more: a reader of much gets much in one call.
        let wanted = self.wanted + self.wanted / 64;
        let room = wanted.clamp(LONGEST_RECORD.min(16 << 10), 256 << 10);
        if self.start > 0 {
            let mut moved = Buf::with_capacity(here + room);
            moved.extend_from_slice(self.incoming.get(self.start..).unwrap_or_default());
            self.incoming = moved;
            self.start = 0;
        } else {
            self.incoming.reserve(room);
        }
        let read = socket.poll_recv(cx, &mut self.incoming, room);
        if self.incoming.is_empty() {
            self.incoming = Buf::empty();
        }
        read
    }

    /// Sends what the peer waits for, such as the end of a handshake that began with early data.
    pub(super) fn send_replies(&mut self, socket: &Socket, cx: &mut Context<'_>) -> io::Result<()> {
        if self.committed > 0 || self.outgoing.is_empty() || self.may_defer_sending() {
            return Ok(());
        }
        match self.poll_outgoing(socket, cx) {
            Poll::Ready(Err(error)) => Err(error),
            _ => Ok(()),
        }
    }

    /// Writes what waits to leave.
    pub(super) fn poll_outgoing(&mut self, socket: &Socket, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.outgoing.len() {
            let bytes = self.outgoing.get(self.sent..).unwrap_or_default();
            self.sent += ready!(socket.poll_write_with(cx, |fd| os::io::send(fd, bytes)))?;
        }
        if self.outgoing.capacity() > 0 {
            self.outgoing = Buf::empty();
            self.sent = 0;
        }
        Poll::Ready(Ok(()))
    }

    /// Encrypts some of the slices into the thread's scratch buffer and sends it; ready when all of that left.
    pub(super) fn encrypt_and_send(
        &mut self,
        socket: &Socket,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.bring_to_write()?;
        if self.outgoing.len() - self.sent > MOST_IN_FRONT {
            ready!(self.poll_outgoing(socket, cx))?;
        }
        SCRATCH_BUF.with(|scratch| {
            let mut scratch = scratch.borrow_mut();
            if scratch.len() < SCRATCH {
                scratch.resize(SCRATCH, 0);
            }
            let (taken, length) = self.encrypt_slices(slices, &mut scratch)?;
            let ready = scratch.get(..length).unwrap_or_default();
            let sent = match socket.poll_write_with(cx, |fd| os::io::send(fd, ready)) {
                Poll::Ready(Ok(sent)) => sent,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => 0,
            };
            if sent == length {
                return Poll::Ready(Ok(taken));
            }
            // What was encrypted must leave as it is: it waits, and so does its writer.
            let rest = ready.get(sent..).unwrap_or_default();
            self.outgoing.reserve(rest.len());
            self.outgoing.extend_from_slice(rest);
            self.committed = taken;
            ready!(self.poll_outgoing(socket, cx))?;
            self.committed = 0;
            Poll::Ready(Ok(taken))
        })
    }

    /// Encrypts as much as is sent at once; says how many bytes were taken and how many they have become.
    fn encrypt_slices(&mut self, slices: &[IoSlice<'_>], room: &mut [u8]) -> io::Result<(usize, usize)> {
        let (mut taken, mut length) = (0, 0);
        for slice in slices {
            let bytes = slice.get(..slice.len().min(BATCH - taken)).unwrap_or_default();
            if bytes.is_empty() {
                continue;
            }
            self.bring_to_write()?;
            // Tickets and the like go in front, in the same packet.
            length += self.take_outgoing(room.get_mut(length..).unwrap_or_default())?;
            length += self.encrypt(bytes, room.get_mut(length..).unwrap_or_default())?;
            taken += bytes.len();
        }
        Ok((taken, length))
    }

    /// Encrypts bytes behind what waits to leave.
    pub(super) fn encrypt_behind(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bring_to_write()?;
        SCRATCH_BUF.with(|scratch| {
            let mut scratch = scratch.borrow_mut();
            if scratch.len() < SCRATCH {
                scratch.resize(SCRATCH, 0);
            }
            let length = self.encrypt(bytes, &mut scratch)?;
            self.outgoing.reserve(length);
            self.outgoing.extend_from_slice(scratch.get(..length).unwrap_or_default());
            Ok(())
        })
    }

    /// Copies what waits to leave to `room`.
    fn take_outgoing(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let waiting = self.outgoing.get(self.sent..).unwrap_or_default();
        if waiting.is_empty() {
            return Ok(0);
        }
        // Records may not overtake each other.
        let target = room.get_mut(..waiting.len()).ok_or(io::ErrorKind::BrokenPipe)?;
        target.copy_from_slice(waiting);
        let length = waiting.len();
        self.outgoing = Buf::empty();
        self.sent = 0;
        Ok(length)
    }

    /// Goes on until rustls takes bytes to encrypt; plaintext that turns up waits for its reader.
    fn bring_to_write(&mut self) -> io::Result<()> {
        if self.has_failed || self.said_farewell {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        loop {
            match self.step(None) {
                Ok(Step::Again) => {}
                Ok(Step::Blocked | Step::PeerClosed) => return Ok(()),
                Err(error) => {
                    self.fail(&error);
                    return Err(Error::Protocol(error).into());
                }
            }
        }
    }

    fn encrypt(&mut self, bytes: &[u8], room: &mut [u8]) -> io::Result<usize> {
        let records = self.incoming.get_mut(self.start..).unwrap_or_default();
        let done = match &mut self.side {
            Side::Undecided => None,
            Side::Client(conn) => encrypt_in(conn.process_tls_records(records), bytes, room),
            Side::Server(conn) => encrypt_in(conn.process_tls_records(records), bytes, room),
        };
        done.unwrap_or_else(|| Err(io::ErrorKind::BrokenPipe.into()))
    }

    pub(super) fn queue_close_notify(&mut self) -> io::Result<()> {
        self.bring_to_write_at_end();
        let mut room = [0u8; 256];
        let records = self.incoming.get_mut(self.start..).unwrap_or_default();
        let length = match &mut self.side {
            Side::Undecided => 0,
            Side::Client(conn) => close_in(conn.process_tls_records(records), &mut room),
            Side::Server(conn) => close_in(conn.process_tls_records(records), &mut room),
        };
        self.outgoing.extend_from_slice(room.get(..length).unwrap_or_default());
        Ok(())
    }

    fn bring_to_write_at_end(&mut self) {
        while matches!(self.step(None), Ok(Step::Again)) {}
        self.plain = Buf::empty();
        self.taken = 0;
    }
}

/// Does what a state asks for.
fn settle<D>(
    status: UnbufferedStatus<'_, '_, D>,
    plain: &mut Vec<u8>,
    outgoing: &mut Buf,
) -> (usize, Result<Step, rustls::Error>) {
    let UnbufferedStatus { discard, state, .. } = status;
    match state {
        Ok(state) => (discard, settle_state(state, plain, outgoing)),
        Err(error) => (discard, Err(error)),
    }
}

fn settle_state<D>(
    state: ConnectionState<'_, '_, D>,
    plain: &mut Vec<u8>,
    outgoing: &mut Buf,
) -> Result<Step, rustls::Error> {
    match state {
        ConnectionState::ReadTraffic(mut traffic) => {
            while let Some(record) = traffic.next_record() {
                plain.extend_from_slice(record?.payload);
            }
            Ok(Step::Again)
        }
        ConnectionState::EncodeTlsData(mut data) => {
            let at = outgoing.len();
            if let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) {
                outgoing.reserve(size.required_size);
                outgoing.resize(at + size.required_size, 0);
                let written = data.encode(outgoing.get_mut(at..).unwrap_or_default()).unwrap_or(0);
                outgoing.truncate(at + written);
            }
            Ok(Step::Again)
        }
        ConnectionState::TransmitTlsData(data) => {
            // It leaves before anything that is encrypted later.
            data.done();
            Ok(Step::Again)
        }
        ConnectionState::PeerClosed | ConnectionState::Closed => Ok(Step::PeerClosed),
        _ => Ok(Step::Blocked),
    }
}

fn encrypt_in<D>(
    status: UnbufferedStatus<'_, '_, D>,
    bytes: &[u8],
    room: &mut [u8],
) -> Option<io::Result<usize>> {
    match status.state {
        Ok(ConnectionState::WriteTraffic(mut traffic)) => {
            Some(traffic.encrypt(bytes, room).map_err(|error| match error {
                EncryptError::InsufficientSize(_) => io::ErrorKind::OutOfMemory.into(),
                EncryptError::EncryptExhausted => io::ErrorKind::BrokenPipe.into(),
            }))
        }
        Ok(_) => None,
        Err(error) => Some(Err(error::Error::Protocol(error).into())),
    }
}

fn close_in<D>(status: UnbufferedStatus<'_, '_, D>, room: &mut [u8]) -> usize {
    match status.state {
        Ok(ConnectionState::WriteTraffic(mut traffic)) => traffic.queue_close_notify(room).unwrap_or(0),
        _ => 0,
    }
}
