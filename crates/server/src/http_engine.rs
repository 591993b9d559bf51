//! The HTTP engine behind the program's seam: compiles the `http` block and serves it.
//!
//! On reload new requests take the new configuration; no connection is closed for it.

use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use conf::resources::Resources;
use conf::{Arity, Contexts, Error, Order, Row, Tree};
use http::conf::compile;
use http::cycle::{Cycle, Globals, Guard, Worker};
use http::relay::Attendants;
use http::server::accept::Acceptors;
use os::credentials::Capabilities;
use os::errlog::Level;

use crate::engine::{Command, Commands, Engine, Input, Module, Running, Thread};
use crate::paths::Paths;

/// The engine.
#[derive(Debug)]
pub struct HttpEngine;

static HTTP_BLOCK: Row = Row::new("http", Contexts::MAIN, Arity::NOARGS)
    .module("ngx_http_core_module")
    .block(Contexts::HTTP)
    .once()
    .doc("HTTP servers.");

/// The name that `configure` knows a module by: `http_sub` for `ngx_http_sub_filter_module`.
fn configure_name(name: &'static str) -> Option<&'static str> {
    let name = name.strip_prefix("ngx_")?.strip_suffix("_module")?;
    if name == "http_image_filter" { Some(name) } else { Some(name.strip_suffix("_filter").unwrap_or(name)) }
}

impl Engine for HttpEngine {
    type Cycle = Arc<Cycle>;

    fn rows() -> Vec<&'static Row> {
        let registry = modules::registry();
        std::iter::once(&HTTP_BLOCK).chain(registry.rows()).collect()
    }

    fn modules() -> &'static [Module] {
        static BUILT: std::sync::OnceLock<Vec<Module>> = std::sync::OnceLock::new();
        BUILT.get_or_init(|| {
            let registry = modules::registry();
            registry.module_names().filter_map(configure_name).map(Module).collect()
        })
    }

    fn compile(input: Input<'_, Self::Cycle>) -> Result<Self::Cycle, Error> {
        let registry = modules::registry();
        let paths = directories(input.paths);
        let block = input.tree.directives.iter().find(|line| line.name.is("http"));
        let conf =
            compile::compile(&registry, block, &paths, input.core.threads, input.resources, input.notices)?;
        if let Some(previous) = input.previous {
            conf.inherit(&previous.http)?;
        }
        let globals = Globals {
            log: Arc::clone(input.error_log),
            worker_connections: usize::try_from(input.core.worker_connections).unwrap_or(usize::MAX),
            debug_connections: input.core.debug_connections.clone(),
            threads: input.core.threads,
            shutdown_timeout_ms: input.core.shutdown_timeout_ms,
        };
        Ok(Arc::new(Cycle::new(conf, globals)))
    }

    fn wrong_line(
        tree: &Tree,
        paths: &Paths,
        resources: &mut dyn Resources,
        before: Order,
        notices: &mut Vec<Error>,
    ) -> Option<Error> {
        let block = tree.directives.iter().find(|line| line.name.is("http"));
        compile::wrong_line(&modules::registry(), block, &directories(paths), resources, before, notices)
    }

    fn capabilities(cycle: &Self::Cycle) -> Capabilities {
        if cycle.http.needs_net_raw { Capabilities::KeepNetRaw } else { Capabilities::Drop }
    }

    fn before_waiting() {
        http::log_buffer::flush();
    }

    fn after_waiting() {
        net::timer::refresh();
    }

    async fn serve(thread: Thread, cycle: Arc<Running<Self::Cycle>>, mut commands: Commands<Self>) {
        let worker = match Worker::install(thread.index, Arc::clone(&cycle), guard(&cycle)) {
            Ok(worker) => worker,
            Err(error) => {
                let reason = os::errlog::Errno(&error);
                cycle.globals.log.log(Level::Alert, format_args!("a worker thread could not start {reason}"));
                return;
            }
        };
        drop(cycle);
        tokio::task::spawn_local(net::timer::drive());
        tokio::task::spawn_local(http::relay::janitor());
        let mut acceptors = Acceptors::default();
        acceptors.follow(&worker.cycle());
        // Names are followed and peers are checked once for the whole server.
        let mut attendants = Attendants::default();
        if worker.index == 0 {
            attendants.follow(&worker.cycle());
        }
        while let Some(command) = commands.recv().await {
            match command {
                Command::Adopt(cycle) => {
                    end_in_time(&worker);
                    worker.adopt(Arc::clone(&cycle), guard(&cycle));
                    drop(cycle);
                    acceptors.follow(&worker.cycle());
                    if worker.index == 0 {
                        attendants.follow(&worker.cycle());
                    }
                }
                Command::Reopen => http::log_buffer::flush_all(),
                Command::Quit { timeout_ms } => {
                    acceptors.stop();
                    attendants.stop();
                    // Aborted tasks let go of their sockets when they are next polled.
                    tokio::task::yield_now().await;
                    quit(&worker, timeout_ms, &mut commands).await;
                    break;
                }
                Command::Terminate => break,
            }
        }
        acceptors.stop();
        http::log_buffer::flush_all();
    }
}

fn directories(paths: &Paths) -> compile::Paths {
    compile::Paths { prefix: paths.prefix.clone(), conf_prefix: paths.conf_dir.clone() }
}

fn guard(cycle: &Arc<Running<Arc<Cycle>>>) -> Guard {
    Arc::clone(cycle) as Guard
}

/// What goes on under the configuration of this moment is to end within its `worker_shutdown_timeout`.
fn end_in_time(worker: &Rc<Worker>) {
    let cycle = worker.cycle();
    let (generation, timeout_ms) = (cycle.generation, cycle.globals.shutdown_timeout_ms);
    if let Some(timeout_ms) = timeout_ms {
        let worker = Rc::clone(worker);
        tokio::task::spawn_local(async move {
            net::timer::sleep(timeout_ms).await;
            worker.abort_older(generation);
        });
    }
}

/// Finishes what is under way, at most for `worker_shutdown_timeout`.
async fn quit(worker: &Rc<Worker>, timeout_ms: Option<u64>, commands: &mut Commands<HttpEngine>) {
    worker.cycle().http.listeners.iter().for_each(|listener| listener.close());
    worker.quit();
    let deadline = net::Deadline::new();
    if let Some(timeout_ms) = timeout_ms {
        deadline.set_after(timeout_ms);
    }
    loop {
        let mut closed = std::pin::pin!(worker.all_closed());
        let is_done = std::future::poll_fn(|cx| {
            if closed.as_mut().poll(cx).is_ready() {
                return Poll::Ready(true);
            }
            if let Poll::Ready(command) = commands.poll_recv(cx) {
                return Poll::Ready(matches!(command, None | Some(Command::Terminate)));
            }
            deadline.poll_over(cx).map(|()| {
                worker.abort_all();
                deadline.clear();
                false
            })
        })
        .await;
        if is_done {
            return;
        }
    }
}
