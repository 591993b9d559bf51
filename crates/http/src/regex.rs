//! Regular expressions with PCRE's meaning, and the variables that their named groups fill.
//!
//! Every pattern is compiled with the JIT where there is one and with a match limit, so that no request can make
//! a pattern run for ever.

use conf::{Error, Word};
use pcre2::bytes::{Regex as Pcre, RegexBuilder};

use crate::conf::compile::Cx;
use crate::variables::VariableId;

/// Steps after which a match gives up (`pcre2_set_match_limit`).
const MATCH_LIMIT: u32 = 1_000_000;

/// Whether letters match without regard to case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// `~`.
    Sensitive,
    /// `~*`.
    Insensitive,
}

/// A compiled pattern.
#[derive(Clone)]
pub struct Regex {
    pcre: Pcre,
    text: Box<[u8]>,
    /// Named groups and the variables that they fill.
    named: Vec<(usize, VariableId)>,
    groups: usize,
}

impl Regex {
    /// Compiles a pattern; its named groups become variables.
    ///
    /// # Errors
    /// `pcre2_compile() failed: … in "…"`, as nginx says it.
    pub fn compile(cx: &mut Cx<'_>, word: &Word, pattern: &[u8], case: Case) -> Result<Self, Error> {
        let text = String::from_utf8_lossy(pattern).into_owned();
        let limited = format!("(*LIMIT_MATCH={MATCH_LIMIT}){text}");
        let pcre = RegexBuilder::new()
            .caseless(case == Case::Insensitive)
            .jit_if_available(true)
            .build(&limited)
            .map_err(|error| Error::at(word, sentence(&error, &text)))?;
        let mut named = Vec::new();
        for (group, name) in pcre.capture_names().iter().enumerate() {
            if let Some(name) = name {
                named.push((group, cx.capture_variable(name.to_ascii_lowercase().as_bytes())));
            }
        }
        let groups = pcre.captures_len();
        Ok(Self { pcre, text: pattern.into(), named, groups })
    }

    /// Compiles a pattern that a page brings, for few matches; its named groups become nothing by themselves.
    ///
    /// # Errors
    /// As [`Self::compile`], as a sentence.
    pub fn compile_once(pattern: &[u8]) -> Result<Self, String> {
        let text = String::from_utf8_lossy(pattern).into_owned();
        let pcre = RegexBuilder::new().build(&format!("(*LIMIT_MATCH={MATCH_LIMIT}){text}"));
        let pcre = pcre.map_err(|error| sentence(&error, &text))?;
        let groups = pcre.captures_len();
        Ok(Self { pcre, text: pattern.into(), named: Vec::new(), groups })
    }

    /// Groups that have a name.
    pub fn group_names(&self) -> impl Iterator<Item = (usize, &str)> {
        let names = self.pcre.capture_names().iter().enumerate();
        names.filter_map(|(group, name)| Some((group, name.as_deref()?)))
    }

    /// The pattern as written.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Whether the pattern has groups.
    #[must_use]
    pub fn has_groups(&self) -> bool {
        self.groups > 1
    }

    /// Number of groups, the whole match left out.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.groups.saturating_sub(1)
    }

    /// Whether the subject matches; a match that exceeds its limit counts as none.
    #[must_use]
    pub fn is_match(&self, subject: &[u8]) -> bool {
        self.pcre.is_match(subject).unwrap_or(false)
    }

    /// Matches and reports the groups as offsets, the whole match first; `None` where it does not match.
    #[must_use]
    pub fn captures(&self, subject: &[u8]) -> Option<Vec<Option<(usize, usize)>>> {
        if !self.is_match(subject) {
            return None;
        }
        let mut locations = self.pcre.capture_locations();
        self.pcre.captures_read(&mut locations, subject).ok()??;
        Some((0..locations.len()).map(|group| locations.get(group)).collect())
    }

    /// Named groups and their variables.
    pub(crate) fn named(&self) -> &[(usize, VariableId)] {
        &self.named
    }
}

fn sentence(error: &pcre2::Error, text: &str) -> String {
    // The library puts its own words in front of PCRE's.
    let message = error.to_string();
    let message = message.rsplit_once(": ").map_or(&*message, |(_, own)| own);
    format!("pcre2_compile() failed: {message} in \"{text}\"")
}
