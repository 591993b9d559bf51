//! Answers of upstreams that are kept: looked up before a peer is asked, and written while they pass
//! (`ngx_http_upstream_cache` and what follows it).
//!
//! The store knows keys and bytes; here is what HTTP says of them. A request has a [`Case`] while its location
//! caches, and nothing of all this otherwise.

mod follow;
mod fresh;
pub(super) mod heard;
mod hints;
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

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use ::cache::{
    Ask, Damage, Filling, Found, Key, Lease, Locked, Meta, Phase, Stored, Ticket, Trouble, Unverified,
};
use os::errlog::{Errno, Level};
use proto::h1::{Known, Method};

pub use self::purge::PurgeWhen;
pub use self::settings::{CacheSettings, Store};
pub(super) use self::sink::{Ending, Sink};
pub use ::cache::{Status, Zone};

use self::settings::stale;
use super::head::Heading;
use crate::blocking;
use crate::phases::Outcome;
use crate::request::Request;
use crate::subrequest::{self, Kind, Start};

/// Bytes that nginx needs in the buffer besides a key: a location whose buffer has no room for them caches nothing.
const NGINX_HEAD: usize = 336 + 6 + 1 + 256;

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

/// The right to fetch an entry anew, handed to the subrequest that does it.
struct Handed(Lease);

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

    fn ask(&self, uses: u16) -> Ask<'_> {
        Ask {
            key: self.key,
            main: self.main,
            text: &self.text,
            gone: self.gone,
            stale: self.stale_since,
            min_uses: self.min_uses,
            uses,
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

/// Unix seconds.
fn now_s() -> u64 {
    u64::try_from(net::timer::wall_clock().0).unwrap_or(0)
}

fn now() -> i64 {
    net::timer::wall_clock().0
}

/// The key that a location without `*_cache_key` has: the name that the client knows the site by, and what it asks
/// for there.
pub(super) fn push_default_key(r: &Request, out: &mut Vec<u8>) {
    push_site(r, out);
    out.extend_from_slice(r.line.target.of(&r.head));
}

/// Appends scheme and host as the client knows them: answers of one site are never another's.
pub fn push_site(r: &Request, out: &mut Vec<u8>) {
    out.extend_from_slice(if r.conn.is_tls() { b"https://" } else { b"http://" });
    out.extend_from_slice(if r.host.is_empty() { &r.server().name } else { &r.host });
}

/// Appends a sum over the request's body, which must have been read.
pub fn push_body_sum(r: &Request, out: &mut Vec<u8>) {
    out.push(b'#');
    if let Some(body) = r.body.memory() {
        out.extend_from_slice(&Key::of(body).name());
    } else if let crate::body::RequestBody::File { file, length, .. } = &r.body {
        let mut body = vec![0; usize::try_from(*length).unwrap_or(0)];
        // What cannot be read is like no other body.
        match std::os::unix::fs::FileExt::read_exact_at(&**file, &mut body, 0) {
            Ok(()) => out.extend_from_slice(&Key::of(&body).name()),
            Err(_) => out.extend_from_slice(format!("{:p}", &raw const *r).as_bytes()),
        }
    }
}

/// What a first look at the cache says.
pub(super) enum Look {
    /// The upstream is to be asked.
    Ask,
    /// This becomes of the request.
    Done(Outcome),
    /// Not yet: [`consult`] is to go on with this.
    Undecided(Box<Undecided>),
}

/// What a first look has found.
pub(super) enum Undecided {
    /// The request may be one to purge its key.
    Purge,
    /// This may be an answer, or become one.
    Entry(Box<Case>, Found),
}

/// Looks whether the cache has an answer that can be served at once.
pub(super) fn look(r: &mut Request, heading: Heading<'_>) -> Look {
    match heading.settings.cache.purge {
        PurgeWhen::Never => look_for(r, heading),
        _ => Look::Undecided(Box::new(Undecided::Purge)),
    }
}

fn look_for(r: &mut Request, heading: Heading<'_>) -> Look {
    let settings = &*heading.settings.cache;
    if !settings.takes(r.method) {
        return Look::Ask;
    }
    let zone = match settings.zone_of(r) {
        Ok(Some(zone)) => zone,
        Ok(None) => return Look::Ask,
        Err(name) => return Look::Done(unknown_zone(r, &name)),
    };
    let text = key_text(r, heading);
    if NGINX_HEAD + text.len() > heading.settings.buffer_size {
        let (size, least) = (heading.settings.buffer_size, (NGINX_HEAD + text.len()).next_multiple_of(1024));
        r.log(
            Level::Error,
            format_args!(
                "buffer_size {size} is not enough for cache key, it should be increased to at least {least}"
            ),
        );
        return Look::Ask;
    }
    let mut case = Box::new(Case::new(zone, text, settings));
    case.is_head_converted = r.method == Method::Head && settings.convert_head;
    if CacheSettings::any_holds(&settings.bypass, r) {
        case.status = Status::Bypass;
        case.begin();
        r.cache = Some(case);
        return Look::Ask;
    }
    match find(r, &case, 1) {
        Found::Stored(stored) if is_hit(r, &case, &stored) => {
            case.status = Status::Hit;
            serve::send(r, heading, case, stored).map_or(Look::Ask, Look::Done)
        }
        found => Look::Undecided(Box::new(Undecided::Entry(case, found))),
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
    let (found, trouble) = case.zone.find(&case.ask(uses));
    if let Some(trouble) = trouble {
        tell(r, case, &trouble);
    }
    found
}

fn unknown_zone(r: &Request, name: &str) -> Outcome {
    r.log(Level::Error, format_args!("cache \"{name}\" not found"));
    Outcome::Status(500)
}

/// What the key of a request is made of.
fn key_text(r: &Request, heading: Heading<'_>) -> Vec<u8> {
    let mut text = Vec::with_capacity(128);
    match &heading.settings.cache.key {
        Some(key) => key.append(r, &mut text),
        None => heading.protocol.cache_key(r, &mut text),
    }
    text
}

/// What came of a look at the cache.
enum Step {
    /// The upstream is to be asked.
    Ask(Box<Case>),
    /// Something has changed: look again.
    Again(Box<Case>),
    /// This becomes of the request.
    Done(Outcome),
}

/// Goes on where a first look has not decided. `None`: the upstream is to be asked.
pub(super) async fn consult(
    r: &mut Request,
    heading: Heading<'_>,
    undecided: Box<Undecided>,
) -> Option<Outcome> {
    let (mut case, first) = match *undecided {
        Undecided::Entry(case, found) => (case, found),
        Undecided::Purge => {
            if let Some(outcome) = purge::own(r, heading).await {
                return Some(outcome);
            }
            match look_for(r, heading) {
                Look::Ask => return None,
                Look::Done(outcome) => return Some(outcome),
                Look::Undecided(undecided) => match *undecided {
                    Undecided::Entry(case, found) => (case, found),
                    Undecided::Purge => return None,
                },
            }
        }
    };
    let settings = &*heading.settings.cache;
    let mut lock_timeout = settings.lock_timeout;
    let mut wait_until = None;
    let mut first = Some(first);
    loop {
        let found = match first.take() {
            Some(found) => found,
            None => find(r, &case, 0),
        };
        let found = match found {
            Found::Unverified(body) => verify(r, &case, *body).await,
            other => other,
        };
        match found {
            Found::Stored(stored) => match select_variant(r, &mut case, &stored) {
                Variant::This => return serve_found(r, heading, case, stored).await,
                Variant::Other => continue,
                Variant::Wrong => {
                    let path = path(&case);
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
        let ticket = case.begin();
        if !settings.lock {
            break;
        }
        let now_ms = net::timer::now_ms();
        let filling = match case.zone.lock(&case.ask(0), &ticket, settings.lock_age, now_ms) {
            Locked::Yours(lease) => {
                case.lease = Some(lease);
                break;
            }
            Locked::Waits(filling) => filling,
        };
        if lock_timeout == 0 {
            case.pass();
            break;
        }
        let until_ms = *wait_until.get_or_insert(now_ms.saturating_add(lock_timeout));
        match wait(r, &filling, until_ms).await {
            Woken::News if filling.phase() == Phase::Declined => break,
            Woken::News => match follow::follow(r, heading, case, &filling).await {
                Step::Again(again) => case = again,
                Step::Ask(ask) => {
                    case = ask;
                    break;
                }
                Step::Done(outcome) => return Some(outcome),
            },
            Woken::Aged => {}
            Woken::TimedOut => {
                r.log(Level::Info, format_args!("cache lock timeout"));
                lock_timeout = 0;
            }
            Woken::Gone => {
                return Some(super::exchange::client_gone(r, "waiting for the cache"));
            }
        }
    }
    if case.answer == Use::Kept && is_beyond_range(r, settings) {
        case.pass();
    }
    r.cache = Some(case);
    None
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

/// Whether an entry is the variant that a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    /// It is.
    This,
    /// It tells which other one is.
    Other,
    /// It lies where that one belongs, and is another all the same.
    Wrong,
}

/// Goes over to the variant that this request asks for, if the entry is another one.
fn select_variant(r: &Request, case: &mut Case, stored: &Stored) -> Variant {
    let meta = stored.meta();
    if meta.vary.is_empty() {
        return Variant::This;
    }
    let variant = vary::variant(r, &case.main, &meta.vary);
    if variant == meta.variant {
        return Variant::This;
    }
    if case.is_variant {
        return Variant::Wrong;
    }
    case.choose(variant, meta);
    Variant::Other
}

/// Checks a large body; what is wrong with it is as if it were not there.
async fn verify(r: &Request, case: &Case, body: Unverified) -> Found {
    let damage = match blocking::run(move || body.check()).await {
        Ok(Ok(stored)) => {
            case.zone.vouch(&case.key, &stored, now_s());
            return Found::Stored(stored);
        }
        Ok(Err(damage)) => damage,
        Err(undone) => {
            r.log(Level::Error, format_args!("cache file \"{}\" was not checked: {undone}", path(case)));
            return Found::Missing;
        }
    };
    case.zone.spoiled(&case.key, damage);
    tell(r, case, &Trouble::Damaged(case.zone.path_of(&case.key), damage));
    Found::Missing
}

fn path(case: &Case) -> String {
    case.zone.path_of(&case.key).display().to_string()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_not_large() {
        assert!(size_of::<Case>() <= 400, "{}", size_of::<Case>());
    }
}
