//! HTTP/1 heads and bodies: requests, responses, fields, framing and chunks.
//!
//! A parsed head owns no bytes: all is offsets into the buffer that it was read into, which is reused.

mod budget;
mod fields;
mod known;
mod line;
mod request;
mod request_line;

pub use budget::{HeadLimits, InvalidFields, Underscores};
pub use fields::{Field, Fields};
pub use known::Known;
pub use request::{HeadError, Progress, RequestHead};
pub use request_line::{Method, PathFlags, Version};
