//! The phases of a request and what their handlers say.
//!
//! Handlers are plain functions that answer at once; one that must wait hands back a future, and only then is
//! anything boxed.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::chunk::Chunk;
use crate::conf::Location;
use crate::relay::Passing;
use crate::request::Request;

/// A phase in which modules may act, in nginx's order. Rewrite runs per server and per location.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Right after the head was read (`realip`).
    PostRead,
    /// `rewrite` directives of the server.
    ServerRewrite,
    /// `rewrite` directives of the location.
    Rewrite,
    /// `limit_req`, `limit_conn`, `realip` again.
    PreAccess,
    /// `allow`, `auth_basic`, `auth_request`; subject to `satisfy`.
    Access,
    /// `mirror`, `try_files`.
    PreContent,
    /// After the answer; nothing is waited for.
    Log,
}

impl Phase {
    /// How many there are.
    pub const COUNT: usize = Self::Log as usize + 1;
}

/// What becomes of a request once somebody has decided. What is large is boxed, as it is handed on from one to another
/// many times.
#[derive(Debug)]
pub enum Outcome {
    /// Nobody is responsible yet: go on with the next handler.
    Declined,
    /// Answer with this status: its `error_page`, or nginx's own page.
    Status(u16),
    /// `response` is filled in; send it with this body.
    Send(Box<Body>),
    /// Everything was sent already.
    Sent,
    /// The client is gone or what was sent cannot be completed: close the connection, log this status.
    Broken(u16),
    /// Close the connection without a word (444).
    Close,
    /// Start again.
    Again(Box<Again>),
}

/// Where a request starts again.
#[derive(Debug)]
pub enum Again {
    /// With another URI (`ngx_http_internal_redirect`).
    Redirect {
        /// The normalised path.
        uri: Vec<u8>,
        /// The arguments.
        args: Vec<u8>,
    },
    /// In a named location (`@name`, with the sign).
    Named(Vec<u8>),
}

impl Outcome {
    /// [`Self::Send`].
    #[must_use]
    pub fn send(body: Body) -> Self {
        Self::Send(Box::new(body))
    }

    /// [`Again::Redirect`].
    #[must_use]
    pub fn redirect(uri: Vec<u8>, args: Vec<u8>) -> Self {
        Self::Again(Box::new(Again::Redirect { uri, args }))
    }

    /// [`Again::Named`].
    #[must_use]
    pub fn named(name: Vec<u8>) -> Self {
        Self::Again(Box::new(Again::Named(name)))
    }
}

/// The body of an answer that is known as a whole.
#[derive(Debug, Default)]
pub enum Body {
    /// No body.
    #[default]
    Empty,
    /// One piece.
    One(Chunk),
    /// Several pieces.
    Many(Vec<Chunk>),
}

/// A future that lives on its own thread only.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Boxes a future that is awaited seldom: so it lies apart from that of whoever awaits it, and its code too.
#[cold]
#[inline(never)]
pub(crate) fn apart<'a, T>(future: impl Future<Output = T> + 'a) -> LocalFuture<'a, T> {
    Box::pin(future)
}

/// Polls a future whose code is to lie apart from that of whoever awaits it, though it is not awaited seldom.
#[inline(never)]
pub(crate) fn poll_apart<F: Future>(future: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<F::Output> {
    future.poll(cx)
}

/// What a phase handler says.
pub enum Verdict<'r> {
    /// Nothing to say: the next handler of the phase.
    Declined,
    /// Enough: for `Access` this handler is satisfied, for other phases skip the rest of the phase.
    Pass,
    /// The URI was changed: find the location anew (rewrite phases only).
    Relocate,
    /// The request ends here.
    Finish(Outcome),
    /// The verdict comes later.
    Wait(LocalFuture<'r, Verdict<'static>>),
}

/// A module's part in a phase.
pub trait PhaseHandler: Send + Sync {
    /// Whether it may have something to do under the settings of a location. Asked once, at load: where it has not,
    /// it is never run.
    fn concerns(&self, _location: &Location) -> bool {
        true
    }

    /// Looks at the request and says what becomes of it.
    fn run<'r>(&self, r: &'r mut Request) -> Verdict<'r>;
}

/// What serves the sessions of a `server` of `stream`.
pub trait Serve: Send + Sync {
    /// Serves one to its end, and gives the status that it is logged with.
    fn serve<'r>(&'r self, r: &'r mut Request) -> LocalFuture<'r, u16>;

    /// How peers are connected to, where sessions are passed on.
    fn passing(&self) -> Option<Passing> {
        None
    }
}

/// What a content handler says.
pub enum Answered<'r> {
    /// At once.
    Now(Outcome),
    /// Later.
    Wait(LocalFuture<'r, Outcome>),
}

/// A content handler.
pub trait Answer: Send + Sync {
    /// As [`PhaseHandler::concerns`], for those that are tried in every location.
    fn concerns(&self, _location: &Location) -> bool {
        true
    }

    /// Answers the request or declines.
    fn answer<'r>(&'r self, r: &'r mut Request) -> Answered<'r>;
}

#[cfg(test)]
mod tests {
    use super::Outcome;

    #[test]
    fn an_outcome_is_handed_on_in_two_registers() {
        use std::task::Poll;
        assert_eq!(size_of::<Poll<Option<Outcome>>>(), 2 * size_of::<usize>());
    }
}
