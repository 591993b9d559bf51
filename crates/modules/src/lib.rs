//! nginx's modules of the http side, written anew: one file or folder each, under nginx's name.
//!
//! The order of [`registry`] is the order of execution.

pub mod proxy;
pub mod upstream;

use http::Registry;

/// All modules.
#[must_use]
pub fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.add::<http::conf::core::Core>();
    registry.add::<upstream::Upstream>();
    registry.add::<proxy::Proxy>();
    registry
}
