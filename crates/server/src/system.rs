//! The master's [`Resources`]: opens for real, records everything, keeps what is open already.
//!
//! Failures to listen, to open a log or to make a directory are told in nginx's words; the first of them, and only
//! when nothing that is written is wrong, since nginx opens nothing before.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use conf::resources::{ListenAddr, LogFile, Resources, SocketKind, SocketSpec, look_up};
use os::errlog::{Errno, Level};
use os::listen::{Families, Handover, ListenerOptions, Sharing, Step};
use os::socket::{Kind, PeerAddr};
use os::tcp::Keepalive;

use crate::bundle::{Bundle, HandleId, Log, Socket, SocketKey, errno_of};
use crate::pid_file;
use crate::reporter::Reporter;

/// Whether what is opened will be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The server will run.
    Serve,
    /// `-t`: an address in use is no error, and nothing is left behind.
    Test,
}

/// How often and how long nginx tries again to bind an address in use.
const TRIES: u32 = 5;
const PAUSE_MS: u32 = 500;

/// Opens what a configuration asks for.
pub(crate) struct SystemResources<'a> {
    purpose: Purpose,
    reporter: &'a Reporter,
    /// What is open already: the configuration before this one, or what another binary handed over.
    before: &'a Bundle,
    bundle: Bundle,
    /// User that directories are given to.
    pub(crate) owner: Option<u32>,
    /// `ssl_object_cache_inheritable`.
    pub(crate) inherits_objects: bool,
    failure: Option<String>,
    new_unix: Vec<PathBuf>,
}

impl<'a> SystemResources<'a> {
    pub(crate) fn new(purpose: Purpose, reporter: &'a Reporter, before: &'a Bundle) -> Self {
        let bundle = Bundle::default();
        Self {
            purpose,
            reporter,
            before,
            bundle,
            owner: None,
            inherits_objects: true,
            failure: None,
            new_unix: Vec::new(),
        }
    }

    /// What has been recorded.
    pub(crate) fn finish(mut self) -> Bundle {
        if self.purpose == Purpose::Serve {
            self.new_unix.clear();
        }
        std::mem::take(&mut self.bundle)
    }

    /// Whether something could not be opened.
    pub(crate) fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// Forgets what could not be opened.
    pub(crate) fn forgive(&mut self) {
        self.failure = None;
    }

    /// Reports what could not be opened, where something could not.
    pub(crate) fn tell_failure(&self) -> Option<()> {
        let failure = self.failure.as_deref()?;
        self.reporter.report(Level::Emerg, format_args!("{failure}"));
        Some(())
    }

    /// Checks for `-t` that the file with the process id could be written, which nginx does before it opens anything.
    pub(crate) fn check_pid_file(&mut self, path: &Path) {
        if self.purpose == Purpose::Test
            && let Err(error) = pid_file::check(path)
        {
            self.fail(format_args!("open() \"{}\" failed", path.display()), error);
        }
    }

    fn fail(&mut self, message: fmt::Arguments<'_>, error: io::Error) -> io::Error {
        self.failure.get_or_insert_with(|| format!("{message} {}", Errno(&error)));
        error
    }

    fn open_socket(&mut self, spec: &SocketSpec) -> io::Result<OwnedFd> {
        let options = listener_options(spec);
        for attempt in 1.. {
            let failed = match os::listen::open_listener(&options) {
                Ok(fd) => {
                    if let ListenAddr::Unix(path) = &spec.addr {
                        self.new_unix.push(path.clone());
                    }
                    return Ok(fd);
                }
                Err(failed) => failed,
            };
            let is_in_use = failed.is_in_use();
            if is_in_use && self.purpose == Purpose::Test {
                // A socket that nobody can reach: the test of the configuration goes on with it.
                return os::socket::open(&options.addr, options.kind);
            }
            let addr = shown(&options.addr);
            let error = match failed.step {
                Step::Socket => self.fail(format_args!("socket() {addr} failed"), failed.error),
                Step::Option => self.fail(format_args!("setsockopt() {addr} failed"), failed.error),
                Step::Chmod => self.fail(format_args!("chmod() {addr} failed"), failed.error),
                // Linux often tells while listening what nginx's users know from bind().
                Step::Bind => self.fail(format_args!("bind() to {addr} failed"), failed.error),
                Step::Listen if is_in_use => self.fail(format_args!("bind() to {addr} failed"), failed.error),
                Step::Listen => {
                    let backlog = options.backlog;
                    self.fail(format_args!("listen() to {addr}, backlog {backlog} failed"), failed.error)
                }
            };
            if !is_in_use {
                return Err(error);
            }
            // Somebody waits for this, so each try is told at once.
            self.tell_failure();
            if attempt == TRIES {
                self.failure = Some("still could not bind()".to_owned());
                return Err(error);
            }
            self.forgive();
            self.reporter.notice(format_args!("try again to bind() after 500ms"));
            os::clock::sleep_ms(PAUSE_MS);
        }
        Err(io::ErrorKind::AddrInUse.into())
    }

    /// A socket of the configuration before, perhaps with or without `reuseport` until now.
    fn kept_socket(&self, spec: &SocketSpec) -> Option<Socket> {
        let key = SocketKey::from(spec);
        let other = match key.reuseport {
            None => Some(Some(0)),
            Some(0) => Some(None),
            Some(_) => None,
        };
        let kept = self.before.socket(&key).or_else(|| {
            let other = SocketKey { reuseport: other?, ..key.clone() };
            self.before.socket(&other)
        })?;
        if kept.key.reuseport != key.reuseport && key.reuseport.is_some() {
            let _ = os::listen::set_reuseport(kept.fd.as_fd());
        }
        let options = listener_options(spec);
        if let Err(error) = os::listen::configure_listener(kept.fd.as_fd(), &options) {
            let addr = shown(&options.addr);
            self.reporter.alert(format_args!("setsockopt() {addr} failed {}, ignored", Errno(&error)));
        }
        if options.kind == Kind::Stream {
            // Costs nothing when the backlog is the same.
            let _ = os::listen::listen(kept.fd.as_fd(), options.backlog);
        }
        Some(Socket { id: kept.id, key, fd: Arc::clone(&kept.fd) })
    }

    fn make_directory(&self, path: &Path) -> Result<(), (&'static str, io::Error)> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|error| ("mkdir()", error))?;
        }
        os::file::create_dir(path, 0o700).map_err(|error| ("mkdir()", error))?;
        let Some(owner) = self.owner else { return Ok(()) };
        let info = os::file::path_info(path).map_err(|error| ("stat()", error))?;
        if info.uid != owner {
            os::file::chown(path, owner).map_err(|error| ("chown()", error))?;
        }
        Ok(())
    }
}

impl Drop for SystemResources<'_> {
    /// Takes back the names of Unix sockets that will not be used.
    fn drop(&mut self) {
        for path in &self.new_unix {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Resources for SystemResources<'_> {
    fn read(&mut self, path: &Path) -> io::Result<Arc<[u8]>> {
        if let Some(Ok(text)) = self.bundle.files.get(path) {
            return Ok(Arc::clone(text));
        }
        let result = std::fs::read(path).map(Arc::from);
        let record = result.as_ref().map(Arc::clone).map_err(errno_of);
        self.bundle.files.insert(path.to_owned(), record);
        result
    }

    fn read_object(&mut self, path: &Path) -> io::Result<Arc<[u8]>> {
        use std::os::unix::fs::MetadataExt;
        if self.bundle.files.contains_key(path) {
            return self.read(path);
        }
        let stamp = std::fs::metadata(path).ok().map(|info| (info.ino(), info.mtime()));
        if let Some(stamp) = stamp {
            self.bundle.stamps.insert(path.to_owned(), stamp);
            if self.inherits_objects
                && self.before.stamps.get(path) == Some(&stamp)
                && let Some(Ok(text)) = self.before.files.get(path)
            {
                self.bundle.files.insert(path.to_owned(), Ok(Arc::clone(text)));
                return Ok(Arc::clone(text));
            }
        }
        self.read(path)
    }

    fn glob(&mut self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        let result = os::file::glob(pattern);
        let record = result.as_ref().map(Vec::clone).map_err(errno_of);
        self.bundle.globs.insert(pattern.to_owned(), record);
        result
    }

    fn socket(&mut self, spec: &SocketSpec) -> io::Result<Arc<OwnedFd>> {
        if let Some(socket) = self.bundle.socket(&SocketKey::from(spec)) {
            return Ok(Arc::clone(&socket.fd));
        }
        let socket = match self.kept_socket(spec) {
            Some(socket) => socket,
            None => {
                let fd = Arc::new(self.open_socket(spec)?);
                Socket { id: next_handle(), key: SocketKey::from(spec), fd }
            }
        };
        let fd = Arc::clone(&socket.fd);
        self.bundle.sockets.push(socket);
        Ok(fd)
    }

    fn log(&mut self, path: &Path) -> io::Result<Arc<LogFile>> {
        if let Some(log) = self.bundle.log(path) {
            return Ok(Arc::clone(&log.file));
        }
        let log = match self.before.log(path) {
            Some(log) => log.clone(),
            None => {
                let opened = os::file::open_append(path);
                let fd = opened.map_err(|error| {
                    self.fail(format_args!("open() \"{}\" failed", path.display()), error)
                })?;
                Log { id: next_handle(), file: Arc::new(LogFile::new(path.to_owned(), fd)) }
            }
        };
        let file = Arc::clone(&log.file);
        self.bundle.logs.push(log);
        Ok(file)
    }

    fn directory(&mut self, path: &Path) -> io::Result<()> {
        if let Err((call, error)) = self.make_directory(path) {
            return Err(self.fail(format_args!("{call} \"{}\" failed", path.display()), error));
        }
        self.bundle.directories.push(path.to_owned());
        Ok(())
    }

    fn resolve(&mut self, host: &str) -> io::Result<Vec<IpAddr>> {
        if let Some(Ok(found)) = self.bundle.hosts.get(host) {
            return Ok(found.clone());
        }
        let result = look_up(host);
        let record = result.as_ref().map(Vec::clone).map_err(errno_of);
        self.bundle.hosts.insert(host.to_owned(), record);
        result
    }
}

/// A number that no open descriptor has had in this process.
pub(crate) fn next_handle() -> HandleId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    HandleId(NEXT.fetch_add(1, Ordering::Relaxed))
}

/// nginx writes addresses of listening sockets with the port, Unix sockets with `unix:`.
fn shown(addr: &PeerAddr) -> String {
    addr.to_string()
}

fn listener_options(spec: &SocketSpec) -> ListenerOptions {
    let addr = match &spec.addr {
        ListenAddr::Inet(addr) => PeerAddr::Inet(*addr),
        ListenAddr::Unix(path) => PeerAddr::Unix(path.clone()),
    };
    let kind = match spec.kind {
        SocketKind::Stream => Kind::Stream,
        SocketKind::Datagram => Kind::Datagram,
    };
    let times = |times: conf::resources::TcpKeepalive| Keepalive {
        idle_sec: times.idle_sec,
        interval_sec: times.interval_sec,
        count: times.count,
    };
    ListenerOptions {
        addr,
        kind,
        sharing: if spec.reuseport.is_some() { Sharing::Shared } else { Sharing::Sole },
        backlog: spec.backlog,
        rcvbuf: spec.rcvbuf,
        sndbuf: spec.sndbuf,
        keepalive: spec.keepalive.map(|keepalive| keepalive.map(times)),
        handover: if spec.deferred { Handover::WithData } else { Handover::AtOnce },
        families: if spec.ipv6only { Families::Ipv6Only } else { Families::Both },
        fastopen: spec.fastopen,
    }
}
