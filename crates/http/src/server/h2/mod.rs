//! The HTTP/2 driver: one task per connection, which takes frames apart and writes, and one per stream, which
//! handles its request as any other.
//!
//! Streams put their frames into one buffer of the connection, in turn, and the connection writes it once the tasks
//! that were woken with it have run: so the answers of many streams leave in one system call.

mod conf;
mod driver;
mod farewell;
mod head;
mod output;
mod preface;
mod request;
mod session;
mod stream;

pub use conf::{Http2, Http2Settings};
pub use stream::Stream;

pub(crate) use driver::serve;
pub(crate) use output::{
    has_more, poll_send, poll_send_bytes, poll_send_end, send_continue, send_early_hints,
};
pub(crate) use preface::{Preface, read as read_preface};
pub(crate) use request::handle;
