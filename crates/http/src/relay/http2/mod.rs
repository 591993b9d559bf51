//! HTTP/2 towards upstreams: one stream at a time on a connection, as nginx does it, both directions at once
//! (`ngx_http_grpc_module.c`, `ngx_http_proxy_v2_module.c`).
//!
//! The request is planned as for HTTP/1 and its head is translated when the connection is known, since what a header
//! block looks like depends on those before it.

mod answer;
mod body;
mod codec;
mod head;
mod session;

pub use codec::Http2;
pub use session::Session;
