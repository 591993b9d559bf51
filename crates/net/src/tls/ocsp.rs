//! OCSP (RFC 6960): the question whether a certificate is revoked, and the answer that is stapled to it.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use super::chain::{Purpose, Trust, is_signed_by};
use super::der::{Malformed, Reader, push, tag};
use super::verify::Verification;
use super::x509::{Certificate, oid};

const SHA1: &[u8] = &[0x2b, 0x0e, 3, 2, 0x1a];
const BASIC: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 48, 1, 1];
/// Seconds that clocks may be apart.
const SKEW: i64 = 300;
/// Most certificates and statuses that are looked at in an answer.
const MOST: usize = 32;

/// Why an answer is of no use: nginx's and OpenSSL's sentences.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OcspError {
    /// It cannot be read.
    #[error("d2i_OCSP_RESPONSE() failed")]
    Malformed,
    /// The responder has none.
    #[error("OCSP response not successful ({0})")]
    NotSuccessful(u64),
    /// Nobody at hand has signed it.
    #[error("OCSP_basic_verify() failed (SSL: error:13800076:OCSP routines::signer certificate not found)")]
    NoSigner,
    /// The signature is wrong.
    #[error("OCSP_basic_verify() failed (SSL: error:13800075:OCSP routines::signature failure)")]
    BadSignature,
    /// The signer is not trusted.
    #[error("OCSP_basic_verify() failed (SSL: error:13800065:OCSP routines::certificate verify error)")]
    Untrusted,
    /// It speaks of other certificates.
    #[error("certificate status not found in the OCSP response")]
    NotFound,
    /// Too old, or from the future.
    #[error("OCSP_check_validity() failed")]
    OutOfDate,
    /// Revoked, or unknown.
    #[error("certificate status \"{0}\" in the OCSP response")]
    NotGood(&'static str),
}

impl From<Malformed> for OcspError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// Appends the identifier of a certificate: hashes of its issuer, and its number.
fn push_id(certificate: &Certificate, issuer: &Certificate, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut algorithm = Vec::new();
    push(tag::OID, SHA1, &mut algorithm);
    push(5, &[], &mut algorithm);
    let mut id = Vec::new();
    push(tag::SEQUENCE, &algorithm, &mut id);
    push(tag::OCTET_STRING, digest(&SHA1_FOR_LEGACY_USE_ONLY, issuer.subject()).as_ref(), &mut id);
    push(tag::OCTET_STRING, digest(&SHA1_FOR_LEGACY_USE_ONLY, issuer.key_bits()?).as_ref(), &mut id);
    push(tag::INTEGER, certificate.serial(), &mut id);
    push(tag::SEQUENCE, &id, out);
    Ok(())
}

/// The question whether a certificate is revoked, in DER.
///
/// # Errors
/// [`Malformed`] for an issuer whose key cannot be read.
pub fn request(certificate: &Certificate, issuer: &Certificate) -> Result<Vec<u8>, Malformed> {
    let mut content = Vec::new();
    push_id(certificate, issuer, &mut content)?;
    // Request, list of requests, what might be signed, all of it.
    for _ in 0..4 {
        let mut around = Vec::new();
        push(tag::SEQUENCE, &content, &mut around);
        content = around;
    }
    Ok(content)
}

/// Checks an answer; says until when it is good, seconds since 1970 (`None`: nobody knows).
///
/// # Errors
/// [`OcspError`].
pub fn check(
    answer: &[u8],
    certificate: &Certificate,
    issuer: &Certificate,
    trust: Option<&Trust>,
    now: i64,
) -> Result<Option<i64>, OcspError> {
    let mut outer = Reader::new(answer).sequence()?;
    let status = outer.expect(tag::ENUMERATED)?.small()?;
    if status != 0 {
        return Err(OcspError::NotSuccessful(status));
    }
    let mut bytes = outer.expect(tag::context(0))?.reader().sequence()?;
    if bytes.expect(tag::OID)?.content != BASIC {
        return Err(OcspError::Malformed);
    }
    let mut basic = bytes.expect(tag::OCTET_STRING)?.reader().sequence()?;
    let signed = basic.expect(tag::SEQUENCE)?;
    let algorithm = basic.expect(tag::SEQUENCE)?.content;
    let signature = basic.bits()?;
    let mut others = Vec::new();
    if let Some(list) = basic.optional(tag::context(0))? {
        let mut list = list.reader().sequence()?;
        while !list.is_empty() && others.len() < MOST {
            others.push(Certificate::parse(list.element()?.whole)?);
        }
    }
    let mut data = signed.reader();
    data.optional(tag::context(0))?;
    let responder = data.element()?;
    data.element()?;
    let is_responder = |one: &&Certificate| match responder.tag {
        by_name if by_name == tag::context(1) => responder.content == one.subject(),
        _ => {
            let hash = responder.reader().expect(tag::OCTET_STRING).map(|hash| hash.content);
            let own = one.key_bits().map(|bits| digest(&SHA1_FOR_LEGACY_USE_ONLY, bits));
            matches!((hash, own), (Ok(hash), Ok(own)) if hash == own.as_ref())
        }
    };
    let signer = others.iter().chain([issuer]).find(is_responder).ok_or(OcspError::NoSigner)?;
    if !is_signed_by(signer, algorithm, signed.whole, signature) {
        return Err(OcspError::BadSignature);
    }
    if let Some(trust) = trust {
        check_signer(signer, issuer, &others, trust)?;
    }
    check_status(data.sequence()?, certificate, issuer, now)
}

/// The signer is the issuer or has its leave, and is trusted.
fn check_signer(
    signer: &Certificate,
    issuer: &Certificate,
    others: &[Certificate],
    trust: &Trust,
) -> Result<(), OcspError> {
    let is_issuer = signer.der() == issuer.der();
    let has_leave = signer.names_purpose(oid::OCSP_SIGNING)
        && is_signed_by(issuer, signer.algorithm(), signer.tbs(), signer.signature());
    let chain: Vec<Vec<u8>> =
        std::iter::once(signer).chain(others).chain([issuer]).map(|one| one.der().to_vec()).collect();
    let is_trusted = trust.judge(&chain, Purpose::Any) == Verification::Good;
    if is_trusted && (is_issuer || has_leave) { Ok(()) } else { Err(OcspError::Untrusted) }
}

fn check_status(
    mut statuses: Reader<'_>,
    certificate: &Certificate,
    issuer: &Certificate,
    now: i64,
) -> Result<Option<i64>, OcspError> {
    let mut own = Vec::new();
    push_id(certificate, issuer, &mut own)?;
    let wanted = id_parts(Reader::new(&own))?;
    for _ in 0..MOST {
        if statuses.is_empty() {
            break;
        }
        let mut single = statuses.sequence()?;
        let id = single.expect(tag::SEQUENCE)?;
        if id_parts(Reader::new(id.whole))? != wanted {
            continue;
        }
        let status = single.element()?.tag & 0x1f;
        let this_update = single.expect(tag::GENERALIZED_TIME)?.time()?;
        let next_update = match single.optional(tag::context(0))? {
            Some(next) => Some(next.reader().element()?.time()?),
            None => None,
        };
        if status != 0 {
            return Err(OcspError::NotGood(if status == 1 { "revoked" } else { "unknown" }));
        }
        if this_update > now + SKEW || next_update.is_some_and(|next| next < now - SKEW) {
            return Err(OcspError::OutOfDate);
        }
        return Ok(next_update);
    }
    Err(OcspError::NotFound)
}

/// What of an identifier must agree; how the hash's algorithm is written may differ.
fn id_parts(mut id: Reader<'_>) -> Result<[&[u8]; 3], Malformed> {
    let mut parts = id.sequence()?;
    parts.expect(tag::SEQUENCE)?;
    let (name, key) = (parts.expect(tag::OCTET_STRING)?, parts.expect(tag::OCTET_STRING)?);
    Ok([name.content, key.content, parts.expect(tag::INTEGER)?.content])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_and_rubbish() {
        let text = include_bytes!("../../../../testkit/certs/localhost.crt");
        let der = super::super::pem::blocks(text).expect("PEM").remove(0).der;
        let leaf = Certificate::parse(&der).expect("a certificate");
        let check = |answer: &[u8], expected: OcspError| {
            assert_eq!(check(answer, &leaf, &leaf, None, 0), Err(expected), "{answer:?}");
        };
        check(&[], OcspError::Malformed);
        check(&[0x30, 3, 0x0a, 1, 6], OcspError::NotSuccessful(6));
        check(&[0x30, 3, 0x0a, 1, 0], OcspError::Malformed);
        assert_eq!(request(&leaf, &leaf).map(|request| request[0]), Ok(tag::SEQUENCE));
    }
}
