//! The file of users: `name:hash[:comment]` lines, those with a `#` in front left out.
//!
//! It is read anew for each request, as far as the user's line, so that a change takes effect at once.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

/// Bytes of the longest hash.
const HASH_MAX: usize = 2048;

/// The hash behind a user's name; `None` where there is no such user.
///
/// # Errors
/// The error of opening or reading the file.
pub(super) fn find(path: &Path, user: &[u8]) -> io::Result<Option<Vec<u8>>> {
    find_in(BufReader::with_capacity(4096, File::open(path)?), user)
}

fn find_in(mut file: impl BufRead, user: &[u8]) -> io::Result<Option<Vec<u8>>> {
    loop {
        match begins(&mut file, user)? {
            Begins::End => return Ok(None),
            Begins::Other => skip_line(&mut file)?,
            Begins::User => {
                let mut hash = Vec::new();
                io::Read::take(&mut file, HASH_MAX as u64).read_until(b'\n', &mut hash)?;
                let end = hash.iter().position(|byte| matches!(byte, b'\r' | b'\n' | b':'));
                hash.truncate(end.unwrap_or(hash.len()));
                return Ok(Some(hash));
            }
        }
    }
}

enum Begins {
    /// The line was the user's; it is read up to the hash.
    User,
    /// It is another's; how far it is read is not known, but not to its end.
    Other,
    /// There is no further line.
    End,
}

/// Compares the beginning of a line with the user's name and a colon.
fn begins(file: &mut impl BufRead, user: &[u8]) -> io::Result<Begins> {
    if file.fill_buf()?.first() == Some(&b'#') {
        return Ok(Begins::Other);
    }
    for expected in user.iter().chain(b":") {
        match file.fill_buf()?.first() {
            None => return Ok(Begins::End),
            Some(byte) if byte == expected && *byte != b'\n' => file.consume(1),
            Some(_) => return Ok(Begins::Other),
        }
    }
    Ok(Begins::User)
}

fn skip_line(file: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = file.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        let (length, is_end) = match memchr::memchr(b'\n', buffer) {
            Some(end) => (end + 1, true),
            None => (buffer.len(), false),
        };
        file.consume(length);
        if is_end {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found() {
        let text = "# comment:x\n\n\r\nalice:one\nbob:two:Bob\r\nal:three\r\n#carol:four\n\ndave\nerin::\nfrank:last";
        let check = |user: &str, expected: Option<&str>| {
            let small = BufReader::with_capacity(3, text.as_bytes());
            let found = find_in(small, user.as_bytes()).expect("memory");
            assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{user}");
        };
        check("alice", Some("one"));
        check("bob", Some("two"));
        check("al", Some("three"));
        check("carol", None);
        check("dave", None);
        check("erin", Some(""));
        check("frank", Some("last"));
        check("alic", None);
        check("Alice", None);
        check("one", None);
        check("\nalice", None);
    }

    #[test]
    fn a_comment_names_no_user() {
        assert_eq!(find_in(&b"#carol:four\n"[..], b"#carol").expect("memory"), None);
    }
}
