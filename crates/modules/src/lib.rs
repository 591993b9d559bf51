//! The `modules` crate of Tidegate.
