//! What a configuration says, word by word: directives in the order of the text, includes already in place.
//!
//! Nothing has a meaning yet; a module's setters read the words and turn them into settings.

use std::borrow::Cow;
use std::ops::Deref;

use crate::bytes::Bytes;
use crate::lexer::{Lexer, Token};
use crate::sources::{FileId, Origin, Place};
use crate::{Error, Fault, Row};

/// One word with its quotes and escapes resolved.
#[derive(Clone, Debug)]
pub struct Word {
    /// The bytes that it stands for.
    pub bytes: Bytes,
    /// Where it begins, its quote included.
    pub place: Place,
    /// Whether it was written in quotes.
    pub quoted: bool,
    /// Line of the `;` or `{` that ends its directive: nginx names that one in messages.
    pub end_line: u32,
}

impl Word {
    /// The word as text; bytes that are no UTF-8 are replaced.
    #[must_use]
    pub fn as_str(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }

    /// What follows `prefix`, as in the parameter `max_fails=3` with the prefix `max_fails=`.
    #[must_use]
    pub fn after(&self, prefix: &str) -> Option<&[u8]> {
        self.bytes.strip_prefix(prefix.as_bytes())
    }

    /// Whether the word is exactly this text.
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        *self.bytes == *text.as_bytes()
    }
}

/// One directive: its words, its block, and the row that allowed it.
#[derive(Clone, Debug)]
pub struct Directive {
    /// The first word.
    pub name: Word,
    /// The words after the name.
    pub args: Args,
    /// What stands in braces behind them; `None` where the directive ends with `;`.
    pub block: Option<Box<Block>>,
    /// The row that it was checked against; for lines of free blocks a nameless one.
    pub row: &'static Row,
    /// When it was read.
    pub order: Order,
}

/// The words behind the name of a directive. Most have one, which takes no memory of its own.
#[derive(Clone, Debug)]
pub enum Args {
    /// A single one.
    One(Word),
    /// None or several.
    List(Box<[Word]>),
}

impl Deref for Args {
    type Target = [Word];

    fn deref(&self) -> &[Word] {
        match self {
            Self::One(word) => std::slice::from_ref(word),
            Self::List(words) => words,
        }
    }
}

impl FromIterator<Word> for Args {
    fn from_iter<T: IntoIterator<Item = Word>>(words: T) -> Self {
        let mut words = words.into_iter();
        match (words.next(), words.next()) {
            (None, _) => Self::List(Box::default()),
            (Some(word), None) => Self::One(word),
            (Some(first), Some(second)) => Self::List([first, second].into_iter().chain(words).collect()),
        }
    }
}

impl<'a> IntoIterator for &'a Args {
    type Item = &'a Word;
    type IntoIter = std::slice::Iter<'a, Word>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// A block in braces.
#[derive(Clone, Debug)]
pub struct Block {
    /// Its directives.
    pub directives: Vec<Directive>,
    /// Where its `}` stands; `None` where the text ends before.
    pub close: Option<Place>,
    /// When it was closed; never where the text ends before.
    pub closed: Order,
}

/// When something is read or found: nginx reads and checks line by line, and only at the ends what lines come to
/// together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order(pub u32);

impl Order {
    /// A row's default, before every line.
    pub const DEFAULT: Self = Self(0);
    /// The end of a block that has none.
    pub const NEVER: Self = Self(u32::MAX - 2);
    /// The end of the block that it all stands in, such as `http`.
    pub const END_OF_BLOCK: Self = Self(u32::MAX - 1);
    /// After the text: what nginx calls a good syntax by then.
    pub const END_OF_TEXT: Self = Self(u32::MAX);
}

impl Directive {
    /// The argument of this index, counted from zero without the name.
    ///
    /// # Errors
    /// `invalid number of arguments in "x" directive` when there is none.
    pub fn arg(&self, index: usize) -> Result<&Word, Error> {
        self.args
            .get(index)
            .ok_or_else(|| Error::fault_at(&self.name, Fault::ArgumentCount(self.name.as_str().into())))
    }

    /// The block's directives; none where there is no block.
    #[must_use]
    pub fn body(&self) -> &[Self] {
        self.block.as_ref().map_or(&[], |block| &block.directives)
    }

    /// Where the `}` of its block stands; `None` where there is none.
    #[must_use]
    pub fn close(&self) -> Option<Place> {
        self.block.as_ref()?.close
    }

    /// Whether it stands for a row's default and was not written.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.name.place.file == FileId::DEFAULT
    }

    /// The directive that a row's default stands for, as if it were written; `None` without a default.
    ///
    /// # Errors
    /// When the default does not lex as arguments.
    pub fn from_default(row: &'static Row) -> Result<Option<Self>, Error> {
        if row.default.is_empty() {
            return Ok(None);
        }
        let text = format!("{} {};", row.name, row.default).into_bytes().into();
        let mut lexer = Lexer::new(&text, FileId::DEFAULT, Origin::CommandLine);
        let Token::Statement(statement) = lexer.next_token()? else { return Ok(None) };
        Ok(Some(Self { name: statement.name, args: statement.args, block: None, row, order: Order::DEFAULT }))
    }
}

/// A configuration that is well formed.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// The directives outside of every block, those of `-g` first.
    pub directives: Vec<Directive>,
    /// What the operator should know although nothing is wrong, in the order of the text.
    pub notices: Vec<Error>,
}
