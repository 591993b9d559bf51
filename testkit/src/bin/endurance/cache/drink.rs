//! A client that takes an answer piece by piece, as slowly as it likes, and checks each.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::ground::{PATIENCE, text};

/// An answer that is being read, on a connection of its own.
pub struct Drink {
    stream: TcpStream,
    /// Status line and fields.
    pub head: String,
    ahead: Vec<u8>,
}

impl Drink {
    /// Connects.
    pub fn connect(address: &str) -> Result<Self, String> {
        let stream = TcpStream::connect(address).map_err(text)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(text)?;
        Ok(Self { stream, head: String::new(), ahead: Vec::new() })
    }

    /// Sends a request by HTTP/1.0, so that the body comes without frames; `fields` end with CRLF each.
    pub fn ask(&mut self, target: &str, fields: &str) -> Result<(), String> {
        let request = format!("GET {target} HTTP/1.0\r\nHost: a\r\n{fields}\r\n");
        self.stream.write_all(request.as_bytes()).map_err(text)
    }

    /// Reads the head.
    pub fn read_head(&mut self) -> Result<(), String> {
        let mut all = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            if let Some(at) = testkit::text::find(&all, b"\r\n\r\n") {
                self.ahead = all.split_off(at + 4);
                self.head = String::from_utf8_lossy(&all).into_owned();
                return Ok(());
            }
            match self.stream.read(&mut buffer).map_err(text)? {
                0 => return Err(format!("closed after {} bytes of the head", all.len())),
                count => all.extend_from_slice(&buffer[..count]),
            }
        }
    }

    /// Bytes of the body; zero at its end.
    pub fn some(&mut self, buffer: &mut [u8]) -> Result<usize, String> {
        if self.ahead.is_empty() {
            return self.stream.read(buffer).map_err(text);
        }
        let count = self.ahead.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.ahead[..count]);
        self.ahead.drain(..count);
        Ok(count)
    }

    /// Reads the rest of the body, which must be `expected`.
    pub fn finish(&mut self, expected: &[u8]) -> Result<(), String> {
        if !self.head.starts_with("HTTP/1.1 200") {
            return Err(format!("answered {:?}", self.head.lines().next().unwrap_or_default()));
        }
        let mut buffer = vec![0; 64 << 10];
        let mut at = 0;
        loop {
            let count = self.some(&mut buffer).map_err(|error| format!("after {at} bytes: {error}"))?;
            if count == 0 {
                let whole = expected.len();
                return if at == whole { Ok(()) } else { Err(format!("{at} bytes came of {whole}")) };
            }
            if expected.get(at..at + count) != buffer.get(..count) {
                return Err(format!("a wrong byte among those behind {at}"));
            }
            at += count;
        }
    }
}
