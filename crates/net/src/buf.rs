//! Byte buffers borrowed from a per-thread last-in-first-out list.
//!
//! A buffer is taken only once there is something to read, so an idle connection holds none; the one given
//! back last is the one whose memory is still in the processor's cache.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

/// Capacities that are kept for reuse, bytes; larger requests are served by the allocator.
const CLASSES: [usize; 4] = [4 << 10, 16 << 10, 64 << 10, 256 << 10];
/// How many free buffers of each class one thread keeps.
const KEEP: [usize; 4] = [128, 64, 16, 2];

thread_local! {
    static FREE: RefCell<[Vec<Vec<u8>>; CLASSES.len()]> = const { RefCell::new([const { Vec::new() }; CLASSES.len()]) };
}

/// A growable byte buffer that returns to its thread's free list when dropped.
#[derive(Debug, Default)]
pub struct Buf(Vec<u8>);

impl Buf {
    /// An empty buffer that holds no memory yet.
    #[must_use]
    pub const fn empty() -> Self {
        Self(Vec::new())
    }

    /// An empty buffer with room for at least `capacity` bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        let Some(class) = CLASSES.iter().position(|size| *size >= capacity) else {
            return Self(Vec::with_capacity(capacity));
        };
        let free = FREE.try_with(|free| free.borrow_mut()[class].pop()).ok().flatten();
        Self(free.unwrap_or_else(|| Vec::with_capacity(CLASSES[class])))
    }

    /// The vector itself, for calls that append to one.
    pub fn vec(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }

    /// Room for `additional` more bytes, moved to a larger buffer of the list where needed. Behind the largest of
    /// those it at least doubles: what grows in small steps must not be copied at each of them.
    pub fn reserve(&mut self, additional: usize) {
        if self.0.capacity() - self.0.len() >= additional {
            return;
        }
        let wanted = self.0.len() + additional;
        if wanted > CLASSES[CLASSES.len() - 1] {
            self.0.reserve(additional);
            return;
        }
        let mut larger = Self::with_capacity(wanted);
        larger.0.extend_from_slice(&self.0);
        *self = larger;
    }
}

impl Drop for Buf {
    #[inline]
    fn drop(&mut self) {
        if self.0.capacity() > 0 {
            self.give_back();
        }
    }
}

impl Buf {
    fn give_back(&mut self) {
        let capacity = self.0.capacity();
        let Some(class) = CLASSES.iter().position(|size| *size == capacity) else { return };
        let mut buffer = std::mem::take(&mut self.0);
        buffer.clear();
        // At thread exit the list may be gone already; then the memory is simply freed.
        let _ = FREE.try_with(|free| {
            let list = &mut free.borrow_mut()[class];
            if list.len() < KEEP[class] {
                list.push(buffer);
            }
        });
    }
}

impl Deref for Buf {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Buf {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_returned_buffer_is_handed_out_first() {
        let first = Buf::with_capacity(10_000);
        let address = first.as_ptr();
        drop(first);
        let mut again = Buf::with_capacity(16 << 10);
        assert_eq!(again.as_ptr(), address);
        assert!(again.is_empty());
        again.extend_from_slice(b"abc");
        again.reserve(60_000);
        assert_eq!(&again[..], b"abc");
        assert!(again.capacity() >= 60_003);
    }

    #[test]
    fn a_long_buffer_grows_in_few_steps() {
        let mut buf = Buf::empty();
        let mut capacities = vec![];
        for _ in 0..1000 {
            buf.reserve(16 << 10);
            let length = buf.len() + (16 << 10);
            buf.resize(length, 0);
            capacities.push(buf.capacity());
        }
        capacities.dedup();
        assert!(capacities.len() < 16, "{capacities:?}");
    }
}
