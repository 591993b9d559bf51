//! An entry on its way to the disk: a temporary file that takes its place by a rename, once it is complete.
//!
//! A small body that comes quickly is written in one piece with its head. Whatever fails on the way costs the entry
//! and nothing else.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;

use os::transfer::{self, Parents};

use crate::filling::{Lease, Phase, Source};
use crate::index::Stamp;
use crate::key::Key;
use crate::marks::Ticket;
use crate::record::{self, Meta, Record};
use crate::stored::{self, Hot};
use crate::zone::{DIRECTORY, Zone, make_parent};

/// Bytes of a body that may wait in memory before they are written.
const PENDING_MAX: usize = 64 << 10;
/// Pieces of this size are worth a write of their own once there is a file.
const DIRECT_MIN: usize = 16 << 10;
/// Names that are tried before giving up.
const TRIES: u32 = 100;

/// What is to be stored.
#[derive(Debug)]
pub struct Draft {
    /// The entry.
    pub key: Key,
    /// The main key, of which it may be a variant.
    pub main: Key,
    /// What the main key is made of.
    pub text: Vec<u8>,
    /// What is known of it.
    pub meta: Meta,
    /// The answer's head.
    pub head: Vec<u8>,
}

struct Temp {
    file: Arc<File>,
    path: PathBuf,
}

/// An entry that is being written. Dropped, it leaves nothing behind.
pub struct Writer {
    zone: Arc<Zone>,
    draft: Draft,
    /// As long as it is held, purges in the meantime are remembered.
    ticket: Ticket,
    lease: Option<Lease>,
    /// Makes temporary files, where the zone does not have them beside its own.
    temp_dir: Option<TempDir>,
    record: Vec<u8>,
    temp: Option<Temp>,
    pending: Vec<u8>,
    /// Bytes of the body that lie in the file.
    in_file: u64,
    sum: crc32fast::Hasher,
    is_failed: bool,
}

/// Makes a temporary file.
pub type TempDir = Box<dyn Fn() -> io::Result<(File, PathBuf)>>;

impl Writer {
    /// Begins an entry, in a file of `temp_dir` where the zone wants that. With `lease`, those who wait may read along
    /// where `may_follow` says so.
    #[must_use]
    pub fn begin(
        zone: &Arc<Zone>,
        mut draft: Draft,
        ticket: Ticket,
        lease: Option<Lease>,
        may_follow: Follow,
        temp_dir: Option<TempDir>,
    ) -> Self {
        draft.meta.epoch = ticket.epoch();
        let record = record::encode(&draft.meta, &draft.text, &draft.head);
        if let Some(lease) = &lease
            && may_follow == Follow::Allowed
        {
            let source = Source::new(draft.meta.clone(), draft.head.clone(), record.len() as u64);
            lease.filling().begin(source);
        }
        let temp_dir = temp_dir.filter(|_| zone.options().use_temp_path);
        Self {
            zone: Arc::clone(zone),
            draft,
            ticket,
            lease,
            temp_dir,
            record,
            temp: None,
            pending: Vec::new(),
            in_file: 0,
            sum: crc32fast::Hasher::new(),
            is_failed: false,
        }
    }

    /// Bytes of the body so far.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.in_file + self.pending.len() as u64
    }

    /// The file and where the body begins in it, while all of the body so far lies there.
    #[must_use]
    pub fn file(&self) -> Option<(&Arc<File>, u64)> {
        let temp = self.temp.as_ref()?;
        (self.pending.is_empty() && !self.is_failed).then_some((&temp.file, self.record.len() as u64))
    }

    /// Whether the disk took everything so far.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        !self.is_failed
    }

    /// Appends to the body.
    ///
    /// # Errors
    /// The error of the disk, once: what follows is not written. Those who read along get it from memory.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.is_failed {
            self.keep_for_followers(bytes);
            return Ok(());
        }
        self.sum.update(bytes);
        let is_direct = self.temp.is_some() && bytes.len() >= DIRECT_MIN;
        if !is_direct && self.pending.len() + bytes.len() <= PENDING_MAX {
            self.pending.extend_from_slice(bytes);
            return Ok(());
        }
        let flushed = self.flush();
        flushed.and(self.put_or_keep(bytes))
    }

    /// Writes what waits in memory; called when nothing more comes for now.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() || self.is_failed {
            return Ok(());
        }
        let pending = std::mem::take(&mut self.pending);
        self.put_or_keep(&pending)
    }

    /// Writes a part of the body, or keeps it for those who read along where the disk does not take it.
    fn put_or_keep(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.is_failed {
            self.keep_for_followers(bytes);
            return Ok(());
        }
        let put = self.put(bytes);
        if put.is_err() {
            self.is_failed = true;
            self.keep_for_followers(bytes);
        }
        put
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        // The head in front is written at the end; until then nobody takes this for an entry.
        let offset = self.record.len() as u64 + self.in_file;
        let temp = match self.temp.take() {
            Some(temp) => temp,
            None => self.create()?,
        };
        let temp = self.temp.insert(temp);
        temp.file.write_all_at(bytes, offset)?;
        self.in_file += bytes.len() as u64;
        if let Some(lease) = &self.lease {
            if let Some(source) = lease.filling().source() {
                source.set_file(&temp.file);
            }
            lease.filling().grow(self.in_file);
        }
        Ok(())
    }

    fn create(&self) -> io::Result<Temp> {
        if let Some(make) = &self.temp_dir {
            let (file, path) = make()?;
            return Ok(Temp { file: Arc::new(file), path });
        }
        let path = self.zone.path_of(&self.draft.key);
        for _ in 0..TRIES {
            let mut name = path.clone().into_os_string();
            name.push(format!(".{:010}", self.zone.next_temp()));
            let name = PathBuf::from(name);
            let open = || OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&name);
            let opened = match open() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    make_parent(&name)?;
                    open()
                }
                other => other,
            };
            match opened {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => return other.map(|file| Temp { file: Arc::new(file), path: name }),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    fn keep_for_followers(&mut self, bytes: &[u8]) {
        let Some(lease) = &self.lease else { return };
        let filling = lease.filling();
        if filling.source().is_some() && filling.has_followers() && filling.keep(bytes) {
            return;
        }
        // Nobody reads along, or too much: whoever waits has to fetch for himself.
        self.lease = None;
    }

    /// The body is complete: the entry takes its place, unless it was purged in the meantime. Gives the bytes that
    /// were stored.
    ///
    /// # Errors
    /// The error of the disk; there is no entry then.
    pub fn commit(mut self, now_s: u64) -> io::Result<Option<u64>> {
        if self.is_failed {
            self.end_followers();
            return Ok(None);
        }
        let length = self.length();
        if !self.counts() {
            self.pass_pending(length);
            return Ok(None);
        }
        match self.finish(now_s) {
            Ok(()) if self.counts() => Ok(Some(self.record.len() as u64 + length)),
            Ok(()) => {
                // Purged while it took its place.
                self.zone.remove(&self.draft.key);
                Ok(None)
            }
            Err(error) => {
                self.pass_pending(length);
                Err(error)
            }
        }
    }

    /// Whether it is not purged.
    fn counts(&self) -> bool {
        let draft = &self.draft;
        self.zone.may_store(&draft.main, &draft.text, &draft.meta.tags, self.ticket.epoch())
    }

    /// There is no entry, but those who read along have all of it all the same, if only from a file without a name.
    fn pass_pending(&mut self, length: u64) {
        let pending = std::mem::take(&mut self.pending);
        if !pending.is_empty() && self.in_file < length {
            self.keep_for_followers(&pending);
        }
        self.end_followers();
    }

    fn end_followers(&mut self) {
        if let Some(lease) = self.lease.take()
            && lease.filling().phase() == Phase::Streaming
        {
            lease.filling().end(Phase::Stored);
        }
    }

    fn finish(&mut self, now_s: u64) -> io::Result<()> {
        let length = self.length();
        let sum = self.sum.clone().finalize();
        record::seal(&mut self.record, length, sum);
        let is_whole = self.temp.is_none();
        let temp = match self.temp.take() {
            Some(temp) => temp,
            None => self.create()?,
        };
        let temp = self.temp.insert(temp);
        if is_whole {
            // All at once: the head, and a body that came quickly.
            let mut all = std::mem::take(&mut self.record);
            let head = all.len();
            all.extend_from_slice(&self.pending);
            let written = temp.file.write_all_at(&all, 0);
            all.truncate(head);
            self.record = all;
            written?;
        } else {
            let start = self.record.len() as u64;
            temp.file.write_all_at(&self.pending, start + self.in_file)?;
            temp.file.write_all_at(&self.record, 0)?;
        }
        if let Some(lease) = &self.lease
            && let Some(source) = lease.filling().source()
        {
            source.set_file(&temp.file);
            lease.filling().grow(length);
        }
        self.in_file = length;
        let target = self.zone.path_of(&self.draft.key);
        transfer::rename(&temp.path, &target, Parents::Made(DIRECTORY)).map_err(|failure| failure.error)?;
        let file = Arc::clone(&temp.file);
        self.temp = None;
        // After a copy to another file system the file is another one: it is checked when it is first used.
        let info = match os::file::path_info(&target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Purged right then, or removed by somebody else.
                self.pending.clear();
                self.end_followers();
                return Ok(());
            }
            other => other?,
        };
        let stamp = Stamp::of(&info);
        let is_ours = os::file::info(file.as_fd()).is_ok_and(|own| Stamp::of(&own) == stamp);
        let hot = (is_whole && is_ours).then(|| self.hot(length, sum, stamp)).flatten();
        let options = self.zone.options();
        let mut index = self.zone.index();
        index.vouch(
            &self.draft.key,
            if is_ours { stamp } else { Stamp(0) },
            stored::disk_size(&info),
            now_s + options.inactive_s,
        );
        match hot {
            Some(hot) => index.set_hot(&self.draft.key, Arc::new(hot), options.memory),
            None => index.drop_hot(&self.draft.key),
        }
        drop(index);
        self.pending.clear();
        if let Some(lease) = self.lease.take() {
            lease.filling().end(Phase::Stored);
        }
        Ok(())
    }

    /// What is kept in memory, where the whole body is still there.
    fn hot(&self, length: u64, sum: u32, stamp: Stamp) -> Option<Hot> {
        if self.zone.options().memory == 0 || length > self.zone.options().memory_max() {
            return None;
        }
        let record = Record {
            meta: self.draft.meta.clone(),
            key: self.draft.text.clone(),
            head: self.draft.head.clone(),
            body_start: self.record.len(),
            body_length: length,
            body_sum: sum,
        };
        Some(Hot::new(record, self.pending.as_slice().into(), stamp))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(temp) = self.temp.take() {
            let _ = fs::remove_file(&temp.path);
        }
    }
}

/// Whether those who wait may read along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// The answer shows where it ends.
    Allowed,
    /// It does not: a body that broke off could not be told from a whole one.
    Refused,
}
