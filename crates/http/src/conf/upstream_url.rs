//! What follows the scheme in `proxy_pass` and its like, and the address of a `server` (`ngx_parse_url`).
//!
//! Nothing is looked up: a name stays a name.

/// Whether a path may follow the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UriPart {
    /// As in `proxy_pass`.
    Allowed,
    /// As in `server`.
    Refused,
}

/// An address with what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpstreamUrl<'a> {
    /// Host or group as written, an IPv6 address in its brackets; `unix:` and a path.
    pub host: &'a [u8],
    /// The port as written.
    pub port: Option<u16>,
    /// The text of the port.
    pub port_text: &'a [u8],
    /// What follows: begins with `/` or `?`, or is empty. Behind a Unix socket it is what follows the colon.
    pub uri: &'a [u8],
}

impl UpstreamUrl<'_> {
    /// Whether it is the path of a Unix socket.
    #[must_use]
    pub fn is_unix(&self) -> bool {
        is_unix(self.host)
    }

    /// The host as text; bytes that are no UTF-8 are replaced.
    #[must_use]
    pub fn host_text(&self) -> String {
        let text = String::from_utf8_lossy(self.host);
        match text.split_once(':') {
            Some((_, path)) if self.is_unix() => format!("unix:{path}"),
            _ => text.into_owned(),
        }
    }
}

/// Longest path of a Unix socket, bytes (`sun_path` without its end).
const UNIX_LIMIT: usize = 107;

/// Takes an address apart.
///
/// # Errors
/// nginx's words: `no host`, `invalid port`, `invalid host`, `invalid IPv6 address`, `no path in the unix domain
/// socket`, `too long path in the unix domain socket`; ` in upstream "…"` follows them.
pub fn parse_upstream_url(text: &[u8], uri_part: UriPart) -> Result<UpstreamUrl<'_>, &'static str> {
    if is_unix(text) {
        return parse_unix(text, uri_part);
    }
    let bracket = if text.first() == Some(&b'[') {
        Some(memchr::memchr(b']', text).ok_or("invalid host")? + 1)
    } else {
        None
    };
    // The path of a bracketed address begins with a slash alone.
    let from = bracket.unwrap_or(0);
    let behind = text.get(from..).unwrap_or_default();
    let uri_at = match bracket {
        Some(_) => memchr::memchr(b'/', behind),
        None => memchr::memchr2(b'/', b'?', behind),
    };
    if uri_at.is_some() && uri_part == UriPart::Refused {
        return Err("invalid host");
    }
    let (address, uri) = text.split_at(uri_at.map_or(text.len(), |at| from + at));
    let rest = address.get(from..).unwrap_or_default();
    if bracket.is_some() && rest.first().is_some_and(|byte| *byte != b':') {
        return Err("invalid host");
    }
    let (host, port_text) = match memchr::memchr(b':', rest) {
        Some(at) => (&address[..from + at], &address[from + at + 1..]),
        None => (address, &address[address.len()..]),
    };
    let port = if host.len() == address.len() {
        None
    } else {
        let port = conf::parse_number(port_text).and_then(|port| u16::try_from(port).ok());
        Some(port.filter(|port| *port > 0).ok_or("invalid port")?)
    };
    if host.is_empty() || host == b"[]" {
        return Err("no host");
    }
    if bracket.is_some() {
        let inside = std::str::from_utf8(&host[1..host.len() - 1]).unwrap_or_default();
        inside.parse::<std::net::Ipv6Addr>().map_err(|_| "invalid IPv6 address")?;
    }
    Ok(UpstreamUrl { host, port, port_text, uri })
}

fn is_unix(text: &[u8]) -> bool {
    text.get(..5).is_some_and(|prefix| prefix.eq_ignore_ascii_case(b"unix:"))
}

fn parse_unix(text: &[u8], uri_part: UriPart) -> Result<UpstreamUrl<'_>, &'static str> {
    let colon = match uri_part {
        UriPart::Allowed => memchr::memchr(b':', &text[5..]).map(|at| at + 5),
        UriPart::Refused => None,
    };
    let host = &text[..colon.unwrap_or(text.len())];
    match host.len() - 5 {
        0 => return Err("no path in the unix domain socket"),
        length if length > UNIX_LIMIT => return Err("too long path in the unix domain socket"),
        _ => {}
    }
    let uri = colon.map_or(&text[text.len()..], |at| &text[at + 1..]);
    Ok(UpstreamUrl { host, port: None, port_text: b"", uri })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let check = |text: &str, expected: Result<(&str, Option<u16>, &str), &str>| {
            let found = parse_upstream_url(text.as_bytes(), UriPart::Allowed);
            let expected = expected.map(|(host, port, uri)| (host.as_bytes(), port, uri.as_bytes()));
            assert_eq!(found.map(|url| (url.host, url.port, url.uri)), expected, "{text}");
        };
        check("backend", Ok(("backend", None, "")));
        check("backend/", Ok(("backend", None, "/")));
        check("127.0.0.1:8080", Ok(("127.0.0.1", Some(8080), "")));
        check("127.0.0.1:8080/a:b?c", Ok(("127.0.0.1", Some(8080), "/a:b?c")));
        check("a?b/c:1", Ok(("a", None, "?b/c:1")));
        check("a/b:80", Ok(("a", None, "/b:80")));
        check("[::1]", Ok(("[::1]", None, "")));
        check("[::1]:80/x", Ok(("[::1]", Some(80), "/x")));
        check("unix:/tmp/s", Ok(("unix:/tmp/s", None, "")));
        check("unix:/tmp/s:/uri", Ok(("unix:/tmp/s", None, "/uri")));
        check("unix:/tmp/s:", Ok(("unix:/tmp/s", None, "")));
        check("", Err("no host"));
        check("/a", Err("no host"));
        check(":80", Err("no host"));
        check("a:", Err("invalid port"));
        check("a:0", Err("invalid port"));
        check("a:65536", Err("invalid port"));
        check("a:8x", Err("invalid port"));
        check("a:80:81", Err("invalid port"));
        check("[::1", Err("invalid host"));
        check("[::1]x", Err("invalid host"));
        check("[]", Err("no host"));
        check("[::x]", Err("invalid IPv6 address"));
        check("unix:", Err("no path in the unix domain socket"));
        check("unix::/uri", Err("no path in the unix domain socket"));
        check(&format!("unix:/{}", "a".repeat(107)), Err("too long path in the unix domain socket"));
    }

    #[test]
    fn a_server_has_no_path() {
        let check = |text: &str, expected: Result<&str, &str>| {
            let found = parse_upstream_url(text.as_bytes(), UriPart::Refused).map(|url| url.host_text());
            assert_eq!(found, expected.map(str::to_owned), "{text}");
        };
        check("a:80", Ok("a"));
        check("a/", Err("invalid host"));
        check("UNIX:/tmp/a:b", Ok("unix:/tmp/a:b"));
    }
}
