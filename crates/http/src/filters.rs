//! Header filters and body filters: what stands between a handler's answer and the client.
//!
//! Header filters are asked once; one that changes bodies adds a body filter for this answer alone, so an answer
//! that nobody changes meets no filter at all.

use std::io;

use crate::chunk::Queue;
use crate::phases::Outcome;
use crate::request::Request;

/// What a header filter says.
#[derive(Debug)]
pub enum Filtered {
    /// Go on with the next filter.
    Next,
    /// Answer something else instead (an error status); nothing has been sent yet.
    Instead(Outcome),
}

/// Looks at and changes the head of every answer.
pub trait HeaderFilter: Send + Sync {
    /// Called once per answer, in the registry's order.
    fn filter(&self, r: &mut Request) -> Filtered;
}

/// Whether more is to come behind the chunks at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum More {
    /// More of the body follows.
    Later,
    /// More follows, and what is there should go out now.
    Flush,
    /// This was the end.
    End,
}

/// Changes the body of one answer.
pub trait BodyFilter {
    /// Takes everything from `input` and appends what comes of it to `output`.
    ///
    /// # Errors
    /// When the body cannot be continued; the connection is then closed.
    fn filter(
        &mut self,
        r: &mut Request,
        input: &mut Queue,
        output: &mut Queue,
        more: More,
    ) -> io::Result<()>;
}
