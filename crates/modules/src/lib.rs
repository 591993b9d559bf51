//! nginx's modules of the http side, written anew: one file or folder each, under nginx's name.
//!
//! The order of [`registry`] is the order of execution.

use http::Registry;

/// All modules.
#[must_use]
pub fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.add::<http::conf::core::Core>();
    registry
}
