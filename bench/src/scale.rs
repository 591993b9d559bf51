//! Configurations that are large: what they cost a request, and how long they take to load.
//! Keys, networks and names are the same in every run; every answer of a row has the same length.

use std::collections::HashSet;
use std::fmt::Write;

use crate::clients::Ask;

/// What there is much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// A map of 100,000 entries.
    Map,
    /// A geo of nearly 100,000 networks.
    Geo,
    /// 1,000 locations with a regular expression each.
    Regexes,
    /// 5,000 servers of two names.
    Servers,
}

const ENTRIES: u32 = 100_000;
const REGEXES: u32 = 1_000;
const SERVERS: u32 = 5_000;
/// Servers of a large upstream group.
const PEERS: u32 = 10_000;
/// Requests that take turns.
const ASKS: u32 = 4_096;

/// Room for nginx's tables, which do not grow by themselves.
const TABLES: &str = "    map_hash_max_size 262144;
    map_hash_bucket_size 256;
    server_names_hash_max_size 65536;
    server_names_hash_bucket_size 128;
";

/// A sequence that looks random and is always the same.
fn scatter(number: u32) -> u32 {
    let mixed = (number ^ 0x9e37_79b9).wrapping_mul(0x85eb_ca6b);
    let mixed = (mixed ^ (mixed >> 13)).wrapping_mul(0xc2b2_ae35);
    mixed ^ (mixed >> 16)
}

impl Scale {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Map, Self::Geo, Self::Regexes, Self::Servers];

    /// What the table calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Map => "map-100k",
            Self::Geo => "geo-100k",
            Self::Regexes => "regex-1k",
            Self::Servers => "servers-5k",
        }
    }

    /// The length of every answer, bytes.
    pub const BODY: u64 = 8;

    /// What stands in the `http` block: tables and servers on the port `listen`.
    pub fn config(self, listen: u16) -> String {
        let mut text = TABLES.to_owned();
        let server =
            |inside: &str| format!("    server {{\n        listen 127.0.0.1:{listen};\n{inside}    }}\n");
        match self {
            Self::Map => {
                text.push_str("    map $arg_k $v {\n        default none0000;\n");
                for number in 0..ENTRIES {
                    let _ = writeln!(text, "        key-{number}.example.com v{number:07};");
                }
                text.push_str("    }\n");
                text.push_str(&server("        location / { return 200 $v; }\n"));
            }
            Self::Geo => {
                text.push_str("    geo $arg_k $v {\n        default none0000;\n");
                let mut known = HashSet::new();
                for number in (0..ENTRIES).filter(|number| known.insert(network(*number))) {
                    let (address, prefix) = network(number);
                    let _ = writeln!(text, "        {}/{prefix} z{:07};", dotted(address), number % 300);
                }
                text.push_str("    }\n");
                text.push_str(&server("        location / { return 200 $v; }\n"));
            }
            Self::Regexes => {
                let mut locations = String::new();
                for number in 0..REGEXES {
                    let (pattern, _) = expression(number);
                    let _ =
                        writeln!(locations, "        location ~ {pattern} {{ return 200 r{number:07}; }}");
                }
                locations.push_str("        location / { return 200 none0000; }\n");
                text.push_str(&server(&locations));
            }
            Self::Servers => {
                for number in 0..SERVERS {
                    let names = format!("host{number}.example.com www.host{number}.example.com");
                    text.push_str(&server(&format!(
                        "        server_name {names};\n        location / {{ return 200 s{number:07}; }}\n"
                    )));
                }
            }
        }
        text
    }

    /// Requests that meet all parts of it.
    pub fn asks(self) -> Vec<Ask> {
        (0..ASKS).map(|number| self.ask(scatter(number))).collect()
    }

    fn ask(self, random: u32) -> Ask {
        let host = "bench.example".to_owned();
        match self {
            Self::Map => Ask { host, path: format!("/?k=key-{}.example.com", random % ENTRIES) },
            Self::Geo => {
                let (address, _) = network(random % ENTRIES);
                Ask { host, path: format!("/?k={}", dotted(address | (random & 0x3))) }
            }
            Self::Regexes => Ask { host, path: expression(random % REGEXES).1 },
            Self::Servers => {
                Ask { host: format!("www.host{}.example.com", random % SERVERS), path: "/".to_owned() }
            }
        }
    }
}

/// An upstream group of 10,000 servers that the balancer `method` spreads requests over, and a server on the port
/// `listen` that passes them there. Nobody answers: it is for loading only.
pub fn group(method: &str, listen: u16) -> String {
    let mut text = format!("    upstream peers {{\n        {method}\n");
    for number in 1..=PEERS {
        let _ = writeln!(text, "        server {}:8080;", dotted(0x0a00_0000 | number));
    }
    let _ = write!(
        text,
        "    }}\n    server {{\n        listen 127.0.0.1:{listen};\n        \
         location / {{ proxy_pass http://peers; }}\n    }}\n"
    );
    text
}

/// A network of 16 to 32 bits; the same number gives the same one.
fn network(number: u32) -> (u32, u32) {
    let prefix = [16, 20, 22, 24, 24, 24, 28, 32][number as usize % 8];
    (scatter(number.wrapping_mul(7)) & (u32::MAX << (32 - prefix)), prefix)
}

fn dotted(address: u32) -> std::net::Ipv4Addr {
    address.into()
}

/// One of five kinds of expressions, and a path that it matches.
fn expression(number: u32) -> (String, String) {
    match number % 5 {
        0 => (format!("^/app{number}/(.*)$"), format!("/app{number}/x/y")),
        1 => (format!("^/api/v{number}/[0-9]+$"), format!("/api/v{number}/42")),
        2 => (format!(r"\.ext{number}$"), format!("/some/file.ext{number}")),
        3 => (format!(r"/user{number}/(?<id>\w+)/profile"), format!("/x/user{number}/bob/profile")),
        _ => (format!(r"^/static{number}/.*\.(css|js)$"), format!("/static{number}/a/b.css")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_are_large_and_requests_differ() {
        for (scale, lines) in Scale::ALL.into_iter().zip([100_000, 90_000, 1_000, 20_000]) {
            let config = scale.config(8080);
            assert!(config.lines().count() > lines, "{}", scale.name());
            assert!(config.contains("listen 127.0.0.1:8080;"));
            let asks = scale.asks();
            assert!(asks.iter().any(|ask| (&ask.host, &ask.path) != (&asks[0].host, &asks[0].path)));
        }
    }
}
