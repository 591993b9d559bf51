//! `gzip_static` and its likes: a file that was coded beforehand in the place of the plain one.
//!
//! Whether it is there decides about `Vary` even for a client that gets the plain one.

use os::errlog::Level;
use proto::h1::{Known, Method};

use super::{Coding, accepts};
use crate::open_file::{self, Want};
use crate::paths::map_uri;
use crate::phases::Outcome;
use crate::request::Request;

/// `gzip_static` and its likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precompressed {
    /// Never.
    #[default]
    Off,
    /// For those who take the coding.
    On,
    /// For all.
    Always,
}

impl Precompressed {
    /// The names of the modes.
    pub const NAMES: [(&'static str, Self); 3] =
        [("off", Self::Off), ("on", Self::On), ("always", Self::Always)];
}

/// Answers with the coded file beside the one that the URI names, or declines.
pub fn serve(r: &mut Request, coding: Coding, mode: Precompressed) -> Outcome {
    if mode == Precompressed::Off
        || !matches!(r.method, Method::Get | Method::Head)
        || r.uri.last() == Some(&b'/')
    {
        return Outcome::Declined;
    }
    let takes = mode == Precompressed::Always || accepts(r, coding);
    if !takes && !r.location().core.gzip_vary {
        return Outcome::Declined;
    }
    let mut path = match map_uri(r) {
        Ok(path) => path.full,
        Err(status) => return Outcome::Status(status),
    };
    path.extend_from_slice(coding.suffix().as_bytes());
    let opened = match open_file::open(r, &path, Want::File) {
        Ok(opened) => opened,
        Err(error) => {
            if !error.is_missing() {
                let shown = String::from_utf8_lossy(&path);
                r.log(error.level(), format_args!("{} \"{shown}\" failed {error}", error.call));
            }
            return Outcome::Declined;
        }
    };
    if mode == Precompressed::On {
        r.response.varies_by_coding = true;
        if !takes {
            return Outcome::Declined;
        }
    }
    if opened.info.is_dir() {
        return Outcome::Declined;
    }
    let Some(file) = opened.file.filter(|_| opened.info.is_file()) else {
        let shown = String::from_utf8_lossy(&path);
        r.log(Level::Crit, format_args!("\"{shown}\" is not a regular file"));
        return Outcome::Status(404);
    };
    open_file::announce(r, &opened.info, opened.info.size);
    let name = coding.name().as_bytes();
    r.response.headers.push_known(Known::ContentEncoding, b"Content-Encoding", name);
    Outcome::send(open_file::whole(file, opened.info.size))
}
