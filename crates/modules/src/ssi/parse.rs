//! Finds commands in a page that comes in pieces: `<!--# name parameter="value" -->`.
//!
//! What may be the beginning of a command at the end of a piece is held back until the next one tells.

use std::ops::Range;

/// How every command begins; the first four bytes may also begin a comment.
const MARK: &[u8; 5] = b"<!--#";
/// Longest name of a command, and of a parameter (`NGX_HTTP_SSI_COMMAND_LEN`, `NGX_HTTP_SSI_PARAM_LEN`).
const NAME_MAX: usize = 32;
/// Most parameters of a command (`NGX_HTTP_SSI_MAX_PARAMS`); one more is kept, to be complained about.
pub(super) const PARAMS_MAX: usize = 16;

/// A name and a value as written, with its backslashes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Param {
    pub name: Vec<u8>,
    pub value: Vec<u8>,
}

/// A command as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Command {
    pub name: Vec<u8>,
    pub params: Vec<Param>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// These bytes of the piece are text.
    Text(Range<usize>),
    /// What was held back of an earlier piece is text.
    Held(&'static [u8]),
    /// A command has ended.
    Command(Command),
    /// A command that is malformed has ended.
    Bad,
    /// A sentence for the log about a command that is malformed.
    Fault(String),
    /// The piece is over.
    End,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// So many bytes of the mark are there.
    Mark(usize),
    BeforeName,
    Name,
    BeforeParam,
    ParamName,
    BeforeEqual,
    BeforeValue,
    Value(u8),
    /// Behind a backslash in a value.
    Escaped(u8),
    AfterValue,
    FirstDash,
    SecondDash,
    Bad,
    BadFirstDash,
    BadSecondDash,
}

/// The parser of one page.
#[derive(Debug, Default)]
pub(super) struct Parser {
    state: State,
    command: Command,
    value_max: usize,
}

impl Parser {
    /// A parser of values of at most so many bytes (`ssi_value_length`).
    pub fn new(value_max: usize) -> Self {
        Self { value_max, ..Self::default() }
    }

    /// Goes on at `at`, which is moved to where the next call is to go on.
    pub fn next(&mut self, piece: &[u8], at: &mut usize) -> Found {
        loop {
            let Some(&byte) = piece.get(*at) else { return Found::End };
            match self.state {
                State::Text => {
                    let start = *at;
                    let rest = piece.get(start..).unwrap_or_default();
                    let Some(length) = memchr::memchr(b'<', rest) else {
                        *at = piece.len();
                        return Found::Text(start..piece.len());
                    };
                    self.state = State::Mark(1);
                    *at = start + length + 1;
                    if length > 0 {
                        return Found::Text(start..start + length);
                    }
                }
                State::Mark(matched) if MARK.get(matched) == Some(&byte) => {
                    *at += 1;
                    self.state = State::Mark(matched + 1);
                    if matched + 1 == MARK.len() {
                        self.command = Command::default();
                        self.state = State::BeforeName;
                    }
                }
                State::Mark(matched) => {
                    let here = matched.min(*at);
                    if here < matched {
                        self.state = if here == 0 { State::Text } else { State::Mark(here) };
                        return Found::Held(&MARK[..matched - here]);
                    }
                    self.state = State::Text;
                    return Found::Text(*at - here..*at);
                }
                _ => {
                    *at += 1;
                    if let Some(found) = self.step(byte) {
                        return found;
                    }
                }
            }
        }
    }

    /// One byte inside of a command.
    fn step(&mut self, byte: u8) -> Option<Found> {
        let is_space = matches!(byte, b' ' | b'\r' | b'\n' | b'\t');
        self.state = match (self.state, byte) {
            (State::BeforeName, _) if !is_space => {
                self.command.name.push(byte);
                State::Name
            }
            (State::Name, _) if is_space => State::BeforeParam,
            (State::Name | State::BeforeParam | State::AfterValue, b'-') => State::FirstDash,
            (State::Name, _) => return self.push_command_name(byte),
            (State::BeforeParam, _) if !is_space => {
                if self.command.params.len() <= PARAMS_MAX {
                    self.command.params.push(Param::default());
                }
                let param = self.command.params.last_mut()?;
                param.name.clear();
                param.value.clear();
                param.name.push(byte);
                State::ParamName
            }
            (State::ParamName, _) if is_space => State::BeforeEqual,
            (State::ParamName | State::BeforeEqual, b'=') => State::BeforeValue,
            (State::ParamName, b'-') => return self.fault(byte, "after", State::BadFirstDash),
            (State::ParamName, _) => return self.push_param_name(byte),
            (State::BeforeEqual, _) if !is_space => return self.fault(byte, "after", bad_from(byte)),
            (State::BeforeValue, b'"' | b'\'') => State::Value(byte),
            (State::BeforeValue, _) if !is_space => {
                return self.fault(byte, "before value of", bad_from(byte));
            }
            (State::Value(quote), _) if byte == quote => State::AfterValue,
            (State::Value(quote), b'\\') => return self.push_value(byte, State::Escaped(quote)),
            (State::Value(quote) | State::Escaped(quote), _) => {
                return self.push_value(byte, State::Value(quote));
            }
            (State::AfterValue, _) if is_space => State::BeforeParam,
            (State::AfterValue, _) => return self.fault_after_value(byte),
            (State::FirstDash, b'-') => State::SecondDash,
            (State::SecondDash, b'>') => {
                self.state = State::Text;
                return Some(Found::Command(std::mem::take(&mut self.command)));
            }
            (State::FirstDash | State::SecondDash, _) => {
                self.state = State::Bad;
                let name = shown(&self.command.name);
                let char = char::from(byte);
                return Some(Found::Fault(format!("unexpected \"{char}\" symbol in \"{name}\" SSI command")));
            }
            (State::Bad, b'-') => State::BadFirstDash,
            (State::BadFirstDash, b'-') => State::BadSecondDash,
            (State::BadSecondDash, b'>') => {
                self.state = State::Text;
                return Some(Found::Bad);
            }
            (State::BadFirstDash | State::BadSecondDash, _) => State::Bad,
            (state, _) => state,
        };
        None
    }

    fn push_command_name(&mut self, byte: u8) -> Option<Found> {
        let name = &mut self.command.name;
        if name.len() < NAME_MAX {
            name.push(byte);
            return None;
        }
        self.state = State::Bad;
        Some(Found::Fault(format!("the \"{}{}...\" SSI command is too long", shown(name), char::from(byte))))
    }

    fn push_param_name(&mut self, byte: u8) -> Option<Found> {
        let param = self.command.params.last_mut()?;
        if param.name.len() < NAME_MAX {
            param.name.push(byte);
            return None;
        }
        self.state = State::Bad;
        Some(Found::Fault(format!(
            "too long \"{}{}...\" parameter in \"{}\" SSI command",
            shown(&param.name),
            char::from(byte),
            shown(&self.command.name)
        )))
    }

    fn push_value(&mut self, byte: u8, next: State) -> Option<Found> {
        let param = self.command.params.last_mut()?;
        if param.value.len() < self.value_max {
            param.value.push(byte);
            self.state = next;
            return None;
        }
        self.state = State::Bad;
        Some(Found::Fault(format!(
            "too long \"{}{}...\" value of \"{}\" parameter in \"{}\" SSI command",
            shown(&param.value),
            char::from(byte),
            shown(&param.name),
            shown(&self.command.name)
        )))
    }

    fn fault(&mut self, byte: u8, place: &str, next: State) -> Option<Found> {
        self.state = next;
        let param = self.command.params.last()?;
        Some(Found::Fault(format!(
            "unexpected \"{}\" symbol {place} \"{}\" parameter in \"{}\" SSI command",
            char::from(byte),
            shown(&param.name),
            shown(&self.command.name)
        )))
    }

    fn fault_after_value(&mut self, byte: u8) -> Option<Found> {
        self.state = State::Bad;
        let param = self.command.params.last()?;
        Some(Found::Fault(format!(
            "unexpected \"{}\" symbol after \"{}\" value of \"{}\" parameter in \"{}\" SSI command",
            char::from(byte),
            shown(&param.value),
            shown(&param.name),
            shown(&self.command.name)
        )))
    }
}

fn bad_from(byte: u8) -> State {
    if byte == b'-' { State::BadFirstDash } else { State::Bad }
}

pub(super) fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text as it is, commands in brackets, malformed ones as `[!]`.
    fn parse(pieces: &[&str]) -> String {
        let mut parser = Parser::new(8);
        let mut out = String::new();
        for piece in pieces {
            let mut at = 0;
            loop {
                match parser.next(piece.as_bytes(), &mut at) {
                    Found::Text(range) => out.push_str(&piece[range]),
                    Found::Held(text) => out.push_str(std::str::from_utf8(text).expect("ASCII")),
                    Found::Command(command) => {
                        out.push_str(&format!("[{}", shown(&command.name)));
                        for param in &command.params {
                            out.push_str(&format!(" {}={}", shown(&param.name), shown(&param.value)));
                        }
                        out.push(']');
                    }
                    Found::Bad => out.push_str("[!]"),
                    Found::Fault(_) => {}
                    Found::End => break,
                }
            }
        }
        out
    }

    #[test]
    fn commands_among_text() {
        let check = |page: &str, expected: &str| {
            assert_eq!(parse(&[page]), expected, "{page}");
            // However it is cut, the same comes of it.
            for cut in 0..=page.len() {
                assert_eq!(parse(&[&page[..cut], &page[cut..]]), expected, "{page} at {cut}");
            }
            let bytes: Vec<String> = page.chars().map(String::from).collect();
            let bytes: Vec<&str> = bytes.iter().map(String::as_str).collect();
            assert_eq!(parse(&bytes), expected, "{page} byte by byte");
        };
        check("plain", "plain");
        check("a<!--#x-->b", "a[x]b");
        check("a<!--# x -->b", "a[x]b");
        check("<!--#x a=\"1\" b='2' -->", "[x a=1 b=2]");
        check("<!--#x a = \"1\"-->", "[x a=1]");
        check("<!--#x a='\"'-->", "[x a=\"]");
        check("<!--#x a=\"\\\"\"-->", "[x a=\\\"]");
        check("<!-- x --><b>", "<!-- x --><b>");
        check("<<!<!-<!--<!--#x-->", "<<!<!-<!--[x]");
        check("<!--#x a=1 -->.", "[!].");
        check("<!--#x a-->.", "[!].");
        check("<!--#x a=\"123456789\" -->.", "[!].");
        check("<!--#x a=\"1\"b -->.", "[!].");
        check("<!--#x a=\"1\" - -->.", "[!].");
        check("<!--#abcdefghijklmnopqrstuvwxyzabcdefgh -->.", "[!].");
        check("<!--#x --", "");
    }

    #[test]
    fn parameters_are_limited() {
        let page = format!("<!--#x {} -->", "a=\"1\" ".repeat(100));
        let mut parser = Parser::new(8);
        let found = parser.next(page.as_bytes(), &mut 0);
        assert!(matches!(found, Found::Command(command) if command.params.len() == PARAMS_MAX + 1));
    }
}
