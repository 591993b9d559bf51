//! Networks of one family with their values: the most precise one that holds an address decides.
//!
//! A network may be written twice (the later value counts) and deleted again, as included files may need.

use std::collections::HashMap;

use super::segments::{Key, Segments, ValueId};

/// Networks while a block is being read.
#[derive(Debug, Default)]
pub(super) struct Networks<K> {
    values: HashMap<(K, u8), ValueId>,
}

impl<K: Key> Networks<K> {
    /// Adds a network whose first `prefix` bits are those of `base`; the value that it had before.
    pub fn insert(&mut self, base: K, prefix: u8, value: ValueId) -> Option<ValueId> {
        self.values.insert((base, prefix), value)
    }

    /// Takes a network out; whether it was there.
    pub fn remove(&mut self, base: K, prefix: u8) -> bool {
        self.values.remove(&(base, prefix)).is_some()
    }

    /// The table to look addresses up in.
    pub fn segments(self) -> Segments<K> {
        let mut sorted: Vec<_> = self.values.into_iter().collect();
        // The wider of two networks that begin alike comes first, so that the narrower lies on top of it.
        sorted.sort_unstable_by_key(|(network, _)| *network);
        let none = ValueId::default();
        let mut segments = Segments::new(none);
        let mut around: Vec<(K, ValueId)> = Vec::new();
        for ((base, prefix), value) in sorted {
            close(&mut segments, &mut around, |end| end < base);
            segments.push(base, value);
            around.push((base.end(prefix), value));
        }
        close(&mut segments, &mut around, |_| true);
        segments.finish();
        segments
    }
}

/// Leaves the innermost networks as long as `is_over` says that they end.
fn close<K: Key>(segments: &mut Segments<K>, around: &mut Vec<(K, ValueId)>, is_over: impl Fn(K) -> bool) {
    while let Some((end, _)) = around.pop_if(|(end, _)| is_over(*end)) {
        if end != K::LAST {
            segments.push(end.next(), around.last().map_or(ValueId::default(), |(_, value)| *value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_precise_network_decides() {
        let mut networks = Networks::<u32>::default();
        let mut add =
            |base: [u8; 4], prefix, value| networks.insert(u32::from_be_bytes(base), prefix, ValueId(value));
        assert_eq!(add([0, 0, 0, 0], 0, 1), None);
        add([10, 0, 0, 0], 8, 2);
        add([10, 1, 0, 0], 16, 3);
        add([10, 1, 2, 3], 32, 4);
        add([10, 255, 255, 255], 32, 5);
        add([11, 0, 0, 0], 8, 6);
        add([255, 255, 255, 255], 32, 7);
        assert_eq!(add([12, 0, 0, 0], 8, 8), None);
        assert_eq!(add([11, 0, 0, 0], 8, 9), Some(ValueId(6)));
        assert!(networks.remove(0x0c00_0000, 8));
        assert!(!networks.remove(0x0c00_0000, 9));
        let segments = networks.segments();
        let check = |address: [u8; 4], expected| {
            assert_eq!(segments.find(u32::from_be_bytes(address)), ValueId(expected), "{address:?}");
        };
        check([0, 0, 0, 0], 1);
        check([9, 255, 255, 255], 1);
        check([10, 0, 0, 0], 2);
        check([10, 1, 0, 0], 3);
        check([10, 1, 2, 2], 3);
        check([10, 1, 2, 3], 4);
        check([10, 1, 2, 4], 3);
        check([10, 2, 0, 0], 2);
        check([10, 255, 255, 255], 5);
        check([11, 0, 0, 0], 9);
        check([12, 0, 0, 0], 1);
        check([255, 255, 255, 254], 1);
        check([255, 255, 255, 255], 7);
    }

    #[test]
    fn agrees_with_trying_every_network() {
        let mut state = 1_u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 8
        };
        let mut networks = Networks::<u32>::default();
        let mut list = Vec::new();
        for value in 1..300 {
            let prefix = u8::try_from(random() % 33).expect("small");
            let base = (random() << 20) & !u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
            networks.insert(base, prefix, ValueId(value));
            list.retain(|(other, length, _)| (*other, *length) != (base, prefix));
            list.push((base, prefix, value));
        }
        let segments = networks.segments();
        for _ in 0..3000 {
            let address = random() << 18;
            let best = list
                .iter()
                .filter(|(base, prefix, _)| *base <= address && address <= base.end(*prefix))
                .max_by_key(|(_, prefix, _)| *prefix);
            assert_eq!(segments.find(address).0, best.map_or(0, |(.., value)| *value), "{address:x}");
        }
    }
}
