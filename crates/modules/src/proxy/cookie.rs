//! `proxy_cookie_domain`, `proxy_cookie_path` and `proxy_cookie_flags`: rewriting `Set-Cookie`.
//!
//! A line is taken apart and, if anything changed, written anew; a cookie without `=` stays as it is.

use std::sync::Arc;

use conf::{Directive, Error, Word};
use http::conf::compile::Cx;
use http::regex::{Case, Regex};
use http::relay::Rewritten;
use http::request::Request;
use http::variables::Template;
use os::errlog::Level;

use super::redirect::{Rewrite, first};
use super::{Own, ProxySettings};

/// Which cookie a line of `proxy_cookie_flags` means.
#[derive(Clone)]
enum Which {
    Name(Template),
    Regex(Regex),
}

#[derive(Clone)]
struct FlagRule {
    which: Which,
    flags: Vec<Template>,
}

/// A list that a block's own lines replace as a whole.
#[derive(Clone)]
struct List<T> {
    items: Option<Arc<Vec<T>>>,
    own: Own,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self { items: None, own: Own::Nothing }
    }
}

impl<T: Clone> List<T> {
    /// Takes a line in: `off` alone, or as many entries as there are.
    fn add(&mut self, d: &Directive, make: impl FnOnce(&Word) -> Result<T, Error>) -> Result<(), Error> {
        if self.own == Own::Off {
            return Err(Error::on(d, "is duplicate"));
        }
        let word = d.arg(0)?;
        if d.args.len() == 1 {
            if !word.is("off") {
                return Err(Error::at(word, format!("invalid parameter \"{}\"", word.as_str())));
            }
            if self.own == Own::List {
                return Err(Error::on(d, "is duplicate"));
            }
            *self = Self { items: None, own: Own::Off };
            return Ok(());
        }
        let item = make(word)?;
        if self.own == Own::Nothing {
            self.items = None;
            self.own = Own::List;
        }
        Arc::make_mut(self.items.get_or_insert_default()).push(item);
        Ok(())
    }
}

/// What is done to cookies.
#[derive(Clone, Default)]
pub(super) struct CookieRewrites {
    domains: List<Rewrite>,
    paths: List<Rewrite>,
    flags: List<FlagRule>,
}

/// The setter of `proxy_cookie_domain`.
pub(super) fn domain(s: &mut ProxySettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    s.cookies.domains.add(d, |word| Rewrite::read_domain(cx, word, d.arg(1)?))
}

/// The setter of `proxy_cookie_path`.
pub(super) fn path(s: &mut ProxySettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    s.cookies.paths.add(d, |word| Rewrite::read(cx, word, d.arg(1)?))
}

/// The setter of `proxy_cookie_flags`.
pub(super) fn flags(s: &mut ProxySettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    s.cookies.flags.add(d, |word| {
        let which = match word.after("~") {
            Some(text) => Which::Regex(Regex::compile(cx, word, text, Case::Insensitive)?),
            None => Which::Name(Template::compile(cx, word)?),
        };
        let flags =
            d.args.iter().skip(1).map(|flag| Template::compile(cx, flag)).collect::<Result<_, _>>()?;
        Ok(FlagRule { which, flags })
    })
}

impl CookieRewrites {
    /// For the settings' `enter`.
    pub fn enter(&mut self) {
        self.domains.own = Own::Nothing;
        self.paths.own = Own::Nothing;
        self.flags.own = Own::Nothing;
    }

    /// Rewrites the value of a `Set-Cookie` (`ngx_http_proxy_rewrite_cookie`).
    pub fn rewrite(&self, r: &Request, value: &[u8], out: &mut Vec<u8>) -> Rewritten {
        if self.domains.items.is_none() && self.paths.items.is_none() && self.flags.items.is_none() {
            return Rewritten::Same;
        }
        let mut attrs = parse(value);
        if attrs.first().is_none_or(|cookie| cookie.value.is_none()) {
            return Rewritten::Same;
        }
        let mut is_changed = false;
        for attr in attrs.iter_mut().skip(1) {
            let list = if attr.name.eq_ignore_ascii_case(b"domain") {
                &self.domains.items
            } else if attr.name.eq_ignore_ascii_case(b"path") {
                &self.paths.items
            } else {
                continue;
            };
            let (Some(list), Some(value)) = (list, &mut attr.value) else { continue };
            let mut new = Vec::new();
            if first(list, r, value, &mut new) == Rewritten::Changed {
                *value = new;
                is_changed = true;
            }
        }
        if let Some(rules) = &self.flags.items {
            let flags = wanted_flags(rules, r, attrs.first().map(|cookie| &*cookie.name).unwrap_or_default());
            if flags != 0 {
                edit_flags(&mut attrs, flags);
                is_changed = true;
            }
        }
        if !is_changed {
            return Rewritten::Same;
        }
        write(&attrs, out);
        Rewritten::Changed
    }
}

/// The bits of the first rule that means this cookie.
fn wanted_flags(rules: &[FlagRule], r: &Request, name: &[u8]) -> u32 {
    let rule = rules.iter().find(|rule| match &rule.which {
        Which::Regex(regex) => r.matches(regex, name),
        Which::Name(template) => template.value(r).eq_ignore_ascii_case(name),
    });
    let Some(rule) = rule else { return 0 };
    let mut bits = 0;
    for flag in &rule.flags {
        let text = flag.value(r);
        if text.is_empty() {
            continue;
        }
        match FLAGS.iter().find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(&text)) {
            Some((_, bit)) => bits |= bit,
            None if r.logs(Level::Debug) => {
                let shown = String::from_utf8_lossy(&text).into_owned();
                r.debug(format_args!("invalid proxy_cookie_flags flag \"{shown}\""));
            }
            None => {}
        }
    }
    bits
}

const SECURE_ON: u32 = 1;
const SECURE_OFF: u32 = 1 << 1;
const HTTPONLY_ON: u32 = 1 << 2;
const HTTPONLY_OFF: u32 = 1 << 3;
const STRICT: u32 = 1 << 4;
const LAX: u32 = 1 << 5;
const NONE: u32 = 1 << 6;
const SAMESITE_OFF: u32 = 1 << 7;

const FLAGS: [(&str, u32); 8] = [
    ("secure", SECURE_ON),
    ("nosecure", SECURE_OFF),
    ("httponly", HTTPONLY_ON),
    ("nohttponly", HTTPONLY_OFF),
    ("samesite=strict", STRICT),
    ("samesite=lax", LAX),
    ("samesite=none", NONE),
    ("nosamesite", SAMESITE_OFF),
];

/// The values of SameSite; the first that is wanted wins.
const SAMESITE: [(u32, &[u8]); 3] = [(STRICT, b"Strict"), (LAX, b"Lax"), (NONE, b"None")];

/// One part of a cookie between semicolons; the first is the cookie itself.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Attr {
    name: Vec<u8>,
    value: Option<Vec<u8>>,
}

/// Takes a line apart (`ngx_http_proxy_parse_cookie`).
fn parse(value: &[u8]) -> Vec<Attr> {
    let trim = |text: &[u8]| {
        let start = text.iter().take_while(|byte| **byte == b' ').count();
        let end = text.iter().rev().take_while(|byte| **byte == b' ').count();
        text.get(start..text.len() - end).unwrap_or_default().to_vec()
    };
    let attr = |part: &[u8]| match part.iter().position(|byte| *byte == b'=') {
        Some(at) => {
            let (name, value) = part.split_at(at);
            Attr { name: trim(name), value: Some(trim(value.get(1..).unwrap_or_default())) }
        }
        None => Attr { name: trim(part), value: None },
    };
    value.split(|byte| *byte == b';').map(attr).collect()
}

/// Sets and removes flags (`ngx_http_proxy_edit_cookie_flags`).
fn edit_flags(attrs: &mut Vec<Attr>, mut flags: u32) {
    let mut is_first = true;
    attrs.retain_mut(|attr| {
        if std::mem::take(&mut is_first) {
            return true;
        }
        if attr.name.eq_ignore_ascii_case(b"secure") {
            return keep_flag(&mut flags, SECURE_ON, SECURE_OFF);
        }
        if attr.name.eq_ignore_ascii_case(b"httponly") {
            return keep_flag(&mut flags, HTTPONLY_ON, HTTPONLY_OFF);
        }
        if attr.name.eq_ignore_ascii_case(b"samesite") {
            return keep_samesite(&mut flags, attr);
        }
        true
    });
    let plain = |name: &str| Attr { name: name.into(), value: None };
    if flags & SECURE_ON != 0 {
        attrs.push(plain("Secure"));
    }
    if flags & HTTPONLY_ON != 0 {
        attrs.push(plain("HttpOnly"));
    }
    if let Some((_, value)) = SAMESITE.iter().find(|(bit, _)| flags & bit != 0) {
        attrs.push(Attr { name: b"SameSite".to_vec(), value: Some(value.to_vec()) });
    }
}

/// A flag that is there already need not be added; one that is not wanted goes.
fn keep_flag(flags: &mut u32, on: u32, off: u32) -> bool {
    if *flags & on != 0 {
        *flags &= !on;
        return true;
    }
    *flags & off == 0
}

fn keep_samesite(flags: &mut u32, attr: &mut Attr) -> bool {
    let Some((bit, wanted)) = SAMESITE.iter().find(|(bit, _)| *flags & bit != 0) else {
        return *flags & SAMESITE_OFF == 0;
    };
    *flags &= !bit;
    if !attr.value.as_ref().is_some_and(|value| value.eq_ignore_ascii_case(wanted)) {
        *attr = Attr { name: b"SameSite".to_vec(), value: Some(wanted.to_vec()) };
    }
    true
}

fn write(attrs: &[Attr], out: &mut Vec<u8>) {
    for (index, attr) in attrs.iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(b"; ");
        }
        out.extend_from_slice(&attr.name);
        if let Some(value) = &attr.value {
            out.push(b'=');
            out.extend_from_slice(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags_of(names: &[&str]) -> u32 {
        names
            .iter()
            .filter_map(|name| FLAGS.iter().find(|(known, _)| known == name))
            .map(|(_, bit)| bit)
            .sum()
    }

    #[test]
    fn lines_are_taken_apart_and_put_together() {
        let check = |line: &str, expected: &str| {
            let mut out = Vec::new();
            write(&parse(line.as_bytes()), &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected, "{line}");
        };
        check("a=b", "a=b");
        check("a=b;Path=/;HttpOnly", "a=b; Path=/; HttpOnly");
        check(" a = b ; Domain = x ", "a=b; Domain=x");
        check("a==b=; x", "a==b=; x");
        check("a=", "a=");
        check("a=b;", "a=b; ");
        assert_eq!(parse(b"a").first().map(|attr| attr.value.is_none()), Some(true));
    }

    #[test]
    fn flags_are_set_and_removed() {
        let check = |line: &str, names: &[&str], expected: &str| {
            let (mut attrs, mut out) = (parse(line.as_bytes()), Vec::new());
            edit_flags(&mut attrs, flags_of(names));
            write(&attrs, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected, "{line} {names:?}");
        };
        check("a=b", &["secure", "httponly", "samesite=lax"], "a=b; Secure; HttpOnly; SameSite=Lax");
        check("a=b; secure; Path=/", &["secure", "httponly"], "a=b; secure; Path=/; HttpOnly");
        check("a=b; Secure; HttpOnly", &["nosecure", "nohttponly"], "a=b");
        check("a=b; samesite=LAX", &["samesite=lax"], "a=b; samesite=LAX");
        check("a=b; samesite=none; x", &["samesite=strict"], "a=b; SameSite=Strict; x");
        check("a=b; SameSite=None", &["nosamesite"], "a=b");
        check("a=b; SameSite", &["samesite=none"], "a=b; SameSite=None");
        check("a=b", &["samesite=none", "samesite=strict"], "a=b; SameSite=Strict");
        check("secure=1", &["nosecure"], "secure=1");
        check("a=b; Secure", &["secure", "nosecure"], "a=b; Secure");
    }
}
