//! What `proxy_cache_path` says of a zone.

use std::path::PathBuf;

use crate::key::Levels;

/// How much work is done before others have their turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Files at once.
    pub files: u64,
    /// Milliseconds of rest.
    pub sleep_ms: u64,
    /// Milliseconds of work at once.
    pub threshold_ms: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { files: 100, sleep_ms: 50, threshold_ms: 200 }
    }
}

/// The parameters of a zone. They may differ after a reload, but for path and levels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The directory.
    pub path: PathBuf,
    /// Names of its subdirectories.
    pub levels: Levels,
    /// Answers grow in the directory for temporary files; else beside their place.
    pub use_temp_path: bool,
    /// Bytes of `keys_zone`: it bounds the number of entries.
    pub keys_size: u64,
    /// Seconds without use after which an entry is removed.
    pub inactive_s: u64,
    /// Bytes on disk.
    pub max_size: u64,
    /// Bytes that are to stay free on the disk.
    pub min_free: u64,
    /// Bytes of bodies that are kept in memory besides.
    pub memory: u64,
    /// The pace of removing.
    pub manager: Pace,
    /// The pace of finding entries of an earlier run.
    pub loader: Pace,
    /// The pace of looking for entries that are to be purged.
    pub purger: Pace,
}

/// Bytes that nginx needs for an entry, so that `keys_zone` means as much here as there.
const ENTRY: u64 = 128;
/// Entries whose place nginx needs for the zone itself.
const OWN: u64 = 64;

impl Options {
    /// Most entries.
    #[must_use]
    pub fn capacity(&self) -> usize {
        usize::try_from((self.keys_size / ENTRY).saturating_sub(OWN)).unwrap_or(usize::MAX).max(1)
    }

    /// Bytes of the largest body that is kept in memory.
    #[must_use]
    pub fn memory_max(&self) -> u64 {
        (self.memory / 8).min(1 << 20)
    }
}
