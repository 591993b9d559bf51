//! `ssl_ocsp`: whether clients' certificates are revoked is asked of responders, once the handshake is done.
//!
//! What was found stays with the session; whoever serves the client judges it as he judges the certificate itself.

use std::fmt;
use std::sync::Arc;

use conf::zones::Zone;
use net::tls::Trust;
use net::tls::ocsp::{self, CertId, CertStatus, Doubt, Signers};
use net::tls::x509::Certificate;
use os::errlog::Level;

use super::ocsp_cache::OcspCache;
use super::responder::{Inquiry, Responder};
use crate::conf::core::CoreSettings;
use crate::request::Request;

/// Whose status is asked for (`ssl_ocsp`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The client's and that of every issuer but the trusted one.
    Chain,
    /// The client's alone.
    Leaf,
}

/// Who is asked, and about what.
pub struct Ocsp {
    /// Whose status is asked for.
    pub reach: Reach,
    /// `ssl_ocsp_responder`; `None`: whom each certificate names.
    pub responder: Option<Responder>,
    /// `ssl_ocsp_cache`.
    pub cache: Option<Zone<OcspCache>>,
    /// The resolver of the server.
    pub core: Arc<CoreSettings>,
}

/// A certificate that the client has shown, and what it stands on.
struct Shown<'a> {
    certificate: &'a Certificate,
    issuer: &'a Certificate,
    chain: &'a [Certificate],
    trust: &'a Trust,
}

impl Ocsp {
    /// Asks for the certificates of a chain that was found good, the client's first, one after the other; the last
    /// one is trusted by itself (`ngx_ssl_ocsp_validate`). How long that may take is the caller's to say.
    pub(crate) async fn judge(&self, r: &Request, chain: &[Certificate], trust: &Trust) -> Option<Doubt> {
        let most = match self.reach {
            Reach::Chain => chain.len(),
            Reach::Leaf => 1,
        };
        for pair in chain.windows(2).take(most) {
            let [certificate, issuer] = pair else { break };
            match self.status(r, Shown { certificate, issuer, chain, trust }).await {
                Some(CertStatus::Good) => {}
                Some(CertStatus::Revoked) => return Some(Doubt::Revoked),
                Some(CertStatus::Unknown) => return Some(Doubt::Unknown),
                None => return Some(Doubt::RequestFailed),
            }
        }
        None
    }

    /// The status of one certificate. `None`: it cannot be had, and why is logged.
    async fn status(&self, r: &Request, shown: Shown<'_>) -> Option<CertStatus> {
        let Shown { certificate, issuer, chain, trust } = shown;
        let named;
        let responder = match &self.responder {
            Some(responder) => responder,
            None => {
                named = named_by(r, certificate)?;
                &named
            }
        };
        let log = |level, message: fmt::Arguments<'_>| r.error_log().log_for(level, r.conn.scope(), message);
        let inquiry = Inquiry { responder, core: &self.core, timeout_ms: None, certificate: None, log: &log };
        let id = CertId::of(certificate, issuer);
        let cache = self.cache.as_ref().and_then(Zone::data);
        if let Some(cache) = cache
            && let Some(known) = cache.find(id.as_ref()?, net::timer::wall_clock().0)
        {
            return Some(known);
        }
        let Ok(question) = ocsp::request(certificate, issuer) else {
            inquiry.tell(Level::Crit, None, format_args!("OCSP_cert_to_id() failed"));
            return None;
        };
        let reply = inquiry.ask(&question).await?;
        let now = net::timer::wall_clock().0;
        let signers = Signers { at_hand: chain, trust: Some(trust) };
        let answer = match ocsp::read(&reply.der, certificate, issuer, signers, now) {
            Ok(answer) => answer,
            Err(error) => {
                inquiry.tell(Level::Error, Some(&reply.peer), format_args!("{error}"));
                return None;
            }
        };
        if let (Some(cache), Some(id)) = (cache, &id) {
            cache.store(id, answer, now);
        }
        Some(answer.status)
    }
}

/// The responder that a certificate names (`ngx_ssl_ocsp_responder`).
fn named_by(r: &Request, certificate: &Certificate) -> Option<Responder> {
    let log = |message: fmt::Arguments<'_>| {
        let parties = r.conn.parties_with(r.client());
        let message = format_args!("{message} in certificate while SSL handshaking{parties}");
        r.error_log().log_for(Level::Error, r.conn.scope(), message);
    };
    let Some(url) = certificate.ocsp_url() else {
        log(format_args!("no OCSP responder URL"));
        return None;
    };
    match Responder::parse(url) {
        Ok(responder) => Some(responder),
        Err(error) => {
            log(format_args!("{error}"));
            None
        }
    }
}
