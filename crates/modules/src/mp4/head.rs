//! Writes what stands in front of the part: `ftyp`, the `moov` that is left, and the front of `mdat`.
//!
//! Where chunks lie in the answer depends on how long this is, so it is written into the tables last.

use std::ops::Range;

use super::atom::{HEADER, LONG_HEADER, Name, Table, low, put};
use super::chunks::shift;
use super::file::Cut;
use super::moov::Moov;
use super::trak::{Offsets, Sizes, Trak};

/// Bytes of a track that are in no table: the fronts of its atoms, an edit list, rows for chunks that are cut.
const TRAK_EXTRA: usize = 256;

/// The answer: these atoms, and the bytes `data` of the file behind them.
pub(super) fn write(ftyp: Option<Vec<u8>>, moov: Moov, data: Range<u64>) -> Cut {
    let tables: usize = moov.traks.iter().map(Trak::length).sum();
    let others = ftyp.as_ref().map_or(0, Vec::len) + moov.mvhd.as_ref().map_or(0, Range::len);
    let mut out = Writer(Vec::with_capacity(tables + others + 4 * HEADER + LONG_HEADER));
    if let Some(ftyp) = ftyp {
        out.atom(b"ftyp", &[&ftyp]);
    }
    let mut offsets = Vec::with_capacity(moov.traks.len());
    out.parent(b"moov", |out| {
        out.copy(b"mvhd", &moov.bytes, moov.mvhd.as_ref());
        for trak in &moov.traks {
            out.parent(b"trak", |out| offsets.push(trak_atoms(out, &moov.bytes, trak)));
        }
    });
    out.mdat(data.end.saturating_sub(data.start));
    let Writer(mut head) = out;
    let by = (head.len() as i64).wrapping_sub_unsigned(data.start);
    for written in &offsets {
        match written {
            Some(Offsets::Short(table)) => shift(table.rows(&mut head), by),
            Some(Offsets::Long(table)) => shift(table.rows(&mut head), by),
            None => {}
        }
    }
    Cut { head, data }
}

/// Writes the atoms of a track, and tells where its chunk offsets lie now.
fn trak_atoms(out: &mut Writer, moov: &[u8], trak: &Trak) -> Option<Offsets> {
    let mut offsets = None;
    out.copy(b"tkhd", moov, trak.tkhd.as_ref());
    if trak.prefix > 0 {
        out.edit_list(trak);
    }
    out.parent(b"mdia", |out| {
        out.copy(b"mdhd", moov, trak.mdhd.as_ref());
        out.copy(b"hdlr", moov, trak.hdlr.as_ref());
        out.parent(b"minf", |out| {
            if let Some((name, range)) = &trak.media_head {
                out.copy(name, moov, Some(range));
            }
            out.copy(b"dinf", moov, trak.dinf.as_ref());
            out.parent(b"stbl", |out| offsets = tables(out, moov, trak));
        });
    });
    offsets
}

fn tables(out: &mut Writer, moov: &[u8], trak: &Trak) -> Option<Offsets> {
    out.copy(b"stsd", moov, trak.stsd.as_ref());
    out.table(b"stts", moov, trak.stts.as_ref());
    out.table(b"stss", moov, trak.stss.as_ref());
    out.table(b"ctts", moov, trak.ctts.as_ref());
    if let Some(table) = &trak.stsc {
        let count = trak.chunk_rows();
        let ends =
            [&trak.first_chunk, &trak.last_chunk].map(|row| row.as_ref().map(|row| row.as_flattened()));
        let [first, last] = ends.map(Option::unwrap_or_default);
        let rows = moov.get(table.rows.clone()).unwrap_or_default();
        out.atom(b"stsc", &[front(moov, &table.front), &count_of(count), first, rows, last]);
    }
    match &trak.sizes {
        Some(Sizes::Uniform(data)) => out.copy(b"stsz", moov, Some(data)),
        Some(Sizes::Each(table)) => drop(out.table(b"stsz", moov, Some(table))),
        None => {}
    }
    match &trak.offsets {
        Some(Offsets::Short(table)) => out.table(b"stco", moov, Some(table)).map(Offsets::Short),
        Some(Offsets::Long(table)) => out.table(b"co64", moov, Some(table)).map(Offsets::Long),
        None => None,
    }
}

/// The words in front of the rows of a table, without their number.
fn front<'m>(moov: &'m [u8], range: &Range<usize>) -> &'m [u8] {
    moov.get(range.start..range.end.saturating_sub(4)).unwrap_or_default()
}

fn count_of(rows: usize) -> [u8; 4] {
    low(rows as u64).to_be_bytes()
}

struct Writer(Vec<u8>);

impl Writer {
    /// An atom of several pieces.
    fn atom(&mut self, name: &Name, pieces: &[&[u8]]) {
        self.parent(name, |out| pieces.iter().for_each(|piece| out.0.extend_from_slice(piece)));
    }

    /// An atom that holds what is written meanwhile.
    fn parent(&mut self, name: &Name, write: impl FnOnce(&mut Self)) {
        let at = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        self.0.extend_from_slice(name);
        write(self);
        let size = low((self.0.len() - at) as u64);
        put(&mut self.0, at, &size.to_be_bytes());
    }

    /// An atom with the data that it has in the file, if it has one.
    fn copy(&mut self, name: &Name, moov: &[u8], data: Option<&Range<usize>>) {
        if let Some(data) = data.and_then(|data| moov.get(data.clone())) {
            self.atom(name, &[data]);
        }
    }

    /// A table with the rows that are left, and where it lies now.
    fn table<const N: usize>(
        &mut self,
        name: &Name,
        moov: &[u8],
        table: Option<&Table<N>>,
    ) -> Option<Table<N>> {
        let table = table?;
        let rows = moov.get(table.rows.clone()).unwrap_or_default();
        self.atom(name, &[front(moov, &table.front), &count_of(table.len()), rows]);
        let end = self.0.len();
        let first = end - rows.len();
        Some(Table { front: first - table.front.len()..first, rows: first..end })
    }

    /// Has players skip what only leads from a key frame to the part (ISO/IEC 14496-12, 8.6.6).
    fn edit_list(&mut self, trak: &Trak) {
        self.parent(b"edts", |out| {
            out.atom(
                b"elst",
                &[
                    &[1, 0, 0, 0],
                    &1u32.to_be_bytes(),
                    &trak.movie_duration.to_be_bytes(),
                    &trak.prefix.to_be_bytes(),
                    &[0, 1, 0, 0],
                ],
            );
        });
    }

    /// The front of `mdat` with so many bytes of data behind it.
    fn mdat(&mut self, length: u64) {
        match u32::try_from(length.saturating_add(HEADER as u64)) {
            Ok(size) => {
                self.0.extend_from_slice(&size.to_be_bytes());
                self.0.extend_from_slice(b"mdat");
            }
            Err(_) => {
                self.0.extend_from_slice(b"\0\0\0\x01mdat");
                let size = length.saturating_add(LONG_HEADER as u64);
                self.0.extend_from_slice(&size.to_be_bytes());
            }
        }
    }
}

impl Trak {
    /// Bytes of all that is left of it, and a little more.
    fn length(&self) -> usize {
        let copied = [&self.tkhd, &self.mdhd, &self.hdlr, &self.dinf, &self.stsd];
        let copied: usize = copied.into_iter().flatten().map(Range::len).sum();
        let media = self.media_head.as_ref().map_or(0, |(_, range)| range.len());
        let sizes = match &self.sizes {
            Some(Sizes::Uniform(data)) => data.len(),
            Some(Sizes::Each(table)) => table.rows.len(),
            None => 0,
        };
        let offsets = match &self.offsets {
            Some(Offsets::Short(table)) => table.rows.len(),
            Some(Offsets::Long(table)) => table.rows.len(),
            None => 0,
        };
        let rows = |table: Option<&Range<usize>>| table.map_or(0, Range::len);
        let times = rows(self.stts.as_ref().map(|table| &table.rows))
            + rows(self.stss.as_ref().map(|table| &table.rows))
            + rows(self.ctts.as_ref().map(|table| &table.rows))
            + rows(self.stsc.as_ref().map(|table| &table.rows));
        copied + media + sizes + offsets + times + TRAK_EXTRA
    }
}
