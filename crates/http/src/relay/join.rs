//! Connections that requests share: one that has room, one that is on its way, or a new one for others to join.

use std::future::poll_fn;
use std::task::Poll;

use net::Deadline;
use os::errlog::Level;
use upstream::Peer;

use super::Relay;
use super::codec::Carrier;
use super::connect::{self, Connected, Link};
use super::exchange::{CONNECTING, Trouble, client_gone, not_connected};
use super::http2::{self, Found};
use super::settings::next;
use super::tls::Wanted;
use crate::request::Request;

/// How waiting for somebody else's connection ended.
enum Waited {
    /// It is there, or it is known that it never will be.
    Settled,
    ClientGone,
    TimedOut,
}

impl Relay<'_> {
    /// A connection to the peer that this request shares with others.
    pub(super) async fn join(
        &self,
        r: &mut Request,
        peer: &Peer,
        wanted: Option<&Wanted>,
        deadline: &Deadline,
    ) -> Result<Connected, Trouble> {
        let pool = self.upstream.pool();
        let key = connect::shared_key(peer, wanted, self.wire.channel());
        let mut connect_ms = None;
        deadline.set_after(self.settings.connect_timeout);
        loop {
            let opening = match http2::find(pool, &key) {
                Found::Connection(shared) => {
                    if let Some(state) = r.upstreams.last_mut() {
                        state.connect_ms = Some(connect_ms.unwrap_or(0));
                    }
                    return Ok(Connected::shared(shared, key));
                }
                Found::Wait(opening) => opening,
                Found::Open(ticket) => {
                    let conn = self.open(r, peer, wanted, deadline).await?;
                    let limits =
                        self.upstream.keepalive.map(|keepalive| keepalive.limits).unwrap_or_default();
                    return Ok(match conn.link {
                        Link::Own(pooled) => Connected::shared(ticket.share(pooled.conn, limits), key),
                        Link::Shared(_) => conn,
                    });
                }
            };
            let waited = poll_fn(|cx| {
                if opening.poll(cx).is_ready() {
                    return Poll::Ready(Waited::Settled);
                }
                if !self.settings.ignore_client_abort && r.poll_client_gone(cx).is_ready() {
                    return Poll::Ready(Waited::ClientGone);
                }
                deadline.poll_over(cx).map(|()| Waited::TimedOut)
            });
            match waited.await {
                Waited::Settled => {}
                Waited::ClientGone => return Err(Trouble::Client(client_gone(r, CONNECTING))),
                Waited::TimedOut => {
                    r.log(
                        Level::Error,
                        format_args!("upstream timed out (110: Connection timed out) while {CONNECTING}"),
                    );
                    return Err(not_connected(next::TIMEOUT));
                }
            }
            let started_ms = r.upstreams.last().map_or(0, |state| state.started_ms);
            connect_ms = Some(net::timer::now_ms().saturating_sub(started_ms));
        }
    }
}
