//! Decoding header blocks: each field is appended to one buffer, and what is left is where it lies.

use base::Span;

use super::integer::{self, BadInteger};
use super::table::Table;
use super::{TABLE_SIZE, huffman, static_table};
use crate::h2::Violation;

/// What one block may hold.
#[derive(Clone, Copy, Debug)]
pub struct BlockLimits {
    /// Most bytes of one name or value, as encoded.
    pub field: usize,
    /// Most bytes of all names and values, decoded.
    pub total: usize,
}

/// A field of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Where its name lies.
    pub name: Span,
    /// Where its value lies.
    pub value: Span,
}

/// The receiving side of a connection's header compression.
#[derive(Debug)]
pub struct Decoder {
    table: Table,
    /// Most bytes that the peer may have the table hold.
    limit: usize,
    /// A field of the block under way has come.
    is_past_updates: bool,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::with_limit(TABLE_SIZE)
    }
}

impl Decoder {
    /// With a table of at most so many bytes, as the peer was told.
    #[must_use]
    pub fn with_limit(limit: usize) -> Self {
        Self { table: Table::new(limit), limit, is_past_updates: false }
    }

    /// Decodes the next field of `block` and takes it off there; text goes to the end of `out`. `None` is the end,
    /// which is to be asked for before the next block.
    ///
    /// # Errors
    /// [`Violation`]: the tables of both sides differ from now on, so the connection must end.
    pub fn next(
        &mut self,
        block: &mut &[u8],
        limits: &mut BlockLimits,
        out: &mut Vec<u8>,
    ) -> Result<Option<Decoded>, Violation> {
        loop {
            let Some(first) = block.first().copied() else {
                self.is_past_updates = false;
                return Ok(None);
            };
            let start = out.len();
            let (bits, what) = match first {
                0x80.. => (7, "header index"),
                0x40.. => (6, "header index"),
                0x20.. => (5, "size update"),
                _ => (4, "header index"),
            };
            let value = take_integer(block, bits, Violation::LongInteger(what))?;
            if (0x20..0x40).contains(&first) {
                if value > self.limit {
                    return Err(Violation::TableSize(value));
                }
                // RFC 7541, 4.2: they stand in front of a block's first field.
                if self.is_past_updates {
                    return Err(Violation::LateTableSize);
                }
                self.table.resize(value);
                continue;
            }
            self.is_past_updates = true;
            if first >= 0x80 {
                let name_end = self.copy_entry(value, out)?;
                return field(start, name_end, limits, out).map(Some);
            }
            let name_end = if value == 0 {
                take_string(block, limits, out)?;
                if out.len() == start {
                    return Err(Violation::EmptyName);
                }
                out.len()
            } else {
                let name_end = self.copy_entry(value, out)?;
                out.truncate(name_end);
                name_end
            };
            take_string(block, limits, out)?;
            let decoded = field(start, name_end, limits, out)?;
            if first >= 0x40 {
                self.table.add(decoded.name.of(out), decoded.value.of(out), 0);
            }
            return Ok(Some(decoded));
        }
    }

    /// Appends name and value of an entry; gives where the name ends.
    fn copy_entry(&self, index: usize, out: &mut Vec<u8>) -> Result<usize, Violation> {
        if index == 0 {
            return Err(Violation::IndexZero);
        }
        let known = static_table::entry(index);
        let dynamic = || self.table.get(index - static_table::STATIC - 1);
        let Some((name, value)) = known.or_else(dynamic) else {
            return Err(Violation::IndexOutOfBound(index));
        };
        out.extend_from_slice(name);
        let name_end = out.len();
        out.extend_from_slice(value);
        Ok(name_end)
    }
}

fn field(start: usize, name_end: usize, limits: &mut BlockLimits, out: &[u8]) -> Result<Decoded, Violation> {
    let length = out.len() - start;
    limits.total = limits.total.checked_sub(length).ok_or(Violation::HeaderTooLarge)?;
    Ok(Decoded { name: Span::new(start, name_end), value: Span::new(name_end, out.len()) })
}

fn take_integer(block: &mut &[u8], bits: u32, too_long: Violation) -> Result<usize, Violation> {
    let (value, used) = integer::read(block, bits).map_err(|bad| match bad {
        BadInteger::Cut => Violation::BlockLength,
        BadInteger::Long => too_long,
    })?;
    *block = block.get(used..).unwrap_or_default();
    Ok(value)
}

fn take_string(block: &mut &[u8], limits: &BlockLimits, out: &mut Vec<u8>) -> Result<(), Violation> {
    let is_coded = block.first().is_some_and(|byte| byte & 0x80 != 0);
    let length = take_integer(block, 7, Violation::LongLength)?;
    if length > limits.field {
        return Err(Violation::FieldTooLarge);
    }
    let Some((text, rest)) = block.split_at_checked(length) else { return Err(Violation::FieldLength) };
    *block = rest;
    if is_coded {
        huffman::decode(text, out).map_err(|_| Violation::Huffman)
    } else {
        out.extend_from_slice(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BlockLimits = BlockLimits { field: 8192, total: 32_768 };

    fn show(decoder: &mut Decoder, block: &[u8], mut limits: BlockLimits) -> Result<String, Violation> {
        let (mut out, mut text, mut rest) = (Vec::new(), String::new(), block);
        while let Some(field) = decoder.next(&mut rest, &mut limits, &mut out)? {
            let part = |span: Span| span.of(&out).escape_ascii().to_string();
            text += &format!("[{}={}]", part(field.name), part(field.value));
        }
        Ok(text)
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let number =
            |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ascii"), 16).expect("hex");
        digits.chunks(2).map(number).collect()
    }

    #[test]
    fn examples_of_the_rfc() {
        let mut decoder = Decoder::default();
        let mut check = |block: &str, expected: &str| {
            assert_eq!(show(&mut decoder, &hex(block), LIMITS).as_deref(), Ok(expected), "{block}");
        };
        // RFC 7541, C.4: three requests of one connection.
        check(
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "[:method=GET][:scheme=http][:path=/][:authority=www.example.com]",
        );
        check(
            "8286 84be 5886 a8eb 1064 9cbf",
            "[:method=GET][:scheme=http][:path=/][:authority=www.example.com][cache-control=no-cache]",
        );
        check(
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
            "[:method=GET][:scheme=https][:path=/index.html][:authority=www.example.com][custom-key=custom-value]",
        );
    }

    #[test]
    fn tables_shrink_and_forget() {
        let mut decoder = Decoder::default();
        let mut check = |block: &str, expected: Result<&str, Violation>| {
            assert_eq!(show(&mut decoder, &hex(block), LIMITS).as_deref(), expected.as_deref(), "{block}");
        };
        // RFC 7541, C.2.1 to C.2.3.
        check(
            "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
            Ok("[custom-key=custom-header]"),
        );
        check("be", Ok("[custom-key=custom-header]"));
        check("040c 2f73 616d 706c 652f 7061 7468", Ok("[:path=/sample/path]"));
        check("1008 7061 7373 776f 7264 0673 6563 7265 74", Ok("[password=secret]"));
        check("20", Ok(""));
        check("be", Err(Violation::IndexOutOfBound(62)));
        let mut decoder = Decoder::default();
        let mut check = |block: &str, expected: Result<&str, Violation>| {
            assert_eq!(show(&mut decoder, &hex(block), LIMITS).as_deref(), expected.as_deref(), "{block}");
        };
        check("3fe11f", Ok(""));
        check("20 3fe11f 82", Ok("[:method=GET]"));
        check("3fe11f 82", Ok("[:method=GET]"));
        check("82 20", Err(Violation::LateTableSize));
    }

    #[test]
    fn what_is_broken() {
        let check = |block: &str, expected| {
            assert_eq!(show(&mut Decoder::default(), &hex(block), LIMITS), Err(expected), "{block}");
        };
        check("80", Violation::IndexZero);
        check("3fe21f", Violation::TableSize(4097));
        check("ff808080", Violation::LongInteger("header index"));
        check("3f808080", Violation::LongInteger("size update"));
        check("ff", Violation::BlockLength);
        check("40", Violation::BlockLength);
        check("4003 6162", Violation::FieldLength);
        check("4000 00", Violation::EmptyName);
        check("4001 61ff ffff ffff", Violation::LongLength);
        check("4001 617f 83ff 7f", Violation::FieldTooLarge);
        check("4001 6181 00", Violation::Huffman);
        let small = BlockLimits { field: 8192, total: 10 };
        assert_eq!(show(&mut Decoder::default(), &hex("8286"), small), Err(Violation::HeaderTooLarge));
    }
}
