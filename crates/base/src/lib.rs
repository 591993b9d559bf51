//! What every crate of Tidegate shares: sizes, times, spans, limits by key. No I/O happens here.
//!
//! All sizes are bytes and all times are milliseconds unless a name says otherwise.

pub mod address;
pub mod append;
pub mod limit;
pub mod lru;
mod network;
pub mod recency;
mod secret;
mod span;
mod units;
pub mod version;

pub use network::Network;
pub use secret::equal_in_constant_time;
pub use span::Span;
pub use units::{UnitError, parse_offset, parse_size, parse_time_ms, parse_time_sec};
