//! One connection's TLS, over a socket that knows nothing of it: what was agreed on, and bytes in and out.
//!
//! Who reads and writes is told of what went wrong once; what is under way is [`State`]'s.

mod state;

use std::cell::{Cell, OnceCell, RefCell};
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::task::{Context, Poll, Waker, ready};

use rustls::client::UnbufferedClientConnection;
use rustls::{CommonState, HandshakeKind};

use self::state::{BATCH, RECORD_PLAIN, Side, State, Step};
use super::error::Error;
use super::hello::Hello;
use super::ocsp::Doubt;
use super::server::ServerConfig;
use super::sessions::{Context as Policy, Made};
use super::verify::Verification;
use crate::buf::Buf;
use crate::socket::Socket;

/// A TLS session.
pub struct Session {
    state: RefCell<State>,
    hello: Option<Box<Hello>>,
    accepted_name: OnceCell<Box<[u8]>>,
    verification: Cell<Option<(Policy, Verification)>>,
    doubt: Cell<Option<Doubt>>,
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
        Self {
            state: RefCell::new(State::new(side, incoming)),
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

    /// The client was refused for its certificate: it is to come back with a whole handshake, in which it may send another.
    pub fn forget(&self) {
        self.state.borrow_mut().made.drain(..).for_each(Made::forget);
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

    // Apart, so that a plain connection need not make room for it.
    #[inline(never)]
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
