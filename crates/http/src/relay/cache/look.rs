//! Looking for an answer in the cache before a peer is asked: served if it is there, waited for if another fetches it.
//!
//! A hit is found and made ready without waiting; only what has to wait is a future.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use ::cache::{Ask, Damage, Filling, Found, Lease, Locked, Phase, Status, Stored, Trouble, Unverified};
use os::errlog::{Errno, Level};
use proto::h1::{Known, Method};

use super::purge::{self, PurgeWhen};
use super::settings::{CacheSettings, stale};
use super::vary::{self, Variant};
use super::{Case, Use, follow, key, now, now_s, serve};
use crate::blocking;
use crate::phases::Outcome;
use crate::relay::exchange::client_gone;
use crate::relay::head::Heading;
use crate::request::Request;
use crate::subrequest::{self, Kind, Start};

/// Bytes that nginx needs in the buffer besides a key: a location whose buffer has no room for them caches nothing.
const NGINX_HEAD: usize = 336 + 6 + 1 + 256;

/// What a first look at the cache says.
pub(in crate::relay) enum Look {
    /// The upstream is to be asked.
    Ask,
    /// This becomes of the request.
    Done(Outcome),
    /// Not yet: [`consult`] is to go on with this.
    Undecided(Box<Undecided>),
}

/// What is left to decide.
pub(in crate::relay) enum Undecided {
    /// The request may be one to purge its key.
    Purge,
    /// This may be an answer, or become one.
    Entry(Box<Case>, Found),
}

/// Looks whether the cache has an answer that can be served at once.
pub(in crate::relay) fn look(r: &mut Request, heading: Heading<'_>) -> Look {
    if !matches!(heading.settings.cache.purge, PurgeWhen::Never) {
        return Look::Undecided(Box::new(Undecided::Purge));
    }
    match look_for(r, heading) {
        First::Ask => Look::Ask,
        First::Done(outcome) => Look::Done(outcome),
        First::Entry(case, found) => Look::Undecided(Box::new(Undecided::Entry(case, found))),
    }
}

/// What there is of an entry at first sight.
enum First {
    /// The upstream is to be asked.
    Ask,
    /// This becomes of the request.
    Done(Outcome),
    /// This may be an answer, or become one.
    Entry(Box<Case>, Found),
}

fn look_for(r: &mut Request, heading: Heading<'_>) -> First {
    let settings = &*heading.settings.cache;
    if !settings.takes(r.method) {
        return First::Ask;
    }
    let zone = match settings.zone_of(r) {
        Ok(Some(zone)) => zone,
        Ok(None) => return First::Ask,
        Err(name) => return First::Done(super::unknown_zone(r, &name)),
    };
    let text = key::text(r, heading);
    if NGINX_HEAD + text.len() > heading.settings.buffer_size {
        let (size, least) = (heading.settings.buffer_size, (NGINX_HEAD + text.len()).next_multiple_of(1024));
        r.log(
            Level::Error,
            format_args!(
                "buffer_size {size} is not enough for cache key, it should be increased to at least {least}"
            ),
        );
        return First::Ask;
    }
    let mut case = Box::new(Case::new(zone, text, settings));
    case.is_head_converted = r.method == Method::Head && settings.convert_head;
    if CacheSettings::any_holds(&settings.bypass, r) {
        case.status = Status::Bypass;
        case.begin();
        r.cache = Some(case);
        return First::Ask;
    }
    match find(r, &case, 1) {
        Found::Stored(stored) if is_hit(r, &case, &stored) => {
            case.status = Status::Hit;
            serve::send(r, heading, case, stored).map_or(First::Ask, First::Done)
        }
        found => First::Entry(case, found),
    }
}

/// Whether an entry is the one that this request asks for, and fresh.
fn is_hit(r: &Request, case: &Case, stored: &Stored) -> bool {
    let meta = stored.meta();
    stored.valid_until() >= now()
        && (meta.vary.is_empty() || vary::variant(r, &case.main, &meta.vary) == meta.variant)
}

/// Looks for the entry; trouble beside it goes to the log.
fn find(r: &Request, case: &Case, uses: u16) -> Found {
    let ask = Ask { wants_file: serve::leaves_from_file(r), ..case.ask(uses) };
    let (found, trouble) = case.zone.find(&ask);
    if let Some(trouble) = trouble {
        tell(r, case, &trouble);
    }
    found
}

/// The right to fetch an entry anew, handed to the subrequest that does it.
struct Handed(Lease);

/// What came of a look at the cache.
pub(super) enum Step {
    /// The upstream is to be asked.
    Ask(Box<Case>),
    /// Something has changed: look again.
    Again(Box<Case>),
    /// This becomes of the request.
    Done(Outcome),
}

/// How long a request waits for what others fetch.
struct Patience {
    /// Zero: it has waited long enough.
    timeout_ms: u64,
    /// When that is, once the wait has begun.
    until_ms: Option<u64>,
}

/// Goes on where a first look has not decided. `None`: the upstream is to be asked.
pub(in crate::relay) async fn consult(
    r: &mut Request,
    heading: Heading<'_>,
    undecided: Box<Undecided>,
) -> Option<Outcome> {
    let (mut case, mut found) = match *undecided {
        Undecided::Entry(case, found) => (case, found),
        Undecided::Purge => match purge::own(r, heading).await {
            Some(outcome) => return Some(outcome),
            None => match look_for(r, heading) {
                First::Ask => return None,
                First::Done(outcome) => return Some(outcome),
                First::Entry(case, found) => (case, found),
            },
        },
    };
    let settings = &*heading.settings.cache;
    let mut patience = Patience { timeout_ms: settings.lock_timeout, until_ms: None };
    loop {
        if let Found::Unverified(body) = found {
            found = verify(r, &case, *body).await;
        }
        match found {
            Found::Stored(stored) => match vary::select(r, &mut case, stored.meta()) {
                Variant::This => return serve_found(r, heading, case, stored).await,
                Variant::Other => {
                    found = find(r, &case, 0);
                    continue;
                }
                Variant::Wrong => {
                    let path = case.path();
                    r.log(Level::Crit, format_args!("cache file \"{path}\" has incorrect vary hash"));
                }
            },
            Found::Failed(status) => {
                case.status = Status::Hit;
                case.answer = Use::Cached;
                r.cache = Some(case);
                return Some(Outcome::Status(status));
            }
            Found::Scarce => {
                case.pass();
                break;
            }
            Found::Missing | Found::Unverified(_) => {}
        }
        match fetch_or_wait(r, heading, case, &mut patience).await {
            Step::Again(again) => case = again,
            Step::Ask(ask) => {
                case = ask;
                break;
            }
            Step::Done(outcome) => return Some(outcome),
        }
        found = find(r, &case, 0);
    }
    if case.answer == Use::Kept && is_beyond_range(r, settings) {
        case.pass();
    }
    r.cache = Some(case);
    None
}

/// There is no entry: this request fetches it, or waits for the one that does (`*_cache_lock`).
async fn fetch_or_wait(
    r: &mut Request,
    heading: Heading<'_>,
    mut case: Box<Case>,
    patience: &mut Patience,
) -> Step {
    let settings = &*heading.settings.cache;
    let ticket = case.begin();
    if !settings.lock {
        return Step::Ask(case);
    }
    let now_ms = net::timer::now_ms();
    let filling = match case.zone.lock(&case.ask(0), &ticket, settings.lock_age, now_ms) {
        Locked::Yours(lease) => {
            case.lease = Some(lease);
            return Step::Ask(case);
        }
        Locked::Waits(filling) => filling,
    };
    if patience.timeout_ms == 0 {
        case.pass();
        return Step::Ask(case);
    }
    let until_ms = *patience.until_ms.get_or_insert(now_ms.saturating_add(patience.timeout_ms));
    match wait(r, &filling, until_ms).await {
        Woken::News if filling.phase() == Phase::Declined => Step::Ask(case),
        Woken::News => follow::follow(r, heading, case, &filling).await,
        Woken::Aged => Step::Again(case),
        Woken::TimedOut => {
            r.log(Level::Info, format_args!("cache lock timeout"));
            patience.timeout_ms = 0;
            Step::Again(case)
        }
        Woken::Gone => Step::Done(client_gone(r, "waiting for the cache")),
    }
}

/// Checks a large body; what is wrong with it is as if it were not there.
async fn verify(r: &Request, case: &Case, body: Unverified) -> Found {
    let spoiled = match blocking::run(move || body.check()).await {
        Ok(Ok(stored)) => {
            case.zone.vouch(&case.key, &stored, now_s());
            return Found::Stored(stored);
        }
        Ok(Err(spoiled)) => spoiled,
        Err(undone) => {
            r.log(Level::Error, format_args!("cache file \"{}\" was not checked: {undone}", case.path()));
            return Found::Missing;
        }
    };
    if let Some(trouble) = case.zone.spoiled(&case.key, spoiled) {
        tell(r, case, &trouble);
    }
    Found::Missing
}

/// An entry is there: it is served, or it is too old for that.
async fn serve_found(
    r: &mut Request,
    heading: Heading<'_>,
    mut case: Box<Case>,
    stored: Stored,
) -> Option<Outcome> {
    let settings = &*heading.settings.cache;
    let (meta, now) = (stored.meta(), now());
    let valid_until = stored.valid_until();
    if valid_until >= now {
        case.status = Status::Hit;
        return serve::send(r, heading, case, stored);
    }
    let within = |seconds: i64| valid_until.saturating_add(seconds) >= now;
    case.is_stale_good = within(meta.error_s);
    let is_good = settings.use_stale & stale::UPDATING != 0 || within(meta.updating_s);
    let ticket = case.begin();
    if let Some(Handed(lease)) = r.contexts.take() {
        case.lease = Some(lease);
    } else {
        let now_ms = net::timer::now_ms();
        match case.zone.begin_update(&case.ask(0), &ticket, settings.lock_age, now_ms) {
            None if is_good => {
                case.status = Status::Updating;
                return serve::send(r, heading, case, stored);
            }
            Some(lease) if is_good && settings.background_update => {
                return update_beside(r, heading, case, lease, stored).await;
            }
            lease => case.lease = lease,
        }
    }
    case.status = Status::Expired;
    case.stale = Some(Box::new(stored));
    if is_beyond_range(r, settings) {
        case.pass();
    }
    r.cache = Some(case);
    None
}

/// Serves what is too old while a subrequest fetches it anew (`ngx_http_upstream_cache_background_update`).
async fn update_beside(
    r: &mut Request,
    heading: Heading<'_>,
    mut case: Box<Case>,
    lease: Lease,
    stored: Stored,
) -> Option<Outcome> {
    let (uri, args) = (r.uri.clone(), r.args.clone());
    let Ok(mut update) = r.subrequest(&uri, &args, Kind::Detached, Start::Content) else {
        return Some(Outcome::Status(500));
    };
    update.contexts.put(Handed(lease));
    drop(subrequest::start(update));
    case.status = Status::Stale;
    serve::send(r, heading, case, stored)
}

/// Why a wait for another's fetch is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Woken {
    /// Something is known of the answer.
    News,
    /// The other takes so long that this request may fetch too (`*_cache_lock_age`).
    Aged,
    /// This request has waited long enough (`*_cache_lock_timeout`).
    TimedOut,
    /// The client is gone.
    Gone,
}

async fn wait(r: &Request, filling: &Arc<Filling>, until_ms: u64) -> Woken {
    let mut watch = filling.watch();
    let deadline = Rc::clone(&r.peer_deadline);
    deadline.set_at(until_ms.min(filling.until_ms()));
    let mut news = pin!(async { watch.wait_for(|progress| progress.phase != Phase::Asked).await.is_ok() });
    poll_fn(|cx| {
        if news.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Woken::News);
        }
        if r.poll_client_gone(cx).is_ready() {
            return Poll::Ready(Woken::Gone);
        }
        let is_late = net::timer::now_ms() >= until_ms;
        deadline.poll_over(cx).map(|()| if is_late { Woken::TimedOut } else { Woken::Aged })
    })
    .await
}

/// `Range` that begins too far behind goes to the upstream as it is (`ngx_http_upstream_cache_check_range`).
fn is_beyond_range(r: &Request, settings: &CacheSettings) -> bool {
    let Some(most) = settings.max_range_offset else { return false };
    let Some(range) = r.header(Known::Range) else { return false };
    if most == 0 {
        return true;
    }
    let Some((unit, list)) = range.split_at_checked(6).filter(|(_, list)| !list.is_empty()) else {
        return false;
    };
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return false;
    }
    let list = list.trim_ascii_start();
    if list.first() == Some(&b'-') {
        return true;
    }
    let digits = list.iter().take_while(|byte| byte.is_ascii_digit());
    let start =
        digits.fold(0u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
    start >= most
}

/// nginx's words for what is wrong with the cache.
fn tell(r: &Request, case: &Case, trouble: &Trouble) {
    match trouble {
        Trouble::Damaged(path, damage) => {
            let (level, what) = match damage {
                Damage::TooSmall => (Level::Crit, "is too small"),
                Damage::Version => (Level::Info, "version mismatch"),
                Damage::Collision => (Level::Crit, "has md5 collision"),
                Damage::Checksum => (Level::Crit, "has been changed"),
            };
            r.log(level, format_args!("cache file \"{}\" {what}", path.display()));
        }
        Trouble::Unreadable(path, error) => {
            r.log(Level::Crit, format_args!("open() \"{}\" failed {}", path.display(), Errno(error)));
        }
        Trouble::NoRoom => {
            let zone = case.zone.name();
            r.log(Level::Alert, format_args!("could not allocate node in cache keys zone \"{zone}\""));
        }
    }
}
