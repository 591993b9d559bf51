//! Origins that speak FastCGI, uwsgi, SCGI or memcached in the place of HTTP/1.
//!
//! A request is kept as if it were an HTTP one: `METHOD URI PROTOCOL` from the variables that carry the names, all
//! variables in the place of header fields.

use std::io::Write;

use super::{Connection, Speech};
use crate::message::{Ending, Framing, Message, Reader, WireError};
use crate::text::latin1;

const END_REQUEST: u8 = 3;
const PARAMS: u8 = 4;
const STDIN: u8 = 5;
const STDOUT: u8 = 6;
const STDERR: u8 = 7;

impl Connection<'_> {
    /// Reads a request of a protocol other than HTTP/1 with its body.
    pub(super) fn gateway_request(&mut self) -> Result<Message, WireError> {
        match self.spec.speech {
            Speech::Http | Speech::Dns => self.reader.head(),
            Speech::Tcp => Ok(connection()),
            Speech::Fastcgi => fastcgi(&mut self.reader),
            Speech::Uwsgi => uwsgi(&mut self.reader),
            Speech::Scgi => scgi(&mut self.reader),
            Speech::Memcached => memcached(&mut self.reader),
        }
    }

    /// Writes a part of the answer as the protocol wraps it.
    pub(super) fn wrapped(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        if self.spec.speech == Speech::Fastcgi {
            self.records(STDOUT, bytes)?;
        } else {
            self.stream.write_all(bytes)?;
        }
        Ok(())
    }

    /// Writes to the error log of the server, where the protocol can.
    pub(super) fn stderr(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        self.records(STDERR, bytes)
    }

    /// Writes what ends an answer.
    pub(super) fn gateway_end(&mut self) -> Result<(), WireError> {
        if self.spec.speech == Speech::Fastcgi {
            let mut end = record(STDOUT, b"");
            end.extend_from_slice(&record(END_REQUEST, &[0; 8]));
            self.stream.write_all(&end)?;
        }
        Ok(())
    }

    fn records(&mut self, kind: u8, bytes: &[u8]) -> Result<(), WireError> {
        for content in bytes.chunks(u16::MAX as usize) {
            self.stream.write_all(&record(kind, content))?;
        }
        Ok(())
    }
}

fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = (content.len() as u16).to_be_bytes();
    // Padded by three bytes, which no reader may depend on.
    let padding = if content.is_empty() { 0 } else { 3 };
    let mut record = vec![1, kind, 0, 1, high, low, padding, 0];
    record.extend_from_slice(content);
    record.extend_from_slice(&[0; 3][..usize::from(padding)]);
    record
}

fn fastcgi(reader: &mut Reader) -> Result<Message, WireError> {
    let (mut params, mut body, mut protocol) = (Vec::new(), Vec::new(), "FastCGI");
    loop {
        let header = exactly(reader, 8)?;
        let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let mut content = exactly(reader, length + usize::from(header[6]))?;
        content.truncate(length);
        match header[1] {
            STDIN if content.is_empty() => break,
            STDIN => body.extend_from_slice(&content),
            PARAMS => params.extend_from_slice(&content),
            _ if content.get(2) == Some(&1) => protocol = "FastCGI+keep",
            _ => {}
        }
    }
    let mut rest = &params[..];
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let (name, value) = (length(&mut rest)?, length(&mut rest)?);
        fields.push((take(&mut rest, name)?, take(&mut rest, value)?));
    }
    Ok(message(fields, body, protocol))
}

fn length(rest: &mut &[u8]) -> Result<usize, WireError> {
    let first = take(rest, 1)?;
    let first = first.first().copied().unwrap_or_default();
    if first < 128 {
        return Ok(usize::from(first));
    }
    let more = take(rest, 3)?;
    Ok(more.iter().fold(usize::from(first & 127), |length, byte| length << 8 | usize::from(*byte)))
}

fn uwsgi(reader: &mut Reader) -> Result<Message, WireError> {
    let header = exactly(reader, 4)?;
    let packet = exactly(reader, usize::from(u16::from_le_bytes([header[1], header[2]])))?;
    let mut rest = &packet[..];
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let mut text = || {
            let length = take(&mut rest, 2)?;
            take(&mut rest, usize::from(length[0]) | usize::from(length[1]) << 8)
        };
        fields.push((text()?, text()?));
    }
    let body = told_body(reader, &fields)?;
    Ok(message(fields, body, &format!("uwsgi/{}/{}", header[0], header[3])))
}

fn scgi(reader: &mut Reader) -> Result<Message, WireError> {
    let mut length = 0;
    loop {
        match exactly(reader, 1)?.first() {
            Some(b':') => break,
            Some(digit @ b'0'..=b'9') if length < 1 << 20 => length = length * 10 + usize::from(digit - b'0'),
            other => return Err(WireError::Malformed(format!("netstring {other:?}"))),
        }
    }
    let packet = exactly(reader, length + 1)?;
    let texts: Vec<Vec<u8>> = packet[..length].split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    let fields: Vec<_> =
        texts.chunks(2).filter_map(|pair| Some((pair.first()?.clone(), pair.get(1)?.clone()))).collect();
    let body = told_body(reader, &fields)?;
    Ok(message(fields, body, "SCGI"))
}

/// `get KEY`.
fn memcached(reader: &mut Reader) -> Result<Message, WireError> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.extend_from_slice(&exactly(reader, 1)?);
    }
    let line = latin1(&line);
    let key = line.trim_end().strip_prefix("get ").ok_or_else(|| WireError::Malformed(line.clone()))?;
    Ok(Message { start: format!("GET {key} memcached"), ..message(Vec::new(), Vec::new(), "") })
}

fn told_body(reader: &mut Reader, fields: &[(Vec<u8>, Vec<u8>)]) -> Result<Vec<u8>, WireError> {
    let told = fields.iter().find(|(name, _)| name == b"CONTENT_LENGTH");
    let length = told.and_then(|(_, value)| latin1(value).parse().ok()).unwrap_or(0);
    reader.bytes(length)
}

fn message(fields: Vec<(Vec<u8>, Vec<u8>)>, body: Vec<u8>, protocol: &str) -> Message {
    let headers: Vec<(String, String)> =
        fields.iter().map(|(name, value)| (latin1(name), latin1(value))).collect();
    let value = |wanted: &str| {
        headers.iter().find(|(name, _)| name == wanted).map_or("-", |(_, value)| value.as_str())
    };
    let start = format!("{} {} {protocol}", value("REQUEST_METHOD"), value("REQUEST_URI"));
    Message { start, headers, body, framing: Framing::None, ending: Ending::Whole, trailers: Vec::new() }
}

fn exactly(reader: &mut Reader, length: usize) -> Result<Vec<u8>, WireError> {
    let bytes = reader.bytes(length)?;
    if bytes.len() < length {
        return Err(WireError::Closed);
    }
    Ok(bytes)
}

fn take(rest: &mut &[u8], length: usize) -> Result<Vec<u8>, WireError> {
    let short = || WireError::Malformed("a length beyond the end".into());
    let (taken, left) = rest.split_at_checked(length).ok_or_else(short)?;
    *rest = left;
    Ok(taken.to_vec())
}

/// What stands for a connection over which nothing was said yet.
fn connection() -> Message {
    Message {
        start: "CONNECTION *".into(),
        headers: Vec::new(),
        body: Vec::new(),
        framing: Framing::None,
        ending: Ending::Whole,
        trailers: Vec::new(),
    }
}
