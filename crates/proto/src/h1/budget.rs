//! How large a head may be: nginx's `client_header_buffer_size` and `large_client_header_buffers`.
//!
//! nginx reads into separate buffers and starts a new one when a line does not fit the old; heads here
//! lie in one piece, so the same borders are found by arithmetic over the places where lines begin and end.

/// What becomes of underscores in field names (`underscores_in_headers`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Underscores {
    /// They are as good as letters.
    Allow,
    /// They make the name invalid; see [`InvalidFields`].
    #[default]
    Invalid,
}

/// What becomes of fields with an invalid name (`ignore_invalid_headers`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InvalidFields {
    /// They are dropped, and named in `RequestHead::ignored`.
    #[default]
    Ignore,
    /// They are kept.
    Keep,
}

/// Limits and leniences for request heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of the first buffer (`client_header_buffer_size`).
    pub initial: usize,
    /// How many large buffers a head may take (`large_client_header_buffers`).
    pub large_count: usize,
    /// Bytes of one large buffer, which is also the longest line.
    pub large_size: usize,
    /// How many fields a head may have (`max_headers`); never more than 65,535.
    pub max_fields: usize,
    /// What becomes of underscores in names.
    pub underscores: Underscores,
    /// What becomes of invalid names.
    pub invalid: InvalidFields,
}

impl Default for HeadLimits {
    /// nginx's defaults: 1 KB, four of 8 KB, 1000 fields.
    fn default() -> Self {
        Self {
            initial: 1024,
            large_count: 4,
            large_size: 8192,
            max_fields: 1000,
            underscores: Underscores::Invalid,
            invalid: InvalidFields::Ignore,
        }
    }
}

/// No buffer is left for the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exhausted;

/// Which of nginx's buffers the head has reached.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Budget {
    /// The offset at which the current buffer would be full.
    end: usize,
    used: usize,
}

impl Budget {
    /// Makes room for the empty lines in front of a request, which up to `at` is all there is.
    /// nginx rewinds a buffer that holds nothing else.
    #[inline]
    pub(crate) fn blank(&mut self, at: usize, limits: &HeadLimits) {
        let initial = limits.initial.max(1);
        if at >= self.end {
            // Mostly there is nothing to divide.
            let before = if at < initial { 0 } else { at / initial };
            self.end = (before + 1).saturating_mul(initial);
        }
    }

    /// The offset that a line beginning at `start` must not reach without having ended before it.
    ///
    /// # Errors
    /// [`Exhausted`] when the line before filled the last buffer to its end.
    #[inline]
    pub(crate) fn open(&mut self, start: usize, limits: &HeadLimits) -> Result<usize, Exhausted> {
        if start >= self.end {
            if self.used >= limits.large_count {
                return Err(Exhausted);
            }
            self.used += 1;
            self.end = start.saturating_add(limits.large_size);
        }
        // What is in the current buffer must be copied to a new one, so it must not fill that already.
        let movable = self.end - start < limits.large_size && self.used < limits.large_count;
        Ok(if movable { start.saturating_add(limits.large_size) } else { self.end })
    }

    /// The offset up to which lines need not be accounted for: there the current buffer would be full.
    #[inline]
    pub(crate) fn end(&self) -> usize {
        self.end
    }

    /// Accounts for a line that was accepted by [`Budget::open`] and lies at `start..end`.
    #[inline]
    pub(crate) fn close(&mut self, start: usize, end: usize, limits: &HeadLimits) {
        if end > self.end {
            self.used += 1;
            self.end = start.saturating_add(limits.large_size);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether lines of these lengths fit one buffer of 100 bytes and two of 200.
    fn fit(lines: &[usize]) -> bool {
        let limits = HeadLimits { initial: 100, large_count: 2, large_size: 200, ..HeadLimits::default() };
        let mut budget = Budget::default();
        budget.blank(0, &limits);
        let mut start = 0;
        lines.iter().all(|length| {
            let Ok(hard) = budget.open(start, &limits) else { return false };
            let end = start + length;
            budget.close(start, end, &limits);
            start = end;
            end <= hard
        })
    }

    #[test]
    fn lines_are_packed_as_in_nginx() {
        let check = |lines: &[usize], expected| assert_eq!(fit(lines), expected, "{lines:?}");
        check(&[100], true);
        check(&[200], true);
        check(&[201], false);
        check(&[50, 200], true);
        check(&[50, 201], false);
        // The line that crosses the border is copied whole: 50 + 100 bytes, then 100 of 200 are left.
        check(&[50, 100, 100], true);
        check(&[50, 100, 100, 200], true);
        check(&[50, 100, 100, 200, 1], false);
        check(&[50, 150, 51, 149], true);
        check(&[50, 150, 51, 150], false);
        // A line that ends where a buffer ends takes no byte of the next one along.
        check(&[100, 200, 200], true);
        check(&[100, 200, 200, 1], false);
    }
}
