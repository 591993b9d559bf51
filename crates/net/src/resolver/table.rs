//! The names that are known or being asked for: a bounded cache, oldest out first.
//!
//! A hit only notes the time; an entry that was used since it was filed is filed anew instead of dropped.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::sync::watch;

use super::merge::Found;

/// What a table of names may hold: one unit for a name, one for each address, four for a service.
pub(super) const MAX_UNITS: usize = 16_384;
/// How many entries that are in use are passed over before one is dropped all the same.
const MAX_CHANCES: usize = 8;

/// What is known of a name.
#[derive(Debug)]
pub(super) struct Known {
    pub found: Found,
    /// Until when it holds, in milliseconds of [`crate::timer::now_ms`].
    pub valid_until_ms: u64,
}

impl Known {
    fn units(&self) -> usize {
        1 + match &self.found {
            Found::Addresses { v4, v6 } => v4.len() + v6.len(),
            Found::Services(list) => 4 * list.len(),
            Found::Pointer(_) | Found::Cname(_) | Found::Failed(_) => 0,
        }
    }
}

/// How those who wait for a lookup hear of its end.
pub(super) type Announcer = watch::Sender<Option<Arc<Known>>>;
/// Where one waits for the end of a lookup.
pub(super) type Waiter = watch::Receiver<Option<Arc<Known>>>;

enum Slot {
    /// A lookup is under way.
    Flying(Arc<Announcer>),
    /// The outcome of the last lookup.
    Landed { known: Arc<Known>, stamp: u64, filed_ms: AtomicU64, used_ms: AtomicU64 },
}

/// What a table says about a name.
pub(super) enum Lookup {
    /// It is known.
    Hit(Arc<Known>),
    /// Somebody is asking already.
    Join(Waiter),
    /// Nobody knows.
    Miss,
}

/// Names of one kind.
#[derive(Default)]
pub(super) struct Table {
    slots: HashMap<Arc<str>, Slot>,
    /// The landed ones by the order in which they were filed.
    order: BTreeMap<u64, Arc<str>>,
    next_stamp: u64,
    units: usize,
}

impl Table {
    /// Looks a name up.
    pub fn look_up(&self, name: &str, now_ms: u64) -> Lookup {
        match self.slots.get(name) {
            Some(Slot::Flying(announcer)) => Lookup::Join(announcer.subscribe()),
            Some(Slot::Landed { known, used_ms, .. }) if known.valid_until_ms > now_ms => {
                used_ms.store(now_ms, Relaxed);
                Lookup::Hit(Arc::clone(known))
            }
            _ => Lookup::Miss,
        }
    }

    /// Notes that a lookup is under way.
    pub fn start(&mut self, name: &Arc<str>, announcer: Arc<Announcer>) {
        self.remove(name);
        self.slots.insert(Arc::clone(name), Slot::Flying(announcer));
    }

    /// Notes the outcome of a lookup, if it still holds; others have to go where there is no room.
    pub fn land(&mut self, name: &Arc<str>, known: &Arc<Known>, now_ms: u64) {
        self.remove(name);
        let units = known.units();
        if known.valid_until_ms <= now_ms || units > MAX_UNITS {
            return;
        }
        while self.units + units > MAX_UNITS && self.drop_oldest() {}
        self.units += units;
        let stamp = self.file(name);
        let (filed_ms, used_ms) = (AtomicU64::new(now_ms), AtomicU64::new(now_ms));
        let slot = Slot::Landed { known: Arc::clone(known), stamp, filed_ms, used_ms };
        self.slots.insert(Arc::clone(name), slot);
    }

    /// Ends a lookup that has no outcome, if it is still this one.
    pub fn abandon(&mut self, name: &str, announcer: &Arc<Announcer>) {
        if let Some(Slot::Flying(known)) = self.slots.get(name)
            && Arc::ptr_eq(known, announcer)
        {
            self.slots.remove(name);
        }
    }

    /// Drops at most two names that nobody asked for since `unused_ms` (`ngx_resolver_expire`).
    pub fn expire(&mut self, now_ms: u64, unused_ms: u64) {
        for _ in 0..2 {
            let Some((_, name)) = self.order.first_key_value() else { return };
            let name = Arc::clone(name);
            let Some(Slot::Landed { filed_ms, used_ms, .. }) = self.slots.get(&name) else { return };
            if filed_ms.load(Relaxed).saturating_add(unused_ms) > now_ms {
                return;
            }
            if used_ms.load(Relaxed).saturating_add(unused_ms) > now_ms {
                self.refile(&name);
            } else {
                self.remove(&name);
            }
        }
    }

    fn file(&mut self, name: &Arc<str>) -> u64 {
        let stamp = self.next_stamp;
        self.next_stamp += 1;
        self.order.insert(stamp, Arc::clone(name));
        stamp
    }

    /// Puts a name behind all others, as if it had landed when it was last used.
    fn refile(&mut self, name: &Arc<str>) {
        let new_stamp = self.file(name);
        if let Some(Slot::Landed { stamp, filed_ms, used_ms, .. }) = self.slots.get_mut(name) {
            self.order.remove(stamp);
            *stamp = new_stamp;
            filed_ms.store(used_ms.load(Relaxed), Relaxed);
        }
    }

    fn remove(&mut self, name: &str) {
        if let Some(Slot::Landed { known, stamp, .. }) = self.slots.remove(name) {
            self.order.remove(&stamp);
            self.units -= known.units();
        }
    }

    /// Drops the name that was filed first among those not used since; whether there was one to drop.
    fn drop_oldest(&mut self) -> bool {
        for chance in 0..=MAX_CHANCES {
            let Some((_, name)) = self.order.first_key_value() else { return false };
            let name = Arc::clone(name);
            let in_use = match self.slots.get(&name) {
                Some(Slot::Landed { filed_ms, used_ms, .. }) => {
                    used_ms.load(Relaxed) > filed_ms.load(Relaxed)
                }
                _ => false,
            };
            if in_use && chance < MAX_CHANCES {
                self.refile(&name);
            } else {
                self.remove(&name);
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolver::ResolveError;

    fn known(valid_until_ms: u64) -> Arc<Known> {
        Arc::new(Known { found: Found::Failed(ResolveError::NotFound), valid_until_ms })
    }

    fn is_hit(table: &Table, name: &str, now_ms: u64) -> bool {
        matches!(table.look_up(name, now_ms), Lookup::Hit(_))
    }

    #[test]
    fn a_name_is_known_until_its_time_is_over() {
        let mut table = Table::default();
        table.land(&"a".into(), &known(100), 50);
        assert!(is_hit(&table, "a", 99));
        assert!(!is_hit(&table, "a", 100));
        table.land(&"b".into(), &known(50), 50);
        assert!(!is_hit(&table, "b", 50));
    }

    #[test]
    fn a_name_that_nobody_asks_for_is_forgotten() {
        let mut table = Table::default();
        table.land(&"used".into(), &known(u64::MAX), 0);
        table.land(&"unused".into(), &known(u64::MAX), 0);
        assert!(is_hit(&table, "used", 20));
        table.expire(30, 30);
        assert!(is_hit(&table, "used", 31) && !is_hit(&table, "unused", 31));
        table.expire(49, 30);
        assert!(is_hit(&table, "used", 49));
        table.expire(90, 30);
        assert!(table.slots.is_empty() && table.order.is_empty() && table.units == 0);
    }

    #[test]
    fn the_table_is_bounded_and_keeps_what_is_used() {
        let mut table = Table::default();
        table.land(&"kept".into(), &known(u64::MAX), 0);
        for number in 0..3 * MAX_UNITS as u64 {
            let now_ms = number + 1;
            table.land(&format!("n{number}").into(), &known(u64::MAX), now_ms);
            assert!(is_hit(&table, "kept", now_ms + 1));
        }
        assert_eq!(table.units, MAX_UNITS);
        assert_eq!((table.slots.len(), table.order.len()), (MAX_UNITS, MAX_UNITS));
    }

    #[test]
    fn an_abandoned_lookup_leaves_nothing() {
        let mut table = Table::default();
        let (first, second) = (Arc::new(Announcer::default()), Arc::new(Announcer::default()));
        table.start(&"a".into(), Arc::clone(&first));
        assert!(matches!(table.look_up("a", 0), Lookup::Join(_)));
        table.start(&"a".into(), Arc::clone(&second));
        table.abandon("a", &first);
        assert!(matches!(table.look_up("a", 0), Lookup::Join(_)));
        table.abandon("a", &second);
        assert!(table.slots.is_empty());
    }
}
