//! The directives of the ssl module.

use std::sync::Arc;

use conf::{Arity, Contexts, Directive, Error, Level, Word};
use http::conf::compile::Cx;
use http::rows::{Row, flag, row, size, time, value, without_effect};
use http::tls::{ObjectCache, Written};
use net::tls::{CipherList, CurveList, Protocols, SessionCache, TicketKeys};

use super::{Builtin, SslSettings};

const ALL: Contexts = Contexts::HTTP_SERVER;

#[rustfmt::skip]
pub(super) static ROWS: [Row<SslSettings>; 16] = [
    row("ssl_certificate", ALL, Arity::ONE, "", "A certificate with its chain.", certificate).many(),
    row("ssl_certificate_key", ALL, Arity::ONE, "", "The key of a certificate.", certificate_key).many(),
    value("ssl_certificate_cache", ALL, Arity::TAKE123, "off", "Keeps certificates whose names have variables.", |s, d| {
        s.cache = ObjectCache::read(d)?;
        Ok(())
    }),
    row("ssl_protocols", ALL, Arity::MORE1, "TLSv1.2 TLSv1.3", "Versions of TLS.", protocols),
    row("ssl_ciphers", ALL, Arity::ONE, "HIGH:!aNULL:!MD5", "Ciphers in OpenSSL's language.", ciphers),
    flag("ssl_prefer_server_ciphers", ALL, "off", "The server's order of ciphers counts.", |s, v| s.prefer_server_ciphers = v),
    row("ssl_ecdh_curve", ALL, Arity::ONE, "auto", "Groups for the key exchange.", ecdh_curve),
    size("ssl_buffer_size", ALL, "16k", "Size of the records that are sent.", |s, v| s.buffer_size = v),
    value("ssl_session_cache", ALL, Arity::TAKE12, "none", "Where sessions are kept.", session_cache),
    flag("ssl_session_tickets", ALL, "on", "Clients keep sessions in tickets.", |s, v| s.session_tickets = v),
    row("ssl_session_ticket_key", ALL, Arity::ONE, "", "A file with a key for tickets.", ticket_key).many(),
    time("ssl_session_timeout", ALL, "5m", "How long a session may be resumed.", |s, v| s.session_timeout_sec = v / 1000),
    flag("ssl_reject_handshake", ALL, "off", "Refuses handshakes.", |s, v| s.reject_handshake = v),
    flag("ssl_early_data", ALL, "off", "Takes requests before the handshake has ended.", |s, v| s.early_data = v),
    without_effect("ssl_dhparam", ALL, Arity::ONE, "there are no ciphers with Diffie-Hellman over finite fields"),
    without_effect("ssl_certificate_compression", ALL, Arity::FLAG, "certificates are sent as they are"),
];

fn certificate(s: &mut SslSettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let written = Written::compile(cx, d.arg(0)?)?;
    if !s.has_own_certificates {
        s.has_own_certificates = true;
        s.certificates = Arc::default();
    }
    Arc::make_mut(&mut s.certificates).push(written);
    Ok(())
}

fn certificate_key(s: &mut SslSettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let written = Written::compile(cx, d.arg(0)?)?;
    if !s.has_own_keys {
        s.has_own_keys = true;
        s.keys = Arc::default();
    }
    Arc::make_mut(&mut s.keys).push(written);
    Ok(())
}

const PROTOCOLS: [(&str, u32); 6] =
    [("SSLv2", 1), ("SSLv3", 2), ("TLSv1", 4), ("TLSv1.1", 8), ("TLSv1.2", 16), ("TLSv1.3", 32)];

fn protocols(s: &mut SslSettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let bits = d.bits(&PROTOCOLS, &mut cx.notices)?;
    let mut chosen = Protocols::NONE;
    if bits & 16 != 0 {
        chosen = chosen.with(Protocols::TLS12);
    }
    if bits & 32 != 0 {
        chosen = chosen.with(Protocols::TLS13);
    }
    let old: Vec<&str> =
        PROTOCOLS.iter().filter(|(_, bit)| bits & bit != 0 && *bit < 16).map(|(name, _)| *name).collect();
    let word = d.arg(0)?;
    if chosen == Protocols::NONE {
        let sentence = format!(
            "\"{}\" in \"ssl_protocols\" cannot be had here, only TLSv1.2 and TLSv1.3",
            old.join(" ")
        );
        return Err(Error::at(word, sentence));
    }
    if !old.is_empty() {
        let sentence = format!("\"{}\" in \"ssl_protocols\" cannot be had here, ignored", old.join(" "));
        cx.notices.push(Error::at(word, sentence).with_level(Level::Warn));
    }
    s.protocols = chosen;
    Ok(())
}

fn ciphers(s: &mut SslSettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let word = d.arg(0)?;
    let text = word.as_str();
    let list = CipherList::parse(&text)
        .map_err(|error| Error::bare(format!("SSL_CTX_set_cipher_list(\"{text}\") failed ({error})")))?;
    if list.lacks_tls12() {
        warn(cx, word, "no cipher of \"ssl_ciphers\" for TLSv1.2 can be had here, only TLSv1.3 is left");
    }
    s.ciphers = Arc::new(list);
    Ok(())
}

fn ecdh_curve(s: &mut SslSettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let word = d.arg(0)?;
    let text = word.as_str();
    let list = CurveList::parse(&text)
        .ok_or_else(|| Error::bare(format!("SSL_CTX_set1_curves_list(\"{text}\") failed")))?;
    let lacking = list.lacking().join(":");
    if list.is_empty() {
        return Err(Error::at(word, format!("\"{lacking}\" in \"ssl_ecdh_curve\" cannot be had here")));
    }
    if !lacking.is_empty() {
        warn(cx, word, &format!("\"{lacking}\" in \"ssl_ecdh_curve\" cannot be had here, ignored"));
    }
    s.curves = Arc::new(list);
    Ok(())
}

fn warn(cx: &mut Cx<'_>, word: &Word, sentence: &str) {
    cx.notices.push(Error::at(word, sentence).with_level(Level::Warn));
}

/// Bytes that OpenSSL's cache of so many sessions would take here.
const SESSION: usize = 512;
/// OpenSSL's number of sessions.
const DEFAULT_SESSIONS: usize = 20 << 10;
/// The least size of a zone: eight pages, as nginx has it.
const LEAST_ZONE: u64 = 32 << 10;

fn session_cache(s: &mut SslSettings, d: &Directive) -> Result<(), Error> {
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
            s.shared = Some(SessionCache::shared(&name, usize::try_from(size).unwrap_or(usize::MAX)));
        } else {
            return Err(invalid());
        }
    }
    Ok(())
}

fn ticket_key(s: &mut SslSettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let path = cx.conf_path(&d.arg(0)?.bytes);
    let file = cx.resources.read(&path).map_err(|error| {
        Error::bare(format!("open() \"{}\" failed {}", path.display(), os::errlog::Errno(&error)))
    })?;
    if !s.has_own_ticket_files {
        s.has_own_ticket_files = true;
        s.ticket_files = Arc::default();
    }
    let list = Arc::make_mut(&mut s.ticket_files);
    list.push(file);
    let keys = TicketKeys::of_files(list).ok_or_else(|| {
        Error::at(d.arg(0).unwrap_or(&d.name), format!("\"{}\" must be 48 or 80 bytes", path.display()))
    })?;
    s.ticket_keys = Some(Arc::new(keys));
    Ok(())
}
