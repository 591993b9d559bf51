//! An entry that was found: its head at hand, its body in memory or in an open file.

use std::any::Any;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use net::Buf;
use os::file::FileInfo;

use crate::index::Stamp;
use crate::record::{self, Damage, Decoded, Meta, Record};

/// Longest file that is read as a whole: the head and most bodies.
const FIRST_READ: usize = 32 << 10;
/// The same where the body can leave from the file: copying more costs more than the call that is saved.
const FIRST_READ_OF_FILE: usize = 8 << 10;
/// Bytes that a look at a head alone asks for.
const PEEK: usize = 4 << 10;
/// Bytes of a body that are checked at once. A larger one is not checked on the event loop ([`Unverified`]).
const CHECK_AT_ONCE: u64 = 1 << 20;
/// Bytes that a check reads at a time.
const CHECK_READ: usize = 256 << 10;

impl Stamp {
    /// What shows that a file is still this one: its number, its length and when it was last changed, by whatever
    /// means.
    pub(crate) fn of(info: &FileInfo) -> Self {
        let parts = [info.inode, info.size, info.ctime.unsigned_abs(), info.ctime_ns.unsigned_abs()];
        let mixed = parts.iter().fold(0x9e37_79b9_7f4a_7c15u64, |sum, part| {
            (sum ^ part).wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(31)
        });
        Self(mixed | 1)
    }
}

/// Bytes that a file takes on the disk, as nginx counts them.
pub(crate) fn disk_size(info: &FileInfo) -> u64 {
    // What is preallocated behind the end is not counted.
    if info.disk_size > info.size && info.disk_size < info.size + 8 * 4096 {
        info.disk_size
    } else {
        info.size
    }
}

/// An entry that is kept in memory.
#[derive(Debug)]
pub(crate) struct Hot {
    pub record: Record,
    pub body: Arc<[u8]>,
    pub stamp: Stamp,
    /// When its file was last seen to be the same, Unix seconds.
    checked_s: AtomicU32,
    used: AtomicBool,
    note: Note,
}

/// What somebody has made of an entry's head, to be used by all who get the entry out of memory.
pub type Note = OnceLock<Box<dyn Any + Send + Sync>>;

/// Bytes that an entry in memory takes besides its own.
const HOT_OWN: u64 = 512;

impl Hot {
    pub fn new(record: Record, body: Arc<[u8]>, stamp: Stamp) -> Self {
        let (checked_s, used) = (AtomicU32::new(0), AtomicBool::new(false));
        Self { record, body, stamp, checked_s, used, note: Note::new() }
    }

    #[cfg(test)]
    pub fn of_body(body: &[u8]) -> Self {
        Self::new(Record::default(), body.into(), Stamp(1))
    }

    /// Bytes that it takes.
    pub fn size(&self) -> u64 {
        (self.body.len() + self.record.head.len() + self.record.key.len()) as u64 + HOT_OWN
    }

    pub fn mark_used(&self) {
        self.used.store(true, Ordering::Relaxed);
    }

    /// Whether it was used since the last time that this was asked.
    pub fn was_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }

    /// Whether the file is still the one that this was read from; looked at once a second.
    pub fn is_current(&self, path: impl FnOnce() -> PathBuf, now_s: u64) -> bool {
        let now_s = u32::try_from(now_s).unwrap_or(u32::MAX);
        if self.checked_s.load(Ordering::Relaxed) == now_s {
            return true;
        }
        let is_same = os::file::path_info(&path()).is_ok_and(|info| Stamp::of(&info) == self.stamp);
        if is_same {
            self.checked_s.store(now_s, Ordering::Relaxed);
        }
        is_same
    }
}

/// The body of an entry.
#[derive(Debug)]
pub enum Body {
    /// In memory, shared with others.
    Shared(Arc<[u8]>),
    /// Read from the file.
    Read {
        /// The bytes.
        buf: Buf,
        /// Where the body begins among them.
        start: usize,
    },
    /// In the file.
    File {
        /// The file.
        file: File,
        /// Offset of the body's first byte.
        offset: u64,
        /// Offset just behind the last one.
        end: u64,
    },
}

#[derive(Debug)]
enum Whole {
    Hot(Arc<Hot>),
    Read(Box<Record>, Body),
}

/// An entry that was found.
#[derive(Debug)]
pub struct Stored {
    whole: Whole,
    pub(crate) stamp: Stamp,
    pub(crate) disk_size: u64,
    /// Stale since this epoch; 0: as its own times say.
    stale: u64,
}

impl Stored {
    pub(crate) fn hot(hot: Arc<Hot>) -> Self {
        let stamp = hot.stamp;
        Self { whole: Whole::Hot(hot), stamp, disk_size: 0, stale: 0 }
    }

    pub(crate) fn record(&self) -> &Record {
        match &self.whole {
            Whole::Hot(hot) => &hot.record,
            Whole::Read(record, _) => record,
        }
    }

    /// What is known of it.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        &self.record().meta
    }

    /// Until when it is fresh, Unix seconds: a soft purge ends that.
    #[must_use]
    pub fn valid_until(&self) -> i64 {
        let valid_until = self.meta().valid_until;
        if self.stale == 0 { valid_until } else { valid_until.min(before_s(self.stale)) }
    }

    pub(crate) fn set_stale(&mut self, epoch: u64) {
        self.stale = epoch;
    }

    /// The answer's head.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        &self.record().head
    }

    /// The place for what was made of the head, where the entry lies in memory.
    #[must_use]
    pub fn note(&self) -> Option<&Note> {
        match &self.whole {
            Whole::Hot(hot) => Some(&hot.note),
            Whole::Read(..) => None,
        }
    }

    /// Bytes of the body.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.record().body_length
    }

    /// The body.
    #[must_use]
    pub fn into_body(self) -> Body {
        match self.whole {
            Whole::Hot(hot) => Body::Shared(Arc::clone(&hot.body)),
            Whole::Read(_, body) => body,
        }
    }

    /// The body as it lies in the file `path`, of an entry in memory whose file that still is.
    #[must_use]
    pub fn body_in_file(&self, path: &Path) -> Option<Body> {
        let Whole::Hot(hot) = &self.whole else { return None };
        let file = File::from(os::file::open_read(path).ok()?);
        let info = os::file::info(file.as_fd()).ok()?;
        let offset = hot.record.body_start as u64;
        (Stamp::of(&info) == hot.stamp).then_some(Body::File { file, offset, end: info.size })
    }

    /// What may be kept of it in memory.
    pub(crate) fn to_hot(&self) -> Option<Hot> {
        let Whole::Read(record, body) = &self.whole else { return None };
        let body: Arc<[u8]> = match body {
            Body::Read { buf, start } => buf.get(*start..)?.into(),
            Body::File { file, offset, end } => {
                let mut bytes = vec![0; usize::try_from(end - offset).ok()?];
                file.read_exact_at(&mut bytes, *offset).ok()?;
                bytes.into()
            }
            Body::Shared(bytes) => Arc::clone(bytes),
        };
        Some(Hot::new((**record).clone(), body, self.stamp))
    }
}

/// The last second before an epoch began.
pub(crate) fn before_s(epoch: u64) -> i64 {
    i64::try_from(epoch / 1000).unwrap_or(i64::MAX) - 1
}

/// An entry whose body is too large to be checked on the event loop.
#[derive(Debug)]
pub struct Unverified(Stored);

impl Unverified {
    pub(crate) fn stored_mut(&mut self) -> &mut Stored {
        &mut self.0
    }

    /// Reads the body and compares its sum; takes as long as the disk needs.
    ///
    /// # Errors
    /// The body is not the one that was written, or cannot be read.
    pub fn check(self) -> Result<Stored, Spoiled> {
        let Whole::Read(record, Body::File { file, offset, end }) = &self.0.whole else { return Ok(self.0) };
        if sum(file, *offset, *end).is_ok_and(|sum| sum == record.body_sum) {
            return Ok(self.0);
        }
        Err(Spoiled { damage: Damage::Checksum, stamp: Some(self.0.stamp) })
    }
}

/// What is wrong with a file, for [`crate::Zone::spoiled`].
#[derive(Debug)]
pub struct Spoiled {
    pub(crate) damage: Damage,
    /// Which file it is, where that was some time ago.
    pub(crate) stamp: Option<Stamp>,
}

fn sum(file: &File, mut offset: u64, end: u64) -> io::Result<u32> {
    let mut hasher = crc32fast::Hasher::new();
    let part = |offset| usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX).min(CHECK_READ);
    let mut piece = vec![0; part(offset)];
    while offset < end {
        let count = os::io::pread(file.as_fd(), &mut piece[..part(offset)], offset)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        hasher.update(&piece[..count]);
        offset += count as u64;
    }
    Ok(hasher.finalize())
}

/// What came of opening a file.
pub(crate) enum Opened {
    Checked(Stored),
    Unchecked(Unverified),
}

/// Why a file cannot be used.
#[derive(Debug)]
pub(crate) enum OpenError {
    /// There is none.
    Absent,
    Io(io::Error),
    Damaged(Damage),
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Absent,
            _ => Self::Io(error),
        }
    }
}

impl From<Damage> for OpenError {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage)
    }
}

/// The first bytes of a file, its head among them.
struct Front {
    file: File,
    info: FileInfo,
    buf: Buf,
    record: Box<Record>,
}

fn read_front(path: &Path, longest: usize) -> Result<Front, OpenError> {
    let file = File::from(os::file::open_read(path)?);
    let info = os::file::info(file.as_fd())?;
    // All of the file, or the head alone: the body of a longer one leaves from the file.
    let first = usize::try_from(info.size).ok().filter(|size| *size <= longest).unwrap_or(PEEK);
    let mut buf = Buf::with_capacity(first);
    read(&file, &mut buf, first)?;
    let record = match record::decode(&buf)? {
        Decoded::Complete(record) => record,
        Decoded::Needs(length) => {
            let missing = length.saturating_sub(buf.len());
            read(&file, &mut buf, missing)?;
            match record::decode(&buf)? {
                Decoded::Complete(record) => record,
                Decoded::Needs(_) => return Err(Damage::TooSmall.into()),
            }
        }
    };
    Ok(Front { file, info, buf, record })
}

/// The head of a file, and what shows that it is still that file.
pub(crate) fn peek(path: &Path) -> Result<(Box<Record>, Stamp), OpenError> {
    let front = read_front(path, PEEK)?;
    Ok((front.record, Stamp::of(&front.info)))
}

/// Opens the file of a key that is made of `text`. A file that bears `known` was checked before.
pub(crate) fn open(
    path: &Path,
    text: &[u8],
    known: Option<Stamp>,
    wants_file: bool,
) -> Result<Opened, OpenError> {
    let longest = if wants_file { FIRST_READ_OF_FILE } else { FIRST_READ };
    let Front { file, info, buf, record } = read_front(path, longest)?;
    let stamp = Stamp::of(&info);
    if record.key != text {
        return Err(Damage::Collision.into());
    }
    let (start, length) = (record.body_start, record.body_length);
    let end = start as u64 + length;
    if end != info.size {
        return Err(Damage::TooSmall.into());
    }
    let (expected, disk_size) = (record.body_sum, disk_size(&info));
    let is_known = known == Some(stamp);
    let whole = |body| Whole::Read(record, body);
    if buf.len() as u64 == info.size {
        if !is_known && crc32fast::hash(buf.get(start..).unwrap_or_default()) != expected {
            return Err(Damage::Checksum.into());
        }
        return Ok(Opened::Checked(Stored {
            whole: whole(Body::Read { buf, start }),
            stamp,
            disk_size,
            stale: 0,
        }));
    }
    if !is_known && length <= CHECK_AT_ONCE && sum(&file, start as u64, end)? != expected {
        return Err(Damage::Checksum.into());
    }
    let body = Body::File { file, offset: start as u64, end };
    let stored = Stored { whole: whole(body), stamp, disk_size, stale: 0 };
    Ok(if is_known || length <= CHECK_AT_ONCE {
        Opened::Checked(stored)
    } else {
        Opened::Unchecked(Unverified(stored))
    })
}

/// Reads `count` bytes behind those that are there, or as many as there are.
fn read(file: &File, buf: &mut Buf, count: usize) -> io::Result<()> {
    buf.reserve(count);
    let offset = buf.len() as u64;
    os::io::pread_append_all(file.as_fd(), buf, count, offset).map(drop)
}
