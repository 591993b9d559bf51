//! `fastcgi_param` and its like: the variables that a CGI-like protocol hands to its application.
//!
//! First those of the configuration, then each field of the request as `HTTP_NAME`, unless one of them has that
//! name (`ngx_http_fastcgi_create_request`).

mod fields;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use base::append::push_start;
use conf::{Directive, Error};
use proto::h1::Known;

use super::RelaySettings;
use crate::conf::Lines;
use crate::conf::compile::Cx;
use crate::lasting::Owner;
use crate::request::Request;
use crate::variables::{Find, Lasts, Origin, Read, Template};

/// What the names of parameters that are fields of the request begin with.
const FIELD: &[u8] = b"HTTP_";
/// Bytes that the beginning of most parameters fits in: its name, and what stands round that.
const BEGINNING: usize = 32;

/// One line.
#[derive(Clone, Debug)]
struct Param {
    name: Box<[u8]>,
    value: Source,
    when: When,
}

/// What a value comes from.
#[derive(Clone, Debug)]
enum Source {
    /// What the configuration says.
    Template(Template),
    /// `Last-Modified` of what the cache has, where the application is asked about it.
    CacheModified,
    /// Its `ETag`.
    CacheEtag,
}

impl Source {
    #[inline(never)]
    fn append(&self, r: &Request, out: &mut Vec<u8>) {
        match self {
            Self::Template(template) => template.append(r, out),
            Self::CacheModified | Self::CacheEtag => self.append_cached(r, out),
        }
    }

    #[cold]
    fn append_cached(&self, r: &Request, out: &mut Vec<u8>) {
        let Some(case) = &r.cache else { return };
        match self {
            Self::CacheModified => {
                out.extend(case.last_modified().map(proto::date::http).into_iter().flatten());
            }
            _ => out.extend_from_slice(case.etag().unwrap_or_default()),
        }
    }

    fn is_nothing(&self) -> bool {
        matches!(self, Self::Template(template) if template.as_literal() == Some(b""))
    }

    fn is_lasting(&self) -> bool {
        matches!(self, Self::Template(template) if matches!(template.as_origin(), Some((_, Lasts::Connection))))
    }
}

/// What a location that caches asks by, and what it does not pass on: it wants all of the answer, or to know whether
/// the one that is kept is still good (`ngx_http_fastcgi_cache_headers`).
fn cache_params() -> [Param; 6] {
    let nothing = || Source::Template(Template::literal(b""));
    [
        ("HTTP_IF_MODIFIED_SINCE", Source::CacheModified),
        ("HTTP_IF_UNMODIFIED_SINCE", nothing()),
        ("HTTP_IF_NONE_MATCH", Source::CacheEtag),
        ("HTTP_IF_MATCH", nothing()),
        ("HTTP_RANGE", nothing()),
        ("HTTP_IF_RANGE", nothing()),
    ]
    .map(|(name, value)| Param { name: name.as_bytes().into(), value, when: When::NotEmpty })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Always,
    /// `if_not_empty`.
    NotEmpty,
}

/// How a protocol lays out a parameter: what stands round its name and its value.
pub trait Layout {
    /// Appends what stands before a name of `length` bytes.
    fn begin_name(length: usize, out: &mut Vec<u8>);
    /// Appends what stands between a name and its value.
    fn end_name(out: &mut Vec<u8>);
    /// Concludes the parameter whose name has `name` bytes and whose value goes from `start` to the end.
    fn end_value(name: usize, start: usize, out: &mut Vec<u8>);
}

/// Appends what stands before the value of the parameter of this name.
fn open<L: Layout>(name: &[u8], out: &mut Vec<u8>) {
    L::begin_name(name.len(), out);
    out.extend_from_slice(name);
    L::end_name(out);
}

/// The parameters of a block; a part of the settings of a module.
#[derive(Clone, Debug, Default)]
pub struct Params {
    /// `HTTP_HOST`, where the configuration does not set it: the default of the directive.
    default: Option<Arc<Param>>,
    lines: Lines<Param>,
    program: Arc<Program>,
    /// That of requests whose answers may be kept.
    cache_program: Arc<Program>,
}

/// What is written for a request; what is the same for all is laid out at load.
#[derive(Clone, Debug, Default)]
struct Program {
    /// No other program has it.
    number: u64,
    /// All that is the same for every request, one behind the other.
    text: Box<[u8]>,
    pieces: Box<[Piece]>,
    /// Fields of these names are not passed on: lower case, with underscores, without `HTTP_`.
    replaced: Box<[Box<[u8]>]>,
    /// Those of them that are [`Known`], one bit each.
    replaced_known: u64,
}

/// What is done at a time.
#[derive(Clone, Debug)]
enum Piece {
    Step(Step),
    Lasting(Run),
}

/// Parameters that are the same for the requests of a connection; what they come to is kept there.
#[derive(Clone, Debug)]
struct Run {
    /// Place among the program's.
    number: usize,
    /// Bytes of the text that stand before the values of its steps.
    before: usize,
    steps: Box<[Step]>,
}

/// A parameter whose value the request tells.
#[derive(Clone, Debug)]
struct Step {
    /// Bytes of the text that stand before its value: the parameters before it, and its own beginning.
    before: usize,
    /// Those of them that belong to it.
    opening: usize,
    /// Bytes of its name.
    name: usize,
    value: Value,
    when: When,
}

/// What the value of a step comes from; mostly it is one variable.
#[derive(Clone, Debug)]
enum Value {
    /// It lies somewhere.
    Lies(Find),
    /// It is made.
    Made(Read),
    /// It takes more than that.
    Source(Box<Source>),
}

impl From<Source> for Value {
    fn from(source: Source) -> Self {
        let Source::Template(template) = &source else { return Self::Source(source.into()) };
        match template.as_origin() {
            Some((Origin::Lies(find), _)) => Self::Lies(find),
            Some((Origin::Made(read), _)) => Self::Made(read),
            None => Self::Source(source.into()),
        }
    }
}

impl Params {
    /// For [`crate::module::Settings::enter`].
    pub fn enter(&mut self) {
        self.lines.enter();
    }

    /// The setter of the directive.
    ///
    /// # Errors
    /// `invalid parameter`, and those of [`Template::compile`].
    pub fn set(&mut self, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
        let when = match d.args.get(2) {
            None => When::Always,
            Some(word) if word.is("if_not_empty") => When::NotEmpty,
            Some(word) => return Err(Error::at(word, format!("invalid parameter \"{}\"", word.as_str()))),
        };
        let param = Param {
            name: d.arg(0)?.bytes.to_boxed(),
            value: Source::Template(Template::compile(cx, d.arg(1)?)?),
            when,
        };
        if d.is_default() {
            self.default = Some(Arc::new(Param { when: When::NotEmpty, ..param }));
            return Ok(());
        }
        self.lines.push(param);
        Ok(())
    }

    /// For [`crate::module::Settings::finish`].
    pub fn finish<L: Layout>(&mut self, settings: &RelaySettings) {
        if self.lines.is_own() || self.program.replaced.is_empty() {
            let default = self.default.as_deref().map_or(&[][..], std::slice::from_ref);
            self.program = Arc::new(Program::new::<L>(&self.lines, default));
            self.cache_program = Arc::default();
        }
        if settings.cache.is_on() && self.cache_program.replaced.is_empty() {
            let default = self.default.as_deref().map_or(&[][..], std::slice::from_ref);
            let cached = [default, &cache_params()].concat();
            self.cache_program = Arc::new(Program::new::<L>(&self.lines, &cached));
        }
    }

    /// Appends every parameter of a request, in the layout that [`Self::finish`] was told.
    pub fn write<L: Layout>(&self, r: &Request, settings: &RelaySettings, out: &mut Vec<u8>) {
        let program = if r.fills_cache() { &self.cache_program } else { &self.program };
        program.write::<L>(r, out);
        if settings.pass_request_headers {
            program.write_fields::<L>(&r.line.fields, &r.head, out);
        }
    }
}

impl Program {
    fn new<L: Layout>(lines: &[Param], defaults: &[Param]) -> Self {
        let is_set = |own: &Param| lines.iter().any(|line| line.name.eq_ignore_ascii_case(&own.name));
        let defaults = defaults.iter().filter(|own| !is_set(own));
        let (mut text, mut steps, mut replaced) = (Vec::new(), Vec::new(), Vec::new());
        let mut replaced_known = 0;
        // Where the text of the next step begins.
        let mut begin = 0;
        for line in lines.iter().chain(defaults) {
            if let Some(field) = line.name.strip_prefix(FIELD).filter(|field| !field.is_empty()) {
                replaced.push(field.to_ascii_lowercase().into());
                let dashed: Vec<u8> =
                    field.iter().map(|byte| if *byte == b'_' { b'-' } else { *byte }).collect();
                replaced_known |= Known::of(&dashed).bit();
                if line.value.is_nothing() {
                    continue;
                }
            }
            let (own, name) = (text.len(), line.name.len());
            if let Source::Template(template) = &line.value
                && let Some(value) = template.as_literal()
            {
                if line.when == When::Always || !value.is_empty() {
                    open::<L>(&line.name, &mut text);
                    let start = text.len();
                    text.extend_from_slice(value);
                    L::end_value(name, start, &mut text);
                }
                continue;
            }
            open::<L>(&line.name, &mut text);
            let end = text.len();
            let (value, when) = (line.value.clone().into(), line.when);
            let step = Step { before: end - begin, opening: end - own, name, value, when };
            steps.push((step, line.value.is_lasting()));
            begin = end;
        }
        Self {
            number: PROGRAMS.fetch_add(1, Relaxed),
            text: text.into(),
            pieces: pieces(steps),
            replaced: replaced.into(),
            replaced_known,
        }
    }

    #[inline(never)]
    fn write<L: Layout>(&self, r: &Request, out: &mut Vec<u8>) {
        let mut text = &*self.text;
        // Another client than the connection's is the request's own.
        let keeps = r.conn.requests.get() > 1 && r.real_client.is_none();
        for piece in &self.pieces {
            match piece {
                Piece::Step(step) => text = step.write::<L>(text, r, out),
                Piece::Lasting(run) if keeps => {
                    let owner = Owner { maker: self.number, server: r.server };
                    r.conn.lasting().append(owner, run.number, out, |out| run.write::<L>(text, r, out));
                    text = text.get(run.before..).unwrap_or_default();
                }
                Piece::Lasting(run) => {
                    run.write::<L>(text, r, out);
                    text = text.get(run.before..).unwrap_or_default();
                }
            }
        }
        out.extend_from_slice(text);
    }
}

/// The next number of a program.
static PROGRAMS: AtomicU64 = AtomicU64::new(1);

/// Puts steps that last, as far as they stand together, into runs.
fn pieces(steps: Vec<(Step, bool)>) -> Box<[Piece]> {
    let (mut pieces, mut runs) = (Vec::new(), 0);
    let mut steps = steps.into_iter().peekable();
    while let Some((step, is_lasting)) = steps.next() {
        let mut run = vec![step];
        while is_lasting && let Some((step, _)) = steps.next_if(|(_, is_lasting)| *is_lasting) {
            run.push(step);
        }
        if run.len() == 1 {
            pieces.extend(run.into_iter().map(Piece::Step));
            continue;
        }
        let before = run.iter().map(|step| step.before).sum();
        pieces.push(Piece::Lasting(Run { number: runs, before, steps: run.into() }));
        runs += 1;
    }
    pieces.into()
}

impl Run {
    #[inline(never)]
    fn write<L: Layout>(&self, text: &[u8], r: &Request, out: &mut Vec<u8>) {
        self.steps.iter().fold(text, |text, step| step.write::<L>(text, r, out));
    }
}

impl Step {
    /// Appends the parameter, and what stands before it in `text`; gives what stands behind.
    #[inline]
    fn write<'t, L: Layout>(&self, text: &'t [u8], r: &Request, out: &mut Vec<u8>) -> &'t [u8] {
        push_start::<BEGINNING>(text, self.before, out);
        let start = out.len();
        match &self.value {
            Value::Lies(find) => out.extend_from_slice(find(r).unwrap_or_default()),
            Value::Made(read) => _ = read(r, out),
            Value::Source(source) => source.append(r, out),
        }
        if self.when == When::NotEmpty && out.len() == start {
            out.truncate(start - self.opening);
        } else {
            L::end_value(self.name, start, out);
        }
        text.get(self.before..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn param(name: &str, value: &str) -> Param {
        Param {
            name: name.as_bytes().into(),
            value: Source::Template(Template::literal(value.as_bytes())),
            when: When::Always,
        }
    }

    /// `<name=value>`, with the length of both in front of the `=`.
    pub struct Shown;

    impl Layout for Shown {
        fn begin_name(_: usize, out: &mut Vec<u8>) {
            out.push(b'<');
        }

        fn end_name(out: &mut Vec<u8>) {
            out.extend_from_slice(b"_=");
        }

        fn end_value(name: usize, start: usize, out: &mut Vec<u8>) {
            out[start - 2] = b'0' + (name + out.len() - start) as u8;
            out.push(b'>');
        }
    }

    #[test]
    fn what_is_the_same_for_all_is_laid_out_at_load() {
        let laid_out = |lines: &[Param]| {
            let program = Program::new::<Shown>(lines, &[param("HTTP_HOST", "h")]);
            let mut text = String::from_utf8_lossy(&program.text).into_owned();
            let mut end = 0;
            for (place, piece) in program.pieces.iter().enumerate() {
                let Piece::Step(step) = piece else { unreachable!("{piece:?}") };
                end += step.before;
                text.insert(end + place, ' ');
            }
            text
        };
        let asked = |name: &str| Param { value: Source::CacheEtag, ..param(name, "") };
        let unless_empty = |value: &str| Param { when: When::NotEmpty, ..param("U", value) };
        assert_eq!(laid_out(&[param("A", "1")]), "<A2=1><HTTP_HOST:=h>");
        assert_eq!(laid_out(&[param("HTTP_HOST", "1")]), "<HTTP_HOST:=1>");
        assert_eq!(laid_out(&[param("http_host", "1"), param("A", "1")]), "<http_host:=1><A2=1>");
        assert_eq!(laid_out(&[param("HTTP_PROXY", ""), param("EMPTY", "")]), "<EMPTY5=><HTTP_HOST:=h>");
        assert_eq!(laid_out(&[unless_empty(""), unless_empty("1")]), "<U2=1><HTTP_HOST:=h>");
        assert_eq!(laid_out(&[asked("A"), asked("B")]), "<A_= <B_= <HTTP_HOST:=h>");
        assert_eq!(
            laid_out(&[param("A", "1"), asked("B"), param("C", "2")]),
            "<A2=1><B_= <C2=2><HTTP_HOST:=h>"
        );
    }
}
