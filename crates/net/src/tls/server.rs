//! TLS towards clients: what a server block's `ssl_*` directives come to for rustls.
//!
//! A configuration is made once and shared by all threads; which one serves a connection is decided by its hello.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::{
    ClientHello, NoClientAuth, ProducesTickets, ResolvesServerCert, StoresServerSessions,
    UnbufferedServerConnection,
};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, DistinguishedName, SupportedProtocolVersion};

use super::ciphers::CipherList;
use super::curves::CurveList;
use super::identity::Identity;
use super::verify::Lenient;

/// The versions of TLS in use, one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocols(u8);

impl Protocols {
    /// None.
    pub const NONE: Self = Self(0);
    /// TLS 1.2.
    pub const TLS12: Self = Self(1);
    /// TLS 1.3.
    pub const TLS13: Self = Self(2);

    /// Both of these.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those that are in both.
    #[must_use]
    pub fn within(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether all of `other` is in it.
    #[must_use]
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The same without TLS 1.2 where nothing can be had for it.
    pub(super) fn possible_with(self, ciphers: &CipherList) -> Self {
        if ciphers.lacks_tls12() { Self(self.0 & !Self::TLS12.0) } else { self }
    }

    pub(super) fn versions(self) -> Vec<&'static SupportedProtocolVersion> {
        let mut versions = Vec::new();
        if self.has(Self::TLS13) {
            versions.push(&rustls::version::TLS13);
        }
        if self.has(Self::TLS12) {
            versions.push(&rustls::version::TLS12);
        }
        versions
    }
}

/// The certificates of a server; the client's signature algorithms choose among them.
#[derive(Clone, Debug, Default)]
pub struct Identities(pub Vec<Arc<Identity>>);

impl ResolvesServerCert for Identities {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let [only] = &*self.0 {
            return Some(only.certified());
        }
        let certified: Vec<_> = self.0.iter().map(|identity| identity.certified()).collect();
        let fits = |scheme: &rustls::SignatureScheme| {
            certified.iter().find(|one| one.key.choose_scheme(&[*scheme]).is_some())
        };
        hello.signature_schemes().iter().find_map(fits).or(certified.first()).cloned()
    }
}

/// What clients are asked of certificates.
#[derive(Clone, Debug, Default)]
pub struct ClientAuth {
    /// Names of issuers, as DER, that clients are told of.
    pub issuers: Vec<Vec<u8>>,
}

/// Whose order of ciphers counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preference {
    /// The client's.
    Client,
    /// The server's.
    Server,
    /// The server's, with ChaCha20-Poly1305 in front for clients that begin with it (OpenSSL's `PrioritizeChaCha`):
    /// those have no instructions for AES.
    ServerChaCha,
}

/// What a configuration is made of.
pub struct ServerOptions<'a> {
    /// Versions.
    pub protocols: Protocols,
    /// Ciphers, best first.
    pub ciphers: &'a CipherList,
    /// Groups for the key exchange, best first.
    pub curves: &'a CurveList,
    /// Whose order of ciphers counts.
    pub preference: Preference,
    /// Certificates.
    pub identities: Identities,
    /// Whether clients are asked for certificates.
    pub client_auth: Option<ClientAuth>,
    /// Plaintext bytes of the longest records.
    pub record_size: usize,
    /// Protocols that TLS may carry, best first.
    pub alpn: Vec<Vec<u8>>,
    /// Where sessions are kept.
    pub sessions: Arc<dyn StoresServerSessions>,
    /// What makes tickets.
    pub tickets: Arc<dyn ProducesTickets>,
    /// Requests may come before the handshake has ended.
    pub early_data: bool,
}

/// Bytes of early data that a client may send, as OpenSSL's default.
const EARLY_DATA: u32 = 16 << 10;

/// How connections are accepted.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    usual: Arc<rustls::ServerConfig>,
    /// For clients that begin with ChaCha20-Poly1305, where they are treated otherwise.
    chacha: Option<Arc<rustls::ServerConfig>>,
}

impl ServerConfig {
    /// Makes the configuration.
    ///
    /// # Errors
    /// Versions, ciphers and groups that do not go together.
    pub fn new(options: &ServerOptions<'_>) -> Result<Self, rustls::Error> {
        let usual = Arc::new(build(options, provider(options.ciphers, options.curves))?);
        let chacha = match options.preference {
            Preference::Client | Preference::Server => None,
            Preference::ServerChaCha => {
                let mut provider = CryptoProvider::clone(&provider(options.ciphers, options.curves));
                provider.cipher_suites.sort_by_key(|suite| !is_chacha(suite.suite()));
                Some(Arc::new(build(options, Arc::new(provider))?))
            }
        };
        Ok(Self { usual, chacha })
    }

    /// The same with other certificates, for one connection.
    #[must_use]
    pub fn with_identities(&self, identities: &Identities) -> Self {
        let with = |config: &Arc<rustls::ServerConfig>| {
            let mut config = rustls::ServerConfig::clone(config);
            config.cert_resolver = Arc::new(identities.clone());
            Arc::new(config)
        };
        Self { usual: with(&self.usual), chacha: self.chacha.as_ref().map(with) }
    }

    /// A connection of a client that offers `ciphers`, best first.
    pub(super) fn connection(&self, ciphers: &[u16]) -> Result<UnbufferedServerConnection, rustls::Error> {
        let begins_with_chacha = || ciphers.first().is_some_and(|first| is_chacha((*first).into()));
        let config = self.chacha.as_ref().filter(|_| begins_with_chacha()).unwrap_or(&self.usual);
        UnbufferedServerConnection::new(Arc::clone(config))
    }
}

fn build(
    options: &ServerOptions<'_>,
    provider: Arc<CryptoProvider>,
) -> Result<rustls::ServerConfig, rustls::Error> {
    let protocols = options.protocols.possible_with(options.ciphers);
    let builder = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&protocols.versions())?;
    let verifier = match &options.client_auth {
        None => Arc::new(NoClientAuth) as Arc<dyn rustls::server::danger::ClientCertVerifier>,
        Some(auth) => {
            Lenient::new(auth.issuers.iter().map(|name| DistinguishedName::from(name.clone())).collect())
        }
    };
    let mut config =
        builder.with_client_cert_verifier(verifier).with_cert_resolver(Arc::new(options.identities.clone()));
    config.ignore_client_order = options.preference != Preference::Client;
    config.max_fragment_size = Some(options.record_size.clamp(512, 16 << 10) + 5);
    config.alpn_protocols.clone_from(&options.alpn);
    config.session_storage = Arc::clone(&options.sessions);
    config.ticketer = Arc::clone(&options.tickets);
    // An answer to a request that comes early has to wait for nothing, not even for a certificate.
    if options.early_data && options.client_auth.is_none() {
        config.max_early_data_size = EARLY_DATA;
        config.send_half_rtt_data = true;
    }
    Ok(config)
}

fn is_chacha(suite: CipherSuite) -> bool {
    matches!(
        suite,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
    )
}

pub(super) fn provider(ciphers: &CipherList, curves: &CurveList) -> Arc<CryptoProvider> {
    let mut provider = default_provider();
    provider.cipher_suites = ciphers.suites();
    provider.kx_groups = curves.groups();
    Arc::new(provider)
}
