//! The file as a whole: its outermost atoms, of which `moov` is read into memory and `mdat` never is.
//!
//! `moov` may stand in front of `mdat` or behind it. What is behind both is not looked at.

use std::io;
use std::ops::Range;
use std::os::fd::AsFd;

use super::Asked;
use super::atom::{Atom, LONG_HEADER, Name};
use super::fault::Fault;
use super::head;
use super::moov::{Moov, Times, once};
use super::trak::File;

/// Most bytes of `ftyp`, as in nginx.
const FTYP_MAX: u64 = 1024;
/// Most outermost atoms. Looking at a file of nothing but small ones would hold up the event loop.
const ATOMS_MAX: usize = 1 << 12;
/// Bytes that are read at once to look at the fronts of atoms.
const LOOK: u64 = 4096;

/// What bytes are read from.
pub trait Source {
    /// How many there are.
    fn size(&self) -> u64;

    /// Appends `length` bytes from `offset` on, or fewer where they end.
    ///
    /// # Errors
    /// The error of reading.
    fn append(&self, offset: u64, length: usize, out: &mut Vec<u8>) -> io::Result<usize>;
}

/// An open file.
pub(super) struct Opened<'a> {
    pub file: &'a std::fs::File,
    /// Its length when it was opened.
    pub size: u64,
}

impl Source for Opened<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn append(&self, offset: u64, length: usize, out: &mut Vec<u8>) -> io::Result<usize> {
        os::io::pread_append_all(self.file.as_fd(), out, length, offset)
    }
}

/// A file in memory, for tests.
impl Source for &[u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn append(&self, offset: u64, length: usize, out: &mut Vec<u8>) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)).unwrap_or_default();
        let bytes = rest.get(..length).unwrap_or(rest);
        out.extend_from_slice(bytes);
        Ok(bytes.len())
    }
}

/// The part of a file that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// What is to be sent first. It is never longer than `moov` was but for a few hundred bytes for each track.
    pub head: Vec<u8>,
    /// The bytes of the file that follow.
    pub data: Range<u64>,
}

/// Cuts out the part that is asked for; `None` where that is the file as it is.
///
/// Memory is bounded by `moov`: its data, which [`Asked::max_buffer_size`] limits, and for a moment what is left of it
/// beside that.
///
/// # Errors
/// What is wrong with the file, or that nothing of it lies between the times.
pub fn cut(source: &dyn Source, asked: &Asked) -> Result<Option<Cut>, Fault> {
    let Some(parts) = Parts::read(source, asked)? else { return Ok(None) };
    let moov = parts.moov.filter(|moov| !moov.traks.is_empty()).ok_or(Fault::Missing("trak atoms were"))?;
    let mdat = parts.mdat.ok_or(Fault::Missing("mdat atom was"))?;
    assemble(parts.ftyp, moov, File { size: source.size(), mdat_end: mdat.end }, asked).map(Some)
}

fn assemble(ftyp: Option<Vec<u8>>, mut moov: Moov, file: File, asked: &Asked) -> Result<Cut, Fault> {
    let mut data = file.size..0;
    let Moov { bytes, traks, .. } = &mut moov;
    for trak in traks {
        let part = trak.crop(bytes, asked, file)?;
        data = data.start.min(part.start)..data.end.max(part.end);
    }
    if data.end <= data.start {
        return Err(Fault::Invalid("no data between start time and end time"));
    }
    if data.start >= file.mdat_end {
        return Err(Fault::OutOf { which: "start", atom: "mdat atom" });
    }
    Ok(head::write(ftyp, moov, data))
}

/// What is found in a file.
#[derive(Debug, Default)]
struct Parts {
    /// The data of `ftyp`.
    ftyp: Option<Vec<u8>>,
    moov: Option<Moov>,
    /// Where the data of `mdat` lies.
    mdat: Option<Range<u64>>,
}

impl Parts {
    /// Reads the outermost atoms; `None` where the whole file is asked for and `moov` stands where it should.
    fn read(source: &dyn Source, asked: &Asked) -> Result<Option<Self>, Fault> {
        let mut found = Self::default();
        let mut walk = Walk::new(source, 0..source.size());
        while let Some(atom) = walk.next()? {
            match &atom.name {
                b"ftyp" => found.ftyp(&atom, source, asked)?,
                b"mdat" => once(&mut found.mdat, "mdat", atom.data.clone())?,
                b"moov" => {
                    if found.mdat.is_none() && asked.is_whole() {
                        return Ok(None);
                    }
                    found.moov(&atom, source, asked)?;
                }
                _ => {}
            }
            if found.is_enough(&atom.name) {
                break;
            }
        }
        Ok(Some(found))
    }

    fn ftyp(&mut self, atom: &Outermost, source: &dyn Source, asked: &Asked) -> Result<(), Fault> {
        let length = atom.data.end - atom.data.start;
        if length > FTYP_MAX.min(asked.buffer_size) {
            return Err(Fault::FtypTooLarge(length));
        }
        once(&mut self.ftyp, "ftyp", read_exactly(source, atom.data.start, length)?)
    }

    fn moov(&mut self, atom: &Outermost, source: &dyn Source, asked: &Asked) -> Result<(), Fault> {
        if self.moov.is_some() {
            return Err(Fault::Duplicate("moov"));
        }
        let length = atom.data.end - atom.data.start;
        if length > asked.buffer_size.max(asked.max_buffer_size) {
            return Err(Fault::MoovTooLarge(length));
        }
        // The front of an atom that begins with its last bytes is read beyond its end, as nginx does.
        let behind = (source.size() - atom.data.end).min(LONG_HEADER as u64);
        let bytes = read_exactly(source, atom.data.start, length + behind)?;
        self.moov = Some(Moov::read(bytes, usize::try_from(length).unwrap_or(usize::MAX), asked)?);
        Ok(())
    }

    /// Whether what follows the atom that was read last does not matter.
    fn is_enough(&self, last: &Name) -> bool {
        match (&self.moov, &self.mdat) {
            (Some(_), Some(_)) if last == b"moov" => true,
            (Some(moov), Some(_)) => !moov.traks.is_empty(),
            (Some(moov), None) => moov.is_last,
            _ => false,
        }
    }
}

/// Bytes of a second of the whole file, on the average; `None` where it does not tell.
pub(super) fn bytes_per_second(source: &dyn Source) -> Option<u64> {
    let moov = Walk::new(source, 0..source.size()).find(b"moov")?;
    let mvhd = Walk::new(source, moov).find(b"mvhd")?;
    let length = (mvhd.end - mvhd.start).min(Times::MOVIE_LENGTH as u64);
    let times = Times::of_movie(&read_exactly(source, mvhd.start, length).ok()?).ok()?;
    let bytes = u128::from(source.size()) * u128::from(times.timescale);
    u64::try_from(bytes.checked_div(u128::from(times.duration))?).ok()
}

/// Bytes that must be there.
fn read_exactly(source: &dyn Source, offset: u64, length: u64) -> Result<Vec<u8>, Fault> {
    let wanted = usize::try_from(length).map_err(|_| Fault::MoovTooLarge(length))?;
    let mut bytes = Vec::with_capacity(wanted);
    match source.append(offset, wanted, &mut bytes).map_err(|error| Fault::of(&error))? {
        read if read < wanted => Err(Fault::ShortRead { read, wanted }),
        _ => Ok(bytes),
    }
}

/// An outermost atom.
struct Outermost {
    name: Name,
    /// Where its data lies in the file.
    data: Range<u64>,
}

/// Goes from atom to atom in a part of the file.
struct Walk<'a> {
    source: &'a dyn Source,
    /// Where the next one begins.
    at: u64,
    /// Where the last one ends.
    end: u64,
    /// Bytes that were read, from `window_at` on.
    window: Vec<u8>,
    window_at: u64,
    seen: usize,
}

impl<'a> Walk<'a> {
    /// Over the atoms that lie there.
    fn new(source: &'a dyn Source, range: Range<u64>) -> Self {
        Self { source, at: range.start, end: range.end, window: Vec::new(), window_at: 0, seen: 0 }
    }

    /// The data of the next atom of that name.
    fn find(&mut self, name: &Name) -> Option<Range<u64>> {
        loop {
            let atom = self.next().ok()??;
            if &atom.name == name {
                return Some(atom.data);
            }
        }
    }

    fn next(&mut self) -> Result<Option<Outermost>, Fault> {
        if self.at >= self.end {
            return Ok(None);
        }
        self.seen += 1;
        if self.seen > ATOMS_MAX {
            return Err(Fault::TooMany("atoms"));
        }
        let (at, room) = (self.at, self.end - self.at);
        let Some(atom) = Atom::parse(self.look()?, room)? else { return Ok(None) };
        let start = at + atom.header as u64;
        self.at = start + atom.data;
        Ok(Some(Outermost { name: atom.name, data: start..self.at }))
    }

    /// The bytes at the next atom: enough for its front, or all there are.
    fn look(&mut self) -> Result<&[u8], Fault> {
        let left = self.source.size() - self.at;
        let wanted = left.min(LONG_HEADER as u64);
        let is_there =
            self.at >= self.window_at && self.at + wanted <= self.window_at + self.window.len() as u64;
        if !is_there {
            self.window = read_exactly(self.source, self.at, left.min(LOOK))?;
            self.window_at = self.at;
        }
        let from = usize::try_from(self.at - self.window_at).unwrap_or(usize::MAX);
        Ok(self.window.get(from..).unwrap_or_default())
    }
}
