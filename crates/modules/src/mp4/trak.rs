//! A track, and what is left of it between two times.
//!
//! Each table needs what the one before it found, in the order of [`Trak::crop`]; they may lie in any order in the file.

use std::ops::Range;

use super::Asked;
use super::atom::{Name, Table, Word};
use super::fault::Fault;
use super::moov::put_media_duration;

/// `stco` or `co64`: where chunks begin in the file.
#[derive(Clone, Debug)]
pub(super) enum Offsets {
    /// In four bytes.
    Short(Table<1>),
    /// In eight.
    Long(Table<2>),
}

/// `stsz`: how long samples are.
#[derive(Clone, Debug)]
pub(super) enum Sizes {
    /// All alike; where the data of the atom lies. It is sent as it is, with rows too that it should not have: of those
    /// nginx sends none, and so fewer bytes than it announces.
    Uniform(Range<usize>),
    /// A row for each.
    Each(Table<1>),
}

/// A row of `stsc` that stands for a chunk of which only some samples are left.
pub(super) type ChunkRow = [Word; 3];

/// Where the atoms of a track lie in `moov`, and what is known of the part that is asked for.
#[derive(Debug, Default)]
pub(super) struct Trak {
    pub has_mdia: bool,
    pub has_minf: bool,
    pub has_stbl: bool,
    pub tkhd: Option<Range<usize>>,
    pub mdhd: Option<Range<usize>>,
    pub hdlr: Option<Range<usize>>,
    /// `vmhd` or `smhd`.
    pub media_head: Option<(Name, Range<usize>)>,
    pub dinf: Option<Range<usize>>,
    pub stsd: Option<Range<usize>>,
    pub stts: Option<Table<2>>,
    pub stss: Option<Table<1>>,
    pub ctts: Option<Table<2>>,
    pub stsc: Option<Table<3>>,
    pub sizes: Option<Sizes>,
    pub offsets: Option<Offsets>,

    /// Units of a second in `mdhd`.
    pub timescale: u32,
    /// How long the part lasts, in those.
    pub duration: u64,
    /// How long it lasts in units of the movie.
    pub movie_duration: u64,
    /// How long the samples last that only lead from a key frame to the part.
    pub prefix: u64,
    /// The samples of the part, counted from zero. The end is known only where one is asked for.
    pub samples: Range<u64>,
    /// The chunks they lie in, counted from zero, with the same restriction.
    pub chunks: Range<u64>,
    /// Samples of the first chunk in front of the part.
    pub start_chunk_samples: u32,
    /// Samples of the last chunk that belong to it.
    pub end_chunk_samples: u32,
    /// Bytes of the former.
    pub start_chunk_size: u64,
    /// Bytes of the latter.
    pub end_chunk_size: u64,
    /// Rows of `stsc` in front of and behind those of the table.
    pub first_chunk: Option<ChunkRow>,
    pub last_chunk: Option<ChunkRow>,
}

/// What the file is, apart from `moov`.
#[derive(Clone, Copy, Debug)]
pub(super) struct File {
    /// Its length.
    pub size: u64,
    /// Where the data of `mdat` ends.
    pub mdat_end: u64,
}

impl Trak {
    /// Cuts all tables down to the part, and tells which bytes of the file it lies in; one without samples begins at the
    /// file's end and ends at its start.
    pub(super) fn crop(&mut self, moov: &mut [u8], asked: &Asked, file: File) -> Result<Range<u64>, Fault> {
        self.crop_times(moov, asked)?;
        self.crop_sync_samples(moov, asked);
        self.crop_composition(moov, asked);
        self.crop_chunks(moov, asked)?;
        self.crop_sizes(moov, asked, file)?;
        let data = self.crop_offsets(moov, asked, file)?;
        if let Some(mdhd) = &self.mdhd {
            put_media_duration(moov, mdhd, self.duration);
        }
        Ok(data)
    }

    /// How many samples the part has.
    pub(super) fn count(&self) -> u64 {
        self.samples.end.saturating_sub(self.samples.start)
    }
}
