//! `ngx_http_rewrite_module`: `rewrite`, `return`, `set`, `if` and `break`, run in the order of the text.
//!
//! The lines of a block are one program; those of an `if` block are a part of the program around it, so a
//! `break` or `return` in it ends the whole. Programs are not inherited by nested locations.

mod compile;
mod condition;
mod run;

use std::sync::Arc;

use conf::{Arity, Contexts};
use http::module::{Module, Registry, Settings, Slot};
use http::phases::{Phase, PhaseHandler, Verdict};
use http::request::Request;
use http::rows::{Row, flag, row};

use self::compile::Code;

/// `ngx_http_rewrite_module`.
pub struct Rewrite;

static SLOT: Slot = Slot::new();

/// Settings of the module in one block.
#[derive(Clone, Default)]
pub struct RewriteSettings {
    codes: Vec<Arc<Code>>,
    log: bool,
    warn: bool,
}

impl Settings for RewriteSettings {
    fn inherited(&self) -> Option<Self> {
        Some(Self { codes: Vec::new(), ..*self })
    }
}

const PLACES: Contexts =
    Contexts::SERVER.or(Contexts::LOCATION).or(Contexts::IF_SERVER).or(Contexts::IF_LOCATION);
const FLAGS: Contexts = PLACES.or(Contexts::HTTP);

static ROWS: [Row<RewriteSettings>; 8] = [
    row("rewrite", PLACES, Arity::TAKE23, "", "Replaces a URI that matches.", compile::rewrite).many(),
    row("return", PLACES, Arity::TAKE12, "", "Answers at once.", compile::answer).many(),
    row("break", PLACES, Arity::NOARGS, "", "Ends the rewriting.", compile::end).many(),
    row("if", Contexts::SERVER, Arity::MORE1, "", "Lines under a condition.", compile::branch)
        .block(Contexts::IF_SERVER),
    row("if", Contexts::LOCATION, Arity::MORE1, "", "Settings under a condition.", compile::branch)
        .block(Contexts::IF_LOCATION),
    row("set", PLACES, Arity::TWO, "", "Assigns a variable.", compile::set).many(),
    flag("rewrite_log", FLAGS, "off", "Logs what rewriting does.", |s, v| s.log = v),
    flag("uninitialized_variable_warn", FLAGS, "on", "Logs the use of unset variables.", |s, v| s.warn = v),
];

impl Module for Rewrite {
    const NAME: &'static str = "ngx_http_rewrite_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = RewriteSettings;
    type Main = ();

    fn rows() -> &'static [Row<RewriteSettings>] {
        &ROWS
    }

    fn register(registry: &mut Registry) {
        registry.phase(Phase::ServerRewrite, &Server);
        registry.phase(Phase::Rewrite, &Location);
    }
}

struct Server;

impl PhaseHandler for Server {
    fn concerns(&self, location: &http::conf::Location) -> bool {
        !location.settings::<Rewrite>().codes.is_empty()
    }

    fn run<'r>(&self, r: &'r mut Request) -> Verdict<'r> {
        run::run(r)
    }
}

struct Location;

impl PhaseHandler for Location {
    fn concerns(&self, location: &http::conf::Location) -> bool {
        !location.settings::<Rewrite>().codes.is_empty()
    }

    fn run<'r>(&self, r: &'r mut Request) -> Verdict<'r> {
        // Where no location was found, the server's own program has run already.
        if r.location == r.server().root {
            return Verdict::Declined;
        }
        run::run(r)
    }
}
