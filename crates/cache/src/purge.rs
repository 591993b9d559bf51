//! Purging: what it means at once for those who ask, and what becomes of files later.
//!
//! A single entry's file is removed at once, and with it go its variants: a main entry that has no predecessor knows
//! no variants of before its own time. Prefixes and tags are marks that every entry found is held against, until the
//! [`Keeper`](crate::Keeper) has looked at all files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::filling::Filling;
use crate::index::{HasFile, Stamp};
use crate::key::Key;
use crate::marks::{self, Marks, Mode, Purge, Standing, Ticket, Traits};
use crate::options::Options;
use crate::record::{Meta, Record};
use crate::stored::{self, OpenError, Stored};
use crate::zone::{Ask, Zone};

/// The file that purges are written to until no entry on the disk fits them.
const FILE: &str = "purges";

/// What came of a purge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purged {
    /// There was such an entry, or may have been.
    Done,
    /// There was none.
    Nothing,
}

/// Why a purge is not complete.
#[derive(Debug)]
pub enum PurgeError {
    /// Too many are under way.
    TooMany,
    /// A file could not be written or removed. Requests get nothing of what was purged all the same.
    Io(PathBuf, io::Error),
}

/// Whether an entry that was found counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    Counts,
    Gone,
}

/// The purges of a zone.
pub(crate) struct Purges {
    marks: Mutex<Marks>,
    /// There may be some: most of the time there are none, and nobody needs the lock.
    has_any: AtomicBool,
    /// Held while the file is written.
    file: Mutex<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl Purges {
    pub fn load(options: &Options) -> Self {
        let marks = Marks::load(&options.path.join(FILE), now_ms());
        let has_any = AtomicBool::new(!marks.is_empty());
        Self { marks: Mutex::new(marks), has_any, file: Mutex::new(()) }
    }

    fn has_any(&self) -> bool {
        self.has_any.load(Ordering::Acquire)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Marks) -> T) -> T {
        let mut marks = lock(&self.marks);
        let done = change(&mut marks);
        self.has_any.store(!marks.is_empty(), Ordering::Release);
        done
    }

    fn save(&self, directory: &Path) -> Result<(), PurgeError> {
        let _alone = lock(&self.file);
        let bytes = lock(&self.marks).encode();
        let path = directory.join(FILE);
        marks::save(&path, bytes.as_deref()).map_err(|error| PurgeError::Io(path, error))
    }
}

impl Zone {
    fn purges(&self) -> &Purges {
        &self.state().purges
    }

    /// A fetch begins: what is purged from now on is not stored by it.
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        lock(&self.purges().marks).ticket()
    }

    /// Purges; what was purged is not served from this moment on. May wait for the disk.
    ///
    /// # Errors
    /// See [`PurgeError`].
    pub fn purge(&self, purge: &Purge, mode: Mode) -> Result<Purged, PurgeError> {
        let begun = self.purges().change(|marks| marks.purge(purge, mode, now_ms()));
        let begun = begun.map_err(|_| PurgeError::TooMany)?;
        match (purge, mode) {
            (Purge::Entry(text), Mode::Hard) => self.remove_entry(&Key::of(text)),
            (Purge::Entry(text), Mode::Soft) => self.outdate_entry(text, begun),
            (Purge::Prefix(_) | Purge::Tags(_), _) => {
                if matches!(purge, Purge::Prefix(_)) {
                    self.index().clear_errors();
                }
                self.purges().save(&self.options().path).map(|()| Purged::Done)
            }
        }
    }

    fn remove_entry(&self, key: &Key) -> Result<Purged, PurgeError> {
        let known = self.index().purge(key);
        let path = self.path_of(key);
        match fs::remove_file(&path) {
            Ok(()) => Ok(Purged::Done),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(if known == HasFile::Yes { Purged::Done } else { Purged::Nothing })
            }
            Err(error) => Err(PurgeError::Io(path, error)),
        }
    }

    fn outdate_entry(&self, text: &[u8], begun: u64) -> Result<Purged, PurgeError> {
        let key = Key::of(text);
        let path = self.path_of(&key);
        match stored::peek(&path) {
            Ok((record, stamp)) if record.key == text => {
                let done = self.outdate(&key, &record, stamp, begun);
                done.map(|()| Purged::Done).map_err(|error| PurgeError::Io(path, error))
            }
            Ok(_) | Err(OpenError::Absent) => Ok(Purged::Nothing),
            Err(OpenError::Damaged(_)) => self.remove_entry(&key),
            Err(OpenError::Io(error)) => Err(PurgeError::Io(path, error)),
        }
    }

    /// Writes into an entry that it and its variants are stale.
    fn outdate(&self, key: &Key, record: &Record, stamp: Stamp, begun: u64) -> io::Result<()> {
        let valid_until = record.meta.valid_until.min(stored::before_s(begun));
        let meta = Meta { valid_until, stale: begun.max(record.meta.stale), ..record.meta.clone() };
        self.rewrite(key, record, stamp, &meta, now_ms() / 1000)
    }

    /// An entry was found: whether it counts, and is as fresh as it says.
    pub(crate) fn settle(&self, ask: &Ask<'_>, stored: &mut Stored) -> Settled {
        let meta = stored.meta();
        let is_gone = meta.epoch < ask.gone;
        let mut stale = ask.stale.max(meta.stale);
        if meta.epoch >= stale {
            stale = 0;
        }
        let standing = match self.purges().has_any() {
            true => {
                let traits = Traits { main: &ask.main, text: ask.text, tags: &meta.tags, epoch: meta.epoch };
                lock(&self.purges().marks).standing(traits)
            }
            false => Standing::Good,
        };
        match standing {
            _ if is_gone => {}
            Standing::Good => {
                stored.set_stale(stale);
                return Settled::Counts;
            }
            Standing::Stale(epoch) => {
                stored.set_stale(stale.max(epoch));
                return Settled::Counts;
            }
            Standing::Gone => {}
        }
        self.remove(&ask.key);
        Settled::Gone
    }

    /// Removes an entry that does not count any more.
    pub(crate) fn remove(&self, key: &Key) {
        self.index().purge(key);
        self.unlink(key);
    }

    /// Whether what a fetch brings that began in this epoch may be stored.
    pub(crate) fn may_store(&self, main: &Key, text: &[u8], tags: &[u8], epoch: u64) -> bool {
        !self.purges().has_any() || lock(&self.purges().marks).may_store(Traits { main, text, tags, epoch })
    }

    /// Whether a fetch is one to wait for, and not of something that was purged since it began.
    pub(crate) fn is_wanted(&self, ask: &Ask<'_>, filling: &Filling) -> bool {
        let tags = filling.source().map(|source| &*source.meta.tags).unwrap_or_default();
        filling.epoch() >= ask.gone && self.may_store(&ask.main, ask.text, tags, filling.epoch())
    }

    // --- Files ----------------------------------------------------------------------------------------------------

    /// The last epoch whose purges are to be looked for on the disk, if any are.
    pub(crate) fn due_purges(&self) -> Option<u64> {
        if !self.purges().has_any() {
            return None;
        }
        self.purges().change(|marks| {
            marks.forget();
            marks.due()
        })
    }

    /// Looks whether a file fits a purge, and does what is to be done then.
    ///
    /// # Errors
    /// The error of removing or writing it: the purge must be remembered.
    pub(crate) fn cleanse(&self, key: &Key, path: &Path) -> io::Result<()> {
        // What is of no use is found out when it is asked for.
        let (record, stamp) = match stored::peek(path) {
            Ok(front) => front,
            Err(OpenError::Io(error)) => return Err(error),
            Err(OpenError::Absent | OpenError::Damaged(_)) => return Ok(()),
        };
        let main = Key::of(&record.key);
        let meta = &record.meta;
        let traits = Traits { main: &main, text: &record.key, tags: &meta.tags, epoch: meta.epoch };
        let standing = lock(&self.purges().marks).standing(traits);
        match standing {
            Standing::Good => Ok(()),
            Standing::Gone => match self.remove_entry(key) {
                Ok(_) | Err(PurgeError::TooMany) => Ok(()),
                Err(PurgeError::Io(_, error)) => Err(error),
            },
            Standing::Stale(epoch) => self.outdate(key, &record, stamp, epoch),
        }
    }

    /// All files were looked at for the purges up to an epoch.
    pub(crate) fn purges_done(&self, epoch: u64) -> Result<(), PurgeError> {
        self.purges().change(|marks| marks.walked(epoch));
        self.purges().save(&self.options().path)
    }
}
