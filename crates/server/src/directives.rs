//! `tidegate --print-directives`: the reference of directives as Markdown, which `docs/directives.md` holds.
//!
//! It comes from the rows that the parser reads, so it cannot promise what the program refuses.

use std::io::Write;
use std::process::ExitCode;

use conf::Schema;

use crate::core_conf;
use crate::engine::Engine;

/// Prints it.
pub(crate) fn print<E: Engine>() -> ExitCode {
    let schema = Schema::new(core_conf::ROWS.iter().chain(E::rows()));
    let text = conf::directives_markdown(&schema, conf::documented());
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
