//! Origins that can be killed, stalled, made to reset and brought back, and that count their connections.
//!
//! Each answers with the first line of the request, so an answer that belongs to another request shows itself.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How often a connection looks whether its origin has changed its mind.
const LOOK: Duration = Duration::from_millis(20);
/// Longest head that is read.
const HEAD_LIMIT: usize = 16 << 10;

/// What an origin does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// It answers.
    Well,
    /// It accepts and takes requests, and answers nothing.
    Stalled,
    /// It resets connections as soon as a request comes.
    Resetting,
    /// Its port is closed, and so are its connections.
    Dead,
}

const MOODS: [Mood; 4] = [Mood::Well, Mood::Stalled, Mood::Resetting, Mood::Dead];

#[derive(Debug, Default)]
struct Shared {
    mood: AtomicU8,
    accepted: AtomicUsize,
    stop: AtomicBool,
}

impl Shared {
    fn mood(&self) -> Mood {
        if self.stop.load(Ordering::SeqCst) {
            return Mood::Dead;
        }
        let mood = self.mood.load(Ordering::SeqCst);
        MOODS.get(usize::from(mood)).copied().unwrap_or(Mood::Dead)
    }
}

/// An origin on a port of its own.
#[derive(Debug)]
pub struct Fickle {
    /// Where it listens on the loopback address.
    pub port: u16,
    shared: Arc<Shared>,
    listening: Option<JoinHandle<()>>,
}

impl Fickle {
    /// A new one, which is well.
    pub fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared::default());
        let inside = Arc::clone(&shared);
        let listening = thread::spawn(move || listen(Some(listener), port, &inside));
        Ok(Self { port, shared, listening: Some(listening) })
    }

    /// Changes what it does.
    pub fn be(&self, mood: Mood) {
        let place = MOODS.iter().position(|known| *known == mood).unwrap_or(0);
        self.shared.mood.store(u8::try_from(place).unwrap_or(0), Ordering::SeqCst);
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Fickle {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(listening) = self.listening.take() {
            let _ = listening.join();
        }
    }
}

fn listen(mut listener: Option<TcpListener>, port: u16, shared: &Arc<Shared>) {
    while !shared.stop.load(Ordering::SeqCst) {
        if shared.mood() == Mood::Dead {
            listener = None;
            thread::sleep(LOOK);
            continue;
        }
        let Some(open) = &listener else {
            // Its old connections may hold the port for a moment.
            listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok();
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        let _ = open.set_nonblocking(true);
        match open.accept() {
            Ok((stream, _)) => {
                shared.accepted.fetch_add(1, Ordering::SeqCst);
                let shared = Arc::clone(shared);
                thread::spawn(move || serve(stream, &shared));
            }
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// Serves one connection until its end.
fn serve(mut stream: TcpStream, shared: &Shared) {
    let _ = stream.set_nonblocking(false);
    let _ = stream.set_nodelay(true);
    let _ = stream.set_read_timeout(Some(LOOK * 5));
    loop {
        match stream.peek(&mut [0]) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if is_patient(&error) && shared.mood() != Mood::Dead => continue,
            Err(_) => return,
        }
        match shared.mood() {
            Mood::Well => {
                if answer(&mut stream).is_none() {
                    return;
                }
            }
            Mood::Stalled => {
                while shared.mood() == Mood::Stalled {
                    thread::sleep(LOOK);
                }
                return;
            }
            // What was not read makes the kernel reset instead of close.
            Mood::Resetting | Mood::Dead => return,
        }
    }
}

fn is_patient(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}

fn answer(stream: &mut TcpStream) -> Option<()> {
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
        head.extend_from_slice(buffer.get(..count)?);
        if head.len() > HEAD_LIMIT {
            return None;
        }
    }
    let line = head.split(|byte| *byte == b'\r').next()?;
    let mut reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", line.len() + 1).into_bytes();
    reply.extend_from_slice(line);
    reply.push(b'\n');
    stream.write_all(&reply).ok()
}
