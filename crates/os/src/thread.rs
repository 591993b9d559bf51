//! The number of a thread, which error logs print behind the process id.
//!
//! It is the kernel's, and not the one that the library gives it.

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
    fn each_thread_has_a_number() {
        let other = std::thread::spawn(thread_id).join().expect("a number");
        assert!(other > 0 && thread_id() > 0 && other != thread_id());
    }
}
