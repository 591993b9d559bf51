//! `proxy_pass`: where requests go, and what of their path is replaced on the way.
//!
//! Without variables all is known at load; with them the URL is taken apart for each request.

use std::sync::Arc;

use conf::{Directive, Error, Word};
use http::conf::compile::Cx;
use http::conf::location::Kind;
use http::conf::{UpstreamId, UpstreamRef, UpstreamUrl, UriPart, parse_upstream_url};
use http::phases::Outcome;
use http::relay::{Target, no_upstream};
use http::request::Request;
use http::variables::Template;
use os::errlog::Level;

use super::{Proxy, ProxySettings};

const NO_URI: &str = "\"proxy_pass\" cannot have URI part in location given by regular expression, or inside named \
                      location, or inside \"if\" statement, or inside \"limit_except\" block";

/// Where requests of a location go.
#[derive(Debug)]
pub(super) enum Pass {
    /// A URL without variables.
    Fixed(Fixed),
    /// A URL with variables.
    Variable(Template),
}

/// A URL without variables.
#[derive(Debug)]
pub(super) struct Fixed {
    pub upstream: UpstreamId,
    /// As written.
    pub url: Box<[u8]>,
    /// The name of the location, which the path of the URL takes the place of; empty where it cannot.
    pub location: Box<[u8]>,
    pub parts: Parts,
}

/// What variables and fields tell of a URL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    /// `$proxy_host`, and the `Host` field where none is set.
    pub host: Box<[u8]>,
    /// `$proxy_port`; none with a Unix socket.
    pub port: Option<Box<[u8]>>,
    /// The path and arguments, if any.
    pub uri: Box<[u8]>,
    scheme: Scheme,
}

/// The URL of this request, where it has variables.
pub(super) struct Evaluated(pub Parts);

impl Parts {
    fn new(scheme: Scheme, url: &UpstreamUrl<'_>) -> Self {
        let uri = url.uri.into();
        if url.is_unix() {
            return Self { host: b"localhost"[..].into(), port: None, uri, scheme };
        }
        match url.port.filter(|port| *port != scheme.port()) {
            None => {
                let port = scheme.port().to_string().into_bytes();
                Self { host: url.host.into(), port: Some(port.into()), uri, scheme }
            }
            Some(_) => Self {
                host: [url.host, b":", url.port_text].concat().into(),
                port: Some(url.port_text.into()),
                uri,
                scheme,
            },
        }
    }

    /// Whether the request goes over TLS.
    pub fn is_https(&self) -> bool {
        self.scheme == Scheme::Https
    }
}

impl Pass {
    /// Whether requests go over TLS, or may.
    pub fn may_need_tls(&self) -> bool {
        match self {
            Self::Fixed(fixed) => fixed.parts.is_https(),
            Self::Variable(_) => true,
        }
    }

    /// As [`parts`] of the module, for a request of this location.
    pub fn parts<'r>(&'r self, r: &'r Request) -> Option<&'r Parts> {
        match self {
            // `$proxy_host` has a value once the request came to the location's handler.
            Self::Fixed(fixed) => r.has_entered::<Proxy>().then_some(&fixed.parts),
            Self::Variable(_) => r.contexts.get::<Evaluated>().map(|evaluated| &evaluated.0),
        }
    }

    /// The URL without variables.
    pub fn fixed(&self) -> Option<&Fixed> {
        match self {
            Self::Fixed(fixed) => Some(fixed),
            Self::Variable(_) => None,
        }
    }
}

/// What the URL of the request says; `None` before its handler was entered.
pub(super) fn parts(r: &Request) -> Option<&Parts> {
    r.location().settings::<Proxy>().pass.as_deref()?.parts(r)
}

/// The setter of `proxy_pass`.
pub(super) fn set(s: &mut ProxySettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let word = d.arg(0)?;
    cx.block.relay_by::<Proxy>();
    s.has_own_pass = true;
    let pass = if Template::has_variables(&word.bytes) {
        Pass::Variable(Template::compile(cx, word)?)
    } else {
        Pass::Fixed(fixed(cx, word)?)
    };
    s.pass = Some(Arc::new(pass));
    Ok(())
}

fn fixed(cx: &mut Cx<'_>, word: &Word) -> Result<Fixed, Error> {
    let Some((scheme, address)) = scheme(&word.bytes) else {
        return Err(Error::at(word, "invalid URL prefix"));
    };
    let url = parse_upstream_url(address, UriPart::Allowed).map_err(|why| {
        Error::at(word, format!("{why} in upstream \"{}\"", String::from_utf8_lossy(address)))
    })?;
    let reference = UpstreamRef { host: url.host_text(), port: url.port, default_port: Some(scheme.port()) };
    let upstream = cx.upstreams.refer(reference, word);
    let replaces = matches!(cx.block.kind, Kind::Prefix | Kind::PrefixOnly | Kind::Exact);
    if !replaces && !url.uri.is_empty() {
        return Err(Error::at(word, NO_URI));
    }
    let location = if replaces { cx.block.name.clone() } else { Box::default() };
    Ok(Fixed { upstream, url: word.bytes.to_boxed(), location, parts: Parts::new(scheme, &url) })
}

/// What is spoken with the upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Scheme {
    #[default]
    Http,
    Https,
}

impl Scheme {
    fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// The scheme of a URL and what follows it.
fn scheme(url: &[u8]) -> Option<(Scheme, &[u8])> {
    let behind = |prefix: &[u8]| {
        let (start, rest) = url.split_at_checked(prefix.len())?;
        start.eq_ignore_ascii_case(prefix).then_some(rest)
    };
    let https = || behind(b"https://").map(|rest| (Scheme::Https, rest));
    behind(b"http://").map(|rest| (Scheme::Http, rest)).or_else(https)
}

/// Where this request goes (`ngx_http_proxy_eval`).
pub(super) fn target(settings: &ProxySettings, r: &mut Request) -> Result<Target, Outcome> {
    let (target, evaluated) = match settings.pass.as_deref() {
        None => return Err(no_upstream(r)),
        Some(Pass::Fixed(fixed)) => (Target::Known(fixed.upstream), None),
        Some(Pass::Variable(template)) => {
            let text = template.value(r);
            match evaluate(&text) {
                Ok((target, parts)) => (target, Some(parts)),
                Err(why) => {
                    r.log(Level::Error, format_args!("{why}"));
                    return Err(Outcome::Status(500));
                }
            }
        }
    };
    r.enter_handler::<Proxy>();
    if let Some(parts) = evaluated {
        r.contexts.put(Evaluated(parts));
    }
    Ok(target)
}

fn evaluate(text: &[u8]) -> Result<(Target, Parts), String> {
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let Some((scheme, address)) = scheme(text).filter(|(_, address)| !address.is_empty()) else {
        return Err(format!("invalid URL prefix in \"{}\"", shown(text)));
    };
    let url = parse_upstream_url(address, UriPart::Allowed)
        .map_err(|why| format!("{why} in upstream \"{}\"", shown(address)))?;
    let mut parts = Parts::new(scheme, &url);
    if parts.uri.first() == Some(&b'?') {
        parts.uri = [b"/", &*parts.uri].concat().into();
    }
    Ok((Target::Host { host: url.host_text(), port: url.port, default_port: Some(scheme.port()) }, parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_with_variables() {
        let check = |text: &str, expected: Result<(&str, Option<&str>, &str), &str>| {
            let found = evaluate(text.as_bytes()).map(|(_, parts)| parts);
            let expected = expected.map_err(str::to_owned).map(|(host, port, uri)| Parts {
                host: host.as_bytes().into(),
                port: port.map(|port| port.as_bytes().into()),
                uri: uri.as_bytes().into(),
                scheme: scheme(text.as_bytes()).map(|(scheme, _)| scheme).unwrap_or_default(),
            });
            assert_eq!(found, expected, "{text}");
        };
        check("http://backend", Ok(("backend", Some("80"), "")));
        check("HTTP://backend/", Ok(("backend", Some("80"), "/")));
        check("http://a:80/x", Ok(("a", Some("80"), "/x")));
        check("http://a:8080?x=1", Ok(("a:8080", Some("8080"), "/?x=1")));
        check("http://[::1]:81", Ok(("[::1]:81", Some("81"), "")));
        check("http://unix:/tmp/s:/u", Ok(("localhost", None, "/u")));
        check("https://a/x", Ok(("a", Some("443"), "/x")));
        check("https://a:443", Ok(("a", Some("443"), "")));
        check("https://a:80", Ok(("a:80", Some("80"), "")));
        check("backend", Err("invalid URL prefix in \"backend\""));
        check("http://", Err("invalid URL prefix in \"http://\""));
        check("http:///a", Err("no host in upstream \"/a\""));
        check("http://a:b", Err("invalid port in upstream \"a:b\""));
    }
}
