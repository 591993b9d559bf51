//! The scripted client: one connection on which bytes are written and answers read.
//!
//! It never corrects what it is told to send, and keeps the methods that it sent to know which answers
//! have no body.

use std::collections::VecDeque;
use std::io::Write;
use std::time::Duration;

use crate::message::{Message, Reader, Role, Stream, WireError};

/// How long an answer may take unless the script says otherwise.
pub const PATIENCE: Duration = Duration::from_secs(8);

/// A connection to the server under test.
#[derive(Debug)]
pub struct Client {
    stream: Stream,
    reader: Reader,
    methods: VecDeque<String>,
}

impl Client {
    /// Connects to `host:port` or a Unix socket.
    ///
    /// # Errors
    /// The kernel's.
    pub fn connect(address: &str) -> std::io::Result<Self> {
        let stream = Stream::connect(address)?;
        stream.limit(PATIENCE, PATIENCE)?;
        let reader = Reader::new(stream.another()?, PATIENCE);
        Ok(Self { stream, reader, methods: VecDeque::new() })
    }

    /// Notes that a request with this method is on its way.
    pub fn expect_answer_to(&mut self, method: &str) {
        self.methods.push_back(method.to_owned());
    }

    /// Writes bytes. That the server has closed is no error here: it may have answered before.
    ///
    /// # Errors
    /// When the server reads nothing for [`PATIENCE`].
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        self.stream.limit(PATIENCE, PATIENCE)?;
        match self.stream.write_all(bytes) {
            Ok(()) => Ok(()),
            Err(error) => match error.kind() {
                std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset => {
                    self.reader.was_reset = true;
                    Ok(())
                }
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {
                    Err(WireError::TimedOut(PATIENCE.as_millis()))
                }
                _ => Err(error.into()),
            },
        }
    }

    /// Closes the sending half.
    pub fn end_sending(&mut self) {
        self.stream.shut(std::net::Shutdown::Write);
    }

    /// Gives up the last request, which only HTTP/2 can.
    ///
    /// # Errors
    /// Over anything else.
    pub fn reset(&mut self) -> Result<(), WireError> {
        match &self.stream {
            Stream::H2(stream) => {
                stream.reset();
                Ok(())
            }
            _ => Err(std::io::Error::from(std::io::ErrorKind::Unsupported).into()),
        }
    }

    /// Reads the next answer, also an interim one.
    ///
    /// # Errors
    /// See [`WireError`].
    pub fn answer(&mut self) -> Result<Message, WireError> {
        self.reader.begin_with(PATIENCE);
        let mut answer = self.reader.head()?;
        let status = answer.status().ok_or_else(|| WireError::Malformed(answer.start.clone()))?;
        let interim = (100..=199).contains(&status) && status != 101;
        let opens = (200..=299).contains(&status);
        let to_head =
            self.methods.front().is_some_and(|method| method == "HEAD" || (method == "CONNECT" && opens));
        if !interim {
            self.methods.pop_front();
        }
        self.reader.body(&mut answer, if to_head { Role::AnswerToHead } else { Role::Answer })?;
        Ok(answer)
    }

    /// Reads exactly `length` bytes, or fewer when the server closes before.
    ///
    /// # Errors
    /// See [`WireError`].
    pub fn bytes(&mut self, length: usize) -> Result<Vec<u8>, WireError> {
        self.reader.begin_with(PATIENCE);
        self.reader.bytes(length)
    }

    /// Reads until the server closes.
    ///
    /// # Errors
    /// [`WireError::TimedOut`] when it does not.
    pub fn rest(&mut self) -> Result<Vec<u8>, WireError> {
        self.rest_within(PATIENCE)
    }

    /// Whether the server reset the connection instead of ending it in order.
    #[must_use]
    pub fn was_reset(&self) -> bool {
        self.reader.was_reset
    }

    /// Like [`Client::rest`], with a time of its own.
    ///
    /// # Errors
    /// [`WireError::TimedOut`] when the server does not close within `time`.
    pub fn rest_within(&mut self, time: Duration) -> Result<Vec<u8>, WireError> {
        self.reader.begin_with(time);
        self.reader.rest()
    }

    /// Whether the server leaves the connection open and silent for `time`.
    #[must_use]
    pub fn stays_open(&mut self, time: Duration) -> bool {
        self.reader.begin_with(time);
        matches!(self.reader.some(), Err(WireError::TimedOut(_)))
    }
}
