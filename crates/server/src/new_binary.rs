//! USR2: starts another binary with the listening sockets, named in the environment as nginx names them.
//!
//! `NGINX=5;6;` lists descriptors. The same variable hands sockets from nginx to this program and back.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use conf::resources::{ListenAddr, SocketKind};
use os::errlog::{Errno, Level};
use os::listen::Sharing;
use os::process::{Forked, Pid};
use os::socket::{Blocking, Kind, PeerAddr};

use crate::bundle::{Bundle, Socket, SocketKey};
use crate::core_conf::CoreConf;
use crate::pid_file;
use crate::reporter::Reporter;
use crate::system::next_handle;
use crate::worker::environment;

/// The variable that lists the sockets.
pub(crate) const VARIABLE: &str = "NGINX";

/// Starts the binary that this process was started as; `None` when that failed.
pub(crate) fn start(core: &CoreConf, bundle: &Bundle, args: &[OsString], reporter: &Reporter) -> Option<Pid> {
    let (path, old) = (&core.pid_file, pid_file::old_name(&core.pid_file));
    let binary = binary(args.first()?);
    let name = binary.display();
    if let Err(error) = std::fs::rename(path, &old) {
        let (path, old, reason) = (path.display(), old.display(), Errno(&error));
        reporter.alert(format_args!(
            "rename() {path} to {old} failed before executing new binary process \"{name}\" {reason}"
        ));
        return None;
    }
    match os::process::fork() {
        Ok(Forked::Parent(pid)) => Some(pid),
        Ok(Forked::Child) => {
            if let Err(error) = execute(&binary, core, bundle, args) {
                let reason = Errno(&error);
                reporter.alert(format_args!(
                    "execve() failed while executing new binary process \"{name}\" {reason}"
                ));
            }
            os::process::exit_now(1)
        }
        Err(error) => {
            let reason = Errno(&error);
            reporter.alert(format_args!("fork() failed while spawning \"new binary process\" {reason}"));
            if let Err(error) = std::fs::rename(&old, path) {
                let (path, old, reason) = (path.display(), old.display(), Errno(&error));
                reporter.alert(format_args!("rename() {old} back to {path} failed {reason}"));
            }
            None
        }
    }
}

fn execute(binary: &Path, core: &CoreConf, bundle: &Bundle, args: &[OsString]) -> io::Result<()> {
    let sockets = bundle.sockets.iter().map(|socket| os::process::inheritable(socket.fd.as_fd()));
    let sockets = sockets.collect::<io::Result<Vec<OwnedFd>>>()?;
    let list: String = sockets.iter().map(|socket| format!("{};", socket.as_raw_fd())).collect();
    let mut env = environment(core);
    env.push((VARIABLE.into(), list.into()));
    let env: Vec<(&OsStr, &OsStr)> =
        env.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str())).collect();
    let args: Vec<&OsStr> = args.iter().map(OsString::as_os_str).collect();
    os::process::exec(binary, &args, &env).map(|never| match never {})
}

/// The path behind the first argument: as it is, or found in `PATH`.
fn binary(name: &OsStr) -> PathBuf {
    let plain = PathBuf::from(name);
    if name.as_bytes().contains(&b'/') {
        return plain;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file());
    found.unwrap_or(plain)
}

/// The sockets that an older binary handed over; `None` when none did.
///
/// Must run before anything else is opened, since the numbers come from outside; so what there is to tell
/// is put off.
pub(crate) fn inherited_into(told: &mut Vec<(Level, String)>) -> Option<Bundle> {
    let list = std::env::var_os(VARIABLE)?;
    let list = list.to_string_lossy();
    told.push((Level::Notice, format!("using inherited sockets from \"{list}\"")));
    let mut bundle = Bundle::default();
    for number in numbers(&list) {
        let Ok(number) = number else {
            let rest = "environment variable, ignoring the rest of the variable";
            told.push((Level::Emerg, format!("invalid socket number in \"{list}\" in {VARIABLE} {rest}")));
            break;
        };
        match adopted(number, &bundle) {
            Ok(socket) => bundle.sockets.push(socket),
            Err(error) => {
                let reason = Errno(&error);
                told.push((Level::Crit, format!("the inherited socket #{number} is ignored {reason}")));
            }
        }
    }
    Some(bundle)
}

fn numbers(list: &str) -> impl Iterator<Item = Result<RawFd, std::num::ParseIntError>> {
    list.split([':', ';']).filter(|part| !part.is_empty()).map(str::parse)
}

fn adopted(number: RawFd, others: &Bundle) -> io::Result<Socket> {
    let fd = os::process::adopt_socket(number)?;
    os::socket::set_blocking(fd.as_fd(), Blocking::Never)?;
    let addr = match os::socket::local_addr(fd.as_fd())? {
        PeerAddr::Inet(addr) => ListenAddr::Inet(addr),
        PeerAddr::Unix(path) => ListenAddr::Unix(path),
    };
    let kind = match os::listen::kind_of(fd.as_fd())? {
        Kind::Stream => SocketKind::Stream,
        Kind::Datagram => SocketKind::Datagram,
    };
    let is_shared = os::listen::sharing_of(fd.as_fd())? == Sharing::Shared;
    let same =
        others.sockets.iter().filter(|socket| socket.key.addr == addr && socket.key.kind == kind).count();
    let reuseport = is_shared.then(|| u32::try_from(same).unwrap_or(u32::MAX));
    Ok(Socket { id: next_handle(), key: SocketKey { addr, kind, reuseport }, fd: Arc::new(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_numbers() {
        let check = |list: &str, expected: &[Option<RawFd>]| {
            let seen: Vec<_> = numbers(list).map(Result::ok).collect();
            assert_eq!(seen, expected, "{list}");
        };
        check("", &[]);
        check("5;", &[Some(5)]);
        check("5;6;", &[Some(5), Some(6)]);
        check("5:6", &[Some(5), Some(6)]);
        check("5;x;", &[Some(5), None]);
    }

    #[test]
    fn a_binary_is_found_in_the_path() {
        assert_eq!(binary(OsStr::new("./x")), Path::new("./x"));
        assert!(binary(OsStr::new("sh")).is_absolute());
        assert_eq!(binary(OsStr::new("no-such-program-here")), Path::new("no-such-program-here"));
    }
}
