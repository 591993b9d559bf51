//! Reads the `moov` atom: of each track, where its tables lie and how long it lasts.
//!
//! An atom that nobody here knows is left out of the answer, as nginx does, and so are the tracks that end before the
//! part that is asked for.

use std::ops::Range;

use super::Asked;
use super::atom::{Atom, Name, Table, double, low, put, word};
use super::fault::Fault;
use super::trak::{Offsets, Sizes, Trak};

/// Most tracks of a file. Each takes memory of its own, and atoms of eight bytes would make a million of them.
const TRAKS_MAX: usize = 1024;

/// What a `moov` atom holds.
#[derive(Debug)]
pub(super) struct Moov {
    /// Its data, and what is behind it of the front of another atom.
    pub bytes: Vec<u8>,
    /// Where the data of `mvhd` lies.
    pub mvhd: Option<Range<usize>>,
    /// The tracks, without those that end too early.
    pub traks: Vec<Trak>,
    /// Whether a length of zero said that no more atoms follow, not even behind this one.
    pub is_last: bool,
}

impl Moov {
    /// Reads the atom whose data are the first `length` bytes.
    pub(super) fn read(bytes: Vec<u8>, length: usize, asked: &Asked) -> Result<Self, Fault> {
        let mut reader = Reader { bytes, at: 0, asked, timescale: 0, mvhd: None, traks: Vec::new() };
        reader.children(Level::Moov, length)?;
        let Reader { bytes, at, mvhd, traks, .. } = reader;
        Ok(Self { bytes, mvhd, traks, is_last: at < length })
    }
}

/// Which atom's children are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Moov,
    Trak,
    Mdia,
    Minf,
    Stbl,
}

/// What comes of an atom's children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Children {
    Read,
    /// The track that they belong to ends before the part that is asked for.
    EndTooEarly,
}

struct Reader<'a> {
    bytes: Vec<u8>,
    /// The next byte. A length of zero stays in front of it, and so ends the atoms of every level.
    at: usize,
    asked: &'a Asked,
    /// Units of a second in `mvhd` and `tkhd`.
    timescale: u32,
    mvhd: Option<Range<usize>>,
    traks: Vec<Trak>,
}

impl Reader<'_> {
    fn children(&mut self, level: Level, end: usize) -> Result<Children, Fault> {
        while self.at < end {
            let text = self.bytes.get(self.at..).unwrap_or_default();
            let Some(atom) = Atom::parse(text, (end - self.at) as u64)? else { break };
            let start = self.at + atom.header;
            let data = start..start + usize::try_from(atom.data).map_err(|_| Fault::Truncated)?;
            self.at = start;
            if self.child(level, &atom.name, &data)? == Children::EndTooEarly {
                return Ok(Children::EndTooEarly);
            }
        }
        Ok(Children::Read)
    }

    fn child(&mut self, level: Level, name: &Name, data: &Range<usize>) -> Result<Children, Fault> {
        match (level, name) {
            (Level::Moov, b"trak") => return self.trak(data),
            (Level::Trak, b"mdia") => return self.inside(Level::Mdia, data),
            (Level::Mdia, b"minf") => return self.inside(Level::Minf, data),
            (Level::Minf, b"stbl") => return self.inside(Level::Stbl, data),
            _ => {}
        }
        self.at = data.end;
        match (level, name) {
            (Level::Trak, b"tkhd") => return self.tkhd(data),
            (Level::Mdia, b"mdhd") => return self.mdhd(data),
            (Level::Moov, b"mvhd") => self.mvhd(data)?,
            (Level::Moov, b"cmov") => return Err(Fault::Compressed),
            (Level::Mdia, b"hdlr") => once(&mut self.last()?.hdlr, "hdlr", data.clone())?,
            (Level::Minf, b"vmhd" | b"smhd") => {
                once(&mut self.last()?.media_head, "vmhd/smhd", (*name, data.clone()))?;
            }
            (Level::Minf, b"dinf") => once(&mut self.last()?.dinf, "dinf", data.clone())?,
            (Level::Stbl, _) => self.of_stbl(name, data)?,
            _ => {}
        }
        Ok(Children::Read)
    }

    fn of_stbl(&mut self, name: &Name, data: &Range<usize>) -> Result<(), Fault> {
        match name {
            b"stsd" if data.len() < 16 => Err(Fault::TooSmall("stsd")),
            b"stsd" => once(&mut self.last()?.stsd, "stsd", data.clone()),
            b"stts" => {
                let table = self.table(data, "stts")?;
                once(&mut self.last()?.stts, "stts", table)
            }
            b"stss" => {
                let table = self.table(data, "stss")?;
                once(&mut self.last()?.stss, "stss", table)
            }
            b"ctts" => {
                let table = self.table(data, "ctts")?;
                once(&mut self.last()?.ctts, "ctts", table)
            }
            b"stsc" => {
                let table = self.table(data, "stsc")?;
                once(&mut self.last()?.stsc, "stsc", table)
            }
            b"stsz" => self.stsz(data),
            b"stco" => {
                let table = Offsets::Short(self.table(data, "stco")?);
                once(&mut self.last()?.offsets, "stco/co64", table)
            }
            b"co64" => {
                let table = Offsets::Long(self.table(data, "co64")?);
                once(&mut self.last()?.offsets, "stco/co64", table)
            }
            _ => Ok(()),
        }
    }

    /// The table of an atom, whose rows stand behind their number.
    fn table<const N: usize>(&self, data: &Range<usize>, atom: &'static str) -> Result<Table<N>, Fault> {
        Table::read(&self.bytes, data, 8).ok_or(Fault::TooSmall(atom))
    }

    fn stsz(&mut self, data: &Range<usize>) -> Result<(), Fault> {
        const TOO_SMALL: Fault = Fault::TooSmall("stsz");
        if data.len() < 12 {
            return Err(TOO_SMALL);
        }
        let sizes = match word(&self.bytes, data.start + 4) {
            Some(0) => Sizes::Each(Table::read(&self.bytes, data, 12).ok_or(TOO_SMALL)?),
            _ => Sizes::Uniform(data.clone()),
        };
        once(&mut self.last()?.sizes, "stsz", sizes)
    }

    fn trak(&mut self, data: &Range<usize>) -> Result<Children, Fault> {
        if self.traks.len() >= TRAKS_MAX {
            return Err(Fault::TooMany("trak atoms"));
        }
        self.traks.push(Trak::default());
        if self.children(Level::Trak, data.end)? == Children::EndTooEarly {
            self.traks.pop();
            self.at = data.end;
        }
        Ok(Children::Read)
    }

    /// An atom that holds others and may stand once in its track.
    fn inside(&mut self, level: Level, data: &Range<usize>) -> Result<Children, Fault> {
        let trak = self.last()?;
        let (is_there, name) = match level {
            Level::Mdia => (&mut trak.has_mdia, "mdia"),
            Level::Minf => (&mut trak.has_minf, "minf"),
            _ => (&mut trak.has_stbl, "stbl"),
        };
        if std::mem::replace(is_there, true) {
            return Err(Fault::Duplicate(name));
        }
        self.children(level, data.end)
    }

    /// The movie: its length becomes that of the part.
    fn mvhd(&mut self, data: &Range<usize>) -> Result<(), Fault> {
        if self.mvhd.is_some() {
            return Err(Fault::Duplicate("mvhd"));
        }
        let times = Times::read(&self.bytes, data, &MVHD)?;
        self.timescale = times.timescale;
        let duration = times.duration.checked_sub(self.asked.start(times.timescale));
        let duration = duration.ok_or(Fault::StartExceeds)?;
        times.put(&mut self.bytes, self.asked.at_most(duration, times.timescale));
        self.mvhd = Some(data.clone());
        Ok(())
    }

    /// The track, in units of the movie.
    fn tkhd(&mut self, data: &Range<usize>) -> Result<Children, Fault> {
        let times = Times::read(&self.bytes, data, &TKHD)?;
        let start = self.asked.start(self.timescale);
        if times.duration <= start {
            return Ok(Children::EndTooEarly);
        }
        let duration = self.asked.at_most(times.duration - start, self.timescale);
        once(&mut self.last()?.tkhd, "tkhd", data.clone())?;
        self.last()?.movie_duration = duration;
        times.put(&mut self.bytes, duration);
        Ok(Children::Read)
    }

    /// The track, in units of its own; a key frame in front of the part may lengthen it.
    fn mdhd(&mut self, data: &Range<usize>) -> Result<Children, Fault> {
        let times = Times::read(&self.bytes, data, &MDHD)?;
        let start = self.asked.start(times.timescale);
        if times.duration <= start {
            return Ok(Children::EndTooEarly);
        }
        let duration = self.asked.at_most(times.duration - start, times.timescale);
        let trak = self.last()?;
        once(&mut trak.mdhd, "mdhd", data.clone())?;
        trak.timescale = times.timescale;
        trak.duration = duration;
        Ok(Children::Read)
    }

    /// The track that is read.
    fn last(&mut self) -> Result<&mut Trak, Fault> {
        self.traks.last_mut().ok_or(Fault::Missing("trak atoms were"))
    }
}

/// Notes an atom that may come once.
pub(super) fn once<T>(place: &mut Option<T>, atom: &'static str, value: T) -> Result<(), Fault> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Fault::Duplicate(atom)),
    }
}

/// How the data of an atom with a duration is laid out.
struct Layout {
    atom: &'static str,
    /// Bytes of its data in version 0; other versions have twelve more.
    length: usize,
    /// Whether a timescale stands in front of the duration, and not the number of a track.
    has_timescale: bool,
}

const MVHD: Layout = Layout { atom: "mvhd", length: 100, has_timescale: true };
const TKHD: Layout = Layout { atom: "tkhd", length: 84, has_timescale: false };
const MDHD: Layout = Layout { atom: "mdhd", length: 24, has_timescale: true };

/// A duration and where it stands.
#[derive(Debug)]
pub(super) struct Times {
    pub timescale: u32,
    pub duration: u64,
    at: usize,
    is_long: bool,
}

impl Times {
    fn read(moov: &[u8], data: &Range<usize>, layout: &Layout) -> Result<Self, Fault> {
        let too_small = Fault::TooSmall(layout.atom);
        let version = moov.get(data.start).filter(|_| data.len() >= layout.length).ok_or(too_small)?;
        let is_long = *version != 0;
        if is_long && data.len() < layout.length + 12 {
            return Err(too_small);
        }
        // Version and flags stand in front, and when it was made and changed. `tkhd` has the number of the track and
        // four bytes for nothing where others have the timescale.
        let timescale_at = data.start + if is_long { 20 } else { 12 };
        let at = timescale_at + if layout.has_timescale { 4 } else { 8 };
        let timescale = word(moov, timescale_at).filter(|_| layout.has_timescale).unwrap_or(0);
        let duration = if is_long { double(moov, at) } else { word(moov, at).map(u64::from) };
        Ok(Self { timescale, duration: duration.ok_or(too_small)?, at, is_long })
    }

    /// The movie's.
    pub(super) fn of_movie(moov: &[u8]) -> Result<Self, Fault> {
        Self::read(moov, &(0..moov.len()), &MVHD)
    }

    /// The length of a movie's `mvhd` that is needed to read its times.
    pub(super) const MOVIE_LENGTH: usize = MVHD.length + 12;

    pub(super) fn put(&self, moov: &mut [u8], duration: u64) {
        if self.is_long {
            put(moov, self.at, &duration.to_be_bytes());
        } else {
            put(moov, self.at, &low(duration).to_be_bytes());
        }
    }
}

/// Writes how long a track lasts into its `mdhd`.
pub(super) fn put_media_duration(moov: &mut [u8], mdhd: &Range<usize>, duration: u64) {
    if let Ok(times) = Times::read(moov, mdhd, &MDHD) {
        times.put(moov, duration);
    }
}
