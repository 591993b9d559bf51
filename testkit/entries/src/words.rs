//! Single values: URIs and paths, the PROXY protocol, dates, ranges, hosts.
//!
//! A path that was made plain never climbs.

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
