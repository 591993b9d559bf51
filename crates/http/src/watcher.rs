//! Who is woken when something happens to what two tasks share: the last one that looked.

use std::cell::RefCell;
use std::task::{Context, Waker};

/// A place for one waker. Whoever is woken is called later and not from here, so borrows may be held meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Watcher(RefCell<Option<Waker>>);

impl Watcher {
    /// Has `cx` woken from now on, and whoever watched before no more.
    pub fn watch(&self, cx: &Context<'_>) {
        match &mut *self.0.borrow_mut() {
            // Nothing is done where it is the same.
            Some(known) => known.clone_from(cx.waker()),
            empty => *empty = Some(cx.waker().clone()),
        }
    }

    /// Wakes whoever watches.
    pub fn wake(&self) {
        if let Some(waker) = &*self.0.borrow() {
            waker.wake_by_ref();
        }
    }
}
