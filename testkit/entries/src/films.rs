//! Films that are cut.
//!
//! The bytes are read as a file, and as the tables of one that is whole but for them.

use modules::mp4::{Asked, Cut, cut};

pub(crate) const ATOMS: &[&[u8]] = &[
    b"\0\0\0\x18stts\0\0\0\0\0\0\0\x01\0\0\0\x0a\0\0\0\x64",
    b"\0\0\0\x18stss\0\0\0\0\0\0\0\x02\0\0\0\x01\0\0\0\x05",
    b"\0\0\0\x18ctts\0\0\0\0\0\0\0\x01\0\0\0\x0a\0\0\0\x32",
    b"\0\0\0\x1cstsc\0\0\0\0\0\0\0\x01\0\0\0\x01\0\0\0\x04\0\0\0\x01",
    b"\0\0\0\x28stsc\0\0\0\0\0\0\0\x02\0\0\0\x01\0\0\0\x04\0\0\0\x01\0\0\0\x03\0\0\0\x02\0\0\0\x01",
    b"\0\0\0\x14stsz\0\0\0\0\0\0\0\x04\0\0\0\x0a",
    b"\0\0\0\x20stsz\0\0\0\0\0\0\0\0\0\0\0\x03\0\0\0\x01\0\0\0\x02\0\0\0\x03",
    b"\0\0\0\x1cstco\0\0\0\0\0\0\0\x03\0\0\0\x18\0\0\0\x20\0\0\0\x28",
    b"\0\0\0\x20co64\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x18\0\0\0\0\0\0\0\x20",
    b"\0\0\0\x10mdat12345678",
    b"\0\0\0\x01moov\0\0\0\0\0\0\0\x18",
    b"\0\0\0\x08trak",
    b"\xff\xff\xff\xff",
    b"\0\0\0\x01",
    b"\0\0\0\0",
];

/// From where to where is asked for, milliseconds, and whether from a key frame on.
const PARTS: [(u64, u64, bool); 5] =
    [(0, 0, false), (500, 0, true), (0, 1100, false), (700, 600, true), (i64::MAX as u64, 1, false)];

pub(crate) fn film(bytes: &[u8]) {
    cut_all(bytes);
    cut_all(&around(bytes));
}

/// A film of a second whose tables are these bytes.
fn around(tables: &[u8]) -> Vec<u8> {
    let atom = |name: &[u8; 4], pieces: &[&[u8]]| {
        let data = pieces.concat();
        [&(data.len() as u32 + 8).to_be_bytes(), &name[..], &data].concat()
    };
    let times = |before: usize, rest: usize| {
        let second = 1000u32.to_be_bytes();
        [&vec![0; before][..], &second, &second, &vec![0; rest]].concat()
    };
    let minf = atom(b"minf", &[&atom(b"stbl", &[tables])]);
    let mdia = atom(b"mdia", &[&atom(b"mdhd", &[&times(12, 4)]), &minf]);
    let trak = atom(b"trak", &[&atom(b"tkhd", &[&times(16, 60)]), &mdia]);
    let moov = atom(b"moov", &[&atom(b"mvhd", &[&times(12, 80)]), &trak]);
    [atom(b"mdat", &[&[0; 200]]), moov].concat()
}

fn cut_all(bytes: &[u8]) {
    for (start_ms, length_ms, starts_with_key_frame) in PARTS {
        let asked = Asked {
            start_ms,
            length_ms: length_ms.try_into().ok(),
            buffer_size: 1 << 10,
            max_buffer_size: 1 << 20,
            starts_with_key_frame,
        };
        if let Ok(Some(part)) = cut(&bytes, &asked) {
            is_film(&part, bytes.len());
        }
    }
}

/// Atoms fill what they hold, the data lies in the file, and nothing grew.
fn is_film(part: &Cut, length: usize) {
    let Cut { head, data } = part;
    assert!(data.start < data.end && data.end <= length as u64, "{data:?} of {length} bytes");
    let traks = head.windows(4).filter(|name| name == b"trak").count();
    assert!(head.len() <= length + 16 + traks * 100, "{} bytes of {length}", head.len());
    let all = filled(head, data.end - data.start);
    assert!(all.contains(b"moov") && all.last() == Some(b"mdat"), "{}", head.escape_ascii());
}

/// The names of the atoms, of which the last one goes `behind` bytes beyond these.
fn filled(mut atoms: &[u8], behind: u64) -> Vec<[u8; 4]> {
    const PARENTS: [&[u8; 4]; 6] = [b"moov", b"trak", b"edts", b"mdia", b"minf", b"stbl"];
    let mut names = Vec::new();
    while let Some((front, rest)) = atoms.split_first_chunk::<8>() {
        let [a, b, c, d, name @ ..] = *front;
        let size = u32::from_be_bytes([a, b, c, d]) as usize;
        names.push(name);
        if rest.is_empty() {
            assert_eq!(size as u64, 8 + behind, "{}", name.escape_ascii());
            return names;
        }
        let (data, next) = rest.split_at_checked(size - 8).expect("an atom within what holds it");
        if PARENTS.contains(&&name) && !data.is_empty() {
            filled(data, 0);
        }
        atoms = next;
    }
    names
}
