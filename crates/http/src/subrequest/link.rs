//! Between a subrequest and those who want something of it: its output, its end, its head.
//!
//! A subrequest whose turn has not come hands over a little and then waits, holding what its own buffers take.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use os::errlog::Level;

use super::{Family, Kind};
use crate::chunk::Queue;
use crate::phases::Outcome;
use crate::request::Request;

/// Bytes in memory that may lie here before a subrequest waits; one piece more than that at most.
const ENOUGH: u64 = 16 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    Ended,
    /// It cannot be completed, and so neither can what it was made for.
    Failed,
}

pub(super) struct Link {
    family: Rc<Family>,
    /// Output that nobody has taken yet.
    queue: RefCell<Queue>,
    state: Cell<State>,
    /// The subrequest, waiting for room.
    writer: Cell<Option<Waker>>,
    /// The main request, waiting for output.
    reader: Cell<Option<Waker>>,
    /// The one who asked, waiting for the end.
    waiter: Cell<Option<Waker>>,
    request: RefCell<Option<Box<Request>>>,
}

impl Link {
    pub(super) fn new(family: Rc<Family>) -> Self {
        Self {
            family,
            queue: RefCell::default(),
            state: Cell::new(State::Running),
            writer: Cell::new(None),
            reader: Cell::new(None),
            waiter: Cell::new(None),
            request: RefCell::default(),
        }
    }

    pub(super) fn family(&self) -> &Rc<Family> {
        &self.family
    }

    pub(super) fn end(&self, request: Option<Box<Request>>) {
        self.request.replace(request);
        self.settle(State::Ended);
    }

    pub(super) fn fail(&self) {
        self.queue.borrow_mut().clear();
        self.settle(State::Failed);
    }

    fn settle(&self, state: State) {
        self.state.set(state);
        wake(&self.reader);
        wake(&self.waiter);
    }
}

fn wake(slot: &Cell<Option<Waker>>) {
    if let Some(waker) = slot.take() {
        waker.wake();
    }
}

/// Hands what a subrequest has ready over to where it is put into the answer; ready when all of it is.
pub(crate) fn hand_over(r: &mut Request, cx: &mut Context<'_>) -> Poll<()> {
    let Some(role) = &r.role else { return Poll::Ready(()) };
    if role.kind != Kind::InOrder {
        r.output.queue.clear();
        return Poll::Ready(());
    }
    let link = &role.link;
    let mut queue = link.queue.borrow_mut();
    if queue.in_memory() >= ENOUGH {
        link.writer.set(Some(cx.waker().clone()));
        return Poll::Pending;
    }
    queue.append(&mut r.output.queue);
    wake(&link.reader);
    Poll::Ready(())
}

/// What came of looking for the output of a subrequest.
pub(super) enum Found {
    /// There is some.
    Some(Queue),
    /// None yet.
    NotYet,
    /// That was all.
    End,
    /// It failed.
    Failed,
}

/// A subrequest as those see it who wait for it.
#[derive(Clone)]
pub struct Subrequest(Rc<Link>);

impl PartialEq for Subrequest {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Subrequest {}

impl std::fmt::Debug for Subrequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Subrequest").field(&self.0.state.get()).finish()
    }
}

impl Subrequest {
    pub(super) fn new(link: Rc<Link>) -> Self {
        Self(link)
    }

    /// One that never was.
    pub(crate) fn failed() -> Self {
        let link = Link::new(Rc::default());
        link.state.set(State::Failed);
        Self(Rc::new(link))
    }

    /// Whether it is over.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.0.state.get() != State::Running
    }

    /// Whether it ended without what was wanted of it.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.0.state.get() == State::Failed
    }

    /// Waits for its end, or until the client of `r`, which asked for it, is gone.
    ///
    /// # Errors
    /// What becomes of `r` when there is nothing to go on with.
    pub async fn ended(&self, r: &Request) -> Result<Box<Request>, Outcome> {
        let is_gone = poll_fn(|cx| {
            if self.poll_ended(cx).is_ready() {
                return Poll::Ready(false);
            }
            if r.hears_out() {
                return Poll::Pending;
            }
            r.poll_client_gone(cx).map(|()| true)
        });
        if is_gone.await {
            r.log(Level::Info, format_args!("client prematurely closed connection"));
            return Err(Outcome::Broken(499));
        }
        self.take().ok_or(Outcome::Broken(500))
    }

    /// The request, once it has ended; `None` where it failed, was taken, or had output of its own to give.
    #[must_use]
    pub fn take(&self) -> Option<Box<Request>> {
        self.0.request.borrow_mut().take()
    }

    /// Ready once it has ended.
    pub fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.has_ended() {
            return Poll::Ready(());
        }
        self.0.waiter.set(Some(cx.waker().clone()));
        Poll::Pending
    }

    /// Whether its output can be taken from, or is known to be over.
    #[must_use]
    pub(crate) fn has_news(&self) -> bool {
        self.has_ended() || !self.0.queue.borrow().is_empty()
    }

    /// Has the task woken when there are news.
    pub(crate) fn watch(&self, cx: &Context<'_>) {
        self.0.reader.set(Some(cx.waker().clone()));
    }

    /// Takes what is there of its output.
    pub(super) fn read(&self) -> Found {
        let queue = std::mem::take(&mut *self.0.queue.borrow_mut());
        if !queue.is_empty() {
            wake(&self.0.writer);
            return Found::Some(queue);
        }
        match self.0.state.get() {
            State::Running => Found::NotYet,
            State::Ended => Found::End,
            State::Failed => Found::Failed,
        }
    }
}
