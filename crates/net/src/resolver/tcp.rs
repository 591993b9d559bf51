//! A query over TCP, for an answer that did not fit a datagram (RFC 1035, 4.2.2).
//!
//! One connection per query; how many there are at a time is limited.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::AbortHandle;

use super::line::Delivery;
use super::message::{self, Question, Transport};
use super::{log, random};
use crate::timer;

/// A query under way; dropping it closes the connection.
pub(super) struct TcpQuery(AbortHandle);

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
            match timer::within(self.timeout_ms, exchange(server, &question)).await {
                Some(Ok(delivery)) => drop(inbox.send(delivery)),
                Some(Err(error)) => log(format_args!("{error} while resolving, resolver: {server}")),
                None => {}
            }
        };
        TcpQuery(tokio::task::spawn_local(asking).abort_handle())
    }
}

async fn exchange(server: SocketAddr, question: &Question) -> io::Result<Delivery> {
    let stream = TcpStream::connect(server).await?;
    let id = random::query_id();
    let query = question.query(id);
    let mut framed = Vec::with_capacity(2 + query.len());
    // A question has at most 261 bytes.
    framed.extend_from_slice(&(query.len() as u16).to_be_bytes());
    framed.extend_from_slice(&query);
    write_all(&stream, &framed).await?;
    let mut buffer = Vec::new();
    loop {
        let mut length = [0; 2];
        read_exact(&stream, &mut length).await?;
        buffer.resize(usize::from(u16::from_be_bytes(length)), 0);
        read_exact(&stream, &mut buffer).await?;
        if message::id_of(&buffer) != Some(id) {
            continue;
        }
        match message::read(&buffer, Transport::Tcp, question) {
            Ok(reply) => return Ok(Delivery { asked: question.record_type, reply }),
            Err(fault) => log(format_args!("{fault}")),
        }
    }
}

pub(super) async fn write_all(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

pub(super) async fn read_exact(stream: &TcpStream, mut into: &mut [u8]) -> io::Result<()> {
    while !into.is_empty() {
        stream.readable().await?;
        match stream.try_read(into) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => into = into.get_mut(read..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
