//! Signals as things to read: blocked in every thread and taken from a descriptor by one.
//!
//! Threads inherit the mask, so [`SignalFd::new`] comes before the first thread.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::process::Pid;
use crate::syscall::check;

macro_rules! signals {
    ($($(#[$doc:meta])* $variant:ident = $number:ident,)*) => {
        /// A signal that the program sends or obeys.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Signal {
            $($(#[$doc])* $variant,)*
        }

        impl Signal {
            /// The system's number for it.
            #[must_use]
            pub fn number(self) -> i32 {
                match self {
                    $(Self::$variant => libc::$number,)*
                }
            }

            /// Its name, as `SIGHUP`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => stringify!($number),)*
                }
            }

            fn of(number: i32) -> Option<Self> {
                match number {
                    $(libc::$number => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

signals! {
    /// Reload.
    Hup = SIGHUP,
    /// Fast shutdown.
    Int = SIGINT,
    /// Graceful shutdown.
    Quit = SIGQUIT,
    /// Reopen the logs.
    Usr1 = SIGUSR1,
    /// Start a new binary.
    Usr2 = SIGUSR2,
    /// Fast shutdown.
    Term = SIGTERM,
    /// A child has ended.
    Chld = SIGCHLD,
    /// Graceful shutdown of the worker alone.
    Winch = SIGWINCH,
    /// A timer.
    Alrm = SIGALRM,
    /// Input or output is possible; ignored.
    Io = SIGIO,
    /// A closed pipe; ignored.
    Pipe = SIGPIPE,
    /// An unknown system call; ignored.
    Sys = SIGSYS,
    /// The one that cannot be caught.
    Kill = SIGKILL,
}

/// A signal that has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Which.
    pub signal: Signal,
    /// Who sent it; `None` when the kernel did.
    pub sender: Option<Pid>,
}

/// A descriptor that signals are read from; non-blocking, close-on-exec.
#[derive(Debug)]
pub struct SignalFd {
    fd: OwnedFd,
}

fn set_of(signals: &[Signal]) -> libc::sigset_t {
    // SAFETY: all zeros is a valid set, and sigemptyset makes it the empty one.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is a local.
    unsafe { libc::sigemptyset(&raw mut set) };
    for signal in signals {
        // SAFETY: `set` is a local and the number is a signal's.
        unsafe { libc::sigaddset(&raw mut set, signal.number()) };
    }
    set
}

impl SignalFd {
    /// Blocks these signals in the calling thread, and in threads made later, and takes them from here.
    ///
    /// # Errors
    /// Those of `signalfd(2)`.
    pub fn new(signals: &[Signal]) -> io::Result<Self> {
        let set = set_of(signals);
        // SAFETY: `set` is a local; the old mask is not asked for.
        match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) } {
            0 => {}
            code => return Err(io::Error::from_raw_os_error(code)),
        }
        // SAFETY: `set` is a local that the call reads.
        let fd =
            check(unsafe { libc::signalfd(-1, &raw const set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC) })?;
        // SAFETY: the call succeeded, so the descriptor is open and belongs to nobody else.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// The next signal, if one has arrived.
    ///
    /// # Errors
    /// Those of `read(2)`.
    pub fn read(&self) -> io::Result<Option<Received>> {
        loop {
            let mut bytes = [0u8; size_of::<libc::signalfd_siginfo>()];
            match crate::io::read(self.fd.as_fd(), &mut bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
                Ok(_) => {}
            }
            // SAFETY: the structure consists of integers, and the buffer holds as many bytes, all initialised.
            let info: libc::signalfd_siginfo = unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) };
            if let Some(signal) = Signal::of(info.ssi_signo.cast_signed()) {
                let sender = (info.ssi_pid != 0).then(|| Pid(info.ssi_pid.cast_signed()));
                return Ok(Some(Received { signal, sender }));
            }
        }
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for SignalFd {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.fd.as_raw_fd()
    }
}

/// Lets every signal through again in the calling thread.
///
/// # Errors
/// Those of `pthread_sigmask(3)`.
pub fn unblock_all() -> io::Result<()> {
    let set = set_of(&[]);
    // SAFETY: `set` is a local; the old mask is not asked for.
    match unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut()) } {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// Ignores a signal in the whole process.
///
/// # Errors
/// Those of `signal(2)`.
pub fn ignore(signal: Signal) -> io::Result<()> {
    // SAFETY: SIG_IGN is a valid disposition and runs no code.
    if unsafe { libc::signal(signal.number(), libc::SIG_IGN) } == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Waits until one of the descriptors can be read (or has hung up), at most `timeout_ms` where given.
///
/// The answer has one entry per descriptor; all are false when time ran out.
///
/// # Errors
/// Those of `poll(2)`.
pub fn wait_readable(fds: &[BorrowedFd<'_>], timeout_ms: Option<u32>) -> io::Result<Vec<bool>> {
    let mut polled: Vec<libc::pollfd> =
        fds.iter().map(|fd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 }).collect();
    let timeout = timeout_ms.map_or(-1, |ms| libc::c_int::try_from(ms).unwrap_or(libc::c_int::MAX));
    // SAFETY: the list has as many entries as are told.
    match check(unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, timeout) }) {
        // The caller looks at its clock and waits again: an interrupted wait counts as one that timed out.
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(vec![false; fds.len()]),
        Err(error) => Err(error),
        Ok(_) => Ok(polled.iter().map(|entry| entry.revents != 0).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_signal_is_read() {
        // SIGWINCH is harmless by default, so a thread of the test harness that gets it is not ended.
        let signals = SignalFd::new(&[Signal::Winch]).expect("signalfd");
        assert_eq!(signals.read().expect("none"), None);
        // SAFETY: the signal is sent to the calling thread, which blocks it.
        unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGWINCH) };
        let ready = wait_readable(&[signals.as_fd()], Some(1000)).expect("poll");
        assert_eq!(ready, [true]);
        let received = signals.read().expect("read").expect("one");
        assert_eq!(received.signal, Signal::Winch);
        assert_eq!(received.signal.name(), "SIGWINCH");
    }
}
