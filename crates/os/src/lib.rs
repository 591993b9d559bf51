//! The `os` crate of Tidegate.
