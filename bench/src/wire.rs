//! A client's connection, plain or under TLS: bytes in and out without waiting.
//!
//! Certificates are not checked: what is measured is the server.

use std::io::{self, Read, Write};
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Error};
use testkit::tls::Believing;

/// Whether connections are under TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// They are not.
    Plain,
    /// Each with a full handshake.
    Tls,
    /// Sessions are resumed.
    Resumed,
}

/// A connection.
pub struct Wire {
    stream: TcpStream,
    session: Option<Box<ClientConnection>>,
}

impl Wire {
    /// A connection over this socket.
    ///
    /// # Errors
    /// What rustls or the socket says.
    pub fn new(stream: TcpStream, config: Option<&Arc<ClientConfig>>) -> io::Result<Self> {
        let session = match config {
            None => None,
            Some(config) => {
                let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
                Some(Box::new(ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?))
            }
        };
        Ok(Self { stream, session })
    }

    /// Whether a read that is not full leaves nothing behind it.
    pub fn is_emptied_by_short_reads(&self) -> bool {
        self.session.is_none()
    }

    /// Reads what is there; zero is the end.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when nothing is.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(session) = &mut self.session else { return self.stream.read(buffer) };
        loop {
            match session.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                done => return done,
            }
            let got = session.read_tls(&mut self.stream)?;
            session.process_new_packets().map_err(io::Error::other)?;
            while session.wants_write() {
                session.write_tls(&mut self.stream)?;
            }
            if got == 0 {
                return Ok(0);
            }
        }
    }

    /// Writes all, or fails.
    ///
    /// # Errors
    /// What the socket says.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(session) = &mut self.session else { return self.stream.write(bytes) };
        session.writer().write_all(bytes)?;
        while session.wants_write() {
            session.write_tls(&mut self.stream)?;
        }
        Ok(bytes.len())
    }
}

/// How connections are made; none for plain ones.
///
/// # Errors
/// What rustls says.
pub fn config(security: Security) -> Result<Option<Arc<ClientConfig>>, Error> {
    if security == Security::Plain {
        return Ok(None);
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Believing))
        .with_no_client_auth();
    config.resumption = match security {
        Security::Resumed => Resumption::in_memory_sessions(1024),
        _ => Resumption::disabled(),
    };
    Ok(Some(Arc::new(config)))
}
