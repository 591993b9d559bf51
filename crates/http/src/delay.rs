//! Waiting in the middle of a request: `limit_req`, `auth_delay`, passwords.
//!
//! A client that goes away in the meantime is not waited for (`ngx_http_test_reading`).

use std::future::poll_fn;
use std::task::Poll;

use os::errlog::Level;

use crate::request::Request;

/// Waits for `work` or until the client goes away, which is logged; then there is no result.
pub async fn while_connected<T>(r: &Request, work: impl Future<Output = T>) -> Option<T> {
    let mut work = std::pin::pin!(work);
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => r.poll_client_gone(cx).map(|()| {
            r.log(Level::Info, format_args!("client prematurely closed connection"));
            None
        }),
    })
    .await
}

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
    match while_connected(r, net::timer::sleep(delay_ms)).await {
        Some(()) => Held::Over,
        None => Held::Gone,
    }
}
