//! Keys: the MD5 of what tells one answer from another, and the file that it names.
//!
//! Names and levels are nginx's, so that scripts which purge by computing the path go on working.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use md5::{Digest, Md5};

/// Bytes of a key.
const LENGTH: usize = 16;
/// Characters of a file's name.
pub(crate) const NAME: usize = 2 * LENGTH;

/// The key of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Key([u8; LENGTH]);

/// How the names of subdirectories are cut from the end of a file's name: up to three parts of one or two
/// characters; zero ends the list.
pub type Levels = [u8; 3];

impl Key {
    /// The key that a text stands for.
    #[must_use]
    pub fn of(text: &[u8]) -> Self {
        Self(Md5::digest(text).into())
    }

    /// The key whose bytes these are.
    #[must_use]
    pub fn from_bytes(bytes: [u8; LENGTH]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; LENGTH] {
        &self.0
    }

    /// The name of the entry's file, in hexadecimal.
    #[must_use]
    pub fn name(&self) -> [u8; NAME] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut name = [0; NAME];
        for (pair, byte) in name.chunks_exact_mut(2).zip(self.0) {
            pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
        name
    }

    /// The key that a file's name says, if it is the name of an entry.
    #[must_use]
    pub fn parse(name: &[u8]) -> Option<Self> {
        let nibble = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let name: &[u8; NAME] = name.try_into().ok()?;
        let mut key = [0; LENGTH];
        for (byte, pair) in key.iter_mut().zip(name.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Some(Self(key))
    }

    /// The entry's file below `directory` (`ngx_create_hashed_filename`).
    #[must_use]
    pub fn path(&self, directory: &Path, levels: &Levels) -> PathBuf {
        let name = self.name();
        let directory = directory.as_os_str().as_bytes();
        let mut path = Vec::with_capacity(directory.len() + NAME + 12);
        path.extend_from_slice(directory);
        let mut end = NAME;
        for level in levels.iter().map(|level| usize::from(*level)).take_while(|level| *level > 0) {
            path.push(b'/');
            path.extend_from_slice(&name[end - level..end]);
            end -= level;
        }
        path.push(b'/');
        path.extend_from_slice(&name);
        PathBuf::from(OsString::from_vec(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_lie_where_nginx_puts_them() {
        let check = |levels, expected: &str| {
            let key = Key::parse(b"b7f54b2df7773722d382f4809d65029c").expect("a key");
            assert_eq!(key.path(Path::new("/c"), &levels), PathBuf::from(expected));
        };
        check([1, 2, 0], "/c/c/29/b7f54b2df7773722d382f4809d65029c");
        check([0, 0, 0], "/c/b7f54b2df7773722d382f4809d65029c");
        check([2, 2, 2], "/c/9c/02/65/b7f54b2df7773722d382f4809d65029c");
    }

    #[test]
    fn names_are_keys() {
        let check =
            |name: &str, is_one: bool| assert_eq!(Key::parse(name.as_bytes()).is_some(), is_one, "{name}");
        check("b7f54b2df7773722d382f4809d65029c", true);
        check("b7f54b2df7773722d382f4809d65029", false);
        check("b7f54b2df7773722d382f4809d65029g", false);
        check("b7f54b2df7773722d382f4809d65029c.0000000001", false);
        assert_eq!(&Key::of(b"").name(), b"d41d8cd98f00b204e9800998ecf8427e");
    }
}
