//! Addresses as they are written (`ngx_inet_addr`, `ngx_parse_addr`, `ngx_parse_addr_port`).
//!
//! nginx reads dotted quads more loosely than the standard library, and the system's resolver would take what starts with
//! a zero for octal: `010.0.0.1` is 10.0.0.1 here.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::append::push_cut;

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

/// Appends an address without a port, as `ngx_sock_ntop` writes it.
#[inline]
pub fn write_ip(ip: IpAddr, out: &mut Vec<u8>) {
    match ip {
        IpAddr::V4(ip) => write_ipv4(ip, out),
        IpAddr::V6(ip) => write_ipv6(ip, out),
    }
}

/// The text of an octet with a dot behind it.
#[derive(Clone, Copy)]
struct Octet {
    /// First byte lowest.
    text: u32,
    bits: u32,
}

static OCTETS: [Octet; 256] = {
    let mut octets = [Octet { text: 0, bits: 0 }; 256];
    let mut octet = 0;
    while octet < octets.len() {
        let digits =
            [b'0' + (octet / 100) as u8, b'0' + (octet / 10 % 10) as u8, b'0' + (octet % 10) as u8, b'.'];
        // Without the zeros in front.
        let skipped = 8 * ((octet < 100) as u32 + (octet < 10) as u32);
        octets[octet] = Octet { text: u32::from_le_bytes(digits) >> skipped, bits: 32 - skipped };
        octet += 1;
    }
    octets
};

/// Two octets with their dots, and how many bytes that takes.
#[inline]
fn pair(first: u8, second: u8) -> ([u8; 8], usize) {
    let (first, second) = (OCTETS[usize::from(first)], OCTETS[usize::from(second)]);
    let text = u64::from(first.text) | u64::from(second.text) << first.bits;
    (text.to_le_bytes(), ((first.bits + second.bits) / 8) as usize)
}

/// Without `fmt`, as logs and variables have an address in nearly every request.
fn write_ipv4(ip: Ipv4Addr, out: &mut Vec<u8>) {
    if out.capacity() - out.len() < 16 {
        return write_ipv4_with_room(ip, out);
    }
    let [a, b, c, d] = ip.octets();
    let ((start, middle), (rest, end)) = (pair(a, b), pair(c, d));
    let mut text = [0; 16];
    text[..8].copy_from_slice(&start);
    if let Some(place) = text.get_mut(middle..middle + 8) {
        place.copy_from_slice(&rest);
    }
    push_cut(&text, middle + end - 1, out);
}

/// As [`write_ipv4`], whose way is without a call where there is room.
#[cold]
fn write_ipv4_with_room(ip: Ipv4Addr, out: &mut Vec<u8>) {
    out.reserve(16);
    write_ipv4(ip, out);
}

/// The longest run of at least two zero groups: where it begins and how long it is.
fn longest_zeros(groups: &[u16; 8]) -> (usize, usize) {
    let (mut best, mut run) = ((0, 0), (0, 0));
    for (index, group) in groups.iter().enumerate() {
        run = match (*group, run) {
            (0, (_, 0)) => (index, 1),
            (0, (start, length)) => (start, length + 1),
            _ => (0, 0),
        };
        if run.1 > best.1.max(1) {
            best = run;
        }
    }
    best
}

fn write_ipv6(ip: Ipv6Addr, out: &mut Vec<u8>) {
    let groups = ip.segments();
    let octets = ip.octets();
    let (zeros_at, zeros) = longest_zeros(&groups);
    // nginx writes mapped and compatible addresses with dots, and takes some of seven zero groups for such.
    let dotted = zeros > 0
        && zeros_at == 0
        && (zeros == 6
            || zeros == 5 && groups[5] == 0xffff
            || zeros == 7 && octets[14] != 0 && octets[15] != 1);
    let shown = if dotted { 6 } else { 8 };
    let mut index = 0;
    if zeros > 0 && zeros_at == 0 {
        out.push(b':');
    }
    while index < shown {
        if zeros > 0 && index == zeros_at {
            out.push(b':');
            index += zeros;
            continue;
        }
        let _ = write!(out, "{:x}", groups[index]);
        if index < 7 {
            out.push(b':');
        }
        index += 1;
    }
    if dotted {
        let _ = write!(out, "{}.{}.{}.{}", octets[12], octets[13], octets[14], octets[15]);
    }
}

/// An address with its port, as `ngx_sock_ntop` writes it: `127.0.0.1:80`, `[::1]:80`.
#[must_use]
pub fn with_port(addr: SocketAddr) -> String {
    let mut text = Vec::with_capacity(24);
    if addr.is_ipv4() {
        write_ip(addr.ip(), &mut text);
    } else {
        text.push(b'[');
        write_ip(addr.ip(), &mut text);
        text.push(b']');
    }
    text.push(b':');
    text.extend_from_slice(addr.port().to_string().as_bytes());
    String::from_utf8(text).unwrap_or_default()
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

    #[test]
    fn addresses_as_text() {
        let check = |text: &str, expected: &str| {
            let mut out = Vec::new();
            write_ip(text.parse().expect(text), &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected);
        };
        for same in [
            "127.0.0.1",
            "0.9.10.99",
            "100.255.1.0",
            "::",
            "::1",
            "1::",
            "fe80::1:2",
            "1:0:2:3:4:5:6:7",
            "1:2:3:4:5:6:7:8",
            "1::2:0:0:3:4",
            "2001:db8:0:1::",
            "::ffff:1.2.3.4",
            "::1.2.3.4",
        ] {
            check(same, same);
        }
        check("1:0:0:2:0:0:0:3", "1:0:0:2::3");
        check("0:0:1:0:0:0:0:0", "0:0:1::");
        for same in ["127.0.0.1:80", "[::1]:65535", "[::ffff:1.2.3.4]:8080", "[fe80::1:2]:1"] {
            assert_eq!(same.parse().ok().map(with_port).as_deref(), Some(same));
        }
    }
}
