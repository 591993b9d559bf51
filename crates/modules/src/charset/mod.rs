//! `ngx_http_charset_filter_module`: names the charset of answers, and recodes them into it.
//!
//! What an upstream says of its charset counts before the configuration, unless `override_charset` is on.

mod conf_maps;
mod recode;

use std::io;

use ::conf::{Arity, Contexts, Directive, Error};
use http::chunk::{Chunk, Queue};
use http::conf::compile::Cx;
use http::conf::{Location, TypeSet};
use http::filters::{Answers, BodyFilter, ENOUGH, Filtered, HeaderFilter, More, Taken};
use http::module::{Module, Registry, Settings, Slot};
use http::phases::Outcome;
use http::request::Request;
use http::rows::{Row, flag, row};
use http::variables::Template;
use net::Buf;
use os::errlog::Level;
use proto::h1::Known;

use self::conf_maps::{CharsetId, Charsets};
use self::recode::Recoder;

/// `ngx_http_charset_filter_module`.
pub struct Charset;

/// Settings of [`Charset`].
#[derive(Clone, Default)]
pub struct CharsetSettings {
    charset: Named,
    source: Named,
    overrides: bool,
    types: TypeSet,
}

/// `charset` and `source_charset`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Named {
    #[default]
    Off,
    Fixed(CharsetId),
    Computed(Template),
}

impl Settings for CharsetSettings {
    fn enter(&mut self) {
        self.types.enter();
    }

    fn finish(&mut self, cx: &mut Cx<'_>) -> Result<(), Error> {
        if let (Named::Fixed(source), Named::Fixed(charset)) = (&self.source, &self.charset) {
            cx.main::<Charset>().need(*source, *charset);
        }
        Ok(())
    }
}

static SLOT: Slot = Slot::new();

const ALL: Contexts = Contexts::HTTP_ALL;
const WITH_IF: Contexts = ALL.or(Contexts::IF_LOCATION);
const TYPES: &str =
    "text/html text/xml text/plain text/vnd.wap.wml application/javascript application/rss+xml";

static ROWS: [Row<CharsetSettings>; 5] = [
    row(
        "charset",
        WITH_IF,
        Arity::ONE,
        "off",
        "The charset that answers get.",
        |s: &mut CharsetSettings, cx, d| {
            s.charset = if d.arg(0)?.is("off") { Named::Off } else { named(cx, d)? };
            Ok(())
        },
    ),
    row(
        "source_charset",
        WITH_IF,
        Arity::ONE,
        "",
        "The charset that answers have before.",
        |s: &mut CharsetSettings, cx, d| {
            s.source = named(cx, d)?;
            Ok(())
        },
    ),
    flag("override_charset", WITH_IF, "off", "The charset of upstreams is replaced.", |s, v| {
        s.overrides = v;
    }),
    row(
        "charset_types",
        ALL,
        Arity::MORE1,
        TYPES,
        "Media types of answers that get a charset.",
        |s: &mut CharsetSettings, cx, d| {
            s.types.add(cx, d, &["text/html"]);
            Ok(())
        },
    )
    .many(),
    row("charset_map", Contexts::HTTP, Arity::TWO, "", "How one charset becomes another.", |_, cx, d| {
        cx.main::<Charset>().add_map(d)
    })
    .free(),
];

impl Module for Charset {
    const NAME: &'static str = "ngx_http_charset_filter_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = CharsetSettings;
    type Main = Charsets;

    fn rows() -> &'static [Row<Self::Settings>] {
        &ROWS
    }

    fn register(registry: &mut Registry) {
        registry.header_filter(&Self);
    }

    fn finish(main: &mut Charsets, _: &mut Cx<'_>) -> Result<(), Error> {
        main.check()
    }
}

fn named(cx: &mut Cx<'_>, d: &Directive) -> Result<Named, Error> {
    let word = d.arg(0)?;
    if word.bytes.first() == Some(&b'$') {
        return Ok(Named::Computed(Template::compile(cx, word)?));
    }
    Ok(Named::Fixed(cx.main::<Charset>().add(&word.bytes)))
}

/// A charset of an answer.
struct Chosen {
    /// Its number, where the configuration knows it.
    id: Option<CharsetId>,
    name: Vec<u8>,
}

impl HeaderFilter for Charset {
    fn answers(&self, location: &Location) -> Answers {
        if location.settings::<Self>().charset == Named::Off { Answers::Recoded } else { Answers::All }
    }

    fn filter(&self, r: &mut Request) -> Filtered {
        convert(r)
    }
}

/// Gives an answer the charset that it is to have.
fn convert(r: &mut Request) -> Filtered {
    match destination(r, r.location().settings::<Charset>()) {
        Ok(Some(charset)) => apply(r, charset),
        Ok(None) => Filtered::Next,
        Err(NoValue) => Filtered::Instead(Outcome::Broken(0)),
    }
}

/// A variable that names a charset has no value.
struct NoValue;

fn charsets(r: &Request) -> &Charsets {
    r.cycle.http.main::<Charset>()
}

fn chosen(r: &Request, named: &Named) -> Result<Option<Chosen>, NoValue> {
    match named {
        Named::Off => Ok(None),
        Named::Fixed(id) => Ok(Some(Chosen { id: Some(*id), name: charsets(r).name(*id).to_vec() })),
        Named::Computed(template) => {
            let name = template.try_value(r).ok_or(NoValue)?;
            Ok(Some(Chosen { id: charsets(r).find(&name), name }))
        }
    }
}

/// The charset that the answer is to have (`ngx_http_destination_charset`).
fn destination(r: &Request, settings: &CharsetSettings) -> Result<Option<Chosen>, NoValue> {
    if r.is_subrequest {
        // What becomes a part of another answer has its charset.
        let outer = r.outer_charset();
        return Ok(outer.map(|name| Chosen { id: charsets(r).find(name), name: name.to_vec() }));
    }
    if r.response.content_type.is_empty() {
        return Ok(None);
    }
    if let Some(name) = r.response.charset_override.as_ref().filter(|name| !name.is_empty()) {
        let Some(id) = charsets(r).find(name) else {
            let shown = String::from_utf8_lossy(name);
            r.log(Level::Error, format_args!("unknown charset \"{shown}\" to override"));
            return Ok(None);
        };
        return Ok(Some(Chosen { id: Some(id), name: name.clone() }));
    }
    let is_meant = match r.response.charset_known() {
        Some(_) => settings.overrides,
        None => settings.types.matches(&r.response),
    };
    if is_meant { chosen(r, &settings.charset) } else { Ok(None) }
}

/// Names the charset, and recodes into it where the answer has another (`ngx_http_charset_header_filter`).
fn apply(r: &mut Request, charset: Chosen) -> Filtered {
    let source = match r.response.charset_known() {
        Some(name) => Some(Chosen { id: charsets(r).find(name), name: name.to_vec() }),
        None => match chosen(r, &r.location().settings::<Charset>().source) {
            Ok(source) => source,
            Err(NoValue) => return Filtered::Instead(Outcome::Broken(0)),
        },
    };
    let Some(source) = source else {
        name(r, charset.name);
        return Filtered::Next;
    };
    let (Some(from), Some(to)) = (source.id, charset.id) else {
        let is_same = source.id == charset.id && source.name.eq_ignore_ascii_case(&charset.name);
        if !is_same {
            no_map(r, &source.name, &charset.name);
        } else if r.response.charset_in_type().is_none() {
            name(r, charset.name);
        }
        return Filtered::Next;
    };
    if from == to {
        rename(r, charset.name);
        return Filtered::Next;
    }
    if r.response.headers.known(Known::ContentEncoding).is_some_and(|coding| !coding.is_empty()) {
        return Filtered::Next;
    }
    let Some(recoder) = charsets(r).recoder(from, to) else {
        no_map(r, &source.name, &charset.name);
        return Filtered::Next;
    };
    rename(r, charset.name);
    if recoder.changes_length() && !r.is_subrequest {
        r.response.clear_content_length();
    }
    r.output.add_filter(Box::new(Recode(recoder)));
    Filtered::Next
}

fn no_map(r: &Request, from: &[u8], to: &[u8]) {
    let (from, to) = (String::from_utf8_lossy(from), String::from_utf8_lossy(to));
    r.log(Level::Error, format_args!("no \"charset_map\" between the charsets \"{from}\" and \"{to}\""));
}

/// Puts a charset in the place of the one that the type has in it.
fn rename(r: &mut Request, charset: Vec<u8>) {
    let length = r.response.media_type().len();
    r.response.content_type.truncate(length);
    name(r, charset);
}

/// Only the client's answer names one. Redirects get none: old browsers took it for that of the next page.
fn name(r: &mut Request, charset: Vec<u8>) {
    if !r.is_subrequest {
        r.response.charset = if matches!(r.response.status, 301 | 302) { Vec::new() } else { charset };
    }
}

/// Recodes one body.
struct Recode(Recoder);

impl BodyFilter for Recode {
    fn filter(
        &mut self,
        _: &mut Request,
        input: &mut Queue,
        output: &mut Queue,
        _: More,
    ) -> io::Result<Taken> {
        while let Some(mut chunk) = input.pop() {
            // A byte becomes no more than a character reference, so a piece of this size stays within bounds.
            let size = chunk.len().min(ENOUGH / 4);
            let front = chunk.bytes().and_then(|bytes| bytes.get(..usize::try_from(size).ok()?));
            let mut out = Buf::with_capacity(front.unwrap_or_default().len() * 2);
            self.0.recode(front.unwrap_or_default(), out.vec());
            output.push(Chunk::from(out));
            chunk.advance(size);
            input.push_front(chunk);
            if output.len() >= ENOUGH && !input.is_empty() {
                return Ok(Taken::Part);
            }
        }
        Ok(Taken::All)
    }
}
