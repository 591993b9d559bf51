//! The `conf` crate of Tidegate.
