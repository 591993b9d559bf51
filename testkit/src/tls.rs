//! TLS of the scripted client: `to tls:@ADDR1@`, with options between the colons.
//!
//! It believes every certificate; what the server shows is a matter of the script.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned};

/// A connection under TLS, shared by its two handles.
#[derive(Clone, Debug)]
pub struct TlsStream(Arc<Mutex<StreamOwned<ClientConnection, TcpStream>>>);

/// What an address such as `tls:name=a.example.com,cert=client,tls12:127.0.0.1:443` asks for.
#[derive(Debug, Default)]
struct Options {
    name: Option<String>,
    cert: Option<String>,
    alpn: Option<String>,
    only: Option<&'static rustls::SupportedProtocolVersion>,
    /// Connections of this name resume each other's sessions.
    sessions: Option<String>,
}

impl Options {
    fn read(text: &str) -> std::io::Result<Self> {
        let mut options = Self::default();
        for word in text.split(',').filter(|word| !word.is_empty()) {
            match word.split_once('=').unwrap_or((word, "")) {
                ("name", name) => options.name = Some(name.to_owned()),
                ("cert", name) => options.cert = Some(name.to_owned()),
                ("alpn", name) => options.alpn = Some(name.to_owned()),
                ("sessions", name) => options.sessions = Some(name.to_owned()),
                ("tls12", "") => options.only = Some(&rustls::version::TLS12),
                ("tls13", "") => options.only = Some(&rustls::version::TLS13),
                _ => return Err(invalid(format!("unknown TLS option \"{word}\""))),
            }
        }
        Ok(options)
    }
}

/// Where the certificates of tests lie.
#[must_use]
pub fn certificates() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/certs"))
}

impl TlsStream {
    /// Connects to an address behind `tls:`.
    ///
    /// # Errors
    /// The kernel's, or that the handshake failed.
    pub fn connect(address: &str) -> std::io::Result<Self> {
        let (options, address) = match address.split_once(':') {
            Some((options, rest)) if rest.contains(':') => (Options::read(options)?, rest),
            _ => (Options::default(), address),
        };
        let config = match &options.sessions {
            None => Arc::new(options.config()?),
            Some(_) => options.kept_config()?,
        };
        let name = ServerName::try_from(options.name.unwrap_or("localhost".into())).map_err(invalid)?;
        let connection = ClientConnection::new(config, name).map_err(invalid)?;
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let mut stream = StreamOwned::new(connection, stream);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self(Arc::new(Mutex::new(stream))))
    }

    /// Does something with the socket below.
    pub fn with_socket<T>(&self, act: impl FnOnce(&TcpStream) -> T) -> T {
        act(&self.0.lock().unwrap_or_else(PoisonError::into_inner).sock)
    }
}

impl Options {
    /// The configuration of all connections with the same options, and so their sessions.
    fn kept_config(&self) -> std::io::Result<Arc<ClientConfig>> {
        static KEPT: Mutex<BTreeMap<String, Arc<ClientConfig>>> = Mutex::new(BTreeMap::new());
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        let key = format!("{self:?}");
        if let Some(config) = kept.get(&key) {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(self.config()?);
        kept.insert(key, Arc::clone(&config));
        Ok(config)
    }

    fn config(&self) -> std::io::Result<ClientConfig> {
        let options = self;
        let versions = options.only.map_or_else(|| rustls::ALL_VERSIONS.to_vec(), |only| vec![only]);
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&versions)
            .map_err(invalid)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Believing));
        let mut config = match &options.cert {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let file = |end: &str| certificates().join(format!("{name}.{end}"));
                let chain = CertificateDer::pem_file_iter(file("crt")).map_err(invalid)?;
                let chain = chain.collect::<Result<Vec<_>, _>>().map_err(invalid)?;
                let key = PrivateKeyDer::from_pem_file(file("key")).map_err(invalid)?;
                builder.with_client_auth_cert(chain, key).map_err(invalid)?
            }
        };
        config.enable_sni = options.name.is_some();
        config.alpn_protocols.extend(options.alpn.clone().map(String::into_bytes));
        Ok(config)
    }
}

impl Read for TlsStream {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let read = self.0.lock().unwrap_or_else(PoisonError::into_inner).read(buf);
        match read {
            // An end without a word is an end.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(0),
            read => read,
        }
    }
}

impl Write for TlsStream {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(buf)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).flush()
    }
}

fn invalid(error: impl ToString) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidInput, error.to_string())
}

/// Believes every certificate and every signature.
#[derive(Debug)]
pub struct Believing;

impl ServerCertVerifier for Believing {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_tls12_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}
