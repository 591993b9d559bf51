//! `sticky`: requests of one session go to one peer (`ngx_http_upstream_sticky_module`).
//!
//! A cookie or a route names the peer itself; what is learnt from answers lies in a table of all threads.

use std::sync::{Arc, OnceLock};

use os::errlog::Level;
use proto::h1::Known;
use upstream::{Create, Learnt, SessionTable};

use super::{Relay, now};
use crate::request::Request;
use crate::variables::{Template, VariableId};

/// `sticky`.
#[derive(Debug)]
pub struct Sticky {
    /// Variables of which the first that has a value names the session or the peer.
    pub lookup: Vec<VariableId>,
    /// How.
    pub method: StickyMethod,
}

/// How sessions are bound to peers.
#[derive(Debug)]
pub enum StickyMethod {
    /// `route`: the variables name the peer.
    Route,
    /// `cookie`: a cookie of ours names the peer.
    Cookie(Box<StickyCookie>),
    /// `learn`: answers say which peer a session belongs to.
    Learn(Learn),
}

/// The cookie that `sticky cookie` sets.
#[derive(Debug)]
pub struct StickyCookie {
    /// Its name.
    pub name: Box<[u8]>,
    /// `expires=`.
    pub expires: Option<Expires>,
    /// `domain=`.
    pub domain: Option<Template>,
    /// `httponly`.
    pub httponly: Flag,
    /// `secure`.
    pub secure: Flag,
    /// `samesite=`.
    pub samesite: Option<Template>,
    /// `path=`.
    pub path: Option<Box<[u8]>>,
}

/// Whether a word without a value was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flag {
    /// It was not.
    #[default]
    Absent,
    /// It was.
    Present,
}

/// When the cookie ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expires {
    /// `max`: never.
    Max,
    /// After so many seconds.
    After(u64),
}

/// `sticky learn`.
#[derive(Debug)]
pub struct Learn {
    /// Variables of which the first that has a value begins a session.
    pub create: Vec<VariableId>,
    /// Name of the zone, by which sessions go on through a reload.
    pub zone: Box<str>,
    /// Its size, bytes.
    pub zone_bytes: usize,
    /// How long a session lasts without requests, milliseconds.
    pub timeout_ms: u64,
    /// When the answer is looked at.
    pub moment: Moment,
    /// The sessions.
    pub table: OnceLock<Arc<SessionTable>>,
}

/// When a session is learnt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Moment {
    /// At the end of the answer.
    #[default]
    End,
    /// `header`: with its head.
    Head,
}

impl Learn {
    /// The sessions.
    #[must_use]
    pub fn sessions(&self) -> &Arc<SessionTable> {
        self.table.get_or_init(|| Arc::new(SessionTable::new(self.zone_bytes)))
    }

    /// Goes on with the sessions of the same zone.
    pub(crate) fn inherit(&self, earlier: &Self) {
        if self.zone == earlier.zone && self.zone_bytes == earlier.zone_bytes {
            let _ = self.table.set(Arc::clone(earlier.sessions()));
        }
    }
}

/// What a request knows of its session.
#[derive(Debug, Default)]
pub(super) struct Visit {
    id: Vec<u8>,
    cookie: Vec<u8>,
}

/// Whether `strict`, `lax` or `none` is written there.
#[must_use]
pub fn is_samesite(value: &[u8]) -> bool {
    [&b"strict"[..], b"lax", b"none"].iter().any(|known| known.eq_ignore_ascii_case(value))
}

fn first_value(r: &Request, variables: &[VariableId]) -> Vec<u8> {
    let mut values = variables.iter().filter_map(|id| r.variable(*id));
    values.find(|value| !value.is_empty()).unwrap_or_default()
}

impl Relay<'_> {
    /// Looks for the session of a request before its first peer is picked.
    #[inline]
    pub(super) fn begin_visit(&mut self, r: &Request) {
        if self.upstream.sticky.is_some() {
            self.look_for_visit(r);
        }
    }

    #[inline(never)]
    fn look_for_visit(&mut self, r: &Request) {
        let Some(sticky) = &self.upstream.sticky else { return };
        self.visit.id = first_value(r, &sticky.lookup);
        if self.visit.id.is_empty() {
            return;
        }
        let known = match &sticky.method {
            StickyMethod::Learn(learn) => learn.sessions().find(&self.visit.id, learn.timeout_ms, now()),
            StickyMethod::Route | StickyMethod::Cookie(_) => {
                std::str::from_utf8(&self.visit.id).ok().map(Into::into)
            }
        };
        if let Some(sid) = known {
            self.attempt.prefer(&sid);
        }
    }

    /// Makes the cookie that binds the client to the peer that was picked.
    #[inline]
    pub(super) fn bind_visit(&mut self, r: &Request) {
        if self.upstream.sticky.is_some() {
            self.make_cookie(r);
        }
    }

    #[inline(never)]
    fn make_cookie(&mut self, r: &Request) {
        let Some(Sticky { method: StickyMethod::Cookie(cookie), .. }) = &self.upstream.sticky else { return };
        let Some(peer) = self.attempt.peer() else { return };
        self.visit.cookie.clear();
        cookie.write(r, peer.sid.as_bytes(), &mut self.visit.cookie);
    }

    /// Puts the cookie into the answer.
    pub(super) fn push_visit(&mut self, r: &mut Request) {
        if !self.visit.cookie.is_empty() {
            let cookie = std::mem::take(&mut self.visit.cookie);
            r.response.headers.push_known(Known::SetCookie, b"Set-Cookie", &cookie);
        }
    }

    /// Learns which peer the session belongs to, if this is the moment for it.
    #[inline]
    pub(super) fn learn_visit(&self, r: &Request, moment: Moment) {
        if let Some(Sticky { method: StickyMethod::Learn(learn), .. }) = &self.upstream.sticky {
            self.learn(learn, r, moment);
        }
    }

    fn learn(&self, learn: &Learn, r: &Request, moment: Moment) {
        let Some(peer) = self.attempt.peer().filter(|_| learn.moment == moment) else { return };
        let created = first_value(r, &learn.create);
        let (session, create) =
            if created.is_empty() { (&self.visit.id, Create::No) } else { (&created, Create::Yes) };
        if session.is_empty() {
            return;
        }
        let learnt = learn.sessions().learn(session, &peer.sid, create, learn.timeout_ms, now());
        if learnt == Learnt::Evicted {
            r.log(
                Level::Warn,
                format_args!(
                    "could not allocate node in sticky session zone \"{}\", expiring least recently used session",
                    learn.zone
                ),
            );
        }
    }
}

impl StickyCookie {
    fn write(&self, r: &Request, sid: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&self.name);
        out.push(b'=');
        out.extend_from_slice(sid);
        match self.expires {
            None => {}
            Some(Expires::Max) => {
                out.extend_from_slice(b"; expires=Thu, 31-Dec-37 23:55:55 GMT; max-age=315360000");
            }
            Some(Expires::After(seconds)) => {
                let (unix, _) = net::timer::wall_clock();
                out.extend_from_slice(b"; expires=");
                proto::date::cookie(unix.saturating_add_unsigned(seconds), out);
                out.extend_from_slice(b"; max-age=");
                crate::output::push_decimal(seconds, out);
            }
        }
        let domain = self.domain.as_ref().map(|domain| domain.value(r)).unwrap_or_default();
        if !domain.is_empty() {
            out.extend_from_slice(b"; domain=");
            out.extend_from_slice(&domain);
        }
        if self.httponly == Flag::Present {
            out.extend_from_slice(b"; httponly");
        }
        if self.secure == Flag::Present {
            out.extend_from_slice(b"; secure");
        }
        let samesite = self.samesite.as_ref().map(|samesite| samesite.value(r)).unwrap_or_default();
        if !samesite.is_empty() {
            // What a variable says may be anything; the strictest is the safest.
            out.extend_from_slice(b"; samesite=");
            out.extend_from_slice(if is_samesite(&samesite) { &samesite } else { b"strict" });
        }
        if let Some(path) = &self.path {
            out.extend_from_slice(b"; path=");
            out.extend_from_slice(path);
        }
    }
}
