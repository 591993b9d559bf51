//! The resolver of the network layer, under the name that configuration code uses.
//!
//! Kept apart so that settings name one type whatever resolves.

pub use net::resolver::ResolverConf;
