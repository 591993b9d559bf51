//! HTTP/1, chunked bodies, URIs, dates, ranges and the PROXY protocol: bytes in, messages out.
//!
//! Nothing here reads a socket or a clock; what is accepted and refused follows nginx's own parsers.

pub mod date;
pub mod h1;
pub mod haproxy;
pub mod range;
pub mod uri;
