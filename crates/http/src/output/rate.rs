//! `limit_rate`: how many bytes of an answer may leave by now.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use net::Deadline;

use crate::request::Request;
use crate::variables::Template;

/// How many bytes may be written now; pending while `limit_rate` holds the answer back.
#[inline]
pub(crate) fn rate_limit(r: &mut Request, cx: &mut Context<'_>) -> Poll<u64> {
    if r.limit_rate.is_none() && r.location().core.limit_rate.is_none() {
        return Poll::Ready(u64::MAX);
    }
    hold_back(r, cx)
}

#[inline(never)]
fn hold_back(r: &mut Request, cx: &mut Context<'_>) -> Poll<u64> {
    let (rate, after) = rates(r);
    if rate == 0 {
        return Poll::Ready(u64::MAX);
    }
    if let Some(delay) = &r.output.delay {
        ready!(delay.poll_over(cx));
        r.output.delay = None;
    }
    let seconds = r.elapsed_ms() / 1000 + 1;
    let allowed = rate.saturating_mul(seconds).saturating_add(after);
    if allowed > r.output.sent {
        return Poll::Ready(allowed - r.output.sent);
    }
    let wait_ms = (r.output.sent - allowed).saturating_mul(1000) / rate + 1;
    let delay = Deadline::new();
    delay.set_after(wait_ms);
    let _ = delay.poll_over(cx);
    r.output.delay = Some(delay);
    Poll::Pending
}

/// Waits as long after a write as `limit_rate` says that its bytes take.
#[inline]
pub(crate) fn pause(r: &mut Request, sent: u64) {
    if let Some(rate @ 1..) = r.limit_rate {
        pause_at(r, sent, rate);
    }
}

#[inline(never)]
fn pause_at(r: &mut Request, sent: u64, rate: u64) {
    let after = r.limit_rate_after.unwrap_or(0);
    let before = r.output.sent.saturating_sub(sent).saturating_sub(after);
    let wait_ms = (r.output.sent.saturating_sub(after) - before).saturating_mul(1000) / rate;
    if wait_ms > 0 {
        let delay = Deadline::new();
        delay.set_after(wait_ms);
        r.output.delay = Some(delay);
    }
}

/// `limit_rate` and `limit_rate_after` of this request, computed once.
fn rates(r: &mut Request) -> (u64, u64) {
    let core = Arc::clone(&r.location().core);
    let number = |template: Option<&Template>| template.map_or(0, |template| template.size(r));
    let rate = r.limit_rate.unwrap_or_else(|| number(core.limit_rate.as_ref()));
    let after = r.limit_rate_after.unwrap_or_else(|| number(core.limit_rate_after.as_ref()));
    r.limit_rate = Some(rate);
    r.limit_rate_after = Some(after);
    (rate, after)
}
