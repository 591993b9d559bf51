//! A whole zone on a real directory: stored, found, bounded, spoiled, purged, found again by the next run.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, SystemTime};

use crate::keeper::{Stop, load, may_be_overrun, purge_files, tidy};
use crate::testing::{Directory, directory};
use crate::{
    Ask, Body, Draft, Filling, Follow, Found, Key, Lease, Levels, Locked, Meta, Mode, Options, Pace, Phase,
    Piece, Purge, Purged, Stored, Ticket, Writer, Zone,
};

const NOW: u64 = 1_800_000_000;

fn options(path: &Path) -> Options {
    Options {
        path: path.to_owned(),
        levels: Levels::from([1, 2, 0]),
        use_temp_path: false,
        keys_size: 1 << 20,
        inactive_s: 600,
        max_size: u64::MAX,
        min_free: 0,
        memory: 0,
        manager: Pace::default(),
        loader: Pace { files: 2, sleep_ms: 0, threshold_ms: 1000 },
        purger: Pace { files: 2, sleep_ms: 0, threshold_ms: 1000 },
    }
}

struct Store {
    zone: Arc<Zone>,
    directory: Directory,
}

/// A zone on a new directory.
fn store(change: impl FnOnce(&mut Options)) -> Store {
    let directory = directory("zone");
    let mut options = options(directory.path());
    change(&mut options);
    Store { zone: Arc::new(Zone::new("one", options)), directory }
}

fn ask<'t>(text: &'t str, now_s: u64) -> Ask<'t> {
    let key = Key::of(text.as_bytes());
    Ask {
        key,
        main: key,
        text: text.as_bytes(),
        gone: 0,
        stale: 0,
        min_uses: 1,
        uses: 1,
        wants_file: false,
        now_s,
    }
}

fn meta() -> Meta {
    Meta { valid_until: i64::MAX, ..Meta::default() }
}

fn draft(text: &str, meta: Meta) -> Draft {
    let key = Key::of(text.as_bytes());
    Draft { key, main: key, text: text.into(), meta, head: b"HTTP/1.1 200 OK\r\n\r\n".to_vec() }
}

impl Store {
    /// The same directory in the next run.
    fn next_run(&self) -> Arc<Zone> {
        Arc::new(Zone::new("one", self.zone.options().clone()))
    }

    fn writer(&self, draft: Draft, ticket: Ticket, lease: Option<Lease>) -> Writer {
        Writer::begin(&self.zone, draft, ticket, lease, Follow::Allowed, None)
    }

    fn keep(&self, draft: Draft, body: &[u8]) {
        let mut writer = self.writer(draft, self.zone.ticket(), None);
        writer.write(body).expect("written");
        assert!(writer.commit(NOW).expect("stored").is_some());
    }

    fn put(&self, text: &str, body: &[u8]) {
        let mut meta = meta();
        meta.gone = self.zone.ticket().epoch();
        self.keep(draft(text, meta), body);
    }

    fn path(&self, text: &str) -> PathBuf {
        self.zone.path_of(&Key::of(text.as_bytes()))
    }

    fn get(&self, text: &str) -> Option<Vec<u8>> {
        get(&self.zone, text, NOW)
    }

    fn files(&self) -> usize {
        fn count(path: &Path) -> usize {
            let entries = fs::read_dir(path).expect("a directory").flatten();
            entries.map(|entry| if entry.path().is_dir() { count(&entry.path()) } else { 1 }).sum()
        }
        count(self.directory.path())
    }

    fn purge(&self, purge: Purge, mode: Mode) -> Purged {
        self.zone.purge(&purge, mode).expect("purged")
    }
}

fn find(zone: &Zone, text: &str, now_s: u64) -> Found {
    match zone.find(&ask(text, now_s)).0 {
        Found::Unverified(body) => body.check().map_or(Found::Missing, Found::Stored),
        other => other,
    }
}

fn bytes(stored: Stored) -> Vec<u8> {
    match stored.into_body() {
        Body::Shared(bytes) => bytes.to_vec(),
        Body::Read { buf, start } => buf[start..].to_vec(),
        Body::File { file, offset, end } => read(&file, offset, end),
    }
}

fn read(file: &File, offset: u64, end: u64) -> Vec<u8> {
    use std::os::unix::fs::FileExt;
    let mut bytes = vec![0; usize::try_from(end - offset).expect("a length")];
    file.read_exact_at(&mut bytes, offset).expect("read");
    bytes
}

fn get(zone: &Zone, text: &str, now_s: u64) -> Option<Vec<u8>> {
    match find(zone, text, now_s) {
        Found::Stored(stored) => Some(bytes(stored)),
        _ => None,
    }
}

fn lease(locked: Locked) -> Lease {
    match locked {
        Locked::Yours(lease) => lease,
        Locked::Waits(_) => panic!("another has it"),
    }
}

fn waits(locked: Locked) -> Arc<Filling> {
    match locked {
        Locked::Waits(filling) => filling,
        Locked::Yours(_) => panic!("nobody had it"),
    }
}

#[test]
fn what_is_stored_is_found() {
    for memory in [0, 1 << 20] {
        let store = store(|options| options.memory = memory);
        for size in [0, 1, 70_000, 3 << 20] {
            let body: Vec<u8> = (0..size).map(|at: usize| at.to_le_bytes()[0]).collect();
            assert!(store.get(&size.to_string()).is_none());
            store.put(&size.to_string(), &body);
            assert!(store.get(&size.to_string()).is_some_and(|found| found == body), "{size}");
            assert!(store.get(&size.to_string()).is_some_and(|found| found == body), "{size} again");
        }
        store.put("1", b"other");
        assert_eq!(store.get("1").as_deref(), Some(&b"other"[..]));
        assert_eq!((store.files(), store.zone.entries()), (4, 4));
        assert!(store.zone.disk_bytes() > 3 << 20);
        assert_eq!(store.zone.memory_bytes() > 0, memory > 0);
        let file = fs::read(store.path("1")).expect("a file");
        assert!(file.windows(8).any(|window| window == b"\nKEY: 1\n"));
    }
}

#[test]
fn an_entry_in_memory_has_its_file_as_long_as_it_is_the_same() {
    let store = store(|options| options.memory = 8 << 20);
    let body = vec![7; 300_000];
    let stored = || match find(&store.zone, "a", NOW) {
        Found::Stored(stored) => stored,
        other => panic!("{other:?}"),
    };
    store.put("a", &body);
    assert!(stored().body_in_file(&store.path("a")).is_none(), "it was read from there");
    assert!(stored().note().is_some(), "it is in memory");
    let Some(Body::File { file, offset, end }) = stored().body_in_file(&store.path("a")) else {
        panic!("its file is there")
    };
    assert!(read(&file, offset, end) == body);
    let before = stored();
    store.put("a", b"other");
    assert!(before.body_in_file(&store.path("a")).is_none(), "another file");
    fs::remove_file(store.path("a")).expect("removed");
    assert!(before.body_in_file(&store.path("a")).is_none(), "no file");
    assert!(bytes(before) == body);
}

#[test]
fn one_of_many_tells_of_a_damaged_file() {
    let store = store(|_| {});
    let text = "large";
    let key = Key::of(text.as_bytes());
    let body = vec![7; 3 << 20];
    let unchecked = || match store.zone.find(&ask(text, NOW)).0 {
        Found::Unverified(body) => body,
        other => panic!("{other:?}"),
    };
    store.put(text, &body);
    let mut damaged = fs::read(store.path(text)).expect("a file");
    *damaged.last_mut().expect("a byte") = 8;
    fs::write(store.path(text), damaged).expect("written");
    let [first, second, third] =
        [unchecked(), unchecked(), unchecked()].map(|body| body.check().expect_err("damage"));
    assert!(store.zone.spoiled(&key, first).is_some());
    assert!(store.zone.spoiled(&key, second).is_none(), "it is gone");
    store.put(text, &body);
    assert!(store.zone.spoiled(&key, third).is_none(), "another stands in its place");
    assert!(store.get(text).is_some_and(|found| found == body));
}

#[test]
fn what_is_not_completed_leaves_nothing() {
    let store = store(|_| {});
    let mut writer = store.writer(draft("a", meta()), store.zone.ticket(), None);
    writer.write(&[7; 100_000]).expect("written");
    assert_eq!(store.files(), 1);
    drop(writer);
    assert_eq!((store.files(), store.get("a")), (0, None));
}

#[test]
fn others_read_along_with_a_fetch() {
    let store = store(|_| {});
    let (zone, ticket) = (&store.zone, store.zone.ticket());
    assert!(store.get("a").is_none());
    let own = lease(zone.lock(&ask("a", NOW), &ticket, 5000, 0));
    let filling = waits(zone.lock(&ask("a", NOW), &ticket, 5000, 1));
    let _follower = filling.watch();
    assert_eq!(filling.phase(), Phase::Asked);
    let mut writer = store.writer(draft("a", meta()), ticket.clone(), Some(own));
    writer.write(b"one ").and_then(|()| writer.flush()).expect("written");
    let Some(Piece::File { offset, end }) = filling.piece(0) else { panic!("nothing is there") };
    let file = filling.source().and_then(|source| source.file()).expect("a file");
    assert_eq!(read(file, offset, end), b"one ");
    // However long it takes: it can be read along.
    waits(zone.lock(&ask("a", NOW), &ticket, 5000, 60_000));
    writer.write(b"two").expect("written");
    writer.commit(NOW).expect("stored");
    assert_eq!((filling.phase(), filling.piece(7).is_none()), (Phase::Stored, true));
    assert_eq!(store.get("a").as_deref(), Some(&b"one two"[..]));
}

#[test]
fn a_fetch_that_comes_to_nothing_is_given_back() {
    let store = store(|_| {});
    let (zone, ticket) = (&store.zone, store.zone.ticket());
    let first = lease(zone.lock(&ask("a", NOW), &ticket, 5000, 0));
    let filling = waits(zone.lock(&ask("a", NOW), &ticket, 5000, 0));
    assert!(zone.begin_update(&ask("a", NOW), &ticket, 5000, 0).is_none());
    // After `age_ms` it keeps nobody from fetching.
    let second = lease(zone.lock(&ask("a", NOW), &ticket, 5000, 5001));
    drop(first);
    assert_eq!(filling.phase(), Phase::Failed);
    let filling = waits(zone.lock(&ask("a", NOW), &ticket, 5000, 5002));
    second.decline();
    assert_eq!(filling.phase(), Phase::Declined);
    assert!(zone.begin_update(&ask("a", NOW), &ticket, 5000, 0).is_some());
}

#[test]
fn entries_must_be_asked_for_often_enough() {
    let store = store(|_| {});
    let often = Ask { min_uses: 3, ..ask("a", NOW) };
    let found = || store.zone.find(&often).0;
    load(&store.zone, &Stop::default(), &nobody());
    assert!(matches!(found(), Found::Scarce));
    assert!(matches!(store.zone.find(&Ask { uses: 0, ..often }).0, Found::Scarce));
    assert!(matches!(found(), Found::Scarce));
    assert!(matches!(found(), Found::Missing));
}

#[test]
fn statuses_stand_for_answers_for_a_time() {
    let store = store(|_| {});
    assert!(store.get("a/1").is_none());
    store.zone.note_error(&Key::of(b"a/1"), 404, i64::try_from(NOW).expect("a time") + 5);
    assert!(matches!(find(&store.zone, "a/1", NOW + 5), Found::Failed(404)));
    assert!(matches!(find(&store.zone, "a/1", NOW + 6), Found::Missing));
    store.zone.note_error(&Key::of(b"a/1"), 404, i64::MAX);
    store.purge(Purge::Prefix(b"a/".to_vec()), Mode::Hard);
    assert!(matches!(find(&store.zone, "a/1", NOW), Found::Missing));
}

#[test]
fn the_unused_and_what_is_too_much_goes() {
    let store = store(|options| options.max_size = 6 * 4096);
    for number in 0..9 {
        store.put(&number.to_string(), b"x");
    }
    assert!(get(&store.zone, "0", NOW).is_some());
    assert!(!may_be_overrun(&store.zone), "a few blocks wait for the manager's turn");
    while tidy(&store.zone, &Stop::default()) < Duration::from_secs(1) {}
    assert!(store.zone.disk_bytes() < 6 * 4096, "{}", store.zone.disk_bytes());
    assert_eq!(store.files(), store.zone.entries());
    assert!(store.get("0").is_some() && store.get("8").is_some() && store.get("1").is_none());
}

#[test]
fn much_more_than_there_is_room_for_waits_for_nobody() {
    let store = store(|options| options.max_size = 4096);
    for number in 0..17 {
        store.put(&number.to_string(), b"x");
    }
    assert!(!may_be_overrun(&store.zone));
    store.put("17", b"x");
    assert!(may_be_overrun(&store.zone));
}

#[test]
fn what_nobody_has_used_for_too_long_goes() {
    let store = store(|_| {});
    let mut writer = store.writer(draft("b", meta()), store.zone.ticket(), None);
    writer.write(b"x").expect("written");
    assert!(writer.commit(1000).expect("stored").is_some());
    store.put("a", b"x");
    assert_eq!(store.files(), 2);
    tidy(&store.zone, &Stop::default());
    assert_eq!((store.files(), store.zone.entries(), store.path("b").exists()), (1, 1, false));
}

#[test]
fn no_more_entries_than_keys_zone_has_room_for() {
    let store = store(|options| options.keys_size = 128 * (64 + 3));
    for number in 0..5 {
        assert!(store.get(&number.to_string()).is_none());
        store.put(&number.to_string(), b"x");
    }
    assert_eq!((store.zone.entries(), store.files()), (3, 3));
    assert!(store.get("4").is_some() && store.get("2").is_some());
}

fn nobody() -> crate::keeper::Tell {
    Arc::new(|_| {})
}

#[test]
fn the_next_run_finds_what_is_there() {
    let store = store(|_| {});
    for number in 0..7 {
        store.put(&number.to_string(), b"x");
    }
    let old = SystemTime::now() - Duration::from_secs(600);
    let left_over = PathBuf::from(format!("{}.0000000001", store.path("0").display()));
    File::create(&left_over).and_then(|file| file.set_modified(old)).expect("a file");
    let fresh = PathBuf::from(format!("{}.0000000002", store.path("0").display()));
    File::create(&fresh).expect("a file");
    let elsewhere = store.directory.path().join(String::from_utf8_lossy(&Key::of(b"0").name()).as_ref());
    fs::copy(store.path("0"), &elsewhere).expect("a copy");
    let foreign = store.directory.path().join("README");
    File::create(&foreign).expect("a file");

    let zone = store.next_run();
    assert!(zone.is_cold());
    assert_eq!(get(&zone, "3", NOW).as_deref(), Some(&b"x"[..]));
    load(&zone, &Stop::default(), &nobody());
    assert_eq!((zone.is_cold(), zone.entries()), (false, 7));
    assert_eq!(zone.disk_bytes(), store.zone.disk_bytes());
    assert!(!left_over.exists() && fresh.exists() && !elsewhere.exists() && foreign.exists());
    assert!((0..7).all(|number| get(&zone, &number.to_string(), NOW).is_some()));
    assert!(matches!(find(&zone, "unknown", NOW), Found::Missing));
}

#[test]
fn a_reload_goes_on_with_the_entries() {
    let store = store(|_| {});
    store.put("a", b"x");
    store.zone.counters().answered(crate::Status::Hit, 5);
    let mut later = store.zone.options().clone();
    later.inactive_s = 5;
    let zone = Zone::new("one", later.clone());
    zone.adopt(&store.zone).expect("the same directory");
    assert_eq!((zone.entries(), zone.counters().count(crate::Status::Hit).bytes), (1, 5));
    let check = |change: fn(&mut Options), expected: &str| {
        let mut options = later.clone();
        change(&mut options);
        let error = Zone::new("one", options).adopt(&store.zone).expect_err("other files");
        assert!(error.contains(expected), "{error}");
    };
    check(|options| options.path = "/elsewhere".into(), "cache path");
    check(|options| options.levels = [2, 0, 0], "levels");
}

#[test]
fn spoiled_files_are_never_served() {
    let body: Vec<u8> = (0..5000u32).map(|at| at.to_le_bytes()[0]).collect();
    let check = |spoil: &dyn Fn(&mut Vec<u8>), what: &str| {
        for memory in [0, 1 << 20] {
            let store = store(|options| options.memory = memory);
            store.put("a", &body);
            assert!(store.get("a").is_some());
            let mut file = fs::read(store.path("a")).expect("a file");
            spoil(&mut file);
            fs::write(store.path("a"), &file).expect("written");
            // What is in memory is looked at once a second.
            assert_eq!(get(&store.zone, "a", NOW + 1), None, "{what}");
            store.put("a", &body);
            assert!(store.get("a").is_some_and(|found| found == body), "{what}");
        }
    };
    for at in [0, 7, 8, 12, 60, 100, 127, 130, 140, 160, 200, 4000] {
        check(&move |file| file[at] ^= 4, &format!("byte {at}"));
        check(&move |file| file.truncate(at), &format!("{at} bytes"));
    }
    check(&|file| file.push(0), "one byte more");
    check(&|file| file.clear(), "nothing");
    check(&|file| *file = vec![0; file.len()], "zeros");
}

#[test]
fn another_key_s_file_is_not_taken_for_an_entry() {
    let store = store(|_| {});
    store.put("a", b"x");
    fs::create_dir_all(store.path("b").parent().expect("a directory")).expect("a directory");
    fs::copy(store.path("a"), store.path("b")).expect("a copy");
    assert!(get(&store.next_run(), "b", NOW).is_none());
}

#[test]
fn what_is_in_memory_follows_its_file() {
    let store = store(|options| options.memory = 1 << 20);
    store.put("a", b"one");
    assert_eq!(store.get("a").as_deref(), Some(&b"one"[..]));
    fs::remove_file(store.path("a")).expect("removed");
    assert!(store.get("a").is_some());
    assert_eq!(get(&store.zone, "a", NOW + 1), None);
    assert_eq!(store.zone.memory_bytes(), 0);

    store.put("a", b"two");
    store.put("a", b"three");
    assert_eq!(store.get("a").as_deref(), Some(&b"three"[..]));
    let Found::Stored(stored) = find(&store.zone, "a", NOW) else { panic!("nothing is there") };
    let later = Meta { valid_until: 77, ..meta() };
    store.zone.retime(&ask("a", NOW), &stored, later, &store.zone.ticket()).expect("written");
    let Found::Stored(stored) = find(&store.zone, "a", NOW) else { panic!("nothing is there") };
    assert_eq!((stored.valid_until(), bytes(stored)), (77, b"three".to_vec()));

    assert_eq!(store.purge(Purge::Entry(b"a".to_vec()), Mode::Hard), Purged::Done);
    assert_eq!((store.get("a"), store.zone.memory_bytes()), (None, 0));
}

#[test]
fn a_disk_that_fails_costs_the_entry_alone() {
    let directory = directory("full");
    let path = directory.path().join("gone");
    File::create(&path).expect("a file where a directory should be");
    let zone = Arc::new(Zone::new("one", options(&path)));
    assert!(get(&zone, "a", NOW).is_none());
    let ticket = zone.ticket();
    let own = lease(zone.lock(&ask("a", NOW), &ticket, 5000, 0));
    let filling = waits(zone.lock(&ask("a", NOW), &ticket, 5000, 0));
    let _follower = filling.watch();
    let mut writer = Writer::begin(&zone, draft("a", meta()), ticket, Some(own), Follow::Allowed, None);
    assert!(writer.write(b"one ").and_then(|()| writer.flush()).is_err());
    writer.write(b"two").expect("the error was told");
    let Some(Piece::Bytes(bytes)) = filling.piece(0) else { panic!("nothing is there") };
    assert_eq!(bytes, b"one two");
    assert_eq!(writer.commit(NOW).expect("the error was told"), None);
    assert_eq!(filling.phase(), Phase::Stored);
    assert!(get(&zone, "a", NOW).is_none());
}

/// Those who read along get the body once, even where the complete file cannot take its place.
#[test]
fn an_entry_without_a_place_is_read_along_to_its_end() {
    let store = store(|_| {});
    let (zone, ticket) = (&store.zone, store.zone.ticket());
    assert!(store.get("a").is_none());
    let own = lease(zone.lock(&ask("a", NOW), &ticket, 5000, 0));
    let filling = waits(zone.lock(&ask("a", NOW), &ticket, 5000, 0));
    let _follower = filling.watch();
    fs::create_dir_all(store.path("a").join("in the way")).expect("a directory");
    let mut writer = store.writer(draft("a", meta()), ticket.clone(), Some(own));
    writer.write(&[1; 100_000]).expect("written");
    writer.write(b"rest").expect("written");
    assert!(writer.commit(NOW).is_err());
    let Some(Piece::File { offset, end }) = filling.piece(0) else { panic!("nothing is there") };
    assert_eq!((end - offset, filling.phase()), (100_004, Phase::Stored));
    assert!(filling.piece(100_004).is_none());
}

// --- Purging --------------------------------------------------------------------------------------------------------

fn entry(text: &str) -> Purge {
    Purge::Entry(text.into())
}

#[test]
fn single_entries_are_purged_at_once() {
    let store = store(|options| options.memory = 1 << 20);
    assert_eq!(store.purge(entry("a"), Mode::Hard), Purged::Nothing);
    assert_eq!(store.purge(entry("a"), Mode::Soft), Purged::Nothing);
    store.put("a", b"x");
    store.put("b", b"x");
    assert_eq!(store.purge(entry("a"), Mode::Hard), Purged::Done);
    assert_eq!((store.get("a"), store.files()), (None, 1));
    assert!(store.get("b").is_some() && !store.directory.path().join("purges").exists());
    // An entry of an earlier run that was not found yet.
    let zone = store.next_run();
    assert_eq!(zone.purge(&entry("b"), Mode::Hard).expect("purged"), Purged::Done);
    assert!(get(&zone, "b", NOW).is_none());
}

#[test]
fn what_is_fetched_while_it_is_purged_is_not_stored() {
    for (purge, mode) in [
        (entry("a"), Mode::Hard),
        (entry("a"), Mode::Soft),
        (Purge::Prefix(b"a".to_vec()), Mode::Hard),
        (Purge::Prefix(Vec::new()), Mode::Soft),
        (Purge::Tags(b"x t".to_vec()), Mode::Hard),
    ] {
        let store = store(|options| options.memory = 1 << 20);
        let (zone, ticket) = (&store.zone, store.zone.ticket());
        let tagged = Meta { tags: b"s t".to_vec(), ..meta() };
        let own = lease(zone.lock(&ask("a", NOW), &ticket, 5000, 0));
        let filling = Arc::clone(own.filling());
        let _follower = filling.watch();
        let mut writer = store.writer(draft("a", tagged.clone()), ticket.clone(), Some(own));
        writer.write(b"old").expect("written");
        store.purge(purge.clone(), mode);
        // Nobody new waits for it, not even once all files were looked at.
        purge_files(zone, u64::MAX, &Stop::default()).expect("looked at");
        let newer = lease(zone.lock(&ask("a", NOW), &zone.ticket(), 5000, 1));
        assert_eq!(writer.commit(NOW).expect("no error"), None, "{purge:?}");
        assert_eq!((filling.phase(), store.get("a")), (Phase::Stored, None), "{purge:?}");
        let Some(Piece::Bytes(bytes)) = filling.piece(0) else { panic!("those who wait get nothing") };
        assert_eq!(bytes, b"old");
        let mut writer = store.writer(draft("a", tagged), zone.ticket(), Some(newer));
        writer.write(b"new").expect("written");
        assert!(writer.commit(NOW).expect("no error").is_some());
        assert_eq!(store.get("a").as_deref(), Some(&b"new"[..]), "{purge:?}");
        drop(ticket);
        zone.due_purges();
        assert_eq!((store.get("a").as_deref(), store.files()), (Some(&b"new"[..]), 1), "{purge:?}");
    }
}

/// Writers store the version that the origin has; whoever purges raises it before. A reader never gets one that was
/// purged before he asked.
#[test]
fn nothing_comes_back_whoever_is_under_way() {
    const ROUNDS: u64 = 400;
    let store = store(|options| options.memory = 1 << 20);
    let (origin, purged) = (AtomicU64::new(1), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while purged.load(SeqCst) < ROUNDS {
                    let ticket = store.zone.ticket();
                    let version = origin.load(SeqCst).to_le_bytes();
                    let own = match store.zone.lock(&ask("a", NOW), &ticket, 0, 0) {
                        Locked::Yours(lease) => Some(lease),
                        Locked::Waits(_) => None,
                    };
                    let mut writer = store.writer(draft("a", meta()), ticket, own);
                    writer.write(&version).expect("written");
                    writer.commit(NOW).expect("stored");
                }
            });
        }
        scope.spawn(|| {
            while purged.load(SeqCst) < ROUNDS {
                let least = purged.load(SeqCst);
                if let Some(body) = store.get("a") {
                    let version = u64::from_le_bytes(body.try_into().expect("eight bytes"));
                    assert!(version > least, "{version} after {least}");
                }
            }
        });
        scope.spawn(|| {
            while purged.load(SeqCst) < ROUNDS {
                let due = store.zone.due_purges().unwrap_or_default();
                purge_files(&store.zone, due, &Stop::default()).expect("looked at");
            }
        });
        for round in 1..=ROUNDS {
            origin.store(round + 1, SeqCst);
            let purge = if round % 8 > 0 { entry("a") } else { Purge::Prefix(b"a".to_vec()) };
            store.purge(purge, Mode::Hard);
            purged.store(round, SeqCst);
        }
    });
    store.put("a", b"x");
    assert_eq!(store.get("a").as_deref(), Some(&b"x"[..]));
}

#[test]
fn an_entry_that_is_purged_is_not_made_fresh_by_its_origin() {
    let store = store(|_| {});
    store.put("a", b"x");
    let ticket = store.zone.ticket();
    let Found::Stored(stored) = find(&store.zone, "a", NOW) else { panic!("nothing is there") };
    store.purge(entry("a"), Mode::Soft);
    store.zone.retime(&ask("a", NOW), &stored, meta(), &ticket).expect("no error");
    let Found::Stored(stored) = find(&store.zone, "a", NOW) else { panic!("nothing is there") };
    assert!(stored.valid_until() < i64::MAX);
}

#[test]
fn variants_go_with_their_main_entry() {
    let store = store(|options| options.memory = 1 << 20);
    let variant = Key::of(b"variant");
    let keep = |meta: Meta| store.keep(Draft { key: variant, ..draft("a", meta) }, b"variant");
    // As one asks who has found the main entry.
    let look = || {
        let Found::Stored(main) = find(&store.zone, "a", NOW) else { return None };
        let (gone, stale) = (main.meta().gone, main.meta().stale);
        match store.zone.find(&Ask { key: variant, gone, stale, ..ask("a", NOW) }).0 {
            Found::Stored(stored) => Some(stored.valid_until() == i64::MAX),
            _ => None,
        }
    };
    store.put("a", b"main");
    keep(meta());
    assert_eq!(look(), Some(true));
    // Other purges leave it alone.
    store.purge(entry("b"), Mode::Hard);
    assert_eq!(look(), Some(true));
    store.purge(entry("a"), Mode::Soft);
    assert_eq!(look(), Some(false));
    keep(meta());
    assert_eq!(look(), Some(true));
    store.purge(entry("a"), Mode::Hard);
    store.put("a", b"main");
    assert_eq!(look(), None);
    assert!(!store.zone.path_of(&variant).exists());
    keep(meta());
    store.purge(Purge::Prefix(b"a".to_vec()), Mode::Soft);
    assert_eq!(look(), Some(false));
    store.purge(Purge::Prefix(b"a".to_vec()), Mode::Hard);
    store.put("a", b"main");
    assert_eq!(look(), None);
}

#[test]
fn prefixes_and_tags_outlive_a_crash_and_are_then_looked_for() {
    let store = store(|options| options.memory = 1 << 20);
    for (text, tags) in [("a/1", "t"), ("a/2", ""), ("b/1", "t u"), ("b/2", "u"), ("b/3", "")] {
        let tagged = Meta { tags: tags.into(), ..meta() };
        store.keep(draft(text, tagged), b"x");
    }
    store.purge(Purge::Prefix(b"a/".to_vec()), Mode::Hard);
    store.purge(Purge::Tags(b"t".to_vec()), Mode::Hard);
    store.purge(Purge::Tags(b"u".to_vec()), Mode::Soft);
    let marks = store.directory.path().join("purges");
    assert!(marks.exists());
    // What is asked for goes at once, the rest when all files are looked at.
    assert_eq!((store.get("a/1"), store.files()), (None, 5));
    let check = |zone: &Zone| {
        let fresh = |text| match find(zone, text, NOW) {
            Found::Stored(stored) => Some(stored.valid_until() == i64::MAX),
            _ => None,
        };
        let seen = ["a/2", "b/1", "b/2", "b/3"].map(fresh);
        assert_eq!(seen, [None, None, Some(false), Some(true)]);
    };
    let zone = store.next_run();
    assert!(matches!(find(&zone, "a/2", NOW), Found::Missing));
    let due = zone.due_purges().expect("purges");
    purge_files(&zone, due, &Stop::default()).expect("looked at");
    assert_eq!((zone.due_purges(), marks.exists(), store.files()), (None, false, 2));
    check(&zone);
    check(&store.next_run());
}
