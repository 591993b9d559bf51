//! HTTP/1 heads and bodies: requests, responses, fields, framing and chunks.
//!
//! A parsed head owns no bytes: all is offsets into the buffer that it was read into, which is reused.

mod budget;
mod chunked;
mod connection;
mod fields;
mod framing;
mod known;
mod line;
mod names;
mod one_line;
mod request;
mod request_line;
mod response;
mod search;
mod usual_line;

pub use budget::{HeadLimits, InvalidFields, Underscores};
pub use chunked::{
    ChunkError, ChunkLimits, ChunkStep, ChunkedDecoder, LAST_CHUNK, Trailers, write_chunk_header,
};
pub use connection::{
    Persistence, asks_upgrade, connection, keep_alive_default, request_persistence, response_persistence,
};
pub use fields::{Field, Fields};
pub use framing::{
    Framing, FramingError, ResponseFraming, content_length, fields_framing, has_ignored_duplicates,
    is_ignored_duplicate, request_framing, response_framing,
};
pub use known::Known;
pub use names::NameSet;
pub use one_line::keep_one_line;
pub use request::{HeadError, Progress, RequestHead};
pub use request_line::{Method, PathFlags, Version};
pub use response::{ResponseError, ResponseHead};
