//! Bytes both ways between a client and a peer, until one has said all, or both have (`proxy_half_close`).

use std::future::poll_fn;
use std::task::Poll;

use http::Request;
use http::logging::Traffic;
use http::relay::pipe::{End, Pipe};
use http::relay::session::Reached;
use net::Deadline;
use os::errlog::Level;

use crate::proxy::ProxySettings;

/// How a session ends.
enum Over {
    /// The client has said all.
    Client,
    /// The peer has said all.
    Upstream,
    /// Nothing moved for `proxy_timeout`.
    TimedOut,
    /// The peer takes no sessions any more, and those that it has are dropped.
    Lost,
}

/// Moves bytes until the session is over, and tells the log.
pub(crate) async fn run(r: &mut Request, reached: &mut Reached<'_>, settings: &ProxySettings) {
    let conn = std::rc::Rc::clone(&r.conn);
    let piece = settings.relay.buffer_size.max(1);
    let rate = |rate: &Option<http::variables::Template>| rate.as_ref().map_or(0, |rate| rate.size(r));
    let (upload, download) = (rate(&settings.upload_rate), rate(&settings.download_rate));
    let mut up = Pipe::new(conn.take_leftover(), 0, piece, None).paced(upload);
    let mut down = Pipe::new(net::Buf::empty(), 0, piece, None).paced(download);
    let idle = Deadline::new();
    let timeout_ms = settings.relay.read_timeout;
    idle.set_after(timeout_ms);
    conn.deadline.clear();
    let mut seen = 0;
    let over = poll_fn(|cx| {
        // As nginx: when something happens on either side, not before.
        if settings.session_drop && reached.is_lost() {
            return Poll::Ready(Over::Lost);
        }
        let (client, peer) = (End::Socket(&conn.stream), End::Socket(reached.stream()));
        let from_client = up.poll(cx, &client, &peer);
        let from_peer = down.poll(cx, &peer, &client);
        r.received = up.taken;
        r.output.sent = down.moved;
        if let Some(state) = r.upstreams.last_mut() {
            state.received = down.taken;
            state.sent = reached.greeted() + up.moved;
        }
        if down.taken > 0 {
            reached.heard(r);
        }
        let moved = up.taken + up.moved + down.taken + down.moved;
        if up.is_held_back() || down.is_held_back() {
            // Who is held back on purpose is not late.
            idle.clear();
            seen = u64::MAX;
        } else if moved != seen {
            seen = moved;
            idle.set_after(timeout_ms);
        }
        match (from_client, from_peer) {
            (Poll::Ready(_), Poll::Ready(_)) => return Poll::Ready(Over::Upstream),
            (Poll::Ready(Err(_)), _) => return Poll::Ready(Over::Client),
            (_, Poll::Ready(Err(_))) => return Poll::Ready(Over::Upstream),
            (Poll::Ready(Ok(())), _) if !settings.half_close => return Poll::Ready(Over::Client),
            (_, Poll::Ready(Ok(()))) if !settings.half_close => return Poll::Ready(Over::Upstream),
            _ => {}
        }
        // Also so that whoever ends the connection from outside wakes this task.
        let _ = conn.deadline.poll_over(cx);
        idle.poll_over(cx).map(|()| Over::TimedOut)
    })
    .await;
    tell(r, &over);
}

fn tell(r: &Request, over: &Over) {
    let who = match over {
        Over::Lost => {
            r.log(Level::Info, format_args!("session dropped while proxying connection"));
            return;
        }
        Over::Client => "client",
        Over::Upstream => "upstream",
        Over::TimedOut => {
            r.log(
                Level::Info,
                format_args!("connection timed out (110: Connection timed out) while proxying connection"),
            );
            return;
        }
    };
    if r.logs(Level::Info) {
        let Traffic { from_client, to_client, from_upstream, to_upstream } = Traffic::of(r);
        r.error_log().log_for(
            Level::Info,
            r.conn.scope(),
            format_args!(
                "{who} disconnected, bytes from/to client:{from_client}/{to_client}, \
                 bytes from/to upstream:{from_upstream}/{to_upstream}"
            ),
        );
    }
}
