//! Directive rows: what the language must know of a directive, and what it does, in one line each.
//!
//! Most directives are one value of a common kind; those need no function of their own, only a field.

use conf::{Arity, Contexts, Directive, Error};

use crate::conf::compile::Cx;
use crate::variables::Template;

/// What a directive does with its arguments. `S` is the settings type of its module.
pub enum Setter<S> {
    /// Anything.
    Any(fn(&mut S, &mut Cx<'_>, &Directive) -> Result<(), Error>),
    /// Something that needs nothing but the arguments.
    Value(fn(&mut S, &Directive) -> Result<(), Error>),
    /// `on` or `off`.
    Flag(fn(&mut S, bool)),
    /// Bytes, up to megabytes.
    Size(fn(&mut S, usize)),
    /// Bytes, up to gigabytes.
    Offset(fn(&mut S, u64)),
    /// Milliseconds.
    Time(fn(&mut S, u64)),
    /// A plain number.
    Number(fn(&mut S, u64)),
    /// A string with variables.
    Template(fn(&mut S, Template)),
    /// Nothing but a look at the arguments: the row says why.
    Check(fn(&Directive) -> Result<(), Error>),
    /// Nothing: the row says why.
    Nothing,
}

impl<S> Setter<S> {
    pub(crate) fn apply(
        &self,
        settings: &mut S,
        cx: &mut Cx<'_>,
        directive: &Directive,
    ) -> Result<(), Error> {
        match self {
            Self::Any(set) => return set(settings, cx, directive),
            Self::Value(set) => return set(settings, directive),
            Self::Flag(set) => set(settings, directive.flag()?),
            Self::Size(set) => set(settings, usize::try_from(directive.size()?).unwrap_or(usize::MAX)),
            Self::Offset(set) => set(settings, directive.offset()?),
            Self::Time(set) => set(settings, directive.time_ms()?),
            Self::Number(set) => set(settings, directive.number()?),
            Self::Template(set) => set(settings, Template::compile(cx, directive.arg(0)?)?),
            Self::Check(check) => check(directive)?,
            Self::Nothing => {}
        }
        Ok(())
    }
}

/// A directive of the module whose settings are `S`.
pub struct Row<S> {
    /// Name, contexts, arity, default, documentation.
    pub row: conf::Row,
    /// What it does.
    pub set: Setter<S>,
}

impl<S> Row<S> {
    const fn build(
        name: &'static str,
        contexts: Contexts,
        arity: Arity,
        default: &'static str,
        doc: &'static str,
        set: Setter<S>,
    ) -> Self {
        Self { row: conf::Row::new(name, contexts, arity).default(default).doc(doc), set }
    }

    /// May be written several times in one block.
    #[must_use]
    pub const fn many(mut self) -> Self {
        self.row.repeat = conf::Repeat::Many;
        self
    }

    /// Opens a block with directives of the context `inside`.
    #[must_use]
    pub const fn block(mut self, inside: Contexts) -> Self {
        self.row.body = conf::Body::Block(inside);
        self.row.repeat = conf::Repeat::Many;
        self
    }

    /// Opens a block of lines that are not directives.
    #[must_use]
    pub const fn free(mut self) -> Self {
        self.row.body = conf::Body::Free;
        self.row.repeat = conf::Repeat::Many;
        self
    }
}

/// A directive with a function of its own.
pub const fn row<S>(
    name: &'static str,
    contexts: Contexts,
    arity: Arity,
    default: &'static str,
    doc: &'static str,
    set: fn(&mut S, &mut Cx<'_>, &Directive) -> Result<(), Error>,
) -> Row<S> {
    Row::build(name, contexts, arity, default, doc, Setter::Any(set))
}

/// A directive whose value is computed from its arguments alone.
pub const fn value<S>(
    name: &'static str,
    contexts: Contexts,
    arity: Arity,
    default: &'static str,
    doc: &'static str,
    set: fn(&mut S, &Directive) -> Result<(), Error>,
) -> Row<S> {
    Row::build(name, contexts, arity, default, doc, Setter::Value(set))
}

macro_rules! plain {
    ($($(#[$doc:meta])* $name:ident, $kind:ident, $value:ty, $arity:ident;)*) => {$(
        $(#[$doc])*
        pub const fn $name<S>(
            name: &'static str,
            contexts: Contexts,
            default: &'static str,
            doc: &'static str,
            set: fn(&mut S, $value),
        ) -> Row<S> {
            Row::build(name, contexts, Arity::$arity, default, doc, Setter::$kind(set))
        }
    )*};
}

plain! {
    /// `on` or `off`.
    flag, Flag, bool, FLAG;
    /// Bytes, up to megabytes.
    size, Size, usize, ONE;
    /// Bytes, up to gigabytes.
    offset, Offset, u64, ONE;
    /// A time, handed over in milliseconds.
    time, Time, u64, ONE;
    /// A plain number.
    number, Number, u64, ONE;
}

/// A string with variables.
pub const fn template<S>(
    name: &'static str,
    contexts: Contexts,
    doc: &'static str,
    set: fn(&mut S, Template),
) -> Row<S> {
    Row::build(name, contexts, Arity::ONE, "", doc, Setter::Template(set))
}

/// A directive that is accepted and has no meaning here.
pub const fn without_effect<S>(
    name: &'static str,
    contexts: Contexts,
    arity: Arity,
    why: &'static str,
) -> Row<S> {
    let mut row = Row::build(name, contexts, arity, "", "", Setter::Nothing);
    row.row.status = conf::Status::NoEffect(why);
    row
}

/// Refuses what is no number.
///
/// # Errors
/// `"x" directive invalid number`.
pub fn is_number(d: &Directive) -> Result<(), Error> {
    d.number().map(drop)
}

/// Refuses what is no size.
///
/// # Errors
/// `"x" directive invalid value`.
pub fn is_size(d: &Directive) -> Result<(), Error> {
    d.size().map(drop)
}

impl<S> Row<S> {
    /// Of a directive without effect, what is wrong with its arguments.
    #[must_use]
    pub const fn checked(mut self, check: fn(&Directive) -> Result<(), Error>) -> Self {
        self.set = Setter::Check(check);
        self
    }

    /// The directive has no meaning here, though what it says is checked.
    #[must_use]
    pub const fn no_effect(mut self, why: &'static str) -> Self {
        self.row.status = conf::Status::NoEffect(why);
        self
    }
}

/// A directive that is known and never will work here.
pub const fn refused<S>(name: &'static str, contexts: Contexts, arity: Arity, why: &'static str) -> Row<S> {
    let mut row = Row::build(name, contexts, arity, "", "", Setter::Nothing);
    row.row.status = conf::Status::Refused(why);
    row
}

/// Permission bits such as `user:rw group:r` (`ngx_conf_set_access_slot`).
///
/// # Errors
/// `invalid value "…"`.
pub fn access(d: &Directive) -> Result<u32, Error> {
    let (mut access, mut owner) = (0, 0o600);
    for word in &d.args {
        let right = match word.bytes.rsplit(|byte| *byte == b':').next() {
            Some(b"rw") => 6,
            Some(b"r") => 4,
            _ => 0,
        };
        let who = word.bytes.iter().position(|byte| *byte == b':').and_then(|at| word.bytes.get(..at));
        let shift = match who {
            Some(b"user") => {
                owner = 0;
                6
            }
            Some(b"group") => 3,
            Some(b"all") => 0,
            _ => 16,
        };
        if right == 0 || shift == 16 || word.bytes.iter().filter(|byte| **byte == b':').count() != 1 {
            return Err(Error::at(word, format!("invalid value \"{}\"", word.as_str())));
        }
        access |= right << shift;
    }
    Ok(access | owner)
}
