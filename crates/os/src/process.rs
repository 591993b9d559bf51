//! Processes: forking, waiting, signalling, replacing the program, and the descriptors that they share.
//!
//! What is sound in a single-threaded process only is refused where the process has more threads.

use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::signal::Signal;
use crate::syscall::{c_path, check, retry};

/// A process id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pid(pub i32);

impl std::fmt::Display for Pid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Which side of a [`fork`] this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forked {
    /// The process that forked, and its child's id.
    Parent(Pid),
    /// The new process.
    Child,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// This signal killed it.
    Signal {
        /// The signal's number.
        number: i32,
        /// Whether it left a core file.
        core: bool,
    },
}

/// This process.
#[must_use]
pub fn pid() -> Pid {
    Pid(std::process::id().cast_signed())
}

/// The parent of this process.
#[must_use]
pub fn parent_pid() -> Pid {
    Pid(std::os::unix::process::parent_id().cast_signed())
}

/// The name of this machine, in lower case as nginx keeps it; empty where the system does not tell.
#[must_use]
pub fn hostname() -> String {
    let mut buf = [0u8; 256];
    // SAFETY: the buffer's length is passed; the last byte is kept back, so a NUL always ends the name.
    if unsafe { libc::gethostname(buf.as_mut_ptr().cast(), buf.len() - 1) } != 0 {
        return String::new();
    }
    let name = std::ffi::CStr::from_bytes_until_nul(&buf).unwrap_or_default();
    name.to_string_lossy().to_lowercase()
}

/// Makes sure that this process has one thread.
fn single_threaded() -> io::Result<()> {
    // SAFETY: a plain integer is passed. The kernel parts no threads: it refuses where there are others, and does
    // nothing where there are none (unshare(2)).
    let is_alone = match check(unsafe { libc::unshare(libc::CLONE_THREAD) }) {
        Ok(_) => true,
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => false,
        // Some containers forbid the call.
        Err(_) => std::fs::read_dir("/proc/self/task")?.take(2).count() == 1,
    };
    if is_alone {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::Unsupported, "the process has more than one thread"))
}

/// Splits this process in two. Both sides go on from here.
///
/// # Errors
/// Those of `fork(2)`; `Unsupported` when the process has more than one thread, since the child would find
/// their locks held for ever.
pub fn fork() -> io::Result<Forked> {
    single_threaded()?;
    // SAFETY: no other thread exists, so every lock and the allocator are in order in the child.
    match check(unsafe { libc::fork() })? {
        0 => Ok(Forked::Child),
        child => Ok(Forked::Parent(Pid(child))),
    }
}

/// Begins a new session without a terminal.
///
/// # Errors
/// Those of `setsid(2)`.
pub fn setsid() -> io::Result<()> {
    // SAFETY: the call has no arguments.
    check(unsafe { libc::setsid() }).map(drop)
}

/// Sets the mask of modes that new files do not get.
pub fn umask(mask: u32) {
    // SAFETY: a plain integer is passed; the call cannot fail.
    unsafe { libc::umask(mask) };
}

/// Turns this process into a daemon as `ngx_daemon` does: the parent exits with 0, the child has a session of
/// its own, no mask, and `/dev/null` as input and output. Standard error stays until the log is there.
///
/// # Errors
/// Those of the calls; the process must then not go on.
pub fn daemonise() -> io::Result<()> {
    if let Forked::Parent(_) = fork()? {
        std::process::exit(0);
    }
    setsid()?;
    umask(0);
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    redirect(&null, STDIN)?;
    redirect(&null, STDOUT)
}

/// Number of standard input.
pub const STDIN: RawFd = 0;
/// Number of standard output.
pub const STDOUT: RawFd = 1;
/// Number of standard error.
pub const STDERR: RawFd = 2;

/// Makes one of the three standard descriptors mean what `source` means.
///
/// # Errors
/// Those of `dup2(2)`; `InvalidInput` for another number, since that may belong to somebody.
pub fn redirect(source: &impl AsRawFd, standard: RawFd) -> io::Result<()> {
    if !(STDIN..=STDERR).contains(&standard) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the standard descriptors belong to the whole process; nobody owns them as a value.
    retry(|| check(unsafe { libc::dup2(source.as_raw_fd(), standard) })).map(drop)
}

/// Makes `target` mean what `source` means, so that all holders of `target` go on with the other file.
///
/// The target stays close-on-exec.
///
/// # Errors
/// Those of `dup3(2)`.
pub fn replace(source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let (from, to) = (source.as_raw_fd(), target.as_raw_fd());
    if from == to {
        return Ok(());
    }
    // SAFETY: the target stays open under its number, so its owner's and all borrowers' claims hold.
    retry(|| check(unsafe { libc::dup3(from, to, libc::O_CLOEXEC) })).map(drop)
}

/// A second descriptor for the same file, one that survives an `exec`: for a new binary's sockets.
///
/// # Errors
/// Those of `dup(2)`.
pub fn inheritable(fd: BorrowedFd<'_>) -> io::Result<std::os::fd::OwnedFd> {
    use std::os::fd::FromRawFd;
    // SAFETY: plain integers are passed and the descriptor is open.
    let copy = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD, 3) })?;
    // SAFETY: the call succeeded, so the copy is open and belongs to nobody else.
    Ok(unsafe { std::os::fd::OwnedFd::from_raw_fd(copy) })
}

/// Takes over a descriptor that the parent program left under a number; it becomes close-on-exec.
///
/// Whatever this program opens is close-on-exec from the beginning, and such a descriptor is not taken.
///
/// # Errors
/// `InvalidInput` for a standard descriptor, one of this program's own, or a number under which no socket is open.
pub fn adopt_socket(number: RawFd) -> io::Result<std::os::fd::OwnedFd> {
    use std::os::fd::FromRawFd;
    if number <= STDERR {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: all zeros is a valid `stat`.
    let mut info: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `info` is a local that the call fills; a number that is not open is an error.
    check(unsafe { libc::fstat(number, &raw mut info) })?;
    if info.st_mode & libc::S_IFMT != libc::S_IFSOCK {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: plain integers are passed.
    if check(unsafe { libc::fcntl(number, libc::F_GETFD) })? & libc::FD_CLOEXEC != 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: plain integers are passed.
    check(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: it is open and was not close-on-exec, so it came from the parent and was not taken over before. What
    // `inheritable` gives is neither, but is for a program that is executed next.
    Ok(unsafe { std::os::fd::OwnedFd::from_raw_fd(number) })
}

/// Opens `/dev/null` under each standard number that the parent left closed, lest a socket get it.
///
/// # Errors
/// Those of opening `/dev/null`.
pub fn fill_standard_descriptors() -> io::Result<()> {
    for number in STDIN..=STDERR {
        // SAFETY: plain integers are passed.
        if unsafe { libc::fcntl(number, libc::F_GETFD) } == -1 {
            // SAFETY: the path is a C string; the lowest free number is the one that was found closed.
            check(unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) })?;
        }
    }
    Ok(())
}

/// A child that has ended, if one has; never waits.
///
/// # Errors
/// Those of `waitpid(2)`; no children at all is `None`.
pub fn wait_any() -> io::Result<Option<(Pid, Exit)>> {
    wait_raw(-1, libc::WNOHANG)
}

/// Waits until a child has ended.
///
/// # Errors
/// Those of `waitpid(2)`.
pub fn wait_for(child: Pid) -> io::Result<Option<(Pid, Exit)>> {
    wait_raw(child.0, 0)
}

fn wait_raw(which: i32, flags: i32) -> io::Result<Option<(Pid, Exit)>> {
    let mut status = 0;
    // SAFETY: `status` is a local that the call fills.
    let child = match retry(|| check(unsafe { libc::waitpid(which, &raw mut status, flags) })) {
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return Ok(None),
        Ok(0) => return Ok(None),
        other => Pid(other?),
    };
    let exit = if libc::WIFSIGNALED(status) {
        Exit::Signal { number: libc::WTERMSIG(status), core: libc::WCOREDUMP(status) }
    } else {
        Exit::Code(libc::WEXITSTATUS(status))
    };
    Ok(Some((child, exit)))
}

/// Sends a signal to one process.
///
/// # Errors
/// Those of `kill(2)`; `InvalidInput` for ids that mean groups of processes.
pub fn kill(process: Pid, signal: Signal) -> io::Result<()> {
    if process.0 <= 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: plain integers are passed.
    check(unsafe { libc::kill(process.0, signal.number()) }).map(drop)
}

/// Becomes another program with these arguments (the first is its name) and exactly this environment.
///
/// Signals that were blocked for a [`crate::signal::SignalFd`] are let through again.
///
/// # Errors
/// Those of `execve(2)`; it returns only then.
pub fn exec(path: &Path, args: &[&OsStr], env: &[(&OsStr, &OsStr)]) -> io::Result<Infallible> {
    let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    let path = c_path(path)?;
    let args = args.iter().map(|arg| text(arg.as_bytes())).collect::<io::Result<Vec<_>>>()?;
    let env = env
        .iter()
        .map(|(name, value)| text(&[name.as_bytes(), b"=", value.as_bytes()].concat()))
        .collect::<io::Result<Vec<_>>>()?;
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter().map(|item| item.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, envp) = (pointers(&args), pointers(&env));
    crate::signal::unblock_all()?;
    // SAFETY: both lists end with a null pointer and, like the strings they point to, live across the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    Err(io::Error::last_os_error())
}

/// Replaces the whole environment of this process. What has a name that nobody could ask for is left out.
///
/// # Errors
/// `Unsupported` when the process has more than one thread, since others could be reading.
pub fn replace_env(vars: &[(OsString, OsString)]) -> io::Result<()> {
    single_threaded()?;
    // SAFETY: no other thread exists that could read the environment.
    if unsafe { libc::clearenv() } != 0 {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    for (name, value) in vars.iter().filter(|(name, value)| is_variable(name, value)) {
        // SAFETY: as above.
        unsafe { std::env::set_var(name, value) };
    }
    Ok(())
}

/// Whether these can stand in an environment.
fn is_variable(name: &OsStr, value: &OsStr) -> bool {
    !name.is_empty()
        && !name.as_bytes().contains(&b'=')
        && ![name, value].iter().any(|text| text.as_bytes().contains(&0))
}

pub(crate) fn prctl(option: libc::c_int, value: libc::c_ulong) -> io::Result<()> {
    // SAFETY: the options used in this crate take one integer.
    check(unsafe { libc::prctl(option, value, 0, 0, 0) }).map(drop)
}

/// Ends the process at once, without destructors and handlers.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: a plain integer is passed; the call does not return.
    unsafe { libc::_exit(code) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::{AsFd, IntoRawFd};

    #[test]
    fn a_process_with_threads_does_not_fork() {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || stopped.recv());
        assert_eq!(fork().expect_err("refused").kind(), io::ErrorKind::Unsupported);
        assert_eq!(replace_env(&[]).expect_err("refused").kind(), io::ErrorKind::Unsupported);
        drop(stop);
        let _ = other.join();
    }

    #[test]
    fn variables_have_names() {
        let check = |name: &str, value: &str, expected: bool| {
            assert_eq!(is_variable(name.as_ref(), value.as_ref()), expected, "{name:?} {value:?}");
        };
        check("TZ", "UTC", true);
        check("TZ", "", true);
        check("", "x", false);
        check("a=b", "x", false);
        check("a\0", "x", false);
        check("a", "x\0", false);
    }

    #[test]
    fn the_machine_has_a_name() {
        let name = hostname();
        assert!(!name.is_empty() && name == name.to_lowercase(), "{name}");
    }

    #[test]
    fn holders_of_a_replaced_descriptor_write_to_the_other_file() {
        let dir = std::env::temp_dir().join(format!("tidegate-process-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("dir");
        let mut held = std::fs::File::create(dir.join("old")).expect("old");
        let fresh = std::fs::File::create(dir.join("new")).expect("new");
        replace(fresh.as_fd(), held.as_fd()).expect("replace");
        held.write_all(b"x").expect("write");
        assert_eq!(std::fs::read(dir.join("new")).expect("read"), b"x");
        assert_eq!(std::fs::read(dir.join("old")).expect("read"), b"");
        let _ = std::fs::remove_dir_all(&dir);
    }

    #[test]
    fn only_sockets_under_their_own_numbers_are_adopted() {
        let file = std::fs::File::open("/dev/null").expect("null");
        assert!(adopt_socket(file.as_raw_fd()).is_err());
        assert!(adopt_socket(1).is_err());
        assert!(adopt_socket(100_000).is_err());
        let (own, _) = crate::socket::pair().expect("pair");
        assert!(adopt_socket(own.as_raw_fd()).is_err(), "it has an owner");
        let left = inheritable(own.as_fd()).expect("copy").into_raw_fd();
        let taken = adopt_socket(left).expect("it was left by somebody");
        assert!(adopt_socket(taken.as_raw_fd()).is_err(), "it was taken");
        assert!(kill(Pid(0), Signal::Term).is_err());
        assert!(kill(Pid(-1), Signal::Term).is_err());
    }
}
