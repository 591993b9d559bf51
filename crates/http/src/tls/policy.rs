//! What a server asks of its clients' certificates (`ssl_verify_client`).

use std::sync::Arc;

use net::tls::{Flaw, Purpose, Session, Trust, Verification};

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
}

impl ClientPolicy {
    /// How the certificate of this session is judged: under this policy, whichever the handshake was made under.
    #[must_use]
    pub fn judge(&self, session: &Session) -> Verification {
        session
            .judged(self.trust.context(), || self.trust.judge(&session.peer_certificates(), Purpose::Client))
    }

    /// Whether a flaw is of no account (`ngx_ssl_verify_error_optional`).
    #[must_use]
    pub fn forgives(&self, flaw: Flaw) -> bool {
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
