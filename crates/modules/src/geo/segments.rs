//! Disjoint stretches of addresses, each with its value, found by one binary search.
//!
//! Networks and ranges become this once at load, so a lookup does not care how they were written or nested.

use std::hash::Hash;

/// Index of a value among those of a `geo` block; 0 is the empty one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ValueId(pub u32);

/// An address as a number.
pub(super) trait Key: Copy + Ord + Hash + Default {
    /// The last address of all.
    const LAST: Self;

    /// The last address with the same first `prefix` bits.
    fn end(self, prefix: u8) -> Self;
    /// The address behind this one, which is not the last.
    fn next(self) -> Self;
    /// Its first bits, by which [`Segments`] jumps into the middle.
    fn head(self) -> usize;
}

impl Key for u32 {
    const LAST: Self = Self::MAX;

    fn end(self, prefix: u8) -> Self {
        self | Self::MAX.checked_shr(u32::from(prefix)).unwrap_or(0)
    }

    fn next(self) -> Self {
        self.wrapping_add(1)
    }

    fn head(self) -> usize {
        (self >> 16) as usize
    }
}

impl Key for u128 {
    const LAST: Self = Self::MAX;

    fn end(self, prefix: u8) -> Self {
        self | Self::MAX.checked_shr(u32::from(prefix)).unwrap_or(0)
    }

    fn next(self) -> Self {
        self.wrapping_add(1)
    }

    fn head(self) -> usize {
        (self >> 112) as usize
    }
}

/// As many segments as are searched without a table of heads.
const SMALL: usize = 512;
const HEADS: usize = 1 << 16;

/// All addresses, cut where their value changes.
#[derive(Debug)]
pub(super) struct Segments<K> {
    starts: Vec<K>,
    values: Vec<ValueId>,
    /// For each head the number of segments that start before it; empty where there are few.
    heads: Vec<u32>,
}

impl<K: Key> Segments<K> {
    /// All addresses with one value.
    pub fn new(value: ValueId) -> Self {
        Self { starts: vec![K::default()], values: vec![value], heads: Vec::new() }
    }

    /// From `start` on addresses have this value; starts never go back.
    pub fn push(&mut self, start: K, value: ValueId) {
        if self.starts.last() == Some(&start) {
            if let Some(last) = self.values.last_mut() {
                *last = value;
            }
        } else if self.values.last() != Some(&value) {
            self.starts.push(start);
            self.values.push(value);
        }
    }

    /// Called after the last [`Self::push`].
    pub fn finish(&mut self) {
        self.starts.shrink_to_fit();
        self.values.shrink_to_fit();
        if self.starts.len() <= SMALL {
            return;
        }
        let mut heads = Vec::with_capacity(HEADS + 1);
        let mut before = 0;
        for head in 0..=HEADS {
            while self.starts.get(before).is_some_and(|start| start.head() < head) {
                before += 1;
            }
            heads.push(u32::try_from(before).unwrap_or(u32::MAX));
        }
        self.heads = heads;
    }

    /// The value of an address.
    pub fn find(&self, key: K) -> ValueId {
        let head = key.head();
        let (from, to) = match (self.heads.get(head), self.heads.get(head + 1)) {
            (Some(from), Some(to)) => (*from as usize, *to as usize),
            _ => (0, self.starts.len()),
        };
        let near = self.starts.get(from..to).unwrap_or_default();
        let after = from + near.partition_point(|start| *start <= key);
        after.checked_sub(1).and_then(|at| self.values.get(at)).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_has_the_value_of_its_segment() {
        let mut few = Segments::new(ValueId(0));
        few.push(10, ValueId(1));
        few.push(20, ValueId(0));
        few.push(20, ValueId(2));
        few.push(u32::MAX, ValueId(3));
        few.finish();
        let check = |key: u32, expected| assert_eq!(few.find(key), ValueId(expected), "{key}");
        check(0, 0);
        check(9, 0);
        check(10, 1);
        check(19, 1);
        check(20, 2);
        check(u32::MAX - 1, 2);
        check(u32::MAX, 3);
    }

    #[test]
    fn heads_lead_to_the_same_place() {
        let mut many = Segments::new(ValueId(0));
        for number in 1..2000_u32 {
            many.push(number * 40_000, ValueId(number));
        }
        many.finish();
        assert!(!many.heads.is_empty());
        for key in (0..90_000_000).step_by(9_999) {
            assert_eq!(many.find(key), ValueId((key / 40_000).min(1999)), "{key}");
        }
        assert_eq!(many.find(u32::MAX), ValueId(1999));
    }

    #[test]
    fn ends() {
        assert_eq!(0_u32.end(0), u32::MAX);
        assert_eq!(0x0a00_0000_u32.end(8), 0x0aff_ffff);
        assert_eq!(7_u32.end(32), 7);
        assert_eq!(0_u128.end(0), u128::MAX);
        assert_eq!(1_u128.end(128), 1);
    }
}
