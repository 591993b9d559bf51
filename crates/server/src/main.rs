//! The program `tidegate`: takes nginx's place under nginx's command line and configuration.
//!
//! All it does is to name the engine; the rest is in the library, where tests can reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    server::run::<server::http_engine::HttpEngine>()
}
