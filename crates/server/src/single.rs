//! `master_process off`: all in one process, under the user that started it, for development.
//!
//! Follows `ngx_single_process_cycle`: USR2 and WINCH have no meaning here.

use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::Arc;

use os::errlog::Errno;
use os::signal::{Signal, SignalFd, wait_readable};

use crate::bundle::Bundle;
use crate::engine::Engine;
use crate::load::{Loaded, Setup, load_to_serve};
use crate::master::{redirect_stderr, remove_unlistened};
use crate::pool::Pool;
use crate::reporter::{Console, Reporter};
use crate::worker::{environment, log_signal, reopen_logs};

/// Milliseconds that threads have to write their logs after `TERM`.
const LAST_WORDS_MS: u32 = 1000;

struct Single<E: Engine> {
    setup: Setup,
    loaded: Loaded<E>,
    bundle: Bundle,
    pool: Pool<E>,
}

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Graceful,
    Fast,
}

/// Takes the configured environment and serves until a signal ends it.
pub(crate) fn run<E: Engine>(
    setup: Setup,
    loaded: Loaded<E>,
    bundle: Bundle,
    signals: &SignalFd,
) -> ExitCode {
    if let Err(error) = os::process::replace_env(&environment(&loaded.core)) {
        return not_started(&loaded, &error);
    }
    serve(setup, loaded, bundle, signals)
}

/// Serves until a signal ends it, in a process that may have threads of its own. The pool's threads may still
/// run when this returns: the process is about to end.
pub(crate) fn serve<E: Engine>(
    setup: Setup,
    loaded: Loaded<E>,
    bundle: Bundle,
    signals: &SignalFd,
) -> ExitCode {
    let pool = match Pool::start(&loaded.core, &loaded.error_log, &loaded.cycle) {
        Ok(pool) => pool,
        Err(error) => return not_started(&loaded, &error),
    };
    let mut single = Single { setup, loaded, bundle, pool };
    let ending = single.serve(signals);
    single.end(ending, signals)
}

fn not_started<E: Engine>(loaded: &Loaded<E>, error: &std::io::Error) -> ExitCode {
    let reporter = Reporter { log: Arc::clone(&loaded.error_log), console: Console::Silent };
    reporter.alert(format_args!("could not start {}", Errno(error)));
    ExitCode::from(2)
}

impl<E: Engine> Single<E> {
    fn reporter(&self) -> Reporter {
        Reporter { log: Arc::clone(&self.loaded.error_log), console: Console::Silent }
    }

    fn serve(&mut self, signals: &SignalFd) -> Ending {
        loop {
            let _ = wait_readable(&[signals.as_fd()], None);
            while let Ok(Some(received)) = signals.read() {
                let (action, ending) = match received.signal {
                    Signal::Quit => (", shutting down", Some(Ending::Graceful)),
                    Signal::Term | Signal::Int => (", exiting", Some(Ending::Fast)),
                    Signal::Hup => (", reconfiguring", None),
                    Signal::Usr1 => (", reopening logs", None),
                    Signal::Usr2 => (", ignoring", None),
                    _ => ("", None),
                };
                log_signal(&self.reporter(), received, action);
                match received.signal {
                    Signal::Hup => self.reload(),
                    Signal::Usr1 => {
                        self.reporter().notice(format_args!("reopening logs"));
                        E::before_reopening();
                        reopen_logs(&self.bundle, &self.reporter());
                        redirect_stderr(&self.loaded);
                    }
                    _ => {}
                }
                if let Some(ending) = ending {
                    return ending;
                }
            }
        }
    }

    fn reload(&mut self) {
        let reporter = self.reporter();
        reporter.notice(format_args!("reconfiguring"));
        let loaded = load_to_serve::<E>(&self.setup, &reporter, &self.bundle, Some(&self.loaded.cycle));
        let Some((loaded, bundle)) = loaded else { return };
        if let Err(error) = self.pool.adopt(&loaded.core, &loaded.error_log, &loaded.cycle) {
            reporter.alert(format_args!("could not start threads {}", Errno(&error)));
            return;
        }
        let old = std::mem::replace(&mut self.loaded, loaded);
        let old_bundle = std::mem::replace(&mut self.bundle, bundle);
        redirect_stderr(&self.loaded);
        remove_unlistened(&old_bundle, &self.bundle);
        old.cycle.replaced();
    }

    fn end(mut self, ending: Ending, signals: &SignalFd) -> ExitCode {
        let pid_file = self.loaded.core.pid_file.clone();
        remove_unlistened(&self.bundle, &Bundle::default());
        self.bundle.sockets.clear();
        match ending {
            Ending::Graceful => self.pool.quit(self.loaded.core.shutdown_timeout_ms),
            Ending::Fast => self.pool.terminate(),
        }
        let patience = (ending == Ending::Fast).then_some(LAST_WORDS_MS);
        let reporter = self.reporter();
        loop {
            let ready = wait_readable(&[self.pool.ended(), signals.as_fd()], patience).unwrap_or_default();
            if ready.first() == Some(&true) || patience.is_some() {
                break;
            }
            while let Ok(Some(received)) = signals.read() {
                log_signal(&reporter, received, "");
                if matches!(received.signal, Signal::Term | Signal::Int) {
                    self.pool.terminate();
                }
            }
        }
        if let Err(error) = std::fs::remove_file(&pid_file) {
            reporter.alert(format_args!("unlink() \"{}\" failed {}", pid_file.display(), Errno(&error)));
        }
        reporter.notice(format_args!("exit"));
        if ending == Ending::Graceful {
            self.pool.join();
        }
        ExitCode::SUCCESS
    }
}
