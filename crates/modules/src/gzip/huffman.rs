//! Huffman codes as deflate has them (RFC 1951, 3.2.2): lengths by how often symbols occur, codes by their lengths.
//!
//! A code is always complete, as some decoders refuse others: where fewer than two symbols occur, two get a code.

use std::sync::LazyLock;

/// The most symbols of a code.
const MOST: usize = 288;

/// A code: for each symbol its bits, the first one lowest, and how many they are.
pub(super) struct Code {
    lengths: [u8; MOST],
    /// The bits, and above them how many.
    symbols: [u32; MOST],
    count: usize,
}

/// The codes of literals and lengths, and of distances, that need not be written (RFC 1951, 3.2.6).
pub(super) fn fixed() -> &'static (Code, Code) {
    static FIXED: LazyLock<(Code, Code)> = LazyLock::new(|| {
        let mut literals = [8; MOST];
        literals[144..256].fill(9);
        literals[256..280].fill(7);
        let mut distances = [0; MOST];
        distances[..32].fill(5);
        (Code::with(literals, MOST), Code::with(distances, 32))
    });
    &FIXED
}

impl Code {
    /// The code for symbols that occur so often, no longer than `limit` bits.
    pub fn of(counts: &[u32], limit: u8) -> Self {
        let mut lengths = [0; MOST];
        // The count above the symbol, so that one comparison tells their order.
        let leaf = |count: u32, symbol: usize| count << 9 | symbol as u32;
        let mut leaves: Vec<u32> = Vec::with_capacity(counts.len() + 2);
        leaves.extend(
            counts.iter().enumerate().filter(|(_, count)| **count > 0).map(|(at, count)| leaf(*count, at)),
        );
        for spare in 0..2 {
            if leaves.len() < 2 && leaves.iter().all(|leaf| *leaf & 0x1ff != spare) {
                leaves.push(leaf(1, spare as usize));
            }
        }
        leaves.sort_unstable();
        for (leaf, depth) in leaves.iter().zip(depths(&leaves, limit)) {
            lengths[(*leaf & 0x1ff) as usize] = depth;
        }
        Self::with(lengths, counts.len())
    }

    /// The code of these lengths.
    fn with(lengths: [u8; MOST], count: usize) -> Self {
        let mut of_length = [0u16; 16];
        lengths[..count].iter().for_each(|length| of_length[usize::from(*length & 15)] += 1);
        let mut next = [0u16; 16];
        of_length[0] = 0;
        for length in 1..16 {
            next[length] = (next[length - 1] + of_length[length - 1]) << 1;
        }
        let mut symbols = [0; MOST];
        for (symbol, length) in symbols[..count].iter_mut().zip(lengths).filter(|(_, length)| *length > 0) {
            let code = &mut next[usize::from(length & 15)];
            *symbol = u32::from(code.reverse_bits() >> (16 - length)) | u32::from(length) << 16;
            *code += 1;
        }
        Self { lengths, symbols, count }
    }

    /// Bits of each symbol; zero where it has no code.
    pub fn lengths(&self) -> &[u8] {
        &self.lengths[..self.count]
    }

    /// The bits of a symbol, and how many.
    #[inline]
    pub fn symbol(&self, symbol: usize) -> (u32, u32) {
        let symbol = self.symbols[symbol];
        (symbol & 0xffff, symbol >> 16)
    }

    /// Bits that symbols take which occur so often.
    pub fn cost(&self, counts: &[u32]) -> usize {
        counts.iter().zip(self.lengths).map(|(count, length)| count * u32::from(length)).sum::<u32>() as usize
    }
}

/// How deep the leaves lie in the tree of least weight; the rarest come first and there are at least two.
fn depths(leaves: &[u32], limit: u8) -> Vec<u8> {
    let count = leaves.len();
    // Inner nodes are made in the order of their weight, so that the lightest two are always at the front of the
    // leaves or of the inner nodes.
    let mut weights: Vec<u32> = Vec::with_capacity(count);
    let mut parents = vec![0; 2 * count - 1];
    let (mut leaf, mut inner) = (0, 0);
    while weights.len() + 1 < count {
        let mut weight = 0;
        for _ in 0..2 {
            let of_leaf = leaves.get(leaf).map(|leaf| leaf >> 9);
            let of_inner = weights.get(inner).copied();
            let node = match (of_leaf, of_inner) {
                (Some(light), Some(heavy)) if light > heavy => count + inner,
                (None, _) => count + inner,
                (Some(_), _) => leaf,
            };
            if node < count {
                weight += leaves[node] >> 9;
                leaf += 1;
            } else {
                weight += weights[inner];
                inner += 1;
            }
            parents[node] = count + weights.len();
        }
        weights.push(weight);
    }
    let root = 2 * count - 2;
    let mut depths = vec![0u8; 2 * count - 1];
    for node in (0..root).rev() {
        depths[node] = depths[parents[node]].saturating_add(1);
    }
    depths.truncate(count);
    shorten(&mut depths, limit);
    depths
}

/// Cuts codes that are too long, and makes up for it by others, the rarest first, until the code is complete again.
fn shorten(depths: &mut [u8], limit: u8) {
    if depths.iter().all(|depth| *depth <= limit) {
        return;
    }
    let full = 1i64 << limit;
    let share = |depth: u8| 1i64 << (limit - depth);
    depths.iter_mut().for_each(|depth| *depth = (*depth).min(limit));
    let mut taken: i64 = depths.iter().map(|depth| share(*depth)).sum();
    while taken > full {
        let Some(depth) = depths.iter_mut().filter(|depth| **depth < limit).max_by_key(|depth| **depth)
        else {
            return;
        };
        taken -= share(*depth) / 2;
        *depth += 1;
    }
    while taken < full {
        let Some(depth) = depths.iter_mut().rev().find(|depth| share(**depth) <= full - taken) else {
            return;
        };
        taken += share(*depth);
        *depth -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(counts: &[u32], limit: u8) -> Vec<u8> {
        Code::of(counts, limit).lengths().to_vec()
    }

    /// Whether every sequence of bits means something and none means two things.
    fn is_complete(lengths: &[u8]) -> bool {
        lengths.iter().filter(|length| **length > 0).map(|length| 1u32 << (15 - length)).sum::<u32>()
            == 1 << 15
    }

    #[test]
    fn the_frequent_are_short() {
        assert_eq!(lengths(&[1, 1, 2, 4], 15), [3, 3, 2, 1]);
        assert_eq!(lengths(&[1, 1, 1, 1], 15), [2, 2, 2, 2]);
        assert_eq!(lengths(&[0, 5, 0], 15), [1, 1, 0]);
        assert_eq!(lengths(&[5, 0, 0], 15), [1, 1, 0]);
        assert_eq!(lengths(&[0, 0, 5], 15), [1, 0, 1]);
        assert_eq!(lengths(&[0, 0, 0], 15), [1, 1, 0]);
    }

    #[test]
    fn no_code_is_longer_than_the_limit() {
        let mut counts = vec![1u32, 1];
        while counts.len() < 19 {
            counts.push(counts[counts.len() - 1] + counts[counts.len() - 2]);
        }
        for limit in [5, 7, 15] {
            let lengths = lengths(&counts, limit);
            assert!(lengths.iter().all(|length| *length <= limit) && is_complete(&lengths), "{lengths:?}");
        }
        assert!(is_complete(&lengths(&[7; 286], 15)));
    }

    #[test]
    fn codes_are_those_of_the_rfc() {
        let mut lengths = [0; MOST];
        lengths[..8].copy_from_slice(&[3, 3, 3, 3, 3, 2, 4, 4]);
        let code = Code::with(lengths, 8);
        let codes: Vec<String> = (0..8)
            .map(|symbol| {
                let (bits, length) = code.symbol(symbol);
                format!("{:0width$b}", bits.reverse_bits() >> (32 - length), width = length as usize)
            })
            .collect();
        assert_eq!(codes, ["010", "011", "100", "101", "110", "00", "1110", "1111"]);
    }
}
