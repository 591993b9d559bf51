//! The `http` crate of Tidegate.
