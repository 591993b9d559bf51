//! The engine: from a connection's first byte to the access log, through nginx's phases.
//!
//! Start reading at [`process`]: it is the way of a request, one function after another.

pub mod blocking;
pub mod body;
pub mod body_file;
mod chain;
pub mod chunk;
pub mod client;
pub mod coding;
pub mod conf;
pub mod connection;
pub mod credentials;
pub mod cycle;
pub mod delay;
mod entity;
pub mod error_log;
pub mod filters;
pub mod forwarded;
mod lasting;
pub mod limits;
pub mod log_buffer;
pub mod logging;
pub mod module;
pub mod open_file;
pub mod output;
pub mod paths;
pub mod phases;
pub mod process;
mod redirect;
pub mod regex;
pub mod relay;
pub mod request;
mod request_fields;
pub mod resolver;
pub mod response;
pub mod rows;
pub mod server;
pub mod side;
pub mod special;
pub mod status;
pub mod subrequest;
pub mod temp_file;
pub mod texts;
pub mod tls;
mod trace;
pub mod variables;
mod watcher;
mod websocket;

pub use module::{Module, Registry};
pub use request::Request;
pub use side::Side;
