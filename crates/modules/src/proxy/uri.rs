//! The URI that the upstream is asked for.
//!
//! What nobody changed is passed as it was sent; all else is made of the normalised path and escaped again.

use http::request::Request;
use proto::h1::PathFlags;
use proto::uri::{EscapeKind, escape};

use super::Proxy;
use super::pass::{Evaluated, Pass};

/// Facts about a request that its URI towards the upstream depends on.
#[derive(Clone, Copy, Debug)]
struct Source<'a> {
    /// Path and arguments as they were sent, where nothing has changed them.
    unparsed: Option<&'a [u8]>,
    /// The normalised path.
    path: &'a [u8],
    args: &'a [u8],
    escaping: Escaping,
    /// The path of `proxy_pass` and the name of the location that it takes the place of; `None` after
    /// `rewrite … break`.
    replacement: Option<(&'a [u8], &'a [u8])>,
    /// `proxy_pass` has a path.
    has_uri: bool,
}

/// Whether the path is escaped again: not where no byte of it was escaped when it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escaping {
    Again,
    Needless,
}

/// Appends the URI of a request towards its upstream (`ngx_http_proxy_create_request`).
pub(super) fn append(r: &Request, out: &mut Vec<u8>) {
    if let Some(pass) = &r.location().settings::<Proxy>().pass {
        append_for(pass, r, out);
    }
}

/// As [`append`], where the location's `proxy_pass` is at hand.
pub(super) fn append_for(pass: &Pass, r: &Request, out: &mut Vec<u8>) {
    let (uri, location): (&[u8], &[u8]) = match pass {
        Pass::Fixed(fixed) => (&fixed.parts.uri, &fixed.location),
        Pass::Variable(_) => {
            let uri = r.contexts.get::<Evaluated>().map(|evaluated| &*evaluated.0.uri).unwrap_or_default();
            if !uri.is_empty() {
                // With variables the path is the operator's as a whole.
                let start = out.len();
                out.extend_from_slice(uri);
                proto::h1::keep_one_line(out.get_mut(start..).unwrap_or_default());
                return;
            }
            (b"", b"")
        }
    };
    let needs_escaping = r.internal || r.line.path_flags.has(PathFlags::QUOTED);
    let source = Source {
        unparsed: r.valid_unparsed_uri.then(|| r.line.target.of(&r.head)),
        path: &r.uri,
        args: &r.args,
        escaping: if needs_escaping { Escaping::Again } else { Escaping::Needless },
        replacement: r.valid_location.then_some((uri, location)),
        has_uri: !uri.is_empty(),
    };
    map(source, out);
}

fn map(source: Source<'_>, out: &mut Vec<u8>) {
    if !source.has_uri
        && let Some(unparsed) = source.unparsed
    {
        out.extend_from_slice(unparsed);
        return;
    }
    let mut path = source.path;
    if let Some((uri, location)) = source.replacement {
        out.extend_from_slice(uri);
        if source.has_uri {
            path = path.get(location.len()..).unwrap_or_default();
        }
    }
    match source.escaping {
        Escaping::Again => escape(path, EscapeKind::Uri, out),
        Escaping::Needless => out.extend_from_slice(path),
    }
    if !source.args.is_empty() {
        out.push(b'?');
        out.extend_from_slice(source.args);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_replaced() {
        let check = |location: &str, pass: &str, path: &str, expected: &str| {
            let source = Source {
                unparsed: Some(b"/sent"),
                path: path.as_bytes(),
                args: b"",
                escaping: Escaping::Again,
                replacement: Some((pass.as_bytes(), location.as_bytes())),
                has_uri: !pass.is_empty(),
            };
            let mut out = Vec::new();
            map(source, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected, "{location} {pass} {path}");
        };
        check("/", "", "/a b", "/sent");
        check("/", "/", "/a b", "/a%20b");
        check("/api/", "/", "/api/v1/x", "/v1/x");
        check("/api", "/", "/api/v1", "//v1");
        check("/api/", "/v2", "/api/x", "/v2x");
        check("/api/", "/v2/", "/api/", "/v2/");
        check("/api/", "/?p=", "/api/x", "/?p=x");
        check("/api/", "/v2/", "/api/100%/\u{e9}", "/v2/100%25/%C3%A9");
        // An internal redirect may have led to a path that is shorter than the location's name.
        check("/longer/", "/v/", "/a", "/v/");
    }

    #[test]
    fn what_was_changed_is_escaped_again_where_it_was_escaped() {
        let check = |escaping, is_rewritten: bool, args: &str, expected: &str| {
            let source = Source {
                unparsed: None,
                path: b"/api/a b",
                args: args.as_bytes(),
                escaping,
                replacement: if is_rewritten { None } else { Some((b"/v/", b"/api/")) },
                has_uri: true,
            };
            let mut out = Vec::new();
            map(source, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected);
        };
        check(Escaping::Again, false, "", "/v/a%20b");
        check(Escaping::Needless, false, "x=1", "/v/a b?x=1");
        check(Escaping::Again, true, "x=%20", "/api/a%20b?x=%20");
    }
}
