//! What can be wrong with a file, in the sentences of nginx's log.

use std::io;

use os::errlog::{Level, strerror};
use os::errno;

/// Why no part of a file can be sent. All of them are the file's fault but the first two, which are the disk's, and
/// those about times, which are the client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Reading failed with this number of the system's.
    Read(i32),
    /// The file became shorter while it was read.
    ShortRead {
        /// Bytes that were there.
        read: usize,
        /// Bytes that should have been.
        wanted: usize,
    },
    /// It ends within the front of an atom.
    Truncated,
    /// An atom is shorter than what stands in front of its data.
    AtomTooSmall(u64),
    /// An atom ends behind what holds it.
    AtomTooLarge(u64),
    /// More of this atom than anybody needs.
    TooMany(&'static str),
    /// The data of `ftyp` has so many bytes.
    FtypTooLarge(u64),
    /// The data of `moov` has so many bytes, which is over `mp4_max_buffer_size`.
    MoovTooLarge(u64),
    /// `moov` is compressed.
    Compressed,
    /// An atom's data is shorter than what has to be in it.
    TooSmall(&'static str),
    /// An atom comes twice.
    Duplicate(&'static str),
    /// The part that is asked for begins behind the end.
    StartExceeds,
    /// There is no such atom, in the words of the log.
    Missing(&'static str),
    /// The first or last sample lies behind those of this atom.
    OutOf {
        /// `start` or `end`.
        which: &'static str,
        /// The atom, and what is counted there.
        atom: &'static str,
    },
    /// A number is none that a table may have: what it is, in the words of the log.
    Invalid(&'static str),
}

impl Fault {
    pub(super) fn of(error: &io::Error) -> Self {
        Self::Read(error.raw_os_error().unwrap_or(errno::EINVAL))
    }

    /// How badly nginx takes it.
    pub(super) fn level(self) -> Level {
        match self {
            Self::Read(_) | Self::ShortRead { .. } => Level::Crit,
            _ => Level::Error,
        }
    }

    /// The line for the log about the file of this name.
    pub(super) fn sentence(self, file: &str) -> String {
        match self {
            Self::Read(number) => format!("pread() \"{file}\" failed ({number}: {})", strerror(number)),
            Self::ShortRead { read, wanted } => {
                format!("pread() read only {read} of {wanted} from \"{file}\"")
            }
            Self::Truncated => format!("\"{file}\" mp4 file truncated"),
            Self::AtomTooSmall(size) => format!("\"{file}\" mp4 atom is too small:{size}"),
            Self::AtomTooLarge(size) => format!("\"{file}\" mp4 atom too large:{size}"),
            Self::TooMany(atom) => format!("too many mp4 {atom} in \"{file}\""),
            Self::FtypTooLarge(size) => format!("\"{file}\" mp4 ftyp atom is too large:{size}"),
            Self::MoovTooLarge(size) => format!(
                "\"{file}\" mp4 moov atom is too large:{size}, \
                 you may want to increase mp4_max_buffer_size"
            ),
            Self::Compressed => format!("\"{file}\" mp4 compressed moov atom (cmov) is not supported"),
            Self::TooSmall(atom) => format!("\"{file}\" mp4 {atom} atom too small"),
            Self::Duplicate(atom) => format!("duplicate mp4 {atom} atom in \"{file}\""),
            Self::StartExceeds => format!("\"{file}\" mp4 start time exceeds file duration"),
            Self::Missing(atoms) => format!("no mp4 {atoms} found in \"{file}\""),
            Self::OutOf { which, atom } => format!("{which} time is out mp4 {atom} in \"{file}\""),
            Self::Invalid(what) => format!("{what} in \"{file}\""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_those_of_nginx() {
        let check = |fault: Fault, expected: &str| assert_eq!(fault.sentence("/a"), expected);
        check(Fault::Read(errno::EACCES), "pread() \"/a\" failed (13: Permission denied)");
        check(Fault::ShortRead { read: 3, wanted: 8 }, "pread() read only 3 of 8 from \"/a\"");
        check(Fault::Truncated, "\"/a\" mp4 file truncated");
        check(Fault::AtomTooSmall(7), "\"/a\" mp4 atom is too small:7");
        check(Fault::AtomTooLarge(9), "\"/a\" mp4 atom too large:9");
        check(Fault::TooMany("trak atoms"), "too many mp4 trak atoms in \"/a\"");
        check(Fault::FtypTooLarge(1025), "\"/a\" mp4 ftyp atom is too large:1025");
        check(
            Fault::MoovTooLarge(5),
            "\"/a\" mp4 moov atom is too large:5, you may want to increase mp4_max_buffer_size",
        );
        check(Fault::Compressed, "\"/a\" mp4 compressed moov atom (cmov) is not supported");
        check(Fault::TooSmall("stts"), "\"/a\" mp4 stts atom too small");
        check(Fault::Duplicate("vmhd/smhd"), "duplicate mp4 vmhd/smhd atom in \"/a\"");
        check(Fault::StartExceeds, "\"/a\" mp4 start time exceeds file duration");
        check(Fault::Missing("mdat atom was"), "no mp4 mdat atom was found in \"/a\"");
        check(
            Fault::OutOf { which: "end", atom: "stco chunks" },
            "end time is out mp4 stco chunks in \"/a\"",
        );
        check(Fault::Invalid("zero sync sample"), "zero sync sample in \"/a\"");
        assert_eq!(Fault::Read(5).level(), Level::Crit);
        assert_eq!(Fault::Truncated.level(), Level::Error);
    }
}
