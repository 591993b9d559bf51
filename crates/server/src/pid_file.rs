//! The file with the master's process id, and its other name while a new binary is tried.
//!
//! It is written only when all sockets listen, so whoever waits for it may connect.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use os::process::Pid;

/// The name that the file has while a new binary runs beside the old one.
pub(crate) fn old_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".oldbin");
    name.into()
}

/// Writes the id of this process.
pub(crate) fn write(path: &Path) -> io::Result<()> {
    let mut file = std::fs::File::create(path)?;
    writeln!(file, "{}", os::process::pid())
}

/// Checks for `-t` that the file could be written, and leaves what is in it.
pub(crate) fn check(path: &Path) -> io::Result<()> {
    std::fs::OpenOptions::new().append(true).create(true).open(path).map(drop)
}

/// What reading the file gave.
#[derive(Debug)]
pub(crate) enum Found {
    /// The id of a process.
    Process(Pid),
    /// Something else, as it stands in the file.
    Nonsense(String),
}

/// Reads the id of the running master.
pub(crate) fn read(path: &Path) -> io::Result<Found> {
    let text = std::fs::read(path)?;
    let text = String::from_utf8_lossy(&text);
    let digits = text.trim_end_matches(['\r', '\n']);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    Ok(match digits.parse() {
        Ok(number @ 1..) if is_number => Found::Process(Pid(number)),
        _ => Found::Nonsense(digits.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let path = std::env::temp_dir().join(format!("tidegate-pid-{}", std::process::id()));
        let check_text = |text: &str, expected: Option<i32>| {
            std::fs::write(&path, text).expect("write");
            match (read(&path).expect("read"), expected) {
                (Found::Process(pid), Some(number)) => assert_eq!(pid, Pid(number)),
                (Found::Nonsense(_), None) => {}
                (other, _) => panic!("{text}: {other:?}"),
            }
        };
        check_text("12\n", Some(12));
        check_text("12", Some(12));
        check_text("", None);
        check_text("0\n", None);
        check_text("-5\n", None);
        check_text("x", None);
        write(&path).expect("write");
        check(&path).expect("check");
        assert!(matches!(read(&path), Ok(Found::Process(pid)) if pid == os::process::pid()));
        assert_eq!(old_name(Path::new("/a/n.pid")), Path::new("/a/n.pid.oldbin"));
        let _ = std::fs::remove_file(&path);
    }
}
