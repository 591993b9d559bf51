//! SRV records with the addresses of their targets, in the order of RFC 2782 as nginx does it.
//!
//! Within a priority only the beginning is drawn by weight; the others follow in the order of the answer.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use super::merge::Found;
use super::message::Service;
use super::{Kind, ResolveError, Resolved, Resolver, canonical, limited, random};

/// One server of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAddr {
    /// Address and the port of the SRV record.
    pub addr: SocketAddr,
    /// The target of the SRV record, in small letters.
    pub name: Arc<str>,
    /// Lower is tried first; nginx makes all but the lowest backup servers.
    pub priority: u16,
    /// At least one.
    pub weight: u16,
}

/// The servers of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedServices {
    /// At least one, by priority.
    pub servers: Vec<ServiceAddr>,
    /// Until when they hold, in milliseconds of [`crate::timer::now_ms`].
    pub valid_until_ms: u64,
}

impl Resolver {
    pub(super) async fn services(
        self: &Rc<Self>,
        service: &str,
        name: &str,
        timeout_ms: u64,
    ) -> Result<ResolvedServices, ResolveError> {
        let asked = full_name(service, name);
        let (known, _) = limited(timeout_ms, self.follow(Kind::Service, &asked)).await?;
        let Found::Services(services) = &known.found else { return Err(ResolveError::NotFound) };
        let lookups = services.iter().map(|service| {
            let addresses = self.addresses(&service.target, service.port);
            Box::pin(limited(timeout_ms, addresses))
                as Pin<Box<dyn Future<Output = Result<Resolved, ResolveError>> + '_>>
        });
        let outcomes = all(lookups.collect()).await;
        let valid_until_ms = outcomes.iter().flatten().map(|found: &Resolved| found.valid_until_ms).min();
        let Some(valid_until_ms) = valid_until_ms else { return Err(worst(&outcomes)) };
        let servers = arrange(services, &outcomes, random::below);
        Ok(ResolvedServices { servers, valid_until_ms: valid_until_ms.min(known.valid_until_ms) })
    }
}

/// `_http._tcp.NAME` for the service `http`; a service with a dot stands as it is.
fn full_name(service: &str, name: &str) -> String {
    let name = canonical(name);
    let full =
        if service.contains('.') { format!("{service}.{name}") } else { format!("_{service}._tcp.{name}") };
    full.to_ascii_lowercase()
}

/// The error when no target has an address: that one does not exist, or what happened to the first.
fn worst(outcomes: &[Result<Resolved, ResolveError>]) -> ResolveError {
    let mut errors = outcomes.iter().filter_map(|outcome| outcome.as_ref().err().copied());
    let first = errors.next().unwrap_or(ResolveError::NotFound);
    if errors.any(|error| error == ResolveError::NotFound) { ResolveError::NotFound } else { first }
}

/// Addresses by priority; `draw` picks a number below its argument (`ngx_resolver_report_srv`).
fn arrange(
    services: &[Service],
    outcomes: &[Result<Resolved, ResolveError>],
    draw: impl Fn(u64) -> u64,
) -> Vec<ServiceAddr> {
    let with_addrs: Vec<_> = services
        .iter()
        .zip(outcomes)
        .filter_map(|(service, outcome)| Some((service, outcome.as_ref().ok()?)))
        .collect();
    let mut servers = Vec::new();
    for group in with_addrs.chunk_by(|(one, _), (other, _)| one.priority == other.priority) {
        let share =
            |(service, found): &(&Service, &Resolved)| u64::from(service.weight) * found.addrs.len() as u64;
        let mut drawn = draw(group.iter().map(share).sum());
        let first = group.iter().position(|member| {
            let hit = drawn < share(member);
            drawn = drawn.saturating_sub(share(member));
            hit
        });
        let (head, tail) = group.split_at_checked(first.unwrap_or(0)).unwrap_or((group, &[]));
        for (service, found) in tail.iter().chain(head) {
            let name: Arc<str> = Arc::from(&*service.target);
            let (priority, weight) = (service.priority, service.weight);
            let members = found.addrs.iter();
            servers.extend(members.map(|addr| ServiceAddr {
                addr: *addr,
                name: Arc::clone(&name),
                priority,
                weight,
            }));
        }
    }
    servers
}

/// Waits for all of some futures.
async fn all<T>(mut futures: Vec<Pin<Box<dyn Future<Output = T> + '_>>>) -> Vec<T> {
    let mut outputs: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    poll_fn(|cx| {
        let mut pending = false;
        for (future, output) in futures.iter_mut().zip(&mut outputs).filter(|(_, output)| output.is_none()) {
            match future.as_mut().poll(cx) {
                Poll::Ready(value) => *output = Some(value),
                Poll::Pending => pending = true,
            }
        }
        if pending { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    outputs.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_services() {
        let check = |service, name, expected| assert_eq!(full_name(service, name), expected);
        check("http", "Example.com", "_http._tcp.example.com");
        check("_HTTP._udp", "example.com.", "_http._udp.example.com");
        check("server1.backend", "example.com", "server1.backend.example.com");
    }

    #[test]
    fn by_priority_and_then_by_weight() {
        let service =
            |target: &str, priority, weight| Service { priority, weight, port: 1, target: target.into() };
        let services = [service("a", 1, 1), service("b", 1, 3), service("c", 1, 1), service("d", 2, 1)];
        let found = |last: u8| {
            let addrs = vec![SocketAddr::from(([127, 0, 0, last], 1))];
            Ok(Resolved { addrs, valid_until_ms: 1 })
        };
        let outcomes = [found(1), found(2), Err(ResolveError::TimedOut), found(4)];
        let check = |drawn: u64, expected: &str| {
            let draw = |limit: u64| if limit > 1 { drawn } else { 0 };
            let names: String = arrange(&services, &outcomes, draw).iter().map(|s| &*s.name).collect();
            assert_eq!(names, expected, "{drawn}");
        };
        check(0, "abd");
        check(1, "bad");
        check(3, "bad");
        assert!(arrange(&[], &[], |_| 0).is_empty());
    }

    #[test]
    fn the_worst_error() {
        let check = |errors: &[ResolveError], expected| {
            let outcomes: Vec<_> = errors.iter().map(|error| Err(*error)).collect();
            assert_eq!(worst(&outcomes), expected);
        };
        check(&[ResolveError::TimedOut, ResolveError::NotFound], ResolveError::NotFound);
        check(&[ResolveError::Refused, ResolveError::TimedOut], ResolveError::Refused);
    }
}
