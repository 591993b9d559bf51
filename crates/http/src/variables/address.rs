//! The ends of a client's connection as variables: addresses, ports, PROXY protocol, TCP's own figures.
//!
//! The client's address is the one that `realip` put in the place of the connection's, where it did.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use os::errlog::Level;
use os::socket::PeerAddr;
use proto::haproxy::{Endpoint, ProxyHeader};

use crate::connection::ProxyInfo;
use crate::output::push_decimal;
use crate::request::Request;

/// Appends an address without its port (`ngx_sock_ntop`): `127.0.0.1`, `::1`, `unix:/path`.
pub fn push_addr(addr: &PeerAddr, out: &mut Vec<u8>) {
    match addr {
        PeerAddr::Inet(addr) => base::address::write_ip(addr.ip(), out),
        PeerAddr::Unix(path) => {
            out.extend_from_slice(b"unix:");
            out.extend_from_slice(path.as_os_str().as_bytes());
        }
    }
}

fn push_port(port: u16, out: &mut Vec<u8>) -> bool {
    if port > 0 {
        push_decimal(u64::from(port), out);
    }
    true
}

pub(super) fn remote_addr(r: &Request, out: &mut Vec<u8>) -> bool {
    push_addr(r.client(), out);
    true
}

pub(super) fn remote_port(r: &Request, out: &mut Vec<u8>) -> bool {
    push_port(r.client().port(), out)
}

pub(super) fn binary_remote_addr(r: &Request, out: &mut Vec<u8>) -> bool {
    match r.client() {
        PeerAddr::Inet(addr) => match addr.ip() {
            IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
        },
        unix @ PeerAddr::Unix(_) => push_addr(unix, out),
    }
    true
}

pub(super) fn server_addr(r: &Request, out: &mut Vec<u8>) -> bool {
    push_addr(r.conn.local(), out);
    true
}

pub(super) fn server_port(r: &Request, out: &mut Vec<u8>) -> bool {
    push_port(r.conn.local().port(), out)
}

fn proxied(r: &Request, show: impl FnOnce(&ProxyInfo)) -> bool {
    r.conn.proxy.get().map(|info| show(info)).is_some()
}

fn push_endpoint_port(endpoint: &Endpoint, out: &mut Vec<u8>) {
    push_port(endpoint.port, out);
}

pub(super) fn proxy_protocol_addr(r: &Request, out: &mut Vec<u8>) -> bool {
    proxied(r, |info| out.extend_from_slice(info.source.address.as_bytes()))
}

pub(super) fn proxy_protocol_port(r: &Request, out: &mut Vec<u8>) -> bool {
    proxied(r, |info| push_endpoint_port(&info.source, out))
}

pub(super) fn proxy_protocol_server_addr(r: &Request, out: &mut Vec<u8>) -> bool {
    proxied(r, |info| out.extend_from_slice(info.destination.address.as_bytes()))
}

pub(super) fn proxy_protocol_server_port(r: &Request, out: &mut Vec<u8>) -> bool {
    proxied(r, |info| push_endpoint_port(&info.destination, out))
}

pub(super) fn proxy_protocol_tlv(r: &Request, name: &[u8], out: &mut Vec<u8>) -> bool {
    let (Some(info), Ok(name)) = (r.conn.proxy.get(), std::str::from_utf8(name)) else {
        return false;
    };
    let header = ProxyHeader { tlvs: info.tlvs.clone(), ..ProxyHeader::default() };
    match header.tlv(name) {
        Ok(Some(value)) => {
            out.extend_from_slice(&value);
            true
        }
        Ok(None) => false,
        Err(error) => {
            r.log(Level::Error, format_args!("{error}"));
            false
        }
    }
}

fn tcp(r: &Request, out: &mut Vec<u8>, figure: fn(&os::tcp::TcpInfo) -> u32) -> bool {
    let Ok(info) = os::tcp::tcp_info(r.conn.stream.as_fd()) else { return false };
    push_decimal(u64::from(figure(&info)), out);
    true
}

pub(super) fn tcpinfo_rtt(r: &Request, out: &mut Vec<u8>) -> bool {
    tcp(r, out, |info| info.rtt)
}

pub(super) fn tcpinfo_rttvar(r: &Request, out: &mut Vec<u8>) -> bool {
    tcp(r, out, |info| info.rttvar)
}

pub(super) fn tcpinfo_snd_cwnd(r: &Request, out: &mut Vec<u8>) -> bool {
    tcp(r, out, |info| info.snd_cwnd)
}

pub(super) fn tcpinfo_rcv_space(r: &Request, out: &mut Vec<u8>) -> bool {
    tcp(r, out, |info| info.rcv_space)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let check = |addr: PeerAddr, expected: &str| {
            let mut out = Vec::new();
            push_addr(&addr, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected);
        };
        check(PeerAddr::Inet(([127, 0, 0, 1], 80).into()), "127.0.0.1");
        check(PeerAddr::Inet(([255, 10, 0, 99], 80).into()), "255.10.0.99");
        check(PeerAddr::Inet("[::1]:80".parse().expect("address")), "::1");
        check(PeerAddr::Unix("/run/x".into()), "unix:/run/x");
        check(PeerAddr::Unix("".into()), "unix:");
    }
}
