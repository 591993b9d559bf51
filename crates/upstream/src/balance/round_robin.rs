//! Smooth weighted round robin (`ngx_http_upstream_get_peer`).
//!
//! Each eligible peer gains its effective weight, the highest is picked and pays the sum: weights 5, 1, 1 give
//! a a b a c a a and not a a a a a b c.

use crate::eligible::Field;

/// The peer whose turn it is; a session's own peer goes before, but pays for it.
pub(super) fn pick(field: &Field<'_>, session: Option<usize>) -> Option<usize> {
    if let Some(index) = session {
        let peer = field.peers.get(index)?;
        let others = i64::try_from(field.total_weight()).unwrap_or(i64::MAX) - i64::from(peer.weight);
        if peer.state.current_weight.load() <= -others {
            // One request in a row is paid for; more would shut the peer out for others too long.
            return session;
        }
    }
    let (mut best, mut total) = (None, 0i64);
    for (index, peer) in field.open() {
        let (standing, added) = peer.advance();
        total = total.saturating_add(added);
        if best.is_none_or(|(_, highest)| standing > highest) {
            best = Some((index, standing));
        }
    }
    let picked = session.or(best.map(|(index, _)| index))?;
    field.peers.get(picked)?.pay(total);
    Some(picked)
}
