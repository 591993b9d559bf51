//! TLS towards upstreams: `proxy_ssl_*` and its kin, under each protocol's prefix.
//!
//! What a connection was agreed under (name, certificate, settings) is part of what it is kept by, so none serves a
//! request that would not have made it.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use conf::{Directive, Error};
use net::tls::{
    Channel, CipherList, ClientConfig, ClientOptions, CurveList, Identity, Offer, Protocols, Purpose, Trust,
    Verification,
};
use net::{Deadline, Stream};

use crate::conf::compile::Cx;
use crate::request::Request;
use crate::tls::{ConfCommand, ConfCommands, Dynamic, Loaded, ObjectCache, PemFile, Written, read_trust};
use crate::variables::Template;

/// Most certificates with variables that are kept with sessions of their own.
const MOST_IDENTITIES: usize = 64;

/// Settings of TLS to upstreams; field names are the directives' without their prefix.
#[derive(Default)]
pub struct TlsSettings {
    pub certificate: Option<Written>,
    pub certificate_key: Option<Written>,
    pub certificate_cache: Option<Arc<ObjectCache>>,
    pub password_file: Arc<Vec<Vec<u8>>>,
    pub ciphers: CipherList,
    pub conf_command: ConfCommands,
    pub crl: Option<PemFile>,
    pub name: Option<Template>,
    pub protocols: Option<Protocols>,
    pub server_name: bool,
    pub session_reuse: bool,
    pub trusted_certificate: Option<PemFile>,
    pub verify: bool,
    pub verify_depth: usize,
    made: OnceLock<Arc<UpstreamTls>>,
}

impl Clone for TlsSettings {
    /// A copy is to be changed: what was made of the settings stays with the original.
    fn clone(&self) -> Self {
        Self {
            certificate: self.certificate.clone(),
            certificate_key: self.certificate_key.clone(),
            certificate_cache: self.certificate_cache.clone(),
            password_file: Arc::clone(&self.password_file),
            ciphers: self.ciphers.clone(),
            conf_command: self.conf_command.clone(),
            crl: self.crl.clone(),
            name: self.name.clone(),
            protocols: self.protocols,
            server_name: self.server_name,
            session_reuse: self.session_reuse,
            trusted_certificate: self.trusted_certificate.clone(),
            verify: self.verify,
            verify_depth: self.verify_depth,
            made: OnceLock::new(),
        }
    }
}

impl TlsSettings {
    /// For [`crate::module::Settings::enter`], where there are commands.
    pub(super) fn enter(&mut self) {
        self.conf_command.enter();
    }

    /// Whether a nested block must know that the commands are not its own.
    pub(super) fn has_commands(&self) -> bool {
        !self.conf_command.is_empty()
    }

    /// What the settings come to, once [`Self::make`] has made it.
    #[must_use]
    pub fn made(&self) -> Option<&Arc<UpstreamTls>> {
        self.made.get()
    }

    /// Makes what connections need; blocks that share the settings share it, and its sessions.
    ///
    /// # Errors
    /// nginx's sentences.
    pub fn make(&self, cx: &mut Cx<'_>, prefix: &str) -> Result<(), Error> {
        if self.made.get().is_some() {
            return Ok(());
        }
        let mut ciphers = self.ciphers.clone();
        let mut curves = CurveList::parse("auto").unwrap_or_default();
        let mut protocols = self.protocols.unwrap_or(Protocols::TLS12.with(Protocols::TLS13));
        let mut files = [const { None }; 2];
        self.conf_command.apply(ConfCommand {
            ciphers: &mut ciphers,
            curves: Some(&mut curves),
            protocols: &mut protocols,
            prefers_own_order: None,
            prefers_chacha: None,
            tickets: None,
            identity: &mut files,
        })?;
        let (identity, dynamic) = match &files {
            [Some(certificate), Some(key)] => {
                (Some(Loaded::default().identity(cx, certificate, key, &self.password_file)?), None)
            }
            _ => self.identity(cx, prefix)?,
        };
        let trust = match (self.verify, &self.trusted_certificate) {
            (false, _) => None,
            (true, None) => {
                let sentence = format!("no {prefix}_ssl_trusted_certificate for {prefix}_ssl_verify");
                return Err(Error::bare(sentence));
            }
            (true, Some(file)) => Some(read_trust(cx, &[file], self.crl.as_ref(), self.verify_depth)?),
        };
        let options = ClientOptions {
            protocols,
            ciphers: &ciphers,
            curves: &curves,
            identity,
            reuses_sessions: self.session_reuse,
        };
        let config =
            ClientConfig::new(options).map_err(|why| Error::bare(format!("SSL_CTX_new() failed: {why}")))?;
        let made = UpstreamTls { config, trust, dynamic, by_identity: Mutex::default() };
        let _ = self.made.set(Arc::new(made));
        Ok(())
    }

    fn identity(
        &self,
        cx: &mut Cx<'_>,
        prefix: &str,
    ) -> Result<(Option<Arc<Identity>>, Option<Dynamic>), Error> {
        let Some(certificate) = self.certificate.as_ref().filter(|one| one.fixed() != Some(b"")) else {
            return Ok((None, None));
        };
        let Some(key) = &self.certificate_key else {
            let shown = String::from_utf8_lossy(certificate.fixed().unwrap_or_default()).into_owned();
            let sentence =
                format!("no \"{prefix}_ssl_certificate_key\" is defined for certificate \"{shown}\"");
            return Err(Error::bare(sentence));
        };
        if let (Some(certificate), Some(key)) = (certificate.fixed(), key.fixed()) {
            let identity = Loaded::default().identity(cx, certificate, key, &self.password_file)?;
            return Ok((Some(identity), None));
        }
        let dynamic = Dynamic {
            certificate: certificate.clone(),
            key: key.clone(),
            passwords: Arc::clone(&self.password_file),
            cache: self.certificate_cache.clone(),
            conf_prefix: cx.paths.conf_prefix.clone(),
        };
        Ok((None, Some(dynamic)))
    }

    /// `*_ssl_protocols`.
    ///
    /// # Errors
    /// Names of nothing, or of nothing that can be had.
    pub fn set_protocols(&mut self, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
        self.protocols = Some(crate::tls::read_protocols(cx, d)?);
        Ok(())
    }

    /// `*_ssl_ciphers`.
    ///
    /// # Errors
    /// As OpenSSL says it.
    pub fn set_ciphers(&mut self, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
        self.ciphers = crate::tls::read_ciphers(cx, d)?;
        Ok(())
    }
}

/// TLS to the upstreams of one set of settings.
pub struct UpstreamTls {
    config: ClientConfig,
    trust: Option<Trust>,
    dynamic: Option<Dynamic>,
    by_identity: Mutex<Vec<(Arc<Identity>, Arc<ClientConfig>)>>,
}

impl fmt::Debug for UpstreamTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamTls").finish_non_exhaustive()
    }
}

/// What of a connection's TLS is known before there is one.
pub struct Wanted {
    tls: Arc<UpstreamTls>,
    /// The name that the peer is asked for and judged by, without port.
    name: Box<[u8]>,
    tells_name: bool,
    alpn: Offer,
    config: Option<Arc<ClientConfig>>,
    /// What must be the same for a connection to serve this request.
    pub channel: Arc<str>,
}

/// Why a connection's TLS does not stand.
#[derive(Debug)]
pub enum TlsError {
    /// The handshake failed.
    Handshake(io::Error),
    /// It took too long.
    TimedOut,
    /// The certificate is no good: nginx's sentence.
    Certificate(String),
    /// Our own certificate cannot be loaded, or rustls takes no such settings.
    Setup(String),
}

impl Wanted {
    /// What this request asks of TLS; `host` is the upstream's name.
    ///
    /// # Errors
    /// [`TlsError::Setup`].
    pub fn new(r: &Request, settings: &TlsSettings, host: &str, alpn: Offer) -> Result<Self, TlsError> {
        let Some(tls) = settings.made() else {
            return Err(TlsError::Setup("no TLS was configured".to_owned()));
        };
        let name = match &settings.name {
            Some(name) => name.value(r),
            None => host.as_bytes().to_vec(),
        };
        let name: Box<[u8]> = without_port(&name).into();
        let config = match &tls.dynamic {
            None => None,
            Some(dynamic) => {
                let identity = dynamic.load(r).map_err(TlsError::Setup)?;
                identity.map(|identity| tls.with_identity(identity))
            }
        };
        let own = config.as_ref().map_or(std::ptr::null(), Arc::as_ptr);
        let shown = String::from_utf8_lossy(&name);
        let offered = String::from_utf8_lossy(&alpn);
        let channel = format!("{:p} {own:p} {offered} {shown}", Arc::as_ptr(tls)).into();
        let tells_name = settings.server_name;
        Ok(Self { tls: Arc::clone(tls), name, tells_name, alpn, config, channel })
    }

    /// Does the handshake and judges the peer; nothing was sent to it before that.
    ///
    /// # Errors
    /// [`TlsError`].
    pub async fn secure(
        &self,
        stream: &Stream,
        peer: &Arc<str>,
        deadline: &Deadline,
    ) -> Result<(), TlsError> {
        let channel = Channel {
            peer: Arc::clone(peer),
            name: self.name.clone(),
            tells_name: self.tells_name,
            alpn: self.alpn.clone(),
        };
        let config = self.config.as_deref().unwrap_or(&self.tls.config);
        stream.connect_tls(config, channel).map_err(|why| TlsError::Setup(why.to_string()))?;
        stream.handshake(deadline).await.map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => TlsError::TimedOut,
            _ => TlsError::Handshake(error),
        })?;
        let (Some(trust), Some(session)) = (&self.tls.trust, stream.tls()) else { return Ok(()) };
        let chain = session.peer_certificates();
        if let Verification::Bad(flaw) = trust.judge(&chain, Purpose::Server) {
            return Err(TlsError::Certificate(format!(
                "upstream SSL certificate verify error: ({}:{})",
                flaw.number(),
                flaw.text()
            )));
        }
        let leaf = chain.first().and_then(|der| net::tls::x509::Certificate::parse(der).ok());
        if leaf.is_some_and(|leaf| net::tls::matches_host(&leaf, &self.name)) {
            return Ok(());
        }
        let shown = String::from_utf8_lossy(&self.name);
        Err(TlsError::Certificate(format!("upstream SSL certificate does not match \"{shown}\"")))
    }
}

impl UpstreamTls {
    /// The configuration that shows this certificate; the same one for the same certificate, so that its sessions
    /// are found again.
    fn with_identity(&self, identity: Arc<Identity>) -> Arc<ClientConfig> {
        let mut known = self.by_identity.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, config)) = known.iter().find(|(own, _)| own.is_same(&identity)) {
            return Arc::clone(config);
        }
        if known.len() >= MOST_IDENTITIES {
            known.remove(0);
        }
        let config = Arc::new(self.config.with_identity(Arc::clone(&identity)));
        known.push((identity, Arc::clone(&config)));
        config
    }
}

/// The name may come with a port, as `$proxy_host` does (`ngx_http_upstream_ssl_name`).
fn without_port(name: &[u8]) -> &[u8] {
    let from = match name.first() {
        Some(b'[') => name.iter().position(|byte| *byte == b']').unwrap_or(0),
        _ => 0,
    };
    let colon = name[from..].iter().position(|byte| *byte == b':');
    colon.map_or(name, |at| &name[..from + at])
}

/// The rows of TLS that an upstream protocol has, under its prefix: `relay_tls_rows!("proxy", ProxySettings, ROWS)`
/// makes `static ROWS`. The settings have a field `relay`. A fourth argument names contexts other than those of `http`.
#[macro_export]
macro_rules! relay_tls_rows {
    ($prefix:literal, $settings:ty, $rows:ident) => {
        $crate::relay_tls_rows!($prefix, $settings, $rows, conf::Contexts::HTTP_ALL);
    };
    ($prefix:literal, $settings:ty, $rows:ident, $contexts:expr) => {
        pub(super) static $rows: [$crate::rows::Row<$settings>; 14] = {
            use std::sync::Arc;

            use conf::{Arity, Contexts};
            use $crate::rows::{flag, number, row, template, value};
            use $crate::tls::PemFile;
            use $crate::tls::{ObjectCache, Written, read_passwords};
            const ALL: Contexts = $contexts;
            [
                row(
                    concat!($prefix, "_ssl_certificate"),
                    ALL,
                    Arity::ONE,
                    "",
                    "The certificate that upstreams are shown.",
                    |s, cx, d| {
                        Arc::make_mut(&mut s.relay.tls).certificate = Some(Written::compile(cx, d.arg(0)?)?);
                        Ok(())
                    },
                ),
                row(
                    concat!($prefix, "_ssl_certificate_key"),
                    ALL,
                    Arity::ONE,
                    "",
                    "The key of that certificate.",
                    |s, cx, d| {
                        let key = Written::compile(cx, d.arg(0)?)?;
                        Arc::make_mut(&mut s.relay.tls).certificate_key = Some(key);
                        Ok(())
                    },
                ),
                value(
                    concat!($prefix, "_ssl_certificate_cache"),
                    ALL,
                    Arity::TAKE123,
                    "off",
                    "Keeps certificates whose names have variables.",
                    |s, d| {
                        Arc::make_mut(&mut s.relay.tls).certificate_cache = ObjectCache::read(d)?;
                        Ok(())
                    },
                ),
                row(
                    concat!($prefix, "_ssl_password_file"),
                    ALL,
                    Arity::ONE,
                    "",
                    "Passwords of encrypted keys.",
                    |s, cx, d| {
                        Arc::make_mut(&mut s.relay.tls).password_file = read_passwords(cx, d.arg(0)?)?;
                        Ok(())
                    },
                ),
                row(
                    concat!($prefix, "_ssl_ciphers"),
                    ALL,
                    Arity::ONE,
                    "DEFAULT",
                    "Ciphers in OpenSSL's language.",
                    |s, cx, d| Arc::make_mut(&mut s.relay.tls).set_ciphers(cx, d),
                ),
                row::<$settings>(
                    concat!($prefix, "_ssl_conf_command"),
                    ALL,
                    Arity::TWO,
                    "",
                    "A setting by OpenSSL's own name.",
                    |s, _, d| Arc::make_mut(&mut s.relay.tls).conf_command.add(d),
                )
                .many(),
                row(
                    concat!($prefix, "_ssl_crl"),
                    ALL,
                    Arity::ONE,
                    "",
                    "Lists of revoked certificates.",
                    |s, cx, d| {
                        Arc::make_mut(&mut s.relay.tls).crl = Some(PemFile::named(cx, d.arg(0)?));
                        Ok(())
                    },
                ),
                template(
                    concat!($prefix, "_ssl_name"),
                    ALL,
                    "The name that upstreams are asked for and judged by.",
                    |s, v| Arc::make_mut(&mut s.relay.tls).name = Some(v),
                ),
                row(
                    concat!($prefix, "_ssl_protocols"),
                    ALL,
                    Arity::MORE1,
                    "TLSv1.2 TLSv1.3",
                    "Versions of TLS.",
                    |s: &mut $settings, cx, d| Arc::make_mut(&mut s.relay.tls).set_protocols(cx, d),
                )
                .many(),
                flag(
                    concat!($prefix, "_ssl_server_name"),
                    ALL,
                    "off",
                    "Tells upstreams the name.",
                    |s, v| Arc::make_mut(&mut s.relay.tls).server_name = v,
                ),
                flag(concat!($prefix, "_ssl_session_reuse"), ALL, "on", "Resumes sessions.", |s, v| {
                    Arc::make_mut(&mut s.relay.tls).session_reuse = v
                }),
                row(
                    concat!($prefix, "_ssl_trusted_certificate"),
                    ALL,
                    Arity::ONE,
                    "",
                    "Whose certificates are good.",
                    |s, cx, d| {
                        Arc::make_mut(&mut s.relay.tls).trusted_certificate =
                            Some(PemFile::named(cx, d.arg(0)?));
                        Ok(())
                    },
                ),
                flag(
                    concat!($prefix, "_ssl_verify"),
                    ALL,
                    "off",
                    "Judges certificates of upstreams.",
                    |s, v| Arc::make_mut(&mut s.relay.tls).verify = v,
                ),
                number(
                    concat!($prefix, "_ssl_verify_depth"),
                    ALL,
                    "1",
                    "Certificates between an upstream's and a trusted one.",
                    |s, v| {
                        Arc::make_mut(&mut s.relay.tls).verify_depth =
                            usize::try_from(v).unwrap_or(usize::MAX)
                    },
                ),
            ]
        };
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_no_part_of_a_name() {
        let check = |name: &str, expected: &str| {
            assert_eq!(without_port(name.as_bytes()), expected.as_bytes());
        };
        check("example.com", "example.com");
        check("example.com:8443", "example.com");
        check("[::1]:8443", "[::1]");
        check("[::1]", "[::1]");
        check("", "");
    }
}
