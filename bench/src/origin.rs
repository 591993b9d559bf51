//! The origin behind the proxies: HTTP/1.1, keep-alive, four answers made once at start; or unary calls of gRPC.
//! It answers a request as soon as its empty line is there and looks at nothing but the path.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};

use crate::http2::GrpcOrigin;

/// The paths that the origin knows, with the bytes of body behind each.
pub const BODIES: [(&str, usize); 4] =
    [("/100", 100), ("/1k", 1024), ("/16k", 16 * 1024), ("/1m", 1024 * 1024)];

const NOT_FOUND: &[u8] = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";

/// A request head longer than this ends its connection, in bytes.
const LONGEST_HEAD: usize = 16 * 1024;

/// A listening socket and the connections that came from it.
pub struct Origin {
    listener: TcpListener,
    first_token: usize,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    answers: Vec<(&'static str, Vec<u8>)>,
    buffer: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    pending: Option<Pending>,
    grpc: Option<GrpcOrigin>,
}

/// An answer that did not fit the socket's buffer at once.
struct Pending {
    answer: usize,
    sent: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Lives,
    Ended,
}

impl Origin {
    /// Listens on `address`; uses `first_token` and all tokens above it.
    ///
    /// # Errors
    /// What the system says on `bind`, `listen` or `epoll_ctl`.
    pub fn listen(address: SocketAddr, first_token: usize, registry: &Registry) -> io::Result<Self> {
        let mut listener = TcpListener::bind(address)?;
        registry.register(&mut listener, Token(first_token), Interest::READABLE)?;
        let answers = BODIES.iter().map(|&(path, len)| (path, answer(len))).collect();
        Ok(Self {
            listener,
            first_token,
            connections: Vec::new(),
            free: Vec::new(),
            answers,
            buffer: vec![0; LONGEST_HEAD],
        })
    }

    /// The address that it listens on, with the port that the system chose.
    ///
    /// # Errors
    /// What the system says on `getsockname`.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Handles one event of a token at or above the first one.
    ///
    /// # Errors
    /// Only what concerns the listening socket; a connection that fails is closed.
    pub fn handle(&mut self, token: Token, registry: &Registry) -> io::Result<()> {
        let Some(slot) = token.0.checked_sub(self.first_token + 1) else {
            return self.accept(registry);
        };
        let Some(Some(connection)) = self.connections.get_mut(slot) else {
            return Ok(());
        };
        if connection.turn(&self.answers, &mut self.buffer).unwrap_or(Fate::Ended) == Fate::Ended {
            self.connections[slot] = None;
            self.free.push(slot);
        }
        Ok(())
    }

    fn accept(&mut self, registry: &Registry) -> io::Result<()> {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let slot = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            let token = Token(self.first_token + 1 + slot);
            registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
            self.connections[slot] =
                Some(Connection { stream, request: Vec::new(), pending: None, grpc: None });
        }
    }
}

impl Connection {
    /// Goes on with what is pending, then reads and answers until the socket has no more.
    fn turn(&mut self, answers: &[(&str, Vec<u8>)], buffer: &mut [u8]) -> io::Result<Fate> {
        if let Some(Pending { answer, sent }) = self.pending.take() {
            self.send(answers, answer, sent)?;
        }
        while self.pending.is_none() {
            let got = match self.stream.read(buffer) {
                Ok(0) => return Ok(Fate::Ended),
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Fate::Lives),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let bytes = buffer.get(..got).unwrap_or_default();
            if self.grpc.is_some() || bytes.starts_with(b"PRI ") {
                self.request.extend_from_slice(bytes);
                let answer = self.grpc.get_or_insert_default().answer(&mut self.request);
                self.stream.write_all(&answer)?;
                continue;
            }
            if self.request.is_empty() && bytes.ends_with(b"\r\n\r\n") {
                self.answer(answers, bytes)?;
            } else {
                self.request.extend_from_slice(bytes);
                if self.request.len() > LONGEST_HEAD {
                    return Ok(Fate::Ended);
                }
                if self.request.ends_with(b"\r\n\r\n") {
                    let request = std::mem::take(&mut self.request);
                    self.answer(answers, &request)?;
                }
            }
        }
        Ok(Fate::Lives)
    }

    fn answer(&mut self, answers: &[(&str, Vec<u8>)], request: &[u8]) -> io::Result<()> {
        let path = request.split(|&byte| byte == b' ').nth(1).unwrap_or_default();
        let known = answers.iter().position(|(name, _)| name.as_bytes() == path);
        match known {
            Some(answer) => self.send(answers, answer, 0),
            None => self.stream.write(NOT_FOUND).map(drop),
        }
    }

    fn send(&mut self, answers: &[(&str, Vec<u8>)], answer: usize, mut sent: usize) -> io::Result<()> {
        let bytes = answers.get(answer).map_or(&[][..], |(_, bytes)| bytes);
        while sent < bytes.len() {
            match self.stream.write(bytes.get(sent..).unwrap_or_default()) {
                Ok(more) => sent += more,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.pending = Some(Pending { answer, sent });
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn answer(len: usize) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Type: text/plain\r\n\
         Content-Length: {len}\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\nETag: \"{len:x}\"\r\n\
         Cache-Control: max-age=60\r\n\r\n"
    );
    let mut bytes = head.into_bytes();
    bytes.resize(bytes.len() + len, b'x');
    bytes
}
