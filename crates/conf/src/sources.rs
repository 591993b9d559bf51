//! The texts that a configuration was read from, by number, for messages and for `-T`.
//!
//! A file that is included twice is kept once: the first reading counts, as in nginx's dump.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Number of a [`Source`] in [`Sources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(u32);

impl FileId {
    /// The text of a default in a [`Row`](crate::Row), which no file holds.
    pub const DEFAULT: Self = Self(u32::MAX);
}

/// A position in a source; lines and columns count from 1, columns in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The source.
    pub file: FileId,
    /// The line.
    pub line: u32,
    /// The byte in the line.
    pub column: u32,
}

/// Where a text comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file.
    File,
    /// The `-g` option.
    CommandLine,
}

/// One text with its name.
#[derive(Clone, Debug)]
pub struct Source {
    /// The path, as nginx names it in messages.
    pub path: PathBuf,
    /// The bytes.
    pub text: Arc<[u8]>,
    /// A file or the command line.
    pub origin: Origin,
    /// The `include` that first asked for it.
    pub included_from: Option<Place>,
}

/// All texts in the order of first reading.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    list: Vec<Source>,
    // By the path's bytes: nginx takes two spellings of a path for two files.
    files: HashMap<OsString, FileId>,
}

impl Sources {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The source of this number; `None` for [`FileId::DEFAULT`].
    #[must_use]
    pub fn source(&self, id: FileId) -> Option<&Source> {
        self.list.get(id.0 as usize)
    }

    /// The files (not the command line) in the order of first reading.
    pub fn files(&self) -> impl Iterator<Item = &Source> {
        self.list.iter().filter(|source| source.origin == Origin::File)
    }

    /// The text of a line without its line end; `None` past the end.
    #[must_use]
    pub fn line(&self, place: Place) -> Option<&[u8]> {
        let text = &self.source(place.file)?.text;
        let line = text.split(|byte| *byte == b'\n').nth(place.line.checked_sub(1)? as usize)?;
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }

    /// Writes every file with its name, as `nginx -T` does.
    ///
    /// # Errors
    /// The error of writing.
    pub fn dump(&self, out: &mut dyn io::Write) -> io::Result<()> {
        for source in self.files() {
            out.write_all(b"# configuration file ")?;
            out.write_all(source.path.as_os_str().as_bytes())?;
            out.write_all(b":\n")?;
            out.write_all(&source.text)?;
            out.write_all(b"\n")?;
        }
        Ok(())
    }

    pub(crate) fn known(&self, path: &Path) -> Option<(FileId, Arc<[u8]>)> {
        let id = *self.files.get(path.as_os_str())?;
        Some((id, Arc::clone(&self.source(id)?.text)))
    }

    pub(crate) fn add(&mut self, source: Source) -> FileId {
        let id = FileId(u32::try_from(self.list.len()).unwrap_or(u32::MAX));
        if source.origin == Origin::File {
            self.files.insert(source.path.clone().into_os_string(), id);
        }
        self.list.push(source);
        id
    }
}
