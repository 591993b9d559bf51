//! A zone: the entries of one `proxy_cache_path`, found, fetched and removed by all threads. What was purged is in
//! [`crate::purge`].

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::counters::Counters;
use crate::filling::{Filling, Lease, Phase};
use crate::index::{HasFile, Index, Otherwise, Seen, Stamp, Visit};
use crate::key::Key;
use crate::marks::Ticket;
use crate::options::Options;
use crate::purge::{Purges, Settled};
use crate::record::{self, Damage, Meta, Record};
use crate::stored::{self, OpenError, Opened, Spoiled, Stored, Unverified};

/// Permission bits of directories.
pub(crate) const DIRECTORY: u32 = 0o700;
/// Seconds in which the same kind of trouble is told once.
const QUIET_S: u64 = 60;

/// How an entry is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The entry.
    pub key: Key,
    /// The main key, of which the entry may be a variant.
    pub main: Key,
    /// What the main key is made of: it must be what the file says.
    pub text: &'a [u8],
    /// What the main entry says of its variants ([`Meta::gone`]); 0 for itself.
    pub gone: u64,
    /// As well ([`Meta::stale`]).
    pub stale: u64,
    /// Times that it must have been asked for before it is stored.
    pub min_uses: u64,
    /// How often this asks for it: not at all where the same request looks again.
    pub uses: u16,
    /// Its body is of most use in its file, where it is longer than a few kilobytes.
    pub wants_file: bool,
    /// Unix seconds.
    pub now_s: u64,
}

/// What there is of an entry.
#[derive(Debug)]
pub enum Found {
    /// All of it.
    Stored(Stored),
    /// All of it, but its body is to be checked ([`Unverified::check`]) and [vouched](Zone::vouch) for.
    Unverified(Box<Unverified>),
    /// Nothing; it may be fetched and stored.
    Missing,
    /// Nothing, and it is not to be stored: not asked for often enough, or there is no room.
    Scarce,
    /// This status stands for it.
    Failed(u16),
}

/// What went wrong beside; nothing fails for it.
#[derive(Debug)]
pub enum Trouble {
    /// A file of the cache is of no use.
    Damaged(PathBuf, Damage),
    /// A file of the cache cannot be opened or read.
    Unreadable(PathBuf, io::Error),
    /// There is no room for more entries in the index.
    NoRoom,
}

/// Who may fetch an entry.
#[derive(Debug)]
pub enum Locked {
    /// Whoever asked.
    Yours(Lease),
    /// Another is about to.
    Waits(Arc<Filling>),
}

pub(crate) struct State {
    index: Mutex<Index>,
    pub(crate) purges: Purges,
    counters: Counters,
    /// What lay on disk at the start is known.
    is_loaded: AtomicBool,
    pub(crate) is_loading: AtomicBool,
    /// When trouble was told last, Unix seconds.
    told_s: AtomicU64,
    temp: AtomicU64,
}

impl State {
    fn new(options: &Options) -> Self {
        Self {
            index: Mutex::default(),
            purges: Purges::load(options),
            counters: Counters::default(),
            is_loaded: AtomicBool::default(),
            is_loading: AtomicBool::default(),
            told_s: AtomicU64::default(),
            temp: AtomicU64::default(),
        }
    }
}

/// A zone under one configuration. Its state goes on through a reload.
pub struct Zone {
    name: Box<str>,
    options: Options,
    state: OnceLock<Arc<State>>,
}

impl std::fmt::Debug for Zone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Zone").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Zone {
    /// A zone with nothing in it.
    #[must_use]
    pub fn new(name: &str, options: Options) -> Self {
        Self { name: name.into(), options, state: OnceLock::new() }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its parameters.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Goes on with the entries of the same zone of an earlier configuration (`ngx_http_file_cache_init`).
    ///
    /// # Errors
    /// Its files lie elsewhere.
    pub fn adopt(&self, earlier: &Self) -> Result<(), String> {
        let (own, other) = (&self.options, &earlier.options);
        if own.path != other.path {
            return Err(format!(
                "cache \"{}\" uses the \"{}\" cache path while previously it used the \"{}\" cache path",
                self.name,
                own.path.display(),
                other.path.display()
            ));
        }
        if own.levels != other.levels {
            return Err(format!("cache \"{}\" had previously different levels", self.name));
        }
        let _ = self.state.set(Arc::clone(earlier.state()));
        Ok(())
    }

    pub(crate) fn state(&self) -> &Arc<State> {
        self.state.get_or_init(|| Arc::new(State::new(&self.options)))
    }

    pub(crate) fn index(&self) -> MutexGuard<'_, Index> {
        self.state().index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file of an entry.
    #[must_use]
    pub fn path_of(&self, key: &Key) -> PathBuf {
        key.path(&self.options.path, &self.options.levels)
    }

    /// How requests fared.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.state().counters
    }

    /// Number of entries.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.index().len()
    }

    /// Bytes on disk.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        self.index().disk_bytes()
    }

    /// Bytes of bodies in memory.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.index().hot_bytes()
    }

    /// Whether not all that lay on disk at the start is known yet.
    #[must_use]
    pub fn is_cold(&self) -> bool {
        !self.state().is_loaded.load(Ordering::Relaxed)
    }

    pub(crate) fn set_loaded(&self) {
        self.state().is_loaded.store(true, Ordering::Relaxed);
    }

    /// Whether trouble with the disk is to be told: once a minute.
    #[must_use]
    pub fn may_tell(&self, now_s: u64) -> bool {
        let told = &self.state().told_s;
        let last = told.load(Ordering::Relaxed);
        (last == 0 || now_s >= last + QUIET_S)
            && told.compare_exchange(last, now_s.max(1), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// A number that no temporary file in the directory has.
    pub(crate) fn next_temp(&self) -> u64 {
        self.state().temp.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Looks for an entry (`ngx_http_file_cache_open`). Trouble beside it is told with it.
    #[must_use]
    pub fn find(&self, ask: &Ask<'_>) -> (Found, Option<Trouble>) {
        let visit = Visit {
            now_s: ask.now_s,
            inactive_s: self.options.inactive_s,
            min_uses: ask.min_uses,
            uses: ask.uses,
            capacity: self.options.capacity(),
            is_cold: self.is_cold(),
        };
        let (seen, gone) = self.index().visit(&ask.key, visit);
        if let Some((key, HasFile::Yes)) = gone {
            self.unlink(&key);
        }
        let (stamp, otherwise) = match seen {
            Seen::Failed(status) => return (Found::Failed(status), None),
            Seen::Known(otherwise) => return (otherwise.into(), None),
            Seen::NoRoom => return (Found::Scarce, self.may_tell(ask.now_s).then_some(Trouble::NoRoom)),
            Seen::Test { stamp, hot, otherwise } => {
                if let Some(hot) = hot
                    && hot.record.key == ask.text
                    && hot.is_current(|| self.path_of(&ask.key), ask.now_s)
                {
                    hot.mark_used();
                    return (self.found(ask, Stored::hot(hot), otherwise), None);
                }
                (stamp, otherwise)
            }
        };
        let path = self.path_of(&ask.key);
        match stored::open(&path, ask.text, stamp, ask.wants_file) {
            Ok(Opened::Checked(stored)) => {
                if stamp != Some(stored.stamp) || self.options.memory > 0 {
                    self.vouch(&ask.key, &stored, ask.now_s);
                }
                (self.found(ask, stored, otherwise), None)
            }
            Ok(Opened::Unchecked(mut unverified)) => {
                let found = match self.settle(ask, unverified.stored_mut()) {
                    Settled::Counts => Found::Unverified(Box::new(unverified)),
                    Settled::Gone => otherwise.into(),
                };
                (found, None)
            }
            Err(OpenError::Absent) => {
                self.index().forget_file(&ask.key);
                (otherwise.into(), None)
            }
            Err(OpenError::Io(error)) => {
                let trouble = self.may_tell(ask.now_s).then_some(Trouble::Unreadable(path, error));
                (otherwise.into(), trouble)
            }
            Err(OpenError::Damaged(damage)) => {
                (otherwise.into(), self.spoiled(&ask.key, Spoiled { damage, stamp: None }))
            }
        }
    }

    fn found(&self, ask: &Ask<'_>, mut stored: Stored, otherwise: Otherwise) -> Found {
        match self.settle(ask, &mut stored) {
            Settled::Counts => Found::Stored(stored),
            Settled::Gone => otherwise.into(),
        }
    }

    /// The file of an entry is of no use. What another program or another key has there stays until it is replaced. Of
    /// several that come upon the same file one gets the trouble to tell of.
    pub fn spoiled(&self, key: &Key, Spoiled { damage, stamp }: Spoiled) -> Option<Trouble> {
        let path = self.path_of(key);
        let is_other = |stamp| os::file::path_info(&path).is_ok_and(|info| Stamp::of(&info) != stamp);
        if stamp.is_some_and(is_other) {
            return None;
        }
        self.index().forget_file(key);
        let is_gone = matches!(damage, Damage::TooSmall | Damage::Checksum)
            && fs::remove_file(&path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        (!is_gone).then_some(Trouble::Damaged(path, damage))
    }

    /// An entry was checked: it is served without another check until its file changes, and kept in memory where
    /// there is room.
    pub fn vouch(&self, key: &Key, stored: &Stored, now_s: u64) {
        let hot = if self.options.memory > 0 && stored.length() <= self.options.memory_max() {
            stored.to_hot().map(Arc::new)
        } else {
            None
        };
        let mut index = self.index();
        index.vouch(key, stored.stamp, stored.disk_size, now_s + self.options.inactive_s);
        if let Some(hot) = hot {
            index.set_hot(key, hot, self.options.memory);
        }
    }

    /// Asks for the right to fetch an entry (`ngx_http_file_cache_lock`). Whoever has had it for `age_ms` no longer
    /// keeps others from it.
    pub fn lock(self: &Arc<Self>, ask: &Ask<'_>, ticket: &Ticket, age_ms: u64, now_ms: u64) -> Locked {
        let mut index = self.index();
        // What can be read along need not be fetched twice, however long it takes.
        let counts =
            |filling: &Arc<Filling>| filling.until_ms() > now_ms || filling.phase() == Phase::Streaming;
        if let Some(filling) = index.filling(&ask.key).filter(counts)
            && self.is_wanted(ask, &filling)
        {
            return Locked::Waits(filling);
        }
        Locked::Yours(self.lease(&mut index, ask, ticket, now_ms.saturating_add(age_ms)))
    }

    /// Asks for the right to fetch an entry anew that is stale; `None`: another has it.
    pub fn begin_update(
        self: &Arc<Self>,
        ask: &Ask<'_>,
        ticket: &Ticket,
        age_ms: u64,
        now_ms: u64,
    ) -> Option<Lease> {
        let mut index = self.index();
        if index.filling(&ask.key).is_some_and(|filling| self.is_wanted(ask, &filling)) {
            return None;
        }
        Some(self.lease(&mut index, ask, ticket, now_ms.saturating_add(age_ms)))
    }

    fn lease(self: &Arc<Self>, index: &mut Index, ask: &Ask<'_>, ticket: &Ticket, until_ms: u64) -> Lease {
        let filling = Arc::new(Filling::new(until_ms, ticket.epoch()));
        index.set_filling(&ask.key, Arc::clone(&filling), ask.now_s + self.options.inactive_s);
        Lease::new(Arc::clone(self), ask.key, filling)
    }

    pub(crate) fn give_back(&self, key: &Key, filling: &Arc<Filling>) {
        self.index().clear_filling(key, filling);
    }

    /// Forgets that an entry was asked for, where nothing came of it.
    pub fn forget_empty(&self, key: &Key) {
        self.index().forget_empty(key);
    }

    /// A status stands for the answer until `until_s`, Unix seconds.
    pub fn note_error(&self, key: &Key, status: u16, until_s: i64) {
        self.index().note_error(key, status, u64::try_from(until_s).unwrap_or(0));
    }

    /// Sets other times for an entry whose origin says that it is unchanged (`ngx_http_file_cache_update_header`).
    ///
    /// # Errors
    /// The error of writing. Nothing happens where the entry was replaced or purged in the meantime.
    pub fn retime(&self, ask: &Ask<'_>, stored: &Stored, meta: Meta, ticket: &Ticket) -> io::Result<()> {
        let record = stored.record();
        let meta = Meta { epoch: ticket.epoch(), stale: record.meta.stale, ..meta };
        if !self.may_store(&ask.main, ask.text, &record.meta.tags, ticket.epoch()) {
            return Ok(());
        }
        self.rewrite(&ask.key, record, stored.stamp, &meta, ask.now_s)
    }

    /// Writes other times over the head of an entry's file, if it is still the same.
    pub(crate) fn rewrite(
        &self,
        key: &Key,
        record: &Record,
        stamp: Stamp,
        meta: &Meta,
        now_s: u64,
    ) -> io::Result<()> {
        use std::os::fd::AsFd;
        use std::os::unix::fs::FileExt;
        let path = self.path_of(key);
        let file = match fs::OpenOptions::new().read(true).write(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        if Stamp::of(&os::file::info(file.as_fd())?) != stamp {
            return Ok(());
        }
        file.write_all_at(&record::retimed(record, meta), 0)?;
        let info = os::file::info(file.as_fd())?;
        let mut index = self.index();
        index.forget_file(key);
        index.vouch(key, Stamp::of(&info), stored::disk_size(&info), now_s + self.options.inactive_s);
        Ok(())
    }

    /// Removes the file of an entry that the index has forgotten.
    pub(crate) fn unlink(&self, key: &Key) {
        let _ = fs::remove_file(self.path_of(key));
    }
}

impl From<Otherwise> for Found {
    fn from(otherwise: Otherwise) -> Self {
        match otherwise {
            Otherwise::Missing => Self::Missing,
            Otherwise::Scarce => Self::Scarce,
        }
    }
}

/// Makes the directory that `path` lies in, as only its owner may enter it.
///
/// # Errors
/// The error of making it.
pub(crate) fn make_parent(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    match path.parent() {
        Some(parent) => fs::DirBuilder::new().recursive(true).mode(DIRECTORY).create(parent),
        None => Ok(()),
    }
}
