//! `ngx_http_map_module`: a variable whose value depends on another's by a table.
//!
//! Texts are found in constant time whatever their number; then wildcards (`hostnames`), then regular
//! expressions in the order of the text.

use std::collections::HashMap;
use std::sync::Arc;

use conf::{Arity, Contexts, Directive, Error, Word};
use http::conf::compile::Cx;
use http::module::{Module, Slot};
use http::regex::{Case, Regex};
use http::request::Request;
use http::rows::{Row, row, without_effect};
use http::variables::{Cache, Compute, Template};

/// `ngx_http_map_module`.
pub struct Map;

static SLOT: Slot = Slot::new();

const NO_HASH: &str = "tables grow as they need to";

static ROWS: [Row<()>; 3] = [
    row("map", Contexts::HTTP, Arity::TWO, "", "Defines a variable by the value of another.", read).free(),
    without_effect("map_hash_max_size", Contexts::HTTP, Arity::ONE, NO_HASH),
    without_effect("map_hash_bucket_size", Contexts::HTTP, Arity::ONE, NO_HASH),
];

impl Module for Map {
    const NAME: &'static str = "ngx_http_map_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = ();
    type Main = ();

    fn rows() -> &'static [Row<()>] {
        &ROWS
    }
}

/// Texts and wildcards, in lower case.
#[derive(Debug)]
struct Texts<V> {
    exact: HashMap<Box<[u8]>, V>,
    /// By what stands behind `*.`.
    leading: HashMap<Box<[u8]>, V>,
    /// By what stands before `.*`.
    trailing: HashMap<Box<[u8]>, V>,
}

impl<V> Default for Texts<V> {
    fn default() -> Self {
        Self { exact: HashMap::new(), leading: HashMap::new(), trailing: HashMap::new() }
    }
}

/// Whether keys are names of hosts, with wildcards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Keys {
    #[default]
    Texts,
    Hostnames,
}

/// What is wrong with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeyFault {
    Invalid,
    Conflicting,
}

struct Table {
    source: Template,
    keys: Keys,
    texts: Texts<Template>,
    regexes: Vec<(Regex, Template)>,
    default: Template,
}

fn read((): &mut (), cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let (source, name) = (d.arg(0)?, d.arg(1)?);
    let Some(bare) = name.bytes.strip_prefix(b"$").filter(|bare| !bare.is_empty()) else {
        return Err(Error::at(name, format!("invalid variable name \"{}\"", name.as_str())));
    };
    let mut table = Table {
        source: Template::compile(cx, source)?,
        keys: Keys::Texts,
        texts: Texts::default(),
        regexes: Vec::new(),
        default: Template::default(),
    };
    let (mut has_default, mut cache) = (false, Cache::PerRequest);
    for line in d.body() {
        match (&*line.name.bytes, &*line.args) {
            (b"hostnames", []) => table.keys = Keys::Hostnames,
            (b"volatile", []) => cache = Cache::No,
            (b"default", [value]) => {
                if has_default {
                    return Err(Error::at(&line.name, "duplicate default map parameter"));
                }
                has_default = true;
                table.default = Template::compile(cx, value)?;
            }
            (_, [value]) => {
                let value = Template::compile(cx, value)?;
                table.add(cx, &line.name, value)?;
            }
            _ => return Err(Error::at(&line.name, "invalid number of the map parameters")),
        }
    }
    cx.define_computed(&bare.to_ascii_lowercase(), name, Arc::new(table), cache)?;
    Ok(())
}

impl Table {
    fn add(&mut self, cx: &mut Cx<'_>, word: &Word, value: Template) -> Result<(), Error> {
        if let Some(pattern) = word.bytes.strip_prefix(b"~") {
            let (pattern, case) = match pattern.strip_prefix(b"*") {
                Some(pattern) => (pattern, Case::Insensitive),
                None => (pattern, Case::Sensitive),
            };
            self.regexes.push((Regex::compile(cx, word, pattern, case)?, value));
            return Ok(());
        }
        let key = word.bytes.strip_prefix(b"\\").unwrap_or(&word.bytes);
        self.texts.add(key, value, self.keys).map_err(|fault| {
            let shown = String::from_utf8_lossy(key);
            Error::at(
                word,
                match fault {
                    KeyFault::Invalid => format!("invalid hostname or wildcard \"{shown}\""),
                    KeyFault::Conflicting => format!("conflicting parameter \"{shown}\""),
                },
            )
        })
    }

    fn find(&self, r: &Request, subject: &[u8]) -> &Template {
        let subject = match (self.keys, subject) {
            (Keys::Hostnames, [name @ .., b'.']) => name,
            _ => subject,
        };
        if let Some(value) = self.texts.find(subject) {
            return value;
        }
        if !subject.is_empty()
            && let Some((_, value)) = self.regexes.iter().find(|(regex, _)| r.matches(regex, subject))
        {
            return value;
        }
        &self.default
    }
}

impl Compute for Table {
    fn compute(&self, r: &Request, out: &mut Vec<u8>) -> bool {
        // The subject is built behind what is there and cut off again, so that it needs no memory of its own.
        let start = out.len();
        self.source.append(r, out);
        let value = self.find(r, out.get(start..).unwrap_or_default());
        out.truncate(start);
        value.append(r, out);
        true
    }
}

impl<V: Clone> Texts<V> {
    /// Files a key (`ngx_hash_add_key`).
    fn add(&mut self, key: &[u8], value: V, keys: Keys) -> Result<(), KeyFault> {
        let key = key.to_ascii_lowercase();
        if keys == Keys::Texts {
            return insert(&mut self.exact, &key, value);
        }
        let stars = key.iter().filter(|byte| **byte == b'*').count();
        if stars > 1 || key.contains(&0) || key.windows(2).any(|pair| pair == b"..") {
            return Err(KeyFault::Invalid);
        }
        match &*key {
            // `.example.com` is the name itself and all below it.
            [b'.', name @ ..] if !name.is_empty() => {
                insert(&mut self.exact, name, value.clone())?;
                insert(&mut self.leading, name, value)
            }
            [b'*', b'.', name @ ..] if !name.is_empty() => insert(&mut self.leading, name, value),
            [name @ .., b'.', b'*'] if !name.is_empty() => insert(&mut self.trailing, name, value),
            _ if stars > 0 => Err(KeyFault::Invalid),
            _ => insert(&mut self.exact, &key, value),
        }
    }

    /// The value of a text: itself, else the longest wildcard in front, else the longest behind.
    fn find(&self, text: &[u8]) -> Option<&V> {
        let lower;
        let text = if text.iter().any(u8::is_ascii_uppercase) {
            lower = text.to_ascii_lowercase();
            &*lower
        } else {
            text
        };
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

fn insert<V>(map: &mut HashMap<Box<[u8]>, V>, key: &[u8], value: V) -> Result<(), KeyFault> {
    match map.insert(key.into(), value) {
        None => Ok(()),
        Some(_) => Err(KeyFault::Conflicting),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(keys: Keys, list: &[&str]) -> Result<Texts<String>, KeyFault> {
        let mut texts = Texts::default();
        for key in list {
            texts.add(key.as_bytes(), (*key).to_owned(), keys)?;
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
