//! The directives of the ssl module.

use std::sync::Arc;

use conf::zones::ZoneData;
use conf::{Arity, Contexts, Directive, Error};
use http::conf::compile::Cx;
use http::rows::{Row, flag, number, row, size, time, value, without_effect};
use http::tls::{
    ObjectCache, PemFile, VerifyClient, Written, read_ciphers, read_curves, read_passwords, read_protocols,
};
use net::tls::{SessionCache, TicketKeys};

use super::{Builtin, SslSettings, ocsp};

const HTTP: Contexts = Contexts::HTTP_SERVER;
const STREAM: Contexts = Contexts::STREAM_ALL;
const ALL: Contexts = HTTP.or(STREAM);

#[rustfmt::skip]
pub(super) static ROWS: [Row<SslSettings>; 32] = [
    row("ssl_certificate", ALL, Arity::ONE, "", "A certificate with its chain.", certificate).many(),
    row("ssl_certificate_key", ALL, Arity::ONE, "", "The key of a certificate.", certificate_key).many(),
    value("ssl_certificate_cache", ALL, Arity::TAKE123, "off", "Keeps certificates whose names have variables.", |s, d| {
        s.cache = ObjectCache::read(d)?;
        Ok(())
    }),
    row("ssl_protocols", ALL, Arity::MORE1, "TLSv1.2 TLSv1.3", "Versions of TLS.", |s: &mut SslSettings, cx, d| {
        s.protocols = read_protocols(cx, d)?;
        Ok(())
    }).many(),
    row("ssl_ciphers", ALL, Arity::ONE, "HIGH:!aNULL:!MD5", "Ciphers in OpenSSL's language.", |s, cx, d| {
        s.ciphers = Arc::new(read_ciphers(cx, d)?);
        Ok(())
    }),
    flag("ssl_prefer_server_ciphers", ALL, "off", "The server's order of ciphers counts.", |s, v| s.prefer_server_ciphers = v),
    row("ssl_ecdh_curve", ALL, Arity::ONE, "auto", "Groups for the key exchange.", |s, cx, d| {
        s.curves = Arc::new(read_curves(cx, d)?);
        Ok(())
    }),
    size("ssl_buffer_size", HTTP, "16k", "Size of the records that are sent.", |s, v| s.buffer_size = v),
    row("ssl_session_cache", ALL, Arity::TAKE12, "none", "Where sessions are kept.", session_cache).many(),
    flag("ssl_session_tickets", ALL, "on", "Clients keep sessions in tickets.", |s, v| s.session_tickets = v),
    row("ssl_session_ticket_key", ALL, Arity::ONE, "", "A file with a key for tickets.", ticket_key).many(),
    time("ssl_session_timeout", ALL, "5m", "How long a session may be resumed.", |s, v| s.session_timeout_sec = v / 1000),
    flag("ssl_reject_handshake", ALL, "off", "Refuses handshakes.", |s, v| s.reject_handshake = v),
    row("ssl_password_file", ALL, Arity::ONE, "", "Passwords of encrypted keys.", |s, cx, d| {
        s.passwords = read_passwords(cx, d.arg(0)?)?;
        Ok(())
    }),
    value("ssl_conf_command", ALL, Arity::TWO, "", "A setting by OpenSSL's own name.", |s: &mut SslSettings, d| s.conf_commands.add(d)).many(),
    value("ssl_verify_client", ALL, Arity::ONE, "off", "Whether clients are asked for certificates.", verify_client),
    number("ssl_verify_depth", ALL, "1", "Certificates between a client's and a trusted one.", |s, v| {
        s.verify_depth = usize::try_from(v).unwrap_or(usize::MAX);
    }),
    row("ssl_client_certificate", ALL, Arity::ONE, "", "Whose certificates are good; clients are told.", |s, cx, d| {
        s.client_certificate = Some(PemFile::named(cx, d.arg(0)?));
        Ok(())
    }),
    row("ssl_trusted_certificate", ALL, Arity::ONE, "", "Whose certificates are good.", |s, cx, d| {
        s.trusted_certificate = Some(PemFile::named(cx, d.arg(0)?));
        Ok(())
    }),
    row("ssl_crl", ALL, Arity::ONE, "", "Lists of revoked certificates.", |s, cx, d| {
        s.crl = Some(PemFile::named(cx, d.arg(0)?));
        Ok(())
    }),
    value("ssl_ocsp", ALL, Arity::ONE, "off", "Asks whether clients' certificates are revoked.", ocsp::reach),
    value("ssl_ocsp_responder", ALL, Arity::ONE, "", "Who is asked, instead of whom the certificates name.", |s, d| {
        s.ocsp_responder = Some(d.arg(0)?.bytes.to_boxed());
        Ok(())
    }),
    row("ssl_ocsp_cache", ALL, Arity::ONE, "off", "Keeps what was answered.", ocsp::cache),
    flag("ssl_stapling", ALL, "off", "Sends OCSP answers with certificates.", |s, v| s.stapling = v),
    row("ssl_stapling_file", ALL, Arity::ONE, "", "A file with the answer.", |s, cx, d| {
        s.stapling_file = Some(PemFile::named(cx, d.arg(0)?));
        Ok(())
    }),
    value("ssl_stapling_responder", ALL, Arity::ONE, "", "Who is asked, instead of whom the certificate names.", |s, d| {
        s.stapling_responder = Some(d.arg(0)?.bytes.to_boxed());
        Ok(())
    }),
    flag("ssl_stapling_verify", ALL, "off", "Judges who has signed the answers.", |s, v| s.stapling_verify = v),
    flag("ssl_early_data", HTTP, "off", "Takes requests before the handshake has ended.", |s, v| s.early_data = v),
    value("ssl_alpn", STREAM, Arity::MORE1, "", "Protocols of which one must be offered where any is.", |s, d| {
        s.alpn = Arc::new(d.args.iter().map(|word| word.bytes.to_vec()).collect());
        Ok(())
    }),
    time("ssl_handshake_timeout", STREAM, "60s", "Longest time of a handshake.", |s, v| s.handshake_timeout = v),
    row("ssl_dhparam", ALL, Arity::ONE, "", "", |s: &mut SslSettings, cx, d| {
        s.dhparam = Some(PemFile::named(cx, d.arg(0)?));
        Ok(())
    }).no_effect("there are no ciphers with Diffie-Hellman over finite fields"),
    without_effect("ssl_certificate_compression", ALL, Arity::FLAG, "certificates are sent as they are"),
];

fn certificate(s: &mut SslSettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let written = Written::compile(cx, d.arg(0)?)?;
    s.certificates.push(written);
    Ok(())
}

fn certificate_key(s: &mut SslSettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let written = Written::compile(cx, d.arg(0)?)?;
    s.keys.push(written);
    Ok(())
}

fn verify_client(s: &mut SslSettings, d: &Directive) -> Result<(), Error> {
    s.verify_client = d.one_of(&[
        ("off", None),
        ("on", Some(VerifyClient::On)),
        ("optional", Some(VerifyClient::Optional)),
        ("optional_no_ca", Some(VerifyClient::OptionalNoCa)),
    ])?;
    Ok(())
}

/// Bytes that OpenSSL's cache of so many sessions would take here.
const SESSION: usize = 512;
/// OpenSSL's number of sessions.
const DEFAULT_SESSIONS: usize = 20 << 10;
/// The least size of a zone: eight pages, as nginx has it.
pub(super) const LEAST_ZONE: u64 = 32 << 10;

/// A zone of sessions, which the process keeps by its name.
struct SessionZone;

impl ZoneData for SessionZone {}

fn session_cache(s: &mut SslSettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    if !s.has_own_cache {
        s.has_own_cache = true;
        s.builtin = Builtin::Nothing;
        s.shared = None;
    }
    for word in &d.args {
        let invalid = || Error::at(word, format!("invalid session cache \"{}\"", word.as_str()));
        if word.is("off") {
            s.builtin = Builtin::Off;
        } else if word.is("none") {
            s.builtin = Builtin::Nothing;
        } else if word.is("builtin") {
            s.builtin = Builtin::Bytes(DEFAULT_SESSIONS * SESSION);
        } else if let Some(count) = word.after("builtin:") {
            let count = conf::parse_number(count).ok_or_else(invalid)?;
            s.builtin = Builtin::Bytes(usize::try_from(count).unwrap_or(usize::MAX).saturating_mul(SESSION));
        } else if let Some(zone) = word.after("shared:") {
            let colon =
                zone.iter().position(|byte| *byte == b':').filter(|at| *at > 0).ok_or_else(invalid)?;
            let size = base::parse_size(&zone[colon + 1..]).map_err(|_| invalid())?;
            if size < LEAST_ZONE {
                let sentence = format!("session cache \"{}\" is too small", word.as_str());
                return Err(Error::at(word, sentence));
            }
            let name = String::from_utf8_lossy(&zone[..colon]);
            cx.zones.declare::<SessionZone>(word, &name, size)?;
            s.shared = Some(SessionCache::shared(&name, usize::try_from(size).unwrap_or(usize::MAX)));
        } else {
            return Err(invalid());
        }
    }
    Ok(())
}

fn ticket_key(s: &mut SslSettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let path = cx.conf_path(&d.arg(0)?.bytes);
    let file = cx.resources.read_object(&path).map_err(|error| {
        Error::bare(format!("open() \"{}\" failed {}", path.display(), os::errlog::Errno(&error)))
    })?;
    let list = s.ticket_files.own();
    list.push(file);
    let keys = TicketKeys::of_files(list).ok_or_else(|| {
        Error::at(d.arg(0).unwrap_or(&d.name), format!("\"{}\" must be 48 or 80 bytes", path.display()))
    })?;
    s.ticket_keys = Some(Arc::new(keys));
    Ok(())
}
