//! Whether a certificate is to be trusted: the chain to a trusted root, checked as OpenSSL checks it.
//!
//! nginx lets every check go on after a failure and reports the last one; so does this.

use std::collections::HashMap;
use std::fmt;

use super::crl::{self, RevocationList};
use super::der::{Malformed, Reader};
use super::identity::is_certificate;
use super::pem;
use super::sessions::Context;
use super::verify::{Flaw, Verification, algorithms};
use super::x509::{Certificate, oid};

/// Most certificates of the peer that a chain is made of.
const MOST_UNTRUSTED: usize = 32;
/// Most certificates between who has signed something and a trusted one, as OpenSSL has it.
const SIGNER_DEPTH: usize = 100;
/// Most issuers of one name that are tried.
const MOST_CANDIDATES: usize = 8;
/// `keyCertSign` in the first byte of `keyUsage`.
const CERT_SIGN: u8 = 0x04;
/// `digitalSignature`, `keyEncipherment`, `keyAgreement`.
const SIGN: u8 = 0x80;
const ENCIPHER: u8 = 0x20;
const AGREE: u8 = 0x08;

/// What a certificate is to be good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A client shows it.
    Client,
    /// A server shows it.
    Server,
    /// Whatever it is for.
    Any,
}

/// What is wrong with the texts of a [`Trust`], as OpenSSL says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// A file of certificates.
    #[error("PEM_read_bio_X509_AUX() failed (SSL: {reason})")]
    Certificates {
        /// Which of the files.
        index: usize,
        /// Why.
        reason: &'static str,
    },
    /// The file of revocation lists.
    #[error("PEM_read_bio_X509_CRL() failed (SSL: {0})")]
    Lists(&'static str),
}

/// Whom is trusted, how far, and who is not any more.
pub struct Trust {
    certificates: Vec<Certificate>,
    by_subject: HashMap<Vec<u8>, Vec<usize>>,
    /// Most certificates between the peer's and the trusted one.
    pub depth: usize,
    lists: Vec<RevocationList>,
    context: Context,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").field("certificates", &self.certificates.len()).finish_non_exhaustive()
    }
}

impl Trust {
    /// Trust in the certificates of PEM files, with the revocation lists of another.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn read(files: &[&[u8]], crl: Option<&[u8]>, depth: usize) -> Result<Self, TrustError> {
        let mut certificates = Vec::new();
        for (index, text) in files.iter().enumerate() {
            let known = certificates.len();
            let fail = |reason| TrustError::Certificates { index, reason };
            for block in pem::blocks(text).map_err(fail)?.into_iter().filter(is_certificate) {
                let certificate = Certificate::parse(&block.der)
                    .map_err(|_| fail("error:0688010A:asn1 encoding routines::nested asn1 error"))?;
                certificates.push(certificate);
            }
            if certificates.len() == known {
                return Err(fail(
                    "error:0480006C:PEM routines::no start line:Expecting: TRUSTED CERTIFICATE",
                ));
            }
        }
        let lists =
            crl.map(RevocationList::read_all).transpose().map_err(TrustError::Lists)?.unwrap_or_default();
        let mut by_subject: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
        for (index, certificate) in certificates.iter().enumerate() {
            by_subject.entry(certificate.subject().to_vec()).or_default().push(index);
        }
        let depth_bytes = (depth as u64).to_be_bytes();
        let parts = certificates.iter().map(Certificate::der).chain(crl).chain([&depth_bytes[..]]);
        let context = Context::of(parts);
        Ok(Self { certificates, by_subject, depth, lists, context })
    }

    /// Whether nobody is trusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.certificates.is_empty()
    }

    /// The trusted certificates.
    #[must_use]
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// What tells this trust from another.
    #[must_use]
    pub fn context(&self) -> Context {
        self.context
    }

    /// Judges the certificates that a peer has sent, its own first.
    #[must_use]
    pub fn judge(&self, chain: &[Vec<u8>], purpose: Purpose) -> Verification {
        let Ok(peer) = parse_all(chain) else { return Verification::Bad(Flaw::Unspecified) };
        match peer.split_first() {
            None => Verification::Absent,
            Some((leaf, others)) => self.verdict(&self.build(leaf, others, self.depth), purpose),
        }
    }

    /// Judges who has signed something, at whatever depth below a trusted certificate; `others` may lie between.
    #[must_use]
    pub fn judge_signer<'c>(
        &self,
        signer: &Certificate,
        others: impl IntoIterator<Item = &'c Certificate>,
    ) -> Verification {
        let others: Vec<Certificate> = others.into_iter().take(MOST_UNTRUSTED).cloned().collect();
        self.verdict(&self.build(signer, &others, SIGNER_DEPTH), Purpose::Any)
    }

    /// The way from what a peer has sent to a trusted certificate, its own first, as far as it leads.
    #[must_use]
    pub fn chain(&self, certificates: &[Vec<u8>]) -> Vec<Certificate> {
        let peer = parse_all(certificates).unwrap_or_default();
        let Some((leaf, others)) = peer.split_first() else { return Vec::new() };
        self.build(leaf, others, self.depth).chain.into_iter().cloned().collect()
    }

    fn verdict(&self, built: &Built<'_>, purpose: Purpose) -> Verification {
        match self.flaw(built, purpose, crate::timer::wall_clock().0) {
            None => Verification::Good,
            Some(flaw) => Verification::Bad(flaw),
        }
    }

    /// The last thing wrong with a chain.
    fn flaw(&self, built: &Built<'_>, purpose: Purpose, now: i64) -> Option<Flaw> {
        let chain = &built.chain;
        let mut flaw = built.flaw;
        flaw = check_extensions(chain, purpose).or(flaw);
        if !self.lists.is_empty() {
            for (index, certificate) in chain.iter().enumerate() {
                let issuer = chain.get(index + 1).unwrap_or(certificate);
                flaw = crl::check(&self.lists, certificate, issuer, now).or(flaw);
            }
        }
        let top = chain.len() - 1;
        if top == 0 && !chain[0].is_self_issued() {
            flaw = Some(Flaw::UnableToVerifyLeaf);
        }
        for index in (0..=top).rev() {
            let certificate = chain[index];
            if let Some(issuer) = chain.get(index + 1)
                && !is_signed_by(issuer, certificate.algorithm(), certificate.tbs(), certificate.signature())
            {
                flaw = Some(Flaw::SignatureFailure);
            }
            if certificate.not_before > now {
                flaw = Some(Flaw::NotYetValid);
            }
            if certificate.not_after < now {
                flaw = Some(Flaw::Expired);
            }
        }
        flaw
    }

    /// The way from a certificate to a trusted root, as far as it leads.
    fn build<'c>(&'c self, leaf: &'c Certificate, others: &'c [Certificate], depth: usize) -> Built<'c> {
        let mut chain = vec![leaf];
        let mut untrusted = 1;
        loop {
            let last = chain[chain.len() - 1];
            let is_last_trusted = self.holds(last);
            if last.is_self_issued() {
                let flaw = match (is_last_trusted, chain.len()) {
                    (true, _) => None,
                    (false, 1) => Some(Flaw::SelfSigned),
                    (false, _) => Some(Flaw::SelfSignedInChain),
                };
                return Built { chain, flaw };
            }
            if chain.len() > depth.saturating_add(1) {
                return Built { chain, flaw: Some(Flaw::TooLong) };
            }
            if let Some(issuer) = self.trusted_issuer(last) {
                chain.push(issuer);
                continue;
            }
            let candidates = others.iter().filter(|other| is_issuer(other, last)).take(MOST_CANDIDATES);
            let issuer =
                best(candidates, last).filter(|other| !chain.iter().any(|own| own.der() == other.der()));
            match issuer {
                Some(issuer) => {
                    untrusted += 1;
                    chain.push(issuer);
                }
                None => {
                    let has_trusted = untrusted < chain.len();
                    let flaw =
                        if has_trusted { Flaw::UnableToGetIssuer } else { Flaw::UnableToGetIssuerLocally };
                    return Built { chain, flaw: Some(flaw) };
                }
            }
        }
    }

    fn holds(&self, certificate: &Certificate) -> bool {
        self.of_name(certificate.subject()).any(|own| own.der() == certificate.der())
    }

    fn of_name(&self, name: &[u8]) -> impl Iterator<Item = &Certificate> {
        let places = self.by_subject.get(name).map(Vec::as_slice).unwrap_or_default();
        places.iter().filter_map(|index| self.certificates.get(*index))
    }

    fn trusted_issuer(&self, certificate: &Certificate) -> Option<&Certificate> {
        let candidates = self.of_name(certificate.issuer()).filter(|one| is_issuer(one, certificate));
        best(candidates.take(MOST_CANDIDATES), certificate)
    }
}

fn parse_all(chain: &[Vec<u8>]) -> Result<Vec<Certificate>, Malformed> {
    chain.iter().take(MOST_UNTRUSTED).map(|der| Certificate::parse(der)).collect()
}

struct Built<'c> {
    /// The peer's certificate first.
    chain: Vec<&'c Certificate>,
    flaw: Option<Flaw>,
}

/// The one whose key made the signature; the first where none did, so that this is what is found wrong.
fn best<'c>(candidates: impl Iterator<Item = &'c Certificate>, of: &Certificate) -> Option<&'c Certificate> {
    let candidates: Vec<&Certificate> = candidates.collect();
    if let [only] = &*candidates {
        return Some(only);
    }
    let signed = |issuer: &&&Certificate| is_signed_by(issuer, of.algorithm(), of.tbs(), of.signature());
    candidates.iter().find(signed).or(candidates.first()).copied()
}

/// Whether the names, and the key's identifiers where both have one, say that one has issued the other.
fn is_issuer(issuer: &Certificate, certificate: &Certificate) -> bool {
    issuer.subject() == certificate.issuer()
        && match (certificate.authority_key_id(), issuer.subject_key_id()) {
            (Some(wanted), Some(own)) => wanted == own,
            _ => true,
        }
}

/// Whether the issuer's key made a signature.
pub(super) fn is_signed_by(issuer: &Certificate, algorithm: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let Ok(mut key) = Reader::new(issuer.public_key()).sequence() else { return false };
    let (Ok(key_algorithm), Ok(bits)) = (key.element(), key.bits()) else { return false };
    algorithms().all.iter().any(|one| {
        one.signature_alg_id().as_ref() == algorithm
            && one.public_key_alg_id().as_ref() == key_algorithm.content
            && one.verify_signature(bits, message, signature).is_ok()
    })
}

fn check_extensions(chain: &[&Certificate], purpose: Purpose) -> Option<Flaw> {
    let mut flaw = None;
    let mut between = 0u64;
    for (index, certificate) in chain.iter().enumerate() {
        if certificate.has_unknown_critical {
            flaw = Some(Flaw::UnhandledCritical);
        }
        if index > 0 && !may_issue(certificate) {
            flaw = Some(Flaw::InvalidCa);
        }
        if !fits(certificate, purpose, index == 0) {
            flaw = Some(Flaw::InvalidPurpose);
        }
        if index > 0 {
            let allowed = certificate.basic_constraints.and_then(|constraints| constraints.path_length);
            if allowed.is_some_and(|allowed| between > allowed) {
                flaw = Some(Flaw::PathLengthExceeded);
            }
            if !certificate.is_self_issued() {
                between += 1;
            }
        }
    }
    flaw
}

/// Whether a certificate may issue others (`check_ca`): one of version 1 that has issued itself may too.
fn may_issue(certificate: &Certificate) -> bool {
    if certificate.key_usage.is_some_and(|usage| usage[0] & CERT_SIGN == 0) {
        return false;
    }
    match certificate.basic_constraints {
        Some(constraints) => constraints.is_ca,
        None => (certificate.version == 1 && certificate.is_self_issued()) || certificate.key_usage.is_some(),
    }
}

fn fits(certificate: &Certificate, purpose: Purpose, is_leaf: bool) -> bool {
    let (id, usage) = match purpose {
        Purpose::Client => (oid::CLIENT_AUTH, SIGN | AGREE),
        Purpose::Server => (oid::SERVER_AUTH, SIGN | ENCIPHER | AGREE),
        Purpose::Any => return true,
    };
    certificate.allows(id) && (!is_leaf || certificate.key_usage.is_none_or(|own| own[0] & usage != 0))
}

/// Whether a certificate is for this host (`X509_check_host`): the names of its extension, else its common name.
#[must_use]
pub fn matches_host(certificate: &Certificate, host: &[u8]) -> bool {
    let mut names = certificate.dns_names().peekable();
    if names.peek().is_some() {
        return names.any(|name| matches_name(name, host));
    }
    certificate.common_names().iter().any(|name| matches_name(name, host))
}

/// A name with at most one asterisk, in its leftmost label, which stands for no dot.
fn matches_name(name: &[u8], host: &[u8]) -> bool {
    if name.is_empty() || host.is_empty() {
        return false;
    }
    if name.eq_ignore_ascii_case(host) {
        return true;
    }
    let Some(star) = name.iter().position(|byte| *byte == b'*') else { return false };
    let Some(dot) = name.iter().position(|byte| *byte == b'.').filter(|dot| *dot > star) else {
        return false;
    };
    let (label, rest) = name.split_at(dot);
    let (front, back) = (&label[..star], &label[star + 1..]);
    // At least two labels must follow, and a part of an encoded name is no part of a name.
    if back.contains(&b'*')
        || rest.contains(&b'*')
        || rest[1..].iter().filter(|byte| **byte == b'.').count() < 1
    {
        return false;
    }
    let Some(host_dot) = host.iter().position(|byte| *byte == b'.') else { return false };
    let (own, own_rest) = host.split_at(host_dot);
    if !own_rest.eq_ignore_ascii_case(rest) || own.len() <= front.len() + back.len() {
        return false;
    }
    if label.len() > 1 && own.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(b"xn--")) {
        return false;
    }
    own[..front.len()].eq_ignore_ascii_case(front) && own[own.len() - back.len()..].eq_ignore_ascii_case(back)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let check = |name: &str, host: &str, expected: bool| {
            assert_eq!(matches_name(name.as_bytes(), host.as_bytes()), expected, "{name} {host}");
        };
        check("example.com", "EXAMPLE.com", true);
        check("example.com", "a.example.com", false);
        check("*.example.com", "a.example.com", true);
        check("*.example.com", "example.com", false);
        check("*.example.com", "a.b.example.com", false);
        check("f*.example.com", "foo.example.com", true);
        check("f*.example.com", "goo.example.com", false);
        check("f*.example.com", "xn--f.example.com", false);
        check("*.com", "example.com", false);
        check("a.*.com", "a.b.com", false);
        check("**.example.com", "a.example.com", false);
        check("*", "a", false);
        check("", "", false);
    }
}
