//! The seam between the program and what serves requests.
//!
//! The program compiles, starts threads and tells them what to do; the engine owns sockets and requests.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use conf::resources::Resources;
use conf::{Order, Row, Tree};
use os::credentials::Capabilities;
use os::errlog::{ErrorLog, Level};
use tokio::sync::mpsc;

use crate::core_conf::CoreConf;
use crate::paths::Paths;

/// A module that is built in, under configure's name without `_module`: `http_ssl`, `stream`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Module(pub &'static str);

/// What serves requests.
///
/// [`Engine::compile`] runs in the single-threaded master too, which forks afterwards: it must not start
/// threads, and must reach the outside through [`Input::resources`] alone. The worker that is forked takes
/// the master's compiled cycle over as it is; a running worker compiles the same text itself at a reload.
pub trait Engine: 'static {
    /// A compiled configuration. It is shared by all threads and outlives a reload as long as anything that
    /// began under it goes on.
    ///
    /// Listening sockets must leave it when [`Command::Quit`] comes, say out of a `Mutex<Vec<_>>`: they have to
    /// close while requests in flight still hold the cycle.
    type Cycle: Send + Sync + 'static;

    /// The directives of all modules but the core ones of `main` and `events`.
    fn rows() -> Vec<&'static Row>;

    /// The modules that are built in, for `-V` and `load_module`.
    fn modules() -> &'static [Module];

    /// Turns the checked words into running settings.
    ///
    /// # Errors
    /// Something wrong; [`Engine::wrong_line`] is asked whether a line before it is wrong too. Errors of
    /// [`Resources::socket`], [`Resources::log`] and [`Resources::directory`] are known by then: return any error for
    /// them.
    fn compile(input: Input<'_, Self::Cycle>) -> Result<Self::Cycle, conf::Error>;

    /// What the worker keeps of root's rights: `CAP_NET_RAW` where local addresses are `transparent`.
    fn capabilities(_: &Self::Cycle) -> Capabilities {
        Capabilities::Drop
    }

    /// Called, on any thread, before log files are replaced by new ones: lines that are held back belong to the old.
    fn before_reopening() {}

    /// Called on a serving thread whenever it has nothing more to do at the moment.
    fn before_waiting() {}

    /// What is wrong with some line that was read before `before`, and what nginx would have warned of until then.
    fn wrong_line(
        _tree: &Tree,
        _paths: &Paths,
        _resources: &mut dyn Resources,
        _before: Order,
        _notices: &mut Vec<conf::Error>,
    ) -> Option<conf::Error> {
        None
    }

    /// Serves on one thread, on its event loop, until told to end; the thread ends with the future.
    fn serve(
        thread: Thread,
        cycle: Arc<Running<Self::Cycle>>,
        commands: Commands<Self>,
    ) -> impl Future<Output = ()>;
}

/// What [`Engine::compile`] works on.
pub struct Input<'a, C> {
    /// The checked configuration.
    pub tree: &'a Tree,
    /// The settings of `main` and `events`.
    pub core: &'a CoreConf,
    /// Where relative names start.
    pub paths: &'a Paths,
    /// The error log of the main level.
    pub error_log: &'a Arc<ErrorLog>,
    /// The configuration before this one, whose zones, pools and caches carry over by name.
    pub previous: Option<&'a Arc<Running<C>>>,
    /// The one door to the outside.
    pub resources: &'a mut dyn Resources,
    /// Receives what the operator should know although nothing is wrong.
    pub notices: &'a mut Vec<conf::Error>,
}

/// Which thread of how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thread {
    /// From zero.
    pub index: usize,
    /// `worker_processes`.
    pub count: usize,
}

/// What a thread is told.
#[derive(Debug)]
pub enum Command<C> {
    /// New requests take this configuration; listen on its sockets and no longer on others.
    Adopt(Arc<Running<C>>),
    /// Stop accepting, close idle connections, finish what is under way, then return.
    Quit {
        /// `worker_shutdown_timeout`, milliseconds, after which connections are closed.
        timeout_ms: Option<u64>,
    },
    /// Flush logs and return at once.
    Terminate,
}

/// The commands of one thread. The end of the channel means [`Command::Terminate`].
pub type Commands<E> = mpsc::UnboundedReceiver<Command<<E as Engine>::Cycle>>;

/// A compiled configuration in use. When the last user of a replaced one is gone, it says so in the log.
#[derive(Debug)]
pub struct Running<C> {
    cycle: C,
    error_log: Arc<ErrorLog>,
    is_replaced: AtomicBool,
}

impl<C> Running<C> {
    pub(crate) fn new(cycle: C, error_log: Arc<ErrorLog>) -> Self {
        Self { cycle, error_log, is_replaced: AtomicBool::new(false) }
    }

    /// Makes the end of this configuration worth a line.
    pub(crate) fn replaced(&self) {
        self.is_replaced.store(true, Ordering::Relaxed);
    }
}

impl<C> Deref for Running<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.cycle
    }
}

impl<C> Drop for Running<C> {
    fn drop(&mut self) {
        if self.is_replaced.load(Ordering::Relaxed) {
            let process = os::process::pid();
            let line = format_args!("worker process {process}: old configuration exited with code 0");
            self.error_log.log(Level::Notice, line);
        }
    }
}
