//! From the lines of a `geo` block to its table.
//!
//! Warnings and errors are nginx's sentences. Its binary form of a long file of ranges is neither read nor
//! written: the text loads fast enough.

use std::collections::HashMap;
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr};

use base::Network;
use conf::{Directive, Error, Level, Word};
use http::conf::compile::Cx;
use http::forwarded::Recursion;
use http::side::Side;
use http::variables::Cache;

use super::networks::Networks;
use super::ranges::Ranges;
use super::segments::{Segments, ValueId};
use super::{Table, shared};

/// What has been read of a block.
#[derive(Default)]
struct Draft {
    proxies: Vec<Network>,
    recursion: Recursion,
    is_volatile: bool,
    values: Values,
    entries: Entries,
}

#[derive(Default)]
enum Entries {
    /// No line has decided yet.
    #[default]
    None,
    Networks(ByFamily),
    Ranges {
        default: Option<ValueId>,
        ranges: Ranges,
    },
}

#[derive(Default)]
struct ByFamily {
    v4: Networks<u32>,
    v6: Networks<u128>,
}

/// The values of a block, each kept once.
struct Values {
    list: Vec<Box<[u8]>>,
    known: HashMap<Box<[u8]>, ValueId>,
}

impl Default for Values {
    fn default() -> Self {
        Self { list: vec![Box::default()], known: HashMap::new() }
    }
}

impl Values {
    fn id(&mut self, text: &[u8]) -> ValueId {
        if let Some(known) = self.known.get(text) {
            return *known;
        }
        let id = ValueId(u32::try_from(self.list.len()).unwrap_or(u32::MAX));
        self.list.push(text.into());
        self.known.insert(text.into(), id);
        id
    }

    fn shown(&self, id: ValueId) -> impl Display {
        String::from_utf8_lossy(self.list.get(id.0 as usize).map_or(&[], |value| value)).into_owned()
    }
}

/// Reads a `geo` block.
///
/// # Errors
/// nginx's sentences about lines that are none of its parameters.
pub(super) fn block((): &mut (), cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let (first, second) = (d.arg(0)?, d.args.get(1));
    let (source, name) = match second {
        None => (None, first),
        Some(name) => (Some(cx.variable(&variable_name(first)?, first)?), name),
    };
    let bare = variable_name(name)?;
    let mut draft = Draft::default();
    for line in d.body() {
        draft.line(cx, line)?;
    }
    let cache = if draft.is_volatile { Cache::No } else { Cache::PerRequest };
    let (v4, v6) = draft.entries.segments();
    let values = draft.values.list;
    let table = Table { source, proxies: draft.proxies, recursion: draft.recursion, values, v4, v6 };
    cx.define_computed(&bare, name, shared(table), cache)?;
    Ok(())
}

fn variable_name(word: &Word) -> Result<Vec<u8>, Error> {
    match word.bytes.strip_prefix(b"$") {
        Some(name) if !name.is_empty() => Ok(name.to_ascii_lowercase()),
        _ => Err(Error::at(word, format!("invalid variable name \"{}\"", word.as_str()))),
    }
}

impl Draft {
    fn line(&mut self, cx: &mut Cx<'_>, line: &Directive) -> Result<(), Error> {
        match (&*line.name.bytes, &*line.args) {
            (b"ranges", []) => return self.choose_ranges(&line.name),
            (b"volatile", []) => self.is_volatile = true,
            (b"proxy" | b"proxy_recursive", _) if cx.side == Side::Stream => {
                let sentence = format!("\"{}\" is no parameter of \"geo\" in stream", line.name.as_str());
                return Err(Error::at(&line.name, sentence));
            }
            (b"proxy_recursive", []) => self.recursion = Recursion::Through,
            (b"proxy", [network]) => {
                let (base, prefix) = network_of(cx, network)?;
                self.proxies.push(Network::Inet { base, prefix });
            }
            (b"delete", [what]) => return self.entries.delete(cx, what),
            (_, [value]) => {
                let id = self.values.id(&value.bytes);
                return self.entries.add(cx, &line.name, id, &self.values);
            }
            _ => return Err(Error::at(&line.name, "invalid number of the geo parameters")),
        }
        Ok(())
    }

    fn choose_ranges(&mut self, word: &Word) -> Result<(), Error> {
        match self.entries {
            Entries::None => {
                self.entries = Entries::Ranges { default: None, ranges: Ranges::default() };
                Ok(())
            }
            Entries::Ranges { .. } => Ok(()),
            Entries::Networks(_) => {
                let sentence = "the \"ranges\" directive must be the first directive inside \"geo\" block";
                Err(Error::at(word, sentence))
            }
        }
    }
}

impl Entries {
    fn segments(self) -> (Segments<u32>, Option<Segments<u128>>) {
        match self {
            Self::None => Self::Networks(ByFamily::default()).segments(),
            Self::Networks(ByFamily { v4, v6 }) => (v4.segments(), Some(v6.segments())),
            Self::Ranges { default, ranges } => (ranges.segments(default.unwrap_or_default()), None),
        }
    }

    fn add(&mut self, cx: &mut Cx<'_>, what: &Word, value: ValueId, values: &Values) -> Result<(), Error> {
        if matches!(self, Self::None) {
            *self = Self::Networks(ByFamily::default());
        }
        let twice = |cx: &mut Cx<'_>, kind: &str, old: Option<ValueId>| {
            if let Some(old) = old {
                let (new, old) = (values.shown(value), values.shown(old));
                warn(cx, what, format!("duplicate {kind}: \"{new}\", old value: \"{old}\""));
            }
        };
        let kind = |noun: &str| format!("{noun} \"{}\", value", what.as_str());
        match self {
            Self::None => {}
            Self::Ranges { default, .. } if what.is("default") => {
                twice(cx, "default geo range value", default.replace(value));
            }
            Self::Ranges { ranges, .. } => {
                let (start, end) = range_of(what)?;
                let added = ranges.insert(start, end, value, |old| twice(cx, &kind("range"), Some(old)));
                added.map_err(|other| {
                    let (start, end) = (Ipv4Addr::from(other.start), Ipv4Addr::from(other.end));
                    Error::at(what, format!("range \"{}\" overlaps \"{start}-{end}\"", what.as_str()))
                })?;
            }
            Self::Networks(ByFamily { v4, v6 }) if what.is("default") => {
                twice(cx, &kind("network"), v4.insert(0, 0, value));
                twice(cx, &kind("network"), v6.insert(0, 0, value));
            }
            Self::Networks(ByFamily { v4, v6 }) => {
                let old = match network_of(cx, what)? {
                    (IpAddr::V4(base), prefix) => v4.insert(base.to_bits(), prefix, value),
                    (IpAddr::V6(base), prefix) => v6.insert(base.to_bits(), prefix, value),
                };
                twice(cx, &kind("network"), old);
            }
        }
        Ok(())
    }

    fn delete(&mut self, cx: &mut Cx<'_>, what: &Word) -> Result<(), Error> {
        let (was_there, noun) = match self {
            Self::Ranges { ranges, .. } => {
                let (start, end) = range_of(what)?;
                (ranges.remove(start, end), "address range")
            }
            Self::None => {
                network_of(cx, what)?;
                (false, "network")
            }
            Self::Networks(ByFamily { v4, v6 }) => match network_of(cx, what)? {
                (IpAddr::V4(base), prefix) => (v4.remove(base.to_bits(), prefix), "network"),
                (IpAddr::V6(base), prefix) => (v6.remove(base.to_bits(), prefix), "network"),
            },
        };
        if !was_there {
            warn(cx, what, format!("no {noun} \"{}\" to delete", what.as_str()));
        }
        Ok(())
    }
}

fn warn(cx: &mut Cx<'_>, word: &Word, sentence: String) {
    cx.notices.push(Error::at(word, sentence).with_level(Level::Warn));
}

fn network_of(cx: &mut Cx<'_>, word: &Word) -> Result<(IpAddr, u8), Error> {
    let text = word.as_str();
    // The value of whoever has no address, which is none anywhere else.
    if text == "255.255.255.255" {
        return Ok((Ipv4Addr::BROADCAST.into(), 32));
    }
    let Some(Network::Inet { base, prefix }) = Network::parse(&text) else {
        return Err(Error::at(word, format!("invalid network \"{text}\"")));
    };
    let written = text.split('/').next().and_then(base::address::ip);
    if written != Some(base) {
        warn(cx, word, format!("low address bits of {text} are meaningless"));
    }
    Ok((base, prefix))
}

fn range_of(word: &Word) -> Result<(u32, u32), Error> {
    let text = word.as_str();
    let ends = text.split_once('-').and_then(|(start, end)| {
        let (start, end) = (base::address::ipv4(start)?, base::address::ipv4(end)?);
        (start <= end).then_some((start.to_bits(), end.to_bits()))
    });
    ends.ok_or_else(|| Error::at(word, format!("invalid range \"{text}\"")))
}
