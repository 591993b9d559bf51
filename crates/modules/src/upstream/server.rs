//! `server` lines of an `upstream` block, and those that a `state` file keeps.
//!
//! Which parameters are taken depends on the method named so far; names are looked up when all was read.

use conf::{Directive, Error, Word};
use http::conf::compile::Cx;
use http::conf::parse_server;
use http::relay::state_file::{self, StateFile};
use http::side::Side;
use upstream::{Accepts, Resolve, Server, ServerSpec, parse_server_params};

use super::Done;

/// The setter of `server`.
pub(super) fn server(_: &mut (), cx: &mut Cx<'_>, d: &Directive) -> Done {
    let side = cx.side;
    let Some(block) = &mut cx.upstream else { return Ok(()) };
    let address = d.arg(0)?;
    if block.state.is_some() {
        return Err(Error::at(&d.name, "\"server\" cannot be used together with \"state\""));
    }
    let spec = parameters(d, block.balancer.accepts())?;
    if side == Side::Stream && spec.service.is_none() && lacks_port(&address.bytes) {
        return Err(Error::at(address, format!("no port in upstream \"{}\"", address.as_str())));
    }
    let server = make(&address.as_str(), spec).map_err(|why| Error::at(address, why))?;
    block.servers.push((server, address.clone()));
    Ok(())
}

/// Whether an address is one that needs a port, and has none.
fn lacks_port(address: &[u8]) -> bool {
    let url = http::conf::parse_upstream_url(address, http::conf::UriPart::Refused);
    url.is_ok_and(|url| url.port.is_none() && !url.is_unix())
}

/// The server of an address, in whatever place it is written.
fn make(address: &str, spec: ServerSpec) -> Result<Server, String> {
    let refuse = |why: &str| format!("{why} in upstream \"{address}\"");
    let is_service = spec.service.is_some();
    let server = parse_server(address, spec).map_err(refuse)?;
    if is_service {
        let port = http::conf::parse_upstream_url(address.as_bytes(), http::conf::UriPart::Refused);
        if port.is_ok_and(|url| url.port.is_some()) {
            return Err(format!("service upstream \"{address}\" may not have port"));
        }
        if server.named.is_none() {
            return Err(format!("service upstream \"{address}\" requires domain name"));
        }
    }
    Ok(server)
}

/// The parameters behind the address.
fn parameters(d: &Directive, accepts: Accepts) -> Result<ServerSpec, Error> {
    let address = d.arg(0)?;
    let mut all = Vec::new();
    for word in d.args.iter().skip(1) {
        let text = word.as_str();
        // One by one, so that the caret stands below the one that is wrong.
        parse_server_params(&[&*text], accepts).map_err(|error| Error::at(word, error.to_string()))?;
        all.push(text);
    }
    let all: Vec<&str> = all.iter().map(|text| &**text).collect();
    let spec = parse_server_params(&all, accepts).map_err(|error| Error::at(address, error.to_string()))?;
    spec.check(&address.as_str()).map_err(|error| Error::at(address, error.to_string()))?;
    Ok(spec)
}

/// The setter of `state`.
pub(super) fn state(_: &mut (), cx: &mut Cx<'_>, d: &Directive) -> Done {
    let word = d.arg(0)?;
    let path = cx.path(&word.bytes);
    let text = match cx.resources.read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => std::sync::Arc::from(&b""[..]),
        Err(error) => {
            let reason = os::errlog::Errno(&error);
            return Err(Error::at(word, format!("open() \"{}\" failed {reason}", path.display())));
        }
    };
    let Some(block) = &mut cx.upstream else { return Ok(()) };
    if !block.servers.is_empty() {
        return Err(Error::at(&d.name, "\"state\" cannot be used together with \"server\""));
    }
    let servers = kept_servers(&text, block.balancer.accepts())
        .map_err(|why| Error::at(word, format!("{why} in state file \"{}\"", path.display())))?;
    block.servers.extend(servers.into_iter().map(|server| (server, Word::clone(word))));
    block.state = Some(StateFile { path });
    Ok(())
}

fn kept_servers(text: &[u8], accepts: Accepts) -> Result<Vec<Server>, String> {
    let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
    let lines = state_file::read(text).map_err(|line| format!("unknown directive \"{line}\""))?;
    let mut servers = Vec::new();
    for words in lines {
        let Some((address, params)) = words.split_first() else { continue };
        let spec = parse_server_params(params, accepts).map_err(|error| error.to_string())?;
        spec.check(address).map_err(|error| error.to_string())?;
        let mut server = make(address, spec)?;
        // A name that the API added is followed whatever it is at load.
        if server.named.is_some() {
            server.spec.resolve = Resolve::WhileRunning;
        }
        servers.push(server);
    }
    Ok(servers)
}
