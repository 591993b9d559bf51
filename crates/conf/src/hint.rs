//! The likely fix of an error, shown on a terminal below the line.
//!
//! A hint never changes the sentence, so that tools which grep nginx's sentences go on working.

use std::fmt;

use crate::sources::Place;
use crate::tree::Word;
use crate::{Contexts, Directive, Schema};

/// What would mend an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// A known directive that is spelled nearly alike.
    DidYouMean(String),
    /// Where the directive may stand.
    BelongsIn {
        /// The directive.
        name: String,
        /// Its contexts.
        contexts: Contexts,
    },
    /// The line that lacks its `;`: the next line was taken for arguments.
    MissingSemicolon(Place),
    /// The line of the block that lacks its `}`.
    UnclosedBlock {
        /// The block's directive.
        name: String,
        /// Where it stands.
        opened: Place,
    },
    /// Anything else, as a sentence without a full stop.
    Text(String),
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DidYouMean(name) => write!(f, "did you mean `{name}`?"),
            Self::BelongsIn { name, contexts } => write!(f, "`{name}` belongs in: {contexts}"),
            Self::MissingSemicolon(place) => write!(f, "add a `;` at the end of line {}", place.line),
            Self::UnclosedBlock { name, opened } => {
                write!(f, "`{name}` opened at line {} has no closing `}}`", opened.line)
            }
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl Hint {
    /// The fix where text ends or a `}` comes before the last word's `;`.
    pub(crate) fn missing_semicolon(last: Option<&Word>) -> Option<Self> {
        last.map(|word| Self::MissingSemicolon(word.place))
    }

    /// The fix where a word that begins a line is a directive's name: the line above lacks its `;`.
    pub(crate) fn swallowed(name: &Word, args: &[Word], schema: &Schema) -> Option<Self> {
        let mut before = name;
        for word in args {
            if word.place.line > before.place.line && !word.quoted && schema.knows(&word.as_str()) {
                return Some(Self::MissingSemicolon(before.place));
            }
            before = word;
        }
        None
    }
}

impl crate::Error {
    /// Adds the hint that a `;` is missing when the directive seems to have swallowed the next one.
    ///
    /// Meant for errors of setters, which see only their words.
    #[must_use]
    pub fn explain(self, directive: &Directive, schema: &Schema) -> Self {
        self.with_hint_if_none(|| Hint::swallowed(&directive.name, &directive.args, schema))
    }
}
