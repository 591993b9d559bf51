//! The threads that serve requests, and how they are told what to do.
//!
//! Each runs an event loop of its own. The first of them may be the thread that made the pool.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use net::event_loop::{self, Hooks, Method};
use os::errlog::{ErrorLog, Level};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use crate::core_conf::CoreConf;
use crate::engine::{Command, Commands, Engine, Running, Thread};

/// Code that a worker exits with when one of its threads has panicked: the master starts another worker.
pub(crate) const PANICKED: i32 = 1;

struct Member<E: Engine> {
    orders: UnboundedSender<Command<E::Cycle>>,
    /// None of the thread that made the pool.
    handle: Option<JoinHandle<()>>,
}

/// What one thread needs to serve.
pub(crate) struct Seat<E: Engine> {
    thread: Thread,
    cpus: Option<Vec<usize>>,
    method: Method,
    cycle: Arc<Running<E::Cycle>>,
    commands: Commands<E>,
    log: Arc<ErrorLog>,
    alive: Option<Arc<OwnedFd>>,
}

impl<E: Engine> Seat<E> {
    /// Serves on this thread until told to end, and does `beside` until that has ended too.
    pub(crate) fn serve(self, beside: impl Future<Output = ()> + 'static) {
        let Self { thread, cpus, method, cycle, commands, log, alive } = self;
        if let Some(cpus) = cpus
            && let Err(error) = os::limits::set_affinity(&cpus)
        {
            log.log(Level::Alert, format_args!("sched_setaffinity() failed ({error})"));
        }
        let served = catch_unwind(AssertUnwindSafe(|| {
            let hooks = Hooks { method, before_waiting: E::before_waiting };
            event_loop::run(hooks, async {
                let (ended, end) = oneshot::channel();
                net::spawn(async move {
                    beside.await;
                    let _ = ended.send(());
                });
                E::serve(thread, cycle, commands).await;
                drop(alive);
                end.await.map_err(io::Error::other)
            })?
        }));
        match served {
            Ok(Ok(())) => {}
            Ok(Err(error)) => end_process(&log, thread, &error.to_string()),
            Err(_) => end_process(&log, thread, "panic"),
        }
    }
}

/// The serving threads of a process.
pub(crate) struct Pool<E: Engine> {
    members: Vec<Member<E>>,
    // Readable (hung up) when every thread has dropped its copy of the other end.
    ended: OwnedFd,
    alive: Option<Arc<OwnedFd>>,
}

impl<E: Engine> Pool<E> {
    /// Starts the threads that the configuration asks for.
    pub(crate) fn start(
        core: &CoreConf,
        log: &Arc<ErrorLog>,
        cycle: &Arc<Running<E::Cycle>>,
    ) -> io::Result<Self> {
        let mut pool = Self::empty()?;
        pool.grow(core, log, cycle)?;
        Ok(pool)
    }

    /// As [`Self::start`], but for the first thread: this one is to take its seat.
    pub(crate) fn start_from_here(
        core: &CoreConf,
        log: &Arc<ErrorLog>,
        cycle: &Arc<Running<E::Cycle>>,
    ) -> io::Result<(Self, Seat<E>)> {
        let mut pool = Self::empty()?;
        let seat = pool.seat(core, log, cycle);
        pool.grow(core, log, cycle)?;
        Ok((pool, seat))
    }

    fn empty() -> io::Result<Self> {
        let (ended, alive) = os::io::pipe()?;
        Ok(Self { members: Vec::new(), ended, alive: Some(Arc::new(alive)) })
    }

    /// One more member, whose thread is yet to come.
    fn seat(&mut self, core: &CoreConf, log: &Arc<ErrorLog>, cycle: &Arc<Running<E::Cycle>>) -> Seat<E> {
        let thread = Thread { index: self.members.len(), count: core.threads };
        let (orders, commands) = unbounded_channel();
        self.members.push(Member { orders, handle: None });
        Seat {
            thread,
            cpus: core.affinity.of_thread(thread.index),
            method: core.method,
            cycle: Arc::clone(cycle),
            commands,
            log: Arc::clone(log),
            alive: self.alive.clone(),
        }
    }

    fn grow(
        &mut self,
        core: &CoreConf,
        log: &Arc<ErrorLog>,
        cycle: &Arc<Running<E::Cycle>>,
    ) -> io::Result<()> {
        while self.members.len() < core.threads {
            let seat = self.seat(core, log, cycle);
            let named = std::thread::Builder::new().name(format!("worker {}", seat.thread.index));
            let handle = named.spawn(move || seat.serve(std::future::ready(())));
            match (handle, self.members.last_mut()) {
                (Ok(handle), Some(member)) => member.handle = Some(handle),
                (Ok(_), None) => {}
                (Err(error), _) => {
                    self.members.pop();
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Has all threads go over to a configuration, and starts or ends some if it wants more or fewer.
    pub(crate) fn adopt(
        &mut self,
        core: &CoreConf,
        log: &Arc<ErrorLog>,
        cycle: &Arc<Running<E::Cycle>>,
    ) -> io::Result<()> {
        for member in self.members.drain(core.threads.min(self.members.len())..) {
            let _ = member.orders.send(Command::Quit { timeout_ms: core.shutdown_timeout_ms });
        }
        for member in &self.members {
            let _ = member.orders.send(Command::Adopt(Arc::clone(cycle)));
        }
        self.grow(core, log, cycle)
    }

    /// Has all threads finish; [`Pool::ended`] tells when they have.
    pub(crate) fn quit(&mut self, timeout_ms: Option<u64>) {
        self.alive = None;
        for member in &self.members {
            let _ = member.orders.send(Command::Quit { timeout_ms });
        }
    }

    /// Has all threads return at once.
    pub(crate) fn terminate(&mut self) {
        self.alive = None;
        for member in &self.members {
            let _ = member.orders.send(Command::Terminate);
        }
    }

    /// A descriptor that becomes readable when all threads have ended after [`Pool::quit`].
    pub(crate) fn ended(&self) -> BorrowedFd<'_> {
        self.ended.as_fd()
    }

    /// Waits for the threads, which must have been told to end.
    pub(crate) fn join(self) {
        for handle in self.members.into_iter().filter_map(|member| member.handle) {
            let _ = handle.join();
        }
    }
}

/// A thread that fell over leaves its connections unserved: better a new worker than half of one.
fn end_process(log: &ErrorLog, thread: Thread, why: &str) -> ! {
    log.log(Level::Alert, format_args!("thread {} cannot go on: {why}", thread.index));
    os::process::exit_now(PANICKED)
}
