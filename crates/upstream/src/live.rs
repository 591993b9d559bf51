//! A group that changes while it runs: new addresses of a name, servers added and removed by the API.
//!
//! Each change makes a new snapshot beside the old one; requests read the pointer and never wait for it.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use os::socket::PeerAddr;

use crate::attempt::Attempt;
use crate::group::{Group, GroupError, Member, Origin, Policy, Server};
use crate::now::Now;
use crate::peer::Health;
use crate::server::Resolve;

/// Whether peers wait for active health checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Checked {
    /// Nobody checks them.
    #[default]
    No = 0,
    /// They take requests until a check fails.
    Optional = 1,
    /// `mandatory`: they take none before a check has passed.
    Mandatory = 2,
    /// `mandatory persistent`: as before, but those known to be healthy stay so through a reload.
    Persistent = 3,
}

/// The servers of a group and the snapshot that is made of them.
#[derive(Debug)]
pub struct Live {
    name: Box<str>,
    policy: Policy,
    roster: Mutex<Roster>,
    group: RwLock<Arc<Group>>,
    checked: AtomicU8,
}

#[derive(Debug)]
struct Roster {
    servers: Vec<Server>,
    next_id: u32,
}

/// The servers of a group while they are changed.
#[derive(Debug)]
pub struct Edit<'a> {
    /// The servers in the order of the configuration.
    pub servers: Vec<Server>,
    next_id: &'a mut u32,
    started: Vec<u32>,
}

impl Live {
    /// A group as an `upstream` block declares it.
    ///
    /// # Errors
    /// As [`Group::new`].
    pub fn new(name: &str, servers: Vec<Server>, policy: Policy) -> Result<Self, GroupError> {
        Self::made(name, servers, policy, Group::new)
    }

    /// A group whose servers a `state` file holds: there may be none.
    ///
    /// # Errors
    /// As [`Group::of`].
    pub fn of(name: &str, servers: Vec<Server>, policy: Policy) -> Result<Self, GroupError> {
        Self::made(name, servers, policy, Group::of)
    }

    fn made(
        name: &str,
        mut servers: Vec<Server>,
        policy: Policy,
        make: fn(&str, &[Server], Policy) -> Result<Group, GroupError>,
    ) -> Result<Self, GroupError> {
        let mut next_id = 0;
        for server in &mut servers {
            number(server, &mut next_id);
        }
        let group = make(name, &servers, policy.clone())?;
        Ok(Self {
            name: name.into(),
            policy,
            roster: Mutex::new(Roster { servers, next_id }),
            group: RwLock::new(Arc::new(group)),
            checked: AtomicU8::new(Checked::No as u8),
        })
    }

    /// The peers as they are now.
    #[inline]
    #[must_use]
    pub fn group(&self) -> Arc<Group> {
        Arc::clone(&self.group.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Begins the attempts of one request at the peers as they are now.
    #[inline]
    #[must_use]
    pub fn attempt(&self) -> Attempt {
        Attempt::new(self.group())
    }

    /// The servers as they are now.
    #[must_use]
    pub fn servers(&self) -> Vec<Server> {
        self.roster().servers.clone()
    }

    /// What the group does besides spreading requests.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Says at load whether peers wait for active checks.
    pub fn set_checked(&self, checked: Checked) {
        self.checked.store(checked as u8, Relaxed);
        let health = self.initial_health();
        let group = self.group();
        for (_, _, peer) in group.peers() {
            group.set_health(peer, health, Now::from_ms(0));
        }
    }

    /// Whether peers wait for active checks.
    #[must_use]
    pub fn checked(&self) -> Checked {
        match self.checked.load(Relaxed) {
            1 => Checked::Optional,
            2 => Checked::Mandatory,
            3 => Checked::Persistent,
            _ => Checked::No,
        }
    }

    fn initial_health(&self) -> Health {
        match self.checked() {
            Checked::No | Checked::Optional => Health::Unchecked,
            Checked::Mandatory | Checked::Persistent => Health::Checking,
        }
    }

    /// Changes the servers; where that succeeds, new requests see it at once. It may take a while in large groups.
    ///
    /// # Errors
    /// What `change` says, and then nothing has changed; or that there are too many servers.
    pub fn change<T, E: From<GroupError>>(
        &self,
        now: Now,
        change: impl FnOnce(&mut Edit<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut roster = self.roster();
        let mut next_id = roster.next_id;
        let mut edit = Edit { servers: roster.servers.clone(), next_id: &mut next_id, started: Vec::new() };
        let done = change(&mut edit)?;
        let Edit { servers, started, .. } = edit;
        let mut group = Group::of(&self.name, &servers, self.policy.clone())?;
        let health = self.initial_health();
        for (_, _, peer) in group.peers() {
            peer.set_health(health, now);
        }
        group.adopt(&self.group());
        for (_, _, peer) in group.peers().filter(|(_, _, peer)| started.contains(&peer.id)) {
            group.begin_slow_start(peer, now);
        }
        let before = {
            let mut slot = self.group.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *slot, Arc::new(group))
        };
        roster.servers = servers;
        roster.next_id = next_id;
        drop(roster);
        // A large group takes a while to free, too.
        drop(before);
        Ok(done)
    }

    /// Takes the answer to the name of a server over; whether anything changed.
    ///
    /// # Errors
    /// [`GroupError::TooManyServers`].
    pub fn resolved(&self, server: u32, found: &[(PeerAddr, Origin)], now: Now) -> Result<bool, GroupError> {
        let is_news = |known: &Server| {
            let had: HashSet<_> = known.members.iter().map(|member| (&member.addr, &member.origin)).collect();
            known.members.len() != found.len()
                || !found.iter().all(|(addr, origin)| had.contains(&(addr, origin)))
        };
        if !self.roster().servers.iter().find(|known| known.id == server).is_some_and(is_news) {
            return Ok(false);
        }
        self.change(now, |edit| {
            edit.set_members(server, found);
            Ok(true)
        })
    }

    /// Goes on with the running state of the same group of an earlier configuration, the addresses of names among
    /// it; called before the first request.
    pub fn inherit(&self, earlier: &Self, now: Now) {
        let known = earlier.servers();
        let done: Result<(), GroupError> = self.change(now, |edit| {
            edit.take_addresses(&known);
            Ok(())
        });
        // There were no more servers a moment ago.
        debug_assert!(done.is_ok());
        let mut slot = self.group.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(group) = Arc::get_mut(&mut slot) {
            group.adopt(&earlier.group());
        }
        for (_, _, peer) in slot.peers() {
            match self.checked() {
                Checked::No => slot.set_health(peer, Health::Unchecked, now),
                Checked::Mandatory => slot.set_health(peer, Health::Checking, now),
                Checked::Persistent if peer.counters().health == Health::Unchecked => {
                    slot.set_health(peer, Health::Checking, now);
                }
                Checked::Optional if peer.counters().health == Health::Checking => {
                    slot.set_health(peer, Health::Unchecked, now);
                }
                Checked::Optional | Checked::Persistent => {}
            }
        }
    }

    fn roster(&self) -> MutexGuard<'_, Roster> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Edit<'_> {
    /// Adds a server and gives it its number.
    pub fn add(&mut self, mut server: Server) -> u32 {
        number(&mut server, self.next_id);
        let id = server.id;
        self.servers.push(server);
        id
    }

    /// The server of that number, or the one that an address of that number belongs to.
    pub fn server(&mut self, id: u32) -> Option<&mut Server> {
        self.servers.iter_mut().find(|server| server.id == id)
    }

    /// Has the peers of a server that was away begin their slow start.
    pub fn returns(&mut self, id: u32) {
        let server = self.servers.iter().filter(|server| server.id == id);
        self.started.extend(server.flat_map(|server| server.members.iter().map(|member| member.id)));
    }

    /// Gives a server the addresses that its name has now; those that stay keep their numbers.
    fn set_members(&mut self, server: u32, found: &[(PeerAddr, Origin)]) {
        let Some(server) = self.servers.iter_mut().find(|known| known.id == server) else { return };
        let mut known: HashMap<PeerAddr, Vec<Member>> = HashMap::new();
        for member in server.members.drain(..) {
            known.entry(member.addr.clone()).or_default().push(member);
        }
        // Those that stay stand in their order, as in nginx; what is new comes behind them.
        let mut fresh = Vec::new();
        for (addr, origin) in found {
            let same = known.get_mut(addr).and_then(|members| {
                let at = members.iter().position(|member| is_same(member, addr, origin))?;
                Some(members.swap_remove(at))
            });
            match same {
                Some(member) => server.members.push(member),
                None => {
                    let id = *self.next_id;
                    *self.next_id = self.next_id.saturating_add(1);
                    fresh.push(Member { id, addr: addr.clone(), origin: origin.clone() });
                }
            }
        }
        server.members.sort_by_key(|member| member.id);
        server.members.extend(fresh);
    }

    /// Gives names that have no address yet those that they had before (`ngx_http_upstream_zone_preresolve`).
    fn take_addresses(&mut self, known: &[Server]) {
        let waiting: Vec<(u32, Vec<(PeerAddr, Origin)>)> = self
            .servers
            .iter()
            .filter(|server| server.lacks_addresses())
            .filter_map(|server| {
                let named = server.named.as_ref()?;
                let is_same = |other: &&Server| {
                    other.spec.service == server.spec.service
                        && other.named.as_ref().is_some_and(|name| name.host == named.host)
                        && !other.lacks_addresses()
                };
                let before = known.iter().find(is_same)?;
                let at_own_port = |member: &Member| match (&member.addr, &member.origin) {
                    (PeerAddr::Inet(addr), Origin::Name) => {
                        (PeerAddr::Inet((addr.ip(), named.port).into()), Origin::Name)
                    }
                    (addr, origin) => (addr.clone(), origin.clone()),
                };
                Some((server.id, before.members.iter().map(at_own_port).collect()))
            })
            .collect();
        for (server, found) in waiting {
            self.set_members(server, &found);
        }
    }
}

impl Server {
    fn lacks_addresses(&self) -> bool {
        match self.spec.resolve {
            Resolve::WhileRunning => self.members.is_empty(),
            Resolve::AtLoad => self.members.iter().all(|member| member.origin == Origin::Unresolved),
        }
    }
}

fn is_same(member: &Member, addr: &PeerAddr, origin: &Origin) -> bool {
    member.addr == *addr && member.origin == *origin
}

/// A server that is an address is its own peer; the addresses of a name have numbers of their own.
fn number(server: &mut Server, next_id: &mut u32) {
    let mut next = || {
        let id = *next_id;
        *next_id = next_id.saturating_add(1);
        id
    };
    server.id = next();
    for member in &mut server.members {
        member.id = if server.named.is_none() { server.id } else { next() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::Admin;
    use crate::testing::{requests, sec, server};
    use crate::{Balancer, Named, Role};

    fn live(lines: &[&str]) -> Live {
        let servers = lines.iter().map(|line| server(line)).collect();
        Live::new("backend", servers, Policy::from(Balancer::RoundRobin)).expect("servers")
    }

    fn name(text: &str, resolve: Resolve) -> Server {
        let mut server = server(&format!("{text}:80=10.0.0.1:8081"));
        server.members.clear();
        server.spec.resolve = resolve;
        server.named = Some(Named { host: text.into(), port: 8085 });
        server
    }

    fn found(ports: &[u16]) -> Vec<(PeerAddr, Origin)> {
        let addr = |port: &u16| (PeerAddr::Inet(([10, 0, 0, 1], *port).into()), Origin::Name);
        ports.iter().map(addr).collect()
    }

    fn ids(live: &Live) -> Vec<(u32, String)> {
        live.group().peers().map(|(_, _, peer)| (peer.id, peer.name.to_string())).collect()
    }

    #[test]
    fn addresses_come_and_go() {
        let live = Live::new("u", vec![name("x", Resolve::WhileRunning)], Policy::default()).expect("a name");
        assert_eq!(requests(&live.group(), 1, sec(0)), "-");
        assert_eq!(live.resolved(0, &found(&[8081, 8082]), sec(0)), Ok(true));
        assert_eq!(live.resolved(0, &found(&[8082, 8081]), sec(0)), Ok(false), "the order says nothing");
        assert_eq!(requests(&live.group(), 2, sec(0)), "ab");
        let held = live.group();
        let mut under_way = held.attempt();
        under_way.pick(crate::Key::Nothing, sec(0)).expect("a peer");
        assert_eq!(live.resolved(0, &found(&[8082, 8083]), sec(0)), Ok(true));
        assert_eq!(ids(&live), [(2, "10.0.0.1:8082".to_owned()), (3, "10.0.0.1:8083".to_owned())]);
        assert!(!requests(&live.group(), 6, sec(0)).contains('a'));
        assert!(
            under_way.release(crate::Outcome::Failure, sec(0)).is_some(),
            "ends on the snapshot it began with"
        );
        assert_eq!(live.resolved(0, &[], sec(0)), Ok(true));
        assert_eq!(requests(&live.group(), 1, sec(0)), "-");
    }

    #[test]
    fn services_bring_weights_and_backups() {
        let mut server = name("x", Resolve::WhileRunning);
        server.spec.service = Some("http".into());
        let live = Live::new("u", vec![server], Policy::default()).expect("a name");
        let record = |port, weight, role| {
            let addr = PeerAddr::Inet(([10, 0, 0, 1], port).into());
            (addr, Origin::Service("target".into(), weight, role))
        };
        let answer =
            [record(8081, 2, Role::Primary), record(8082, 1, Role::Primary), record(8083, 1, Role::Backup)];
        assert_eq!(live.resolved(0, &answer, sec(0)), Ok(true));
        assert_eq!(requests(&live.group(), 6, sec(0)), "abaaba");
        let names: Vec<_> =
            live.group().peers().map(|(_, role, peer)| (role, peer.server.to_string())).collect();
        assert_eq!(names.last(), Some(&(Role::Backup, "target".to_owned())));
    }

    #[test]
    fn servers_are_added_changed_and_removed() {
        let live = live(&["10.0.0.1:8081", "10.0.0.1:8082"]);
        let change = |edit: &dyn Fn(&mut Edit<'_>)| {
            let done: Result<(), GroupError> = live.change(sec(0), |servers| {
                edit(servers);
                Ok(())
            });
            done.expect("a change");
        };
        change(&|edit| assert_eq!(edit.add(server("10.0.0.1:8083")), 2));
        assert_eq!(requests(&live.group(), 3, sec(0)), "abc");
        change(&|edit| edit.server(0).expect("there").spec.admin = Admin::Down);
        assert_eq!(requests(&live.group(), 4, sec(0)), "bcbc");
        change(&|edit| edit.servers.retain(|server| server.id != 1));
        assert_eq!(requests(&live.group(), 2, sec(0)), "cc");
        change(&|edit| assert_eq!(edit.add(server("10.0.0.1:8082")), 3, "a number is given once"));
        let refused: Result<(), GroupError> = live.change(sec(0), |edit| {
            edit.servers.clear();
            Err(GroupError::NoServers)
        });
        assert!(refused.is_err());
        assert_eq!(live.servers().len(), 3, "what was refused has changed nothing");
    }

    #[test]
    fn a_reload_keeps_addresses_and_health() {
        let old = Live::new("u", vec![name("x", Resolve::WhileRunning)], Policy::default()).expect("a name");
        old.set_checked(Checked::Optional);
        old.resolved(0, &found(&[8081]), sec(0)).expect("resolved");
        let fail = || {
            let group = old.group();
            group.peers().for_each(|(_, _, peer)| group.set_health(peer, Health::Unhealthy, sec(0)));
        };
        for (checked, health) in [
            (Checked::No, Health::Unchecked),
            (Checked::Optional, Health::Unhealthy),
            (Checked::Mandatory, Health::Checking),
            (Checked::Persistent, Health::Unhealthy),
        ] {
            fail();
            let mut server = name("x", Resolve::WhileRunning);
            server.named = Some(Named { host: "x".into(), port: 8081 });
            let new = Live::new("u", vec![server], Policy::default()).expect("a name");
            new.set_checked(checked);
            new.inherit(&old, sec(0));
            let seen: Vec<_> = new
                .group()
                .peers()
                .map(|(_, _, peer)| (peer.name.to_string(), peer.counters().health))
                .collect();
            assert_eq!(seen, [("10.0.0.1:8081".to_owned(), health)], "{checked:?}");
        }
    }

    #[test]
    fn what_returns_starts_slowly() {
        let live = live(&["10.0.0.1:8081 slow_start=100s", "10.0.0.1:8082"]);
        let share = |at| requests(&live.group(), 100, sec(at)).matches('a').count();
        assert_eq!(share(0), 50, "what was never away has its whole weight");
        let done: Result<(), GroupError> = live.change(sec(1000), |edit| {
            edit.returns(0);
            Ok(())
        });
        done.expect("a change");
        assert_eq!(share(1000), 0);
        assert!((18..23).contains(&share(1025)), "a fifth after a quarter of the time: {}", share(1025));
        assert_eq!(share(1100), 50);
    }
}
