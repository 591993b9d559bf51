//! The `proto` crate of Tidegate.
