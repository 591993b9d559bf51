//! What master and worker say to each other, with the descriptors that go along.
//!
//! A descriptor that the worker has already is not sent again: one socket must not have two numbers there,
//! or an epoll set would go on to watch it under the number that was closed.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use conf::resources::{ListenAddr, LogFile, SocketKind};
use os::fdpass::{self, Message};

use crate::bundle::{Bundle, Errno, HandleId, Log, Socket, SocketKey};
use crate::wire::{Reader, Writer, malformed};

/// What the master tells the worker.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one comes at a time, and seldom")]
pub(crate) enum Order {
    /// Compile this and go over to it.
    Reload(Bundle),
    /// These logs are other files now.
    Reopen(Vec<(HandleId, OwnedFd)>),
    /// Shut down gracefully.
    Quit,
    /// Shut down at once.
    Terminate,
}

/// What the worker answers to [`Order::Reload`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It runs under the new configuration.
    Adopted,
    /// It does not, for this reason.
    Refused(String),
}

const RELOAD: u8 = 1;
const REOPEN: u8 = 2;
const QUIT: u8 = 3;
const TERMINATE: u8 = 4;
const ADOPTED: u8 = 5;
const REFUSED: u8 = 6;

pub(crate) fn send_quit(channel: BorrowedFd<'_>) -> io::Result<()> {
    fdpass::send(channel, &[QUIT], &[])
}

pub(crate) fn send_terminate(channel: BorrowedFd<'_>) -> io::Result<()> {
    fdpass::send(channel, &[TERMINATE], &[])
}

pub(crate) fn send_answer(channel: BorrowedFd<'_>, answer: &Answer) -> io::Result<()> {
    let mut writer = Writer::default();
    match answer {
        Answer::Adopted => writer.u8(ADOPTED),
        Answer::Refused(why) => {
            writer.u8(REFUSED);
            writer.bytes(why.as_bytes());
        }
    }
    fdpass::send(channel, &writer.finish(), &[])
}

/// Reads the next answer; `None` when the worker is gone.
pub(crate) fn receive_answer(channel: BorrowedFd<'_>) -> io::Result<Option<Answer>> {
    let Some(message) = fdpass::receive(channel)? else { return Ok(None) };
    let mut reader = Reader::new(&message.payload);
    match reader.u8()? {
        ADOPTED => Ok(Some(Answer::Adopted)),
        REFUSED => Ok(Some(Answer::Refused(String::from_utf8_lossy(reader.bytes()?).into_owned()))),
        _ => Err(malformed()),
    }
}

/// Sends the logs that were opened anew.
pub(crate) fn send_reopen(channel: BorrowedFd<'_>, logs: &[Log]) -> io::Result<()> {
    let mut writer = Writer::default();
    writer.u8(REOPEN);
    writer.u64(logs.len() as u64);
    for log in logs {
        writer.u64(log.id.0);
    }
    let fds: Vec<_> = logs.iter().map(|log| log.file.as_fd()).collect();
    fdpass::send(channel, &writer.finish(), &fds)
}

/// Sends a bundle, and the descriptors in it that are not among `held`.
pub(crate) fn send_reload(
    channel: BorrowedFd<'_>,
    bundle: &Bundle,
    held: &HashSet<HandleId>,
) -> io::Result<()> {
    let mut writer = Writer::default();
    let mut fds = Vec::new();
    writer.u8(RELOAD);
    writer.u64(bundle.files.len() as u64);
    for (path, text) in &bundle.files {
        writer.path(path);
        write_result(&mut writer, text, |writer, text| writer.bytes(text));
    }
    writer.u64(bundle.globs.len() as u64);
    for (pattern, paths) in &bundle.globs {
        writer.path(pattern);
        write_result(&mut writer, paths, |writer, paths| {
            writer.u64(paths.len() as u64);
            paths.iter().for_each(|path| writer.path(path));
        });
    }
    writer.u64(bundle.hosts.len() as u64);
    for (host, addresses) in &bundle.hosts {
        writer.bytes(host.as_bytes());
        write_result(&mut writer, addresses, |writer, addresses| {
            writer.u64(addresses.len() as u64);
            addresses.iter().for_each(|address| writer.bytes(address.to_string().as_bytes()));
        });
    }
    writer.u64(bundle.directories.len() as u64);
    bundle.directories.iter().for_each(|path| writer.path(path));
    writer.u64(bundle.sockets.len() as u64);
    for socket in &bundle.sockets {
        write_key(&mut writer, &socket.key);
        write_handle(&mut writer, socket.id, socket.fd.as_fd(), held, &mut fds);
    }
    writer.u64(bundle.logs.len() as u64);
    for log in &bundle.logs {
        writer.path(log.file.path());
        write_handle(&mut writer, log.id, log.file.as_fd(), held, &mut fds);
    }
    fdpass::send(channel, &writer.finish(), &fds)
}

fn write_result<T>(writer: &mut Writer, result: &Result<T, Errno>, write: impl FnOnce(&mut Writer, &T)) {
    match result {
        Ok(value) => {
            writer.u8(1);
            write(writer, value);
        }
        Err(number) => {
            writer.u8(0);
            writer.u64(u64::from(number.unsigned_abs()));
        }
    }
}

fn write_handle<'a>(
    writer: &mut Writer,
    id: HandleId,
    fd: BorrowedFd<'a>,
    held: &HashSet<HandleId>,
    fds: &mut Vec<BorrowedFd<'a>>,
) {
    writer.u64(id.0);
    if held.contains(&id) {
        writer.u8(0);
    } else {
        writer.u8(1);
        fds.push(fd);
    }
}

fn write_key(writer: &mut Writer, key: &SocketKey) {
    match &key.addr {
        ListenAddr::Inet(addr) => {
            writer.u8(0);
            writer.bytes(addr.to_string().as_bytes());
        }
        ListenAddr::Unix(path) => {
            writer.u8(1);
            writer.path(path);
        }
    }
    writer.u8(u8::from(key.kind == SocketKind::Datagram));
    writer.u64(key.reuseport.map_or(u64::MAX, u64::from));
}

/// Reads the next order, with what the worker `held` before; `None` when the master is gone.
pub(crate) fn receive_order(channel: BorrowedFd<'_>, held: &Bundle) -> io::Result<Option<Order>> {
    let Some(Message { payload, fds }) = fdpass::receive(channel)? else { return Ok(None) };
    let mut reader = Reader::new(&payload);
    let mut fds = fds.into_iter();
    Ok(Some(match reader.u8()? {
        RELOAD => Order::Reload(read_bundle(&mut reader, &mut fds, held)?),
        REOPEN => Order::Reopen(
            reader.list(|reader| Ok((HandleId(reader.u64()?), fds.next().ok_or_else(malformed)?)))?,
        ),
        QUIT => Order::Quit,
        TERMINATE => Order::Terminate,
        _ => return Err(malformed()),
    }))
}

fn read_bundle(
    reader: &mut Reader<'_>,
    fds: &mut impl Iterator<Item = OwnedFd>,
    held: &Bundle,
) -> io::Result<Bundle> {
    let files = reader.list(|reader| {
        let path = reader.path()?;
        Ok((path, read_result(reader, |reader| reader.bytes().map(Arc::from))?))
    })?;
    let globs = reader.list(|reader| {
        let pattern = reader.path()?;
        Ok((pattern, read_result(reader, |reader| reader.list(Reader::path))?))
    })?;
    let hosts = reader.list(|reader| {
        let host = reader.text()?.to_owned();
        Ok((host, read_result(reader, |reader| reader.list(read_address))?))
    })?;
    let directories = reader.list(Reader::path)?;
    let sockets = reader.list(|reader| {
        let key = read_key(reader)?;
        let id = HandleId(reader.u64()?);
        let fd = match reader.u8()? {
            0 => held.sockets.iter().find(|socket| socket.id == id).map(|socket| Arc::clone(&socket.fd)),
            _ => fds.next().map(Arc::new),
        };
        Ok(Socket { id, key, fd: fd.ok_or_else(malformed)? })
    })?;
    let logs = reader.list(|reader| {
        let path = reader.path()?;
        let id = HandleId(reader.u64()?);
        let file = match reader.u8()? {
            0 => held.logs.iter().find(|log| log.id == id).map(|log| Arc::clone(&log.file)),
            _ => fds.next().map(|fd| Arc::new(LogFile::new(path, fd))),
        };
        Ok(Log { id, file: file.ok_or_else(malformed)? })
    })?;
    let (files, globs, hosts) =
        (files.into_iter().collect(), globs.into_iter().collect(), hosts.into_iter().collect());
    Ok(Bundle { files, stamps: std::collections::HashMap::new(), globs, hosts, sockets, logs, directories })
}

fn read_result<'a, T>(
    reader: &mut Reader<'a>,
    read: impl FnOnce(&mut Reader<'a>) -> io::Result<T>,
) -> io::Result<Result<T, Errno>> {
    match reader.u8()? {
        1 => read(reader).map(Ok),
        _ => Ok(Err(Errno::try_from(reader.u64()?).map_err(|_| malformed())?)),
    }
}

fn read_address(reader: &mut Reader<'_>) -> io::Result<IpAddr> {
    reader.text()?.parse().map_err(|_| malformed())
}

fn read_key(reader: &mut Reader<'_>) -> io::Result<SocketKey> {
    let addr = match reader.u8()? {
        0 => ListenAddr::Inet(reader.text()?.parse::<SocketAddr>().map_err(|_| malformed())?),
        _ => ListenAddr::Unix(reader.path()?),
    };
    let kind = if reader.u8()? == 0 { SocketKind::Stream } else { SocketKind::Datagram };
    let reuseport = match reader.u64()? {
        u64::MAX => None,
        index => Some(u32::try_from(index).map_err(|_| malformed())?),
    };
    Ok(SocketKey { addr, kind, reuseport })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::fs::File;
    use std::os::fd::AsRawFd;
    use std::path::{Path, PathBuf};

    fn null() -> OwnedFd {
        File::open("/dev/null").expect("null").into()
    }

    fn key(text: &str) -> SocketKey {
        let addr = match text.parse() {
            Ok(addr) => ListenAddr::Inet(addr),
            Err(_) => ListenAddr::Unix(text.into()),
        };
        SocketKey { addr, kind: SocketKind::Stream, reuseport: None }
    }

    #[test]
    fn a_bundle_crosses_with_new_descriptors_only() {
        let kept = Socket { id: HandleId(1), key: key("127.0.0.1:80"), fd: Arc::new(null()) };
        let fresh = Socket { id: HandleId(2), key: key("/run/x.sock"), fd: Arc::new(null()) };
        let log = Log { id: HandleId(3), file: Arc::new(LogFile::new("/l".into(), null())) };
        let bundle = Bundle {
            files: HashMap::from([("/a".into(), Ok(Arc::from(&b"text"[..]))), ("/b".into(), Err(2))]),
            stamps: HashMap::new(),
            globs: HashMap::from([("/*".into(), Ok(vec![PathBuf::from("/a")]))]),
            hosts: HashMap::from([("h".into(), Ok(vec![[127, 0, 0, 1].into()])), ("none".into(), Err(5))]),
            sockets: vec![kept.clone(), fresh],
            logs: vec![log],
            directories: vec!["/d".into()],
        };
        let held = Bundle { sockets: vec![kept.clone()], ..Bundle::default() };
        let (a, b) = os::socket::pair().expect("pair");
        send_reload(a.as_fd(), &bundle, &HashSet::from([HandleId(1)])).expect("send");
        let Some(Order::Reload(seen)) = receive_order(b.as_fd(), &held).expect("receive") else {
            panic!("another order");
        };
        assert_eq!(seen.files, bundle.files);
        assert_eq!(seen.globs, bundle.globs);
        assert_eq!(seen.hosts, bundle.hosts);
        assert_eq!(seen.directories, bundle.directories);
        assert_eq!(seen.sockets[0].fd.as_raw_fd(), kept.fd.as_raw_fd());
        assert_eq!(seen.sockets[1].key, key("/run/x.sock"));
        assert_eq!(seen.log(Path::new("/l")).map(|log| log.id), Some(HandleId(3)));
    }

    #[test]
    fn short_talk() {
        let (a, b) = os::socket::pair().expect("pair");
        let held = Bundle::default();
        send_quit(a.as_fd()).expect("send");
        assert!(matches!(receive_order(b.as_fd(), &held), Ok(Some(Order::Quit))));
        send_terminate(a.as_fd()).expect("send");
        assert!(matches!(receive_order(b.as_fd(), &held), Ok(Some(Order::Terminate))));
        let log = Log { id: HandleId(9), file: Arc::new(LogFile::new("/l".into(), null())) };
        send_reopen(a.as_fd(), &[log]).expect("send");
        let Ok(Some(Order::Reopen(logs))) = receive_order(b.as_fd(), &held) else { panic!("another order") };
        assert_eq!(logs[0].0, HandleId(9));
        for answer in [Answer::Adopted, Answer::Refused("no".into())] {
            send_answer(b.as_fd(), &answer).expect("send");
            assert_eq!(receive_answer(a.as_fd()).expect("receive"), Some(answer));
        }
        drop(a);
        assert!(matches!(receive_order(b.as_fd(), &held), Ok(None)));
    }
}
