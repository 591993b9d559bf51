//! `ngx_http_realip_module`: the client's address as a proxy in front tells it.
//!
//! It is taken once for a request: right after the head was read, or before access is checked where only the
//! location says how.

use std::net::{IpAddr, SocketAddr};

use base::Network;
use base::address::ip_and_port;
use conf::{Arity, Contexts, Directive, Error};
use http::conf::compile::Cx;
use http::conf::network;
use http::conf::{Lines, Location};
use http::module::{Module, Registry, Settings, Slot};
use http::output::push_decimal;
use http::phases::{Phase, PhaseHandler, Verdict};
use http::request::Request;
use http::rows::{Row, flag, row, value};
use http::variables::{Variable, push_addr};
use os::socket::PeerAddr;
use proto::h1::Known;

/// `ngx_http_realip_module`.
pub struct Realip;

static SLOT: Slot = Slot::new();

/// Where the address is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Told {
    #[default]
    XRealIp,
    /// The last of a list, which may go over several fields.
    XForwardedFor,
    ProxyProtocol,
    Field(Box<[u8]>),
}

/// Settings of one block.
#[derive(Clone, Default)]
pub struct RealipSettings {
    /// Who is believed.
    from: Lines<Network>,
    told: Told,
    recursive: bool,
}

impl Settings for RealipSettings {
    fn enter(&mut self) {
        self.from.enter();
    }
}

const ALL: Contexts = Contexts::HTTP_ALL;

static ROWS: [Row<RealipSettings>; 3] = [
    row(
        "set_real_ip_from",
        ALL.or(Contexts::STREAM_ALL),
        Arity::ONE,
        "",
        "Proxies that are believed.",
        set_real_ip_from,
    )
    .many(),
    value("real_ip_header", ALL, Arity::ONE, "X-Real-IP", "Where the client's address is told.", |s, d| {
        s.told = match &*d.arg(0)?.bytes {
            b"X-Real-IP" => Told::XRealIp,
            b"X-Forwarded-For" => Told::XForwardedFor,
            b"proxy_protocol" => Told::ProxyProtocol,
            name => Told::Field(name.into()),
        };
        Ok(())
    }),
    flag("real_ip_recursive", ALL, "off", "Passes over addresses of proxies that are believed.", |s, v| {
        s.recursive = v
    }),
];

static VARIABLES: [Variable; 2] = [
    Variable::new("realip_remote_addr", |r, out| {
        push_addr(&r.conn.peer, out);
        true
    }),
    Variable::new("realip_remote_port", |r, out| {
        let port = r.conn.peer.port();
        if port > 0 {
            push_decimal(u64::from(port), out);
        }
        true
    }),
];

impl Module for Realip {
    const NAME: &'static str = "ngx_http_realip_module";
    const ALSO: &'static [&'static str] = &["ngx_stream_realip_module"];
    const SLOT: &'static Slot = &SLOT;
    type Settings = RealipSettings;
    type Main = ();

    fn rows() -> &'static [Row<RealipSettings>] {
        &ROWS
    }

    fn register(registry: &mut Registry) {
        registry.phase(Phase::PostRead, &Realip);
        registry.phase(Phase::PreAccess, &Realip);
        registry.variables(&VARIABLES);
        registry.stream_phase(Phase::PostRead, &OfSession);
        registry.stream_variables(&VARIABLES);
    }
}

fn set_real_ip_from(s: &mut RealipSettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let word = d.arg(0)?;
    let from = s.from.own();
    if let Some(network) = network(cx, word) {
        from.push(network);
        return Ok(());
    }
    let host = word.as_str();
    let refused = |why: &str| Error::at(word, format!("{why} in set_real_ip_from \"{host}\""));
    if host.is_empty() {
        return Err(refused("no host"));
    }
    let found = cx.resources.resolve(&host).unwrap_or_default();
    if found.is_empty() {
        return Err(refused("host not found"));
    }
    from.extend(found.into_iter().map(|base| {
        let prefix = if base.is_ipv4() { 32 } else { 128 };
        Network::Inet { base, prefix }
    }));
    Ok(())
}

impl PhaseHandler for Realip {
    fn concerns(&self, location: &Location) -> bool {
        !location.settings::<Self>().from.is_empty()
    }

    fn run<'r>(&self, r: &'r mut Request) -> Verdict<'r> {
        let settings = r.location().settings::<Self>();
        if r.real_client.is_none()
            && let Some(client) = settings.client(r)
        {
            r.real_client = Some(PeerAddr::Inet(client));
        }
        Verdict::Declined
    }
}

/// The module's part in a session of `stream`, where nothing but the PROXY protocol tells of the client.
struct OfSession;

impl PhaseHandler for OfSession {
    fn concerns(&self, location: &Location) -> bool {
        Realip.concerns(location)
    }

    fn run<'r>(&self, r: &'r mut Request) -> Verdict<'r> {
        if let Some(client) = r.location().settings::<Realip>().proxied(r) {
            r.real_client = Some(PeerAddr::Inet(client));
        }
        Verdict::Declined
    }
}

impl RealipSettings {
    /// The client that the PROXY protocol tells of.
    fn proxied(&self, r: &Request) -> Option<SocketAddr> {
        let search = Search { from: &self.from, recursive: self.recursive };
        let source = &r.conn.proxy.get()?.source;
        let client = search.one(r.conn.peer.ip(), source.address.as_bytes())?;
        Some(SocketAddr::new(client.ip(), source.port))
    }

    fn client(&self, r: &Request) -> Option<SocketAddr> {
        let search = Search { from: &self.from, recursive: self.recursive };
        let peer = r.conn.peer.ip();
        let fields = &r.line.fields;
        match &self.told {
            Told::XRealIp => search.one(peer, r.header(Known::XRealIp)?),
            Told::XForwardedFor => {
                let values: Vec<&[u8]> =
                    fields.all(Known::XForwardedFor).map(|field| field.value.of(&r.head)).collect();
                search.last(peer, &values)
            }
            Told::ProxyProtocol => self.proxied(r),
            Told::Field(name) => {
                let mut named =
                    fields.iter().filter(|field| field.name.of(&r.head).eq_ignore_ascii_case(name));
                search.one(peer, named.next()?.value.of(&r.head))
            }
        }
    }
}

/// The search for the client among what proxies say (`ngx_http_get_forwarded_addr`).
struct Search<'s> {
    from: &'s [Network],
    recursive: bool,
}

impl Search<'_> {
    fn believes(&self, peer: Option<IpAddr>) -> bool {
        self.from.iter().any(|network| network.contains(peer))
    }

    /// The client in a single value.
    fn one(&self, peer: Option<IpAddr>, value: &[u8]) -> Option<SocketAddr> {
        match self.walk(peer, value) {
            Walked::Nothing => None,
            Walked::End(client) | Walked::All(client) => Some(client),
        }
    }

    /// The client in several values, of which the last was added last.
    fn last(&self, peer: Option<IpAddr>, values: &[&[u8]]) -> Option<SocketAddr> {
        let mut found: Option<SocketAddr> = None;
        for value in values.iter().rev() {
            let peer = found.map_or(peer, |client| Some(client.ip()));
            match self.walk(peer, value) {
                Walked::Nothing => break,
                Walked::End(client) => return Some(client),
                Walked::All(client) => found = Some(client),
            }
            if !self.recursive {
                break;
            }
        }
        found
    }

    /// Goes through a list from its end for as long as who added an address is believed.
    fn walk(&self, peer: Option<IpAddr>, list: &[u8]) -> Walked {
        let (mut peer, mut rest, mut found) = (peer, list, None);
        loop {
            let client = if self.believes(peer) { last_address(&mut rest) } else { None };
            let Some(client) = client else { return found.map_or(Walked::Nothing, Walked::End) };
            if !self.recursive || rest.is_empty() {
                return Walked::All(client);
            }
            peer = Some(client.ip());
            found = Some(client);
        }
    }
}

/// How far a list was gone through.
#[derive(Debug, PartialEq, Eq)]
enum Walked {
    /// There is no address in it, or its author is not believed.
    Nothing,
    /// Up to this address, whose own word is not believed.
    End(SocketAddr),
    /// To its beginning.
    All(SocketAddr),
}

/// Takes the last address off a list that commas and spaces divide.
fn last_address(list: &mut &[u8]) -> Option<SocketAddr> {
    let is_divider = |byte: &u8| matches!(byte, b' ' | b',');
    let end = list.iter().rposition(|byte| !is_divider(byte))? + 1;
    let start = list.get(..end)?.iter().rposition(is_divider).map_or(0, |at| at + 1);
    let text = list.get(start..end)?;
    *list = list.get(..start.saturating_sub(1))?;
    ip_and_port(std::str::from_utf8(text).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_is_the_last_who_is_not_believed() {
        let check = |recursive: bool, values: &[&str], expected: Option<&str>| {
            let networks = ["127.0.0.1", "10.0.0.0/8"].map(|text| Network::parse(text).expect("network"));
            let search = Search { from: &networks, recursive };
            let values: Vec<&[u8]> = values.iter().map(|value| value.as_bytes()).collect();
            let found = search.last(Some([127, 0, 0, 1].into()), &values);
            assert_eq!(
                found,
                expected.map(|text| SocketAddr::new(text.parse().expect("ip"), 0)),
                "{values:?}"
            );
        };
        check(false, &["192.0.2.1"], Some("192.0.2.1"));
        check(false, &["192.0.2.2, 192.0.2.1"], Some("192.0.2.1"));
        check(false, &["192.0.2.2", "192.0.2.1"], Some("192.0.2.1"));
        check(false, &["192.0.2.2, 10.0.0.1"], Some("10.0.0.1"));
        check(false, &["192.0.2.2, 10.0.0.1 , "], Some("10.0.0.1"));
        check(false, &["192.0.2.2, x"], None);
        check(false, &[""], None);
        check(false, &[], None);
        check(true, &["192.0.2.2, 10.0.0.1"], Some("192.0.2.2"));
        check(true, &["192.0.2.3, 192.0.2.2, 10.0.0.1"], Some("192.0.2.2"));
        check(true, &["192.0.2.3, 192.0.2.2", "10.0.0.1"], Some("192.0.2.2"));
        check(true, &["10.0.0.3", "10.0.0.1"], Some("10.0.0.3"));
        check(true, &["192.0.2.2, x, 10.0.0.1"], Some("10.0.0.1"));
        check(true, &["192.0.2.2", "x", "10.0.0.1"], Some("10.0.0.1"));
        check(true, &["10.0.0.2,10.0.0.1"], Some("10.0.0.2"));
        check(true, &[" 192.0.2.2"], Some("192.0.2.2"));
    }

    #[test]
    fn nobody_is_believed_by_default() {
        let search = Search { from: &[], recursive: true };
        assert_eq!(search.one(Some([127, 0, 0, 1].into()), b"192.0.2.1"), None);
    }
}
