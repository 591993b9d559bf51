//! Error numbers that callers tell apart.
//!
//! Only those that `std::io::ErrorKind` does not name one by one.

pub use libc::{
    EACCES, EEXIST, EINVAL, EISDIR, ELOOP, EMLINK, ENAMETOOLONG, ENOENT, ENOSPC, ENOTDIR, EPERM, EXDEV,
};
