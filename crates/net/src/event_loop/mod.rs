//! The event loop of a thread: tasks, the descriptors that they wait for, and deadlines.
//!
//! All of it belongs to the thread, so nothing on the way of a request is locked or counted atomically; wakers alone may
//! go elsewhere, and ring for the loop from there. A task that waits for a socket costs the loop one look at a cell.

mod alarm;
mod home;
mod submissions;
mod task;
mod waiter;
pub mod watch;

use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use os::readiness::Events;
use os::ring::{Patience, Ring};

use crate::{buf, timer};
use alarm::Alarm;
use home::Home;
use task::{MAIN, Next, poll_as};

pub(crate) use waiter::Waiter;

pub use task::{TaskHandle, poll_turn, spawn};

/// Tasks that are polled before descriptors are asked again: about as many as one wait makes ready under load.
const TURN: usize = 64;

/// Events that one wait tells.
const EVENTS: usize = 1024;

/// How a thread learns what has happened to descriptors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// By io_uring; by epoll where the system does not allow it.
    #[default]
    IoUring,
    /// By epoll.
    Epoll,
}

impl Method {
    fn ring(self) -> Option<Ring> {
        if self == Self::IoUring { Ring::new().ok() } else { None }
    }

    /// What the system allows of it.
    #[must_use]
    pub fn available(self) -> Self {
        if self.ring().is_some() { Self::IoUring } else { Self::Epoll }
    }

    /// As `use` names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::Epoll => "epoll",
        }
    }
}

/// What a thread does around its waits.
#[derive(Clone, Copy, Debug)]
pub struct Hooks {
    /// How it waits.
    pub method: Method,
    /// Called whenever there is nothing more to do at the moment.
    pub before_waiting: fn(),
}

impl Default for Hooks {
    fn default() -> Self {
        Self { method: Method::default(), before_waiting: || {} }
    }
}

/// Polls `main` and all tasks that are spawned on this thread meanwhile, until `main` is ready. Tasks that are not done by
/// then are dropped.
///
/// A panic of a task ends that task alone; one of `main` goes on to the caller.
///
/// # Errors
/// When no descriptor is left for the loop, or `epoll_wait(2)` fails; `AlreadyExists` within another loop.
pub fn run<T>(hooks: Hooks, main: impl Future<Output = T>) -> io::Result<T> {
    let ring = hooks.method.ring();
    let home = Arc::new(Home::new(ring.is_some())?);
    let mut alarm = Alarm::new()?;
    watch::open(&home, &alarm, ring)?;
    let _open = Open;
    task::open(&home);
    buf::open();
    let mut main = pin!(main);
    let mut events = Events::with_capacity(EVENTS);
    timer::refresh();
    loop {
        for _ in 0..TURN {
            match task::next() {
                None => break,
                Some(Next::Main(waker)) => {
                    if let Poll::Ready(value) = poll_as(MAIN, &waker, |cx| main.as_mut().poll(cx)) {
                        return Ok(value);
                    }
                }
                Some(Next::Task(task)) => task.poll(),
            }
        }
        if task::is_idle() {
            (hooks.before_waiting)();
            let next = timer::fire_due();
            if task::is_idle() {
                next.map_or(Ok(()), |at_ms| alarm.ring_by(at_ms))?;
                watch::wait(&mut events, Patience::Endless)?;
            } else {
                watch::wait(&mut events, Patience::None)?;
            }
            timer::refresh();
        } else {
            watch::wait(&mut events, Patience::None)?;
        }
        watch::tell(&events, &mut alarm);
        if let Some(news) = home.news() {
            news.woken.into_iter().for_each(task::wake);
            watch::forget(&news.left);
        }
        timer::fire_due();
        task::resume_yielded();
    }
}

/// A loop that is under way on this thread.
struct Open;

impl Drop for Open {
    fn drop(&mut self) {
        task::close();
        watch::close();
        timer::stop();
        buf::close();
    }
}

/// Lets the thread's other tasks, and what has happened meanwhile, have their turn first.
pub async fn yield_now() {
    let mut is_due = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut is_due, true) {
            return Poll::Ready(());
        }
        task::wake_next_turn(cx.waker())
    })
    .await;
}

/// Does what may panic; a panic has been reported by then.
fn contained(work: impl FnOnce()) {
    let _ = catch_unwind(AssertUnwindSafe(work));
}

/// As [`run`], for tests.
///
/// # Panics
/// When no loop can be had.
pub fn block_on<T>(main: impl Future<Output = T>) -> T {
    run(Hooks::default(), main).expect("an event loop")
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;
    use std::task::Waker;
    use std::time::{Duration, Instant};

    use super::*;

    /// Where tasks write what they did.
    type Notes = Rc<RefCell<Vec<&'static str>>>;

    #[test]
    fn tasks_take_turns_and_end_with_their_loop() {
        struct Told(Notes);
        impl Drop for Told {
            fn drop(&mut self) {
                self.0.borrow_mut().push("dropped");
            }
        }
        let notes = Notes::default();
        let (first, second) = (Rc::clone(&notes), Rc::clone(&notes));
        let told = Told(Rc::clone(&notes));
        block_on(async {
            spawn(async move {
                first.borrow_mut().push("first");
                yield_now().await;
                first.borrow_mut().push("first again");
            });
            spawn(async move {
                second.borrow_mut().push("second");
                let _told = told;
                std::future::pending::<()>().await;
            });
            yield_now().await;
            yield_now().await;
            notes.borrow_mut().push("main");
        });
        assert_eq!(*notes.borrow(), ["first", "second", "first again", "main", "dropped"]);
    }

    #[test]
    fn a_panic_ends_its_task_alone() {
        block_on(async {
            let failing = spawn(async { assert_eq!(1, 2, "as it should") });
            let lasting = spawn(std::future::pending());
            yield_now().await;
            assert!(failing.is_finished());
            assert!(!lasting.is_finished());
        });
    }

    #[test]
    fn an_aborted_task_is_polled_no_more() {
        block_on(async {
            let polled = Rc::new(Cell::new(0));
            let counted = Rc::clone(&polled);
            let task = spawn(async move {
                loop {
                    counted.set(counted.get() + 1);
                    yield_now().await;
                }
            });
            yield_now().await;
            assert_eq!(polled.get(), 1);
            task.abort();
            yield_now().await;
            assert_eq!((polled.get(), task.is_finished(), Rc::strong_count(&polled)), (1, true, 1));
            // Its place may be another task's by now.
            let other = spawn(std::future::pending());
            task.abort();
            yield_now().await;
            assert!(!other.is_finished());
        });
    }

    #[test]
    fn a_task_can_abort_itself() {
        block_on(async {
            let own = Rc::new(RefCell::new(None::<TaskHandle>));
            let known = Rc::clone(&own);
            let task = spawn(async move {
                if let Some(task) = &*known.borrow() {
                    task.abort();
                }
                std::future::pending::<()>().await;
            });
            *own.borrow_mut() = Some(task);
            yield_now().await;
            yield_now().await;
            assert!(own.borrow().as_ref().is_some_and(TaskHandle::is_finished));
        });
    }

    #[test]
    fn a_waker_rings_from_another_thread() {
        let begun = Instant::now();
        let is_rung = block_on(async {
            let mut ringer = None;
            poll_fn(|cx| match ringer.take() {
                None => {
                    let waker = cx.waker().clone();
                    ringer = Some(std::thread::spawn(move || {
                        std::thread::sleep(Duration::from_millis(20));
                        waker.wake();
                    }));
                    Poll::Pending
                }
                Some(thread) => Poll::Ready(thread.join().is_ok()),
            })
            .await
        });
        assert!(is_rung && begun.elapsed() >= Duration::from_millis(20));
    }

    #[test]
    fn a_waker_that_outlives_its_loop_wakes_nobody() {
        let stale = block_on(async {
            let kept = Rc::new(RefCell::new(Waker::noop().clone()));
            let keep = Rc::clone(&kept);
            spawn(poll_fn(move |cx| {
                *keep.borrow_mut() = cx.waker().clone();
                Poll::<()>::Pending
            }));
            yield_now().await;
            kept.take_waker()
        });
        stale.wake_by_ref();
        block_on(async {
            let task = spawn(std::future::pending());
            stale.wake_by_ref();
            yield_now().await;
            assert!(!task.is_finished());
        });
    }

    trait TakeWaker {
        fn take_waker(&self) -> Waker;
    }

    impl TakeWaker for Rc<RefCell<Waker>> {
        fn take_waker(&self) -> Waker {
            self.borrow().clone()
        }
    }

    #[test]
    fn there_is_one_loop_in_a_thread() {
        block_on(async {
            let inner = run(Hooks::default(), async {});
            assert_eq!(inner.expect_err("one too many").kind(), io::ErrorKind::AlreadyExists);
            yield_now().await;
        });
    }

    #[test]
    fn whoever_never_waits_is_polled_again_only_behind_others() {
        let others = block_on(async {
            let others = Rc::new(Cell::new(0));
            let counted = Rc::clone(&others);
            spawn(async move {
                for _ in 0..10 {
                    counted.set(counted.get() + 1);
                    yield_now().await;
                }
            });
            let mut turns = 0;
            poll_fn(|cx| {
                while poll_turn(cx).is_ready() {
                    turns += 1;
                }
                if turns < 1000 { Poll::Pending } else { Poll::Ready(()) }
            })
            .await;
            others.get()
        });
        assert!(others >= 7, "{others}");
    }
}
