//! Coarse deadlines: one per connection, moved for free, kept in one heap per thread.
//!
//! Moving a deadline later touches only a cell: the heap still holds the old time and, when that comes, looks
//! at the cell and files the entry again. So a busy connection costs the heap one operation per timeout period,
//! not one per read.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// No time at all: the deadline never comes.
const NEVER: u64 = u64::MAX;

/// The time of this turn of the event loop, as nginx keeps it too: asked from the kernel once a turn, not for
/// every deadline that is moved.
#[derive(Clone, Copy)]
struct Turn {
    monotonic_ms: u64,
    realtime: (i64, u32),
}

impl Turn {
    fn now() -> Self {
        Self { monotonic_ms: os::clock::monotonic_coarse_ms(), realtime: os::clock::realtime_coarse() }
    }
}

thread_local! {
    static TURN: Cell<Option<Turn>> = const { Cell::new(None) };
}

fn turn() -> Turn {
    TURN.get().unwrap_or_else(Turn::now)
}

/// Takes the time anew; called by the event loop after each wait. A thread that never calls it asks the kernel
/// each time.
pub fn refresh() {
    TURN.set(Some(Turn::now()));
}

/// Pieces of work after which the time is taken anew.
const WORK_MAX: u32 = 32;

thread_local! {
    static WORK: Cell<u32> = const { Cell::new(0) };
}

/// Counts a piece of work, such as going on with a connection. A thread that is never without work never waits, so
/// [`refresh`] alone would let its clock stand still while it is busiest.
#[inline]
pub fn worked() {
    let work = WORK.get() + 1;
    WORK.set(work);
    if work >= WORK_MAX {
        WORK.set(0);
        if TURN.get().is_some() {
            refresh();
        }
    }
}

/// Monotonic milliseconds, a few milliseconds coarse.
#[inline]
#[must_use]
pub fn now_ms() -> u64 {
    turn().monotonic_ms
}

/// The wall clock: unix seconds and milliseconds of the second, a few milliseconds coarse.
#[inline]
#[must_use]
pub fn wall_clock() -> (i64, u32) {
    turn().realtime
}

struct Slot {
    at_ms: Cell<u64>,
    /// The earliest time under which the heap holds this slot.
    filed_ms: Cell<u64>,
    waker: RefCell<Option<Waker>>,
}

struct Entry(u64, Rc<Slot>);

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

#[derive(Default)]
struct Heap {
    entries: BinaryHeap<Reverse<Entry>>,
    /// Entries, about, that nobody waits for: of deadlines that are gone or were filed again for an earlier time.
    void: usize,
    /// Until when the driver sleeps, and how to wake it for something earlier.
    driver_until: u64,
    driver: Option<Waker>,
}

/// Void entries that are left alone.
const VOID_LEAST: usize = 1024;

impl Heap {
    /// One more entry is void. Once they are the most, they go: with long time-outs and short connections there
    /// would otherwise be no limit to them.
    fn add_void(&mut self) {
        self.void += 1;
        if self.void > VOID_LEAST && self.void > self.entries.len() / 2 {
            self.entries.retain(|Reverse(Entry(at, slot))| slot.filed_ms.get() == *at);
            // Also the room for them: it is a burst that leaves so many.
            self.entries.shrink_to(self.entries.len() * 2);
            self.void = 0;
        }
    }
}

thread_local! {
    static HEAP: RefCell<Heap> = RefCell::default();
}

/// A deadline that is moved rather than made anew.
pub struct Deadline(Rc<Slot>);

impl Default for Deadline {
    fn default() -> Self {
        Self::new()
    }
}

impl Deadline {
    /// A deadline that is not set.
    #[must_use]
    pub fn new() -> Self {
        Self(Rc::new(Slot { at_ms: Cell::new(NEVER), filed_ms: Cell::new(NEVER), waker: RefCell::new(None) }))
    }

    /// Sets the deadline to `after_ms` milliseconds from now.
    pub fn set_after(&self, after_ms: u64) {
        self.set_at(now_ms().saturating_add(after_ms));
    }

    /// Sets the deadline to a time of [`now_ms`].
    pub fn set_at(&self, at_ms: u64) {
        self.0.at_ms.set(at_ms);
        if at_ms < self.0.filed_ms.get() {
            self.file(at_ms);
        }
    }

    /// Takes the deadline back.
    pub fn clear(&self) {
        self.0.at_ms.set(NEVER);
    }

    /// Whether the time has come.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let at = self.0.at_ms.get();
        at != NEVER && at <= now_ms()
    }

    /// Ready once the time has come; otherwise the task is woken then.
    pub fn poll_over(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_over() {
            return Poll::Ready(());
        }
        let mut waker = self.0.waker.borrow_mut();
        match waker.as_ref() {
            Some(known) if known.will_wake(cx.waker()) => {}
            _ => *waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Waits until the time has come.
    pub async fn over(&self) {
        poll_fn(|cx| self.poll_over(cx)).await;
    }

    fn file(&self, at_ms: u64) {
        let is_filed = self.0.filed_ms.replace(at_ms) != NEVER;
        HEAP.with(|heap| {
            let mut heap = heap.borrow_mut();
            if is_filed {
                heap.add_void();
            }
            heap.entries.push(Reverse(Entry(at_ms, Rc::clone(&self.0))));
            if at_ms < heap.driver_until
                && let Some(driver) = heap.driver.take()
            {
                driver.wake();
            }
        });
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        // The heap keeps the slot for a while; it must wake nobody and hold no task alive.
        self.0.at_ms.set(NEVER);
        self.0.waker.borrow_mut().take();
        if self.0.filed_ms.replace(NEVER) != NEVER {
            // At the end of the thread the heap may be gone already.
            let _ = HEAP.try_with(|heap| heap.borrow_mut().add_void());
        }
    }
}

/// Sleeps for `ms` milliseconds on the coarse clock.
pub async fn sleep(ms: u64) {
    let deadline = Deadline::new();
    deadline.set_after(ms);
    deadline.over().await;
}

/// Runs `future` for at most `ms` milliseconds; `None` when the time ran out.
pub async fn within<T>(ms: u64, future: impl Future<Output = T>) -> Option<T> {
    let deadline = Deadline::new();
    deadline.set_after(ms);
    let mut future = std::pin::pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => deadline.poll_over(cx).map(|()| None),
    })
    .await
}

/// Drives every deadline of this thread; spawned once per worker thread, never ends.
pub async fn drive() {
    loop {
        if TURN.get().is_some() {
            refresh();
        }
        let next = fire_due();
        let now = now_ms();
        let wait = if next == NEVER {
            Duration::from_hours(1)
        } else {
            Duration::from_millis(next.saturating_sub(now).max(1))
        };
        let mut sleep = std::pin::pin!(tokio::time::sleep(wait));
        let mut first = true;
        poll_fn(|cx| {
            if sleep.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            HEAP.with(|heap| {
                let mut heap = heap.borrow_mut();
                if !first && heap.driver.is_none() {
                    return Poll::Ready(());
                }
                first = false;
                heap.driver_until = next;
                heap.driver = Some(cx.waker().clone());
                Poll::Pending
            })
        })
        .await;
    }
}

/// Wakes what is due and returns the time of the next entry.
fn fire_due() -> u64 {
    let now = now_ms();
    HEAP.with(|heap| {
        loop {
            let mut heap = heap.borrow_mut();
            let due = match heap.entries.peek() {
                None => return NEVER,
                Some(Reverse(Entry(at, _))) if *at > now => return *at,
                Some(_) => heap.entries.pop(),
            };
            let Some(Reverse(Entry(filed, slot))) = due else { return NEVER };
            // A slot filed again for an earlier time leaves its later entry behind: that one is void.
            if slot.filed_ms.get() != filed {
                heap.void = heap.void.saturating_sub(1);
                continue;
            }
            let at = slot.at_ms.get();
            if at == NEVER {
                slot.filed_ms.set(NEVER);
            } else if at > now {
                slot.filed_ms.set(at);
                heap.entries.push(Reverse(Entry(at, slot)));
            } else {
                slot.filed_ms.set(NEVER);
                let waker = slot.waker.borrow_mut().take();
                drop(heap);
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(future: impl Future<Output = ()> + 'static) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(tokio::runtime::LocalOptions::default())
            .expect("a runtime");
        runtime.block_on(async {
            tokio::task::spawn_local(drive());
            future.await;
        });
    }

    #[test]
    fn the_clock_of_a_busy_thread_goes_on() {
        refresh();
        let start = now_ms();
        let begun = std::time::Instant::now();
        while begun.elapsed() < Duration::from_millis(50) {
            worked();
        }
        assert!(now_ms() - start >= 30, "{} ms", now_ms() - start);
        TURN.set(None);
    }

    #[test]
    fn a_moved_deadline_comes_at_its_last_time() {
        run(async {
            let deadline = Deadline::new();
            let start = now_ms();
            deadline.set_after(20);
            deadline.set_after(80);
            deadline.over().await;
            assert!(now_ms() - start >= 70);
        });
    }

    #[test]
    fn deadlines_that_are_gone_leave_the_heap() {
        let filed = || HEAP.with_borrow(|heap| heap.entries.len());
        let live = Deadline::new();
        live.set_after(3_600_000);
        for _ in 0..VOID_LEAST * 10 {
            Deadline::new().set_after(3_600_000);
        }
        assert!(filed() <= VOID_LEAST + 2, "{} of deadlines that were dropped", filed());
        for earlier in 0..VOID_LEAST as u64 * 10 {
            live.set_after(3_000_000 - earlier);
        }
        assert!(filed() <= VOID_LEAST * 2 + 2, "{} of one deadline that came nearer", filed());
    }

    #[test]
    fn an_earlier_time_wakes_the_driver() {
        run(async {
            let late = Deadline::new();
            late.set_after(60_000);
            tokio::task::yield_now().await;
            let start = now_ms();
            late.set_after(20);
            late.over().await;
            assert!(now_ms() - start < 5_000);
            assert_eq!(within(10, std::future::pending::<()>()).await, None);
            assert_eq!(within(1000, async { 7 }).await, Some(7));
        });
    }
}
