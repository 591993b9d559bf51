//! `fastcgi_param` and its like: the variables that a CGI-like protocol hands to its application.
//!
//! First those of the configuration, then each field of the request as `HTTP_NAME`, unless one of them has that
//! name (`ngx_http_fastcgi_create_request`).

use std::sync::Arc;

use conf::{Directive, Error};
use proto::h1::{Field, Fields, Known};

use super::RelaySettings;
use crate::conf::Lines;
use crate::conf::compile::Cx;
use crate::request::Request;
use crate::variables::Template;

/// Bytes that the name of nearly every field fits in, with `HTTP_`.
const NAME_SIZE: usize = 64;

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
    fn append(&self, r: &Request, out: &mut Vec<u8>) {
        match self {
            Self::Template(template) => template.append(r, out),
            Self::CacheModified => {
                let modified = r.cache.as_ref().and_then(|case| case.last_modified());
                out.extend(modified.map(proto::date::http).into_iter().flatten());
            }
            Self::CacheEtag => {
                out.extend_from_slice(r.cache.as_ref().and_then(|case| case.etag()).unwrap_or_default());
            }
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

/// How a protocol lays out a parameter.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Appends what stands before the value of the parameter of this name, with room for what only the value tells.
    pub open: fn(name: &[u8], out: &mut Vec<u8>),
    /// Concludes the parameter whose name has `name` bytes and whose value goes from `start` to the end.
    pub close: fn(name: usize, start: usize, out: &mut Vec<u8>),
}

impl Layout {
    fn push(&self, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        (self.open)(name, out);
        let start = out.len();
        out.extend_from_slice(value);
        (self.close)(name.len(), start, out);
    }
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
    steps: Box<[Step]>,
    /// The parameters behind the last step.
    rest: Box<[u8]>,
    /// Fields of these names are not passed on: lower case, with underscores, without `HTTP_`.
    replaced: Box<[Box<[u8]>]>,
}

/// A parameter whose value the request tells.
#[derive(Clone, Debug)]
struct Step {
    /// The parameters before it, and its own beginning.
    before: Box<[u8]>,
    /// Bytes of `before` that belong to it.
    opening: usize,
    /// Bytes of its name.
    name: usize,
    value: Source,
    when: When,
}

impl Step {
    fn write(&self, r: &Request, layout: &Layout, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.before);
        let start = out.len();
        self.value.append(r, out);
        if self.when == When::NotEmpty && out.len() == start {
            out.truncate(start - self.opening);
            return;
        }
        (layout.close)(self.name, start, out);
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
    pub fn finish(&mut self, settings: &RelaySettings, layout: &Layout) {
        if self.lines.is_own() || self.program.replaced.is_empty() {
            let default = self.default.as_deref().map_or(&[][..], std::slice::from_ref);
            self.program = Arc::new(Program::new(layout, &self.lines, default));
            self.cache_program = Arc::default();
        }
        if settings.cache.is_on() && self.cache_program.replaced.is_empty() {
            let default = self.default.as_deref().map_or(&[][..], std::slice::from_ref);
            let cached = [default, &cache_params()].concat();
            self.cache_program = Arc::new(Program::new(layout, &self.lines, &cached));
        }
    }

    /// Appends every parameter of a request, in the layout that [`Self::finish`] was told.
    pub fn write(&self, r: &Request, settings: &RelaySettings, layout: &Layout, out: &mut Vec<u8>) {
        let program = if r.fills_cache() { &self.cache_program } else { &self.program };
        program.steps.iter().for_each(|step| step.write(r, layout, out));
        out.extend_from_slice(&program.rest);
        if settings.pass_request_headers {
            program.each_field(&r.line.fields, &r.head, |name, value| layout.push(name, value, out));
        }
    }
}

impl Program {
    fn new(layout: &Layout, lines: &[Param], defaults: &[Param]) -> Self {
        let is_set = |own: &Param| lines.iter().any(|line| line.name.eq_ignore_ascii_case(&own.name));
        let defaults = defaults.iter().filter(|own| !is_set(own));
        let (mut steps, mut replaced, mut before) = (Vec::new(), Vec::new(), Vec::new());
        for line in lines.iter().chain(defaults) {
            if let Some(field) = line.name.strip_prefix(b"HTTP_").filter(|field| !field.is_empty()) {
                replaced.push(field.to_ascii_lowercase().into());
                if line.value.is_nothing() {
                    continue;
                }
            }
            match &line.value {
                Source::Template(template) if let Some(value) = template.as_literal() => {
                    if line.when == When::Always || !value.is_empty() {
                        layout.push(&line.name, value, &mut before);
                    }
                }
                value => {
                    let start = before.len();
                    (layout.open)(&line.name, &mut before);
                    steps.push(Step {
                        opening: before.len() - start,
                        before: std::mem::take(&mut before).into(),
                        name: line.name.len(),
                        value: value.clone(),
                        when: line.when,
                    });
                }
            }
        }
        Self { steps: steps.into(), rest: before.into(), replaced: replaced.into() }
    }

    /// The fields of the request; lines of the same name become one value.
    fn each_field(&self, fields: &Fields, head: &[u8], mut write: impl FnMut(&[u8], &[u8])) {
        let repeats = has_repeats(fields, head);
        let mut name = Vec::with_capacity(NAME_SIZE);
        name.extend_from_slice(b"HTTP_");
        let mut joined = Vec::new();
        let all = fields.iter().as_slice();
        for (index, field) in all.iter().enumerate() {
            let own = field.name.of(head);
            if self.replaced.iter().any(|replaced| crate::variables::name_matches(own, replaced)) {
                continue;
            }
            name.truncate(5);
            name.extend(own.iter().map(|byte| if *byte == b'-' { b'_' } else { byte.to_ascii_uppercase() }));
            if !repeats {
                write(&name, field.value.of(head));
                continue;
            }
            let is_same = |other: &&Field| other.name.of(head).eq_ignore_ascii_case(own);
            let (before, from) = all.split_at(index);
            if before.iter().any(|other| is_same(&other)) {
                continue;
            }
            joined.clear();
            let separator: &[u8] = if field.known == Known::Cookie { b"; " } else { b", " };
            for (count, other) in from.iter().filter(is_same).enumerate() {
                if count > 0 {
                    joined.extend_from_slice(separator);
                }
                joined.extend_from_slice(other.value.of(head));
            }
            write(&name, &joined);
        }
    }
}

/// Whether any name comes twice. Most requests show by a few bits that none does.
fn has_repeats(fields: &Fields, head: &[u8]) -> bool {
    let mut seen = 0u64;
    let all = fields.iter().as_slice();
    all.iter().enumerate().any(|(index, field)| {
        let name = field.name.of(head);
        let last = name.last().map_or(0, u8::to_ascii_lowercase);
        let bit = 1u64 << ((name.len() * 7 + usize::from(last)) % 64);
        let is_new = seen & bit == 0;
        seen |= bit;
        !is_new && all.iter().take(index).any(|other| other.name.of(head).eq_ignore_ascii_case(name))
    })
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
    const LAYOUT: Layout = Layout {
        open: |name, out| {
            out.push(b'<');
            out.extend_from_slice(name);
            out.extend_from_slice(b"_=");
        },
        close: |name, start, out| {
            let length = b'0' + (name + out.len() - start) as u8;
            out[start - 2] = length;
            out.push(b'>');
        },
    };

    #[test]
    fn fields_become_variables() {
        let check = |params: &[&str], head: &str, expected: &str| {
            let lines: Vec<Param> = params.iter().map(|name| param(name, "x")).collect();
            let text = format!("GET / HTTP/1.1\r\n{head}\r\n");
            let mut line = RequestHead::default();
            line.parse(text.as_bytes(), &HeadLimits::default()).expect("head");
            let mut found = String::new();
            Program::new(&LAYOUT, &lines, &[]).each_field(&line.fields, text.as_bytes(), |name, value| {
                found += &format!("{}={} ", String::from_utf8_lossy(name), String::from_utf8_lossy(value));
            });
            assert_eq!(found, expected, "{head:?}");
        };
        check(&[], "Host: a\r\nx-one: 1\r\n", "HTTP_HOST=a HTTP_X_ONE=1 ");
        check(&["HTTP_X_ONE", "QUERY"], "X-One: 1\r\nX-Two: 2\r\n", "HTTP_X_TWO=2 ");
        check(&["http_x_one"], "X-One: 1\r\n", "HTTP_X_ONE=1 ");
        check(&[], "X: 1\r\nY: 2\r\nx: 3\r\n", "HTTP_X=1, 3 HTTP_Y=2 ");
        check(&[], "Cookie: a\r\ncookie: b\r\n", "HTTP_COOKIE=a; b ");
        check(&["HTTP_COOKIE"], "Cookie: a\r\ncookie: b\r\n", "");
    }

    #[test]
    fn what_is_the_same_for_all_is_laid_out_at_load() {
        let laid_out = |lines: &[Param]| {
            let program = Program::new(&LAYOUT, lines, &[param("HTTP_HOST", "h")]);
            let steps = program.steps.iter().map(|step| &step.before).chain([&program.rest]);
            steps.map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect::<Vec<_>>().join(" ")
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
