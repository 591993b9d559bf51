//! What concerns one thread: its name and its number.
//!
//! The number is the kernel's, which error logs print behind the process id.

use std::ffi::CString;
use std::io;

/// Names the calling thread for `ps` and debuggers; the kernel keeps 15 bytes.
///
/// # Errors
/// Those of `prctl(2)`; `InvalidInput` for a NUL byte.
pub fn set_thread_name(name: &str) -> io::Result<()> {
    let name = CString::new(name).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: `name` is a C string that lives across the call.
    crate::syscall::check(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) }).map(drop)
}

/// The kernel's number of the calling thread.
#[must_use]
pub fn thread_id() -> i32 {
    // SAFETY: the call has no arguments and cannot fail.
    unsafe { libc::gettid() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_has_name_and_number() {
        set_thread_name("named").expect("name");
        let comm = std::fs::read_to_string(format!("/proc/self/task/{}/comm", thread_id())).expect("comm");
        assert_eq!(comm.trim(), "named");
    }
}
