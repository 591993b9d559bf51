//! A connection that many requests share. It belongs to the thread that opened it, and a task of its own reads and
//! writes it (`driver.rs`).

use std::cell::{Cell, RefCell, RefMut};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;

use net::Stream;
use upstream::{Limits, Now, Pool};

use super::hub::Opening;
use super::session::{Session, Sharing};
use crate::relay::upstream::PeerConn;
use crate::watcher::Watcher;

/// A connection with what its requests share.
pub(in crate::relay) struct Shared {
    /// The socket.
    pub stream: Stream,
    /// The idle connections that it counts among while nobody uses it.
    pub(super) pool: Arc<Pool<PeerConn>>,
    pub(super) limits: Limits,
    session: RefCell<Session>,
    opened: Now,
    /// Requests that it was used for.
    served: Cell<u64>,
    /// Those that wait until it takes more than one.
    pub(super) opening: RefCell<Option<Rc<Opening>>>,
    driver: Watcher,
}

impl Shared {
    pub(super) fn new(stream: Stream, pool: Arc<Pool<PeerConn>>, limits: Limits) -> Rc<Self> {
        Rc::new(Self {
            stream,
            pool,
            limits,
            session: RefCell::new(Session::begin(Sharing::On)),
            opened: crate::relay::now(),
            served: Cell::new(0),
            opening: RefCell::new(None),
            driver: Watcher::default(),
        })
    }

    /// The protocol's state. Nothing is called while it is borrowed.
    pub(super) fn session(&self) -> RefMut<'_, Session> {
        self.session.borrow_mut()
    }

    /// Whether another request may use it.
    pub(super) fn has_room(&self) -> bool {
        !self.is_spent() && self.session.borrow().has_room()
    }

    /// Whether it has served enough or for long enough (`keepalive_requests`, `keepalive_time`).
    pub(super) fn is_spent(&self) -> bool {
        let age_ms = crate::relay::now().ms().saturating_sub(self.opened.ms());
        self.served.get() >= self.limits.requests || age_ms > self.limits.time_ms
    }

    /// Takes it for a request; says whether it has served others before.
    pub(in crate::relay) fn take(&self) -> bool {
        self.served.replace(self.served.get() + 1) > 0
    }

    /// Has the task woken by `cx` from now on.
    pub(super) fn drive(&self, cx: &Context<'_>) {
        self.driver.watch(cx);
    }

    /// Wakes its task.
    pub(super) fn wake(&self) {
        self.driver.wake();
    }

    /// As [`Self::wake`], where something waits to be written.
    pub(super) fn wake_to_write(&self) {
        if !self.session.borrow().out.pending().is_empty() {
            self.wake();
        }
    }
}
