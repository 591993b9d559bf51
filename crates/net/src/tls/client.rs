//! TLS towards upstreams: what `proxy_ssl_*` and its kin come to for rustls.
//!
//! Sessions are kept by channel: what was made with one peer under one name and certificate is offered to no other.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::{
    ClientSessionStore, ResolvesClientCert, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
    UnbufferedClientConnection,
};
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use rustls::{NamedGroup, SignatureScheme};

use super::ciphers::CipherList;
use super::curves::CurveList;
use super::identity::Identity;
use super::server::{Protocols, provider};
use super::session::Session;
use super::verify::Lenient;
use crate::stream::Stream;

/// Most channels that one configuration keeps sessions for.
const MOST_CHANNELS: usize = 512;
/// Tickets of TLS 1.3 that a channel keeps; each is used once.
const MOST_TICKETS: usize = 8;

/// What a configuration is made of.
pub struct ClientOptions<'a> {
    /// Versions.
    pub protocols: Protocols,
    /// Ciphers, best first.
    pub ciphers: &'a CipherList,
    /// Groups for the key exchange, best first.
    pub curves: &'a CurveList,
    /// The certificate to show, where it is always the same.
    pub identity: Option<Arc<Identity>>,
    /// Sessions are kept and resumed.
    pub reuses_sessions: bool,
}

/// How connections are made.
pub struct ClientConfig {
    base: rustls::ClientConfig,
    reuses_sessions: bool,
    channels: Mutex<HashMap<Channel, Arc<rustls::ClientConfig>>>,
}

/// What must be the same for a session to be resumed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Channel {
    /// The peer's address.
    pub peer: Arc<str>,
    /// The name that the peer is asked for and judged by.
    pub name: Box<[u8]>,
    /// Whether the peer is told the name.
    pub tells_name: bool,
    /// The protocols that are offered.
    pub alpn: Offer,
}

/// The protocols that a client offers, in its order, each behind a byte that tells its length (RFC 7301, 3.1); empty
/// for none.
pub type Offer = Cow<'static, [u8]>;

/// The protocols of an offer; what is cut short is left away.
fn offered(mut offer: &[u8]) -> Vec<Vec<u8>> {
    let mut protocols = Vec::new();
    while let Some((length, rest)) = offer.split_first()
        && let Some((protocol, rest)) = rest.split_at_checked(usize::from(*length))
    {
        protocols.push(protocol.to_vec());
        offer = rest;
    }
    protocols
}

impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConfig").finish_non_exhaustive()
    }
}

impl ClientConfig {
    /// Makes the configuration.
    ///
    /// # Errors
    /// Versions, ciphers and groups that do not go together.
    pub fn new(options: ClientOptions<'_>) -> Result<Self, rustls::Error> {
        let provider = provider(options.ciphers, options.curves);
        let protocols = options.protocols.possible_with(options.ciphers);
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&protocols.versions())?
            .dangerous()
            .with_custom_certificate_verifier(Lenient::new(Vec::new()));
        let mut base = match options.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder.with_client_cert_resolver(Arc::new(Shown(identity))),
        };
        base.resumption = Resumption::disabled();
        let reuses_sessions = options.reuses_sessions;
        Ok(Self { base, reuses_sessions, channels: Mutex::default() })
    }

    /// The same with a certificate of its own.
    #[must_use]
    pub fn with_identity(&self, identity: Arc<Identity>) -> Self {
        let mut base = self.base.clone();
        base.client_auth_cert_resolver = Arc::new(Shown(identity));
        Self { base, reuses_sessions: self.reuses_sessions, channels: Mutex::default() }
    }

    fn of_channel(&self, channel: Channel) -> Arc<rustls::ClientConfig> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = channels.get(&channel) {
            return Arc::clone(known);
        }
        let mut config = self.base.clone();
        config.alpn_protocols = offered(&channel.alpn);
        if self.reuses_sessions {
            config.resumption = Resumption::store(Arc::new(Kept::default()));
        }
        if channels.len() >= MOST_CHANNELS {
            // Whoever still comes makes its own anew.
            channels.clear();
        }
        let config = Arc::new(config);
        channels.insert(channel, Arc::clone(&config));
        config
    }
}

impl Stream {
    /// Puts the connection under TLS as its client; [`Stream::handshake`] begins it.
    ///
    /// # Errors
    /// What rustls says of the configuration.
    pub fn connect_tls(&self, config: &ClientConfig, channel: Channel) -> Result<(), rustls::Error> {
        let name = if channel.tells_name { told_name(&channel.name) } else { None };
        // An address is never told to the peer.
        let name = name.unwrap_or(ServerName::IpAddress(IpAddr::V4(Ipv4Addr::UNSPECIFIED).into()));
        let conn = UnbufferedClientConnection::new(config.of_channel(channel), name)?;
        self.secure(Session::client(conn));
        Ok(())
    }
}

/// The name as a peer may be told it: addresses are not (RFC 6066, 3).
fn told_name(name: &[u8]) -> Option<ServerName<'static>> {
    let text = std::str::from_utf8(name).ok()?;
    match ServerName::try_from(text.to_owned()).ok()? {
        name @ ServerName::DnsName(_) => Some(name),
        _ => None,
    }
}

/// A certificate that every peer is shown who asks for one.
#[derive(Debug)]
struct Shown(Arc<Identity>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let certified = self.0.certified();
        certified.key.choose_scheme(schemes).is_some().then_some(certified)
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// The sessions of one channel.
#[derive(Debug, Default)]
struct Kept(Mutex<Sessions>);

#[derive(Debug, Default)]
struct Sessions {
    group: Option<NamedGroup>,
    tls12: Option<Tls12ClientSessionValue>,
    tls13: VecDeque<Tls13ClientSessionValue>,
}

impl Kept {
    fn lock(&self) -> std::sync::MutexGuard<'_, Sessions> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientSessionStore for Kept {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.lock().group = Some(group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.lock().group
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.lock().tls12 = Some(value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.lock().tls12.clone()
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.lock().tls12 = None;
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        let mut sessions = self.lock();
        if sessions.tls13.len() >= MOST_TICKETS {
            sessions.tls13.pop_front();
        }
        sessions.tls13.push_back(value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.lock().tls13.pop_back()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_are_told() {
        let check = |name: &str, expected: bool| {
            assert_eq!(told_name(name.as_bytes()).is_some(), expected, "{name}");
        };
        check("example.com", true);
        check("my_upstream", true);
        check("127.0.0.1", false);
        check("::1", false);
        check("[::1]", false);
        check("a b", false);
        check("", false);
    }
}
