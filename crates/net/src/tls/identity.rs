//! A certificate with its chain and its key, as `ssl_certificate` and `ssl_certificate_key` name them.
//!
//! What is wrong with them is said in OpenSSL's words, as nginx passes them on.

use std::sync::{Arc, RwLock};

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer,
};
use rustls::sign::{CertifiedKey, SigningKey};

use super::pem::{self, Block};
use super::x509::Certificate;

/// Most certificates of a chain.
const LONGEST_CHAIN: usize = 100;

/// What is wrong with a certificate or key, as nginx's sentences end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The certificate: what stands behind `cannot load certificate "…": `.
    #[error("{0}")]
    Certificate(String),
    /// The key: what stands behind `cannot load certificate key "…": `.
    #[error("{0}")]
    Key(String),
    /// They do not belong together: what stands behind `SSL_CTX_use_PrivateKey("…") `.
    #[error("failed (SSL: error:05800074:x509 certificate routines::key values mismatch)")]
    Mismatch,
}

/// A certificate chain, its own first.
#[derive(Clone, Debug)]
pub struct Chain {
    certificates: Vec<CertificateDer<'static>>,
    leaf: Arc<Certificate>,
}

impl Chain {
    /// Reads a chain from PEM.
    ///
    /// # Errors
    /// [`IdentityError::Certificate`].
    pub fn read(text: &[u8]) -> Result<Self, IdentityError> {
        let fail = |reason: &str| {
            IdentityError::Certificate(format!("PEM_read_bio_X509_AUX() failed (SSL: {reason})"))
        };
        let blocks = pem::blocks(text).map_err(fail)?;
        let mut certificates = Vec::new();
        for block in blocks.into_iter().filter(is_certificate).take(LONGEST_CHAIN) {
            // A trusted certificate has further data behind it, which is none of the peer's business.
            let parsed = Certificate::parse(&block.der)
                .map_err(|_| fail("error:0688010A:asn1 encoding routines::nested asn1 error"))?;
            certificates.push(parsed);
        }
        let mut certificates = certificates.into_iter();
        let leaf = certificates.next().ok_or_else(|| {
            fail("error:0480006C:PEM routines::no start line:Expecting: TRUSTED CERTIFICATE")
        })?;
        let all = std::iter::once(&leaf).chain(certificates.as_slice());
        let certificates = all.map(|one| CertificateDer::from(one.der().to_vec())).collect();
        Ok(Self { certificates, leaf: Arc::new(leaf) })
    }

    /// The certificate itself.
    #[must_use]
    pub fn leaf(&self) -> &Arc<Certificate> {
        &self.leaf
    }

    /// The certificate that follows it.
    #[must_use]
    pub fn issuer_der(&self) -> Option<&[u8]> {
        self.certificates.get(1).map(AsRef::as_ref)
    }
}

pub(super) fn is_certificate(block: &Block) -> bool {
    matches!(block.label.as_str(), "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE")
}

/// A private key.
#[derive(Clone, Debug)]
pub struct Key {
    signing: Arc<dyn SigningKey>,
    /// The file was encrypted: its key is not to be kept beyond its use.
    pub is_encrypted: bool,
}

impl Key {
    /// Reads a key from PEM; an encrypted one is tried with each of the passwords.
    ///
    /// # Errors
    /// [`IdentityError::Key`].
    pub fn read(text: &[u8], passwords: &[Vec<u8>]) -> Result<Self, IdentityError> {
        let fail =
            |reason: &str| IdentityError::Key(format!("PEM_read_bio_PrivateKey() failed (SSL: {reason})"));
        let blocks = pem::blocks(text).map_err(fail)?;
        let block = blocks
            .into_iter()
            .find(|block| block.label.ends_with("PRIVATE KEY"))
            .ok_or_else(|| fail("error:1E08010C:DECODER routines::unsupported"))?;
        let is_encrypted = super::key_file::is_encrypted(&block);
        let der = super::key_file::decrypt(block, passwords).map_err(fail)?;
        let signing =
            any_supported_type(&der).map_err(|_| fail("error:1E08010C:DECODER routines::unsupported"))?;
        Ok(Self { signing, is_encrypted })
    }
}

/// The DER of a key block that is not encrypted.
pub(super) fn plain_key(label: &str, der: Vec<u8>) -> Option<PrivateKeyDer<'static>> {
    Some(match label {
        "PRIVATE KEY" => PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der)),
        "RSA PRIVATE KEY" => PrivateKeyDer::Pkcs1(PrivatePkcs1KeyDer::from(der)),
        "EC PRIVATE KEY" => PrivateKeyDer::Sec1(PrivateSec1KeyDer::from(der)),
        _ => return None,
    })
}

/// A certificate chain with its key.
#[derive(Debug)]
pub struct Identity {
    chain: Chain,
    /// What rustls is given; replaced when there is a new OCSP answer.
    certified: RwLock<Arc<CertifiedKey>>,
}

impl Identity {
    /// Puts a chain and a key together.
    ///
    /// # Errors
    /// [`IdentityError::Mismatch`].
    pub fn new(chain: Chain, key: &Key) -> Result<Self, IdentityError> {
        if key.signing.public_key().is_some_and(|public| public.as_ref() != chain.leaf.public_key()) {
            return Err(IdentityError::Mismatch);
        }
        let certified = CertifiedKey::new(chain.certificates.clone(), Arc::clone(&key.signing));
        Ok(Self { chain, certified: RwLock::new(Arc::new(certified)) })
    }

    /// The same certificate and key, to be sent with OCSP answers of its own.
    #[must_use]
    pub fn copy(&self) -> Self {
        let mut certified = CertifiedKey::clone(&self.certified());
        certified.ocsp = None;
        Self { chain: self.chain.clone(), certified: RwLock::new(Arc::new(certified)) }
    }

    /// Whether its key is of the same kind as another's, so that it takes the other's place.
    #[must_use]
    pub fn replaces(&self, other: &Self) -> bool {
        self.certified().key.algorithm() == other.certified().key.algorithm()
    }

    /// Whether it is the same certificate and key.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.chain.certificates == other.chain.certificates
            && Arc::ptr_eq(&self.certified().key, &other.certified().key)
    }

    /// The chain.
    #[must_use]
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Sends this OCSP answer along with the certificate from now on.
    pub fn staple(&self, answer: Option<Vec<u8>>) {
        let mut slot = self.certified.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut certified = CertifiedKey::clone(&slot);
        certified.ocsp = answer;
        *slot = Arc::new(certified);
    }

    pub(super) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}
