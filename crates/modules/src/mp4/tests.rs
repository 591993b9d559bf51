//! Small films, whole and broken, and what is left of each atom between two times.
//!
//! What nginx makes of real ones is compared with it in `scenarios/mp4`.

use std::ops::Range;

use super::atom::word;
use super::file::bytes_per_second;
use super::*;

/// Where the data of `mdat` begins in [`film`].
const DATA: u32 = 24;
/// How many bytes that is.
const DATA_LENGTH: u32 = 200;

fn atom(name: &str, pieces: &[&[u8]]) -> Vec<u8> {
    let data = pieces.concat();
    [&(8 + data.len() as u32).to_be_bytes(), name.as_bytes(), &data].concat()
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// Version and flags, the number of rows, the rows.
fn table(name: &str, rows: &[&[u32]]) -> Vec<u8> {
    atom(name, &[&words(&[0, rows.len() as u32]), &words(&rows.concat())])
}

/// The number of rows behind the size of all samples.
fn stsz(uniform: u32, sizes: &[u32]) -> Vec<u8> {
    atom("stsz", &[&words(&[0, uniform, sizes.len() as u32]), &words(sizes)])
}

/// Ten samples of 100 ms in three chunks: of four, four and two samples, and of 46, 62 and 37 bytes.
fn usual() -> Vec<Vec<u8>> {
    vec![
        atom("stsd", &[&[0; 16]]),
        table("stts", &[&[10, 100]]),
        table("stss", &[&[1], &[5], &[9]]),
        table("ctts", &[&[4, 0], &[6, 50]]),
        table("stsc", &[&[1, 4, 1], &[3, 2, 1]]),
        stsz(0, &[10, 11, 12, 13, 14, 15, 16, 17, 18, 19]),
        table("stco", &[&[DATA], &[DATA + 46], &[DATA + 108]]),
    ]
}

/// The usual tables with some replaced, added or, by an atom without a table, taken away.
fn usual_but(others: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let name = |table: &Vec<u8>| table[4..8].to_vec();
    let mut tables = usual();
    tables.retain(|table| !others.iter().any(|other| name(other) == name(table)));
    tables.extend(others.iter().filter(|other| other.len() > 8).cloned());
    tables
}

fn mvhd(duration: u32) -> Vec<u8> {
    atom("mvhd", &[&words(&[0, 0, 0, 1000, duration]), &[0; 80]])
}

fn tkhd(duration: u32) -> Vec<u8> {
    atom("tkhd", &[&words(&[0, 0, 0, 1, 0, duration]), &[0; 60]])
}

fn mdhd(duration: u32) -> Vec<u8> {
    atom("mdhd", &[&words(&[0, 0, 0, 1000, duration, 0])])
}

fn stbl(tables: &[Vec<u8>]) -> Vec<u8> {
    atom("stbl", &[&tables.concat()])
}

fn minf(stbl: &[u8]) -> Vec<u8> {
    atom("minf", &[&atom("vmhd", &[b"v"]), &atom("dinf", &[b"d"]), stbl])
}

fn mdia(minf: &[u8]) -> Vec<u8> {
    atom("mdia", &[&mdhd(1000), &atom("hdlr", &[b"h"]), minf])
}

fn trak(mdia: &[u8]) -> Vec<u8> {
    atom("trak", &[&tkhd(1000), mdia])
}

fn trak_of(tables: &[Vec<u8>]) -> Vec<u8> {
    trak(&mdia(&minf(&stbl(tables))))
}

fn moov(traks: &[Vec<u8>]) -> Vec<u8> {
    atom("moov", &[&mvhd(1000), &traks.concat()])
}

fn ftyp() -> Vec<u8> {
    atom("ftyp", &[b"isommp41"])
}

fn mdat() -> Vec<u8> {
    atom("mdat", &[&(0..DATA_LENGTH as u8).collect::<Vec<_>>()])
}

/// A film with this `moov` behind its data.
fn film(moov: &[u8]) -> Vec<u8> {
    [ftyp(), mdat(), moov.to_vec()].concat()
}

fn asked(args: &str) -> Asked {
    let (start_ms, length_ms) = times(args.as_bytes()).expect("times");
    Asked {
        start_ms,
        length_ms,
        buffer_size: 4096,
        max_buffer_size: 16384,
        starts_with_key_frame: args.contains("key"),
    }
}

fn cut_out(film: &[u8], args: &str) -> Result<Option<Cut>, Fault> {
    cut(&film, &asked(args))
}

/// The data of the atom at the end of a path of names.
fn inside<'a>(mut atoms: &'a [u8], path: &str) -> Option<&'a [u8]> {
    for name in path.split('/') {
        loop {
            let size = word(atoms, 0)? as usize;
            let (atom, rest) = atoms.split_at_checked(size)?;
            if &atom[4..8] == name.as_bytes() {
                atoms = &atom[8..];
                break;
            }
            atoms = rest;
        }
    }
    Some(atoms)
}

/// The words of a table, without version and flags.
fn table_of(head: &[u8], name: &str) -> Option<Vec<u32>> {
    let data = inside(head, &format!("moov/trak/mdia/minf/stbl/{name}"))?;
    Some(data[4..].chunks(4).map(|bytes| word(bytes, 0).expect("a word")).collect())
}

#[test]
fn times_are_asked_for_with_up_to_three_digits_that_count() {
    let check = |args: &str, expected: Option<(u64, u64)>| {
        let found = times(args.as_bytes()).map(|(start, length)| (start, length.map_or(0, NonZeroU64::get)));
        assert_eq!(found, expected, "{args}");
    };
    check("", None);
    check("a=1", None);
    check("start=", None);
    check("start=x", None);
    check("start=-1", None);
    check("start=1..2", None);
    check("start=9223372036854775808", None);
    check("start=9223372036854775", Some((9_223_372_036_854_775_000, 0)));
    check("start=9223372036854776", None);
    check("start=0", Some((0, 0)));
    check("start=.", Some((0, 0)));
    check("start=1", Some((1000, 0)));
    check("start=1.5", Some((1500, 0)));
    check("start=1.23456789012345678901234567890", Some((1234, 0)));
    check("start=1.2x", None);
    check("end=2", Some((0, 2000)));
    check("end=0", None);
    check("start=1&end=2.5", Some((1000, 1500)));
    check("start=2&end=1", Some((2000, 0)));
    check("start=1&end=1", Some((1000, 0)));
    check("start=x&end=1", Some((0, 1000)));
}

#[test]
fn what_is_left_of_each_table() {
    let film = film(&moov(&[trak_of(&usual())]));
    let check = |args: &str, name: &str, expected: &[u32]| {
        let cut = cut_out(&film, args).expect("a film").expect("a part");
        assert_eq!(table_of(&cut.head, name).unwrap_or_default(), expected, "{args} {name}");
    };
    check("start=0", "stts", &[1, 10, 100]);
    check("start=0.3", "stts", &[1, 7, 100]);
    check("start=0.399", "stts", &[1, 7, 100]);
    check("end=0.5", "stts", &[1, 5, 100]);
    check("start=0.3&end=0.5", "stts", &[1, 2, 100]);
    check("start=0.6&end=9", "stts", &[1, 4, 100]);

    check("start=0", "stss", &[3, 1, 5, 9]);
    check("start=0.4", "stss", &[2, 1, 5]);
    check("start=0.5", "stss", &[1, 4]);
    check("start=0.9", "stss", &[0]);
    check("end=0.8", "stss", &[2, 1, 5]);
    check("start=0.1&end=0.5", "stss", &[1, 4]);
    check("start=0.5&end=0.7", "stss", &[0]);

    check("start=0", "ctts", &[2, 4, 0, 6, 50]);
    check("start=0.2", "ctts", &[2, 2, 0, 6, 50]);
    check("start=0.5", "ctts", &[1, 5, 50]);
    check("end=0.3", "ctts", &[1, 3, 0]);
    check("start=0.3&end=0.6", "ctts", &[2, 1, 0, 2, 50]);

    check("start=0", "stsc", &[2, 1, 4, 1, 3, 2, 1]);
    check("start=0.1", "stsc", &[3, 1, 3, 1, 2, 4, 1, 3, 2, 1]);
    check("start=0.5", "stsc", &[2, 1, 3, 1, 2, 2, 1]);
    check("start=0.9", "stsc", &[1, 1, 1, 1]);
    check("end=0.8", "stsc", &[1, 1, 4, 1]);
    check("end=0.7", "stsc", &[2, 1, 4, 1, 2, 3, 1]);
    check("end=0.2", "stsc", &[1, 1, 2, 1]);
    check("start=0.5&end=0.9", "stsc", &[2, 1, 3, 1, 2, 1, 1]);

    check("start=0.5", "stsz", &[0, 5, 15, 16, 17, 18, 19]);
    check("start=0.5&end=0.7", "stsz", &[0, 2, 15, 16]);

    // A key frame is the first sample then, which is the fifth.
    check("start=0.7&key", "stts", &[1, 6, 100]);
    check("start=0.7&key", "stss", &[2, 1, 5]);
    check("start=0.7&end=0.75&key", "stts", &[1, 3, 100]);
    check("start=0.8&key", "stts", &[1, 2, 100]);
}

#[test]
fn chunks_lie_where_the_tables_say() {
    let check = |offsets: Vec<u8>, args: &str, data: Range<u64>, chunks: &[u64]| {
        let film = film(&moov(&[trak_of(&usual_but(&[atom("stco", &[]), offsets]))]));
        let cut = cut_out(&film, args).expect("a film").expect("a part");
        assert_eq!(cut.data, data, "{args}");
        // From the first byte that is sent on, not from the first one of the file.
        let moved = |place: u32| u64::from(place) + data.start - cut.head.len() as u64;
        let found: Vec<u64> = match table_of(&cut.head, "stco") {
            Some(rows) => rows[1..].iter().map(|row| moved(*row)).collect(),
            None => {
                let rows = table_of(&cut.head, "co64").expect("offsets");
                rows[1..].chunks(2).map(|row| moved(row[1])).collect()
            }
        };
        assert_eq!(found, chunks, "{args}");
        let mdat = cut.head.len() - 8;
        assert_eq!(word(&cut.head, mdat).map(u64::from), Some(8 + data.end - data.start));
    };
    let short = || table("stco", &[&[DATA], &[DATA + 46], &[DATA + 108]]);
    let long = || table("co64", &[&[0, DATA], &[0, DATA + 46], &[0, DATA + 108]]);
    for offsets in [short, long] {
        check(offsets(), "start=0", 24..224, &[24, 70, 132]);
        check(offsets(), "start=0.1", 34..224, &[34, 70, 132]);
        check(offsets(), "start=0.4", 70..224, &[70, 132]);
        check(offsets(), "start=0.9", 150..224, &[150]);
        check(offsets(), "end=0.2", 24..45, &[24]);
        check(offsets(), "end=0.8", 24..132, &[24, 70]);
        check(offsets(), "start=0.1&end=0.9", 34..150, &[34, 70, 132]);
        check(offsets(), "start=0.5&end=0.6", 84..99, &[84]);
    }
}

#[test]
fn a_film_lasts_as_long_as_its_part() {
    let film = film(&moov(&[trak_of(&usual())]));
    let check = |args: &str, of_movie, of_trak, of_media| {
        let cut = cut_out(&film, args).expect("a film").expect("a part");
        let duration = |path, at| inside(&cut.head, path).and_then(|data| word(data, at));
        let found = ["moov/mvhd", "moov/trak/tkhd", "moov/trak/mdia/mdhd"].map(|path| {
            let at = if path.ends_with("tkhd") { 20 } else { 16 };
            duration(path, at)
        });
        assert_eq!(found, [of_movie, of_trak, of_media].map(Some), "{args}");
    };
    check("start=0", 1000, 1000, 1000);
    check("start=0.4", 600, 600, 600);
    check("end=0.4", 400, 400, 400);
    check("start=0.9&end=5", 100, 100, 100);
    // The media is longer by what leads there from the key frame.
    check("start=0.7&key", 300, 300, 600);
    check("start=0.7&end=0.8&key", 100, 100, 400);
}

#[test]
fn durations_may_be_long() {
    let long = |name: &str, before: &[u32], rest: usize| {
        atom(name, &[&[1, 0, 0, 0], &words(before), &0x1_0000_0000u64.to_be_bytes(), &vec![0; rest]])
    };
    let media = atom("mdia", &[&long("mdhd", &[0, 0, 0, 0, 1000], 4), &minf(&stbl(&usual()))]);
    let track = atom("trak", &[&long("tkhd", &[0, 0, 0, 0, 1, 0], 60), &media]);
    let film = film(&atom("moov", &[&long("mvhd", &[0, 0, 0, 0, 1000], 80), &track]));
    let cut = cut_out(&film, "start=0.5").expect("a film").expect("a part");
    for (path, at) in [("moov/mvhd", 24), ("moov/trak/tkhd", 28), ("moov/trak/mdia/mdhd", 24)] {
        let duration = inside(&cut.head, path).and_then(|data| super::atom::double(data, at));
        assert_eq!(duration, Some(0x1_0000_0000 - 500), "{path}");
    }
}

#[test]
fn an_edit_list_skips_what_leads_from_a_key_frame() {
    let film = film(&moov(&[trak_of(&usual())]));
    let edits = |args: &str| {
        let cut = cut_out(&film, args).expect("a film").expect("a part");
        inside(&cut.head, "moov/trak/edts/elst").map(<[u8]>::to_vec)
    };
    let expected = [&[1, 0, 0, 0], &words(&[1, 0, 300, 0, 300, 0x1_0000])[..]].concat();
    assert_eq!(edits("start=0.7&key"), Some(expected));
    assert_eq!(edits("start=0.7"), None);
    assert_eq!(edits("start=0.4&key"), None);
}

#[test]
fn a_key_frame_may_lie_in_front_of_several_rows_of_times() {
    let tables = usual_but(&[table("stts", &[&[2, 100], &[3, 50], &[5, 130]]), table("stss", &[&[2]])]);
    let film = film(&moov(&[trak_of(&tables)]));
    let cut = cut_out(&film, "start=0.5&key").expect("a film").expect("a part");
    assert_eq!(table_of(&cut.head, "stts"), Some(vec![3, 1, 100, 3, 50, 5, 130]));
    let elst = inside(&cut.head, "moov/trak/edts/elst").expect("edits");
    assert_eq!(word(elst, 20), Some(100 + 150 + 130));
}

#[test]
fn atoms_that_are_not_needed_are_left_out() {
    let tables = usual_but(&[table("sdtp", &[&[1]])]);
    let parts = [mvhd(1000), trak_of(&tables), atom("udta", &[b"name"])];
    let whole = [ftyp(), atom("free", &[b"free"]), mdat(), atom("moov", &[&parts.concat()])].concat();
    let shifted = cut_out(&whole, "start=0").expect("a film").expect("a part");
    let plain = cut_out(&film(&moov(&[trak_of(&usual())])), "start=0").expect("a film").expect("a part");
    assert_eq!(inside(&shifted.head, "moov/udta"), None);
    assert_eq!(shifted.head.len(), plain.head.len());
    let kept = ["moov/trak/mdia/hdlr", "moov/trak/mdia/minf/vmhd", "moov/trak/mdia/minf/dinf", "ftyp"];
    let kept = kept.map(|path| inside(&shifted.head, path).map(<[u8]>::to_vec));
    assert_eq!(kept, [&b"h"[..], b"v", b"d", b"isommp41"].map(|data| Some(data.to_vec())));
}

#[test]
fn a_whole_film_is_sent_as_it_is_where_it_is_described_in_front() {
    let described = moov(&[trak_of(&usual())]);
    let in_front = [ftyp(), described.clone(), mdat()].concat();
    assert_eq!(cut_out(&in_front, "start=0"), Ok(None));
    assert!(matches!(cut_out(&in_front, "start=0.1"), Ok(Some(_))));
    assert!(matches!(cut_out(&film(&described), "start=0"), Ok(Some(_))));
}

#[test]
fn tracks_that_end_before_the_part_are_left_out() {
    let short = atom("trak", &[&tkhd(300), &mdia(&minf(&stbl(&usual())))]);
    let media = atom("mdia", &[&mdhd(300), &minf(&stbl(&usual()))]);
    let short_media = atom("trak", &[&tkhd(1000), &media]);
    let film = film(&moov(&[short, short_media, trak_of(&usual())]));
    let traks = |args: &str| {
        let cut = cut_out(&film, args).expect("a film").expect("a part");
        cut.head.windows(4).filter(|name| name == b"trak").count()
    };
    assert_eq!(traks("start=0.29"), 3);
    assert_eq!(traks("start=0.3"), 1);
}

#[test]
fn a_zero_ends_the_atoms_of_all_levels() {
    let one = trak_of(&usual());
    let two = atom("moov", &[&mvhd(1000), &one, &[0; 4], &one]);
    let cut = cut_out(&film(&two), "start=0").expect("a film").expect("a part");
    assert_eq!(cut.head.windows(4).filter(|name| name == b"trak").count(), 1);
    let in_front = [ftyp(), two, mdat()].concat();
    assert_eq!(cut_out(&in_front, "start=0.1"), Err(Fault::Missing("mdat atom was")));
}

/// As in nginx, which takes the chunk for empty then, unless it is the last one of its row of `stsc`.
#[test]
fn a_part_within_a_chunk_that_is_cut_in_front_has_no_end() {
    let check = |args: &str, expected: Result<Range<u64>, Fault>| {
        let film = film(&moov(&[trak_of(&usual())]));
        let data = cut_out(&film, args).map(|cut| cut.expect("a part").data);
        assert_eq!(data, expected, "{args}");
    };
    check("start=0.1&end=0.3", Err(Fault::Invalid("no data between start time and end time")));
    check("start=0.1&end=0.4", Err(Fault::Invalid("no data between start time and end time")));
    check("start=0.5&end=0.7", Ok(84..115));
    check("end=0.3", Ok(24..57));
}

#[test]
fn samples_of_one_size_are_not_counted() {
    let film = film(&moov(&[trak_of(&usual_but(&[stsz(14, &[])]))]));
    let cut = cut_out(&film, "start=0.1&end=0.7").expect("a film").expect("a part");
    assert_eq!(table_of(&cut.head, "stsz"), Some(vec![14, 0]));
    assert_eq!(cut.data, 24..70);
}

#[test]
fn broken_films_are_told_of() {
    let check = |film: Vec<u8>, args: &str, expected: Fault| {
        assert_eq!(cut_out(&film, args), Err(expected), "{expected:?}");
    };
    let tables = |others: &[Vec<u8>]| film(&moov(&[trak_of(&usual_but(others))]));
    let twice = |name: &str| {
        let again = usual().into_iter().find(|table| &table[4..8] == name.as_bytes());
        film(&moov(&[trak_of(&[usual(), again.into_iter().collect()].concat())]))
    };
    let whole = film(&moov(&[trak_of(&usual())]));
    let out = |which, atom| Fault::OutOf { which, atom };

    // The file as a whole.
    check(vec![], "start=0", Fault::Missing("trak atoms were"));
    check(whole[..whole.len() - 1].to_vec(), "start=0", Fault::AtomTooLarge(whole.len() as u64 - 224));
    check([whole.clone(), vec![0, 0]].concat()[..226].to_vec(), "start=0", Fault::Truncated);
    check([ftyp(), words(&[5])].concat(), "start=0", Fault::AtomTooSmall(5));
    check([ftyp(), words(&[1, 0, 0, 15])].concat(), "start=0", Fault::AtomTooSmall(15));
    check(vec![atom("free", &[]); 5000].concat(), "start=0", Fault::TooMany("atoms"));
    check([ftyp(), ftyp()].concat(), "start=0", Fault::Duplicate("ftyp"));
    check(atom("ftyp", &[&[0; 1025]]), "start=0", Fault::FtypTooLarge(1025));
    check([mdat(), mdat()].concat(), "start=0", Fault::Duplicate("mdat"));
    check([mdat(), atom("moov", &[&[0; 16385]])].concat(), "start=0", Fault::MoovTooLarge(16385));
    check([moov(&[]), moov(&[])].concat(), "start=1", Fault::Duplicate("moov"));
    check(moov(&[trak_of(&usual())]), "start=0.1", Fault::Missing("mdat atom was"));
    check([mdat(), moov(&[])].concat(), "start=0", Fault::Missing("trak atoms were"));
    check(film(&atom("moov", &[&atom("cmov", &[])])), "start=0", Fault::Compressed);
    check(film(&atom("moov", &vec![&atom("trak", &[])[..]; 1025])), "start=0", Fault::TooMany("trak atoms"));
    check(film(&atom("moov", &[&[0, 0]])), "start=0", Fault::Truncated);

    // Times.
    check(whole.clone(), "start=1.001", Fault::StartExceeds);
    check(whole.clone(), "start=1", Fault::Missing("trak atoms were"));
    check(whole.clone(), "start=9223372036854775", Fault::StartExceeds);
    check(film(&atom("moov", &[&atom("mvhd", &[&[0; 99]])])), "start=0", Fault::TooSmall("mvhd"));
    check(film(&atom("moov", &[&atom("mvhd", &[&[1; 111]])])), "start=0", Fault::TooSmall("mvhd"));
    check(film(&atom("moov", &[&mvhd(1), &mvhd(1)])), "start=0", Fault::Duplicate("mvhd"));
    let track = |atoms: &[Vec<u8>]| film(&moov(&[atom("trak", &[&atoms.concat()])]));
    check(track(&[atom("tkhd", &[&[0; 83]])]), "start=0", Fault::TooSmall("tkhd"));
    check(track(&[tkhd(1), tkhd(1)]), "start=0", Fault::Duplicate("tkhd"));
    check(track(&[atom("mdia", &[&mdhd(1), &mdhd(1)])]), "start=0", Fault::Duplicate("mdhd"));
    check(track(&[atom("mdia", &[&atom("mdhd", &[&[0; 23]])])]), "start=0", Fault::TooSmall("mdhd"));
    check(track(&[atom("mdia", &[]), atom("mdia", &[])]), "start=0", Fault::Duplicate("mdia"));

    // What holds the tables.
    let media = |atoms: &[Vec<u8>]| track(&[atom("mdia", &[&atoms.concat()])]);
    let again = |name: &str| [atom(name, &[]), atom(name, &[])];
    check(media(&again("hdlr")), "start=0", Fault::Duplicate("hdlr"));
    check(media(&again("minf")), "start=0", Fault::Duplicate("minf"));
    let about = |atoms: &[Vec<u8>]| media(&[atom("minf", &[&atoms.concat()])]);
    check(about(&again("dinf")), "start=0", Fault::Duplicate("dinf"));
    check(about(&again("stbl")), "start=0", Fault::Duplicate("stbl"));
    check(about(&[atom("vmhd", &[]), atom("smhd", &[])]), "start=0", Fault::Duplicate("vmhd/smhd"));

    // The tables.
    for name in ["stsd", "stts", "stss", "ctts", "stsc", "stsz", "stco"] {
        let said = if name == "stco" { "stco/co64" } else { name };
        check(twice(name), "start=0", Fault::Duplicate(said));
        check(tables(&[atom(name, &[b"1234567"])]), "start=0", Fault::TooSmall(name));
        if name != "stsd" {
            let short = atom(name, &[&words(&[0, 0, 9, 9])]);
            let short = if name == "stsz" { short } else { atom(name, &[&words(&[0, 9, 9])]) };
            check(tables(&[short]), "start=0", Fault::TooSmall(name));
        }
    }
    check(tables(&[table("co64", &[])]), "start=0", Fault::Duplicate("stco/co64"));
    check(tables(&[atom("stts", &[])]), "start=0", Fault::Missing("stts atoms were"));
    check(tables(&[atom("stsc", &[])]), "start=0", Fault::Missing("stsc atoms were"));
    check(tables(&[atom("stco", &[])]), "start=0", Fault::Missing("stco atoms were"));

    check(tables(&[table("stts", &[&[5, 100]])]), "start=0.5", out("start", "stts samples"));
    check(tables(&[table("stts", &[&[10, 0]])]), "start=0.5", out("start", "stts samples"));
    check(tables(&[table("stss", &[&[1], &[0]])]), "start=0.7&key", Fault::Invalid("zero sync sample"));
    check(tables(&[table("stsc", &[])]), "start=0", Fault::Invalid("zero number of entries in stsc atom"));
    let unordered = Fault::Invalid("unordered mp4 stsc chunks");
    check(tables(&[table("stsc", &[&[3, 1, 1], &[1, 1, 1]])]), "start=0.5", unordered);
    check(tables(&[table("stsc", &[&[9, 1, 1]])]), "start=0.5", unordered);
    check(tables(&[table("stsc", &[&[1, 1, 1]])]), "start=0.5", out("start", "stsc chunks"));
    check(tables(&[table("stsc", &[&[1, 2, 1]])]), "end=0.9", out("end", "stsc chunks"));
    check(tables(&[table("stsc", &[&[4, 0, 1]])]), "start=0", Fault::Invalid("zero number of samples"));
    check(tables(&[table("stsc", &[&[0, 4, 1]])]), "start=0", Fault::Invalid("zero chunk"));

    check(tables(&[stsz(0, &[1, 2])]), "start=0.5", out("start", "stsz samples"));
    check(tables(&[stsz(0, &[1, 2])]), "end=0.5", out("end", "stsz samples"));
    let large = |at: usize| {
        let mut sizes = [1; 10];
        sizes[at] = 9999;
        tables(&[stsz(0, &sizes)])
    };
    check(large(0), "start=0.1", Fault::Invalid("too large mp4 start samples size"));
    check(large(0), "end=0.1", Fault::Invalid("too large mp4 end samples size"));

    let far = Fault::Invalid("too large chunk offset");
    check(tables(&[table("stco", &[&[24], &[70], &[9999]])]), "start=0.8", far);
    check(tables(&[table("stco", &[&[u32::MAX], &[70], &[132]])]), "start=0.1", far);
    check(tables(&[atom("stco", &[]), table("co64", &[&[u32::MAX, u32::MAX]])]), "start=0.1", far);
    check(tables(&[table("stco", &[&[24]]), table("stsc", &[&[1, 10, 1]])]), "start=1", {
        Fault::Missing("trak atoms were")
    });
    let exact = [table("stco", &[&[24]]), table("stsc", &[&[1, 5, 1]])];
    check(tables(&exact), "start=0.5", out("start", "stco chunks"));
    check(whole.clone(), "start=0.4&end=0.401", Fault::Invalid("no data between start time and end time"));
    let behind = [table("stco", &[&[224], &[224], &[224]]), stsz(0, &[0; 10])];
    check(tables(&behind), "end=0.1", Fault::Invalid("no data between start time and end time"));
    check(tables(&[table("stco", &[&[230], &[230], &[230]])]), "start=0", {
        Fault::Invalid("no data between start time and end time")
    });
    check(tables(&[table("stco", &[&[230], &[230], &[230]])]), "end=0.1", out("start", "mdat atom"));
}

#[test]
fn how_many_bytes_are_played_in_a_second() {
    let film = film(&moov(&[trak_of(&usual())]));
    let check = |film: &[u8], expected: Option<u64>| assert_eq!(bytes_per_second(&film), expected);
    check(&film, Some(film.len() as u64));
    check(&[mdat(), atom("moov", &[&mvhd(2000)])].concat(), Some(162));
    check(&[mdat(), atom("moov", &[&mvhd(0)])].concat(), None);
    check(&[mdat(), atom("moov", &[])].concat(), None);
    check(&mdat(), None);
    check(b"", None);
}
