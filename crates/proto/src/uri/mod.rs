//! Paths, arguments and hosts: normalised, escaped, unescaped and checked as nginx does.
//!
//! This is the only place that normalises a path; whoever compares or opens one takes it from here.

mod escape;
mod host;
mod normalize;

pub use escape::{EscapeKind, Unescape, escape, escape_html, escape_json, escaped_len, unescape};
pub use host::{Host, HostError, InvalidHost, request_host, validate_host};
pub use normalize::{MergeSlashes, Target, UriError, extension, normalize, parse_target, parse_unsafe};
