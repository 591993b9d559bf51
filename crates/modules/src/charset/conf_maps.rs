//! `charset_map`: the charsets of a configuration and the tables between them.
//!
//! A map works in both directions; what it does not name becomes a question mark.

use std::collections::BTreeMap;
use std::sync::Arc;

use conf::{Directive, Error, Word};

use super::recode::{Decoded, Recoder, Table, Utf8, decode};

/// A charset that the configuration names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CharsetId(usize);

/// All charsets and the maps between them.
#[derive(Default)]
pub struct Charsets {
    names: Vec<Box<[u8]>>,
    tables: Vec<(CharsetId, CharsetId, Arc<Table>)>,
    /// Pairs that some block recodes between.
    needed: Vec<(CharsetId, CharsetId)>,
}

impl Charsets {
    /// The charset of this name, which from now on is known.
    pub(super) fn add(&mut self, name: &[u8]) -> CharsetId {
        self.find(name).unwrap_or_else(|| {
            self.names.push(name.into());
            CharsetId(self.names.len() - 1)
        })
    }

    pub(super) fn find(&self, name: &[u8]) -> Option<CharsetId> {
        self.names.iter().position(|own| own.eq_ignore_ascii_case(name)).map(CharsetId)
    }

    pub(super) fn name(&self, id: CharsetId) -> &[u8] {
        self.names.get(id.0).map_or(b"", |name| name)
    }

    /// Some block recodes from one to the other.
    pub(super) fn need(&mut self, from: CharsetId, to: CharsetId) {
        if from != to && !self.needed.contains(&(from, to)) {
            self.needed.push((from, to));
        }
    }

    pub(super) fn recoder(&self, from: CharsetId, to: CharsetId) -> Option<Recoder> {
        let (.., table) =
            self.tables.iter().find(|(own_from, own_to, _)| (*own_from, *own_to) == (from, to))?;
        Some(Recoder::new(Arc::clone(table)))
    }

    /// Every pair that is recoded between has a map.
    pub(super) fn check(&self) -> Result<(), Error> {
        for (from, to) in &self.needed {
            if self.recoder(*from, *to).is_none() {
                let shown = |id: &CharsetId| String::from_utf8_lossy(self.name(*id)).into_owned();
                let sentence = format!(
                    "no \"charset_map\" between the charsets \"{}\" and \"{}\"",
                    shown(from),
                    shown(to)
                );
                return Err(Error::bare(sentence));
            }
        }
        Ok(())
    }

    /// Reads a map (`ngx_http_charset_map_block`).
    pub(super) fn add_map(&mut self, d: &Directive) -> Result<(), Error> {
        let (first, second) = (d.arg(0)?, d.arg(1)?);
        let (from, to) = (self.add(&first.bytes), self.add(&second.bytes));
        let between = format!("\"{}\" and \"{}\"", first.as_str(), second.as_str());
        if from == to {
            return Err(Error::at(first, format!("\"charset_map\" between the same charsets {between}")));
        }
        if first.is_ignoring_case("utf-8") {
            let sentence = "\"charset_map\" with \"utf-8\" charset should be given in the second column";
            return Err(Error::at(first, sentence));
        }
        if self.recoder(from, to).is_some() {
            return Err(Error::at(first, format!("duplicate \"charset_map\" between {between}")));
        }
        let (there, back) =
            if second.is_ignoring_case("utf-8") { utf8_tables(d.body())? } else { byte_tables(d.body())? };
        self.tables.push((from, to, Arc::new(there)));
        self.tables.push((to, from, Arc::new(back)));
        Ok(())
    }
}

/// The two words of a line: the byte that is mapped, and what it is mapped to.
fn line(line: &Directive) -> Result<(u8, &Word), Error> {
    let [target] = &*line.args else {
        return Err(Error::at(&line.name, "invalid parameters number"));
    };
    let source = hex(&line.name.bytes).ok_or_else(|| invalid(&line.name))?;
    Ok((source, target))
}

fn invalid(word: &Word) -> Error {
    Error::at(word, format!("invalid value \"{}\"", word.as_str()))
}

/// A byte in hexadecimal; leading zeroes do no harm.
fn hex(text: &[u8]) -> Option<u8> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let start = text.iter().position(|digit| *digit != b'0').unwrap_or(text.len() - 1);
    u8::from_str_radix(std::str::from_utf8(text.get(start..)?).ok()?, 16).ok()
}

fn byte_tables(lines: &[Directive]) -> Result<(Table, Table), Error> {
    let plain = |index: usize| u8::try_from(index).ok().filter(u8::is_ascii).unwrap_or(b'?');
    let mut there: Box<[u8; 256]> = Box::new(std::array::from_fn(plain));
    let mut back = there.clone();
    for entry in lines {
        let (source, target) = line(entry)?;
        let byte = hex(&target.bytes).ok_or_else(|| invalid(target))?;
        there[usize::from(source)] = byte;
        back[usize::from(byte)] = source;
    }
    Ok((Table::Bytes(there), Table::Bytes(back)))
}

fn utf8_tables(lines: &[Directive]) -> Result<(Table, Table), Error> {
    let plain = |index: usize| Utf8::one(u8::try_from(index).ok().filter(u8::is_ascii).unwrap_or(b'?'));
    let mut there: Box<[Utf8; 256]> = Box::new(std::array::from_fn(plain));
    let mut back = BTreeMap::new();
    for entry in lines {
        let (source, target) = line(entry)?;
        let digits = &target.bytes;
        let mut mapped = Utf8 { length: 0, bytes: [0; 3] };
        if digits.is_empty() || digits.len() % 2 != 0 || digits.len() > 6 {
            return Err(invalid(target));
        }
        for (place, pair) in mapped.bytes.iter_mut().zip(digits.chunks(2)) {
            *place = hex(pair).ok_or_else(|| invalid(target))?;
            mapped.length += 1;
        }
        there[usize::from(source)] = mapped;
        let mut text = mapped.bytes.get(..usize::from(mapped.length)).unwrap_or_default();
        let Decoded::Character(code) = decode(&mut text) else { return Err(invalid(target)) };
        back.insert(code, source);
    }
    Ok((Table::ToUtf8(there), Table::FromUtf8(back)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_in_hexadecimal() {
        let check = |text: &str, expected| assert_eq!(hex(text.as_bytes()), expected, "{text}");
        check("0", Some(0));
        check("a4", Some(0xa4));
        check("A4", Some(0xa4));
        check("00ff", Some(0xff));
        check("100", None);
        check("", None);
        check("+1", None);
        check("g", None);
    }
}
