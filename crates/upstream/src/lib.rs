//! The `upstream` crate of Tidegate.
