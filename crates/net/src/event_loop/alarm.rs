//! The alarm of an event loop, which ends its wait for the sake of a deadline.
//!
//! Deadlines mostly move later, so it is hardly ever set anew: it rings early at worst. A limit to each wait would cost the
//! kernel a timer every time.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

/// An alarm that is set for the earliest of the times that it is asked for.
#[derive(Debug)]
pub(super) struct Alarm {
    clock: os::event::Alarm,
    /// What it is set for; none once it has rung.
    at_ms: Option<u64>,
}

impl Alarm {
    pub fn new() -> io::Result<Self> {
        Ok(Self { clock: os::event::Alarm::new()?, at_ms: None })
    }

    /// Has it ring at a time of [`crate::timer::now_ms`] at the latest.
    pub fn ring_by(&mut self, at_ms: u64) -> io::Result<()> {
        if self.at_ms.is_some_and(|set_ms| set_ms <= at_ms) {
            return Ok(());
        }
        // Not by the time of the turn, which is about to end.
        let after_ms = at_ms.saturating_sub(os::clock::monotonic_coarse_ms());
        self.clock.set_after(u32::try_from(after_ms).unwrap_or(u32::MAX))?;
        self.at_ms = Some(at_ms);
        Ok(())
    }

    /// It has rung. The coarse clock of deadlines may be a little behind, then it is to ring once more.
    pub fn has_rung(&mut self) {
        self.at_ms = None;
    }
}

impl AsRawFd for Alarm {
    fn as_raw_fd(&self) -> RawFd {
        self.clock.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use os::epoll::Epoll;
    use os::readiness::{Events, Interest};

    use super::*;
    use crate::timer;

    #[test]
    fn it_rings_by_the_earliest_time() {
        let (set, mut events) = (Epoll::new().expect("epoll"), Events::with_capacity(1));
        let mut alarm = Alarm::new().expect("an alarm");
        set.add(alarm.as_raw_fd(), Interest::Readable, 7).expect("add");
        let mut rings_by = |alarm: &mut Alarm, after_ms: u64, most_ms: u32| {
            alarm.ring_by(timer::now_ms() + after_ms).expect("a time");
            set.wait(&mut events, Some(most_ms)).expect("a wait");
            events.iter().count() == 1
        };
        assert!(!rings_by(&mut alarm, 60_000, 20));
        assert!(rings_by(&mut alarm, 20, 10_000));
        assert!(!rings_by(&mut alarm, 20, 100), "nobody has told that it rang");
        alarm.has_rung();
        assert!(rings_by(&mut alarm, 0, 10_000));
    }
}
