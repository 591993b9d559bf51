//! The PROXY protocol, versions 1 and 2, read and written as `ngx_proxy_protocol.c` does.
//!
//! Addresses of version 1 are kept as text and not parsed: that is how `$proxy_protocol_addr` shows them.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

mod write;

pub use write::{Transport, push_ssl_tlv, push_tlv, write_v1, write_v2};

/// The longest header that is read, in bytes.
pub const MAX_HEADER: usize = 4096;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED: usize = 16;

/// Types of TLVs.
pub mod tlv {
    /// The protocol chosen by ALPN.
    pub const ALPN: u8 = 0x01;
    /// The name of SNI.
    pub const AUTHORITY: u8 = 0x02;
    /// The checksum of the header.
    pub const CRC32C: u8 = 0x03;
    /// An opaque identifier of the connection.
    pub const UNIQUE_ID: u8 = 0x05;
    /// TLS: one byte of flags, four of the verification's result, and TLVs of its own.
    pub const SSL: u8 = 0x20;
    /// Inside [`SSL`]: the version.
    pub const SSL_VERSION: u8 = 0x21;
    /// Inside [`SSL`]: the common name of the client's certificate.
    pub const SSL_CN: u8 = 0x22;
    /// Inside [`SSL`]: the cipher.
    pub const SSL_CIPHER: u8 = 0x23;
    /// Inside [`SSL`]: the algorithm that the certificate is signed with.
    pub const SSL_SIG_ALG: u8 = 0x24;
    /// Inside [`SSL`]: the algorithm of the certificate's key.
    pub const SSL_KEY_ALG: u8 = 0x25;
    /// The network namespace.
    pub const NETNS: u8 = 0x30;
}

/// Why a header is refused; displays as nginx's sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// Neither version is to be recognised, or a part of version 1 is wrong; its first line.
    #[error("broken header: \"{0}\"")]
    Broken(String),
    /// The signature of version 2 with another version.
    #[error("unknown PROXY protocol version: {0}")]
    UnknownVersion(u8),
    /// Longer than [`MAX_HEADER`].
    #[error("header is too large")]
    TooLarge,
    /// The addresses of version 2 are cut short.
    #[error("broken PROXY protocol v2 addresses")]
    ShortAddresses,
}

/// Why a TLV cannot be had; displays as nginx's sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlvError {
    /// A length points behind the end.
    #[error("broken PROXY protocol TLV")]
    Broken,
    /// A name such as `0xzz`.
    #[error("invalid PROXY protocol TLV \"{0}\"")]
    InvalidName(String),
    /// No such name.
    #[error("unknown PROXY protocol TLV \"{0}\"")]
    UnknownName(String),
}

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The address; in version 1 as it was sent, which may be none at all.
    pub address: String,
    /// The port.
    pub port: u16,
}

impl Endpoint {
    /// The address where it is one.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        base::address::ip(&self.address)
    }
}

/// A header that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyHeader {
    /// Source and destination; `None` for `UNKNOWN`, LOCAL, datagrams and other families, where the
    /// connection's own addresses hold.
    pub addresses: Option<(Endpoint, Endpoint)>,
    /// Bytes that the header takes.
    pub length: usize,
    /// The TLVs of version 2 as they were sent.
    pub tlvs: Vec<u8>,
}

/// Reads the header at the beginning of `buffer`; `None` while it is not whole.
///
/// # Errors
/// [`ProxyError`]. nginx also refuses a header that comes in several pieces; here it is waited for.
pub fn parse(buffer: &[u8]) -> Result<Option<ProxyHeader>, ProxyError> {
    if let Some((fixed, rest)) = buffer.split_first_chunk::<V2_FIXED>() {
        if fixed.starts_with(SIGNATURE) {
            return parse_v2(fixed, rest);
        }
    } else if SIGNATURE.starts_with(buffer) || buffer.starts_with(SIGNATURE) {
        return Ok(None);
    }
    let broken = || {
        let end = memchr::memchr2(b'\r', b'\n', buffer).unwrap_or(buffer.len());
        ProxyError::Broken(String::from_utf8_lossy(buffer.get(..end).unwrap_or_default()).into_owned())
    };
    const V1: &[u8] = b"PROXY ";
    if !buffer.starts_with(V1) {
        return if V1.starts_with(buffer) { Ok(None) } else { Err(broken()) };
    }
    let Some(end) = memchr::memchr(b'\n', buffer) else {
        let may_be_one = buffer.get(V1.len()..).is_some_and(begins_family);
        return if buffer.len() < MAX_HEADER && may_be_one { Ok(None) } else { Err(broken()) };
    };
    let line = buffer.get(V1.len()..end).unwrap_or_default();
    let addresses = parse_v1(line).ok_or_else(broken)?;
    Ok(Some(ProxyHeader { addresses, length: end + 1, tlvs: Vec::new() }))
}

/// Whether what follows `PROXY ` may go on as the name of a family.
fn begins_family(rest: &[u8]) -> bool {
    [&b"TCP4 "[..], b"TCP6 ", b"UNKNOWN"].iter().any(|name| name.starts_with(rest) || rest.starts_with(name))
}

/// The line behind `PROXY ` without its LF.
fn parse_v1(line: &[u8]) -> Option<Option<(Endpoint, Endpoint)>> {
    let line = line.strip_suffix(b"\r")?;
    if line.starts_with(b"UNKNOWN") {
        return Some(None);
    }
    let rest = line.strip_prefix(b"TCP4 ").or_else(|| line.strip_prefix(b"TCP6 "))?;
    let mut words = rest.splitn(4, |byte| *byte == b' ');
    let source = address(words.next()?)?;
    let destination = address(words.next()?)?;
    let source_port = port(words.next()?)?;
    let destination_port = port(words.next()?)?;
    Some(Some((
        Endpoint { address: source, port: source_port },
        Endpoint { address: destination, port: destination_port },
    )))
}

fn address(text: &[u8]) -> Option<String> {
    let allowed = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
    if text.iter().all(allowed) { String::from_utf8(text.to_vec()).ok() } else { None }
}

fn port(text: &[u8]) -> Option<u16> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u16, |port, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        port.checked_mul(10)?.checked_add(u16::from(digit))
    })
}

fn parse_v2(fixed: &[u8; V2_FIXED], rest: &[u8]) -> Result<Option<ProxyHeader>, ProxyError> {
    let [.., version_command, family_transport, high, low] = *fixed;
    if version_command >> 4 != 2 {
        return Err(ProxyError::UnknownVersion(version_command >> 4));
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    if V2_FIXED + length > MAX_HEADER {
        return Err(ProxyError::TooLarge);
    }
    let Some(body) = rest.get(..length) else { return Ok(None) };
    let mut header = ProxyHeader { length: V2_FIXED + length, ..ProxyHeader::default() };
    // Only the command PROXY over a stream says something of this connection.
    const PROXY: u8 = 1;
    const STREAM: u8 = 1;
    if version_command & 0x0f != PROXY || family_transport & 0x0f != STREAM {
        return Ok(Some(header));
    }
    let tlvs = match family_transport >> 4 {
        1 => {
            let (addresses, tlvs) = body.split_first_chunk::<12>().ok_or(ProxyError::ShortAddresses)?;
            header.addresses = Some(addresses_of::<4>(addresses, |bytes| Ipv4Addr::from(bytes).into()));
            tlvs
        }
        2 => {
            let (addresses, tlvs) = body.split_first_chunk::<36>().ok_or(ProxyError::ShortAddresses)?;
            header.addresses = Some(addresses_of::<16>(addresses, |bytes| Ipv6Addr::from(bytes).into()));
            tlvs
        }
        _ => return Ok(Some(header)),
    };
    header.tlvs = tlvs.to_vec();
    Ok(Some(header))
}

/// Two addresses of `N` bytes and two ports, one behind the other.
fn addresses_of<const N: usize>(bytes: &[u8], ip: impl Fn([u8; N]) -> IpAddr) -> (Endpoint, Endpoint) {
    let endpoint = |address_at: usize, port_at: usize| {
        let address = bytes.get(address_at..).and_then(|rest| rest.first_chunk::<N>());
        let port = bytes.get(port_at..).and_then(|rest| rest.first_chunk::<2>());
        let mut text = Vec::new();
        if let Some(address) = address {
            base::address::write_ip(ip(*address), &mut text);
        }
        let address = String::from_utf8(text).unwrap_or_default();
        Endpoint { address, port: port.map_or(0, |port| u16::from_be_bytes(*port)) }
    };
    (endpoint(0, 2 * N), endpoint(N, 2 * N + 2))
}

impl ProxyHeader {
    /// The value of `$proxy_protocol_tlv_NAME` (`ngx_proxy_protocol_get_tlv`): a name such as `alpn`,
    /// `authority`, `unique_id`, `ssl_version`, `ssl_verify`, or a number such as `0x05` or `ssl_0x21`.
    ///
    /// # Errors
    /// [`TlvError`] for a name that there is not, and where the TLVs in front are broken.
    pub fn tlv(&self, name: &str) -> Result<Option<Cow<'_, [u8]>>, TlvError> {
        let Some(inside) = name.strip_prefix("ssl_") else {
            return Ok(find(&self.tlvs, outer_type(name)?)?.map(Cow::Borrowed));
        };
        let Some(ssl) = find(&self.tlvs, usize::from(tlv::SSL))? else { return Ok(None) };
        let ([_client, verify @ ..], tlvs) = ssl.split_first_chunk::<5>().ok_or(TlvError::Broken)?;
        if inside == "verify" {
            return Ok(Some(Cow::Owned(u32::from_be_bytes(*verify).to_string().into_bytes())));
        }
        Ok(find(tlvs, inner_type(inside)?)?.map(Cow::Borrowed))
    }
}

fn outer_type(name: &str) -> Result<usize, TlvError> {
    Ok(usize::from(match name {
        "alpn" => tlv::ALPN,
        "authority" => tlv::AUTHORITY,
        "unique_id" => tlv::UNIQUE_ID,
        "ssl" => tlv::SSL,
        "netns" => tlv::NETNS,
        _ => return numbered(name),
    }))
}

fn inner_type(name: &str) -> Result<usize, TlvError> {
    Ok(usize::from(match name {
        "version" => tlv::SSL_VERSION,
        "cn" => tlv::SSL_CN,
        "cipher" => tlv::SSL_CIPHER,
        "sig_alg" => tlv::SSL_SIG_ALG,
        "key_alg" => tlv::SSL_KEY_ALG,
        _ => return numbered(name),
    }))
}

fn numbered(name: &str) -> Result<usize, TlvError> {
    let digits = name.strip_prefix("0x").ok_or_else(|| TlvError::UnknownName(name.into()))?;
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(TlvError::InvalidName(name.into()));
    }
    usize::from_str_radix(digits, 16).map_err(|_| TlvError::InvalidName(name.into()))
}

/// The first TLV of a type.
fn find(mut tlvs: &[u8], wanted: usize) -> Result<Option<&[u8]>, TlvError> {
    while !tlvs.is_empty() {
        let ([kind, high, low], rest) = tlvs.split_first_chunk::<3>().ok_or(TlvError::Broken)?;
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (value, next) = rest.split_at_checked(length).ok_or(TlvError::Broken)?;
        if usize::from(*kind) == wanted {
            return Ok(Some(value));
        }
        tlvs = next;
    }
    Ok(None)
}

/// Both addresses, as a connection has them.
pub type Addresses = (SocketAddr, SocketAddr);

#[cfg(test)]
mod tests {
    use super::*;

    fn show(input: &[u8]) -> String {
        match parse(input) {
            Ok(None) => "partial".into(),
            Err(error) => error.to_string(),
            Ok(Some(header)) => {
                let rest = input.len() - header.length;
                match header.addresses {
                    None => format!("none +{rest}"),
                    Some((from, to)) => {
                        format!("{} {} {} {} +{rest}", from.address, from.port, to.address, to.port)
                    }
                }
            }
        }
    }

    #[test]
    fn version_1() {
        let check = |input: &str, expected: &str| {
            assert_eq!(show(input.as_bytes()), expected, "{input:?}");
            if let Some(end) = input.find('\n').filter(|_| !expected.starts_with("broken")) {
                assert!((0..end).all(|end| show(&input.as_bytes()[..end]) == "partial"), "{input:?}");
            }
        };
        check("PROXY TCP4 1.2.3.4 5.6.7.8 1 65535\r\n", "1.2.3.4 1 5.6.7.8 65535 +0");
        check("PROXY TCP6 ::1 FE80::2 12 34\r\nGET", "::1 12 FE80::2 34 +3");
        check("PROXY TCP4 ::1 1.2 080 1\r\n", "::1 80 1.2 1 +0");
        check("PROXY UNKNOWN\r\nx", "none +1");
        check("PROXY UNKNOWN what ever\r\n", "none +0");
        check("PROXY T", "partial");
        check("PROXY INVALID", "broken header: \"PROXY INVALID\"");
        check("PROXY TCP5 1.2.3.4 5.6.7.8 1 2\r\n", "broken header: \"PROXY TCP5 1.2.3.4 5.6.7.8 1 2\"");
        for bad in [
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 \r\n",
            "PROXY TCP4 x 5.6.7.8 1 2\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n",
            "PROXY TCP4 1.2.3.4  5.6.7.8 1 2\r\n",
            "PROXY  TCP4\r\n",
            "GET / HTTP/1.1\r\n",
            "proxy TCP4",
            "\r\n\r\nGET /",
        ] {
            assert!(show(bad.as_bytes()).starts_with("broken header: "), "{bad:?}");
        }
        assert!(show(&[b"PROXY ".as_slice(), &[b'x'; MAX_HEADER]].concat()).starts_with("broken"));
    }

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u16).to_be_bytes();
        [SIGNATURE.as_slice(), &[command, family], &length, body].concat()
    }

    #[test]
    fn version_2() {
        let check = |input: &[u8], expected: &str| {
            assert_eq!(show(input), expected);
            if !expected.contains("header") && !expected.contains("version") {
                assert!((0..input.len()).all(|end| show(&input[..end]) == "partial"));
            }
        };
        let inet = [1, 2, 3, 4, 5, 6, 7, 8, 0, 80, 1, 1];
        check(&v2(0x21, 0x11, &inet), "1.2.3.4 80 5.6.7.8 257 +0");
        let mut inet6 = [0; 36];
        (inet6[15], inet6[16], inet6[31], inet6[33]) = (1, 0xfe, 2, 9);
        check(&v2(0x21, 0x21, &inet6), "::1 9 fe00::2 0 +0");
        check(&v2(0x20, 0x11, &inet), "none +0");
        check(&v2(0x21, 0x12, &inet), "none +0");
        check(&v2(0x21, 0x31, &[0; 216]), "none +0");
        check(&v2(0x20, 0x00, &[]), "none +0");
        check(&v2(0x21, 0x11, &inet[..11]), "broken PROXY protocol v2 addresses");
        check(&v2(0x11, 0x11, &inet), "unknown PROXY protocol version: 1");
        check(&v2(0x21, 0x11, &[0; MAX_HEADER]), "header is too large");
    }

    #[test]
    fn tlvs() {
        let mut tlvs = Vec::new();
        push_tlv(tlv::ALPN, b"h2", &mut tlvs);
        let mut inside = Vec::new();
        push_tlv(tlv::SSL_CN, b"name", &mut inside);
        push_ssl_tlv(1, 18, &inside, &mut tlvs);
        push_tlv(0xe1, b"own", &mut tlvs);
        let inet = [1, 2, 3, 4, 5, 6, 7, 8, 0, 80, 1, 1];
        let header = parse(&v2(0x21, 0x11, &[&inet, &tlvs[..]].concat())).ok().flatten().expect("a header");
        let check = |name: &str, expected: Result<Option<&str>, TlvError>| {
            let found = header.tlv(name).map(|value| value.map(|v| String::from_utf8_lossy(&v).into_owned()));
            assert_eq!(found, expected.map(|value| value.map(str::to_owned)), "{name}");
        };
        check("alpn", Ok(Some("h2")));
        check("0x01", Ok(Some("h2")));
        check("0xE1", Ok(Some("own")));
        check("authority", Ok(None));
        check("ssl_cn", Ok(Some("name")));
        check("ssl_0x22", Ok(Some("name")));
        check("ssl_verify", Ok(Some("18")));
        check("ssl_version", Ok(None));
        check("what", Err(TlvError::UnknownName("what".into())));
        check("0xzz", Err(TlvError::InvalidName("0xzz".into())));
        check("0x", Err(TlvError::InvalidName("0x".into())));
        let broken = ProxyHeader { tlvs: vec![1, 0, 9, 1], ..ProxyHeader::default() };
        assert_eq!(broken.tlv("alpn"), Err(TlvError::Broken));
        let short = ProxyHeader { tlvs: vec![0x20, 0, 1, 1], ..ProxyHeader::default() };
        assert_eq!(short.tlv("ssl_cn"), Err(TlvError::Broken));
    }
}
