//! From accepted sockets to requests: accepting, the HTTP version drivers, and the thread's statistics.

pub mod accept;
pub mod h1;
pub mod h2;
mod handler;
mod lingering;
pub mod proxy_header;
mod route;
pub mod stats;
pub mod tls;

pub(crate) use handler::Handler;

use crate::cycle::Worker;

/// Whether the worker ends after the requests at hand.
#[must_use]
pub fn is_quitting() -> bool {
    Worker::with(Worker::is_quitting)
}
