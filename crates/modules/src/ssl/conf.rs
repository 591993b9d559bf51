//! From the settings of a server block to its TLS (`ngx_http_ssl_merge_srv_conf`).

use std::sync::Arc;

use conf::Error;
use http::conf::compile::Cx;
use http::request::Request;
use http::side::Side;
use http::tls::{
    Alpn, Certificates, ClientPolicy, ConfCommand, Dynamic, Loaded, PemFile, ServerTls, VerifyClient,
    Written, read_trust,
};
use net::tls::kept::{ProducesTickets, StoresServerSessions};
use net::tls::pem::{self, Block};
use net::tls::{
    ClientAuth, Clients, Context, Identities, Identity, NoSessions, NoTickets, Preference, ServerConfig,
    ServerOptions, SessionCache, Sessions, TicketKeys, Tickets,
};
use os::errlog::Level;

use super::{Builtin, SslSettings, ocsp, stapling};

/// Bytes of the records that are sent where nothing is said.
const RECORD_SIZE: usize = 16 << 10;

/// Makes the TLS of the server that is being read, where it has any.
pub(super) fn finish_server(s: &SslSettings, loaded: &mut Loaded, cx: &mut Cx<'_>) -> Result<(), Error> {
    if s.certificates.is_empty() && !s.reject_handshake {
        return Ok(());
    }
    if s.keys.len() < s.certificates.len() {
        let last = s.certificates.last().and_then(Written::fixed).unwrap_or_default();
        let last = String::from_utf8_lossy(last);
        let sentence = format!("no \"ssl_certificate_key\" is defined for certificate \"{last}\"");
        return Err(Error::bare(sentence));
    }
    let mut s = s.clone();
    let mut files = [const { None }; 2];
    s.conf_commands.clone().apply(ConfCommand {
        ciphers: Arc::make_mut(&mut s.ciphers),
        curves: Some(Arc::make_mut(&mut s.curves)),
        protocols: &mut s.protocols,
        prefers_own_order: Some(&mut s.prefer_server_ciphers),
        prefers_chacha: Some(&mut s.prioritize_chacha),
        tickets: Some(&mut s.session_tickets),
        identity: &mut files,
    })?;
    let s = &s;
    let mut fixed: Vec<(String, Arc<Identity>)> = Vec::new();
    let mut dynamic = Vec::new();
    for (certificate, key) in s.certificates.iter().zip(s.keys.iter()) {
        match (certificate.fixed(), key.fixed()) {
            (Some(certificate), Some(key)) => {
                let identity = loaded.identity(cx, certificate, key, &s.passwords)?;
                add(&mut fixed, cx.conf_path(certificate).display().to_string(), identity);
            }
            _ => dynamic.push(Dynamic {
                certificate: certificate.clone(),
                key: key.clone(),
                passwords: Arc::clone(&s.passwords),
                cache: s.cache.clone(),
                conf_prefix: cx.paths.conf_prefix.clone(),
            }),
        }
    }
    if let [Some(certificate), Some(key)] = &files {
        let identity = loaded.identity(cx, certificate, key, &s.passwords)?;
        add(&mut fixed, cx.conf_path(certificate).display().to_string(), identity);
    }
    let mut client = client_policy(s, cx)?;
    let ocsp = ocsp::set_up(s, cx)?;
    if let Some(policy) = &mut client {
        policy.ocsp = ocsp;
    }
    if let Some(file) = &s.dhparam {
        check_dhparam(file, cx)?;
    }
    let staplings = if s.stapling { stapling::set_up(s, &mut fixed, cx)? } else { Vec::new() };
    let identities = Identities(fixed.into_iter().map(|(_, identity)| identity).collect());
    let issuers = issuers(s, cx)?;
    let context = context(s, &identities, client.as_ref());
    let clients = if client.is_some() { Clients::Judged } else { Clients::Anyone };
    let (settings, sessions) = (s.clone(), Kept::new(s, context, clients));
    let certificates: Option<Arc<dyn Certificates>> = (!dynamic.is_empty())
        .then(|| Arc::new(ByConnection { fixed: identities.0.clone(), dynamic }) as Arc<dyn Certificates>);
    let side = cx.side;
    let make = move |alpn| make(&settings, &identities, &issuers, &sessions, spoken(side, &settings, alpn));
    let mut tls = ServerTls::new(Box::new(make)).map_err(Error::bare)?;
    tls.rejects = s.reject_handshake;
    tls.staplings = staplings;
    tls.client = client;
    tls.certificates = certificates;
    tls.has_certificates = !s.certificates.is_empty();
    tls.handshake_timeout = s.handshake_timeout;
    if let Some(server) = &mut cx.server {
        server.tls = Some(Arc::new(tls));
    }
    Ok(())
}

/// Adds a certificate; one with a key of the same kind gives way to it, as in OpenSSL.
fn add(list: &mut Vec<(String, Arc<Identity>)>, name: String, identity: Arc<Identity>) {
    list.retain(|(_, other)| !identity.replaces(other));
    list.push((name, identity));
}

/// What clients' certificates must be.
fn client_policy(s: &SslSettings, cx: &mut Cx<'_>) -> Result<Option<ClientPolicy>, Error> {
    let Some(verify) = s.verify_client else {
        // Nobody is judged by them, but what cannot be read is refused.
        let trusted: Vec<&PemFile> = s.trusted_certificate.iter().collect();
        read_trust(cx, &trusted, s.crl.as_ref(), 0)?;
        return Ok(None);
    };
    let files: Vec<_> = [&s.client_certificate, &s.trusted_certificate].into_iter().flatten().collect();
    if files.is_empty() && verify != VerifyClient::OptionalNoCa {
        let sentence = "no ssl_client_certificate or ssl_trusted_certificate for ssl_verify_client";
        return Err(Error::bare(sentence));
    }
    let trust = read_trust(cx, &files, s.crl.as_ref(), s.verify_depth)?;
    Ok(Some(ClientPolicy { verify, trust: Arc::new(trust), ocsp: None }))
}

/// The names of issuers that clients are told of.
fn issuers(s: &SslSettings, cx: &mut Cx<'_>) -> Result<Vec<Vec<u8>>, Error> {
    let (Some(file), Some(_)) = (&s.client_certificate, s.verify_client) else { return Ok(Vec::new()) };
    let trust = read_trust(cx, &[file], None, 0)?;
    Ok(trust.certificates().iter().map(|certificate| certificate.subject().to_vec()).collect())
}

/// `ssl_dhparam`: the parameters are of no use here, and yet they must be there.
fn check_dhparam(file: &PemFile, cx: &mut Cx<'_>) -> Result<(), Error> {
    let text = file.read(cx).map_err(|why| stapling::not_opened(file, &why))?;
    let has_parameters = |blocks: &[Block]| {
        blocks.iter().any(|block| matches!(&*block.label, "DH PARAMETERS" | "X9.42 DH PARAMETERS"))
    };
    let reason = match pem::blocks(&text) {
        Ok(blocks) if has_parameters(&blocks) => return Ok(()),
        Ok(_) => "error:0480006C:PEM routines::no start line:Expecting: DH PARAMETERS",
        Err(reason) => reason,
    };
    Err(Error::bare(format!("PEM_read_bio_DHparams(\"{}\") failed (SSL: {reason})", file.path().display())))
}

/// Certificates of which some are known only once a client connects.
struct ByConnection {
    fixed: Vec<Arc<Identity>>,
    dynamic: Vec<Dynamic>,
}

impl Certificates for ByConnection {
    fn for_connection(&self, r: &Request) -> Option<Identities> {
        let mut all = self.fixed.clone();
        for dynamic in &self.dynamic {
            match dynamic.load(r) {
                Ok(identity) => all.extend(identity),
                Err(why) => {
                    r.log(Level::Error, format_args!("{why} while SSL handshaking"));
                    return None;
                }
            }
        }
        Some(Identities(all))
    }
}

/// What sessions of this server are good for: its certificates and whom it trusts.
fn context(s: &SslSettings, identities: &Identities, client: Option<&ClientPolicy>) -> Context {
    let names: Vec<String> = s.certificates.iter().map(|written| format!("{written:?}")).collect();
    let own = identities.0.iter().map(|identity| identity.chain().leaf().der());
    let policy = client.map(|policy| format!("{:?} {:?}", policy.verify, policy.trust.context()));
    Context::of(own.chain(names.iter().chain(&policy).map(String::as_bytes)))
}

/// Sessions and tickets of a server; all its configurations use the same.
struct Kept {
    sessions: Arc<dyn StoresServerSessions>,
    tickets: Arc<dyn ProducesTickets>,
}

impl Kept {
    fn new(s: &SslSettings, context: Context, clients: Clients) -> Self {
        let cache = match (&s.shared, s.builtin) {
            (Some(shared), _) => Some(Arc::clone(shared)),
            (None, Builtin::Bytes(bytes)) => Some(Arc::new(SessionCache::new(bytes))),
            // Requests before the handshake's end are only safe where each session is used once.
            (None, _) if s.early_data => Some(Arc::new(SessionCache::new(8 << 20))),
            (None, _) => None,
        };
        let timeout_sec = s.session_timeout_sec;
        let keys = match (&s.ticket_keys, &cache) {
            (Some(keys), _) => Arc::clone(keys),
            (None, Some(cache)) => Arc::clone(&cache.ticket_keys),
            (None, None) => Arc::new(TicketKeys::rotating()),
        };
        let tickets: Arc<dyn ProducesTickets> = if s.session_tickets && !s.early_data {
            Arc::new(Tickets { keys, context, timeout_sec })
        } else {
            Arc::new(NoTickets)
        };
        let sessions: Arc<dyn StoresServerSessions> = match cache {
            Some(cache) => Arc::new(Sessions { cache, context, timeout_sec, clients }),
            None => Arc::new(NoSessions),
        };
        Self { sessions, tickets }
    }
}

/// The protocols that a server speaks, for those clients that offer some.
fn spoken(side: Side, s: &SslSettings, alpn: Alpn) -> Vec<Vec<u8>> {
    if side == Side::Stream {
        return s.alpn.to_vec();
    }
    let mut protocols: Vec<Vec<u8>> = [&b"http/1.1"[..], b"http/1.0", b"http/0.9"].map(<[u8]>::to_vec).into();
    if alpn == Alpn::Http2 {
        protocols.insert(0, b"h2".to_vec());
    }
    protocols
}

fn make(
    s: &SslSettings,
    identities: &Identities,
    issuers: &[Vec<u8>],
    kept: &Kept,
    protocols: Vec<Vec<u8>>,
) -> Result<ServerConfig, String> {
    let options = ServerOptions {
        protocols: s.protocols,
        ciphers: &s.ciphers,
        curves: &s.curves,
        preference: match (s.prefer_server_ciphers, s.prioritize_chacha) {
            (false, _) => Preference::Client,
            (true, false) => Preference::Server,
            (true, true) => Preference::ServerChaCha,
        },
        identities: identities.clone(),
        client_auth: s.verify_client.map(|_| ClientAuth { issuers: issuers.to_vec() }),
        // In `stream` no directive sets it.
        record_size: if s.buffer_size == 0 { RECORD_SIZE } else { s.buffer_size },
        alpn: protocols,
        sessions: Arc::clone(&kept.sessions),
        tickets: Arc::clone(&kept.tickets),
        early_data: s.early_data,
    };
    ServerConfig::new(&options).map_err(|error| format!("SSL_CTX_new() failed: {error}"))
}
