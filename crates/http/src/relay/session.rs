//! A connection to a peer for a session of `stream`: the peers of an upstream are tried until one can be connected to.
//!
//! Peers, failures, retries, TLS and the local address are those of requests; only nothing is asked.

use std::rc::Rc;
use std::sync::Arc;

use ::upstream::{Admin, Health, NoPeer, Outcome, PeerId};
use conf::resources::SocketKind;
use net::Stream;
use os::errlog::Level;
use os::socket::Kind;

use super::exchange::Trouble;
use super::upstream::HeadMoment;
use super::{Connected, Protocol, Relay, RelaySettings, end_state, now, target};
use crate::request::Request;

/// The status of a session that no peer could be had for.
const BAD_GATEWAY: u16 = 502;
/// The status of one that this side could not go on with.
const INTERNAL: u16 = 500;
/// The status of one that was served.
const SERVED: u16 = 200;

/// A peer that is connected to.
pub struct Reached<'a> {
    relay: Relay<'a>,
    conn: Connected,
}

/// Tries peers until one is connected to and greeted.
///
/// # Errors
/// The status that the session ends with. Why is logged.
pub async fn reach<'a>(
    r: &mut Request,
    protocol: &'a dyn Protocol,
    settings: &'a RelaySettings,
) -> Result<Reached<'a>, u16> {
    // Also who has sent all and goes is to be heard.
    r.ignores_client_abort = true;
    let found = match protocol.target(r) {
        Ok(target) => Box::pin(target::find(r, target)).await,
        Err(outcome) => Err(outcome),
    };
    let Ok(upstream) = found else { return Err(INTERNAL) };
    let mut relay = Relay::new(r, protocol, settings, upstream);
    match r.conn.kind {
        SocketKind::Stream => relay.greeting = protocol.greeting(r),
        SocketKind::Datagram => relay.kind = Kind::Datagram,
    }
    loop {
        let conn = relay.connect_to_next(r).await?;
        if let Some(conn) = conn {
            return Ok(Reached { relay, conn });
        }
    }
}

impl Relay<'_> {
    /// Connects to a peer; none where another one is to be tried.
    async fn connect_to_next(&mut self, r: &mut Request) -> Result<Option<Connected>, u16> {
        if let Err(NoPeer) = self.pick(r) {
            self.begin_state(r, Arc::from(&*self.upstream.name), None);
            end_state(r);
            r.log(Level::Error, format_args!("no live upstreams while connecting to upstream"));
            return Err(BAD_GATEWAY);
        }
        let Some(peer) = self.attempt.peer().cloned() else { return Err(INTERNAL) };
        self.begin_state(r, Arc::clone(&peer.name), None);
        let deadline = Rc::clone(&r.peer_deadline);
        let opened = match self.wanted(r) {
            Ok(wanted) => self.open(r, &peer, wanted.as_ref(), &deadline).await,
            Err(trouble) => Err(trouble),
        };
        deadline.clear();
        match opened {
            Ok(conn) => {
                self.attempt.connected(now());
                if self.upstream.head_moment == HeadMoment::Connected {
                    self.attempt.head_seen(now());
                }
                Ok(Some(conn))
            }
            Err(Trouble::Client(_)) => {
                end_state(r);
                Err(INTERNAL)
            }
            Err(Trouble::Peer(failure)) => {
                end_state(r);
                match self.give_up(r, &failure) {
                    Some(_) => Err(BAD_GATEWAY),
                    None => Ok(None),
                }
            }
        }
    }
}

impl Reached<'_> {
    /// The connection.
    #[must_use]
    pub fn stream(&self) -> &Stream {
        self.conn.stream()
    }

    /// Has small pieces leave at once.
    pub fn send_small_pieces(&self) {
        self.conn.send_small_pieces();
    }

    /// Bytes that the peer was sent before all others.
    #[must_use]
    pub fn greeted(&self) -> u64 {
        self.relay.greeting.len() as u64
    }

    /// Whether the peer takes no sessions any more: it was removed from its group, or it is down or unhealthy.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        let Some(own) = self.relay.attempt.peer() else { return true };
        let group = self.relay.upstream.group();
        let Some(peer) = group.find(own.uid(), PeerId(0)).and_then(|id| group.peer(id)) else { return true };
        peer.admin == Admin::Down || peer.counters().health == Health::Unhealthy
    }

    /// The first byte has come from the peer.
    pub fn heard(&mut self, r: &mut Request) {
        let Some(state) = r.upstreams.last_mut().filter(|state| state.header_ms.is_none()) else { return };
        state.header_ms = Some(net::timer::now_ms().saturating_sub(state.started_ms));
        if self.relay.upstream.head_moment == HeadMoment::FirstByte {
            self.relay.attempt.head_seen(now());
        }
    }

    /// The peer has failed: gives it back.
    pub fn fail(mut self, r: &mut Request) {
        end_state(r);
        if let Some(state) = r.upstreams.last_mut() {
            state.status = BAD_GATEWAY;
        }
        self.relay.count_attempt(r);
        if let Some(notice) = self.relay.attempt.release(Outcome::Failure, now()) {
            r.log(Level::Warn, format_args!("{notice}"));
        }
    }

    /// The session is over: gives the peer back. What it has moved is known to the session's last attempt.
    pub fn finish(mut self, r: &mut Request) {
        end_state(r);
        if let Some(state) = r.upstreams.last_mut() {
            state.status = SERVED;
        }
        self.relay.succeed(r);
    }
}
