//! Regular expressions with PCRE's meaning, and the variables that their named groups fill.
//!
//! Every pattern has a match limit, so that no request can make it run for ever. It is compiled to machine code when
//! it is first tried: most patterns of a long configuration never are, and a load need not wait for them.

mod list;
mod required;

use std::sync::{Arc, OnceLock};

use conf::{Error, Word};
use pcre2::bytes::{Regex as Pcre, RegexBuilder};

use crate::conf::compile::Cx;
use crate::variables::VariableId;

pub use self::list::RegexList;

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
    program: Arc<Program>,
    text: Box<[u8]>,
    /// Named groups and the variables that they fill.
    named: Vec<(usize, VariableId)>,
    groups: usize,
}

struct Program {
    source: String,
    case: Case,
    plain: Pcre,
    machine_code: OnceLock<Pcre>,
}

impl Program {
    fn new(pattern: &[u8], case: Case) -> Result<Self, pcre2::Error> {
        let source = source_of(pattern);
        let plain = RegexBuilder::new().caseless(case == Case::Insensitive).build(&source)?;
        Ok(Self { source, case, plain, machine_code: OnceLock::new() })
    }

    #[inline]
    fn ready(&self) -> &Pcre {
        self.machine_code.get_or_init(|| {
            let mut builder = RegexBuilder::new();
            builder.caseless(self.case == Case::Insensitive).jit_if_available(true);
            builder.build(&self.source).unwrap_or_else(|_| self.plain.clone())
        })
    }
}

/// What the library is given for a pattern.
fn source_of(pattern: &[u8]) -> String {
    let mut source = format!("(*LIMIT_MATCH={MATCH_LIMIT})");
    push_pattern(pattern, &mut source);
    source
}

/// Appends a pattern with its bytes outside of ASCII as escapes, since the library takes text and the pattern is
/// about bytes.
fn push_pattern(pattern: &[u8], out: &mut String) {
    let mut bytes = pattern.iter().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            // Such a byte stands for itself with or without a backslash in front.
            b'\\' if bytes.peek().is_some_and(|next| !next.is_ascii()) => {}
            b'\\' => {
                out.push('\\');
                out.extend(bytes.next().map(|next| char::from(*next)));
            }
            byte if byte.is_ascii() => out.push(char::from(*byte)),
            byte => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
}

impl Regex {
    /// A pattern whose named groups fill nothing.
    #[cfg(test)]
    pub(crate) fn bare(pattern: &str, case: Case) -> Self {
        let program = Program::new(pattern.as_bytes(), case).expect("pattern");
        let groups = program.plain.captures_len();
        Self { program: Arc::new(program), text: pattern.as_bytes().into(), named: Vec::new(), groups }
    }

    /// Compiles a pattern; its named groups become variables.
    ///
    /// # Errors
    /// `pcre2_compile() failed: … in "…"`, as nginx says it, and `the duplicate "…" variable`.
    pub fn compile(cx: &mut Cx<'_>, word: &Word, pattern: &[u8], case: Case) -> Result<Self, Error> {
        let program =
            Program::new(pattern, case).map_err(|error| Error::at(word, sentence(&error, pattern)))?;
        let mut named = Vec::new();
        for (group, name) in program.plain.capture_names().iter().enumerate() {
            if let Some(name) = name {
                named.push((group, cx.capture_variable(name.to_ascii_lowercase().as_bytes(), word)?));
            }
        }
        let groups = program.plain.captures_len();
        Ok(Self { program: Arc::new(program), text: pattern.into(), named, groups })
    }

    /// Compiles a pattern that a page brings, for few matches; its named groups become nothing by themselves.
    ///
    /// # Errors
    /// As [`Self::compile`], as a sentence.
    pub fn compile_once(pattern: &[u8]) -> Result<Self, String> {
        let program = Program::new(pattern, Case::Sensitive).map_err(|error| sentence(&error, pattern))?;
        // So few are not worth machine code.
        let _ = program.machine_code.set(program.plain.clone());
        let groups = program.plain.captures_len();
        Ok(Self { program: Arc::new(program), text: pattern.into(), named: Vec::new(), groups })
    }

    /// Groups that have a name.
    pub fn group_names(&self) -> impl Iterator<Item = (usize, &str)> {
        let names = self.program.plain.capture_names().iter().enumerate();
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
        self.program.ready().is_match(subject).unwrap_or(false)
    }

    /// Matches and reports the groups as offsets, the whole match first; `None` where it does not match.
    #[must_use]
    pub fn captures(&self, subject: &[u8]) -> Option<Vec<Option<(usize, usize)>>> {
        if !self.is_match(subject) {
            return None;
        }
        let pcre = self.program.ready();
        let mut locations = pcre.capture_locations();
        pcre.captures_read(&mut locations, subject).ok()??;
        Some((0..locations.len()).map(|group| locations.get(group)).collect())
    }

    /// Named groups and their variables.
    pub(crate) fn named(&self) -> &[(usize, VariableId)] {
        &self.named
    }
}

fn sentence(error: &pcre2::Error, pattern: &[u8]) -> String {
    // The library puts its own words in front of PCRE's.
    let message = error.to_string();
    let message = message.rsplit_once(": ").map_or(&*message, |(_, own)| own);
    let whole = String::from_utf8_lossy(pattern);
    // The place is one in what the library was given.
    let at = error.offset().and_then(|offset| {
        (0..pattern.len()).find(|at| source_of(pattern.get(..*at).unwrap_or_default()).len() >= offset)
    });
    match at.and_then(|at| pattern.get(at..)) {
        Some(rest) => {
            let rest = String::from_utf8_lossy(rest);
            format!("pcre2_compile() failed: {message} in \"{whole}\" at \"{rest}\"")
        }
        None => format!("pcre2_compile() failed: {message} in \"{whole}\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_about_bytes() {
        let check = |pattern: &[u8], subject: &[u8], expected| {
            let program = Program::new(pattern, Case::Sensitive).expect("pattern");
            for pcre in [&program.plain, program.ready()] {
                assert_eq!(pcre.is_match(subject).expect("match"), expected, "{pattern:?} {subject:?}");
            }
        };
        check(b"^/\xe9.$", b"/\xe9a", true);
        check("^/\u{e9}$".as_bytes(), "/\u{e9}".as_bytes(), true);
        check(b"^/\\\xe9\\.$", b"/\xe9.", true);
        check(b"^/[\xe0-\xef]$", b"/\xe5", true);
        check(b"^/[\xe0-\xef]$", b"/\xf5", false);
        check(br"^/\\$", br"/\", true);
    }
}
