//! Gzip of a short answer that is there as a whole, in one block (RFC 1951, RFC 1952).
//!
//! The library's tables take a quarter of a megabyte, and clearing them costs more than coding a few kilobytes. Those
//! here are as small as what they code; a text that is known as a whole also needs no state machine.

use std::cell::RefCell;

use super::huffman::{Code, fixed};

/// The longest text, bytes: its positions fit the tables.
pub(super) const LONGEST: usize = 8 << 10;

/// Bits of a hash; the table of heads has as many places.
const HASH_BITS: u32 = 12;
/// The shortest match that is looked for; shorter ones are seldom worth their distance.
const SHORTEST_MATCH: usize = 4;
/// The longest that can be expressed.
const LONGEST_MATCH: usize = 258;
/// The end of a block among literals and lengths.
const END: usize = 256;
/// In the order in which the lengths of the lengths' own code are written.
const LENGTH_ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// How hard matches are looked for.
#[derive(Clone, Copy)]
struct Effort {
    /// Earlier places that are tried for each position.
    tries: u32,
    /// A match of this length is good enough to look no further.
    enough: usize,
    /// Behind a match that is shorter than this the next position is looked at too: it may have a longer one.
    doubtful: usize,
}

impl Effort {
    fn of(level: u32) -> Self {
        let (tries, enough, doubtful) = match level {
            0..=1 => (4, 16, 0),
            2..=3 => (6, 16, 6),
            4..=6 => (32, 64, 16),
            _ => (256, LONGEST_MATCH, LONGEST_MATCH),
        };
        Self { tries, enough, doubtful }
    }
}

/// A literal, or a length and how far back, as the symbols and the bits behind them.
#[derive(Clone, Copy)]
struct Token {
    symbol: u16,
    length_extra: u8,
    length_bits: u8,
    distance_symbol: u8,
    distance_bits: u8,
    distance_extra: u16,
}

impl Token {
    #[inline]
    fn literal(byte: u8) -> Self {
        Self {
            symbol: u16::from(byte),
            length_extra: 0,
            length_bits: 0,
            distance_symbol: 0,
            distance_bits: 0,
            distance_extra: 0,
        }
    }

    /// Lengths are 3 to 258, distances at most [`LONGEST`]; what is left of them fits.
    #[inline]
    fn matched(length: usize, distance: usize) -> Self {
        let (length, distance) = (split_length(length), split_distance(distance));
        Self {
            symbol: length.symbol as u16,
            length_extra: length.extra as u8,
            length_bits: length.bits as u8,
            distance_symbol: distance.symbol as u8,
            distance_bits: distance.bits as u8,
            distance_extra: distance.extra as u16,
        }
    }
}

/// A number as a symbol and the bits behind it.
struct Split {
    symbol: u32,
    extra: u32,
    bits: u32,
}

#[inline]
fn split_length(length: usize) -> Split {
    let value = length as u32 - 3;
    if length == LONGEST_MATCH {
        return Split { symbol: 285, extra: 0, bits: 0 };
    }
    if value < 8 {
        return Split { symbol: 257 + value, extra: 0, bits: 0 };
    }
    let bits = value.ilog2() - 2;
    Split { symbol: 257 + 4 * (bits + 1) + (value >> bits & 3), extra: value & ((1 << bits) - 1), bits }
}

#[inline]
fn split_distance(distance: usize) -> Split {
    let value = distance as u32 - 1;
    if value < 4 {
        return Split { symbol: value, extra: 0, bits: 0 };
    }
    let bits = value.ilog2() - 1;
    Split { symbol: 2 * (bits + 1) + (value >> bits & 1), extra: value & ((1 << bits) - 1), bits }
}

/// Tables for one text after another.
struct Tables {
    /// The last position of each hash, plus one.
    heads: [u16; 1 << HASH_BITS],
    /// The position before it of the same hash, plus one.
    before: [u16; LONGEST],
    tokens: Vec<Token>,
    literals: [u32; 286],
    distances: [u32; 30],
    /// Bits behind the symbols.
    extra: usize,
}

thread_local! {
    static TABLES: RefCell<Option<Box<Tables>>> = const { RefCell::new(None) };
}

/// Appends `text`, no longer than [`LONGEST`], as a member of gzip.
pub(super) fn encode(text: &[u8], level: u32, out: &mut Vec<u8>) {
    let fastest = u8::from(level < 2) * 4;
    let best = u8::from(level == 9) * 2;
    out.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, fastest | best, 3]);
    TABLES.with_borrow_mut(|tables| {
        let tables = tables.get_or_insert_with(|| {
            Box::new(Tables {
                heads: [0; 1 << HASH_BITS],
                before: [0; LONGEST],
                tokens: Vec::new(),
                literals: [0; 286],
                distances: [0; 30],
                extra: 0,
            })
        });
        tables.tokenize(text, Effort::of(level));
        tables.write(text, out);
    });
    let mut crc = flate2::Crc::new();
    crc.update(text);
    out.extend_from_slice(&crc.sum().to_le_bytes());
    out.extend_from_slice(&crc.amount().to_le_bytes());
}

#[inline]
fn hash(text: &[u8], at: usize) -> Option<usize> {
    let word = u32::from_le_bytes(*text.get(at..)?.first_chunk::<4>()?);
    Some((word.wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS)) as usize)
}

/// How many bytes from `here` on are the same as those from `there` on.
#[inline]
fn common(text: &[u8], there: usize, here: usize) -> usize {
    let most = (text.len() - here).min(LONGEST_MATCH);
    let (old, new) = (&text[there..there + most], &text[here..here + most]);
    let mut length = 0;
    while let (Some(a), Some(b)) = (
        old.get(length..).and_then(|rest| rest.first_chunk::<8>()),
        new.get(length..).and_then(|rest| rest.first_chunk::<8>()),
    ) {
        let differing = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        if differing != 0 {
            return length + differing.trailing_zeros() as usize / 8;
        }
        length += 8;
    }
    while length < most && old[length] == new[length] {
        length += 1;
    }
    length
}

impl Tables {
    fn tokenize(&mut self, text: &[u8], effort: Effort) {
        self.heads.fill(0);
        self.tokens.clear();
        self.literals.fill(0);
        self.distances.fill(0);
        self.extra = 0;
        let mut at = 0;
        let mut found = self.look(text, at, effort);
        while at < text.len() {
            let (length, distance) = found;
            if length == 0 {
                self.push_literal(text[at]);
                at += 1;
                found = self.look(text, at, effort);
                continue;
            }
            let mut looked = at + 1;
            if length < effort.doubtful {
                let next = self.look(text, looked, effort);
                if next.0 > length {
                    self.push_literal(text[at]);
                    at = looked;
                    found = next;
                    continue;
                }
                looked += 1;
            }
            self.push_match(length, distance);
            (looked..at + length).for_each(|skipped| self.note(text, skipped));
            at += length;
            found = self.look(text, at, effort);
        }
        self.literals[END] = 1;
    }

    #[inline]
    fn push_literal(&mut self, byte: u8) {
        self.literals[usize::from(byte)] += 1;
        self.tokens.push(Token::literal(byte));
    }

    #[inline]
    fn push_match(&mut self, length: usize, distance: usize) {
        let token = Token::matched(length, distance);
        self.literals[usize::from(token.symbol)] += 1;
        self.distances[usize::from(token.distance_symbol)] += 1;
        self.extra += usize::from(token.length_bits) + usize::from(token.distance_bits);
        self.tokens.push(token);
    }

    /// Remembers a position without looking for what matches it.
    #[inline]
    fn note(&mut self, text: &[u8], at: usize) {
        if let Some(hash) = hash(text, at) {
            self.before[at] = std::mem::replace(&mut self.heads[hash], at as u16 + 1);
        }
    }

    /// The longest match of a position that is not remembered yet, and how far back it is; a length of zero: none.
    #[inline]
    fn look(&mut self, text: &[u8], at: usize, effort: Effort) -> (usize, usize) {
        let Some(hash) = hash(text, at) else { return (0, 0) };
        let mut place = std::mem::replace(&mut self.heads[hash], at as u16 + 1);
        self.before[at] = place;
        let mut best = (0, 0);
        for _ in 0..effort.tries {
            let Some(there) = usize::from(place).checked_sub(1) else { break };
            // What differs where the best match ends cannot be longer.
            if best.0 == 0 || text.get(there + best.0) == text.get(at + best.0) {
                let length = common(text, there, at);
                if length >= SHORTEST_MATCH && length > best.0 {
                    best = (length, at - there);
                    if length >= effort.enough || at + length == text.len() {
                        break;
                    }
                }
            }
            place = self.before[there];
        }
        best
    }

    /// Writes the tokens in whichever way is the shortest.
    fn write(&mut self, text: &[u8], out: &mut Vec<u8>) {
        let own = (Code::of(&self.literals, 15), Code::of(&self.distances, 15));
        let header = Header::of(&own.0, &own.1);
        let fixed = fixed();
        let own_bits = header.bits() + own.0.cost(&self.literals) + own.1.cost(&self.distances);
        let fixed_bits = fixed.0.cost(&self.literals) + fixed.1.cost(&self.distances);
        let mut bits = Bits { out, word: 0, count: 0 };
        if own_bits.min(fixed_bits) + self.extra > 8 * text.len() + 32 {
            bits.put(1, 3);
            return bits.store(text);
        }
        let (literals, distances) = if own_bits < fixed_bits {
            bits.put(0b101, 3);
            header.write(&mut bits);
            (&own.0, &own.1)
        } else {
            bits.put(0b011, 3);
            (&fixed.0, &fixed.1)
        };
        for token in &self.tokens {
            bits.put_with(literals, usize::from(token.symbol), token.length_extra.into(), token.length_bits);
            if usize::from(token.symbol) > END {
                let symbol = usize::from(token.distance_symbol);
                bits.put_with(distances, symbol, token.distance_extra.into(), token.distance_bits);
            }
        }
        bits.put_with(literals, END, 0, 0);
        bits.end();
    }
}

/// The lengths of two codes, themselves coded (RFC 1951, 3.2.7).
struct Header {
    literals: usize,
    distances: usize,
    /// Symbols with the bits behind them.
    runs: Vec<(u8, u8)>,
    code: Code,
    /// Lengths of that code which are written.
    written: usize,
}

impl Header {
    fn of(literals: &Code, distances: &Code) -> Self {
        let used = |code: &Code, least: usize| {
            code.lengths().iter().rposition(|length| *length > 0).map_or(least, |last| (last + 1).max(least))
        };
        let (literal_count, distance_count) = (used(literals, 257), used(distances, 1));
        let lengths: Vec<u8> = literals.lengths()[..literal_count]
            .iter()
            .chain(&distances.lengths()[..distance_count])
            .copied()
            .collect();
        let runs = runs(&lengths);
        let mut counts = [0; 19];
        runs.iter().for_each(|(symbol, _)| counts[usize::from(*symbol)] += 1);
        let code = Code::of(&counts, 7);
        let last = LENGTH_ORDER.iter().rposition(|symbol| code.lengths()[*symbol] > 0).unwrap_or(0);
        let written = (last + 1).max(4);
        Self { literals: literal_count, distances: distance_count, runs, code, written }
    }

    fn bits(&self) -> usize {
        let run = |(symbol, _): &(u8, u8)| {
            usize::from(self.code.lengths()[usize::from(*symbol)]) + usize::from(run_bits(*symbol))
        };
        14 + 3 * self.written + self.runs.iter().map(run).sum::<usize>()
    }

    fn write(&self, bits: &mut Bits<'_>) {
        bits.put((self.literals - 257) as u32, 5);
        bits.put((self.distances - 1) as u32, 5);
        bits.put((self.written - 4) as u32, 4);
        for symbol in &LENGTH_ORDER[..self.written] {
            bits.put(u32::from(self.code.lengths()[*symbol]), 3);
        }
        for (symbol, extra) in &self.runs {
            bits.put_with(&self.code, usize::from(*symbol), u32::from(*extra), run_bits(*symbol));
        }
    }
}

fn run_bits(symbol: u8) -> u8 {
    match symbol {
        16 => 2,
        17 => 3,
        18 => 7,
        _ => 0,
    }
}

/// Lengths as symbols: 16 repeats the one before 3 to 6 times, 17 and 18 stand for 3 to 10 and 11 to 138 zeros.
fn runs(lengths: &[u8]) -> Vec<(u8, u8)> {
    let mut runs = Vec::with_capacity(lengths.len());
    for same in lengths.chunk_by(|a, b| a == b) {
        let (length, mut left) = (same[0], same.len());
        if length > 0 {
            runs.push((length, 0));
            left -= 1;
        }
        let most = if length == 0 { 138 } else { 6 };
        while left >= 3 {
            let count = left.min(most);
            let (symbol, least) = match (length, count) {
                (0, 11..) => (18, 11),
                (0, _) => (17, 3),
                _ => (16, 3),
            };
            runs.push((symbol, (count - least) as u8));
            left -= count;
        }
        runs.extend(std::iter::repeat_n((length, 0), left));
    }
    runs
}

/// Bits on their way into bytes, the lowest first.
struct Bits<'o> {
    out: &'o mut Vec<u8>,
    word: u64,
    count: u32,
}

impl Bits<'_> {
    #[inline]
    fn put(&mut self, value: u32, count: u32) {
        self.word |= u64::from(value) << self.count;
        self.count += count;
        if self.count >= 32 {
            self.out.extend_from_slice(&(self.word as u32).to_le_bytes());
            self.word >>= 32;
            self.count -= 32;
        }
    }

    /// A symbol and the bits behind it, which are fewer than 32 together.
    #[inline]
    fn put_with(&mut self, code: &Code, symbol: usize, extra: u32, bits: u8) {
        let (word, length) = code.symbol(symbol);
        self.put(word | extra << length, length + u32::from(bits));
    }

    fn end(&mut self) {
        let bytes = self.count.div_ceil(8) as usize;
        self.out.extend_from_slice(&self.word.to_le_bytes()[..bytes]);
        self.word = 0;
        self.count = 0;
    }

    /// Bytes as they are.
    fn store(&mut self, text: &[u8]) {
        self.end();
        let length = text.len() as u16;
        self.out.extend_from_slice(&length.to_le_bytes());
        self.out.extend_from_slice(&(!length).to_le_bytes());
        self.out.extend_from_slice(text);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    /// Codes, decodes, compares; gives the coded length.
    fn check(text: &[u8], level: u32) -> usize {
        let mut coded = Vec::new();
        encode(text, level, &mut coded);
        let mut plain = Vec::new();
        GzDecoder::new(&coded[..]).read_to_end(&mut plain).expect("gzip");
        assert!(plain == text, "{} bytes at level {level}", text.len());
        coded.len()
    }

    fn noise(length: usize, seed: u64, values: u64) -> Vec<u8> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let next = |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 33) as u8 % values as u8
        };
        (0..length).map(next).collect()
    }

    #[test]
    fn whatever_was_coded_is_decoded() {
        for level in [1, 3, 6, 9] {
            for length in [0, 1, 2, 3, 4, 5, 7, 100, 257, 258, 259, 600, 2048, 8191, LONGEST] {
                for values in [1, 2, 3, 10, 100, 255] {
                    check(&noise(length, length as u64 + values, values), level);
                }
                let period = noise(37, 1, 255);
                check(&period.iter().cycle().take(length).copied().collect::<Vec<_>>(), level);
            }
        }
    }

    #[test]
    fn numbers_are_split_as_the_rfc_says() {
        let length = |number| {
            let split = split_length(number);
            (split.symbol, split.bits, split.extra)
        };
        let distance = |number| {
            let split = split_distance(number);
            (split.symbol, split.bits, split.extra)
        };
        for (number, expected) in [
            (3, (257, 0, 0)),
            (10, (264, 0, 0)),
            (11, (265, 1, 0)),
            (18, (268, 1, 1)),
            (130, (280, 4, 15)),
            (131, (281, 5, 0)),
            (257, (284, 5, 30)),
            (258, (285, 0, 0)),
        ] {
            assert_eq!(length(number), expected, "{number}");
        }
        for (number, expected) in
            [(1, (0, 0, 0)), (4, (3, 0, 0)), (5, (4, 1, 0)), (8, (5, 1, 1)), (8192, (25, 11, 2047))]
        {
            assert_eq!(distance(number), expected, "{number}");
        }
    }

    #[test]
    fn runs_stand_for_lengths() {
        let check = |lengths: &[u8], expected: &[(u8, u8)]| assert_eq!(runs(lengths), expected);
        check(&[], &[]);
        check(&[0, 0], &[(0, 0), (0, 0)]);
        check(&[0; 3], &[(17, 0)]);
        check(&[0; 150], &[(18, 127), (18, 1)]);
        check(&[5; 4], &[(5, 0), (16, 0)]);
        check(&[5; 9], &[(5, 0), (16, 3), (5, 0), (5, 0)]);
    }

    #[test]
    fn answers_are_no_longer_than_the_library_s() {
        let page = include_str!("short.rs").as_bytes();
        for length in [500, 2000, 8000] {
            for (level, library) in [(1, 1), (6, 6), (9, 9)] {
                let mut state = flate2::Compress::new_gzip(flate2::Compression::new(library), 15);
                let mut coded = Vec::with_capacity(length * 2);
                state
                    .compress_vec(&page[..length], &mut coded, flate2::FlushCompress::Finish)
                    .expect("no failure");
                let own = check(&page[..length], level);
                assert!(own <= coded.len() + coded.len() / 50, "{own} for {} at {level}", coded.len());
            }
        }
    }
}
