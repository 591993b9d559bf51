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
use std::task::{Context, Poll, Waker};

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

/// Begins a turn and takes the time anew, around each wait of the event loop. A thread without one asks the kernel each
/// time.
pub(crate) fn refresh() {
    take_time();
    WORK.set(0);
}

/// The thread has no event loop any more.
pub(crate) fn stop() {
    TURN_MS.set(NO_TURN);
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
    waker: Option<Waker>,
}

impl Slot {
    /// Whether the time has come.
    #[inline]
    fn is_over(&self) -> bool {
        self.at_ms != NEVER && self.at_ms <= now_ms()
    }
}

/// A time, and the place of the slot that it was filed for.
type Entry = Reverse<(u64, u32)>;

/// The deadlines of a thread. They lie side by side, since each idle connection has one.
///
/// No waker may be dropped while this is borrowed: with it may go its task, and with that other deadlines.
#[derive(Default)]
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
    fn take_slot(&mut self) -> u32 {
        let unset = Slot { at_ms: NEVER, filed_ms: NEVER, waker: None };
        if let Some(place) = self.free.pop() {
            self.slots[place as usize] = unset;
            return place;
        }
        self.slots.push(unset);
        u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
    }

    /// Takes a slot back, and its waker out of it.
    fn give_slot(&mut self, place: u32) -> Option<Waker> {
        let slot = &mut self.slots[place as usize];
        let waker = slot.waker.take();
        slot.at_ms = NEVER;
        if std::mem::replace(&mut slot.filed_ms, NEVER) != NEVER {
            self.add_void();
        }
        self.free.push(place);
        waker
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
            return Due::Now(None);
        }
        let at = slot.at_ms;
        if at == NEVER || at <= now {
            slot.filed_ms = NEVER;
            return Due::Now(if at == NEVER { None } else { slot.waker.take() });
        }
        slot.filed_ms = at;
        self.entries.push(Reverse((at, place)));
        Due::Now(None)
    }
}

/// What the heap holds next.
enum Due {
    /// Nothing before this time.
    At(u64),
    /// Something that is due, and whom to wake for it.
    Now(Option<Waker>),
}

thread_local! {
    static TIMERS: RefCell<Timers> = RefCell::default();
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
        Self { place: TIMERS.with_borrow_mut(Timers::take_slot), _of_thread: PhantomData }
    }

    /// Sets the deadline to `after_ms` milliseconds from now.
    pub fn set_after(&self, after_ms: u64) {
        self.set_at(now_ms().saturating_add(after_ms));
    }

    /// Sets the deadline to a time of [`now_ms`].
    pub fn set_at(&self, at_ms: u64) {
        TIMERS.with_borrow_mut(|timers| {
            let slot = &mut timers.slots[self.place as usize];
            slot.at_ms = at_ms;
            if at_ms < slot.filed_ms {
                timers.file(self.place, at_ms);
            }
        });
    }

    /// Takes the deadline back.
    pub fn clear(&self) {
        TIMERS.with_borrow_mut(|timers| timers.slots[self.place as usize].at_ms = NEVER);
    }

    /// Whether the time has come.
    #[must_use]
    pub fn is_over(&self) -> bool {
        TIMERS.with_borrow(|timers| timers.slots[self.place as usize].is_over())
    }

    /// Ready once the time has come; otherwise the task is woken then.
    pub fn poll_over(&self, cx: &mut Context<'_>) -> Poll<()> {
        let (over, before) = TIMERS.with_borrow_mut(|timers| {
            let slot = &mut timers.slots[self.place as usize];
            match &slot.waker {
                _ if slot.is_over() => (Poll::Ready(()), None),
                Some(known) if known.will_wake(cx.waker()) => (Poll::Pending, None),
                _ => (Poll::Pending, slot.waker.replace(cx.waker().clone())),
            }
        });
        drop(before);
        over
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
        // At the end of the thread they may be gone already. What is still filed wakes nobody.
        let waker = TIMERS.try_with(|timers| timers.borrow_mut().give_slot(self.place));
        drop(waker);
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

/// Wakes whom a deadline of this thread has come for. The milliseconds until the next one, if there is one.
pub(crate) fn fire_due() -> Option<u32> {
    let now = now_ms();
    loop {
        match TIMERS.with_borrow_mut(|timers| timers.next_due(now)) {
            Due::At(NEVER) => return None,
            Due::At(next) => return Some(u32::try_from(next - now).unwrap_or(u32::MAX)),
            Due::Now(waker) => waker.into_iter().for_each(Waker::wake),
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
        let filed = || TIMERS.with_borrow(|timers| timers.entries.len());
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
        let (place, count) = (first.place, TIMERS.with_borrow(|timers| timers.slots.len()));
        drop(first);
        let second = Deadline::new();
        assert_eq!((second.place, TIMERS.with_borrow(|timers| timers.slots.len())), (place, count));
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
