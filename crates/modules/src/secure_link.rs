//! `ngx_http_secure_link_module`: whether a link carries the right hash, and is still valid.
//!
//! `secure_link` and `secure_link_md5` name the hash and what it is made of; the older `secure_link_secret` has
//! its own form, with the hash in the path.

use std::sync::Arc;

use base::equal_in_constant_time;
use conf::{Arity, Contexts, Directive, Error};
use http::conf::compile::Cx;
use http::credentials::decode_base64url;
use http::module::{Module, Registry, Settings, Slot};
use http::request::Request;
use http::rows::{Row, row, value};
use http::variables::{Template, Variable};
use md5::{Digest, Md5};

/// `ngx_http_secure_link_module`.
pub struct SecureLink;

static SLOT: Slot = Slot::new();

/// Settings of one block.
#[derive(Clone, Default)]
pub struct SecureLinkSettings {
    link: Option<Template>,
    md5: Option<Template>,
    secret: Option<Arc<[u8]>>,
    /// Which lines are the block's own.
    has_own_link: bool,
    has_own_secret: bool,
}

impl Settings for SecureLinkSettings {
    fn enter(&mut self) {
        self.has_own_link = false;
        self.has_own_secret = false;
    }

    fn finish(&mut self, cx: &mut Cx<'_>) -> Result<(), Error> {
        match (self.has_own_link, self.has_own_secret) {
            (true, true) => {
                let sentence =
                    "\"secure_link_secret\" cannot be mixed with \"secure_link\" and \"secure_link_md5\"";
                Err(cx.error_at_end(sentence))
            }
            // The nearer block's kind of link counts.
            (true, false) => {
                self.secret = None;
                Ok(())
            }
            (false, true) => {
                self.link = None;
                self.md5 = None;
                Ok(())
            }
            (false, false) => Ok(()),
        }
    }
}

const ALL: Contexts = Contexts::HTTP_ALL;

static ROWS: [Row<SecureLinkSettings>; 3] = [
    row("secure_link", ALL, Arity::ONE, "", "The hash of a link, and until when it is valid.", |s, cx, d| {
        s.link = Some(template(cx, d)?);
        s.has_own_link = true;
        Ok(())
    }),
    row("secure_link_md5", ALL, Arity::ONE, "", "What the hash is made of.", |s, cx, d| {
        s.md5 = Some(template(cx, d)?);
        s.has_own_link = true;
        Ok(())
    }),
    value(
        "secure_link_secret",
        ALL,
        Arity::ONE,
        "",
        "Secret of links with the hash in their path.",
        |s, d| {
            s.secret = Some((*d.arg(0)?.bytes).into());
            s.has_own_secret = true;
            Ok(())
        },
    ),
];

fn template(cx: &mut Cx<'_>, d: &Directive) -> Result<Template, Error> {
    Template::compile(cx, d.arg(0)?)
}

static VARIABLES: [Variable; 2] = [
    Variable::new("secure_link", secure_link).cached(),
    Variable::new("secure_link_expires", secure_link_expires).cached(),
];

impl Module for SecureLink {
    const NAME: &'static str = "ngx_http_secure_link_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = SecureLinkSettings;
    type Main = ();

    fn rows() -> &'static [Row<SecureLinkSettings>] {
        &ROWS
    }

    fn register(registry: &mut Registry) {
        registry.variables(&VARIABLES);
    }
}

/// `1` for a good link, `0` for one that has expired; nothing for a bad one.
fn secure_link(r: &Request, out: &mut Vec<u8>) -> bool {
    let settings = r.location().settings::<SecureLink>();
    if let Some(secret) = &settings.secret {
        return link_in_path(r.line.target.of(&r.head), secret).is_some_and(|link| {
            out.extend_from_slice(link);
            true
        });
    }
    let (Some(link), Some(text)) = (&settings.link, &settings.md5) else { return false };
    let link = link.value(r);
    let Some((encoded, expires)) = parts(&link) else { return false };
    if encoded.len() > ENCODED_MAX {
        return false;
    }
    let Some(hash) = decode_base64url(encoded) else { return false };
    if !text.with_value(r, |text| equal_in_constant_time(&hash, &Md5::digest(text))) {
        return false;
    }
    let has_expired = expires.is_some_and(|expires| expires.time < net::timer::wall_clock().0);
    out.push(if has_expired { b'0' } else { b'1' });
    true
}

fn secure_link_expires(r: &Request, out: &mut Vec<u8>) -> bool {
    let settings = r.location().settings::<SecureLink>();
    if settings.secret.is_some() || settings.md5.is_none() {
        return false;
    }
    let Some(link) = &settings.link else { return false };
    let link = link.value(r);
    let expires = parts(&link).and_then(|(_, expires)| expires);
    expires.is_some_and(|expires| {
        out.extend_from_slice(expires.text);
        true
    })
}

/// Characters of the longest encoded hash.
const ENCODED_MAX: usize = 24;

/// Until when a link is valid.
struct Expires<'l> {
    /// Unix seconds.
    time: i64,
    text: &'l [u8],
}

/// The encoded hash, and where there is a comma the time behind it.
fn parts(link: &[u8]) -> Option<(&[u8], Option<Expires<'_>>)> {
    let Some(comma) = memchr::memchr(b',', link) else { return Some((link, None)) };
    let text = link.get(comma + 1..)?;
    let time = conf::parse_number(text).and_then(|time| i64::try_from(time).ok()).filter(|time| *time > 0)?;
    Some((link.get(..comma)?, Some(Expires { time, text })))
}

/// The link in a path of the form `/prefix/hash/link`, where the hash is that of link and secret.
fn link_in_path<'t>(target: &'t [u8], secret: &[u8]) -> Option<&'t [u8]> {
    let mut parts = target.get(1..)?.splitn(3, |byte| *byte == b'/').skip(1);
    let (hash, link) = (parts.next()?, parts.next().filter(|link| !link.is_empty())?);
    let hash = decode_hex(hash)?;
    let mut digest = Md5::new();
    digest.update(link);
    digest.update(secret);
    equal_in_constant_time(&hash, &digest.finalize()).then_some(link)
}

/// The sixteen bytes of 32 hexadecimal digits.
fn decode_hex(digits: &[u8]) -> Option<Vec<u8>> {
    if digits.len() != 32 {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    digits.chunks_exact(2).map(|pair| u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_in_paths() {
        let check = |target: &str, expected: Option<&str>| {
            let link = link_in_path(target.as_bytes(), b"secret");
            assert_eq!(link, expected.map(str::as_bytes), "{target}");
        };
        let hash = |link: &str| -> String {
            Md5::digest(format!("{link}secret")).iter().map(|byte| format!("{byte:02x}")).collect()
        };
        check(&format!("/p/{}/a.html", hash("a.html")), Some("a.html"));
        check(&format!("/p/{}/a/b?c", hash("a/b?c")), Some("a/b?c"));
        check(&format!("/p/{}/a.html", hash("a.html").to_uppercase()), Some("a.html"));
        check(&format!("/p/{}/b.html", hash("a.html")), None);
        check(&format!("/p/{}/", hash("")), None);
        check(&format!("/p/{}", hash("")), None);
        check("/p/zz/a.html", None);
        check("/p/zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz/a.html", None);
        check("/", None);
        check("", None);
    }

    #[test]
    fn parts_of_links() {
        let check = |link: &str, expected: Option<(&str, Option<i64>)>| {
            let seen =
                parts(link.as_bytes()).map(|(hash, expires)| (hash, expires.map(|expires| expires.time)));
            assert_eq!(seen, expected.map(|(hash, time)| (hash.as_bytes(), time)), "{link}");
        };
        check("abc", Some(("abc", None)));
        check("abc,12", Some(("abc", Some(12))));
        check("abc,0", None);
        check("abc,", None);
        check("abc,1,2", None);
        check("", Some(("", None)));
    }
}
