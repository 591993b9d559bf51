//! Coarse deadlines: one per connection, moved for free, kept in one heap per thread.
//!
//! Moving a deadline later touches only a cell: the heap still holds the old time and, when that comes, looks
//! at the cell and files the entry again. So a busy connection costs the heap one operation per timeout period,
//! not one per read.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::task::{Context, Poll, Waker};

use crate::event_loop::Waiter;

/// No time at all: the deadline never comes.
const NEVER: u64 = u64::MAX;

/// What the clock of a thread without an event loop shows.
const NO_TURN: u64 = u64::MAX;

thread_local! {
    /// The time of this turn of the event loop, as nginx keeps it too: asked from the kernel once a turn, not for
    /// every deadline that is moved.
    static TURN_MS: Cell<u64> = const { Cell::new(NO_TURN) };
    static TURN_REALTIME: Cell<(i64, u32)> = const { Cell::new((0, 0)) };
}

/// Asks the kernel what time it is in this turn.
fn take_time() {
    TURN_MS.set(os::clock::monotonic_coarse_ms());
    TURN_REALTIME.set(os::clock::realtime_coarse());
}

/// Apart, since nearly everything asks for the time, and hardly ever this way.
#[cold]
#[inline(never)]
fn ask_ms() -> u64 {
    os::clock::monotonic_coarse_ms()
}

thread_local! {
    /// Pieces of work in this turn so far.
    static WORK: Cell<u32> = const { Cell::new(0) };
}

/// Begins a turn and takes the time anew, behind each wait of the event loop. A thread without one asks the kernel each
/// time.
pub(crate) fn refresh() {
    take_time();
    WORK.set(0);
}

/// The thread has no event loop any more. Deadlines that outlive it keep what there is.
pub(crate) fn stop() {
    TURN_MS.set(NO_TURN);
    let gone = TIMERS.with(|timers| {
        let mut timers = timers.borrow_mut();
        let is_unused = timers.slots.len() == timers.free.len();
        is_unused.then(|| std::mem::replace(&mut *timers, Timers::NONE))
    });
    drop(gone);
}

/// Pieces of work after which the time is taken anew.
const WORK_MAX: u32 = 32;

/// Counts a piece of work, such as going on with a connection. A thread that is never without work never waits, so
/// [`refresh`] alone would let its clock stand still while it is busiest.
#[inline]
pub fn worked() {
    let work = WORK.get().wrapping_add(1);
    WORK.set(work);
    if work.is_multiple_of(WORK_MAX) && TURN_MS.get() != NO_TURN {
        take_time();
    }
}

/// Pieces of work in one turn of a thread that has much to do.
const BUSY: u32 = 4;

/// Whether there is so much to do that events arrive faster than they are waited for.
#[must_use]
pub fn is_busy() -> bool {
    WORK.get() >= BUSY
}

/// Monotonic milliseconds, a few milliseconds coarse.
#[inline]
#[must_use]
pub fn now_ms() -> u64 {
    match TURN_MS.get() {
        NO_TURN => ask_ms(),
        ms => ms,
    }
}

/// The wall clock: unix seconds and milliseconds of the second, a few milliseconds coarse.
#[inline]
#[must_use]
pub fn wall_clock() -> (i64, u32) {
    if TURN_MS.get() == NO_TURN { os::clock::realtime_coarse() } else { TURN_REALTIME.get() }
}

/// One deadline, in its place among those of the thread.
struct Slot {
    at_ms: u64,
    /// The earliest time under which the heap holds this slot.
    filed_ms: u64,
    waiter: Waiter,
}

impl Slot {
    /// Whether the time has come.
    fn is_over(&self) -> bool {
        self.at_ms != NEVER && self.at_ms <= now_ms()
    }
}

/// A time, and the place of the slot that it was filed for.
type Entry = Reverse<(u64, u32)>;

/// The deadlines of a thread. They lie side by side, since each idle connection has one.
///
/// No waiter may be dropped while this is borrowed: with it may go its task, and with that other deadlines.
struct Timers {
    slots: Vec<Slot>,
    /// Slots that no deadline uses.
    free: Vec<u32>,
    entries: BinaryHeap<Entry>,
    /// Entries, about, that nobody waits for: of deadlines that are gone or were filed again for an earlier time.
    void: usize,
}

/// Void entries that are left alone.
const VOID_LEAST: usize = 1024;

impl Timers {
    const NONE: Self = Self { slots: Vec::new(), free: Vec::new(), entries: BinaryHeap::new(), void: 0 };

    fn take_slot(&mut self) -> u32 {
        let unset = Slot { at_ms: NEVER, filed_ms: NEVER, waiter: Waiter::Nobody };
        if let Some(place) = self.free.pop() {
            self.slots[place as usize] = unset;
            return place;
        }
        self.slots.push(unset);
        u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
    }

    /// Takes a slot back, and its waiter out of it.
    fn give_slot(&mut self, place: u32) -> Waiter {
        let slot = &mut self.slots[place as usize];
        let waiter = std::mem::take(&mut slot.waiter);
        slot.at_ms = NEVER;
        if std::mem::replace(&mut slot.filed_ms, NEVER) != NEVER {
            self.add_void();
        }
        self.free.push(place);
        waiter
    }

    /// Files a slot for an earlier time than before.
    fn file(&mut self, place: u32, at_ms: u64) {
        if std::mem::replace(&mut self.slots[place as usize].filed_ms, at_ms) != NEVER {
            self.add_void();
        }
        self.entries.push(Reverse((at_ms, place)));
    }

    /// One more entry is void. Once they are the most, they go: with long time-outs and short connections there
    /// would otherwise be no limit to them.
    fn add_void(&mut self) {
        self.void += 1;
        if self.void > VOID_LEAST && self.void > self.entries.len() / 2 {
            let slots = &self.slots;
            self.entries.retain(|Reverse((at, place))| slots[*place as usize].filed_ms == *at);
            // Also the room for them: it is a burst that leaves so many.
            self.entries.shrink_to(self.entries.len() * 2);
            self.void = 0;
        }
    }

    /// Takes out the next entry that is due, and whom to wake for it.
    fn next_due(&mut self, now: u64) -> Due {
        match self.entries.peek() {
            None => return Due::At(NEVER),
            Some(Reverse((at, _))) if *at > now => return Due::At(*at),
            Some(_) => {}
        }
        let Some(Reverse((filed, place))) = self.entries.pop() else { return Due::At(NEVER) };
        let slot = &mut self.slots[place as usize];
        // A slot that was filed again for an earlier time, or given back, leaves its entry behind: that one is void.
        if slot.filed_ms != filed {
            self.void = self.void.saturating_sub(1);
            return Due::Now(Waiter::Nobody);
        }
        let at = slot.at_ms;
        if at == NEVER || at <= now {
            slot.filed_ms = NEVER;
            return Due::Now(if at == NEVER { Waiter::Nobody } else { std::mem::take(&mut slot.waiter) });
        }
        slot.filed_ms = at;
        self.entries.push(Reverse((at, place)));
        Due::Now(Waiter::Nobody)
    }
}

/// What the heap holds next.
enum Due {
    /// Nothing before this time.
    At(u64),
    /// Something that is due, and whom to wake for it.
    Now(Waiter),
}

thread_local! {
    // The loop empties it.
    static TIMERS: ManuallyDrop<RefCell<Timers>> = const { ManuallyDrop::new(RefCell::new(Timers::NONE)) };
}

/// A deadline that is moved rather than made anew. It belongs to its thread.
#[derive(Debug)]
pub struct Deadline {
    place: u32,
    _of_thread: PhantomData<*const ()>,
}

impl Default for Deadline {
    fn default() -> Self {
        Self::new()
    }
}

impl Deadline {
    /// A deadline that is not set.
    #[must_use]
    pub fn new() -> Self {
        Self { place: TIMERS.with(|timers| timers.borrow_mut().take_slot()), _of_thread: PhantomData }
    }

    /// Sets the deadline to `after_ms` milliseconds from now.
    pub fn set_after(&self, after_ms: u64) {
        self.set_at(now_ms().saturating_add(after_ms));
    }

    /// Sets the deadline to a time of [`now_ms`].
    pub fn set_at(&self, at_ms: u64) {
        let is_filed = TIMERS.with(|timers| {
            let mut timers = timers.borrow_mut();
            let slot = &mut timers.slots[self.place as usize];
            slot.at_ms = at_ms;
            slot.filed_ms <= at_ms
        });
        if !is_filed {
            self.file(at_ms);
        }
    }

    #[cold]
    fn file(&self, at_ms: u64) {
        TIMERS.with(|timers| timers.borrow_mut().file(self.place, at_ms));
    }

    /// Takes the deadline back.
    pub fn clear(&self) {
        TIMERS.with(|timers| timers.borrow_mut().slots[self.place as usize].at_ms = NEVER);
    }

    /// Whether the time has come.
    #[must_use]
    pub fn is_over(&self) -> bool {
        TIMERS.with(|timers| timers.borrow().slots[self.place as usize].is_over())
    }

    /// Ready once the time has come; otherwise the task is woken then.
    pub fn poll_over(&self, cx: &mut Context<'_>) -> Poll<()> {
        let is_set = TIMERS.with(|timers| {
            let mut timers = timers.borrow_mut();
            let slot = &mut timers.slots[self.place as usize];
            slot.at_ms > TURN_MS.get() && slot.waiter.set_task(cx.waker())
        });
        if is_set { Poll::Pending } else { self.poll_over_anew(cx.waker()) }
    }

    #[cold]
    fn poll_over_anew(&self, waker: &Waker) -> Poll<()> {
        if self.is_over() {
            return Poll::Ready(());
        }
        let waiter = Waiter::of(waker);
        let before = TIMERS.with(|timers| {
            std::mem::replace(&mut timers.borrow_mut().slots[self.place as usize].waiter, waiter)
        });
        drop(before);
        Poll::Pending
    }

    /// Waits until the time has come.
    pub async fn over(&self) {
        poll_fn(|cx| self.poll_over(cx)).await;
    }

    /// Runs `future` until the time has come; `None` when it has.
    pub async fn bound<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = std::pin::pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending => self.poll_over(cx).map(|()| None),
        })
        .await
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        // What is still filed wakes nobody.
        let waiter = TIMERS.with(|timers| timers.borrow_mut().give_slot(self.place));
        drop(waiter);
    }
}

/// A wait before more work is done for somebody, so that it leaves the time to others. It belongs to its thread.
#[derive(Debug, Default)]
pub struct Pause(Option<Deadline>);

impl Pause {
    /// Begins it, or begins it again.
    pub fn begin(&mut self, ms: u64) {
        self.0.get_or_insert_default().set_after(ms);
    }

    /// Ready once it is over, or where there is none; otherwise the task is woken then.
    pub fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(deadline) = &self.0 {
            std::task::ready!(deadline.poll_over(cx));
            self.0 = None;
        }
        Poll::Ready(())
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
    deadline.bound(future).await
}

/// Wakes whom a deadline of this thread has come for. The time of the next one, if there is one.
#[inline]
pub(crate) fn fire_due() -> Option<u64> {
    let next = TIMERS.with(|timers| timers.borrow().entries.peek().map(|Reverse((at_ms, _))| *at_ms));
    if next.is_some_and(|at_ms| at_ms <= now_ms()) { fire_now() } else { next }
}

#[cold]
fn fire_now() -> Option<u64> {
    let now = now_ms();
    loop {
        match TIMERS.with(|timers| timers.borrow_mut().next_due(now)) {
            Due::At(NEVER) => return None,
            Due::At(next) => return Some(next),
            Due::Now(waiter) => waiter.wake(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::event_loop::{block_on, yield_now};

    #[test]
    fn the_clock_of_a_busy_thread_goes_on() {
        refresh();
        let start = now_ms();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(50) {
            worked();
        }
        assert!(now_ms() - start >= 30, "{} ms", now_ms() - start);
        stop();
    }

    #[test]
    fn a_moved_deadline_comes_at_its_last_time() {
        block_on(async {
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
        let filed = || TIMERS.with(|timers| timers.borrow().entries.len());
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
    fn slots_are_used_again() {
        let first = Deadline::new();
        first.set_after(3_600_000);
        let (place, count) = (first.place, TIMERS.with(|timers| timers.borrow().slots.len()));
        drop(first);
        let second = Deadline::new();
        assert_eq!((second.place, TIMERS.with(|timers| timers.borrow().slots.len())), (place, count));
        assert!(!second.is_over());
        second.set_at(0);
        assert!(second.is_over());
    }

    #[test]
    fn a_pause_ends_once() {
        block_on(async {
            let mut pause = Pause::default();
            poll_fn(|cx| pause.poll_over(cx)).await;
            let start = now_ms();
            pause.begin(20);
            poll_fn(|cx| pause.poll_over(cx)).await;
            assert!(now_ms() - start >= 20);
            assert!(pause.0.is_none());
        });
    }

    #[test]
    fn an_earlier_time_is_waited_for_no_longer() {
        block_on(async {
            let late = Deadline::new();
            late.set_after(60_000);
            yield_now().await;
            let start = now_ms();
            late.set_after(20);
            late.over().await;
            assert!(now_ms() - start < 5_000);
            assert_eq!(within(10, std::future::pending::<()>()).await, None);
            assert_eq!(within(1000, async { 7 }).await, Some(7));
        });
    }
}
