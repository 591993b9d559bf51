//! Hosts that are addresses, and names of the reverse zones.
//!
//! What is an address here is never asked for.

use std::fmt::Write;
use std::net::IpAddr;

/// The address that a host is when it is none to ask for: a dotted quad, or IPv6 with or without brackets.
pub(super) fn ip_literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    base::address::ip(bare)
}

/// The name to ask for an address's name: `1.0.0.127.in-addr.arpa` (RFC 1035, 3.5; RFC 3596, 2.5).
pub(super) fn reverse_name(ip: IpAddr) -> String {
    let mut name = String::new();
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            let _ = write!(name, "{d}.{c}.{b}.{a}.in-addr.arpa");
        }
        IpAddr::V6(ip) => {
            for byte in ip.octets().iter().rev() {
                let _ = write!(name, "{:x}.{:x}.", byte & 0xf, byte >> 4);
            }
            name.push_str("ip6.arpa");
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(ip_literal(text).map(|ip| ip.to_string()).as_deref(), expected, "{text}");
        };
        check("127.0.0.1", Some("127.0.0.1"));
        check("127.000.0.01", Some("127.0.0.1"));
        check("127.0.0.256", None);
        check("127.0.1", None);
        check("1.2.3.4.5", None);
        check("255.255.255.255", None);
        check("[::1]", Some("::1"));
        check("::1", Some("::1"));
        check("[::1", None);
        check("example.com", None);
        check("", None);
    }

    #[test]
    fn reverse_names() {
        let check = |ip: &str, expected| assert_eq!(reverse_name(ip.parse().expect(ip)), expected);
        check("192.0.2.7", "7.2.0.192.in-addr.arpa");
        let zeros = "0.".repeat(24);
        check("2001:db8::1", &format!("1.{}8.b.d.0.1.0.0.2.ip6.arpa", &zeros[..46]));
    }
}
