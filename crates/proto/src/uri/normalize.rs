//! A path is decoded, its `.` and `..` resolved and its slashes merged, as in `ngx_http_parse_complex_uri`.
//!
//! Decoding comes first: an encoded dot or slash means what a plain one means, an encoded `?`, `%` or `#` stays text.

use crate::h1::PathFlags;

/// Whether several slashes in a row become one (`merge_slashes`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MergeSlashes {
    /// They do.
    #[default]
    Merge,
    /// They stay.
    Keep,
}

/// Why a path is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// 400: a broken escape, an encoded NUL, a byte that must not be there, or a way above the root.
    #[error("client sent invalid request")]
    Invalid,
    /// A path from a header of an upstream or from a module that must not be followed.
    #[error("unsafe URI \"{0}\" was detected")]
    Unsafe(String),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Usual,
    Slash,
    Dot,
    DotDot,
}

/// Appends the normalised `raw_path` to `out`, which must be empty.
///
/// `raw_path` has neither arguments nor fragment, as in [`RequestHead::path`](crate::h1::RequestHead::path);
/// a `?` or `#` would end it. Where [`PathFlags::needs_normalizing`] is false, the result is the path itself.
///
/// # Errors
/// [`UriError::Invalid`]; `out` then holds a part of it.
pub fn normalize(raw_path: &[u8], merge: MergeSlashes, out: &mut Vec<u8>) -> Result<(), UriError> {
    let mut step = Step::Usual;
    let mut rest = raw_path.iter();
    while let Some(&byte) = rest.next() {
        let byte = match byte {
            b'?' | b'#' => break,
            b'%' => {
                let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else {
                    return Err(UriError::Invalid);
                };
                match high << 4 | low {
                    0 => return Err(UriError::Invalid),
                    // Decoded, these three are text like any other.
                    text @ (b'%' | b'#' | b'?') => {
                        out.push(text);
                        step = Step::Usual;
                        continue;
                    }
                    decoded => decoded,
                }
            }
            plain => plain,
        };
        step = match (step, byte) {
            (Step::Usual, b'/') => {
                out.push(byte);
                Step::Slash
            }
            (Step::Slash, b'/') => {
                if merge == MergeSlashes::Keep {
                    out.push(byte);
                }
                Step::Slash
            }
            (Step::Dot, b'/') => {
                out.pop();
                Step::Slash
            }
            (Step::DotDot, b'/') => {
                leave_segment(out)?;
                Step::Slash
            }
            (_, byte) => {
                out.push(byte);
                match (step, byte) {
                    (Step::Slash, b'.') => Step::Dot,
                    (Step::Dot, b'.') => Step::DotDot,
                    _ => Step::Usual,
                }
            }
        };
    }
    match step {
        Step::Dot => {
            out.pop();
        }
        Step::DotDot => leave_segment(out)?,
        Step::Usual | Step::Slash => {}
    }
    Ok(())
}

/// Takes `/..` and the segment before it off the end, up to that segment's slash.
fn leave_segment(out: &mut Vec<u8>) -> Result<(), UriError> {
    let parent = out.len().checked_sub(3).and_then(|end| out.get(..end)).ok_or(UriError::Invalid)?;
    let slash = memchr::memrchr(b'/', parent).ok_or(UriError::Invalid)?;
    out.truncate(slash + 1);
    Ok(())
}

#[inline]
fn digit(byte: Option<&u8>) -> Option<u8> {
    match *byte? {
        digit @ b'0'..=b'9' => Some(digit - b'0'),
        letter @ b'a'..=b'f' => Some(letter - b'a' + 10),
        letter @ b'A'..=b'F' => Some(letter - b'A' + 10),
        _ => None,
    }
}

/// The parts of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// The path as it was sent, without arguments and fragment.
    pub path: &'a [u8],
    /// What follows `?`, if it is not empty.
    pub args: Option<&'a [u8]>,
    /// What the path needs.
    pub flags: PathFlags,
}

/// Splits a target that came another way than in an HTTP/1 request line, such as `:path` of HTTP/2.
///
/// # Errors
/// [`UriError::Invalid`] for control bytes and spaces, and where it does not begin with a slash
/// (`ngx_http_parse_uri`).
pub fn parse_target(target: &[u8]) -> Result<Target<'_>, UriError> {
    if target.first() != Some(&b'/') || target.iter().any(|byte| *byte <= b' ' || *byte == 0x7f) {
        return Err(UriError::Invalid);
    }
    let mut flags = PathFlags::default();
    let (whole, fragment) = cut(target, b'#');
    if fragment.is_some() {
        flags.set(PathFlags::COMPLEX);
    }
    let (path, args) = cut(whole, b'?');
    let mut after_slash = false;
    for byte in path {
        match byte {
            b'/' | b'.' if after_slash => flags.set(PathFlags::COMPLEX),
            b'%' => flags.set(PathFlags::QUOTED),
            b'+' => flags.set(PathFlags::PLUS),
            _ => {}
        }
        after_slash = *byte == b'/' || after_slash && *byte == b'+';
    }
    Ok(Target { path, args: args.filter(|args| !args.is_empty()), flags })
}

fn cut(text: &[u8], at: u8) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(at, text).and_then(|index| text.split_at_checked(index)) {
        Some((before, behind)) => (before, behind.get(1..)),
        None => (text, None),
    }
}

/// Decodes a path that an upstream or a module names (`X-Accel-Redirect`, a subrequest's URI) into `path`,
/// which must be empty, and returns its arguments (`ngx_http_parse_unsafe_uri`).
///
/// Nothing is resolved here: a path with a `..` segment, plain or encoded, is refused.
///
/// # Errors
/// [`UriError::Unsafe`] for such a path, an empty one, and one with a NUL.
pub fn parse_unsafe<'a>(uri: &'a [u8], path: &mut Vec<u8>) -> Result<Option<&'a [u8]>, UriError> {
    let refused = || UriError::Unsafe(String::from_utf8_lossy(uri).into_owned());
    let (plain, args) = cut(uri, b'?');
    if plain.is_empty() || climbs(plain) {
        return Err(refused());
    }
    if plain.contains(&b'%') {
        super::unescape(plain, super::Unescape::All, path);
        if climbs(path) {
            return Err(refused());
        }
    } else {
        path.extend_from_slice(plain);
    }
    Ok(args)
}

/// Whether a NUL or a segment `..` is in the path.
fn climbs(path: &[u8]) -> bool {
    path.contains(&0) || path.split(|byte| *byte == b'/').any(|segment| segment == b"..")
}

/// What follows the last dot of the last segment, unless the segment begins with it (`ngx_http_set_exten`).
/// It may be empty.
#[must_use]
pub fn extension(path: &[u8]) -> Option<&[u8]> {
    let index = memchr::memrchr2(b'.', b'/', path)?;
    if index < 2 || path.get(index) != Some(&b'.') || path.get(index - 1) == Some(&b'/') {
        return None;
    }
    path.get(index + 1..)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalized(path: &str, merge: MergeSlashes) -> String {
        let mut out = Vec::new();
        match normalize(path.as_bytes(), merge, &mut out) {
            Ok(()) => out.escape_ascii().to_string(),
            Err(_) => "refused".into(),
        }
    }

    #[test]
    fn paths() {
        let check = |path: &str, expected: &str| {
            assert_eq!(normalized(path, MergeSlashes::Merge), expected, "{path}");
        };
        check("/", "/");
        check("/a/b.c", "/a/b.c");
        check("//a///b//", "/a/b/");
        check("/./a/./b/.", "/a/b/");
        check("/a/../b", "/b");
        check("/a/b/..", "/a/");
        check("/a/b/../..", "/");
        check("/a//../b", "/b");
        check("/a/...", "/a/...");
        check("/a/..b/.c", "/a/..b/.c");
        check("/a../b.", "/a../b.");
        check("/..", "refused");
        check("/../a", "refused");
        check("/a/../..", "refused");
        check("/a/../../b", "refused");
        check("/%41%62%7E", "/Ab~");
        check("/a%2fb%2F..%2fc", "/a/c");
        check("/a/%2e%2E/b", "/b");
        check("/a/.%2e", "/");
        check("/%2e%2e/a", "refused");
        check("/a%252e%252e/b", "/a%2e%2e/b");
        check("/a/%25./b", "/a/%./b");
        check("/a%3fb%23c", "/a?b#c");
        check("/a%3F/../b", "/b");
        check("/a%00b", "refused");
        check("/a%0ab%ff", "/a\\nb\\xff");
        check("/a%", "refused");
        check("/a%4", "refused");
        check("/a%4g", "refused");
        check("/a%g4", "refused");
        check("/a+b", "/a+b");
        check("/a#b/../c", "/a");
        check("/a/..?b", "/");
        check("/a\\..\\b", "/a\\\\..\\\\b");
    }

    #[test]
    fn slashes_may_stay() {
        let check = |path: &str, expected: &str| {
            assert_eq!(normalized(path, MergeSlashes::Keep), expected, "{path}");
        };
        check("//a///b", "//a///b");
        check("//..", "/");
        check("/a//../b", "/a/b");
        check("//../..", "refused");
    }

    #[test]
    fn a_path_without_flags_is_its_own_normal_form() {
        for path in ["/", "/a", "/a/b.c/d", "/a../b..", "/a+", "/a:b@c;d=e&f"] {
            let target = parse_target(path.as_bytes()).expect(path);
            assert_eq!((target.path, target.args), (path.as_bytes(), None));
            assert!(!target.flags.needs_normalizing(), "{path}");
            assert_eq!(normalized(path, MergeSlashes::Merge), path);
        }
    }

    #[test]
    fn targets() {
        let check = |target: &str, path: &str, args: Option<&str>, normalize| {
            let found = parse_target(target.as_bytes()).expect(target);
            assert_eq!((found.path, found.args), (path.as_bytes(), args.map(str::as_bytes)), "{target}");
            assert_eq!(found.flags.needs_normalizing(), normalize, "{target}");
        };
        check("/a?b=c", "/a", Some("b=c"), false);
        check("/a?", "/a", None, false);
        check("/a?b#c", "/a", Some("b"), true);
        check("/a#b?c", "/a", None, true);
        check("/a//b", "/a//b", None, true);
        check("/.a", "/.a", None, true);
        check("/%41", "/%41", None, true);
        for bad in ["", "a", "*", "/a b", "/\x7f", "/\n", "?a"] {
            assert!(parse_target(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn unsafe_uris() {
        let check = |uri: &str, expected: Option<(&str, Option<&str>)>| {
            let mut path = Vec::new();
            let found = parse_unsafe(uri.as_bytes(), &mut path).ok();
            let expected = expected.map(|(path, args)| (path.as_bytes(), args.map(str::as_bytes)));
            assert_eq!(found.map(|args| (&path[..], args)), expected, "{uri:?}");
        };
        check("/a?b", Some(("/a", Some("b"))));
        check("/a?../b", Some(("/a", Some("../b"))));
        check("/a%20b?c%20d", Some(("/a b", Some("c%20d"))));
        check("a/b", Some(("a/b", None)));
        check("/a..b/..c", Some(("/a..b/..c", None)));
        for bad in
            ["", "?a", "..", "../a", "/..", "/a/../b", "/a/..", "/a\0", "/%2e%2e/a", "/a%2f..%2fb", "/%00"]
        {
            check(bad, None);
        }
    }

    #[test]
    fn extensions() {
        let check = |path: &str, expected: Option<&str>| {
            assert_eq!(extension(path.as_bytes()), expected.map(str::as_bytes), "{path}");
        };
        check("/a.html", Some("html"));
        check("/a.tar.gz", Some("gz"));
        check("/a.", Some(""));
        check("/.htaccess", None);
        check("/a.b/c", None);
        check("/a/.b", None);
        check("/a", None);
        check("", None);
    }
}
