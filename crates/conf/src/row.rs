//! One directive as data: where it may stand, what it takes, its default and its documentation.
//!
//! Rows are built in constants; the same row feeds the parser, the hints and the generated reference.

use crate::{Arity, Contexts};

/// What follows a directive's arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// A `;`.
    None,
    /// A block of directives, which stand in this (single) context.
    Block(Contexts),
    /// A block of lines that are lexed and not looked up: `map`, `geo`, `types`, …; `include` works in it.
    Free,
}

/// Whether a directive may stand twice in one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// A second one in the same block is an error: `"x" directive is duplicate`.
    Once,
    /// Any number of times.
    Many,
}

/// What becomes of a directive that is well formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is implemented.
    Works,
    /// It is refused at load: `directive "x" is not supported yet`.
    NotYet,
    /// It has no meaning here; it is accepted, and the notice says so once.
    NoEffect(&'static str),
    /// It is refused at load for this reason.
    Refused(&'static str),
}

/// A directive as a module declares it.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The directive's name.
    pub name: &'static str,
    /// nginx's name for the module, such as `ngx_http_core_module`.
    pub module: &'static str,
    /// Where it may stand.
    pub contexts: Contexts,
    /// How many arguments it takes.
    pub arity: Arity,
    /// Whether a block follows.
    pub body: Body,
    /// Whether it may stand twice in one block.
    pub repeat: Repeat,
    /// The arguments that it has where it is not written, as a user would write them; empty for none.
    pub default: &'static str,
    /// One line of documentation.
    pub doc: &'static str,
    /// Whether it works.
    pub status: Status,
}

impl Row {
    /// A directive that ends with `;`, may stand once in a block, and works.
    #[must_use]
    pub const fn new(name: &'static str, contexts: Contexts, arity: Arity) -> Self {
        Self {
            name,
            module: "",
            contexts,
            arity,
            body: Body::None,
            repeat: Repeat::Once,
            default: "",
            doc: "",
            status: Status::Works,
        }
    }

    /// The rows of one module, each given the module's name:
    /// `pub static ROWS: &[Row] = &Row::of("ngx_http_x_module", [Row::new(…), …]);`
    #[must_use]
    pub const fn of<const N: usize>(module: &'static str, mut rows: [Self; N]) -> [Self; N] {
        let mut index = 0;
        while index < N {
            rows[index].module = module;
            index += 1;
        }
        rows
    }

    /// Names the module.
    #[must_use]
    pub const fn module(mut self, module: &'static str) -> Self {
        self.module = module;
        self
    }

    /// Opens a block whose directives stand in `inside`; may be repeated unless [`Row::once`] follows.
    #[must_use]
    pub const fn block(mut self, inside: Contexts) -> Self {
        self.body = Body::Block(inside);
        self.repeat = Repeat::Many;
        self
    }

    /// Opens a block of lines that are not looked up; may be repeated unless [`Row::once`] follows.
    #[must_use]
    pub const fn free(mut self) -> Self {
        self.body = Body::Free;
        self.repeat = Repeat::Many;
        self
    }

    /// May stand any number of times in one block.
    #[must_use]
    pub const fn many(mut self) -> Self {
        self.repeat = Repeat::Many;
        self
    }

    /// May stand once in one block.
    #[must_use]
    pub const fn once(mut self) -> Self {
        self.repeat = Repeat::Once;
        self
    }

    /// The arguments that stand for a directive which is not written.
    #[must_use]
    pub const fn default(mut self, arguments: &'static str) -> Self {
        self.default = arguments;
        self
    }

    /// The line of documentation.
    #[must_use]
    pub const fn doc(mut self, line: &'static str) -> Self {
        self.doc = line;
        self
    }

    /// Known, but refused for now.
    #[must_use]
    pub const fn not_yet(mut self) -> Self {
        self.status = Status::NotYet;
        self
    }

    /// Accepted without effect; the notice tells why.
    #[must_use]
    pub const fn no_effect(mut self, notice: &'static str) -> Self {
        self.status = Status::NoEffect(notice);
        self
    }

    /// Refused for good, for this reason.
    #[must_use]
    pub const fn refused(mut self, reason: &'static str) -> Self {
        self.status = Status::Refused(reason);
        self
    }
}

/// `include`, which the language itself knows (`ngx_conf_module`).
pub(crate) static INCLUDE: Row =
    Row::new("include", Contexts::ANY, Arity::ONE).module("ngx_core_module").many();

/// What the lines of a [`Body::Free`] block carry as their row.
pub(crate) static FREE_LINE: Row = Row::new("", Contexts::NOWHERE, Arity::ANY).many();
