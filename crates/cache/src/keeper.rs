//! What goes on beside requests: entries of an earlier run are found, unused ones removed, limits held.
//!
//! What waits for the disk is done on threads made for it; when it is due, the event loop knows.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use net::{TaskHandle, spawn};
use net::{Undone, aside};

use crate::index::{Expired, HasFile};
use crate::key::{Key, NAME};
use crate::options::Pace;
use crate::purge::PurgeError;
use crate::stored::disk_size;
use crate::zone::Zone;

/// Characters that a temporary file's name has behind that of its entry: a dot and ten digits.
const TEMP_SUFFIX: usize = 11;
/// Temporary files that nobody has written to for so long are left over from an earlier run.
const TEMP_AGE: Duration = Duration::from_secs(60);
/// How long the manager sleeps at most.
const REST: Duration = Duration::from_secs(10);
/// How often it looks whether a limit is passed by more than a little: what is fetched meanwhile is all that may be
/// too much.
const LOOK: Duration = Duration::from_millis(500);
/// Bytes on the disk over `max_size` that wait for the manager's turn, as in nginx.
const SLACK: u64 = 64 << 10;

/// How long those who look for what was purged sleep at most.
const PURGE_REST: Duration = Duration::from_secs(1);

/// How long they wait after a failure: what was purged is not served in the meantime.
const PURGE_RETRY: Duration = Duration::from_secs(60);

/// Tells what happened.
pub type Tell = Arc<dyn Fn(&str) + Send + Sync>;

#[derive(Default)]
pub(crate) struct Stop {
    is_over: Mutex<bool>,
    bell: Condvar,
}

impl Stop {
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.is_over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        *self.lock()
    }

    /// Sleeps, or less where all is to end; says whether it is.
    fn sleep(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut is_over = self.lock();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if *is_over || left.is_zero() {
                return *is_over;
            }
            is_over = self.bell.wait_timeout(is_over, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Looks after zones until it is dropped.
pub struct Keeper {
    stop: Arc<Stop>,
    tasks: [TaskHandle; 2],
}

impl Keeper {
    /// Begins, on this thread's event loop; `tell` gets a line for each zone whose entries were found.
    #[must_use]
    pub fn start(zones: &[Arc<Zone>], tell: Tell) -> Self {
        let stop = Arc::<Stop>::default();
        let files = spawn(look_for_files(zones.to_vec(), Arc::clone(&stop), tell));
        let limits = spawn(hold_limits(zones.to_vec(), Arc::clone(&stop)));
        Self { stop, tasks: [files, limits] }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.tasks.iter().for_each(TaskHandle::abort);
        *self.stop.lock() = true;
        self.stop.bell.notify_all();
    }
}

async fn sleep(time: Duration) {
    net::timer::sleep(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)).await;
}

/// Finds what was there before, and then what was purged, until all is to end.
async fn look_for_files(zones: Vec<Arc<Zone>>, stop: Arc<Stop>, tell: Tell) {
    loop {
        let cold: Vec<_> = zones.iter().filter(|zone| zone.is_cold()).cloned().collect();
        if cold.is_empty() {
            break;
        }
        let (ends, teller) = (Arc::clone(&stop), Arc::clone(&tell));
        let find = move || cold.iter().for_each(|zone| load(zone, &ends, &teller));
        match aside("cache loader", find).await {
            Err(Undone::NotBegun(error)) => tell(&format!("no thread for the cache could be made: {error}")),
            Ok(()) | Err(Undone::Failed) => break,
        }
        sleep(PURGE_RETRY).await;
    }
    loop {
        let mut rest = PURGE_REST;
        if zones.iter().any(|zone| zone.due_purges().is_some()) {
            let (all, ends, teller) = (zones.clone(), Arc::clone(&stop), Arc::clone(&tell));
            let purged = aside("cache purger", move || purge(&all, &ends, &teller)).await;
            rest = purged.unwrap_or(PURGE_RETRY);
        }
        sleep(rest).await;
    }
}

/// Removes what is too much, until all is to end.
async fn hold_limits(zones: Vec<Arc<Zone>>, stop: Arc<Stop>) {
    let mut due = vec![Instant::now(); zones.len()];
    loop {
        let now = Instant::now();
        let late = |zone: &Arc<Zone>, due: &Instant| *due <= now || may_be_overrun(zone);
        let late: Vec<_> = (0..zones.len()).filter(|place| late(&zones[*place], &due[*place])).collect();
        if !late.is_empty() {
            let (all, ends, places) = (zones.clone(), Arc::clone(&stop), late.clone());
            let tidied = move || places.iter().map(|place| tidy(&all[*place], &ends)).collect::<Vec<_>>();
            let rests = aside("cache manager", tidied).await.unwrap_or_default();
            for (nth, place) in late.into_iter().enumerate() {
                due[place] = Instant::now() + rests.get(nth).copied().unwrap_or(REST);
            }
        }
        let next = due.iter().min().map_or(REST, |due| due.saturating_duration_since(Instant::now()));
        sleep(next.min(LOOK)).await;
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Counts work, and says when others are to have their turn.
struct Turn {
    pace: Pace,
    files: u64,
    began: Instant,
    /// A directory that could not be read.
    unreadable: Option<(PathBuf, io::Error)>,
}

impl Turn {
    fn new(pace: Pace) -> Self {
        Self { pace, files: 0, began: Instant::now(), unreadable: None }
    }

    /// After a rest.
    fn begin(&mut self) {
        (self.files, self.began) = (0, Instant::now());
    }

    /// One more file. Says whether it is time to rest.
    fn is_over(&mut self) -> bool {
        self.files += 1;
        self.files >= self.pace.files || self.began.elapsed() >= Duration::from_millis(self.pace.threshold_ms)
    }
}

// --- What was there before --------------------------------------------------------------------------------------

pub(crate) fn load(zone: &Zone, stop: &Stop, tell: &Tell) {
    if zone.state().is_loading.swap(true, Ordering::Relaxed) {
        return;
    }
    let mut turn = Turn::new(zone.options().loader);
    let is_whole = walk(&zone.options().path, stop, &mut turn, &mut |path| add(zone, path));
    zone.state().is_loading.store(false, Ordering::Relaxed);
    if is_whole {
        zone.set_loaded();
        let (path, bytes) = (zone.options().path.display(), zone.disk_bytes());
        let thousandths = bytes * 1000 / (1 << 20);
        tell(&format!(
            "http file cache: {path} {}.{:03}M, bsize: 4096",
            thousandths / 1000,
            thousandths % 1000
        ));
    }
}

/// Visits all files below a directory. Says whether it came to the end.
fn walk(directory: &Path, stop: &Stop, turn: &mut Turn, visit: &mut dyn FnMut(&Path)) -> bool {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                turn.unreadable.get_or_insert_with(|| (directory.to_owned(), error));
            }
            return true;
        }
    };
    for entry in entries.flatten() {
        if stop.is_over() {
            return false;
        }
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            // As nginx: the directory of `proxy_temp_path`, where it lies in here.
            if entry.file_name() != "temp" && !walk(&path, stop, turn, visit) {
                return false;
            }
            continue;
        }
        if kind.is_file() {
            visit(&path);
        }
        if turn.is_over() {
            if stop.sleep(Duration::from_millis(turn.pace.sleep_ms)) {
                return false;
            }
            turn.begin();
        }
    }
    true
}

/// Adds a file, or removes it where it was left over. What has no name of ours is not ours.
fn add(zone: &Zone, path: &Path) {
    use std::os::unix::ffi::OsStrExt;
    let Some(name) = path.file_name().map(OsStrExt::as_bytes) else { return };
    if let Some(key) = Key::parse(name) {
        let Ok(info) = os::file::path_info(path) else { return };
        let options = zone.options();
        let expires = now_s() + options.inactive_s;
        if path != zone.path_of(&key)
            || !zone.index().add(&key, disk_size(&info), expires, options.capacity())
        {
            let _ = fs::remove_file(path);
        }
        return;
    }
    let is_temp = name.len() == NAME + TEMP_SUFFIX
        && name.get(NAME) == Some(&b'.')
        && name[NAME + 1..].iter().all(u8::is_ascii_digit)
        && Key::parse(&name[..NAME]).is_some();
    let age = fs::metadata(path).and_then(|data| data.modified()).ok().and_then(|time| time.elapsed().ok());
    if is_temp && age.is_some_and(|age| age > TEMP_AGE) {
        let _ = fs::remove_file(path);
    }
}

// --- What was purged --------------------------------------------------------------------------------------------

/// Looks for what was purged; says when to look again. Nobody waits for it: what is found in the meantime is held
/// against the purges.
fn purge(zones: &[Arc<Zone>], stop: &Stop, tell: &Tell) -> Duration {
    let mut rest = PURGE_REST;
    for zone in zones {
        let Some(epoch) = zone.due_purges() else { continue };
        match purge_files(zone, epoch, stop) {
            Ok(()) => {}
            Err(PurgeError::Io(path, error)) => {
                tell(&format!("purging \"{}\" failed: {error}, to be tried again", path.display()));
                rest = PURGE_RETRY;
            }
            Err(PurgeError::TooMany) => {}
        }
    }
    rest
}

pub(crate) fn purge_files(zone: &Zone, epoch: u64, stop: &Stop) -> Result<(), PurgeError> {
    let mut turn = Turn::new(zone.options().purger);
    let mut failed = None;
    let is_whole = walk(&zone.options().path, stop, &mut turn, &mut |path| {
        if let Some(key) = key_of(path)
            && let Err(error) = zone.cleanse(&key, path)
        {
            failed.get_or_insert_with(|| PurgeError::Io(path.to_owned(), error));
        }
    });
    let unreadable = turn.unreadable.map(|(path, error)| PurgeError::Io(path, error));
    match failed.or(unreadable) {
        Some(error) => Err(error),
        None if is_whole => zone.purges_done(epoch),
        None => Ok(()),
    }
}

fn key_of(path: &Path) -> Option<Key> {
    use std::os::unix::ffi::OsStrExt;
    Key::parse(path.file_name()?.as_bytes())
}

// --- Limits -----------------------------------------------------------------------------------------------------

/// Whether a limit is passed by so much that it cannot wait for the manager's next turn, or the disk must be asked.
pub(crate) fn may_be_overrun(zone: &Zone) -> bool {
    let options = zone.options();
    options.min_free > 0 || zone.index().disk_bytes() > options.max_size.saturating_add(SLACK)
}

/// Removes what is too much; says when to look again (`ngx_http_file_cache_manager`).
pub(crate) fn tidy(zone: &Zone, stop: &Stop) -> Duration {
    let options = zone.options();
    let mut turn = Turn::new(options.manager);
    let rest = Duration::from_millis(options.manager.sleep_ms);
    let wait = loop {
        let expired = zone.index().expire(now_s(), options.inactive_s);
        match expired {
            Expired::Wait(seconds) => break Duration::from_secs(seconds),
            Expired::Entry(key, has_file) => {
                if has_file == HasFile::Yes {
                    zone.unlink(&key);
                }
            }
        }
        if turn.is_over() || stop.is_over() {
            return rest;
        }
    };
    loop {
        let is_too_much = {
            let index = zone.index();
            index.disk_bytes() >= options.max_size || index.len() >= index.watermark
        };
        if !is_too_much && !is_disk_full(zone) {
            return wait;
        }
        let expires = u32::try_from(now_s() + options.inactive_s).unwrap_or(u32::MAX);
        let gone = zone.index().force(expires);
        match gone {
            Some((key, HasFile::Yes)) => zone.unlink(&key),
            Some((_, HasFile::No)) => {}
            None => return REST,
        }
        if turn.is_over() || stop.is_over() {
            return rest;
        }
    }
}

fn is_disk_full(zone: &Zone) -> bool {
    let options = zone.options();
    options.min_free > 0
        && os::file::free_space(&options.path).is_ok_and(|free| free.available <= options.min_free)
}
