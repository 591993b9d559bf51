//! Accepting connections on a worker thread.
//!
//! One thread waits on the sockets themselves. With several, each waits on an epoll of its own that holds the
//! sockets exclusively, so that one connection wakes one thread and no connection belongs to a thread that is
//! gone.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base::Network;
use conf::resources::{ListenAddr, SocketKind, SocketSpec};
use net::Stream;
use net::TaskHandle;
use net::watch::{Interest, watch, watch_listening};
use os::errlog::{Level, Verbosity};
use os::socket::PeerAddr;
use os::tcp::Congestion;

use super::stats;
use crate::conf::listen::Listener;
use crate::connection::Conn;
use crate::cycle::{Cycle, Worker};
use crate::side::Side;

/// Connections that a lone thread accepts in one go before those that it has get their turn.
const BATCH: usize = 64;
/// The same with several threads: few, so that a burst spreads over them.
const SHARED_BATCH: usize = 1;

/// The sockets that this thread accepts on, by address.
pub struct Acceptors {
    side: Side,
    serve: Serve,
    running: HashMap<(ListenAddr, Option<u32>), TaskHandle>,
}

/// Spawns what serves a connection.
pub type Serve = fn(Served);

impl Acceptors {
    /// Nothing is accepted on yet; the connections of that side are handed to `serve`.
    #[must_use]
    pub fn new(side: Side, serve: Serve) -> Self {
        Self { side, serve, running: HashMap::new() }
    }

    /// Accepts on the sockets of this configuration, and on no others.
    pub fn follow(&mut self, cycle: &Cycle) {
        let wanted = |key: &(ListenAddr, Option<u32>)| {
            streams(cycle).any(|(_, listener)| key_of(&listener.spec) == *key)
        };
        self.running.retain(|key, task| {
            let stays = wanted(key);
            if !stays {
                task.abort();
            }
            stays
        });
        for (_, listener) in streams(cycle) {
            let key = key_of(&listener.spec);
            if self.running.contains_key(&key) {
                continue;
            }
            let Some(socket) = listener.socket() else { continue };
            let spec = listener.spec.clone();
            let is_near = Congestion::system().is_paced()
                && matches!(&spec.addr, ListenAddr::Inet(addr) if addr.ip().to_canonical().is_loopback())
                && Congestion::RENO.set(socket.as_fd()).is_ok();
            let exclusive = cycle.globals.threads > 1;
            let addr = Rc::new(spec.addr.clone());
            let taker = Taker { addr, spec, is_near, side: self.side, serve: self.serve };
            self.running.insert(
                key,
                net::spawn(async move {
                    let done = if exclusive {
                        accept_shared(socket, &taker).await
                    } else {
                        accept_alone(socket, &taker).await
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

/// Who gets what one socket accepts.
struct Taker {
    spec: SocketSpec,
    addr: Rc<ListenAddr>,
    /// The socket, and what it accepts, has the congestion control of connections within the machine.
    is_near: bool,
    side: Side,
    serve: Serve,
}

/// A connection that counts as long as it is served.
pub struct Served(Rc<Conn>);

impl Served {
    /// Counts a connection that was just made.
    #[must_use]
    pub fn new(conn: Rc<Conn>) -> Self {
        Worker::current().enter(&conn);
        stats::shift(&stats::own().active, 1);
        Self(conn)
    }

    /// The connection, which counts no more; none while somebody else holds it.
    #[must_use]
    pub fn into_conn(self) -> Option<Conn> {
        let conn = Rc::clone(&self.0);
        drop(self);
        Rc::try_unwrap(conn).ok()
    }

    /// The connection.
    #[inline]
    #[must_use]
    pub fn conn(&self) -> &Rc<Conn> {
        &self.0
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // The log says what happened before the client can see the end.
        crate::log_buffer::flush();
        if let Some(worker) = Worker::try_current() {
            worker.leave(&self.0);
        }
        stats::shift(&stats::own().active, -1);
    }
}

fn key_of(spec: &SocketSpec) -> (ListenAddr, Option<u32>) {
    (spec.addr.clone(), spec.reuseport)
}

async fn accept_alone(socket: Arc<OwnedFd>, taker: &Taker) -> io::Result<()> {
    let ready = watch_listening(socket)?;
    loop {
        ready.readable().await;
        match accept_batch(ready.get_ref().as_fd(), taker, BATCH) {
            Batch::Empty => ready.clear_readable(),
            Batch::More => net::yield_now().await,
            Batch::Pause => net::timer::sleep(500).await,
        }
    }
}

async fn accept_shared(socket: Arc<OwnedFd>, taker: &Taker) -> io::Result<()> {
    let epoll = os::epoll::ExclusiveEpoll::new()?;
    epoll.add(socket.as_fd(), 0)?;
    let ready = watch(epoll.as_fd().try_clone_to_owned()?, Interest::Readable)?;
    loop {
        ready.readable().await;
        match accept_batch(socket.as_fd(), taker, SHARED_BATCH) {
            Batch::Empty => {
                ready.clear_readable();
                // The nested epoll reports edges: what arrived in between is asked for once.
                let _ = epoll.ready(&mut [0; 4])?;
            }
            Batch::More => net::yield_now().await,
            Batch::Pause => net::timer::sleep(500).await,
        }
    }
}

enum Batch {
    /// Nobody is waiting any more.
    Empty,
    /// There may be more.
    More,
    /// No descriptors are left: wait a little, as nginx does.
    Pause,
}

fn accept_batch(socket: BorrowedFd<'_>, taker: &Taker, most: usize) -> Batch {
    for _ in 0..most {
        match os::socket::accept4(socket) {
            Ok((fd, peer)) => taker.begin(fd, peer),
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

/// The listeners that connections come to, and their places.
fn streams(cycle: &Cycle) -> impl Iterator<Item = (usize, &Listener)> {
    cycle.http.listeners.iter().enumerate().filter(|(_, listener)| listener.spec.kind == SocketKind::Stream)
}

/// Counts a client that has come, where there is room for it; how messages about it are filtered.
pub fn admit(cycle: &Cycle, peer: &PeerAddr) -> Option<Verbosity> {
    let worker = Worker::current();
    let counters = stats::own();
    stats::add(&counters.accepted);
    if !worker.has_room() {
        let limit = worker.most_connections();
        cycle.globals.log.log(Level::Alert, format_args!("{limit} worker_connections are not enough"));
        return None;
    }
    stats::add(&counters.handled);
    Some(verbosity(&cycle.globals.debug_connections, peer))
}

/// The number of the next connection.
pub fn next_number() -> u64 {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

impl Taker {
    /// Settles the congestion control of a connection, and says whether the kernel paces it. The machine's own are taken
    /// out, and only they: who was redirected to a loopback address comes from elsewhere.
    fn settle_pace(&self, fd: BorrowedFd<'_>, peer: &PeerAddr) -> bool {
        let system = Congestion::system();
        if !system.is_paced() {
            return false;
        }
        let is_near = peer.is_loopback();
        if is_near != self.is_near {
            let _ = if is_near { Congestion::RENO } else { system }.set(fd);
        }
        !is_near
    }

    fn begin(&self, fd: OwnedFd, peer: PeerAddr) {
        let cycle = Worker::current().cycle_of(self.side);
        let Some(verbosity) = admit(&cycle, &peer) else { return };
        let stream = match self.spec.addr {
            ListenAddr::Inet(_) => {
                keepalive(&fd, &self.spec);
                let is_paced = self.settle_pace(fd.as_fd(), &peer);
                let stream = Stream::new(fd);
                if is_paced { stream.paced() } else { stream }
            }
            ListenAddr::Unix(_) => Stream::local(fd),
        };
        let key = key_of(&self.spec);
        let Some((index, _)) = streams(&cycle).find(|(_, l)| key_of(&l.spec) == key) else { return };
        let listener = (cycle.generation, index);
        let addr = Rc::clone(&self.addr);
        let conn = Rc::new(Conn::new(stream.expect_bytes(), peer, next_number(), listener, addr, verbosity));
        if !cycle.http.default_location(index).core.tcp_nodelay {
            conn.delay_small_packets();
        }
        (self.serve)(Served::new(conn));
    }
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
