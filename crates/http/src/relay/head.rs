//! From the upstream's head to the client's: which fields pass, which are rewritten, and what they command
//! (`ngx_http_upstream_process_headers`).

use std::sync::Arc;

use os::errlog::Level;
use proto::h1::{Field, FramingError, Known, Method};

use super::cache::{Status, Use, heard};
use super::codec::{BodyLength, Codec};
use super::exchange::{Answer, Doing, Failure, READING};
use super::settings::{ignore, next};
use super::sticky::Moment;
use super::{Protocol, Relay, RelaySettings, Rewritten, SWITCHING_PROTOCOLS, UpstreamHead, now};
use crate::output;
use crate::phases::Outcome;
use crate::request::Request;
use crate::response::Ranges;
use crate::websocket;

/// What makes the client's head of an upstream's.
#[derive(Clone, Copy)]
pub(super) struct Heading<'a> {
    pub protocol: &'a dyn Protocol,
    pub settings: &'a RelaySettings,
}

/// What an upstream's head leads to.
pub(super) enum Judged {
    /// The attempt failed, and with it the connection.
    Failed(Failure),
    /// The request is decided, and the connection ends.
    Over(Outcome),
    /// It is decided without the body: the connection may serve another where none is to come.
    Unread(Result<Outcome, Failure>),
    /// The cache has the answer.
    Cached(heard::Instead),
    /// Bytes pass both ways from now on.
    Tunnel,
    /// The client's head is on its way, and such a body follows.
    Body(BodyLength),
}

impl Relay<'_> {
    pub(super) fn heading(&self) -> Heading<'_> {
        Heading { protocol: self.protocol, settings: self.settings }
    }

    /// Looks at a complete head and makes the client's of it, if that is what comes next.
    pub(super) fn judge(&mut self, r: &mut Request) -> Judged {
        let status = r.upstream_head.head.status;
        let method =
            self.plan.method.unwrap_or(if r.method == Method::Head { Method::Head } else { r.line.method });
        if let Some(state) = r.upstreams.last_mut() {
            state.status = status;
            state.header_ms = Some(net::timer::now_ms().saturating_sub(state.started_ms));
        }
        self.attempt.head_seen(now());
        if status >= 500 {
            self.attempt.note_error();
        }
        let length = match self.wire.begin(r, method, self.settings) {
            Ok(length) => length,
            Err(error) => return unframed(r, error),
        };
        let is_tunnel = self.plan.tunnel == Some(status);
        let is_refused =
            if is_tunnel { !takes_tunnel(r) } else { status == SWITCHING_PROTOCOLS && !may_switch(r) };
        if is_refused {
            return Judged::Failed(failed(next::INVALID_HEADER));
        }
        if let Some(kind) = self.wants_next(r, status) {
            return Judged::Unread(Err(failed(kind)));
        }
        if r.cache.is_some() {
            match heard::head(r, self.heading()) {
                heard::Instead::No => {}
                instead => return Judged::Cached(instead),
            }
        }
        self.push_visit(r);
        let instead = self.heading().intercept(r, status).or_else(|| {
            self.learn_visit(r, Moment::Head);
            self.heading().accel_redirect(r)
        });
        if let Some(outcome) = instead {
            heard::dropped(r);
            self.succeed(r);
            return Judged::Unread(Ok(outcome));
        }
        self.heading().copy_head(r, length);
        if is_tunnel {
            heard::dropped(r);
            return Judged::Tunnel;
        }
        if let Err(outcome) = output::send_head(r) {
            heard::dropped(r);
            self.succeed(r);
            return Judged::Over(outcome);
        }
        Judged::Body(length)
    }

    /// The upstream's answer says that what was kept is served.
    #[cold]
    pub(super) fn answer_from_cache(
        &mut self,
        r: &mut Request,
        answer: Answer,
        instead: heard::Instead,
    ) -> Outcome {
        self.push_visit(r);
        self.succeed(r);
        self.finish_unread(answer, r);
        let heading = self.heading();
        let outcome = match instead {
            heard::Instead::No => None,
            heard::Instead::Stale(stored) => heard::serve_instead(r, heading, Status::Stale, *stored),
            heard::Instead::Unchanged(stored) => heard::serve_unchanged(r, heading, stored),
        };
        outcome.unwrap_or(Outcome::Status(500))
    }

    /// The peer did its part.
    pub(super) fn succeed(&mut self, r: &Request) {
        self.learn_visit(r, Moment::End);
        self.count_attempt(r);
        if let Some(notice) = self.attempt.release(::upstream::Outcome::Success, now()) {
            r.log(Level::Warn, format_args!("{notice}"));
        }
        self.bell.ring();
    }

    /// A connection whose answer's body is not wanted serves on only where none of it is to come.
    pub(super) fn finish_unread(&mut self, answer: Answer, r: &Request) {
        if self.may_go_on() && self.wire.may_keep_unread(r, answer.rest()) {
            self.keep(answer);
        }
    }

    /// Whether the request lets its connection serve another one.
    pub(super) fn may_go_on(&self) -> bool {
        self.is_request_whole && !self.plan.closes
    }
}

impl Heading<'_> {
    /// `intercept_errors`: an error status that has an `error_page` is answered by that.
    #[inline]
    fn intercept(&self, r: &mut Request, status: u16) -> Option<Outcome> {
        if status < 300 { None } else { self.intercept_error(r, status) }
    }

    #[inline(never)]
    fn intercept_error(&self, r: &mut Request, status: u16) -> Option<Outcome> {
        if status == 404 && self.settings.intercept_404 {
            heard::intercepted(r, *self, status);
            return Some(Outcome::Status(404));
        }
        if !self.settings.intercept_errors {
            return None;
        }
        // An error of an error page is intercepted too, and then answered by nginx's own page.
        let core = Arc::clone(&r.location().core);
        if !core.error_pages.iter().any(|page| page.status == status) {
            return None;
        }
        if status == 401 {
            self.copy_where(r, |known| known == Known::WwwAuthenticate);
        }
        heard::intercepted(r, *self, status);
        Some(Outcome::Status(status))
    }

    /// `X-Accel-Redirect`: another location answers, with a few of the upstream's fields.
    #[inline]
    pub(super) fn accel_redirect(&self, r: &mut Request) -> Option<Outcome> {
        if r.upstream_head.head.fields.has(Known::XAccelRedirect) { self.redirect(r) } else { None }
    }

    #[cold]
    fn redirect(&self, r: &mut Request) -> Option<Outcome> {
        if self.settings.ignore_headers & ignore::XA_REDIRECT != 0 {
            return None;
        }
        let head = &r.upstream_head;
        let target = head.head.fields.value(Known::XAccelRedirect, &head.text)?.to_vec();
        self.copy_where(r, |known| {
            matches!(
                known,
                Known::ContentType
                    | Known::SetCookie
                    | Known::ContentDisposition
                    | Known::CacheControl
                    | Known::Expires
                    | Known::AcceptRanges
            )
        });
        if target.first() == Some(&b'@') {
            return Some(Outcome::named(target));
        }
        let mut path = Vec::new();
        let args = match proto::uri::parse_unsafe(&target, &mut path) {
            Ok(args) => args.unwrap_or_default().to_vec(),
            Err(_) => {
                let shown = String::from_utf8_lossy(&target).into_owned();
                r.log(Level::Error, format_args!("unsafe URI \"{shown}\" was detected"));
                return Some(Outcome::Status(404));
            }
        };
        if r.method != Method::Head {
            r.method = Method::Get;
        }
        Some(Outcome::redirect(path, args))
    }

    /// Fills the client's head from the upstream's.
    pub(super) fn copy_head(&self, r: &mut Request, length: BodyLength) {
        let usage = r.cache.as_ref().map_or(Use::Passed, |case| case.answer);
        let (head, text) = (&r.upstream_head.head, &r.upstream_head.text);
        r.response.status = head.status;
        r.response.status_line.extend_from_slice(head.status_line.of(text));
        r.response.content_length = match length {
            BodyLength::Known(length) => Some(length),
            // What a body would have been long is said for HEAD and 304 too.
            // RFC 9110, 8.6.
            BodyLength::None if head.status == 204 => None,
            BodyLength::None => {
                head.fields.value(Known::ContentLength, text).and_then(proto::h1::content_length)
            }
            BodyLength::Open => None,
        };
        r.response.disable_not_modified = usage == Use::Passed;
        r.response.omits_server = self.settings.omits_server;
        r.response.omits_date = self.settings.omits_date;
        if self.settings.force_ranges {
            r.response.ranges = if usage == Use::Cached { Ranges::Allowed } else { Ranges::SingleOnly };
        }
        let has_duplicates = proto::h1::has_ignored_duplicates(&r.upstream_head.head.fields);
        let mut index = 0;
        while let Some(field) = r.upstream_head.head.fields.get(index).copied() {
            let UpstreamHead { text, head, .. } = &r.upstream_head;
            if has_duplicates && proto::h1::is_ignored_duplicate(&head.fields, index) {
                warn_of_duplicate(r, &field);
            } else {
                let is_passed = !self.settings.hidden.contains_field(&field, text);
                self.obey(r, &field);
                if is_passed {
                    self.copy_field(r, &field);
                }
            }
            index += 1;
        }
    }

    fn copy_where(&self, r: &mut Request, is_wanted: impl Fn(Known) -> bool) {
        let mut index = 0;
        while let Some(field) = r.upstream_head.head.fields.get(index).copied() {
            if is_wanted(field.known) {
                self.copy_field(r, &field);
            }
            index += 1;
        }
    }

    /// What a field commands.
    #[inline]
    fn obey(&self, r: &mut Request, field: &Field) {
        if matches!(field.known, Known::XAccelLimitRate | Known::XAccelBuffering | Known::XAccelCharset) {
            self.obey_x_accel(r, field);
        }
    }

    #[cold]
    fn obey_x_accel(&self, r: &mut Request, field: &Field) {
        let ignored = self.settings.ignore_headers;
        let value = field.value.of(&r.upstream_head.text);
        match field.known {
            Known::XAccelLimitRate if ignored & ignore::XA_LIMIT_RATE == 0 => {
                if let Some(rate) = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()) {
                    r.limit_rate = Some(rate);
                }
            }
            Known::XAccelBuffering if ignored & ignore::XA_BUFFERING == 0 => {
                if value.eq_ignore_ascii_case(b"no") {
                    r.upstream_buffering = Some(false);
                } else if value.eq_ignore_ascii_case(b"yes") {
                    r.upstream_buffering = Some(true);
                }
            }
            Known::XAccelCharset if ignored & ignore::XA_CHARSET == 0 => {
                r.response.charset_override = Some(value.into());
            }
            _ => {}
        }
    }

    /// Passes a field on.
    #[inline]
    fn copy_field(&self, r: &mut Request, field: &Field) {
        match field.known {
            Known::ContentLength | Known::TransferEncoding | Known::Connection | Known::KeepAlive => {}
            Known::ContentType => {
                r.response.has_type_parameters = true;
                r.response.content_type.clear();
                r.response.content_type.extend_from_slice(field.value.of(&r.upstream_head.text));
            }
            Known::LastModified => {
                r.response.take_last_modified();
                push(r, field);
            }
            Known::AcceptRanges if self.settings.force_ranges => {}
            Known::AcceptRanges if r.fills_cache() => r.response.ranges = Ranges::SingleOnly,
            Known::AcceptRanges if r.is_from_cache() => r.response.ranges = Ranges::Allowed,
            Known::Location | Known::Refresh | Known::SetCookie => self.rewrite_field(r, field),
            _ => push(r, field),
        }
    }

    /// Passes a field on in which addresses or cookies may be rewritten.
    #[inline(never)]
    fn rewrite_field(&self, r: &mut Request, field: &Field) {
        let text = &r.upstream_head.text;
        let value = field.value.of(text);
        let mut out = Vec::new();
        let rewritten = match field.known {
            Known::SetCookie => self.protocol.rewrite_cookie(r, value, &mut out),
            Known::Location => self.protocol.rewrite_redirect(r, value, &mut out),
            _ => match refresh_url(value) {
                None => Rewritten::Same,
                Some(at) => {
                    out.extend_from_slice(&value[..at]);
                    self.protocol.rewrite_redirect(r, &value[at..], &mut out)
                }
            },
        };
        let name = field.name.of(text);
        match rewritten {
            Rewritten::Changed => r.response.headers.push_known(field.known, name, &out),
            // Not ours, so it is not made absolute.
            Rewritten::Same if field.known == Known::Location && value.starts_with(b"/") => {
                r.response.headers.push_known(Known::Other, name, value);
            }
            Rewritten::Same => push(r, field),
        }
    }
}

fn failed(kind: u32) -> Failure {
    Failure { kind, is_stale: false, is_final: false, while_doing: Doing::Reading }
}

/// The head does not say how long its body is.
#[cold]
fn unframed(r: &mut Request, error: FramingError) -> Judged {
    r.log(Level::Error, format_args!("upstream sent {error} while {READING}"));
    if let Some(state) = r.upstreams.last_mut() {
        state.status = 502;
    }
    Judged::Failed(failed(next::INVALID_HEADER))
}

/// Whether the upstream agrees to the tunnel that it was asked for.
#[cold]
fn takes_tunnel(r: &Request) -> bool {
    let is_accepted = websocket::is_accepted(r);
    if !is_accepted {
        r.log(
            Level::Error,
            format_args!("upstream sent invalid \"Sec-WebSocket-Accept\" header while {READING}"),
        );
    }
    is_accepted
}

/// Whether an upstream may speak another protocol though it was not asked to.
#[cold]
fn may_switch(r: &mut Request) -> bool {
    if r.stream().is_none() {
        // The client did not ask for it (RFC 9110, 15.2.2). nginx passes it on; whoever takes what follows for a
        // tunnel is to find nothing there.
        r.keepalive = false;
        return true;
    }
    // HTTP/2 has no such status, and no way to say what the client did not ask for (RFC 9113, 8.6).
    r.log(Level::Error, format_args!("upstream switched protocols unasked while {READING}"));
    false
}

/// Passes a field on as it came.
#[inline]
fn push(r: &mut Request, field: &Field) {
    r.response.headers.push_field(field, &r.upstream_head.text);
}

#[cold]
fn warn_of_duplicate(r: &Request, field: &Field) {
    let name = String::from_utf8_lossy(field.name.of(&r.upstream_head.text));
    r.log(
        Level::Warn,
        format_args!(
            "upstream sent duplicate header line: \"{name}\", ignored while reading response header from upstream"
        ),
    );
}

/// Where the address begins in a `Refresh` field.
fn refresh_url(value: &[u8]) -> Option<usize> {
    let lower = value.to_ascii_lowercase();
    memchr::memmem::find(&lower, b"url=").map(|at| at + 4)
}
