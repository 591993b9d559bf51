//! The body of a request: decoded as it comes in, kept in memory or in a temporary file.
//!
//! How a body is delimited was decided by `proto`; nothing here looks at header fields.

mod reader;

use std::fs::File;
use std::future::poll_fn;
use std::io::{self, Write};
use std::path::PathBuf;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use net::Buf;
use os::errlog::Level;

pub use self::reader::BodyReader;
use crate::client::Client;
use crate::conf::core::BodyInFile;
use crate::phases::Outcome;
use crate::request::Request;
use crate::server::h2;
use crate::temp_file;

/// That the body of a request may come (RFC 9110, 15.2.1).
pub(crate) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// Bytes that one read asks for.
const READ_SIZE: usize = 16 << 10;
/// Bytes that a client may have under way on a stream whose body is stored as it comes in.
const STREAM_WINDOW: usize = 1 << 20;

/// The body as far as it was read for a handler.
#[derive(Debug, Default)]
pub enum RequestBody {
    /// Nobody asked for it yet.
    #[default]
    Unread,
    /// There is none.
    None,
    /// All of it, in memory.
    Memory(Buf),
    /// As [`Self::Memory`], with others that read it too.
    Shared(Rc<Buf>),
    /// All of it, in a file.
    File {
        /// The file.
        file: Rc<File>,
        /// Bytes.
        length: u64,
        /// Its name, which it has lost where it is not to be kept.
        path: PathBuf,
    },
    /// It is handed on as it comes in.
    Streaming,
}

impl RequestBody {
    /// The bytes of a body that was read as a whole and is in memory.
    #[must_use]
    pub fn memory(&self) -> Option<&[u8]> {
        match self {
            Self::Memory(buf) => Some(buf),
            Self::Shared(buf) => Some(buf),
            _ => None,
        }
    }

    /// Whether it was read as a whole.
    #[inline]
    #[must_use]
    pub fn is_whole(&self) -> bool {
        matches!(self, Self::Memory(_) | Self::Shared(_) | Self::File { .. })
    }

    /// Becomes a body of which nothing is held. Mostly none of it was before, and nothing is to be dropped.
    #[inline]
    pub(crate) fn let_go(&mut self, state: Self) {
        if self.is_whole() {
            *self = state;
        } else {
            std::mem::forget(std::mem::replace(self, state));
        }
    }

    /// The same body for a subrequest: what was read, and nothing where somebody still reads.
    #[must_use]
    pub(crate) fn share(&mut self) -> Self {
        if let Self::Memory(buf) = self {
            *self = Self::Shared(Rc::new(std::mem::take(buf)));
        }
        match self {
            Self::Shared(buf) => Self::Shared(Rc::clone(buf)),
            Self::File { file, length, path } => {
                Self::File { file: Rc::clone(file), length: *length, path: path.clone() }
            }
            Self::Unread | Self::None | Self::Memory(_) | Self::Streaming => Self::None,
        }
    }

    /// Bytes of a body that was read as a whole.
    #[must_use]
    pub fn length(&self) -> u64 {
        match self {
            Self::Memory(buf) => buf.len() as u64,
            Self::Shared(buf) => buf.len() as u64,
            Self::File { length, .. } => *length,
            _ => 0,
        }
    }
}

/// Why a body could not be read.
#[derive(Debug)]
pub enum BodyError {
    /// The client went away, or its socket failed.
    Closed,
    /// `client_body_timeout`.
    TimedOut,
    /// The chunks are broken.
    Invalid,
    /// It is to be base64 and is none.
    NotBase64,
    /// More than `client_max_body_size`: bytes so far, and those of the chunk that is too much.
    TooLarge(u64, u64),
    /// A stream brought more than `client_max_body_size`: bytes so far.
    StreamTooLarge(u64),
    /// A stream brought more than its `Content-Length` says.
    MoreThanDeclared,
    /// A stream ended before its `Content-Length`: bytes that came, and that were declared.
    LessThanDeclared(u64, u64),
    /// The temporary file failed.
    File(io::Error),
}

impl BodyError {
    /// What becomes of the request.
    #[must_use]
    pub fn outcome(&self, r: &Request) -> Outcome {
        match self {
            Self::Closed if r.stream().is_some() => {
                r.log(Level::Info, format_args!("client prematurely closed stream"));
                Outcome::Broken(499)
            }
            Self::StreamTooLarge(so_far) => {
                r.log(
                    Level::Error,
                    format_args!("client intended to send too large chunked body: {so_far} bytes"),
                );
                Outcome::Status(413)
            }
            Self::MoreThanDeclared => {
                condemn(r);
                r.log(Level::Info, format_args!("client intended to send body data larger than declared"));
                Outcome::Status(400)
            }
            Self::LessThanDeclared(came, declared) => {
                condemn(r);
                r.log(
                    Level::Info,
                    format_args!(
                        "client prematurely closed stream: only {came} out of {declared} bytes of request body \
                         received"
                    ),
                );
                Outcome::Status(400)
            }
            Self::Closed => {
                r.log(Level::Info, format_args!("client prematurely closed connection"));
                Outcome::Broken(400)
            }
            Self::TimedOut => {
                r.log(Level::Info, format_args!("client timed out (110: Connection timed out)"));
                Outcome::Status(408)
            }
            Self::Invalid => {
                r.log(Level::Error, format_args!("client sent invalid chunked body"));
                Outcome::Status(400)
            }
            Self::NotBase64 => {
                r.log(Level::Info, format_args!("client sent a body that is no base64"));
                Outcome::Status(400)
            }
            Self::TooLarge(so_far, chunk) => {
                r.log(
                    Level::Error,
                    format_args!("client intended to send too large chunked body: {so_far}+{chunk} bytes"),
                );
                Outcome::Status(413)
            }
            Self::File(_) => Outcome::Status(500),
        }
    }
}

/// A body of another length than declared makes its request a malformed one (RFC 9113, 8.1.1).
fn condemn(r: &Request) {
    if let Some(stream) = r.stream() {
        stream.condemn();
    }
}

/// Sends `100 Continue` when the client waits for it (`ngx_http_test_expect`).
///
/// # Errors
/// When the client cannot be written to.
pub async fn send_continue(r: &mut Request) -> io::Result<()> {
    if !r.expects_continue.take() {
        return Ok(());
    }
    if let Client::Stream(stream) = &r.client {
        h2::send_continue(stream);
        return Ok(());
    }
    r.client_deadline().set_after(r.location().core.send_timeout);
    r.conn.stream.send_all(CONTINUE, &r.conn.deadline).await
}

/// Appends up to `max` bytes of the body to `out`; zero is its end.
fn poll_body(
    r: &mut Request,
    cx: &mut Context<'_>,
    out: &mut Vec<u8>,
    max: usize,
) -> Poll<Result<usize, BodyError>> {
    match &r.client {
        Client::Connection => r.reader.poll_read(cx, &r.conn.stream, &r.conn.deadline, out, max),
        Client::Stream(stream) => r.reader.poll_stream(cx, stream, &r.stream_deadline, out, max),
    }
}

/// As [`read_some`], for who sets the deadline and waits himself.
pub(crate) fn poll_some(
    r: &mut Request,
    cx: &mut Context<'_>,
    out: &mut Vec<u8>,
    max: usize,
) -> Poll<Result<usize, BodyError>> {
    r.reader.limit = r.location().core.client_max_body_size;
    let count = ready!(poll_body(r, cx, out, max))?;
    r.received += count as u64;
    r.client_deadline().set_after(r.location().core.client_body_timeout);
    Poll::Ready(Ok(count))
}

/// Reads some of the body, waiting at most `client_body_timeout` for each piece.
///
/// # Errors
/// [`BodyError`].
pub async fn read_some(r: &mut Request, out: &mut Vec<u8>, max: usize) -> Result<usize, BodyError> {
    r.client_deadline().set_after(r.location().core.client_body_timeout);
    r.reader.limit = r.location().core.client_max_body_size;
    let count = poll_fn(|cx| poll_body(r, cx, out, max)).await?;
    r.received += count as u64;
    Ok(count)
}

/// As [`read_all`] where there is nothing to read.
#[inline]
pub(crate) fn read_none(r: &mut Request) {
    if matches!(r.body, RequestBody::Unread) {
        r.body.let_go(RequestBody::None);
    }
}

/// Reads the whole body into memory or a file (`ngx_http_read_client_request_body`).
///
/// # Errors
/// What becomes of the request when the body cannot be read.
pub async fn read_all(r: &mut Request) -> Result<(), Outcome> {
    if !matches!(r.body, RequestBody::Unread) {
        return Ok(());
    }
    if !r.reader.is_open() {
        read_none(r);
        return Ok(());
    }
    if send_continue(r).await.is_err() {
        return Err(Outcome::Broken(400));
    }
    if let Client::Stream(stream) = &r.client {
        stream.open_window(STREAM_WINDOW);
    }
    match gather(r).await {
        Ok(body) => {
            r.content_length = Some(body.length());
            r.body = body;
            Ok(())
        }
        Err(error) => Err(error.outcome(r)),
    }
}

/// Makes ready for handing the body on as it comes in. One that has come in already, and fits the buffer, is
/// taken as a whole, so that it can be sent to another peer too (`ngx_http_read_client_request_body` with
/// `request_body_no_buffering`).
///
/// # Errors
/// What becomes of the request when the body cannot be read.
pub async fn begin_stream(r: &mut Request) -> Result<(), Outcome> {
    if !matches!(r.body, RequestBody::Unread) {
        return Ok(());
    }
    if send_continue(r).await.is_err() {
        return Err(Outcome::Broken(400));
    }
    let in_memory = memory_for(r);
    if let Client::Stream(stream) = &r.client {
        stream.open_window(r.location().core.client_body_buffer_size);
    }
    let mut buf = Buf::with_capacity(in_memory.min(READ_SIZE));
    r.client_deadline().set_after(r.location().core.client_body_timeout);
    r.reader.limit = r.location().core.client_max_body_size;
    while r.reader.is_open() && buf.len() < in_memory {
        let room = (in_memory - buf.len()).min(READ_SIZE);
        match poll_fn(|cx| Poll::Ready(poll_body(r, cx, &mut buf, room))).await {
            Poll::Pending => break,
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(error)) => return Err(error.outcome(r)),
        }
    }
    if r.reader.is_open() {
        r.reader.ahead = buf;
        r.body = RequestBody::Streaming;
    } else {
        r.received += buf.len() as u64;
        r.content_length = Some(buf.len() as u64);
        r.body = RequestBody::Memory(buf);
    }
    Ok(())
}

/// Bytes of the body that are kept in memory; as in nginx a body that is slightly larger than the buffer still is.
fn memory_for(r: &Request) -> usize {
    let size = r.location().core.client_body_buffer_size;
    match r.content_length {
        // A stream says in a frame of its own that it ends; there is room for a byte more until that comes.
        Some(length) if r.stream().is_some() => {
            usize::try_from(length).unwrap_or(usize::MAX).saturating_add(1).min(size)
        }
        Some(length) if length < (size + size / 4) as u64 => usize::try_from(length).unwrap_or(0),
        _ => size,
    }
}

async fn gather(r: &mut Request) -> Result<RequestBody, BodyError> {
    let in_memory = memory_for(r);
    let mut file: Option<(File, PathBuf, u64)> = None;
    let mut buf = Buf::with_capacity(in_memory.min(READ_SIZE));
    if r.location().core.client_body_in_file_only != BodyInFile::Off {
        file = Some(open_file(r, Level::Notice)?);
    }
    loop {
        if buf.len() >= in_memory && r.reader.is_open() && file.is_none() {
            file = Some(open_file(r, Level::Warn)?);
        }
        if let Some((file, _, written)) = file.as_mut().filter(|_| buf.len() >= in_memory) {
            file.write_all(&buf).map_err(|error| file_error(r, error))?;
            *written += buf.len() as u64;
            buf.clear();
        }
        let room = in_memory.saturating_sub(buf.len()).clamp(1, READ_SIZE);
        buf.reserve(room);
        if read_some(r, &mut buf, room).await? == 0 {
            break;
        }
    }
    match file {
        None => Ok(RequestBody::Memory(buf)),
        Some((mut file, path, mut written)) => {
            file.write_all(&buf).map_err(|error| file_error(r, error))?;
            written += buf.len() as u64;
            Ok(RequestBody::File { file: Rc::new(file), length: written, path })
        }
    }
}

fn open_file(r: &mut Request, level: Level) -> Result<(File, PathBuf, u64), BodyError> {
    let (file, path) =
        temp_file::create(&r.location().core.client_body_temp_path).map_err(|error| file_error(r, error))?;
    match r.location().core.client_body_in_file_only {
        BodyInFile::On => {}
        BodyInFile::Clean => r.contexts.put(temp_file::Removed(path.clone())),
        // Its name says nothing any more, but variables and the log still tell it.
        BodyInFile::Off => drop(std::fs::remove_file(&path)),
    }
    r.log(level, format_args!("a client request body is buffered to a temporary file {}", path.display()));
    Ok((file, path, 0))
}

fn file_error(r: &Request, error: io::Error) -> BodyError {
    r.log(
        Level::Crit,
        format_args!(
            "writing a client request body to a temporary file failed {}",
            os::errlog::Errno(&error)
        ),
    );
    BodyError::File(error)
}

/// Reads the rest of the body and drops it, so that another request can follow on the connection; says whether
/// the body's end was reached.
pub async fn discard(r: &mut Request) -> bool {
    if !r.reader.is_open() {
        return true;
    }
    let core = std::sync::Arc::clone(&r.location().core);
    let until = net::timer::now_ms() + core.lingering_time;
    let mut scrap = Buf::with_capacity(READ_SIZE);
    while net::timer::now_ms() < until {
        scrap.clear();
        r.client_deadline().set_after(core.lingering_timeout);
        match poll_fn(|cx| poll_body(r, cx, &mut scrap, READ_SIZE)).await {
            Ok(0) => return true,
            Ok(count) => r.received += count as u64,
            Err(_) => return false,
        }
    }
    false
}
