//! The lines that a thread has gathered, and when they leave.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{LogSink, TURN_SIZE};

/// How long lines gather on a thread that has much to write.
pub(super) const GATHER: Duration = Duration::from_millis(2);
/// Milliseconds after which lines do not wait for the end of a turn any more.
const WATCH_MS: u64 = 20;
/// Turns in a row that are written as they end; above that, one in [`GATHER`].
pub(super) const BURST: u32 = 16;
/// Buffers that a thread keeps for later.
const SPARE: usize = 8;

#[derive(Default)]
struct Turn {
    dirty: Vec<(Arc<LogSink>, Vec<u8>)>,
    spare: Vec<Vec<u8>>,
    pace: Pace,
    /// Since when the lines gather, where they do.
    gathers_since: Option<Instant>,
    /// A task sees to it that lines do not gather for long where no turn follows.
    is_watched: bool,
}

/// Where a sink's lines lie in the turn.
pub(super) struct Spot(usize);

impl Turn {
    /// Begins to gather lines. Says whether they are to be watched from now on.
    fn begin(&mut self) -> bool {
        let now = Instant::now();
        if self.pace.admits(now) {
            return false;
        }
        self.gathers_since = Some(now);
        !std::mem::replace(&mut self.is_watched, true)
    }
}

/// How often a thread writes: a bucket that leaks a turn each [`GATHER`] and holds [`BURST`].
#[derive(Default)]
struct Pace {
    empty_at: Option<Instant>,
}

impl Pace {
    /// Whether another turn may be written as it ends.
    fn admits(&mut self, now: Instant) -> bool {
        let empty_at = self.empty_at.map_or(now, |at| at.max(now));
        let fits = empty_at.duration_since(now) <= GATHER * (BURST - 1);
        if fits {
            self.empty_at = Some(empty_at + GATHER);
        }
        fits
    }
}

thread_local! {
    static TURN: RefCell<Turn> = RefCell::default();
}

/// Ends a turn of this thread's event loop: its lines are written, unless they are to gather.
pub fn end_turn() {
    let since = TURN.try_with(|turn| turn.borrow().gathers_since).ok().flatten();
    if since.is_none_or(|since| since.elapsed() >= GATHER) {
        flush();
    }
}

/// Writes lines that gather where no turn has written them for [`WATCH_MS`].
async fn watch() {
    loop {
        let before = TURN.with_borrow(|turn| turn.gathers_since);
        net::timer::sleep(WATCH_MS).await;
        match TURN.with_borrow(|turn| turn.gathers_since) {
            None => break,
            same if same == before => flush(),
            _ => {}
        }
    }
    TURN.with_borrow_mut(|turn| turn.is_watched = false);
}

/// Writes what this thread has gathered.
pub fn flush() {
    let take = |turn: &RefCell<Turn>| {
        let mut turn = turn.borrow_mut();
        turn.gathers_since = None;
        std::mem::take(&mut turn.dirty)
    };
    let Ok(mut dirty) = TURN.try_with(take) else { return };
    if dirty.is_empty() {
        return;
    }
    for (sink, lines) in &mut dirty {
        sink.take_over(lines);
        lines.clear();
    }
    let _ = TURN.try_with(|turn| {
        let mut turn = turn.borrow_mut();
        for (_, lines) in dirty.drain(..) {
            if turn.spare.len() < SPARE {
                turn.spare.push(lines);
            }
        }
        if turn.dirty.is_empty() {
            turn.dirty = dirty;
        }
    });
}

/// Takes out the lines of a sink, for one more to be added: making it may run code that logs too.
pub(super) fn take_lines(sink: &Arc<LogSink>) -> (Spot, Vec<u8>) {
    let (spot, lines, is_unwatched) = TURN.with_borrow_mut(|turn| {
        let is_unwatched = turn.dirty.is_empty() && turn.begin();
        let known = turn.dirty.iter().position(|(own, _)| Arc::ptr_eq(own, sink));
        let at = known.unwrap_or_else(|| {
            let lines = turn.spare.pop().unwrap_or_else(|| Vec::with_capacity(TURN_SIZE));
            turn.dirty.push((Arc::clone(sink), lines));
            turn.dirty.len() - 1
        });
        (Spot(at), std::mem::take(&mut turn.dirty[at].1), is_unwatched)
    });
    if is_unwatched {
        net::spawn(watch());
    }
    (spot, lines)
}

/// Puts lines back, behind those that were added meanwhile.
pub(super) fn give_lines(sink: &Arc<LogSink>, Spot(at): Spot, lines: Vec<u8>) {
    TURN.with_borrow_mut(|turn| match turn.dirty.get_mut(at) {
        Some((own, slot)) if Arc::ptr_eq(own, sink) => {
            if slot.is_empty() {
                *slot = lines;
            } else {
                slot.extend_from_slice(&lines);
            }
        }
        _ => turn.dirty.push((Arc::clone(sink), lines)),
    });
}

#[cfg(test)]
pub(super) fn is_watched() -> bool {
    TURN.with_borrow(|turn| turn.is_watched)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_of_writing() {
        let start = Instant::now();
        let check = |turns: &[(u64, bool)]| {
            let mut pace = Pace::default();
            for (at_ms, expected) in turns {
                assert_eq!(
                    pace.admits(start + Duration::from_millis(*at_ms)),
                    *expected,
                    "{turns:?}: {at_ms}"
                );
            }
        };
        let burst = [(0, true); BURST as usize];
        check(
            &[&burst[..], &[(0, false), (1, false), (2, true), (3, false), (4, true), (4, false)]].concat(),
        );
        check(&[&burst[..], &[(0, false)], &[(1000, true); BURST as usize], &[(1000, false)]].concat());
        check(&[(0, true), (2, true), (4, true), (1000, true)]);
    }
}
