//! `fastcgi_param` and its like: the variables that a CGI-like protocol hands to its application.
//!
//! First those of the configuration, then each field of the request as `HTTP_NAME`, unless one of them has that
//! name (`ngx_http_fastcgi_create_request`).

use std::sync::{Arc, LazyLock};

use base::append::{push_cut, push_start};
use conf::{Directive, Error};
use proto::h1::{Field, Fields, Known};

use super::RelaySettings;
use crate::conf::Lines;
use crate::conf::compile::Cx;
use crate::request::Request;
use crate::variables::{Find, Origin, Read, Template};

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
    /// All that is the same for every request, one behind the other.
    text: Box<[u8]>,
    steps: Box<[Step]>,
    /// Fields of these names are not passed on: lower case, with underscores, without `HTTP_`.
    replaced: Box<[Box<[u8]>]>,
    /// Those of them that are [`Known`], one bit each.
    replaced_known: u64,
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
            Some(Origin::Lies(find)) => Self::Lies(find),
            Some(Origin::Made(read)) => Self::Made(read),
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
            steps.push(Step { before: end - begin, opening: end - own, name, value, when });
            begin = end;
        }
        Self { text: text.into(), steps: steps.into(), replaced: replaced.into(), replaced_known }
    }

    #[inline(never)]
    fn write<L: Layout>(&self, r: &Request, out: &mut Vec<u8>) {
        let mut text = &*self.text;
        for step in &self.steps {
            push_start::<BEGINNING>(text, step.before, out);
            text = text.get(step.before..).unwrap_or_default();
            let start = out.len();
            match &step.value {
                Value::Lies(find) => out.extend_from_slice(find(r).unwrap_or_default()),
                Value::Made(read) => _ = read(r, out),
                Value::Source(source) => source.append(r, out),
            }
            if step.when == When::NotEmpty && out.len() == start {
                out.truncate(start - step.opening);
                continue;
            }
            L::end_value(step.name, start, out);
        }
        out.extend_from_slice(text);
    }

    /// Whether a parameter of the configuration stands for the field.
    fn replaces(&self, known: Known, name: &[u8]) -> bool {
        if known != Known::Other {
            return self.replaced_known & known.bit() != 0;
        }
        self.replaced.iter().any(|replaced| crate::variables::name_matches(name, replaced))
    }

    /// The fields of the request; lines of the same name become one value.
    #[inline(never)]
    fn write_fields<L: Layout>(&self, fields: &Fields, head: &[u8], out: &mut Vec<u8>) {
        let all = fields.iter().as_slice();
        let repeats = has_repeats(fields, head);
        for (index, field) in all.iter().enumerate() {
            let own = field.name.of(head);
            if self.replaces(field.known, own) {
                continue;
            }
            let (before, rest) = all.split_at(index);
            if repeats && before.iter().any(|other| is_same_name(field, other, head)) {
                continue;
            }
            let name = FIELD.len() + own.len();
            L::begin_name(name, out);
            match NAMES.get(field.known as usize) {
                Some(known) => push_cut(known, name, out),
                None => push_name(own, out),
            }
            L::end_name(out);
            let start = out.len();
            out.extend_from_slice(field.value.of(head));
            if repeats {
                let separator: &[u8] = if field.known == Known::Cookie { b"; " } else { b", " };
                for other in rest.iter().skip(1).filter(|other| is_same_name(field, other, head)) {
                    out.extend_from_slice(separator);
                    out.extend_from_slice(other.value.of(head));
                }
            }
            L::end_value(name, start, out);
        }
    }
}

/// The parameters of the fields that are [`Known`], in that order; they are as long as the fields' names are with
/// [`FIELD`].
static NAMES: LazyLock<Box<[[u8; BEGINNING]]>> = LazyLock::new(|| {
    let block = |known: Known| {
        let mut name = Vec::with_capacity(BEGINNING);
        push_name(known.name().as_bytes(), &mut name);
        name.resize(BEGINNING, 0);
        name.try_into().unwrap_or([0; BEGINNING])
    };
    Known::all().map(block).collect()
});

/// Appends the name of the parameter that a field of this name is.
#[inline(never)]
fn push_name(field: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(FIELD);
    let start = out.len();
    out.extend_from_slice(field);
    to_param_name(out.get_mut(start..).unwrap_or_default());
}

/// Makes the name of a field that of a parameter. Eight bytes are changed at a time, the last of them perhaps twice: names
/// are too short for what a loop over all of them is made into.
fn to_param_name(name: &mut [u8]) {
    let change = |byte: &mut u8| *byte = if *byte == b'-' { b'_' } else { byte.to_ascii_uppercase() };
    for block in name.as_chunks_mut::<8>().0 {
        block.iter_mut().for_each(change);
    }
    match name.last_chunk_mut::<8>() {
        Some(last) => last.iter_mut().for_each(change),
        None => name.iter_mut().for_each(change),
    }
}

/// Whether any name comes twice.
fn has_repeats(fields: &Fields, head: &[u8]) -> bool {
    let others = Known::Other.bit();
    fields.repeat_any(!others) || fields.repeat_any(others) && do_others_repeat(fields, head)
}

/// Whether any name that is not [`Known`] comes twice. Most requests show by a few bits that none does.
#[inline(never)]
fn do_others_repeat(fields: &Fields, head: &[u8]) -> bool {
    let mut seen = 0u64;
    let all = fields.iter().as_slice();
    all.iter().enumerate().filter(|(_, field)| field.known == Known::Other).any(|(index, field)| {
        let bit = likeness(field.name.of(head));
        let is_new = seen & bit == 0;
        seen |= bit;
        !is_new && all.iter().take(index).any(|other| is_same_name(field, other, head))
    })
}

/// A bit that names share which are the same.
fn likeness(name: &[u8]) -> u64 {
    let last = name.last().map_or(0, u8::to_ascii_lowercase);
    1 << ((name.len() * 7 + usize::from(last)) % 64)
}

fn is_same_name(one: &Field, other: &Field, head: &[u8]) -> bool {
    one.known == other.known
        && (one.known != Known::Other || one.name.of(head).eq_ignore_ascii_case(other.name.of(head)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::h1::{HeadLimits, RequestHead};

    fn param(name: &str, value: &str) -> Param {
        Param {
            name: name.as_bytes().into(),
            value: Source::Template(Template::literal(value.as_bytes())),
            when: When::Always,
        }
    }

    /// `<name=value>`, with the length of both in front of the `=`.
    struct Shown;

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
    fn fields_become_variables() {
        let check = |params: &[&str], head: &str, expected: &str| {
            let lines: Vec<Param> = params.iter().map(|name| param(name, "x")).collect();
            let text = format!("GET / HTTP/1.1\r\n{head}\r\n");
            let mut line = RequestHead::default();
            line.parse(text.as_bytes(), &HeadLimits::default()).expect("head");
            let mut found = Vec::new();
            Program::new::<Shown>(&lines, &[]).write_fields::<Shown>(
                &line.fields,
                text.as_bytes(),
                &mut found,
            );
            assert_eq!(String::from_utf8_lossy(&found), expected, "{head:?}");
        };
        check(&[], "Host: a\r\nx-one: 1\r\n", "<HTTP_HOST:=a><HTTP_X_ONE;=1>");
        check(&["HTTP_X_ONE", "QUERY"], "X-One: 1\r\nX-Two: 2\r\n", "<HTTP_X_TWO;=2>");
        check(&["http_x_one"], "X-One: 1\r\n", "<HTTP_X_ONE;=1>");
        check(&[], "X: 1\r\nY: 2\r\nx: 3\r\n", "<HTTP_X:=1, 3><HTTP_Y7=2>");
        check(&[], "Cookie: a\r\ncookie: b\r\n", "<HTTP_COOKIE?=a; b>");
        check(&["HTTP_COOKIE"], "Cookie: a\r\ncookie: b\r\n", "");
        check(&["HTTP_IF_RANGE", "http_via"], "if-range: a\r\nVia: b\r\n", "<HTTP_VIA9=b>");
        check(
            &["HTTP_X"],
            "x-abcdefghijk: 1\r\na-b-c-d-: 2\r\n",
            "<HTTP_X_ABCDEFGHIJKC=1><HTTP_A_B_C_D_>=2>",
        );
    }

    #[test]
    fn known_fields_have_their_names() {
        for known in Known::all() {
            let mut name = Vec::new();
            push_name(known.name().as_bytes(), &mut name);
            assert!(NAMES[known as usize].starts_with(&name), "{known:?}");
        }
    }

    #[test]
    fn what_is_the_same_for_all_is_laid_out_at_load() {
        let laid_out = |lines: &[Param]| {
            let program = Program::new::<Shown>(lines, &[param("HTTP_HOST", "h")]);
            let mut text = String::from_utf8_lossy(&program.text).into_owned();
            let mut end = 0;
            for (place, step) in program.steps.iter().enumerate() {
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
