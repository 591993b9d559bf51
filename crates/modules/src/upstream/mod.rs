//! `ngx_http_upstream_module` with the balancing methods, `keepalive` and `zone`: what stands in `upstream` blocks.
//!
//! State is shared by all threads whether there is a `zone` or not; one opens the group to the API. `eject`, `ewma`
//! and `bound=` are our own.

mod server;
mod sticky;

use std::sync::Arc;

use conf::zones::ZoneData;
use conf::{Arity, Contexts, Directive, Error, Level, Word};
use http::conf::compile::Cx;
use http::conf::{Unresolvable, UpstreamBlock};
use http::module::{Module, Registry, Slot};
use http::relay::HeadMoment;
use http::relay::queue::QueueConf;
use http::relay::variables;
use http::resolver::ResolverConf;
use http::rows::{Row, row};
use http::side::Side;
use http::variables::Template;
use upstream::{Balancer, Eject, Inflight, LeastTime, Metric, Ring};

/// Least bytes of a zone: eight pages.
const ZONE_MIN: u64 = 8 * 4096;
/// How long a request waits in a queue where nothing else is said, milliseconds.
const QUEUE_MS: u64 = 60_000;

/// `ngx_http_upstream_module`.
pub struct Upstream;

static SLOT: Slot = Slot::new();

/// A zone of groups. What it would hold is shared by all threads in any case.
struct GroupZone;

impl ZoneData for GroupZone {}

type Done = Result<(), Error>;

const UPS: Contexts = Contexts::UPSTREAM;
/// `upstream` of `http` and of `stream`.
const BOTH: Contexts = Contexts::UPSTREAM.or(Contexts::STREAM_UPSTREAM);

#[rustfmt::skip]
static ROWS: [Row<()>; 21] = [
    row("upstream", Contexts::HTTP, Arity::ONE, "", "A group of servers.", upstream).block(UPS),
    row("upstream", Contexts::STREAM, Arity::ONE, "", "A group of servers.", upstream).block(Contexts::STREAM_UPSTREAM),
    row("upstream_strict_resolve", Contexts::HTTP.or(Contexts::STREAM), Arity::FLAG, "off", "Whether a server whose name cannot be resolved at load is an error instead of a warning.", strict_resolve),
    row("server", BOTH, Arity::MORE1, "", "A server of the group.", server::server).many(),
    row("zone", BOTH, Arity::TAKE12, "", "Makes the group open to the API; its state is shared by all threads in any case.", zone).many(),
    row("state", BOTH, Arity::ONE, "", "A file that keeps the servers which the API adds, changes and removes.", server::state),
    row("queue", UPS, Arity::TAKE12, "", "Most requests that wait for a server, and for how long.", queue),
    row("resolver", BOTH, Arity::MORE1, "", "Name servers for the servers of the group.", resolver),
    row("resolver_timeout", BOTH, Arity::ONE, "30s", "Time for resolving a name.", |_, cx, d| block(cx, d, |block, d| { block.resolver_timeout = Some(d.time_ms()?); Ok(()) })),
    row("sticky", UPS, Arity::MORE2, "", "Binds sessions to servers.", sticky::sticky),
    row("eject", UPS, Arity::MORE1, "", "Shuts servers out for a time that answer with too many errors or too slowly.", eject),
    row("keepalive", UPS, Arity::TAKE12, "32 local", "Most idle connections to the group; over HTTP/2 requests share connections then.", keepalive),
    row("keepalive_requests", UPS, Arity::ONE, "1000", "Requests per connection.", |_, cx, d| limit(cx, d.number()?, |limits| &mut limits.requests)),
    row("keepalive_time", UPS, Arity::ONE, "1h", "Age to which a connection is kept.", |_, cx, d| limit(cx, d.time_ms()?, |limits| &mut limits.time_ms)),
    row("keepalive_timeout", UPS, Arity::ONE, "60s", "Time that a connection may idle.", |_, cx, d| limit(cx, d.time_ms()?, |limits| &mut limits.timeout_ms)),
    row("least_conn", BOTH, Arity::NOARGS, "", "The server with the fewest connections for its weight.", |_, cx, d| method(cx, d, Balancer::LeastConn)).many(),
    row("ip_hash", UPS, Arity::NOARGS, "", "The server that the client's address leads to.", |_, cx, d| method(cx, d, Balancer::IpHash)).many(),
    row("hash", BOTH, Arity::TAKE123, "", "The server that a key leads to; with `consistent bound=1.25` none gets more than that of its share.", hash).many(),
    row("random", BOTH, Arity::NOARGS.or(Arity::TAKE12), "", "A server by chance.", random).many(),
    row("least_time", BOTH, Arity::TAKE12, "", "The server that answers soonest.", least_time).many(),
    row("ewma", BOTH, Arity::NOARGS, "", "Of two servers by chance the one with the lesser moving average of response times, peaks counting most, and load.", |_, cx, d| method(cx, d, Balancer::Ewma)),
];

impl Module for Upstream {
    const NAME: &'static str = "ngx_http_upstream_module";
    const ALSO: &'static [&'static str] = &[
        "ngx_http_upstream_zone_module",
        "ngx_http_upstream_keepalive_module",
        "ngx_http_upstream_least_conn_module",
        "ngx_http_upstream_ip_hash_module",
        "ngx_http_upstream_hash_module",
        "ngx_http_upstream_random_module",
        "ngx_http_upstream_least_time_module",
        "ngx_http_upstream_sticky_module",
        "ngx_stream_upstream_module",
        "ngx_stream_upstream_zone_module",
        "ngx_stream_upstream_least_conn_module",
        "ngx_stream_upstream_hash_module",
        "ngx_stream_upstream_random_module",
        "ngx_stream_upstream_least_time_module",
    ];
    const SLOT: &'static Slot = &SLOT;
    type Settings = ();
    type Main = ();

    fn rows() -> &'static [Row<()>] {
        &ROWS
    }

    fn register(registry: &mut Registry) {
        registry.variables(&variables::VARIABLES);
        registry.prefixes(&variables::PREFIXES);
        registry.stream_variables(&variables::STREAM_VARIABLES);
    }
}

fn upstream(_: &mut (), cx: &mut Cx<'_>, d: &Directive) -> Done {
    let word = d.arg(0)?;
    let block = UpstreamBlock::new(word.as_str().into_owned(), word.clone());
    let outer = cx.upstream.replace(block);
    let done = cx.read_lines(d.body(), cx.side.upstream());
    let block = std::mem::replace(&mut cx.upstream, outer);
    done?;
    match block {
        Some(block) if !block.servers.is_empty() || block.state.is_some() => cx.upstreams.add(block),
        _ => Err(Error::at_close(d, "no servers are inside upstream")),
    }
}

fn zone(_: &mut (), cx: &mut Cx<'_>, d: &Directive) -> Done {
    let name = d.arg(0)?;
    if name.bytes.is_empty() {
        return Err(Error::at(name, "invalid zone name \"\""));
    }
    let size = match d.args.get(1) {
        None => 0,
        Some(word) => match word.size() {
            None => return Err(Error::at(word, format!("invalid zone size \"{}\"", word.as_str()))),
            Some(size) if size < ZONE_MIN => {
                return Err(Error::at(name, format!("zone \"{}\" is too small", name.as_str())));
            }
            Some(size) => size,
        },
    };
    cx.zones.declare::<GroupZone>(name, &name.as_str(), size)?;
    if let Some(block) = &mut cx.upstream {
        block.zone = Some(name.as_str().into());
    }
    Ok(())
}

fn strict_resolve(_: &mut (), cx: &mut Cx<'_>, d: &Directive) -> Done {
    cx.upstreams.unresolvable = if d.flag()? { Unresolvable::Refused } else { Unresolvable::Down };
    Ok(())
}

fn block(cx: &mut Cx<'_>, d: &Directive, set: impl FnOnce(&mut UpstreamBlock, &Directive) -> Done) -> Done {
    cx.upstream.as_mut().map_or(Ok(()), |block| set(block, d))
}

fn queue(_: &mut (), cx: &mut Cx<'_>, d: &Directive) -> Done {
    let limit = usize::try_from(d.number_at_least(1)?).unwrap_or(usize::MAX);
    let mut conf = QueueConf { limit, timeout_ms: QUEUE_MS };
    if let Some(word) = d.args.get(1) {
        let time = word.after("timeout=").and_then(|time| base::parse_time_ms(time).ok());
        conf.timeout_ms = time.ok_or_else(|| invalid_parameter(word))?;
    }
    block(cx, d, |block, _| {
        block.queue = Some(conf);
        Ok(())
    })
}

fn resolver(_: &mut (), cx: &mut Cx<'_>, d: &Directive) -> Done {
    let conf = ResolverConf::read_with(d, &mut |host| cx.resources.resolve(host))?;
    block(cx, d, |block, _| {
        block.resolver = Some(Arc::new(conf));
        Ok(())
    })
}

/// `eject [errors=PERCENT%] [latency=TIME] [window=TIME] [requests=N] [time=TIME] [most=PERCENT%]`.
fn eject(_: &mut (), cx: &mut Cx<'_>, d: &Directive) -> Done {
    let mut eject = Eject::default();
    for word in &d.args {
        let time = |name: &str| word.after(name).and_then(|value| base::parse_time_ms(value).ok());
        let number = |value: &[u8]| conf::parse_number(value).filter(|number| *number > 0);
        let percent = |name: &str| {
            let value = word.after(name)?.strip_suffix(b"%")?;
            number(value).filter(|percent| *percent <= 100)
        };
        if let Some(percent) = percent("errors=") {
            eject.errors_percent = Some(percent);
        } else if let Some(percent) = percent("most=") {
            eject.most_percent = percent;
        } else if let Some(ms) = time("latency=").filter(|ms| *ms > 0) {
            eject.latency_ms = Some(ms);
        } else if let Some(ms) = time("window=").filter(|ms| *ms > 0) {
            eject.window_ms = ms;
        } else if let Some(ms) = time("time=").filter(|ms| *ms > 0) {
            eject.time_ms = ms;
        } else if let Some(requests) = word.after("requests=").and_then(number) {
            eject.requests = requests;
        } else {
            return Err(invalid_parameter(word));
        }
    }
    if eject.errors_percent.is_none() && eject.latency_ms.is_none() {
        return Err(Error::at(&d.name, "\"eject\" needs \"errors=\" or \"latency=\""));
    }
    block(cx, d, |block, _| {
        block.eject = Some(eject);
        Ok(())
    })
}

fn keepalive(_: &mut (), cx: &mut Cx<'_>, d: &Directive) -> Done {
    let Some(block) = &mut cx.upstream else { return Ok(()) };
    let count = d.arg(0)?;
    let Some(capacity) = count.number() else {
        return Err(Error::at(
            count,
            format!("invalid value \"{}\" in \"keepalive\" directive", count.as_str()),
        ));
    };
    block.limits.capacity = usize::try_from(capacity).unwrap_or(usize::MAX);
    block.is_local = match d.args.get(1) {
        None => false,
        Some(word) if word.is("local") => true,
        Some(word) => return Err(invalid_parameter(word)),
    };
    Ok(())
}

fn limit(cx: &mut Cx<'_>, value: u64, field: fn(&mut upstream::Limits) -> &mut u64) -> Done {
    if let Some(block) = &mut cx.upstream {
        *field(&mut block.limits) = value;
    }
    Ok(())
}

fn invalid_parameter(word: &Word) -> Error {
    Error::at(word, format!("invalid parameter \"{}\"", word.as_str()))
}

/// Sets the balancing method; a second one takes the place of the first, with a warning.
fn method(cx: &mut Cx<'_>, d: &Directive, balancer: Balancer) -> Done {
    let Some(block) = &mut cx.upstream else { return Ok(()) };
    if block.has_balancer {
        cx.notices.push(Error::at(&d.name, "load balancing method redefined").with_level(Level::Warn));
    }
    block.has_balancer = true;
    block.balancer = balancer;
    Ok(())
}

fn hash(_: &mut (), cx: &mut Cx<'_>, d: &Directive) -> Done {
    let key = Template::compile(cx, d.arg(0)?)?;
    let balancer = match (d.args.get(1), d.args.get(2)) {
        (None, _) => Balancer::Hash,
        (Some(word), None) if word.is("consistent") => Balancer::ConsistentHash(Ring::default()),
        (Some(word), Some(bound)) if word.is("consistent") => {
            let hundredths = bound.after("bound=").and_then(hundredths).filter(|bound| *bound > 100);
            Balancer::BoundedHash(Ring::default(), hundredths.ok_or_else(|| invalid_parameter(bound))?)
        }
        (Some(word), _) => return Err(invalid_parameter(word)),
    };
    method(cx, d, balancer)?;
    if let Some(block) = &mut cx.upstream {
        block.key = Some(key);
    }
    Ok(())
}

/// `1.25` in hundredths.
fn hundredths(text: &[u8]) -> Option<u32> {
    let (whole, part) = match text.iter().position(|byte| *byte == b'.') {
        Some(at) => (text.get(..at)?, text.get(at + 1..)?),
        None => (text, &b"0"[..]),
    };
    let part = match part {
        [tenths] => [*tenths, b'0'],
        [tenths, hundredths] => [*tenths, *hundredths],
        _ => return None,
    };
    let whole = u32::try_from(conf::parse_number(whole)?).ok()?;
    whole.checked_mul(100)?.checked_add(u32::try_from(conf::parse_number(&part)?).ok()?)
}

fn random(_: &mut (), cx: &mut Cx<'_>, d: &Directive) -> Done {
    let balancer = match d.args.first() {
        None => Balancer::Random,
        Some(word) if word.is("two") => Balancer::RandomTwo,
        Some(word) => return Err(invalid_parameter(word)),
    };
    match d.args.get(1) {
        None => {}
        Some(word) if word.is("least_conn") => {}
        Some(word) => {
            let time = word.after("least_time=").and_then(|name| measure(cx.side, name));
            let (metric, moment) = time.ok_or_else(|| invalid_parameter(word))?;
            return by_time(
                cx,
                d,
                moment,
                Balancer::RandomTwoLeastTime(LeastTime { metric, inflight: Inflight::Ignored }),
            );
        }
    }
    method(cx, d, balancer)
}

/// What a word of `least_time` measures, and at which moment.
fn measure(side: Side, name: &[u8]) -> Option<(Metric, HeadMoment)> {
    match (side, name) {
        (_, b"last_byte") => Some((Metric::LastByte, HeadMoment::FirstByte)),
        (Side::Http, b"header") | (Side::Stream, b"first_byte") => {
            Some((Metric::Head, HeadMoment::FirstByte))
        }
        (Side::Stream, b"connect") => Some((Metric::Head, HeadMoment::Connected)),
        _ => None,
    }
}

fn by_time(cx: &mut Cx<'_>, d: &Directive, moment: HeadMoment, balancer: Balancer) -> Done {
    method(cx, d, balancer)?;
    block(cx, d, |block, _| {
        block.head_moment = moment;
        Ok(())
    })
}

fn least_time(_: &mut (), cx: &mut Cx<'_>, d: &Directive) -> Done {
    let inflight = match d.args.get(1) {
        None => Inflight::Ignored,
        Some(word) if word.is("inflight") => Inflight::Counted,
        Some(word) => return Err(invalid_parameter(word)),
    };
    let word = d.arg(0)?;
    let invalid = || Error::at(word, format!("invalid value \"{}\"", word.as_str()));
    let (metric, moment) = measure(cx.side, &word.bytes).ok_or_else(invalid)?;
    by_time(cx, d, moment, Balancer::LeastTime(LeastTime { metric, inflight }))
}
