//! Addresses as they are written (`ngx_inet_addr`, `ngx_parse_addr`, `ngx_parse_addr_port`).
//!
//! nginx reads dotted quads more loosely than the standard library, and the system's resolver would take what starts with
//! a zero for octal: `010.0.0.1` is 10.0.0.1 here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// An IPv4 address. `255.255.255.255` is none, as in nginx, which cannot tell it from a text that is none.
#[must_use]
pub fn ipv4(text: &str) -> Option<Ipv4Addr> {
    let (mut addr, mut octet, mut dots) = (0u32, 0u32, 0);
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' => {
                octet = octet * 10 + u32::from(byte - b'0');
                if octet > 255 {
                    return None;
                }
            }
            b'.' if dots < 3 => {
                addr = addr << 8 | octet;
                octet = 0;
                dots += 1;
            }
            _ => return None,
        }
    }
    let addr = addr << 8 | octet;
    (dots == 3 && addr != u32::MAX).then(|| Ipv4Addr::from(addr))
}

/// An address of either family, without brackets.
#[must_use]
pub fn ip(text: &str) -> Option<IpAddr> {
    ipv4(text).map(IpAddr::V4).or_else(|| text.parse::<Ipv6Addr>().ok().map(IpAddr::V6))
}

/// An address with or without a port: `1.2.3.4`, `1.2.3.4:80`, `::1`, `[::1]`, `[::1]:80`; port 0 stands for none.
#[must_use]
pub fn ip_and_port(text: &str) -> Option<SocketAddr> {
    if let Some(ip) = ip(text) {
        return Some(SocketAddr::new(ip, 0));
    }
    let (host, behind) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => text.split_at(text.find(':')?),
    };
    if behind.is_empty() {
        return ip(host).map(|ip| SocketAddr::new(ip, 0));
    }
    Some(SocketAddr::new(ip(host)?, port(behind.strip_prefix(':')?)?))
}

/// A port: decimal digits and nothing else, and not zero.
#[must_use]
pub fn port(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| is_number && *port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(ip(text).map(|ip| ip.to_string()).as_deref(), expected, "{text}");
        };
        check("127.0.0.1", Some("127.0.0.1"));
        check("127.000.0.01", Some("127.0.0.1"));
        check("010.0.0.1", Some("10.0.0.1"));
        check("1..2.3", Some("1.0.2.3"));
        check("1.2.3.", Some("1.2.3.0"));
        check("...", Some("0.0.0.0"));
        check("127.0.0.256", None);
        check("127.0.1", None);
        check("1.2.3.4.5", None);
        check("1.2.3.4.", None);
        check("0x7f.0.0.1", None);
        check("1.2.3.+4", None);
        check(" 1.2.3.4", None);
        check("255.255.255.255", None);
        check("::1", Some("::1"));
        check("[::1]", None);
        check("example.com", None);
        check("", None);
    }

    #[test]
    fn addresses_with_ports() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(ip_and_port(text).map(|addr| addr.to_string()).as_deref(), expected, "{text}");
        };
        check("192.0.2.1", Some("192.0.2.1:0"));
        check("192.0.2.1:80", Some("192.0.2.1:80"));
        check("192.0.02.1:080", Some("192.0.2.1:80"));
        check("::1", Some("[::1]:0"));
        check("[::1]", Some("[::1]:0"));
        check("[::1]:80", Some("[::1]:80"));
        check("[::1]80", None);
        check("[::1", None);
        check("192.0.2.1:", None);
        check("192.0.2.1:0", None);
        check("192.0.2.1:+80", None);
        check("192.0.2.1:65536", None);
        check("192.0.2.1:x", None);
        check("unix:/x", None);
        check("unknown", None);
        check("", None);
    }
}
