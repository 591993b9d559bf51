//! Arguments of core directives that are no plain number, flag or time.
//!
//! Sentences are those of `nginx.c`, `ngx_event.c` and `ngx_conf_file.c`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use base::Network;
use conf::{Directive, Error, Level};
use net::event_loop::Method;
use os::credentials::{self, Credentials};
use os::limits::cpu_count;

use super::Affinity;
use crate::engine::Module;

/// The first argument as a path, as it is written.
pub(super) fn path(line: &Directive) -> Result<PathBuf, Error> {
    Ok(PathBuf::from(OsStr::from_bytes(&line.arg(0)?.bytes)))
}

/// `worker_connections`, which nginx reads by itself.
pub(super) fn connections(line: &Directive) -> Result<u64, Error> {
    let word = line.arg(0)?;
    word.number().ok_or_else(|| Error::at(word, format!("invalid number \"{}\"", word.as_str())))
}

/// `worker_processes NUMBER | auto`; zero threads would serve nobody, so one is the least.
pub(super) fn threads(line: &Directive) -> Result<usize, Error> {
    let word = line.arg(0)?;
    if word.is("auto") {
        return Ok(cpu_count());
    }
    let number = word.number().ok_or_else(|| Error::on(line, "invalid value"))?;
    Ok(usize::try_from(number).unwrap_or(usize::MAX).clamp(1, 1024))
}

/// `user USER [GROUP]`
pub(super) fn user(line: &Directive, notices: &mut Vec<Error>) -> Result<Option<Credentials>, Error> {
    let user = line.arg(0)?;
    if credentials::effective_uid() != 0 {
        let sentence = "the \"user\" directive makes sense only if the master process runs with super-user \
                        privileges, ignored";
        notices.push(Error::at(user, sentence).with_level(Level::Warn));
        return Ok(None);
    }
    let group = line.args.get(1).unwrap_or(user);
    let (name, group_name) = (user.as_str().into_owned(), group.as_str());
    let failed = |call: &str, name: &str| Error::at(user, format!("{call}(\"{name}\") failed"));
    let found = credentials::user(&name).ok().flatten();
    let (uid, _) = found.ok_or_else(|| failed("getpwnam", &name))?;
    let found = credentials::group(&group_name).ok().flatten();
    let gid = found.ok_or_else(|| failed("getgrnam", &group_name))?;
    Ok(Some(Credentials { uid, gid, name }))
}

/// `env NAME[=VALUE]`
pub(super) fn env(line: &Directive) -> Result<(String, Option<String>), Error> {
    let text = line.arg(0)?.as_str();
    Ok(match text.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (text.into_owned(), None),
    })
}

/// `worker_priority [+|-]NUMBER`
pub(super) fn priority(line: &Directive) -> Result<i32, Error> {
    let text = line.arg(0)?.as_str();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(&text)),
    };
    let number = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<i32>());
    match number {
        Some(Ok(number)) => Ok(sign * number),
        _ => Err(Error::on(line, "invalid number")),
    }
}

/// `worker_cpu_affinity MASK … | auto [MASK]`
pub(super) fn affinity(line: &Directive) -> Result<Affinity, Error> {
    let is_auto = line.arg(0)?.is("auto");
    if is_auto && line.args.len() > 2 {
        let sentence = "invalid number of arguments in \"worker_cpu_affinity\" directive";
        return Err(Error::at(&line.name, sentence));
    }
    let masks = line.args.iter().skip(usize::from(is_auto)).map(|word| {
        let mut cpus = Vec::new();
        for (cpu, byte) in word.bytes.iter().rev().filter(|byte| **byte != b' ').enumerate() {
            match byte {
                b'0' => {}
                b'1' => cpus.push(cpu),
                other => {
                    let other = char::from(*other);
                    let sentence = format!("invalid character \"{other}\" in \"worker_cpu_affinity\"");
                    return Err(Error::at(word, sentence));
                }
            }
        }
        Ok(cpus)
    });
    let mut masks = masks.collect::<Result<Vec<_>, _>>()?;
    if is_auto {
        return Ok(Affinity::Auto(masks.pop().unwrap_or_else(|| (0..cpu_count()).collect())));
    }
    Ok(Affinity::Masks(masks))
}

/// `use METHOD`: nginx on Linux knows two more, whose users lose nothing by epoll.
pub(super) fn method(line: &Directive) -> Result<Method, Error> {
    let word = line.arg(0)?;
    match &*word.bytes {
        b"io_uring" => Ok(Method::IoUring),
        b"epoll" | b"poll" | b"select" => Ok(Method::Epoll),
        _ => Err(Error::at(word, format!("invalid event type \"{}\"", word.as_str()))),
    }
}

/// `debug_connection ADDRESS | NETWORK | NAME | unix:`
pub(super) fn debug_connection(line: &Directive) -> Result<Vec<Network>, Error> {
    use std::net::ToSocketAddrs;
    let word = line.arg(0)?;
    let text = word.as_str();
    if let Some(network) = Network::parse(&text) {
        return Ok(vec![network]);
    }
    let failed = || Error::at(word, format!("host not found in debug_connection \"{text}\""));
    if text.contains('/') {
        return Err(Error::at(word, format!("invalid network \"{text}\" in debug_connection")));
    }
    let found = (text.as_ref(), 0).to_socket_addrs().map_err(|_| failed())?;
    Ok(found.filter_map(|addr| Network::parse(&addr.ip().to_string())).collect())
}

/// `load_module FILE`: what is built in is there already; nothing else can be loaded.
pub(super) fn load_module(
    line: &Directive,
    modules: &[Module],
    notices: &mut Vec<Error>,
) -> Result<(), Error> {
    let word = line.arg(0)?;
    let path = path(line)?;
    let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name = file.strip_prefix("ngx_").unwrap_or(&file);
    let name = name.strip_suffix(".so").unwrap_or(name);
    let name = name.strip_suffix("_module").unwrap_or(name);
    // `configure` leaves the word away that the names of filters' files have.
    let bare = name.strip_suffix("_filter").unwrap_or(name);
    if modules.iter().any(|module| module.0 == name || module.0 == bare) {
        let sentence = format!("module \"{file}\" is built in, \"load_module\" has nothing to do");
        notices.push(Error::at(word, sentence).with_level(Level::Notice));
        return Ok(());
    }
    Err(Error::at(word, format!("module \"{file}\" is not built in, and modules cannot be loaded")))
}
