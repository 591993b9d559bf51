//! HUP: the new configuration is compiled here first, then sent to the running worker.
//!
//! A broken one changes nothing. What only a fresh process can have, such as another user, gets one.

use std::os::fd::AsFd;

use os::errlog::{Errno, Level};
use os::process::Pid;

use super::children::stop;
use super::{ChildState, Generation, Master, Phase, Turn, redirect_stderr};
use crate::core_conf::CoreConf;
use crate::engine::Engine;
use crate::load::{Loaded, load_to_serve};
use crate::messages::send_reload;
use crate::pid_file;

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
        let Generation { loaded, bundle } = &self.current;
        let anew = load_to_serve::<E>(&self.setup, &reporter, bundle, Some(&loaded.cycle));
        let Some((loaded, bundle)) = anew else { return Turn::Again };
        let old = std::mem::replace(&mut self.current, Generation { loaded, bundle });
        self.is_idle = false;
        self.move_pid_file(&old.loaded.core);
        redirect_stderr(&self.current.loaded);
        let needs_process = needs_process(&old.loaded, &self.current.loaded);
        self.previous = Some(old);
        let worker = self.children.iter().find(|child| child.state == ChildState::Serving);
        if let Some(worker) = worker.filter(|_| !needs_process) {
            match send_reload(worker.channel.as_fd(), &self.current.bundle, &worker.held) {
                Ok(()) => return Turn::Again,
                Err(error) => {
                    let pid = worker.pid;
                    reporter.alert(format_args!("message to worker process {pid} failed {}", Errno(&error)));
                }
            }
        }
        self.replace_worker()
    }

    /// Starts a worker under the current configuration, and only then lets those before it finish.
    fn replace_worker(&mut self) -> Turn {
        let before: Vec<Pid> = self.children.iter().map(|child| child.pid).collect();
        let turn = self.start_worker();
        if let Turn::Again = turn {
            self.children.iter_mut().filter(|child| before.contains(&child.pid)).for_each(stop);
            self.reload_done();
        }
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
fn needs_process<E: Engine>(old: &Loaded<E>, new: &Loaded<E>) -> bool {
    let from_start = |core: &CoreConf| {
        (
            core.credentials.clone(),
            core.env.clone(),
            core.priority,
            (core.rlimit_nofile, core.rlimit_core),
            core.working_directory.clone(),
            core.affinity.clone(),
            core.method,
        )
    };
    from_start(&old.core) != from_start(&new.core)
        || E::capabilities(&old.cycle) != E::capabilities(&new.cycle)
}
