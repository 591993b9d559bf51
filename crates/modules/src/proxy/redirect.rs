//! `proxy_redirect`: the upstream's own addresses in `Location` and `Refresh` become the client's.
//!
//! Without the directive the URL of `proxy_pass` becomes the name of the location.

use std::sync::Arc;

use conf::{Directive, Error, Word};
use http::conf::compile::Cx;
use http::regex::{Case, Regex};
use http::relay::Rewritten;
use http::request::Request;
use http::variables::Template;

use super::pass::Pass;
use super::{Own, ProxySettings};

/// How the beginning of a value is replaced.
#[derive(Clone)]
pub(super) enum Rewrite {
    /// What begins with the pattern gets another beginning.
    Prefix(Template, Template),
    /// What matches becomes something else as a whole.
    Regex(Regex, Template),
    /// A domain, with or without a dot in front, that equals the pattern.
    Domain(Template, Template),
}

/// `proxy_redirect`.
#[derive(Clone, Default)]
pub(super) enum Redirects {
    /// Not written: the default of the location's `proxy_pass`, once there is one.
    #[default]
    Unset,
    /// `off`.
    Off,
    /// These, the first that applies.
    List(Arc<Vec<Rewrite>>),
}

impl Redirects {
    /// Where nothing is written and nothing inherited, the default.
    pub fn complete(&mut self, default: impl FnOnce() -> Option<Rewrite>) {
        if matches!(self, Self::Unset)
            && let Some(rewrite) = default()
        {
            *self = Self::List(Arc::new(vec![rewrite]));
        }
    }

    /// Rewrites an address.
    pub fn rewrite(&self, r: &Request, value: &[u8], out: &mut Vec<u8>) -> Rewritten {
        match self {
            Self::List(list) => first(list, r, value, out),
            _ => Rewritten::Same,
        }
    }
}

/// The first rewrite that applies.
pub(super) fn first(list: &[Rewrite], r: &Request, value: &[u8], out: &mut Vec<u8>) -> Rewritten {
    let applied = list.iter().any(|rewrite| rewrite.apply(r, value, out));
    if applied { Rewritten::Changed } else { Rewritten::Same }
}

impl Rewrite {
    /// `proxy_redirect default`; none with variables in `proxy_pass`.
    pub fn default_of(pass: &Pass) -> Option<Self> {
        let fixed = pass.fixed()?;
        Some(if fixed.parts.uri.is_empty() {
            let url = [&*fixed.url, b"/"].concat();
            Self::Prefix(Template::literal(&url), Template::literal(b"/"))
        } else {
            Self::Prefix(Template::literal(&fixed.url), Template::literal(&fixed.location))
        })
    }

    /// A pattern of `proxy_redirect` and `proxy_cookie_path`: `~`, `~*` or a prefix.
    pub fn read(cx: &mut Cx<'_>, pattern: &Word, replacement: &Word) -> Result<Self, Error> {
        let rewrite = if let Some(text) = pattern.after("~*") {
            Self::Regex(Regex::compile(cx, pattern, text, Case::Insensitive)?, Template::default())
        } else if let Some(text) = pattern.after("~") {
            Self::Regex(Regex::compile(cx, pattern, text, Case::Sensitive)?, Template::default())
        } else {
            Self::Prefix(Template::compile(cx, pattern)?, Template::default())
        };
        Ok(rewrite.with(Template::compile(cx, replacement)?))
    }

    /// A pattern of `proxy_cookie_domain`: `~` (in any case of letters) or a domain.
    pub fn read_domain(cx: &mut Cx<'_>, pattern: &Word, replacement: &Word) -> Result<Self, Error> {
        if let Some(text) = pattern.after("~") {
            let regex = Regex::compile(cx, pattern, text, Case::Insensitive)?;
            return Ok(Self::Regex(regex, Template::compile(cx, replacement)?));
        }
        let without_dot = |word: &Word| word.bytes.strip_prefix(b".").unwrap_or(&word.bytes).to_vec();
        let (domain, other) = (without_dot(pattern), without_dot(replacement));
        let domain = Template::compile_bytes(cx, pattern, &domain)?;
        Ok(Self::Domain(domain, Template::compile_bytes(cx, replacement, &other)?))
    }

    fn with(self, replacement: Template) -> Self {
        match self {
            Self::Prefix(pattern, _) => Self::Prefix(pattern, replacement),
            Self::Regex(regex, _) => Self::Regex(regex, replacement),
            Self::Domain(pattern, _) => Self::Domain(pattern, replacement),
        }
    }

    /// Appends the new value where the pattern applies, and says whether it did.
    pub fn apply(&self, r: &Request, value: &[u8], out: &mut Vec<u8>) -> bool {
        match self {
            Self::Prefix(pattern, replacement) => {
                let Some(rest) = evaluated(pattern, r, |pattern| after_prefix(value, pattern)) else {
                    return false;
                };
                replacement.append(r, out);
                out.extend_from_slice(rest);
            }
            Self::Regex(regex, replacement) => {
                if !r.matches(regex, value) {
                    return false;
                }
                replacement.append(r, out);
            }
            Self::Domain(pattern, replacement) => {
                let Some(dot) = evaluated(pattern, r, |pattern| same_domain(value, pattern)) else {
                    return false;
                };
                out.extend_from_slice(dot);
                replacement.append(r, out);
            }
        }
        true
    }
}

/// Asks `use_it` about the text of a template, which is computed only where it has variables.
fn evaluated<T>(template: &Template, r: &Request, use_it: impl FnOnce(&[u8]) -> T) -> T {
    match template.as_literal() {
        Some(text) => use_it(text),
        None => use_it(&template.value(r)),
    }
}

/// What follows the prefix.
fn after_prefix<'v>(value: &'v [u8], prefix: &[u8]) -> Option<&'v [u8]> {
    value.strip_prefix(prefix)
}

/// The dot in front of a domain that equals the pattern; empty where there is none.
fn same_domain<'v>(value: &'v [u8], pattern: &[u8]) -> Option<&'v [u8]> {
    let (dot, domain) = value.split_at(usize::from(value.first() == Some(&b'.')));
    domain.eq_ignore_ascii_case(pattern).then_some(dot)
}

/// The setter of `proxy_redirect`.
pub(super) fn set(s: &mut ProxySettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    if d.is_default() {
        return Ok(());
    }
    if s.own_redirect == Own::Off {
        return Err(Error::on(d, "is duplicate"));
    }
    let word = d.arg(0)?;
    let rewrite = match d.args.get(1) {
        Some(replacement) => Rewrite::read(cx, word, replacement)?,
        None if word.is("off") => {
            if s.own_redirect == Own::List {
                return Err(Error::on(d, "is duplicate"));
            }
            s.own_redirect = Own::Off;
            s.redirects = Redirects::Off;
            return Ok(());
        }
        None if word.is("default") => default(s, word)?,
        None => return Err(Error::at(word, format!("invalid parameter \"{}\"", word.as_str()))),
    };
    if let (Own::List, Redirects::List(list)) = (s.own_redirect, &mut s.redirects) {
        Arc::make_mut(list).push(rewrite);
    } else {
        s.redirects = Redirects::List(Arc::new(vec![rewrite]));
    }
    s.own_redirect = Own::List;
    Ok(())
}

fn default(s: &ProxySettings, word: &Word) -> Result<Rewrite, Error> {
    let pass = s.pass.as_deref().filter(|_| s.has_own_pass);
    match pass.map(Rewrite::default_of) {
        Some(Some(rewrite)) => Ok(rewrite),
        Some(None) => Err(Error::at(
            word,
            "\"proxy_redirect default\" cannot be used with \"proxy_pass\" directive with variables",
        )),
        None => Err(Error::at(
            word,
            "\"proxy_redirect default\" should be placed after the \"proxy_pass\" directive",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_and_domains() {
        let check = |value: &str, pattern: &str, rest: Option<&str>| {
            assert_eq!(
                after_prefix(value.as_bytes(), pattern.as_bytes()),
                rest.map(str::as_bytes),
                "{value}"
            );
        };
        check("http://a/b", "http://a/", Some("b"));
        check("http://a/", "http://a/", Some(""));
        check("http://A/", "http://a/", None);
        check("http://a", "http://a/", None);
        let check = |value: &str, pattern: &str, dot: Option<&str>| {
            assert_eq!(same_domain(value.as_bytes(), pattern.as_bytes()), dot.map(str::as_bytes), "{value}");
        };
        check("example.org", "Example.ORG", Some(""));
        check(".example.org", "example.org", Some("."));
        check("www.example.org", "example.org", None);
        check("", "", Some(""));
        check("..a", "a", None);
    }
}
