//! HTTP/2 on both sides of the proxies, as far as a benchmark needs it: many streams on a connection, and an origin for
//! gRPC.
//!
//! Header blocks of others are not decoded: a right answer begins with the one byte that says `:status 200`.

use crate::clients::Ask;

/// Bytes in front of a frame's payload.
const HEAD: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What windows begin with, and the largest.
const WINDOW: u32 = 65_535;
const MAX_WINDOW: u32 = (1 << 31) - 1;

/// `:status 200` of HPACK's static table.
const STATUS_200: u8 = 0x88;
/// A message of gRPC: its head and a hundred bytes.
pub const MESSAGE: usize = 5 + 100;

/// What streams carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// A GET.
    Get,
    /// A unary call of gRPC.
    Grpc,
}

/// Appends a frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    out.extend_from_slice(&[length[1], length[2], length[3], kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Appends a field that goes into the dynamic table; `name` is one of the static table or a literal.
fn indexed(name: &[u8], value: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.push(u8::try_from(value.len()).unwrap_or(0));
    out.extend_from_slice(value.as_bytes());
}

fn message() -> Vec<u8> {
    let mut message = vec![0; MESSAGE];
    message[4] = u8::try_from(MESSAGE - 5).unwrap_or(0);
    message
}

/// The first frame of `input`, if it is there as a whole: kind, flags, stream, payload.
fn first_frame(input: &[u8]) -> Option<(u8, u8, u32, &[u8])> {
    let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = *input.first_chunk::<HEAD>()?;
    let length = u32::from_be_bytes([0, l0, l1, l2]) as usize;
    let payload = input.get(HEAD..HEAD + length)?;
    Some((kind, flags, u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]), payload))
}

/// The client's side of a connection.
pub struct Client {
    call: Call,
    streams: usize,
    /// The block of the first request, which fills the server's table, and that of all others.
    blocks: [Vec<u8>; 2],
    last: u32,
    /// Streams that await their answer, with bytes of it so far.
    open: Vec<(u32, u64)>,
    input: Vec<u8>,
    out: Vec<u8>,
    received: u32,
}

impl Client {
    /// A connection with so many streams at once.
    pub fn new(call: Call, streams: usize, ask: &Ask) -> Self {
        let mut first = match call {
            Call::Get => vec![0x82, 0x86],
            Call::Grpc => vec![0x83, 0x86],
        };
        let mut later = first.clone();
        indexed(&[0x44], &ask.path, &mut first);
        indexed(&[0x41], &ask.host, &mut first);
        indexed(&[0x7a], "tidegate-bench", &mut first);
        match call {
            Call::Get => {
                indexed(&[0x53], "*/*", &mut first);
                later.extend_from_slice(&[0xc1, 0xc0, 0xbf, 0xbe]);
            }
            Call::Grpc => {
                indexed(&[0x5f], "application/grpc", &mut first);
                indexed(b"\x40\x02te", "trailers", &mut first);
                later.extend_from_slice(&[0xc2, 0xc1, 0xc0, 0xbf, 0xbe]);
            }
        }
        let mut out = PREFACE.to_vec();
        let mut settings = vec![0, 2, 0, 0, 0, 0, 0, 4];
        settings.extend_from_slice(&MAX_WINDOW.to_be_bytes());
        frame(SETTINGS, 0, 0, &settings, &mut out);
        frame(WINDOW_UPDATE, 0, 0, &(MAX_WINDOW - WINDOW).to_be_bytes(), &mut out);
        let blocks = [first, later];
        Self { call, streams, blocks, last: 0, open: Vec::new(), input: Vec::new(), out, received: 0 }
    }

    /// Whether no answer is awaited.
    pub fn is_idle(&self) -> bool {
        self.open.is_empty()
    }

    /// Begins streams until all are in use; gives the bytes to send.
    pub fn fill(&mut self) -> Vec<u8> {
        while self.open.len() < self.streams {
            let block = &self.blocks[usize::from(self.last > 0)];
            self.last = if self.last == 0 { 1 } else { self.last + 2 };
            let end = if self.call == Call::Get { END_STREAM } else { 0 };
            frame(HEADERS, END_HEADERS | end, self.last, block, &mut self.out);
            if self.call == Call::Grpc {
                frame(DATA, END_STREAM, self.last, &message(), &mut self.out);
            }
            self.open.push((self.last, 0));
        }
        std::mem::take(&mut self.out)
    }

    /// What is to be sent besides requests.
    pub fn pending(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Takes what came; gives the number of answers that are complete and right.
    ///
    /// # Errors
    /// What is wrong.
    pub fn take(&mut self, bytes: &[u8], body: u64) -> Result<u64, String> {
        let mut input = std::mem::take(&mut self.input);
        input.extend_from_slice(bytes);
        let (mut at, mut done) = (0, 0);
        while let Some((kind, flags, stream, payload)) = input.get(at..).and_then(first_frame) {
            at += HEAD + payload.len();
            done += self.frame(kind, flags, stream, payload, body)?;
        }
        input.drain(..at);
        self.input = input;
        Ok(done)
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8], body: u64) -> Result<u64, String> {
        match kind {
            HEADERS | DATA => {}
            SETTINGS if flags & ACK == 0 => frame(SETTINGS, ACK, 0, b"", &mut self.out),
            PING if flags & ACK == 0 => frame(PING, ACK, 0, payload, &mut self.out),
            RESET => return Err(format!("stream {stream} was reset")),
            GOAWAY => return Err("GOAWAY".to_owned()),
            _ => {}
        }
        let Some(place) = self.open.iter().position(|(id, _)| *id == stream) else { return Ok(0) };
        let so_far = &mut self.open[place].1;
        match kind {
            HEADERS if *so_far == 0 && payload.first() != Some(&STATUS_200) => {
                return Err(format!("a head that begins with {:?}", payload.first()));
            }
            DATA => {
                *so_far += payload.len() as u64;
                self.received += u32::try_from(payload.len()).unwrap_or(0);
                if self.received > MAX_WINDOW / 2 {
                    frame(WINDOW_UPDATE, 0, 0, &self.received.to_be_bytes(), &mut self.out);
                    self.received = 0;
                }
            }
            _ => {}
        }
        if flags & END_STREAM == 0 || !matches!(kind, HEADERS | DATA) {
            return Ok(0);
        }
        let (_, got) = self.open.swap_remove(place);
        if got == body { Ok(1) } else { Err(format!("{got} bytes instead of {body}")) }
    }
}

/// The origin's side of a connection: answers each unary call as soon as it has come.
#[derive(Default)]
pub struct GrpcOrigin {
    has_begun: bool,
    received: u32,
}

impl GrpcOrigin {
    /// Takes the frames that are whole off the front of `input`; gives the bytes to answer.
    pub fn answer(&mut self, input: &mut Vec<u8>) -> Vec<u8> {
        let (mut at, mut out) = (0, Vec::new());
        if !self.has_begun {
            if input.len() < PREFACE.len() {
                return out;
            }
            self.has_begun = true;
            at = PREFACE.len();
            frame(SETTINGS, 0, 0, b"", &mut out);
        }
        while let Some((kind, flags, stream, payload)) = input.get(at..).and_then(first_frame) {
            at += HEAD + payload.len();
            match kind {
                SETTINGS if flags & ACK == 0 => frame(SETTINGS, ACK, 0, b"", &mut out),
                PING if flags & ACK == 0 => frame(PING, ACK, 0, payload, &mut out),
                DATA => {
                    self.received += u32::try_from(payload.len()).unwrap_or(0);
                    if self.received > WINDOW / 2 {
                        frame(WINDOW_UPDATE, 0, 0, &self.received.to_be_bytes(), &mut out);
                        self.received = 0;
                    }
                }
                _ => {}
            }
            if matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0 {
                let mut head = vec![STATUS_200];
                indexed(&[0x0f, 0x10], "application/grpc", &mut head);
                frame(HEADERS, END_HEADERS, stream, &head, &mut out);
                frame(DATA, 0, stream, &message(), &mut out);
                let mut trailers = Vec::new();
                indexed(b"\x00\x0bgrpc-status", "0", &mut trailers);
                frame(HEADERS, END_HEADERS | END_STREAM, stream, &trailers, &mut out);
            }
        }
        input.drain(..at);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_answered() {
        let ask = Ask::new("/a.B/C");
        let mut client = Client::new(Call::Grpc, 3, &ask);
        let mut origin = GrpcOrigin::default();
        for _ in 0..3 {
            let mut sent = client.fill();
            let answer = origin.answer(&mut sent);
            assert!(sent.is_empty());
            assert_eq!(client.take(&answer, MESSAGE as u64), Ok(3));
            assert!(client.is_idle());
        }
        let mut sent = client.fill();
        let answer = origin.answer(&mut sent);
        assert!(client.take(&answer, 1).is_err());
    }
}
