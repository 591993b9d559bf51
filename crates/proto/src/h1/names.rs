//! A set of field names, asked for every field that is forwarded.
//!
//! Well-known names are one bit each; of the others nearly all are told apart by their length alone.

use super::fields::Field;
use super::known::Known;

/// A set of field names, letters compared without case.
#[derive(Clone, Debug, Default)]
pub struct NameSet {
    known: u64,
    /// One bit for each length that occurs among `others`; the last stands for all from 63 on.
    lengths: u64,
    others: Vec<Box<[u8]>>,
}

impl NameSet {
    /// Adds a name.
    pub fn insert(&mut self, name: &[u8]) {
        match Known::of(name) {
            Known::Other if self.contains(Known::Other, name) => {}
            Known::Other => {
                self.lengths |= length_bit(name);
                self.others.push(name.to_ascii_lowercase().into());
            }
            known => self.known |= known.bit(),
        }
    }

    /// Takes a name out.
    pub fn remove(&mut self, name: &[u8]) {
        match Known::of(name) {
            Known::Other => {
                self.others.retain(|other| !other.eq_ignore_ascii_case(name));
                self.lengths = self.others.iter().fold(0, |bits, other| bits | length_bit(other));
            }
            known => self.known &= !known.bit(),
        }
    }

    /// Whether the name is in the set; `known` is what [`Known::of`] says of it.
    #[inline]
    #[must_use]
    pub fn contains(&self, known: Known, name: &[u8]) -> bool {
        if known == Known::Other { self.contains_other(name) } else { self.known & known.bit() != 0 }
    }

    /// Whether the name of a field is in the set. It is looked at only where it is not a known one.
    #[inline]
    #[must_use]
    pub fn contains_field(&self, field: &Field, buffer: &[u8]) -> bool {
        match field.known {
            Known::Other => self.contains_other(field.name.of(buffer)),
            known => self.known & known.bit() != 0,
        }
    }

    #[inline]
    fn contains_other(&self, name: &[u8]) -> bool {
        self.lengths & length_bit(name) != 0
            && self.others.iter().any(|other| other.eq_ignore_ascii_case(name))
    }
}

impl<'a> FromIterator<&'a [u8]> for NameSet {
    fn from_iter<I: IntoIterator<Item = &'a [u8]>>(names: I) -> Self {
        let mut set = Self::default();
        for name in names {
            set.insert(name);
        }
        set
    }
}

#[inline]
fn length_bit(name: &[u8]) -> u64 {
    1 << name.len().min(63)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_case() {
        let long = "x".repeat(70);
        let names = ["Host", "X-Custom", "X-Real-IP", long.as_str()];
        let mut set: NameSet = names.iter().map(|name| name.as_bytes()).collect();
        let has = |set: &NameSet, name: &str| set.contains(Known::of(name.as_bytes()), name.as_bytes());
        for name in names {
            assert!(has(&set, name) && has(&set, &name.to_ascii_uppercase()), "{name}");
        }
        for name in ["Connection", "X-Custon", "X", "", "y".repeat(70).as_str()] {
            assert!(!has(&set, name), "{name}");
        }
        set.remove(b"HOST");
        set.remove(b"x-custom");
        assert!(!has(&set, "Host") && !has(&set, "X-Custom") && has(&set, "X-Real-IP"));
    }
}
