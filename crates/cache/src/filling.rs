//! An entry that is being fetched: who waits for it is woken at once, and may read along as it grows.

use std::fs::File;
use std::sync::{Arc, OnceLock};

use tokio::sync::watch;

use crate::key::Key;
use crate::record::Meta;
use crate::zone::Zone;

/// How far the fetch is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Nothing is known of the answer yet.
    #[default]
    Asked,
    /// The head is there ([`Filling::source`]) and the body grows.
    Streaming,
    /// The entry is stored.
    Stored,
    /// The answer is not one that is stored: whoever waited has to fetch for himself.
    Declined,
    /// There was no answer, or its body broke off.
    Failed,
}

impl Phase {
    /// Whether nothing more will come.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Stored | Self::Declined | Self::Failed)
    }
}

/// What is there of the body.
#[derive(Debug, Default)]
pub struct Progress {
    /// How far the fetch is.
    pub phase: Phase,
    /// Bytes of the body that lie in the file.
    in_file: u64,
    /// Those behind them, where the disk takes no more.
    tail: Vec<u8>,
}

/// A piece of a body that is being fetched.
#[derive(Debug)]
pub enum Piece {
    /// A part of the file.
    File {
        /// Offset of the first byte.
        offset: u64,
        /// Offset just behind the last one.
        end: u64,
    },
    /// Bytes.
    Bytes(Vec<u8>),
}

/// What those who read along need.
#[derive(Debug)]
pub struct Source {
    /// What is known of the entry.
    pub meta: Meta,
    /// The answer's head.
    pub head: Vec<u8>,
    /// Where the body begins in the file.
    body_start: u64,
    file: OnceLock<Arc<File>>,
}

impl Source {
    pub(crate) fn new(meta: Meta, head: Vec<u8>, body_start: u64) -> Self {
        Self { meta, head, body_start, file: OnceLock::new() }
    }

    /// The file; there is none before bytes lie in it.
    #[must_use]
    pub fn file(&self) -> Option<&Arc<File>> {
        self.file.get()
    }

    pub(crate) fn set_file(&self, file: &Arc<File>) {
        let _ = self.file.set(Arc::clone(file));
    }
}

/// Bytes that are kept in memory for those who read along once the disk takes no more.
const TAIL_MAX: usize = 16 << 20;

/// A fetch that others may wait for.
#[derive(Debug)]
pub struct Filling {
    /// When another may fetch as well, monotonic milliseconds.
    until_ms: u64,
    /// When it began.
    epoch: u64,
    source: OnceLock<Source>,
    progress: watch::Sender<Progress>,
}

impl Filling {
    pub(crate) fn new(until_ms: u64, epoch: u64) -> Self {
        Self { until_ms, epoch, source: OnceLock::new(), progress: watch::Sender::default() }
    }

    /// When another may fetch as well (`proxy_cache_lock_age`), monotonic milliseconds.
    #[must_use]
    pub fn until_ms(&self) -> u64 {
        self.until_ms
    }

    /// When it began.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Follows what becomes of it.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// How far it is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.progress.borrow().phase
    }

    /// The head; there from [`Phase::Streaming`] on where others may read along.
    #[must_use]
    pub fn source(&self) -> Option<&Source> {
        self.source.get()
    }

    /// What has come of the body behind its first `from` bytes.
    #[must_use]
    pub fn piece(&self, from: u64) -> Option<Piece> {
        let progress = self.progress.borrow();
        if from < progress.in_file {
            let start = self.source.get()?.body_start;
            return Some(Piece::File { offset: start + from, end: start + progress.in_file });
        }
        let at = usize::try_from(from - progress.in_file).ok()?;
        progress.tail.get(at..).filter(|bytes| !bytes.is_empty()).map(|bytes| Piece::Bytes(bytes.to_vec()))
    }

    pub(crate) fn begin(&self, source: Source) {
        let _ = self.source.set(source);
        self.progress.send_modify(|progress| progress.phase = Phase::Streaming);
    }

    pub(crate) fn grow(&self, in_file: u64) {
        self.progress.send_modify(|progress| progress.in_file = in_file);
    }

    /// Keeps bytes in memory that the disk does not take. Says whether there is room for them.
    pub(crate) fn keep(&self, bytes: &[u8]) -> bool {
        let mut has_room = true;
        self.progress.send_modify(|progress| {
            has_room = progress.tail.len() + bytes.len() <= TAIL_MAX;
            if has_room {
                progress.tail.extend_from_slice(bytes);
            }
        });
        has_room
    }

    /// Whether anybody waits or reads along.
    pub(crate) fn has_followers(&self) -> bool {
        self.progress.receiver_count() > 0
    }

    pub(crate) fn end(&self, phase: Phase) {
        self.progress.send_if_modified(|progress| {
            let is_news = !progress.phase.is_over();
            if is_news {
                progress.phase = phase;
            }
            is_news
        });
    }
}

/// The right, and duty, to fetch an entry for all who wait. Without a word it is given back when dropped.
#[derive(Debug)]
pub struct Lease {
    zone: Arc<Zone>,
    key: Key,
    filling: Arc<Filling>,
}

impl Lease {
    pub(crate) fn new(zone: Arc<Zone>, key: Key, filling: Arc<Filling>) -> Self {
        Self { zone, key, filling }
    }

    /// Gives it back since the answer is not one that is stored.
    pub fn decline(self) {
        self.filling.end(Phase::Declined);
    }

    /// What the others wait for.
    #[must_use]
    pub fn filling(&self) -> &Arc<Filling> {
        &self.filling
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.zone.give_back(&self.key, &self.filling);
        self.filling.end(Phase::Failed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_grows_in_the_file_and_then_in_memory() {
        let filling = Filling::new(0, 0);
        assert!(filling.piece(0).is_none() && filling.phase() == Phase::Asked);
        filling.begin(Source::new(Meta::default(), Vec::new(), 100));
        filling.grow(10);
        let check = |from, expected: Option<&str>| {
            assert_eq!(filling.piece(from).map(|piece| format!("{piece:?}")).as_deref(), expected, "{from}");
        };
        check(0, Some("File { offset: 100, end: 110 }"));
        check(10, None);
        assert!(filling.keep(b"xyz"));
        check(4, Some("File { offset: 104, end: 110 }"));
        check(10, Some("Bytes([120, 121, 122])"));
        check(12, Some("Bytes([122])"));
        check(13, None);
        assert!(!filling.keep(&vec![0; TAIL_MAX]));
        filling.end(Phase::Failed);
        filling.end(Phase::Stored);
        assert_eq!(filling.phase(), Phase::Failed);
    }
}
