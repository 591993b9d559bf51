//! `listen … udp`: datagrams that come to one socket, told apart by who sent them.
//!
//! One thread of the worker reads a socket and serves all its sessions, so a client's datagrams meet their session
//! whatever the number of threads.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use conf::resources::{ListenAddr, SocketKind};
use http::connection::Conn;
use http::cycle::Worker;
use http::server::accept::{Served, admit, next_number};
use http::side::Side;
use net::TaskHandle;
use net::watch::watch_listening;
use os::errlog::{Errno, Level};
use os::socket::PeerAddr;

use crate::session;

/// Longest datagram.
pub(crate) const LONGEST: usize = 65_535;
/// Datagrams, and bytes of them, that wait for a session; more are lost, as the network may lose them too.
const MOST_WAITING: usize = 64;
const MOST_BYTES: usize = 256 << 10;
/// Datagrams that are taken in one go before those that sessions have get their turn.
const BATCH: usize = 32;

/// Who sent a datagram, and to which address where the socket has several.
type Client = (PeerAddr, Option<IpAddr>);

/// The sessions of one socket that take further datagrams.
type Sessions = Rc<RefCell<HashMap<Client, Rc<Mailbox>>>>;

/// The sockets for datagrams that this thread reads.
#[derive(Default)]
pub struct Receivers {
    running: HashMap<ListenAddr, TaskHandle>,
}

impl Receivers {
    /// Reads the sockets of the configuration in use that fall to this thread, and no others.
    pub fn follow(&mut self, worker: &Worker) {
        let cycle = worker.cycle_of(Side::Stream);
        let threads = cycle.globals.threads.max(1);
        let own = cycle.http.listeners.iter().filter(|listener| {
            listener.spec.kind == SocketKind::Datagram && place(&listener.spec.addr) % threads == worker.index
        });
        let own: Vec<_> = own.collect();
        self.running.retain(|addr, task| {
            let stays = own.iter().any(|listener| listener.spec.addr == *addr);
            if !stays {
                task.abort();
            }
            stays
        });
        for listener in own {
            let Some(socket) = listener.socket() else { continue };
            let addr = listener.spec.addr.clone();
            self.running.entry(addr.clone()).or_insert_with(|| {
                net::spawn(async move {
                    if let Err(error) = receive(socket, Rc::new(addr)).await {
                        let cycle = Worker::current().cycle_of(Side::Stream);
                        let said = format_args!("receiving datagrams failed {}", Errno(&error));
                        cycle.globals.log.log(Level::Alert, said);
                    }
                })
            });
        }
    }

    /// Reads no more.
    pub fn stop(&mut self) {
        self.running.drain().for_each(|(_, task)| task.abort());
    }
}

/// A number that is an address's own in every configuration.
fn place(addr: &ListenAddr) -> usize {
    match addr {
        ListenAddr::Inet(addr) => usize::from(addr.port()),
        ListenAddr::Unix(path) => path.as_os_str().len(),
    }
}

async fn receive(socket: Arc<OwnedFd>, addr: Rc<ListenAddr>) -> io::Result<()> {
    let ready = watch_listening(Arc::clone(&socket))?;
    let sessions = Sessions::default();
    let mut buffer = vec![0; LONGEST];
    loop {
        ready.readable().await;
        let mut is_empty = false;
        for _ in 0..BATCH {
            match os::datagram::recv(socket.as_fd(), &mut buffer) {
                Ok(received) => {
                    let bytes = buffer.get(..received.length).unwrap_or_default();
                    deliver(&socket, &addr, &sessions, (received.peer, received.local), bytes);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    is_empty = true;
                    break;
                }
                // Word of an answer that reached nobody.
                Err(_) => {}
            }
        }
        if is_empty {
            ready.clear_readable();
        } else {
            net::yield_now().await;
        }
    }
}

/// Gives a datagram to its session, which may begin with it.
fn deliver(socket: &Arc<OwnedFd>, addr: &Rc<ListenAddr>, sessions: &Sessions, client: Client, bytes: &[u8]) {
    let known = sessions.borrow().get(&client).cloned();
    if let Some(mailbox) = known {
        mailbox.put(bytes);
        return;
    }
    let worker = Worker::current();
    let cycle = worker.cycle_of(Side::Stream);
    let is_own =
        |spec: &conf::resources::SocketSpec| spec.kind == SocketKind::Datagram && spec.addr == **addr;
    let Some(index) = cycle.http.listeners.iter().position(|listener| is_own(&listener.spec)) else { return };
    let Some(verbosity) = admit(&cycle, &client.0) else { return };
    let local = match (&**addr, client.1) {
        (ListenAddr::Inet(addr), Some(ip)) => PeerAddr::Inet(SocketAddr::new(ip, addr.port())),
        (ListenAddr::Inet(addr), None) => PeerAddr::Inet(*addr),
        (ListenAddr::Unix(path), _) => PeerAddr::Unix(path.clone()),
    };
    let listener = (cycle.generation, index);
    let (peer, number) = (client.0.clone(), next_number());
    let Ok(conn) = Conn::of_datagrams(peer, number, listener, Rc::clone(addr), local, verbosity) else {
        return;
    };
    // Who ends the worker tells it by its deadline.
    conn.is_multiplexed.set(true);
    let mailbox = Rc::new(Mailbox {
        socket: Arc::clone(socket),
        client: client.clone(),
        sessions: Rc::clone(sessions),
        waiting: RefCell::default(),
        bytes: Cell::new(0),
        waker: Cell::new(None),
    });
    mailbox.put(bytes);
    sessions.borrow_mut().insert(client, Rc::clone(&mailbox));
    session::serve_datagrams(Served::new(Rc::new(conn)), mailbox);
}

/// What one client has sent and its session has not looked at yet, and the way back.
pub(crate) struct Mailbox {
    socket: Arc<OwnedFd>,
    client: Client,
    sessions: Sessions,
    waiting: RefCell<VecDeque<Box<[u8]>>>,
    bytes: Cell<usize>,
    waker: Cell<Option<Waker>>,
}

impl Mailbox {
    fn put(&self, bytes: &[u8]) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() >= MOST_WAITING || self.bytes.get() + bytes.len() > MOST_BYTES {
            return;
        }
        self.bytes.set(self.bytes.get() + bytes.len());
        waiting.push_back(bytes.into());
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The next datagram.
    pub(crate) fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Box<[u8]>> {
        match self.waiting.borrow_mut().pop_front() {
            Some(bytes) => {
                self.bytes.set(self.bytes.get().saturating_sub(bytes.len()));
                Poll::Ready(bytes)
            }
            None => {
                self.waker.set(Some(cx.waker().clone()));
                Poll::Pending
            }
        }
    }

    /// Sends the client a datagram. One that the kernel has no room for is lost.
    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<()> {
        match os::datagram::send(self.socket.as_fd(), bytes, &self.client.0, self.client.1) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    /// Takes no further datagrams: what else the client sends begins another session.
    pub(crate) fn close(&self) {
        let mut sessions = self.sessions.borrow_mut();
        if sessions.get(&self.client).is_some_and(|own| std::ptr::eq(&**own, self)) {
            sessions.remove(&self.client);
        }
    }
}
