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

/// What is left to do for a request.
#[derive(Clone, Debug, Default)]
struct Program {
    steps: Box<[Param]>,
    /// Fields of these names are not passed on: lower case, with underscores, without `HTTP_`.
    replaced: Box<[Box<[u8]>]>,
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
    pub fn finish(&mut self, settings: &RelaySettings) {
        if self.lines.is_own() || self.program.replaced.is_empty() {
            let default = self.default.as_deref().map_or(&[][..], std::slice::from_ref);
            self.program = Arc::new(Program::new(&self.lines, default));
            self.cache_program = Arc::default();
        }
        if settings.cache.is_on() && self.cache_program.replaced.is_empty() {
            let default = self.default.as_deref().map_or(&[][..], std::slice::from_ref);
            let cached = [default, &cache_params()].concat();
            self.cache_program = Arc::new(Program::new(&self.lines, &cached));
        }
    }

    /// Hands every parameter of a request to `write`, as name and value.
    pub fn each(&self, r: &Request, settings: &RelaySettings, mut write: impl FnMut(&[u8], &[u8])) {
        let mut value = Vec::with_capacity(256);
        let program = if r.fills_cache() { &self.cache_program } else { &self.program };
        for step in &program.steps {
            value.clear();
            step.value.append(r, &mut value);
            if step.when == When::Always || !value.is_empty() {
                write(&step.name, &value);
            }
        }
        if settings.pass_request_headers {
            program.each_field(&r.line.fields, &r.head, write);
        }
    }
}

impl Program {
    fn new(lines: &[Param], defaults: &[Param]) -> Self {
        let is_set = |own: &Param| lines.iter().any(|line| line.name.eq_ignore_ascii_case(&own.name));
        let defaults = defaults.iter().filter(|own| !is_set(own));
        let mut program = Self::default();
        let (mut steps, mut replaced) = (Vec::new(), Vec::new());
        for line in lines.iter().chain(defaults) {
            if let Some(field) = line.name.strip_prefix(b"HTTP_").filter(|field| !field.is_empty()) {
                replaced.push(field.to_ascii_lowercase().into());
                if line.value.is_nothing() {
                    continue;
                }
            }
            steps.push(line.clone());
        }
        program.steps = steps.into();
        program.replaced = replaced.into();
        program
    }

    /// The fields of the request; lines of the same name become one value.
    fn each_field(&self, fields: &Fields, head: &[u8], mut write: impl FnMut(&[u8], &[u8])) {
        let repeats = has_repeats(fields, head);
        let mut name = b"HTTP_".to_vec();
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

    #[test]
    fn fields_become_variables() {
        let check = |params: &[&str], head: &str, expected: &str| {
            let lines: Vec<Param> = params.iter().map(|name| param(name, "x")).collect();
            let text = format!("GET / HTTP/1.1\r\n{head}\r\n");
            let mut line = RequestHead::default();
            line.parse(text.as_bytes(), &HeadLimits::default()).expect("head");
            let mut found = String::new();
            Program::new(&lines, &[]).each_field(&line.fields, text.as_bytes(), |name, value| {
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
    fn the_default_stands_where_nothing_has_its_name() {
        let names = |lines: &[Param]| {
            let program = Program::new(lines, &[param("HTTP_HOST", "h")]);
            let steps: Vec<String> =
                program.steps.iter().map(|step| String::from_utf8_lossy(&step.name).into_owned()).collect();
            steps.join(" ")
        };
        assert_eq!(names(&[param("A", "1")]), "A HTTP_HOST");
        assert_eq!(names(&[param("HTTP_HOST", "1")]), "HTTP_HOST");
        assert_eq!(names(&[param("http_host", "1"), param("A", "1")]), "http_host A");
        assert_eq!(names(&[param("HTTP_PROXY", ""), param("EMPTY", "")]), "EMPTY HTTP_HOST");
    }
}
