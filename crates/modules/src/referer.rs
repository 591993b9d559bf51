//! `ngx_http_referer_module`: whether a request comes from a page that may refer to this one.
//!
//! Names of hosts may be followed by the beginning of a path; regular expressions see all behind the scheme.

use std::sync::Arc;

use conf::{Arity, Contexts, Directive, Error, Word};
use http::conf::Lines;
use http::conf::compile::Cx;
use http::conf::server_name::ServerName;
use http::module::{Module, Registry, Settings, Slot};
use http::regex::{Case, Regex};
use http::request::Request;
use http::rows::{Row, is_number, row, without_effect};
use http::texts::{KeyFault, Keys, Texts};
use http::variables::Variable;
use proto::h1::Known;

/// `ngx_http_referer_module`.
pub struct Referer;

static SLOT: Slot = Slot::new();

/// Bytes of the longest name of a host.
const HOST_MAX: usize = 256;
/// The shortest field that is looked into: `http://i.ru`.
const REFERER_MIN: usize = 11;

/// Settings of one block.
#[derive(Clone, Default)]
pub struct RefererSettings {
    /// Names of hosts, with the beginning of a path where one is written.
    names: Arc<Texts<Box<[u8]>>>,
    regexes: Lines<Regex>,
    /// Of `server_name`; they see the host alone.
    server_regexes: Arc<Vec<Regex>>,
    /// `none`: a request without the field.
    none: bool,
    /// `blocked`: a field without a scheme.
    blocked: bool,
    server_names: bool,
    /// The block has a line of its own, or a regular expression.
    is_own: bool,
}

impl Settings for RefererSettings {
    fn enter(&mut self) {
        self.is_own = false;
        self.regexes.enter();
    }

    fn finish(&mut self, cx: &mut Cx<'_>) -> Result<(), Error> {
        if !self.is_own {
            return Ok(());
        }
        if self.server_names {
            self.add_server_names(cx)?;
        }
        if (self.none || self.blocked) && self.names.is_empty() {
            return Err(Error::bare(
                "the \"none\" or \"blocked\" referers are specified in the \"valid_referers\" directive \
                 without any valid referer",
            ));
        }
        Ok(())
    }
}

const PLACES: Contexts = Contexts::SERVER.or(Contexts::LOCATION);
const NO_HASH: &str = "tables grow as they need to";

static ROWS: [Row<RefererSettings>; 3] = [
    row("valid_referers", PLACES, Arity::MORE1, "", "Pages that may refer to this one.", valid_referers)
        .many(),
    without_effect("referer_hash_max_size", PLACES, Arity::ONE, NO_HASH).checked(is_number),
    without_effect("referer_hash_bucket_size", PLACES, Arity::ONE, NO_HASH).checked(is_number),
];

static VARIABLES: [Variable; 1] = [Variable::new("invalid_referer", |r, out| {
    let settings = r.location().settings::<Referer>();
    if !settings.is_valid(r) {
        out.push(b'1');
    }
    true
})
.cached()
.changeable()];

impl Module for Referer {
    const NAME: &'static str = "ngx_http_referer_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = RefererSettings;
    type Main = ();

    fn rows() -> &'static [Row<RefererSettings>] {
        &ROWS
    }

    fn register(registry: &mut Registry) {
        registry.variables(&VARIABLES);
    }
}

fn valid_referers(s: &mut RefererSettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    if !std::mem::replace(&mut s.is_own, true) {
        // Regular expressions of the block around stay until there is one here.
        s.names = Arc::default();
        (s.none, s.blocked, s.server_names) = (false, false, false);
    }
    for word in &d.args {
        match &*word.bytes {
            b"" => return Err(Error::at(word, "invalid referer \"\"")),
            b"none" => s.none = true,
            b"blocked" => s.blocked = true,
            b"server_names" => s.server_names = true,
            [b'~', pattern @ ..] => s.add_regex(cx, word, pattern)?,
            name => {
                let end = memchr::memchr(b'/', name).unwrap_or(name.len());
                let (host, path) = name.split_at(end);
                s.add_name(host, path).map_err(|sentence| Error::at(word, sentence))?;
            }
        }
    }
    Ok(())
}

impl RefererSettings {
    fn add_regex(&mut self, cx: &mut Cx<'_>, word: &Word, pattern: &[u8]) -> Result<(), Error> {
        if pattern.is_empty() {
            return Err(Error::at(word, format!("empty regex in \"{}\"", word.as_str())));
        }
        self.regexes.push(Regex::compile(cx, word, pattern, Case::Insensitive)?);
        Ok(())
    }

    fn add_name(&mut self, host: &[u8], path: &[u8]) -> Result<(), String> {
        Arc::make_mut(&mut self.names).add(&host.into(), path.into(), Keys::Hostnames).map_err(|fault| {
            let shown = String::from_utf8_lossy(host);
            match fault {
                KeyFault::Invalid => format!("invalid hostname or wildcard \"{shown}\""),
                KeyFault::Conflicting => format!("conflicting parameter \"{shown}\""),
            }
        })
    }

    /// The names of the server that the block is in.
    fn add_server_names(&mut self, cx: &mut Cx<'_>) -> Result<(), Error> {
        let names = cx.server.as_ref().map(|server| server.names.clone()).unwrap_or_default();
        let mut regexes = Vec::new();
        let mut added = if names.is_empty() { self.add_name(b"", b"") } else { Ok(()) };
        for name in &names {
            added = added.and_then(|()| match name {
                ServerName::Text(text) => self.add_name(text, b""),
                ServerName::Regex(regex) => {
                    regexes.push(regex.clone());
                    Ok(())
                }
            });
        }
        if !regexes.is_empty() {
            self.server_regexes = Arc::new(regexes);
        }
        added.map_err(|sentence| cx.error_at_end(sentence))
    }

    /// `ngx_http_referer_variable`.
    fn is_valid(&self, r: &Request) -> bool {
        if self.names.is_empty() && self.regexes.is_empty() && self.server_regexes.is_empty() {
            return true;
        }
        let Some(referer) = r.header(Known::Referer) else { return self.none };
        let Some(rest) = without_scheme(referer) else { return self.blocked };
        let end = memchr::memchr2(b'/', b':', rest).unwrap_or(rest.len());
        let (host, behind) = rest.split_at(end);
        if host.len() > HOST_MAX {
            return false;
        }
        if let Some(path) = self.names.find(host) {
            let start = memchr::memchr(b'/', behind).unwrap_or(behind.len());
            return behind.get(start..).is_some_and(|own| own.starts_with(path));
        }
        let host = host.to_ascii_lowercase();
        self.server_regexes.iter().any(|regex| regex.is_match(&host))
            || self.regexes.iter().any(|regex| regex.is_match(rest))
    }
}

/// What follows `http://` or `https://`.
fn without_scheme(referer: &[u8]) -> Option<&[u8]> {
    if referer.len() < REFERER_MIN {
        return None;
    }
    [&b"http://"[..], b"https://"].iter().find_map(|scheme| {
        let (start, rest) = referer.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes() {
        let check = |referer: &str, expected: Option<&str>| {
            assert_eq!(without_scheme(referer.as_bytes()), expected.map(str::as_bytes), "{referer}");
        };
        check("http://i.ru", Some("i.ru"));
        check("HTTPS://example.com/a", Some("example.com/a"));
        check("http://i.r", None);
        check("ftp://example.com/", None);
        check("example.com/http://", None);
        check("", None);
    }
}
