//! The `net` crate of Tidegate.
