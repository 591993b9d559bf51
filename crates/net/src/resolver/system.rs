//! The name servers of the system: `/etc/resolv.conf`, and the names that `/etc/hosts` answers for.
//!
//! Read only where no `resolver` is configured, so that names keep up with their addresses all the same.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::ResolverConf;
use super::conf::{Families, Timings};

/// Name servers that are used of those in the file, as in the C library (`MAXNS`).
const MAX_SERVERS: usize = 3;
/// Domains that are searched (`MAXDNSRCH`, which newer libraries do not have any more).
const MAX_DOMAINS: usize = 32;
/// Bytes of either file that are read.
const MAX_BYTES: u64 = 1 << 20;
const DNS_PORT: u16 = 53;

/// What the system knows about names.
#[derive(Clone, Debug)]
pub struct SystemNames {
    resolver: Option<ResolverConf>,
    search: Vec<String>,
    ndots: usize,
    hosts: HashSet<String>,
}

impl SystemNames {
    /// Reads the system's files; what is missing there is empty here.
    #[must_use]
    pub fn read() -> Self {
        let text = |path: &str| read_start(Path::new(path)).unwrap_or_default();
        Self::parse(&text("/etc/resolv.conf"), &text("/etc/hosts"))
    }

    fn parse(resolv_conf: &str, hosts: &str) -> Self {
        let (mut servers, mut search, mut ndots) = (Vec::new(), Vec::new(), 1);
        for line in resolv_conf.lines() {
            let mut words = line.split(['#', ';']).next().unwrap_or_default().split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let ip = words.next().and_then(|text| text.parse::<IpAddr>().ok());
                    servers.extend(ip.map(|ip| SocketAddr::new(ip, DNS_PORT)));
                }
                Some("domain" | "search") => search = words.map(str::to_ascii_lowercase).collect(),
                Some("options") => {
                    let found = words.find_map(|word| word.strip_prefix("ndots:")?.parse().ok());
                    ndots = found.unwrap_or(ndots).min(15);
                }
                _ => {}
            }
        }
        servers.truncate(MAX_SERVERS);
        search.truncate(MAX_DOMAINS);
        let resolver =
            (!servers.is_empty()).then(|| ResolverConf::new(servers, 0, Families::Both, Timings::default()));
        let names = hosts.lines().flat_map(|line| {
            let words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
            words.skip(1).map(str::to_ascii_lowercase)
        });
        Self { resolver, search, ndots, hosts: names.collect() }
    }

    /// The name servers, if there are any.
    #[must_use]
    pub fn resolver(&self) -> Option<&ResolverConf> {
        self.resolver.as_ref()
    }

    /// Whether the name is answered without asking anybody: by `/etc/hosts`, or since it is this machine's
    /// (RFC 6761, 6.3).
    #[must_use]
    pub fn is_local(&self, name: &str) -> bool {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        name == "localhost" || name.ends_with(".localhost") || self.hosts.contains(&name)
    }

    /// The full names that a name may stand for, in the order to be tried (`resolv.conf(5)`).
    #[must_use]
    pub fn candidates(&self, name: &str) -> Vec<String> {
        if let Some(full) = name.strip_suffix('.') {
            return vec![full.to_owned()];
        }
        let searched = self.search.iter().map(|domain| format!("{name}.{domain}"));
        let dots = name.bytes().filter(|byte| *byte == b'.').count();
        if dots >= self.ndots {
            std::iter::once(name.to_owned()).chain(searched).collect()
        } else {
            searched.chain(std::iter::once(name.to_owned())).collect()
        }
    }
}

fn read_start(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(MAX_BYTES).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_understood() {
        let names = SystemNames::parse(
            "# generated\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\nnameserver ::1 # local\n\
             search Svc.Cluster.Local cluster.local\noptions timeout:1 ndots:2\n",
            "127.0.0.1 localhost\n10.1.1.1 DB db.internal # the database\n#10.1.1.2 gone\n",
        );
        let servers = names.resolver().expect("servers").servers();
        assert_eq!(servers, ["10.0.0.1:53".parse().expect("address"), "[::1]:53".parse().expect("address")]);
        assert_eq!(names.candidates("web"), ["web.svc.cluster.local", "web.cluster.local", "web"]);
        assert_eq!(names.candidates("a.b.c").first().map(String::as_str), Some("a.b.c"));
        assert_eq!(names.candidates("web."), ["web"]);
        for (name, is_local) in [
            ("localhost", true),
            ("x.localhost.", true),
            ("db", true),
            ("DB.internal", true),
            ("gone", false),
        ] {
            assert_eq!(names.is_local(name), is_local, "{name}");
        }
        let nothing = SystemNames::parse("", "");
        assert!(nothing.resolver().is_none());
        assert_eq!(nothing.candidates("web"), ["web"]);
    }
}
