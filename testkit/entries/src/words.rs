//! Single values: URIs and paths, the PROXY protocol, hellos of TLS, dates, ranges, hosts.
//!
//! A path that was made plain never climbs.

use proto::client_hello::{self, Peeked};
use proto::uri::{MergeSlashes, Unescape};
use proto::{date, haproxy, range};

pub(crate) const WORDS: &[&[u8]] = &[
    b"bytes=",
    b"0-",
    b"-5",
    b"1-2",
    b",",
    b"9999999999999999999",
    b" ",
    b"Sun, ",
    b"06 Nov 1994 ",
    b"06-Nov-94 ",
    b"08:49:37",
    b" GMT",
    b"Sun Nov  6 ",
    b"PROXY TCP4 ",
    b"1.2.3.4 ",
    b"5 ",
    b"6\r\n",
    b"UNKNOWN",
    b"\r\n\r\n\0\r\nQUIT\n",
    b"\x21\x11\0\x0c",
    b"\x21\x21\0\x05",
    b"/../",
    b"%2e",
    b"%",
    b"/",
    b"?",
    b"#",
    b"a.b",
    b"[::1]",
    b":80",
    b"A",
    b"\0",
];

pub(crate) fn proxy_protocol(text: &[u8]) {
    if let Ok(Some(header)) = haproxy::parse(text) {
        assert!(header.length <= text.len());
        for name in ["ssl_cn", "alpn", "0x01", "ssl_verify", "unique_id"] {
            let _ = header.tlv(name);
        }
    }
}

pub(crate) const HELLOS: &[&[u8]] = &[
    b"\x16\x03\x01\0\x40",
    b"\x16\x03\x01\0\x04",
    b"\x01\0\0\x3c",
    b"\x03\x03",
    &[7; 32],
    b"\0\0\x02\x13\x01\x01\0",
    b"\0\x0e",
    b"\0\0\0\x0a\0\x08\0\0\x05a.com",
    b"\0\x10\0\x05\0\x03\x02h2",
    b"\0\x2b\0\x03\x02\x03\x04",
    b"\x80\x2e\x01\0\x02",
    b"\0",
];

/// What was told of a beginning is told of all that begins with it.
pub(crate) fn client_hello(bytes: &[u8]) {
    let whole = client_hello::peek(bytes);
    if let Peeked::Hello(hello) = &whole {
        assert!(hello.name.len() + hello.protocols.len() <= bytes.len());
    }
    let part = client_hello::peek(bytes.get(..bytes.len() / 2).unwrap_or_default());
    assert!(part == Peeked::More || part == whole);
}

pub(crate) fn uri(text: &[u8]) {
    let climbs = |path: &[u8]| path.split(|byte| *byte == b'/').any(|segment| segment == b"..");
    for merge in [MergeSlashes::Keep, MergeSlashes::Merge] {
        let mut out = Vec::new();
        if text.first() == Some(&b'/') && proto::uri::normalize(text, merge, &mut out).is_ok() {
            assert!(!climbs(&out));
        }
        assert!(out.len() <= text.len() + 1);
    }
    let mut out = Vec::new();
    if proto::uri::parse_unsafe(text, &mut out).is_ok() {
        assert!(!climbs(&out));
    }
    for mode in [Unescape::All, Unescape::Uri, Unescape::Redirect] {
        assert!(proto::uri::unescape(text, mode, &mut out) <= text.len());
    }
    let _ = proto::uri::parse_target(text);
    let _ = proto::uri::extension(text);
}

pub(crate) fn fields(text: &[u8]) {
    if let range::Ranges::Parts(parts) = range::parse(text, 100, None) {
        assert!(parts.iter().all(|(start, end)| start < end && *end <= 100));
    }
    let _ = date::parse(text);
    let _ = proto::uri::validate_host(text);
}
