//! `ssl_stapling*`: what is sent with a server's certificates, from a file or from the issuer's responder
//! (`ngx_event_openssl_stapling.c`).

use std::sync::Arc;

use conf::{Error, Level};
use http::conf::compile::Cx;
use http::conf::core::Core;
use http::tls::{PemFile, Responder, Source, Stapling, read_trust};
use net::tls::x509::Certificate;
use net::tls::{Identity, Trust};

use super::SslSettings;

/// Gives the certificates OCSP answers of their own; what cannot have one is warned of.
pub(super) fn set_up(
    s: &SslSettings,
    identities: &mut [(String, Arc<Identity>)],
    cx: &mut Cx<'_>,
) -> Result<Vec<Arc<Stapling>>, Error> {
    let trusted: Vec<&PemFile> = s.trusted_certificate.iter().collect();
    let trust = Arc::new(read_trust(cx, &trusted, None, 100)?);
    let core = cx.block.slots.share::<Core>();
    let mut staplings = Vec::new();
    for (name, slot) in identities {
        let identity = Arc::new(slot.copy());
        *slot = Arc::clone(&identity);
        if let Some(file) = &s.stapling_file {
            let answer = file.read(cx).map_err(|why| not_opened(file, &why))?;
            identity.staple(Some(answer.to_vec()));
            continue;
        }
        let leaf = identity.chain().leaf();
        let mut ignore = |why: &str| {
            let sentence = format!("\"ssl_stapling\" ignored, {why} \"{name}\"");
            cx.notices.push(Error::bare(sentence).with_level(Level::Warn));
        };
        let Some(issuer) = issuer_of(&identity, &trust) else {
            ignore("issuer certificate not found for certificate");
            continue;
        };
        let url = s.stapling_responder.as_deref().or(leaf.ocsp_url()).map(<[u8]>::to_vec);
        let Some(url) = url else {
            ignore("no OCSP responder URL in the certificate");
            continue;
        };
        let responder = match Responder::look_up(&url, cx) {
            Ok(responder) => responder,
            Err(error) => {
                let sentence = format!("\"ssl_stapling\" ignored, {error} in the certificate \"{name}\"");
                cx.notices.push(Error::bare(sentence).with_level(Level::Warn));
                continue;
            }
        };
        let trust = s.stapling_verify.then(|| Arc::clone(&trust));
        let source = Source { name: name.clone(), issuer, responder, trust, core: Arc::clone(&core) };
        staplings.push(Arc::new(Stapling::new(identity, source)));
    }
    Ok(staplings)
}

/// `BIO_new_file("…") failed (SSL: …)`: what `read` says without the name of the function.
pub(super) fn not_opened(file: &PemFile, why: &str) -> Error {
    let why = why.strip_prefix("BIO_new_file() failed").unwrap_or(why);
    Error::bare(format!("BIO_new_file(\"{}\") failed{why}", file.path().display()))
}

/// The issuer: the next certificate of the chain, or a trusted one.
fn issuer_of(identity: &Identity, trust: &Trust) -> Option<Certificate> {
    let leaf = identity.chain().leaf();
    let next = identity.chain().issuer_der().and_then(|der| Certificate::parse(der).ok());
    let is_issuer = |one: &Certificate| one.subject() == leaf.issuer();
    next.filter(is_issuer).or_else(|| trust.certificates().iter().find(|one| is_issuer(one)).cloned())
}
