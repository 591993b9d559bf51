//! What handles requests: a future that is made once and given one connection or stream after another.
//!
//! Its future never ends: it says what becomes of what it was given, and waits for the next. So what is large about
//! a request is made once per thread and concurrent request, not once per request.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use super::{h1, h2};
use crate::connection::Conn;
use crate::cycle::Worker;
use crate::phases::poll_apart;

/// What is to be handled.
pub(super) enum Job {
    /// The requests that have come over a connection.
    Connection(Rc<Conn>),
    /// The request of a stream.
    Stream(Rc<h2::Stream>),
}

/// What becomes of a connection that has nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It waits for another request, so many milliseconds.
    Idle(u64),
    /// It speaks HTTP/2.
    Http2,
    /// It is to be closed; a stream has come to its end.
    Close,
}

/// Something that handles one job after another and keeps its memory in between.
pub(crate) struct Handler {
    future: Pin<Box<dyn Future<Output = Infallible>>>,
    slot: Rc<Slot>,
}

#[derive(Default)]
struct Slot {
    job: Cell<Option<Job>>,
    next: Cell<Option<Next>>,
}

impl Handler {
    /// A handler with a job, mostly one that had others before.
    pub(super) fn take(job: Job) -> Box<Self> {
        let handler = Worker::with(Worker::take_handler).unwrap_or_else(|| {
            let slot = Rc::<Slot>::default();
            Box::new(Self { future: Box::pin(handle(Rc::clone(&slot))), slot })
        });
        handler.slot.job.set(Some(job));
        handler
    }

    /// Goes on with the job; once that is done the handler can be given back.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        net::timer::worked();
        let _ = self.future.as_mut().poll(cx);
        self.slot.next.take().map_or(Poll::Pending, Poll::Ready)
    }
}

async fn handle(slot: Rc<Slot>) -> Infallible {
    let worker = Worker::current();
    let mut r = worker.new_request();
    loop {
        let job = poll_fn(|_| slot.job.take().map_or(Poll::Pending, Poll::Ready)).await;
        let next = match job {
            Job::Connection(conn) => h1::active(&worker, &mut r, &conn).await,
            Job::Stream(stream) => {
                let mut handling = pin!(h2::handle(&worker, &mut r, &stream));
                poll_fn(|cx| poll_apart(handling.as_mut(), cx)).await;
                Next::Close
            }
        };
        worker.release(&mut r);
        slot.next.set(Some(next));
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::handle;

    #[test]
    fn what_handles_a_request_stays_small() {
        // Each request that is under way has one; what is rare is boxed where it is awaited.
        let size = size_of_val(&handle(Rc::default()));
        assert!(size <= 2200, "{size}");
    }
}
