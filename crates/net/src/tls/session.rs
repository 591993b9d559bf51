//! One connection's TLS: records in and out, over a socket that knows nothing of them.
//!
//! rustls is driven without buffers of its own: an idle session holds no ciphertext, and what is written is
//! encrypted into one scratch buffer of the thread and leaves from there in large pieces.

use std::cell::{Cell, OnceCell, RefCell};
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::task::{Context, Poll, Waker, ready};

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{CommonState, HandshakeKind};

use super::error::{self, Error};
use super::hello::Hello;
use super::ocsp::Doubt;
use super::server::ServerConfig;
use super::sessions::Context as Policy;
use super::verify::Verification;
use crate::buf::Buf;
use crate::socket::Socket;

/// Plaintext bytes that are encrypted and written at once.
const BATCH: usize = 64 << 10;
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
const RECORD_PLAIN: usize = 16 << 10;
/// Ciphertext that may wait for the rest of a message: rustls takes no longer ones.
const MOST_INCOMING: usize = 160 << 10;

thread_local! {
    static SCRATCH_BUF: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

enum Side {
    /// A client has said its hello; how it is answered is not decided yet.
    Undecided,
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

impl Side {
    fn common(&self) -> Option<&CommonState> {
        match self {
            Self::Undecided => None,
            Self::Server(conn) => Some(conn),
            Self::Client(conn) => Some(conn),
        }
    }

    fn is_handshaking(&self) -> bool {
        self.common().is_none_or(CommonState::is_handshaking)
    }
}

/// What one look at the records brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Something happened: look again.
    Again,
    /// Nothing more can be done with what is here.
    Blocked,
    /// The peer has said that it sends no more.
    PeerClosed,
}

/// A TLS session.
pub struct Session {
    state: RefCell<State>,
    hello: Option<Box<Hello>>,
    accepted_name: OnceCell<Box<[u8]>>,
    verification: Cell<Option<(Policy, Verification)>>,
    doubt: Cell<Option<Doubt>>,
}

struct State {
    side: Side,
    /// Ciphertext that came in; the first `start` bytes are done with.
    incoming: Buf,
    start: usize,
    /// Plaintext that nobody has asked for yet; the first `taken` bytes are gone.
    plain: Buf,
    taken: usize,
    /// Ciphertext that is to leave; the first `sent` bytes have.
    outgoing: Buf,
    sent: usize,
    /// Plaintext bytes in `outgoing` whose writer still waits to hear of it.
    committed: usize,
    /// Bytes that the last reader asked for.
    wanted: usize,
    is_open: bool,
    peer_closed: bool,
    said_farewell: bool,
    has_failed: bool,
    failure: Option<rustls::Error>,
    received_early_data: bool,
    session_id: Option<Box<[u8]>>,
}

impl Session {
    /// A session whose client has sent `incoming` so far, its hello among it.
    pub(super) fn opening(hello: Hello, incoming: Buf) -> Self {
        Self::new(Side::Undecided, Some(Box::new(hello)), incoming)
    }

    /// Answers the client's hello by this configuration: the handshake is under way from then on.
    ///
    /// # Errors
    /// A configuration that rustls does not take.
    pub fn accept(&self, config: &ServerConfig) -> Result<(), rustls::Error> {
        let offered = self.hello.as_deref().map(|hello| &*hello.ciphers).unwrap_or_default();
        self.state.borrow_mut().side = Side::Server(config.connection(offered)?);
        Ok(())
    }

    /// A client's session, to be begun by [`crate::Stream::handshake`].
    pub(super) fn client(conn: UnbufferedClientConnection) -> Self {
        Self::new(Side::Client(conn), None, Buf::empty())
    }

    fn new(side: Side, hello: Option<Box<Hello>>, incoming: Buf) -> Self {
        let state = State {
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
        };
        Self {
            state: RefCell::new(state),
            hello,
            accepted_name: OnceCell::new(),
            verification: Cell::new(None),
            doubt: Cell::new(None),
        }
    }

    /// What the client said when it began; none towards upstreams.
    #[must_use]
    pub fn hello(&self) -> Option<&Hello> {
        self.hello.as_deref()
    }

    /// The name that the client asked for, once a server was found by it.
    #[must_use]
    pub fn accepted_name(&self) -> Option<&[u8]> {
        self.accepted_name.get().map(|name| &**name)
    }

    /// Keeps the name that a server was found by.
    pub fn accept_name(&self, name: &[u8]) {
        let _ = self.accepted_name.set(name.into());
    }

    /// Whether bytes are here that were decrypted already, or still wait for that.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        let state = self.state.borrow();
        state.taken < state.plain.len() || state.start < state.incoming.len()
    }

    /// How the peer's certificate was judged under a policy; `judge` is asked once for each.
    pub fn judged(&self, policy: Policy, judge: impl FnOnce() -> Verification) -> Verification {
        if let Some((known, verification)) = self.verification.get()
            && known == policy
        {
            return verification;
        }
        let verification = if self.has_peer_certificate() { judge() } else { Verification::Absent };
        self.verification.set(Some((policy, verification)));
        verification
    }

    /// Why the peer's certificate, good by itself, is not to be taken for good: what OCSP has found of it.
    #[must_use]
    pub fn doubt(&self) -> Option<Doubt> {
        self.doubt.get()
    }

    /// Keeps what OCSP has found of the peer's certificate.
    pub fn set_doubt(&self, doubt: Option<Doubt>) {
        self.doubt.set(doubt);
    }

    /// The peer's certificates in DER, its own first; empty without any.
    #[must_use]
    pub fn peer_certificates(&self) -> Vec<Vec<u8>> {
        let state = self.state.borrow();
        let chain = state.side.common().and_then(CommonState::peer_certificates).unwrap_or_default();
        chain.iter().map(|certificate| certificate.to_vec()).collect()
    }

    /// Whether the peer has sent a certificate, now or when the session that this one resumes began.
    #[must_use]
    pub fn has_peer_certificate(&self) -> bool {
        let state = self.state.borrow();
        state.side.common().and_then(CommonState::peer_certificates).is_some_and(|chain| !chain.is_empty())
    }

    /// OpenSSL's name of the version, such as `TLSv1.3`.
    #[must_use]
    pub fn protocol(&self) -> &'static str {
        match self.state.borrow().side.common().and_then(CommonState::protocol_version) {
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
            _ => "unknown",
        }
    }

    /// OpenSSL's name of the cipher.
    #[must_use]
    pub fn cipher(&self) -> Option<&'static str> {
        let state = self.state.borrow();
        super::ciphers::openssl_name(state.side.common()?.negotiated_cipher_suite()?.suite())
    }

    /// OpenSSL's name of the key exchange's curve; none for a resumed session without one.
    #[must_use]
    pub fn curve(&self) -> Option<&'static str> {
        let state = self.state.borrow();
        super::curves::openssl_name(state.side.common()?.negotiated_key_exchange_group()?.name())
    }

    /// The protocol that was agreed on for what TLS carries, such as `h2`.
    #[must_use]
    pub fn alpn(&self) -> Option<Vec<u8>> {
        self.state.borrow().side.common()?.alpn_protocol().map(<[u8]>::to_vec)
    }

    /// Whether HTTP/2 was agreed on.
    #[must_use]
    pub fn is_h2(&self) -> bool {
        self.state.borrow().side.common().and_then(CommonState::alpn_protocol) == Some(b"h2")
    }

    /// Whether an earlier session was resumed.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.state.borrow().side.common().and_then(CommonState::handshake_kind)
            == Some(HandshakeKind::Resumed)
    }

    /// The session's number, as `$ssl_session_id` shows it.
    #[must_use]
    pub fn id(&self) -> Option<Box<[u8]>> {
        self.state.borrow().session_id.clone()
    }

    /// Whether a request came before the handshake's end and that end has not come yet.
    #[must_use]
    pub fn is_early(&self) -> bool {
        let state = self.state.borrow();
        state.received_early_data && state.side.is_handshaking()
    }

    /// Goes on with the handshake; ready when it has ended and the peer knows.
    pub(crate) fn poll_handshake(&self, socket: &Socket, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state.borrow_mut();
        loop {
            let step = state.step_or_fail(socket, None)?;
            if step == Step::Again {
                continue;
            }
            if state.may_defer_sending() {
                return Poll::Ready(Ok(()));
            }
            ready!(state.poll_outgoing(socket, cx))?;
            if state.is_open || state.has_early_data() {
                return Poll::Ready(Ok(()));
            }
            if step == Step::PeerClosed || ready!(state.poll_fill(socket, cx))? == 0 {
                return Poll::Ready(Err(Error::Closed.into()));
            }
        }
    }

    pub(crate) fn poll_readable(&self, socket: &Socket, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state.borrow_mut();
        loop {
            if state.taken < state.plain.len() || state.peer_closed || state.has_failed {
                return Poll::Ready(Ok(()));
            }
            // What is wrong with the records is told to who reads them.
            match state.step_or_fail(socket, None) {
                Err(_) => return Poll::Ready(Ok(())),
                Ok(Step::Again) => continue,
                Ok(Step::PeerClosed) => {}
                Ok(Step::Blocked) => match ready!(state.poll_fill(socket, cx)) {
                    Ok(0) => state.peer_closed = true,
                    Ok(_) => {}
                    Err(_) => state.has_failed = true,
                },
            }
        }
    }

    pub(crate) fn poll_recv(
        &self,
        socket: &Socket,
        cx: &mut Context<'_>,
        into: &mut Vec<u8>,
        max: usize,
    ) -> Poll<io::Result<usize>> {
        let mut state = self.state.borrow_mut();
        state.wanted = max;
        let before = into.len();
        loop {
            let left = max - (into.len() - before);
            state.take_plain(into, left);
            let got = into.len() - before;
            if got == max {
                return Poll::Ready(Ok(got));
            }
            if state.peer_closed {
                return Poll::Ready(Ok(got));
            }
            let target = if max - got >= RECORD_PLAIN { Some(&mut *into) } else { None };
            let step = match state.step_or_fail(socket, target) {
                Err(_) if got > 0 => return Poll::Ready(Ok(got)),
                other => other?,
            };
            match step {
                Step::Again | Step::PeerClosed => continue,
                Step::Blocked if got > 0 => return Poll::Ready(Ok(got)),
                Step::Blocked => {
                    state.send_replies(socket, cx)?;
                    if ready!(state.poll_fill(socket, cx))? == 0 {
                        state.peer_closed = true;
                    }
                }
            }
        }
    }

    pub(crate) fn poll_send(
        &self,
        socket: &Socket,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.state.borrow_mut();
        if state.committed > 0 {
            ready!(state.poll_outgoing(socket, cx))?;
            return Poll::Ready(Ok(std::mem::take(&mut state.committed)));
        }
        state.encrypt_and_send(socket, cx, slices)
    }

    pub(crate) fn poll_send_more(
        &self,
        socket: &Socket,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.state.borrow_mut();
        if state.committed > 0 || state.outgoing.len() + bytes.len() > RECORD_PLAIN / 2 {
            drop(state);
            return self.poll_send(socket, cx, &[IoSlice::new(bytes)]);
        }
        state.encrypt_behind(bytes)?;
        Poll::Ready(Ok(bytes.len()))
    }

    pub(crate) fn poll_send_file(
        &self,
        socket: &Socket,
        cx: &mut Context<'_>,
        file: &File,
        offset: u64,
        count: usize,
    ) -> Poll<io::Result<usize>> {
        if self.state.borrow().committed > 0 {
            return self.poll_send(socket, cx, &[]);
        }
        let count = count.min(BATCH);
        let mut piece = Buf::with_capacity(count);
        let read = os::io::pread_append(file.as_fd(), &mut piece, count, offset)?;
        if read == 0 {
            return Poll::Ready(Ok(0));
        }
        self.poll_send(socket, cx, &[IoSlice::new(&piece)])
    }

    /// Tells the peer that nothing more comes, as far as the socket takes it at once.
    pub(crate) fn say_farewell(&self, socket: &Socket) {
        let Ok(mut state) = self.state.try_borrow_mut() else { return };
        if state.said_farewell || !state.is_open || state.has_failed {
            return;
        }
        state.said_farewell = true;
        let cx = &mut Context::from_waker(Waker::noop());
        let _ = state.queue_close_notify();
        let _ = state.poll_outgoing(socket, cx);
    }
}

impl State {
    /// The end of the handshake may wait for the first answer where the peer does not wait for it: these are
    /// tickets for later sessions.
    fn may_defer_sending(&self) -> bool {
        let Side::Server(conn) = &self.side else { return false };
        self.is_open && conn.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3)
    }

    /// Whether a request is here before the handshake's end.
    fn has_early_data(&self) -> bool {
        self.received_early_data && self.taken < self.plain.len()
    }

    /// Moves what was decrypted to the reader.
    fn take_plain(&mut self, into: &mut Vec<u8>, max: usize) {
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
    fn step_or_fail(&mut self, socket: &Socket, into: Option<&mut Vec<u8>>) -> io::Result<Step> {
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
    fn poll_fill(&mut self, socket: &Socket, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
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
    fn send_replies(&mut self, socket: &Socket, cx: &mut Context<'_>) -> io::Result<()> {
        if self.committed > 0 || self.outgoing.is_empty() || self.may_defer_sending() {
            return Ok(());
        }
        match self.poll_outgoing(socket, cx) {
            Poll::Ready(Err(error)) => Err(error),
            _ => Ok(()),
        }
    }

    /// Writes what waits to leave.
    fn poll_outgoing(&mut self, socket: &Socket, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
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
    fn encrypt_and_send(
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
    fn encrypt_behind(&mut self, bytes: &[u8]) -> io::Result<()> {
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

    fn queue_close_notify(&mut self) -> io::Result<()> {
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
