//! Many patterns of which the first that matches counts, without trying each of them.
//!
//! Most patterns hold a text that every match of theirs contains. One search finds those that are there; only
//! their patterns, and those without such a text, are tried, in their order, and PCRE decides.

use std::cell::RefCell;
use std::fmt;

use aho_corasick::{AhoCorasick, MatchKind};

use super::Regex;
use super::required::required;

/// Fewer patterns are tried one after the other.
const WORTHWHILE: usize = 4;

/// Patterns in their order, each with what it leads to.
pub struct RegexList<T> {
    items: Vec<(Regex, T)>,
    filter: Option<Filter>,
}

struct Filter {
    texts: AhoCorasick,
    /// The pattern of each text.
    owners: Box<[u32]>,
    /// Patterns that are always tried.
    always: Box<[u32]>,
}

impl<T> Default for RegexList<T> {
    fn default() -> Self {
        Self { items: Vec::new(), filter: None }
    }
}

impl<T: fmt::Debug> fmt::Debug for RegexList<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.items.iter().map(|(regex, value)| (regex.text(), value))).finish()
    }
}

thread_local! {
    static CANDIDATES: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

impl<T> RegexList<T> {
    /// A list of these patterns.
    #[must_use]
    pub fn new(items: Vec<(Regex, T)>) -> Self {
        let mut list = Self { items, filter: None };
        list.finish();
        list
    }

    /// Adds a pattern behind the others; [`Self::finish`] follows the last.
    pub fn push(&mut self, regex: Regex, value: T) {
        self.items.push((regex, value));
        self.filter = None;
    }

    /// Prepares the search of a complete list.
    pub fn finish(&mut self) {
        self.filter = if self.items.len() >= WORTHWHILE { Filter::new(&self.items) } else { None };
    }

    /// Whether there is no pattern.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The first item whose pattern matches the subject, as `matches` says. It is asked about those patterns only
    /// that may match.
    #[inline]
    pub fn find(&self, subject: &[u8], matches: impl Fn(&Regex) -> bool) -> Option<&(Regex, T)> {
        if self.is_empty() { None } else { self.search(subject, matches) }
    }

    #[inline(never)]
    fn search(&self, subject: &[u8], matches: impl Fn(&Regex) -> bool) -> Option<&(Regex, T)> {
        let Some(filter) = &self.filter else {
            return self.items.iter().find(|(regex, _)| matches(regex));
        };
        // The list is taken out while it is used: a match may compute variables, which may match again.
        let mut candidates = CANDIDATES.take();
        candidates.clear();
        filter.candidates(subject, &mut candidates);
        let found = candidates.iter().find_map(|place| {
            let item = self.items.get(*place as usize)?;
            matches(&item.0).then_some(item)
        });
        CANDIDATES.set(candidates);
        found
    }
}

impl Filter {
    fn new<T>(items: &[(Regex, T)]) -> Option<Self> {
        let (mut texts, mut owners, mut always) = (Vec::new(), Vec::new(), Vec::new());
        for (place, (regex, _)) in items.iter().enumerate() {
            let place = u32::try_from(place).ok()?;
            match required(regex.text()) {
                Some(found) => {
                    owners.extend(found.iter().map(|_| place));
                    texts.extend(found);
                }
                None => always.push(place),
            }
        }
        if items.len() - always.len() < WORTHWHILE {
            return None;
        }
        // Letters in any case: more is admitted than a pattern needs, never less.
        let texts = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .ascii_case_insensitive(true)
            .build(texts)
            .ok()?;
        Some(Self { texts, owners: owners.into(), always: always.into() })
    }

    /// Places of the patterns that may match, in their order.
    fn candidates(&self, subject: &[u8], out: &mut Vec<u32>) {
        out.extend_from_slice(&self.always);
        let found = self.texts.find_overlapping_iter(subject);
        out.extend(found.filter_map(|found| self.owners.get(found.pattern().as_usize())));
        if out.len() > self.always.len() {
            out.sort_unstable();
            out.dedup();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::regex::Case;

    #[test]
    fn the_first_that_matches_is_found_as_by_trying_all() {
        let patterns = [
            (r"^/app1/", Case::Sensitive),
            (r"\.(gif|png)$", Case::Insensitive),
            (r"^/[a-c]+$", Case::Sensitive),
            (r"/\.(?!well-known)", Case::Sensitive),
            (r"(?i)mixed", Case::Sensitive),
            (r"^/app", Case::Sensitive),
            (r"^/users?/(\d+)/", Case::Sensitive),
            (r"UPPER", Case::Insensitive),
        ];
        let items: Vec<_> = patterns
            .iter()
            .enumerate()
            .map(|(place, (text, case))| (Regex::bare(text, *case), place))
            .collect();
        let list = RegexList::new(items.clone());
        assert!(list.filter.is_some());
        for subject in [
            "/app1/x",
            "/app2/x.gif",
            "/x.PNG",
            "/x.PNG/",
            "/abc",
            "/abd",
            "/.git",
            "/.well-known/x",
            "/MiXeD",
            "/user/5/",
            "/users/77/x",
            "/users/x/",
            "/upper",
            "/",
            "",
        ] {
            let expected =
                items.iter().find(|(regex, _)| regex.is_match(subject.as_bytes())).map(|(_, place)| *place);
            let tried = RefCell::new(0);
            let found = list.find(subject.as_bytes(), |regex| {
                *tried.borrow_mut() += 1;
                regex.is_match(subject.as_bytes())
            });
            assert_eq!(found.map(|(_, place)| *place), expected, "{subject}");
            assert!(*tried.borrow() <= 4, "{subject}: {} patterns tried", tried.borrow());
        }
    }
}
