//! The tables that say where samples lie: in which chunks (`stsc`), how long (`stsz`), from which byte on (`stco`, `co64`).
//!
//! A row of `stsc` holds for all chunks up to that of the next row; a chunk that is cut gets a row of its own.

use std::ops::Range;

use super::Asked;
use super::atom::{Table, Word, low};
use super::fault::Fault;
use super::trak::{ChunkRow, File, Offsets, Sizes, Trak};

/// Which end of the part is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edge {
    Start,
    End,
}

impl Edge {
    fn out_of(self, atom: &'static str) -> Fault {
        Fault::OutOf { which: if self == Self::Start { "start" } else { "end" }, atom }
    }
}

/// Where a sample lies among the rows of `stsc`.
struct Place {
    row: usize,
    /// First chunk of the row, counted from one.
    chunk: u32,
    /// First chunk of the next one.
    next_chunk: u32,
    /// Samples of each of its chunks.
    samples: u32,
    id: Word,
    /// Samples of each chunk in front of them.
    samples_before: u32,
    /// Samples of the row in front of the one that is looked for.
    left: u32,
}

impl Place {
    /// Finds a sample that is counted from the first one of the first row.
    fn find(rows: &[[Word; 3]], mut left: u32, chunks: u32, edge: Edge) -> Result<Self, Fault> {
        let number = |word: &Word| u32::from_be_bytes(*word);
        let mut samples_before = 0;
        let mut all = rows.iter().enumerate().peekable();
        while let Some((row, [chunk, samples, id])) = all.next() {
            let (chunk, samples) = (number(chunk), number(samples));
            let next = all.peek().map(|(_, [next, ..])| number(next));
            let next_chunk = next.unwrap_or(chunks.wrapping_add(1));
            let span = next_chunk.checked_sub(chunk);
            let span = span.ok_or(Fault::Invalid("unordered mp4 stsc chunks"))?;
            let count = u64::from(span) * u64::from(samples);
            if u64::from(left) < count || next.is_none() {
                if u64::from(left) > count {
                    return Err(edge.out_of("stsc chunks"));
                }
                return match (samples, chunk) {
                    (0, _) => Err(Fault::Invalid("zero number of samples")),
                    (_, 0) => Err(Fault::Invalid("zero chunk")),
                    _ => Ok(Self { row, chunk, next_chunk, samples, id: *id, samples_before, left }),
                };
            }
            // It is at least as large as the count.
            left -= low(count);
            if span > 0 {
                samples_before = samples;
            }
        }
        Err(Fault::Invalid("zero number of entries in stsc atom"))
    }

    /// The chunk of the sample, counted from zero.
    fn target(&self) -> u64 {
        u64::from(self.chunk) - 1 + u64::from(self.left / self.samples)
    }

    /// Samples of that chunk in front of it.
    fn within(&self) -> u32 {
        self.left % self.samples
    }
}

impl Trak {
    /// `stsc`: finds the chunks of the part, which are counted from its first one then.
    pub(super) fn crop_chunks(&mut self, moov: &mut [u8], asked: &Asked) -> Result<(), Fault> {
        match &self.stsc {
            None => return Err(Fault::Missing("stsc atoms were")),
            Some(table) if table.len() == 0 => {
                return Err(Fault::Invalid("zero number of entries in stsc atom"));
            }
            Some(_) => {}
        }
        self.crop_chunks_in_front(moov)?;
        if asked.has_end() {
            self.crop_chunks_behind(moov)?;
        }
        let first = low(self.chunks.start);
        let rows = self.stsc.as_ref().map(|table| table.rows(moov)).unwrap_or_default();
        for [chunk, ..] in rows {
            *chunk = u32::from_be_bytes(*chunk).wrapping_sub(first).to_be_bytes();
        }
        Ok(())
    }

    fn crop_chunks_in_front(&mut self, moov: &mut [u8]) -> Result<(), Fault> {
        let chunks = self.offsets.as_ref().map_or(0, Offsets::count);
        let Some(table) = &mut self.stsc else { return Ok(()) };
        let place = Place::find(table.rows(moov), low(self.samples.start), chunks, Edge::Start)?;
        table.drop_front(place.row);
        let (target, within) = (place.target(), place.within());
        self.chunks.start = target;
        self.start_chunk_samples = within;
        let Some([chunk, samples, _]) = table.rows(moov).first_mut() else { return Ok(()) };
        *chunk = low(target + 1).to_be_bytes();
        let rest = (place.samples - within).to_be_bytes();
        if within == 0 {
            return Ok(());
        }
        if u64::from(place.next_chunk) == target + 2 {
            *samples = rest;
        } else {
            self.first_chunk = Some([1u32.to_be_bytes(), rest, place.id]);
            *chunk = low(target + 2).to_be_bytes();
        }
        Ok(())
    }

    fn crop_chunks_behind(&mut self, moov: &mut [u8]) -> Result<(), Fault> {
        let chunks = self.offsets.as_ref().map_or(0, Offsets::count);
        let mut count = low(self.count());
        if let Some([_, samples, _]) = &mut self.first_chunk {
            let those = u32::from_be_bytes(*samples).min(count);
            *samples = those.to_be_bytes();
            count -= those;
        }
        let Some(table) = &mut self.stsc else { return Ok(()) };
        let place = Place::find(table.rows(moov), count, chunks, Edge::End)?;
        let (target, within) = (place.target(), place.within());
        // A part that ends within a first chunk with a row of its own seems to have no bytes there: as in nginx.
        (self.chunks.end, self.end_chunk_samples) = match (within, place.left) {
            (0, 0) => (target, place.samples_before),
            (0, _) => (target, place.samples),
            _ => (target + 1, within),
        };
        table.keep(place.row + usize::from(place.left > 0));
        if within == 0 {
            return Ok(());
        }
        if target + 1 == u64::from(place.chunk) {
            if let Some([_, samples, _]) = table.rows(moov).last_mut() {
                *samples = within.to_be_bytes();
            }
        } else {
            let number = low(self.chunks.end.saturating_sub(self.chunks.start));
            self.last_chunk = Some([number.to_be_bytes(), within.to_be_bytes(), place.id]);
        }
        Ok(())
    }

    /// Rows of `stsc`, with those for chunks that are cut.
    pub(super) fn chunk_rows(&self) -> usize {
        let ends = [&self.first_chunk, &self.last_chunk];
        let own = ends.into_iter().filter(|row: &&Option<ChunkRow>| row.is_some()).count();
        self.stsc.as_ref().map_or(0, Table::len) + own
    }

    /// `stsz`: adds up what lies in the first and last chunk. Of samples that are all alike nothing is counted, so the
    /// whole chunk is sent, as nginx does.
    pub(super) fn crop_sizes(&mut self, moov: &mut [u8], asked: &Asked, file: File) -> Result<(), Fault> {
        let count = self.count();
        let Some(Sizes::Each(table)) = &mut self.sizes else { return Ok(()) };
        let all = table.rows(moov);
        let sum = |rows: Option<&[[Word; 1]]>| -> u64 {
            rows.unwrap_or_default().iter().map(|[size]| u64::from(u32::from_be_bytes(*size))).sum()
        };
        let start = usize::try_from(self.samples.start).unwrap_or(usize::MAX);
        if start >= all.len() {
            return Err(Edge::Start.out_of("stsz samples"));
        }
        let first = start.saturating_sub(self.start_chunk_samples as usize);
        self.start_chunk_size = sum(all.get(first..start));
        if self.start_chunk_size > file.size {
            return Err(Fault::Invalid("too large mp4 start samples size"));
        }
        table.drop_front(start);
        if !asked.has_end() {
            return Ok(());
        }
        let rest = table.rows(moov);
        let end = usize::try_from(count).unwrap_or(usize::MAX);
        if end > rest.len() {
            return Err(Edge::End.out_of("stsz samples"));
        }
        let first = end.saturating_sub(self.end_chunk_samples as usize);
        self.end_chunk_size = sum(rest.get(first..end));
        if self.end_chunk_size > file.size {
            return Err(Fault::Invalid("too large mp4 end samples size"));
        }
        table.keep(end);
        Ok(())
    }

    /// `stco` or `co64`: tells which bytes of the file the part lies in.
    pub(super) fn crop_offsets(
        &mut self,
        moov: &mut [u8],
        asked: &Asked,
        file: File,
    ) -> Result<Range<u64>, Fault> {
        let ends = Ends {
            chunks: self.chunks.clone(),
            start_size: self.start_chunk_size,
            end_size: asked.has_end().then_some(self.end_chunk_size),
            file,
        };
        match &mut self.offsets {
            None => Err(Fault::Missing("stco atoms were")),
            Some(Offsets::Short(table)) => ends.crop(table, moov, "stco chunks", u64::from(u32::MAX)),
            Some(Offsets::Long(table)) => ends.crop(table, moov, "co64 chunks", u64::MAX),
        }
    }
}

impl Offsets {
    /// How many chunks there are.
    fn count(&self) -> u32 {
        let count = match self {
            Self::Short(table) => table.len(),
            Self::Long(table) => table.len(),
        };
        u32::try_from(count).unwrap_or(u32::MAX)
    }
}

/// The chunks that are left of a track.
struct Ends {
    chunks: Range<u64>,
    /// Bytes of the first one that are not sent.
    start_size: u64,
    /// Bytes of the last one that are, where the part has an end.
    end_size: Option<u64>,
    file: File,
}

impl Ends {
    fn crop<const N: usize>(
        &self,
        table: &mut Table<N>,
        moov: &mut [u8],
        atom: &'static str,
        max: u64,
    ) -> Result<Range<u64>, Fault> {
        let start = usize::try_from(self.chunks.start).unwrap_or(usize::MAX);
        if start >= table.len() {
            return Err(Edge::Start.out_of(atom));
        }
        table.drop_front(start);
        let behind = |offset: u64, size: u64| {
            let place = offset.checked_add(size).filter(|place| *place <= self.file.size.min(max));
            place.ok_or(Fault::Invalid("too large chunk offset"))
        };
        let mut data = 0..self.file.mdat_end;
        if let Some(first) = table.rows(moov).first_mut() {
            data.start = behind(number(first), self.start_size)?;
            put_number(first, data.start);
        }
        if let Some(end_size) = self.end_size {
            let count = usize::try_from(self.chunks.end.saturating_sub(self.chunks.start));
            let count = count.ok().filter(|count| *count <= table.len());
            table.keep(count.ok_or(Edge::End.out_of(atom))?);
            if let Some(last) = table.rows(moov).last() {
                data.end = behind(number(last), end_size)?;
            }
        }
        Ok(if table.len() == 0 { self.file.size..0 } else { data })
    }
}

/// The number in a row of one or two words.
fn number<const N: usize>(row: &[Word; N]) -> u64 {
    row.iter().fold(0, |number, word| number << 32 | u64::from(u32::from_be_bytes(*word)))
}

fn put_number<const N: usize>(row: &mut [Word; N], number: u64) {
    let mut rest = number;
    for word in row.iter_mut().rev() {
        *word = low(rest).to_be_bytes();
        rest >>= 32;
    }
}

/// Moves the chunks by so many bytes, each number within its width.
pub(super) fn shift<const N: usize>(rows: &mut [[Word; N]], by: i64) {
    for row in rows {
        put_number(row, number(row).wrapping_add_signed(by));
    }
}
