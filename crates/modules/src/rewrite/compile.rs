//! From the lines of the configuration to a program (`ngx_http_rewrite` and its kin).
//!
//! Errors are nginx's sentences.

use std::sync::Arc;

use conf::{Contexts, Directive, Error, Word};
use http::conf::LocationId;
use http::conf::compile::Cx;
use http::regex::{Case, Regex};
use http::variables::{Template, VariableId};

use super::RewriteSettings;
use super::condition::{self, Condition};
use super::run;

type Done = Result<(), Error>;

/// One line of a program.
pub(super) enum Code {
    Rewrite(Rule),
    Return { status: u16, text: Template },
    Break,
    Set { variable: VariableId, value: Template },
    If(Branch),
}

/// A `rewrite` line.
pub(super) struct Rule {
    pub regex: Regex,
    pub replacement: Replacement,
    /// The request's arguments follow those of the replacement.
    pub keeps_args: bool,
    /// What happens once it matched.
    pub then: Then,
}

/// What a URI is replaced by.
pub(super) enum Replacement {
    /// An address that the client is sent to.
    Redirect {
        status: u16,
        target: Template,
        /// The replacement has arguments of its own.
        has_args: bool,
    },
    /// A path, and arguments where it has some of its own.
    Uri { path: Template, args: Option<Template> },
}

/// How a program goes on behind a `rewrite` that matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// With the next line.
    Next,
    /// Not at all: the location is looked for anew.
    Last,
    /// Not at all: the request stays in this location.
    Break,
}

/// An `if` block.
pub(super) struct Branch {
    pub condition: Condition,
    /// The block inside.
    pub location: LocationId,
    /// Whether the request takes on its settings.
    pub entry: Entry,
}

/// Whether a request takes on the settings of an `if` block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// In a location it does.
    Settings,
    /// In a server only the block's program runs.
    ProgramOnly,
}

fn push(s: &mut RewriteSettings, code: Code) {
    s.codes.push(Arc::new(code));
}

fn is_absolute(text: &[u8]) -> bool {
    [b"http://".as_slice(), b"https://", b"$scheme"].iter().any(|start| text.starts_with(start))
}

pub(super) fn rewrite(s: &mut RewriteSettings, cx: &mut Cx<'_>, d: &Directive) -> Done {
    let (pattern, word) = (d.arg(0)?, d.arg(1)?);
    if word.bytes.is_empty() {
        return Err(Error::at(word, "empty replacement"));
    }
    let regex = Regex::compile(cx, pattern, &pattern.bytes, Case::Sensitive)?;
    let (text, keeps_args) = match word.bytes.strip_suffix(b"?") {
        Some(text) => (text, false),
        None => (&*word.bytes, true),
    };
    let mut redirect = is_absolute(text).then_some(302);
    let mut then = if redirect.is_some() { Then::Last } else { Then::Next };
    if let Some(flag) = d.args.get(2) {
        match &*flag.bytes {
            b"last" => then = Then::Last,
            b"break" => then = Then::Break,
            b"redirect" => redirect = Some(302),
            b"permanent" => redirect = Some(301),
            _ => return Err(Error::at(flag, format!("invalid parameter \"{}\"", flag.as_str()))),
        }
    }
    let replacement = match redirect {
        Some(status) => Replacement::Redirect {
            status,
            target: Template::compile_bytes(cx, word, text)?,
            has_args: text.contains(&b'?'),
        },
        None => uri(cx, word, text)?,
    };
    push(s, Code::Rewrite(Rule { regex, replacement, keeps_args, then }));
    Ok(())
}

fn uri(cx: &mut Cx<'_>, word: &Word, text: &[u8]) -> Result<Replacement, Error> {
    let (path, args) = match memchr::memchr(b'?', text) {
        Some(mark) => (&text[..mark], Some(Template::compile_bytes(cx, word, &text[mark + 1..])?)),
        None => (text, None),
    };
    Ok(Replacement::Uri { path: Template::compile_bytes(cx, word, path)?, args })
}

pub(super) fn answer(s: &mut RewriteSettings, cx: &mut Cx<'_>, d: &Directive) -> Done {
    let word = d.arg(0)?;
    let invalid = || Error::at(word, format!("invalid return code \"{}\"", word.as_str()));
    let (status, text) = match (word.number(), d.args.get(1)) {
        (Some(status), text) => (status, text),
        (None, None) if is_absolute(&word.bytes) => (302, Some(word)),
        (None, _) => return Err(invalid()),
    };
    let status = u16::try_from(status).ok().filter(|status| *status <= 999).ok_or_else(invalid)?;
    let text = match text {
        Some(text) => Template::compile(cx, text)?,
        None => Template::default(),
    };
    push(s, Code::Return { status, text });
    Ok(())
}

pub(super) fn end(s: &mut RewriteSettings, _: &mut Cx<'_>, _: &Directive) -> Done {
    push(s, Code::Break);
    Ok(())
}

pub(super) fn set(s: &mut RewriteSettings, cx: &mut Cx<'_>, d: &Directive) -> Done {
    let (name, value) = (d.arg(0)?, d.arg(1)?);
    let Some(bare) = name.bytes.strip_prefix(b"$") else {
        return Err(Error::at(name, format!("invalid variable name \"{}\"", name.as_str())));
    };
    if bare.is_empty() {
        return Err(Error::at(name, "invalid variable name \"$\""));
    }
    let variable = cx.define_assigned_or(&bare.to_ascii_lowercase(), name, run::uninitialized)?;
    let value = Template::compile(cx, value)?;
    push(s, Code::Set { variable, value });
    Ok(())
}

pub(super) fn branch(s: &mut RewriteSettings, cx: &mut Cx<'_>, d: &Directive) -> Done {
    let condition = condition::read(cx, d)?;
    let location = cx.nest_if(d);
    let entry = if cx.block.context == Contexts::SERVER { Entry::ProgramOnly } else { Entry::Settings };
    push(s, Code::If(Branch { condition, location, entry }));
    Ok(())
}
