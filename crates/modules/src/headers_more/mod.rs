//! `ngx_headers_more`: sets and clears any field of answers and of requests.
//!
//! A block's lines come behind those of the blocks around it, and all of them count.

mod input;
mod output;

use std::sync::Arc;

use conf::{Arity, Contexts, Directive, Error, Word};
use http::conf::compile::Cx;
use http::module::{Module, Registry, Settings, Slot};
use http::phases::Phase;
use http::rows::{Row, row};
use http::variables::Template;
use proto::h1::Known;

/// `ngx_http_headers_more_filter_module`.
pub struct HeadersMore;

/// Settings of [`HeadersMore`].
#[derive(Clone, Default)]
pub struct HeadersMoreSettings {
    output: Arc<Vec<Command>>,
    input: Arc<Vec<Command>>,
}

impl Settings for HeadersMoreSettings {}

/// One line of the configuration.
#[derive(Clone)]
struct Command {
    fields: Vec<Field>,
    /// `-t`: for these content types; none: for all.
    types: Vec<Box<[u8]>>,
    /// `-s`: for these statuses; none: for all.
    statuses: Vec<u16>,
    how: How,
}

/// What is done where a field is there, and where it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// Replaced, or added.
    Set,
    /// `-r`: replaced, never added.
    Replace,
    /// `-a`: added in any case.
    Append,
}

/// A field and what it becomes.
#[derive(Clone)]
struct Field {
    name: Box<[u8]>,
    known: Known,
    /// The name ends with `*`: all fields that begin so.
    is_prefix: bool,
    /// Empty: the field is cleared.
    value: Template,
}

impl Field {
    fn is_meant(&self, name: &[u8]) -> bool {
        if self.is_prefix {
            return name.get(..self.name.len()).is_some_and(|front| front.eq_ignore_ascii_case(&self.name));
        }
        name.eq_ignore_ascii_case(&self.name)
    }
}

/// What a directive does with the fields that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    SetOutput,
    ClearOutput,
    SetInput,
    ClearInput,
}

static SLOT: Slot = Slot::new();

const CONTEXTS: Contexts = Contexts::HTTP_ALL.or(Contexts::IF_LOCATION);

type Done = Result<(), Error>;
type Setter = fn(&mut HeadersMoreSettings, &mut Cx<'_>, &Directive) -> Done;

const fn more(name: &'static str, doc: &'static str, set: Setter) -> Row<HeadersMoreSettings> {
    row(name, CONTEXTS, Arity::MORE1, "", doc, set).many()
}

static ROWS: [Row<HeadersMoreSettings>; 4] = [
    more("more_set_headers", "Sets or clears fields of answers.", |s, cx, d| {
        add(&mut s.output, cx, d, Purpose::SetOutput)
    }),
    more("more_clear_headers", "Clears fields of answers.", |s, cx, d| {
        add(&mut s.output, cx, d, Purpose::ClearOutput)
    }),
    more("more_set_input_headers", "Sets or clears fields of requests.", |s, cx, d| {
        add(&mut s.input, cx, d, Purpose::SetInput)
    }),
    more("more_clear_input_headers", "Clears fields of requests.", |s, cx, d| {
        add(&mut s.input, cx, d, Purpose::ClearInput)
    }),
];

impl Module for HeadersMore {
    const NAME: &'static str = "ngx_http_headers_more_filter_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = HeadersMoreSettings;
    type Main = ();

    fn rows() -> &'static [Row<Self::Settings>] {
        &ROWS
    }

    fn register(registry: &mut Registry) {
        registry.phase(Phase::Rewrite, &Self);
        registry.header_filter(&Self);
    }
}

fn add(commands: &mut Arc<Vec<Command>>, cx: &mut Cx<'_>, d: &Directive, purpose: Purpose) -> Done {
    let mut command = Command { fields: Vec::new(), types: Vec::new(), statuses: Vec::new(), how: How::Set };
    let is_output = matches!(purpose, Purpose::SetOutput | Purpose::ClearOutput);
    let mut words = d.args.iter().filter(|word| !word.bytes.is_empty());
    while let Some(word) = words.next() {
        match &*word.bytes {
            [b'-', ..] => {
                let mut argument = || words.next().ok_or_else(|| fault(d, word, "takes an argument."));
                match &*word.bytes {
                    b"-t" => command.types.extend(parts(argument()?).map(Box::from)),
                    b"-s" if is_output => {
                        let list = argument()?;
                        for part in parts(list) {
                            command.statuses.push(status(d, list, part)?);
                        }
                    }
                    b"-r" if purpose == Purpose::SetInput => command.how = How::Replace,
                    b"-a" if purpose == Purpose::SetOutput => command.how = How::Append,
                    _ => {
                        let sentence =
                            format!("{}: invalid option name: \"{}\"", d.name.as_str(), word.as_str());
                        return Err(Error::at(word, sentence));
                    }
                }
            }
            _ => {
                let field = field(cx, d, word, purpose)?;
                command.fields.push(field);
            }
        }
    }
    if command.how == How::Append
        && let Some(field) = command.fields.iter().find(|field| output::is_single(field.known))
    {
        let name = String::from_utf8_lossy(&field.name);
        let sentence = format!("{}: can not append builtin headers \"{name}\"", d.name.as_str());
        return Err(Error::at(&d.name, sentence));
    }
    Arc::make_mut(commands).push(command);
    Ok(())
}

fn fault(d: &Directive, word: &Word, what: &str) -> Error {
    Error::at(word, format!("{}: option {} {what}", d.name.as_str(), word.as_str()))
}

/// What a list holds, parted by spaces.
fn parts(word: &Word) -> impl Iterator<Item = &[u8]> {
    word.bytes.split(u8::is_ascii_whitespace).filter(|part| !part.is_empty())
}

fn status(d: &Directive, list: &Word, part: &[u8]) -> Result<u16, Error> {
    if let Some(wrong) = part.iter().find(|byte| !byte.is_ascii_digit()) {
        return Err(Error::at(
            list,
            format!(
                "{}: invalid digit \"{}\" found in the status code list \"{}\"",
                d.name.as_str(),
                char::from(*wrong),
                list.as_str()
            ),
        ));
    }
    let status = conf::parse_number(part).and_then(|number| u16::try_from(number).ok());
    status.ok_or_else(|| Error::at(list, format!("invalid status code in \"{}\"", list.as_str())))
}

/// Reads `Name: value`; colons and spaces between the two do not count.
fn field(cx: &mut Cx<'_>, d: &Directive, word: &Word, purpose: Purpose) -> Result<Field, Error> {
    let ends = |byte: &u8| *byte == b':' || byte.is_ascii_whitespace();
    let text = word.bytes.trim_ascii_start();
    let (name, value) = text.split_at(text.iter().position(ends).unwrap_or(text.len()));
    let value = match purpose {
        Purpose::ClearOutput | Purpose::ClearInput => &[],
        _ => &value[value.iter().position(|byte| !ends(byte)).unwrap_or(value.len())..],
    };
    let wrong = |what: &str| Error::at(word, format!("{}: {what}: {}", d.name.as_str(), word.as_str()));
    let (name, is_prefix) = match name {
        [] => return Err(wrong("no key found in the header argument")),
        b"*" => return Err(wrong("wildcard key to short")),
        [front @ .., b'*'] => (front, true),
        _ => (name, false),
    };
    Ok(Field {
        name: name.into(),
        known: if is_prefix { Known::Other } else { Known::of(name) },
        is_prefix,
        value: Template::compile_bytes(cx, word, value)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let check = |name: &str, is_prefix, other: &str, expected| {
            let name = name.as_bytes().into();
            let field = Field { name, known: Known::Other, is_prefix, value: Template::default() };
            assert_eq!(field.is_meant(other.as_bytes()), expected, "{other}");
        };
        check("X-A", false, "x-a", true);
        check("X-A", false, "X-AB", false);
        check("X-A", true, "x-ab", true);
        check("X-A", true, "x-a", true);
        check("X-A", true, "x-", false);
    }
}
