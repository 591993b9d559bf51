//! All that one configuration took from outside: texts, glob results, sockets, logs, directories.
//!
//! The master records it while it compiles; the worker compiles the same text from it, with no rights at all.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use conf::resources::{ListenAddr, LogFile, Resources, SocketKind, SocketSpec};

/// What makes two specs the same socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SocketKey {
    pub(crate) addr: ListenAddr,
    pub(crate) kind: SocketKind,
    pub(crate) reuseport: Option<u32>,
}

impl From<&SocketSpec> for SocketKey {
    fn from(spec: &SocketSpec) -> Self {
        Self { addr: spec.addr.clone(), kind: spec.kind, reuseport: spec.reuseport }
    }
}

/// Number of an open socket or log, the same in master and worker for as long as it stays open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct HandleId(pub(crate) u64);

/// An open socket.
#[derive(Clone, Debug)]
pub(crate) struct Socket {
    pub(crate) id: HandleId,
    pub(crate) key: SocketKey,
    pub(crate) fd: Arc<OwnedFd>,
}

/// An open log.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    pub(crate) id: HandleId,
    pub(crate) file: Arc<LogFile>,
}

/// The number of a system error; zero where the system gave none.
pub(crate) type Errno = i32;

/// What a configuration took from outside.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bundle {
    pub(crate) files: HashMap<PathBuf, Result<Arc<[u8]>, Errno>>,
    /// Number and time of change (seconds) of the files that hold certificates and the like; the master's alone.
    pub(crate) stamps: HashMap<PathBuf, (u64, i64)>,
    pub(crate) globs: HashMap<PathBuf, Result<Vec<PathBuf>, Errno>>,
    pub(crate) hosts: HashMap<String, Result<Vec<IpAddr>, Errno>>,
    pub(crate) sockets: Vec<Socket>,
    pub(crate) logs: Vec<Log>,
    pub(crate) directories: Vec<PathBuf>,
}

impl Bundle {
    pub(crate) fn socket(&self, key: &SocketKey) -> Option<&Socket> {
        self.sockets.iter().find(|socket| socket.key == *key)
    }

    pub(crate) fn log(&self, path: &Path) -> Option<&Log> {
        self.logs.iter().find(|log| log.file.path() == path)
    }

    /// The numbers of all descriptors in it.
    pub(crate) fn handles(&self) -> impl Iterator<Item = HandleId> {
        self.sockets.iter().map(|socket| socket.id).chain(self.logs.iter().map(|log| log.id))
    }
}

pub(crate) fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().unwrap_or(0)
}

pub(crate) fn error_of(number: Errno) -> io::Error {
    if number == 0 { io::ErrorKind::Other.into() } else { io::Error::from_raw_os_error(number) }
}

/// Answers from a bundle alone; whatever the master did not record does not exist.
#[derive(Debug)]
pub(crate) struct BundleResources<'a>(pub(crate) &'a Bundle);

impl Resources for BundleResources<'_> {
    fn read(&mut self, path: &Path) -> io::Result<Arc<[u8]>> {
        match self.0.files.get(path) {
            Some(Ok(text)) => Ok(Arc::clone(text)),
            Some(Err(number)) => Err(error_of(*number)),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn glob(&mut self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        match self.0.globs.get(pattern) {
            Some(Ok(paths)) => Ok(paths.clone()),
            Some(Err(number)) => Err(error_of(*number)),
            None => Ok(Vec::new()),
        }
    }

    fn socket(&mut self, spec: &SocketSpec) -> io::Result<Arc<OwnedFd>> {
        let found = self.0.socket(&SocketKey::from(spec));
        found.map(|socket| Arc::clone(&socket.fd)).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn log(&mut self, path: &Path) -> io::Result<Arc<LogFile>> {
        self.0.log(path).map(|log| Arc::clone(&log.file)).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn directory(&mut self, path: &Path) -> io::Result<()> {
        let is_there = self.0.directories.iter().any(|known| known == path);
        if is_there { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn resolve(&mut self, host: &str) -> io::Result<Vec<IpAddr>> {
        match self.0.hosts.get(host) {
            Some(Ok(found)) => Ok(found.clone()),
            Some(Err(number)) => Err(error_of(*number)),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}
