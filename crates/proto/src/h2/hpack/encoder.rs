//! Encoding header blocks: what a connection has said before is said in one byte.
//!
//! A field enters the table when it comes for the second time, so what is new in every message pushes nothing out.

use super::table::Table;
use super::{TABLE_SIZE, huffman, integer, static_table};

/// Fields whose like came before and may enter the table when they come again.
const SEEN: usize = 64;
/// Bytes of a value that the table has room for: a longer one would push out too many others.
const MAX_INDEXED: usize = 512;

/// Whether a field may be kept in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Indexing {
    /// When it comes again.
    Allowed,
    /// It differs from message to message.
    Useless,
    /// It is a secret that must not be compressed with what others chose (RFC 7541, 7.1.3).
    Never,
}

/// The sending side of a connection's header compression.
#[derive(Debug)]
pub struct Encoder {
    table: Table,
    /// The smallest size that the table has had since the last block, which the next one must confirm.
    lowest: Option<usize>,
    seen: [u32; SEEN],
    /// A name in lower case.
    scratch: Vec<u8>,
}

impl Default for Encoder {
    fn default() -> Self {
        Self { table: Table::new(TABLE_SIZE), lowest: None, seen: [0; SEEN], scratch: Vec::new() }
    }
}

impl Encoder {
    /// The peer keeps a table of at most so many bytes.
    pub fn set_limit(&mut self, limit: u32) {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(TABLE_SIZE);
        if limit != self.table.limit() {
            self.table.resize(limit);
            self.lowest = Some(self.lowest.map_or(limit, |lowest| lowest.min(limit)));
        }
    }

    /// Begins a block.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        let Some(lowest) = self.lowest.take() else { return };
        // RFC 7541, 4.2: the smallest size in between, then the last one.
        if lowest < self.table.limit() {
            integer::write(lowest, 5, 0x20, out);
        }
        integer::write(self.table.limit(), 5, 0x20, out);
    }

    /// Appends `:status`.
    pub fn status(&mut self, status: u16, out: &mut Vec<u8>) {
        let index = match status {
            200 => 8,
            204 => 9,
            206 => 10,
            304 => 11,
            400 => 12,
            404 => 13,
            500 => 14,
            _ => {
                let digit = |by: u16| b'0' + (status / by % 10) as u8;
                self.field(b":status", &[digit(100), digit(10), digit(1)], Indexing::Allowed, out);
                return;
            }
        };
        out.push(0x80 | index);
    }

    /// Appends a field; its name is written in lower case (RFC 9113, 8.2.1).
    pub fn field(&mut self, name: &[u8], value: &[u8], indexing: Indexing, out: &mut Vec<u8>) {
        // Without a branch, so that many bytes are looked at together.
        if !name.iter().fold(false, |found, byte| found | byte.is_ascii_uppercase()) {
            return self.lower_field(name, value, indexing, out);
        }
        let mut lower = std::mem::take(&mut self.scratch);
        lower.clear();
        lower.extend_from_slice(name);
        lower.make_ascii_lowercase();
        self.lower_field(&lower, value, indexing, out);
        self.scratch = lower;
    }

    fn lower_field(&mut self, name: &[u8], value: &[u8], indexing: Indexing, out: &mut Vec<u8>) {
        let name_hash = static_table::hash(name);
        let first = static_table::index_of(name, name_hash);
        if first > 0 {
            let index = static_table::index_with_value(name, first, value);
            if index > 0 {
                integer::write(index, 7, 0x80, out);
                return;
            }
        }
        if indexing != Indexing::Allowed || value.len() > MAX_INDEXED {
            let mark = if indexing == Indexing::Never { 0x10 } else { 0 };
            literal(mark, 4, first, name, value, out);
            return;
        }
        let hash = with_value(name_hash, value);
        if let Some(index) = self.table.find(name, value, hash) {
            integer::write(static_table::STATIC + 1 + index, 7, 0x80, out);
            return;
        }
        let seen = &mut self.seen[hash as usize % SEEN];
        if *seen == hash {
            literal(0x40, 6, first, name, value, out);
            self.table.add(name, value, hash);
        } else {
            *seen = hash;
            literal(0, 4, first, name, value, out);
        }
    }
}

/// Mixes a value into the hash of its name, eight bytes at a time.
fn with_value(hash: u32, value: &[u8]) -> u32 {
    const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut mixed = u64::from(hash) ^ (value.len() as u64) << 32;
    let mut chunks = value.chunks_exact(8);
    for chunk in &mut chunks {
        let word = chunk.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        mixed = (mixed ^ word).wrapping_mul(MIX).rotate_left(29);
    }
    for byte in chunks.remainder() {
        mixed = (mixed ^ u64::from(*byte)).wrapping_mul(MIX).rotate_left(29);
    }
    (mixed ^ mixed >> 32) as u32
}

fn literal(mark: u8, bits: u32, index: usize, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    integer::write(index, bits, mark, out);
    if index == 0 {
        string(name, out);
    }
    string(value, out);
}

/// Strings of fewer bytes are not worth the time that a byte or two less would take.
const SHORT: usize = 5;

/// A string in the shorter of its two forms.
fn string(text: &[u8], out: &mut Vec<u8>) {
    if text.len() < SHORT {
        integer::write(text.len(), 7, 0, out);
        out.extend_from_slice(text);
        return;
    }
    let coded = huffman::encoded_len(text);
    if coded < text.len() {
        integer::write(coded, 7, 0x80, out);
        huffman::encode(text, out);
    } else {
        integer::write(text.len(), 7, 0, out);
        out.extend_from_slice(text);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BlockLimits, Decoder};
    use super::*;

    fn decode(decoder: &mut Decoder, block: &[u8]) -> Vec<(String, String)> {
        let mut limits = BlockLimits { field: 65_536, total: 1 << 20 };
        let (mut text, mut fields, mut rest) = (Vec::new(), Vec::new(), block);
        while let Some(field) = decoder.next(&mut rest, &mut limits, &mut text).expect("a valid block") {
            let part = |span: base::Span| String::from_utf8_lossy(span.of(&text)).into_owned();
            fields.push((part(field.name), part(field.value)));
        }
        fields
    }

    #[test]
    fn what_comes_again_becomes_short() {
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
        let mut lengths = Vec::new();
        for round in 0..40 {
            let mut out = Vec::new();
            encoder.begin(&mut out);
            encoder.status(200, &mut out);
            encoder.status(418, &mut out);
            encoder.field(b"Server", b"nginx/1.31.5", Indexing::Allowed, &mut out);
            encoder.field(b"X-Custom", b"value", Indexing::Allowed, &mut out);
            encoder.field(b"Content-Length", round.to_string().as_bytes(), Indexing::Useless, &mut out);
            encoder.field(b"Cookie", b"secret", Indexing::Never, &mut out);
            if round == 20 {
                encoder.set_limit(64);
            }
            lengths.push(out.len());
            let expected = [
                (":status", "200"),
                (":status", "418"),
                ("server", "nginx/1.31.5"),
                ("x-custom", "value"),
                ("content-length", &round.to_string()),
                ("cookie", "secret"),
            ];
            let fields = decode(&mut decoder, &out);
            assert_eq!(fields, expected.map(|(n, v)| (n.to_string(), v.to_string())), "round {round}");
        }
        assert!(lengths[2] < lengths[0] / 2, "{lengths:?}");
    }

    #[test]
    fn any_fields_survive() {
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
        let mut dice = 88_172_645_463_325_252_u64;
        let mut roll = |below: usize| {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            (dice % below as u64) as usize
        };
        for _ in 0..3000 {
            let (mut out, mut expected) = (Vec::new(), Vec::new());
            encoder.begin(&mut out);
            for _ in 0..roll(12) {
                let name = ["Accept", "X-A", "date", "x-b-long-name", "ETag"][roll(5)];
                let value: String = (0..roll(90)).map(|_| char::from(32 + roll(90) as u8)).collect();
                let value = if roll(2) == 0 { value } else { roll(9).to_string() };
                let indexing = [Indexing::Allowed, Indexing::Useless, Indexing::Never][roll(3)];
                encoder.field(name.as_bytes(), value.as_bytes(), indexing, &mut out);
                expected.push((name.to_ascii_lowercase(), value));
            }
            assert_eq!(decode(&mut decoder, &out), expected);
            if roll(50) == 0 {
                encoder.set_limit(roll(5000) as u32);
            }
        }
    }
}
