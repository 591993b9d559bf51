//! What the requests that serve one client request have in common.
//!
//! It is made with the first subrequest, so a request that needs none never sees it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::ops::Deref;
use std::rc::Rc;
use std::task::{Poll, Waker};

use tokio::task::AbortHandle;

use crate::request::{Contexts, Request};

/// Tasks that have ended are forgotten once there are so many.
const TASKS_LEAST: usize = 32;

/// A client request and its subrequests.
#[derive(Default)]
pub struct Family {
    /// Subrequests that have not ended.
    live: Cell<u32>,
    /// The main request, waiting for their end.
    waiter: Cell<Option<Waker>>,
    tasks: RefCell<Vec<AbortHandle>>,
    /// What modules remember of all of them together.
    pub contexts: RefCell<Contexts>,
    /// Bytes that the main request has sent, as far as its subrequests know (`$bytes_sent`).
    pub(crate) sent: Cell<(u64, u64)>,
}

impl Family {
    /// Subrequests that have not ended.
    #[must_use]
    pub fn live(&self) -> u32 {
        self.live.get()
    }

    pub(super) fn enter(&self, task: AbortHandle) {
        self.live.set(self.live.get() + 1);
        let mut tasks = self.tasks.borrow_mut();
        if tasks.len() >= TASKS_LEAST && tasks.len() == tasks.capacity() {
            tasks.retain(|task| !task.is_finished());
        }
        tasks.push(task);
    }

    pub(super) fn leave(&self) {
        self.live.set(self.live.get().saturating_sub(1));
        if self.live.get() == 0
            && let Some(waiter) = self.waiter.take()
        {
            waiter.wake();
        }
    }

    /// Ends all subrequests at once.
    pub(crate) fn abort(&self) {
        self.tasks.borrow_mut().drain(..).for_each(|task| task.abort());
    }

    /// Waits until every subrequest has ended.
    pub(crate) async fn ended(&self) {
        poll_fn(|cx| {
            if self.live.get() == 0 {
                return Poll::Ready(());
            }
            self.waiter.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

/// The main request's own hold of its family: without it no subrequest goes on.
pub(crate) struct Head(Rc<Family>);

impl Deref for Head {
    type Target = Rc<Family>;

    fn deref(&self) -> &Rc<Family> {
        &self.0
    }
}

impl Drop for Head {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Request {
    /// What this request has in common with its subrequests, or with its main request and its siblings.
    pub fn family(&mut self) -> &Rc<Family> {
        if let Some(role) = &self.role {
            return role.link.family();
        }
        self.family.get_or_insert_with(|| Head(Rc::default()))
    }

    /// As [`Self::family`], where there is one.
    #[must_use]
    pub fn known_family(&self) -> Option<&Rc<Family>> {
        match &self.role {
            Some(role) => Some(role.link.family()),
            None => self.family.as_deref(),
        }
    }
}
