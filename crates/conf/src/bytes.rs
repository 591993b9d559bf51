//! Bytes that are a part of a text: the words of a configuration are parts of its files.
//!
//! A file has as many words as a long `map` has entries, so a word takes no memory beside the text's.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, Range};
use std::sync::Arc;

/// A part of a text, which is there as long as one of its parts is.
#[derive(Clone, Default)]
pub struct Bytes {
    text: Arc<[u8]>,
    start: u32,
    end: u32,
}

impl Bytes {
    /// The bytes of this range of a text; none where it ends before.
    #[must_use]
    pub fn part(text: &Arc<[u8]>, range: Range<usize>) -> Self {
        match (u32::try_from(range.start), u32::try_from(range.end)) {
            (Ok(start), Ok(end)) => Self { text: Arc::clone(text), start, end },
            // Behind the first four gigabytes.
            _ => text.get(range).unwrap_or_default().into(),
        }
    }

    /// Those of the bytes that are in this range; none where they end before.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        let (start, end) = (self.start as usize, self.end as usize);
        Self::part(&self.text, start + range.start..(start + range.end).min(end))
    }

    /// The bytes in lower case: themselves where they are.
    #[must_use]
    pub fn lowercase(&self) -> Self {
        if !self.iter().any(u8::is_ascii_uppercase) {
            return self.clone();
        }
        (&*self.to_ascii_lowercase()).into()
    }

    /// A copy that does not keep the text.
    #[must_use]
    pub fn to_boxed(&self) -> Box<[u8]> {
        (**self).into()
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Self { text: bytes.into(), start: 0, end: u32::try_from(bytes.len()).unwrap_or(u32::MAX) }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.text.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

impl Borrow<[u8]> for Bytes {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Bytes {}

impl Hash for Bytes {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_parts() {
        let text: Arc<[u8]> = b"map $uri"[..].into();
        let check = |bytes: &Bytes, expected: &str| assert_eq!(bytes.escape_ascii().to_string(), expected);
        let whole = Bytes::part(&text, 0..8);
        let word = Bytes::part(&text, 4..8);
        check(&whole, "map $uri");
        check(&word, "$uri");
        check(&word.slice(1..4), "uri");
        check(&word.slice(1..9), "uri");
        check(&whole.slice(0..3).slice(2..9), "p");
        check(&word.slice(9..10), "");
        check(&Bytes::part(&text, 4..9), "");
        assert_eq!(word, b"$uri"[..].into());
    }
}
