//! Recoding of bytes, piece by piece: one byte to one, one to UTF-8, and UTF-8 to one.
//!
//! A character that the other charset lacks becomes a character reference, `&#8364;`.

use std::collections::BTreeMap;
use std::sync::Arc;

/// From one charset to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Table {
    /// Byte for byte.
    Bytes(Box<[u8; 256]>),
    /// A byte to up to three bytes of UTF-8.
    ToUtf8(Box<[Utf8; 256]>),
    /// A character to a byte.
    FromUtf8(BTreeMap<u32, u8>),
}

/// Up to three bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Utf8 {
    pub length: u8,
    pub bytes: [u8; 3],
}

impl Utf8 {
    pub fn one(byte: u8) -> Self {
        Self { length: 1, bytes: [byte, 0, 0] }
    }

    fn text(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }
}

/// A table at work on one body.
#[derive(Debug)]
pub(super) struct Recoder {
    table: Arc<Table>,
    /// The beginning of a character whose end has not come yet.
    held: Vec<u8>,
}

/// What stands at the front of a text in UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decoded {
    Character(u32),
    Invalid,
    /// The rest is the beginning of a character.
    Incomplete,
}

/// Takes a character from the front of `text` (`ngx_utf8_decode`).
pub(super) fn decode(text: &mut &[u8]) -> Decoded {
    let Some((first, rest)) = text.split_first() else { return Decoded::Incomplete };
    let (mut code, least, length) = match *first {
        byte @ 0xf0..=0xf7 => (u32::from(byte & 0x07), 0x10000, 3),
        byte @ 0xe0..=0xef => (u32::from(byte & 0x0f), 0x800, 2),
        byte @ 0xc2..=0xdf => (u32::from(byte & 0x1f), 0x80, 1),
        byte if byte < 0x80 => {
            *text = rest;
            return Decoded::Character(u32::from(byte));
        }
        _ => {
            *text = rest;
            return Decoded::Invalid;
        }
    };
    if rest.len() < length {
        return Decoded::Incomplete;
    }
    for (index, byte) in rest.iter().take(length).enumerate() {
        if *byte < 0x80 {
            // As in nginx the byte that does not belong there is lost too.
            *text = &rest[index + 1..];
            return Decoded::Invalid;
        }
        code = code << 6 | u32::from(byte & 0x3f);
    }
    *text = &rest[length..];
    if code >= least && code <= 0x10_ffff { Decoded::Character(code) } else { Decoded::Invalid }
}

impl Recoder {
    pub fn new(table: Arc<Table>) -> Self {
        Self { table, held: Vec::new() }
    }

    /// Whether the recoded body may have another length.
    pub fn changes_length(&self) -> bool {
        !matches!(*self.table, Table::Bytes(_))
    }

    /// Recodes what came in; the beginning of a character waits for its end.
    pub fn recode(&mut self, input: &[u8], out: &mut Vec<u8>) {
        match &*self.table {
            Table::Bytes(table) => out.extend(input.iter().map(|byte| table[usize::from(*byte)])),
            Table::ToUtf8(table) => {
                for byte in input {
                    out.extend_from_slice(table[usize::from(*byte)].text());
                }
            }
            Table::FromUtf8(table) => {
                let mut rest = input;
                while !self.held.is_empty() {
                    let mut behind = &*self.held;
                    match decode(&mut behind) {
                        Decoded::Incomplete => {
                            let Some((byte, others)) = rest.split_first() else { return };
                            self.held.push(*byte);
                            rest = others;
                        }
                        decoded => {
                            write(table, decoded, out);
                            let used = self.held.len() - behind.len();
                            self.held.drain(..used);
                        }
                    }
                }
                while !rest.is_empty() {
                    match decode(&mut rest) {
                        Decoded::Incomplete => {
                            self.held.extend_from_slice(rest);
                            return;
                        }
                        decoded => write(table, decoded, out),
                    }
                }
            }
        }
    }
}

fn write(table: &BTreeMap<u32, u8>, decoded: Decoded, out: &mut Vec<u8>) {
    match decoded {
        Decoded::Character(code) => match (u8::try_from(code), table.get(&code)) {
            (Ok(byte @ ..0x80), _) => out.push(byte),
            (_, Some(byte)) => out.push(*byte),
            _ => out.extend_from_slice(format!("&#{code};").as_bytes()),
        },
        Decoded::Invalid | Decoded::Incomplete => out.push(b'?'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters() {
        let check = |text: &[u8], expected, left: usize| {
            let mut rest = text;
            assert_eq!((decode(&mut rest), rest.len()), (expected, left), "{text:?}");
        };
        use Decoded::{Character, Incomplete, Invalid};
        check(b"a", Character(0x61), 0);
        check("é!".as_bytes(), Character(0xe9), 1);
        check("€".as_bytes(), Character(0x20ac), 0);
        check("😀".as_bytes(), Character(0x1f600), 0);
        check(b"\xe2\x82", Incomplete, 2);
        check(b"\xc3", Incomplete, 1);
        check(b"\x80a", Invalid, 1);
        check(b"\xc0\x80", Invalid, 1);
        check(b"\xc3a", Invalid, 0);
        check(b"\xe0\x80\x80", Invalid, 0);
        check(b"\xf4\x90\x80\x80", Invalid, 0);
        check(b"\xf5aaa", Invalid, 2);
        check(b"\xf8aaa", Invalid, 3);
    }

    #[test]
    fn any_pieces_make_the_same_text() {
        let table = Arc::new(Table::FromUtf8([(0xe9, b'E'), (0x20ac, b'$')].into()));
        let check = |text: &[u8], expected: &str| {
            for size in 1..=text.len() {
                let (mut recoder, mut out) = (Recoder::new(Arc::clone(&table)), Vec::new());
                for piece in text.chunks(size) {
                    recoder.recode(piece, &mut out);
                }
                assert_eq!(String::from_utf8_lossy(&out), expected, "{text:?} by {size}");
            }
        };
        check("a é € ж 😀.".as_bytes(), "a E $ &#1078; &#128512;.");
        check(b"\xe9 \xc3", "?");
        check(b"\xe9 \xc3\xa9", "?E");
        check(b"a\xff\xc3\xa9", "a?E");
        check(b"\xe2\x82", "");
    }

    #[test]
    fn bytes() {
        let mut table: Box<[Utf8; 256]> = Box::new(std::array::from_fn(|_| Utf8::one(b'?')));
        table[0x61] = Utf8::one(b'a');
        table[0xa4] = Utf8 { length: 3, bytes: [0xe2, 0x82, 0xac] };
        let (mut recoder, mut out) = (Recoder::new(Arc::new(Table::ToUtf8(table))), Vec::new());
        recoder.recode(b"a\xa4\xff", &mut out);
        assert_eq!(out, "a€?".as_bytes());
    }
}
