//! Pieces of a body on their way out, and the queue that writes them to a socket.
//!
//! Small neighbours leave in one call; files leave by `sendfile`.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use net::{Buf, Stream};

use crate::subrequest::Subrequest;

/// Bytes that are copied behind others rather than sent as a slice of their own.
const COPY_MAX: usize = 4096;
/// Files up to so many bytes share a packet with the head where the kernel paces what it sends. A larger one does better
/// behind a head that left before it: BBR seems to take the rate of the whole from what was sent first.
const PACED_MORE_MAX: u64 = 64 << 10;
/// Most slices that one `sendmsg` takes.
const SLICES: usize = 16;
/// Most bytes that one `sendfile` call may move, as nginx's `sendfile_max_chunk` default of 2 MB.
const SENDFILE_MAX: u64 = 2 << 20;

/// A piece of a body.
#[derive(Debug)]
pub enum Chunk {
    /// Bytes of a pooled buffer.
    Buf {
        /// The buffer.
        buf: Buf,
        /// First byte that is still to be sent.
        start: usize,
    },
    /// Bytes that live as long as the program.
    Static(&'static [u8]),
    /// Bytes that others hold too.
    Shared {
        /// The bytes.
        bytes: Arc<[u8]>,
        /// First byte that is still to be sent.
        start: usize,
        /// Just behind the last byte.
        end: usize,
    },
    /// A part of an open file.
    File {
        /// The file.
        file: Arc<std::fs::File>,
        /// Offset of the first byte that is still to be sent.
        offset: u64,
        /// Offset just behind the last byte.
        end: u64,
    },
    /// The place of a subrequest's output: no bytes of its own.
    Subrequest(Subrequest),
}

impl Chunk {
    /// Bytes that are still to be sent.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Self::Buf { buf, start } => buf.len().saturating_sub(*start) as u64,
            Self::Static(bytes) => bytes.len() as u64,
            Self::Shared { start, end, .. } => end.saturating_sub(*start) as u64,
            Self::File { offset, end, .. } => end.saturating_sub(*offset),
            Self::Subrequest(_) => 0,
        }
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, for everything but files.
    #[must_use]
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Buf { buf, start } => buf.get(*start..),
            Self::Static(bytes) => Some(bytes),
            Self::Shared { bytes, start, end } => bytes.get(*start..*end),
            Self::File { .. } | Self::Subrequest(_) => None,
        }
    }

    /// A chunk that owns these bytes.
    #[must_use]
    pub fn copied(bytes: &[u8]) -> Self {
        let mut buf = Buf::with_capacity(bytes.len());
        buf.extend_from_slice(bytes);
        Self::Buf { buf, start: 0 }
    }

    /// Drops the first `count` bytes.
    pub fn advance(&mut self, count: u64) {
        let small = usize::try_from(count).unwrap_or(usize::MAX);
        match self {
            Self::Buf { start, .. } => *start += small,
            Self::Static(bytes) => *bytes = bytes.get(small..).unwrap_or_default(),
            Self::Shared { start, .. } => *start += small,
            Self::File { offset, .. } => *offset += count,
            Self::Subrequest(_) => {}
        }
    }

    /// A chunk of the bytes from `start` to just before `end`, counted from the first that is still to be sent.
    #[must_use]
    pub fn part(&self, start: u64, end: u64) -> Self {
        let mut part = match self {
            Self::Buf { .. } => {
                let bytes = self.bytes().unwrap_or_default();
                return Self::copied(bytes.get(start as usize..end as usize).unwrap_or_default());
            }
            Self::Static(bytes) => Self::Static(bytes.get(..end as usize).unwrap_or(bytes)),
            Self::Shared { bytes, start: first, .. } => {
                Self::Shared { bytes: Arc::clone(bytes), start: *first, end: *first + end as usize }
            }
            Self::File { file, offset, .. } => {
                Self::File { file: Arc::clone(file), offset: *offset, end: *offset + end }
            }
            Self::Subrequest(subrequest) => Self::Subrequest(subrequest.clone()),
        };
        part.advance(start);
        part
    }

    /// Cuts off and returns the first `count` bytes; the rest stays.
    #[must_use]
    pub fn split_front(&mut self, count: u64) -> Self {
        let front = self.part(0, count);
        self.advance(count);
        front
    }

    /// The bytes in memory, read from the file where needed.
    ///
    /// # Errors
    /// The error of reading the file; one that became shorter is an unexpected end.
    pub fn into_memory(self) -> io::Result<Self> {
        let Self::File { file, offset, end } = &self else { return Ok(self) };
        let length = usize::try_from(end - offset).unwrap_or(usize::MAX);
        let mut buf = Buf::with_capacity(length);
        append_file(file, *offset, length, &mut buf)?;
        Ok(Self::Buf { buf, start: 0 })
    }
}

/// Appends `length` bytes of a file to `out`; one that became shorter is an unexpected end.
fn append_file(file: &File, offset: u64, length: usize, out: &mut Vec<u8>) -> io::Result<()> {
    match os::io::pread_append_all(file.as_fd(), out, length, offset)? {
        read if read < length => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

impl From<Buf> for Chunk {
    fn from(buf: Buf) -> Self {
        Self::Buf { buf, start: 0 }
    }
}

/// Chunks in the order in which they leave.
#[derive(Debug, Default)]
pub struct Queue {
    chunks: VecDeque<Chunk>,
    length: u64,
    /// Places of subrequests among the chunks.
    places: usize,
}

/// How files in a queue are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileWrite {
    /// By `sendfile(2)` (`sendfile on`).
    Sendfile,
    /// Read into a buffer of so many bytes and sent from there (`sendfile off`, `output_buffers`).
    Copy(usize),
}

/// What follows what is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follows {
    /// More, or nothing for now.
    Anything,
    /// The end of the connection, at once: the last bytes may leave in one packet with it.
    End,
}

impl Queue {
    /// Appends a chunk; an empty one is dropped.
    pub fn push(&mut self, chunk: Chunk) {
        let length = chunk.len();
        if length > 0 {
            self.length += length;
            self.chunks.push_back(chunk);
        }
    }

    /// Appends bytes: to the last buffer when they fit in, else in a buffer of their own.
    pub fn push_bytes(&mut self, bytes: &[u8]) {
        if let Some(Chunk::Buf { buf, .. }) = self.chunks.back_mut()
            && buf.capacity() - buf.len() >= bytes.len()
        {
            buf.extend_from_slice(bytes);
            self.length += bytes.len() as u64;
            return;
        }
        self.push(Chunk::copied(bytes));
    }

    /// Appends a buffer: copied behind the last one when it is small and fits in there.
    pub fn push_bytes_of(&mut self, buffer: Buf) {
        if buffer.len() <= COPY_MAX {
            self.push_bytes(&buffer);
        } else {
            self.push(buffer.into());
        }
    }

    /// Appends the place of a subrequest: its output goes here (the request's answer must
    /// [expect](crate::output::Output::expect_subrequests) one).
    pub fn push_subrequest(&mut self, subrequest: Subrequest) {
        self.places += 1;
        self.chunks.push_back(Chunk::Subrequest(subrequest));
    }

    /// Takes the first chunk.
    pub fn pop(&mut self) -> Option<Chunk> {
        let chunk = self.chunks.pop_front()?;
        self.length -= chunk.len();
        self.places -= usize::from(matches!(chunk, Chunk::Subrequest(_)));
        Some(chunk)
    }

    /// The bytes of the first chunk, if it has them in memory.
    pub(crate) fn first_bytes(&self) -> Option<&[u8]> {
        self.chunks.front().and_then(Chunk::bytes)
    }

    /// Puts a chunk in front of the others; an empty one is dropped.
    pub fn push_front(&mut self, chunk: Chunk) {
        let is_place = matches!(chunk, Chunk::Subrequest(_));
        if is_place || !chunk.is_empty() {
            self.length += chunk.len();
            self.places += usize::from(is_place);
            self.chunks.push_front(chunk);
        }
    }

    /// Moves everything of `other` in front of this queue.
    pub fn prepend(&mut self, other: &mut Self) {
        std::mem::swap(self, other);
        self.append(other);
    }

    /// Whether the place of a subrequest comes next.
    pub(crate) fn has_place_first(&self) -> bool {
        self.places > 0 && matches!(self.chunks.front(), Some(Chunk::Subrequest(_)))
    }

    /// Moves what stands in front of the first place of a subrequest to the end of `other`.
    pub(crate) fn move_to_place(&mut self, other: &mut Self) {
        if self.places == 0 {
            other.append(self);
            return;
        }
        while !self.has_place_first()
            && let Some(chunk) = self.pop()
        {
            other.push(chunk);
        }
    }

    /// Takes the first chunk as bytes in memory; of a file no more than `max` bytes are read.
    ///
    /// # Errors
    /// As [`Chunk::into_memory`].
    pub fn pop_in_memory(&mut self, max: u64) -> io::Result<Option<Chunk>> {
        let Some(mut chunk) = self.pop() else { return Ok(None) };
        if matches!(chunk, Chunk::File { .. }) && chunk.len() > max {
            let front = chunk.split_front(max);
            self.push_front(chunk);
            chunk = front;
        }
        chunk.into_memory().map(Some)
    }

    /// Moves everything of `other` to the end of this queue.
    pub fn append(&mut self, other: &mut Self) {
        self.chunks.append(&mut other.chunks);
        self.length += std::mem::take(&mut other.length);
        self.places += std::mem::take(&mut other.places);
    }

    /// Bytes in the queue.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether the queue holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Bytes held in memory, files left out.
    #[must_use]
    pub fn in_memory(&self) -> u64 {
        self.chunks.iter().filter(|chunk| chunk.bytes().is_some()).map(Chunk::len).sum()
    }

    /// The chunks from first to last.
    pub fn iter(&self) -> impl Iterator<Item = &Chunk> {
        self.chunks.iter()
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.chunks.clear();
        self.length = 0;
        self.places = 0;
    }

    fn consume(&mut self, mut count: u64) {
        self.length = self.length.saturating_sub(count);
        while let Some(first) = self.chunks.front_mut() {
            let length = first.len();
            if count < length {
                first.advance(count);
                return;
            }
            count -= length;
            self.chunks.pop_front();
        }
    }

    /// Moves the first `count` bytes, which must be there, to the end of `out`; files are read.
    ///
    /// # Errors
    /// The error of reading a file; `out` is then as it was.
    pub fn take_into(&mut self, count: usize, out: &mut Vec<u8>) -> io::Result<()> {
        let start = out.len();
        let mut left = count;
        for chunk in &self.chunks {
            if left == 0 {
                break;
            }
            let length = usize::try_from(chunk.len()).unwrap_or(usize::MAX).min(left);
            left -= length;
            let Chunk::File { file, offset, .. } = chunk else {
                out.extend_from_slice(
                    chunk.bytes().and_then(|bytes| bytes.get(..length)).unwrap_or_default(),
                );
                continue;
            };
            if let Err(error) = append_file(file, *offset, length, out) {
                out.truncate(start);
                return Err(error);
            }
        }
        self.consume(count as u64);
        Ok(())
    }

    /// Writes as much as the socket takes, at most `limit` bytes; ready with the count once something was
    /// written, or with zero when the queue is empty.
    ///
    /// # Errors
    /// The error of the write, or of reading a file.
    pub fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        stream: &Stream,
        files: FileWrite,
        limit: u64,
        follows: Follows,
    ) -> Poll<io::Result<u64>> {
        let sent = match self.chunks.front() {
            None => return Poll::Ready(Ok(0)),
            Some(Chunk::File { file, offset, end }) => {
                let count = (end - offset).min(limit);
                match files {
                    FileWrite::Sendfile => ready!(send_file(cx, stream, file, *offset, count))?,
                    FileWrite::Copy(size) => {
                        self.load_front(count.min(size as u64))?;
                        ready!(self.send_memory(cx, stream, limit, follows))?
                    }
                }
            }
            Some(_) => ready!(self.send_memory(cx, stream, limit, follows))?,
        };
        self.consume(sent);
        Poll::Ready(Ok(sent))
    }

    /// Replaces the first `count` bytes of a leading file by a buffer.
    fn load_front(&mut self, count: u64) -> io::Result<()> {
        let Some(first) = self.chunks.front_mut() else { return Ok(()) };
        let part = first.split_front(count).into_memory()?;
        if first.is_empty() {
            self.chunks.pop_front();
        }
        self.chunks.push_front(part);
        Ok(())
    }

    #[inline]
    fn send_memory(
        &self,
        cx: &mut Context<'_>,
        stream: &Stream,
        limit: u64,
        follows: Follows,
    ) -> Poll<io::Result<u64>> {
        if self.chunks.len() == 1 && self.length <= limit {
            let bytes = self.first_bytes().unwrap_or_default();
            return send_last(cx, stream, bytes, follows).map_ok(|sent| sent as u64);
        }
        self.send_several(cx, stream, limit, follows)
    }

    #[inline(never)]
    fn send_several(
        &self,
        cx: &mut Context<'_>,
        stream: &Stream,
        limit: u64,
        follows: Follows,
    ) -> Poll<io::Result<u64>> {
        let cut = |bytes: &'_ [u8], left: u64| bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let mut memory = self.chunks.iter().map_while(Chunk::bytes);
        let first = memory.next().unwrap_or_default();
        let first = &first[..cut(first, limit)];
        let Some(second) = memory.next().filter(|_| (first.len() as u64) < limit) else {
            // The file that follows goes into the same packets.
            let has_file =
                self.chunks.get(1).is_some_and(|file| file.len() <= PACED_MORE_MAX || !stream.is_paced());
            let is_last = first.len() as u64 == self.length;
            let sent = if has_file {
                stream.poll_send_more(cx, first)
            } else {
                send_last(cx, stream, first, if is_last { follows } else { Follows::Anything })
            };
            return sent.map_ok(|sent| sent as u64);
        };
        let mut slices = [IoSlice::new(&[]); SLICES];
        slices[0] = IoSlice::new(first);
        let (mut used, mut left) = (1, limit - first.len() as u64);
        for bytes in std::iter::once(second).chain(memory) {
            if used == SLICES || left == 0 {
                break;
            }
            let bytes = &bytes[..cut(bytes, left)];
            left -= bytes.len() as u64;
            slices[used] = IoSlice::new(bytes);
            used += 1;
        }
        stream.poll_send_vectored(cx, &slices[..used]).map_ok(|sent| sent as u64)
    }
}

/// Sends the last bytes of a queue. The end goes into the same packets, but under TLS, where there are words of farewell:
/// what waits for them would wait here.
#[inline]
fn send_last(
    cx: &mut Context<'_>,
    stream: &Stream,
    bytes: &[u8],
    follows: Follows,
) -> Poll<io::Result<usize>> {
    if follows == Follows::End && stream.tls().is_none() {
        stream.poll_send_more(cx, bytes)
    } else {
        stream.poll_send(cx, bytes)
    }
}

fn send_file(
    cx: &mut Context<'_>,
    stream: &Stream,
    file: &std::fs::File,
    offset: u64,
    count: u64,
) -> Poll<io::Result<u64>> {
    let count = usize::try_from(count.min(SENDFILE_MAX)).unwrap_or(usize::MAX);
    let sent = ready!(stream.poll_send_file(cx, file, offset, count))?;
    if sent == 0 {
        // The file became shorter than its promised length.
        return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
    }
    Poll::Ready(Ok(sent as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes as they are, places as `@`.
    fn shown(queue: &mut Queue) -> String {
        let mut text = String::new();
        while let Some(chunk) = queue.pop() {
            match chunk.bytes() {
                Some(bytes) => text.push_str(&String::from_utf8_lossy(bytes)),
                None => text.push('@'),
            }
        }
        assert!(queue.is_empty() && queue.length == 0 && queue.places == 0);
        text
    }

    fn queue(text: &str) -> Queue {
        let mut queue = Queue::default();
        for part in text.split_inclusive('@') {
            queue.push(Chunk::copied(part.trim_end_matches('@').as_bytes()));
            if part.ends_with('@') {
                queue.push_subrequest(Subrequest::failed());
            }
        }
        queue
    }

    #[test]
    fn the_last_bytes_leave_with_the_end() {
        use std::io::{Read, Write};
        use std::net::{TcpListener, TcpStream};
        let connection = || {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let peer = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
            let (ours, _) = listener.accept().expect("a connection");
            ours.set_nonblocking(true).expect("a flag");
            ours.set_nodelay(true).expect("a flag");
            peer.set_nonblocking(true).expect("a flag");
            (peer, Stream::new(ours.into()))
        };
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        let mut write = |stream: &Stream, text: &str, limit, follows| {
            let mut queue = queue(text);
            let sent = queue.poll_write(cx, stream, FileWrite::Sendfile, limit, follows);
            assert!(matches!(sent, Poll::Ready(Ok(_))));
        };
        let mut seen = [0; 16];
        let (mut peer, stream) = connection();
        // With a limit it is not the last of the queue.
        write(&stream, "some", 3, Follows::End);
        assert_eq!(peer.read(&mut seen).expect("bytes"), 3);
        write(&stream, "all", 16, Follows::End);
        assert_eq!(peer.read(&mut seen).map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
        drop(stream);
        assert_eq!(peer.read(&mut seen).expect("bytes"), 3);
        assert_eq!(peer.read(&mut seen).expect("the end"), 0);
        // With bytes that nobody reads the kernel resets the connection. What was kept back arrives all the same.
        let (mut peer, stream) = connection();
        write(&stream, "all", 16, Follows::End);
        peer.write_all(b"\r\n").expect("room");
        drop(stream);
        assert_eq!(peer.read(&mut seen).expect("bytes"), 3);
    }

    #[test]
    fn places_stay_where_they_are() {
        let check = |text: &str, before: &str, behind: &str| {
            let (mut front, mut rest) = (Queue::default(), queue(text));
            rest.move_to_place(&mut front);
            assert_eq!((&*shown(&mut front), &*shown(&mut rest)), (before, behind), "{text}");
            let mut whole = queue(behind);
            whole.prepend(&mut queue(before));
            assert_eq!(shown(&mut whole), text);
        };
        check("ab", "ab", "");
        check("ab@cd", "ab", "@cd");
        check("@cd", "", "@cd");
        check("a@@b@", "a", "@@b@");
        check("", "", "");
    }
}
