//! `ngx_http_headers_module`: `add_header`, `add_trailer` and `expires`.
//!
//! A block with a line of its own drops those around it, unless `add_header_inherit` says otherwise.

mod expires;

use std::io;
use std::sync::Arc;

use conf::{Arity, Contexts, Directive, Error};
use http::chunk::Queue;
use http::conf::Location;
use http::conf::compile::Cx;
use http::filters::{BodyFilter, Filtered, HeaderFilter, More, Sees, Taken};
use http::module::{Module, Registry, Settings, Slot};
use http::request::Request;
use http::rows::{Row, row, value};
use http::variables::Template;
use proto::h1::Known;

use self::expires::ExpiresConf;

/// `ngx_http_headers_filter_module`.
pub struct Headers;

/// Settings of [`Headers`].
#[derive(Clone, Default)]
pub struct HeadersSettings {
    headers: Lines,
    trailers: Lines,
    expires: ExpiresConf,
}

/// `add_header_inherit` and `add_trailer_inherit`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Inherit {
    /// Nothing of the block around.
    Off,
    /// The block around's lines, where there is none of its own.
    #[default]
    On,
    /// Own lines, then those of the block around.
    Merge,
}

/// The lines of one directive in a block and around it.
#[derive(Clone, Default)]
struct Lines {
    outer: Arc<Vec<Line>>,
    own: Vec<Line>,
    inherit: Inherit,
    /// What comes of all that.
    all: Arc<Vec<Line>>,
}

/// One `add_header` or `add_trailer`.
#[derive(Clone)]
struct Line {
    name: Box<[u8]>,
    known: Known,
    value: Template,
    when: When,
}

/// For which statuses a line counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// Those of success and redirection.
    SafeStatus,
    /// All.
    Always,
}

impl Lines {
    fn inherited(&self) -> Self {
        let mut nested = Self { outer: Arc::clone(&self.all), inherit: self.inherit, ..Self::default() };
        nested.settle();
        nested
    }

    fn settle(&mut self) {
        self.all = match self.inherit {
            Inherit::Off => Arc::new(self.own.clone()),
            Inherit::On if self.own.is_empty() => Arc::clone(&self.outer),
            Inherit::On => Arc::new(self.own.clone()),
            Inherit::Merge => Arc::new(self.own.iter().chain(self.outer.iter()).cloned().collect()),
        };
    }

    /// Adds a line of the configuration.
    fn add(&mut self, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
        let (name, value) = (d.arg(0)?, d.arg(1)?);
        let when = match d.args.get(2) {
            None => When::SafeStatus,
            Some(word) if word.is("always") => When::Always,
            Some(word) => return Err(Error::at(word, format!("invalid parameter \"{}\"", word.as_str()))),
        };
        let value = Template::compile(cx, value)?;
        self.own.push(Line { name: name.bytes.to_boxed(), known: Known::of(&name.bytes), value, when });
        Ok(())
    }
}

impl Settings for HeadersSettings {
    fn inherited(&self) -> Option<Self> {
        Some(Self {
            headers: self.headers.inherited(),
            trailers: self.trailers.inherited(),
            expires: self.expires.clone(),
        })
    }

    fn finish(&mut self, _: &mut Cx<'_>) -> Result<(), Error> {
        self.headers.settle();
        self.trailers.settle();
        Ok(())
    }
}

static SLOT: Slot = Slot::new();

const WITH_IF: Contexts = Contexts::HTTP_ALL.or(Contexts::IF_LOCATION);
const MODES: [(&str, Inherit); 3] = [("off", Inherit::Off), ("on", Inherit::On), ("merge", Inherit::Merge)];

static ROWS: [Row<HeadersSettings>; 5] = [
    row(
        "expires",
        WITH_IF,
        Arity::TAKE12,
        "off",
        "Sets Expires and Cache-Control.",
        |s: &mut HeadersSettings, cx, d| {
            s.expires = ExpiresConf::read(cx, d)?;
            Ok(())
        },
    ),
    row(
        "add_header",
        WITH_IF,
        Arity::TAKE23,
        "",
        "Adds a field to the head of answers.",
        |s: &mut HeadersSettings, cx, d| s.headers.add(cx, d),
    )
    .many(),
    row(
        "add_trailer",
        WITH_IF,
        Arity::TAKE23,
        "",
        "Adds a field behind the body of answers.",
        |s: &mut HeadersSettings, cx, d| s.trailers.add(cx, d),
    )
    .many(),
    value(
        "add_header_inherit",
        WITH_IF,
        Arity::ONE,
        "on",
        "Which add_header lines count.",
        |s: &mut HeadersSettings, d| {
            s.headers.inherit = d.one_of(&MODES)?;
            Ok(())
        },
    ),
    value(
        "add_trailer_inherit",
        WITH_IF,
        Arity::ONE,
        "on",
        "Which add_trailer lines count.",
        |s: &mut HeadersSettings, d| {
            s.trailers.inherit = d.one_of(&MODES)?;
            Ok(())
        },
    ),
];

impl Module for Headers {
    const NAME: &'static str = "ngx_http_headers_filter_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = HeadersSettings;
    type Main = ();

    fn rows() -> &'static [Row<Self::Settings>] {
        &ROWS
    }

    fn register(registry: &mut Registry) {
        registry.header_filter(&Self);
    }
}

impl When {
    fn allows(self, status: u16) -> bool {
        self == Self::Always || is_safe(status)
    }
}

fn is_safe(status: u16) -> bool {
    matches!(status, 200 | 201 | 204 | 206 | 301 | 302 | 303 | 304 | 307 | 308)
}

impl HeaderFilter for Headers {
    fn concerns(&self, location: &Location) -> bool {
        let settings = location.settings::<Self>();
        !settings.headers.all.is_empty() || !settings.trailers.all.is_empty() || !settings.expires.is_off()
    }

    fn filter(&self, r: &mut Request) -> Filtered {
        if r.is_subrequest {
            return Filtered::Next;
        }
        let settings = r.location().settings::<Self>();
        let (headers, trailers) = (Arc::clone(&settings.headers.all), Arc::clone(&settings.trailers.all));
        let status = r.response.status;
        if is_safe(status) {
            expires::apply(r);
        }
        for line in headers.iter().filter(|line| line.when.allows(status)) {
            let value = line.value.line(r);
            set(r, line, &value);
        }
        if trailers.iter().any(|line| line.when.allows(status)) {
            r.response.expect_trailers = true;
            r.output.add_filter(Box::new(Trailers(trailers)));
        }
        Filtered::Next
    }
}

/// Adds a field, or sets one of those that may be there once only (`ngx_http_set_headers`).
fn set(r: &mut Request, line: &Line, value: &[u8]) {
    let response = &mut r.response;
    match line.known {
        Known::LastModified | Known::ETag if value.is_empty() => response.headers.remove_known(line.known),
        Known::LastModified | Known::ETag => response.headers.set_known(line.known, &line.name, value),
        _ if value.is_empty() => {}
        known @ (Known::CacheControl | Known::Link) => response.headers.push_known(known, &line.name, value),
        // As in nginx a line of any other name is a line and no more: filters do not take it for the field.
        _ => response.headers.push_known(Known::Other, &line.name, value),
    }
    if line.known == Known::LastModified {
        response.set_last_modified(proto::date::parse(value));
    }
}

/// Adds the trailers when the body ends, since their variables may only be known then.
struct Trailers(Arc<Vec<Line>>);

impl BodyFilter for Trailers {
    fn sees(&self) -> Sees {
        Sees::Chunks
    }

    fn filter(
        &mut self,
        r: &mut Request,
        input: &mut Queue,
        output: &mut Queue,
        more: More,
    ) -> io::Result<Taken> {
        output.append(input);
        if more != More::End {
            return Ok(Taken::All);
        }
        let lines = std::mem::take(&mut self.0);
        for line in lines.iter().filter(|line| line.when.allows(r.response.status)) {
            let value = line.value.line(r);
            if !value.is_empty() {
                r.response.trailers.push(&line.name, &value);
            }
        }
        Ok(Taken::All)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(names: &str) -> Vec<Line> {
        let line = |name: &str| Line {
            name: name.as_bytes().into(),
            known: Known::Other,
            value: Template::default(),
            when: When::SafeStatus,
        };
        names.split_whitespace().map(line).collect()
    }

    #[test]
    fn inheritance() {
        let check = |outer: &str, mode, own: &str, expected: &str| {
            let outer = Lines { own: lines(outer), inherit: mode, ..Lines::default() };
            let mut around = outer.inherited();
            around.own.clone_from(&outer.own);
            around.settle();
            let mut nested = around.inherited();
            nested.own = lines(own);
            nested.settle();
            let names: Vec<_> = nested.all.iter().map(|line| String::from_utf8_lossy(&line.name)).collect();
            assert_eq!(names.join(" "), expected, "{outer:?} {mode:?} {own}", outer = names);
        };
        check("a b", Inherit::On, "", "a b");
        check("a b", Inherit::On, "c", "c");
        check("a b", Inherit::Merge, "c", "c a b");
        check("a b", Inherit::Merge, "", "a b");
        check("a b", Inherit::Off, "", "");
        check("a b", Inherit::Off, "c", "c");
    }

    #[test]
    fn unsafe_statuses_need_always() {
        assert!(When::SafeStatus.allows(206) && !When::SafeStatus.allows(404) && When::Always.allows(404));
    }
}
