//! What a server asks of its clients' certificates (`ssl_verify_client`).

use std::sync::Arc;

use net::tls::ocsp::Doubt;
use net::tls::{Flaw, Purpose, Session, Trust, Verification};

use super::ocsp::Ocsp;
use crate::request::Request;

/// `ssl_verify_client`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyClient {
    /// A certificate is needed, and must be good.
    On,
    /// A certificate must be good if there is one.
    Optional,
    /// A certificate is taken whoever has issued it.
    OptionalNoCa,
}

/// What a server asks of its clients' certificates.
pub struct ClientPolicy {
    /// Whether one is needed.
    pub verify: VerifyClient,
    /// Whose certificates are good.
    pub trust: Arc<Trust>,
    /// Who is asked whether they still are.
    pub ocsp: Option<Ocsp>,
}

/// Why a client is not served, in nginx's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Its certificate is no good.
    #[error("client SSL certificate verify error: ({}:{})", .0.number(), .0.text())]
    Flawed(Flaw),
    /// It has none.
    #[error("client sent no required SSL certificate")]
    Missing,
    /// Its certificate is revoked, or nobody says that it is not.
    #[error("client SSL certificate verify error: {}", .0.text())]
    Doubtful(Doubt),
}

impl ClientPolicy {
    /// How the certificate of this session is judged: under this policy, whichever the handshake was made under.
    #[must_use]
    pub fn judge(&self, session: &Session) -> Verification {
        session
            .judged(self.trust.context(), || self.trust.judge(&session.peer_certificates(), Purpose::Client))
    }

    /// Whether the client may be served.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn admit(&self, session: &Session) -> Result<(), Refused> {
        match (self.judge(session), session.doubt()) {
            (Verification::Bad(flaw), _) if !self.forgives(flaw) => Err(Refused::Flawed(flaw)),
            (Verification::Absent, _) if self.verify == VerifyClient::On => Err(Refused::Missing),
            (_, Some(doubt)) => Err(Refused::Doubtful(doubt)),
            _ => Ok(()),
        }
    }

    /// Asks whether the certificate of this session, which is good by itself, is revoked, where that is to be asked.
    pub(crate) async fn ask_status(&self, r: &Request, session: &Session) {
        let Some(ocsp) = &self.ocsp else { return };
        if self.judge(session) == Verification::Good {
            let chain = self.trust.chain(&session.peer_certificates());
            session.set_doubt(ocsp.judge(r, &chain, &self.trust).await);
        }
    }

    /// Whether a flaw is of no account (`ngx_ssl_verify_error_optional`).
    fn forgives(&self, flaw: Flaw) -> bool {
        self.verify == VerifyClient::OptionalNoCa
            && matches!(
                flaw,
                Flaw::SelfSigned
                    | Flaw::SelfSignedInChain
                    | Flaw::UnableToGetIssuerLocally
                    | Flaw::UnableToVerifyLeaf
            )
    }
}
