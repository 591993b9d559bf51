//! The way of a request through nginx's phases, from its routed head to the log.
//!
//! [`process`] is the whole of it; what a request waits for is an `await` at the place where it happens.

mod location;

use std::rc::Rc;

use os::errlog::Level;
use proto::h1::{Known, Method};

use self::location::find_location;
use crate::conf::core::Satisfy;
use crate::conf::location::Content;
use crate::delay::{self, Held};
use crate::output;
use crate::phases::{Again, Answered, Outcome, Phase, Verdict, apart};
use crate::relay;
use crate::request::Request;
use crate::special;
use crate::trace;

/// Where the way begins, or begins again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A new request.
    Start,
    /// After an internal redirect, and a subrequest.
    ServerRewrite,
    /// In a named location.
    LocationRewrite,
    /// A subrequest that begins where its parent is.
    Content,
}

/// Handles one request to its end: the answer is sent (or the connection is to be closed) and logged.
pub fn process(r: &mut Request) -> impl Future<Output = ()> {
    conclude(r, Outcome::Declined, Entry::Start)
}

/// Answers a request whose head was refused with `status`.
pub async fn process_failed(r: &mut Request, status: u16) {
    conclude(r, Outcome::Status(status), Entry::Start).await;
}

/// Handles a subrequest up to its last piece of output.
pub(crate) async fn process_subrequest(r: &mut Request, entry: Entry) {
    conclude(r, Outcome::Declined, entry).await;
}

/// Handles `post_action` where the location has one: another location, whose answer nobody gets
/// (`ngx_http_post_action`).
async fn post_action(r: &mut Request) {
    while let Some(target) = r.location().core.post_action.clone() {
        if r.uri.is_empty() || (r.is_post_action && r.uri_changes == 0) {
            return;
        }
        r.is_post_action = true;
        r.response.header_only = true;
        let outcome = match target.first() {
            Some(b'/') => Outcome::redirect(target.to_vec(), Vec::new()),
            _ => Outcome::named(target.to_vec()),
        };
        conclude(r, outcome, Entry::ServerRewrite).await;
    }
}

async fn conclude(r: &mut Request, mut outcome: Outcome, mut entry: Entry) {
    loop {
        if matches!(outcome, Outcome::Declined) {
            outcome = phases(r, entry).await;
        }
        if r.is_subrequest {
            outcome = r.stubbed(outcome);
        }
        outcome = match outcome {
            Outcome::Declined | Outcome::Sent => break,
            Outcome::Send(_) if r.reader.is_open() && r.error_status == 0 && has_broken_body(r) => {
                Outcome::Status(400)
            }
            Outcome::Send(body) => output::send(r, *body).await,
            Outcome::Status(_) | Outcome::Close | Outcome::Broken(_) if r.is_post_action => break,
            Outcome::Status(444) | Outcome::Close => {
                r.close_silently(444);
                break;
            }
            Outcome::Status(status @ (408 | 499)) => {
                r.close_silently(status);
                break;
            }
            Outcome::Status(status) if r.response.head_sent => {
                r.close_silently(status);
                break;
            }
            Outcome::Status(status) => special::respond(r, status),
            Outcome::Broken(status) => {
                r.close_silently(status);
                break;
            }
            Outcome::Again(again) => {
                let begun = match *again {
                    Again::Redirect { uri, args } => {
                        entry = Entry::ServerRewrite;
                        internal_redirect(r, uri, args)
                    }
                    Again::Named(name) => {
                        entry = Entry::LocationRewrite;
                        named_location(r, &name)
                    }
                };
                begun.map_or_else(Outcome::Status, |()| Outcome::Declined)
            }
        };
    }
}

/// Whether a body that the answer does not need is wrong in what has come of it (`ngx_http_discard_request_body`).
#[cold]
pub(crate) fn has_broken_body(r: &mut Request) -> bool {
    let is_broken = r.reader.is_broken();
    if is_broken {
        r.log(Level::Error, format_args!("client sent invalid chunked body"));
    }
    is_broken
}

/// Ends a request whose answer was sent or given up: its subrequests have ended too, and it is logged.
pub async fn log(r: &mut Request) {
    if has_more(r) {
        // That is seldom and would make the future of every request larger.
        apart(end_more(r)).await;
    }
    write_log(r);
}

/// Whether other requests belong to this one, which are to end before it is logged.
#[inline]
pub(crate) fn has_more(r: &Request) -> bool {
    has_post_action(r) || r.family.is_some()
}

fn has_post_action(r: &Request) -> bool {
    r.location().core.post_action.is_some() && !r.is_subrequest && r.response.status != 444
}

/// Handles or waits for what [`has_more`] asks for.
async fn end_more(r: &mut Request) {
    if has_post_action(r) {
        post_action(r).await;
    }
    if r.family.is_some() {
        subrequests_ended(r).await;
    }
}

/// Logs a request that has ended.
pub(crate) fn write_log(r: &mut Request) {
    trace::end(r);
    let cycle = Rc::clone(&r.cycle);
    for handler in cycle.http.location(r.location).concerned.handlers(Phase::Log) {
        // Whatever it says, nothing follows.
        let _ = handler.run(r);
    }
}

/// Asks the modules whether a session of `stream` may go on; if not, the status that it ends with.
pub async fn admit(r: &mut Request) -> Result<(), u16> {
    for phase in [Phase::PostRead, Phase::Rewrite, Phase::PreAccess, Phase::Access] {
        match generic(r, phase).await {
            None => {}
            Some(Outcome::Status(status)) => return Err(status),
            Some(_) => return Err(500),
        }
    }
    Ok(())
}

/// Waits for the subrequests of a request whose answer was sent or given up.
async fn subrequests_ended(r: &Request) {
    let Some(family) = r.family.as_deref().map(Rc::clone) else { return };
    if !r.output.is_idle() {
        // The client did not take the answer: nobody would take theirs.
        family.abort();
    }
    family.ended().await;
}

/// `ngx_http_internal_redirect`.
#[cold]
fn internal_redirect(r: &mut Request, uri: Vec<u8>, args: Vec<u8>) -> Result<(), u16> {
    r.uri_changes = r.uri_changes.saturating_sub(1);
    if r.uri_changes == 0 {
        let shown = String::from_utf8_lossy(&uri).into_owned();
        r.log(
            Level::Error,
            format_args!("rewrite or internal redirection cycle while internally redirecting to \"{shown}\""),
        );
        return Err(500);
    }
    r.uri = uri;
    r.args = args;
    r.forget_contexts();
    r.location = r.server().root;
    r.internal = true;
    r.valid_unparsed_uri = false;
    r.add_uri_to_alias = false;
    r.valid_location = true;
    Ok(())
}

/// `ngx_http_named_location`.
#[cold]
fn named_location(r: &mut Request, name: &[u8]) -> Result<(), u16> {
    r.uri_changes = r.uri_changes.saturating_sub(1);
    let shown = String::from_utf8_lossy(name).into_owned();
    if r.uri_changes == 0 {
        r.log(
            Level::Error,
            format_args!(
                "rewrite or internal redirection cycle while redirect to named location \"{shown}\""
            ),
        );
        return Err(500);
    }
    if r.uri.is_empty() {
        r.log(Level::Error, format_args!("empty URI in redirect to named location \"{shown}\""));
        return Err(500);
    }
    let found = r.server().named.iter().find(|(known, _)| **known == *name).map(|(_, id)| *id);
    let Some(id) = found else {
        r.log(Level::Error, format_args!("could not find named location \"{shown}\""));
        return Err(500);
    };
    r.internal = true;
    r.forget_contexts();
    r.enter_location(id);
    Ok(())
}

async fn phases(r: &mut Request, mut entry: Entry) -> Outcome {
    // Mostly nobody stands between a request and its location, nor between that and its content.
    if entry == Entry::Start && leads_to_location(r) {
        if let Some(outcome) = find_location(r) {
            return outcome;
        }
        entry = if leads_to_content(r) { Entry::Content } else { Entry::LocationRewrite };
    }
    if entry != Entry::Content
        && let Some(outcome) = phases_before_content(r, entry).await
    {
        return outcome;
    }
    content(r).await
}

/// Whether no module asks anything before the location is looked for.
#[inline]
fn leads_to_location(r: &Request) -> bool {
    let server = r.location();
    server.core.client_body_early_read.is_empty()
        && server.concerned.handlers(Phase::PostRead).is_empty()
        && server.concerned.handlers(Phase::ServerRewrite).is_empty()
}

/// Whether no module asks anything before the location's content.
#[inline]
fn leads_to_content(r: &Request) -> bool {
    let phases = [Phase::Rewrite, Phase::PreAccess, Phase::Access, Phase::PreContent];
    phases.iter().all(|phase| !concerns(r, *phase))
}

/// Asks the modules what comes of the request before its content does, if anything.
async fn phases_before_content(r: &mut Request, entry: Entry) -> Option<Outcome> {
    if entry == Entry::Start {
        if !r.location().core.client_body_early_read.is_empty()
            && let Err(outcome) = read_early(r).await
        {
            return Some(outcome);
        }
        if concerns(r, Phase::PostRead)
            && let Some(outcome) = generic(r, Phase::PostRead).await
        {
            return Some(outcome);
        }
    }
    let mut relocate = entry != Entry::LocationRewrite;
    if relocate
        && concerns(r, Phase::ServerRewrite)
        && let Rewritten::Finish(outcome) = rewrite(r, Phase::ServerRewrite).await
    {
        return Some(outcome);
    }
    loop {
        if relocate && let Some(outcome) = find_location(r) {
            return Some(outcome);
        }
        if !concerns(r, Phase::Rewrite) {
            break;
        }
        match rewrite(r, Phase::Rewrite).await {
            Rewritten::Finish(outcome) => return Some(outcome),
            Rewritten::Same => break,
            Rewritten::Changed => {
                if let Some(outcome) = relocated(r) {
                    return Some(outcome);
                }
                relocate = true;
            }
        }
    }
    if concerns(r, Phase::PreAccess)
        && let Some(outcome) = generic(r, Phase::PreAccess).await
    {
        return Some(outcome);
    }
    if !r.is_subrequest
        && concerns(r, Phase::Access)
        && let Some(outcome) = access(r).await
    {
        return Some(outcome);
    }
    if concerns(r, Phase::PreContent) { generic(r, Phase::PreContent).await } else { None }
}

/// Whether any module has something to do in a phase: no future is made where none has.
#[inline]
fn concerns(r: &Request, phase: Phase) -> bool {
    !r.location().concerned.handlers(phase).is_empty()
}

/// Goes back to the search for the location, if not once too often.
fn relocated(r: &mut Request) -> Option<Outcome> {
    r.uri_changes = r.uri_changes.saturating_sub(1);
    if r.uri_changes == 0 {
        let uri = String::from_utf8_lossy(&r.uri).into_owned();
        r.log(Level::Error, format_args!("rewrite or internal redirection cycle while processing \"{uri}\""));
        return Some(Outcome::Status(500));
    }
    r.location = r.server().root;
    None
}

/// Waits for the verdict of a handler that could not say it at once.
async fn settled(verdict: Verdict<'_>) -> Verdict<'static> {
    let mut verdict = verdict;
    loop {
        verdict = match verdict {
            Verdict::Declined => return Verdict::Declined,
            Verdict::Pass => return Verdict::Pass,
            Verdict::Relocate => return Verdict::Relocate,
            Verdict::Finish(outcome) => return Verdict::Finish(outcome),
            Verdict::Wait(later) => later.await,
        };
    }
}

async fn generic(r: &mut Request, phase: Phase) -> Option<Outcome> {
    let cycle = Rc::clone(&r.cycle);
    for handler in cycle.http.location(r.location).concerned.handlers(phase) {
        match handler.run(r) {
            Verdict::Declined => {}
            Verdict::Pass => break,
            Verdict::Finish(outcome) => return Some(outcome),
            later => match settled(later).await {
                Verdict::Finish(outcome) => return Some(outcome),
                Verdict::Pass => break,
                _ => {}
            },
        }
    }
    None
}

enum Rewritten {
    Same,
    Changed,
    Finish(Outcome),
}

async fn rewrite(r: &mut Request, phase: Phase) -> Rewritten {
    let cycle = Rc::clone(&r.cycle);
    for handler in cycle.http.location(r.location).concerned.handlers(phase) {
        let verdict = match handler.run(r) {
            Verdict::Declined => continue,
            verdict => settled(verdict).await,
        };
        match verdict {
            Verdict::Finish(outcome) => return Rewritten::Finish(outcome),
            // What comes behind acts in the location that is found next.
            Verdict::Relocate => return Rewritten::Changed,
            _ => {}
        }
    }
    Rewritten::Same
}

async fn access(r: &mut Request) -> Option<Outcome> {
    let cycle = Rc::clone(&r.cycle);
    let satisfy = r.location().core.satisfy;
    r.access_code = 0;
    for handler in cycle.http.location(r.location).concerned.handlers(Phase::Access) {
        let verdict = match handler.run(r) {
            Verdict::Declined => continue,
            verdict => settled(verdict).await,
        };
        match verdict {
            Verdict::Pass if satisfy == Satisfy::Any => {
                r.access_code = 0;
                let is_tunnel = r.method == Method::Connect;
                let challenge = if is_tunnel { Known::ProxyAuthenticate } else { Known::WwwAuthenticate };
                r.response.headers.remove_known(challenge);
                return None;
            }
            Verdict::Finish(Outcome::Status(status @ (401 | 403 | 407))) if satisfy == Satisfy::Any => {
                let keeps_challenge = matches!(r.access_code, 401 | 407);
                r.access_code = if keeps_challenge { r.access_code } else { status };
            }
            Verdict::Finish(Outcome::Status(status @ (401 | 407))) => {
                return Some(refuse(r, status).await);
            }
            Verdict::Finish(outcome) => return Some(outcome),
            _ => {}
        }
    }
    match r.access_code {
        0 => None,
        403 => {
            r.log(Level::Error, format_args!("access forbidden by rule"));
            Some(Outcome::Status(403))
        }
        status => Some(refuse(r, status).await),
    }
}

/// What becomes of a request that is not authorized, after `auth_delay`.
async fn refuse(r: &Request, status: u16) -> Outcome {
    let delay_ms = r.location().core.auth_delay;
    if delay_ms > 0 {
        r.log(Level::Info, format_args!("delaying unauthorized request"));
        // One turn of the event loop more, so that how long checking took does not show.
        net::yield_now().await;
        if delay::hold_back(r, delay_ms).await == Held::Gone {
            return Outcome::Status(499);
        }
    }
    Outcome::Status(status)
}

/// `client_max_body_size`, as far as the head tells.
fn check_body_size(r: &Request) -> Option<Outcome> {
    let limit = r.location().core.client_max_body_size;
    let length = r.content_length.filter(|length| limit > 0 && *length > limit && !r.discard_body)?;
    r.log(Level::Error, format_args!("client intended to send too large body: {length} bytes"));
    r.expects_continue.set(false);
    Some(Outcome::Status(413))
}

/// `client_body_early_read`: the body is there before the first phase (`ngx_http_read_early_body`).
async fn read_early(r: &mut Request) -> Result<(), Outcome> {
    let conditions = r.location().core.client_body_early_read.clone();
    if !conditions.iter().any(|condition| condition.holds(r)) {
        return Ok(());
    }
    match check_body_size(r) {
        Some(outcome) => Err(outcome),
        // Seldom used: it is not to enlarge the future of every request.
        None => Box::pin(crate::body::read_all(r)).await,
    }
}

/// The content phase: the location's own handler, or the first of the general ones that answers.
async fn content(r: &mut Request) -> Outcome {
    let cycle = Rc::clone(&r.cycle);
    match &cycle.http.location(r.handled_by.unwrap_or(r.location)).content {
        Some(Content::Relay(passing)) => {
            return relay::run(r, &cycle, passing(cycle.http.location(r.location))).await;
        }
        // Only the settings of `stream` have it, and their sessions do not come here.
        Some(Content::Session(_)) => return Outcome::Status(500),
        Some(Content::Answer(handler)) => {
            let outcome = match handler.answer(r) {
                Answered::Now(outcome) => outcome,
                Answered::Wait(later) => later.await,
            };
            // What it declines goes to those that every location has.
            if !matches!(outcome, Outcome::Declined) {
                return outcome;
            }
        }
        None => {}
    }
    for handler in &cycle.http.location(r.location).concerned.content {
        let outcome = match handler.answer(r) {
            Answered::Now(outcome) => outcome,
            Answered::Wait(later) => later.await,
        };
        if !matches!(outcome, Outcome::Declined) {
            return outcome;
        }
    }
    if r.uri.last() == Some(&b'/') {
        if let Ok(path) = crate::paths::map_uri(r) {
            let shown = String::from_utf8_lossy(&path.full).into_owned();
            r.log(Level::Error, format_args!("directory index of \"{shown}\" is forbidden"));
        }
        return Outcome::Status(403);
    }
    r.log(Level::Error, format_args!("no handler found"));
    Outcome::Status(404)
}

impl Request {
    /// Ends without (further) words: the connection is closed, the log shows `status` where none was sent.
    pub fn close_silently(&mut self, status: u16) {
        if self.is_subrequest {
            // Only what cannot be answered at all takes the main request with it.
            self.output.is_failed |= status != 0;
            return;
        }
        if let Some(family) = &self.family {
            family.abort();
        }
        self.keepalive = false;
        self.lingering = false;
        self.is_complete = true;
        self.output.discard();
        if !self.response.head_sent || self.response.status == 0 {
            self.response.status = status;
        }
        match self.stream() {
            Some(stream) if status == 408 => stream.time_out(),
            Some(_) => {}
            None if status == 444 || status == 408 => self.conn_timed_out(),
            None => {}
        }
    }

    fn conn_timed_out(&self) {
        if self.location().core.reset_timedout_connection {
            use std::os::fd::AsFd;
            let _ = os::tcp::set_reset_on_close(self.conn.stream.as_fd());
        }
    }
}
