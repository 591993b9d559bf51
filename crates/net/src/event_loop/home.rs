//! An event loop as other threads see it: whom they wake, and what they have closed.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use os::epoll::Epoll;
use os::event::Bell;

use super::task::Key;

/// Descriptors that other threads have closed and that wait for the loop to have something to do.
pub(super) const LEFT_MAX: usize = 64;

/// The address of an event loop.
#[derive(Debug)]
pub(super) struct Home {
    /// Its own among all loops that the process ever had; never zero.
    pub id: u64,
    /// What it waits on; with a ring, that of the few descriptors which the ring is not to keep.
    pub epoll: Epoll,
    has_ring: bool,
    news: Mutex<News>,
    /// There is news.
    has_news: AtomicBool,
    bell: Bell,
}

/// What other threads have done since the last look.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Tasks that they have woken.
    pub woken: Vec<Key>,
    /// Places of descriptors that they have closed.
    pub left: Vec<u32>,
    /// The bell was rung.
    is_rung: bool,
}

impl Home {
    pub fn new(has_ring: bool) -> io::Result<Self> {
        static LOOPS: AtomicU64 = AtomicU64::new(1);
        Ok(Self {
            id: LOOPS.fetch_add(1, Ordering::Relaxed),
            epoll: Epoll::new()?,
            has_ring,
            news: Mutex::default(),
            has_news: AtomicBool::new(false),
            bell: Bell::new()?,
        })
    }

    pub fn bell(&self) -> RawFd {
        self.bell.as_raw_fd()
    }

    fn lock(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds to the news, and rings where the loop must look at once.
    fn add(&self, add: impl FnOnce(&mut News) -> bool) {
        let mut news = self.lock();
        let is_urgent = add(&mut news);
        self.has_news.store(true, Ordering::Release);
        if is_urgent && !std::mem::replace(&mut news.is_rung, true) {
            self.bell.ring();
        }
    }

    /// Has a task woken by the loop's own thread.
    pub fn wake(&self, key: Key) {
        self.add(|news| {
            news.woken.push(key);
            true
        });
    }

    /// Has a descriptor forgotten by the loop's own thread. A ring keeps its file open until then.
    pub fn leave(&self, place: u32) {
        self.add(|news| {
            news.left.push(place);
            self.has_ring || news.left.len() >= LEFT_MAX
        });
    }

    /// Takes the news, if there is any.
    pub fn news(&self) -> Option<News> {
        if !self.has_news.load(Ordering::Acquire) {
            return None;
        }
        let mut news = self.lock();
        self.has_news.store(false, Ordering::Relaxed);
        Some(std::mem::take(&mut *news))
    }
}
