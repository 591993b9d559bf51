//! Log files that are written in few pieces: lines gather per thread and leave together.
//!
//! A line costs no system call and no lock: it is appended to a buffer of its thread, which goes to the file by
//! one `write(2)` at the end of the event loop's turn, when a client's connection ends, or when it is full. A thread that
//! would write all the time does so each two milliseconds (`turn`). What a `buffer=` holds back beyond that is shared by all
//! threads, so its size and times mean what they say for the whole server.

mod turn;

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use conf::resources::LogFile;
use flate2::Compression;
use flate2::write::GzEncoder;
use os::errlog::{Errno, Level};

pub use self::turn::{end_turn, flush};
use crate::cycle::Worker;

/// Bytes that a thread gathers at most before it writes.
const TURN_SIZE: usize = 16 << 10;
/// Seconds between two complaints about the same file, as in nginx.
const COMPLAINT_SEC: i64 = 59;

/// `buffer=`, `flush=` and `gzip=` of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffering {
    /// Bytes that are held back at most.
    pub size: usize,
    /// Milliseconds that a line is held back at most; `None` for as long as it takes.
    pub flush_ms: Option<u64>,
    /// Level of compression, 1 to 9.
    pub gzip: Option<u32>,
}

/// A log file with what is held back for it.
#[derive(Debug)]
pub struct LogSink {
    file: Arc<LogFile>,
    buffering: OnceLock<Buffering>,
    held: Mutex<Vec<u8>>,
    is_timed: AtomicBool,
    /// Second in which the disk was full: nothing is written within it.
    full_at: AtomicI64,
    complained_at: AtomicI64,
}

static ALL: Mutex<Vec<Weak<LogSink>>> = Mutex::new(Vec::new());

/// Writes everything that is held back anywhere: before logs are reopened, and before the process ends.
pub fn flush_all() {
    flush();
    let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|sink| match sink.upgrade() {
        Some(sink) => {
            sink.release();
            true
        }
        None => false,
    });
}

impl LogSink {
    /// A sink for an open file.
    #[must_use]
    pub fn new(file: Arc<LogFile>) -> Arc<Self> {
        Arc::new(Self {
            file,
            buffering: OnceLock::new(),
            held: Mutex::default(),
            is_timed: AtomicBool::new(false),
            full_at: AtomicI64::new(i64::MIN),
            complained_at: AtomicI64::new(i64::MIN),
        })
    }

    /// Holds lines back from now on, as any of the lines of the configuration that name the file may ask.
    ///
    /// # Errors
    /// The other way in which they are held back already.
    pub fn buffer(self: &Arc<Self>, buffering: Buffering) -> Result<(), Buffering> {
        let mut is_new = false;
        let has = *self.buffering.get_or_init(|| {
            is_new = true;
            buffering
        });
        if is_new {
            ALL.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(self));
        }
        if has == buffering { Ok(()) } else { Err(has) }
    }

    /// Appends a line that `write` makes, and its end. Inside of the event loop only, because of `flush=`.
    pub fn line(self: &Arc<Self>, write: impl FnOnce(&mut Vec<u8>)) {
        let (spot, mut lines) = turn::take_lines(self);
        let start = lines.len();
        write(&mut lines);
        lines.push(b'\n');
        if lines.len() > TURN_SIZE {
            // What was there goes first; the line itself stays for its neighbours.
            let rest = lines.split_off(start);
            if !lines.is_empty() {
                self.take_over(&lines);
            }
            lines = rest;
            if lines.len() > TURN_SIZE {
                self.take_over(&lines);
                lines.clear();
            }
        }
        turn::give_lines(self, spot, lines);
        self.set_timer();
    }

    /// Lines of one thread's turn: to the file, or to what is held back.
    fn take_over(&self, lines: &[u8]) {
        let Some(buffering) = self.buffering.get() else { return self.write(lines) };
        let mut held = self.held();
        let mut rest = lines;
        while !rest.is_empty() {
            let room = buffering.size.saturating_sub(held.len());
            let count = whole_lines(rest, room);
            let (fitting, behind) = rest.split_at(count);
            held.extend_from_slice(fitting);
            rest = behind;
            if rest.is_empty() {
                break;
            }
            if held.is_empty() {
                // A single line that is longer than the buffer.
                let (line, behind) = rest.split_at(first_line(rest));
                self.write_out(line);
                rest = behind;
            } else {
                self.write_out(&held);
                held.clear();
            }
        }
    }

    /// Writes what is held back.
    fn release(&self) {
        let mut held = self.held();
        if !held.is_empty() {
            self.write_out(&held);
            held.clear();
        }
    }

    fn held(&self) -> MutexGuard<'_, Vec<u8>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `flush=`: the first line that is held back starts the clock.
    fn set_timer(self: &Arc<Self>) {
        let Some(after) = self.buffering.get().and_then(|buffering| buffering.flush_ms) else { return };
        if self.is_timed.swap(true, Relaxed) {
            return;
        }
        let sink = Arc::downgrade(self);
        net::spawn(async move {
            net::timer::sleep(after).await;
            if let Some(sink) = sink.upgrade() {
                sink.is_timed.store(false, Relaxed);
                sink.release();
            }
        });
    }

    fn write_out(&self, lines: &[u8]) {
        match self.buffering.get().and_then(|buffering| buffering.gzip) {
            None => self.write(lines),
            Some(level) => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
                // Writing to a vector cannot fail.
                let packed = encoder.write_all(lines).and_then(|()| encoder.finish());
                self.write(&packed.unwrap_or_default());
            }
        }
    }

    fn write(&self, bytes: &[u8]) {
        let now = os::clock::realtime_coarse().0;
        if self.full_at.load(Relaxed) == now {
            return;
        }
        match os::io::write(self.file.as_fd(), bytes) {
            Ok(count) if count == bytes.len() => {}
            Ok(count) => self.complain(now, format_args!("was incomplete: {count} of {}", bytes.len())),
            Err(error) => {
                if error.kind() == io::ErrorKind::StorageFull {
                    self.full_at.store(now, Relaxed);
                }
                self.complain(now, format_args!("failed {}", Errno(&error)));
            }
        }
    }

    #[cold]
    fn complain(&self, now: i64, what: std::fmt::Arguments<'_>) {
        if now.saturating_sub(self.complained_at.load(Relaxed)) <= COMPLAINT_SEC {
            return;
        }
        self.complained_at.store(now, Relaxed);
        if let Some(worker) = Worker::try_current() {
            let path = self.file.path().display();
            worker.cycle().globals.log.log(Level::Alert, format_args!("write() to \"{path}\" {what}"));
        }
    }
}

impl Drop for LogSink {
    fn drop(&mut self) {
        self.release();
    }
}

/// Bytes of the lines at the front of `lines` that fit into `room`.
fn whole_lines(lines: &[u8], room: usize) -> usize {
    if lines.len() <= room {
        return lines.len();
    }
    lines.get(..room).and_then(|front| memchr::memrchr(b'\n', front)).map_or(0, |end| end + 1)
}

fn first_line(lines: &[u8]) -> usize {
    memchr::memchr(b'\n', lines).map_or(lines.len(), |end| end + 1)
}

#[cfg(test)]
mod tests {
    use super::turn::{BURST, GATHER};
    use super::*;
    use std::fs;
    use std::path::PathBuf;
    use std::sync::atomic::AtomicU32;

    fn scratch() -> (PathBuf, Arc<LogFile>) {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Relaxed);
        let path = std::env::temp_dir().join(format!("tidegate-log-{}-{number}", std::process::id()));
        let file = os::file::open_append(&path).expect("open");
        (path.clone(), Arc::new(LogFile::new(path, file)))
    }

    fn read(path: &PathBuf) -> String {
        fs::read_to_string(path).expect("read")
    }

    #[test]
    fn lines_wait_for_the_end_of_the_turn() {
        let (path, file) = scratch();
        let sink = LogSink::new(file);
        sink.line(|out| out.extend_from_slice(b"a"));
        sink.line(|out| out.extend_from_slice(b"b"));
        assert_eq!(read(&path), "");
        end_turn();
        assert_eq!(read(&path), "a\nb\n");
        sink.line(|out| out.extend_from_slice(b"c"));
        end_turn();
        end_turn();
        assert_eq!(read(&path), "a\nb\nc\n");
        let _ = fs::remove_file(path);
    }

    #[test]
    fn lines_of_a_busy_thread_gather() {
        let (path, file) = scratch();
        let sink = LogSink::new(file);
        net::block_on(async {
            let turn = |line: &str| {
                sink.line(|out| out.extend_from_slice(line.as_bytes()));
                end_turn();
            };
            let mut written = 0;
            while read(&path).lines().count() == written {
                turn("x");
                written += 1;
            }
            assert!(written > BURST as usize, "{written}");
            turn("a");
            turn("b");
            while !read(&path).ends_with("x\na\nb\n") {
                net::timer::sleep(1 + GATHER.as_millis() as u64).await;
            }
            while turn::is_watched() {
                net::timer::sleep(1 + GATHER.as_millis() as u64).await;
            }
        });
        let _ = fs::remove_file(path);
    }

    #[test]
    fn a_full_turn_is_written_at_once() {
        let (path, file) = scratch();
        let sink = LogSink::new(file);
        let line = "x".repeat(1000);
        for _ in 0..20 {
            sink.line(|out| out.extend_from_slice(line.as_bytes()));
        }
        assert!(!read(&path).is_empty());
        flush();
        assert_eq!(read(&path).lines().count(), 20);
        sink.line(|out| out.extend_from_slice("y".repeat(TURN_SIZE * 2).as_bytes()));
        assert_eq!(read(&path).lines().count(), 21);
        let _ = fs::remove_file(path);
    }

    #[test]
    fn a_line_may_log_itself() {
        let (path, file) = scratch();
        let sink = LogSink::new(file);
        sink.line(|out| {
            sink.line(|inner| inner.extend_from_slice(b"inner"));
            out.extend_from_slice(b"outer");
        });
        flush();
        assert_eq!(read(&path), "inner\nouter\n");
        let _ = fs::remove_file(path);
    }

    #[test]
    fn a_buffer_holds_back_whole_lines() {
        let (path, file) = scratch();
        let sink = LogSink::new(file);
        assert_eq!(sink.buffer(Buffering { size: 10, flush_ms: None, gzip: None }), Ok(()));
        let check = |line: &str, expected: &str| {
            sink.line(|out| out.extend_from_slice(line.as_bytes()));
            flush();
            assert_eq!(read(&path), expected, "{line}");
        };
        check("1234", "");
        check("5678", "");
        check("9", "1234\n5678\n");
        check("longer than ten", "1234\n5678\n9\nlonger than ten\n");
        check("z", "1234\n5678\n9\nlonger than ten\n");
        flush_all();
        assert!(read(&path).ends_with("\nz\n"));
        sink.line(|out| out.extend_from_slice(b"last"));
        flush();
        drop(sink);
        assert!(read(&path).ends_with("\nlast\n"));
        let _ = fs::remove_file(path);
    }

    #[test]
    fn gzip() {
        use std::io::Read;
        let (path, file) = scratch();
        let sink = LogSink::new(file);
        assert_eq!(sink.buffer(Buffering { size: 1000, flush_ms: None, gzip: Some(1) }), Ok(()));
        sink.line(|out| out.extend_from_slice(b"packed"));
        flush_all();
        let mut text = String::new();
        let packed = fs::read(&path).expect("read");
        flate2::read::MultiGzDecoder::new(&*packed).read_to_string(&mut text).expect("gzip");
        assert_eq!(text, "packed\n");
        let _ = fs::remove_file(path);
    }
}
