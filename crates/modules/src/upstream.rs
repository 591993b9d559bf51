//! `ngx_http_upstream_module` with the balancing methods, `keepalive` and `zone`: what stands in `upstream` blocks.
//!
//! State is shared by all threads whether there is a `zone` or not; the name and size of one are only checked.

use std::collections::HashMap;

use conf::{Arity, Contexts, Directive, Error, Level, Word};
use http::conf::compile::Cx;
use http::conf::{UpstreamBlock, UriPart, parse_upstream_url, resolve};
use http::module::{Module, Registry, Slot};
use http::relay::variables;
use http::rows::{Row, row};
use http::variables::Template;
use upstream::{
    Accepts, Balancer, Inflight, LeastTime, Metric, Resolve, Ring, Server, ServerSpec, parse_server_params,
};

/// Least bytes of a zone: eight pages.
const ZONE_MIN: u64 = 8 * 4096;

/// `ngx_http_upstream_module`.
pub struct Upstream;

static SLOT: Slot = Slot::new();

/// The zones of all `upstream` blocks: their sizes, and where they were first named.
#[derive(Debug, Default)]
pub struct Zones(HashMap<Box<[u8]>, (u64, Option<Word>)>);

type Done = Result<(), Error>;

const UPS: Contexts = Contexts::UPSTREAM;

#[rustfmt::skip]
static ROWS: [Row<()>; 12] = [
    row("upstream", Contexts::HTTP, Arity::ONE, "", "A group of servers.", upstream).block(UPS),
    row("server", UPS, Arity::MORE1, "", "A server of the group.", server).many(),
    row("zone", UPS, Arity::TAKE12, "", "Memory for the group's state; it is shared in any case.", zone),
    row("keepalive", UPS, Arity::TAKE12, "32 local", "Most idle connections to the group.", keepalive),
    row("keepalive_requests", UPS, Arity::ONE, "1000", "Requests per connection.", |_, cx, d| limit(cx, d.number()?, |limits| &mut limits.requests)),
    row("keepalive_time", UPS, Arity::ONE, "1h", "Age to which a connection is kept.", |_, cx, d| limit(cx, d.time_ms()?, |limits| &mut limits.time_ms)),
    row("keepalive_timeout", UPS, Arity::ONE, "60s", "Time that a connection may idle.", |_, cx, d| limit(cx, d.time_ms()?, |limits| &mut limits.timeout_ms)),
    row("least_conn", UPS, Arity::NOARGS, "", "The server with the fewest connections for its weight.", |_, cx, d| method(cx, d, Balancer::LeastConn)),
    row("ip_hash", UPS, Arity::NOARGS, "", "The server that the client's address leads to.", |_, cx, d| method(cx, d, Balancer::IpHash)),
    row("hash", UPS, Arity::TAKE12, "", "The server that a key leads to.", hash),
    row("random", UPS, Arity::NOARGS.or(Arity::TAKE12), "", "A server by chance.", random),
    row("least_time", UPS, Arity::TAKE12, "", "The server that answers soonest.", least_time),
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
    ];
    const SLOT: &'static Slot = &SLOT;
    type Settings = ();
    type Main = Zones;

    fn rows() -> &'static [Row<()>] {
        &ROWS
    }

    fn register(registry: &mut Registry) {
        registry.variables(&variables::VARIABLES);
        registry.prefixes(&variables::PREFIXES);
    }

    fn finish(zones: &mut Zones, _: &mut Cx<'_>) -> Done {
        let unsized_zone = zones.0.iter().find(|(_, (size, word))| *size == 0 && word.is_some());
        match unsized_zone {
            Some((name, (_, Some(word)))) => {
                let name = String::from_utf8_lossy(name);
                Err(Error::at(word, format!("zero size shared memory zone \"{name}\"")))
            }
            _ => Ok(()),
        }
    }
}

fn upstream(_: &mut (), cx: &mut Cx<'_>, d: &Directive) -> Done {
    let word = d.arg(0)?;
    let block = UpstreamBlock::new(word.as_str().into_owned(), word.clone());
    let outer = cx.upstream.replace(block);
    let done = cx.read_lines(d.body(), UPS);
    let block = std::mem::replace(&mut cx.upstream, outer);
    done?;
    match block {
        Some(block) if !block.servers.is_empty() => cx.upstreams.add(block),
        _ => Err(Error::at_close(d, "no servers are inside upstream")),
    }
}

/// Which parameters the servers behind a method may have.
fn accepts(balancer: &Balancer) -> Accepts {
    match balancer {
        Balancer::RoundRobin | Balancer::LeastConn | Balancer::LeastTime(_) => Accepts::All,
        _ => Accepts::NoBackup,
    }
}

fn server(_: &mut (), cx: &mut Cx<'_>, d: &Directive) -> Done {
    let Some(block) = &mut cx.upstream else { return Ok(()) };
    let address = d.arg(0)?;
    let spec = parameters(d, accepts(&block.balancer))?;
    let refuse = |why: &str| Error::at(address, format!("{why} in upstream \"{}\"", address.as_str()));
    let url = parse_upstream_url(&address.bytes, UriPart::Refused).map_err(refuse)?;
    let addrs = resolve(&url.host_text(), url.port.unwrap_or(80)).map_err(refuse)?;
    block.servers.push(Server { name: address.as_str().into_owned(), addrs, spec });
    Ok(())
}

/// The parameters behind the address; what would have no effect is refused.
fn parameters(d: &Directive, accepts: Accepts) -> Result<ServerSpec, Error> {
    let address = d.arg(0)?;
    let mut all = Vec::new();
    for word in d.args.iter().skip(1) {
        let text = word.as_str();
        // One by one, so that the caret stands below the one that is wrong.
        let one =
            parse_server_params(&[&*text], accepts).map_err(|error| Error::at(word, error.to_string()))?;
        if one.resolve == Resolve::WhileRunning || one.service.is_some() || one.slow_start_ms > 0 {
            return Err(Error::at(word, format!("parameter \"{text}\" is not supported yet")));
        }
        all.push(text);
    }
    let all: Vec<&str> = all.iter().map(|text| &**text).collect();
    let spec = parse_server_params(&all, accepts).map_err(|error| Error::at(address, error.to_string()))?;
    spec.check(&address.as_str()).map_err(|error| Error::at(address, error.to_string()))?;
    Ok(spec)
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
    let zones = &mut cx.main::<Upstream>().0;
    let (known, _) = zones.entry(name.bytes.clone()).or_insert_with(|| (0, Some(name.clone())));
    if size > 0 && *known > 0 && size != *known {
        let sentence = format!(
            "the size {size} of shared memory zone \"{}\" conflicts with already declared size {known}",
            name.as_str()
        );
        return Err(Error::at(name, sentence));
    }
    *known = size.max(*known);
    Ok(())
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
    let balancer = match d.args.get(1) {
        None => Balancer::Hash,
        Some(word) if word.is("consistent") => Balancer::ConsistentHash(Ring::default()),
        Some(word) => return Err(invalid_parameter(word)),
    };
    method(cx, d, balancer)?;
    if let Some(block) = &mut cx.upstream {
        block.key = Some(key);
    }
    Ok(())
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
        Some(word) if word.bytes.starts_with(b"least_time=") => {
            return Err(Error::at(word, format!("parameter \"{}\" is not supported yet", word.as_str())));
        }
        Some(word) => return Err(invalid_parameter(word)),
    }
    method(cx, d, balancer)
}

fn least_time(_: &mut (), cx: &mut Cx<'_>, d: &Directive) -> Done {
    let inflight = match d.args.get(1) {
        None => Inflight::Ignored,
        Some(word) if word.is("inflight") => Inflight::Counted,
        Some(word) => return Err(invalid_parameter(word)),
    };
    let metric = d.one_of(&[("header", Metric::Head), ("last_byte", Metric::LastByte)])?;
    method(cx, d, Balancer::LeastTime(LeastTime { metric, inflight }))
}
