//! The attempts of one request at the peers of a group: pick, release, pick the next.
//!
//! Dropping it gives back a peer that is still held, so a request that is cancelled anywhere leaks no connection
//! from the counters.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::balance::least_time::{self, Counting, Spent};
use crate::balance::{Key, Walk};
use crate::eligible::{Field, Tried};
use crate::group::Group;
use crate::now::Now;
use crate::peer::{Peer, PeerId};
use crate::server::Role;

/// No peer of the group may be tried; nginx logs `no live upstreams` and answers 502.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no live upstreams")]
pub struct NoPeer;

/// How an attempt at a peer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The peer answered, or the client went away: nothing is held against the peer.
    Success,
    /// The peer failed: it counts against `max_fails` (`NGX_PEER_FAILED`).
    Failure,
    /// Another peer is asked though this one works: its answer was 403 or 404 (`NGX_PEER_NEXT`).
    Next,
}

/// What the error log must tell, with level `warn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The failures of the peer reached `max_fails`.
    Disabled,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disabled => f.write_str("upstream server temporarily disabled"),
        }
    }
}

/// One request's way through the peers of a group; holds at most one peer at a time.
#[derive(Debug)]
pub struct Attempt {
    group: Arc<Group>,
    set: Role,
    tried: Tried,
    tries: u32,
    held: Option<Held>,
    session: Option<Box<str>>,
    walk: Walk,
}

/// The peer that is being tried.
#[derive(Clone, Copy, Debug)]
struct Held {
    id: PeerId,
    since: Now,
    head_ms: Option<u64>,
    counting: Counting,
}

impl Attempt {
    pub(crate) fn new(group: Arc<Group>) -> Self {
        Self {
            tried: Tried::new(group.len()),
            tries: group.tries(),
            set: Role::Primary,
            held: None,
            session: None,
            walk: Walk::default(),
            group,
        }
    }

    /// The group that the peers are picked from.
    #[must_use]
    pub fn group(&self) -> &Arc<Group> {
        &self.group
    }

    /// Attempts that are left; at 0 the request must not be passed on to a next peer.
    #[must_use]
    pub fn tries(&self) -> u32 {
        self.tries
    }

    /// Lowers the attempts to `limit` (`proxy_next_upstream_tries`); 0 is no limit.
    pub fn limit_tries(&mut self, limit: u32) {
        if limit > 0 {
            self.tries = self.tries.min(limit);
        }
    }

    /// Allows one attempt more, when the one that failed was on a reused connection that had gone stale.
    pub fn grant_try(&mut self) {
        self.tries = self.tries.saturating_add(1);
    }

    /// Prefers the peer with that [`sid`](Peer::sid), as long as it may be tried.
    pub fn prefer(&mut self, sid: &str) {
        self.session = Some(sid.into());
    }

    /// The peer that is held.
    #[must_use]
    pub fn peer(&self) -> Option<&Peer> {
        self.group.peer(self.held?.id)
    }

    /// Picks a peer and counts a connection to it; one that is still held is released first, as [`Outcome::Next`].
    ///
    /// # Errors
    /// [`NoPeer`] when neither a primary nor a backup may be tried.
    pub fn pick(&mut self, key: Key<'_>, now: Now) -> Result<PeerId, NoPeer> {
        if self.held.is_some() {
            self.release(Outcome::Next, now);
        }
        let held = match self.pick_alone(now) {
            Some(held) => held,
            None => self.pick_in_turn(key, now)?,
        };
        self.held = Some(held);
        Ok(held.id)
    }

    /// The one peer of a group without choice and limit: nothing must agree with anything, so no lock is taken.
    #[inline]
    fn pick_alone(&self, now: Now) -> Option<Held> {
        let (first, peers) = self.group.set(Role::Primary);
        let [peer] = peers else { return None };
        let field = Field { group: &self.group, peers, first, tried: &self.tried, now };
        if !self.group.is_single() || peer.max_conns > 0 || !field.eligible(0) {
            return None;
        }
        count(peer);
        Some(Held { id: PeerId(0), since: now, head_ms: None, counting: Counting::Idle })
    }

    fn pick_in_turn(&mut self, key: Key<'_>, now: Now) -> Result<Held, NoPeer> {
        let group = &*self.group;
        let _turn = group.lock();
        let mut balancer = group.balancer();
        loop {
            let (first, peers) = group.set(self.set);
            let field = Field { group, peers, first, tried: &self.tried, now };
            let session = self.session.as_deref().and_then(|sid| field.of_session(sid));
            let index = balancer.pick(&field, session, &mut self.walk, key);
            if let Some((index, peer)) = index.and_then(|index| Some((index, peers.get(index)?))) {
                let place = first + index;
                self.tried.insert(place);
                let counting = least_time::begin(balancer, group, peer, now);
                if peer.window_is_over(now) {
                    peer.state.checked_sec.store(now.sec());
                }
                count(peer);
                let id = PeerId(u32::try_from(place).unwrap_or(u32::MAX));
                return Ok(Held { id, since: now, head_ms: None, counting });
            }
            if self.set == Role::Backup || group.set(Role::Backup).1.is_empty() {
                return Err(NoPeer);
            }
            self.set = Role::Backup;
            balancer = balancer.after_primaries();
        }
    }

    /// Tells that a connection for a byte stream stands: a peer that was let try again has passed. `stream` alone
    /// counts that as success (`ngx_stream_upstream_notify_round_robin_peer`).
    pub fn connected(&mut self) {
        let Some(peer) = self.peer() else { return };
        if peer.state.fails.load() > 0 {
            let _turn = self.group.lock();
            peer.state.forgive();
        }
    }

    /// Tells that what `least_time` measures is there: the answer's head, or for `stream` the connection or the
    /// first byte.
    pub fn head_seen(&mut self, now: Now) {
        let Some(held) = &mut self.held else { return };
        let head_ms = now.ms().saturating_sub(held.since.ms());
        held.head_ms = Some(head_ms);
        if let Some(peer) = self.group.peer(held.id) {
            held.counting = least_time::head_seen(&self.group, peer, held.counting, head_ms, now);
        }
    }

    /// Gives back the peer that is held, if one is; what is returned belongs in the error log.
    pub fn release(&mut self, outcome: Outcome, now: Now) -> Option<Notice> {
        let held = self.held.take()?;
        let group = &*self.group;
        let peer = group.peer(held.id)?;
        self.tries = if group.is_single() { 0 } else { self.tries.saturating_sub(1) };
        let spent = Spent { since: held.since, head_ms: held.head_ms, counting: held.counting };
        least_time::end(group, peer, spent, outcome, now);
        let notice = settle(group, peer, outcome, now);
        peer.state.conns.fetch_sub(1, Relaxed);
        notice
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(held) = self.held {
            self.release(Outcome::Next, held.since);
        }
    }
}

#[inline]
fn count(peer: &Peer) {
    peer.state.conns.fetch_add(1, Relaxed);
    peer.state.requests.fetch_add(1, Relaxed);
}

/// Counts or clears failures (`ngx_http_upstream_free_round_robin_peer`); the common case takes no lock.
#[inline]
fn settle(group: &Group, peer: &Peer, outcome: Outcome, now: Now) -> Option<Notice> {
    if outcome != Outcome::Failure && peer.state.fails.load() == 0 {
        return None;
    }
    let _turn = group.lock();
    if group.is_single() {
        peer.state.fails.store(0);
    } else if outcome == Outcome::Failure {
        return peer.fail(now).then_some(Notice::Disabled);
    } else {
        peer.state.forgive();
    }
    None
}
