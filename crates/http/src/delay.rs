//! Holding a request back: `limit_req`, `auth_delay`.
//!
//! A client that goes away in the meantime is not waited for (`ngx_http_test_reading`).

use std::future::poll_fn;
use std::task::Poll;

use net::Deadline;
use os::errlog::Level;

use crate::request::Request;

/// How the wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// The time has passed.
    Over,
    /// The client is gone: the request is to end with the status 499.
    Gone,
}

/// Waits for `delay_ms` milliseconds or until the client goes away, which is logged.
pub async fn hold_back(r: &Request, delay_ms: u64) -> Held {
    let deadline = Deadline::new();
    deadline.set_after(delay_ms);
    poll_fn(|cx| {
        if deadline.poll_over(cx).is_ready() {
            return Poll::Ready(Held::Over);
        }
        r.conn.stream.poll_peer_closed(cx).map(|()| {
            r.log(Level::Info, format_args!("client prematurely closed connection"));
            Held::Gone
        })
    })
    .await
}
