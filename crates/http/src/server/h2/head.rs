//! A request's head on its way from the connection, which decoded it, to the handler of its stream.

use std::cell::RefCell;

use base::Span;
use net::Buf;
use proto::h1::{HeadLimits, RequestHead};
use proto::h2::hpack::{BlockLimits, Decoder};
use proto::h2::{Refusal, RequestReader, Violation, is_trailer};

use crate::conf::core::CoreSettings;
use crate::server::h1;

/// Heads that a thread keeps for reuse.
const KEPT: usize = 64;

thread_local! {
    #[expect(clippy::vec_box, reason = "what is lent out is the box")]
    static FREE: RefCell<Vec<Box<Head>>> = const { RefCell::new(Vec::new()) };
}

/// A decoded head.
#[derive(Default)]
pub(super) struct Head {
    /// The text that the spans mean.
    pub text: Buf,
    /// The head.
    pub line: RequestHead,
    /// Why it is answered with an error.
    pub refusal: Option<Refusal>,
    /// The protocol that a CONNECT asks for (RFC 8441).
    pub protocol: Option<Span>,
    /// No body follows.
    pub is_end: bool,
    /// Bytes of its block (`$request_length`).
    pub length: usize,
    /// When its first frame came, monotonic milliseconds.
    pub started_ms: u64,
    /// The same on the wall clock.
    pub started: (i64, u32),
}

impl Head {
    /// An empty head, whose memory has served others before.
    pub fn lend() -> Box<Self> {
        let kept = FREE.try_with(|free| free.borrow_mut().pop()).ok().flatten();
        let mut head = kept.unwrap_or_default();
        head.line.reset();
        head.text = Buf::with_capacity(4096);
        head
    }

    /// Decodes the block of a request. What follows `:authority` is read by the limits that `named` knows for it, if any.
    ///
    /// # Errors
    /// [`Violation`] ends the connection; what is wrong with the request alone is its [`Head::refusal`].
    pub fn decode(
        decoder: &mut Decoder,
        block: &mut &[u8],
        core: &CoreSettings,
        mut named: Option<impl FnOnce(&[u8]) -> Option<HeadLimits>>,
    ) -> Result<Box<Self>, Violation> {
        let (mut limits, mut head_limits) = (limits(core), h1::head_limits(core));
        let mut head = Self::lend();
        let mut reader = RequestReader::default();
        let Self { text, line, refusal, protocol, .. } = &mut *head;
        while let Some(field) = decoder.next(block, &mut limits, text)? {
            reader.field(field, line, text, &head_limits);
            if let Some(host) = line.authority
                && let Some(own) = named.take().and_then(|named| named(host.of(text)))
            {
                head_limits = own;
            }
        }
        match reader.finish(line, text) {
            Ok(wanted) => *protocol = wanted,
            Err(refused) => *refusal = Some(refused),
        }
        Ok(head)
    }

    /// Takes a head back that nobody needs any more.
    pub fn give_back(mut self: Box<Self>) {
        self.text = Buf::empty();
        self.refusal = None;
        self.protocol = None;
        let _ = FREE.try_with(|free| {
            let mut free = free.borrow_mut();
            if free.len() < KEPT {
                free.push(self);
            }
        });
    }
}

/// Decodes a block that nobody wants, since the next one builds on it; says whether it could be one of trailers.
///
/// # Errors
/// [`Violation`] ends the connection.
pub(super) fn pass_over(
    decoder: &mut Decoder,
    block: &mut &[u8],
    core: &CoreSettings,
) -> Result<bool, Violation> {
    let (mut limits, mut text) = (limits(core), Buf::with_capacity(4096));
    let mut is_valid = true;
    while let Some(field) = decoder.next(block, &mut limits, &mut text)? {
        is_valid &= is_trailer(field, &text);
    }
    Ok(is_valid)
}

/// `large_client_header_buffers`: the size of one bounds a field, all together the head.
pub(super) fn limits(core: &CoreSettings) -> BlockLimits {
    let (count, size) = core.large_client_header_buffers;
    BlockLimits { field: size, total: size.saturating_mul(count as usize) }
}
