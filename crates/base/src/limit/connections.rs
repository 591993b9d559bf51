//! Numbers of connections by key (`ngx_http_limit_conn_module`, `ngx_stream_limit_conn_module`).
//!
//! What is counted holds a [`Held`]; wherever that is dropped, the connection is counted no more.

use std::fmt;
use std::sync::Arc;

use super::shards::Shards;
use crate::lru::Place;

/// Bytes of an entry in nginx: the node of its tree and the state in front of the key.
const HEAD: u64 = 36;

/// The state of a zone: how many connections there are, per key.
pub struct ConnectionTable {
    shards: Shards<u32>,
}

impl fmt::Debug for ConnectionTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConnectionTable")
    }
}

/// One connection that is counted.
#[derive(Debug)]
#[must_use = "the connection is counted for as long as this lives"]
pub struct Held {
    table: Arc<ConnectionTable>,
    shard: u32,
    place: Place,
}

/// The answer for one connection.
#[derive(Debug)]
pub enum Entered {
    /// It is counted.
    Held(Held),
    /// There are as many as there may be.
    Exceeded,
    /// There is no room for its key.
    Full,
}

impl ConnectionTable {
    /// The state of a zone of `size` bytes. As many keys fit as fit into nginx's.
    #[must_use]
    pub fn new(size: u64) -> Arc<Self> {
        Arc::new(Self { shards: Shards::new(size, HEAD) })
    }

    /// Counts a connection, unless there are `limit` already.
    pub fn enter(self: &Arc<Self>, key: &[u8], limit: u32) -> Entered {
        let hash = self.shards.hash(key);
        let shard = self.shards.number(hash);
        let mut table = self.shards.shard(shard).lock();
        let place = if let Some(place) = table.find(hash, key) {
            let count = table.value_mut(place);
            if *count >= limit {
                return Entered::Exceeded;
            }
            *count += 1;
            place
        } else {
            if !self.shards.take_room(key) {
                return Entered::Full;
            }
            table.insert(hash, key, 1)
        };
        Entered::Held(Held { table: Arc::clone(self), shard, place })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let shards = &self.table.shards;
        let mut table = shards.shard(self.shard).lock();
        let count = table.value_mut(self.place);
        *count -= 1;
        if *count == 0 {
            shards.give_room(table.remove(self.place));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_while_they_live() {
        let table = ConnectionTable::new(65536);
        let enter = |key: &str| match table.enter(key.as_bytes(), 2) {
            Entered::Held(held) => Some(held),
            Entered::Exceeded => None,
            Entered::Full => panic!("full"),
        };
        let (first, second) = (enter("a"), enter("a"));
        assert!(first.is_some() && second.is_some() && enter("a").is_none());
        assert!(enter("b").is_some());
        drop(first);
        let third = enter("a");
        assert!(third.is_some() && enter("a").is_none());
        drop((second, third));
        assert_eq!(table.shards.len(), 0);
    }

    #[test]
    fn a_full_zone_takes_no_further_key() {
        let table = ConnectionTable::new(32768);
        let held: Vec<Held> = (0..6 * 64)
            .map(|number| match table.enter(format!("{number:4}").as_bytes(), 1) {
                Entered::Held(held) => held,
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(matches!(table.enter(b"more", 1), Entered::Full));
        drop(held);
        assert!(matches!(table.enter(b"more", 1), Entered::Held(_)));
    }

    #[test]
    fn threads_never_exceed_the_limit() {
        let table = ConnectionTable::new(1 << 20);
        let most = std::sync::atomic::AtomicU32::new(0);
        let now = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..5000 {
                        if let Entered::Held(held) = table.enter(b"k", 2) {
                            let count = now.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
                            most.fetch_max(count, std::sync::atomic::Ordering::SeqCst);
                            now.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                            drop(held);
                        }
                    }
                });
            }
        });
        assert!(most.into_inner() <= 2);
        assert_eq!(table.shards.len(), 0);
    }
}
