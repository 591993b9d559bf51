//! HTTP/1 messages as they came over a connection, for the scripted client and the scripted origin.
//!
//! Nothing is normalised: names keep their case, order and duplicates, and the framing is kept beside the body.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::h2::H2Stream;
use crate::text::{find, latin1};
use crate::tls::TlsStream;

/// The longest head or chunk line that is read.
const HEAD_LIMIT: usize = 1 << 20;

/// A connection over TCP or a Unix socket.
#[derive(Debug)]
pub enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
    /// Over TCP and TLS.
    Tls(TlsStream),
    /// Over HTTP/2.
    H2(H2Stream),
}

impl Stream {
    /// Connects to `host:port`, to the Unix socket when the address begins with `/` or `unix:`, or under TLS when it
    /// begins with `tls:`, or over HTTP/2 when it begins with `h2:`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn connect(address: &str) -> std::io::Result<Self> {
        if let Some(address) = address.strip_prefix("h2:") {
            return H2Stream::connect(address).map(Self::H2);
        }
        if let Some(address) = address.strip_prefix("tls:") {
            return TlsStream::connect(address).map(Self::Tls);
        }
        let path = address.strip_prefix("unix:").unwrap_or(address);
        if path.starts_with('/') {
            return UnixStream::connect(path).map(Self::Unix);
        }
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self::Tcp(stream))
    }

    /// A second handle to the same connection.
    ///
    /// # Errors
    /// The kernel's.
    pub fn another(&self) -> std::io::Result<Self> {
        match self {
            Self::Tcp(stream) => stream.try_clone().map(Self::Tcp),
            Self::Unix(stream) => stream.try_clone().map(Self::Unix),
            Self::Tls(stream) => Ok(Self::Tls(stream.clone())),
            Self::H2(stream) => Ok(Self::H2(stream.clone())),
        }
    }

    /// How long one read and one write may wait.
    ///
    /// # Errors
    /// The kernel's.
    pub fn limit(&self, read: Duration, write: Duration) -> std::io::Result<()> {
        // A time-out of zero is refused by the standard library.
        let (read, write) = (read.max(Duration::from_millis(1)), write.max(Duration::from_millis(1)));
        match self {
            Self::Tcp(stream) => {
                stream.set_read_timeout(Some(read)).and_then(|()| stream.set_write_timeout(Some(write)))
            }
            Self::Unix(stream) => {
                stream.set_read_timeout(Some(read)).and_then(|()| stream.set_write_timeout(Some(write)))
            }
            Self::Tls(stream) => stream.with_socket(|stream| {
                stream.set_read_timeout(Some(read)).and_then(|()| stream.set_write_timeout(Some(write)))
            }),
            Self::H2(stream) => stream.with_stream(|stream| stream.limit(read, write)),
        }
    }

    /// Closes the given directions; what the kernel says about it is of no interest.
    pub fn shut(&self, how: std::net::Shutdown) {
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(how),
            Self::Unix(stream) => stream.shutdown(how),
            Self::Tls(stream) => stream.with_socket(|stream| stream.shutdown(how)),
            Self::H2(stream) => {
                stream.end_sending();
                Ok(())
            }
        };
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buf),
            Self::Unix(stream) => stream.read(buf),
            Self::Tls(stream) => stream.read(buf),
            Self::H2(stream) => stream.read(buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(buf),
            Self::Unix(stream) => stream.write(buf),
            Self::Tls(stream) => stream.write(buf),
            Self::H2(stream) => stream.write(buf),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Why a message could not be read.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Nothing came in time.
    #[error("nothing came within {0} ms")]
    TimedOut(u128),
    /// The peer closed before the first byte of a message.
    #[error("connection closed without an answer")]
    Closed,
    /// The peer closed within a head.
    #[error("connection closed within a head: {0:?}")]
    HalfHead(String),
    /// What came is no HTTP/1 message.
    #[error("not HTTP/1: {0:?}")]
    Malformed(String),
    /// Any other failure.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// How the end of a body was marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// By `Content-Length`.
    Length,
    /// By the chunked coding.
    Chunked,
    /// By the end of the connection.
    Close,
}

/// Whether the body came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// As its framing promised.
    Whole,
    /// The connection ended before.
    Truncated,
}

/// A request or an answer.
#[derive(Debug, Clone)]
pub struct Message {
    /// The request line or status line; empty for an answer of HTTP/0.9.
    pub start: String,
    /// Names and values in the order in which they came.
    pub headers: Vec<(String, String)>,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// How the body's end was marked.
    pub framing: Framing,
    /// Whether it came to its end.
    pub ending: Ending,
    /// The trailers of a chunked body.
    pub trailers: Vec<(String, String)>,
}

impl Message {
    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// All values of a header.
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }

    /// The status code of an answer.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.start.strip_prefix("HTTP/")?.split(' ').nth(1)?.parse().ok()
    }

    /// The head as it came.
    #[must_use]
    pub fn head(&self) -> String {
        let mut head = format!("{}\n", self.start);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\n"));
        }
        head
    }
}

/// Which body rules apply to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A request: no body unless it says so.
    Request,
    /// An answer: a body unless its status forbids it.
    Answer,
    /// An answer to HEAD or CONNECT: never a body.
    AnswerToHead,
}

/// The reading half of a connection with what was read ahead.
#[derive(Debug)]
pub struct Reader {
    stream: Stream,
    ahead: Vec<u8>,
    deadline: Instant,
    patience: Duration,
    /// The other side did not end the connection in order but reset it.
    pub was_reset: bool,
}

impl Reader {
    /// Reads from `stream`, each message for at most `patience`.
    #[must_use]
    pub fn new(stream: Stream, patience: Duration) -> Self {
        Self { stream, ahead: Vec::new(), deadline: Instant::now() + patience, patience, was_reset: false }
    }

    /// Begins a new message: the patience counts from now.
    pub fn begin(&mut self) {
        self.deadline = Instant::now() + self.patience;
    }

    /// Changes the patience and begins anew.
    pub fn begin_with(&mut self, patience: Duration) {
        self.patience = patience;
        self.begin();
    }

    /// What was read and not yet used.
    #[must_use]
    pub fn ahead(&self) -> &[u8] {
        &self.ahead
    }

    /// Reads a head: the start line and the headers.
    ///
    /// # Errors
    /// See [`WireError`].
    pub fn head(&mut self) -> Result<Message, WireError> {
        let end = loop {
            if let Some(at) = find(&self.ahead, b"\r\n\r\n") {
                break at + 4;
            }
            if self.ahead.len() > HEAD_LIMIT {
                return Err(WireError::Malformed("head without an end".into()));
            }
            if self.fill()? == 0 {
                return Err(match self.ahead.as_slice() {
                    [] => WireError::Closed,
                    half => WireError::HalfHead(latin1(half)),
                });
            }
        };
        let text = latin1(&self.ahead.drain(..end).collect::<Vec<u8>>());
        let mut lines = text.trim_end_matches("\r\n").split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let headers = lines.map(header).collect::<Result<Vec<_>, _>>()?;
        Ok(Message {
            start,
            headers,
            body: Vec::new(),
            framing: Framing::None,
            ending: Ending::Whole,
            trailers: Vec::new(),
        })
    }

    /// Reads the body that belongs to a head.
    ///
    /// # Errors
    /// See [`WireError`]. A body that is cut off is no error, but [`Ending::Truncated`].
    pub fn body(&mut self, message: &mut Message, role: Role) -> Result<(), WireError> {
        let bodiless = matches!(message.status(), Some(100..=199 | 204 | 304));
        message.framing = if role == Role::AnswerToHead || role == Role::Answer && bodiless {
            Framing::None
        } else if message.header("Transfer-Encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
            Framing::Chunked
        } else if message.header("Content-Length").is_some() {
            Framing::Length
        } else if role == Role::Answer {
            Framing::Close
        } else {
            Framing::None
        };
        match message.framing {
            Framing::None => Ok(()),
            Framing::Length => {
                let length = message.header("Content-Length").unwrap_or_default().trim();
                let length =
                    length.parse().map_err(|_| WireError::Malformed(format!("Content-Length: {length}")))?;
                self.exactly(length, message)
            }
            Framing::Chunked => self.chunks(message),
            Framing::Close => {
                message.body = self.rest()?;
                Ok(())
            }
        }
    }

    /// Reads until the peer closes.
    ///
    /// # Errors
    /// [`WireError::TimedOut`] when it does not. A reset counts as a close.
    pub fn rest(&mut self) -> Result<Vec<u8>, WireError> {
        while self.fill()? != 0 {}
        Ok(std::mem::take(&mut self.ahead))
    }

    /// Reads `length` bytes, or fewer when the peer closes before.
    ///
    /// # Errors
    /// See [`WireError`].
    pub fn bytes(&mut self, length: usize) -> Result<Vec<u8>, WireError> {
        while self.ahead.len() < length && self.fill()? != 0 {}
        let length = length.min(self.ahead.len());
        Ok(self.ahead.drain(..length).collect())
    }

    /// Reads what there is, at least one byte unless the peer closed.
    ///
    /// # Errors
    /// See [`WireError`].
    pub fn some(&mut self) -> Result<Vec<u8>, WireError> {
        if self.ahead.is_empty() {
            self.fill()?;
        }
        Ok(std::mem::take(&mut self.ahead))
    }

    fn exactly(&mut self, length: usize, message: &mut Message) -> Result<(), WireError> {
        let got = self.bytes(length)?;
        if got.len() < length {
            message.ending = Ending::Truncated;
        }
        message.body.extend_from_slice(&got);
        Ok(())
    }

    fn chunks(&mut self, message: &mut Message) -> Result<(), WireError> {
        loop {
            let Some(line) = self.line()? else {
                message.ending = Ending::Truncated;
                return Ok(());
            };
            let digits = line.split(';').next().unwrap_or_default().trim();
            let length = usize::from_str_radix(digits, 16)
                .map_err(|_| WireError::Malformed(format!("chunk {line}")))?;
            if length == 0 {
                break;
            }
            self.exactly(length, message)?;
            if message.ending == Ending::Truncated {
                return Ok(());
            }
            match self.line()?.as_deref() {
                Some("") => {}
                None => {
                    message.ending = Ending::Truncated;
                    return Ok(());
                }
                Some(other) => return Err(WireError::Malformed(format!("after a chunk: {other}"))),
            }
        }
        loop {
            match self.line()?.as_deref() {
                Some("") => return Ok(()),
                Some(line) => message.trailers.push(header(line)?),
                None => {
                    message.ending = Ending::Truncated;
                    return Ok(());
                }
            }
        }
    }

    /// A line without its CRLF, `None` when the peer closed before its end.
    fn line(&mut self) -> Result<Option<String>, WireError> {
        loop {
            if let Some(at) = find(&self.ahead, b"\r\n") {
                let line: Vec<u8> = self.ahead.drain(..at + 2).collect();
                return Ok(Some(latin1(line.strip_suffix(b"\r\n").unwrap_or(&line))));
            }
            if self.ahead.len() > HEAD_LIMIT {
                return Err(WireError::Malformed("line without an end".into()));
            }
            if self.fill()? == 0 {
                return Ok(None);
            }
        }
    }

    /// Reads once; 0 is the end.
    fn fill(&mut self) -> Result<usize, WireError> {
        let timed_out = || WireError::TimedOut(self.patience.as_millis());
        let mut buffer = [0; 64 << 10];
        let read = loop {
            let left = self.deadline.checked_duration_since(Instant::now()).ok_or_else(timed_out)?;
            self.stream.limit(left, self.patience)?;
            match self.stream.read(&mut buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        match read {
            Ok(length) => {
                self.ahead.extend_from_slice(buffer.get(..length).unwrap_or_default());
                Ok(length)
            }
            Err(error) => match error.kind() {
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => Err(timed_out()),
                std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe => {
                    self.was_reset = true;
                    Ok(0)
                }
                _ => Err(error.into()),
            },
        }
    }
}

fn header(line: &str) -> Result<(String, String), WireError> {
    let (name, value) = line.split_once(':').ok_or_else(|| WireError::Malformed(line.to_owned()))?;
    Ok((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()))
}
