//! PROXY protocol headers for upstreams.
//!
//! A version 2 header always ends with a checksum over all of it.

use std::io::Write;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::{Addresses, SIGNATURE, V2_FIXED, tlv};

/// What kind of connection a version 2 header speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Stream,
    /// UDP.
    Datagram,
}

/// Appends a version 1 header; without addresses (Unix sockets) it says `UNKNOWN`.
pub fn write_v1(addresses: Option<Addresses>, out: &mut Vec<u8>) {
    let Some((source, destination)) = addresses else {
        out.extend_from_slice(b"PROXY UNKNOWN\r\n");
        return;
    };
    out.extend_from_slice(if source.is_ipv4() { b"PROXY TCP4 " } else { b"PROXY TCP6 " });
    base::address::write_ip(source.ip(), out);
    out.push(b' ');
    base::address::write_ip(destination.ip(), out);
    // Writing to a vector cannot fail.
    let _ = write!(out, " {} {}\r\n", source.port(), destination.port());
}

/// Appends a version 2 header with TLVs that [`push_tlv`] encoded (at most 60,000 bytes, else none), and its
/// checksum. Without addresses the command is LOCAL.
///
/// Where one address is IPv6, the other becomes an IPv4-mapped one; where both are mapped, both become IPv4.
pub fn write_v2(addresses: Option<Addresses>, transport: Transport, tlvs: &[u8], out: &mut Vec<u8>) {
    const CRC_TLV: usize = 7;
    let tlvs = if tlvs.len() <= 60_000 { tlvs } else { &[] };
    let begin = out.len();
    out.extend_from_slice(SIGNATURE);
    let transport = match transport {
        Transport::Stream => 1,
        Transport::Datagram => 2,
    };
    let address_bytes =
        match addresses.map(|(source, destination)| (source, destination, both_ipv4(addresses))) {
            None => {
                out.extend_from_slice(&[0x20, 0, 0, 0]);
                0
            }
            Some((source, destination, Some((from, to)))) => {
                out.extend_from_slice(&[0x21, 0x10 | transport, 0, 0]);
                out.extend_from_slice(&from);
                out.extend_from_slice(&to);
                push_ports(source, destination, out);
                12
            }
            Some((source, destination, None)) => {
                out.extend_from_slice(&[0x21, 0x20 | transport, 0, 0]);
                out.extend_from_slice(&as_ipv6(source.ip()).octets());
                out.extend_from_slice(&as_ipv6(destination.ip()).octets());
                push_ports(source, destination, out);
                36
            }
        };
    out.extend_from_slice(tlvs);
    let length = ((address_bytes + tlvs.len() + CRC_TLV) as u16).to_be_bytes();
    if let Some(field) = out.get_mut(begin + V2_FIXED - 2..begin + V2_FIXED) {
        field.copy_from_slice(&length);
    }
    // The checksum is taken with zeros in its own place.
    push_tlv(tlv::CRC32C, &[0; 4], out);
    let sum = crc32c(out.get(begin..).unwrap_or_default()).to_be_bytes();
    if let Some(field) = out.last_chunk_mut::<4>() {
        *field = sum;
    }
}

fn push_ports(source: SocketAddr, destination: SocketAddr, out: &mut Vec<u8>) {
    out.extend_from_slice(&source.port().to_be_bytes());
    out.extend_from_slice(&destination.port().to_be_bytes());
}

/// The octets of two IPv4 addresses, or of two IPv4-mapped ones.
fn both_ipv4(addresses: Option<Addresses>) -> Option<([u8; 4], [u8; 4])> {
    let (source, destination) = addresses?;
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => Some((from.octets(), to.octets())),
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            Some((from.to_ipv4_mapped()?.octets(), to.to_ipv4_mapped()?.octets()))
        }
        _ => None,
    }
}

fn as_ipv6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

/// Appends one TLV; a value is cut at 65,535 bytes.
pub fn push_tlv(kind: u8, value: &[u8], out: &mut Vec<u8>) {
    let value = value.get(..usize::from(u16::MAX)).unwrap_or(value);
    out.push(kind);
    out.extend_from_slice(&(value.len() as u16).to_be_bytes());
    out.extend_from_slice(value);
}

/// Appends the TLV that speaks of TLS: flags of the client's certificate, the result of its verification
/// (zero is good), and the TLVs inside it.
pub fn push_ssl_tlv(client: u8, verify: u32, inside: &[u8], out: &mut Vec<u8>) {
    let mut value = Vec::with_capacity(5 + inside.len());
    value.push(client);
    value.extend_from_slice(&verify.to_be_bytes());
    value.extend_from_slice(inside);
    push_tlv(tlv::SSL, &value, out);
}

/// The Castagnoli checksum (RFC 9260, B).
fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let sum = bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (POLYNOMIAL & (sum & 1).wrapping_neg()))
    });
    !sum
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn addresses(source: &str, destination: &str) -> Option<Addresses> {
        Some((source.parse().expect(source), destination.parse().expect(destination)))
    }

    #[test]
    fn version_1() {
        let check = |addresses, expected: &str| {
            let mut out = Vec::new();
            write_v1(addresses, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected);
        };
        check(addresses("1.2.3.4:5", "6.7.8.9:10"), "PROXY TCP4 1.2.3.4 6.7.8.9 5 10\r\n");
        check(addresses("[::1]:5", "[fe80::2]:10"), "PROXY TCP6 ::1 fe80::2 5 10\r\n");
        check(None, "PROXY UNKNOWN\r\n");
    }

    #[test]
    fn version_2_is_read_as_it_is_written() {
        let check = |source: &str, destination: &str, expected: &str| {
            let mut out = b"in front".to_vec();
            write_v2(addresses(source, destination), Transport::Stream, b"", &mut out);
            let header = parse(&out[8..]).ok().flatten().expect("a header");
            assert_eq!(header.length, out.len() - 8);
            let (from, to) = header.addresses.clone().expect("addresses");
            assert_eq!(format!("{} {} {} {}", from.address, from.port, to.address, to.port), expected);
            let sum = header.tlv("0x03").ok().flatten().expect("a checksum").into_owned();
            let zeroed = [&out[8..out.len() - 4], &[0; 4]].concat();
            assert_eq!(sum, crc32c(&zeroed).to_be_bytes());
        };
        check("1.2.3.4:5", "6.7.8.9:10", "1.2.3.4 5 6.7.8.9 10");
        check("[::1]:5", "[::2]:10", "::1 5 ::2 10");
        check("1.2.3.4:5", "[fe80::1]:10", "::ffff:1.2.3.4 5 fe80::1 10");
        check("[::ffff:1.2.3.4]:5", "[::ffff:6.7.8.9]:10", "1.2.3.4 5 6.7.8.9 10");
        let mut out = Vec::new();
        write_v2(None, Transport::Stream, b"", &mut out);
        assert_eq!(out.get(12..16), Some(&[0x20, 0, 0, 7][..]));
        out.clear();
        write_v2(addresses("1.2.3.4:5", "6.7.8.9:10"), Transport::Datagram, b"", &mut out);
        assert_eq!(out.get(13), Some(&0x12));
    }

    #[test]
    fn checksums() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(b""), 0);
    }
}
