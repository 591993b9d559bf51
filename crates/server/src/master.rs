//! The master process: keeps privileges and sockets, starts the worker, reloads, obeys signals.
//!
//! It has one thread, so it may fork. A forked worker leaves [`run`] by becoming one and never comes back.

mod children;
mod reload;

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::remove_file;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;

use conf::resources::ListenAddr;
use os::errlog::{Errno, Level};
use os::process::{Forked, Pid};
use os::signal::{Received, Signal, SignalFd, wait_readable};

use crate::bundle::{Bundle, HandleId};
use crate::crash::CrashGuard;
use crate::engine::Engine;
use crate::load::{Loaded, Setup};
use crate::new_binary;
use crate::pid_file;
use crate::reporter::{Console, Reporter};
use crate::worker::{self, log_signal, reopen_logs};

/// Time after `TERM` at which workers that are still there are killed, milliseconds.
const KILL_AFTER_MS: u64 = 1500;

/// Where the process comes from, which decides about USR2 and WINCH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Started in the foreground.
    Foreground,
    /// Has left the terminal.
    Daemon,
    /// Started by an older binary, this process, with its sockets.
    Upgrade(Pid),
}

/// What the master begins with.
pub(crate) struct Start<E: Engine> {
    pub(crate) setup: Setup,
    pub(crate) loaded: Loaded<E>,
    pub(crate) bundle: Bundle,
    pub(crate) origin: Origin,
    pub(crate) args: Vec<OsString>,
    pub(crate) signals: SignalFd,
}

/// Where the master is heading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Serving,
    /// Workers finish.
    Quitting,
    /// Workers end; killed at this time of the monotonic clock, milliseconds.
    Terminating(u64),
}

/// A worker that is alive.
struct Child {
    pid: Pid,
    channel: OwnedFd,
    /// Descriptors that it has.
    held: HashSet<HandleId>,
    state: ChildState,
    /// Its end of the channel is closed.
    is_silent: bool,
    started_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChildState {
    Serving,
    Exiting,
}

/// A configuration and what it took from outside.
struct Generation<E: Engine> {
    loaded: Loaded<E>,
    bundle: Bundle,
}

struct Master<E: Engine> {
    setup: Setup,
    args: Vec<OsString>,
    origin: Origin,
    current: Generation<E>,
    /// The configuration before, until the worker has gone over to the current one.
    previous: Option<Generation<E>>,
    /// Another reload was asked for while one was under way.
    is_reload_due: bool,
    children: Vec<Child>,
    new_binary: Option<Pid>,
    /// WINCH has ended the workers, but not the master.
    is_idle: bool,
    phase: Phase,
    crashes: CrashGuard,
    /// Time of the monotonic clock at which a worker is started again, milliseconds.
    respawn_at_ms: Option<u64>,
    signals: SignalFd,
}

/// How a turn of the loop ends.
enum Turn {
    Again,
    /// The process is over.
    Exit,
    /// This is a forked worker, with its end of the channel.
    Worker(OwnedFd),
}

/// Runs the master to its end, or the worker that it has forked to the worker's.
pub(crate) fn run<E: Engine>(start: Start<E>) -> ExitCode {
    let Start { setup, loaded, bundle, origin, args, signals } = start;
    let mut master = Master {
        setup,
        args,
        origin,
        current: Generation { loaded, bundle },
        previous: None,
        is_reload_due: false,
        children: Vec::new(),
        new_binary: None,
        is_idle: false,
        phase: Phase::Serving,
        crashes: CrashGuard::default(),
        respawn_at_ms: None,
        signals,
    };
    let mut turn = master.start_worker();
    loop {
        match turn {
            Turn::Again => turn = master.turn(),
            Turn::Exit => return ExitCode::SUCCESS,
            Turn::Worker(channel) => {
                let Master {
                    setup, current: Generation { loaded, bundle }, previous, children, signals, ..
                } = master;
                // What belongs to the master alone: sockets no longer listened on, other workers' channels.
                drop((previous, children, signals));
                worker::run(worker::Start { setup, loaded, bundle, channel })
            }
        }
    }
}

impl<E: Engine> Master<E> {
    fn reporter(&self) -> Reporter {
        Reporter { log: Arc::clone(&self.current.loaded.error_log), console: Console::Silent }
    }

    /// Forks a worker with the current configuration.
    fn start_worker(&mut self) -> Turn {
        self.respawn_at_ms = None;
        self.reporter().notice(format_args!("start worker processes"));
        let forked = os::socket::pair().and_then(|(ours, theirs)| Ok((ours, theirs, os::process::fork()?)));
        match forked {
            Ok((ours, _, Forked::Parent(pid))) => {
                self.reporter().notice(format_args!("start worker process {pid}"));
                self.children.push(Child {
                    pid,
                    channel: ours,
                    held: self.current.bundle.handles().collect(),
                    state: ChildState::Serving,
                    is_silent: false,
                    started_ms: os::clock::monotonic_coarse_ms(),
                });
                Turn::Again
            }
            Ok((ours, theirs, Forked::Child)) => {
                drop(ours);
                Turn::Worker(theirs)
            }
            Err(error) => {
                self.reporter()
                    .alert(format_args!("fork() failed while spawning \"worker process\" {}", Errno(&error)));
                self.respawn_at_ms = Some(os::clock::monotonic_coarse_ms() + 1000);
                Turn::Again
            }
        }
    }

    /// Waits for something to happen and does what it asks for.
    fn turn(&mut self) -> Turn {
        let mut watched: Vec<BorrowedFd<'_>> = vec![self.signals.as_fd()];
        let speaking = || self.children.iter().filter(|child| !child.is_silent);
        watched.extend(speaking().map(|child| child.channel.as_fd()));
        let ready = wait_readable(&watched, self.patience_ms()).unwrap_or_default();
        let talkers: Vec<Pid> = speaking()
            .zip(ready.iter().skip(1))
            .filter(|(_, ready)| **ready)
            .map(|(child, _)| child.pid)
            .collect();
        for pid in talkers {
            self.hear(pid);
        }
        while let Ok(Some(received)) = self.signals.read() {
            match self.signal(received) {
                Turn::Again => {}
                other => return other,
            }
        }
        self.due()
    }

    /// How long until something is due without being asked for.
    fn patience_ms(&self) -> Option<u32> {
        let kill_at = match self.phase {
            Phase::Terminating(at) => Some(at),
            Phase::Serving | Phase::Quitting => None,
        };
        let next = [kill_at, self.respawn_at_ms].into_iter().flatten().min()?;
        let left = next.saturating_sub(os::clock::monotonic_coarse_ms());
        Some(u32::try_from(left).unwrap_or(u32::MAX).saturating_add(1))
    }

    /// Does what time or the state of things asks for.
    fn due(&mut self) -> Turn {
        let now = os::clock::monotonic_coarse_ms();
        if self.phase != Phase::Serving && self.children.is_empty() {
            self.say_goodbye();
            return Turn::Exit;
        }
        if let Phase::Terminating(kill_at) = self.phase
            && now >= kill_at
        {
            for child in &self.children {
                let _ = os::process::kill(child.pid, Signal::Kill);
            }
            self.phase = Phase::Terminating(now + KILL_AFTER_MS);
        }
        if self.phase == Phase::Serving && self.respawn_at_ms.is_some_and(|at| now >= at) {
            return self.start_worker();
        }
        if self.is_reload_due && self.previous.is_none() {
            self.is_reload_due = false;
            return self.reload();
        }
        Turn::Again
    }

    fn signal(&mut self, received: Received) -> Turn {
        let is_upgrade_refused = received.signal == Signal::Usr2 && !self.may_change_binary();
        let action = match received.signal {
            Signal::Quit => ", shutting down",
            Signal::Term | Signal::Int => ", exiting",
            Signal::Winch if self.origin != Origin::Foreground => ", stop accepting connections",
            Signal::Hup => ", reconfiguring",
            Signal::Usr1 => ", reopening logs",
            Signal::Usr2 if is_upgrade_refused => ", ignoring",
            Signal::Usr2 => ", changing binary",
            _ => "",
        };
        log_signal(&self.reporter(), received, action);
        match received.signal {
            Signal::Quit => self.quit(),
            Signal::Term | Signal::Int => self.terminate(),
            Signal::Winch if self.origin != Origin::Foreground => {
                self.is_idle = true;
                self.stop_children();
            }
            Signal::Hup => return self.reload_asked(),
            Signal::Usr1 => self.reopen(),
            Signal::Usr2 if is_upgrade_refused => {
                let sentence = "the changing binary signal is ignored: you should shutdown or terminate before \
                                either old or new binary's process";
                self.reporter().report(Level::Crit, format_args!("{sentence}"));
            }
            Signal::Usr2 => self.change_binary(),
            Signal::Chld => return self.reap(),
            _ => {}
        }
        Turn::Again
    }

    /// Not while the binary before this one, or the one after it, is still there.
    fn may_change_binary(&self) -> bool {
        let is_child_of_old = matches!(self.origin, Origin::Upgrade(old) if os::process::parent_pid() == old);
        self.new_binary.is_none() && !is_child_of_old
    }

    fn change_binary(&mut self) {
        let reporter = self.reporter();
        reporter.notice(format_args!("changing binary"));
        let Generation { loaded, bundle } = &self.current;
        self.new_binary = new_binary::start(&loaded.core, bundle, &self.args, &reporter);
    }

    fn quit(&mut self) {
        if self.phase != Phase::Serving {
            return;
        }
        self.phase = Phase::Quitting;
        self.stop_children();
        self.close_listening();
    }

    fn terminate(&mut self) {
        if matches!(self.phase, Phase::Terminating(_)) {
            return;
        }
        self.phase = Phase::Terminating(os::clock::monotonic_coarse_ms() + KILL_AFTER_MS);
        for child in &mut self.children {
            child.state = ChildState::Exiting;
            if crate::messages::send_terminate(child.channel.as_fd()).is_err() {
                let _ = os::process::kill(child.pid, Signal::Term);
            }
        }
        self.close_listening();
    }

    fn close_listening(&mut self) {
        self.previous = None;
        let is_last_user = self.new_binary.is_none()
            && !matches!(self.origin, Origin::Upgrade(old) if os::process::parent_pid() == old);
        if is_last_user {
            remove_unlistened(&self.current.bundle, &Bundle::default());
        }
        self.current.bundle.sockets.clear();
    }

    fn reopen(&mut self) {
        let reporter = self.reporter();
        reporter.notice(format_args!("reopening logs"));
        reopen_logs(&self.current.bundle, &reporter);
        redirect_stderr(&self.current.loaded);
        for child in &self.children {
            if let Err(error) = crate::messages::send_reopen(child.channel.as_fd(), &self.current.bundle.logs)
            {
                reporter.alert(format_args!(
                    "message to worker process {} failed {}",
                    child.pid,
                    Errno(&error)
                ));
            }
        }
    }

    fn say_goodbye(&self) {
        let reporter = self.reporter();
        let path = &self.current.loaded.core.pid_file;
        let path = if self.new_binary.is_some() { pid_file::old_name(path) } else { path.clone() };
        if let Err(error) = remove_file(&path) {
            reporter.alert(format_args!("unlink() \"{}\" failed {}", path.display(), Errno(&error)));
        }
        reporter.notice(format_args!("exit"));
    }
}

/// Removes the names of Unix sockets that were listened on and are no longer.
pub(crate) fn remove_unlistened(before: &Bundle, now: &Bundle) {
    for socket in &before.sockets {
        if let ListenAddr::Unix(path) = &socket.key.addr
            && !now.sockets.iter().any(|kept| kept.id == socket.id)
        {
            let _ = remove_file(path);
        }
    }
}

/// Lets what libraries print to standard error appear in the error log (`ngx_log_redirect_stderr`).
pub(crate) fn redirect_stderr<E: Engine>(loaded: &Loaded<E>) {
    if !loaded.logs_to_stderr
        && let Some(file) = loaded.error_log.first_file()
    {
        let _ = os::process::redirect(&file, os::process::STDERR);
    }
}
