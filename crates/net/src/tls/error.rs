//! What can go wrong with a peer's TLS, in OpenSSL's words: operators search their logs for them.
//!
//! The numbers and reasons are those of OpenSSL 3; which of them are only worth an `info` is nginx's choice
//! (`ngx_ssl_connection_error`).

use std::fmt;
use std::io;

use rustls::{AlertDescription, CertificateError, InvalidMessage, PeerIncompatible, PeerMisbehaved};

/// Why a TLS connection failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The peer's fault, or what it says of ours.
    #[error("{}", Reason(.0))]
    Protocol(rustls::Error),
    /// The peer closed the connection during the handshake.
    #[error("peer closed connection in SSL handshake")]
    Closed,
    /// The peer sends a message without end.
    #[error("SSL: error:0A000098:SSL routines::excessive message size")]
    TooMuch,
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// How grave nginx takes a failure to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Worth an `info`: the peer is to blame, and there are many such peers.
    Peer,
    /// Worth a `crit`.
    Grave,
}

/// The TLS failure inside an I/O error, if that is what it is.
#[must_use]
pub fn fault(error: &io::Error) -> Option<(&Error, Fault)> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    let fault = match error {
        Error::Protocol(error) if number_and_reason(error).is_none() => Fault::Grave,
        _ => Fault::Peer,
    };
    Some((error, fault))
}

/// Which call a failure is told of: the socket's, or OpenSSL's where TLS has failed.
#[must_use]
pub fn failed_call<'a>(error: &io::Error, socket: &'a str, tls: &'a str) -> &'a str {
    if fault(error).is_some() { tls } else { socket }
}

struct Reason<'a>(&'a rustls::Error);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (number_and_reason(self.0), self.0) {
            (Some((number, reason)), rustls::Error::AlertReceived(alert)) => {
                let alert = u8::from(*alert);
                write!(f, "SSL: error:{number:08X}:SSL routines::{reason}:SSL alert number {alert}")
            }
            (Some((number, reason)), _) => write!(f, "SSL: error:{number:08X}:SSL routines::{reason}"),
            (None, error) => write!(f, "SSL: error:0A0C0103:SSL routines::internal error:{error}"),
        }
    }
}

/// OpenSSL's number and reason; none for what OpenSSL has no word for.
fn number_and_reason(error: &rustls::Error) -> Option<(u32, &'static str)> {
    /// The number of a reason in the SSL library.
    const fn ssl(reason: u32) -> u32 {
        0x0A00_0000 + reason
    }
    Some(match error {
        rustls::Error::AlertReceived(alert) => {
            let reason = alert_reason(*alert);
            (ssl(1000 + u32::from(u8::from(*alert))), reason)
        }
        rustls::Error::PeerIncompatible(why) => match why {
            PeerIncompatible::NoCipherSuitesInCommon
            | PeerIncompatible::NoKxGroupsInCommon
            | PeerIncompatible::NoSignatureSchemesInCommon => (ssl(193), "no shared cipher"),
            PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::Tls13RequiredForQuic
            // Hellos of older protocols have no such extension.
            | PeerIncompatible::SignatureAlgorithmsExtensionRequired => (ssl(258), "unsupported protocol"),
            _ => (ssl(246), "required compression algorithm missing"),
        },
        rustls::Error::InvalidMessage(why) => match why {
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion => {
                (ssl(267), "wrong version number")
            }
            InvalidMessage::MessageTooLarge | InvalidMessage::CertificatePayloadTooLarge => {
                (ssl(152), "excessive message size")
            }
            InvalidMessage::InvalidServerName => (ssl(110), "bad extension"),
            _ => (ssl(159), "length mismatch"),
        },
        rustls::Error::InappropriateMessage { .. } | rustls::Error::InappropriateHandshakeMessage { .. } => {
            (ssl(244), "unexpected message")
        }
        rustls::Error::DecryptError => (ssl(281), "decryption failed or bad record mac"),
        rustls::Error::PeerSentOversizedRecord => (ssl(150), "packet length too long"),
        rustls::Error::NoApplicationProtocol => (ssl(235), "no application protocol"),
        rustls::Error::InvalidCertificate(CertificateError::BadSignature) => (ssl(123), "bad signature"),
        rustls::Error::InvalidCertificate(_) => (ssl(134), "certificate verify failed"),
        rustls::Error::NoCertificatesPresented => (ssl(199), "peer did not return a certificate"),
        rustls::Error::PeerMisbehaved(why) => match why {
            PeerMisbehaved::TooManyEmptyFragments => (ssl(298), "record too small"),
            PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme => (ssl(370), "wrong signature type"),
            PeerMisbehaved::IllegalMiddleboxChangeCipherSpec => (ssl(260), "bad change cipher spec"),
            _ => (ssl(244), "unexpected message"),
        },
        _ => return None,
    })
}

fn alert_reason(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::CloseNotify => "ssl/tls alert close notify",
        AlertDescription::UnexpectedMessage => "ssl/tls alert unexpected message",
        AlertDescription::BadRecordMac => "ssl/tls alert bad record mac",
        AlertDescription::RecordOverflow => "tlsv1 alert record overflow",
        AlertDescription::HandshakeFailure => "ssl/tls alert handshake failure",
        AlertDescription::BadCertificate => "ssl/tls alert bad certificate",
        AlertDescription::UnsupportedCertificate => "ssl/tls alert unsupported certificate",
        AlertDescription::CertificateRevoked => "ssl/tls alert certificate revoked",
        AlertDescription::CertificateExpired => "ssl/tls alert certificate expired",
        AlertDescription::CertificateUnknown => "ssl/tls alert certificate unknown",
        AlertDescription::IllegalParameter => "ssl/tls alert illegal parameter",
        AlertDescription::UnknownCA => "tlsv1 alert unknown ca",
        AlertDescription::AccessDenied => "tlsv1 alert access denied",
        AlertDescription::DecodeError => "tlsv1 alert decode error",
        AlertDescription::DecryptError => "tlsv1 alert decrypt error",
        AlertDescription::ProtocolVersion => "tlsv1 alert protocol version",
        AlertDescription::InsufficientSecurity => "tlsv1 alert insufficient security",
        AlertDescription::InternalError => "tlsv1 alert internal error",
        AlertDescription::InappropriateFallback => "tlsv1 alert inappropriate fallback",
        AlertDescription::UserCanceled => "tlsv1 alert user cancelled",
        AlertDescription::NoRenegotiation => "tlsv1 alert no renegotiation",
        AlertDescription::MissingExtension => "tlsv13 alert missing extension",
        AlertDescription::UnsupportedExtension => "tlsv1 unsupported extension",
        AlertDescription::UnrecognisedName => "tlsv1 unrecognized name",
        AlertDescription::BadCertificateStatusResponse => "tlsv1 bad certificate status response",
        AlertDescription::CertificateRequired => "tlsv13 alert certificate required",
        AlertDescription::NoApplicationProtocol => "tlsv1 alert no application protocol",
        _ => "unknown alert type",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_in_openssls_words() {
        let check = |error: rustls::Error, text: &str, expected: Fault| {
            let error = io::Error::from(Error::Protocol(error));
            let (told, grade) = fault(&error).expect("a TLS failure");
            assert_eq!((told.to_string().as_str(), grade), (text, expected));
        };
        check(
            rustls::Error::AlertReceived(AlertDescription::UnknownCA),
            "SSL: error:0A000418:SSL routines::tlsv1 alert unknown ca:SSL alert number 48",
            Fault::Peer,
        );
        check(
            rustls::Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon),
            "SSL: error:0A0000C1:SSL routines::no shared cipher",
            Fault::Peer,
        );
        check(
            rustls::Error::NoApplicationProtocol,
            "SSL: error:0A0000EB:SSL routines::no application protocol",
            Fault::Peer,
        );
        check(
            rustls::Error::General("x".into()),
            "SSL: error:0A0C0103:SSL routines::internal error:unexpected error: x",
            Fault::Grave,
        );
        assert!(fault(&io::ErrorKind::TimedOut.into()).is_none());
    }
}
