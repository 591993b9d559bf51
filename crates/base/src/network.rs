//! Networks of clients, as `debug_connection`, `allow` and others name them.
//!
//! An address, a network with its prefix length, or `unix:` for all Unix sockets.

use std::net::IpAddr;

/// A set of addresses with a common prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Addresses of one family whose first bits agree.
    Inet {
        /// The address, with no bit set behind the prefix.
        base: IpAddr,
        /// How many bits agree.
        prefix: u8,
    },
    /// Clients on Unix sockets.
    Unix,
}

impl Network {
    /// Reads `127.0.0.1`, `192.168.0.0/16`, `::1`, `2001:db8::/32` or `unix:`; `None` for anything else.
    ///
    /// Bits behind the prefix are dropped, as nginx does.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == "unix:" {
            return Some(Self::Unix);
        }
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address = crate::address::ip(address)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(digits) => length(digits).filter(|length| *length <= most)?,
            None => most,
        };
        Some(Self::Inet { base: masked(address, prefix), prefix })
    }

    /// Whether a client belongs to it; `None` is a client on a Unix socket.
    #[must_use]
    pub fn contains(&self, client: Option<IpAddr>) -> bool {
        match (self, client.map(|address| address.to_canonical())) {
            (Self::Unix, None) => true,
            (Self::Inet { base, prefix }, Some(address)) => {
                base.is_ipv4() == address.is_ipv4() && masked(address, *prefix) == *base
            }
            _ => false,
        }
    }
}

/// Decimal digits and nothing else.
fn length(digits: &str) -> Option<u8> {
    digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_belong_to_networks() {
        let check = |network: &str, client: &str, expected: bool| {
            let network = Network::parse(network).expect("network");
            assert_eq!(network.contains(client.parse().ok()), expected, "{network:?} {client}");
        };
        check("127.0.0.1", "127.0.0.1", true);
        check("127.0.0.1", "127.0.0.2", false);
        check("192.168.5.5/16", "192.168.1.1", true);
        check("010.1.0.0/08", "10.2.3.4", true);
        check("0.0.0.0/0", "8.8.8.8", true);
        check("0.0.0.0/0", "::1", false);
        check("2001:db8::/32", "2001:db8:1::1", true);
        check("::/0", "::1", true);
        check("127.0.0.1", "::ffff:127.0.0.1", true);
        check("unix:", "none", true);
        check("unix:", "127.0.0.1", false);
        check("127.0.0.1", "none", false);
    }

    #[test]
    fn other_texts_are_no_networks() {
        for text in [
            "",
            "localhost",
            "1.2.3",
            "1.2.3.4/33",
            "::1/129",
            "1.2.3.4/x",
            "1.2.3.4/+8",
            "255.255.255.255",
            "unix:/a",
        ] {
            assert_eq!(Network::parse(text), None, "{text}");
        }
    }
}
