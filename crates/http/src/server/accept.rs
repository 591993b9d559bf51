//! Accepting connections on a worker thread.
//!
//! One thread waits on the sockets themselves. With several, each waits on an epoll of its own that holds the
//! sockets exclusively, so that one connection wakes one thread and no connection belongs to a thread that is
//! gone.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base::Network;
use conf::resources::{ListenAddr, SocketSpec};
use net::Stream;
use os::errlog::{Level, Verbosity};
use os::socket::PeerAddr;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;

use super::{h1, stats};
use crate::connection::Conn;
use crate::cycle::{Cycle, Worker};

/// Connections that a lone thread accepts in one go before those that it has get their turn.
const BATCH: usize = 64;
/// The same with several threads: few, so that a burst spreads over them.
const SHARED_BATCH: usize = 1;

struct Shared(Arc<OwnedFd>);

impl AsRawFd for Shared {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// The sockets that this thread accepts on, by address.
#[derive(Default)]
pub struct Acceptors {
    running: HashMap<(ListenAddr, Option<u32>), JoinHandle<()>>,
}

impl Acceptors {
    /// Accepts on the sockets of this configuration, and on no others.
    pub fn follow(&mut self, cycle: &Cycle) {
        let wanted = |key: &(ListenAddr, Option<u32>)| {
            cycle.http.listeners.iter().any(|listener| key_of(&listener.spec) == *key)
        };
        self.running.retain(|key, task| {
            let stays = wanted(key);
            if !stays {
                task.abort();
            }
            stays
        });
        for listener in &cycle.http.listeners {
            let key = key_of(&listener.spec);
            if self.running.contains_key(&key) {
                continue;
            }
            let Some(socket) = listener.socket() else { continue };
            let spec = listener.spec.clone();
            // Answers leave at once; small pieces are gathered by us, not by the kernel. Accepted connections have
            // it from their listener, which saves a call for each. A Unix socket refuses and needs it not.
            let _ = os::tcp::set_nodelay(socket.as_fd(), os::tcp::Switch::On);
            let exclusive = cycle.globals.threads > 1;
            self.running.insert(
                key,
                tokio::task::spawn_local(async move {
                    let done = if exclusive {
                        accept_shared(socket, &spec).await
                    } else {
                        accept_alone(socket, &spec).await
                    };
                    if let Err(error) = done {
                        let worker = Worker::current();
                        worker.cycle().globals.log.log(
                            Level::Alert,
                            format_args!("accepting failed {}", os::errlog::Errno(&error)),
                        );
                    }
                }),
            );
        }
    }

    /// Accepts no more.
    pub fn stop(&mut self) {
        for (_, task) in self.running.drain() {
            task.abort();
        }
    }
}

fn key_of(spec: &SocketSpec) -> (ListenAddr, Option<u32>) {
    (spec.addr.clone(), spec.reuseport)
}

async fn accept_alone(socket: Arc<OwnedFd>, spec: &SocketSpec) -> io::Result<()> {
    let addr = Rc::new(spec.addr.clone());
    let ready = watch(Shared(socket))?;
    loop {
        let mut guard = ready.readable().await?;
        match accept_batch(guard.get_inner().0.as_fd(), spec, &addr, BATCH) {
            Batch::Empty => guard.clear_ready(),
            Batch::More => tokio::task::yield_now().await,
            Batch::Pause => net::timer::sleep(500).await,
        }
    }
}

async fn accept_shared(socket: Arc<OwnedFd>, spec: &SocketSpec) -> io::Result<()> {
    let addr = Rc::new(spec.addr.clone());
    let epoll = os::epoll::ExclusiveEpoll::new()?;
    epoll.add(socket.as_fd(), 0)?;
    let ready = watch(epoll.as_fd().try_clone_to_owned()?)?;
    loop {
        let mut guard = ready.readable().await?;
        match accept_batch(socket.as_fd(), spec, &addr, SHARED_BATCH) {
            Batch::Empty => {
                guard.clear_ready();
                // The nested epoll reports edges: what arrived in between is asked for once.
                let _ = epoll.ready(&mut [0; 4])?;
            }
            Batch::More => tokio::task::yield_now().await,
            Batch::Pause => net::timer::sleep(500).await,
        }
    }
}

fn watch<T: AsRawFd>(socket: T) -> io::Result<AsyncFd<T>> {
    #[expect(
        deprecated,
        reason = "its successor is unsafe; the socket is owned and stays open as long as it is watched"
    )]
    AsyncFd::with_interest(socket, tokio::io::Interest::READABLE)
}

enum Batch {
    /// Nobody is waiting any more.
    Empty,
    /// There may be more.
    More,
    /// No descriptors are left: wait a little, as nginx does.
    Pause,
}

fn accept_batch(socket: BorrowedFd<'_>, spec: &SocketSpec, addr: &Rc<ListenAddr>, most: usize) -> Batch {
    for _ in 0..most {
        match os::socket::accept4(socket) {
            Ok((fd, peer)) => begin(fd, peer, spec, addr),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => return Batch::Empty,
                io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => {}
                _ => {
                    let worker = Worker::current();
                    let level = if is_out_of_descriptors(&error) { Level::Crit } else { Level::Alert };
                    worker
                        .cycle()
                        .globals
                        .log
                        .log(level, format_args!("accept4() failed {}", os::errlog::Errno(&error)));
                    return Batch::Pause;
                }
            },
        }
    }
    Batch::More
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    // EMFILE and ENFILE have no kind of their own.
    matches!(error.raw_os_error(), Some(23 | 24))
}

fn begin(fd: OwnedFd, peer: PeerAddr, spec: &SocketSpec, addr: &Rc<ListenAddr>) {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let worker = Worker::current();
    let counters = stats::own();
    stats::add(&counters.accepted);
    let cycle = worker.cycle();
    if worker.is_full() && !worker.close_an_idle_connection() {
        let limit = cycle.globals.worker_connections;
        cycle.globals.log.log(Level::Alert, format_args!("{limit} worker_connections are not enough"));
        return;
    }
    stats::add(&counters.handled);
    let stream = match spec.addr {
        ListenAddr::Inet(_) => {
            keepalive(&fd, spec);
            Stream::new(fd)
        }
        ListenAddr::Unix(_) => Stream::local(fd),
    };
    let verbosity = verbosity(&cycle.globals.debug_connections, &peer);
    let Some(index) = cycle.http.listeners.iter().position(|l| key_of(&l.spec) == key_of(spec)) else {
        return;
    };
    let Ok(stream) = stream else { return };
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let conn =
        Rc::new(Conn::new(stream, peer, number, (cycle.generation, index), Rc::clone(addr), verbosity));
    if !cycle.http.default_location(index).core.tcp_nodelay {
        conn.delay_small_packets();
    }
    worker.enter(&conn);
    stats::shift(&counters.active, 1);
    tokio::task::spawn_local(h1::Serve::new(conn));
}

fn keepalive(fd: &OwnedFd, spec: &SocketSpec) {
    let Some(keepalive) = spec.keepalive else { return };
    let keepalive = keepalive.map(|k| os::tcp::Keepalive {
        idle_sec: k.idle_sec,
        interval_sec: k.interval_sec,
        count: k.count,
    });
    let _ = os::tcp::set_keepalive(fd.as_fd(), keepalive);
}

fn verbosity(debug: &[Network], peer: &PeerAddr) -> Verbosity {
    if debug.iter().any(|network| network.contains(peer.ip())) {
        os::errlog::want_debug();
        return Verbosity::Everything;
    }
    Verbosity::Configured
}
