//! HPACK: header fields in few bytes (RFC 7541).

mod decoder;
mod encoder;
pub mod huffman;
mod integer;
mod static_table;
mod table;

pub use decoder::{BlockLimits, Decoded, Decoder};
pub use encoder::{Encoder, Indexing};

/// Bytes of a dynamic table that both sides begin with, and the most that we keep.
pub const TABLE_SIZE: usize = 4096;
