//! `ssl_stapling`: OCSP answers that are sent along with the certificate.
//!
//! They are fetched in the background when a client comes and the last one is old; nobody waits for them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use net::tls::ocsp::{self, CertStatus, Signers};
use net::tls::x509::Certificate;
use net::tls::{Identity, Trust};
use os::errlog::{ErrorLog, Level};

use super::responder::{Inquiry, Responder};
use crate::conf::core::CoreSettings;

/// How long a responder may take, milliseconds.
const TIMEOUT_MS: u64 = 60_000;
/// Seconds until a failure is tried again, and the least between two fetches.
const RETRY: i64 = 300;
/// Seconds after which an answer is fetched anew at the latest.
const LATEST: i64 = 3600;

/// What is asked about a certificate of one's own, and whom.
pub struct Source {
    /// The certificate's file, for messages.
    pub name: String,
    /// Who has issued it.
    pub issuer: Certificate,
    /// Who is asked.
    pub responder: Responder,
    /// By whom signers are judged, if they are.
    pub trust: Option<Arc<Trust>>,
    /// The resolver of the server.
    pub core: Arc<CoreSettings>,
}

/// The answers for one certificate of one server.
pub struct Stapling {
    identity: Arc<Identity>,
    source: Source,
    valid_until: AtomicI64,
    refresh_at: AtomicI64,
    is_loading: AtomicBool,
}

impl Stapling {
    /// Answers that are sent along with `identity`.
    #[must_use]
    pub fn new(identity: Arc<Identity>, source: Source) -> Self {
        Self {
            identity,
            source,
            valid_until: AtomicI64::new(i64::MAX),
            refresh_at: AtomicI64::new(0),
            is_loading: AtomicBool::new(false),
        }
    }

    /// Takes back an answer whose time is over, and fetches another where it is time to.
    pub fn freshen(self: &Arc<Self>, log: &Arc<ErrorLog>) {
        let now = net::timer::wall_clock().0;
        if self.valid_until.load(Ordering::Relaxed) < now {
            self.identity.staple(None);
            self.valid_until.store(i64::MAX, Ordering::Relaxed);
        }
        if self.refresh_at.load(Ordering::Relaxed) >= now || self.is_loading.swap(true, Ordering::Relaxed) {
            return;
        }
        let (this, log) = (Arc::clone(self), Arc::clone(log));
        net::spawn(async move {
            let loading = Loading(&this.is_loading);
            let due = this.load(&log).await;
            let refresh_at = due.unwrap_or_else(|| net::timer::wall_clock().0 + RETRY);
            this.refresh_at.store(refresh_at, Ordering::Relaxed);
            drop(loading);
        });
    }

    /// Fetches an answer and staples it; says when the next one is due.
    async fn load(&self, log: &ErrorLog) -> Option<i64> {
        let Source { name, issuer, responder, trust, core } = &self.source;
        let log = |level, message: fmt::Arguments<'_>| log.log(level, message);
        let (timeout_ms, certificate) = (Some(TIMEOUT_MS), Some(name.as_str()));
        let inquiry = Inquiry { responder, core, timeout_ms, certificate, log: &log };
        let leaf = self.identity.chain().leaf();
        let Ok(question) = ocsp::request(leaf, issuer) else {
            inquiry.tell(Level::Crit, None, format_args!("OCSP_cert_to_id() failed"));
            return None;
        };
        let reply = inquiry.ask(&question).await?;
        let tell = |message: fmt::Arguments<'_>| inquiry.tell(Level::Error, Some(&reply.peer), message);
        let now = net::timer::wall_clock().0;
        let signers = Signers { at_hand: std::slice::from_ref(issuer), trust: trust.as_deref() };
        let answer = match ocsp::read(&reply.der, leaf, issuer, signers, now) {
            Ok(answer) => answer,
            Err(error) => {
                tell(format_args!("{error}"));
                return None;
            }
        };
        if answer.status != CertStatus::Good {
            tell(format_args!("certificate status \"{}\" in the OCSP response", answer.status.name()));
            return None;
        }
        let valid_until = answer.valid_until.unwrap_or(i64::MAX);
        self.identity.staple(Some(reply.der.clone()));
        self.valid_until.store(valid_until, Ordering::Relaxed);
        Some(valid_until.saturating_sub(RETRY).min(now + LATEST).max(now + RETRY))
    }
}

/// Somebody is fetching, as long as this lives.
struct Loading<'a>(&'a AtomicBool);

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
