//! HTTP/2 towards upstreams (`ngx_http_grpc_module.c`, `ngx_http_proxy_v2_module.c`): both directions at once, with a
//! connection for each request as nginx has it, or one for many.
//!
//! The request is planned as for HTTP/1 and its head is translated when the connection is known, since what a header
//! block looks like depends on those before it.

mod answer;
mod body;
mod codec;
mod driver;
mod head;
mod hub;
mod session;
mod shared;
mod stream;

pub use codec::Http2;
pub(in crate::relay) use hub::{Found, find, retain};
pub use session::Session;
pub(in crate::relay) use shared::Shared;
