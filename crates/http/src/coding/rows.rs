//! The directives that every module of a coding has, under its own name.
//!
//! Level and window differ, and stay with their modules.

use conf::{Arity, Contexts};

use super::Settings as CodingSettings;
use crate::rows::{Row, flag, row, size, value};

const ALL: Contexts = Contexts::HTTP_ALL;

/// Settings of a module that codes answers.
pub trait Codes {
    /// The part that all of them have.
    fn coding(&mut self) -> &mut CodingSettings;
}

/// `gzip`.
pub const fn enabled<S: Codes>(name: &'static str, doc: &'static str) -> Row<S> {
    flag(name, ALL.or(Contexts::IF_LOCATION), "off", doc, |s, v| s.coding().enabled = v)
}

/// `gzip_types`.
pub const fn types<S: Codes>(name: &'static str) -> Row<S> {
    let doc = "Media types of answers that are coded.";
    row(name, ALL, Arity::MORE1, "text/html", doc, |s: &mut S, cx, d| {
        s.coding().types.add(cx, d, &["text/html"]);
        Ok(())
    })
    .many()
}

/// `gzip_min_length`.
pub const fn min_length<S: Codes>(name: &'static str) -> Row<S> {
    size(name, ALL, "20", "Shorter answers are not coded.", |s, v| s.coding().min_length = v as u64)
}

/// `gzip_buffers`.
pub const fn buffers<S: Codes>(name: &'static str) -> Row<S> {
    value(name, ALL, Arity::TWO, "32 4k", "Memory for coded output.", |s, d| {
        s.coding().buffers = d.bufs()?;
        Ok(())
    })
}
