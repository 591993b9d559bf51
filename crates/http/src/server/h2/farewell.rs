//! The end of a connection that is still in use, so that no stream is lost (RFC 9113, 6.8): first the client learns
//! that it is to begin no more, and once it can have learned, which streams were the last ones.
//!
//! A PING comes back when the client has read what was sent before it; who does not answer is given two round trips.

use std::os::fd::AsFd;
use std::task::Context;

use net::Deadline;

use crate::connection::Conn;

/// Milliseconds that a client has at least and at most.
const PATIENCE_MS: (u64, u64) = (500, 2000);

/// How far the connection is on its way out.
#[derive(Default)]
pub(super) enum Farewell {
    /// It stays.
    #[default]
    None,
    /// The client was asked to begin no more streams; until the deadline it may not know yet.
    Asked(Deadline),
    /// The client knows the last stream; others are not taken.
    Told,
}

impl Farewell {
    /// The client is asked now.
    pub(super) fn asked(conn: &Conn) -> Self {
        let round_trip_us = os::tcp::tcp_info(conn.stream.as_fd()).map_or(0, |info| info.rtt);
        let patience = u64::from(round_trip_us / 1000 * 2).clamp(PATIENCE_MS.0, PATIENCE_MS.1);
        let deadline = Deadline::new();
        deadline.set_after(patience);
        Self::Asked(deadline)
    }

    /// Whether the client knows the last stream.
    pub(super) fn is_told(&self) -> bool {
        matches!(self, Self::Told)
    }

    /// Whether anything was said.
    pub(super) fn has_begun(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// Whether the client has had its time.
    pub(super) fn is_due(&self, cx: &mut Context<'_>) -> bool {
        match self {
            Self::Asked(deadline) => deadline.poll_over(cx).is_ready(),
            Self::None | Self::Told => false,
        }
    }
}
