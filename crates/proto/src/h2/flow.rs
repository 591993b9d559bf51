//! Flow control: how much may be sent, and how much the peer was allowed to send.

/// The largest window (RFC 9113, 6.9.1).
pub const MAX_WINDOW: u32 = (1 << 31) - 1;

/// The peer's increment would make a window larger than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowOverflow;

/// Bytes that may still be sent; below zero after the peer made its windows smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendWindow(i64);

impl SendWindow {
    /// A window of so many bytes.
    #[must_use]
    pub fn new(size: u32) -> Self {
        Self(i64::from(size))
    }

    /// Bytes that may be sent now.
    #[inline]
    #[must_use]
    pub fn available(self) -> usize {
        usize::try_from(self.0).unwrap_or(0)
    }

    /// The window itself, for messages.
    #[must_use]
    pub fn size(self) -> i64 {
        self.0
    }

    /// So many bytes are sent.
    #[inline]
    pub fn take(&mut self, count: usize) {
        self.0 -= i64::try_from(count).unwrap_or(i64::MAX);
    }

    /// The peer allows more.
    ///
    /// # Errors
    /// [`WindowOverflow`]; the window is then as it was.
    pub fn grow(&mut self, by: u32) -> Result<(), WindowOverflow> {
        self.shift(i64::from(by))
    }

    /// The peer changed the size that streams begin with (RFC 9113, 6.9.2).
    ///
    /// # Errors
    /// [`WindowOverflow`]; the window is then as it was.
    pub fn shift(&mut self, by: i64) -> Result<(), WindowOverflow> {
        let size = self.0.saturating_add(by);
        if size > i64::from(MAX_WINDOW) {
            return Err(WindowOverflow);
        }
        self.0 = size;
        Ok(())
    }
}

/// Bytes that the peer may still send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiveWindow(u32);

impl ReceiveWindow {
    /// A window of so many bytes.
    #[must_use]
    pub fn new(size: u32) -> Self {
        Self(size.min(MAX_WINDOW))
    }

    /// Bytes that the peer may still send.
    #[must_use]
    pub fn size(self) -> u32 {
        self.0
    }

    /// The peer sent a frame of so many bytes; says whether it was allowed to.
    #[must_use]
    pub fn take(&mut self, count: usize) -> bool {
        let left = u32::try_from(count).ok().and_then(|count| self.0.checked_sub(count));
        if let Some(left) = left {
            self.0 = left;
        }
        left.is_some()
    }

    /// Opens the window up to `size` bytes again; what the peer must be told, if anything.
    #[must_use]
    pub fn open_to(&mut self, size: u32) -> Option<u32> {
        let size = size.min(MAX_WINDOW);
        let increment = size.checked_sub(self.0).filter(|increment| *increment > 0)?;
        self.0 = size;
        Some(increment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_never_pass_their_largest_size() {
        let mut window = SendWindow::new(65_535);
        window.take(65_535);
        assert_eq!(window.available(), 0);
        assert_eq!(window.shift(-10), Ok(()));
        assert_eq!((window.available(), window.size()), (0, -10));
        assert_eq!(window.grow(MAX_WINDOW), Ok(()));
        assert_eq!(window.grow(11), Err(WindowOverflow));
        assert_eq!(window.grow(10), Ok(()));
        assert_eq!(window.size(), i64::from(MAX_WINDOW));
    }

    #[test]
    fn a_peer_gets_what_it_was_given() {
        let mut window = ReceiveWindow::new(10);
        assert!(window.take(4) && !window.take(7) && window.take(6));
        assert_eq!(window.open_to(8), Some(8));
        assert_eq!(window.open_to(8), None);
        assert_eq!(window.open_to(5), None);
        assert_eq!(window.open_to(u32::MAX), Some(MAX_WINDOW - 8));
    }
}
