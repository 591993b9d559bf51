//! Messages of the program itself: to the error log, and while it starts also to standard error.
//!
//! nginx shows the grave ones on standard error as `nginx: [emerg] …` until it has started.

use std::fmt;
use std::sync::Arc;

use os::errlog::{ErrorLog, Level};

/// Whether grave messages appear on standard error too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Console {
    /// While starting.
    Shown,
    /// Once started.
    Silent,
}

/// Where the program's messages go.
#[derive(Clone, Debug)]
pub(crate) struct Reporter {
    pub(crate) log: Arc<ErrorLog>,
    pub(crate) console: Console,
}

impl Reporter {
    pub(crate) fn report(&self, level: Level, message: fmt::Arguments<'_>) {
        self.report_with(level, message, None);
    }

    /// As [`Reporter::report`], with a longer text for a terminal.
    pub(crate) fn report_with(&self, level: Level, message: fmt::Arguments<'_>, long: Option<&str>) {
        self.log.log(level, message);
        let is_shown = self.console == Console::Shown && level <= Level::Warn;
        match long {
            Some(text) if is_shown => eprintln!("nginx: [{level}] {text}"),
            _ if is_shown && !self.log.has_stderr() => eprintln!("nginx: [{level}] {message}"),
            _ => {}
        }
    }

    pub(crate) fn notice(&self, message: fmt::Arguments<'_>) {
        self.report(Level::Notice, message);
    }

    pub(crate) fn alert(&self, message: fmt::Arguments<'_>) {
        self.report(Level::Alert, message);
    }
}
