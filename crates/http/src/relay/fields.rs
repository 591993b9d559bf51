//! The fields of the request towards the upstream, as a program that is made once at load.
//!
//! First `Host`, then the lines of `proxy_set_header` (or `grpc_set_header`) and nginx's own, then what the client
//! sent besides them.

use base::Span;
use conf::{Directive, Error};
use proto::h1::{Fields, Known, NameSet};

use crate::conf::Lines;
use crate::conf::compile::Cx;
use crate::request::Request;
use crate::variables::Template;

/// One line of `proxy_set_header` or `grpc_set_header`.
#[derive(Clone, Debug)]
pub struct Line {
    /// The name as written.
    pub name: Box<[u8]>,
    /// The value.
    pub value: Template,
}

impl Lines<Line> {
    /// The setter of the directive.
    ///
    /// # Errors
    /// Those of [`Template::compile`].
    pub fn set(&mut self, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
        // What nginx sets by itself is in the tables below.
        if !d.is_default() {
            self.push(Line { name: d.arg(0)?.bytes.to_boxed(), value: Template::compile(cx, d.arg(1)?)? });
        }
        Ok(())
    }
}

/// A field that nginx sets where the configuration does not; a name alone keeps the client's from being passed.
pub type DefaultField = (&'static str, Option<Value>);

/// The fields of `proxy_pass` (`ngx_http_proxy_headers`).
pub const PROXY_FIELDS: &[DefaultField] = &[
    ("Host", None),
    ("Connection", None),
    ("Proxy-Connection", None),
    ("Content-Length", Some(Value::BodyLength)),
    ("Transfer-Encoding", Some(Value::Chunked)),
    ("TE", None),
    ("Keep-Alive", None),
    ("Expect", None),
    ("Upgrade", None),
];

/// Those of a location that caches besides: the upstream is asked for all of the answer, or whether the one that is
/// kept is still good (`ngx_http_proxy_cache_headers`).
pub const PROXY_CACHE_FIELDS: &[DefaultField] = &[
    ("If-Modified-Since", Some(Value::CacheModified)),
    ("If-Unmodified-Since", None),
    ("If-None-Match", Some(Value::CacheEtag)),
    ("If-Match", None),
    ("Range", None),
    ("If-Range", None),
];

/// The fields of `grpc_pass` (`ngx_http_grpc_headers`).
pub const GRPC_FIELDS: &[DefaultField] = &[
    ("Content-Length", Some(Value::BodyLength)),
    ("TE", Some(Value::Trailers)),
    ("Host", None),
    ("Connection", None),
    ("Proxy-Connection", None),
    ("Transfer-Encoding", None),
    ("Keep-Alive", None),
    ("Expect", None),
    ("Upgrade", None),
];

/// How the request's body goes to the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// Neither length nor coding is told.
    Untold,
    /// `Content-Length`.
    Bytes(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// What a field says.
#[derive(Clone, Debug)]
pub enum Value {
    /// The length of the body, where it is known (`$proxy_internal_body_length`).
    BodyLength,
    /// That the body comes in chunks, where it does (`$proxy_internal_chunked`).
    Chunked,
    /// That trailers are taken, where the client said so (`$grpc_internal_trailers`).
    Trailers,
    /// `Last-Modified` of what the cache has, where the upstream is asked about it (`$upstream_cache_last_modified`).
    CacheModified,
    /// Its `ETag` (`$upstream_cache_etag`).
    CacheEtag,
    /// What the configuration says.
    Template(Template),
}

#[derive(Clone, Debug)]
struct Step {
    /// `Name: `.
    prefix: Box<[u8]>,
    value: Value,
    asks: Option<Ask>,
}

/// The fields of a location's requests.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// `proxy_set_header Host`.
    host: Option<Template>,
    steps: Box<[Step]>,
    /// The client's fields of these names are not passed.
    replaced: NameSet,
}

/// What a field asks of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    /// `Upgrade`: another protocol.
    Upgrade,
    /// `Connection`: its end, if it says `close`.
    Close,
}

/// What the fields that were written ask of the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// There is an `Upgrade` field.
    pub upgrade: bool,
    /// `Connection: close`.
    pub close: bool,
}

impl Program {
    /// The program of these lines over nginx's own (`ngx_http_proxy_init_headers`).
    #[must_use]
    pub fn new(lines: &[Line], defaults: &[DefaultField]) -> Self {
        let mut program = Self::default();
        let mut steps = Vec::new();
        for line in lines {
            if line.name.eq_ignore_ascii_case(b"Host") {
                program.host = Some(line.value.clone());
                continue;
            }
            program.replaced.insert(&line.name);
            if line.value.as_literal() != Some(b"") {
                steps.push(Step::new(&line.name, Value::Template(line.value.clone())));
            }
        }
        for (name, value) in defaults {
            let name = name.as_bytes();
            if program.replaced.contains(Known::of(name), name) {
                continue;
            }
            program.replaced.insert(name);
            steps.extend(value.clone().map(|value| Step::new(name, value)));
        }
        program.steps = steps.into();
        program
    }

    /// Whether it was never made: there is always a step for the body's length unless all are replaced.
    #[must_use]
    pub fn is_unmade(&self) -> bool {
        !self.replaced.contains(Known::Host, b"Host")
    }

    /// Appends `Host`: what is set, or the upstream's name where nothing is or the version needs one.
    pub fn write_host(&self, r: &Request, default: Default<'_>, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(b"Host: ");
        let value_start = out.len();
        let needed = match (&self.host, default) {
            (Some(host), default) => {
                host.append(r, out);
                match default {
                    Default::WhenEmpty(name) => Some(name),
                    Default::WhenUnset(_) => None,
                }
            }
            (None, Default::WhenEmpty(name) | Default::WhenUnset(name)) => Some(name),
        };
        if out.len() == value_start {
            out.extend_from_slice(needed.unwrap_or_default());
        }
        close(out, start, value_start);
    }

    /// Appends the fields that are set.
    pub fn write(&self, r: &Request, body: BodyLength, out: &mut Vec<u8>) -> Asked {
        let mut asked = Asked::default();
        for step in &self.steps {
            match (&step.value, body) {
                (Value::BodyLength, BodyLength::Bytes(length)) => {
                    out.extend_from_slice(&step.prefix);
                    crate::output::push_decimal(length, out);
                    out.extend_from_slice(b"\r\n");
                }
                (Value::Chunked, BodyLength::Chunked) => {
                    out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
                }
                (Value::BodyLength | Value::Chunked, _) => {}
                (Value::Trailers, _) => {
                    if r.header(Known::Te).is_some_and(takes_trailers) {
                        out.extend_from_slice(b"TE: trailers\r\n");
                    }
                }
                (Value::CacheModified | Value::CacheEtag, _) => step.write_validator(r, out),
                (Value::Template(value), _) => {
                    let start = out.len();
                    out.extend_from_slice(&step.prefix);
                    let value_start = out.len();
                    value.append_line(r, out);
                    match step.asks {
                        Some(Ask::Close) => {
                            asked.close |= is_close(out.get(value_start..).unwrap_or_default())
                        }
                        Some(Ask::Upgrade) => asked.upgrade |= out.len() > value_start,
                        None => {}
                    }
                    close(out, start, value_start);
                }
            }
        }
        asked
    }

    /// Appends the client's fields but those that are set; neighbours that were sent in the form that they are
    /// passed in are copied in one piece.
    pub fn write_rest(&self, fields: &Fields, head: &[u8], out: &mut Vec<u8>) {
        let mut run = Span::EMPTY;
        for field in fields {
            if self.replaced.contains_field(field, head) {
                continue;
            }
            if let Some(line) = field.plain_line() {
                if run.end == line.start {
                    run.end = line.end;
                } else {
                    out.extend_from_slice(run.of(head));
                    run = line;
                }
                continue;
            }
            out.extend_from_slice(run.of(head));
            run = Span::EMPTY;
            out.extend_from_slice(field.name.of(head));
            out.extend_from_slice(b": ");
            out.extend_from_slice(field.value.of(head));
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(run.of(head));
    }
}

/// The `Host` where none is set.
#[derive(Clone, Copy, Debug)]
pub enum Default<'a> {
    /// HTTP/1.1 needs one: it stands also in the place of an empty one.
    WhenEmpty(&'a [u8]),
    /// HTTP/1.0 goes without if an empty one is set.
    WhenUnset(&'a [u8]),
}

impl Step {
    /// Appends what the upstream is asked by whether an entry is still good, if it is.
    #[cold]
    fn write_validator(&self, r: &Request, out: &mut Vec<u8>) {
        let Some(case) = &r.cache else { return };
        let start = out.len();
        out.extend_from_slice(&self.prefix);
        let value_start = out.len();
        match &self.value {
            Value::CacheModified => {
                out.extend(case.last_modified().map(proto::date::http).into_iter().flatten());
            }
            _ => out.extend_from_slice(case.etag().unwrap_or_default()),
        }
        close(out, start, value_start);
    }

    fn new(name: &[u8], value: Value) -> Self {
        Self {
            prefix: [name, b": "].concat().into(),
            value,
            asks: match Known::of(name) {
                Known::Upgrade => Some(Ask::Upgrade),
                Known::Connection => Some(Ask::Close),
                _ => None,
            },
        }
    }
}

/// Whether `trailers` is among the words of a `TE` field.
fn takes_trailers(value: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|word| word.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// Whether `close` is among the options of a `Connection` field.
fn is_close(value: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
}

/// Ends a line, or takes one without a value back.
fn close(out: &mut Vec<u8>, start: usize, value_start: usize) {
    if out.len() == value_start {
        out.truncate(start);
    } else {
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::h1::{HeadLimits, RequestHead};

    fn rest(program: &Program, head: &str) -> String {
        let text = format!("GET / HTTP/1.1\r\n{head}\r\n");
        let mut line = RequestHead::default();
        line.parse(text.as_bytes(), &HeadLimits::default()).expect("head");
        let mut out = Vec::new();
        program.write_rest(&line.fields, text.as_bytes(), &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    fn set(names: &[&str]) -> Program {
        let line = |name: &&str| Line { name: name.as_bytes().into(), value: Template::literal(b"x") };
        Program::new(&names.iter().map(line).collect::<Vec<_>>(), PROXY_FIELDS)
    }

    #[test]
    fn the_client_s_fields_pass_but_for_those_that_are_set() {
        let check = |names: &[&str], head: &str, expected: &str| {
            assert_eq!(rest(&set(names), head), expected, "{head:?}");
        };
        check(&[], "Host: a\r\nA: 1\r\nb: 2\r\n", "A: 1\r\nb: 2\r\n");
        check(&[], "A: 1\r\nConnection: close\r\nUpgrade: x\r\nTE: x\r\nB: 2\r\n", "A: 1\r\nB: 2\r\n");
        check(&[], "Keep-Alive: 1\r\nExpect: x\r\nProxy-Connection: x\r\n", "");
        check(&[], "A:1\r\nB:   2  \r\nC: 3\nD: 4\r\nE:\r\n", "A: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\nE: \r\n");
        check(&["X-Mine", "Accept"], "x-mine: 1\r\nAccept: 2\r\nX-Mind: 3\r\n", "X-Mind: 3\r\n");
        check(&["a"], "B: 1\r\nA: 2\r\nB: 3\r\nB: 4\r\n", "B: 1\r\nB: 3\r\nB: 4\r\n");
    }

    #[test]
    fn own_lines_go_before_the_defaults() {
        let prefixes = |names: &[&str]| {
            let program = set(names);
            let text: Vec<u8> = program.steps.iter().flat_map(|step| step.prefix.to_vec()).collect();
            String::from_utf8_lossy(&text).into_owned()
        };
        assert_eq!(prefixes(&[]), "Content-Length: Transfer-Encoding: ");
        assert_eq!(prefixes(&["Host", "X-A", "x-a"]), "X-A: x-a: Content-Length: Transfer-Encoding: ");
        assert_eq!(prefixes(&["content-length"]), "content-length: Transfer-Encoding: ");
        assert!(Program::default().is_unmade() && !set(&[]).is_unmade());
    }
    #[test]
    fn close_is_one_option_among_others() {
        let check = |value: &str, expected| assert_eq!(is_close(value.as_bytes()), expected, "{value}");
        check("close", true);
        check("Close", true);
        check("upgrade, close", true);
        check("", false);
        check("upgrade", false);
        check("disclose", false);
    }
}
