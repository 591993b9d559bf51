//! What the requests that serve one client request have in common.
//!
//! It is made with the first subrequest, so a request that needs none never sees it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::ops::Deref;
use std::rc::Rc;
use std::task::{Poll, Waker};

use net::TaskHandle;

use crate::request::{Contexts, Request};

/// Tasks that have ended are forgotten once there are so many.
const TASKS_LEAST: usize = 32;

#[derive(Clone, Copy, Default)]
struct Limits {
    requests: Option<&'static str>,
    connections: Option<&'static str>,
}

/// A client request and its subrequests.
#[derive(Default)]
pub struct Family {
    /// Subrequests that have not ended.
    live: Cell<u32>,
    /// The main request, waiting for their end.
    waiter: Cell<Option<Waker>>,
    tasks: RefCell<Vec<TaskHandle>>,
    /// What modules remember of all of them together.
    pub contexts: RefCell<Contexts>,
    /// What `limit_req` and `limit_conn` have decided for a subrequest, which they do once for all of them.
    limits: Cell<Limits>,
    /// A subrequest passes to an upstream that is to be heard out even if the client is gone.
    pub(crate) ignores_client_abort: Cell<bool>,
    /// Bytes that the main request has sent, as far as its subrequests know (`$bytes_sent`).
    pub(crate) sent: Cell<(u64, u64)>,
}

impl Family {
    /// Subrequests that have not ended.
    #[must_use]
    pub fn live(&self) -> u32 {
        self.live.get()
    }

    pub(super) fn enter(&self, task: TaskHandle) {
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
    fn limits(&self) -> Limits {
        self.known_family().map(|family| family.limits.get()).unwrap_or_default()
    }

    /// `$limit_req_status`: what `limit_req` has decided, which it does once for a client request.
    #[must_use]
    pub fn limit_req_status(&self) -> Option<&'static str> {
        self.limit_req_status.or_else(|| self.limits().requests)
    }

    /// Says what `limit_req` has decided.
    pub fn set_limit_req_status(&mut self, status: &'static str) {
        self.limit_req_status = Some(status);
        if let Some(family) = self.known_family() {
            family.limits.set(Limits { requests: Some(status), ..family.limits.get() });
        }
    }

    /// `$limit_conn_status`: what `limit_conn` has decided, which it does once for a client request.
    #[must_use]
    pub fn limit_conn_status(&self) -> Option<&'static str> {
        self.limit_conn_status.or_else(|| self.limits().connections)
    }

    /// Says what `limit_conn` has decided.
    pub fn set_limit_conn_status(&mut self, status: &'static str) {
        self.limit_conn_status = Some(status);
        if let Some(family) = self.known_family() {
            family.limits.set(Limits { connections: Some(status), ..family.limits.get() });
        }
    }

    /// Holds something until the client's request ends, also where this is a subrequest of it.
    pub fn hold<T: 'static>(&mut self, held: T) {
        if self.is_subrequest {
            self.family().contexts.borrow_mut().put(held);
        } else {
            self.lasting.put(held);
        }
    }

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
