//! Whom to wake for an event or a deadline.
//!
//! Nearly always that is the task that is being polled. It is kept by its name, which costs neither an atomic count nor a
//! call of a waker's table; other wakers are boxed.

use std::task::Waker;

use super::task::{Key, key_of, wake};

/// Whom to wake.
#[derive(Debug, Default)]
pub(crate) enum Waiter {
    /// Nobody.
    #[default]
    Nobody,
    /// A task of this thread.
    Task(Key),
    /// Whoever made this.
    Other(Box<Waker>),
}

impl Waiter {
    /// The owner of this waker.
    pub fn of(waker: &Waker) -> Self {
        match key_of(waker) {
            Some(key) => Self::Task(key),
            None if waker.will_wake(Waker::noop()) => Self::Nobody,
            None => Self::Other(Box::new(waker.clone())),
        }
    }

    /// Has the task that is polled woken, where this is its waker. Says whether that could be done without dropping another
    /// waker.
    #[inline]
    pub fn set_task(&mut self, waker: &Waker) -> bool {
        let Some(key) = key_of(waker).filter(|_| !matches!(self, Self::Other(_))) else { return false };
        // There is nothing in the other variants that would have to be dropped.
        std::mem::forget(std::mem::replace(self, Self::Task(key)));
        true
    }

    /// Wakes it.
    #[inline]
    pub fn wake(&self) {
        match self {
            Self::Nobody => {}
            Self::Task(key) => wake(*key),
            Self::Other(waker) => waker.wake_by_ref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::{Poll, Wake};

    use super::*;
    use crate::event_loop::{block_on, spawn, yield_now};

    #[derive(Default)]
    struct Counting(AtomicU32);

    impl Wake for Counting {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_task_is_known_by_its_name_while_it_is_polled() {
        block_on(async {
            let main = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
            assert!(matches!(Waiter::of(&main), Waiter::Task(_)));
            let task = spawn(async move {
                let own = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
                assert!(matches!(Waiter::of(&own), Waiter::Task(_)));
                let mut waiter = Waiter::of(&main);
                assert!(matches!(waiter, Waiter::Other(_)));
                assert!(!waiter.set_task(&own));
                waiter = Waiter::Nobody;
                assert!(waiter.set_task(&own) && waiter.set_task(&own) && !waiter.set_task(&main));
            });
            yield_now().await;
            assert!(task.is_finished());
        });
    }

    #[test]
    fn other_wakers_are_woken_too() {
        let counting = Arc::new(Counting::default());
        let waiter = Waiter::of(&Waker::from(Arc::clone(&counting)));
        waiter.wake();
        waiter.wake();
        assert_eq!(counting.0.load(Ordering::Relaxed), 2);
        assert!(matches!(Waiter::of(Waker::noop()), Waiter::Nobody));
        assert!(!Waiter::Nobody.set_task(Waker::noop()));
    }
}
