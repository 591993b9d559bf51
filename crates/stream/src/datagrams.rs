//! Datagrams both ways between a client and a peer, until as many answers have come as were to come
//! (`proxy_requests`, `proxy_responses`) or nothing has for `proxy_timeout`.
//!
//! Each passes as a whole; none is held back for another.

use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::task::{Context, Poll};

use http::Request;
use http::cycle::Worker;
use http::logging::Traffic;
use http::relay::Protocol;
use http::relay::pipe::Pace;
use http::relay::session::Reached;
use net::{Buf, Deadline};
use os::errlog::{Errno, Level};

use crate::proxy::ProxySettings;
use crate::session::{BAD_GATEWAY, OK};
use crate::udp::{LONGEST, Mailbox};

/// Datagrams of each direction before others have their turn.
const MOST: usize = 64;

/// How a session ends.
enum Over {
    /// As many answers have come as were to come.
    Done,
    /// The peer is not there, or the client cannot be sent to.
    Failed(io::Error),
    /// Nothing came for `proxy_timeout`.
    TimedOut,
    /// The worker ends.
    ShutDown,
    /// The peer takes no sessions any more, and those that it has are dropped.
    Lost,
}

/// What has passed.
#[derive(Default)]
struct Counts {
    requests: u64,
    responses: u64,
}

impl Counts {
    /// Whether as many answers have come as were to come.
    fn are_answered(&self, settings: &ProxySettings) -> bool {
        let has_all = settings.requests == 0 || self.requests >= settings.requests;
        has_all && settings.responses.is_some_and(|each| self.responses >= each.saturating_mul(self.requests))
    }
}

struct Session<'a> {
    settings: &'a ProxySettings,
    mailbox: &'a Mailbox,
    counts: Counts,
    /// What the first datagram begins with: the PROXY protocol header.
    greeting: Vec<u8>,
    upload: Option<Pace>,
    download: Option<Pace>,
}

/// Passes datagrams until the session is over; gives its status.
pub(crate) async fn run(
    r: &mut Request,
    mut reached: Reached<'_>,
    settings: &ProxySettings,
    mailbox: &Rc<Mailbox>,
) -> u16 {
    let pace = |rate: &Option<http::variables::Template>| {
        rate.as_ref().map(|rate| rate.size(r)).filter(|rate| *rate > 0).map(Pace::new)
    };
    let (upload, download) = (pace(&settings.upload_rate), pace(&settings.download_rate));
    let greeting = settings.greeting(r);
    let counts = Counts::default();
    let mut session = Session { settings, mailbox, counts, greeting, upload, download };
    let idle = Deadline::new();
    let timeout_ms = settings.relay.read_timeout;
    idle.set_after(timeout_ms);
    let conn = Rc::clone(&r.conn);
    conn.deadline.clear();
    let mut seen = 0;
    let over = poll_fn(|cx| {
        let worker = Worker::current();
        if worker.is_quitting() {
            return Poll::Ready(Over::ShutDown);
        }
        if settings.session_drop && reached.is_lost() {
            return Poll::Ready(Over::Lost);
        }
        if let Err(error) = session.poll(r, &mut reached, cx) {
            return Poll::Ready(Over::Failed(error));
        }
        if session.counts.are_answered(settings) {
            return Poll::Ready(Over::Done);
        }
        let passed = session.counts.requests + session.counts.responses;
        if session.is_held_back() {
            idle.clear();
            seen = u64::MAX;
        } else if passed != seen {
            seen = passed;
            idle.set_after(timeout_ms);
        }
        // Also so that the end of the worker wakes this task.
        let _ = conn.deadline.poll_over(cx);
        idle.poll_over(cx).map(|()| Over::TimedOut)
    })
    .await;
    session.end(r, reached, over)
}

impl Session<'_> {
    fn is_held_back(&self) -> bool {
        [&self.upload, &self.download].into_iter().flatten().any(Pace::is_waiting)
    }

    /// Passes what there is in both directions.
    fn poll(&mut self, r: &mut Request, reached: &mut Reached<'_>, cx: &mut Context<'_>) -> io::Result<()> {
        for _ in 0..MOST {
            if self.upload.as_mut().is_some_and(|pace| pace.poll_most(cx, r.received).is_pending()) {
                break;
            }
            let Poll::Ready(datagram) = self.mailbox.poll_take(cx) else { break };
            self.pass_up(r, reached, &datagram)?;
        }
        for turn in 0.. {
            let received = r.upstreams.last().map_or(0, |state| state.received);
            if self.download.as_mut().is_some_and(|pace| pace.poll_most(cx, received).is_pending()) {
                break;
            }
            let mut buf = Buf::empty();
            match reached.stream().poll_recv_datagram(cx, &mut buf, LONGEST) {
                Poll::Pending => break,
                Poll::Ready(received) => received?,
            };
            self.pass_down(r, reached, &buf)?;
            if self.counts.are_answered(self.settings) {
                break;
            }
            if turn >= MOST {
                cx.waker().wake_by_ref();
                break;
            }
        }
        Ok(())
    }

    fn pass_up(&mut self, r: &mut Request, reached: &Reached<'_>, datagram: &[u8]) -> io::Result<()> {
        r.received += datagram.len() as u64;
        self.counts.requests += 1;
        if self.settings.requests > 0 && self.counts.requests >= self.settings.requests {
            self.mailbox.close();
        }
        if let Some(pace) = &mut self.upload {
            pace.took(datagram.len());
        }
        let greeting = std::mem::take(&mut self.greeting);
        let whole;
        let bytes = if greeting.is_empty() {
            datagram
        } else {
            whole = [&greeting, datagram].concat();
            &whole
        };
        match os::io::send(reached.stream().as_fd(), bytes) {
            Ok(count) => {
                if let Some(state) = r.upstreams.last_mut() {
                    state.sent += count as u64;
                }
                Ok(())
            }
            // One that the kernel has no room for is lost.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn pass_down(&mut self, r: &mut Request, reached: &mut Reached<'_>, datagram: &[u8]) -> io::Result<()> {
        self.counts.responses += 1;
        if let Some(state) = r.upstreams.last_mut() {
            state.received += datagram.len() as u64;
        }
        reached.heard(r);
        if let Some(pace) = &mut self.download {
            pace.took(datagram.len());
        }
        self.mailbox.send(datagram)?;
        r.output.sent += datagram.len() as u64;
        Ok(())
    }

    /// Gives the peer back and tells the log; gives the session's status.
    fn end(&self, r: &mut Request, reached: Reached<'_>, over: Over) -> u16 {
        self.mailbox.close();
        let has_answers = self
            .settings
            .responses
            .is_none_or(|each| self.counts.responses >= each.saturating_mul(self.counts.requests));
        match over {
            Over::Done => self.tell(r, "udp done"),
            Over::TimedOut if has_answers => self.tell(r, "udp timed out"),
            Over::ShutDown => r.log(Level::Info, format_args!("disconnected on shutdown")),
            Over::Lost => r.log(Level::Info, format_args!("session dropped while proxying connection")),
            Over::TimedOut => {
                r.log(
                    Level::Error,
                    format_args!("upstream timed out (110: Connection timed out) while proxying connection"),
                );
                reached.fail(r);
                return BAD_GATEWAY;
            }
            Over::Failed(error) => {
                r.log(
                    Level::Error,
                    format_args!("recv() failed {} while proxying and reading from upstream", Errno(&error)),
                );
                reached.fail(r);
                return OK;
            }
        }
        reached.finish(r);
        OK
    }

    fn tell(&self, r: &Request, how: &str) {
        if !r.logs(Level::Info) {
            return;
        }
        let Counts { requests, responses } = self.counts;
        let Traffic { from_client, to_client, from_upstream, to_upstream } = Traffic::of(r);
        r.error_log().log_for(
            Level::Info,
            r.conn.scope(),
            format_args!(
                "{how}, packets from/to client:{requests}/{responses}, \
                 bytes from/to client:{from_client}/{to_client}, \
                 bytes from/to upstream:{from_upstream}/{to_upstream}"
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_with_its_last_answer() {
        let check = |asked: (u64, Option<u64>), passed: (u64, u64), expected: bool| {
            let mut settings = ProxySettings::default();
            settings.requests = asked.0;
            settings.responses = asked.1;
            let counts = Counts { requests: passed.0, responses: passed.1 };
            assert_eq!(counts.are_answered(&settings), expected, "{asked:?} {passed:?}");
        };
        check((0, None), (1, 9), false);
        check((0, Some(0)), (1, 0), true);
        check((0, Some(1)), (2, 1), false);
        check((0, Some(1)), (2, 2), true);
        check((2, Some(1)), (1, 1), false);
        check((2, Some(1)), (2, 2), true);
        check((1, None), (1, 1), false);
    }
}
