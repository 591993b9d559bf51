//! A configuration at work, and the worker thread that serves it.
//!
//! All threads share one [`Cycle`]; each hands it to its requests by a counter of its own, so that counting
//! costs no traffic between processors.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Poll, Waker};

use base::Network;
use os::errlog::ErrorLog;

use crate::conf::HttpConf;
use crate::connection::Conn;
use crate::relay;
use crate::request::Request;
use crate::server::Handler;
use crate::side::Side;

/// Most handlers that a thread keeps for reuse.
const KEPT_HANDLERS: usize = 1024;
/// As many are kept however long nobody needs them.
const LEAST_HANDLERS: usize = 16;

/// What of the main and events contexts the engine needs to know.
#[derive(Clone, Debug)]
pub struct Globals {
    /// The main `error_log`.
    pub log: Arc<ErrorLog>,
    /// `worker_connections`, per worker thread.
    pub worker_connections: usize,
    /// `debug_connection`: clients whose messages are logged at every level.
    pub debug_connections: Vec<Network>,
    /// `worker_processes`: threads that serve.
    pub threads: usize,
    /// `worker_shutdown_timeout`, milliseconds: how long what began under this configuration may go on once
    /// another has taken its place.
    pub shutdown_timeout_ms: Option<u64>,
}

/// A compiled configuration that is being served.
pub struct Cycle {
    /// Which block it is.
    pub side: Side,
    /// The `http` block, or the `stream` block in the cycle of that side; empty without one.
    pub http: HttpConf,
    /// The main and events contexts.
    pub globals: Globals,
    /// Counts configurations, from 1.
    pub generation: u32,
}

impl Cycle {
    /// A configuration ready to be served.
    #[must_use]
    pub fn new(side: Side, http: HttpConf, globals: Globals) -> Self {
        static GENERATION: AtomicU32 = AtomicU32::new(0);
        Self { side, http, globals, generation: GENERATION.fetch_add(1, Ordering::Relaxed) + 1 }
    }
}

/// Both sides of a configuration at work.
pub struct Cycles {
    /// What `http` says.
    pub http: Arc<Cycle>,
    /// What `stream` says; made after the other, so its generation is the greater one.
    pub stream: Arc<Cycle>,
}

/// Something that is to live as long as a cycle is in use.
pub type Guard = Arc<dyn Any + Send + Sync>;

/// The thread's own handle on a cycle.
pub struct Local {
    cycle: Arc<Cycle>,
    _guard: Guard,
}

impl Local {
    fn of(cycle: &Arc<Cycle>, guard: &Guard) -> Rc<Self> {
        Rc::new(Self { cycle: Arc::clone(cycle), _guard: Arc::clone(guard) })
    }

    /// A configuration without a server.
    fn empty() -> Self {
        let globals = Globals {
            log: Arc::default(),
            worker_connections: 0,
            debug_connections: Vec::new(),
            threads: 1,
            shutdown_timeout_ms: None,
        };
        Self {
            cycle: Arc::new(Cycle { side: Side::Http, http: HttpConf::default(), globals, generation: 0 }),
            _guard: Arc::new(()),
        }
    }
}

impl Deref for Local {
    type Target = Cycle;

    #[inline]
    fn deref(&self) -> &Cycle {
        &self.cycle
    }
}

/// What a worker thread knows: the configuration, its connections, whether it is to end.
pub struct Worker {
    /// Number among the worker's threads, from 0.
    pub index: usize,
    cycle: RefCell<Rc<Local>>,
    stream: RefCell<Rc<Local>>,
    is_quitting: Cell<bool>,
    connections: RefCell<Vec<Option<Rc<Conn>>>>,
    free_places: RefCell<Vec<usize>>,
    on_all_closed: Cell<Option<Waker>>,
    #[expect(clippy::vec_box, reason = "a connection borrows the box: its own task stays small")]
    handlers: RefCell<Vec<Box<Handler>>>,
    /// The fewest handlers that were free since they were last trimmed.
    least_free: Cell<usize>,
    /// The connection of requests that are not in use.
    nobody: Rc<Conn>,
    /// Their configuration, which keeps none alive.
    nothing: Rc<Local>,
}

thread_local! {
    static WORKER: RefCell<Option<Rc<Worker>>> = const { RefCell::new(None) };
}

impl Worker {
    /// Makes this thread a worker thread.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn install(index: usize, cycles: &Cycles, guard: &Guard) -> io::Result<Rc<Self>> {
        let nobody = Conn::nobody()?;
        let worker = Rc::new(Self {
            index,
            cycle: RefCell::new(Local::of(&cycles.http, guard)),
            stream: RefCell::new(Local::of(&cycles.stream, guard)),
            is_quitting: Cell::new(false),
            connections: RefCell::default(),
            free_places: RefCell::default(),
            on_all_closed: Cell::new(None),
            handlers: RefCell::default(),
            least_free: Cell::new(usize::MAX),
            nobody: Rc::new(nobody),
            nothing: Rc::new(Local::empty()),
        });
        WORKER.with(|slot| *slot.borrow_mut() = Some(Rc::clone(&worker)));
        Ok(worker)
    }

    /// The worker of this thread.
    ///
    /// # Panics
    /// On a thread that is none, which is a mistake in the program.
    #[must_use]
    pub fn current() -> Rc<Self> {
        WORKER.with(|slot| match &*slot.borrow() {
            Some(worker) => Rc::clone(worker),
            None => panic!("not a worker thread"),
        })
    }

    /// As [`Self::current`] for a moment, without counting one who holds it.
    ///
    /// # Panics
    /// As [`Self::current`].
    #[inline]
    pub(crate) fn with<T>(act: impl FnOnce(&Self) -> T) -> T {
        WORKER.with(|slot| match &*slot.borrow() {
            Some(worker) => act(worker),
            None => panic!("not a worker thread"),
        })
    }

    /// The worker of this thread, where it is one.
    #[must_use]
    pub fn try_current() -> Option<Rc<Self>> {
        WORKER.try_with(|slot| slot.borrow().clone()).ok().flatten()
    }

    /// The configuration for new requests.
    #[must_use]
    pub fn cycle(&self) -> Rc<Local> {
        Rc::clone(&self.cycle.borrow())
    }

    /// The configuration for new sessions of `stream`, or for new requests.
    #[must_use]
    pub fn cycle_of(&self, side: Side) -> Rc<Local> {
        match side {
            Side::Http => self.cycle(),
            Side::Stream => Rc::clone(&self.stream.borrow()),
        }
    }

    /// Serves new requests and sessions under another configuration.
    pub fn adopt(&self, cycles: &Cycles, guard: &Guard) {
        *self.cycle.borrow_mut() = Local::of(&cycles.http, guard);
        *self.stream.borrow_mut() = Local::of(&cycles.stream, guard);
    }

    /// Whether no further request may follow on a connection.
    #[inline]
    #[must_use]
    pub fn is_quitting(&self) -> bool {
        self.is_quitting.get()
    }

    /// Open client connections.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.connections.borrow().len() - self.free_places.borrow().len()
    }

    /// Whether `worker_connections` allows one more, if need be by closing an idle one.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.open_connections() + relay::in_use() < self.most_connections() || self.close_an_idle_connection()
    }

    /// `worker_connections`.
    #[must_use]
    pub fn most_connections(&self) -> usize {
        self.cycle.borrow().globals.worker_connections
    }

    /// A request that belongs to no connection yet.
    #[must_use]
    pub fn new_request(&self) -> Box<Request> {
        Box::new(Request::new(Rc::clone(&self.nothing), Rc::clone(&self.nobody)))
    }

    /// Has a request that is not in use let go of what belongs to others.
    pub(crate) fn release(&self, r: &mut Request) {
        r.release(Rc::clone(&self.nothing), Rc::clone(&self.nobody));
    }

    /// A handler that is free: the one used last, since its memory is the warmest.
    pub(crate) fn take_handler(&self) -> Option<Box<Handler>> {
        let mut handlers = self.handlers.borrow_mut();
        let handler = handlers.pop();
        self.least_free.set(self.least_free.get().min(handlers.len()));
        handler
    }

    /// Takes a handler back whose connection needs it no more.
    pub(crate) fn give_handler(&self, handler: Box<Handler>) {
        let mut handlers = self.handlers.borrow_mut();
        if handlers.len() < KEPT_HANDLERS && !self.is_quitting() {
            handlers.push(handler);
        }
    }

    /// Lets go of a half of the handlers that nobody has needed since the last call; called once a second.
    pub(crate) fn trim_handlers(&self) {
        let unused = self.least_free.replace(usize::MAX);
        let mut handlers = self.handlers.borrow_mut();
        let surplus = unused.min(handlers.len()).saturating_sub(LEAST_HANDLERS) / 2;
        // Those at the front were used longest ago.
        handlers.drain(..surplus);
    }

    /// Counts a connection of a client among the thread's own.
    pub fn enter(&self, conn: &Rc<Conn>) {
        let mut connections = self.connections.borrow_mut();
        let place = self.free_places.borrow_mut().pop().unwrap_or_else(|| {
            connections.push(None);
            connections.len() - 1
        });
        conn.place.set(u32::try_from(place).unwrap_or(u32::MAX));
        connections[place] = Some(Rc::clone(conn));
    }

    pub(crate) fn leave(&self, conn: &Conn) {
        if let Some(slot) = self.connections.borrow_mut().get_mut(conn.place.get() as usize)
            && slot.take().is_some()
        {
            self.free_places.borrow_mut().push(conn.place.get() as usize);
        }
        if self.is_quitting()
            && self.open_connections() == 0
            && let Some(waker) = self.on_all_closed.take()
        {
            waker.wake();
        }
    }

    /// Waits until no client is connected.
    pub async fn all_closed(&self) {
        poll_fn(|cx| {
            if self.open_connections() == 0 {
                return Poll::Ready(());
            }
            self.on_all_closed.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// Lets no further request begin and closes idle connections.
    pub fn quit(&self) {
        self.is_quitting.set(true);
        // They hold the worker, which would hold its configuration beyond the thread's end.
        drop(self.handlers.take());
        self.each(|conn| {
            if conn.is_idle.get() || conn.is_multiplexed.get() {
                conn.deadline.set_at(0);
            }
        });
    }

    /// Closes idle connections, the longest idle first as far as the list tells; says whether there was one.
    fn close_an_idle_connection(&self) -> bool {
        let connections = self.connections.borrow();
        let idle = connections
            .iter()
            .flatten()
            .find(|conn| conn.is_idle.get() && conn.requests.get() > 0 && !conn.deadline.is_over());
        idle.is_some_and(|conn| {
            conn.deadline.set_at(0);
            true
        })
    }

    /// Closes every connection, whatever it does (`worker_shutdown_timeout`).
    pub fn abort_all(&self) {
        self.each(Conn::abort);
    }

    /// Closes the connections that still do something under this configuration or an older one. Those that wait
    /// for a request stay: they will take the newest.
    pub fn abort_older(&self, generation: u32) {
        self.each(|conn| {
            // One that was never asked anything is no connection that is kept for another request.
            let is_kept = conn.is_idle.get() && conn.requests.get() > 0;
            if !is_kept && conn.generation() <= generation {
                conn.abort();
            }
        });
    }

    fn each(&self, act: impl Fn(&Conn)) {
        for conn in self.connections.borrow().iter().flatten() {
            act(conn);
        }
    }
}
