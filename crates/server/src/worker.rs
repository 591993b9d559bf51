//! The worker process: gives up the privileges, starts the threads, obeys the master and signals.
//!
//! It takes over what the master compiled before the fork; a reload it compiles itself, from the bundle sent.
//!
//! Its first thread serves, and waits for orders where it waits for requests: the kernel asks less for each call of a
//! process with one thread. What is ordered is done on a thread made for it, as a reload may take long.

use std::future::poll_fn;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use net::watch::{Interest, Lent, watch};
use net::{Undone, aside};
use os::credentials::Capabilities;
use os::errlog::{Errno, Level};
use os::process::Pid;
use os::signal::{Received, Signal, SignalFd, wait_readable};

use crate::bundle::{Bundle, BundleResources, HandleId};
use crate::core_conf::CoreConf;
use crate::engine::Engine;
use crate::load::{Loaded, Setup, Told, load};
use crate::master::redirect_stderr;
use crate::messages::{Answer, Order, receive_order, send_answer};
use crate::pool::{PANICKED, Pool};
use crate::reporter::{Console, Reporter};

/// Signals that master, worker and single process take note of (`ngx_signal_handler`); all are blocked before
/// the pid file tells anybody whom to send them to.
pub(crate) const SIGNALS: &[Signal] = &[
    Signal::Hup,
    Signal::Int,
    Signal::Quit,
    Signal::Usr1,
    Signal::Usr2,
    Signal::Term,
    Signal::Winch,
    Signal::Io,
    Signal::Chld,
    Signal::Alrm,
];

/// Exit code after which the master does not try again.
const FATAL: i32 = 2;
/// How long threads may take to write their logs when the worker is told to end at once, milliseconds.
const LAST_WORDS_MS: u64 = 1000;

/// What a forked worker begins with.
pub(crate) struct Start<E: Engine> {
    pub(crate) setup: Setup,
    pub(crate) loaded: Loaded<E>,
    pub(crate) bundle: Bundle,
    pub(crate) channel: OwnedFd,
}

/// Whether the worker still takes connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Serving,
    /// Finishing, at the latest at this time of the monotonic clock, milliseconds.
    Quitting(Option<u64>),
    /// Ending at this time of the monotonic clock, whatever threads do.
    Terminating(u64),
}

struct Worker<E: Engine> {
    setup: Setup,
    loaded: Loaded<E>,
    bundle: Bundle,
    channel: Option<OwnedFd>,
    signals: SignalFd,
    pool: Pool<E>,
    phase: Phase,
}

/// Runs the worker to its end.
pub(crate) fn run<E: Engine>(start: Start<E>) -> ! {
    let log = Arc::clone(&start.loaded.error_log);
    let reporter = Reporter { log, console: Console::Silent };
    let capabilities = E::capabilities(&start.loaded.cycle);
    if let Err(why) = prepare(&start.loaded.core, capabilities, &reporter) {
        reporter.report(Level::Emerg, format_args!("{why}"));
        std::process::exit(FATAL);
    }
    let started = SignalFd::new(SIGNALS).and_then(|signals| {
        let Loaded { core, error_log, cycle, .. } = &start.loaded;
        Ok((signals, Pool::start_from_here(core, error_log, cycle)?))
    });
    let (signals, (pool, seat)) = match started {
        Ok(started) => started,
        Err(error) => {
            reporter.alert(format_args!("worker could not start {}", Errno(&error)));
            std::process::exit(FATAL);
        }
    };
    let Start { setup, loaded, bundle, channel } = start;
    let channel = Some(channel);
    let worker = Worker { setup, loaded, bundle, channel, signals, pool, phase: Phase::Serving };
    seat.serve(obey(Arc::new(Mutex::new(worker))));
    std::process::exit(FATAL);
}

/// Does what is ordered until the worker is to end, and ends it.
async fn obey<E: Engine>(worker: Arc<Mutex<Worker<E>>>) {
    loop {
        let (watched, patience_ms) = lock(&worker).awaited();
        // Where that cannot be watched, the thread waits for it.
        let _ = wait(watched, patience_ms).await;
        let own = Arc::clone(&worker);
        let ended = match aside("orders", move || lock(&own).turn()).await {
            Err(Undone::NotBegun(_)) => Ok(lock(&worker).turn()),
            done => done,
        };
        match ended {
            Ok(Ended::No) => {}
            Ok(Ended::Yes) => {
                lock(&worker).reporter().notice(format_args!("exit"));
                std::process::exit(0);
            }
            // It has panicked: the master is to start another worker.
            Err(_) => os::process::exit_now(PANICKED),
        }
    }
}

fn lock<E: Engine>(worker: &Mutex<Worker<E>>) -> MutexGuard<'_, Worker<E>> {
    worker.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until one of them is readable, or so long.
async fn wait(watched: Vec<Lent>, patience_ms: Option<u32>) -> std::io::Result<()> {
    let watch = |fd| watch(fd, Interest::Readable);
    let watched: Vec<_> = watched.into_iter().map(watch).collect::<Result<_, _>>()?;
    let late = net::Deadline::new();
    if let Some(ms) = patience_ms {
        late.set_after(ms.into());
    }
    poll_fn(|cx| {
        let is_late = late.poll_over(cx).is_ready();
        let is_ready = watched.iter().any(|fd| fd.poll_readable(cx).is_ready());
        if is_late || is_ready { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    Ok(())
}

/// What is done once, before threads exist (`ngx_worker_process_init`).
fn prepare(core: &CoreConf, capabilities: Capabilities, reporter: &Reporter) -> Result<(), String> {
    let env = environment(core);
    os::process::replace_env(&env)
        .map_err(|error| format!("could not set the environment {}", Errno(&error)))?;
    if core.priority != 0
        && let Err(error) = os::limits::set_priority(core.priority)
    {
        reporter.alert(format_args!("setpriority({}) failed {}", core.priority, Errno(&error)));
    }
    if let Some(count) = core.rlimit_nofile
        && let Err(error) = os::limits::set_nofile(count)
    {
        reporter.alert(format_args!("setrlimit(RLIMIT_NOFILE, {count}) failed {}", Errno(&error)));
    }
    if let Some(bytes) = core.rlimit_core
        && let Err(error) = os::limits::set_core(bytes)
    {
        reporter.alert(format_args!("setrlimit(RLIMIT_CORE, {bytes}) failed {}", Errno(&error)));
    }
    if let Some(whom) = &core.credentials {
        os::credentials::drop_to(whom, capabilities)
            .map_err(|failed| format!("{}({}) failed {}", failed.call, whom.uid, Errno(&failed.error)))?;
    }
    if let Some(directory) = &core.working_directory {
        std::env::set_current_dir(directory)
            .map_err(|error| format!("chdir(\"{}\") failed {}", directory.display(), Errno(&error)))?;
    }
    Ok(())
}

/// `TZ` and what `env` names, with the values of now or those given (`ngx_set_environment`).
pub(crate) fn environment(core: &CoreConf) -> Vec<(std::ffi::OsString, std::ffi::OsString)> {
    let has_tz = core.env.iter().any(|(name, _)| name == "TZ");
    let tz = (!has_tz).then(|| ("TZ".to_owned(), None));
    let wanted = core.env.iter().cloned().chain(tz);
    let valued = wanted.filter_map(|(name, value)| match value {
        Some(value) => Some((name.into(), value.into())),
        None => std::env::var_os(&name).map(|value| (name.into(), value)),
    });
    valued.collect()
}

/// Whether the worker is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    No,
    Yes,
}

impl<E: Engine> Worker<E> {
    fn reporter(&self) -> Reporter {
        Reporter { log: Arc::clone(&self.loaded.error_log), console: Console::Silent }
    }

    /// Signals, the end of the threads, the master.
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let own = [self.signals.as_fd(), self.pool.ended()];
        own.into_iter().chain(self.channel.as_ref().map(AsFd::as_fd)).collect()
    }

    /// What tells that there is something to do, and the milliseconds after which there is in any case.
    fn awaited(&self) -> (Vec<Lent>, Option<u32>) {
        (self.descriptors().into_iter().map(Lent::new).collect(), self.patience_ms())
    }

    /// Waits for something to happen and does what it asks for.
    fn turn(&mut self) -> Ended {
        let ready = wait_readable(&self.descriptors(), self.patience_ms()).unwrap_or_default();
        let is_ready = |index: usize| ready.get(index).copied().unwrap_or(false);
        if is_ready(0) {
            while let Ok(Some(received)) = self.signals.read() {
                self.signal(received);
            }
        }
        if is_ready(2) {
            self.message();
        }
        let is_late = match self.phase {
            Phase::Quitting(Some(end)) | Phase::Terminating(end) => os::clock::monotonic_coarse_ms() >= end,
            Phase::Serving | Phase::Quitting(None) => false,
        };
        if !is_ready(1) && !is_late {
            return Ended::No;
        }
        if !matches!(self.phase, Phase::Terminating(_)) {
            self.reporter().notice(format_args!("exiting"));
        }
        Ended::Yes
    }

    fn patience_ms(&self) -> Option<u32> {
        match self.phase {
            Phase::Quitting(Some(end)) | Phase::Terminating(end) => {
                let left = end.saturating_sub(os::clock::monotonic_coarse_ms());
                Some(u32::try_from(left).unwrap_or(u32::MAX).saturating_add(1))
            }
            Phase::Serving | Phase::Quitting(None) => None,
        }
    }

    fn signal(&mut self, received: Received) {
        let action = match received.signal {
            Signal::Quit | Signal::Winch => ", shutting down",
            Signal::Term | Signal::Int => ", exiting",
            Signal::Usr1 => ", reopening logs",
            Signal::Hup | Signal::Usr2 | Signal::Io => ", ignoring",
            _ => "",
        };
        log_signal(&self.reporter(), received, action);
        match received.signal {
            Signal::Quit | Signal::Winch => self.quit(),
            Signal::Term | Signal::Int => self.terminate(),
            Signal::Usr1 => self.reopen_by_itself(),
            _ => {}
        }
    }

    fn message(&mut self) {
        let Some(channel) = &self.channel else { return };
        match receive_order(channel.as_fd(), &self.bundle) {
            Ok(Some(Order::Reload(bundle))) => self.reload(bundle),
            Ok(Some(Order::Reopen(logs))) => self.reopen(logs),
            Ok(Some(Order::Quit)) => self.quit(),
            Ok(Some(Order::Terminate)) => self.terminate(),
            Ok(None) => self.orphaned(),
            Err(error) => {
                self.reporter().alert(format_args!("message from the master failed {}", Errno(&error)));
                self.orphaned();
            }
        }
    }

    /// Without a master nobody could reload or restart this worker: it finishes what it has.
    fn orphaned(&mut self) {
        self.channel = None;
        if self.phase == Phase::Serving {
            self.reporter().alert(format_args!("the master process is gone"));
            self.quit();
        }
    }

    fn reload(&mut self, bundle: Bundle) {
        if self.phase != Phase::Serving {
            return;
        }
        let mut told = Told::default();
        let mut resources = BundleResources(&bundle);
        let answer = match load::<E>(&self.setup, &mut resources, Some(&self.loaded.cycle), &mut told) {
            Ok(loaded) => match self.pool.adopt(&loaded.core, &loaded.error_log, &loaded.cycle) {
                Ok(()) => {
                    let old = std::mem::replace(&mut self.loaded, loaded);
                    self.bundle = bundle;
                    redirect_stderr(&self.loaded);
                    old.cycle.replaced();
                    Answer::Adopted
                }
                Err(error) => Answer::Refused(format!("could not start threads {}", Errno(&error))),
            },
            Err(error) => Answer::Refused(error.render(&told.sources, conf::Style::Plain)),
        };
        self.answer(&answer);
    }

    fn answer(&self, answer: &Answer) {
        let Some(channel) = &self.channel else { return };
        if let Err(error) = send_answer(channel.as_fd(), answer) {
            self.reporter().alert(format_args!("answer to the master failed {}", Errno(&error)));
        }
    }

    fn reopen(&mut self, logs: Vec<(HandleId, OwnedFd)>) {
        self.reporter().notice(format_args!("reopening logs"));
        E::before_reopening();
        for (id, fresh) in logs {
            let Some(log) = self.bundle.logs.iter().find(|log| log.id == id) else { continue };
            if let Err(error) = os::process::replace(fresh.as_fd(), log.file.as_fd()) {
                self.reporter().alert(format_args!("dup3() failed {}", Errno(&error)));
            }
        }
        redirect_stderr(&self.loaded);
    }

    /// A signal for the worker alone: it opens what its user may open.
    fn reopen_by_itself(&mut self) {
        E::before_reopening();
        reopen_logs(&self.bundle, &self.reporter());
        redirect_stderr(&self.loaded);
    }

    fn quit(&mut self) {
        if self.phase != Phase::Serving {
            return;
        }
        self.reporter().notice(format_args!("gracefully shutting down"));
        let timeout_ms = self.loaded.core.shutdown_timeout_ms;
        let deadline = timeout_ms.map(|ms| os::clock::monotonic_coarse_ms() + ms + LAST_WORDS_MS);
        self.phase = Phase::Quitting(deadline);
        self.bundle.sockets.clear();
        self.pool.quit(timeout_ms);
    }

    fn terminate(&mut self) {
        if matches!(self.phase, Phase::Terminating(_)) {
            return;
        }
        self.reporter().notice(format_args!("exiting"));
        self.phase = Phase::Terminating(os::clock::monotonic_coarse_ms() + LAST_WORDS_MS);
        self.bundle.sockets.clear();
        self.pool.terminate();
    }
}

/// Opens every log anew and puts it in the place of the old file (`ngx_reopen_files`).
pub(crate) fn reopen_logs(bundle: &Bundle, reporter: &Reporter) {
    for log in &bundle.logs {
        let path = log.file.path();
        let done = os::file::open_append(path)
            .and_then(|fresh| os::process::replace(fresh.as_fd(), log.file.as_fd()));
        if let Err(error) = done {
            reporter
                .report(Level::Emerg, format_args!("open() \"{}\" failed {}", path.display(), Errno(&error)));
        }
    }
}

/// nginx's line about a signal.
pub(crate) fn log_signal(reporter: &Reporter, received: Received, action: &str) {
    let (number, name) = (received.signal.number(), received.signal.name());
    match received.sender {
        Some(Pid(sender)) => {
            reporter.notice(format_args!("signal {number} ({name}) received from {sender}{action}"));
        }
        None => reporter.notice(format_args!("signal {number} ({name}) received{action}")),
    }
}
