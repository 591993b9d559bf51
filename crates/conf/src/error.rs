//! What can be wrong with a configuration, in nginx's own sentences, with the place and the likely fix.
//!
//! nginx names the line on which a directive ends, so a [`Spot`] keeps that line beside the word's own place.

use crate::hint::Hint;
use crate::sources::Place;
use crate::tree::{Directive, Order, Word};

/// How grave a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The configuration cannot be used.
    Emerg,
    /// Something is probably not what was meant.
    Warn,
    /// Worth knowing.
    Notice,
    /// Told by `-t` alone: what is written does something else than is usually meant.
    Hint,
}

impl Level {
    /// nginx's name of the level: `emerg`, `warn`, `notice`; `hint` is our own.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Emerg => "emerg",
            Self::Warn => "warn",
            Self::Notice => "notice",
            Self::Hint => "hint",
        }
    }
}

/// Where a message points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    /// The word that the caret shows.
    pub place: Place,
    /// The line that the sentence names: where the directive ends, as in nginx.
    pub line: u32,
}

/// The sentence of a message, without its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No row of this name.
    #[error("unknown directive \"{0}\"")]
    UnknownDirective(String),
    /// Rows of this name, none for this context.
    #[error("\"{0}\" directive is not allowed here")]
    NotAllowedHere(String),
    /// A block behind a directive that takes none.
    #[error("directive \"{0}\" is not terminated by \";\"")]
    NotTerminated(String),
    /// No block behind a directive that takes one.
    #[error("directive \"{0}\" has no opening \"{{\"")]
    NoOpeningBrace(String),
    /// Too many or too few arguments.
    #[error("invalid number of arguments in \"{0}\" directive")]
    ArgumentCount(String),
    /// A second directive where one is allowed.
    #[error("\"{0}\" directive is duplicate")]
    Duplicate(String),
    /// Neither `on` nor `off`.
    #[error("invalid value \"{value}\" in \"{name}\" directive, it must be \"on\" or \"off\"")]
    NotFlag {
        /// What was written.
        value: String,
        /// The directive.
        name: String,
    },
    /// A byte where none of its kind may stand.
    #[error("unexpected \"{0}\"")]
    Unexpected(String),
    /// The file ends within a directive.
    #[error("unexpected end of file, expecting \";\" or \"}}\"")]
    EndInDirective,
    /// The file ends within a block.
    #[error("unexpected end of file, expecting \"}}\"")]
    EndInBlock,
    /// The text of `-g` ends within a directive.
    #[error("unexpected end of parameter, expecting \";\"")]
    EndOfParameter,
    /// A parameter of more than 4096 bytes.
    #[error("too long parameter \"{0}...\" started")]
    TooLong(String),
    /// A quoted parameter of more than 4096 bytes.
    #[error("too long parameter, probably missing terminating \"{0}\" character")]
    UnterminatedQuote(char),
    /// A block in the text of `-g`.
    #[error("block directives are not supported in -g option")]
    BlockInCommandLine,
    /// A call on a file failed.
    #[error("{call}() \"{path}\" failed ({reason})")]
    File {
        /// The system or library call: `open`, `read`, `glob`.
        call: &'static str,
        /// The file or pattern.
        path: String,
        /// Number and text of the error: `2: No such file or directory`.
        reason: String,
    },
    /// A file that is being read includes itself, perhaps by way of others.
    #[error("\"{0}\" includes itself")]
    IncludesItself(String),
    /// Files include each other too deep.
    #[error("more than {0} nested includes")]
    TooManyIncludes(usize),
    /// Blocks stand in each other too deep.
    #[error("more than {0} nested blocks")]
    TooManyBlocks(usize),
    /// The directive exists in nginx, and not here.
    #[error("directive \"{0}\" is not supported yet")]
    NotYet(String),
    /// The directive exists in nginx, and never will here.
    #[error("directive \"{name}\" is not supported: {reason}")]
    Refused {
        /// The directive.
        name: String,
        /// Why.
        reason: &'static str,
    },
    /// The directive is accepted and does nothing.
    #[error("the \"{name}\" directive has no effect: {reason}")]
    NoEffect {
        /// The directive.
        name: String,
        /// Why.
        reason: &'static str,
    },
    /// A setter's verdict on a directive: `is duplicate`, `invalid value`, `invalid number`.
    #[error("\"{name}\" directive {verdict}")]
    Verdict {
        /// The directive.
        name: String,
        /// What is wrong.
        verdict: String,
    },
    /// A sentence of a setter with the place in its middle.
    #[error("{before}{after}")]
    Around {
        /// What stands before the place.
        before: String,
        /// What stands behind it.
        after: &'static str,
    },
    /// A sentence of a setter.
    #[error("{0}")]
    Sentence(String),
}

/// A message about a configuration: sentence, place, likely fix.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{fault}")]
pub struct Error {
    /// How grave it is.
    pub level: Level,
    /// The sentence.
    pub fault: Fault,
    /// Where it points; `None` when it is about no place in particular.
    pub spot: Option<Spot>,
    /// What would mend it.
    pub hint: Option<Box<Hint>>,
    /// When nginx finds it; `None` until whoever knows says so.
    pub order: Option<Order>,
}

impl Error {
    /// A sentence about a word. The line named is the one on which the word's directive ends.
    #[must_use]
    pub fn at(word: &Word, sentence: impl Into<String>) -> Self {
        Self::fault_at(word, Fault::Sentence(sentence.into()))
    }

    /// A sentence about a word, with the word's place between two parts of it.
    #[must_use]
    pub fn around(word: &Word, before: String, after: &'static str) -> Self {
        Self::fault_at(word, Fault::Around { before, after })
    }

    /// `"x" directive VERDICT`, as nginx says when a setter returns a string: `is duplicate`, `invalid value`.
    #[must_use]
    pub fn on(directive: &Directive, verdict: impl Into<String>) -> Self {
        let name = directive.name.as_str().into_owned();
        Self::fault_at(&directive.name, Fault::Verdict { name, verdict: verdict.into() })
    }

    /// A sentence about a whole block. The line named is that of its `}`, where nginx finds such errors.
    #[must_use]
    pub fn at_close(directive: &Directive, sentence: impl Into<String>) -> Self {
        let mut error = Self::at(&directive.name, sentence);
        if let (Some(spot), Some(close)) = (&mut error.spot, directive.close()) {
            spot.line = close.line;
        }
        error.found(directive.block.as_ref().map_or(directive.order, |block| block.closed))
    }

    /// A sentence without a place.
    #[must_use]
    pub fn bare(sentence: impl Into<String>) -> Self {
        Self::new(Fault::Sentence(sentence.into()), None)
    }

    /// A fault about a word.
    #[must_use]
    pub fn fault_at(word: &Word, fault: Fault) -> Self {
        Self::new(fault, Some(Spot { place: word.place, line: word.end_line }))
    }

    /// A fault at a place.
    #[must_use]
    pub fn fault_in(place: Place, fault: Fault) -> Self {
        Self::new(fault, Some(Spot { place, line: place.line }))
    }

    /// The same message at another level: `[warn]` or `[notice]`.
    #[must_use]
    pub fn with_level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    /// The same message with a fix.
    #[must_use]
    pub fn with_hint(mut self, hint: Hint) -> Self {
        self.hint = Some(Box::new(hint));
        self
    }

    /// The same message, found at this time unless another is known.
    #[must_use]
    pub fn found(mut self, order: Order) -> Self {
        self.order.get_or_insert(order);
        self
    }

    pub(crate) fn with_hint_if_none(mut self, hint: impl FnOnce() -> Option<Hint>) -> Self {
        if self.hint.is_none() {
            self.hint = hint().map(Box::new);
        }
        self
    }

    pub(crate) fn new(fault: Fault, spot: Option<Spot>) -> Self {
        Self { level: Level::Emerg, fault, spot, hint: None, order: None }
    }
}
