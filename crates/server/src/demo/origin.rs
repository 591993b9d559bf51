//! The servers that the demo's Tidegate stands in front of; each can be stopped and started again.
//!
//! They are plain threads with blocking sockets, one per connection, so that nothing of Tidegate is in them.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::message::{Answer, Seen, quoted};
use super::websocket;

/// What `proxy_hide_header` takes away.
const POWERED: &str = "X-Powered-By: threads and std::net";
/// Largest answer of `/download/N`, megabytes.
const DOWNLOAD_MAX: u64 = 100_000;

/// One origin.
#[derive(Debug)]
pub(super) struct Origin {
    /// Its name, which is a colour on the page.
    pub(super) name: &'static str,
    /// Its share in the configuration.
    pub(super) weight: u32,
    /// Its port on 127.0.0.1, kept while it is stopped.
    pub(super) port: u16,
    /// Requests that it has answered.
    pub(super) answered: AtomicU64,
    running: Mutex<Option<Running>>,
}

/// What an origin has while it runs.
#[derive(Debug)]
struct Running {
    listening: Arc<Listening>,
    thread: JoinHandle<()>,
}

/// What the threads of an origin share.
#[derive(Debug, Default)]
struct Listening {
    is_stopped: AtomicBool,
    connections: Mutex<HashMap<u64, TcpStream>>,
}

impl Listening {
    fn connections(&self) -> MutexGuard<'_, HashMap<u64, TcpStream>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Origin {
    /// Starts an origin on a port that the system chooses.
    ///
    /// # Errors
    /// Those of binding and of starting a thread.
    pub(super) fn start_new(name: &'static str, weight: u32) -> io::Result<Arc<Self>> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let (answered, running) = (AtomicU64::new(0), Mutex::new(None));
        let origin = Arc::new(Self { name, weight, port, answered, running });
        origin.listen(listener)?;
        Ok(origin)
    }

    /// Whether it listens.
    pub(super) fn is_running(&self) -> bool {
        self.running().is_some()
    }

    /// Listens again on the same port.
    ///
    /// # Errors
    /// Those of binding and of starting a thread.
    pub(super) fn start(self: &Arc<Self>) -> io::Result<()> {
        if self.is_running() {
            return Ok(());
        }
        self.listen(TcpListener::bind(self.addr())?)
    }

    /// Closes the port and all connections, as a process that dies does.
    pub(super) fn stop(&self) {
        let Some(running) = self.running().take() else { return };
        running.listening.is_stopped.store(true, Ordering::Release);
        // Wakes the thread that accepts, which then lets go of the port.
        drop(TcpStream::connect(self.addr()));
        let _ = running.thread.join();
        for connection in running.listening.connections().values() {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    fn addr(&self) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.port)
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listen(self: &Arc<Self>, listener: TcpListener) -> io::Result<()> {
        let (origin, listening) = (Arc::clone(self), Arc::new(Listening::default()));
        let shared = Arc::clone(&listening);
        let accept = move || {
            for (number, stream) in (0..).zip(listener.incoming()) {
                if shared.is_stopped.load(Ordering::Acquire) {
                    return;
                }
                if let Ok(stream) = stream {
                    // A connection without a thread closes, and Tidegate takes the next origin.
                    let _ = origin.take(stream, number, &shared);
                }
            }
        };
        let thread = std::thread::Builder::new().name(self.name.to_owned()).spawn(accept)?;
        *self.running() = Some(Running { listening, thread });
        Ok(())
    }

    fn take(self: &Arc<Self>, stream: TcpStream, number: u64, listening: &Arc<Listening>) -> io::Result<()> {
        stream.set_nodelay(true)?;
        listening.connections().insert(number, stream.try_clone()?);
        let (origin, shared) = (Arc::clone(self), Arc::clone(listening));
        let serve = move || {
            // The end of a connection, by whatever, is nothing to tell.
            let _ = origin.serve(&stream);
            shared.connections().remove(&number);
        };
        if let Err(error) = std::thread::Builder::new().name(self.name.to_owned()).spawn(serve) {
            listening.connections().remove(&number);
            return Err(error);
        }
        Ok(())
    }

    fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        let (mut from, mut to) = (BufReader::new(stream), stream);
        for number in 1u64.. {
            let Some(seen) = Seen::read(&mut from)? else { return Ok(()) };
            self.answered.fetch_add(1, Ordering::Relaxed);
            let (_, path) = seen.target();
            if let Some(size) = path.strip_prefix("/download/") {
                self.download(&mut to, size)?;
            } else if let ("/ws", Some(key)) = (path, seen.header("sec-websocket-key")) {
                return websocket::echo(&mut from, &mut to, key, &format!("{} is listening", self.name));
            } else {
                let (kind, body) = match seen.wants_json() {
                    true => ("application/json", self.report_json(&seen, number)),
                    false => ("text/plain", self.report_text(&seen, number)),
                };
                Answer { status: "200 OK", kind, header: POWERED, body: &body }.write(&mut to)?;
            }
        }
        Ok(())
    }

    fn report_text(&self, seen: &Seen, number: u64) -> String {
        let mut text = format!(
            "{} (127.0.0.1:{}) answered; it saw this, as request {number} of its connection:\n\n{}\n",
            self.name, self.port, seen.line
        );
        for (name, value) in &seen.headers {
            let _ = writeln!(text, "{name}: {value}");
        }
        if seen.body > 0 {
            let _ = writeln!(text, "\n({} bytes of body)", seen.body);
        }
        text
    }

    fn report_json(&self, seen: &Seen, number: u64) -> String {
        let headers: Vec<String> = seen
            .headers
            .iter()
            .map(|(name, value)| format!("[{},{}]", quoted(name), quoted(value)))
            .collect();
        format!(
            "{{\"origin\":{},\"port\":{},\"number\":{number},\"line\":{},\"headers\":[{}],\"body\":{}}}\n",
            quoted(self.name),
            self.port,
            quoted(&seen.line),
            headers.join(","),
            seen.body
        )
    }

    /// Sends so many megabytes.
    fn download(&self, to: &mut impl Write, size: &str) -> io::Result<()> {
        let Ok(megabytes @ 0..=DOWNLOAD_MAX) = size.parse() else {
            let body = "want /download/MEGABYTES\n";
            return Answer { status: "404 Not Found", kind: "text/plain", header: POWERED, body }.write(to);
        };
        write!(
            to,
            "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\
             X-Origin: {}\r\n\r\n",
            megabytes * 1_000_000,
            self.name
        )?;
        let piece: Vec<u8> = b"tidegate ".iter().copied().cycle().take(250_000).collect();
        for _ in 0..megabytes * 4 {
            to.write_all(&piece)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn ask(origin: &Origin, request: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(origin.addr())?;
        stream.write_all(request.as_bytes())?;
        stream.shutdown(Shutdown::Write)?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    #[test]
    fn it_reports_stops_and_starts() {
        let origin = Origin::start_new("amber", 1).expect("start");
        let check = |request: &str, part: &str| {
            let text = ask(&origin, request).expect("answer");
            assert!(text.contains(part), "{text}");
        };
        check("GET /a HTTP/1.1\r\nHost: x\r\n\r\n", "GET /a HTTP/1.1\nHost: x\n");
        check("GET /a HTTP/1.1\r\nAccept: application/json\r\n\r\n", "\"origin\":\"amber\"");
        check("GET /download/1 HTTP/1.1\r\n\r\n", "Content-Length: 1000000\r\n");
        check("GET /download/x HTTP/1.1\r\n\r\n", "HTTP/1.1 404");
        check("GET /ws HTTP/1.1\r\nSec-WebSocket-Key: x\r\n\r\n", "amber is listening");
        let mut idle = TcpStream::connect(origin.addr()).expect("connect");
        idle.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("write");
        let mut byte = [0];
        idle.read_exact(&mut byte).expect("an answer begins");
        origin.stop();
        assert!(!origin.is_running());
        assert!(ask(&origin, "GET / HTTP/1.1\r\n\r\n").is_err());
        let mut rest = Vec::new();
        let _ = idle.read_to_end(&mut rest);
        origin.start().expect("start");
        check("GET /b HTTP/1.1\r\n\r\n", "GET /b HTTP/1.1");
        assert_eq!(origin.answered.load(Ordering::Relaxed), 7);
        origin.stop();
    }
}
