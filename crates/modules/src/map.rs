//! `ngx_http_map_module`: a variable whose value depends on another's by a table.
//!
//! Texts are found in constant time whatever their number; then wildcards (`hostnames`), then regular
//! expressions in the order of the text.

use std::sync::Arc;

use conf::{Arity, Contexts, Directive, Error, Word};
use http::conf::compile::Cx;
use http::module::{Module, Slot};
use http::regex::{Case, Regex, RegexList};
use http::request::Request;
use http::rows::{Row, is_number, row, without_effect};
use http::texts::{KeyFault, Keys, Texts};
use http::variables::{Cache, Compute, Template};

/// `ngx_http_map_module`.
pub struct Map;

static SLOT: Slot = Slot::new();

const PLACES: Contexts = Contexts::HTTP.or(Contexts::STREAM);

const NO_HASH: &str = "tables grow as they need to";

static ROWS: [Row<()>; 3] = [
    row("map", PLACES, Arity::TWO, "", "Defines a variable by the value of another.", read).free(),
    without_effect("map_hash_max_size", PLACES, Arity::ONE, NO_HASH).checked(is_number),
    without_effect("map_hash_bucket_size", PLACES, Arity::ONE, NO_HASH).checked(is_number),
];

impl Module for Map {
    const NAME: &'static str = "ngx_http_map_module";
    const ALSO: &'static [&'static str] = &["ngx_stream_map_module"];
    const SLOT: &'static Slot = &SLOT;
    type Settings = ();
    type Main = ();

    fn rows() -> &'static [Row<()>] {
        &ROWS
    }
}

struct Table {
    source: Template,
    keys: Keys,
    texts: Texts<Template>,
    regexes: RegexList<Template>,
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
        regexes: RegexList::default(),
        default: Template::default(),
    };
    table.texts.reserve(d.body().len());
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
    table.regexes.finish();
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
            self.regexes.push(Regex::compile(cx, word, pattern, case)?, value);
            return Ok(());
        }
        let start = usize::from(word.bytes.starts_with(b"\\"));
        let key = word.bytes.slice(start..word.bytes.len());
        self.texts.add(&key, value, self.keys).map_err(|fault| {
            let shown = String::from_utf8_lossy(&key);
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
            && let Some((_, value)) = self.regexes.find(subject, |regex| r.matches(regex, subject))
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
