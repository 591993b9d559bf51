//! Answers of upstreams that are kept: looked up before a peer is asked, and written while they pass
//! (`ngx_http_upstream_cache` and what follows it).
//!
//! The store knows keys and bytes; here is what HTTP says of them. A request has a [`Case`] while its location
//! caches, and nothing of all this otherwise.

mod follow;
mod fresh;
pub(super) mod heard;
mod hints;
mod key;
mod look;
pub mod path;
mod purge;
mod rows;
mod save;
mod serve;
pub mod settings;
mod sink;
mod tags;
mod trailers;
mod vary;

use std::sync::Arc;

use ::cache::{Ask, Key, Lease, Meta, Stored, Ticket};
use os::errlog::Level;

pub(super) use self::key::push_default_key;
pub use self::key::{push_body_sum, push_site};
pub(super) use self::look::{Look, Undecided, consult, look};
pub use self::purge::PurgeWhen;
pub use self::settings::{CacheSettings, Store};
pub(super) use self::sink::{Ending, Sink};
pub use ::cache::{Status, Zone};

use crate::phases::Outcome;
use crate::request::Request;

/// What becomes of the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Use {
    /// It may be kept.
    #[default]
    Kept,
    /// It is passed on and forgotten.
    Passed,
    /// It comes out of the cache.
    Cached,
}

/// A request's dealings with the cache.
pub struct Case {
    zone: Arc<Zone>,
    /// What the main key is made of.
    text: Vec<u8>,
    main: Key,
    /// The main key, or that of a variant.
    key: Key,
    is_variant: bool,
    /// What the main entry says of variants ([`Meta::gone`], [`Meta::stale`]).
    gone: u64,
    stale_since: u64,
    /// What the upstream brings may be stored; there once it is to be asked.
    ticket: Option<Ticket>,
    /// Bytes of the answer, from the cache or the upstream.
    pub bytes: u64,
    /// How it fared so far.
    pub status: Status,
    /// What becomes of the answer.
    pub answer: Use,
    /// HEAD goes to the upstream as GET.
    pub is_head_converted: bool,
    min_uses: u64,
    /// Others may wait for what is fetched.
    lease: Option<Lease>,
    /// What is too old, but better than an error.
    stale: Option<Box<Stored>>,
    /// The entry itself says that it is better than an error.
    is_stale_good: bool,
    revalidates: bool,
    /// What the answer's head says.
    meta: Meta,
}

impl Case {
    fn new(zone: Arc<Zone>, text: Vec<u8>, settings: &CacheSettings) -> Self {
        let key = Key::of(&text);
        Self {
            zone,
            text,
            main: key,
            key,
            is_variant: false,
            gone: 0,
            stale_since: 0,
            ticket: None,
            bytes: 0,
            status: Status::Miss,
            answer: Use::Kept,
            is_head_converted: false,
            min_uses: settings.min_uses,
            lease: None,
            stale: None,
            is_stale_good: false,
            revalidates: settings.revalidate,
            meta: Meta::default(),
        }
    }

    /// `Last-Modified` of the entry that the upstream is asked about (`$upstream_cache_last_modified`).
    #[must_use]
    pub fn last_modified(&self) -> Option<i64> {
        self.asked_about()?.last_modified
    }

    /// Its `ETag` (`$upstream_cache_etag`).
    #[must_use]
    pub fn etag(&self) -> Option<&[u8]> {
        self.asked_about().map(|meta| &*meta.etag).filter(|etag| !etag.is_empty())
    }

    fn asked_about(&self) -> Option<&Meta> {
        let stored = self.stale.as_ref().filter(|_| self.revalidates && self.status == Status::Expired)?;
        Some(stored.meta())
    }

    /// The answer is not kept: whoever waits for it has to fetch for himself.
    fn pass(&mut self) {
        self.answer = Use::Passed;
        self.ticket = None;
        if let Some(lease) = self.lease.take() {
            lease.decline();
        }
    }

    /// Where the entry lies, for the log.
    fn path(&self) -> String {
        self.zone.path_of(&self.key).display().to_string()
    }

    fn ask(&self, uses: u16) -> Ask<'_> {
        Ask {
            key: self.key,
            main: self.main,
            text: &self.text,
            gone: self.gone,
            stale: self.stale_since,
            min_uses: self.min_uses,
            uses,
            wants_file: false,
            now_s: now_s(),
        }
    }

    /// Goes over to the variant that a request asks for.
    fn choose(&mut self, variant: Key, main: &Meta) {
        self.is_variant = true;
        self.key = variant;
        (self.gone, self.stale_since) = (main.gone, main.stale);
    }

    /// A fetch begins: what is purged from now on is not stored by it.
    fn begin(&mut self) -> Ticket {
        self.ticket.insert(self.zone.ticket()).clone()
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        self.lease = None;
        self.zone.counters().answered(self.status, self.bytes);
        if self.min_uses <= 1 && self.answer != Use::Cached {
            self.zone.forget_empty(&self.key);
        }
    }
}

impl Request {
    /// Whether the answer may be kept, so that the upstream is to be asked for all of it.
    #[inline]
    #[must_use]
    pub fn fills_cache(&self) -> bool {
        self.cache.as_ref().is_some_and(|case| case.answer == Use::Kept)
    }

    /// Whether the answer comes out of the cache.
    #[must_use]
    pub fn is_from_cache(&self) -> bool {
        self.cache.as_ref().is_some_and(|case| case.answer == Use::Cached)
    }

    /// Whether HEAD goes to the upstream as GET.
    #[inline]
    #[must_use]
    pub fn is_head_converted(&self) -> bool {
        self.cache.as_ref().is_some_and(|case| case.is_head_converted)
    }
}

fn unknown_zone(r: &Request, name: &str) -> Outcome {
    r.log(Level::Error, format_args!("cache \"{name}\" not found"));
    Outcome::Status(500)
}

/// Unix seconds.
fn now_s() -> u64 {
    u64::try_from(net::timer::wall_clock().0).unwrap_or(0)
}

fn now() -> i64 {
    net::timer::wall_clock().0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_not_large() {
        assert!(size_of::<Case>() <= 400, "{}", size_of::<Case>());
    }
}
