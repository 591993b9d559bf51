//! Users and groups by name, and the one-way step from root to the worker's user.
//!
//! Follows the order of `ngx_worker_process_init`: group, supplementary groups, capabilities, user.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;

use crate::process::prctl;
use crate::syscall::{check, retry};

/// Whom the worker runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// User name, which decides the supplementary groups.
    pub name: String,
}

/// Whether the worker keeps the right to use foreign local addresses (`transparent`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Capabilities {
    /// None is kept.
    #[default]
    Drop,
    /// `CAP_NET_RAW` is kept.
    KeepNetRaw,
}

/// The effective user id of this process.
#[must_use]
pub fn effective_uid() -> u32 {
    // SAFETY: the call has no arguments and cannot fail.
    unsafe { libc::geteuid() }
}

/// Whether this process has root's rights, as far as its user id tells.
#[must_use]
pub fn is_root() -> bool {
    effective_uid() == 0
}

/// User id and primary group id of a user; `None` when there is none of that name.
///
/// # Errors
/// Those of `getpwnam_r(3)`.
pub fn user(name: &str) -> io::Result<Option<(u32, u32)>> {
    let name = c_name(name)?;
    let mut entry = MaybeUninit::<libc::passwd>::zeroed();
    // SAFETY: name, entry, buffer and result pointer live across the call, and the length is the buffer's.
    let found = lookup(|buf, result: &mut *mut libc::passwd| unsafe {
        libc::getpwnam_r(name.as_ptr(), entry.as_mut_ptr(), buf.as_mut_ptr().cast(), buf.len(), result)
    })?;
    // SAFETY: a non-null result points to `entry`, whose integers the call has filled.
    Ok((!found.is_null()).then(|| unsafe { ((*found).pw_uid, (*found).pw_gid) }))
}

/// Group id of a group; `None` when there is none of that name.
///
/// # Errors
/// Those of `getgrnam_r(3)`.
pub fn group(name: &str) -> io::Result<Option<u32>> {
    let name = c_name(name)?;
    let mut entry = MaybeUninit::<libc::group>::zeroed();
    // SAFETY: name, entry, buffer and result pointer live across the call, and the length is the buffer's.
    let found = lookup(|buf, result: &mut *mut libc::group| unsafe {
        libc::getgrnam_r(name.as_ptr(), entry.as_mut_ptr(), buf.as_mut_ptr().cast(), buf.len(), result)
    })?;
    // SAFETY: a non-null result points to `entry`, whose integers the call has filled.
    Ok((!found.is_null()).then(|| unsafe { (*found).gr_gid }))
}

/// Calls with a buffer that grows while the entry does not fit; the result is null when nothing was found.
fn lookup<T>(mut call: impl FnMut(&mut [u8], &mut *mut T) -> libc::c_int) -> io::Result<*mut T> {
    const LARGEST: usize = 1 << 20;
    let mut buf = vec![0u8; 4096];
    loop {
        let mut result = std::ptr::null_mut();
        match call(&mut buf, &mut result) {
            0 => return Ok(result),
            libc::ERANGE if buf.len() < LARGEST => buf = vec![0; buf.len() * 2],
            // Several systems report an unknown name as one of these.
            libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM => return Ok(std::ptr::null_mut()),
            code => return Err(io::Error::from_raw_os_error(code)),
        }
    }
}

fn c_name(name: &str) -> io::Result<CString> {
    CString::new(name).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Which call of [`drop_to`] failed; nginx's messages name it.
#[derive(Debug)]
pub struct DropError {
    /// The call as nginx names it: `setgid`, `initgroups`, `setuid`, …
    pub call: &'static str,
    /// Why.
    pub error: io::Error,
}

/// Becomes another user for good; does nothing when this process is not root.
///
/// The process may dump core afterwards, as nginx's workers may. Other threads are changed too.
///
/// # Errors
/// [`DropError`]; the process must then not go on.
pub fn drop_to(whom: &Credentials, capabilities: Capabilities) -> Result<(), DropError> {
    if !is_root() {
        return Ok(());
    }
    let at = |call: &'static str| move |error: io::Error| DropError { call, error };
    // SAFETY: plain integers are passed.
    check(unsafe { libc::setgid(whom.gid) }).map_err(at("setgid"))?;
    let name = c_name(&whom.name).map_err(at("initgroups"))?;
    // SAFETY: `name` is a C string that lives across the call.
    retry(|| check(unsafe { libc::initgroups(name.as_ptr(), whom.gid) })).map_err(at("initgroups"))?;
    if capabilities == Capabilities::KeepNetRaw {
        prctl(libc::PR_SET_KEEPCAPS, 1).map_err(at("prctl"))?;
    }
    // SAFETY: plain integers are passed.
    check(unsafe { libc::setuid(whom.uid) }).map_err(at("setuid"))?;
    if capabilities == Capabilities::KeepNetRaw {
        keep_net_raw().map_err(at("capset"))?;
    }
    prctl(libc::PR_SET_DUMPABLE, 1).map_err(at("prctl"))
}

/// The kernel's `__user_cap_header_struct`.
#[repr(C)]
struct CapHeader {
    version: u32,
    pid: libc::c_int,
}

/// The kernel's `__user_cap_data_struct`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn keep_net_raw() -> io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    const CAP_NET_RAW: u32 = 13;
    let header = CapHeader { version: VERSION_3, pid: 0 };
    let kept = CapData { effective: 1 << CAP_NET_RAW, permitted: 1 << CAP_NET_RAW, inheritable: 0 };
    let data = [kept, CapData::default()];
    // SAFETY: version 3 reads one header and two data structures, which live across the call.
    let done = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    if done == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_or_not() {
        assert_eq!(user("root").expect("lookup"), Some((0, 0)));
        assert_eq!(group("root").expect("lookup"), Some(0));
        assert_eq!(user("no-such-user-here").expect("lookup"), None);
        assert_eq!(group("no-such-group-here").expect("lookup"), None);
        assert!(user("a\0b").is_err());
    }
}
