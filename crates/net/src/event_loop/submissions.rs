//! What a ring of io_uring is told with the next wait, so that watching costs no system call of its own.
//!
//! A watch that is over before the wait never reaches the kernel. One that is under way keeps its file open: it has to be
//! called off before the peer can see that the descriptor was closed.

use std::cell::Cell;
use std::io;
use std::os::fd::RawFd;

use os::readiness::{Events, Interest};
use os::ring::{Lasting, Patience, Ring};

/// A descriptor as the ring knows it.
pub(super) struct Subject {
    fd: RawFd,
    pub interest: Interest,
    stage: Cell<Stage>,
}

/// How far the ring has come with a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It does not watch it.
    Unwatched,
    /// It begins to at the next wait.
    Due(Lasting),
    /// It watches it.
    Watched,
}

impl Subject {
    pub fn new(fd: RawFd, interest: Interest) -> Self {
        Self { fd, interest, stage: Cell::new(Stage::Unwatched) }
    }

    /// The ring watches it no longer.
    pub fn has_ended(&self) {
        self.stage.set(Stage::Unwatched);
    }
}

/// A ring, and what it is told with the next wait.
pub(super) struct Submissions {
    ring: Ring,
    /// The loop's own descriptors with their names, which are watched as long as the loop lives.
    own: [(RawFd, u64); 3],
    /// Those of them that are to be watched.
    own_due: Vec<u64>,
    /// What is to be watched, unless that is over by then.
    due: Vec<u64>,
    /// What is to be watched no longer.
    over: Vec<u64>,
}

impl Submissions {
    pub fn new(ring: Ring, own: [(RawFd, u64); 3]) -> Self {
        let own_due = own.map(|(_, token)| token).into();
        Self { ring, own, own_due, due: Vec::new(), over: Vec::new() }
    }

    /// Watches a descriptor from the next wait on.
    pub fn begin(&mut self, subject: &Subject, lasting: Lasting, token: u64) {
        subject.stage.set(Stage::Due(lasting));
        self.due.push(token);
    }

    /// Watches one of the loop's own again.
    #[cold]
    pub fn begin_own(&mut self, token: u64) {
        if self.own.iter().any(|(_, own)| *own == token) {
            self.own_due.push(token);
        }
    }

    /// Watches a descriptor no longer.
    #[inline]
    pub fn end(&mut self, subject: &Subject, token: u64) {
        if subject.stage.replace(Stage::Unwatched) == Stage::Watched {
            self.over.push(token);
        }
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.own_due.is_empty() && self.due.is_empty() && self.over.is_empty()
    }

    /// Tells the ring what there is to be told, and waits. `find` says what bears a name that is still used.
    ///
    /// # Errors
    /// Those of `io_uring_enter(2)`.
    pub fn wait<'s>(
        &mut self,
        find: impl Fn(u64) -> Option<&'s Subject>,
        events: &mut Events,
        patience: Patience,
    ) -> io::Result<()> {
        let is_told = self.submit(find).map(|()| true).or_else(|error| match error.kind() {
            // The kernel has no room at the moment; the rest is told at the next wait.
            io::ErrorKind::WouldBlock => Ok(false),
            _ => Err(error),
        })?;
        self.ring.wait(events, if is_told { patience } else { Patience::None })
    }

    fn submit<'s>(&mut self, find: impl Fn(u64) -> Option<&'s Subject>) -> io::Result<()> {
        let Self { ring, own, own_due, due, over } = self;
        tell(over, |token| ring.remove(token))?;
        tell(own_due, |token| match own.iter().find(|(_, own)| *own == token) {
            Some((fd, _)) => ring.add(*fd, Interest::Readable, Lasting::Always, token),
            None => Ok(()),
        })?;
        tell(due, |token| {
            let Some(subject) = find(token) else { return Ok(()) };
            let Stage::Due(lasting) = subject.stage.get() else { return Ok(()) };
            ring.add(subject.fd, subject.interest, lasting, token)?;
            subject.stage.set(Stage::Watched);
            Ok(())
        })
    }
}

/// Tells all that is listed; what could not be told stays there.
#[inline]
fn tell(list: &mut Vec<u64>, mut tell: impl FnMut(u64) -> io::Result<()>) -> io::Result<()> {
    while let Some(token) = list.last() {
        tell(*token)?;
        list.pop();
    }
    Ok(())
}
