//! The engine behind the program's seam: compiles the `http` and `stream` blocks and serves them.
//!
//! On reload new requests take the new configuration; no connection is closed for it.

use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use conf::resources::{ListenAddr, Resources, SocketSpec};
use conf::{Arity, Contexts, Directive, Error, Order, Row, Tree};
use http::conf::compile;
use http::cycle::{Cycle, Cycles, Globals, Guard, Worker};
use http::relay::Attendants;
use http::server::accept::Acceptors;
use http::server::h1;
use http::{Registry, Side};
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

static STREAM_BLOCK: Row = Row::new("stream", Contexts::MAIN, Arity::NOARGS)
    .module("ngx_stream_core_module")
    .block(Contexts::STREAM)
    .once()
    .doc("Servers of connections.");

/// Every module of the program: those of `http` and of both, then those of `stream` alone.
#[must_use]
pub fn registry() -> Registry {
    let mut registry = modules::registry();
    stream::add(&mut registry);
    registry
}

/// The name that `configure` knows a module by: `http_sub` for `ngx_http_sub_filter_module`.
fn configure_name(name: &'static str) -> Option<&'static str> {
    let name = name.strip_prefix("ngx_")?.strip_suffix("_module")?;
    if name == "stream_core" {
        return Some("stream");
    }
    if name == "http_image_filter" { Some(name) } else { Some(name.strip_suffix("_filter").unwrap_or(name)) }
}

impl Engine for HttpEngine {
    type Cycle = Cycles;

    fn rows() -> Vec<&'static Row> {
        let registry = registry();
        [&HTTP_BLOCK, &STREAM_BLOCK].into_iter().chain(registry.rows()).collect()
    }

    fn modules() -> &'static [Module] {
        static BUILT: std::sync::OnceLock<Vec<Module>> = std::sync::OnceLock::new();
        BUILT.get_or_init(|| {
            let registry = registry();
            registry.module_names().filter_map(configure_name).map(Module).collect()
        })
    }

    fn compile(mut input: Input<'_, Self::Cycle>) -> Result<Self::Cycle, Error> {
        let registry = registry();
        let http = compile_side(&registry, Side::Http, &mut input)?;
        let stream = compile_side(&registry, Side::Stream, &mut input)?;
        http.http.zones.check_apart(&stream.http.zones)?;
        refuse_shared_addresses(&http, &stream)?;
        Ok(Cycles { http, stream })
    }

    fn wrong_line(
        tree: &Tree,
        paths: &Paths,
        resources: &mut dyn Resources,
        before: Order,
        notices: &mut Vec<Error>,
    ) -> Option<Error> {
        let (registry, paths) = (registry(), directories(paths));
        let wrong = [Side::Http, Side::Stream].map(|side| {
            let block = block_of(tree, side);
            compile::wrong_line(&registry, side, block, &paths, &mut *resources, before, &mut *notices)
        });
        wrong.into_iter().flatten().min_by_key(|error| error.order)
    }

    fn capabilities(cycles: &Self::Cycle) -> Capabilities {
        let needs_net_raw = cycles.http.http.needs_net_raw || cycles.stream.http.needs_net_raw;
        if needs_net_raw { Capabilities::KeepNetRaw } else { Capabilities::Drop }
    }

    fn before_reopening() {
        http::log_buffer::flush_all();
    }

    fn before_waiting() {
        http::log_buffer::end_turn();
    }

    async fn serve(thread: Thread, cycle: Arc<Running<Self::Cycle>>, mut commands: Commands<Self>) {
        let worker = match Worker::install(thread.index, &cycle, &guard(&cycle)) {
            Ok(worker) => worker,
            Err(error) => {
                let reason = os::errlog::Errno(&error);
                let log = &cycle.http.globals.log;
                log.log(Level::Alert, format_args!("a worker thread could not start {reason}"));
                return;
            }
        };
        drop(cycle);
        net::spawn(http::relay::janitor());
        let mut sides = [
            ServedSide::new(Side::Http, |served| {
                net::spawn(h1::Serve::new(served));
            }),
            ServedSide::new(Side::Stream, stream::serve),
        ];
        sides.iter_mut().for_each(|side| side.follow(&worker));
        while let Some(command) = commands.recv().await {
            match command {
                Command::Adopt(cycle) => {
                    end_in_time(&worker);
                    worker.adopt(&cycle, &guard(&cycle));
                    drop(cycle);
                    sides.iter_mut().for_each(|side| side.follow(&worker));
                }
                Command::Quit { timeout_ms } => {
                    sides.iter_mut().for_each(ServedSide::stop);
                    // Aborted tasks let go of their sockets when they are next polled.
                    net::yield_now().await;
                    quit(&worker, timeout_ms, &mut commands).await;
                    break;
                }
                Command::Terminate => break,
            }
        }
        sides.iter_mut().for_each(ServedSide::stop);
        http::log_buffer::flush_all();
    }
}

/// What a thread does for one side.
struct ServedSide {
    side: Side,
    acceptors: Acceptors,
    receivers: stream::Receivers,
    attendants: Attendants,
}

impl ServedSide {
    fn new(side: Side, serve: http::server::accept::Serve) -> Self {
        Self {
            side,
            acceptors: Acceptors::new(side, serve),
            receivers: stream::Receivers::default(),
            attendants: Attendants::default(),
        }
    }

    fn follow(&mut self, worker: &Worker) {
        let cycle = worker.cycle_of(self.side);
        self.acceptors.follow(&cycle);
        if self.side == Side::Stream {
            self.receivers.follow(worker);
        }
        // Names are followed and peers are checked once for the whole server.
        if worker.index == 0 {
            self.attendants.follow(&cycle);
        }
    }

    fn stop(&mut self) {
        self.acceptors.stop();
        self.receivers.stop();
        self.attendants.stop();
    }
}

/// Compiles one side; state of the configuration before goes on in it.
fn compile_side(registry: &Registry, side: Side, input: &mut Input<'_, Cycles>) -> Result<Arc<Cycle>, Error> {
    let paths = directories(input.paths);
    let block = block_of(input.tree, side);
    let threads = input.core.threads;
    let conf = compile::compile(registry, side, block, &paths, threads, input.resources, input.notices)?;
    if let Some(previous) = input.previous {
        let previous = match side {
            Side::Http => &previous.http,
            Side::Stream => &previous.stream,
        };
        conf.inherit(&previous.http)?;
    }
    let globals = Globals {
        log: Arc::clone(input.error_log),
        worker_connections: usize::try_from(input.core.worker_connections).unwrap_or(usize::MAX),
        debug_connections: input.core.debug_connections.clone(),
        threads: input.core.threads,
        shutdown_timeout_ms: input.core.shutdown_timeout_ms,
    };
    Ok(Arc::new(Cycle::new(side, conf, globals)))
}

/// An address belongs to one side: the other one would have to bind it a second time.
fn refuse_shared_addresses(http: &Cycle, stream: &Cycle) -> Result<(), Error> {
    let is_same = |one: &SocketSpec, other: &SocketSpec| one.addr == other.addr && one.kind == other.kind;
    for listener in &stream.http.listeners {
        if http.http.listeners.iter().any(|other| is_same(&other.spec, &listener.spec)) {
            let shown = match &listener.spec.addr {
                ListenAddr::Inet(addr) => addr.to_string(),
                ListenAddr::Unix(path) => format!("unix:{}", path.display()),
            };
            let sentence = format!("bind() to {shown} failed (98: Address already in use)");
            return Err(Error::bare(sentence));
        }
    }
    Ok(())
}

/// The block that configures a side.
fn block_of(tree: &Tree, side: Side) -> Option<&Directive> {
    let name = match side {
        Side::Http => "http",
        Side::Stream => "stream",
    };
    tree.directives.iter().find(|line| line.name.is(name))
}

fn directories(paths: &Paths) -> compile::Paths {
    compile::Paths { prefix: paths.prefix.clone(), conf_prefix: paths.conf_dir.clone() }
}

fn guard(cycle: &Arc<Running<Cycles>>) -> Guard {
    Arc::clone(cycle) as Guard
}

/// What goes on under the configuration of this moment is to end within its `worker_shutdown_timeout`.
fn end_in_time(worker: &Rc<Worker>) {
    // Of both sides its generation is the greater one.
    let cycle = worker.cycle_of(Side::Stream);
    let (generation, timeout_ms) = (cycle.generation, cycle.globals.shutdown_timeout_ms);
    if let Some(timeout_ms) = timeout_ms {
        let worker = Rc::clone(worker);
        net::spawn(async move {
            net::timer::sleep(timeout_ms).await;
            worker.abort_older(generation);
        });
    }
}

/// Finishes what is under way, at most for `worker_shutdown_timeout`.
async fn quit(worker: &Rc<Worker>, timeout_ms: Option<u64>, commands: &mut Commands<HttpEngine>) {
    for side in [Side::Http, Side::Stream] {
        worker.cycle_of(side).http.listeners.iter().for_each(|listener| listener.close());
    }
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
