//! `ngx_http_api_module` of nginx's commercial edition: what runs, as JSON, and the servers of upstreams to be changed.
//!
//! Paths, fields, statuses and codes are those of its documentation; what is not counted here is left away.

mod caches;
mod change;
mod error;
mod json;
mod upstreams;

use std::rc::Rc;
use std::sync::Arc;

use conf::{Arity, Contexts, Directive, Error};
use http::chunk::Chunk;
use http::conf::compile::Cx;
use http::conf::location::Content;
use http::cycle::{Local, Worker};
use http::module::{Module, Slot};
use http::phases::{Answer, Answered, Body, Outcome};
use http::relay::cache::Zone;
use http::relay::cache::path::CacheZone;
use http::relay::{Upstream, now};
use http::request::Request;
use http::rows::{Row, row};
use http::server::stats::totals;
use http::side::Side;
use http::variables::VariableId;
use http::{blocking, body};
use proto::h1::Method;

use self::change::Wanted;
use self::error::ApiError;

/// `ngx_http_api_module`.
pub struct Api;

static SLOT: Slot = Slot::new();

/// Versions of the API; all are answered alike.
const VERSIONS: std::ops::RangeInclusive<u64> = 1..=9;

static ROWS: [Row<()>; 1] = [row(
    "api",
    Contexts::LOCATION,
    Arity::NOARGS.or(Arity::ONE),
    "",
    "Shows what runs, and with `write=on` lets the servers of upstreams be changed and counters of caches be reset.",
    set,
)];

impl Module for Api {
    const NAME: &'static str = "ngx_http_api_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = ();
    type Main = ();

    fn rows() -> &'static [Row<()>] {
        &ROWS
    }
}

/// Whether the API may change anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

fn set(_: &mut (), cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let access = match d.args.first() {
        None => Access::Read,
        Some(word) if word.is("write=off") => Access::Read,
        Some(word) if word.is("write=on") => Access::Write,
        Some(word) => return Err(Error::at(word, format!("invalid parameter \"{}\"", word.as_str()))),
    };
    let request_id = cx.variable(b"request_id", &d.name)?;
    cx.block.content = Some(Content::Answer(Arc::new(Handler { access, request_id })));
    Ok(())
}

struct Handler {
    access: Access,
    request_id: VariableId,
}

/// A successful answer.
struct Reply {
    status: u16,
    text: String,
    location: Option<String>,
}

impl Reply {
    fn ok(text: String) -> Self {
        Self { status: 200, text, location: None }
    }
}

impl Answer for Handler {
    fn answer<'r>(&'r self, r: &'r mut Request) -> Answered<'r> {
        let is_change = match r.method {
            Method::Get | Method::Head => false,
            Method::Post | Method::Patch | Method::Delete if self.access == Access::Write => true,
            _ => {
                r.discard_body = true;
                return Answered::Now(self.refuse(r, &ApiError::method_disabled()));
            }
        };
        if is_change {
            return Answered::Wait(Box::pin(self.change(r)));
        }
        r.discard_body = true;
        let shown = path(r).and_then(|path| show(r, &path));
        Answered::Now(match shown {
            Ok(text) => answer(r, Reply::ok(text)),
            Err(error) => self.refuse(r, &error),
        })
    }
}

/// The parts of the path behind the name of the location.
fn path(r: &Request) -> Result<Vec<String>, ApiError> {
    let rest = r.uri.strip_prefix(&*r.location().name).ok_or_else(ApiError::path_not_found)?;
    let text = std::str::from_utf8(rest).map_err(|_| ApiError::path_not_found())?;
    Ok(text.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect())
}

fn show(r: &Request, path: &[String]) -> Result<String, ApiError> {
    let parts: Vec<&str> = path.iter().map(String::as_str).collect();
    let Some((version, rest)) = parts.split_first() else {
        return Ok(listed(VERSIONS.map(|n| n.to_string())));
    };
    check_version(version)?;
    let mut out = String::new();
    match rest {
        [] => names(&mut out, &["nginx", "connections", "http", "stream"]),
        ["nginx"] => nginx(&mut out, r),
        ["connections"] => connections(&mut out),
        ["http"] => names(&mut out, &["requests", "caches", "upstreams"]),
        ["stream"] => names(&mut out, &["upstreams"]),
        ["http", "requests"] => {
            let totals = totals();
            json::object(&mut out, |object| {
                object
                    .number("total", totals.requests)
                    .number("current", positive(totals.reading + totals.writing));
            });
        }
        ["http", "caches"] => json::object(&mut out, |object| {
            for zone in zones(r) {
                object.field(zone.name(), |out| caches::cache(out, &zone));
            }
        }),
        ["http", "caches", name] => caches::cache(&mut out, &*zone(r, name)?),
        [side, "upstreams", rest @ ..] => {
            let (side, cycle) = cycle(r, side)?;
            match rest {
                [] => json::object(&mut out, |object| {
                    for upstream in shown(&cycle) {
                        object.field(&upstream.name, |out| upstreams::upstream(out, upstream, side, now()));
                    }
                }),
                [name] => upstreams::upstream(&mut out, find(&cycle, name)?, side, now()),
                [name, "servers"] => upstreams::servers(&mut out, &find(&cycle, name)?.live.servers()),
                [name, "servers", id] => one_server(&mut out, find(&cycle, name)?, parse_id(id)?)?,
                _ => return Err(ApiError::path_not_found()),
            }
        }
        _ => return Err(ApiError::path_not_found()),
    }
    Ok(out)
}

fn one_server(out: &mut String, upstream: &Upstream, id: u32) -> Result<(), ApiError> {
    for server in upstream.live.servers() {
        let member = server.members.iter().find(|member| member.id == id && server.id != id);
        if server.id == id || member.is_some() {
            upstreams::server(out, &server, member);
            return Ok(());
        }
    }
    let text = format!("server with ID \"{id}\" does not exist");
    Err(ApiError::new(404, "UpstreamServerNotFound", text))
}

impl Handler {
    async fn change(&self, r: &mut Request) -> Outcome {
        if let Err(outcome) = body::read_all(r).await {
            return outcome;
        }
        let done = match path(r) {
            Ok(path) => changed(r, &path).await,
            Err(error) => Err(error),
        };
        match done {
            Ok(reply) => answer(r, reply),
            Err(error) => self.refuse(r, &error),
        }
    }

    /// Tells what is wrong, under the request's `$request_id`.
    fn refuse(&self, r: &mut Request, error: &ApiError) -> Outcome {
        let id = r.variable(self.request_id).unwrap_or_default();
        let (status, text) = (error.status, error.body(&String::from_utf8_lossy(&id)));
        answer(r, Reply { status, text, location: None })
    }
}

async fn changed(r: &Request, path: &[String]) -> Result<Reply, ApiError> {
    let parts: Vec<&str> = path.iter().map(String::as_str).collect();
    if let ([version, "http", "caches", name], Method::Delete) = (&parts[..], r.method) {
        check_version(version)?;
        zone(r, name)?.counters().reset();
        return Ok(Reply { status: 204, text: String::new(), location: None });
    }
    let [version, side, "upstreams", name, "servers", rest @ ..] = &parts[..] else {
        // What can be read but not changed.
        show(r, path)?;
        return Err(ApiError::method_disabled());
    };
    check_version(version)?;
    let upstream = Arc::clone(find(&cycle(r, side)?.1, name)?);
    let id = match rest {
        [] => None,
        [id] => Some(parse_id(id)?),
        _ => return Err(ApiError::path_not_found()),
    };
    let wanted = match r.method {
        Method::Delete => None,
        _ => {
            Some(Wanted::read(r.body.memory().ok_or_else(|| ApiError::format("request body is too large"))?)?)
        }
    };
    let method = r.method;
    // It makes the group anew and may write a file.
    let work = move || -> Result<Reply, ApiError> {
        let mut out = String::new();
        match (method, id, wanted) {
            (Method::Post, None, Some(wanted)) => {
                let server = change::add(&upstream, &wanted)?;
                upstreams::server(&mut out, &server, None);
                Ok(Reply { status: 201, text: out, location: Some(server.id.to_string()) })
            }
            (Method::Patch, Some(id), Some(wanted)) => {
                upstreams::server(&mut out, &change::modify(&upstream, id, &wanted)?, None);
                Ok(Reply::ok(out))
            }
            (Method::Delete, Some(id), None) => {
                upstreams::servers(&mut out, &change::remove(&upstream, id)?);
                Ok(Reply::ok(out))
            }
            _ => Err(ApiError::method_disabled()),
        }
    };
    let done = blocking::run(work).await;
    let mut reply = done.map_err(|error| ApiError::new(503, "Busy", error.to_string()))??;
    if let Some(id) = &mut reply.location {
        let base = String::from_utf8_lossy(&r.uri);
        *id = format!("{}/{id}/", base.trim_end_matches('/'));
    }
    Ok(reply)
}

/// The zones that answers are kept in.
fn zones(r: &Request) -> impl Iterator<Item = Arc<Zone>> {
    r.cycle.http.zones.all::<CacheZone>().filter_map(|zone| Some(zone.data()?.zone()))
}

fn zone(r: &Request, name: &str) -> Result<Arc<Zone>, ApiError> {
    let zone = zones(r).find(|zone| zone.name() == name);
    zone.ok_or_else(|| ApiError::new(404, "CacheNotFound", "cache not found"))
}

fn check_version(version: &str) -> Result<(), ApiError> {
    match version.parse() {
        Ok(number) if VERSIONS.contains(&number) => Ok(()),
        _ => Err(ApiError::new(404, "UnknownVersion", "unknown version")),
    }
}

fn parse_id(id: &str) -> Result<u32, ApiError> {
    id.parse().map_err(|_| ApiError::new(400, "UpstreamBadServerId", "invalid server ID"))
}

/// The configuration of a side: the request's own, or that of `stream` which is in use beside it.
fn cycle(r: &Request, side: &str) -> Result<(Side, Rc<Local>), ApiError> {
    match side {
        "http" => Ok((Side::Http, Rc::clone(&r.cycle))),
        "stream" => Ok((Side::Stream, Worker::current().cycle_of(Side::Stream))),
        _ => Err(ApiError::path_not_found()),
    }
}

/// The upstreams that may be looked at.
fn shown(cycle: &Local) -> impl Iterator<Item = &Arc<Upstream>> {
    // A group that several places refer to stands there as often.
    let all = &cycle.http.upstreams;
    all.iter()
        .enumerate()
        .filter(move |(index, upstream)| {
            let is_first = !all.iter().take(*index).any(|other| Arc::ptr_eq(other, upstream));
            upstream.zone.is_some() && is_first
        })
        .map(|(_, upstream)| upstream)
}

fn find<'c>(cycle: &'c Local, name: &str) -> Result<&'c Arc<Upstream>, ApiError> {
    let all = &cycle.http.upstreams;
    match all.iter().find(|upstream| *upstream.name == *name) {
        Some(upstream) if upstream.zone.is_some() => Ok(upstream),
        Some(_) => Err(ApiError::new(400, "UpstreamStatic", "upstream is static")),
        None => Err(ApiError::new(404, "UpstreamNotFound", "upstream not found")),
    }
}

fn listed(items: impl Iterator<Item = String>) -> String {
    let mut out = String::new();
    json::list(&mut out, items, |out, item| out.push_str(&item));
    out
}

fn names(out: &mut String, names: &[&str]) {
    json::list(out, names, |out, name| json::text(out, name));
}

fn nginx(out: &mut String, r: &Request) {
    let address = r.conn.local_ip().map(|ip| ip.to_string()).unwrap_or_default();
    json::object(out, |object| {
        object.text("version", base::version::NGINX_VERSION).text("address", &address);
        object.number("generation", u64::from(r.cycle.generation));
        object.number("pid", u64::from(std::process::id()));
    });
}

fn connections(out: &mut String) {
    let totals = totals();
    json::object(out, |object| {
        object.number("accepted", totals.accepted);
        object.number("dropped", totals.accepted.saturating_sub(totals.handled));
        object.number("active", positive(totals.active - totals.waiting));
        object.number("idle", positive(totals.waiting));
    });
}

fn positive(gauge: i64) -> u64 {
    u64::try_from(gauge).unwrap_or(0)
}

fn answer(r: &mut Request, reply: Reply) -> Outcome {
    r.response.status = reply.status;
    r.response.content_type.clear();
    r.response.content_type.extend_from_slice(b"application/json");
    r.response.content_length = Some(reply.text.len() as u64);
    if let Some(location) = reply.location {
        r.response.headers.push(b"Location", location.as_bytes());
    }
    Outcome::send(Body::One(Chunk::copied(reply.text.as_bytes())))
}
