//! The allocator of the program: the system's, but for small pieces that are aligned to cache lines.
//!
//! The event loop keeps two of those for each connection. The system's allocator leaves gaps around them that make a
//! sixth of what an idle connection takes; here they lie side by side. What was given back is used again, and as much
//! stays as there ever was at once.
//!
//! Pieces belong to no thread: any may give back what another took, and one that ends leaves nothing behind. The locks are
//! held for a few instructions that neither allocate nor panic. No signal has a handler, and a process forks only while it
//! has one thread (`process::fork`), so nobody finds a lock that its own thread or its parent holds.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::null_mut;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The alignment of a piece, and the size of a small one, bytes.
const LINES: usize = 128;
/// Alignments that the system's allocator gives anyway.
const NATURAL: usize = 16;
/// Bytes that are taken from the system at once.
const BLOCK: usize = 64 << 10;

// Nothing of a block is left over, and a piece that waits has room for an address.
const _: () = assert!(BLOCK.is_multiple_of(2 * LINES) && LINES >= size_of::<*mut u8>());

/// The allocator; to be named as `#[global_allocator]`.
pub struct Allocator {
    single: Mutex<Pieces>,
    double: Mutex<Pieces>,
}

impl Allocator {
    /// An allocator that has taken nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { single: Mutex::new(Pieces::of(LINES)), double: Mutex::new(Pieces::of(2 * LINES)) }
    }

    /// The pieces that a layout is served from, always the same; none where the system serves it.
    #[inline]
    fn pieces(&self, layout: Layout) -> Option<MutexGuard<'_, Pieces>> {
        if layout.align() <= NATURAL || layout.align() > LINES {
            return None;
        }
        let pieces = match layout.size() {
            0..=LINES => &self.single,
            size if size <= 2 * LINES => &self.double,
            _ => return None,
        };
        Some(pieces.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Default for Allocator {
    fn default() -> Self {
        Self::new()
    }
}

/// Pieces of one size.
struct Pieces {
    size: usize,
    /// The piece that was given back last; each holds the address of the one before.
    free: *mut *mut u8,
    /// What is left of the last block.
    rest: *mut u8,
    left: usize,
}

// SAFETY: the pointers lead to memory that belongs to this value alone, whatever thread has it.
unsafe impl Send for Pieces {}

impl Pieces {
    const fn of(size: usize) -> Self {
        Self { size, free: null_mut(), rest: null_mut(), left: 0 }
    }

    /// A piece; null where the system has no memory.
    fn take(&mut self) -> *mut u8 {
        if !self.free.is_null() {
            let piece = self.free;
            // SAFETY: a piece on the list is nobody else's, and its first word was written by `give`.
            self.free = unsafe { *piece }.cast();
            return piece.cast();
        }
        if self.left < self.size {
            let Ok(layout) = Layout::from_size_align(BLOCK, LINES) else { return null_mut() };
            // SAFETY: the size is not zero.
            self.rest = unsafe { System.alloc(layout) };
            self.left = if self.rest.is_null() { 0 } else { BLOCK };
            if self.left == 0 {
                return null_mut();
            }
        }
        let piece = self.rest;
        self.left -= self.size;
        // SAFETY: `left` bytes of the block lie from here on, and the piece was among them.
        self.rest = unsafe { piece.add(self.size) };
        piece
    }

    /// Takes a piece back.
    ///
    /// # Safety
    /// It came from [`Self::take`] and is used no more.
    unsafe fn give(&mut self, piece: *mut u8) {
        let piece = piece.cast::<*mut u8>();
        // SAFETY: the piece is ours again, and larger and better aligned than an address.
        unsafe { piece.write(self.free.cast()) };
        self.free = piece;
    }
}

// SAFETY: size and alignment alone say where a layout is served from, so what is freed came from where it goes. Pieces are
// at least as large as their layouts, aligned to `LINES`, and on the list only while nobody has them. Nothing unwinds.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match self.pieces(layout) {
            // SAFETY: the caller's layout.
            None => unsafe { System.alloc(layout) },
            Some(mut pieces) => pieces.take(),
        }
    }

    #[inline]
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        match self.pieces(layout) {
            // SAFETY: `alloc` had it from there.
            None => unsafe { System.dealloc(ptr, layout) },
            // SAFETY: `alloc` had it from there, and the caller has done with it.
            Some(mut pieces) => unsafe { pieces.give(ptr) },
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let piece = match self.pieces(layout) {
            // SAFETY: the caller's layout.
            None => return unsafe { System.alloc_zeroed(layout) },
            Some(mut pieces) => pieces.take(),
        };
        if !piece.is_null() {
            // SAFETY: a piece is at least as large as its layout, and nobody else's by now.
            unsafe { piece.write_bytes(0, layout.size()) };
        }
        piece
    }

    #[inline]
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if layout.align() <= NATURAL {
            // SAFETY: all sizes of such an alignment are the system's.
            return unsafe { System.realloc(ptr, layout, new_size) };
        }
        let Ok(new) = Layout::from_size_align(new_size, layout.align()) else { return null_mut() };
        // SAFETY: the caller had `ptr` for `layout`. Both are at least as large as the smaller size and do not overlap, and
        // the old one is given back once it is copied.
        unsafe {
            let moved = self.alloc(new);
            if !moved.is_null() {
                moved.copy_from_nonoverlapping(ptr, layout.size().min(new_size));
                self.dealloc(ptr, layout);
            }
            moved
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).expect("a layout")
    }

    #[test]
    fn aligned_pieces_lie_side_by_side_and_are_used_again() {
        for (size, stride) in [(1, 128), (128, 128), (129, 256), (256, 256)] {
            let allocator = Allocator::new();
            let layout = layout(size, 128);
            // SAFETY: each piece is written within its layout, and given back once.
            unsafe {
                let pieces: Vec<*mut u8> = (0..1000).map(|_| allocator.alloc(layout)).collect();
                for (at, piece) in pieces.iter().enumerate() {
                    assert!(!piece.is_null() && piece.addr().is_multiple_of(128));
                    piece.write_bytes(at as u8, size);
                }
                let near = pieces.windows(2).filter(|two| two[1].addr() == two[0].addr() + stride).count();
                assert!(near >= 990, "{near} of {size}");
                for (at, piece) in pieces.iter().enumerate() {
                    assert!(std::slice::from_raw_parts(*piece, size).iter().all(|byte| *byte == at as u8));
                }
                pieces.iter().for_each(|piece| allocator.dealloc(*piece, layout));
                assert_eq!(allocator.alloc(layout), pieces[999], "the last one comes first");
                allocator.dealloc(pieces[999], layout);
            }
        }
    }

    #[test]
    fn whatever_changes_its_size_keeps_its_bytes() {
        let allocator = Allocator::new();
        for align in [1, 16, 32, 128, 256] {
            // SAFETY: each layout is the one that the bytes have at the time.
            unsafe {
                let mut size = 20;
                let mut bytes = allocator.alloc_zeroed(layout(size, align));
                assert!(std::slice::from_raw_parts(bytes, size).iter().all(|byte| *byte == 0));
                bytes.write_bytes(7, size);
                for new in [100, 128, 200, 256, 300, 5000, 250, 20] {
                    bytes = allocator.realloc(bytes, layout(size, align), new);
                    size = new;
                    assert!(bytes.addr().is_multiple_of(align));
                    assert!(
                        std::slice::from_raw_parts(bytes, 20).iter().all(|byte| *byte == 7),
                        "{align} {new}"
                    );
                }
                allocator.dealloc(bytes, layout(size, align));
            }
        }
    }

    /// Something that was taken, filled with a byte of its own.
    struct Taken {
        start: *mut u8,
        layout: Layout,
        mark: u8,
    }

    // SAFETY: what it points to is its own.
    unsafe impl Send for Taken {}

    impl Taken {
        fn new(allocator: &Allocator, layout: Layout, mark: u8) -> Self {
            // SAFETY: the size is not zero, and what was taken is written within its layout.
            let start = unsafe {
                let start = if mark.is_multiple_of(2) {
                    allocator.alloc(layout)
                } else {
                    allocator.alloc_zeroed(layout)
                };
                assert!(!start.is_null() && start.addr().is_multiple_of(layout.align()));
                if !mark.is_multiple_of(2) {
                    assert!(std::slice::from_raw_parts(start, layout.size()).iter().all(|byte| *byte == 0));
                }
                start.write_bytes(mark, layout.size());
                start
            };
            Self { start, layout, mark }
        }

        fn resize(&mut self, allocator: &Allocator, size: usize) {
            self.check();
            // SAFETY: it was taken with this layout and is written within the new one.
            unsafe {
                self.start = allocator.realloc(self.start, self.layout, size);
                let kept = self.layout.size().min(size);
                assert!(std::slice::from_raw_parts(self.start, kept).iter().all(|byte| *byte == self.mark));
                self.start.write_bytes(self.mark, size);
            }
            self.layout = layout(size, self.layout.align());
        }

        fn give(self, allocator: &Allocator) {
            self.check();
            // SAFETY: it was taken with this layout and is used no more.
            unsafe { allocator.dealloc(self.start, self.layout) };
        }

        /// Whether nobody else has written to it.
        fn check(&self) {
            // SAFETY: all of it was written when it was taken.
            let bytes = unsafe { std::slice::from_raw_parts(self.start, self.layout.size()) };
            assert!(bytes.iter().all(|byte| *byte == self.mark), "{:?}", self.layout);
        }
    }

    /// The next of a sequence that looks random.
    fn draw(state: &mut u64, below: usize) -> usize {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) as usize % below
    }

    #[test]
    fn threads_give_back_what_others_took() {
        static ALLOCATOR: Allocator = Allocator::new();
        const SIZES: [usize; 7] = [1, 8, 127, 128, 129, 256, 400];
        const ALIGNS: [usize; 5] = [8, 32, 64, 128, 256];
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..4).map(|_| std::sync::mpsc::channel::<Taken>()).unzip();
        std::thread::scope(|scope| {
            for (number, receiver) in receivers.into_iter().enumerate() {
                let senders = senders.clone();
                scope.spawn(move || {
                    let mut state = number as u64;
                    let mut held: Vec<Taken> = Vec::new();
                    for round in 0..5000_usize {
                        match draw(&mut state, 6) {
                            0..=2 => {
                                let size = SIZES[draw(&mut state, SIZES.len())];
                                let align = ALIGNS[draw(&mut state, ALIGNS.len())];
                                let mark = (round * 4 + number) as u8;
                                held.push(Taken::new(&ALLOCATOR, layout(size, align), mark));
                            }
                            3 if !held.is_empty() => {
                                let place = draw(&mut state, held.len());
                                held[place].resize(&ALLOCATOR, SIZES[draw(&mut state, SIZES.len())]);
                            }
                            4 if !held.is_empty() => {
                                let place = draw(&mut state, held.len());
                                let _ = senders[draw(&mut state, 4)].send(held.swap_remove(place));
                            }
                            _ if !held.is_empty() => {
                                let place = draw(&mut state, held.len());
                                held.swap_remove(place).give(&ALLOCATOR);
                            }
                            _ => {}
                        }
                        receiver.try_iter().for_each(|taken| taken.give(&ALLOCATOR));
                    }
                    drop(senders);
                    held.into_iter().chain(receiver).for_each(|taken| taken.give(&ALLOCATOR));
                });
            }
            drop(senders);
        });
    }

    #[test]
    fn what_was_given_back_is_all_that_is_used() {
        let allocator = Allocator::new();
        let taken: Vec<Taken> =
            (0..2048).map(|mark| Taken::new(&allocator, layout(256, 128), mark as u8)).collect();
        let mut places: Vec<usize> = taken.iter().map(|taken| taken.start.addr()).collect();
        taken.into_iter().for_each(|taken| taken.give(&allocator));
        let again: Vec<Taken> =
            (0..2048).map(|mark| Taken::new(&allocator, layout(200, 64), mark as u8)).collect();
        let mut seen: Vec<usize> = again.iter().map(|taken| taken.start.addr()).collect();
        again.into_iter().for_each(|taken| taken.give(&allocator));
        places.sort_unstable();
        seen.sort_unstable();
        assert_eq!(seen, places);
        places.dedup();
        assert_eq!(places.len(), 2048, "no piece is given out twice");
    }
}
