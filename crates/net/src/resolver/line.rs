//! A UDP socket to one name server, shared by a few queries that are under way at the same time.
//!
//! It closes with the last of them, so source ports change all the time and an idle resolver holds no socket.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::rc::Rc;

use tokio::sync::mpsc::UnboundedSender;

use super::message::{self, Fault, Question, RecordType, Reply, Transport};
use super::{log, random};
use crate::event_loop::{TaskHandle, spawn};
use crate::stream::Stream;

/// Bytes of the longest UDP answer that is read (`NGX_RESOLVER_UDP_SIZE`).
const MAX_DATAGRAM: usize = 4096;
/// Queries that one socket carries before the next one gets a new port.
const QUERIES_PER_LINE: u32 = 64;

/// An answer that fits its question.
pub(super) struct Delivery {
    pub asked: RecordType,
    pub reply: Reply,
}

struct Pending {
    question: Rc<Question>,
    inbox: UnboundedSender<Delivery>,
}

struct Shared {
    socket: Stream,
    server: SocketAddr,
    pending: RefCell<HashMap<u16, Pending>>,
    asked: Cell<u32>,
    /// The socket has failed; nobody reads it any more.
    broken: Cell<bool>,
}

/// A socket and its reader, which ends with it.
pub(super) struct Line {
    shared: Rc<Shared>,
    reader: TaskHandle,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Line {
    /// Opens a socket on a port that the kernel picks at random.
    ///
    /// # Errors
    /// The error of `socket(2)`, `bind(2)` or `connect(2)`.
    pub fn open(server: SocketAddr) -> io::Result<Self> {
        let any: SocketAddr = match server {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = std::net::UdpSocket::bind(any)?;
        // Connected, so datagrams of others never arrive and a closed port is told.
        socket.connect(server)?;
        socket.set_nonblocking(true)?;
        let shared = Rc::new(Shared {
            socket: Stream::new(socket.into()),
            server,
            pending: RefCell::default(),
            asked: Cell::new(0),
            broken: Cell::new(false),
        });
        let reader = spawn(read_answers(Rc::clone(&shared)));
        Ok(Self { shared, reader })
    }

    /// Whether a further query may use the socket.
    pub fn is_open(&self) -> bool {
        !self.shared.broken.get() && self.shared.asked.get() < QUERIES_PER_LINE
    }

    /// Files a question; its answer will go to the inbox, once.
    pub fn register(line: &Rc<Self>, question: &Rc<Question>, inbox: &UnboundedSender<Delivery>) -> Ticket {
        let mut pending = line.shared.pending.borrow_mut();
        // At most QUERIES_PER_LINE ids are taken, so this ends soon.
        let id = loop {
            let id = random::query_id();
            if !pending.contains_key(&id) {
                break id;
            }
        };
        line.shared.asked.set(line.shared.asked.get() + 1);
        pending.insert(id, Pending { question: Rc::clone(question), inbox: inbox.clone() });
        let query = question.query(id).into();
        Ticket { line: Rc::clone(line), question: Rc::clone(question), id, query }
    }
}

/// A question's place on a [`Line`]; the answer is no longer awaited once it is dropped.
pub(super) struct Ticket {
    line: Rc<Line>,
    question: Rc<Question>,
    id: u16,
    query: Box<[u8]>,
}

impl Ticket {
    /// Sends the query, perhaps again. Whether that went well.
    pub fn send(&self) -> bool {
        let shared = &self.line.shared;
        // Tried at once: a datagram socket is ready to send from its beginning.
        match os::io::send(shared.socket.as_fd(), &self.query) {
            Ok(sent) => sent == self.query.len(),
            Err(error) => {
                log(format_args!("send() failed ({error}) while resolving, resolver: {}", shared.server));
                shared.broken.set(true);
                false
            }
        }
    }

    /// Whether an answer can still arrive here.
    pub fn is_alive(&self) -> bool {
        !self.line.shared.broken.get()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut pending = self.line.shared.pending.borrow_mut();
        // Once answered, the id may belong to another question.
        if pending.get(&self.id).is_some_and(|query| Rc::ptr_eq(&query.question, &self.question)) {
            pending.remove(&self.id);
        }
    }
}

/// Reads answers and hands them out until the socket fails.
async fn read_answers(shared: Rc<Shared>) {
    let mut datagram = Vec::with_capacity(MAX_DATAGRAM);
    loop {
        datagram.clear();
        match poll_fn(|cx| shared.socket.poll_recv_datagram(cx, &mut datagram, MAX_DATAGRAM)).await {
            Ok(_) => {
                if let Err(fault) = shared.deliver(&datagram) {
                    log(format_args!("{fault}"));
                }
            }
            Err(error) => {
                log(format_args!("recv() failed ({error}) while resolving, resolver: {}", shared.server));
                break;
            }
        }
    }
    shared.broken.set(true);
}

impl Shared {
    fn deliver(&self, message: &[u8]) -> Result<(), Fault> {
        let id = message::id_of(message).ok_or(Fault::Short)?;
        let mut pending = self.pending.borrow_mut();
        let Some(query) = pending.get(&id) else {
            let meant = pending.iter().find(|(_, query)| message::carries(message, &query.question));
            return Err(match meant {
                Some((expected, query)) => {
                    Fault::Ident { id, name: query.question.name.clone(), expected: *expected }
                }
                None => Fault::Unexpected(message::asked_name(message)),
            });
        };
        let reply = message::read(message, Transport::Udp, &query.question)?;
        let asked = query.question.record_type;
        // A lookup that has just ended listens no more; that is no fault.
        let _ = query.inbox.send(Delivery { asked, reply });
        pending.remove(&id);
        Ok(())
    }
}
