//! DER: one element after another, each within the bounds of the one around it.
//!
//! It reads what certificates, revocation lists and OCSP answers are made of, copies nothing and never recurses.

/// Something that is no DER, or not what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed DER")]
pub struct Malformed;

/// Tags by their byte.
pub mod tag {
    pub const BOOLEAN: u8 = 0x01;
    pub const INTEGER: u8 = 0x02;
    pub const BIT_STRING: u8 = 0x03;
    pub const OCTET_STRING: u8 = 0x04;
    pub const OID: u8 = 0x06;
    pub const ENUMERATED: u8 = 0x0a;
    pub const UTC_TIME: u8 = 0x17;
    pub const GENERALIZED_TIME: u8 = 0x18;
    pub const SEQUENCE: u8 = 0x30;
    pub const SET: u8 = 0x31;
    /// `[n]`, constructed.
    pub const fn context(number: u8) -> u8 {
        0xa0 | number
    }
    /// `[n]`, primitive.
    pub const fn context_plain(number: u8) -> u8 {
        0x80 | number
    }
}

/// An element: its tag, what it holds, and all of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element<'a> {
    pub tag: u8,
    pub content: &'a [u8],
    pub whole: &'a [u8],
}

/// Reads elements from the front of some bytes.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether nothing follows.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The tag of the next element.
    pub fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The next element.
    pub fn element(&mut self) -> Result<Element<'a>, Malformed> {
        let (&[tag, first], rest) = self.rest.split_first_chunk::<2>().ok_or(Malformed)?;
        // Tags of several bytes occur in none of the structures that are read here.
        if tag & 0x1f == 0x1f {
            return Err(Malformed);
        }
        let (length, header) = match first {
            0..=0x7f => (usize::from(first), 2),
            0x81..=0x84 => {
                let count = usize::from(first & 0x7f);
                let bytes = rest.get(..count).ok_or(Malformed)?;
                (bytes.iter().fold(0usize, |all, byte| all << 8 | usize::from(*byte)), 2 + count)
            }
            _ => return Err(Malformed),
        };
        let end = header.checked_add(length).ok_or(Malformed)?;
        let (whole, after) = self.rest.split_at_checked(end).ok_or(Malformed)?;
        self.rest = after;
        Ok(Element { tag, content: whole.get(header..).ok_or(Malformed)?, whole })
    }

    /// The next element, which must have this tag.
    pub fn expect(&mut self, tag: u8) -> Result<Element<'a>, Malformed> {
        let element = self.element()?;
        if element.tag == tag { Ok(element) } else { Err(Malformed) }
    }

    /// The next element if it has this tag.
    pub fn optional(&mut self, tag: u8) -> Result<Option<Element<'a>>, Malformed> {
        if self.peek() == Some(tag) { self.element().map(Some) } else { Ok(None) }
    }

    /// What the next element, a sequence, holds.
    pub fn sequence(&mut self) -> Result<Reader<'a>, Malformed> {
        self.expect(tag::SEQUENCE).map(|element| Reader::new(element.content))
    }

    /// The bits of the next element, a bit string of whole bytes.
    pub fn bits(&mut self) -> Result<&'a [u8], Malformed> {
        let (unused, bits) = self.expect(tag::BIT_STRING)?.content.split_first().ok_or(Malformed)?;
        if *unused == 0 { Ok(bits) } else { Err(Malformed) }
    }
}

impl<'a> Element<'a> {
    /// A reader of what it holds.
    pub fn reader(&self) -> Reader<'a> {
        Reader::new(self.content)
    }

    /// A small number.
    pub fn small(&self) -> Result<u64, Malformed> {
        if self.content.is_empty() || self.content.len() > 8 || self.content[0] & 0x80 != 0 {
            return Err(Malformed);
        }
        Ok(self.content.iter().fold(0, |all, byte| all << 8 | u64::from(*byte)))
    }

    /// A time as seconds since 1970.
    pub fn time(&self) -> Result<i64, Malformed> {
        let text = self.content.strip_suffix(b"Z").ok_or(Malformed)?;
        let (century_digits, rest) = match self.tag {
            tag::UTC_TIME => (2, text),
            tag::GENERALIZED_TIME => (4, text),
            _ => return Err(Malformed),
        };
        if rest.len() < century_digits + 10 || !rest.iter().take(century_digits + 10).all(u8::is_ascii_digit)
        {
            return Err(Malformed);
        }
        let number = |from: usize, count: usize| {
            rest[from..from + count].iter().fold(0i64, |all, digit| all * 10 + i64::from(digit - b'0'))
        };
        let mut year = number(0, century_digits);
        if century_digits == 2 {
            year += if year < 50 { 2000 } else { 1900 };
        }
        let at = |index: usize| number(century_digits + 2 * index, 2);
        let (month, day, hour, minute, second) = (at(0), at(1), at(2), at(3), at(4));
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
            return Err(Malformed);
        }
        Ok(((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
    }
}

/// Days since 1970 of a day of the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // The year begins in March, so that the leap day is its last.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Appends an element.
pub fn push(tag: u8, content: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    let length = content.len();
    if length < 0x80 {
        out.push(u8::try_from(length).unwrap_or(0));
    } else {
        let bytes = length.to_be_bytes();
        let from = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len() - 1);
        let used = &bytes[from..];
        out.push(0x80 | u8::try_from(used.len()).unwrap_or(0));
        out.extend_from_slice(used);
    }
    out.extend_from_slice(content);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements() {
        let mut reader = Reader::new(&[0x30, 3, 2, 1, 5, 4, 0x81, 1, 7]);
        let sequence = reader.expect(tag::SEQUENCE).expect("a sequence");
        assert_eq!(sequence.reader().expect(tag::INTEGER).and_then(|number| number.small()), Ok(5));
        assert_eq!(reader.expect(tag::OCTET_STRING).map(|element| element.content), Ok(&[7][..]));
        assert!(reader.is_empty());
        let check = |bytes: &[u8]| assert_eq!(Reader::new(bytes).element(), Err(Malformed), "{bytes:?}");
        check(&[]);
        check(&[0x30]);
        check(&[0x30, 1]);
        check(&[0x30, 0x80, 0, 0]);
        check(&[0x30, 0x85, 1, 1, 1, 1, 1]);
        check(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]);
        check(&[0x1f, 0x81, 1, 0]);
    }

    #[test]
    fn times() {
        let check = |tag: u8, text: &str, expected: Result<i64, Malformed>| {
            let element = Element { tag, content: text.as_bytes(), whole: &[] };
            assert_eq!(element.time(), expected, "{text}");
        };
        check(tag::UTC_TIME, "700101000000Z", Ok(0));
        check(tag::UTC_TIME, "491231235959Z", Ok(2_524_607_999));
        check(tag::UTC_TIME, "500101000000Z", Ok(-631_152_000));
        check(tag::GENERALIZED_TIME, "20240229120000Z", Ok(1_709_208_000));
        check(tag::GENERALIZED_TIME, "20000301000000Z", Ok(951_868_800));
        check(tag::UTC_TIME, "7001010000Z", Err(Malformed));
        check(tag::UTC_TIME, "701301000000Z", Err(Malformed));
        check(tag::INTEGER, "700101000000Z", Err(Malformed));
    }

    #[test]
    fn what_is_pushed_is_read() {
        for length in [0, 1, 127, 128, 255, 256, 70_000] {
            let mut out = Vec::new();
            push(tag::OCTET_STRING, &vec![7; length], &mut out);
            assert_eq!(Reader::new(&out).element().map(|element| element.content.len()), Ok(length));
        }
    }
}
