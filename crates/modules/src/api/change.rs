//! Servers added, changed and removed by the API.
//!
//! What a request says is checked as a whole before anything changes.

use http::conf::parse_server;
use http::relay::{Upstream, now};
use serde_json::{Map, Value};
use upstream::{Accepts, Admin, Edit, Resolve, Role, Server, ServerSpec};

use super::error::ApiError;

/// Most fields that are looked at: a server has fewer.
const MAX_FIELDS: usize = 32;

/// What a request says of a server.
pub(super) struct Wanted(Map<String, Value>);

impl Wanted {
    /// Reads the body of a request.
    pub(super) fn read(body: &[u8]) -> Result<Self, ApiError> {
        let wrong = || ApiError::new(415, "JsonError", "json error");
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) if fields.len() <= MAX_FIELDS => Ok(Self(fields)),
            Ok(Value::Object(_)) => Err(ApiError::format("too many parameters")),
            _ => Err(wrong()),
        }
    }

    fn address(&self) -> Result<Option<&str>, ApiError> {
        match self.0.get("server") {
            None => Ok(None),
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(text)),
            Some(_) => Err(ApiError::format("invalid \"server\" value")),
        }
    }

    /// Applies all but the address; `is_new` servers may have what cannot be changed later.
    fn apply(&self, spec: &mut ServerSpec, moment: Moment, accepts: Accepts) -> Result<(), ApiError> {
        for (name, value) in &self.0 {
            apply(spec, name, value, moment, accepts)?;
        }
        Ok(())
    }
}

/// Whether a server is made or changed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moment {
    Made,
    Changed,
}

fn apply(
    spec: &mut ServerSpec,
    name: &str,
    value: &Value,
    moment: Moment,
    accepts: Accepts,
) -> Result<(), ApiError> {
    let bad = |code| ApiError::new(400, code, format!("invalid \"{name}\" value"));
    let number = || value.as_u64().and_then(|number| u32::try_from(number).ok());
    let flag = || value.as_bool().ok_or_else(|| bad("UpstreamConfFormatError"));
    if value.is_object() || value.is_array() {
        return Err(ApiError::format("nested object or list"));
    }
    match name {
        "server" | "id" => {}
        "weight" => spec.weight = number().filter(|n| *n > 0).ok_or_else(|| bad("UpstreamBadWeight"))?,
        "max_conns" => spec.max_conns = number().ok_or_else(|| bad("UpstreamBadMaxConns"))?,
        "max_fails" => spec.max_fails = number().ok_or_else(|| bad("UpstreamBadMaxFails"))?,
        "fail_timeout" => {
            let time = value.as_str().and_then(|text| base::parse_time_sec(text.as_bytes()).ok());
            spec.fail_timeout_sec = time.or(value.as_u64()).ok_or_else(|| bad("UpstreamBadFailTimeout"))?;
        }
        "slow_start" => {
            let time = value.as_str().and_then(|text| base::parse_time_ms(text.as_bytes()).ok());
            let time = time.or_else(|| value.as_u64().and_then(|seconds| seconds.checked_mul(1000)));
            spec.slow_start_ms = time
                .filter(|ms| *ms == 0 || accepts == Accepts::All)
                .ok_or_else(|| bad("UpstreamBadSlowStart"))?;
        }
        "route" => {
            let route = value.as_str().ok_or_else(|| bad("UpstreamBadRoute"))?;
            if route.len() > 32 || !is_word(route) {
                return Err(ApiError::new(400, "UpstreamBadRoute", "route is longer than 32"));
            }
            spec.route = Some(route).filter(|route| !route.is_empty()).map(Into::into);
        }
        "down" => {
            spec.admin = match (flag()?, spec.admin) {
                (true, _) => Admin::Down,
                (false, Admin::Down) => Admin::Up,
                (false, other) => other,
            }
        }
        "drain" if moment == Moment::Changed => {
            // A server that drains goes on doing so until it is down or up again.
            spec.admin = if flag()? { Admin::Draining } else { Admin::Up };
        }
        "backup" if moment == Moment::Made => {
            if flag()? {
                if accepts == Accepts::NoBackup {
                    return Err(ApiError::new(400, "UpstreamNoBackup", "upstream has no backup"));
                }
                spec.role = Role::Backup;
            }
        }
        "service" if moment == Moment::Made => {
            let service = value.as_str().filter(|text| !text.is_empty() && is_word(text));
            let service =
                service.ok_or_else(|| ApiError::new(400, "UpstreamBadService", "service is empty"))?;
            spec.service = Some(service.into());
            spec.resolve = Resolve::WhileRunning;
        }
        _ => return Err(ApiError::format(format!("unknown parameter \"{name}\""))),
    }
    Ok(())
}

/// Whether a text is one word of a configuration, which the `state` file is.
fn is_word(text: &str) -> bool {
    text.bytes().all(|byte| {
        byte.is_ascii_graphic() && !matches!(byte, b';' | b'{' | b'}' | b'"' | b'\'' | b'$' | b'\\' | b'#')
    })
}

fn bad_address(address: &str, why: &str) -> ApiError {
    ApiError::new(400, "UpstreamBadAddress", format!("{why} in upstream \"{address}\""))
}

/// The server at an address.
fn server_at(upstream: &Upstream, address: &str, mut spec: ServerSpec) -> Result<Server, ApiError> {
    if !is_word(address) {
        return Err(bad_address(address, "invalid host"));
    }
    let is_service = spec.service.is_some();
    let has_port = http::conf::parse_upstream_url(address.as_bytes(), http::conf::UriPart::Refused)
        .is_ok_and(|url| url.port.is_some());
    if is_service && has_port {
        return Err(bad_address(address, "service may not have port"));
    }
    let parsed = parse_server(address, spec.clone()).map_err(|why| bad_address(address, why))?;
    if parsed.named.is_none() {
        return if is_service {
            Err(bad_address(address, "service requires domain name"))
        } else {
            Ok(parsed)
        };
    }
    if upstream.naming.resolver.is_none() {
        let text = format!("no resolver defined to resolve {address}");
        return Err(ApiError::new(400, "UpstreamConfNoResolver", text));
    }
    spec.resolve = Resolve::WhileRunning;
    parse_server(address, spec).map_err(|why| bad_address(address, why))
}

/// Adds a server; it as it is now.
pub(super) fn add(upstream: &Upstream, wanted: &Wanted) -> Result<Server, ApiError> {
    let address = wanted.address()?.ok_or_else(|| ApiError::format("missing \"server\" argument"))?;
    let mut spec = ServerSpec::default();
    wanted.apply(&mut spec, Moment::Made, upstream.live.policy().balancer.accepts())?;
    let server = server_at(upstream, address, spec)?;
    changed(upstream, |edit| {
        if edit.servers.iter().any(|known| *known.name == *server.name) {
            return Err(ApiError::new(409, "EntryExists", "entry exists"));
        }
        let id = edit.add(server);
        edit.server(id).cloned().ok_or_else(|| missing(id))
    })
}

/// Changes a server; it as it is now.
pub(super) fn modify(upstream: &Upstream, id: u32, wanted: &Wanted) -> Result<Server, ApiError> {
    let accepts = upstream.live.policy().balancer.accepts();
    changed(upstream, |edit| {
        refuse_member(edit, id)?;
        let server = edit.server(id).ok_or_else(|| missing(id))?;
        let mut spec = server.spec.clone();
        wanted.apply(&mut spec, Moment::Changed, accepts)?;
        if let Some(address) = wanted.address()?.filter(|address| **address != *server.name) {
            let fresh = server_at(upstream, address, spec.clone())?;
            if server.named.is_some() || fresh.named.is_some() {
                return Err(ApiError::new(400, "UpstreamServerImmutable", "server address is immutable"));
            }
            server.name = fresh.name;
            server.members = fresh.members;
            server.members.iter_mut().for_each(|member| member.id = id);
        }
        let returns = server.spec.admin == Admin::Down && spec.admin == Admin::Up;
        server.spec = spec;
        let server = server.clone();
        if returns {
            edit.returns(id);
        }
        Ok(server)
    })
}

/// Removes a server; those that are left.
pub(super) fn remove(upstream: &Upstream, id: u32) -> Result<Vec<Server>, ApiError> {
    changed(upstream, |edit| {
        refuse_member(edit, id)?;
        let before = edit.servers.len();
        edit.servers.retain(|server| server.id != id);
        if edit.servers.len() == before { Err(missing(id)) } else { Ok(edit.servers.clone()) }
    })
}

fn missing(id: u32) -> ApiError {
    ApiError::new(404, "UpstreamServerNotFound", format!("server with ID \"{id}\" does not exist"))
}

/// The addresses of a name are DNS's and not the operator's.
fn refuse_member(edit: &Edit<'_>, id: u32) -> Result<(), ApiError> {
    let is_member = |server: &Server| server.id != id && server.members.iter().any(|member| member.id == id);
    if edit.servers.iter().any(is_member) {
        return Err(ApiError::new(400, "UpstreamServerImmutable", "server is immutable"));
    }
    Ok(())
}

/// Makes a change, keeps it in the `state` file and tells those who look after the servers.
fn changed<T>(
    upstream: &Upstream,
    change: impl FnOnce(&mut Edit<'_>) -> Result<T, ApiError>,
) -> Result<T, ApiError> {
    let done = upstream.live.change(now(), change)?;
    upstream.changed.send_modify(|count| *count = count.wrapping_add(1));
    if let Some(queue) = &upstream.queue {
        queue.wake();
    }
    if let Some(state) = &upstream.state
        && let Err(error) = state.save(&upstream.live.servers())
    {
        let reason = os::errlog::Errno(&error);
        let path = state.path.display();
        return Err(ApiError::new(500, "StateFileError", format!("open() \"{path}\" failed {reason}")));
    }
    Ok(done)
}
