//! What can end a benchmark before it has figures.
//! A proxy that fails in one row is no error here: it is told in its row and the others go on.

use std::io;

/// The reasons for which a command of the benchmark ends without a result.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The command line cannot be obeyed.
    #[error("{0}")]
    Usage(String),
    /// A file, a socket or a program of the benchmark itself failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried, with the name it was tried on.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The measured server did not start or did not answer as it should.
    #[error("{0}")]
    Server(String),
}

/// Adds to an I/O error what was tried.
pub trait Context<T> {
    /// Turns the error into [`BenchError::Io`]; `what` is only called on failure.
    ///
    /// # Errors
    /// The error of `self`, if there is one.
    fn context(self, what: impl FnOnce() -> String) -> Result<T, BenchError>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T, BenchError> {
        self.map_err(|source| BenchError::Io { what: what(), source })
    }
}
