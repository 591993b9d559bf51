//! The tasks of a thread: where they lie, and which of them are to be polled next.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use super::contained;
use super::home::Home;

/// Things that a task may do in one turn before others have theirs: reads and writes that succeeded, say.
const TURN_SHARES: u32 = 128;

/// A task's name. Once the task is gone, its place gets another one's generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(8))]
pub(crate) struct Key {
    place: u32,
    generation: u32,
}

/// Whoever is polled by [`super::run`] itself.
pub(super) const MAIN: Key = Key { place: u32::MAX, generation: 0 };

/// What a waker holds.
struct Address {
    key: Key,
    home: Arc<Home>,
}

impl Wake for Address {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    #[inline]
    fn wake_by_ref(self: &Arc<Self>) {
        if HERE.get() == self.home.id { wake(self.key) } else { self.home.wake(self.key) }
    }
}

struct Stored {
    future: Pin<Box<dyn Future<Output = ()>>>,
    waker: Waker,
}

struct Slot {
    generation: u32,
    /// It stands in the queue.
    is_ready: bool,
    /// Its turn will be its end.
    is_aborted: bool,
    /// Not there while it is polled.
    task: Option<Stored>,
}

struct Tasks {
    slots: Vec<Slot>,
    /// Places that no task has.
    free: Vec<u32>,
    /// Who is to be polled, in this order.
    ready: VecDeque<Key>,
    /// Who is woken once descriptors were asked.
    yielded: Vec<Waker>,
    main: Option<Waker>,
    is_main_ready: bool,
    home: Option<Arc<Home>>,
}

thread_local! {
    // The loop empties it. Where a task ends the process, the others are not dropped with the thread, as what they are
    // made of may be gone by then.
    static TASKS: ManuallyDrop<RefCell<Tasks>> = const { ManuallyDrop::new(RefCell::new(Tasks::NONE)) };
    /// The number of the loop that runs here; zero without one.
    static HERE: Cell<u64> = const { Cell::new(0) };
    static CURRENT: Cell<Current> = const { Cell::new(Current::NONE) };
    /// What is left of the turn of the task that is polled.
    static SHARES: Cell<u32> = const { Cell::new(TURN_SHARES) };
}

/// The task that is polled, or was polled last and has not ended.
#[derive(Clone, Copy)]
struct Current {
    key: Key,
    /// What its waker points to: another waker that points there is of the same task.
    waker: *const (),
}

impl Current {
    const NONE: Self = Self { key: MAIN, waker: std::ptr::dangling::<Address>().cast() };
}

/// The name of the task that is polled, where this is its waker.
#[inline]
pub(super) fn key_of(waker: &Waker) -> Option<Key> {
    let current = CURRENT.get();
    (current.waker == waker.data()).then_some(current.key)
}

/// Polls with the waker of a task, as a turn of its own.
#[inline]
pub(super) fn poll_as<T>(key: Key, waker: &Waker, poll: impl FnOnce(&mut Context<'_>) -> T) -> T {
    SHARES.set(TURN_SHARES);
    CURRENT.set(Current { key, waker: waker.data() });
    poll(&mut Context::from_waker(waker))
}

/// No future may be polled or dropped in `act`.
#[inline]
fn with_tasks<T>(act: impl FnOnce(&mut Tasks) -> T) -> T {
    TASKS.with(|tasks| act(&mut tasks.borrow_mut()))
}

impl Tasks {
    const NONE: Self = Self {
        slots: Vec::new(),
        free: Vec::new(),
        ready: VecDeque::new(),
        yielded: Vec::new(),
        main: None,
        is_main_ready: false,
        home: None,
    };

    #[inline]
    fn slot(&mut self, key: Key) -> Option<&mut Slot> {
        self.slots.get_mut(key.place as usize).filter(|slot| slot.generation == key.generation)
    }

    #[inline]
    fn wake(&mut self, key: Key) {
        let is_ready = match self.slot(key) {
            Some(slot) => &mut slot.is_ready,
            None if key == MAIN => &mut self.is_main_ready,
            None => return,
        };
        if !std::mem::replace(is_ready, true) {
            self.ready.push_back(key);
        }
    }

    /// A place for a task that is yet to come.
    fn reserve(&mut self) -> Key {
        let place = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, is_ready: false, is_aborted: false, task: None });
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        Key { place, generation: self.slots.get(place as usize).map_or(0, |slot| slot.generation) }
    }

    #[inline]
    fn next(&mut self) -> Option<Next> {
        loop {
            let key = self.ready.pop_front()?;
            let Some(slot) = self.slot(key) else {
                if key == MAIN {
                    return self.next_main();
                }
                // One that has ended meanwhile leaves its name behind.
                continue;
            };
            slot.is_ready = false;
            let is_aborted = slot.is_aborted;
            if let Some(stored) = slot.task.take() {
                return Some(Next::Task(Due { key, stored, is_aborted }));
            }
        }
    }

    #[cold]
    fn next_main(&mut self) -> Option<Next> {
        self.is_main_ready = false;
        self.main.clone().map(Next::Main)
    }

    /// Puts a task back into its place, which is empty while it is polled: nothing is dropped there.
    #[inline]
    fn keep(&mut self, due: Due) {
        if let Some(slot) = self.slot(due.key) {
            std::mem::forget(slot.task.replace(due.stored));
        }
    }

    /// Frees the place of a task.
    fn forget(&mut self, key: Key) {
        let Some(slot) = self.slot(key) else { return };
        *slot = Slot {
            generation: key.generation.wrapping_add(1),
            is_ready: false,
            is_aborted: false,
            task: None,
        };
        self.free.push(key.place);
    }
}

/// Who is to be polled.
pub(super) enum Next {
    Main(Waker),
    Task(Due),
}

/// A task whose turn has come.
pub(super) struct Due {
    key: Key,
    stored: Stored,
    is_aborted: bool,
}

impl Due {
    /// Polls it, and keeps it unless it is done.
    #[inline]
    pub fn poll(mut self) {
        let mut is_done = true;
        if !self.is_aborted {
            let Stored { future, waker } = &mut self.stored;
            contained(|| is_done = poll_as(self.key, waker, |cx| future.as_mut().poll(cx)).is_ready());
        }
        if is_done { self.end() } else { with_tasks(|tasks| tasks.keep(self)) }
    }

    #[cold]
    fn end(self) {
        CURRENT.set(Current::NONE);
        with_tasks(|tasks| tasks.forget(self.key));
        contained(|| drop(self.stored));
    }
}

/// A task, for whoever may want to end it. It goes on without.
#[derive(Debug)]
pub struct TaskHandle {
    key: Key,
    _of_thread: PhantomData<*const ()>,
}

impl TaskHandle {
    /// Drops the task at its next turn, which it gets at once, instead of polling it.
    pub fn abort(&self) {
        with_tasks(|tasks| {
            if let Some(slot) = tasks.slot(self.key) {
                slot.is_aborted = true;
                tasks.wake(self.key);
            }
        });
    }

    /// Whether it is done, or gone otherwise.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        with_tasks(|tasks| tasks.slot(self.key).is_none())
    }
}

/// Has this thread's event loop poll a future until it is done.
///
/// # Panics
/// On a thread without an event loop.
pub fn spawn(future: impl Future<Output = ()> + 'static) -> TaskHandle {
    let future = Box::pin(future);
    let key = with_tasks(|tasks| {
        let home = Arc::clone(tasks.home.as_ref().expect("an event loop on this thread"));
        let key = tasks.reserve();
        let waker = Waker::from(Arc::new(Address { key, home }));
        if let Some(slot) = tasks.slot(key) {
            slot.task = Some(Stored { future, waker });
        }
        tasks.wake(key);
        key
    });
    TaskHandle { key, _of_thread: PhantomData }
}

/// Takes a share of the turn of the task that is polled. When this is pending the turn is used up, and the task gets
/// another once others, and what has happened meanwhile, have had theirs.
#[inline]
pub fn poll_turn(cx: &Context<'_>) -> Poll<()> {
    match SHARES.get().checked_sub(1) {
        Some(left) => {
            SHARES.set(left);
            Poll::Ready(())
        }
        None => wake_next_turn(cx.waker()),
    }
}

/// Begins with `main` as the one that is to be polled.
pub(super) fn open(home: &Arc<Home>) {
    HERE.set(home.id);
    with_tasks(|tasks| {
        tasks.main = Some(Waker::from(Arc::new(Address { key: MAIN, home: Arc::clone(home) })));
        tasks.home = Some(Arc::clone(home));
        tasks.wake(MAIN);
    });
}

/// Drops all tasks. What they spawn at that is dropped as well.
pub(super) fn close() {
    let take_any = |tasks: &mut Tasks| tasks.slots.iter_mut().find_map(|slot| slot.task.take());
    while let Some(stored) = with_tasks(take_any) {
        contained(|| drop(stored));
    }
    HERE.set(0);
    CURRENT.set(Current::NONE);
    drop(with_tasks(|tasks| std::mem::replace(tasks, Tasks::NONE)));
}

#[inline]
pub(super) fn next() -> Option<Next> {
    with_tasks(Tasks::next)
}

/// Wakes a task of this thread.
#[inline]
pub(super) fn wake(key: Key) {
    with_tasks(|tasks| tasks.wake(key));
}

/// Whether nobody is to be polled.
pub(super) fn is_idle() -> bool {
    with_tasks(|tasks| tasks.ready.is_empty() && tasks.yielded.is_empty())
}

/// Wakes somebody once descriptors were asked.
#[cold]
pub(super) fn wake_next_turn(waker: &Waker) -> Poll<()> {
    with_tasks(|tasks| tasks.yielded.push(waker.clone()));
    Poll::Pending
}

/// Wakes who has let others go first.
#[inline]
pub(super) fn resume_yielded() {
    if with_tasks(|tasks| !tasks.yielded.is_empty()) {
        wake_yielded();
    }
}

#[cold]
fn wake_yielded() {
    let yielded = with_tasks(|tasks| std::mem::take(&mut tasks.yielded));
    yielded.into_iter().for_each(Waker::wake);
}
