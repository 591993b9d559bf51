//! Strings in commands: variables in them, backslashes, and paths relative to the page
//! (`ngx_http_ssi_evaluate_string`).

use http::request::Request;
use os::errlog::Level;

use super::common::Common;
use super::parse::shown;

/// Whether a string is a path, which is relative to the page's unless it begins with a slash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    /// It is no path.
    None,
    /// It is one.
    Page,
}

/// A command cannot be obeyed; the log says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault;

/// The value of a variable, in the pages' own first and then among the server's; `None` where it is not there.
pub(super) fn variable(r: &mut Request, name: &[u8]) -> Option<Vec<u8>> {
    if let Some(value) = Common::of(r).variable(name) {
        return Some(value.to_vec());
    }
    let mut value = Vec::new();
    r.append_named_variable(name, &mut value).then_some(value)
}

/// The string with its variables' values.
pub(super) fn evaluate(r: &mut Request, text: &[u8], base: Base) -> Result<Vec<u8>, Fault> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(&byte) = rest.first() {
        if byte != b'$' {
            let (length, plain) = unescaped(rest);
            out.extend_from_slice(&plain);
            rest = rest.get(length..).unwrap_or_default();
            continue;
        }
        rest = rest.get(1..).unwrap_or_default();
        let Some(name) = variable_name(r, &mut rest)? else {
            r.log(Level::Error, format_args!("invalid variable name in \"{}\"", shown(text)));
            return Err(Fault);
        };
        if let Some(value) = variable(r, &name) {
            out.extend_from_slice(&value);
        }
    }
    // A path of variables that are all empty stays empty, and is refused.
    let is_relative = out.first() != Some(&b'/') && !(out.is_empty() && text.contains(&b'$'));
    if base == Base::Page && is_relative {
        let folder = memchr::memrchr(b'/', &r.uri).map_or(0, |at| at + 1);
        out.splice(..0, r.uri.get(..folder).unwrap_or_default().iter().copied());
    }
    Ok(out)
}

/// Text up to the next variable, without the backslashes that make something plain; and its length as written.
fn unescaped(text: &[u8]) -> (usize, Vec<u8>) {
    let mut out = Vec::new();
    let mut is_quoted = false;
    for (at, &byte) in text.iter().enumerate() {
        if !is_quoted {
            match byte {
                b'\\' => {
                    is_quoted = true;
                    continue;
                }
                b'$' => return (at, out),
                _ => {}
            }
        } else {
            is_quoted = false;
            if !matches!(byte, b'\\' | b'\'' | b'"' | b'$') {
                out.push(b'\\');
            }
        }
        out.push(byte);
    }
    (text.len(), out)
}

/// Takes `name` or `{name}` from the start of `rest`, in lower case; `None` where there is none.
fn variable_name(r: &Request, rest: &mut &[u8]) -> Result<Option<Vec<u8>>, Fault> {
    let is_braced = rest.first() == Some(&b'{');
    if is_braced {
        *rest = rest.get(1..).unwrap_or_default();
    }
    let length = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
    let (name, behind) = rest.split_at_checked(length).unwrap_or_default();
    *rest = behind;
    if is_braced {
        match behind.strip_prefix(b"}") {
            Some(behind) => *rest = behind,
            None => {
                r.log(
                    Level::Error,
                    format_args!("the closing bracket in \"{}\" variable is missing", shown(name)),
                );
                return Err(Fault);
            }
        }
    }
    Ok((!name.is_empty()).then(|| name.to_ascii_lowercase()))
}

/// How `echo` writes a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Encoding {
    None,
    Url,
    #[default]
    Entity,
}

impl Encoding {
    pub fn named(name: &[u8]) -> Option<Self> {
        match name {
            b"none" => Some(Self::None),
            b"url" => Some(Self::Url),
            b"entity" => Some(Self::Entity),
            _ => None,
        }
    }

    pub fn apply(self, value: Vec<u8>) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::None => return value,
            Self::Url => proto::uri::escape(&value, proto::uri::EscapeKind::Html, &mut out),
            Self::Entity => proto::uri::escape_html(&value, &mut out),
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backslashes() {
        let check = |text: &str, length, expected: &str| {
            assert_eq!(unescaped(text.as_bytes()), (length, expected.as_bytes().to_vec()), "{text}");
        };
        check("abc", 3, "abc");
        check("a$b", 1, "a");
        check("a\\$b", 4, "a$b");
        check("\\\\", 2, "\\");
        check("\\'\\\"", 4, "'\"");
        check("\\a", 2, "\\a");
        check("a\\", 2, "a");
    }

    #[test]
    fn encodings() {
        let check = |encoding: Encoding, expected: &str| {
            assert_eq!(encoding.apply(b"<a \"&\">".to_vec()), expected.as_bytes());
        };
        check(Encoding::None, "<a \"&\">");
        check(Encoding::Entity, "&lt;a &quot;&amp;&quot;&gt;");
        check(Encoding::Url, "%3Ca%20%22&%22%3E");
        assert_eq!(Encoding::named(b"base64"), None);
    }
}
