//! The `conf` crate of Tidegate.
pub mod resources;
