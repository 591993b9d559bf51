//! When a worker that died is started again: at once, unless workers die as fast as they are started.
//!
//! Without the pause a worker that fails at its start would keep the machine busy with nothing but forks.

/// A life shorter than this counts as a failed start, milliseconds.
const SHORT_LIFE_MS: u64 = 1000;
/// Failed starts in a row before pauses begin.
const PATIENCE: u32 = 3;
/// The pause, milliseconds.
const PAUSE_MS: u64 = 1000;

/// Counts failed starts in a row.
#[derive(Debug, Default)]
pub(crate) struct CrashGuard {
    failed_starts: u32,
}

impl CrashGuard {
    /// A worker died after `life_ms`: how long to wait before the next one.
    pub(crate) fn pause_ms(&mut self, life_ms: u64) -> u64 {
        if life_ms >= SHORT_LIFE_MS {
            self.failed_starts = 0;
            return 0;
        }
        self.failed_starts = self.failed_starts.saturating_add(1);
        if self.failed_starts > PATIENCE { PAUSE_MS } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_begin_with_the_fourth_failed_start() {
        let mut guard = CrashGuard::default();
        let check = |guard: &mut CrashGuard, life_ms, expected| assert_eq!(guard.pause_ms(life_ms), expected);
        check(&mut guard, 10, 0);
        check(&mut guard, 10, 0);
        check(&mut guard, 10, 0);
        check(&mut guard, 10, PAUSE_MS);
        check(&mut guard, 60_000, 0);
        check(&mut guard, 10, 0);
    }
}
