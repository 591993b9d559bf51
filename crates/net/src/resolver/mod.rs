//! Names to addresses by DNS, as nginx's `resolver` directive wants it: `resolve`, `resolve_srv`, `resolve_addr`.
//!
//! All threads share one cache for each distinct [`ResolverConf`], so a name is asked for once however many wait.
//! Lookups run as local tasks of the thread that asked first and need [`crate::timer::drive`] to be running.

mod conf;
mod error;
mod flight;
mod line;
mod literal;
mod merge;
mod message;
#[cfg(test)]
mod packet;
mod random;
mod service;
mod system;
mod table;
mod tcp;
#[cfg(test)]
mod tests;

pub use conf::{LookUp, ResolverConf};
pub use error::ResolveError;
pub use service::{ResolvedServices, ServiceAddr};
pub use system::SystemNames;

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak as SharedWeak};

use tokio::sync::{Semaphore, watch};

use crate::timer;
use conf::Identity;
use flight::Flight;
use line::Line;
use merge::Found;
use table::{Announcer, Known, Lookup, Table};
use tcp::TcpServer;

/// How many CNAMEs are followed, one query each, until a name counts as not found.
const MAX_CNAMES: usize = 16;
/// Connections over TCP that one resolver of a thread has open at a time.
const MAX_TCP: usize = 32;
/// Milliseconds after which a resolver that nobody asks makes way for a new one.
const IDLE_MS: u64 = 60_000;

/// Reads a message as the answer to each question that may be asked for `name`, as what comes from a name server is
/// read: how many records were taken from it. For tests of what may come.
#[must_use]
pub fn read_message(name: &str, bytes: &[u8]) -> usize {
    message::read_any(name, bytes)
}

/// The addresses of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// At least one, IPv4 and IPv6, in the order to be tried.
    pub addrs: Vec<SocketAddr>,
    /// Until when they hold, in milliseconds of [`crate::timer::now_ms`]; `u64::MAX` for a literal address.
    pub valid_until_ms: u64,
}

/// The addresses of a host, with `port`; see [`lookup`], which also tells how long they hold.
///
/// # Errors
/// As [`lookup`].
pub async fn resolve(
    conf: &ResolverConf,
    name: &str,
    port: u16,
    timeout_ms: u64,
) -> Result<Vec<SocketAddr>, ResolveError> {
    lookup(conf, name, port, timeout_ms).await.map(|resolved| resolved.addrs)
}

/// The addresses of a host, with `port` (`ngx_resolve_name`).
///
/// A literal address is its own answer. Known addresses come in an order rotated at random; a fresh answer
/// comes as the server gave it, IPv4 first. Case of letters and one dot at the end do not matter.
/// `timeout_ms` bounds the whole lookup with all its CNAMEs; zero waits for ever.
///
/// # Errors
/// [`ResolveError::NotFound`] when the name does not exist, has no address or leads through more than 16
/// CNAMEs; [`ResolveError::TimedOut`]; otherwise what the server said.
pub async fn lookup(
    conf: &ResolverConf,
    name: &str,
    port: u16,
    timeout_ms: u64,
) -> Result<Resolved, ResolveError> {
    if let Some(ip) = literal::ip_literal(name) {
        return Ok(Resolved { addrs: vec![SocketAddr::new(ip, port)], valid_until_ms: u64::MAX });
    }
    let resolver = Resolver::of_thread(conf);
    limited(timeout_ms, resolver.addresses(name, port)).await
}

/// The servers of a service (`ngx_resolve_name` with `service=`): SRV records and the addresses of their targets.
///
/// `http` asks for `_http._tcp.NAME`, a service with a dot such as `_http._tcp` for itself before the name.
/// `timeout_ms` bounds the SRV lookup, then that of each target; zero waits for ever.
///
/// # Errors
/// As [`lookup`]; targets that fail are passed over as long as one has an address.
pub async fn resolve_srv(
    conf: &ResolverConf,
    service: &str,
    name: &str,
    timeout_ms: u64,
) -> Result<ResolvedServices, ResolveError> {
    Resolver::of_thread(conf).services(service, name, timeout_ms).await
}

/// The name of an address (`ngx_resolve_addr`), in small letters.
///
/// # Errors
/// As [`lookup`].
pub async fn resolve_addr(
    conf: &ResolverConf,
    ip: IpAddr,
    timeout_ms: u64,
) -> Result<Box<str>, ResolveError> {
    let resolver = Resolver::of_thread(conf);
    let name = literal::reverse_name(ip);
    let (known, _) = limited(timeout_ms, resolver.follow(Kind::Pointer, &name)).await?;
    match &known.found {
        Found::Pointer(name) => Ok(name.clone()),
        _ => Err(ResolveError::NotFound),
    }
}

type Hook = Rc<dyn Fn(fmt::Arguments<'_>)>;

thread_local! {
    static RESOLVERS: RefCell<HashMap<Arc<Identity>, Rc<Resolver>>> = RefCell::default();
    static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
}

/// Tells where this thread's resolvers report what is wrong with servers and their answers.
///
/// The messages are nginx's, of level `error`; until this is called they are dropped.
pub fn on_message(hook: impl Fn(fmt::Arguments<'_>) + 'static) {
    HOOK.set(Some(Rc::new(hook)));
}

fn log(message: fmt::Arguments<'_>) {
    let hook = HOOK.with_borrow(Clone::clone);
    if let Some(hook) = hook {
        hook(message);
    }
}

/// What a name is asked for; each kind has its own table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Address,
    Service,
    Pointer,
}

/// Where an outcome comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Cache,
    Query,
}

/// What all threads know by one [`ResolverConf`].
struct Shared {
    identity: Arc<Identity>,
    addresses: Mutex<Table>,
    services: Mutex<Table>,
    pointers: Mutex<Table>,
    /// Whose turn it is.
    server: AtomicUsize,
}

impl Shared {
    /// What the process has for a configuration, made when no thread has it yet.
    fn of_process(identity: &Arc<Identity>) -> Arc<Self> {
        static ALL: Mutex<Vec<SharedWeak<Shared>>> = Mutex::new(Vec::new());
        let mut all = lock(&ALL);
        let known = all.iter().filter_map(SharedWeak::upgrade).find(|shared| shared.identity == *identity);
        known.unwrap_or_else(|| {
            let shared = Arc::new(Self {
                identity: Arc::clone(identity),
                addresses: Mutex::default(),
                services: Mutex::default(),
                pointers: Mutex::default(),
                server: AtomicUsize::new(0),
            });
            all.retain(|shared| shared.strong_count() > 0);
            all.push(Arc::downgrade(&shared));
            shared
        })
    }
}

/// Locks what no panic leaves half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A thread's part in one [`ResolverConf`]: its sockets.
struct Resolver {
    shared: Arc<Shared>,
    /// By server: the socket that new queries may share.
    lines: RefCell<Vec<Weak<Line>>>,
    tcp_slots: Rc<Semaphore>,
    used_ms: Cell<u64>,
}

impl Resolver {
    /// This thread's resolver for a configuration.
    fn of_thread(conf: &ResolverConf) -> Rc<Self> {
        let now_ms = timer::now_ms();
        RESOLVERS.with_borrow_mut(|resolvers| {
            if let Some(resolver) = resolvers.get(&conf.identity) {
                resolver.used_ms.set(now_ms);
                return Rc::clone(resolver);
            }
            // Those of former configurations go, unless somebody still waits for them.
            resolvers.retain(|_, resolver| {
                Rc::strong_count(resolver) > 1 || resolver.used_ms.get().saturating_add(IDLE_MS) > now_ms
            });
            let resolver = Rc::new(Self::new(&conf.identity, now_ms));
            resolvers.insert(Arc::clone(&conf.identity), Rc::clone(&resolver));
            resolver
        })
    }

    fn new(identity: &Arc<Identity>, now_ms: u64) -> Self {
        Self {
            lines: RefCell::new(identity.servers.iter().map(|_| Weak::new()).collect()),
            shared: Shared::of_process(identity),
            tcp_slots: Rc::new(Semaphore::new(MAX_TCP)),
            used_ms: Cell::new(now_ms),
        }
    }

    async fn addresses(self: &Rc<Self>, name: &str, port: u16) -> Result<Resolved, ResolveError> {
        let (known, source) = self.follow(Kind::Address, name).await?;
        let Found::Addresses { v4, v6 } = &known.found else { return Err(ResolveError::NotFound) };
        let addrs = in_order(v4, v6, source).into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
        Ok(Resolved { addrs, valid_until_ms: known.valid_until_ms })
    }

    /// What a name stands for in the end; never a CNAME, never a failure.
    async fn follow(self: &Rc<Self>, kind: Kind, name: &str) -> Result<(Arc<Known>, Source), ResolveError> {
        let mut name = canonical(name);
        for _ in 0..=MAX_CNAMES {
            let (known, source) = self.find(kind, &name).await?;
            match &known.found {
                Found::Cname(target) => name = Cow::Owned(target.to_string()),
                Found::Failed(error) => return Err(*error),
                _ => return Ok((known, source)),
            }
        }
        Err(ResolveError::NotFound)
    }

    /// What is known of a name; asks when nothing is, unless somebody else does already.
    async fn find(self: &Rc<Self>, kind: Kind, name: &str) -> Result<(Arc<Known>, Source), ResolveError> {
        let looked_up = self.table(kind).look_up(name, timer::now_ms());
        let looked_up = if let Lookup::Miss = looked_up { self.start(kind, name) } else { looked_up };
        let mut waiter = match looked_up {
            Lookup::Hit(known) => return Ok((known, Source::Cache)),
            Lookup::Join(waiter) => waiter,
            Lookup::Miss => return Err(ResolveError::ServerFailure),
        };
        // The lookup ends without an outcome only when its task is torn down.
        let outcome = waiter.wait_for(Option::is_some).await.map_err(|_| ResolveError::ServerFailure)?;
        outcome.clone().map(|known| (known, Source::Query)).ok_or(ResolveError::ServerFailure)
    }

    /// Asks, unless another thread has begun to in the meantime.
    fn start(self: &Rc<Self>, kind: Kind, name: &str) -> Lookup {
        let name: Arc<str> = name.into();
        let (announcer, waiter) = watch::channel(None);
        let announcer: Arc<Announcer> = Arc::new(announcer);
        {
            let mut table = self.table(kind);
            let now_ms = timer::now_ms();
            match table.look_up(&name, now_ms) {
                Lookup::Miss => {}
                known => return known,
            }
            table.expire(now_ms, self.shared.identity.timings.unused_ms);
            table.start(&name, Arc::clone(&announcer));
        }
        let flight = Flight { resolver: Rc::clone(self), kind, name, announcer };
        crate::spawn(flight.run());
        Lookup::Join(waiter)
    }

    fn table(&self, kind: Kind) -> MutexGuard<'_, Table> {
        lock(match kind {
            Kind::Address => &self.shared.addresses,
            Kind::Service => &self.shared.services,
            Kind::Pointer => &self.shared.pointers,
        })
    }

    /// The server whose turn it is; the next lookup begins with the one after it.
    fn next_server(&self) -> usize {
        let servers = self.shared.identity.servers.len().max(1);
        self.shared.server.fetch_add(1, Relaxed) % servers
    }

    /// A socket to a server, shared with other queries while it is young.
    fn line(&self, server: usize) -> Option<Rc<Line>> {
        let mut lines = self.lines.borrow_mut();
        let shared = lines.get_mut(server)?;
        if let Some(line) = shared.upgrade().filter(|line| line.is_open()) {
            return Some(line);
        }
        let addr = *self.shared.identity.servers.get(server)?;
        match Line::open(addr) {
            Ok(line) => {
                let line = Rc::new(line);
                *shared = Rc::downgrade(&line);
                Some(line)
            }
            Err(error) => {
                log(format_args!("connect() failed ({error}) while resolving, resolver: {addr}"));
                None
            }
        }
    }

    fn tcp_server(&self, server: usize) -> Option<TcpServer> {
        let addr = *self.shared.identity.servers.get(server)?;
        let timeout_ms = self.shared.identity.timings.tcp_ms;
        Some(TcpServer { addr, timeout_ms, slots: Rc::clone(&self.tcp_slots) })
    }
}

/// Runs a lookup for at most `timeout_ms`; zero is for ever.
async fn limited<T>(
    timeout_ms: u64,
    lookup: impl Future<Output = Result<T, ResolveError>>,
) -> Result<T, ResolveError> {
    if timeout_ms == 0 {
        return lookup.await;
    }
    timer::within(timeout_ms, lookup).await.unwrap_or(Err(ResolveError::TimedOut))
}

/// The name under which a host is known: small letters, no dot at the end.
fn canonical(name: &str) -> Cow<'_, str> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

/// Addresses in the order to be tried (`ngx_resolver_export`): from the cache, each family begins at random, and
/// the whole is turned by a random number of places.
fn in_order(v4: &[IpAddr], v6: &[IpAddr], source: Source) -> Vec<IpAddr> {
    let start = |count: usize| match source {
        Source::Cache => random::below(count as u64) as usize,
        Source::Query => 0,
    };
    let mut list = Vec::with_capacity(v4.len() + v6.len());
    for family in [v4, v6] {
        let (head, tail) = family.split_at_checked(start(family.len())).unwrap_or((family, &[]));
        list.extend_from_slice(tail);
        list.extend_from_slice(head);
    }
    let turn = start(list.len());
    list.rotate_right(turn);
    list
}
