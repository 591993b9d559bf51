//! Certificate revocation lists (`ssl_crl`).

use std::collections::HashSet;

use super::chain::is_signed_by;
use super::der::{Malformed, Reader, tag};
use super::pem;
use super::verify::Flaw;
use super::x509::Certificate;

/// A revocation list.
#[derive(Debug)]
pub struct RevocationList {
    issuer: Vec<u8>,
    this_update: i64,
    next_update: Option<i64>,
    serials: HashSet<Box<[u8]>>,
    tbs: Vec<u8>,
    algorithm: Vec<u8>,
    signature: Vec<u8>,
}

impl RevocationList {
    /// All lists of a PEM file.
    ///
    /// # Errors
    /// OpenSSL's reason.
    pub fn read_all(text: &[u8]) -> Result<Vec<Self>, &'static str> {
        const NONE: &str = "error:0480006C:PEM routines::no start line:Expecting: X509 CRL";
        let blocks = pem::blocks(text)?;
        let lists: Result<Vec<Self>, Malformed> = blocks
            .iter()
            .filter(|block| block.label == "X509 CRL")
            .map(|block| Self::parse(&block.der))
            .collect();
        let lists = lists.map_err(|_| "error:0688010A:asn1 encoding routines::nested asn1 error")?;
        if lists.is_empty() { Err(NONE) } else { Ok(lists) }
    }

    /// Reads a list.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse(der: &[u8]) -> Result<Self, Malformed> {
        let mut outer = Reader::new(der).sequence()?;
        let tbs = outer.expect(tag::SEQUENCE)?;
        let algorithm = outer.expect(tag::SEQUENCE)?.content.to_vec();
        let signature = outer.bits()?.to_vec();
        let mut body = tbs.reader();
        body.optional(tag::INTEGER)?;
        body.expect(tag::SEQUENCE)?;
        let issuer = body.expect(tag::SEQUENCE)?.whole.to_vec();
        let this_update = body.element()?.time()?;
        let next_update = match body.peek() {
            Some(tag::UTC_TIME | tag::GENERALIZED_TIME) => Some(body.element()?.time()?),
            _ => None,
        };
        let mut serials = HashSet::new();
        if let Some(revoked) = body.optional(tag::SEQUENCE)? {
            let mut entries = revoked.reader();
            while !entries.is_empty() {
                serials.insert(entries.sequence()?.expect(tag::INTEGER)?.content.into());
            }
        }
        let tbs = tbs.whole.to_vec();
        Ok(Self { issuer, this_update, next_update, serials, tbs, algorithm, signature })
    }
}

/// What the lists say of a certificate and its issuer.
pub(super) fn check(
    lists: &[RevocationList],
    certificate: &Certificate,
    issuer: &Certificate,
    now: i64,
) -> Option<Flaw> {
    let mut of_issuer = lists.iter().filter(|list| list.issuer == certificate.issuer()).peekable();
    if of_issuer.peek().is_none() {
        return Some(Flaw::UnableToGetCrl);
    }
    let mut flaw = None;
    for list in of_issuer {
        flaw = if list.this_update > now {
            Some(Flaw::CrlNotYetValid)
        } else if list.next_update.is_some_and(|next| next < now) {
            Some(Flaw::CrlExpired)
        } else if !is_signed_by(issuer, &list.algorithm, &list.tbs, &list.signature) {
            Some(Flaw::CrlSignatureFailure)
        } else if list.serials.contains(certificate.serial()) {
            return Some(Flaw::Revoked);
        } else {
            return None;
        };
    }
    flaw
}
