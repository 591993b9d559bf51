//! Strings with variables, compiled once (`ngx_http_complex_value_t`).
//!
//! A string without variables costs one copy; a single variable costs one call.

use std::cell::Cell;

use conf::{Bytes, Error, Word};
use os::errlog::Level;

use super::{Lasts, Origin, Reader};
use crate::conf::compile::Cx;
use crate::request::Request;

/// Bytes of a thread's buffer for values that are kept for the next.
const VALUE_KEPT: usize = 16 << 10;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(Box<[u8]>),
    Variable(Reader),
    /// `$1` … `$9` of the last regular expression that matched.
    Capture(u8),
}

/// A compiled string of literals, variables and captures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template(Parts);

/// Most strings have no variables; those are a part of their file.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Parts {
    Literal(Bytes),
    Variable(Reader),
    List(Box<[Part]>),
}

impl Default for Parts {
    fn default() -> Self {
        Self::Literal(Bytes::default())
    }
}

impl Template {
    /// Compiles the text of a word; `$$` is not special in nginx, a `$` must begin a variable.
    ///
    /// # Errors
    /// `invalid variable name`, `the closing bracket in "…" variable is missing` and `unknown "…" variable`.
    pub fn compile(cx: &mut Cx<'_>, word: &Word) -> Result<Self, Error> {
        if !Self::has_variables(&word.bytes) {
            return Ok(Self(Parts::Literal(word.bytes.clone())));
        }
        Self::compile_bytes(cx, word, &word.bytes)
    }

    /// As [`Self::compile`], for a part of a word; `word` is where errors point to.
    ///
    /// # Errors
    /// As [`Self::compile`].
    pub fn compile_bytes(cx: &mut Cx<'_>, word: &Word, text: &[u8]) -> Result<Self, Error> {
        if !Self::has_variables(text) {
            return Ok(Self::literal(text));
        }
        let mut parts: Vec<Part> = Vec::new();
        let mut literal = Vec::new();
        let mut rest = text;
        while let Some((&byte, tail)) = rest.split_first() {
            rest = tail;
            if byte != b'$' {
                literal.push(byte);
                continue;
            }
            let part = if let Some(digit @ b'1'..=b'9') = rest.first() {
                rest = &rest[1..];
                Part::Capture(digit - b'0')
            } else {
                let name = named(&mut rest, word)?;
                if let Some(text) = cx.constant(&name) {
                    literal.extend_from_slice(text.as_bytes());
                    continue;
                }
                Part::Variable(cx.reader(&name, word)?)
            };
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal).into()));
            }
            parts.push(part);
        }
        if parts.is_empty() {
            return Ok(Self::literal(&literal));
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal.into()));
        }
        Ok(Self(match parts.as_slice() {
            [Part::Variable(reader)] => Parts::Variable(*reader),
            _ => Parts::List(parts.into()),
        }))
    }

    /// A string without variables.
    #[must_use]
    pub fn literal(text: &[u8]) -> Self {
        Self(Parts::Literal(text.into()))
    }

    /// The text, when it is the same in every request.
    #[must_use]
    pub fn as_literal(&self) -> Option<&[u8]> {
        match &self.0 {
            Parts::Literal(text) => Some(text),
            Parts::Variable(_) | Parts::List(_) => None,
        }
    }

    /// Where the value comes from and how long it stays so, when it is that of one variable that nothing assigns or keeps.
    #[must_use]
    pub fn as_origin(&self) -> Option<(Origin, Lasts)> {
        match &self.0 {
            Parts::Variable(Reader::Straight(origin, lasts)) => Some((*origin, *lasts)),
            _ => None,
        }
    }

    /// Whether the text between the variables contains `part`.
    #[must_use]
    pub fn has_literal(&self, part: &[u8]) -> bool {
        let has = |text: &[u8]| memchr::memmem::find(text, part).is_some();
        match &self.0 {
            Parts::Literal(text) => has(text),
            Parts::Variable(_) => false,
            Parts::List(list) => list.iter().any(|own| matches!(own, Part::Literal(text) if has(text))),
        }
    }

    /// Appends the value to `out`; a variable that is not there adds nothing.
    #[inline]
    pub fn append(&self, r: &Request, out: &mut Vec<u8>) {
        match &self.0 {
            Parts::Literal(text) => out.extend_from_slice(text),
            Parts::Variable(reader) => _ = reader.append(r, out),
            Parts::List(list) => append_list(list, r, out, Request::append_capture),
        }
    }

    /// As [`Self::append`], for the value of a field: what a variable holds begins no other field.
    pub fn append_line(&self, r: &Request, out: &mut Vec<u8>) {
        let start = out.len();
        self.append(r, out);
        if !matches!(self.0, Parts::Literal(_)) {
            proto::h1::keep_one_line(out.get_mut(start..).unwrap_or_default());
        }
    }

    /// As [`Self::append`], with captures escaped as arguments where the client's path was escaped, so that
    /// what was decoded for matching is encoded again.
    pub fn append_quoted(&self, r: &Request, out: &mut Vec<u8>) {
        if !r.has_quoted_uri() {
            return self.append(r, out);
        }
        let Parts::List(list) = &self.0 else { return self.append(r, out) };
        let mut group = Vec::new();
        append_list(list, r, out, |r, number, out| {
            group.clear();
            r.append_capture(number, &mut group);
            proto::uri::escape(&group, proto::uri::EscapeKind::Args, out);
        });
    }

    /// Hands the value to `use_value` in a buffer of this thread's, so that looking at it allocates nothing.
    pub fn with_value<T>(&self, r: &Request, use_value: impl FnOnce(&[u8]) -> T) -> T {
        thread_local! {
            static VALUE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
        }
        // Taken out: a variable that is computed may ask for such a value itself.
        let mut value = VALUE.take();
        value.clear();
        self.append(r, &mut value);
        let used = use_value(&value);
        if value.capacity() <= VALUE_KEPT {
            VALUE.set(value);
        }
        used
    }

    /// Whether the value is neither empty nor `0`: what conditions such as `if=` of `access_log` ask
    /// (`ngx_http_test_predicates`).
    pub fn holds(&self, r: &Request) -> bool {
        self.with_value(r, |value| !matches!(value, b"" | b"0"))
    }

    /// The value as a size in bytes; 0, and a line in the log, where it is none (`ngx_http_complex_value_size`).
    pub fn size(&self, r: &Request) -> u64 {
        self.with_value(r, |value| {
            base::parse_size(value).unwrap_or_else(|_| {
                r.log(Level::Error, format_args!("invalid size \"{}\"", String::from_utf8_lossy(value)));
                0
            })
        })
    }

    /// The value.
    #[must_use]
    pub fn value(&self, r: &Request) -> Vec<u8> {
        let mut out = Vec::new();
        self.append(r, &mut out);
        out
    }

    /// The value of a field, as [`Self::append_line`].
    #[must_use]
    pub fn line(&self, r: &Request) -> Vec<u8> {
        let mut out = Vec::new();
        self.append_line(r, &mut out);
        out
    }

    /// The value; `None` where a variable in it has none.
    #[must_use]
    pub fn try_value(&self, r: &Request) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let list = match &self.0 {
            Parts::Literal(text) => return Some(text.to_vec()),
            Parts::Variable(reader) => return reader.append(r, &mut out).then_some(out),
            Parts::List(list) => list,
        };
        for part in list {
            match part {
                Part::Literal(text) => out.extend_from_slice(text),
                Part::Variable(reader) => reader.append(r, &mut out).then_some(())?,
                Part::Capture(number) => r.append_capture(*number, &mut out),
            }
        }
        Some(out)
    }

    /// Whether `word` contains a variable.
    #[must_use]
    pub fn has_variables(text: &[u8]) -> bool {
        memchr::memchr(b'$', text).is_some()
    }
}

/// Apart from what most strings are, which is hardly any code.
#[inline(never)]
fn append_list(
    list: &[Part],
    r: &Request,
    out: &mut Vec<u8>,
    mut append_capture: impl FnMut(&Request, u8, &mut Vec<u8>),
) {
    for part in list {
        match part {
            Part::Literal(text) => out.extend_from_slice(text),
            Part::Variable(reader) => _ = reader.append(r, out),
            Part::Capture(number) => append_capture(r, *number, out),
        }
    }
}

/// As [`variable_name`], with nginx's sentences where there is none.
fn named(rest: &mut &[u8], word: &Word) -> Result<Vec<u8>, Error> {
    variable_name(rest).map_err(|fault| match fault {
        NameFault::Empty => Error::at(word, "invalid variable name"),
        NameFault::Unclosed(name) => {
            let shown = String::from_utf8_lossy(&name);
            Error::at(word, format!("the closing bracket in \"{shown}\" variable is missing"))
        }
    })
}

enum NameFault {
    Empty,
    Unclosed(Vec<u8>),
}

/// Takes a variable's name from the start of `rest`: `name` or `{name}`; lowercased as nginx does.
fn variable_name(rest: &mut &[u8]) -> Result<Vec<u8>, NameFault> {
    let braced = rest.first() == Some(&b'{');
    if braced {
        *rest = &rest[1..];
    }
    let length = rest.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
    let name = rest[..length].to_ascii_lowercase();
    *rest = &rest[length..];
    if braced {
        if rest.first() != Some(&b'}') {
            return Err(NameFault::Unclosed(name));
        }
        *rest = &rest[1..];
    }
    if name.is_empty() { Err(NameFault::Empty) } else { Ok(name) }
}
