//! How a peer's certificate was judged, in OpenSSL's words; and verifiers that let every certificate through.
//!
//! rustls checks that the peer holds the key. Whether the certificate is any good is judged afterwards, since nginx
//! answers a request with a bad one by 400, and shows the reason in `$ssl_client_verify`.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use super::der::Reader;
use super::x509::Certificate;

/// Judgement of a peer's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verification {
    /// There was none.
    Absent,
    /// It is good.
    Good,
    /// It is not.
    Bad(Flaw),
}

macro_rules! flaws {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// What is wrong with a certificate: OpenSSL's `X509_V_ERR_*`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Flaw {
            $($(#[$doc])* $name,)*
        }

        impl Flaw {
            /// OpenSSL's number.
            #[must_use]
            pub fn number(self) -> u8 {
                match self { $(Self::$name => $number,)* }
            }

            /// OpenSSL's words.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

flaws! {
    /// An issuer is not at hand.
    UnableToGetIssuer = 2, "unable to get issuer certificate";
    /// There is no revocation list of an issuer.
    UnableToGetCrl = 3, "unable to get certificate CRL";
    /// The signature is not the issuer's.
    SignatureFailure = 7, "certificate signature failure";
    /// The list's signature is not the issuer's.
    CrlSignatureFailure = 8, "CRL signature failure";
    /// It is not valid yet.
    NotYetValid = 9, "certificate is not yet valid";
    /// It is valid no more.
    Expired = 10, "certificate has expired";
    /// The list is not valid yet.
    CrlNotYetValid = 11, "CRL is not yet valid";
    /// The list is valid no more.
    CrlExpired = 12, "CRL has expired";
    /// It has issued itself and is not trusted.
    SelfSigned = 18, "self-signed certificate";
    /// The chain ends in one that is not trusted.
    SelfSignedInChain = 19, "self-signed certificate in certificate chain";
    /// The issuer is not at hand.
    UnableToGetIssuerLocally = 20, "unable to get local issuer certificate";
    /// The chain is one certificate that is not trusted.
    UnableToVerifyLeaf = 21, "unable to verify the first certificate";
    /// The chain is longer than allowed.
    TooLong = 22, "certificate chain too long";
    /// A list names it.
    Revoked = 23, "certificate revoked";
    /// An issuer may issue none.
    InvalidCa = 79, "invalid CA certificate";
    /// More certificates lie between than an issuer allows.
    PathLengthExceeded = 25, "path length constraint exceeded";
    /// It is for something else.
    InvalidPurpose = 26, "unsuitable certificate purpose";
    /// It cannot be read, or its signature is of an unknown kind.
    Unspecified = 1, "unspecified certificate verification error";
    /// It has a critical extension that nobody here understands.
    UnhandledCritical = 34, "unhandled critical extension";
    /// An issuer's key is not for certificates.
    KeyUsageNoCertSign = 32, "key usage does not include certificate signing";
}

/// Accepts every certificate whose key its owner has.
#[derive(Debug)]
pub(super) struct Lenient {
    algorithms: WebPkiSupportedAlgorithms,
    subjects: Vec<DistinguishedName>,
}

impl Lenient {
    /// `subjects` are the names of issuers that a client is told of.
    pub(super) fn new(subjects: Vec<DistinguishedName>) -> Arc<Self> {
        Arc::new(Self { algorithms: algorithms(), subjects })
    }

    fn verify(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let bad = || Error::InvalidCertificate(CertificateError::BadEncoding);
        let certificate = Certificate::parse(certificate).map_err(|_| bad())?;
        let mut key = Reader::new(certificate.public_key()).sequence().map_err(|_| bad())?;
        let algorithm = key.element().map_err(|_| bad())?.content;
        let bits = key.bits().map_err(|_| bad())?;
        let candidates = self.algorithms.mapping.iter().find(|(scheme, _)| *scheme == signed.scheme);
        let (_, candidates) = candidates.ok_or(Error::InvalidCertificate(CertificateError::BadSignature))?;
        let fits = candidates.iter().filter(|one| one.public_key_alg_id().as_ref() == algorithm);
        for one in fits {
            if one.verify_signature(bits, message, signed.signature()).is_ok() {
                return Ok(HandshakeSignatureValid::assertion());
            }
        }
        Err(Error::InvalidCertificate(CertificateError::BadSignature))
    }
}

/// What signatures can be checked.
pub(super) fn algorithms() -> WebPkiSupportedAlgorithms {
    default_provider().signature_verification_algorithms
}

/// What the two traits of rustls ask about signatures, in the same words.
macro_rules! signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.verify(message, certificate, signed)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.verify(message, certificate, signed)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.algorithms.supported_schemes()
        }
    };
}

impl ClientCertVerifier for Lenient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.subjects
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    signatures!();
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    signatures!();
}
