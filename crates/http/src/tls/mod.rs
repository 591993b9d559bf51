//! TLS of a server block, as the ssl module has compiled it and the connections use it.
//!
//! Which server's is used is decided by the name in the client's hello, before anything else is known.

mod files;
mod ocsp;
mod ocsp_cache;
mod policy;
mod responder;
mod settings;
mod stapling;

use std::sync::{Arc, OnceLock};

use net::tls::{Identities, ServerConfig};

pub use self::files::{Dynamic, Loaded, ObjectCache, PemFile, Written, no_file, read_trust};
pub use self::ocsp::{Ocsp, Reach};
pub use self::ocsp_cache::OcspCache;
pub use self::policy::{ClientPolicy, Refused, VerifyClient};
pub use self::responder::{Responder, UrlError};
pub use self::settings::{
    ConfCommand, ConfCommands, read_ciphers, read_curves, read_passwords, read_protocols,
};
pub use self::stapling::{Source, Stapling};

use crate::request::Request;

/// What may be spoken under TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alpn {
    /// HTTP/1 alone; in `stream` what `ssl_alpn` says.
    Http1,
    /// HTTP/2 where the client can, else HTTP/1.
    Http2,
}

/// Where certificates come from that are known only once a client asks.
pub trait Certificates: Send + Sync {
    /// The certificates for this connection; its request has no head yet, only a connection. `None`: there are
    /// none, and why is logged.
    fn for_connection(&self, r: &Request) -> Option<Identities>;
}

/// Makes the configuration for rustls: `Fn(alpn)`.
pub type MakeConfig = dyn Fn(Alpn) -> Result<ServerConfig, String> + Send + Sync;

/// TLS of one server block.
pub struct ServerTls {
    make: Box<MakeConfig>,
    http1: OnceLock<ServerConfig>,
    http2: OnceLock<ServerConfig>,
    /// `ssl_reject_handshake`.
    pub rejects: bool,
    /// There are certificates.
    pub has_certificates: bool,
    /// `ssl_handshake_timeout` of `stream`, milliseconds.
    pub handshake_timeout: u64,
    /// OCSP answers for its certificates.
    pub staplings: Vec<Arc<Stapling>>,
    /// What is asked of clients' certificates.
    pub client: Option<ClientPolicy>,
    /// Certificates whose names have variables.
    pub certificates: Option<Arc<dyn Certificates>>,
}

impl ServerTls {
    /// TLS whose configurations `make` makes.
    ///
    /// # Errors
    /// What is wrong with the settings.
    pub fn new(make: Box<MakeConfig>) -> Result<Self, String> {
        let http1 = OnceLock::from(make(Alpn::Http1)?);
        Ok(Self {
            make,
            http1,
            http2: OnceLock::new(),
            rejects: false,
            has_certificates: false,
            handshake_timeout: 0,
            staplings: Vec::new(),
            client: None,
            certificates: None,
        })
    }

    /// The configuration for what may be spoken.
    ///
    /// # Errors
    /// What is wrong with the settings; what was good for HTTP/1 is good for HTTP/2.
    pub fn config(&self, alpn: Alpn) -> Result<ServerConfig, String> {
        let slot = match alpn {
            Alpn::Http1 => &self.http1,
            Alpn::Http2 => &self.http2,
        };
        if let Some(config) = slot.get() {
            return Ok(config.clone());
        }
        let made = (self.make)(alpn)?;
        Ok(slot.get_or_init(|| made).clone())
    }
}
