//! The two kinds of traffic that a configuration serves: requests (`http`) and connections as they are (`stream`).
//!
//! Both are compiled by the same steps from rows of their own contexts, so settings, variables, upstreams and listeners
//! are one thing; what runs under them differs.

use conf::Contexts;

/// A kind of traffic, and the block that configures it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Side {
    /// `http`.
    #[default]
    Http,
    /// `stream`.
    Stream,
}

/// Every context below `stream`.
const STREAM: Contexts = Contexts::STREAM_ALL.or(Contexts::STREAM_UPSTREAM).or(Contexts::STREAM_MATCH);
/// Every context below `http` in which a module may have rows.
const HTTP: Contexts = Contexts::HTTP_ALL
    .or(Contexts::UPSTREAM)
    .or(Contexts::IF_SERVER)
    .or(Contexts::IF_LOCATION)
    .or(Contexts::LIMIT_EXCEPT)
    .or(Contexts::MATCH);

impl Side {
    /// How many there are.
    pub const COUNT: usize = 2;

    /// The context of the block itself.
    #[must_use]
    pub const fn top(self) -> Contexts {
        match self {
            Self::Http => Contexts::HTTP,
            Self::Stream => Contexts::STREAM,
        }
    }

    /// The context of its `server` blocks.
    #[must_use]
    pub const fn server(self) -> Contexts {
        match self {
            Self::Http => Contexts::SERVER,
            Self::Stream => Contexts::STREAM_SERVER,
        }
    }

    /// The context of its `upstream` blocks.
    #[must_use]
    pub const fn upstream(self) -> Contexts {
        match self {
            Self::Http => Contexts::UPSTREAM,
            Self::Stream => Contexts::STREAM_UPSTREAM,
        }
    }

    /// Whether a directive of these contexts may stand anywhere in it.
    #[must_use]
    pub const fn takes(self, contexts: Contexts) -> bool {
        contexts.has(match self {
            Self::Http => HTTP,
            Self::Stream => STREAM,
        })
    }
}
