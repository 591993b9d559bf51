//! Resource limits, priority and processors.
//!
//! All of it concerns the calling process, or the calling thread where that is said.

use std::io;

use crate::syscall::check;

/// The largest number of open descriptors: soft and hard limit.
///
/// # Errors
/// Those of `getrlimit(2)`.
pub fn nofile() -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a local that the call fills.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// Sets both limits of open descriptors (`worker_rlimit_nofile`).
///
/// # Errors
/// Those of `setrlimit(2)`; `PermissionDenied` above the hard limit.
pub fn set_nofile(count: u64) -> io::Result<()> {
    set(libc::RLIMIT_NOFILE, count)
}

/// Sets both limits of a core file's size, bytes (`worker_rlimit_core`).
///
/// # Errors
/// Those of `setrlimit(2)`.
pub fn set_core(bytes: u64) -> io::Result<()> {
    set(libc::RLIMIT_CORE, bytes)
}

fn set(which: libc::__rlimit_resource_t, value: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: `limit` is a local that the call reads.
    check(unsafe { libc::setrlimit(which, &raw const limit) }).map(drop)
}

/// Sets the scheduling priority, -20 to 20 (`worker_priority`).
///
/// # Errors
/// Those of `setpriority(2)`.
pub fn set_priority(nice: i32) -> io::Result<()> {
    // SAFETY: plain integers are passed.
    check(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) }).map(drop)
}

/// Processors that are online; at least one (`worker_processes auto`).
#[must_use]
pub fn cpu_count() -> usize {
    // SAFETY: plain integers are passed.
    let count = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    usize::try_from(count).unwrap_or(1).max(1)
}

/// Binds the calling thread to processors, counted from zero (`worker_cpu_affinity`).
///
/// # Errors
/// Those of `sched_setaffinity(2)`; `InvalidInput` when none of them exists.
pub fn set_affinity(cpus: &[usize]) -> io::Result<()> {
    // SAFETY: all zeros is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for cpu in cpus.iter().copied().filter(|cpu| *cpu < libc::CPU_SETSIZE.unsigned_abs() as usize) {
        // SAFETY: `cpu` lies inside the set.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    // SAFETY: `set` is a local of the size that is passed; zero is the calling thread.
    check(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read() {
        let (soft, hard) = nofile().expect("limit");
        assert!(soft > 0 && soft <= hard);
        assert!(cpu_count() > 0);
        assert!(set_affinity(&[]).is_err());
    }
}
