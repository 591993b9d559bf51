//! The client behind trusted proxies, as `X-Forwarded-For` names it (`ngx_http_get_forwarded_addr`).
//!
//! The list is read from its end: each proxy appended whom it saw, so what stands behind a proxy that is not
//! trusted proves nothing.

use base::Network;
use base::address::ip_and_port;
use os::socket::PeerAddr;

/// How far the list is followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recursion {
    /// Only its last address counts.
    #[default]
    LastOnly,
    /// Trusted proxies in the list are passed over (`proxy_recursive`, `real_ip_recursive`).
    Through,
}

/// The address that the fields name, for a request that `sender` sent; `None` where they name none, or where the
/// sender is not trusted.
#[must_use]
pub fn client(
    sender: &PeerAddr,
    fields: &[&[u8]],
    trusted: &[Network],
    recursion: Recursion,
) -> Option<PeerAddr> {
    let mut found = None;
    for field in fields.iter().rev() {
        let (named, rest) = walk(found.as_ref().unwrap_or(sender), field, trusted, recursion);
        found = named.or(found);
        if recursion == Recursion::LastOnly || rest == Rest::Untrusted {
            break;
        }
    }
    found
}

/// Whether an earlier field may be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Exhausted,
    Untrusted,
}

fn walk(
    sender: &PeerAddr,
    field: &[u8],
    trusted: &[Network],
    recursion: Recursion,
) -> (Option<PeerAddr>, Rest) {
    let mut found: Option<PeerAddr> = None;
    let mut rest = field;
    loop {
        let ip = found.as_ref().unwrap_or(sender).ip();
        if !trusted.iter().any(|network| network.contains(ip)) {
            return (found, Rest::Untrusted);
        }
        let (last, before) = split_last(rest);
        let Some(addr) = std::str::from_utf8(last).ok().and_then(ip_and_port) else {
            return (found, Rest::Untrusted);
        };
        found = Some(PeerAddr::Inet(addr));
        match before {
            Some(before) if recursion == Recursion::Through => rest = before,
            _ => return (found, Rest::Exhausted),
        }
    }
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b' ' | b',')
}

/// The last item of a list and what stands before it.
fn split_last(list: &[u8]) -> (&[u8], Option<&[u8]>) {
    let end = list.iter().rposition(|byte| !is_separator(*byte)).map_or(0, |last| last + 1);
    let list = list.get(..end).unwrap_or_default();
    match list.iter().rposition(|byte| is_separator(*byte)) {
        Some(at) => (list.get(at + 1..).unwrap_or_default(), list.get(..at)),
        None => (list, None),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn the_last_address_that_a_trusted_proxy_saw_counts() {
        let trusted =
            ["127.0.0.1", "10.0.0.0/8", "2001:db8::/32"].map(|text| Network::parse(text).expect(text));
        let check = |sender: &str, fields: &[&str], recursion, expected: Option<&str>| {
            let sender = PeerAddr::Inet(SocketAddr::new(sender.parse().expect("sender"), 1));
            let bytes: Vec<_> = fields.iter().map(|field| field.as_bytes()).collect();
            let found = client(&sender, &bytes, &trusted, recursion);
            assert_eq!(found.map(|addr| addr.to_string()).as_deref(), expected, "{fields:?}");
        };
        use Recursion::{LastOnly, Through};
        check("127.0.0.1", &["192.0.2.1"], LastOnly, Some("192.0.2.1:0"));
        check("127.0.0.1", &["192.0.2.1:80"], LastOnly, Some("192.0.2.1:80"));
        check("127.0.0.1", &["[2001:db9::1]:80"], LastOnly, Some("[2001:db9::1]:80"));
        check("127.0.0.2", &["192.0.2.1"], LastOnly, None);
        check("127.0.0.1", &["192.0.2.1, 10.0.0.1"], LastOnly, Some("10.0.0.1:0"));
        check("127.0.0.1", &["192.0.2.1, 10.0.0.1 , "], Through, Some("192.0.2.1:0"));
        check("127.0.0.1", &["192.0.2.9,192.0.2.1,10.0.0.1"], Through, Some("192.0.2.1:0"));
        check("127.0.0.1", &["192.0.2.1", "10.0.0.1"], Through, Some("192.0.2.1:0"));
        check("127.0.0.1", &["192.0.2.1", "10.0.0.1"], LastOnly, Some("10.0.0.1:0"));
        check("127.0.0.1", &["192.0.2.1", "nonsense, 10.0.0.1"], Through, Some("10.0.0.1:0"));
        check("127.0.0.1", &["10.0.0.1"], Through, Some("10.0.0.1:0"));
        check("127.0.0.1", &["unknown"], Through, None);
        check("127.0.0.1", &[""], Through, None);
        check("127.0.0.1", &[], Through, None);
        check("::ffff:127.0.0.1", &["2001:db8::1"], Through, Some("[2001:db8::1]:0"));
        check("127.0.0.1", &["192.0.2.1:0"], LastOnly, None);
        check("127.0.0.1", &["[::1]"], LastOnly, Some("[::1]:0"));
        check("127.0.0.1", &["192.0.02.1"], LastOnly, Some("192.0.2.1:0"));
    }
}
