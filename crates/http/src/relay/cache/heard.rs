//! What the cache makes of an upstream's head, or of its failure: whether the answer is kept, and whether what was
//! kept is served instead.

use ::cache::{Meta, Stored};
use os::errlog::Level;

use super::{Case, Status, Use, fresh, now, now_s, serve};
use crate::phases::Outcome;
use crate::relay::head::Heading;
use crate::relay::settings::next;
use crate::request::Request;

/// What is to be served instead of the upstream's answer.
pub(in crate::relay) enum Instead {
    /// Nothing: the answer is passed on.
    No,
    /// What is too old, since the answer is an error.
    Stale(Box<Stored>),
    /// What is unchanged, as the answer says.
    Unchanged(Box<Stored>),
}

/// The head of the upstream's answer is there.
pub(in crate::relay) fn head(r: &mut Request, heading: Heading<'_>) -> Instead {
    let Some(mut case) = r.cache.take() else { return Instead::No };
    let settings = &*heading.settings.cache;
    let head = &r.upstream_head;
    let status = head.head.status;
    let instead = match case.stale.take() {
        Some(stored) if settings.serves_stale(next::of_status(status)) => Instead::Stale(stored),
        Some(stored) if status == 304 && settings.revalidate => Instead::Unchanged(stored),
        stored => {
            case.stale = stored;
            Instead::No
        }
    };
    let verdict = fresh::judge(&head.head, &head.text, heading.settings.ignore_headers, now());
    case.meta = verdict.meta;
    if matches!(instead, Instead::No) && verdict.is_refused {
        case.pass();
    }
    r.cache = Some(case);
    instead
}

/// No peer gave an answer: serves what is too old, where that is better than an error.
pub(in crate::relay) fn failed(
    r: &mut Request,
    heading: Heading<'_>,
    kind: u32,
    status: u16,
) -> Option<Outcome> {
    let case = r.cache.as_mut()?;
    let settings = &*heading.settings.cache;
    if (case.is_stale_good || settings.serves_stale(kind))
        && let Some(stored) = case.stale.take()
    {
        return serve_instead(r, heading, Status::Stale, *stored);
    }
    if matches!(status, 502 | 504) && case.answer == Use::Kept {
        note_error(case, status, settings.valid_until(status, now()));
    }
    // Whoever waits tries his own luck, one after the other.
    case.answer = Use::Passed;
    case.lease = None;
    None
}

/// The upstream's answer is not passed on as it is: nothing of it is kept.
#[cold]
pub(in crate::relay) fn dropped(r: &mut Request) {
    if let Some(case) = r.cache.as_mut().filter(|case| case.answer == Use::Kept) {
        case.pass();
    }
}

/// An `error_page` takes the answer's place: its status is kept as long as the answer would have been
/// (`ngx_http_upstream_intercept_errors`).
pub(in crate::relay) fn intercepted(r: &mut Request, heading: Heading<'_>, status: u16) {
    let Some(case) = &mut r.cache else { return };
    if case.answer == Use::Kept {
        let until = match case.meta.valid_until {
            0 => heading.settings.cache.valid_until(status, now()),
            until => Some(until),
        };
        note_error(case, status, until);
    }
    case.pass();
}

fn note_error(case: &Case, status: u16, until: Option<i64>) {
    if let Some(until) = until {
        case.zone.note_error(&case.key, status, until);
    }
}

/// Serves what was kept in the place of the upstream's answer.
pub(in crate::relay) fn serve_instead(
    r: &mut Request,
    heading: Heading<'_>,
    status: Status,
    stored: Stored,
) -> Option<Outcome> {
    let mut case = r.cache.take()?;
    case.status = status;
    // Whoever else waits looks for himself.
    case.lease = None;
    Some(serve::send(r, heading, case, stored).unwrap_or(Outcome::Status(500)))
}

/// The origin says that an entry is unchanged: it is fresh again, as long as this answer says or that one did
/// (`ngx_http_upstream_test_next`).
pub(in crate::relay) fn serve_unchanged(
    r: &mut Request,
    heading: Heading<'_>,
    stored: Box<Stored>,
) -> Option<Outcome> {
    let case = r.cache.take()?;
    let meta = renewed(r, heading, &case, &stored);
    if meta.valid_until > 0
        && let Some(ticket) = &case.ticket
        && let Err(error) = case.zone.retime(&case.ask(0), &stored, meta, ticket)
        && case.zone.may_tell(now_s())
    {
        let path = case.path();
        r.log(Level::Crit, format_args!("open() \"{path}\" failed {}", os::errlog::Errno(&error)));
    }
    r.cache = Some(case);
    serve_instead(r, heading, Status::Revalidated, *stored)
}

/// How long an entry that is unchanged is fresh: `valid_until` is zero where nothing says so.
fn renewed(r: &mut Request, heading: Heading<'_>, case: &Case, stored: &Stored) -> Meta {
    let times = |meta: &Meta| Meta { etag: Vec::new(), vary: Vec::new(), ..meta.clone() };
    let now = now();
    let mut meta = times(&case.meta);
    if meta.valid_until == 0 && serve::load_head(r, stored.head(), None).is_some() {
        let head = &r.upstream_head;
        meta = times(&fresh::judge(&head.head, &head.text, heading.settings.ignore_headers, now).meta);
    }
    if meta.valid_until == 0 {
        let status = r.upstream_head.head.status;
        meta.valid_until = heading.settings.cache.valid_until(status, now).unwrap_or(0);
    }
    meta.date = now;
    meta
}
