//! Ranges of IPv4 addresses with their values (`ranges`).
//!
//! As in nginx a range is kept in pieces that do not cross a multiple of 65536, and one may lie inside of another,
//! but may not reach beyond its ends.

use std::collections::BTreeMap;

use super::segments::{Segments, ValueId};

/// Ranges while a block is being read: the first address of each piece, its last one, its value.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    pieces: BTreeMap<u32, (u32, ValueId)>,
}

/// A range that another one overlaps without lying in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overlap {
    /// Its first address.
    pub start: u32,
    /// Its last address.
    pub end: u32,
}

/// The pieces of a range.
fn pieces(start: u32, end: u32) -> impl Iterator<Item = (u32, u32)> {
    (start >> 16..=end >> 16).map(move |head| {
        let (first, last) = (head << 16, head << 16 | 0xffff);
        (first.max(start), last.min(end))
    })
}

impl Ranges {
    /// Adds a range; `twice` is told the former value of each piece that was there already.
    ///
    /// # Errors
    /// The range that this one overlaps.
    pub fn insert(
        &mut self,
        start: u32,
        end: u32,
        value: ValueId,
        mut twice: impl FnMut(ValueId),
    ) -> Result<(), Overlap> {
        for (first, last) in pieces(start, end) {
            let near = self.pieces.range(..=last).next_back().map(|(start, piece)| (*start, *piece));
            let Some((near_first, (near_last, near_value))) = near.filter(|(_, (end, _))| *end >= first)
            else {
                self.pieces.insert(first, (last, value));
                continue;
            };
            if (near_first, near_last) == (first, last) {
                twice(near_value);
            } else if first < near_first || last > near_last {
                return Err(Overlap { start: near_first, end: near_last });
            }
            // What is left of the range around, on both sides.
            if first > near_first {
                self.pieces.insert(near_first, (first - 1, near_value));
            }
            if last < near_last {
                self.pieces.insert(last + 1, (near_last, near_value));
            }
            self.pieces.insert(first, (last, value));
        }
        Ok(())
    }

    /// Takes a range out; whether all its pieces were there.
    pub fn remove(&mut self, start: u32, end: u32) -> bool {
        let mut were_all_there = true;
        for (first, last) in pieces(start, end) {
            if self.pieces.get(&first).is_some_and(|(end, _)| *end == last) {
                self.pieces.remove(&first);
            } else {
                were_all_there = false;
            }
        }
        were_all_there
    }

    /// The table to look addresses up in; `default` is the value of all others.
    pub fn segments(&self, default: ValueId) -> Segments<u32> {
        let mut segments = Segments::new(default);
        for (first, (last, value)) in &self.pieces {
            segments.push(*first, *value);
            if let Some(next) = last.checked_add(1) {
                segments.push(next, default);
            }
        }
        segments.finish();
        segments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_may_lie_in_another() {
        let mut ranges = Ranges::default();
        let mut add = |start, end, value| {
            let mut before = Vec::new();
            ranges.insert(start, end, ValueId(value), |old| before.push(old.0)).map(|()| before)
        };
        assert_eq!(add(10, 99, 1), Ok(vec![]));
        assert_eq!(add(20, 29, 2), Ok(vec![]));
        assert_eq!(add(10, 12, 3), Ok(vec![]));
        assert_eq!(add(90, 99, 4), Ok(vec![]));
        assert_eq!(add(20, 29, 5), Ok(vec![2]));
        assert_eq!(add(25, 35, 6), Err(Overlap { start: 30, end: 89 }));
        assert_eq!(add(0, 10, 6), Err(Overlap { start: 10, end: 12 }));
        assert_eq!(add(0x1_fff0, 0x3_0005, 7), Ok(vec![]));
        assert_eq!(add(0x2_0000, 0x2_ffff, 8), Ok(vec![7]));
        assert_eq!(add(u32::MAX, u32::MAX, 9), Ok(vec![]));
        assert!(ranges.remove(90, 99));
        assert!(!ranges.remove(90, 99));
        assert!(!ranges.remove(30, 40));
        let segments = ranges.segments(ValueId(100));
        let check = |key, expected| assert_eq!(segments.find(key), ValueId(expected), "{key:x}");
        check(0, 100);
        check(10, 3);
        check(12, 3);
        check(13, 1);
        check(20, 5);
        check(30, 1);
        check(89, 1);
        check(90, 100);
        check(0x1_ffef, 100);
        check(0x1_fff0, 7);
        check(0x2_0000, 8);
        check(0x2_ffff, 8);
        check(0x3_0000, 7);
        check(0x3_0006, 100);
        check(u32::MAX, 9);
    }
}
