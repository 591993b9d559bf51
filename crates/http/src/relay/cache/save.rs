//! `*_store`: an answer saved as a file where its URI leads to, or where the directive says
//! (`ngx_http_upstream_store`).

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use os::errlog::Level;
use os::transfer::{self, Failure, Parents};
use proto::h1::Known;

use super::Store;
use crate::relay::RelaySettings;
use crate::request::Request;
use crate::temp_file::{self, Removed};

/// A file that grows. Dropped, it leaves nothing behind.
pub(super) struct Saved {
    file: Arc<File>,
    path: Removed,
    length: u64,
    is_failed: bool,
}

impl Saved {
    /// Begins a file among the temporary ones.
    pub fn begin(settings: &RelaySettings) -> io::Result<Self> {
        let (file, path) = temp_file::create(&settings.temp_path)?;
        Ok(Self { file: Arc::new(file), path: Removed(path), length: 0, is_failed: false })
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.is_failed {
            return Ok(());
        }
        let written = self.file.write_all_at(bytes, self.length);
        match &written {
            Ok(()) => self.length += bytes.len() as u64,
            Err(_) => self.is_failed = true,
        }
        written
    }

    /// Bytes so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    pub fn is_sound(&self) -> bool {
        !self.is_failed
    }

    /// The file, and where its body begins.
    pub fn file(&self) -> Option<(&Arc<File>, u64)> {
        (!self.is_failed).then_some((&self.file, 0))
    }

    /// The body is complete: the file takes its place.
    pub fn commit(self, r: &Request, settings: &RelaySettings) {
        if self.is_failed || r.upstream_head.head.status != 200 {
            return;
        }
        let head = &r.upstream_head;
        let announced =
            head.head.fields.value(Known::ContentLength, &head.text).and_then(proto::h1::content_length);
        if announced.is_some_and(|length| length != self.length) {
            // An answer to HEAD.
            return;
        }
        let Some(target) = target(r, &settings.cache.store) else { return };
        if let Err(failure) = self.place(r, target, settings.cache.store_access) {
            r.log(Level::Crit, format_args!("{failure}"));
        }
    }

    fn place(self, r: &Request, target: PathBuf, access: u32) -> Result<(), Failure> {
        let path = &self.path.0;
        transfer::set_access(path, access)?;
        let head = &r.upstream_head;
        let modified = head.head.fields.value(Known::LastModified, &head.text).and_then(proto::date::parse);
        if let Some(modified) = modified {
            transfer::set_mtime_of(&self.file, path, modified)?;
        }
        transfer::rename(path, &target, Parents::Made(transfer::directory_access(access)))
    }
}

fn target(r: &Request, store: &Store) -> Option<PathBuf> {
    let path = match store {
        Store::Off => return None,
        Store::On => crate::paths::map_uri(r).ok()?.full,
        Store::Path(template) => template.value(r).to_vec(),
    };
    // As nginx: a URI that names a directory has no file.
    if path.is_empty() || path.contains(&0) {
        return None;
    }
    let path = PathBuf::from(std::ffi::OsString::from_vec(path));
    Some(if path.is_absolute() { path } else { r.cycle.http.prefix.join(path) })
}
