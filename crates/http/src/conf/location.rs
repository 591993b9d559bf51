//! Locations and how a URI finds its own (`ngx_http_core_find_location`).
//!
//! Prefixes are sorted; each knows the longest other prefix of itself, so a lookup is one binary search and a
//! short walk, whatever their number.

use std::sync::Arc;

use super::concerned::Concerned;
use super::core::CoreSettings;
use crate::module::{Module, Slots};
use crate::phases::{Answer, Serve};
use crate::regex::{Regex, RegexList};
use crate::relay::Passing;

/// Index of a location among all of the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LocationId(pub u32);

/// What answers in a location.
#[derive(Clone)]
pub enum Content {
    /// A handler of the location's own (`return`-like modules, `stub_status`, …).
    Answer(Arc<dyn Answer>),
    /// The request is passed to an upstream.
    Relay(Passing),
    /// Sessions of `stream` are served.
    Session(Arc<dyn Serve>),
}

/// Where what answers in a block was said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// In the block.
    #[default]
    Own,
    /// Around it.
    Inherited,
}

/// How a location is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// `location /path`.
    #[default]
    Prefix,
    /// `location ^~ /path`: no regular expression is tried after it.
    PrefixOnly,
    /// `location = /path`.
    Exact,
    /// `location ~ …`, `location ~* …`.
    Regex,
    /// `location @name`.
    Named,
    /// The settings of a server, an `if` or a `limit_except` block.
    Unnamed,
}

/// A `location` block, or another block with settings of its own.
pub struct Location {
    /// The path, expression or name as written.
    pub name: Box<[u8]>,
    /// How it is written.
    pub kind: Kind,
    /// Settings of all modules.
    pub slots: Slots,
    /// The core module's settings, at hand.
    pub core: Arc<CoreSettings>,
    /// What answers here; inherited by `if` blocks.
    pub content: Option<Content>,
    /// Whether that is the block's own or comes from around it.
    pub origin: Origin,
    /// A request for the name without its last slash is redirected here (`proxy_pass` and the like).
    pub auto_redirect: bool,
    /// Locations inside.
    pub nested: LocationTree,
    /// `limit_except`: methods that are let through, and the settings for all others.
    pub limit_except: Option<(u32, LocationId)>,
    /// The modules that have something to do here.
    pub concerned: Arc<Concerned>,
}

impl Location {
    /// The settings of module `M` here.
    #[inline]
    #[must_use]
    pub fn settings<M: Module>(&self) -> &M::Settings {
        self.slots.of::<M>()
    }
}

/// What a lookup in a tree's literal locations found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Literal {
    /// `= /path`, or nothing can be longer: no regular expression is tried.
    Exact(LocationId),
    /// The longest prefix.
    Prefix(LocationId),
    /// The name without its last slash was asked for.
    Redirect(LocationId),
    /// None.
    Nothing,
}

struct Entry {
    name: Box<[u8]>,
    exact: Option<LocationId>,
    prefix: Option<LocationId>,
    auto_redirect: bool,
    /// The longest other entry that is a prefix of this one and matches by prefix.
    parent: Option<u32>,
}

/// The locations of one block.
#[derive(Default)]
pub struct LocationTree {
    entries: Vec<Entry>,
    /// Whether any name without its last slash is redirected.
    redirects: bool,
    /// Regular expressions in the order of the text.
    pub regexes: RegexList<LocationId>,
}

/// The last entry that a name behind all of them begins with: the one before it, or one that this lies in.
fn nearest(entries: &[Entry], name: &[u8]) -> Option<u32> {
    let mut at = u32::try_from(entries.len().checked_sub(1)?).ok();
    while let Some(index) = at {
        let entry = entries.get(index as usize)?;
        if entry.prefix.is_some() && name.starts_with(&entry.name) {
            return at;
        }
        at = entry.parent;
    }
    None
}

impl LocationTree {
    /// Builds the tree of literal locations.
    #[must_use]
    pub fn new(literals: &[(Box<[u8]>, Kind, LocationId, bool)], regexes: Vec<(Regex, LocationId)>) -> Self {
        let mut entries: Vec<Entry> = Vec::new();
        let mut sorted: Vec<_> = literals.iter().collect();
        sorted.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, kind, id, auto_redirect) in sorted {
            if entries.last().is_none_or(|last| last.name != *name) {
                let parent = nearest(&entries, name);
                entries.push(Entry {
                    name: name.clone(),
                    exact: None,
                    prefix: None,
                    auto_redirect: false,
                    parent,
                });
            }
            if let Some(entry) = entries.last_mut() {
                match kind {
                    Kind::Exact => entry.exact = Some(*id),
                    _ => entry.prefix = Some(*id),
                }
                entry.auto_redirect |= auto_redirect;
            }
        }
        // No URI is the root without its slash.
        let redirects = entries.iter().any(|entry| entry.auto_redirect && *entry.name != *b"/");
        Self { entries, redirects, regexes: RegexList::new(regexes) }
    }

    /// Whether there is no location at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.regexes.is_empty()
    }

    /// Finds the literal location of a normalised path.
    #[must_use]
    pub fn find(&self, uri: &[u8]) -> Literal {
        // The last entry that is not greater than the URI; every prefix of the URI is that entry or its ancestor
        // by way of `parent`, or an ancestor of its neighbours which `parent` leads to as well.
        let after = self.entries.partition_point(|entry| *entry.name <= *uri);
        let redirect = if self.redirects { self.redirect(uri, after) } else { None };
        let mut at = after.checked_sub(1).map(|index| index as u32);
        while let Some(entry) = at.and_then(|index| self.entries.get(index as usize)) {
            if *entry.name == *uri {
                if let Some(id) = entry.exact {
                    return Literal::Exact(id);
                }
                if let Some(id) = entry.prefix {
                    return Literal::Prefix(id);
                }
            }
            if let Some(id) = entry.prefix
                && uri.starts_with(&entry.name)
            {
                return redirect.map_or(Literal::Prefix(id), Literal::Redirect);
            }
            at = entry.parent;
        }
        redirect.map_or(Literal::Nothing, Literal::Redirect)
    }

    /// The location whose name is the URI and a slash, where it asks for redirects; it lies behind `after`, but
    /// names with bytes below the slash may lie in between.
    #[inline(never)]
    fn redirect(&self, uri: &[u8], after: usize) -> Option<LocationId> {
        if uri.ends_with(b"/") {
            return None;
        }
        let behind = self.entries.get(after..)?;
        let with_slash = || uri.iter().chain(b"/");
        let at = behind.partition_point(|entry| entry.name.iter().lt(with_slash()));
        let entry =
            behind.get(at).filter(|entry| entry.auto_redirect && entry.name.iter().eq(with_slash()))?;
        entry.exact.or(entry.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(names: &[(&str, Kind)]) -> LocationTree {
        let literals: Vec<_> = names
            .iter()
            .enumerate()
            .map(|(index, (name, kind))| {
                let id = LocationId(u32::try_from(index).expect("few locations"));
                (name.as_bytes().into(), *kind, id, name.ends_with('/'))
            })
            .collect();
        LocationTree::new(&literals, Vec::new())
    }

    #[test]
    fn the_longest_prefix_wins_and_exact_beats_it() {
        let tree = tree(&[
            ("/", Kind::Prefix),
            ("/a", Kind::Prefix),
            ("/a/b/", Kind::Prefix),
            ("/a/bb", Kind::Exact),
            ("/ab", Kind::PrefixOnly),
            ("/a", Kind::Exact),
        ]);
        let check = |uri: &str, expected| assert_eq!(tree.find(uri.as_bytes()), expected, "{uri}");
        check("/", Literal::Prefix(LocationId(0)));
        check("/zzz", Literal::Prefix(LocationId(0)));
        check("/a", Literal::Exact(LocationId(5)));
        check("/a/", Literal::Prefix(LocationId(1)));
        check("/a/b", Literal::Redirect(LocationId(2)));
        check("/a/b/c", Literal::Prefix(LocationId(2)));
        check("/a/bb", Literal::Exact(LocationId(3)));
        check("/a/bbb", Literal::Prefix(LocationId(1)));
        check("/abc", Literal::Prefix(LocationId(4)));
        check("*", Literal::Nothing);
    }

    #[test]
    fn a_missing_slash_is_found_behind_smaller_bytes() {
        let tree = tree(&[("/auto/", Kind::Prefix), ("/auto sp/", Kind::Prefix), ("/auto-x", Kind::Prefix)]);
        let check = |uri: &str, expected| assert_eq!(tree.find(uri.as_bytes()), expected, "{uri}");
        check("/auto", Literal::Redirect(LocationId(0)));
        check("/auto sp", Literal::Redirect(LocationId(1)));
        check("/auto-x", Literal::Prefix(LocationId(2)));
        check("/auto.", Literal::Nothing);
        check("/aut", Literal::Nothing);
    }
}
