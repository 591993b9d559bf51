//! The condition of an `if` (`ngx_http_rewrite_if_condition`).
//!
//! The parentheses are not the language's: they are cut off the first and the last word.

use conf::{Directive, Error, Word};
use http::conf::compile::Cx;
use http::open_file::{self, Want};
use http::regex::{Case, Regex};
use http::request::Request;
use http::variables::{Template, VariableId};
use os::errlog::Level;

/// Whether a test must hold or must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    Yes,
    No,
}

/// What a file must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileTest {
    /// `-f`
    Plain,
    /// `-d`
    Directory,
    /// `-e`
    Exists,
    /// `-x`
    Executable,
}

/// A condition.
pub(super) enum Condition {
    /// `($variable)`: neither empty nor `0`.
    Set(VariableId),
    /// `=`, `!=`
    Equal { variable: VariableId, value: Template, expected: Expected },
    /// `~`, `~*`, `!~`, `!~*`
    Matches { variable: VariableId, regex: Regex, expected: Expected },
    /// `-f`, `!-f` and their kin.
    File { path: Template, test: FileTest, expected: Expected },
}

fn invalid(word: &Word, text: &[u8]) -> Error {
    Error::at(word, format!("invalid condition \"{}\"", String::from_utf8_lossy(text)))
}

/// The words of the condition without its parentheses.
fn words(d: &Directive) -> Result<Vec<(&Word, &[u8])>, Error> {
    let mut words: Vec<(&Word, &[u8])> = d.args.iter().map(|word| (word, &*word.bytes)).collect();
    let Some((word, text)) = words.first_mut() else { return Err(Error::on(d, "has no condition")) };
    *text = text.strip_prefix(b"(").ok_or_else(|| invalid(word, text))?;
    let Some((word, text)) = words.last_mut() else { return Err(Error::on(d, "has no condition")) };
    *text = text.strip_suffix(b")").ok_or_else(|| invalid(word, text))?;
    if words.len() > 1 && words.first().is_some_and(|(_, text)| text.is_empty()) {
        words.remove(0);
    }
    if words.len() > 1 && words.last().is_some_and(|(_, text)| text.is_empty()) {
        words.pop();
    }
    // Nothing in parentheses: nginx takes the closing one for the condition.
    if let [(word, [])] = &*words {
        return Err(invalid(word, b")"));
    }
    Ok(words)
}

/// Reads the condition of an `if` line.
///
/// # Errors
/// `invalid condition "…"`, `unexpected "…" in condition`.
pub(super) fn read(cx: &mut Cx<'_>, d: &Directive) -> Result<Condition, Error> {
    let words = words(d)?;
    match &*words {
        [(word, [b'$', name @ ..])] if !name.is_empty() => {
            Ok(Condition::Set(cx.variable(&name.to_ascii_lowercase(), word)?))
        }
        [(word, [b'$', name @ ..]), operator, value] if !name.is_empty() => {
            let variable = cx.variable(&name.to_ascii_lowercase(), word)?;
            compared(cx, variable, *operator, *value)
        }
        [(word, [b'-', letter]), path] => file(cx, word, *letter, Expected::Yes, *path),
        [(word, [b'!', b'-', letter]), path] => file(cx, word, *letter, Expected::No, *path),
        [(word, text), ..] => Err(invalid(word, text)),
        [] => Err(Error::on(d, "has no condition")),
    }
}

fn file(
    cx: &mut Cx<'_>,
    operator: &Word,
    letter: u8,
    expected: Expected,
    (word, path): (&Word, &[u8]),
) -> Result<Condition, Error> {
    let test = match letter {
        b'f' => FileTest::Plain,
        b'd' => FileTest::Directory,
        b'e' => FileTest::Exists,
        b'x' => FileTest::Executable,
        _ => return Err(invalid(operator, &operator.bytes)),
    };
    Ok(Condition::File { path: Template::compile_bytes(cx, word, path)?, test, expected })
}

fn compared(
    cx: &mut Cx<'_>,
    variable: VariableId,
    (operator, text): (&Word, &[u8]),
    (word, value): (&Word, &[u8]),
) -> Result<Condition, Error> {
    let (expected, text) = match text {
        [b'!', rest @ ..] => (Expected::No, rest),
        _ => (Expected::Yes, text),
    };
    let case = match text {
        b"=" => {
            let value = Template::compile_bytes(cx, word, value)?;
            return Ok(Condition::Equal { variable, value, expected });
        }
        b"~" => Case::Sensitive,
        b"~*" => Case::Insensitive,
        _ => {
            let sentence = format!("unexpected \"{}\" in condition", operator.as_str());
            return Err(Error::at(operator, sentence));
        }
    };
    Ok(Condition::Matches { variable, regex: Regex::compile(cx, word, value, case)?, expected })
}

impl Condition {
    /// Whether the condition holds; `append` adds the value of a template.
    pub fn holds(
        &self,
        r: &Request,
        append: impl Fn(&Template, &mut Vec<u8>),
        tell: impl Fn(&Regex, &[u8], bool),
    ) -> bool {
        let (is, expected) = match self {
            Self::Set(variable) => {
                let value = value(r, *variable);
                (!value.is_empty() && value != b"0", Expected::Yes)
            }
            Self::Equal { variable, value: wanted, expected } => {
                let seen = value(r, *variable);
                let mut text = Vec::new();
                append(wanted, &mut text);
                (seen == text, *expected)
            }
            Self::Matches { variable, regex, expected } => {
                let subject = value(r, *variable);
                let is = r.matches(regex, &subject);
                tell(regex, &subject, is);
                if !is {
                    r.forget_captures();
                }
                (is, *expected)
            }
            Self::File { path, test, expected } => {
                let mut text = Vec::new();
                append(path, &mut text);
                (test.holds(r, &text), *expected)
            }
        };
        is == (expected == Expected::Yes)
    }
}

fn value(r: &Request, variable: VariableId) -> Vec<u8> {
    r.variable(variable).unwrap_or_default()
}

impl FileTest {
    fn holds(self, r: &Request, path: &[u8]) -> bool {
        match open_file::open(r, path, Want::Info) {
            Ok(opened) => match self {
                Self::Plain => opened.info.is_file(),
                Self::Directory => opened.info.is_dir(),
                Self::Exists => opened.info.is_file() || opened.info.is_dir(),
                // As in nginx it is the owner's bit that counts.
                Self::Executable => opened.info.mode & 0o100 != 0,
            },
            Err(error) => {
                if !error.is_missing() {
                    let shown = String::from_utf8_lossy(path);
                    r.log(Level::Crit, format_args!("{} \"{shown}\" failed {error}", error.call));
                }
                false
            }
        }
    }
}
