//! What a peer may ask for without doing anything useful.
//!
//! Each debt is paid off by real work, so that a long and honest connection never runs into a limit.

use super::error::Violation;

/// Streams that may be reset beyond those that came to their end.
const RESETS: u32 = 200;
/// Frames without content beyond those that real work pays for.
const CONTROL: u32 = 10_000;
/// Frames without content that one request pays for.
const PER_REQUEST: u32 = 32;
/// Bytes of bodies, in either direction, that pay for one such frame.
const PER_FRAME: usize = 64;
/// Bytes beyond eight times the content (`total_bytes` and `payload_bytes` of `ngx_http_v2_connection_t`).
const OVERHEAD: u64 = 1 << 20;

/// Resets and refusals, and frames without content, from which on a peer owes: one that works never has so many.
const OWING: (u32, u32) = (16, 512);

/// The debts of one connection.
#[derive(Clone, Debug)]
pub struct Budget {
    resets: u32,
    refused: u32,
    control: u32,
    priorities: u32,
    streams: u32,
    total: u64,
    payload: u64,
}

impl Budget {
    /// For a connection with at most so many streams at once.
    #[must_use]
    pub fn new(streams: u32) -> Self {
        let priorities = streams.max(100);
        Self { resets: 0, refused: 0, control: 0, priorities, streams, total: 0, payload: 0 }
    }

    /// A request was begun.
    pub fn request(&mut self) {
        self.priorities = self.priorities.saturating_add(self.streams);
        self.control = self.control.saturating_sub(PER_REQUEST);
    }

    /// A request was answered to its end.
    pub fn completed(&mut self) {
        self.resets = self.resets.saturating_sub(1);
    }

    /// A stream was reset: by the peer, or by us for the peer's fault (the attacks Rapid Reset and `MadeYouReset`).
    ///
    /// # Errors
    /// [`Violation::TooManyResets`].
    pub fn reset(&mut self) -> Result<(), Violation> {
        self.resets += 1;
        if self.resets > RESETS { Err(Violation::TooManyResets) } else { Ok(()) }
    }

    /// A stream was refused before it was begun.
    ///
    /// # Errors
    /// [`Violation::TooManyRefused`].
    pub fn refused(&mut self) -> Result<(), Violation> {
        self.refused += 1;
        if self.refused > self.streams.max(100) + 1 { Err(Violation::TooManyRefused) } else { Ok(()) }
    }

    /// A PRIORITY frame came.
    ///
    /// # Errors
    /// [`Violation::TooManyPriorities`].
    pub fn priority(&mut self) -> Result<(), Violation> {
        self.priorities = self.priorities.saturating_sub(1);
        if self.priorities == 0 { Err(Violation::TooManyPriorities) } else { Ok(()) }
    }

    /// A frame came that carries nothing.
    ///
    /// # Errors
    /// [`Violation::Flood`].
    pub fn control(&mut self) -> Result<(), Violation> {
        self.control += 1;
        if self.control > CONTROL { Err(Violation::Flood) } else { Ok(()) }
    }

    /// Whether the peer asks for more than it does anything with: it need not be hurried for.
    #[inline]
    #[must_use]
    pub fn is_owing(&self) -> bool {
        let (given_up, control) = OWING;
        self.resets.max(self.refused) > given_up || self.control > control
    }

    /// So many bytes of content went by in either direction.
    #[inline]
    pub fn payload(&mut self, bytes: usize) {
        self.payload += bytes as u64;
        self.control = self.control.saturating_sub(u32::try_from(bytes / PER_FRAME).unwrap_or(u32::MAX));
    }

    /// So many bytes were received, of whatever kind.
    ///
    /// # Errors
    /// [`Violation::Flood`] when next to none of them were content.
    pub fn received(&mut self, bytes: usize) -> Result<(), Violation> {
        self.total += bytes as u64;
        if self.total / 8 > self.payload + OVERHEAD { Err(Violation::Flood) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn honest_work_pays() {
        let mut budget = Budget::new(128);
        for _ in 0..10_000 {
            budget.request();
            assert_eq!(budget.reset(), Ok(()));
            budget.completed();
            assert_eq!(budget.control(), Ok(()));
            assert_eq!(budget.priority(), Ok(()));
        }
        for _ in 0..100_000 {
            budget.payload(16_384);
            assert_eq!((budget.control(), budget.received(16_384)), (Ok(()), Ok(())));
        }
        assert!(!budget.is_owing());
        while budget.reset().is_ok() {}
        assert!(budget.is_owing());
    }

    #[test]
    fn attacks_end() {
        let count = |act: fn(&mut Budget) -> Result<(), Violation>| {
            let mut budget = Budget::new(128);
            (1..1_000_000).find(|_| act(&mut budget).is_err())
        };
        assert_eq!(count(|budget| budget.reset()), Some(RESETS + 1));
        assert_eq!(count(|budget| budget.refused()), Some(130));
        assert_eq!(count(|budget| budget.priority()), Some(128));
        assert_eq!(count(|budget| budget.control()), Some(CONTROL + 1));
        assert_eq!(count(|budget| budget.received(17)), Some((8 << 20) / 17 + 1));
        // A rapid reset: each request is given up at once.
        assert_eq!(
            count(|budget| {
                budget.request();
                budget.reset()
            }),
            Some(RESETS + 1)
        );
    }
}
