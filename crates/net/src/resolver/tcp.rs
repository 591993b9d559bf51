//! A query over TCP, for an answer that did not fit a datagram (RFC 1035, 4.2.2).
//!
//! One connection per query; how many there are at a time is limited.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::rc::Rc;

use os::socket::{ConnectState, Kind, PeerAddr};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedSender;

use super::line::Delivery;
use super::message::{self, Question, Transport};
use super::{log, random};
use crate::event_loop::{TaskHandle, spawn};
use crate::{Deadline, Stream};

/// A query under way; dropping it closes the connection.
pub(super) struct TcpQuery(TaskHandle);

impl Drop for TcpQuery {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Where to ask and for how long.
#[derive(Clone)]
pub(super) struct TcpServer {
    pub addr: SocketAddr,
    pub timeout_ms: u64,
    /// Connections that may still be opened.
    pub slots: Rc<Semaphore>,
}

impl TcpServer {
    /// Asks; the answer goes to the inbox, a failure only to the log.
    pub fn ask(self, question: Rc<Question>, inbox: UnboundedSender<Delivery>) -> TcpQuery {
        let asking = async move {
            let Ok(_slot) = self.slots.acquire().await else { return };
            let server = self.addr;
            let until = Deadline::new();
            until.set_after(self.timeout_ms);
            match exchange(server, &question, &until).await {
                Ok(delivery) => drop(inbox.send(delivery)),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
                Err(error) => log(format_args!("{error} while resolving, resolver: {server}")),
            }
        };
        TcpQuery(spawn(asking))
    }
}

async fn exchange(server: SocketAddr, question: &Question, until: &Deadline) -> io::Result<Delivery> {
    let addr = PeerAddr::Inet(server);
    let fd = os::socket::open(&addr, Kind::Stream)?;
    let state = os::socket::connect(fd.as_fd(), &addr)?;
    let stream = Stream::new(fd);
    if state == ConnectState::InProgress {
        stream.connected(until).await?;
    }
    let id = random::query_id();
    let query = question.query(id);
    let mut framed = Vec::with_capacity(2 + query.len());
    // A question has at most 261 bytes.
    framed.extend_from_slice(&(query.len() as u16).to_be_bytes());
    framed.extend_from_slice(&query);
    stream.send_all(&framed, until).await?;
    let mut buffer = Vec::new();
    loop {
        read_message(&stream, &mut buffer, until).await?;
        if message::id_of(&buffer) != Some(id) {
            continue;
        }
        match message::read(&buffer, Transport::Tcp, question) {
            Ok(reply) => return Ok(Delivery { asked: question.record_type, reply }),
            Err(fault) => log(format_args!("{fault}")),
        }
    }
}

/// Reads exactly `length` bytes into what is empty then.
pub(super) async fn read_exact(
    stream: &Stream,
    into: &mut Vec<u8>,
    length: usize,
    until: &Deadline,
) -> io::Result<()> {
    into.clear();
    while into.len() < length {
        let missing = length - into.len();
        if stream.recv(into, missing, until).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

/// Reads one message, behind its length.
pub(super) async fn read_message(stream: &Stream, into: &mut Vec<u8>, until: &Deadline) -> io::Result<()> {
    read_exact(stream, into, 2, until).await?;
    let length = into.first_chunk().map_or(0, |length| u16::from_be_bytes(*length));
    read_exact(stream, into, length.into(), until).await
}
