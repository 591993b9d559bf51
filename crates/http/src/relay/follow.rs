//! Names of upstream servers, followed as long as the configuration is in use: asked again when their TTL is over.
//!
//! One thread does it for all. `resolve` obeys every answer, as nginx does; without it a name that was found at
//! load is followed too, but keeps its addresses when there is no answer or none with an address.

use std::rc::Rc;
use std::sync::Arc;

use net::TaskHandle;
use net::resolver::{ResolveError, ResolverConf, SystemNames, lookup, resolve_srv};
use os::errlog::{ErrorLog, Level};
use upstream::{Named, Origin, PeerAddr, Resolve, Role, Server};

use super::{Upstream, now};
use crate::cycle::Cycle;

/// Least time between two questions for one name, milliseconds.
const LEAST_MS: u64 = 1000;
/// Most time: a wrong answer of a long TTL must not last for ever.
const MOST_MS: u64 = 3_600_000;
/// Time over which the first questions for names that were found at load are spread, milliseconds.
const SPREAD_MS: u64 = 2000;
/// Addresses from which on a change is worked out beside the event loop.
const MANY: usize = 200;

/// The tasks of one configuration; they end with it.
#[derive(Default)]
pub struct Followers {
    tasks: Vec<TaskHandle>,
}

impl Followers {
    /// Follows the names of a configuration, and those of the one before no more.
    pub fn follow(&mut self, cycle: &Cycle) {
        self.stop();
        let names = Rc::new(SystemNames::read());
        for upstream in &cycle.http.upstreams {
            let is_open = upstream.zone.is_some();
            if !is_open && upstream.live.servers().iter().all(|server| server.named.is_none()) {
                continue;
            }
            let watch = Watch {
                upstream: Arc::clone(upstream),
                names: Rc::clone(&names),
                log: Arc::clone(&cycle.globals.log),
            };
            self.tasks.push(net::spawn(watch.servers()));
        }
    }

    /// Follows nothing any more.
    pub fn stop(&mut self) {
        self.tasks.drain(..).for_each(|task| task.abort());
    }
}

impl Drop for Followers {
    fn drop(&mut self) {
        self.stop();
    }
}

#[derive(Clone)]
struct Watch {
    upstream: Arc<Upstream>,
    names: Rc<SystemNames>,
    log: Arc<ErrorLog>,
}

/// The name of one server, while it is followed.
struct Follower {
    server: u32,
    task: TaskHandle,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watch {
    /// Follows each server that has a name, also those that come later.
    async fn servers(self) {
        let mut followers: Vec<Follower> = Vec::new();
        let mut changes = self.upstream.changed.subscribe();
        loop {
            let servers = self.upstream.live.servers();
            followers.retain(|follower| servers.iter().any(|server| server.id == follower.server));
            for server in servers {
                if followers.iter().any(|follower| follower.server == server.id) {
                    continue;
                }
                if let Some(named) = server.named.clone() {
                    let id = server.id;
                    let task = net::spawn(self.clone().name(server, named));
                    followers.push(Follower { server: id, task });
                }
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Follows one name for ever.
    async fn name(self, server: Server, named: Named) {
        let obeys = server.spec.resolve == Resolve::WhileRunning;
        if !obeys && self.names.is_local(&named.host) {
            return;
        }
        let resolver = match &self.upstream.naming.resolver {
            Some(resolver) => ResolverConf::clone(resolver),
            None => match self.names.resolver() {
                Some(resolver) if !obeys => resolver.clone(),
                _ => return,
            },
        };
        let is_found = server.members.iter().any(|member| member.origin != Origin::Unresolved);
        if !obeys && is_found {
            net::timer::sleep(spread(&named.host)).await;
        }
        let mut has_failed = false;
        loop {
            let found = self.ask(&resolver, &server, &named).await;
            let wait_ms = match found {
                Ok((found, valid_until_ms)) => {
                    self.take(&server, &found, &mut has_failed).await;
                    // A second more, so that the answer is not the cached one again.
                    valid_until_ms.saturating_sub(net::timer::now_ms()).saturating_add(LEAST_MS)
                }
                Err(ResolveError::NotFound) => {
                    self.complain(&server, &named, ResolveError::NotFound, &mut has_failed);
                    if obeys {
                        self.take(&server, &[], &mut has_failed).await;
                    }
                    resolver.retry_ms().saturating_add(LEAST_MS)
                }
                Err(error) => {
                    self.complain(&server, &named, error, &mut has_failed);
                    self.upstream.naming.timeout_ms
                }
            };
            net::timer::sleep(wait_ms.clamp(LEAST_MS, MOST_MS)).await;
        }
    }

    /// The addresses of a name and until when they hold.
    async fn ask(
        &self,
        resolver: &ResolverConf,
        server: &Server,
        named: &Named,
    ) -> Result<(Vec<(PeerAddr, Origin)>, u64), ResolveError> {
        let timeout_ms = self.upstream.naming.timeout_ms;
        if let Some(service) = &server.spec.service {
            let found = resolve_srv(resolver, service, &named.host, timeout_ms).await?;
            let best = found.servers.iter().map(|server| server.priority).min().unwrap_or(0);
            let members = found.servers.iter().map(|server| {
                let role = if server.priority == best { Role::Primary } else { Role::Backup };
                let origin = Origin::Service(Arc::clone(&server.name), u32::from(server.weight), role);
                (PeerAddr::Inet(server.addr), origin)
            });
            return Ok((members.collect(), found.valid_until_ms));
        }
        // What `resolve` names is a full name; others were found by the system's rules.
        let candidates = match server.spec.resolve {
            Resolve::WhileRunning => vec![named.host.to_string()],
            Resolve::AtLoad => self.names.candidates(&named.host),
        };
        let mut error = ResolveError::NotFound;
        for name in candidates {
            match lookup(resolver, &name, named.port, timeout_ms).await {
                Ok(found) => {
                    let members = found.addrs.into_iter().map(|addr| (PeerAddr::Inet(addr), Origin::Name));
                    return Ok((members.collect(), found.valid_until_ms));
                }
                Err(ResolveError::NotFound) => {}
                Err(other) => error = other,
            }
        }
        Err(error)
    }

    /// Gives the server its addresses; large changes are worked out on a thread of their own.
    async fn take(&self, server: &Server, found: &[(PeerAddr, Origin)], has_failed: &mut bool) {
        *has_failed &= found.is_empty();
        let (upstream, id, found) = (Arc::clone(&self.upstream), server.id, found.to_vec());
        let is_large = found.len() + self.upstream.group().size() > MANY;
        let done = if is_large {
            let work = move || upstream.live.resolved(id, &found, now());
            crate::blocking::run(work).await.ok()
        } else {
            Some(upstream.live.resolved(id, &found, now()))
        };
        if let Some(Err(error)) = done {
            let name = &self.upstream.name;
            self.log.log(Level::Error, format_args!("cannot add new server to upstream \"{name}\", {error}"));
        }
    }

    /// Names that `resolve` follows are worth an error each time, as in nginx; others one warning until they are
    /// found again.
    fn complain(&self, server: &Server, named: &Named, error: ResolveError, has_failed: &mut bool) {
        let (host, code) = (&named.host, error.code());
        match (&server.spec.service, server.spec.resolve) {
            (Some(service), _) => self.log.log(
                Level::Error,
                format_args!("service {service} of {host} could not be resolved ({code}: {error})"),
            ),
            (None, Resolve::WhileRunning) => {
                self.log.log(Level::Error, format_args!("{host} could not be resolved ({code}: {error})"));
            }
            (None, Resolve::AtLoad) if !*has_failed => self.log.log(
                Level::Info,
                format_args!(
                    "{host} could not be resolved ({code}: {error}), its addresses stay as they are"
                ),
            ),
            (None, Resolve::AtLoad) => {}
        }
        *has_failed = true;
    }
}

/// A time within [`SPREAD_MS`] that differs from name to name.
fn spread(name: &str) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(name) % SPREAD_MS
}
