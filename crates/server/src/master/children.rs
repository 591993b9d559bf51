//! The master's children: what they say, how they are stopped, and what follows from their end.
//!
//! A worker that dies is replaced at once, with the configuration that is current.

use std::os::fd::AsFd;

use os::errlog::{Errno, Level};
use os::process::{Exit, Pid};
use os::signal::Signal;

use super::{Child, ChildState, Generation, Master, Phase, Turn, remove_unlistened};
use crate::engine::Engine;
use crate::messages::{Answer, receive_answer, send_quit};
use crate::pid_file;

/// Exit code of a worker that could not start for a reason that will not go away.
const FATAL: i32 = 2;

impl<E: Engine> Master<E> {
    /// Has all workers finish what they have.
    pub(super) fn stop_children(&mut self) {
        for child in &mut self.children {
            stop(child);
        }
    }

    /// Reads what a worker says.
    pub(super) fn hear(&mut self, pid: Pid) {
        let Some(child) = self.children.iter().find(|child| child.pid == pid) else { return };
        match receive_answer(child.channel.as_fd()) {
            Ok(Some(Answer::Adopted)) => self.reload_done(),
            Ok(Some(Answer::Refused(why))) => {
                self.reporter().report(Level::Emerg, format_args!("{why}"));
                self.reload_undone();
            }
            // The end of the channel is the end of the worker: SIGCHLD tells the rest.
            Ok(None) | Err(_) => {
                if let Some(child) = self.children.iter_mut().find(|child| child.pid == pid) {
                    child.is_silent = true;
                }
            }
        }
    }

    /// The worker has gone over: the configuration before is no longer needed.
    pub(super) fn reload_done(&mut self) {
        if let Some(Generation { bundle, .. }) = self.previous.take() {
            remove_unlistened(&bundle, &self.current.bundle);
        }
        let held = self.current.bundle.handles().collect();
        if let Some(child) = self.children.iter_mut().find(|child| child.state == ChildState::Serving) {
            child.held = held;
        }
    }

    /// The worker has not gone over: all stays as it was.
    fn reload_undone(&mut self) {
        let Some(previous) = self.previous.take() else { return };
        let refused = std::mem::replace(&mut self.current, previous);
        remove_unlistened(&refused.bundle, &self.current.bundle);
    }

    /// Takes note of every child that has ended.
    pub(super) fn reap(&mut self) -> Turn {
        loop {
            match os::process::wait_any() {
                Ok(Some((pid, exit))) => {
                    if let Turn::Worker(channel) = self.ended(pid, exit) {
                        return Turn::Worker(channel);
                    }
                }
                Ok(None) => return Turn::Again,
                Err(error) => {
                    self.reporter().alert(format_args!("waitpid() failed {}", Errno(&error)));
                    return Turn::Again;
                }
            }
        }
    }

    fn ended(&mut self, pid: Pid, exit: Exit) -> Turn {
        let index = self.children.iter().position(|child| child.pid == pid);
        let name = match index {
            Some(_) => "worker process",
            None if self.new_binary == Some(pid) => "new binary process",
            None => "unknown process",
        };
        let reporter = self.reporter();
        match exit {
            Exit::Code(code) => reporter.notice(format_args!("{name} {pid} exited with code {code}")),
            Exit::Signal { number, core } => {
                let dumped = if core { " (core dumped)" } else { "" };
                reporter.alert(format_args!("{name} {pid} exited on signal {number}{dumped}"));
            }
        }
        if self.new_binary == Some(pid) {
            return self.new_binary_ended();
        }
        let Some(index) = index else { return Turn::Again };
        let child = self.children.remove(index);
        if exit == Exit::Code(FATAL) {
            reporter
                .alert(format_args!("{name} {pid} exited with fatal code {FATAL} and cannot be respawned"));
            return Turn::Again;
        }
        if child.state == ChildState::Exiting || self.phase != Phase::Serving {
            return Turn::Again;
        }
        self.worker_died(&child, exit)
    }

    /// A worker is gone that should have stayed. One that died while it reloaded comes back reloaded.
    fn worker_died(&mut self, child: &Child, exit: Exit) -> Turn {
        self.reload_done();
        let now = os::clock::monotonic_coarse_ms();
        // SIGKILL comes from outside and says nothing about the worker's start.
        let is_killed = matches!(exit, Exit::Signal { number, .. } if number == Signal::Kill.number());
        let life_ms = now.saturating_sub(child.started_ms);
        match if is_killed { 0 } else { self.crashes.pause_ms(life_ms) } {
            0 => self.start_worker(),
            pause_ms => {
                self.reporter()
                    .alert(format_args!("worker processes die at their start, next one in {pause_ms} ms"));
                self.respawn_at_ms = Some(now + pause_ms);
                Turn::Again
            }
        }
    }

    fn new_binary_ended(&mut self) -> Turn {
        self.new_binary = None;
        let path = &self.current.loaded.core.pid_file;
        let old = pid_file::old_name(path);
        if let Err(error) = std::fs::rename(&old, path) {
            let (old, path, reason) = (old.display(), path.display(), Errno(&error));
            self.reporter().alert(format_args!(
                "rename() {old} back to {path} failed after the new binary process exited {reason}"
            ));
        }
        if self.is_idle && self.phase == Phase::Serving {
            self.is_idle = false;
            return self.start_worker();
        }
        Turn::Again
    }
}

/// Has one worker finish what it has.
pub(super) fn stop(child: &mut Child) {
    if child.state == ChildState::Exiting {
        return;
    }
    child.state = ChildState::Exiting;
    if send_quit(child.channel.as_fd()).is_err() {
        let _ = os::process::kill(child.pid, Signal::Quit);
    }
}
