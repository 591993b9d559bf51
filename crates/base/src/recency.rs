//! The order in which the entries of a vector were used, threaded through the entries themselves.
//!
//! They name each other by index, so an entry comes to the front, or goes, without anything being allocated or searched.

const NIL: u32 = u32::MAX;

/// Who was used before and after an entry; a part of it. An entry that is in no order has nobody.
#[derive(Clone, Copy, Debug)]
pub struct Neighbours {
    newer: u32,
    older: u32,
}

impl Neighbours {
    /// The entry that was used before.
    #[inline]
    #[must_use]
    pub fn older(self) -> Option<u32> {
        (self.older != NIL).then_some(self.older)
    }
}

impl Default for Neighbours {
    fn default() -> Self {
        Self { newer: NIL, older: NIL }
    }
}

/// An entry that stands in such an order.
pub trait Ordered {
    /// Its neighbours.
    fn neighbours(&mut self) -> &mut Neighbours;
}

/// The ends of the order.
///
/// # Panics
/// Its functions, for an index behind the entries.
#[derive(Clone, Copy, Debug)]
pub struct Recency {
    newest: u32,
    oldest: u32,
}

impl Default for Recency {
    fn default() -> Self {
        Self { newest: NIL, oldest: NIL }
    }
}

impl Recency {
    /// The entry that was used longest ago.
    #[inline]
    #[must_use]
    pub fn oldest(&self) -> Option<u32> {
        (self.oldest != NIL).then_some(self.oldest)
    }

    /// The entry that was used last.
    #[inline]
    #[must_use]
    pub fn newest(&self) -> Option<u32> {
        (self.newest != NIL).then_some(self.newest)
    }

    /// Puts an entry in front that is in no order.
    pub fn insert<E: Ordered>(&mut self, entries: &mut [E], at: u32) {
        let older = std::mem::replace(&mut self.newest, at);
        *entries[at as usize].neighbours() = Neighbours { newer: NIL, older };
        match entries.get_mut(older as usize) {
            Some(older) => older.neighbours().newer = at,
            None => self.oldest = at,
        }
    }

    /// Takes an entry out.
    pub fn remove<E: Ordered>(&mut self, entries: &mut [E], at: u32) {
        let Neighbours { newer, older } = std::mem::take(entries[at as usize].neighbours());
        match entries.get_mut(newer as usize) {
            Some(newer) => newer.neighbours().older = older,
            None => self.newest = older,
        }
        match entries.get_mut(older as usize) {
            Some(older) => older.neighbours().newer = newer,
            None => self.oldest = newer,
        }
    }

    /// Brings an entry to the front.
    #[inline]
    pub fn touch<E: Ordered>(&mut self, entries: &mut [E], at: u32) {
        if self.newest != at {
            self.remove(entries, at);
            self.insert(entries, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Entry(Neighbours);

    impl Ordered for Entry {
        fn neighbours(&mut self) -> &mut Neighbours {
            &mut self.0
        }
    }

    #[test]
    fn it_does_what_a_list_would() {
        let mut entries = vec![Entry::default(); 16];
        let mut order = Recency::default();
        // The oldest first.
        let mut list: Vec<u32> = Vec::new();
        let mut random = 1u64;
        for _ in 0..10_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = (random >> 33) as u32 % 16;
            match (list.iter().position(|known| *known == at), random >> 62) {
                (None, _) => {
                    order.insert(&mut entries, at);
                    list.push(at);
                }
                (Some(place), 0) => {
                    order.remove(&mut entries, at);
                    list.remove(place);
                }
                (Some(place), _) => {
                    order.touch(&mut entries, at);
                    list.remove(place);
                    list.push(at);
                }
            }
            assert_eq!((order.oldest(), order.newest()), (list.first().copied(), list.last().copied()));
        }
        for at in list {
            assert_eq!(order.oldest(), Some(at));
            order.remove(&mut entries, at);
        }
        assert_eq!((order.oldest(), order.newest()), (None, None));
    }
}
