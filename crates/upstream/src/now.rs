//! The time as the caller sees it.
//!
//! Failure windows count whole seconds, as nginx's cached `ngx_time` does; the rest counts milliseconds.

/// A moment in milliseconds since an origin far in the past, such as the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now(u64);

impl Now {
    /// The moment `ms` milliseconds after the origin.
    #[must_use]
    #[inline]
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the origin.
    #[must_use]
    #[inline]
    pub const fn ms(self) -> u64 {
        self.0
    }

    /// Whole seconds since the origin.
    #[must_use]
    #[inline]
    pub const fn sec(self) -> u64 {
        self.0 / 1000
    }
}
