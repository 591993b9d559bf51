//! `resolver ADDRESS[:PORT] … [valid=TIME] [ipv4=on|off] [ipv6=on|off] [status_zone=ZONE]`.
//!
//! Two directives that say the same share one cache per thread, also across a reload.

use std::hash::{BuildHasher, Hash, Hasher};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use conf::{Directive, Error, Word};

/// The port of a name server that names none.
const DNS_PORT: u16 = 53;
/// After how many milliseconds without an answer a query is sent again (`resend_timeout`).
const RESEND_MS: u64 = 5_000;
/// Milliseconds for an exchange over TCP (`tcp_timeout`).
const TCP_MS: u64 = 5_000;
/// Milliseconds after which a name that nobody asked for is forgotten (`expire`).
const UNUSED_MS: u64 = 30_000;
/// Milliseconds after which a failed name is worth another try where `valid=` says nothing.
const RETRY_MS: u64 = 10_000;

/// How the addresses of a host are found at load.
pub type LookUp<'a> = dyn FnMut(&str) -> io::Result<Vec<IpAddr>> + 'a;

/// What makes two resolvers the same: they share a cache.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub servers: Box<[SocketAddr]>,
    /// `valid=`, milliseconds; zero lets the TTL decide.
    pub valid_ms: u64,
    pub families: Families,
    pub timings: Timings,
    fingerprint: u64,
}

impl Hash for Identity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.fingerprint);
    }
}

/// Which addresses are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Families {
    Ipv4,
    Ipv6,
    Both,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Timings {
    pub resend_ms: u64,
    pub tcp_ms: u64,
    pub unused_ms: u64,
}

impl Default for Timings {
    fn default() -> Self {
        Self { resend_ms: RESEND_MS, tcp_ms: TCP_MS, unused_ms: UNUSED_MS }
    }
}

/// A `resolver` directive as it runs; cheap to clone.
#[derive(Clone, Debug)]
pub struct ResolverConf {
    pub(super) identity: Arc<Identity>,
    status_zone: Option<Box<str>>,
}

impl ResolverConf {
    /// Reads the directive (`ngx_resolver_create`). A server given by name is looked up at once by the system,
    /// which may block; see [`ResolverConf::read_with`].
    ///
    /// # Errors
    /// As [`ResolverConf::read_with`].
    pub fn read(directive: &Directive) -> Result<Self, Error> {
        Self::read_with(directive, &mut conf::resources::look_up)
    }

    /// Reads the directive with the addresses of servers given by name as `look_up` has them, for instance
    /// [`conf::resources::Resources::resolve`].
    ///
    /// # Errors
    /// `invalid parameter: x`, `host not found in resolver "x"` (also `invalid port`, `invalid host`,
    /// `no host`, `invalid IPv6 address`), `"ipv4" and "ipv6" cannot both be "off"`, `no name servers defined`.
    pub fn read_with(directive: &Directive, look_up: &mut LookUp<'_>) -> Result<Self, Error> {
        let (mut servers, mut valid_ms, mut status_zone) = (Vec::new(), 0, None);
        let (mut ipv4, mut ipv6) = (true, true);
        for word in &directive.args {
            if let Some(time) = word.after("valid=") {
                let seconds = base::parse_time_sec(time).map_err(|_| invalid(word))?;
                valid_ms = seconds.saturating_mul(1000);
            } else if let Some(value) = word.after("ipv4=") {
                ipv4 = on_off(word, value)?;
            } else if let Some(value) = word.after("ipv6=") {
                ipv6 = on_off(word, value)?;
            } else if let Some(zone) = word.after("status_zone=") {
                let zone = std::str::from_utf8(zone).ok().filter(|zone| !zone.is_empty());
                status_zone = Some(zone.ok_or_else(|| invalid(word))?.into());
            } else {
                let found = name_servers(&word.as_str(), look_up);
                servers.extend(found.map_err(|reason| {
                    Error::at(word, format!("{reason} in resolver \"{}\"", word.as_str()))
                })?);
            }
        }
        let families = match (ipv4, ipv6) {
            (true, true) => Families::Both,
            (true, false) => Families::Ipv4,
            (false, true) => Families::Ipv6,
            (false, false) => {
                let sentence = "\"ipv4\" and \"ipv6\" cannot both be \"off\"";
                return Err(Error::at(&directive.name, sentence));
            }
        };
        if servers.is_empty() {
            return Err(Error::at(&directive.name, "no name servers defined"));
        }
        let mut conf = Self::new(servers, valid_ms, families, Timings::default());
        conf.status_zone = status_zone;
        Ok(conf)
    }

    pub(super) fn new(servers: Vec<SocketAddr>, valid_ms: u64, families: Families, timings: Timings) -> Self {
        let parts = (&servers, valid_ms, families, timings);
        let fingerprint =
            std::hash::BuildHasherDefault::<std::hash::DefaultHasher>::default().hash_one(parts);
        let servers = servers.into_boxed_slice();
        let identity = Identity { servers, valid_ms, families, timings, fingerprint };
        Self { identity: Arc::new(identity), status_zone: None }
    }

    /// The name servers, at least one, in the order in which they take turns.
    #[must_use]
    pub fn servers(&self) -> &[SocketAddr] {
        &self.identity.servers
    }

    /// `valid=` in milliseconds, which replaces the TTL of answers; `None` where it is not given.
    #[must_use]
    pub fn valid_ms(&self) -> Option<u64> {
        Some(self.identity.valid_ms).filter(|ms| *ms > 0)
    }

    /// Milliseconds after which a name that failed is worth another try: `valid=`, otherwise ten seconds.
    #[must_use]
    pub fn retry_ms(&self) -> u64 {
        self.valid_ms().unwrap_or(RETRY_MS)
    }

    /// `status_zone=`: under which name the resolver is counted.
    #[must_use]
    pub fn status_zone(&self) -> Option<&str> {
        self.status_zone.as_deref()
    }
}

fn invalid(word: &Word) -> Error {
    Error::at(word, format!("invalid parameter: {}", word.as_str()))
}

fn on_off(word: &Word, value: &[u8]) -> Result<bool, Error> {
    match value {
        b"on" => Ok(true),
        b"off" => Ok(false),
        _ => Err(invalid(word)),
    }
}

/// The addresses of one server word (`ngx_parse_url` with a default port of 53).
fn name_servers(url: &str, look_up: &mut LookUp<'_>) -> Result<Vec<SocketAddr>, &'static str> {
    if url.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("unix:")) || url.contains(['/', '?']) {
        return Err("invalid host");
    }
    if let Some(rest) = url.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or("invalid host")?;
        let port = match rest.strip_prefix(':') {
            Some(port) => read_port(port)?,
            None if rest.is_empty() => DNS_PORT,
            None => return Err("invalid host"),
        };
        if host.is_empty() {
            return Err("no host");
        }
        let ip: Ipv6Addr = host.parse().map_err(|_| "invalid IPv6 address")?;
        return Ok(vec![SocketAddr::new(IpAddr::V6(ip), port)]);
    }
    let (host, port) = match url.split_once(':') {
        Some((host, port)) => (host, read_port(port)?),
        None => (url, DNS_PORT),
    };
    if host.is_empty() {
        return Err("no host");
    }
    if let Some(ip) = base::address::ipv4(host) {
        return Ok(vec![SocketAddr::new(IpAddr::V4(ip), port)]);
    }
    let found = look_up(host).map_err(|_| "host not found")?;
    if found.is_empty() {
        return Err("host not found");
    }
    Ok(found.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
}

fn read_port(text: &str) -> Result<u16, &'static str> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let port = if digits { text.trim_start_matches('0').parse().unwrap_or(0) } else { 0 };
    if port == 0 { Err("invalid port") } else { Ok(port) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use conf::{Arity, Contexts, Row};

    fn read(args: &str) -> Result<ResolverConf, String> {
        let args = Box::leak(args.to_owned().into_boxed_str());
        let row = Box::leak(Box::new(Row::new("resolver", Contexts::HTTP_ALL, Arity::MORE1).default(args)));
        let directive = Directive::from_default(row).expect("it lexes").expect("it has words");
        let mut hosts = |host: &str| match host {
            "dns.example" => Ok(vec![IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2])]),
            "empty.example" => Ok(Vec::new()),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        ResolverConf::read_with(&directive, &mut hosts).map_err(|error| error.to_string())
    }

    #[test]
    fn servers_and_parameters() {
        let check = |args: &str, servers: &[&str]| {
            let conf = read(args).expect(args);
            let found: Vec<_> = conf.servers().iter().map(ToString::to_string).collect();
            assert_eq!(found, servers, "{args}");
        };
        check("127.0.0.1", &["127.0.0.1:53"]);
        check("127.0.0.1:5353 [::1] [::2]:54", &["127.0.0.1:5353", "[::1]:53", "[::2]:54"]);
        check("10.0.0.1 valid=30s ipv6=off status_zone=dns", &["10.0.0.1:53"]);
        check("dns.example:54", &["10.0.0.1:54", "10.0.0.2:54"]);
        check("127.0.0.1:00053", &["127.0.0.1:53"]);
        let conf = read("10.0.0.1 valid=30s ipv6=off status_zone=dns").expect("a resolver");
        assert_eq!((conf.valid_ms(), conf.retry_ms()), (Some(30_000), 30_000));
        assert_eq!((conf.identity.families, conf.status_zone()), (Families::Ipv4, Some("dns")));
        let conf = read("10.0.0.1 ipv4=off").expect("a resolver");
        assert_eq!(
            (conf.valid_ms(), conf.retry_ms(), conf.identity.families),
            (None, 10_000, Families::Ipv6)
        );
    }

    #[test]
    fn the_same_words_are_the_same_resolver() {
        let one = read("10.0.0.1 valid=30s").expect("a resolver");
        let two = read("10.0.0.1 valid=30s status_zone=a").expect("a resolver");
        let other = read("10.0.0.1 valid=31s").expect("a resolver");
        assert_eq!(one.identity, two.identity);
        assert_ne!(one.identity, other.identity);
    }

    #[test]
    fn sentences() {
        let check = |args: &str, expected: &str| assert_eq!(read(args).err().as_deref(), Some(expected));
        check("127.0.0.1 valid=x", "invalid parameter: valid=x");
        check("127.0.0.1 valid=1ms", "invalid parameter: valid=1ms");
        check("127.0.0.1 ipv4=ON", "invalid parameter: ipv4=ON");
        check("127.0.0.1 ipv6=", "invalid parameter: ipv6=");
        check("127.0.0.1 status_zone=", "invalid parameter: status_zone=");
        check("127.0.0.1 ipv4=off ipv6=off", "\"ipv4\" and \"ipv6\" cannot both be \"off\"");
        check("valid=1s", "no name servers defined");
        check("127.0.0.1:0", "invalid port in resolver \"127.0.0.1:0\"");
        check("127.0.0.1:65536", "invalid port in resolver \"127.0.0.1:65536\"");
        check("127.0.0.1:x", "invalid port in resolver \"127.0.0.1:x\"");
        check(":53", "no host in resolver \":53\"");
        check("[]", "no host in resolver \"[]\"");
        check("[::1", "invalid host in resolver \"[::1\"");
        check("[::1]x", "invalid host in resolver \"[::1]x\"");
        check("[::g]", "invalid IPv6 address in resolver \"[::g]\"");
        check("127.0.0.1/x", "invalid host in resolver \"127.0.0.1/x\"");
        check("none.example", "host not found in resolver \"none.example\"");
        check("empty.example", "host not found in resolver \"empty.example\"");
    }
}
