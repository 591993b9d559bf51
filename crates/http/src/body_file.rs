//! The body of a request as a file of its own, for handlers that keep it (`request_body_in_file_only`).
//!
//! However short it is, and even where there is none, it ends up under a name that can be renamed.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use os::errlog::{Errno, Level};

use crate::body::{self, RequestBody};
use crate::phases::Outcome;
use crate::request::Request;
use crate::temp_file::{self, Removed};

/// Bytes that one read asks for.
const PIECE: usize = 64 << 10;

/// A body in a temporary file, which is removed unless it is renamed.
#[derive(Debug)]
pub struct BodyFile {
    /// The file, open for reading and writing.
    pub file: Rc<File>,
    name: Removed,
}

impl BodyFile {
    /// Its name.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.name.0
    }
}

/// Reads the whole body into a temporary file below `client_body_temp_path`.
///
/// # Errors
/// What becomes of the request when the body cannot be read or written.
pub async fn read_to_file(r: &mut Request) -> Result<BodyFile, Outcome> {
    let (mut file, path) =
        temp_file::create(&r.location().core.client_body_temp_path).map_err(|error| failed(r, &error))?;
    let name = Removed(path.clone());
    match std::mem::take(&mut r.body) {
        RequestBody::Unread => {
            let length = receive(r, &mut file).await?;
            r.content_length = Some(length);
        }
        RequestBody::Memory(bytes) => file.write_all(&bytes).map_err(|error| failed(r, &error))?,
        RequestBody::Shared(bytes) => file.write_all(&bytes).map_err(|error| failed(r, &error))?,
        RequestBody::File { file: earlier, .. } => {
            copy(&earlier, &mut file).map_err(|error| failed(r, &error))?;
        }
        RequestBody::None | RequestBody::Streaming => {}
    }
    let file = Rc::new(file);
    r.body = as_body(&file, path).map_err(|error| failed(r, &error))?;
    Ok(BodyFile { file, name })
}

fn as_body(file: &Rc<File>, path: PathBuf) -> io::Result<RequestBody> {
    let length = file.metadata()?.len();
    Ok(RequestBody::File { file: Rc::clone(file), length, path })
}

async fn receive(r: &mut Request, file: &mut File) -> Result<u64, Outcome> {
    if body::send_continue(r).await.is_err() {
        return Err(Outcome::Broken(400));
    }
    let (mut piece, mut length) = (Vec::new(), 0);
    loop {
        piece.clear();
        match body::read_some(r, &mut piece, PIECE).await {
            Ok(0) => return Ok(length),
            Ok(count) => length += count as u64,
            Err(error) => return Err(error.outcome(r)),
        }
        file.write_all(&piece).map_err(|error| failed(r, &error))?;
    }
}

fn copy(from: &File, to: &mut File) -> io::Result<()> {
    let mut from = from;
    from.seek(SeekFrom::Start(0))?;
    io::copy(&mut from, to).map(drop)
}

fn failed(r: &Request, error: &io::Error) -> Outcome {
    let reason = Errno(error);
    r.log(Level::Crit, format_args!("writing a client request body to a temporary file failed {reason}"));
    Outcome::Status(500)
}
