//! Upstreams as the API shows them: what runs of them, and their servers as they are configured.

use http::relay::sticky::StickyMethod;
use http::relay::{HeadMoment, Upstream};
use http::side::Side;
use upstream::{Admin, CheckVerdict, Health, Member, Now, Origin, Peer, Resolve, Role, Server, addr_name};

use super::json::{self, Object};

/// An upstream with its peers.
pub(super) fn upstream(out: &mut String, upstream: &Upstream, side: Side, now: Now) {
    let group = upstream.group();
    let seen = Seen { side, head_moment: upstream.head_moment };
    json::object(out, |object| {
        object.field("peers", |out| {
            json::list(out, group.peers(), |out, (_, role, one)| {
                json::object(out, |object| peer(object, one, role, seen, now));
            });
        });
        if side == Side::Http {
            object.number("keepalive", upstream.pool().idle() as u64);
        }
        object.number("zombies", 0);
        if let Some(zone) = &upstream.zone {
            object.text("zone", zone);
        }
        if let Some(queue) = &upstream.queue {
            let (size, overflows) = queue.figures();
            object.object("queue", |object| {
                object.number("size", size as u64).number("max_size", queue.limit() as u64);
                object.number("overflows", overflows);
            });
        }
        if let Some(sticky) = &upstream.sticky
            && let StickyMethod::Learn(learn) = &sticky.method
        {
            object.number("sessions", learn.sessions().count() as u64);
        }
    });
}

/// As what a peer is seen: of requests, or of sessions and what is measured of them.
#[derive(Clone, Copy)]
struct Seen {
    side: Side,
    head_moment: HeadMoment,
}

fn peer(object: &mut Object<'_>, peer: &Peer, role: Role, seen: Seen, now: Now) {
    let counters = peer.counters();
    object.number("id", u64::from(peer.id)).text("server", &peer.name).text("name", &peer.server);
    object.flag("backup", role == Role::Backup).number("weight", u64::from(peer.weight));
    object.text("state", state(peer, now)).number("active", counters.conns);
    if peer.max_conns > 0 {
        object.number("max_conns", u64::from(peer.max_conns));
    }
    let (attempts, head) = match (seen.side, seen.head_moment) {
        (Side::Http, _) => ("requests", "header_time"),
        (Side::Stream, HeadMoment::FirstByte) => ("connections", "first_byte_time"),
        (Side::Stream, HeadMoment::Connected) => ("connections", "connect_time"),
    };
    object.number(attempts, counters.requests);
    if counters.head_ms > 0 {
        object.number(head, counters.head_ms);
    }
    if counters.response_ms > 0 {
        object.number("response_time", counters.response_ms);
    }
    if seen.side == Side::Http {
        object.object("responses", |object| {
            for (class, count) in ["1xx", "2xx", "3xx", "4xx", "5xx"].iter().zip(counters.answers) {
                object.number(class, count);
            }
            object.number("total", counters.answers.iter().sum());
        });
    }
    object.number("sent", counters.sent).number("received", counters.received);
    object.number("fails", counters.failures).number("unavail", counters.unavailable);
    object.object("health_checks", |object| {
        object.number("checks", counters.checks).number("fails", counters.checks_failed);
        object.number("unhealthy", counters.checks_unhealthy);
        if let Some(last) = counters.last_check {
            object.flag("last_passed", last == CheckVerdict::Passed);
        }
    });
    let since = counters.down_since_ms;
    let gone_ms = since.map_or(0, |since| now.ms().saturating_sub(since));
    object.number("downtime", counters.downtime_ms + gone_ms);
    if let Some(since_ms) = since {
        object.text("downstart", &time(since_ms));
    }
}

/// `up`, `draining`, `down`, `unavail`, `checking` or `unhealthy`.
fn state(peer: &Peer, now: Now) -> &'static str {
    match (peer.admin, peer.counters().health) {
        (Admin::Down, _) => "down",
        (_, Health::Unhealthy) => "unhealthy",
        (_, Health::Checking) => "checking",
        (Admin::Draining, _) => "draining",
        (Admin::Up, _) if peer.is_disabled(now) || peer.is_ejected(now) => "unavail",
        (Admin::Up, _) => "up",
    }
}

/// `2026-11-25T10:00:00.000Z`.
fn time(unix_ms: u64) -> String {
    let seconds = i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX);
    let text = proto::date::iso8601(seconds, 0);
    let whole = text.get(..19).map(String::from_utf8_lossy).unwrap_or_default();
    format!("{whole}.{:03}Z", unix_ms % 1000)
}

/// All servers, each address of a name behind it.
pub(super) fn servers(out: &mut String, servers: &[Server]) {
    let entries = servers.iter().flat_map(|server| {
        let members = server.members.iter().filter(|_| server.named.is_some());
        let members = members.filter(|member| member.origin != Origin::Unresolved);
        std::iter::once((server, None)).chain(members.map(move |member| (server, Some(member))))
    });
    json::list(out, entries, |out, (one, member)| server(out, one, member));
}

/// One server, or one address of a name.
pub(super) fn server(out: &mut String, server: &Server, member: Option<&Member>) {
    let spec = &server.spec;
    json::object(out, |object| {
        match member {
            None => object.number("id", u64::from(server.id)).text("server", &server.name),
            Some(member) => {
                object.number("id", u64::from(member.id)).text("server", &addr_name(&member.addr))
            }
        };
        if let (Some(service), None) = (&spec.service, member) {
            object.text("service", service);
        }
        object.number("weight", u64::from(spec.weight)).number("max_conns", u64::from(spec.max_conns));
        object.number("max_fails", u64::from(spec.max_fails));
        object.text("fail_timeout", &format!("{}s", spec.fail_timeout_sec));
        object.text("slow_start", &format_ms(spec.slow_start_ms));
        object.text("route", spec.route.as_deref().unwrap_or_default());
        object.flag("backup", spec.role == Role::Backup).flag("down", spec.admin == Admin::Down);
        if spec.admin == Admin::Draining {
            object.flag("drain", true);
        }
        if member.is_some() {
            object.number("parent", u64::from(server.id)).text("host", &server.name);
        } else if spec.resolve == Resolve::WhileRunning {
            object.flag("resolve", true);
        }
    });
}

fn format_ms(ms: u64) -> String {
    if ms.is_multiple_of(1000) { format!("{}s", ms / 1000) } else { format!("{ms}ms") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_elsewhere() {
        assert_eq!(time(1_700_000_000_042), "2023-11-14T22:13:20.042Z");
        assert_eq!(
            (format_ms(0), format_ms(1500), format_ms(30_000)),
            ("0s".into(), "1500ms".into(), "30s".into())
        );
    }
}
