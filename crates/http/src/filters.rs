//! Header filters and body filters: what stands between a handler's answer and the client.
//!
//! Header filters are asked once; one that changes bodies adds a body filter for this answer alone, so an answer
//! that nobody changes meets no filter at all.

use std::io;

use crate::chunk::Queue;
use crate::conf::Location;
use crate::phases::Outcome;
use crate::request::Request;
use crate::response::Ranges;
pub use crate::subrequest::Wait;

/// Bytes behind a filter that are enough for now: a filter that makes much of little stops there with
/// [`Taken::Part`].
pub const ENOUGH: u64 = 64 << 10;

/// What a header filter says.
#[derive(Debug)]
pub enum Filtered {
    /// Go on with the next filter.
    Next,
    /// Answer something else instead (an error status); nothing has been sent yet.
    Instead(Outcome),
}

/// Which answers a header filter is asked about in a location.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answers {
    /// None of them.
    None,
    /// All of them.
    All,
    /// Those of which this server sends only what the client has not got or wants a range of. An upstream mostly decides
    /// that itself.
    Comparable,
    /// Those whose charset somebody else decides: of a subrequest, or with the word of an upstream.
    Recoded,
}

impl Answers {
    /// Whether this answer is one of them.
    #[inline]
    #[must_use]
    pub fn include(self, r: &Request) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Comparable => !r.response.disable_not_modified || r.response.ranges != Ranges::Refused,
            Self::Recoded => r.is_subrequest || r.response.charset_override.is_some(),
        }
    }
}

/// Looks at and changes the head of every answer.
pub trait HeaderFilter: Send + Sync {
    /// Whether it may have something to do under the settings of a location. Asked once, at load: where it has not,
    /// it is never called.
    fn concerns(&self, _location: &Location) -> bool {
        true
    }

    /// About which answers of a location that it [concerns](Self::concerns) it is asked.
    fn answers(&self, _location: &Location) -> Answers {
        Answers::All
    }

    /// Called once per answer, in the registry's order.
    fn filter(&self, r: &mut Request) -> Filtered;
}

/// Whether more is to come behind the chunks at hand. A later one counts for more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum More {
    /// More of the body follows.
    #[default]
    Later,
    /// More follows, and what is there should go out now.
    Flush,
    /// This was the end.
    End,
}

/// What a body filter wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sees {
    /// Bytes: files are read for it, `output_buffers` at a time.
    Bytes,
    /// Chunks as they come, whole files among them.
    Chunks,
    /// As [`Self::Chunks`], and the places of subrequests, which pass all others by.
    Subrequests,
}

/// How far a body filter came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// All that came in was taken, and what follows of it is in the output.
    All,
    /// The output holds [`ENOUGH`]: call again with the same input and the same [`More`] once it was sent.
    Part,
    /// Something must come first: call again then, with the same input and the same [`More`].
    Until(Wait),
}

/// Changes the body of one answer.
pub trait BodyFilter {
    /// What it wants to see.
    fn sees(&self) -> Sees {
        Sees::Bytes
    }

    /// What it does with a byte, as so many bytes that are only read from a socket: it tells how long others wait.
    fn weight(&self) -> u64 {
        match self.sees() {
            Sees::Bytes => 8,
            Sees::Chunks | Sees::Subrequests => 0,
        }
    }

    /// Takes from the front of `input` and appends what comes of it to `output`. `more` tells what stands behind
    /// `input`.
    ///
    /// # Errors
    /// When the body cannot be continued; the connection is then closed. The filter has logged why.
    fn filter(
        &mut self,
        r: &mut Request,
        input: &mut Queue,
        output: &mut Queue,
        more: More,
    ) -> io::Result<Taken>;
}
