//! `match`: the lines that say what the answer to a check must be.

use std::sync::Arc;

use conf::{Contexts, Directive, Error, Word};
use http::conf::compile::Cx;
use http::regex::{Case, Regex};
use http::relay::check::{Expect, Header, HeaderTest, Must, Statuses, Text};

use super::{Done, HcSettings, UpstreamHc};

fn invalid(word: &Word) -> Error {
    Error::at(word, format!("invalid parameter \"{}\"", word.as_str()))
}

/// The setter of `match`.
pub(super) fn block(_: &mut HcSettings, cx: &mut Cx<'_>, d: &Directive) -> Done {
    let name = d.arg(0)?;
    if cx.main::<UpstreamHc>().blocks.contains_key(&*name.as_str()) {
        return Err(Error::at(name, format!("duplicate match \"{}\"", name.as_str())));
    }
    cx.main::<UpstreamHc>().current = Some(Expect::default());
    let done = cx.read_lines(d.body(), Contexts::MATCH);
    let main = cx.main::<UpstreamHc>();
    let expect = main.current.take().unwrap_or_default();
    done?;
    main.blocks.insert(name.as_str().into(), Arc::new(expect));
    Ok(())
}

fn current(cx: &mut Cx<'_>, set: impl FnOnce(&mut Expect)) -> Done {
    if let Some(expect) = &mut cx.main::<UpstreamHc>().current {
        set(expect);
    }
    Ok(())
}

/// `status 200`, `status ! 500`, `status 200 301-303`.
pub(super) fn status(_: &mut HcSettings, cx: &mut Cx<'_>, d: &Directive) -> Done {
    let (must, words) = match d.args.split_first() {
        Some((first, rest)) if first.is("!") => (Must::NotBe, rest),
        _ => (Must::Be, &d.args[..]),
    };
    if words.is_empty() {
        return Err(invalid(d.arg(0)?));
    }
    let ranges: Result<Vec<(u16, u16)>, Error> =
        words.iter().map(|word| range(&word.bytes).ok_or_else(|| invalid(word))).collect();
    let statuses = Statuses { must, ranges: ranges? };
    current(cx, |expect| expect.status = Some(statuses))
}

fn range(text: &[u8]) -> Option<(u16, u16)> {
    let status = |text: &[u8]| {
        let status = conf::parse_number(text).and_then(|status| u16::try_from(status).ok());
        status.filter(|status| (100..1000).contains(status))
    };
    let (first, last) = match text.iter().position(|byte| *byte == b'-') {
        Some(at) => (status(text.get(..at)?)?, status(text.get(at + 1..)?)?),
        None => (status(text)?, status(text)?),
    };
    (first <= last).then_some((first, last))
}

/// `header Host`, `header ! Host`, `header Name = value`, `!=`, `~` and `!~`.
pub(super) fn header(_: &mut HcSettings, cx: &mut Cx<'_>, d: &Directive) -> Done {
    let header = match &d.args[..] {
        [name] => Header { name: name.bytes.to_boxed(), value: HeaderTest::There(Must::Be) },
        [not, name] if not.is("!") => {
            Header { name: name.bytes.to_boxed(), value: HeaderTest::There(Must::NotBe) }
        }
        [name, operator, value] => {
            let test = match &*operator.bytes {
                b"=" => HeaderTest::Equals(Must::Be, value.bytes.to_boxed()),
                b"!=" => HeaderTest::Equals(Must::NotBe, value.bytes.to_boxed()),
                b"~" => HeaderTest::Matches(text(cx, Must::Be, value)?),
                b"!~" => HeaderTest::Matches(text(cx, Must::NotBe, value)?),
                _ => return Err(invalid(operator)),
            };
            Header { name: name.bytes.to_boxed(), value: test }
        }
        words => return Err(invalid(words.last().unwrap_or(&d.name))),
    };
    // A variable's name and a field's are compared with dashes as underscores.
    let name = header.name.iter().map(|byte| if *byte == b'-' { b'_' } else { byte.to_ascii_lowercase() });
    let header = Header { name: name.collect(), ..header };
    current(cx, |expect| expect.headers.push(header))
}

/// `body ~ pattern` and `body !~ pattern`.
pub(super) fn body(_: &mut HcSettings, cx: &mut Cx<'_>, d: &Directive) -> Done {
    let operator = d.arg(0)?;
    let must = match &*operator.bytes {
        b"~" => Must::Be,
        b"!~" => Must::NotBe,
        _ => return Err(invalid(operator)),
    };
    let text = text(cx, must, d.arg(1)?)?;
    current(cx, |expect| expect.body.push(text))
}

fn text(cx: &mut Cx<'_>, must: Must, word: &Word) -> Result<Text, Error> {
    let pattern = Regex::compile(cx, word, &word.bytes, Case::Sensitive)?;
    Ok(Text { must, pattern })
}

/// `require $variable …`.
pub(super) fn require(_: &mut HcSettings, cx: &mut Cx<'_>, d: &Directive) -> Done {
    for word in &d.args {
        let Some(name) = word.bytes.strip_prefix(b"$") else {
            return Err(Error::at(word, format!("invalid variable name \"{}\"", word.as_str())));
        };
        let id = cx.variable(name, word)?;
        current(cx, |expect| expect.require.push(id))?;
    }
    Ok(())
}
