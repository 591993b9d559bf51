//! `listen`: what a line says, which sockets are opened for all of them, and who answers on which address.
//!
//! As in nginx a wildcard address takes the specific addresses of its port into its own socket, unless those ask
//! for one of their own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use conf::resources::{ListenAddr, Resources, SocketKind, SocketSpec, TcpKeepalive};
use conf::{Directive, Error, Level, Order, Word};

use super::compile::ServerDraft;
use super::ends::{End, Ends};
use super::server_name::{ServerName, VirtualHosts};
use super::{Server, ServerId};
use crate::side::Side;
use crate::texts::KeyFault;

/// nginx's backlog on Linux.
const BACKLOG: i32 = 511;

/// Options of `listen` that belong to the address, not to its socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddressOptions {
    /// Connections begin with a PROXY protocol header.
    pub proxy_protocol: bool,
    /// Connections are under TLS.
    pub ssl: bool,
    /// HTTP/2 is spoken whatever `http2` of the servers says.
    pub http2: bool,
}

/// One address of one `listen` line.
#[derive(Clone, Debug)]
pub struct ListenDraft {
    spec: SocketSpec,
    is_default: bool,
    /// An option asks for a socket of its own.
    is_bound: bool,
    /// An option of the socket was written, which only one line may do.
    has_socket_options: bool,
    reuseport: bool,
    options: AddressOptions,
    word: Option<Word>,
    /// When it was read.
    order: Option<Order>,
}

impl ListenDraft {
    /// `*:80`, or `*:8000` for other users than root, of a server without `listen`.
    #[must_use]
    pub fn default_address() -> Self {
        let port = if os::credentials::is_root() { 80 } else { 8000 };
        Self::at(ListenAddr::Inet(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port)), None)
    }

    fn at(addr: ListenAddr, word: Option<Word>) -> Self {
        let spec = SocketSpec {
            addr,
            kind: SocketKind::Stream,
            reuseport: None,
            backlog: BACKLOG,
            rcvbuf: None,
            sndbuf: None,
            keepalive: None,
            deferred: false,
            ipv6only: true,
            fastopen: None,
        };
        Self {
            spec,
            is_default: false,
            is_bound: false,
            has_socket_options: false,
            reuseport: false,
            options: AddressOptions::default(),
            word,
            order: None,
        }
    }

    /// Reads a `listen` line; a port range or a name with several addresses gives several.
    ///
    /// # Errors
    /// nginx's sentences for bad addresses and parameters.
    pub fn read(directive: &Directive, side: Side) -> Result<Vec<Self>, Error> {
        let word = directive.arg(0)?;
        let mut template = Self::at(ListenAddr::Unix("".into()), Some(word.clone()));
        template.order = Some(directive.order);
        for parameter in directive.args.iter().skip(1) {
            template.read_parameter(parameter, side)?;
        }
        if template.spec.kind == SocketKind::Datagram {
            template.check_datagrams(directive)?;
        }
        let addresses = addresses(word, side)?;
        Ok(addresses
            .into_iter()
            .map(|addr| Self { spec: SocketSpec { addr, ..template.spec.clone() }, ..template.clone() })
            .collect())
    }

    /// Refuses what only connections can have.
    fn check_datagrams(&self, directive: &Directive) -> Result<(), Error> {
        let of_connections = ["backlog", "deferred", "fastopen", "so_keepalive", "ssl", "proxy_protocol"];
        for word in directive.args.iter().skip(1) {
            let text = word.as_str();
            let name = text.split('=').next().unwrap_or_default();
            if of_connections.contains(&name) {
                return Err(Error::at(word, format!("\"{name}\" parameter is incompatible with \"udp\"")));
            }
        }
        Ok(())
    }

    fn read_parameter(&mut self, word: &Word, side: Side) -> Result<(), Error> {
        let (name, value) = match word.bytes.iter().position(|byte| *byte == b'=') {
            Some(at) => (&word.bytes[..at], Some(&word.bytes[at + 1..])),
            None => (&*word.bytes, None),
        };
        let number = |what: &str| {
            value
                .and_then(|text| std::str::from_utf8(text).ok())
                .and_then(|text| text.parse::<u32>().ok())
                .filter(|number| *number > 0)
                .ok_or_else(|| Error::at(word, format!("invalid {what} \"{}\"", word.as_str())))
        };
        let bytes = |what: &str| {
            value
                .and_then(|text| base::parse_size(text).ok())
                .and_then(|size| u32::try_from(size).ok())
                .ok_or_else(|| Error::at(word, format!("invalid {what} \"{}\"", word.as_str())))
        };
        let mut is_socket_option = true;
        match (name, value) {
            (b"default_server" | b"default", None) => {
                self.is_default = true;
                is_socket_option = false;
            }
            (b"proxy_protocol", None) => {
                self.options.proxy_protocol = true;
                is_socket_option = false;
            }
            (b"bind", None) => {}
            (b"backlog", _) => self.spec.backlog = i32::try_from(number("backlog")?).unwrap_or(i32::MAX),
            (b"rcvbuf", _) => self.spec.rcvbuf = Some(bytes("rcvbuf")?),
            (b"sndbuf", _) => self.spec.sndbuf = Some(bytes("sndbuf")?),
            (b"fastopen", _) => self.spec.fastopen = Some(number("fastopen")?),
            (b"deferred", None) => self.spec.deferred = true,
            (b"reuseport", None) => self.reuseport = true,
            (b"ipv6only", Some(b"on")) => self.spec.ipv6only = true,
            (b"ipv6only", Some(b"off")) => self.spec.ipv6only = false,
            (b"ipv6only", _) => {
                let shown = String::from_utf8_lossy(value.unwrap_or_default());
                return Err(Error::at(word, format!("invalid ipv6only flags \"{shown}\"")));
            }
            (b"so_keepalive", Some(value)) => self.spec.keepalive = Some(keepalive(value, word)?),
            (b"ssl", None) => {
                self.options.ssl = true;
                is_socket_option = false;
            }
            (b"http2", None) if side == Side::Http => {
                self.options.http2 = true;
                is_socket_option = false;
            }
            (b"udp", None) if side == Side::Stream => {
                self.spec.kind = SocketKind::Datagram;
                is_socket_option = false;
            }
            (b"quic", None) if side == Side::Http => {
                let sentence =
                    format!("the \"{}\" parameter of \"listen\" is not supported yet", word.as_str());
                return Err(Error::at(word, sentence));
            }
            (b"setfib" | b"accept_filter", Some(_)) => {
                let shown = String::from_utf8_lossy(name);
                let sentence = format!(
                    "\"{shown}\" parameter \"{}\" is not supported on this platform, ignored",
                    word.as_str()
                );
                return Err(Error::at(word, sentence));
            }
            _ => return Err(Error::at(word, format!("invalid parameter \"{}\"", word.as_str()))),
        }
        self.has_socket_options |= is_socket_option;
        self.is_bound |= is_socket_option;
        Ok(())
    }
}

fn keepalive(value: &[u8], word: &Word) -> Result<Option<TcpKeepalive>, Error> {
    let invalid =
        || Error::at(word, format!("invalid so_keepalive value: \"{}\"", String::from_utf8_lossy(value)));
    match value {
        b"on" => return Ok(Some(TcpKeepalive::default())),
        b"off" => return Ok(None),
        _ => {}
    }
    let parts: Vec<&[u8]> = value.split(|byte| *byte == b':').collect();
    let [idle, interval, count] = parts.as_slice() else { return Err(invalid()) };
    let seconds = |text: &[u8]| match text {
        b"" => Ok(None),
        _ => base::parse_time_sec(text)
            .ok()
            .and_then(|sec| u32::try_from(sec).ok())
            .map(Some)
            .ok_or_else(invalid),
    };
    let number = |text: &[u8]| match text {
        b"" => Ok(None),
        _ => std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).map(Some).ok_or_else(invalid),
    };
    let keepalive =
        TcpKeepalive { idle_sec: seconds(idle)?, interval_sec: seconds(interval)?, count: number(count)? };
    if keepalive == TcpKeepalive::default() {
        return Err(invalid());
    }
    Ok(Some(keepalive))
}

/// The addresses of a `listen` line (`ngx_parse_url`, in `http` with a default port of 80).
fn addresses(word: &Word, side: Side) -> Result<Vec<ListenAddr>, Error> {
    let text = word.as_str();
    let refuse = |why: &str| Error::at(word, format!("{why} in \"{text}\" of the \"listen\" directive"));
    if let Some(path) = text.strip_prefix("unix:") {
        if path.is_empty() {
            return Err(refuse("no path in the unix domain socket"));
        }
        return Ok(vec![ListenAddr::Unix(path.into())]);
    }
    if text.contains('/') {
        return Err(refuse("invalid host"));
    }
    let (host, ports) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or_else(|| refuse("invalid host"))?;
        match rest.strip_prefix(':') {
            Some(port) => (format!("[{host}]"), Some(port.to_owned())),
            None if rest.is_empty() => (format!("[{host}]"), None),
            None => return Err(refuse("invalid host")),
        }
    } else if let Some((host, port)) = text.rsplit_once(':') {
        (host.to_owned(), Some(port.to_owned()))
    } else if text.bytes().all(|b| b.is_ascii_digit() || b == b'-')
        && text.starts_with(|c: char| c.is_ascii_digit())
    {
        ("*".to_owned(), Some(text.to_string()))
    } else {
        (text.to_string(), None)
    };
    let ports = match ports.as_deref() {
        Some(ports) => port_range(ports).ok_or_else(|| refuse("invalid port"))?,
        None if side == Side::Http => (80, 80),
        None => return Err(refuse("no port")),
    };
    let ips = ips(&host).map_err(refuse)?;
    let pairs = (ports.0..=ports.1).flat_map(|port| ips.iter().map(move |ip| SocketAddr::new(*ip, port)));
    Ok(pairs.map(ListenAddr::Inet).collect())
}

fn port_range(text: &str) -> Option<(u16, u16)> {
    use base::address::port;
    match text.split_once('-') {
        Some((low, high)) => Some((port(low)?, port(high)?)).filter(|(low, high)| low <= high),
        None => port(text).map(|port| (port, port)),
    }
}

fn ips(host: &str) -> Result<Vec<IpAddr>, &'static str> {
    if host == "*" {
        return Ok(vec![Ipv4Addr::UNSPECIFIED.into()]);
    }
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner.parse::<Ipv6Addr>().map(|ip| vec![ip.into()]).map_err(|_| "invalid IPv6 address");
    }
    if host.is_empty() {
        return Err("no host");
    }
    if let Some(ip) = base::address::ipv4(host) {
        return Ok(vec![ip.into()]);
    }
    let found = std::net::ToSocketAddrs::to_socket_addrs(&(host, 0)).map_err(|_| "host not found")?;
    let mut ips: Vec<IpAddr> = found.map(|addr| addr.ip()).collect();
    ips.dedup();
    Ok(ips)
}

/// Who answers on one address of a socket.
pub struct Address {
    /// The address; `None` stands for all that have no entry of their own.
    pub ip: Option<IpAddr>,
    /// The server for names that nobody has.
    pub default_server: ServerId,
    /// Servers by name.
    pub hosts: VirtualHosts,
    /// Options of the address.
    pub options: AddressOptions,
}

/// A listening socket.
pub struct Listener {
    /// What it was opened as.
    pub spec: SocketSpec,
    socket: Mutex<Option<Arc<OwnedFd>>>,
    /// Its addresses, specific ones first.
    pub addresses: Vec<Address>,
}

impl Listener {
    /// The socket, until it was closed.
    #[must_use]
    pub fn socket(&self) -> Option<Arc<OwnedFd>> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets go of the socket, so that it closes while requests of this configuration still run.
    pub fn close(&self) {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Whether the local address of a connection decides who answers.
    #[must_use]
    pub fn needs_local_address(&self) -> bool {
        self.addresses.len() > 1
    }

    /// The entry for a local address.
    #[must_use]
    pub fn address(&self, local: Option<IpAddr>) -> &Address {
        let specific = local.and_then(|_| self.addresses.iter().find(|address| address.ip == local));
        specific.unwrap_or_else(|| &self.addresses[self.addresses.len() - 1])
    }
}

struct Merged {
    draft: ListenDraft,
    explicit_default: Option<ServerId>,
    servers: Vec<ServerId>,
}

/// Opens the sockets of all servers and files the servers under their addresses.
///
/// What is wrong with them goes to `ends`; [`open`] opens their sockets.
pub(super) fn build(
    servers: Vec<(ServerId, ServerDraft)>,
    ends: &mut Ends,
    notices: &mut Vec<Error>,
) -> Vec<Listener> {
    let drafts = servers.iter().map(|(id, draft)| (*id, draft));
    let Some(mut merged) = ends.take(End::Names, merge_all(drafts)) else { return Vec::new() };
    let mut listeners: Vec<Listener> = Vec::new();
    // Wildcards first, so that specific addresses of the same port find their socket.
    merged.sort_by_key(|entry| ip_of(&entry.draft.spec.addr).is_some_and(|ip| !ip.is_unspecified()));
    for entry in &merged {
        let mut address = Address {
            ip: ip_of(&entry.draft.spec.addr).filter(|ip| !ip.is_unspecified()),
            default_server: entry.explicit_default.unwrap_or(entry.servers[0]),
            hosts: VirtualHosts::default(),
            options: entry.draft.options,
        };
        let certificates = check_certificates(entry, address.default_server, &servers);
        ends.take(End::Certificates, certificates);
        for server in &entry.servers {
            let draft = servers.get(server.0 as usize).filter(|(id, _)| id == server);
            for name in draft.into_iter().flat_map(|(_, draft)| &draft.names) {
                let Err(fault) = address.hosts.add(name, *server) else { continue };
                // A server that is alone at its address is not found by a name, so nginx never looks at them.
                let (ServerName::Text(name), 2..) = (name, entry.servers.len()) else { continue };
                let (name, shown) = (String::from_utf8_lossy(name), addr_text(&entry.draft.spec.addr));
                match fault {
                    KeyFault::Invalid => {
                        let sentence = format!("invalid server name or wildcard \"{name}\" on {shown}");
                        ends.take(End::Names, Err::<(), _>(Error::bare(sentence)));
                    }
                    KeyFault::Conflicting => {
                        let sentence = format!("conflicting server name \"{name}\" on {shown}, ignored");
                        notices.push(Error::bare(sentence).with_level(Level::Warn));
                    }
                }
            }
        }
        address.hosts.finish();
        let wildcard = listeners.iter_mut().find(|listener| takes_in(listener, entry));
        if let Some(listener) = wildcard {
            listener.addresses.insert(0, address);
            continue;
        }
        let spec = entry.draft.spec.clone();
        listeners.push(Listener { spec, socket: Mutex::default(), addresses: vec![address] });
    }
    listeners
}

/// Opens the sockets.
///
/// # Errors
/// One that cannot be opened.
pub(super) fn open(listeners: &[Listener], resources: &mut dyn Resources) -> Result<(), Error> {
    for listener in listeners {
        let spec = &listener.spec;
        let socket = resources.socket(spec).map_err(|error| bind_error(spec, &error))?;
        *listener.socket.lock().unwrap_or_else(PoisonError::into_inner) = Some(socket);
    }
    Ok(())
}

/// Whether the addresses of servers go together.
///
/// # Errors
/// Two default servers or two sets of socket options for one address.
pub(super) fn check(servers: &[(Server, ServerDraft)]) -> Result<(), Error> {
    let ids = (0..).map(ServerId);
    merge_all(ids.zip(servers.iter().map(|(_, draft)| draft))).map(drop)
}

/// All addresses, each with its servers.
fn merge_all<'a>(servers: impl Iterator<Item = (ServerId, &'a ServerDraft)>) -> Result<Vec<Merged>, Error> {
    let mut merged: Vec<Merged> = Vec::new();
    for (server, draft) in servers {
        for listen in &draft.listens {
            merge(&mut merged, server, listen).map_err(|error| match listen.order {
                Some(order) => error.found(order),
                None => error,
            })?;
        }
    }
    Ok(merged)
}

/// An address under TLS needs a certificate (`ngx_http_ssl_init`, `ngx_stream_ssl_init`).
fn check_certificates(
    entry: &Merged,
    default: ServerId,
    servers: &[(ServerId, ServerDraft)],
) -> Result<(), Error> {
    if !entry.draft.options.ssl {
        return Ok(());
    }
    let draft_of = |id: ServerId| servers.iter().find(|(own, _)| *own == id).map(|(_, draft)| draft);
    let missing = |draft: &ServerDraft| {
        let sentence = "no \"ssl_certificate\" is defined for the \"listen ... ssl\" directive";
        match &draft.word {
            Some(word) => Error::at(word, sentence),
            None => Error::bare(sentence),
        }
    };
    let Some(draft) = draft_of(default) else { return Ok(()) };
    match &draft.tls {
        Some(tls) if tls.has_certificates => return Ok(()),
        Some(tls) if tls.rejects => {}
        _ => return Err(missing(draft)),
    }
    // The default server has none: then all others need their own.
    for draft in entry.servers.iter().filter_map(|id| draft_of(*id)) {
        if draft.tls.is_none() {
            return Err(missing(draft));
        }
    }
    Ok(())
}

fn merge(merged: &mut Vec<Merged>, server: ServerId, listen: &ListenDraft) -> Result<(), Error> {
    let shown = addr_text(&listen.spec.addr);
    let fail = |sentence: String| match &listen.word {
        Some(word) => Error::at(word, sentence),
        None => Error::bare(sentence),
    };
    let is_same = |spec: &SocketSpec| spec.addr == listen.spec.addr && spec.kind == listen.spec.kind;
    let Some(entry) = merged.iter_mut().find(|entry| is_same(&entry.draft.spec)) else {
        let explicit_default = listen.is_default.then_some(server);
        let mut draft = listen.clone();
        draft.spec.reuseport = listen.reuseport.then_some(0);
        merged.push(Merged { draft, explicit_default, servers: vec![server] });
        return Ok(());
    };
    if entry.servers.contains(&server) {
        return Err(fail(format!("a duplicate listen {shown}")));
    }
    if listen.has_socket_options {
        if entry.draft.has_socket_options {
            return Err(fail(format!("duplicate listen options for {shown}")));
        }
        let options = entry.draft.options;
        entry.draft = ListenDraft { options, ..listen.clone() };
        entry.draft.spec.reuseport = listen.reuseport.then_some(0);
    }
    entry.draft.options.proxy_protocol |= listen.options.proxy_protocol;
    entry.draft.options.ssl |= listen.options.ssl;
    entry.draft.options.http2 |= listen.options.http2;
    if listen.is_default {
        if entry.explicit_default.is_some() {
            return Err(fail(format!("a duplicate default server for {shown}")));
        }
        entry.explicit_default = Some(server);
    }
    entry.servers.push(server);
    Ok(())
}

fn takes_in(listener: &Listener, entry: &Merged) -> bool {
    let (ListenAddr::Inet(wide), ListenAddr::Inet(own)) = (&listener.spec.addr, &entry.draft.spec.addr)
    else {
        return false;
    };
    listener.spec.kind == entry.draft.spec.kind
        && wide.ip().is_unspecified()
        && !own.ip().is_unspecified()
        && wide.port() == own.port()
        && wide.is_ipv4() == own.is_ipv4()
        && !entry.draft.is_bound
}

fn ip_of(addr: &ListenAddr) -> Option<IpAddr> {
    match addr {
        ListenAddr::Inet(addr) => Some(addr.ip()),
        ListenAddr::Unix(_) => None,
    }
}

fn addr_text(addr: &ListenAddr) -> String {
    match addr {
        ListenAddr::Inet(addr) => addr.to_string(),
        ListenAddr::Unix(path) => format!("unix:{}", path.display()),
    }
}

fn bind_error(spec: &SocketSpec, error: &std::io::Error) -> Error {
    let code = error.raw_os_error().unwrap_or(0);
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    Error::bare(format!("bind() to {} failed ({code}: {text})", addr_text(&spec.addr)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_ranges() {
        assert_eq!(port_range("80"), Some((80, 80)));
        assert_eq!(port_range("8000-8002"), Some((8000, 8002)));
        assert_eq!(port_range("0"), None);
        assert_eq!(port_range("2-1"), None);
        assert_eq!(port_range("65536"), None);
    }
}
