//! Content codings: whether a client takes one, and what the head of a coded answer says.
//!
//! gzip, brotli and zstd differ in their directives and encoders alone; negotiation, types, lengths, `Vary` and
//! ETags are decided here for all of them.

mod accept;
mod encode;
mod precompressed;
pub mod rows;

use conf::Bufs;
use proto::h1::Known;

pub use self::accept::accepts;
pub use self::encode::{Encode, Encoded, Encoder, Goal, Ratio, ratio};
pub use self::precompressed::{Precompressed, serve};
pub use self::rows::Codes;

use crate::conf::TypeSet;
use crate::request::Request;

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 7932.
    Brotli,
    /// RFC 8878.
    Zstd,
}

impl Coding {
    /// As `Content-Encoding` and `Accept-Encoding` name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }

    /// What the name of a file ends with that was coded beforehand.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Gzip => ".gz",
            Self::Brotli => ".br",
            Self::Zstd => ".zst",
        }
    }
}

/// What every module that codes answers lets be configured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `gzip`.
    pub enabled: bool,
    /// `gzip_types`.
    pub types: TypeSet,
    /// `gzip_min_length`: bytes.
    pub min_length: u64,
    /// `gzip_comp_level`.
    pub level: u32,
    /// `gzip_buffers`: memory for what was coded and has not been sent.
    pub buffers: Bufs,
    /// Bytes that are gathered before the encoder gets any of them.
    pub postponed: u64,
    /// `gzip_no_buffer`: what the encoder made goes out at once.
    pub unbuffered: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: false,
            types: TypeSet::default(),
            min_length: 0,
            level: 1,
            buffers: Bufs { number: 32, size: 4096 },
            postponed: 0,
            unbuffered: false,
        }
    }
}

/// Whether the answer is to be coded. If so its head says that from now on, and the caller adds an [`Encode`].
pub fn begin(r: &mut Request, coding: Coding, settings: &Settings) -> bool {
    let response = &r.response;
    if !settings.enabled
        || !matches!(response.status, 200 | 403 | 404)
        || response.headers.known(Known::ContentEncoding).is_some_and(|coding| !coding.is_empty())
        || response.content_length.is_some_and(|length| length < settings.min_length)
        || !settings.types.matches(response)
        || response.header_only
    {
        return false;
    }
    r.response.varies_by_coding = true;
    if !accepts(r, coding) {
        return false;
    }
    if coding != Coding::Gzip {
        // An answer has one coding, and is not decoded for those who take it.
        r.response.takes_gzip = Some(false);
    }
    let name = coding.name().as_bytes();
    r.response.headers.remove_known(Known::ContentEncoding);
    r.response.headers.push_known(Known::ContentEncoding, b"Content-Encoding", name);
    changes_body(r);
    true
}

/// What every filter that changes the bytes of a body does to the head: no length, no ranges, a weak ETag.
pub fn changes_body(r: &mut Request) {
    r.response.clear_content_length();
    r.response.clear_accept_ranges();
    r.response.weaken_etag();
}
