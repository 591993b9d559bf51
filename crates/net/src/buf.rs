//! Byte buffers borrowed from a per-thread last-in-first-out list.
//!
//! A buffer is taken only once there is something to read, so an idle connection holds none; the one given
//! back last is the one whose memory is still in the processor's cache.

use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};

/// Capacities that are kept for reuse, bytes; larger requests are served by the allocator.
const CLASSES: [usize; 4] = [4 << 10, 16 << 10, 64 << 10, 256 << 10];
/// How many free buffers of each class one thread keeps.
const KEEP: [usize; 4] = [128, 64, 16, 2];

/// Free buffers of a class.
#[derive(Debug)]
struct List {
    /// Empty ones without memory behind the first `count`.
    places: Vec<Vec<u8>>,
    count: usize,
}

impl List {
    const NONE: Self = Self { places: Vec::new(), count: 0 };

    fn with_capacity(count: usize) -> Self {
        Self { places: vec![Vec::new(); count], count: 0 }
    }

    /// Where the newest lies; it is to be taken.
    #[inline]
    fn newest(&mut self) -> Option<&mut Vec<u8>> {
        let at = self.count.checked_sub(1)?;
        let place = self.places.get_mut(at)?;
        self.count = at;
        Some(place)
    }

    /// Where the next one goes.
    #[inline]
    fn next(&mut self) -> Option<&mut Vec<u8>> {
        let place = self.places.get_mut(self.count)?;
        self.count += 1;
        Some(place)
    }
}

thread_local! {
    /// The lists of the classes. The loop makes them and empties them; without one they have no room.
    static FREE: ManuallyDrop<RefCell<Free>> = const { ManuallyDrop::new(RefCell::new(NONE)) };
}

type Free = [List; CLASSES.len()];

const NONE: Free = [List::NONE; CLASSES.len()];

/// Keeps free buffers on this thread from now on.
pub(crate) fn open() {
    FREE.with(|free| free.replace(KEEP.map(List::with_capacity)));
}

/// Frees them.
pub(crate) fn close() {
    drop(FREE.with(|free| free.replace(NONE)));
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
    // In one place: all who take buffers shortly after one another run the same code.
    #[inline(never)]
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        let Some(class) = CLASSES.iter().position(|size| *size >= capacity) else {
            return Self::allocate(capacity);
        };
        let newest = FREE.with(|free| match free.borrow_mut()[class].newest() {
            Some(newest) => std::mem::take(newest),
            None => Vec::new(),
        });
        if newest.capacity() > 0 { Self(newest) } else { Self::allocate(capacity) }
    }

    #[cold]
    fn allocate(capacity: usize) -> Self {
        let class = CLASSES.into_iter().find(|size| *size >= capacity);
        Self(Vec::with_capacity(class.unwrap_or(capacity)))
    }

    /// The vector itself, for calls that append to one.
    pub fn vec(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }

    /// Room for `additional` more bytes, moved to a larger buffer of the list where needed. Behind the largest of
    /// those it at least doubles: what grows in small steps must not be copied at each of them.
    #[inline]
    pub fn reserve(&mut self, additional: usize) {
        if self.0.capacity() - self.0.len() < additional {
            self.grow(additional);
        }
    }

    fn grow(&mut self, additional: usize) {
        if self.0.capacity() == 0 {
            // It has nothing to be given back.
            std::mem::forget(std::mem::replace(self, Self::with_capacity(additional)));
        } else {
            self.move_to_larger(additional);
        }
    }

    #[cold]
    fn move_to_larger(&mut self, additional: usize) {
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
    /// What finds no place in the list is freed by its owner.
    #[inline(never)]
    fn give_back(&mut self) {
        let Some(class) = class_of(self.0.capacity()) else { return };
        FREE.with(|free| {
            if let Some(place) = free.borrow_mut()[class].next() {
                self.0.clear();
                std::mem::swap(place, &mut self.0);
            }
        });
    }
}

/// The class whose buffers have exactly this capacity. Each is four times as large as the one before.
fn class_of(capacity: usize) -> Option<usize> {
    let class = (capacity.trailing_zeros() as usize).wrapping_sub(CLASSES[0].trailing_zeros() as usize) / 2;
    CLASSES.get(class).is_some_and(|size| *size == capacity).then_some(class)
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
        open();
        let mut first = Buf::with_capacity(10_000);
        first.extend_from_slice(b"old");
        let address = first.as_ptr();
        drop(first);
        let mut again = Buf::with_capacity(16 << 10);
        assert_eq!(again.as_ptr(), address);
        assert!(again.is_empty());
        again.extend_from_slice(b"abc");
        again.reserve(60_000);
        assert_eq!(&again[..], b"abc");
        assert!(again.capacity() >= 60_003);
        close();
    }

    #[test]
    fn classes_are_told_by_their_capacity() {
        for (class, size) in CLASSES.into_iter().enumerate() {
            assert_eq!(class_of(size), Some(class));
            assert_eq!([size - 1, size + 1, size / 2, size * 2, size * 3].map(class_of), [None; 5], "{size}");
        }
        assert_eq!([0, 1, 1 << 10, 1 << 20, usize::MAX].map(class_of), [None; 5]);
    }

    #[test]
    fn a_list_keeps_so_many_and_no_more() {
        let class = 2;
        let kept = |count: usize| {
            let taken: Vec<Buf> = (0..count).map(|_| Buf::with_capacity(CLASSES[class])).collect();
            drop(taken);
            FREE.with(|free| free.borrow()[class].count)
        };
        assert_eq!(kept(3), 0, "without an event loop");
        open();
        assert_eq!([kept(3), kept(2), kept(KEEP[class] + 3)], [3, 3, KEEP[class]]);
        close();
        assert_eq!(kept(3), 0);
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
