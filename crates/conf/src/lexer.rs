//! Words, quotes, escapes, comments: the bytes of a configuration cut into statements.
//!
//! Follows `ngx_conf_read_token`, its 4096-byte window included, which also bounds a comment line.

use std::sync::Arc;

use crate::bytes::Bytes;
use crate::hint::Hint;
use crate::sources::{FileId, Origin, Place};
use crate::tree::{Args, Word};
use crate::{Error, Fault};

/// Longest parameter or comment line, bytes (`NGX_CONF_BUFFER`).
const WINDOW: usize = 4096;

/// Bytes that go on with a word without quotes, whatever stands before and behind them.
const PLAIN: [bool; 256] = {
    let mut plain = [true; 256];
    let special = b" \t\r\n;{$\\";
    let mut index = 0;
    while index < special.len() {
        plain[special[index] as usize] = false;
        index += 1;
    }
    plain
};

/// What ends a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// `;`
    Semicolon,
    /// `{`
    Brace,
}

/// The words up to a `;` or `{`.
#[derive(Clone, Debug)]
pub struct Statement {
    /// The first word.
    pub name: Word,
    /// The others.
    pub args: Args,
    /// What ended it.
    pub end: End,
    /// Where that stands.
    pub end_place: Place,
}

/// What the lexer finds next.
#[derive(Clone, Debug)]
pub enum Token {
    /// A directive's words.
    Statement(Statement),
    /// A `}`.
    BlockEnd(Place),
    /// The end of the text.
    TextEnd(Place),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Quote {
    None,
    Open(u8),
}

/// Reads one text from its beginning to its end.
pub struct Lexer<'a> {
    text: &'a Arc<[u8]>,
    file: FileId,
    origin: Origin,
    pos: usize,
    line: u32,
    line_start: usize,
    // Where the current word began: behind its quote, and its line.
    start: usize,
    start_line: u32,
    // Room for the words of a statement: each keeps only as much as it needs.
    words: Vec<Word>,
}

/// Why a word stopped.
enum Stop {
    Space,
    End(End),
    // A `)` directly behind a closing quote begins the next word.
    Parenthesis,
}

impl<'a> Lexer<'a> {
    /// A lexer at the beginning of a text.
    #[must_use]
    pub fn new(text: &'a Arc<[u8]>, file: FileId, origin: Origin) -> Self {
        Self {
            text,
            file,
            origin,
            pos: 0,
            line: 1,
            line_start: 0,
            start: 0,
            start_line: 1,
            words: Vec::new(),
        }
    }

    /// The next statement, `}` or end.
    ///
    /// # Errors
    /// nginx's sentences for an early end, an unexpected byte and a parameter that is too long.
    pub fn next_token(&mut self) -> Result<Token, Error> {
        let mut words = std::mem::take(&mut self.words);
        self.begin_word(self.pos);
        loop {
            let Some(byte) = self.bump(Quote::None)? else {
                return if words.is_empty() {
                    Ok(Token::TextEnd(self.here()))
                } else {
                    Err(self.early_end(&words))
                };
            };
            self.begin_word(self.pos - 1);
            let stop = match byte {
                b' ' | b'\t' | b'\r' | b'\n' => {
                    self.skip_indent();
                    continue;
                }
                b'#' => {
                    self.skip_comment()?;
                    continue;
                }
                b'}' if words.is_empty() => return Ok(Token::BlockEnd(self.last())),
                b'}' => {
                    return Err(self
                        .unexpected(byte)
                        .with_hint_if_none(|| Hint::missing_semicolon(words.last())));
                }
                b';' | b'{' if words.is_empty() => return Err(self.unexpected(byte)),
                b';' => Stop::End(End::Semicolon),
                b'{' => Stop::End(End::Brace),
                b'"' | b'\'' => self.quoted_word(byte, &mut words)?,
                _ => self.bare_word(byte, &mut words)?,
            };
            let stop = match stop {
                Stop::Parenthesis => {
                    self.begin_word(self.pos - 1);
                    self.bare_word(b')', &mut words)?
                }
                other => other,
            };
            if let Stop::End(end) = stop {
                return self.statement(words, end);
            }
        }
    }

    /// Bytes of blank space at the beginning of the line that is being read.
    pub(crate) fn indent(&self) -> u32 {
        let line = self.text.get(self.line_start..).unwrap_or_default();
        let blank = line.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        u32::try_from(blank).unwrap_or(u32::MAX)
    }

    fn statement(&mut self, mut words: Vec<Word>, end: End) -> Result<Token, Error> {
        for word in &mut words {
            word.end_line = self.line;
        }
        let mut rest = words.drain(..);
        // Terminators without a word in front of them were refused above.
        let Some(name) = rest.next() else { return Err(self.unexpected(b';')) };
        let args = rest.collect();
        self.words = words;
        Ok(Token::Statement(Statement { name, args, end, end_place: self.last() }))
    }

    fn skip_comment(&mut self) -> Result<(), Error> {
        while let Some(byte) = self.bump(Quote::None)? {
            if byte == b'\n' {
                self.begin_word(self.pos - 1);
                break;
            }
        }
        Ok(())
    }

    fn bare_word(&mut self, first: u8, words: &mut Vec<Word>) -> Result<Stop, Error> {
        let place = self.last();
        let mut byte = first;
        let mut after_dollar = false;
        loop {
            // `${name}` does not end a word at its brace.
            if !(byte == b'{' && after_dollar) {
                after_dollar = byte == b'$';
            }
            if byte == b'\\' && self.bump(Quote::None)?.is_none() {
                return Err(self.early_end(words));
            }
            if self.skip_plain() > 0 {
                after_dollar = false;
            }
            let Some(next) = self.bump(Quote::None)? else { return Err(self.early_end(words)) };
            let stop = match next {
                b' ' | b'\t' | b'\r' | b'\n' => Stop::Space,
                b';' => Stop::End(End::Semicolon),
                b'{' if !after_dollar => Stop::End(End::Brace),
                _ => {
                    byte = next;
                    continue;
                }
            };
            self.push_word(place, Quote::None, words);
            return Ok(stop);
        }
    }

    fn quoted_word(&mut self, quote: u8, words: &mut Vec<Word>) -> Result<Stop, Error> {
        let place = self.last();
        self.start = self.pos;
        loop {
            match self.bump(Quote::Open(quote))? {
                None => {
                    return Err(self.early_end(words).with_hint(Hint::Text(unclosed_quote(place, quote))));
                }
                Some(b'\\') if self.bump(Quote::Open(quote))?.is_none() => return Err(self.early_end(words)),
                Some(byte) if byte == quote => break,
                Some(_) => {}
            }
        }
        self.push_word(place, Quote::Open(quote), words);
        match self.bump(Quote::None)? {
            None => Err(self.early_end(words)),
            Some(b' ' | b'\t' | b'\r' | b'\n') => Ok(Stop::Space),
            Some(b';') => Ok(Stop::End(End::Semicolon)),
            Some(b'{') => Ok(Stop::End(End::Brace)),
            Some(b')') => Ok(Stop::Parenthesis),
            Some(byte) => Err(self.unexpected(byte)),
        }
    }

    fn push_word(&self, place: Place, quote: Quote, words: &mut Vec<Word>) {
        let raw = Bytes::part(self.text, self.start..self.pos - 1);
        let bytes = if raw.contains(&b'\\') { unescape(&raw) } else { raw };
        words.push(Word { bytes, place, quoted: quote != Quote::None, end_line: self.line });
    }

    /// Takes what needs no look at each of its bytes: those of a word that are [`PLAIN`], up to the end of the window.
    /// Tells how many these are.
    fn skip_plain(&mut self) -> usize {
        let rest = self.text.get(self.pos..).unwrap_or_default();
        let window = match self.origin {
            Origin::File => WINDOW.saturating_sub(self.pos - self.start),
            Origin::CommandLine => usize::MAX,
        };
        let plain = rest.iter().take(window).take_while(|byte| PLAIN[usize::from(**byte)]).count();
        self.pos += plain;
        plain
    }

    /// Takes the spaces in front of a word.
    fn skip_indent(&mut self) {
        let rest = self.text.get(self.pos..).unwrap_or_default();
        self.pos += rest.iter().take_while(|byte| **byte == b' ').count();
    }

    /// Takes a byte. The window check stands where nginx refills its buffer: only if there is more to read.
    fn bump(&mut self, quote: Quote) -> Result<Option<u8>, Error> {
        let Some(byte) = self.text.get(self.pos).copied() else { return Ok(None) };
        if self.origin == Origin::File && self.pos - self.start == WINDOW {
            return Err(self.too_long(quote));
        }
        self.pos += 1;
        if byte == b'\n' {
            self.line = self.line.saturating_add(1);
            self.line_start = self.pos;
        }
        Ok(Some(byte))
    }

    fn begin_word(&mut self, start: usize) {
        self.start = start;
        self.start_line = self.line;
    }

    fn too_long(&self, quote: Quote) -> Error {
        let fault = match quote {
            Quote::Open(quote) => Fault::UnterminatedQuote(quote.into()),
            Quote::None => {
                let head = self.text.get(self.start..self.start + 10).unwrap_or_default();
                Fault::TooLong(String::from_utf8_lossy(head).into_owned())
            }
        };
        let place = Place { file: self.file, line: self.start_line, column: 1 };
        Error::fault_in(place, fault)
    }

    fn unexpected(&self, byte: u8) -> Error {
        let place = self.last();
        let shown = String::from_utf8_lossy(&[byte]).into_owned();
        Error::fault_in(place, Fault::Unexpected(shown))
    }

    fn early_end(&self, words: &[Word]) -> Error {
        let fault = match self.origin {
            Origin::File => Fault::EndInDirective,
            Origin::CommandLine => Fault::EndOfParameter,
        };
        Error::fault_in(self.here(), fault).with_hint_if_none(|| Hint::missing_semicolon(words.last()))
    }

    fn here(&self) -> Place {
        self.place_of(self.pos)
    }

    /// The place of the byte taken last.
    fn last(&self) -> Place {
        self.place_of(self.pos.saturating_sub(1))
    }

    fn place_of(&self, pos: usize) -> Place {
        let column = u32::try_from(pos.saturating_sub(self.line_start)).unwrap_or(u32::MAX);
        Place { file: self.file, line: self.line, column: column.saturating_add(1) }
    }
}

fn unclosed_quote(place: Place, quote: u8) -> String {
    format!("the {} opened at line {} is not closed", char::from(quote), place.line)
}

/// Resolves `\"`, `\'`, `\\`, `\t`, `\r`, `\n`; every other backslash stays.
fn unescape(raw: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((first, tail)) = rest.split_first() {
        let resolved = match (first, tail.first()) {
            (b'\\', Some(byte @ (b'"' | b'\'' | b'\\'))) => Some(*byte),
            (b'\\', Some(b't')) => Some(b'\t'),
            (b'\\', Some(b'r')) => Some(b'\r'),
            (b'\\', Some(b'n')) => Some(b'\n'),
            _ => None,
        };
        out.push(resolved.unwrap_or(*first));
        rest = if resolved.is_some() { tail.get(1..).unwrap_or_default() } else { tail };
    }
    out.as_slice().into()
}

#[cfg(test)]
mod tests;
