//! The Huffman code of HPACK (RFC 7541, appendix B).
//!
//! The code is canonical: the lengths of its codes say all, so the tables are made of them at compile time.

/// Length in bits of the code of each byte, and of the end of string (256).
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// Bits that one look into [`FAST`] covers: every letter, digit and usual sign has a code that short.
const FAST_BITS: u32 = 10;
const LONGEST: usize = 30;
const END_OF_STRING: u16 = 256;

/// Code and length of every byte.
static CODES: [(u32, u8); 257] = codes();
/// By the next [`FAST_BITS`] bits: a byte and the length of its code; length 0 where the code is longer.
static FAST: [(u8, u8); 1 << FAST_BITS] = fast();
static CANON: Canon = canon();

/// The text is no Huffman code: it holds the end of string, or its padding is not the beginning of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidHuffman;

/// How codes of each length lie: the first of them, and where its symbol stands in `symbols`.
struct Canon {
    first: [u32; LONGEST + 2],
    place: [u16; LONGEST + 2],
    symbols: [u16; 257],
}

const fn codes() -> [(u32, u8); 257] {
    let mut codes = [(0, 0); 257];
    let (mut code, mut length) = (0u32, 1u8);
    while length as usize <= LONGEST {
        let mut symbol = 0;
        while symbol < 257 {
            if LENGTHS[symbol] == length {
                codes[symbol] = (code, length);
                code += 1;
            }
            symbol += 1;
        }
        code <<= 1;
        length += 1;
    }
    codes
}

const fn canon() -> Canon {
    let mut canon = Canon { first: [0; LONGEST + 2], place: [0; LONGEST + 2], symbols: [0; 257] };
    let (mut code, mut length, mut place) = (0u32, 1, 0);
    while length <= LONGEST {
        canon.first[length] = code;
        canon.place[length] = place;
        let mut symbol = 0;
        while symbol < 257 {
            if LENGTHS[symbol] as usize == length {
                canon.symbols[place as usize] = symbol as u16;
                place += 1;
                code += 1;
            }
            symbol += 1;
        }
        code <<= 1;
        length += 1;
    }
    canon.place[LONGEST + 1] = place;
    canon
}

const fn fast() -> [(u8, u8); 1 << FAST_BITS] {
    let codes = codes();
    let mut table = [(0, 0); 1 << FAST_BITS];
    let mut symbol = 0;
    while symbol < 256 {
        let (code, length) = codes[symbol];
        if length as u32 <= FAST_BITS {
            let free = FAST_BITS - length as u32;
            let mut tail = 0;
            while tail < 1 << free {
                table[((code << free) | tail) as usize] = (symbol as u8, length);
                tail += 1;
            }
        }
        symbol += 1;
    }
    table
}

/// Bytes that `text` takes when encoded.
#[must_use]
pub fn encoded_len(text: &[u8]) -> usize {
    let bits: usize = text.iter().map(|byte| usize::from(LENGTHS[usize::from(*byte)])).sum();
    bits.div_ceil(8)
}

/// Appends the code of `text`.
pub fn encode(text: &[u8], out: &mut Vec<u8>) {
    let (mut bits, mut count) = (0u64, 0u32);
    for byte in text {
        let (code, length) = CODES[usize::from(*byte)];
        bits = bits << length | u64::from(code);
        count += u32::from(length);
        // At most 31 bits are left over, so a code of 30 always fits.
        if count >= 32 {
            count -= 32;
            out.extend_from_slice(&((bits >> count) as u32).to_be_bytes());
        }
    }
    while count >= 8 {
        count -= 8;
        out.push((bits >> count) as u8);
    }
    if count > 0 {
        // Padded with the beginning of the end of string, which is all ones.
        out.push((bits << (8 - count)) as u8 | 0xff >> count);
    }
}

/// Appends the text of a code; it is at most 8/5 as long.
///
/// # Errors
/// [`InvalidHuffman`]; `out` then holds a part.
pub fn decode(code: &[u8], out: &mut Vec<u8>) -> Result<(), InvalidHuffman> {
    out.reserve(code.len() * 8 / 5);
    // The next bits stand at the top of the word; the rest is zero.
    let (mut word, mut count) = (0u64, 0u32);
    let mut rest = code;
    loop {
        while count <= 56 {
            let Some((byte, after)) = rest.split_first() else { break };
            word |= u64::from(*byte) << (56 - count);
            count += 8;
            rest = after;
        }
        let (byte, length) = FAST[(word >> (64 - FAST_BITS)) as usize];
        let (symbol, length) =
            if length > 0 { (u16::from(byte), u32::from(length)) } else { long_code(word) };
        if length == 0 || length > count {
            break;
        }
        if symbol == END_OF_STRING {
            return Err(InvalidHuffman);
        }
        out.push(symbol as u8);
        word <<= length;
        count -= length;
    }
    // What is left must be the beginning of the end of string, all ones (RFC 7541, 5.2). A whole byte of it is taken
    // too, as nginx does: there are encoders that add it to a text that needs no padding.
    if count <= 8 && (count == 0 || word >> (64 - count) == (1 << count) - 1) {
        Ok(())
    } else {
        Err(InvalidHuffman)
    }
}

/// The symbol of a code that is longer than [`FAST_BITS`], and its length.
#[cold]
fn long_code(word: u64) -> (u16, u32) {
    for length in FAST_BITS as usize + 1..=LONGEST {
        let code = (word >> (64 - length)) as u32;
        let first = CANON.first[length];
        let known = CANON.place[length + 1] - CANON.place[length];
        if code >= first && code - first < u32::from(known) {
            let place = u32::from(CANON.place[length]) + (code - first);
            return (CANON.symbols[place as usize], length as u32);
        }
    }
    (END_OF_STRING, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_of_the_rfc() {
        let check = |text: &str, code: &[u8]| {
            let mut out = Vec::new();
            encode(text.as_bytes(), &mut out);
            assert_eq!(out, code, "{text}");
            assert_eq!(encoded_len(text.as_bytes()), code.len());
            out.clear();
            assert_eq!(decode(code, &mut out), Ok(()));
            assert_eq!(out, text.as_bytes());
        };
        check("www.example.com", b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff");
        check("no-cache", b"\xa8\xeb\x10\x64\x9c\xbf");
        check("302", b"\x64\x02");
        check(
            "Mon, 21 Oct 2013 20:13:21 GMT",
            b"\xd0\x7a\xbe\x94\x10\x54\xd4\x44\xa8\x20\x05\x95\x04\x0b\x81\x66\xe0\x82\xa6\x2d\x1b\xff",
        );
        check("", b"");
    }

    #[test]
    fn every_byte_survives() {
        for first in 0..=255u8 {
            for second in 0..=255u8 {
                let text = [first, second, b'a', second, first, first];
                let (mut code, mut out) = (Vec::new(), Vec::new());
                encode(&text, &mut code);
                assert_eq!(code.len(), encoded_len(&text));
                assert_eq!(decode(&code, &mut out), Ok(()), "{text:?}");
                assert_eq!(out, text);
            }
        }
    }

    #[test]
    fn broken_codes_are_refused() {
        let refuse = |code: &[u8]| assert_eq!(decode(code, &mut Vec::new()), Err(InvalidHuffman), "{code:?}");
        refuse(b"\xff\xff\xff\xff");
        refuse(b"\xff\xff\xff\xfc");
        refuse(b"\x00");
        refuse(b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4");
        // Eight times "a", which take five bits each.
        let whole = b"\x18\xc6\x31\x8c\x63\xff";
        assert_eq!(decode(whole, &mut Vec::new()), Ok(()), "as nginx");
        refuse(b"\xa8\xeb\x10\x64\x9c\xbf\xff");
        refuse(b"\x49\x50\x9f\xff");
        refuse(b"\xa8\xeb\x10\x64\x9c\xbf\xff\xff");
    }
}
