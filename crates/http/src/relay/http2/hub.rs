//! The shared connections of a thread, by peer: requests find one that has room, wait for one that is being opened, or
//! open another.
//!
//! How many requests a connection takes is known once the peer's settings are there; until then those behind the first
//! wait, so that a burst of requests opens one connection and not a hundred.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use upstream::{Limits, PeerKey, Pool};

use super::driver::Driver;
use super::shared::Shared;
use crate::relay::upstream::PeerConn;

/// Requests that wait for one connection before another is opened beside it.
const MOST_WAITING: usize = 100;

thread_local! {
    static PLACES: RefCell<Vec<Place>> = const { RefCell::new(Vec::new()) };
}

/// The connections to one peer.
struct Place {
    pool: Arc<Pool<PeerConn>>,
    key: PeerKey,
    connections: Vec<Rc<Shared>>,
    opening: Option<Rc<Opening>>,
}

/// A connection on its way.
#[derive(Default)]
pub(in crate::relay) struct Opening {
    is_over: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
}

/// What there is for a request.
pub(in crate::relay) enum Found {
    /// A connection with room.
    Connection(Rc<Shared>),
    /// One that may have, once it is there.
    Wait(Rc<Opening>),
    /// Nothing: the request opens one.
    Open(Ticket),
}

/// The right to open a connection that others wait for; dropped without one, they see to themselves.
pub(in crate::relay) struct Ticket {
    pool: Arc<Pool<PeerConn>>,
    key: PeerKey,
    opening: Option<Rc<Opening>>,
}

impl Place {
    fn is_needed(&self) -> bool {
        !self.connections.is_empty() || self.opening.is_some()
    }
}

impl Opening {
    /// Ready when the wait is over.
    pub(in crate::relay) fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        if self.is_over.get() {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    pub(super) fn finish(&self) {
        self.is_over.set(true);
        self.waiting.take().into_iter().for_each(Waker::wake);
    }
}

/// Looks for a connection.
pub(in crate::relay) fn find(pool: &Arc<Pool<PeerConn>>, key: &PeerKey) -> Found {
    with_place(pool, key, |place| {
        if let Some(shared) = place.connections.iter().find(|shared| shared.has_room()) {
            return Found::Connection(Rc::clone(shared));
        }
        let ticket = |opening| Found::Open(Ticket { pool: Arc::clone(pool), key: key.clone(), opening });
        match &place.opening {
            Some(opening) if opening.waiting.borrow().len() < MOST_WAITING => Found::Wait(Rc::clone(opening)),
            Some(_) => ticket(None),
            None => {
                let opening = Rc::<Opening>::default();
                place.opening = Some(Rc::clone(&opening));
                ticket(Some(opening))
            }
        }
    })
}

fn with_place<T>(pool: &Arc<Pool<PeerConn>>, key: &PeerKey, call: impl FnOnce(&mut Place) -> T) -> T {
    PLACES.with(|places| {
        let mut places = places.borrow_mut();
        let is_it = |place: &Place| Arc::ptr_eq(&place.pool, pool) && place.key == *key;
        let at = places.iter().position(is_it).unwrap_or_else(|| {
            places.push(Place {
                pool: Arc::clone(pool),
                key: key.clone(),
                connections: Vec::new(),
                opening: None,
            });
            places.len() - 1
        });
        call(&mut places[at])
    })
}

impl Ticket {
    /// Lets others use a connection that was just opened.
    pub(in crate::relay) fn share(mut self, conn: PeerConn, limits: Limits) -> Rc<Shared> {
        let shared = Shared::new(conn.stream, Arc::clone(&self.pool), limits);
        // Whoever waits does so until the peer's settings are there.
        *shared.opening.borrow_mut() = self.opening.take();
        with_place(&self.pool, &self.key, |place| place.connections.push(Rc::clone(&shared)));
        net::spawn(Driver::new(Rc::clone(&shared)));
        shared
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(opening) = self.opening.take() {
            open_no_more(&opening);
        }
    }
}

/// A connection takes more requests now, or never will.
pub(super) fn settle(shared: &Shared) {
    if let Some(opening) = shared.opening.borrow_mut().take() {
        open_no_more(&opening);
    }
}

fn open_no_more(opening: &Rc<Opening>) {
    let _ = PLACES.try_with(|places| {
        let mut places = places.borrow_mut();
        for place in &mut *places {
            place.opening.take_if(|known| Rc::ptr_eq(known, opening));
        }
        places.retain(Place::is_needed);
    });
    opening.finish();
}

/// A connection takes no more requests.
pub(super) fn remove(shared: &Rc<Shared>) {
    let _ = PLACES.try_with(|places| {
        let mut places = places.borrow_mut();
        for place in places.iter_mut().filter(|place| Arc::ptr_eq(&place.pool, &shared.pool)) {
            place.connections.retain(|known| !Rc::ptr_eq(known, shared));
        }
        places.retain(Place::is_needed);
    });
}

/// Has those connections end, once nobody uses them, whose pool is not wanted any more.
pub(in crate::relay) fn retain(is_wanted: impl Fn(&Arc<Pool<PeerConn>>) -> bool) {
    let unwanted: Vec<Rc<Shared>> = PLACES.with(|places| {
        let places = places.borrow();
        let unwanted = places.iter().filter(|place| !is_wanted(&place.pool));
        unwanted.flat_map(|place| place.connections.iter().cloned()).collect()
    });
    for shared in unwanted {
        shared.session().is_closing = true;
        shared.wake();
    }
}
