//! Opening a file while symbolic links on the way are forbidden (`disable_symlinks`).
//!
//! Follows `ngx_open_file_wrapper`: each component is opened from the one before it, so a directory that is
//! exchanged for a link meanwhile cannot lead astray.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::file::{info, info_at, open_at, open_read};

/// Which symbolic links are followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SymlinkPolicy {
    /// `off`: all.
    #[default]
    Follow,
    /// `on`: none.
    Refuse,
    /// `if_not_owner`: those whose owner is also the owner of what they point to.
    SameOwner,
}

const SEARCH: libc::c_int = libc::O_PATH | libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NONBLOCK;
const READ: libc::c_int = libc::O_RDONLY | libc::O_NONBLOCK;

/// Opens `path` for reading. The first `trusted` bytes of it (`from=`) may contain any links.
///
/// # Errors
/// Those of `openat(2)`; `ELOOP` for a link that is not followed (`ENOTDIR` for one in the middle),
/// which nginx answers with 403.
pub fn open_checked(path: &Path, policy: SymlinkPolicy, trusted: usize) -> io::Result<OwnedFd> {
    if policy == SymlinkPolicy::Follow {
        return open_read(path);
    }
    let bytes = path.as_os_str().as_bytes();
    let (mut dir, rest) = match bytes.split_at_checked(trusted) {
        Some((head, rest)) if trusted > 0 => (Some(open_at(libc::AT_FDCWD, &name(head)?, SEARCH)?), rest),
        _ if bytes.starts_with(b"/") => (Some(open_at(libc::AT_FDCWD, c"/", SEARCH)?), bytes),
        _ => (None, bytes),
    };
    let mut parts = rest.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).peekable();
    while let Some(part) = parts.next() {
        let at = dir.as_ref().map_or(libc::AT_FDCWD, AsRawFd::as_raw_fd);
        let is_last = parts.peek().is_none() && !rest.ends_with(b"/");
        let flags = if is_last { READ } else { SEARCH };
        let next = component(at, &name(part)?, flags, policy)?;
        if is_last {
            return Ok(next);
        }
        dir = Some(next);
    }
    // The path ends with a slash: open the directory itself once more, now for reading.
    open_at(dir.as_ref().map_or(libc::AT_FDCWD, AsRawFd::as_raw_fd), c".", READ)
}

fn component(
    at: libc::c_int,
    name: &std::ffi::CStr,
    flags: libc::c_int,
    policy: SymlinkPolicy,
) -> io::Result<OwnedFd> {
    if policy == SymlinkPolicy::Refuse {
        return open_at(at, name, flags | libc::O_NOFOLLOW);
    }
    let opened = open_at(at, name, flags)?;
    let link = info_at(at, name, libc::AT_SYMLINK_NOFOLLOW)?;
    // Owners are compared even when this is no link now: it may have been one a moment ago.
    if info(opened.as_fd())?.uid != link.uid {
        return Err(io::Error::from_raw_os_error(libc::ELOOP));
    }
    Ok(opened)
}

fn name(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(|_| io::ErrorKind::InvalidInput.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_followed_as_the_policy_says() {
        let root = std::env::temp_dir().join(format!("tidegate-links-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        std::fs::create_dir_all(root.join("real/sub")).expect("dir");
        // The temporary directory itself may be reached over a link.
        let root = root.canonicalize().expect("path");
        std::fs::write(root.join("real/file"), "x").expect("write");
        symlink("real", root.join("dirlink")).expect("link");
        symlink("file", root.join("real/filelink")).expect("link");
        let base = root.as_os_str().len();

        use SymlinkPolicy::{Follow, Refuse, SameOwner};
        let check = |path: &str, policy, trusted: usize, fine: bool| {
            let opened = open_checked(&root.join(path), policy, trusted);
            assert_eq!(opened.is_ok(), fine, "{path} {policy:?} {trusted}: {opened:?}");
        };
        check("real/file", Refuse, 0, true);
        check("real//file", Refuse, 0, true);
        check("real/sub/", Refuse, 0, true);
        check("real/file/", Refuse, 0, false);
        check("real/filelink", Refuse, 0, false);
        check("dirlink/file", Refuse, 0, false);
        check("dirlink/file", Refuse, base + "/dirlink".len(), true);
        check("dirlink/filelink", Refuse, base + "/dirlink".len(), false);
        check("dirlink/filelink", Follow, 0, true);
        check("dirlink/filelink", SameOwner, 0, true);
        check("none", SameOwner, 0, false);
        let _ = std::fs::remove_dir_all(&root);
    }
}
