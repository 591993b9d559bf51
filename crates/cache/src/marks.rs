//! What was purged, for entries whose files are still there and for fetches that are still under way.
//!
//! Each purge begins an epoch, and an entry bears the one in which its fetch began: so what was asked for before a
//! purge is told from what was asked for after it, whenever it is stored and whatever the clock's resolution.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Weak};

use crate::key::Key;

/// What is to be purged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purge {
    /// The entry whose main key is made of this text, with all its variants.
    Entry(Vec<u8>),
    /// All whose main key's text begins so.
    Prefix(Vec<u8>),
    /// All that were stored with one of these tags, which a space parts from each other.
    Tags(Vec<u8>),
}

/// What becomes of entries that are purged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// They are gone.
    #[default]
    Hard,
    /// They are stale: served where a stale entry is better than none, and asked about anew.
    Soft,
}

/// The right to store what is fetched, as long as nothing of it is purged in the meantime.
#[derive(Clone, Debug)]
pub struct Ticket(Arc<u64>);

impl Ticket {
    /// The epoch in which the fetch began.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        *self.0
    }
}

/// How an entry stands after all purges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Good,
    /// It is stale since the purge that began this epoch.
    Stale(u64),
    Gone,
}

/// What purges go by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traits<'a> {
    pub main: &'a Key,
    pub text: &'a [u8],
    pub tags: &'a [u8],
    pub epoch: u64,
}

/// Epochs before which what fits is gone, or stale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mark {
    gone: u64,
    stale: u64,
    /// No file on the disk fits any more.
    is_walked: bool,
}

impl Mark {
    fn last(self) -> u64 {
        self.gone.max(self.stale)
    }

    fn set(&mut self, mode: Mode, epoch: u64) {
        match mode {
            Mode::Hard => self.gone = epoch,
            Mode::Soft => self.stale = epoch,
        }
        self.is_walked = false;
    }
}

/// Single entries that are remembered for the sake of fetches under way. With more, none of these is stored.
const KEYS_MAX: usize = 4096;
/// Prefixes, and tags, whose entries may be on the disk still.
const PREFIXES_MAX: usize = 256;
const TAGS_MAX: usize = 4096;

/// All that is remembered of purges.
#[derive(Debug)]
pub(crate) struct Marks {
    epoch: Arc<u64>,
    /// Earlier epochs in which fetches began that are under way.
    ended: VecDeque<Weak<u64>>,
    keys: HashMap<Key, Mark>,
    prefixes: Vec<(Box<[u8]>, Mark)>,
    tags: HashMap<Box<[u8]>, Mark>,
    /// Fetches that began before this epoch are not stored.
    floor: u64,
}

/// A purge that cannot be remembered: too many are under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

impl Marks {
    pub fn new(now_ms: u64) -> Self {
        Self {
            epoch: Arc::new(now_ms.max(1)),
            ended: VecDeque::new(),
            keys: HashMap::new(),
            prefixes: Vec::new(),
            tags: HashMap::new(),
            floor: 0,
        }
    }

    /// A fetch begins.
    pub fn ticket(&self) -> Ticket {
        Ticket(Arc::clone(&self.epoch))
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.prefixes.is_empty() && self.tags.is_empty() && self.floor == 0
    }

    /// Something is purged: the epoch that begins with it.
    pub fn purge(&mut self, purge: &Purge, mode: Mode, now_ms: u64) -> Result<u64, TooMany> {
        self.forget();
        let is_full = match purge {
            Purge::Entry(_) => false,
            Purge::Prefix(text) => {
                self.prefixes.len() >= PREFIXES_MAX && !self.prefixes.iter().any(|(own, _)| **own == **text)
            }
            Purge::Tags(tags) => {
                let new = tags.split(|byte| *byte == b' ').filter(|tag| !self.tags.contains_key(*tag));
                self.tags.len() + new.count() > TAGS_MAX
            }
        };
        if is_full {
            return Err(TooMany);
        }
        let begun = self.next(now_ms);
        match purge {
            Purge::Entry(text) => self.mark_key(text, mode, begun),
            Purge::Prefix(text) => match self.prefixes.iter_mut().find(|(own, _)| **own == **text) {
                Some((_, mark)) => mark.set(mode, begun),
                None => {
                    let mut mark = Mark::default();
                    mark.set(mode, begun);
                    self.prefixes.push((text.as_slice().into(), mark));
                }
            },
            Purge::Tags(tags) => {
                for tag in tags.split(|byte| *byte == b' ') {
                    self.tags.entry(tag.into()).or_default().set(mode, begun);
                }
            }
        }
        Ok(begun)
    }

    fn mark_key(&mut self, text: &[u8], mode: Mode, begun: u64) {
        if self.oldest() >= begun {
            return;
        }
        let key = Key::of(text);
        if self.keys.len() >= KEYS_MAX && !self.keys.contains_key(&key) {
            self.keys.clear();
            self.floor = begun;
            return;
        }
        let mark = self.keys.entry(key).or_default();
        mark.set(mode, begun);
        // What lies on the disk is dealt with at once.
        mark.is_walked = true;
    }

    fn next(&mut self, now_ms: u64) -> u64 {
        let begun = now_ms.max(*self.epoch + 1);
        let before = std::mem::replace(&mut self.epoch, Arc::new(begun));
        if Arc::strong_count(&before) > 1 {
            self.ended.push_back(Arc::downgrade(&before));
        }
        begun
    }

    /// The first epoch with a fetch that is under way, or the one that is.
    fn oldest(&self) -> u64 {
        self.ended.iter().find_map(Weak::upgrade).map_or(*self.epoch, |epoch| *epoch)
    }

    /// Forgets what no file and no fetch fits any more.
    pub fn forget(&mut self) {
        self.ended.retain(|epoch| epoch.strong_count() > 0);
        let oldest = self.oldest();
        let is_needed = |mark: &Mark| !mark.is_walked || mark.last() > oldest;
        self.keys.retain(|_, mark| is_needed(mark));
        self.prefixes.retain(|(_, mark)| is_needed(mark));
        self.tags.retain(|_, mark| is_needed(mark));
        if self.floor <= oldest {
            self.floor = 0;
        }
    }

    /// How an entry stands.
    pub fn standing(&self, of: Traits<'_>) -> Standing {
        // One from later than now was stored before the clock was set back.
        let epoch = if of.epoch > *self.epoch { 0 } else { of.epoch };
        let key = self.keys.get(of.main);
        let prefixes = self.prefixes.iter().filter(|(prefix, _)| of.text.starts_with(prefix));
        let tags = of.tags.split(|byte| *byte == b' ').filter_map(|tag| self.tags.get(tag));
        let mut stale = 0;
        for mark in key.into_iter().chain(prefixes.map(|(_, mark)| mark)).chain(tags) {
            if epoch < mark.gone {
                return Standing::Gone;
            }
            if epoch < mark.stale {
                stale = stale.max(mark.stale);
            }
        }
        if stale > 0 { Standing::Stale(stale) } else { Standing::Good }
    }

    /// Whether what a fetch brings may be stored.
    pub fn may_store(&self, of: Traits<'_>) -> bool {
        of.epoch >= self.floor && self.standing(of) == Standing::Good
    }

    /// The last epoch whose purges are to be looked for on the disk.
    pub fn due(&self) -> Option<u64> {
        let marks = self.prefixes.iter().map(|(_, mark)| mark).chain(self.tags.values());
        marks.filter(|mark| !mark.is_walked).map(|mark| mark.last()).max()
    }

    /// No file fits the purges up to an epoch any more.
    pub fn walked(&mut self, epoch: u64) {
        let marks = self.prefixes.iter_mut().map(|(_, mark)| mark).chain(self.tags.values_mut());
        marks.filter(|mark| mark.last() <= epoch).for_each(|mark| mark.is_walked = true);
        self.forget();
    }

    // --- On disk --------------------------------------------------------------------------------------------------

    /// What must be known after a crash; `None`: nothing.
    pub fn encode(&self) -> Option<Vec<u8>> {
        self.due()?;
        let mut out = MAGIC.to_vec();
        let mut push = |kind: u8, text: &[u8], mark: Mark| {
            if mark.is_walked {
                return;
            }
            out.push(kind);
            out.extend_from_slice(&mark.gone.to_le_bytes());
            out.extend_from_slice(&mark.stale.to_le_bytes());
            out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
            out.extend_from_slice(text);
        };
        self.prefixes.iter().for_each(|(prefix, mark)| push(b'p', prefix, *mark));
        self.tags.iter().for_each(|(tag, mark)| push(b't', tag, *mark));
        let sum = crc32fast::hash(&out);
        out.extend_from_slice(&sum.to_le_bytes());
        Some(out)
    }

    /// Reads what an earlier run has purged. Where that cannot be made out, all that it has stored is gone: better
    /// than that something comes back.
    pub fn load(path: &Path, now_ms: u64) -> Self {
        let mut marks = Self::new(now_ms);
        let read = match fs::read(path) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return marks;
            }
            other => other.ok(),
        };
        if read.and_then(|bytes| marks.read(&bytes)).is_none() {
            marks = Self::new(now_ms);
            let mark = Mark { gone: now_ms, ..Mark::default() };
            marks.prefixes.push((Box::default(), mark));
        }
        let last = marks.due().unwrap_or(0);
        marks.epoch = Arc::new(now_ms.max(last));
        marks
    }

    fn read(&mut self, bytes: &[u8]) -> Option<()> {
        let (bytes, sum) = bytes.split_last_chunk::<4>()?;
        if crc32fast::hash(bytes) != u32::from_le_bytes(*sum) {
            return None;
        }
        let mut rest = bytes.strip_prefix(MAGIC)?;
        while let Some((kind, behind)) = rest.split_first() {
            let (gone, behind) = behind.split_first_chunk::<8>()?;
            let (stale, behind) = behind.split_first_chunk::<8>()?;
            let (length, behind) = behind.split_first_chunk::<4>()?;
            let (text, behind) =
                behind.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
            let mark =
                Mark { gone: u64::from_le_bytes(*gone), stale: u64::from_le_bytes(*stale), is_walked: false };
            match kind {
                b'p' => self.prefixes.push((text.into(), mark)),
                b't' => {
                    self.tags.insert(text.into(), mark);
                }
                _ => return None,
            }
            rest = behind;
        }
        Some(())
    }
}

/// Writes what [`Marks::encode`] gave, or removes what was written before.
pub(crate) fn save(path: &Path, bytes: Option<&[u8]>) -> io::Result<()> {
    let Some(bytes) = bytes else {
        return match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    };
    let temp = path.with_extension("new");
    let mut file = File::create(&temp)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temp, path)
}

/// The first bytes of the file; the last one counts versions of its form.
const MAGIC: &[u8] = b"TIDEPUR\x01";

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(marks: &Marks, text: &str, tags: &str, epoch: u64) -> Standing {
        let (main, text, tags) = (Key::of(text.as_bytes()), text.as_bytes(), tags.as_bytes());
        marks.standing(Traits { main: &main, text, tags, epoch })
    }

    fn may_store(marks: &Marks, text: &str, ticket: &Ticket) -> bool {
        let (main, text) = (Key::of(text.as_bytes()), text.as_bytes());
        marks.may_store(Traits { main: &main, text, tags: b"", epoch: ticket.epoch() })
    }

    fn entry(text: &str) -> Purge {
        Purge::Entry(text.into())
    }

    #[test]
    fn what_began_before_a_purge_is_told_from_what_began_after_it() {
        let mut marks = Marks::new(1000);
        let before = marks.ticket();
        // Within the same millisecond.
        assert_eq!(marks.purge(&Purge::Prefix(b"a/".to_vec()), Mode::Hard, 1000), Ok(1001));
        assert_eq!(marks.purge(&Purge::Tags(b"t".to_vec()), Mode::Soft, 1000), Ok(1002));
        let after = marks.ticket();
        assert_eq!((before.epoch(), after.epoch()), (1000, 1002));
        let check = |text, tags, epoch, expected| {
            assert_eq!(standing(&marks, text, tags, epoch), expected, "{text} {tags} {epoch}");
        };
        check("a/x", "", 1000, Standing::Gone);
        check("a/x", "", 1001, Standing::Good);
        check("b/x", "s t", 1001, Standing::Stale(1002));
        check("b/x", "s tt", 1001, Standing::Good);
        check("a/x", "t", 1001, Standing::Stale(1002));
        check("a/x", "t", 1002, Standing::Good);
        check("a/x", "t", 5000, Standing::Gone);
        check("b", "", 5000, Standing::Good);
    }

    #[test]
    fn single_entries_are_remembered_while_fetches_are_under_way() {
        let mut marks = Marks::new(1);
        assert!(marks.purge(&entry("a"), Mode::Hard, 2).is_ok() && marks.is_empty());
        let ticket = marks.ticket();
        assert!(marks.purge(&entry("a"), Mode::Soft, 3).is_ok());
        assert!(!may_store(&marks, "a", &ticket) && may_store(&marks, "b", &ticket));
        assert!(may_store(&marks, "a", &marks.ticket()));
        marks.forget();
        assert!(!marks.is_empty());
        drop(ticket);
        marks.forget();
        assert!(marks.is_empty());
    }

    #[test]
    fn too_many_single_purges_cost_the_fetches_under_way() {
        let mut marks = Marks::new(1);
        let ticket = marks.ticket();
        for number in 0..=KEYS_MAX {
            assert!(marks.purge(&entry(&number.to_string()), Mode::Hard, 1).is_ok());
        }
        assert!(!may_store(&marks, "other", &ticket) && may_store(&marks, "other", &marks.ticket()));
        assert_eq!(standing(&marks, "other", "", 1), Standing::Good);
        drop(ticket);
        marks.forget();
        assert!(marks.is_empty());
    }

    #[test]
    fn prefixes_and_tags_are_bounded() {
        let mut marks = Marks::new(1);
        let prefix = |number: usize| Purge::Prefix(number.to_string().into_bytes());
        for number in 0..PREFIXES_MAX {
            assert!(marks.purge(&prefix(number), Mode::Hard, 1).is_ok());
        }
        assert_eq!(marks.purge(&prefix(PREFIXES_MAX), Mode::Hard, 1), Err(TooMany));
        assert!(marks.purge(&prefix(0), Mode::Hard, 1).is_ok());
        let due = marks.due().expect("purges to look for");
        let ticket = marks.ticket();
        assert!(marks.purge(&Purge::Tags(b"t".to_vec()), Mode::Hard, 1).is_ok());
        marks.walked(due);
        assert_eq!(marks.prefixes.len(), 0);
        let due = marks.due().expect("the tag");
        marks.walked(due);
        assert_eq!((marks.due(), marks.is_empty()), (None, false));
        drop(ticket);
        marks.forget();
        assert!(marks.is_empty());
    }

    #[test]
    fn they_outlive_a_crash() {
        let directory = crate::testing::directory("marks");
        let path = directory.path().join("purges");
        let mut marks = Marks::load(&path, 10);
        assert!(marks.is_empty());
        assert!(marks.purge(&Purge::Prefix(b"a".to_vec()), Mode::Hard, 20).is_ok());
        assert!(marks.purge(&Purge::Tags(b"t".to_vec()), Mode::Soft, 30).is_ok());
        save(&path, marks.encode().as_deref()).expect("saved");
        // The clock was set back.
        let loaded = Marks::load(&path, 5);
        assert_eq!((standing(&loaded, "ab", "", 10), loaded.ticket().epoch()), (Standing::Gone, 30));
        assert_eq!(standing(&loaded, "b", "t", 20), Standing::Stale(30));
        let mut bytes = fs::read(&path).expect("a file");
        bytes[10] ^= 1;
        fs::write(&path, &bytes).expect("written");
        let spoiled = Marks::load(&path, 40);
        assert_eq!(standing(&spoiled, "anything", "", 39), Standing::Gone);
        assert_eq!(standing(&spoiled, "anything", "", spoiled.ticket().epoch()), Standing::Good);
        marks.walked(100);
        save(&path, marks.encode().as_deref()).expect("removed");
        assert!(!path.exists());
    }
}
