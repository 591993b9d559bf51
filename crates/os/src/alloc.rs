//! The allocator of the program: the system's, but for small pieces that are aligned to cache lines.
//!
//! The event loop keeps two of those for each connection. The system's allocator leaves gaps around them that make a
//! sixth of what an idle connection takes; here they lie side by side. What was given back is used again, and as much
//! stays as there ever was at once.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::null_mut;
use std::sync::{Mutex, PoisonError};

/// The alignment of a piece, and the size of a small one, bytes.
const LINES: usize = 128;
/// Alignments that the system's allocator gives anyway.
const NATURAL: usize = 16;
/// Bytes that are taken from the system at once.
const BLOCK: usize = 64 << 10;

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

    /// The pieces that a layout is served from; none where the system serves it.
    #[inline]
    fn pieces(&self, layout: Layout) -> Option<&Mutex<Pieces>> {
        if layout.align() <= NATURAL || layout.align() > LINES {
            return None;
        }
        match layout.size() {
            0..=LINES => Some(&self.single),
            size if size <= 2 * LINES => Some(&self.double),
            _ => None,
        }
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

// SAFETY: a layout is always served from the same place, so what is freed came from where it goes. Pieces are at least
// as large as their layouts, aligned to `LINES`, and on the list only while nobody has them.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match self.pieces(layout) {
            // SAFETY: the caller's layout.
            None => unsafe { System.alloc(layout) },
            Some(pieces) => pieces.lock().unwrap_or_else(PoisonError::into_inner).take(),
        }
    }

    #[inline]
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        match self.pieces(layout) {
            // SAFETY: `alloc` had it from there.
            None => unsafe { System.dealloc(ptr, layout) },
            // SAFETY: `alloc` had it from there, and the caller has done with it.
            Some(pieces) => unsafe { pieces.lock().unwrap_or_else(PoisonError::into_inner).give(ptr) },
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match self.pieces(layout) {
            // SAFETY: the caller's layout.
            None => unsafe { System.alloc_zeroed(layout) },
            Some(_) => {
                // SAFETY: the caller's layout; what comes of it is that large.
                unsafe {
                    let piece = self.alloc(layout);
                    if !piece.is_null() {
                        piece.write_bytes(0, layout.size());
                    }
                    piece
                }
            }
        }
    }

    #[inline]
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if layout.align() <= NATURAL {
            // SAFETY: all sizes of such an alignment are the system's.
            return unsafe { System.realloc(ptr, layout, new_size) };
        }
        let Ok(new) = Layout::from_size_align(new_size, layout.align()) else { return null_mut() };
        // SAFETY: both are at least as large as the smaller size, and the old one is given back once it is copied.
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
        let allocator = Allocator::new();
        for (size, stride) in [(1, 128), (128, 128), (129, 256), (256, 256)] {
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

    #[test]
    fn threads_share_the_pieces() {
        static ALLOCATOR: Allocator = Allocator::new();
        std::thread::scope(|scope| {
            for number in 0..4u8 {
                scope.spawn(move || {
                    let layout = layout(200, 64);
                    for round in 0..2000 {
                        // SAFETY: each piece is written within its layout, and given back once.
                        unsafe {
                            let pieces: Vec<*mut u8> =
                                (0..round % 7).map(|_| ALLOCATOR.alloc(layout)).collect();
                            pieces.iter().for_each(|piece| piece.write_bytes(number, 200));
                            for piece in pieces {
                                assert_eq!((*piece, *piece.add(199)), (number, number));
                                ALLOCATOR.dealloc(piece, layout);
                            }
                        }
                    }
                });
            }
        });
    }
}
