//! The client's hello, read before anything is decided: which server it asks for chooses all the rest.
//!
//! rustls parses it; the bytes are kept and given to the session, which sees them as if nobody had looked.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use rustls::PeerIncompatible::SignatureAlgorithmsExtensionRequired;
use rustls::server::Acceptor;

use super::error::Error;
use super::session::Session;
use crate::stream::Stream;
use crate::{Buf, Deadline};

/// Bytes that one read asks for: most hellos in one call.
const READ: usize = 4 << 10;
/// The longest hello, record headers included. Those with post-quantum keys have some two thousand bytes.
const LONGEST: usize = 64 << 10;
/// An alert record: fatal, `unrecognized_name`.
const UNRECOGNIZED_NAME: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 112];
/// An alert record: fatal, `internal_error`.
const INTERNAL_ERROR: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 80];

/// An alert record: fatal, `unexpected_message`, which rustls does not say of a handshake that begins with something
/// other than a hello.
const UNEXPECTED_MESSAGE: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 10];
/// An alert record: fatal, `protocol_version`.
const PROTOCOL_VERSION: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 70];

/// What a client says when it begins.
#[derive(Clone, Debug, Default)]
pub struct Hello {
    /// The server's name, in lower case.
    pub name: Option<Box<str>>,
    /// The numbers of the ciphers that it offers, in its order.
    pub ciphers: Box<[u16]>,
    /// The numbers of its key exchange groups.
    pub curves: Box<[u16]>,
    /// The numbers of its signature algorithms.
    pub signatures: Box<[u16]>,
}

/// What a connection begins with.
pub enum Begun {
    /// A hello: the stream has a session from now on, which is to be accepted.
    Tls,
    /// Something else: the bytes that came so far.
    Plain(Buf),
}

impl Stream {
    /// Reads the client's hello; `bytes` is what came in already.
    ///
    /// # Errors
    /// What is wrong with it, [`Error::Closed`] within, or [`io::ErrorKind::TimedOut`].
    pub async fn read_hello(&self, mut bytes: Buf, deadline: &Deadline) -> io::Result<Begun> {
        let mut acceptor = Acceptor::default();
        let mut fed = 0;
        loop {
            // As nginx: the first byte of a record, or of a hello of SSLv2.
            if bytes.first().is_some_and(|byte| *byte != 0x16 && byte & 0x80 == 0) {
                return Ok(Begun::Plain(bytes));
            }
            while fed < bytes.len() {
                let mut rest = bytes.get(fed..).unwrap_or_default();
                let read = acceptor.read_tls(&mut rest)?;
                if read == 0 {
                    break;
                }
                fed += read;
                match acceptor.accept() {
                    Ok(None) => {}
                    Ok(Some(accepted)) => {
                        let hello = Hello::new(&accepted.client_hello());
                        self.secure(Session::opening(hello, bytes));
                        return Ok(Begun::Tls);
                    }
                    Err((error, mut alert)) => {
                        let mut text = Vec::new();
                        if is_outdated(&error) {
                            self.send_at_once(&PROTOCOL_VERSION).await;
                        } else if alert.write_all(&mut text).is_ok() && !text.is_empty() {
                            self.send_at_once(&text).await;
                        } else {
                            self.send_at_once(&UNEXPECTED_MESSAGE).await;
                        }
                        return Err(Error::Protocol(error).into());
                    }
                }
            }
            if bytes.len() > LONGEST {
                return Err(Error::TooMuch.into());
            }
            bytes.reserve(READ);
            if self.recv(&mut bytes, READ, deadline).await? == 0 {
                return Err(Error::Closed.into());
            }
        }
    }

    /// Refuses the handshake as nginx does for a name that no server has.
    pub async fn refuse_name(&self) {
        self.send_at_once(&UNRECOGNIZED_NAME).await;
    }

    /// Refuses the handshake for a fault of our own, such as a certificate that cannot be loaded.
    pub async fn refuse_hello(&self) {
        self.send_at_once(&INTERNAL_ERROR).await;
    }

    /// Sends as much as the socket takes now.
    async fn send_at_once(&self, bytes: &[u8]) {
        let _ = poll_fn(|cx| Poll::Ready(self.poll_send_plain(cx, bytes))).await;
    }
}

/// Whether a hello is one of TLS 1.1 or before, which names no signature algorithms: that it does not is what rustls
/// misses first.
fn is_outdated(error: &rustls::Error) -> bool {
    matches!(error, rustls::Error::PeerIncompatible(SignatureAlgorithmsExtensionRequired))
}

impl Hello {
    fn new(hello: &rustls::server::ClientHello<'_>) -> Self {
        let numbers = |groups: &[rustls::NamedGroup]| groups.iter().map(|group| u16::from(*group)).collect();
        Self {
            name: hello.server_name().map(|name| name.to_ascii_lowercase().into()),
            ciphers: hello.cipher_suites().iter().map(|suite| u16::from(*suite)).collect(),
            curves: hello.named_groups().map(numbers).unwrap_or_default(),
            signatures: hello.signature_schemes().iter().map(|scheme| u16::from(*scheme)).collect(),
        }
    }
}
