//! `*_cache_purge`: requests that take answers out of the cache, in the forms of nginx's commercial edition and of
//! `ngx_cache_purge`.
//!
//! Which form a line has is told by its first word: a zone's name has no variables, conditions are useless without.

use std::sync::Arc;

use ::cache::{Mode, Purge, PurgeError, Purged, Zone};
use base::Network;
use conf::{Contexts, Directive, Error, Word};
use os::errlog::{Errno, Level};

use super::path::CacheZone;
use super::settings::CacheSettings;
use super::tags;
use crate::blocking;
use crate::chunk::Chunk;
use crate::conf::compile::Cx;
use crate::conf::location::Content;
use crate::conf::network;
use crate::phases::{Answer, Answered, Body, Outcome};
use crate::relay::head::Heading;
use crate::request::Request;
use crate::variables::Template;

/// When a request to a location that caches is a purge of its own key.
#[derive(Clone, Default)]
pub enum PurgeWhen {
    /// Never.
    #[default]
    Never,
    /// When one of these holds (the commercial edition).
    Holds(Vec<Template>),
    /// When it has a method of its own (`ngx_cache_purge`).
    Method(Arc<ByMethod>),
}

/// `METHOD [purge_all] [from …]`.
pub struct ByMethod {
    method: Box<[u8]>,
    scope: Scope,
    /// Who may; empty: all.
    from: Vec<Network>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Key,
    /// `purge_all`.
    Zone,
}

/// Reads a line. One with a zone answers in its location; others say when requests to theirs are purges.
///
/// # Errors
/// nginx's sentences for what it does not take.
pub(super) fn set(settings: &mut CacheSettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let (first, rest) = d.args.split_first().ok_or_else(|| Error::on(d, "has no argument"))?;
    let is_variable = Template::has_variables(&first.bytes);
    let is_method = rest.first().is_none_or(|word| word.is("from") || word.is("purge_all"));
    if !is_variable && !is_method {
        return answer_here(cx, d, first, rest);
    }
    settings.purge = if is_variable {
        let conditions = d.args.iter().map(|word| Template::compile(cx, word));
        PurgeWhen::Holds(conditions.collect::<Result<_, _>>()?)
    } else {
        by_method(cx, first, rest)?
    };
    Ok(())
}

fn by_method(cx: &mut Cx<'_>, first: &Word, rest: &[Word]) -> Result<PurgeWhen, Error> {
    let method: &[u8] = match &*first.bytes {
        b"off" | b"0" => return Ok(PurgeWhen::Never),
        b"1" => return Ok(PurgeWhen::Holds(vec![Template::literal(b"1")])),
        b"on" => b"PURGE",
        name if !name.is_empty() && name.iter().all(u8::is_ascii_uppercase) => name,
        _ => return Err(Error::at(first, format!("invalid method \"{}\"", first.as_str()))),
    };
    let (scope, rest) = match rest.split_first() {
        Some((word, rest)) if word.is("purge_all") => (Scope::Zone, rest),
        _ => (Scope::Key, rest),
    };
    let mut from = Vec::new();
    if let Some((word, clients)) = rest.split_first() {
        if !word.is("from") || clients.is_empty() {
            return Err(Error::at(
                word,
                format!("invalid parameter \"{}\", expected \"from\"", word.as_str()),
            ));
        }
        for client in clients.iter().filter(|_| !clients[0].is("all")) {
            let network = network(cx, client);
            from.push(
                network
                    .ok_or_else(|| Error::at(client, format!("invalid parameter \"{}\"", client.as_str())))?,
            );
        }
    }
    Ok(PurgeWhen::Method(Arc::new(ByMethod { method: method.into(), scope, from })))
}

/// What a location purges.
enum Target {
    Key(Template),
    Tags(Template),
}

/// `ZONE KEY` and `ZONE tag=…`: the location's content.
struct Purger {
    zone: conf::zones::Zone<CacheZone>,
    target: Target,
    mode: Mode,
}

fn answer_here(cx: &mut Cx<'_>, d: &Directive, zone: &Word, rest: &[Word]) -> Result<(), Error> {
    let name = d.name.as_str();
    if !Contexts::LOCATION.or(Contexts::IF_LOCATION).has(cx.block.context) {
        return Err(Error::on(d, "with a zone answers requests and belongs in a location"));
    }
    let (key, mode) = match rest {
        [key] => (key, Mode::Hard),
        [key, word] if word.is("soft") => (key, Mode::Soft),
        [_, word, ..] => return Err(Error::at(word, format!("invalid parameter \"{}\"", word.as_str()))),
        [] => return Err(Error::on(d, "has no key")),
    };
    let target = match key.bytes.strip_prefix(b"tag=") {
        Some(tags) => Target::Tags(Template::compile_bytes(cx, key, tags)?),
        None => Target::Key(Template::compile(cx, key)?),
    };
    let shown = zone.as_str();
    let unknown = cx.error_at_end(format!("\"{name}\" zone \"{shown}\" is unknown"));
    let zone = cx.zones.refer_or(zone, &shown, unknown)?;
    super::hints::purge_key(cx, &name, key);
    cx.block.content = Some(Content::Answer(Arc::new(Purger { zone, target, mode })));
    Ok(())
}

impl Answer for Purger {
    fn answer<'r>(&'r self, r: &'r mut Request) -> Answered<'r> {
        r.discard_body = true;
        let Some(zone) = self.zone.data().map(CacheZone::zone) else {
            return Answered::Now(Outcome::Status(500));
        };
        let purge = match &self.target {
            Target::Key(key) => of_key(key.value(r)),
            Target::Tags(tags) => Purge::Tags(tags::normal(&tags.value(r))),
        };
        if matches!(&purge, Purge::Tags(tags) if tags.is_empty()) {
            return Answered::Now(Outcome::Status(400));
        }
        Answered::Wait(Box::pin(with_page(r, zone, purge, self.mode)))
    }
}

/// What a key purges: a star at its end stands for whatever follows.
fn of_key(mut key: Vec<u8>) -> Purge {
    if key.last() == Some(&b'*') {
        key.pop();
        return Purge::Prefix(key);
    }
    Purge::Entry(key)
}

/// Purges the key that a request has in its location, if the request is one to do so.
pub(in crate::relay) async fn own(r: &mut Request, heading: Heading<'_>) -> Option<Outcome> {
    let settings = &*heading.settings.cache;
    let by_method = match &settings.purge {
        PurgeWhen::Never => return None,
        PurgeWhen::Holds(conditions) if CacheSettings::any_holds(conditions, r) => None,
        PurgeWhen::Method(by) if *r.line.method_text.of(&r.head) == *by.method => Some(by),
        _ => return None,
    };
    let zone = match settings.zone_of(r) {
        Ok(zone) => zone?,
        Err(name) => return Some(super::unknown_zone(r, &name)),
    };
    let Some(by) = by_method else {
        let purge = of_key(super::key::text(r, heading));
        let is_entry = matches!(purge, Purge::Entry(_));
        return Some(match run(r, zone, purge, settings.purge_mode).await {
            Ok(Purged::Nothing) if is_entry => Outcome::Status(404),
            Ok(_) => Outcome::Status(204),
            Err(outcome) => outcome,
        });
    };
    let client = r.client().ip();
    if !by.from.is_empty() && !by.from.iter().any(|network| network.contains(client)) {
        return Some(Outcome::Status(403));
    }
    let purge = match by.scope {
        Scope::Key => of_key(super::key::text(r, heading)),
        Scope::Zone => Purge::Prefix(Vec::new()),
    };
    Some(with_page(r, zone, purge, settings.purge_mode).await)
}

async fn run(r: &mut Request, zone: Arc<Zone>, purge: Purge, mode: Mode) -> Result<Purged, Outcome> {
    match blocking::run(move || zone.purge(&purge, mode)).await {
        Ok(Ok(purged)) => Ok(purged),
        Ok(Err(PurgeError::TooMany)) => {
            r.log(Level::Error, format_args!("too many purges are under way"));
            Err(Outcome::Status(503))
        }
        Ok(Err(PurgeError::Io(path, error))) => {
            r.log(Level::Crit, format_args!("purging \"{}\" failed {}", path.display(), Errno(&error)));
            Err(Outcome::Status(500))
        }
        Err(undone) => {
            r.log(Level::Error, format_args!("nothing was purged: {undone}"));
            Err(Outcome::Status(503))
        }
    }
}

/// Purges and answers as `ngx_cache_purge` does.
async fn with_page(r: &mut Request, zone: Arc<Zone>, purge: Purge, mode: Mode) -> Outcome {
    let page = page(&zone, &purge);
    match run(r, zone, purge, mode).await {
        Ok(Purged::Nothing) => return Outcome::Status(404),
        Ok(Purged::Done) => {}
        Err(outcome) => return outcome,
    }
    r.response.status = 200;
    r.response.content_type.clear();
    r.response.content_type.extend_from_slice(b"text/html");
    r.response.content_length = Some(page.len() as u64);
    Outcome::send(Body::One(Chunk::copied(&page)))
}

fn page(zone: &Zone, purge: &Purge) -> Vec<u8> {
    const TITLE: &str = "Successful purge";
    let mut out = Vec::new();
    out.extend_from_slice(
        format!("<html>\r\n<head><title>{TITLE}</title></head>\r\n<body>\r\n<center><h1>{TITLE}</h1>\r\n")
            .as_bytes(),
    );
    let (label, text, end) = match purge {
        Purge::Entry(text) => ("Key", text, ""),
        Purge::Prefix(text) => ("Key", text, "*"),
        Purge::Tags(text) => ("Tags", text, ""),
    };
    out.extend_from_slice(format!("<br>{label} : ").as_bytes());
    proto::uri::escape_html(text, &mut out);
    out.extend_from_slice(end.as_bytes());
    out.extend_from_slice(b"\r\n");
    if let Purge::Entry(text) = purge {
        let path = zone.path_of(&::cache::Key::of(text));
        out.extend_from_slice(b"<br>Path: ");
        proto::uri::escape_html(path.display().to_string().as_bytes(), &mut out);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"</center>\r\n</body>\r\n</html>\r\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_ends_a_prefix() {
        let check = |key: &str, expected: Purge| assert_eq!(of_key(key.into()), expected, "{key}");
        check("a", Purge::Entry(b"a".to_vec()));
        check("a*", Purge::Prefix(b"a".to_vec()));
        check("*", Purge::Prefix(Vec::new()));
        check("a*b", Purge::Entry(b"a*b".to_vec()));
    }
}
