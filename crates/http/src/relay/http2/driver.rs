//! The task of a shared connection: reads what comes for its streams, writes what they made, and closes it when it has
//! idled for long enough or can serve no more.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use net::{Buf, Deadline};
use proto::h2::ErrorCode;

use super::hub;
use super::session::Session;
use super::shared::Shared;
use super::stream::Broken;

/// Bytes that one read asks for.
const READ: usize = 32 << 10;
/// Reads before others have their turn.
const MAX_READS: u32 = 4;

/// Milliseconds that a connection over the limit of idle ones has for being needed again.
const SURPLUS_MS: u64 = 20;

/// What a connection is while nobody uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Idle {
    /// It is in use.
    No,
    /// It counts among the idle connections of the group.
    Held,
    /// There are enough of those.
    Surplus,
}

/// See the module.
pub(super) struct Driver {
    shared: Rc<Shared>,
    /// How long it may idle yet.
    deadline: Deadline,
    idle: Idle,
}

impl Driver {
    pub(super) fn new(shared: Rc<Shared>) -> Self {
        Self { shared, deadline: Deadline::new(), idle: Idle::No }
    }

    /// Reads what is there. `Err` ends the connection.
    fn read(&self, cx: &mut Context<'_>) -> Result<(), Broken> {
        let stream = &self.shared.stream;
        for _ in 0..MAX_READS {
            match stream.poll_readable(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(ready) => ready.map_err(failed)?,
            }
            let mut buf = Buf::with_capacity(READ);
            match stream.poll_recv(cx, &mut buf, READ) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(0)) => return Err(Broken::Closed),
                Poll::Ready(count) => count.map_err(failed)?,
            };
            self.shared.session().feed(buf).map_err(Broken::Invalid)?;
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// Writes what waits; requests that have more to send are woken once there is room.
    fn write(&self, cx: &mut Context<'_>) -> Result<(), Broken> {
        let mut session = self.shared.session();
        let session: &mut Session = &mut session;
        let mut written = 0;
        while !session.out.pending().is_empty() {
            match self.shared.stream.poll_send(cx, session.out.pending()) {
                Poll::Pending => break,
                Poll::Ready(count) => {
                    let count = count.map_err(failed)?;
                    session.out.advance(count);
                    written += count;
                }
            }
        }
        if written > 0 {
            session.wake_senders();
        }
        Ok(())
    }

    /// Whether the connection has come to its end.
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        let shared = &self.shared;
        let (len, is_closing, has_numbers, is_settled) = {
            let session = shared.session();
            (session.len(), session.is_closing, session.has_streams(), session.is_settled)
        };
        if is_settled || is_closing || len == 0 {
            hub::settle(shared);
        }
        if len > 0 {
            self.use_again();
            return false;
        }
        if is_closing || !has_numbers || shared.is_spent() || crate::server::is_quitting() {
            return true;
        }
        if self.idle == Idle::No {
            self.rest();
        }
        match self.deadline.poll_over(cx) {
            Poll::Pending => false,
            // Others may have gone meanwhile.
            Poll::Ready(()) if self.idle == Idle::Surplus => {
                self.rest();
                self.idle == Idle::Surplus || self.deadline.poll_over(cx).is_ready()
            }
            Poll::Ready(()) => true,
        }
    }

    /// Nobody uses the connection any more.
    fn rest(&mut self) {
        let Shared { pool, limits, .. } = &*self.shared;
        let (idle, after_ms) =
            if pool.hold(limits) { (Idle::Held, limits.timeout_ms) } else { (Idle::Surplus, SURPLUS_MS) };
        self.idle = idle;
        self.deadline.set_after(after_ms);
    }

    /// Somebody uses it, or it is gone.
    fn use_again(&mut self) {
        if self.idle == Idle::Held {
            self.shared.pool.unhold();
        }
        if self.idle != Idle::No {
            self.idle = Idle::No;
            self.deadline.clear();
        }
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.shared.drive(cx);
        // What has come is of use even where nothing can be written any more.
        let done = this.read(cx).and_then(|()| this.write(cx));
        if let Err(broken) = done {
            let mut session = this.shared.session();
            session.fail(&broken);
            if let Broken::Invalid(_) = broken {
                session.go_away(ErrorCode::PROTOCOL);
                drop(session);
                let _ = this.write(cx);
            }
            return Poll::Ready(());
        }
        if this.is_over(cx) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Driver {
    /// Also when the task panicked or its thread ends: nobody waits for the connection any more.
    fn drop(&mut self) {
        self.shared.session().fail(&Broken::Closed);
        hub::remove(&self.shared);
        hub::settle(&self.shared);
        self.use_again();
    }
}

fn failed(error: std::io::Error) -> Broken {
    Broken::Failed(error.raw_os_error())
}
