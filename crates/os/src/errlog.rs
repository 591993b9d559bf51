//! The error log: where messages go, from which level on, and what a line looks like.
//!
//! Each line is written at once by one `write(2)`, so processes can share a file. Follows `ngx_log.c`.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use crate::clock;
use crate::syslog::Syslog;

/// The longest line with its end, bytes (`NGX_MAX_ERROR_STR`).
pub const MAX_LINE: usize = 2048;

/// How grave a message is; a greater level is less grave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// The server cannot go on.
    Emerg = 1,
    /// Somebody must act at once.
    Alert,
    /// Something important failed.
    Crit,
    /// A request failed.
    Error,
    /// Something looks wrong.
    Warn,
    /// Worth knowing.
    Notice,
    /// For the curious.
    Info,
    /// For those who look for a fault.
    Debug,
}

impl Level {
    /// All levels, the gravest first.
    pub const ALL: [Self; 8] = [
        Self::Emerg,
        Self::Alert,
        Self::Crit,
        Self::Error,
        Self::Warn,
        Self::Notice,
        Self::Info,
        Self::Debug,
    ];

    /// Its name in configuration and log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Emerg => "emerg",
            Self::Alert => "alert",
            Self::Crit => "crit",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Notice => "notice",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }

    /// The level of this name; `debug_http` and its kin count as `debug`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        const DEBUG_KINDS: [&str; 7] = [
            "debug_core",
            "debug_alloc",
            "debug_mutex",
            "debug_event",
            "debug_http",
            "debug_mail",
            "debug_stream",
        ];
        if DEBUG_KINDS.contains(&name) {
            return Some(Self::Debug);
        }
        Self::ALL.into_iter().find(|level| level.name() == name)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Something that lends a descriptor, such as an open log file.
pub trait LogTarget: AsFd + Send + Sync + fmt::Debug {}

impl<T: AsFd + Send + Sync + fmt::Debug> LogTarget for T {}

/// Where lines go.
#[derive(Clone, Debug)]
pub enum Target {
    /// A file opened for appending.
    File(Arc<dyn LogTarget>),
    /// Standard error.
    Stderr,
    /// A syslog server.
    Syslog(Arc<Syslog>),
}

/// One target and the least grave level that it takes.
#[derive(Debug)]
pub struct Sink {
    target: Target,
    level: Level,
    // Second in which the disk was full: no further attempt is made within it.
    full_at: AtomicI64,
}

impl Sink {
    /// A target for messages of `level` and graver.
    #[must_use]
    pub fn new(target: Target, level: Level) -> Self {
        Self { target, level, full_at: AtomicI64::new(i64::MIN) }
    }
}

/// Whose message it is, and whether levels count for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Number of the connection, printed as `*7`; zero for none.
    pub connection: u64,
    /// `debug_connection` lifts the levels for some clients.
    pub verbosity: Verbosity,
}

/// Whether the configured levels count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verbosity {
    /// They count.
    #[default]
    Configured,
    /// All is logged everywhere.
    Everything,
}

impl Scope {
    /// The messages of no connection.
    pub const NONE: Self = Self { connection: 0, verbosity: Verbosity::Configured };

    /// The messages of one connection.
    #[must_use]
    pub fn connection(number: u64) -> Self {
        Self { connection: number, verbosity: Verbosity::Configured }
    }
}

/// A set of targets with their levels: what `error_log` lines of one level of the configuration make.
#[derive(Debug, Default)]
pub struct ErrorLog {
    sinks: Vec<Sink>,
    // Number of the least grave level that any target takes; zero without targets.
    most: u8,
}

/// Whether any log of the process was ever made for debug messages.
static WANTS_DEBUG: AtomicBool = AtomicBool::new(false);

/// Whether anybody may want debug messages: the one look that nearly every place with one is content with.
#[inline]
#[must_use]
pub fn wants_debug() -> bool {
    WANTS_DEBUG.load(Ordering::Relaxed)
}

/// Has debug messages be made from now on (`debug_connection`); a log of level `debug` does so by itself.
pub fn want_debug() {
    WANTS_DEBUG.store(true, Ordering::Relaxed);
}

impl ErrorLog {
    /// A log with these targets; without any it is silent.
    #[must_use]
    pub fn new(sinks: Vec<Sink>) -> Self {
        let most = sinks.iter().map(|sink| sink.level as u8).max().unwrap_or(0);
        if most >= Level::Debug as u8 {
            want_debug();
        }
        Self { sinks, most }
    }

    /// A log to standard error.
    #[must_use]
    pub fn stderr(level: Level) -> Self {
        Self::new(vec![Sink::new(Target::Stderr, level)])
    }

    /// Whether any target takes this level: ask before making an expensive message.
    #[inline]
    #[must_use]
    pub fn enabled(&self, level: Level) -> bool {
        level as u8 <= self.most
    }

    /// As [`ErrorLog::enabled`], for the messages of a connection.
    #[inline]
    #[must_use]
    pub fn enabled_for(&self, level: Level, scope: Scope) -> bool {
        self.enabled(level) || scope.verbosity == Verbosity::Everything
    }

    /// Whether a line goes to standard error.
    #[must_use]
    pub fn has_stderr(&self) -> bool {
        self.sinks.iter().any(|sink| matches!(sink.target, Target::Stderr))
    }

    /// The first of its files, for what else should end up there.
    #[must_use]
    pub fn first_file(&self) -> Option<BorrowedFd<'_>> {
        self.sinks.iter().find_map(|sink| match &sink.target {
            Target::File(file) => Some(file.as_fd()),
            Target::Stderr | Target::Syslog(_) => None,
        })
    }

    /// Writes a message that belongs to no connection.
    #[inline]
    pub fn log(&self, level: Level, message: fmt::Arguments<'_>) {
        self.log_for(level, Scope::NONE, message);
    }

    /// Writes a message of a connection.
    #[inline]
    pub fn log_for(&self, level: Level, scope: Scope, message: fmt::Arguments<'_>) {
        if self.enabled_for(level, scope) {
            self.write(level, scope, message);
        }
    }

    #[cold]
    fn write(&self, level: Level, scope: Scope, message: fmt::Arguments<'_>) {
        thread_local!(static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) });
        LINE.with(|line| {
            // A message that logs while it is formatted finds the buffer taken.
            let (mut taken, mut own) = (line.try_borrow_mut(), Vec::new());
            let buf = taken.as_deref_mut().unwrap_or(&mut own);
            buf.clear();
            let now = clock::realtime_sec();
            format_line(buf, now, level, scope, message);
            for sink in &self.sinks {
                if level <= sink.level || scope.verbosity == Verbosity::Everything {
                    sink.write(level, now, buf);
                }
            }
        });
    }
}

impl Sink {
    fn write(&self, level: Level, now: i64, line: &[u8]) {
        match &self.target {
            Target::Stderr => {
                let _ = crate::io::write_all(io::stderr().as_fd(), line);
            }
            Target::File(file) => self.write_file(file.as_fd(), now, line),
            // A syslog server that is away must not stop the one who logs.
            Target::Syslog(syslog) => drop(syslog.send_as(level as u8 - 1, line.trim_ascii_end())),
        }
    }

    fn write_file(&self, file: BorrowedFd<'_>, now: i64, line: &[u8]) {
        if self.full_at.load(Ordering::Relaxed) == now {
            return;
        }
        if let Err(error) = crate::io::write_all(file, line)
            && error.raw_os_error() == Some(libc::ENOSPC)
        {
            self.full_at.store(now, Ordering::Relaxed);
        }
    }
}

/// Appends `2026/11/24 10:00:00 [notice] 12#12: *3 message` and a line feed, at most [`MAX_LINE`] bytes.
fn format_line(buf: &mut Vec<u8>, now: i64, level: Level, scope: Scope, message: fmt::Arguments<'_>) {
    use std::io::Write as _;
    push_time(buf, now);
    let (process, thread) = (crate::process::pid(), crate::thread::thread_id());
    let _ = write!(buf, " [{level}] {process}#{thread}: ");
    if scope.connection != 0 {
        let _ = write!(buf, "*{} ", scope.connection);
    }
    let _ = buf.write_fmt(message);
    buf.truncate(MAX_LINE - 1);
    buf.push(b'\n');
}

/// Appends the local time as `2026/11/24 10:00:00`; the text is made once per second and thread.
fn push_time(buf: &mut Vec<u8>, now: i64) {
    thread_local!(static TEXT: RefCell<(i64, String)> = const { RefCell::new((i64::MIN, String::new())) });
    TEXT.with(|cell| {
        let Ok(mut cached) = cell.try_borrow_mut() else { return };
        if cached.0 != now {
            let time = clock::local_time(now);
            let date = format!("{:4}/{:02}/{:02}", time.year, time.month, time.day);
            *cached = (now, format!("{date} {:02}:{:02}:{:02}", time.hour, time.minute, time.second));
        }
        buf.extend_from_slice(cached.1.as_bytes());
    });
}

/// Shows a system error as nginx does: `(2: No such file or directory)`.
#[derive(Clone, Copy, Debug)]
pub struct Errno<'a>(pub &'a io::Error);

impl fmt::Display for Errno<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.raw_os_error() {
            Some(code) => write!(f, "({code}: {})", strerror(code)),
            None => write!(f, "({})", self.0),
        }
    }
}

/// The system's words for an error number.
#[must_use]
pub fn strerror(code: i32) -> String {
    let mut buf = [0u8; 256];
    // SAFETY: the buffer's length is passed; libc binds the variant that fills it and ends it with NUL.
    let failed = unsafe { libc::strerror_r(code, buf.as_mut_ptr().cast(), buf.len()) } != 0;
    let text = std::ffi::CStr::from_bytes_until_nul(&buf).map(|text| text.to_string_lossy().into_owned());
    match text {
        Ok(text) if !failed => text,
        _ => "Unknown error".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn logged(level: Level, act: impl FnOnce(&ErrorLog)) -> String {
        use std::sync::atomic::AtomicU32;
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tidegate-errlog-{}-{number}", std::process::id()));
        let file = Arc::new(File::create(&path).expect("create"));
        act(&ErrorLog::new(vec![Sink::new(Target::File(file), level)]));
        let text = std::fs::read_to_string(&path).expect("read");
        let _ = std::fs::remove_file(&path);
        text
    }

    #[test]
    fn a_line_has_nginx_form() {
        let text = logged(Level::Notice, |log| {
            log.log_for(Level::Error, Scope::connection(7), format_args!("open() failed"));
        });
        let (time, rest) = text.split_at(19);
        assert!(time.bytes().all(|byte| byte.is_ascii_digit() || b"/: ".contains(&byte)), "{text}");
        let ids =
            format!(" [error] {}#{}: *7 open() failed\n", std::process::id(), crate::thread::thread_id());
        assert_eq!(rest, ids);
    }

    #[test]
    fn levels_decide_unless_lifted() {
        let text = logged(Level::Warn, |log| {
            assert!(log.enabled(Level::Warn) && !log.enabled(Level::Notice));
            log.log(Level::Notice, format_args!("hidden"));
            log.log(Level::Warn, format_args!("shown"));
            let lifted = Scope { connection: 1, verbosity: Verbosity::Everything };
            log.log_for(Level::Debug, lifted, format_args!("lifted"));
        });
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(!text.contains("hidden"));
        assert!(!ErrorLog::default().enabled(Level::Emerg));
    }

    #[test]
    fn a_long_line_is_cut() {
        let text = logged(Level::Warn, |log| log.log(Level::Warn, format_args!("{}", "x".repeat(5000))));
        assert_eq!(text.len(), MAX_LINE);
        assert!(text.ends_with("x\n"));
    }

    #[test]
    fn names_and_errors() {
        for level in Level::ALL {
            assert_eq!(Level::from_name(level.name()), Some(level));
        }
        assert_eq!(Level::from_name("debug_http"), Some(Level::Debug));
        assert_eq!(Level::from_name("loud"), None);
        let error = io::Error::from_raw_os_error(2);
        assert_eq!(Errno(&error).to_string(), "(2: No such file or directory)");
    }
}
