//! The nginx.conf language: words, blocks, `include`, directive rows, checks and diagnostics.
//!
//! The crate knows no directive's meaning: rows come from the modules, and setters turn words into settings.

mod arity;
mod bytes;
mod contexts;
mod documented;
mod error;
mod hint;
mod include;
mod lexer;
mod markdown;
mod parse;
mod render;
pub mod resources;
mod row;
mod schema;
mod shipped;
mod sources;
mod suggest;
#[cfg(test)]
mod testing;
mod tree;
mod values;
pub mod zones;

pub use arity::Arity;
pub use bytes::Bytes;
pub use contexts::Contexts;
pub use documented::{Documented, Edition, documented};
pub use error::{Error, Fault, Level, Spot};
pub use hint::Hint;
pub use lexer::{End, Lexer, Statement, Token};
pub use markdown::directives_markdown;
pub use parse::{parse, parse_as_far_as_good};
pub use render::Style;
pub use row::{Body, Repeat, Row, Status};
pub use schema::{Lookup, Schema};
pub use sources::{FileId, Origin, Place, Source, Sources};
pub use tree::{Args, Block, Directive, Order, Tree, Word};
pub use values::{Bufs, parse_number};
