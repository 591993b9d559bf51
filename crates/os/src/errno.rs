//! Error numbers that callers tell apart.
//!
//! Only those that `std::io::ErrorKind` does not name one by one.

pub use libc::{EACCES, EINVAL, ELOOP, EMLINK, ENAMETOOLONG, ENOENT, ENOTDIR};
