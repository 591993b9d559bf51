//! Atoms: a length, a name and data, of which some hold further atoms and some a table.
//!
//! Numbers are big-endian words, and rows of tables are arrays of words, so that none is reached by counting bytes.

use std::ops::Range;

use super::fault::Fault;

/// Bytes of a length and a name.
pub(super) const HEADER: usize = 8;
/// Bytes of those where the length is a long one.
pub(super) const LONG_HEADER: usize = 16;

/// Four bytes, as most numbers have them.
pub(super) type Word = [u8; 4];
/// What an atom is called.
pub(super) type Name = [u8; 4];

/// What stands in front of an atom's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Atom {
    pub name: Name,
    /// Bytes in front of its data.
    pub header: usize,
    /// Bytes of its data.
    pub data: u64,
}

impl Atom {
    /// Reads the front of an atom that may take `room` bytes; `None` where a length of zero ends them all.
    /// `text` has its first [`LONG_HEADER`] bytes, or all that the file has.
    pub(super) fn parse(text: &[u8], room: u64) -> Result<Option<Self>, Fault> {
        let mut header = HEADER;
        let mut size = u64::from(word(text, 0).ok_or(Fault::Truncated)?);
        match size {
            0 => return Ok(None),
            1 => {
                header = LONG_HEADER;
                size = double(text, HEADER).ok_or(Fault::Truncated)?;
            }
            _ => {}
        }
        if size < header as u64 {
            return Err(Fault::AtomTooSmall(size));
        }
        let name = text.get(4..HEADER).and_then(|name| Name::try_from(name).ok()).ok_or(Fault::Truncated)?;
        if size > room {
            return Err(Fault::AtomTooLarge(size));
        }
        Ok(Some(Self { name, header, data: size - header as u64 }))
    }
}

/// The word at a place.
pub(super) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_be_bytes(*word))
}

/// The number of eight bytes at a place.
pub(super) fn double(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|double| u64::from_be_bytes(*double))
}

/// Writes bytes over those at a place; beyond the end nothing happens.
pub(super) fn put(bytes: &mut [u8], at: usize, new: &[u8]) {
    if let Some(place) = bytes.get_mut(at..).and_then(|rest| rest.get_mut(..new.len())) {
        place.copy_from_slice(new);
    }
}

/// The last four bytes of a number, which is all that fits where a version 0 keeps it.
pub(super) fn low(number: u64) -> u32 {
    (number & u64::from(u32::MAX)) as u32
}

/// A table within an atom: rows of `N` words behind a few others, of which the last one counts them.
#[derive(Clone, Debug)]
pub(super) struct Table<const N: usize> {
    /// Where the words in front of the rows lie.
    pub front: Range<usize>,
    /// Where the rows lie that stay.
    pub rows: Range<usize>,
}

impl<const N: usize> Table<N> {
    const WIDTH: usize = N * size_of::<Word>();

    /// The table of an atom whose data lies at `data` and begins with `front` bytes, the number of rows last. `None`
    /// where it has fewer bytes than that number says.
    pub(super) fn read(moov: &[u8], data: &Range<usize>, front: usize) -> Option<Self> {
        let count = word(moov.get(data.clone())?, front.checked_sub(4)?)?;
        let length = usize::try_from(count).ok()?.checked_mul(Self::WIDTH)?;
        let first = data.start + front;
        (length <= data.end - first).then(|| Self { front: data.start..first, rows: first..first + length })
    }

    /// How many rows stay.
    pub(super) fn len(&self) -> usize {
        self.rows.len() / Self::WIDTH
    }

    /// The rows that stay.
    pub(super) fn rows<'m>(&self, moov: &'m mut [u8]) -> &'m mut [[Word; N]] {
        let bytes = moov.get_mut(self.rows.clone()).unwrap_or_default();
        bytes.as_chunks_mut().0.as_chunks_mut().0
    }

    /// Lets go of the first rows.
    pub(super) fn drop_front(&mut self, count: usize) {
        self.rows.start += count.min(self.len()) * Self::WIDTH;
    }

    /// Lets go of all rows but the first ones.
    pub(super) fn keep(&mut self, count: usize) {
        self.rows.end = self.rows.start + count.min(self.len()) * Self::WIDTH;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_front_of_an_atom() {
        let check = |text: &[u8], room, expected: Result<Option<(&Name, usize, u64)>, Fault>| {
            let expected =
                expected.map(|atom| atom.map(|(name, header, data)| Atom { name: *name, header, data }));
            assert_eq!(Atom::parse(text, room), expected, "{text:?} {room}");
        };
        check(b"\0\0\0\x08free", 8, Ok(Some((b"free", 8, 0))));
        check(b"\0\0\0\x0cfreeabcd", 100, Ok(Some((b"free", 8, 4))));
        check(b"\0\0\0\x0cfreeabcd", 11, Err(Fault::AtomTooLarge(12)));
        check(b"\xff\xff\xff\xfffreeabcd", 100, Err(Fault::AtomTooLarge(u64::from(u32::MAX))));
        check(b"\0\0\0\0", 4, Ok(None));
        check(b"\0\0\0", 3, Err(Fault::Truncated));
        check(b"", 0, Err(Fault::Truncated));
        check(b"\0\0\0\x07free", 8, Err(Fault::AtomTooSmall(7)));
        check(b"\0\0\0\x02", 8, Err(Fault::AtomTooSmall(2)));
        check(b"\0\0\0\x08fre", 8, Err(Fault::Truncated));
        check(b"\0\0\0\x01mdat\0\0\0\0\0\0\0\x10", 16, Ok(Some((b"mdat", 16, 0))));
        check(b"\0\0\0\x01mdat\0\0\0\0\0\0\0\x0f", 16, Err(Fault::AtomTooSmall(15)));
        check(b"\0\0\0\x01mdat\xff\xff\xff\xff\xff\xff\xff\xff", 99, Err(Fault::AtomTooLarge(u64::MAX)));
        check(b"\0\0\0\x01mdat\0\0\0\0\0\0\0", 99, Err(Fault::Truncated));
    }

    #[test]
    fn rows_of_a_table() {
        let moov = b"----\0\0\0\0\0\0\0\x02aaaabbbbccccdddd".to_vec();
        let check = |data: Range<usize>, expected: Option<Range<usize>>| {
            let rows = Table::<2>::read(&moov, &data, 8).map(|table| table.rows);
            assert_eq!(rows, expected, "{data:?}");
        };
        check(4..28, Some(12..28));
        check(4..27, None);
        check(4..11, None);
        check(4..99, None);
        check(0..28, Some(8..8));
    }

    #[test]
    fn rows_are_let_go_at_both_ends() {
        let mut moov = b"\0\0\0\x05aaaabbbbccccddddeeee".to_vec();
        let mut table = Table::<1>::read(&moov, &(0..24), 4).expect("a table");
        table.drop_front(1);
        table.keep(3);
        assert_eq!(table.rows(&mut moov), &[[*b"bbbb"], [*b"cccc"], [*b"dddd"]]);
        table.keep(9);
        assert_eq!(table.len(), 3);
        table.drop_front(9);
        assert_eq!(table.len(), 0);
    }
}
