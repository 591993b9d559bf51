//! The settings of `main` and `events`: processes, user, limits, pid, connections.
//!
//! Follows `nginx.c` and `ngx_event.c`. What has no meaning in a threaded worker is accepted with a notice.

mod rows;
mod setters;

use std::path::PathBuf;
use std::sync::Arc;

use base::Network;
use conf::resources::Resources;
use conf::{Directive, Error, Level, Order, Tree};
use http::error_log;
use net::event_loop::Method;
use os::credentials::{self, Credentials};
use os::errlog::{self, ErrorLog, Sink, Target};

use crate::engine::Module;
use crate::paths::{GROUPS, PID_PATH, Paths, USER};

pub use rows::ROWS;

/// What `main` and `events` say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreConf {
    /// `ssl_object_cache_inheritable`
    pub inherits_objects: bool,
    /// `daemon`
    pub daemon: Daemon,
    /// `master_process`
    pub processes: Processes,
    /// `worker_processes`: threads of the worker, at least one.
    pub threads: usize,
    /// `worker_connections`, per thread.
    pub worker_connections: u64,
    /// `use`; io_uring where nothing is said.
    pub method: Method,
    /// `pid`
    pub pid_file: PathBuf,
    /// `user`; `None` where the master is not root.
    pub credentials: Option<Credentials>,
    /// `env`: a name to inherit, or a name with its value.
    pub env: Vec<(String, Option<String>)>,
    /// `worker_rlimit_nofile`
    pub rlimit_nofile: Option<u64>,
    /// `worker_rlimit_core`, bytes.
    pub rlimit_core: Option<u64>,
    /// `worker_shutdown_timeout`, milliseconds.
    pub shutdown_timeout_ms: Option<u64>,
    /// `worker_cpu_affinity`
    pub affinity: Affinity,
    /// `worker_priority`
    pub priority: i32,
    /// `working_directory`
    pub working_directory: Option<PathBuf>,
    /// `debug_connection`
    pub debug_connections: Vec<Network>,
}

/// `daemon`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Daemon {
    /// `on`
    Background,
    /// `off`
    Foreground,
}

/// `master_process`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Processes {
    /// `on`
    MasterAndWorker,
    /// `off`
    Single,
}

/// `worker_cpu_affinity`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Affinity {
    /// Threads run anywhere.
    None,
    /// Each thread on its own of these processors, in turn.
    Auto(Vec<usize>),
    /// The processors of each thread; the last set is for all further ones.
    Masks(Vec<Vec<usize>>),
}

impl Affinity {
    /// The processors of a thread; `None` leaves it alone.
    #[must_use]
    pub fn of_thread(&self, index: usize) -> Option<Vec<usize>> {
        match self {
            Self::None => None,
            Self::Auto(cpus) => {
                let turn = index.checked_rem(cpus.len())?;
                cpus.get(turn).map(|cpu| vec![*cpu])
            }
            Self::Masks(masks) => masks.get(index).or(masks.last()).cloned(),
        }
    }
}

impl CoreConf {
    pub(crate) fn defaults(paths: &Paths) -> Self {
        Self {
            inherits_objects: true,
            daemon: Daemon::Background,
            processes: Processes::MasterAndWorker,
            threads: 1,
            worker_connections: 512,
            method: Method::IoUring,
            pid_file: paths.full(PID_PATH.as_ref()),
            credentials: None,
            env: Vec::new(),
            rlimit_nofile: None,
            rlimit_core: None,
            shutdown_timeout_ms: None,
            affinity: Affinity::None,
            priority: 0,
            working_directory: None,
            debug_connections: Vec::new(),
        }
    }

    /// Reads the core directives of a checked configuration; other directives are left to the engine.
    ///
    /// # Errors
    /// The first wrong argument, with nginx's sentence.
    pub fn compile(
        tree: &Tree,
        paths: &Paths,
        modules: &[Module],
        notices: &mut Vec<Error>,
    ) -> Result<Self, Error> {
        let mut settings = Self::defaults(paths);
        let mut events = None;
        for line in &tree.directives {
            if line.name.is("events") {
                events = Some(line);
            }
            settings.line(line, paths, modules, notices)?;
        }
        let late = |error: Error| error.found(Order::END_OF_TEXT);
        events.ok_or_else(|| late(Error::bare("no \"events\" section in configuration")))?;
        settings.complete(notices).map_err(late)?;
        Ok(settings)
    }

    /// What is wrong with the first such line among those that were read before `before`.
    pub fn wrong_line(
        tree: &Tree,
        paths: &Paths,
        modules: &[Module],
        before: Order,
        notices: &mut Vec<Error>,
    ) -> Option<Error> {
        let mut settings = Self::defaults(paths);
        let lines = tree.directives.iter().take_while(|line| line.order < before);
        let wrong = lines.map(|line| settings.line(line, paths, modules, notices)).find_map(Result::err);
        wrong.filter(|error| error.order.is_some_and(|order| order < before))
    }

    /// A line of the main level; `events` with its lines.
    fn line(
        &mut self,
        line: &Directive,
        paths: &Paths,
        modules: &[Module],
        notices: &mut Vec<Error>,
    ) -> Result<(), Error> {
        let known = notices.len();
        let done = self.main_line(line, paths, modules, notices).map_err(|error| error.found(line.order));
        for notice in notices.iter_mut().skip(known) {
            notice.order.get_or_insert(line.order);
        }
        done?;
        if line.name.is("events") {
            for line in line.body() {
                self.events_line(line).map_err(|error| error.found(line.order))?;
            }
        }
        Ok(())
    }

    fn main_line(
        &mut self,
        line: &Directive,
        paths: &Paths,
        modules: &[Module],
        notices: &mut Vec<Error>,
    ) -> Result<(), Error> {
        match line.row.name {
            "ssl_object_cache_inheritable" => self.inherits_objects = line.flag()?,
            "daemon" if line.flag()? => self.daemon = Daemon::Background,
            "daemon" => self.daemon = Daemon::Foreground,
            "master_process" if line.flag()? => self.processes = Processes::MasterAndWorker,
            "master_process" => self.processes = Processes::Single,
            "worker_processes" => self.threads = setters::threads(line)?,
            "pid" => self.pid_file = paths.full(&setters::path(line)?),
            "user" => self.credentials = setters::user(line, notices)?,
            "env" => self.env.push(setters::env(line)?),
            "worker_rlimit_nofile" => self.rlimit_nofile = Some(line.number()?),
            "worker_rlimit_core" => self.rlimit_core = Some(line.offset()?),
            "worker_shutdown_timeout" => self.shutdown_timeout_ms = Some(line.time_ms()?),
            "worker_cpu_affinity" => self.affinity = setters::affinity(line)?,
            "worker_priority" => self.priority = setters::priority(line)?,
            "working_directory" => self.working_directory = Some(setters::path(line)?),
            "timer_resolution" => _ = line.time_ms()?,
            "load_module" => setters::load_module(line, modules, notices)?,
            _ => {}
        }
        Ok(())
    }

    fn events_line(&mut self, line: &Directive) -> Result<(), Error> {
        match line.row.name {
            "worker_connections" => self.worker_connections = setters::connections(line)?,
            "use" => self.method = setters::method(line)?,
            "debug_connection" => self.debug_connections.extend(setters::debug_connection(line)?),
            _ => {}
        }
        Ok(())
    }

    /// What depends on more than one line (`ngx_core_module_init_conf`, `ngx_event_module_init`).
    fn complete(&mut self, notices: &mut Vec<Error>) -> Result<(), Error> {
        let mut warn =
            |text: String| notices.push(Error::bare(text).with_level(Level::Warn).found(Order::END_OF_TEXT));
        if let Affinity::Masks(masks) = &self.affinity
            && masks.len() != 1
            && masks.len() != self.threads
        {
            warn(
                "the number of \"worker_processes\" is not equal to the number of \"worker_cpu_affinity\" masks, \
                 using last mask for remaining worker processes"
                    .to_owned(),
            );
        }
        if self.credentials.is_none() && credentials::effective_uid() == 0 {
            self.credentials = Some(default_user()?);
        }
        let now = os::limits::nofile().map_or(u64::MAX, |(soft, _)| soft);
        if self.worker_connections > now.max(self.rlimit_nofile.unwrap_or(0)) {
            warn(format!(
                "{} worker_connections exceed open file resource limit: {}",
                self.worker_connections,
                self.rlimit_nofile.unwrap_or(now).min(now)
            ));
        }
        Ok(())
    }
}

fn default_user() -> Result<Credentials, Error> {
    let failed = |call: &str, name: &str| Error::bare(format!("{call}(\"{name}\") failed"));
    let (uid, _) = credentials::user(USER).ok().flatten().ok_or_else(|| failed("getpwnam", USER))?;
    let gid = GROUPS.iter().find_map(|name| credentials::group(name).ok().flatten());
    let gid = gid.ok_or_else(|| failed("getgrnam", GROUPS[0]))?;
    Ok(Credentials { uid, gid, name: USER.to_owned() })
}

/// The error log of the main level: its `error_log` lines, or the built-in one at level `error`.
///
/// # Errors
/// As [`error_log::sink`].
pub fn main_error_log(tree: &Tree, paths: &Paths, resources: &mut dyn Resources) -> Result<ErrorLog, Error> {
    let lines = tree.directives.iter().filter(|line| line.row.name == "error_log");
    let mut sinks =
        lines.map(|line| error_log::sink(line, &paths.prefix, resources)).collect::<Result<Vec<_>, _>>()?;
    if sinks.is_empty() {
        sinks.push(Sink::new(built_in_log(paths, resources)?, errlog::Level::Error));
    }
    Ok(ErrorLog::new(sinks))
}

fn built_in_log(paths: &Paths, resources: &mut dyn Resources) -> Result<Target, Error> {
    let Some(path) = &paths.error_log else { return Ok(Target::Stderr) };
    let file = resources.log(path).map_err(|error| {
        Error::bare(format!("open() \"{}\" failed {}", path.display(), errlog::Errno(&error)))
    })?;
    Ok(Target::File(Arc::clone(&file) as Arc<dyn errlog::LogTarget>))
}

#[cfg(test)]
mod tests;
