//! An origin whose bodies follow from what is asked for, so that every byte that a cache serves can be checked.
//!
//! `/length/SIZE/NAME`, `/chunks/SIZE/NAME` and `/close/SIZE/NAME` say how long the body is and how its end is told;
//! `?over=MS` spreads it over so many milliseconds, `?after=MS` has it begin so late.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// Bytes of a piece that is written at once.
const PIECE: usize = 64 << 10;
/// Pieces of a body that is spread over a time.
const STEPS: u32 = 20;
/// Longest head that is read.
const HEAD_LIMIT: usize = 16 << 10;

#[derive(Debug, Default)]
struct Shared {
    requests: AtomicUsize,
    sent: AtomicU64,
    is_over: AtomicBool,
}

/// The origin, on a port of its own, until it is dropped.
#[derive(Debug)]
pub struct Maker {
    /// Where it listens on the loopback address.
    pub port: u16,
    shared: Arc<Shared>,
}

impl Maker {
    /// A new one.
    pub fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared::default());
        let inside = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if inside.is_over.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&inside);
                thread::spawn(move || {
                    let _ = serve(stream, &shared);
                });
            }
        });
        Ok(Self { port, shared })
    }

    /// Requests so far.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Bytes of bodies that the kernel has taken so far.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::SeqCst)
    }
}

impl Drop for Maker {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

/// What a target asks for.
struct Wish<'a> {
    form: &'a str,
    size: u64,
    over: Duration,
    after: Duration,
}

impl<'a> Wish<'a> {
    fn of(target: &'a str) -> Option<Self> {
        let (path, args) = target.split_once('?').unwrap_or((target, ""));
        let mut words = path.split('/').skip(1);
        let form = words.next()?;
        let size = words.next()?.parse().ok()?;
        let time = |name: &str| {
            let value = args.split('&').find_map(|arg| arg.strip_prefix(name)?.strip_prefix('='));
            Duration::from_millis(value.and_then(|value| value.parse().ok()).unwrap_or(0))
        };
        Some(Self { form, size, over: time("over"), after: time("after") })
    }
}

/// The number that a target's body is made from.
fn seed(target: &str) -> u64 {
    let mix = |sum: u64, byte: u8| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    target.bytes().fold(0xcbf2_9ce4_8422_2325, mix)
}

/// Bytes of a target's body, from `offset` on, which is a multiple of eight.
pub fn fill(target: &str, offset: u64, out: &mut [u8]) {
    let seed = seed(target);
    for (nth, part) in out.chunks_mut(8).enumerate() {
        let mut word = seed.wrapping_add((offset / 8 + nth as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word ^= word >> 27;
        part.copy_from_slice(&word.to_le_bytes()[..part.len()]);
    }
}

/// The body of a target.
pub fn body(target: &str) -> Vec<u8> {
    let size = Wish::of(target).map_or(0, |wish| wish.size);
    let mut body = vec![0; usize::try_from(size).unwrap_or(0)];
    fill(target, 0, &mut body);
    body
}

fn serve(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let Some(head) = head(&mut stream)? else { return Ok(()) };
        let target = head.split(' ').nth(1).unwrap_or_default();
        shared.requests.fetch_add(1, Ordering::SeqCst);
        let Some(wish) = Wish::of(target) else {
            stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
            continue;
        };
        thread::sleep(wish.after);
        answer(&mut stream, target, &wish, shared)?;
        if wish.form == "close" {
            return Ok(());
        }
    }
}

/// The next head; `None` at the end of the connection.
fn head(stream: &mut TcpStream) -> std::io::Result<Option<String>> {
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    while !head.ends_with(b"\r\n\r\n") {
        let count = stream.read(&mut buffer)?;
        if count == 0 || head.len() > HEAD_LIMIT {
            return Ok(None);
        }
        head.extend_from_slice(&buffer[..count]);
    }
    Ok(Some(String::from_utf8_lossy(&head).into_owned()))
}

fn answer(stream: &mut TcpStream, target: &str, wish: &Wish<'_>, shared: &Shared) -> std::io::Result<()> {
    let framing = match wish.form {
        "length" => format!("Content-Length: {}", wish.size),
        "chunks" => "Transfer-Encoding: chunked".to_owned(),
        _ => "Connection: close".to_owned(),
    };
    let is_chunked = wish.form == "chunks";
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{framing}\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let steps = if wish.over.is_zero() { 1 } else { STEPS };
    let step = usize::try_from(wish.size.div_ceil(u64::from(steps))).unwrap_or(PIECE);
    let most = if steps == 1 { PIECE } else { step.next_multiple_of(8) };
    let mut piece = vec![0; most];
    let mut at = 0;
    while at < wish.size {
        if steps > 1 {
            thread::sleep(wish.over / steps);
        }
        let length = usize::try_from(wish.size - at).unwrap_or(most).min(most);
        fill(target, at, &mut piece[..length]);
        if is_chunked {
            stream.write_all(format!("{length:x}\r\n").as_bytes())?;
        }
        let mut rest = &piece[..length];
        while !rest.is_empty() {
            let count = stream.write(rest)?;
            shared.sent.fetch_add(count as u64, Ordering::SeqCst);
            rest = &rest[count..];
        }
        if is_chunked {
            stream.write_all(b"\r\n")?;
        }
        at += length as u64;
    }
    if is_chunked { stream.write_all(b"0\r\n\r\n") } else { Ok(()) }
}
