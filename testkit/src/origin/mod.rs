//! Scripted origins: servers behind the server under test that answer by rules and keep what they saw.
//!
//! An origin can be stopped and started on the same address, which is how a refused connection is made.

mod dns;
mod gateway;
mod reply;
mod rule;

pub use rule::{Body, Door, OriginSpec, ReplyAct, Rule, Speech};

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::message::{Ending, Message, Reader, Role, Stream, WireError};
use crate::places::{PlaceError, Places};

/// How long an origin waits for anything: longer than any step.
const PATIENCE: Duration = Duration::from_secs(20);

/// A request as an origin saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Which origin.
    pub origin: usize,
    /// Which of its connections, counted over all origins from 1.
    pub connection: usize,
    /// Which request on that connection, counted from 1.
    pub nth: usize,
    /// The request.
    pub request: Message,
}

/// All origins of a run.
#[derive(Debug)]
pub struct Origins {
    shared: Arc<Shared>,
    running: BTreeMap<usize, Running>,
    specs: BTreeMap<usize, Arc<OriginSpec>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    connections: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    seen: Vec<Seen>,
    released: BTreeSet<String>,
    over: bool,
    counts: HashMap<(usize, String), usize>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `done` holds, at most for `time`; false when it never did.
    fn wait(&self, time: Duration, mut done: impl FnMut(&State) -> bool) -> bool {
        let deadline = Instant::now() + time;
        let mut state = self.state();
        loop {
            if done(&state) {
                return true;
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return false };
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn note(&self, seen: Seen) {
        self.state().seen.push(seen);
        self.changed.notify_all();
    }

    /// The first rule that matches; rules for the nth request are counted by their target.
    fn rule<'a>(&self, spec: &'a OriginSpec, request: &Message) -> Option<&'a Rule> {
        let mut state = self.state();
        let mut counted: BTreeMap<String, usize> = BTreeMap::new();
        for rule in spec.rules.iter().filter(|rule| rule.matches(request)) {
            let nth = *counted.entry(rule.key()).or_insert_with(|| {
                let count = state.counts.entry((spec.number, rule.key())).or_default();
                *count += 1;
                *count
            });
            if rule.nth.is_none_or(|wanted| wanted == nth) {
                return Some(rule);
            }
        }
        None
    }
}

/// Why an origin could not be started.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// The script names no such origin.
    #[error("no origin {0}")]
    Unknown(usize),
    /// Its address could not be bound.
    #[error("origin {number} cannot listen: {error}")]
    Listen {
        /// Which origin.
        number: usize,
        /// The kernel's reason.
        error: std::io::Error,
    },
    /// A text of its rules cannot be expanded.
    #[error("{0}")]
    Place(#[from] PlaceError),
}

impl Origins {
    /// Starts all origins of a script.
    ///
    /// # Errors
    /// See [`OriginError`].
    pub fn start(specs: &[OriginSpec], places: &Places) -> Result<Self, OriginError> {
        let mut origins = Self { shared: Arc::default(), running: BTreeMap::new(), specs: BTreeMap::new() };
        for spec in specs {
            origins.specs.insert(spec.number, Arc::new(spec.expanded(places)?));
            origins.up(spec.number, places)?;
        }
        Ok(origins)
    }

    /// Lets one origin listen.
    ///
    /// # Errors
    /// See [`OriginError`].
    pub fn up(&mut self, number: usize, places: &Places) -> Result<(), OriginError> {
        let spec = self.specs.get(&number).ok_or(OriginError::Unknown(number))?;
        let listen = |error| OriginError::Listen { number, error };
        let address = match spec.door {
            Door::Tcp => places.value(&format!("ORIGIN{number}"))?,
            Door::Unix => places.value(&format!("OSOCK{number}"))?,
        };
        if spec.speech == Speech::Dns {
            let socket = UdpSocket::bind(&address).map_err(listen)?;
            self.running.insert(number, Running::names(socket, address, spec, &self.shared));
            return Ok(());
        }
        let listener = match spec.door {
            Door::Tcp => Listener::Tcp(TcpListener::bind(&address).map_err(listen)?),
            Door::Unix => {
                let _ = std::fs::remove_file(&address);
                let listener = UnixListener::bind(&address).map_err(listen)?;
                // The server's worker may run as another user.
                std::fs::set_permissions(&address, std::fs::Permissions::from_mode(0o777)).map_err(listen)?;
                Listener::Unix(listener)
            }
        };
        let running = Running::new(listener, address, spec, &self.shared);
        self.running.insert(number, running);
        Ok(())
    }

    /// Closes the listener and all connections of one origin.
    pub fn down(&mut self, number: usize) {
        self.running.remove(&number);
    }

    /// How many requests came so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shared.state().seen.len()
    }

    /// How many connections were accepted so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Forgets the requests that came so far, which a long run would otherwise pile up.
    pub fn forget(&self) {
        self.shared.state().seen.clear();
    }

    /// The requests that came after the first `mark`.
    #[must_use]
    pub fn since(&self, mark: usize) -> Vec<Seen> {
        self.shared.state().seen.get(mark..).unwrap_or_default().to_vec()
    }

    /// Waits until `count` requests came in all; false when they did not in `time`.
    #[must_use]
    pub fn wait_for(&self, count: usize, time: Duration) -> bool {
        self.shared.wait(time, |state| state.seen.len() >= count)
    }

    /// Ends all waiting, since nobody will look at the answers any more.
    fn end(&self) {
        self.shared.state().over = true;
        self.shared.changed.notify_all();
    }

    /// Lets all replies go on that hold for `name`, now and later.
    pub fn release(&self, name: &str) {
        self.shared.state().released.insert(name.to_owned());
        self.shared.changed.notify_all();
    }
}

impl Drop for Origins {
    fn drop(&mut self) {
        self.end();
    }
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    fn accept(&self) -> std::io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Self::Unix(listener) => Ok(Stream::Unix(listener.accept()?.0)),
        }
    }
}

#[derive(Debug)]
struct Running {
    address: String,
    stop: Arc<AtomicBool>,
    open: Arc<Mutex<HashMap<usize, Stream>>>,
    acceptor: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    fn new(listener: Listener, address: String, spec: &Arc<OriginSpec>, shared: &Arc<Shared>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let open: Arc<Mutex<HashMap<usize, Stream>>> = Arc::default();
        let (spec, shared) = (Arc::clone(spec), Arc::clone(shared));
        let (stopped, connections) = (Arc::clone(&stop), Arc::clone(&open));
        let acceptor = std::thread::spawn(move || {
            while let Ok(stream) = listener.accept() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(another) = stream.another() else { continue };
                let number = shared.connections.fetch_add(1, Ordering::SeqCst) + 1;
                connections.lock().unwrap_or_else(PoisonError::into_inner).insert(number, another);
                let (spec, shared, connections) =
                    (Arc::clone(&spec), Arc::clone(&shared), Arc::clone(&connections));
                std::thread::spawn(move || {
                    Connection::serve(stream, number, &spec, &shared);
                    connections.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
                });
            }
        });
        Self { address, stop, open, acceptor: Some(acceptor) }
    }

    /// A name server, which has no connections.
    fn names(socket: UdpSocket, address: String, spec: &Arc<OriginSpec>, shared: &Arc<Shared>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (spec, shared, stopped) = (Arc::clone(spec), Arc::clone(shared), Arc::clone(&stop));
        let asked = std::thread::spawn(move || dns::serve(&socket, &spec, &shared, &stopped));
        Self { address, stop, open: Arc::default(), acceptor: Some(asked) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the acceptor, which then sees the flag.
        let _ = Stream::connect(&self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        for (_, stream) in self.open.lock().unwrap_or_else(PoisonError::into_inner).drain() {
            stream.shut(std::net::Shutdown::Both);
        }
    }
}

/// One connection that an origin accepted.
struct Connection<'a> {
    stream: Stream,
    reader: Reader,
    spec: &'a OriginSpec,
    shared: &'a Shared,
}

/// Whether the connection lives on after an answer.
#[derive(Debug, PartialEq, Eq)]
enum After {
    Keep,
    Close,
}

impl<'a> Connection<'a> {
    fn serve(stream: Stream, number: usize, spec: &'a OriginSpec, shared: &'a Shared) {
        let Ok(another) = stream.another() else { return };
        if stream.limit(PATIENCE, PATIENCE).is_err() {
            return;
        }
        let mut connection = Connection { stream, reader: Reader::new(another, PATIENCE), spec, shared };
        let mut nth = 0;
        loop {
            nth += 1;
            match connection.request(number, nth) {
                Ok(After::Keep) => {}
                Ok(After::Close) | Err(_) => break,
            }
        }
        connection.stream.shut(std::net::Shutdown::Both);
    }

    fn request(&mut self, connection: usize, nth: usize) -> Result<After, WireError> {
        self.reader.begin();
        let mut request = self.gateway_request()?;
        let rule = self.shared.rule(self.spec, &request);
        let early = rule.is_some_and(|rule| rule.body == Body::Early);
        let is_read = early || self.spec.speech != Speech::Http;
        let body = if is_read { Ok(()) } else { self.reader.body(&mut request, Role::Request) };
        let truncated = body.is_err() || request.ending == Ending::Truncated;
        self.shared.note(Seen { origin: self.spec.number, connection, nth, request: request.clone() });
        if truncated {
            return Ok(After::Close);
        }
        match rule {
            Some(rule) => self.reply(&request, &rule.acts),
            None if self.spec.rules.is_empty() => self.reply(&request, &[ReplyAct::Echo]),
            None => self.reply(&request, &[ReplyAct::Status("599 No Rule".into()), ReplyAct::Close]),
        }
    }
}
