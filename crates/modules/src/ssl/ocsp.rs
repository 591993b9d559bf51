//! `ssl_ocsp*`: who is asked whether clients' certificates are revoked (`ngx_ssl_ocsp`).

use conf::{Directive, Error};
use http::conf::compile::Cx;
use http::conf::core::Core;
use http::tls::{Ocsp, OcspCache, Reach, Responder, VerifyClient};

use super::SslSettings;
use super::rows::LEAST_ZONE;

/// `ssl_ocsp`
pub(super) fn reach(s: &mut SslSettings, d: &Directive) -> Result<(), Error> {
    s.ocsp = d.one_of(&[("off", None), ("on", Some(Reach::Chain)), ("leaf", Some(Reach::Leaf))])?;
    Ok(())
}

/// `ssl_ocsp_cache`
pub(super) fn cache(s: &mut SslSettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let word = d.arg(0)?;
    if word.is("off") {
        s.ocsp_cache = None;
        return Ok(());
    }
    let invalid = || Error::at(word, format!("invalid OCSP cache \"{}\"", word.as_str()));
    let zone = word.after("shared:").ok_or_else(invalid)?;
    let colon = zone.iter().position(|byte| *byte == b':').filter(|at| *at > 0).ok_or_else(invalid)?;
    let size = base::parse_size(&zone[colon + 1..]).map_err(|_| invalid())?;
    if size < LEAST_ZONE {
        return Err(Error::at(word, format!("OCSP cache \"{}\" is too small", word.as_str())));
    }
    let name = String::from_utf8_lossy(&zone[..colon]);
    let zone = cx.zones.declare(word, &name, size)?;
    // Another line may have declared the same one.
    let _ = zone.bind(OcspCache::new(size));
    s.ocsp_cache = Some(zone);
    Ok(())
}

/// What a server asks about its clients' certificates, and whom, if it asks.
pub(super) fn set_up(s: &SslSettings, cx: &mut Cx<'_>) -> Result<Option<Ocsp>, Error> {
    let Some(reach) = s.ocsp else { return Ok(None) };
    if s.verify_client == Some(VerifyClient::OptionalNoCa) {
        let sentence = "\"ssl_ocsp\" is incompatible with \"ssl_verify_client optional_no_ca\"";
        return Err(Error::bare(sentence));
    }
    let responder = match s.ocsp_responder.as_deref() {
        None | Some([]) => None,
        Some(url) => Some(
            Responder::look_up(url, cx)
                .map_err(|error| Error::bare(format!("{error} in \"ssl_ocsp_responder\"")))?,
        ),
    };
    let core = cx.block.slots.share::<Core>();
    Ok(Some(Ocsp { reach, responder, cache: s.ocsp_cache.clone(), core }))
}
