//! HUP: the new configuration is compiled here first, then sent to the running worker.
//!
//! A broken one changes nothing. What only a fresh process can have, such as another user, gets one.

use std::os::fd::AsFd;

use os::errlog::{Errno, Level};

use super::children::stop;
use super::{ChildState, Generation, Master, Phase, Turn, redirect_stderr};
use crate::core_conf::CoreConf;
use crate::engine::Engine;
use crate::load::{Told, load, report};
use crate::messages::send_reload;
use crate::pid_file;
use crate::system::{Purpose, SystemResources};

impl<E: Engine> Master<E> {
    /// HUP has come. While a new binary is tried, it brings the old workers back instead.
    pub(super) fn reload_asked(&mut self) -> Turn {
        if self.phase != Phase::Serving {
            return Turn::Again;
        }
        if self.new_binary.is_some() {
            self.is_idle = false;
            let has_worker = self.children.iter().any(|child| child.state == ChildState::Serving);
            return if has_worker { Turn::Again } else { self.start_worker() };
        }
        if self.previous.is_some() {
            self.is_reload_due = true;
            return Turn::Again;
        }
        self.reload()
    }

    /// Compiles the configuration as it is now, and has a worker run under it.
    pub(super) fn reload(&mut self) -> Turn {
        let reporter = self.reporter();
        reporter.notice(format_args!("reconfiguring"));
        let mut told = Told::default();
        let mut resources = SystemResources::new(Purpose::Serve, &reporter, &self.current.bundle);
        let result = load::<E>(&self.setup, &mut resources, Some(&self.current.loaded.cycle), &mut told);
        told.report_notices(&reporter);
        let loaded = match result {
            Ok(loaded) => loaded,
            Err(error) => {
                if !resources.has_failed() {
                    report(&reporter, &error, &told.sources);
                }
                return Turn::Again;
            }
        };
        let bundle = resources.finish();
        let old = std::mem::replace(&mut self.current, Generation { loaded, bundle });
        self.is_idle = false;
        self.move_pid_file(&old.loaded.core);
        redirect_stderr(&self.current.loaded);
        let needs_process = needs_process(&old.loaded.core, &self.current.loaded.core);
        self.previous = Some(old);
        let worker = self.children.iter_mut().find(|child| child.state == ChildState::Serving);
        match worker {
            Some(worker) if !needs_process => {
                if let Err(error) = send_reload(worker.channel.as_fd(), &self.current.bundle, &worker.held) {
                    let pid = worker.pid;
                    reporter.alert(format_args!("message to worker process {pid} failed {}", Errno(&error)));
                    stop(worker);
                    return self.replace_worker();
                }
                Turn::Again
            }
            Some(worker) => {
                stop(worker);
                self.replace_worker()
            }
            None => self.replace_worker(),
        }
    }

    fn replace_worker(&mut self) -> Turn {
        let turn = self.start_worker();
        self.reload_done();
        turn
    }

    /// `pid` names another file than before.
    fn move_pid_file(&self, old: &CoreConf) {
        let path = &self.current.loaded.core.pid_file;
        if *path == old.pid_file {
            return;
        }
        match pid_file::write(path) {
            Ok(()) => drop(std::fs::remove_file(&old.pid_file)),
            Err(error) => {
                let (path, reason) = (path.display(), Errno(&error));
                self.reporter().report(Level::Emerg, format_args!("open() \"{path}\" failed {reason}"));
            }
        }
    }
}

/// Whether settings differ that a process has from its start.
fn needs_process(old: &CoreConf, new: &CoreConf) -> bool {
    let from_start = |core: &CoreConf| {
        (
            core.credentials.clone(),
            core.env.clone(),
            core.priority,
            core.rlimit_nofile,
            core.rlimit_core,
            core.working_directory.clone(),
            core.affinity.clone(),
        )
    };
    from_start(old) != from_start(new)
}
