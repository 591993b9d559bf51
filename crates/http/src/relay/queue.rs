//! `queue`: requests wait in line for a peer where none can take them at once.
//!
//! Who stands first tries again whenever a peer may have become free; the others only wait for that one.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use net::Deadline;
use upstream::NoPeer;

use super::Relay;
use crate::request::Request;

/// How often the first of the line looks for peers that came back by themselves, milliseconds.
const LOOK_MS: u64 = 50;

/// `queue NUMBER [timeout=TIME]`.
#[derive(Clone, Copy, Debug)]
pub struct QueueConf {
    /// Most requests in the line.
    pub limit: usize,
    /// Longest time in it, milliseconds.
    pub timeout_ms: u64,
}

impl QueueConf {
    pub(crate) fn queue(self) -> Arc<Queue> {
        Arc::new(Queue { conf: self, line: Mutex::default() })
    }
}

/// The line of one upstream, for all threads.
#[derive(Debug)]
pub struct Queue {
    conf: QueueConf,
    line: Mutex<Line>,
}

#[derive(Debug, Default)]
struct Line {
    /// The longest waiting first.
    waiting: VecDeque<(u64, Option<Waker>)>,
    next: u64,
    overflows: u64,
}

impl Queue {
    /// Requests that wait now, and how many found the line full so far.
    #[must_use]
    pub fn figures(&self) -> (usize, u64) {
        let line = self.line();
        (line.waiting.len(), line.overflows)
    }

    /// Most requests in the line.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.conf.limit
    }

    /// Has the first of the line try again.
    pub fn wake(&self) {
        let waker = self.line().waiting.front_mut().and_then(|(_, waker)| waker.take());
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_empty(&self) -> bool {
        self.line().waiting.is_empty()
    }

    fn enter(self: &Arc<Self>) -> Option<Place> {
        let mut line = self.line();
        if line.waiting.len() >= self.conf.limit {
            line.overflows += 1;
            return None;
        }
        let number = line.next;
        line.next += 1;
        line.waiting.push_back((number, None));
        Some(Place { queue: Arc::clone(self), number })
    }
}

/// A request's place in the line; dropping it lets the next one forward.
struct Place {
    queue: Arc<Queue>,
    number: u64,
}

impl Place {
    /// Whether it is the first; if not, the waker is told when that changes.
    fn is_first(&self, waker: &Waker) -> bool {
        let mut line = self.queue.line();
        let is_first = line.waiting.front().is_some_and(|(number, _)| *number == self.number);
        if let Some((_, slot)) = line.waiting.iter_mut().find(|(number, _)| *number == self.number) {
            *slot = Some(waker.clone());
        }
        is_first
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.queue.line().waiting.retain(|(number, _)| *number != self.number);
        self.queue.wake();
    }
}

/// Tells the line that a request is done with its peer, whatever way it ended.
pub(super) struct Bell(Option<Arc<Queue>>);

impl Bell {
    pub(super) fn of(queue: Option<&Arc<Queue>>) -> Self {
        Self(queue.cloned())
    }

    #[inline]
    pub(super) fn ring(&self) {
        if let Some(queue) = &self.0 {
            queue.wake();
        }
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        self.ring();
    }
}

/// Why a request has no peer.
pub(super) enum Stranded {
    NoPeer,
    ClientGone,
}

impl Relay<'_> {
    /// Picks a peer; where none is free the request waits in line, if there is one.
    pub(super) async fn pick_or_wait(&mut self, r: &Request) -> Result<(), Stranded> {
        let Some(queue) = self.upstream.queue.clone() else {
            return self.pick(r).map_err(|NoPeer| Stranded::NoPeer);
        };
        // Nobody goes past those who wait.
        if queue.is_empty() && self.pick(r).is_ok() {
            return Ok(());
        }
        let place = queue.enter().ok_or(Stranded::NoPeer)?;
        let (end, look) = (Deadline::new(), Deadline::new());
        let started_ms = net::timer::now_ms();
        end.set_after(queue.conf.timeout_ms);
        let outcome = poll_fn(|cx| {
            if place.is_first(cx.waker()) {
                if self.pick(r).is_ok() {
                    return Poll::Ready(Ok(()));
                }
                look.set_after(LOOK_MS);
                let _ = look.poll_over(cx);
            }
            if !r.ignores_client_abort && r.poll_client_gone(cx).is_ready() {
                return Poll::Ready(Err(Stranded::ClientGone));
            }
            end.poll_over(cx).map(|()| Err(Stranded::NoPeer))
        })
        .await;
        let waited_ms = net::timer::now_ms().saturating_sub(started_ms);
        self.queue_ms = Some(u32::try_from(waited_ms).unwrap_or(u32::MAX));
        outcome
    }
}
