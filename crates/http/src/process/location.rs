//! Which location a request is in, and what the location alone decides.

use proto::h1::{Known, Method};

use super::check_body_size;
use crate::conf::location::{Literal, LocationTree, Origin};
use crate::conf::{LocationId, location};
use crate::phases::Outcome;
use crate::request::Request;
use crate::trace;

/// Finds the location of the URI and what it alone decides (`ngx_http_core_find_config_phase`).
pub(super) fn find_location(r: &mut Request) -> Option<Outcome> {
    let root = r.server().root;
    let found = lookup(r, &r.cycle.http.location(root).nested, &r.uri);
    r.enter_location(found.location.unwrap_or(root));
    trace::location(r);
    if !r.internal && r.location().core.internal {
        return Some(Outcome::Status(404));
    }
    if let Some(outcome) = check_body_size(r) {
        return Some(outcome);
    }
    if found.is_redirect {
        let location = r.location();
        let mut target = Vec::with_capacity(location.name.len() + r.args.len() + 1);
        proto::uri::escape(&location.name, proto::uri::EscapeKind::Uri, &mut target);
        if !r.args.is_empty() {
            target.push(b'?');
            target.extend_from_slice(&r.args);
        }
        r.response.headers.set_known(Known::Location, b"Location", &target);
        return Some(Outcome::Status(301));
    }
    None
}

struct Lookup {
    location: Option<LocationId>,
    is_redirect: bool,
    /// The search is over: an exact location, a redirect, or a regular expression that matched.
    is_final: bool,
}

fn lookup(r: &Request, tree: &LocationTree, uri: &[u8]) -> Lookup {
    let http = &r.cycle.http;
    let mut best = Lookup { location: None, is_redirect: false, is_final: false };
    let mut regexes_tried = true;
    match tree.find(uri) {
        Literal::Exact(id) => return Lookup { location: Some(id), is_redirect: false, is_final: true },
        Literal::Redirect(id) => return Lookup { location: Some(id), is_redirect: true, is_final: true },
        Literal::Prefix(id) => {
            let location = http.location(id);
            best.location = Some(id);
            regexes_tried = location.kind != location::Kind::PrefixOnly;
            if !location.nested.is_empty() {
                let nested = lookup(r, &location.nested, uri);
                if nested.is_final {
                    return nested;
                }
                if nested.location.is_some() {
                    // A `^~` inside does not forbid the expressions out here, as in nginx.
                    best = nested;
                }
            }
        }
        Literal::Nothing => {}
    }
    if regexes_tried && let Some((_, id)) = tree.regexes.find(uri, |regex| r.matches(regex, uri)) {
        let location = http.location(*id);
        if !location.nested.is_empty() {
            let nested = lookup(r, &location.nested, uri);
            if nested.location.is_some() {
                return Lookup { is_final: true, ..nested };
            }
        }
        return Lookup { location: Some(*id), is_redirect: false, is_final: true };
    }
    best
}

impl Request {
    /// Takes on the settings of a location (`ngx_http_update_location_config`).
    pub fn enter_location(&mut self, id: LocationId) {
        self.location = id;
        self.handled_by = None;
        if let Some((allowed, other)) = self.cycle.http.location(id).limit_except
            && allowed & crate::conf::core::method_bit(self.method) == 0
        {
            self.location = other;
        }
        self.settle_keepalive();
    }

    /// Takes on the settings of an `if`. Where it says nothing of who answers, whoever would have goes on to, as in
    /// nginx: an `if` before it too, although what that says of where to does not hold any more.
    pub fn enter_if(&mut self, id: LocationId) {
        let before = self.handled_by.unwrap_or(self.location);
        self.enter_location(id);
        if self.cycle.http.location(id).origin == Origin::Inherited {
            self.handled_by = Some(before);
        }
    }

    /// Applies the location's limits on keep-alive connections.
    fn settle_keepalive(&mut self) {
        if !self.keepalive {
            return;
        }
        use crate::conf::core::{KEEPALIVE_DISABLE_MSIE6, KEEPALIVE_DISABLE_SAFARI};
        let core = &self.cycle.http.location(self.location).core;
        let age = net::timer::now_ms().saturating_sub(self.conn.started_ms);
        let disabled = core.keepalive_disable;
        let is_disabled = disabled != 0
            && ((disabled & KEEPALIVE_DISABLE_MSIE6 != 0 && self.method == Method::Post && self.is_msie6())
                || (disabled & KEEPALIVE_DISABLE_SAFARI != 0 && self.is_safari()));
        if core.keepalive_timeout == 0
            || u64::from(self.conn.requests.get()) >= core.keepalive_requests
            || age > core.keepalive_time
            || is_disabled
        {
            self.keepalive = false;
        }
    }

    /// An MSIE that is known for its faults (`ngx_http_process_user_agent`).
    pub(crate) fn is_msie6(&self) -> bool {
        let Some(agent) = self.header(Known::UserAgent) else { return false };
        let Some(at) = memchr::memmem::find(agent, b"MSIE ") else { return false };
        if memchr::memmem::find(agent, b"Opera").is_some() {
            return false;
        }
        match agent.get(at + 5..).unwrap_or_default() {
            [b'4' | b'5', b'.', ..] => true,
            [b'6', b'.', rest @ ..] => memchr::memmem::find(rest, b"SV1").is_none(),
            _ => false,
        }
    }

    fn is_safari(&self) -> bool {
        let has = |part: &[u8]| {
            self.header(Known::UserAgent).is_some_and(|agent| memchr::memmem::find(agent, part).is_some())
        };
        !has(b"Opera") && !has(b"Chrome/") && has(b"Safari/") && has(b"Mac OS X")
    }
}
