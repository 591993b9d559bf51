//! `ngx_http_ssl_module`: TLS towards clients.
//!
//! The directives of a server block come to one configuration for rustls, made at load; files come through the
//! master, so the worker needs no right to read a key.

mod conf;
mod ocsp;
mod rows;
mod stapling;
mod variables;

use std::sync::Arc;

use ::conf::Error;
use ::conf::zones::Zone;
use http::conf::Lines;
use http::conf::compile::Cx;
use http::module::{Module, Registry, Settings, Slot};
use http::rows::Row;
use http::tls::{ConfCommands, Loaded, ObjectCache, OcspCache, PemFile, Reach, VerifyClient, Written};
use net::tls::{CipherList, CurveList, Protocols, SessionCache, TicketKeys};

/// `ngx_http_ssl_module`.
pub struct Ssl;

static SLOT: Slot = Slot::new();

impl Module for Ssl {
    const NAME: &'static str = "ngx_http_ssl_module";
    const ALSO: &'static [&'static str] = &["ngx_stream_ssl_module"];
    const SLOT: &'static Slot = &SLOT;
    type Settings = SslSettings;
    type Main = Loaded;

    fn rows() -> &'static [Row<SslSettings>] {
        &rows::ROWS
    }

    fn register(registry: &mut Registry) {
        registry.variables(&variables::VARIABLES);
        registry.stream_variables(&variables::VARIABLES);
    }

    fn finish_server(s: &SslSettings, main: &mut Loaded, cx: &mut Cx<'_>) -> Result<(), Error> {
        conf::finish_server(s, main, cx)
    }

    fn finish(main: &mut Loaded, _: &mut Cx<'_>) -> Result<(), Error> {
        // Who needs them holds them by now.
        *main = Loaded::default();
        Ok(())
    }
}

/// `ssl_session_cache` without its shared zone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Builtin {
    /// Clients are told that sessions are not kept.
    Off,
    /// They are not kept, and nobody is told.
    #[default]
    Nothing,
    /// Kept by this server alone; bytes.
    Bytes(usize),
}

/// Settings of the ssl module in one block.
#[derive(Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a directive of its own that is on or off")]
pub struct SslSettings {
    certificates: Lines<Written>,
    keys: Lines<Written>,
    cache: Option<Arc<ObjectCache>>,
    passwords: Arc<Vec<Vec<u8>>>,
    protocols: Protocols,
    ciphers: Arc<CipherList>,
    curves: Arc<CurveList>,
    prefer_server_ciphers: bool,
    /// `ssl_conf_command Options PrioritizeChaCha`
    prioritize_chacha: bool,
    buffer_size: usize,
    builtin: Builtin,
    has_own_cache: bool,
    shared: Option<Arc<SessionCache>>,
    session_tickets: bool,
    ticket_files: Lines<Arc<[u8]>>,
    ticket_keys: Option<Arc<TicketKeys>>,
    session_timeout_sec: u64,
    reject_handshake: bool,
    early_data: bool,
    alpn: Arc<Vec<Vec<u8>>>,
    handshake_timeout: u64,
    conf_commands: ConfCommands,
    ocsp: Option<Reach>,
    ocsp_responder: Option<Box<[u8]>>,
    ocsp_cache: Option<Zone<OcspCache>>,
    stapling: bool,
    stapling_file: Option<PemFile>,
    stapling_responder: Option<Box<[u8]>>,
    stapling_verify: bool,
    verify_client: Option<VerifyClient>,
    verify_depth: usize,
    client_certificate: Option<PemFile>,
    trusted_certificate: Option<PemFile>,
    crl: Option<PemFile>,
    dhparam: Option<PemFile>,
}

impl Default for SslSettings {
    fn default() -> Self {
        Self {
            certificates: Lines::default(),
            keys: Lines::default(),
            cache: None,
            passwords: Arc::default(),
            protocols: Protocols::NONE,
            ciphers: Arc::default(),
            curves: Arc::default(),
            prefer_server_ciphers: false,
            prioritize_chacha: false,
            buffer_size: 0,
            builtin: Builtin::Nothing,
            has_own_cache: false,
            shared: None,
            session_tickets: true,
            ticket_files: Lines::default(),
            ticket_keys: None,
            session_timeout_sec: 0,
            reject_handshake: false,
            early_data: false,
            alpn: Arc::default(),
            handshake_timeout: 0,
            conf_commands: ConfCommands::default(),
            ocsp: None,
            ocsp_responder: None,
            ocsp_cache: None,
            stapling: false,
            stapling_file: None,
            stapling_responder: None,
            stapling_verify: false,
            verify_client: None,
            verify_depth: 1,
            client_certificate: None,
            trusted_certificate: None,
            crl: None,
            dhparam: None,
        }
    }
}

impl Settings for SslSettings {
    fn enter(&mut self) {
        self.conf_commands.enter();
        self.certificates.enter();
        self.keys.enter();
        self.has_own_cache = false;
        self.ticket_files.enter();
    }
}
