//! OCSP (RFC 6960): the question whether a certificate is revoked, and what an answer is worth.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use super::chain::{Trust, is_signed_by};
use super::der::{Malformed, Reader, push, tag};
use super::verify::Verification;
use super::x509::{Certificate, oid};

const SHA1: &[u8] = &[0x2b, 0x0e, 3, 2, 0x1a];
const BASIC: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 48, 1, 1];
/// Bytes of such a hash, and the most of a certificate's number.
const SHA1_LENGTH: usize = 20;
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
    #[error("OCSP response not successful ({0}: {name})", name = name_of(*.0))]
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
    /// The signer is trusted, and yet not the issuer, nor does it sign for it.
    #[error("OCSP_basic_verify() failed (SSL: error:13800070:OCSP routines::root ca not trusted)")]
    NotIssuer,
    /// It speaks of other certificates.
    #[error("certificate status not found in the OCSP response")]
    NotFound,
    /// Too old, or from the future.
    #[error("OCSP_check_validity() failed")]
    OutOfDate,
}

/// `OCSP_response_status_str`.
fn name_of(status: u64) -> &'static str {
    match status {
        1 => "malformedrequest",
        2 => "internalerror",
        3 => "trylater",
        5 => "sigrequired",
        6 => "unauthorized",
        _ => "(UNKNOWN)",
    }
}

/// What a responder says of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertStatus {
    /// It is not revoked.
    Good,
    /// It is.
    Revoked,
    /// Nobody knows it there.
    Unknown,
}

impl CertStatus {
    /// OpenSSL's word (`OCSP_cert_status_str`).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Revoked => "revoked",
            Self::Unknown => "unknown",
        }
    }
}

/// Why a certificate that is good by itself is not to be taken for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// Its status, or that of an issuer, could not be had.
    RequestFailed,
    /// It is revoked, or an issuer is.
    Revoked,
    /// The responder knows nothing of it.
    Unknown,
}

impl Doubt {
    /// nginx's words (`ngx_ssl_ocsp_get_status`).
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::RequestFailed => "certificate status request failed",
            Self::Revoked => "certificate revoked",
            Self::Unknown => "certificate status unknown",
        }
    }
}

/// What an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What it says of the certificate.
    pub status: CertStatus,
    /// Until when, seconds since 1970; `None`: until there is something newer.
    pub valid_until: Option<i64>,
}

/// Who may have signed an answer.
#[derive(Clone, Copy)]
pub struct Signers<'a> {
    /// Certificates at hand, of which the issuer is one; more may come with the answer.
    pub at_hand: &'a [Certificate],
    /// By whom the signer is judged; `None`: it is enough that the signature is right.
    pub trust: Option<&'a Trust>,
}

impl From<Malformed> for OcspError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// A certificate by what its issuer's name and key hash to, and its number, filled up with zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertId(pub [u8; 3 * SHA1_LENGTH]);

impl CertId {
    /// A certificate's; `None` where its number is longer than RFC 5280 allows (4.1.2.2), or the issuer's key cannot
    /// be read.
    #[must_use]
    pub fn of(certificate: &Certificate, issuer: &Certificate) -> Option<Self> {
        let mut id = [0; 3 * SHA1_LENGTH];
        let (name, rest) = id.split_at_mut(SHA1_LENGTH);
        let (key, number) = rest.split_at_mut(SHA1_LENGTH);
        name.copy_from_slice(digest(&SHA1_FOR_LEGACY_USE_ONLY, issuer.subject()).as_ref());
        key.copy_from_slice(digest(&SHA1_FOR_LEGACY_USE_ONLY, issuer.key_bits().ok()?).as_ref());
        let serial = certificate.serial();
        let zeros = serial.iter().take_while(|byte| **byte == 0).count();
        let serial = serial.get(zeros..)?;
        number.get_mut(..serial.len())?.copy_from_slice(serial);
        Some(Self(id))
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

/// Checks an answer about a certificate and says what it tells; `now` is in seconds since 1970.
///
/// # Errors
/// [`OcspError`].
pub fn read(
    answer: &[u8],
    certificate: &Certificate,
    issuer: &Certificate,
    signers: Signers<'_>,
    now: i64,
) -> Result<Answer, OcspError> {
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
    let signer = signers.at_hand.iter().chain(&others).find(is_responder).ok_or(OcspError::NoSigner)?;
    if !is_signed_by(signer, algorithm, signed.whole, signature) {
        return Err(OcspError::BadSignature);
    }
    if let Some(trust) = signers.trust {
        if trust.judge_signer(signer, others.iter().chain(signers.at_hand)) != Verification::Good {
            return Err(OcspError::Untrusted);
        }
        if !may_sign(signer, issuer) {
            return Err(OcspError::NotIssuer);
        }
    }
    find_status(data.sequence()?, certificate, issuer, now)
}

/// Whether the signer is the issuer or has its leave (RFC 6960, 4.2.2.2).
fn may_sign(signer: &Certificate, issuer: &Certificate) -> bool {
    let is_issuer = signer.subject() == issuer.subject() && signer.public_key() == issuer.public_key();
    is_issuer
        || (signer.names_purpose(oid::OCSP_SIGNING)
            && is_signed_by(issuer, signer.algorithm(), signer.tbs(), signer.signature()))
}

fn find_status(
    mut statuses: Reader<'_>,
    certificate: &Certificate,
    issuer: &Certificate,
    now: i64,
) -> Result<Answer, OcspError> {
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
        let status = match single.element()?.tag & 0x1f {
            0 => CertStatus::Good,
            1 => CertStatus::Revoked,
            _ => CertStatus::Unknown,
        };
        let this_update = single.expect(tag::GENERALIZED_TIME)?.time()?;
        let valid_until = match single.optional(tag::context(0))? {
            Some(next) => Some(next.reader().element()?.time()?),
            None => None,
        };
        // OCSP_check_validity
        let is_over = |next| next < now - SKEW || next < this_update;
        if this_update > now + SKEW || valid_until.is_some_and(is_over) {
            return Err(OcspError::OutOfDate);
        }
        return Ok(Answer { status, valid_until });
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

    fn certificate(text: &[u8]) -> Certificate {
        let der = super::super::pem::blocks(text).expect("PEM").remove(0).der;
        Certificate::parse(&der).expect("a certificate")
    }

    #[test]
    fn certificates_are_told_apart() {
        let ca = certificate(include_bytes!("../../../../testkit/certs/ca.crt"));
        let client = certificate(include_bytes!("../../../../testkit/certs/client.crt"));
        let id = |certificate: &Certificate| CertId::of(certificate, &ca).expect("an identifier").0;
        assert_eq!(id(&client)[40..43], [0x10, 0x02, 0]);
        assert_eq!(id(&client)[..40], id(&ca)[..40]);
        assert_ne!(id(&client), id(&ca));
    }

    /// Answers about `client` that OpenSSL has made; seconds since 1970 in the hour after.
    const NOW: i64 = 1_795_770_000;
    const DAY: i64 = 86_400;

    macro_rules! answer {
        ($name:literal) => {
            include_bytes!(concat!("../../../../testkit/certs/ocsp/", $name, ".der")).as_slice()
        };
    }

    #[test]
    fn answers() {
        let text = include_bytes!("../../../../testkit/certs/ca.crt");
        let chain = [
            certificate(include_bytes!("../../../../testkit/certs/client.crt")),
            certificate(text.as_slice()),
        ];
        let trust = Trust::read(&[text.as_slice()], None, 0).expect("whom to trust");
        let check = |answer: &[u8], trust: Option<&Trust>, now: i64, expected: Result<Answer, OcspError>| {
            let signers = Signers { at_hand: &chain, trust };
            assert_eq!(read(answer, &chain[0], &chain[1], signers, now), expected);
        };
        let says = |status| Ok(Answer { status, valid_until: None });
        let trust = Some(&trust);
        check(answer!("good"), trust, NOW, says(CertStatus::Good));
        check(answer!("good"), trust, NOW + 1000 * DAY, says(CertStatus::Good));
        check(answer!("good"), trust, NOW - DAY, Err(OcspError::OutOfDate));
        check(answer!("revoked"), trust, NOW, says(CertStatus::Revoked));
        check(answer!("unknown"), trust, NOW, says(CertStatus::Unknown));
        let until = Answer { status: CertStatus::Good, valid_until: Some(1_795_853_454) };
        check(answer!("one_day"), trust, NOW, Ok(until));
        check(answer!("one_day"), trust, NOW + 2 * DAY, Err(OcspError::OutOfDate));
        check(answer!("by_delegate"), trust, NOW, says(CertStatus::Good));
        // Who signs must be trusted, and have the issuer's leave, where signers are judged.
        check(answer!("by_stranger"), trust, NOW, Err(OcspError::Untrusted));
        check(answer!("by_localhost"), trust, NOW, Err(OcspError::NotIssuer));
        check(answer!("by_localhost"), None, NOW, says(CertStatus::Good));
        let signers = Signers { at_hand: &chain[..1], trust };
        let unsigned = read(answer!("good"), &chain[0], &chain[1], signers, NOW);
        assert_eq!(unsigned, Err(OcspError::NoSigner));
        let signers = Signers { at_hand: &chain, trust };
        let other = read(answer!("good"), &chain[1], &chain[1], signers, NOW);
        assert_eq!(other, Err(OcspError::NotFound));
        let mut forged = answer!("revoked").to_vec();
        let at = forged.iter().position(|byte| *byte == 0xa1).expect("when it was revoked");
        forged[at + 10] ^= 1;
        check(&forged, trust, NOW, Err(OcspError::BadSignature));
    }

    #[test]
    fn refusals_and_rubbish() {
        let leaf = certificate(include_bytes!("../../../../testkit/certs/localhost.crt"));
        let check = |answer: &[u8], expected: OcspError| {
            let signers = Signers { at_hand: std::slice::from_ref(&leaf), trust: None };
            assert_eq!(read(answer, &leaf, &leaf, signers, 0), Err(expected), "{answer:?}");
        };
        check(&[], OcspError::Malformed);
        check(&[0x30, 3, 0x0a, 1, 6], OcspError::NotSuccessful(6));
        check(&[0x30, 3, 0x0a, 1, 0], OcspError::Malformed);
        assert_eq!(request(&leaf, &leaf).map(|request| request[0]), Ok(tag::SEQUENCE));
    }
}
