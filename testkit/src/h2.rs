//! HTTP/2 of the scripted client: `to h2:@ADDR1@`, or `h2:tls:alpn=h2:@ADDR1@`.
//!
//! What a script says and expects is HTTP/1's: each request becomes a stream, one after the other, and its answer is told
//! as HTTP/1 would tell it. `Upgrade` becomes an extended CONNECT (RFC 8441), whose 2xx is told as a 101.

use std::collections::VecDeque;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto::h2::hpack::{BlockLimits, Decoder, Encoder, Indexing};
use proto::h2::{
    DEFAULT_FRAME_SIZE, DEFAULT_WINDOW, ErrorCode, Event, FRAME_HEAD, Flags, PREFACE, Receiver, Role,
    SendWindow, Setting, Step, push_data_head, push_headers, push_ping, push_reset, push_settings,
    push_settings_ack, push_window_update,
};

use crate::message::Stream;
use crate::text::{find, latin1};

/// A connection over HTTP/2, shared by its two handles.
#[derive(Clone, Debug)]
pub struct H2Stream(Arc<Mutex<Inner>>);

/// Bytes that the server may have under way on a stream, so that scripts can hold it back.
const WINDOW: u32 = DEFAULT_WINDOW;
const LIMITS: BlockLimits = BlockLimits { field: 1 << 20, total: 1 << 20 };

#[derive(Debug)]
struct Inner {
    stream: Stream,
    receiver: Receiver,
    decoder: Decoder,
    encoder: Encoder,
    /// Bytes of the server's frames that were not looked at.
    input: Vec<u8>,
    /// What the reader of HTTP/1 gets.
    told: VecDeque<u8>,
    /// The number of the last request's stream; even before the first.
    id: u32,
    request: Request,
    answer: Answer,
    windows: [SendWindow; 2],
}

/// How far the request is written.
#[derive(Debug)]
enum Request {
    /// Its head is not complete.
    Head(Vec<u8>),
    /// So many bytes of its body are left.
    Body(usize),
    /// All that is written belongs to the tunnel.
    Tunnel,
}

/// How the answer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// Its head has not come.
    Head,
    /// In chunks.
    Chunked,
    /// As it comes.
    Plain,
    /// It is over, and nothing more is told.
    Over,
    /// The server gave it up.
    Reset,
}

impl H2Stream {
    /// Connects to an address behind `h2:` and says hello.
    ///
    /// # Errors
    /// The kernel's, or that the TLS handshake failed.
    pub fn connect(address: &str) -> Result<Self> {
        let mut stream = Stream::connect(address)?;
        let mut hello = PREFACE.to_vec();
        push_settings(&[Setting::EnablePush(0), Setting::InitialWindowSize(WINDOW)], &mut hello);
        stream.write_all(&hello)?;
        Ok(Self(Arc::new(Mutex::new(Inner {
            stream,
            receiver: Receiver::new(Role::Client, u32::MAX, LIMITS.total),
            decoder: Decoder::default(),
            encoder: Encoder::default(),
            input: Vec::new(),
            told: VecDeque::new(),
            id: 0,
            request: Request::Head(Vec::new()),
            answer: Answer::Over,
            windows: [SendWindow::new(DEFAULT_WINDOW); 2],
        }))))
    }

    /// Does something with the connection below.
    pub fn with_stream<T>(&self, act: impl FnOnce(&Stream) -> T) -> T {
        act(&self.inner().stream)
    }

    /// Ends the sending side of the last stream.
    pub fn end_sending(&self) {
        let mut inner = self.inner();
        let mut frame = Vec::new();
        push_data_head(inner.id, 0, Flags::END_STREAM, &mut frame);
        let _ = inner.stream.write_all(&frame);
    }

    /// Gives up the last stream.
    pub fn reset(&self) {
        let mut inner = self.inner();
        let mut frame = Vec::new();
        push_reset(inner.id, ErrorCode::CANCEL, &mut frame);
        let _ = inner.stream.write_all(&frame);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Read for H2Stream {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        let inner = &mut *self.inner();
        while inner.told.is_empty() {
            match inner.answer {
                Answer::Over if inner.id > 0 => return Ok(0),
                Answer::Reset => return Err(ErrorKind::ConnectionReset.into()),
                _ => {
                    if inner.receive()? == 0 {
                        return Ok(0);
                    }
                }
            }
        }
        inner.told.read(buf)
    }
}

impl Write for H2Stream {
    fn write(&mut self, buf: &[u8]) -> Result<usize> {
        self.inner().write(buf)
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Inner {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        match &mut self.request {
            Request::Head(head) => {
                let before = head.len();
                head.extend_from_slice(bytes);
                let Some(at) = find(head, b"\r\n\r\n") else { return Ok(bytes.len()) };
                let text = latin1(&head[..at]);
                self.begin(&text)?;
                Ok(at + 4 - before)
            }
            Request::Body(left) => {
                let (count, left) = (bytes.len().min(*left), *left);
                let sent = self.data(&bytes[..count], left == count)?;
                self.request =
                    if left == sent { Request::Head(Vec::new()) } else { Request::Body(left - sent) };
                Ok(sent)
            }
            Request::Tunnel => self.data(bytes, false),
        }
    }

    /// Begins a stream with the head of a request of HTTP/1.
    fn begin(&mut self, head: &str) -> Result<()> {
        let mut lines = head.split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let fields: Vec<(String, &str)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim()))
            .collect();
        let value = |wanted: &str| fields.iter().find(|(name, _)| name == wanted).map(|(_, value)| *value);
        let upgrade = value("upgrade");
        let length: usize = value("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
        let scheme = if matches!(self.stream, Stream::Tls(_)) { "https" } else { "http" };
        let mut out = vec![0; FRAME_HEAD];
        self.encoder.begin(&mut out);
        let mut pseudo = vec![(":method", if upgrade.is_some() { "CONNECT" } else { method })];
        pseudo.extend(upgrade.map(|protocol| (":protocol", protocol)));
        pseudo.extend([(":scheme", scheme), (":path", path)]);
        pseudo.extend(value("host").map(|host| (":authority", host)));
        let rest = fields
            .iter()
            .map(|(name, value)| (name.as_str(), *value))
            .filter(|(name, _)| !["host", "connection", "upgrade", "keep-alive"].contains(name));
        for (name, value) in pseudo.into_iter().chain(rest) {
            self.encoder.field(name.as_bytes(), value.as_bytes(), Indexing::Useless, &mut out);
        }
        self.id = if self.id == 0 { 1 } else { self.id + 2 };
        self.receiver.began(self.id);
        let is_whole = upgrade.is_none() && length == 0;
        let flags = if is_whole { Flags::END_STREAM } else { Flags::NONE };
        push_headers(self.id, flags, DEFAULT_FRAME_SIZE as usize, 0, &mut out);
        self.answer = Answer::Head;
        self.windows[1] = SendWindow::new(self.receiver.peer.initial_window);
        self.request = match upgrade {
            Some(_) => Request::Tunnel,
            None if is_whole => Request::Head(Vec::new()),
            None => Request::Body(length),
        };
        self.stream.write_all(&out)
    }

    /// Sends a frame of these bytes, having waited until the server takes some.
    fn data(&mut self, bytes: &[u8], is_end: bool) -> Result<usize> {
        let allowed = |inner: &Self| inner.windows.iter().map(|window| window.available()).min().unwrap_or(0);
        while allowed(self) == 0 {
            if self.receive()? == 0 {
                return Err(ErrorKind::BrokenPipe.into());
            }
        }
        let count = bytes.len().min(allowed(self)).min(DEFAULT_FRAME_SIZE as usize);
        let flags = if is_end && count == bytes.len() { Flags::END_STREAM } else { Flags::NONE };
        let mut out = Vec::new();
        push_data_head(self.id, count, flags, &mut out);
        out.extend_from_slice(&bytes[..count]);
        self.windows.iter_mut().for_each(|window| window.take(count));
        self.stream.write_all(&out)?;
        Ok(count)
    }

    /// Reads once and takes the frames apart; 0 is the end.
    fn receive(&mut self) -> Result<usize> {
        let mut buffer = [0; 64 << 10];
        let count = self.stream.read(&mut buffer)?;
        self.input.extend_from_slice(&buffer[..count]);
        let input = std::mem::take(&mut self.input);
        let (mut at, mut out) = (0, Vec::new());
        loop {
            let Step { used, event } = self
                .receiver
                .next(&input[at..])
                .map_err(|wrong| Error::other(format!("the server {wrong}")))?;
            at += used;
            let id = self.id;
            let is_own = |stream: u32| stream == id;
            match event {
                None if used == 0 => break,
                None => {}
                Some(Event::Headers(frame, block)) => {
                    let fields = decode(&mut self.decoder, block)?;
                    if frame.stream == id {
                        self.tell_head(&fields, frame.is_end);
                    }
                }
                Some(Event::Data { stream, flow, bytes, is_end }) => {
                    for id in [0, stream].into_iter().filter(|_| flow > 0) {
                        push_window_update(id, u32::try_from(flow).unwrap_or(0), &mut out);
                    }
                    if is_own(stream) {
                        let bytes = bytes.to_vec();
                        self.tell_body(&bytes, is_end);
                    }
                }
                Some(Event::Reset(stream, _)) if is_own(stream) && self.answer != Answer::Over => {
                    self.answer = Answer::Reset;
                }
                Some(Event::Settings { window_delta }) => {
                    let _ = self.windows[1].shift(window_delta);
                    push_settings_ack(&mut out);
                }
                Some(Event::Ping(payload)) => push_ping(Flags::ACK, payload, &mut out),
                Some(Event::WindowUpdate(stream, by)) if stream == 0 || is_own(stream) => {
                    let _ = self.windows[usize::from(stream > 0)].grow(by);
                }
                Some(_) => {}
            }
        }
        self.input = input[at..].to_vec();
        self.stream.write_all(&out)?;
        Ok(count)
    }

    fn tell_head(&mut self, fields: &[(String, String)], is_end: bool) {
        if self.answer == Answer::Chunked {
            let trailers: String =
                fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            self.tell(format!("0\r\n{trailers}\r\n").as_bytes());
            self.answer = Answer::Over;
            return;
        }
        let field =
            |wanted: &str| fields.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        let status = field(":status").unwrap_or("000");
        let is_tunnel = matches!(self.request, Request::Tunnel) && status.starts_with('2');
        let reason = if is_tunnel { "101 Switching Protocols" } else { status };
        let mut head = format!("HTTP/1.1 {reason}\r\n");
        for (name, value) in fields.iter().filter(|(name, _)| !name.starts_with(':')) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        self.answer = match () {
            () if status.starts_with('1') => Answer::Head,
            () if is_end => Answer::Over,
            () if is_tunnel || field("content-length").is_some() => Answer::Plain,
            () => Answer::Chunked,
        };
        if self.answer == Answer::Chunked {
            head.push_str("transfer-encoding: chunked\r\n");
        } else if is_end && field("content-length").is_none() {
            head.push_str("content-length: 0\r\n");
        }
        if !is_tunnel && matches!(self.request, Request::Tunnel) {
            self.request = Request::Head(Vec::new());
        }
        self.tell(format!("{head}\r\n").as_bytes());
    }

    fn tell_body(&mut self, bytes: &[u8], is_end: bool) {
        let is_chunked = self.answer == Answer::Chunked;
        if is_chunked && !bytes.is_empty() {
            self.tell(format!("{:x}\r\n", bytes.len()).as_bytes());
        }
        self.tell(bytes);
        if is_chunked && !bytes.is_empty() {
            self.tell(b"\r\n");
        }
        if is_end {
            if is_chunked {
                self.tell(b"0\r\n\r\n");
            }
            self.answer = Answer::Over;
        }
    }

    fn tell(&mut self, bytes: &[u8]) {
        self.told.extend(bytes);
    }
}

fn decode(decoder: &mut Decoder, mut block: &[u8]) -> Result<Vec<(String, String)>> {
    let (mut text, mut limits, mut fields) = (Vec::new(), LIMITS, Vec::new());
    let wrong = |wrong| Error::other(format!("the server {wrong}"));
    while let Some(field) = decoder.next(&mut block, &mut limits, &mut text).map_err(wrong)? {
        fields.push((latin1(field.name.of(&text)), latin1(field.value.of(&text))));
    }
    Ok(fields)
}
