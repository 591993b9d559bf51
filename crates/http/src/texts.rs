//! A table whose keys are texts or names of hosts with wildcards (`ngx_hash_keys_arrays_t`): `map`, `server_name`,
//! `valid_referers`.
//!
//! A text is found in constant time whatever the number of keys, a wildcard in one step per label.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use conf::Bytes;

/// Texts and wildcards, in lower case.
#[derive(Clone, Debug)]
pub struct Texts<V> {
    exact: HashMap<Bytes, V>,
    /// By what stands behind `*.`.
    leading: HashMap<Bytes, V>,
    /// By what stands before `.*`.
    trailing: HashMap<Bytes, V>,
}

impl<V> Default for Texts<V> {
    fn default() -> Self {
        Self { exact: HashMap::new(), leading: HashMap::new(), trailing: HashMap::new() }
    }
}

/// Whether keys are names of hosts, with wildcards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keys {
    /// Any texts.
    #[default]
    Texts,
    /// `example.com`, `.example.com`, `*.example.com`, `example.*`.
    Hostnames,
}

/// What is wrong with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFault {
    /// It is no name of a host, with or without a wildcard.
    Invalid,
    /// It is there already, and keeps its value.
    Conflicting,
}

impl<V: Clone> Texts<V> {
    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.leading.is_empty() && self.trailing.is_empty()
    }

    /// Makes room for so many more keys.
    pub fn reserve(&mut self, keys: usize) {
        self.exact.reserve(keys);
    }

    /// Files a key (`ngx_hash_add_key`).
    ///
    /// # Errors
    /// See [`KeyFault`].
    pub fn add(&mut self, key: &Bytes, value: V, keys: Keys) -> Result<(), KeyFault> {
        let key = key.lowercase();
        if keys == Keys::Texts {
            return insert(&mut self.exact, key, value);
        }
        let stars = key.iter().filter(|byte| **byte == b'*').count();
        if stars > 1 || key.contains(&0) || key.windows(2).any(|pair| pair == b"..") {
            return Err(KeyFault::Invalid);
        }
        match &*key {
            // `.example.com` is the name itself and all below it.
            [b'.', _, ..] => {
                let name = key.slice(1..key.len());
                if self.exact.contains_key(&name) {
                    return Err(KeyFault::Conflicting);
                }
                insert(&mut self.leading, name.clone(), value.clone())?;
                insert(&mut self.exact, name, value)
            }
            [b'*', b'.', _, ..] => insert(&mut self.leading, key.slice(2..key.len()), value),
            [_, .., b'.', b'*'] => insert(&mut self.trailing, key.slice(0..key.len() - 2), value),
            _ if stars > 0 => Err(KeyFault::Invalid),
            _ => insert(&mut self.exact, key, value),
        }
    }

    /// The value of a text in any case of letters: its own, else that of the longest wildcard in front, else of the
    /// longest behind.
    #[must_use]
    pub fn find(&self, text: &[u8]) -> Option<&V> {
        if text.iter().any(u8::is_ascii_uppercase) {
            return self.find_lower(&text.to_ascii_lowercase());
        }
        self.find_lower(text)
    }

    /// As [`Self::find`], for a text in lower case.
    #[must_use]
    pub fn find_lower(&self, text: &[u8]) -> Option<&V> {
        if let Some(value) = self.exact.get(text) {
            return Some(value);
        }
        if !self.leading.is_empty() {
            for dot in memchr::memchr_iter(b'.', text).filter(|dot| *dot > 0) {
                if let Some(value) = text.get(dot + 1..).and_then(|name| self.leading.get(name)) {
                    return Some(value);
                }
            }
        }
        if !self.trailing.is_empty() {
            for dot in memchr::memrchr_iter(b'.', text) {
                if let Some(value) = text.get(..dot).and_then(|name| self.trailing.get(name)) {
                    return Some(value);
                }
            }
        }
        None
    }
}

fn insert<V>(map: &mut HashMap<Bytes, V>, key: Bytes, value: V) -> Result<(), KeyFault> {
    match map.entry(key) {
        Entry::Vacant(entry) => {
            entry.insert(value);
            Ok(())
        }
        Entry::Occupied(_) => Err(KeyFault::Conflicting),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(keys: Keys, list: &[&str]) -> Result<Texts<String>, KeyFault> {
        let mut texts = Texts::default();
        for key in list {
            texts.add(&key.as_bytes().into(), (*key).to_owned(), keys)?;
        }
        Ok(texts)
    }

    #[test]
    fn lookups() {
        let plain = texts(Keys::Texts, &["a", "B", "", "*.x"]).expect("keys");
        let hosts = texts(Keys::Hostnames, &["a.com", "*.a.com", "*.b.a.com", ".c.com", "www.*", "www.d.*"])
            .expect("keys");
        let check = |texts: &Texts<String>, text: &str, expected: Option<&str>| {
            assert_eq!(texts.find(text.as_bytes()).map(String::as_str), expected, "{text}");
        };
        check(&plain, "a", Some("a"));
        check(&plain, "A", Some("a"));
        check(&plain, "b", Some("B"));
        check(&plain, "", Some(""));
        check(&plain, "y.x", None);
        check(&plain, "*.x", Some("*.x"));
        check(&hosts, "a.com", Some("a.com"));
        check(&hosts, "x.a.com", Some("*.a.com"));
        check(&hosts, "x.y.a.com", Some("*.a.com"));
        check(&hosts, "x.b.a.com", Some("*.b.a.com"));
        check(&hosts, "b.a.com", Some("*.a.com"));
        check(&hosts, "c.com", Some(".c.com"));
        check(&hosts, "x.C.com", Some(".c.com"));
        check(&hosts, "www.org", Some("www.*"));
        check(&hosts, "www.d.org", Some("www.d.*"));
        check(&hosts, "www", None);
        check(&hosts, "www.a.com", Some("*.a.com"));
        check(&hosts, ".a.com", None);
    }

    #[test]
    fn a_key_that_is_there_keeps_its_value() {
        let mut texts = Texts::default();
        for (key, expected) in [
            ("a.com", Ok(())),
            ("*.b.com", Ok(())),
            (".a.com", Err(KeyFault::Conflicting)),
            (".b.com", Err(KeyFault::Conflicting)),
            ("A.com", Err(KeyFault::Conflicting)),
        ] {
            assert_eq!(texts.add(&key.as_bytes().into(), key, Keys::Hostnames), expected, "{key}");
        }
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(texts.find(text.as_bytes()).copied(), expected, "{text}");
        };
        check("a.com", Some("a.com"));
        check("x.a.com", None);
        check("b.com", None);
        check("x.b.com", Some("*.b.com"));
    }

    #[test]
    fn bad_keys() {
        let check = |list: &[&str], expected| {
            assert_eq!(texts(Keys::Hostnames, list).map(drop), Err(expected), "{list:?}");
        };
        check(&["a", "A"], KeyFault::Conflicting);
        check(&["a.com", ".a.com"], KeyFault::Conflicting);
        check(&["*.a", "*.a"], KeyFault::Conflicting);
        check(&["*.a.*"], KeyFault::Invalid);
        check(&["a*b"], KeyFault::Invalid);
        check(&["a..b"], KeyFault::Invalid);
        assert_eq!(texts(Keys::Texts, &["a*b", "a..b"]).map(drop), Ok(()));
    }
}
