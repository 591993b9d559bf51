//! Files: opening without waiting, what `fstat` tells, direct I/O, read-ahead, free space.
//!
//! Opening for reading is non-blocking, so that a FIFO in the document root cannot hang a thread.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use crate::syscall::{c_path, check, retry};

/// What a name in the file system stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link, seen by [`link_info`] only.
    Symlink,
    /// A device, FIFO or socket.
    Other,
}

/// What `fstat(2)` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Length, bytes.
    pub size: u64,
    /// Bytes that it takes on the disk.
    pub disk_size: u64,
    /// Last change of the contents, Unix seconds.
    pub mtime: i64,
    /// Nanoseconds of `mtime`.
    pub mtime_ns: i64,
    /// Last change of contents or particulars, Unix seconds; no program can set it.
    pub ctime: i64,
    /// Nanoseconds of `ctime`.
    pub ctime_ns: i64,
    /// Number of the file on its device.
    pub inode: u64,
    /// The device.
    pub dev: u64,
    /// Kind.
    pub kind: FileKind,
    /// Owner.
    pub uid: u32,
    /// Permission bits.
    pub mode: u32,
}

impl FileInfo {
    fn of(raw: &libc::stat) -> Self {
        Self {
            size: raw.st_size.max(0).unsigned_abs(),
            disk_size: raw.st_blocks.max(0).unsigned_abs() * 512,
            mtime: raw.st_mtime,
            mtime_ns: raw.st_mtime_nsec,
            ctime: raw.st_ctime,
            ctime_ns: raw.st_ctime_nsec,
            inode: raw.st_ino,
            dev: raw.st_dev,
            kind: match raw.st_mode & libc::S_IFMT {
                libc::S_IFREG => FileKind::Regular,
                libc::S_IFDIR => FileKind::Directory,
                libc::S_IFLNK => FileKind::Symlink,
                _ => FileKind::Other,
            },
            uid: raw.st_uid,
            mode: raw.st_mode & 0o7777,
        }
    }

    /// Whether it is a directory.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.kind == FileKind::Directory
    }

    /// Whether it is a regular file.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.kind == FileKind::Regular
    }
}

/// What `fstat(2)` tells about an open descriptor.
///
/// # Errors
/// Those of `fstat(2)`.
pub fn info(fd: BorrowedFd<'_>) -> io::Result<FileInfo> {
    // SAFETY: all zeros is a valid `stat`.
    let mut raw: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `raw` is a local that the call fills.
    check(unsafe { libc::fstat(fd.as_raw_fd(), &raw mut raw) })?;
    Ok(FileInfo::of(&raw))
}

/// What `stat(2)` tells about a path, symbolic links followed.
///
/// # Errors
/// Those of `stat(2)`.
pub fn path_info(path: &Path) -> io::Result<FileInfo> {
    let path = c_path(path)?;
    // SAFETY: all zeros is a valid `stat`.
    let mut raw: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `path` is a C string and `raw` a local that the call fills.
    check(unsafe { libc::stat(path.as_ptr(), &raw mut raw) })?;
    Ok(FileInfo::of(&raw))
}

/// What `lstat(2)` tells about a path, symbolic links not followed.
///
/// # Errors
/// Those of `lstat(2)`.
pub fn link_info(path: &Path) -> io::Result<FileInfo> {
    let path = c_path(path)?;
    info_at(libc::AT_FDCWD, &path, libc::AT_SYMLINK_NOFOLLOW)
}

pub(crate) fn info_at(dir: libc::c_int, name: &std::ffi::CStr, flags: libc::c_int) -> io::Result<FileInfo> {
    // SAFETY: all zeros is a valid `stat`.
    let mut raw: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `name` is a C string and `raw` a local that the call fills.
    check(unsafe { libc::fstatat(dir, name.as_ptr(), &raw mut raw, flags) })?;
    Ok(FileInfo::of(&raw))
}

pub(crate) fn open_at(dir: libc::c_int, name: &std::ffi::CStr, flags: libc::c_int) -> io::Result<OwnedFd> {
    let flags = flags | libc::O_CLOEXEC;
    // SAFETY: `name` is a C string; no file is created, so no mode is read.
    let fd = retry(|| check(unsafe { libc::openat(dir, name.as_ptr(), flags) }))?;
    // SAFETY: the call succeeded, so the descriptor is open and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Opens a file or directory for reading, without waiting for a FIFO's writer.
///
/// # Errors
/// Those of `open(2)`.
pub fn open_read(path: &Path) -> io::Result<OwnedFd> {
    open_at(libc::AT_FDCWD, &c_path(path)?, libc::O_RDONLY | libc::O_NONBLOCK)
}

/// Opens a log for appending and makes it where it is missing (mode 0644 before the mask).
///
/// # Errors
/// Those of `open(2)`.
pub fn open_append(path: &Path) -> io::Result<OwnedFd> {
    let mut options = File::options();
    Ok(options.append(true).create(true).mode(0o644).open(path)?.into())
}

/// Makes a new file that must not be there yet, for reading and writing.
///
/// # Errors
/// Those of `open(2)`; `AlreadyExists`.
pub fn create_new(path: &Path, mode: u32) -> io::Result<OwnedFd> {
    let mut options = File::options();
    Ok(options.read(true).write(true).create_new(true).mode(mode).open(path)?.into())
}

/// Makes a directory with this mode; one that is there already is left alone.
///
/// # Errors
/// Those of `mkdir(2)`.
pub fn create_dir(path: &Path, mode: u32) -> io::Result<()> {
    match std::fs::DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Gives a file to another user; the group stays.
///
/// # Errors
/// Those of `chown(2)`.
pub fn chown(path: &Path, uid: u32) -> io::Result<()> {
    std::os::unix::fs::chown(path, Some(uid), None)
}

/// Tells the kernel that a file will be read from front to back (`read_ahead`).
///
/// # Errors
/// Those of `posix_fadvise(2)`.
pub fn read_ahead(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: plain integers are passed and the descriptor is open.
    match unsafe { libc::posix_fadvise(fd.as_raw_fd(), 0, 0, libc::POSIX_FADV_SEQUENTIAL) } {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// Room of the file system that holds a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreeSpace {
    /// Bytes that an unprivileged process may still write.
    pub available: u64,
    /// Size of a block, bytes.
    pub block_size: u64,
}

/// The free space of the file system that holds `path` (`min_free`).
///
/// # Errors
/// Those of `statvfs(3)`.
pub fn free_space(path: &Path) -> io::Result<FreeSpace> {
    let path = c_path(path)?;
    // SAFETY: all zeros is a valid `statvfs`.
    let mut raw: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: `path` is a C string and `raw` a local that the call fills.
    retry(|| check(unsafe { libc::statvfs(path.as_ptr(), &raw mut raw) }))?;
    Ok(FreeSpace { available: raw.f_bavail.saturating_mul(raw.f_frsize), block_size: raw.f_bsize })
}

/// Paths that match a shell pattern, sorted as nginx's `include` sorts them; empty when none does.
///
/// # Errors
/// Those of `glob(3)` in reading a directory.
pub fn glob(pattern: &Path) -> io::Result<Vec<std::path::PathBuf>> {
    use std::os::unix::ffi::OsStrExt;
    let pattern = c_path(pattern)?;
    // SAFETY: all zeros is a valid `glob_t` for a call without GLOB_APPEND and GLOB_DOOFFS.
    let mut found: libc::glob_t = unsafe { std::mem::zeroed() };
    // SAFETY: `pattern` is a C string, `found` a local, and no error callback is passed.
    let code = unsafe { libc::glob(pattern.as_ptr(), 0, None, &raw mut found) };
    let paths = (code == 0).then(|| {
        (0..found.gl_pathc)
            .map(|index| {
                // SAFETY: on success gl_pathv holds gl_pathc C strings until globfree.
                let text = unsafe { std::ffi::CStr::from_ptr(*found.gl_pathv.add(index)) };
                std::path::PathBuf::from(std::ffi::OsStr::from_bytes(text.to_bytes()))
            })
            .collect()
    });
    // SAFETY: `found` was filled or left empty by glob and is not used afterwards.
    unsafe { libc::globfree(&raw mut found) };
    match (code, paths) {
        (0, Some(paths)) => Ok(paths),
        (libc::GLOB_NOMATCH, _) => Ok(Vec::new()),
        (libc::GLOB_NOSPACE, _) => Err(io::ErrorKind::OutOfMemory.into()),
        _ => Err(io::Error::from_raw_os_error(libc::EACCES)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    fn scratch(name: &str) -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("tidegate-file-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("dir");
        dir
    }

    #[test]
    fn info_tells_size_and_kind() {
        let dir = scratch("info");
        let path = dir.join("a");
        let log = open_append(&path).expect("append");
        crate::io::write_all(log.as_fd(), b"12345").expect("write");
        let file = open_read(&path).expect("open");
        let seen = info(file.as_fd()).expect("info");
        assert_eq!((seen.size, seen.kind), (5, FileKind::Regular));
        assert_eq!(path_info(&path).expect("info"), seen);
        assert!(path_info(&dir).expect("info").is_dir());
        std::os::unix::fs::symlink(&path, dir.join("l")).expect("link");
        assert_eq!(link_info(&dir.join("l")).expect("info").kind, FileKind::Symlink);
        read_ahead(file.as_fd()).expect("advice");
        assert!(free_space(&dir).expect("space").block_size > 0);
        assert!(create_new(&path, 0o600).is_err());
        create_dir(&dir, 0o700).expect("there already");
        let _ = std::fs::remove_dir_all(&dir);
    }

    #[test]
    fn glob_sorts_and_may_find_nothing() {
        let dir = scratch("glob");
        for name in ["b.conf", "a.conf", "c.txt"] {
            std::fs::write(dir.join(name), "").expect("write");
        }
        let found = glob(&dir.join("*.conf")).expect("glob");
        assert_eq!(found, [dir.join("a.conf"), dir.join("b.conf")]);
        assert!(glob(&dir.join("*.none")).expect("glob").is_empty());
        let _ = std::fs::remove_dir_all(&dir);
    }
}
