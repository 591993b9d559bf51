//! A request head: the request line and its fields, as offsets into the buffer that they were read into.
//!
//! It is parsed as bytes arrive; where nginx would answer 414 or 494 follows from [`HeadLimits`] alone.

use base::Span;

use super::budget::{Budget, HeadLimits, InvalidFields, Underscores};
use super::fields::{Fields, MAX_FIELDS};
use super::known::Known;
use super::line::{Line, LineScan, Sender, Taken, Validity};
use super::request_line::{LineError, Method, PathFlags, RequestLine, Version};
use super::usual_line::UsualLine;

/// Whether a head is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Bytes are missing: call again with the same bytes and more behind them.
    Partial,
    /// All is there; what follows in the buffer is body.
    Complete,
}

/// Why a request head is refused; displays as nginx's sentence in the error log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// 400; the sentence is complete but for "client sent invalid header line", which takes
    /// [`RequestHead::culprit`] behind it.
    #[error("{0}")]
    BadRequest(&'static str),
    /// 414: the request line does not fit a large buffer.
    #[error("client sent too long URI")]
    UriTooLong,
    /// 494: a field line does not fit a large buffer, or all of them are full.
    #[error("client sent too long header line")]
    HeadTooLarge,
    /// 494: more fields than [`HeadLimits::max_fields`].
    #[error("client sent too many header lines")]
    TooManyFields,
    /// 505: HTTP/2 or later in a request line.
    #[error("client sent invalid version")]
    VersionNotSupported,
}

impl HeadError {
    /// The status that nginx answers with; 494 is sent as 400 unless an `error_page` names it.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest(_) => 400,
            Self::UriTooLong => 414,
            Self::HeadTooLarge | Self::TooManyFields => 494,
            Self::VersionNotSupported => 505,
        }
    }
}

impl From<LineError> for HeadError {
    fn from(error: LineError) -> Self {
        match error {
            LineError::Method => Self::BadRequest("client sent invalid method"),
            LineError::Request => Self::BadRequest("client sent invalid request"),
            LineError::OldMethod => Self::BadRequest("client sent invalid method in HTTP/0.9 request"),
            LineError::Version => Self::VersionNotSupported,
        }
    }
}

/// Dropped lines that are remembered for the log; further ones are only counted.
const MAX_IGNORED: usize = 16;

/// Empty lines in front of a request, in bytes, before it is refused. nginx has no limit but its timeout.
const MAX_BLANK: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Blank,
    Line,
    Fields,
    Complete,
}

/// One request head. Reuse it with [`RequestHead::reset`]: its lists keep their memory.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    /// The method, where it is a known one.
    pub method: Method,
    /// The method as it was sent.
    pub method_text: Span,
    /// The request line without its end (`$request`).
    pub line: Span,
    /// Path and arguments as they were sent (`unparsed_uri`). With [`PathFlags::EMPTY`] it is `?args`;
    /// `http://host` and CONNECT have a `/` that is borrowed from elsewhere in the line.
    pub target: Span,
    /// The scheme of an absolute form.
    pub scheme: Option<Span>,
    /// `host[:port]` of an absolute form or of CONNECT; it outranks the Host field. May be empty.
    pub authority: Option<Span>,
    /// The path as it was sent, without arguments and fragment; never empty.
    pub path: Span,
    /// What follows `?`, without a fragment; `None` when empty, as nginx tells no difference.
    pub args: Option<Span>,
    /// What the path needs.
    pub path_flags: PathFlags,
    /// The version as it was sent (`$server_protocol`); empty in HTTP/0.9.
    pub protocol: Span,
    /// The version.
    pub version: Version,
    /// The fields.
    pub fields: Fields,
    /// The first dropped lines, without their ends, for nginx's "client sent invalid header line".
    pub ignored: Vec<Span>,
    /// How many fields were dropped for their names.
    pub ignored_count: usize,
    /// Where the request line begins: behind empty lines, which are skipped.
    pub start: usize,
    /// Bytes up to and with the empty line, from the beginning of the buffer; the body begins here.
    pub length: usize,
    /// After an error: the part of the line in front of the byte that is wrong, or the line that is too long.
    pub culprit: Span,
    stage: Stage,
    request_line: RequestLine,
    scan: LineScan,
    budget: Budget,
}

/// How far fields are to be parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goal {
    Host,
    End,
}

impl RequestHead {
    /// Forgets the request and keeps the memory.
    pub fn reset(&mut self) {
        self.fields.clear();
        self.ignored.clear();
        self.ignored_count = 0;
        self.start = 0;
        self.length = 0;
        self.line = Span::EMPTY;
        self.culprit = Span::EMPTY;
        self.stage = Stage::Blank;
        self.budget = Budget::default();
        // What the request line says is written as a whole when it has been parsed, but a log reads it earlier.
        self.method = Method::Other;
        self.method_text = Span::EMPTY;
        self.target = Span::EMPTY;
        self.scheme = None;
        self.authority = None;
        self.path = Span::EMPTY;
        self.args = None;
        self.path_flags = PathFlags::default();
        self.protocol = Span::EMPTY;
        self.version = Version::default();
    }

    /// Whether anything but empty lines has come. While it has not, the caller may drop the bytes at hand
    /// and [`reset`](Self::reset).
    #[must_use]
    pub fn begun(&self) -> bool {
        self.stage != Stage::Blank
    }

    /// nginx's `$request_length` without the body: bytes from the request line to the empty line.
    #[must_use]
    pub fn request_length(&self) -> usize {
        self.length.saturating_sub(self.start)
    }

    /// The text that names the host: the authority of the request line, or the Host field.
    #[must_use]
    pub fn host(&self) -> Option<Span> {
        self.authority.or_else(|| self.fields.first(Known::Host).map(|field| field.value))
    }

    /// Takes a target that stands alone in `buffer`, as `:path` of HTTP/2 does; says whether it is one.
    pub fn set_target(&mut self, buffer: &[u8], target: Span) -> bool {
        let Some(line) = RequestLine::of_target(buffer, target) else { return false };
        self.target = line.target();
        self.path = line.path();
        self.args = line.args();
        self.path_flags = line.flags;
        true
    }

    /// Parses what is new in `buffer`, which begins with the same byte at every call and only grows.
    ///
    /// Follows `ngx_http_parse_request_line` and `ngx_http_parse_header_line`.
    ///
    /// # Errors
    /// [`HeadError`], after which the head is of no more use than for a log.
    #[inline]
    pub fn parse(&mut self, buffer: &[u8], limits: &HeadLimits) -> Result<Progress, HeadError> {
        if self.stage == Stage::Blank && !self.begin(buffer, limits)? {
            return Ok(Progress::Partial);
        }
        if self.stage == Stage::Line && self.parse_line(buffer, limits)? == Progress::Partial {
            return Ok(Progress::Partial);
        }
        if self.stage == Stage::Fields {
            match self.take_plain(buffer, limits) {
                Taken::All => Ok(self.complete()),
                Taken::Some => self.parse_fields(buffer, limits, Goal::End),
            }
        } else {
            Ok(Progress::Complete)
        }
    }

    /// Parses as far as the host is named, or to the end: what follows may be read by the limits of that host.
    /// Go on with [`parse`](Self::parse).
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_to_host(&mut self, buffer: &[u8], limits: &HeadLimits) -> Result<Progress, HeadError> {
        if self.stage == Stage::Blank && !self.begin(buffer, limits)? {
            return Ok(Progress::Partial);
        }
        if self.stage == Stage::Line && self.parse_line(buffer, limits)? == Progress::Partial {
            return Ok(Progress::Partial);
        }
        if self.stage == Stage::Fields && self.host().is_none() {
            return self.parse_fields(buffer, limits, Goal::Host);
        }
        Ok(Progress::Complete)
    }

    /// Skips empty lines, and takes the request line where it is a usual one; false while nothing but empty lines has
    /// come.
    fn begin(&mut self, buffer: &[u8], limits: &HeadLimits) -> Result<bool, HeadError> {
        let mut at = self.start;
        while matches!(buffer.get(at), Some(b'\r' | b'\n')) {
            at += 1;
        }
        self.start = at;
        if at > MAX_BLANK {
            return Err(LineError::Request.into());
        }
        if at >= buffer.len() {
            return Ok(false);
        }
        self.budget.blank(at, limits);
        // What lies in nginx's current buffer is within the limits.
        let within = buffer.get(..self.budget.end()).unwrap_or(buffer);
        if let Some(line) = UsualLine::of(within, at) {
            self.take_line(&line);
        } else {
            self.request_line = RequestLine::from(at);
            self.stage = Stage::Line;
        }
        Ok(true)
    }

    /// Takes the whole request line. What it says nothing of is as it was after [`reset`](Self::reset).
    #[inline]
    fn take_line(&mut self, line: &UsualLine) {
        self.method = line.method;
        self.method_text = line.method_text;
        self.line = line.line();
        self.target = line.target;
        self.path = line.path;
        self.args = line.args;
        self.protocol = line.protocol;
        self.version = line.version;
        self.length = line.next();
        self.scan = LineScan::from(self.length);
        self.stage = Stage::Fields;
    }

    fn parse_line(&mut self, buffer: &[u8], limits: &HeadLimits) -> Result<Progress, HeadError> {
        let hard = self.budget.open(self.start, limits).map_err(|_| HeadError::UriTooLong)?;
        let window = buffer.get(..hard).unwrap_or(buffer);
        match self.request_line.scan(window) {
            Ok(true) => {}
            Ok(false) if buffer.len() >= hard => {
                self.line = Span::new(self.start, hard);
                self.method = self.request_line.method;
                return Err(HeadError::UriTooLong);
            }
            Ok(false) => return Ok(Progress::Partial),
            Err(error) => {
                // What nginx logs as $request then: all that has come of the line.
                let rest = buffer.get(self.start..).unwrap_or_default();
                let length = memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
                self.line = Span::new(self.start, self.start + length);
                // How the answer looks depends on what was understood: HEAD has no body, HTTP/0.9 no head.
                self.method = self.request_line.method;
                if error == LineError::OldMethod {
                    self.version = self.request_line.version;
                }
                return Err(error.into());
            }
        }
        let line = &self.request_line;
        self.method = line.method;
        self.method_text = line.method_text();
        self.line = line.line();
        self.target = line.target();
        self.scheme = line.scheme();
        self.authority = line.authority();
        self.path = line.path();
        self.args = line.args();
        self.path_flags = line.flags;
        self.protocol = line.protocol();
        self.version = line.version;
        self.length = line.at;
        self.scan = LineScan::from(line.at);
        self.budget.close(self.start, self.length, limits);
        self.stage = if self.version < Version::HTTP_10 { Stage::Complete } else { Stage::Fields };
        Ok(Progress::Complete)
    }

    /// Takes the fields whose lines are as nearly all are.
    #[inline]
    fn take_plain(&mut self, buffer: &[u8], limits: &HeadLimits) -> Taken {
        // What lies in nginx's current buffer is within the limits.
        let within = buffer.get(..self.budget.end()).unwrap_or(buffer);
        self.scan.take_plain(within, &mut self.fields, limits.max_fields.min(MAX_FIELDS))
    }

    #[inline(never)]
    fn parse_fields(
        &mut self,
        buffer: &[u8],
        limits: &HeadLimits,
        goal: Goal,
    ) -> Result<Progress, HeadError> {
        let sender = match limits.underscores {
            Underscores::Allow => Sender::ClientWithUnderscores,
            Underscores::Invalid => Sender::Client,
        };
        let max_fields = limits.max_fields.min(MAX_FIELDS);
        loop {
            if goal == Goal::End && self.take_plain(buffer, limits) == Taken::All {
                return Ok(self.complete());
            }
            let start = self.scan.start();
            let Ok(hard) = self.budget.open(start, limits) else {
                self.culprit = Span::new(start, start);
                return Err(HeadError::HeadTooLarge);
            };
            let window = buffer.get(..hard).unwrap_or(buffer);
            let line = self.scan.next(window, sender);
            match line {
                Line::Field(field, validity) => {
                    self.budget.close(start, self.scan.start(), limits);
                    if validity == Validity::Invalid && limits.invalid == InvalidFields::Ignore {
                        self.ignore(Span {
                            start: field.name.start,
                            end: field.value.end.max(field.name.end),
                        });
                        continue;
                    }
                    if self.fields.len() >= max_fields {
                        return Err(HeadError::TooManyFields);
                    }
                    self.fields.push(field);
                    if field.known == Known::Host && goal == Goal::Host {
                        return Ok(Progress::Complete);
                    }
                }
                Line::End => return Ok(self.complete()),
                Line::Partial if buffer.len() < hard => return Ok(Progress::Partial),
                Line::Partial => {
                    self.culprit = Span::new(start, hard);
                    return Err(HeadError::HeadTooLarge);
                }
                Line::Bad(at) => {
                    self.culprit = Span::new(start, at);
                    return Err(HeadError::BadRequest("client sent invalid header line"));
                }
                Line::Skipped => {}
            }
        }
    }

    /// The empty line was the last that was scanned.
    #[inline]
    fn complete(&mut self) -> Progress {
        self.length = self.scan.start();
        self.stage = Stage::Complete;
        Progress::Complete
    }

    #[cold]
    fn ignore(&mut self, line: Span) {
        self.ignored_count += 1;
        if self.ignored.len() < MAX_IGNORED {
            self.ignored.push(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The head in one line, or the error.
    fn show(head: &RequestHead, result: Result<Progress, HeadError>, buffer: &[u8]) -> String {
        match result {
            Err(error) => format!("{} {error}", error.status()),
            Ok(Progress::Partial) => "partial".into(),
            Ok(Progress::Complete) => {
                let text = |span: Span| span.of(buffer).escape_ascii().to_string();
                let option = |span: Option<Span>| span.map_or_else(|| "-".into(), text);
                let mut out = format!(
                    "{:?} {} {} {} {}.{}",
                    head.method,
                    text(head.path),
                    option(head.args),
                    option(head.host()),
                    head.version.major,
                    head.version.minor
                );
                assert_eq!(head.length, buffer.len());
                for field in &head.fields {
                    out += &format!(" [{}={}]", text(field.name), text(field.value));
                }
                out
            }
        }
    }

    fn parse_with(input: &[u8], limits: &HeadLimits) -> String {
        let mut head = RequestHead::default();
        let result = head.parse(input, limits);
        let whole = show(&head, result, input);
        // Byte by byte, in one used structure: the same, and an error as early or earlier.
        head.reset();
        let mut fed = String::new();
        for end in 1..=input.len() {
            let result = head.parse(&input[..end], limits);
            fed = show(&head, result, input);
            if fed != "partial" {
                break;
            }
        }
        assert_eq!(whole, fed, "fed byte by byte: {}", input.escape_ascii());
        for middle in 0..input.len() {
            head.reset();
            let mut result = head.parse(&input[..middle], limits);
            if result == Ok(Progress::Partial) {
                result = head.parse(input, limits);
            }
            assert_eq!(whole, show(&head, result, input), "split at {middle}");
        }
        whole
    }

    fn check(input: &str, expected: &str) {
        assert_eq!(parse_with(input.as_bytes(), &HeadLimits::default()), expected, "{input:?}");
    }

    #[test]
    fn request_lines() {
        check("GET / HTTP/1.1\r\n\r\n", "Get / - - 1.1");
        check("GET / HTTP/1.0\n\n", "Get / - - 1.0");
        check("\r\n\n\r\nGET / HTTP/1.1\r\n\r\n", "Get / - - 1.1");
        check("GET /\r\n", "Get / - - 0.9");
        check("GET /a?b\n", "Get /a b - 0.9");
        check("GET / \r\n", "Get / - - 0.9");
        check("POST /\r\n", "400 client sent invalid method in HTTP/0.9 request");
        check("GET   /a   HTTP/1.1  \r\n\r\n", "Get /a - - 1.1");
        check("GET /a b HTTP/1.1\r\n\r\n", "400 client sent invalid request");
        check("GET /a?b?c#d HTTP/1.1\r\n\r\n", "Get /a b?c - 1.1");
        check("GET /a#b?c HTTP/1.1\r\n\r\n", "Get /a - - 1.1");
        check("GET /a? HTTP/1.1\r\n\r\n", "Get /a - - 1.1");
        check("GET /\u{e9} HTTP/1.1\r\n\r\n", "Get /\\xc3\\xa9 - - 1.1");
        check("M-SEARCH_X / HTTP/1.1\r\n\r\n", "Other / - - 1.1");
        check("get / HTTP/1.1\r\n\r\n", "400 client sent invalid method");
        check("GEt / HTTP/1.1\r\n\r\n", "400 client sent invalid method");
        check(" GET / HTTP/1.1\r\n\r\n", "400 client sent invalid method");
        check("GET\t/ HTTP/1.1\r\n\r\n", "400 client sent invalid method");
        check("GET\r\n", "400 client sent invalid method");
        check("\x16\x03\x01", "400 client sent invalid method");
        check("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400 client sent invalid request");
        check("OPTIONS * HTTP/1.1\r\n\r\n", "400 client sent invalid request");
        check("GET /\0 HTTP/1.1\r\n\r\n", "400 client sent invalid request");
        check("GET /\x7f HTTP/1.1\r\n\r\n", "400 client sent invalid request");
        check("GET /a?\x01 HTTP/1.1\r\n\r\n", "400 client sent invalid request");
        check("GET /a\rb HTTP/1.1\r\n\r\n", "400 client sent invalid request");
        check("GET / HTTP/1.1\rX\r\n", "400 client sent invalid request");
        check("GET / HTTP/1.1X\r\n", "400 client sent invalid request");
        check("GET / HTTP/1.1 X\r\n", "400 client sent invalid request");
        check("GET / HTTX/1.1\r\n", "400 client sent invalid request");
        check("GET / HTTP/.1\r\n", "400 client sent invalid request");
        check("GET / HTTP/0.9\r\n", "400 client sent invalid request");
        check("GET / HTTP/2.0\r\n", "505 client sent invalid version");
        check("GET / HTTP/11.0\r\n", "505 client sent invalid version");
        check("GET / HTTP/1.999\r\n\r\n", "Get / - - 1.999");
        check("GET / HTTP/1.1000\r\n\r\n", "400 client sent invalid request");
        check("GE", "partial");
        check("GET / HTTP/1.1\r\n", "partial");
    }

    #[test]
    fn what_follows_the_host_has_limits_of_its_own() {
        let allow = HeadLimits { underscores: Underscores::Allow, ..HeadLimits::default() };
        let check = |input: &str, expected: &str| {
            let input = input.as_bytes();
            for middle in 0..=input.len() {
                let mut head = RequestHead::default();
                let mut result = Ok(Progress::Partial);
                for bytes in [&input[..middle], input] {
                    let limits = if head.host().is_some() { allow } else { HeadLimits::default() };
                    result = head.parse_to_host(bytes, &limits);
                    if result == Ok(Progress::Complete) {
                        let limits = if head.host().is_some() { allow } else { limits };
                        result = head.parse(bytes, &limits);
                    }
                }
                assert_eq!(show(&head, result, input), expected, "{} at {middle}", input.escape_ascii());
            }
        };
        check("GET / HTTP/1.1\r\na_b: 1\r\nHost: c\r\nd_e: 2\r\n\r\n", "Get / - c 1.1 [Host=c] [d_e=2]");
        check("GET http://c/ HTTP/1.1\r\na_b: 1\r\nHost: d\r\n\r\n", "Get / - c 1.1 [a_b=1] [Host=d]");
        check("GET / HTTP/1.0\r\na_b: 1\r\n\r\n", "Get / - - 1.0");
        check("GET /\r\n", "Get / - - 0.9");
        check("GET / HTTP/1.1\r\nHost", "partial");
    }

    #[test]
    fn absolute_and_authority_forms() {
        check("GET http://a.b/c?d HTTP/1.1\r\n\r\n", "Get /c d a.b 1.1");
        check("GET HTTPS://a:81/ HTTP/1.1\r\n\r\n", "Get / - a:81 1.1");
        check("GET http://a HTTP/1.1\r\n\r\n", "Get / - a 1.1");
        check("GET http://a?b HTTP/1.1\r\n\r\n", "Get / b a 1.1");
        check("GET http://a:/ HTTP/1.1\r\n\r\n", "Get / - a: 1.1");
        check("GET http://[::1]:8/ HTTP/1.1\r\n\r\n", "Get / - [::1]:8 1.1");
        check("GET http:///a HTTP/1.1\r\n\r\n", "Get /a -  1.1");
        check("GET http://a_b/ HTTP/1.1\r\n\r\n", "400 client sent invalid request");
        check("GET http://u@h/ HTTP/1.1\r\n\r\n", "400 client sent invalid request");
        check("GET http:/a HTTP/1.1\r\n\r\n", "400 client sent invalid request");
        check("GET a/b HTTP/1.1\r\n\r\n", "400 client sent invalid request");
        check("GET http://a HTTP/1.1\r\nHost: b\r\n\r\n", "Get / - a 1.1 [Host=b]");
        check("CONNECT a:443 HTTP/1.1\r\n\r\n", "Connect / - a:443 1.1");
        check("CONNECT a:443  HTTP/1.1 \r\n\r\n", "Connect / - a:443 1.1");
        check("CONNECT a HTTP/1.1\r\n\r\n", "400 client sent invalid request");
        check("CONNECT a: HTTP/1.1\r\n\r\n", "400 client sent invalid request");
        check("CONNECT /a HTTP/1.1\r\n\r\n", "400 client sent invalid request");
        check("CONNECT a:1\r\n", "400 client sent invalid request");
    }

    #[test]
    fn flags() {
        let check = |target: &str, normalize, plus| {
            let input = format!("GET {target} HTTP/1.1\r\n\r\n");
            let mut head = RequestHead::default();
            head.parse(input.as_bytes(), &HeadLimits::default()).expect(target);
            assert_eq!(head.path_flags.needs_normalizing(), normalize, "{target}");
            assert_eq!(head.path_flags.has(PathFlags::PLUS), plus, "{target}");
        };
        check("/a/b.c/", false, false);
        check("/a+b", false, true);
        check("/a?b+%41//..", false, false);
        check("//", true, false);
        check("/a//b", true, false);
        check("/./", true, false);
        check("/a/.b", true, false);
        check("/a..", false, false);
        check("/%41", true, false);
        check("/a#", true, false);
        check("/a?b#", true, false);
    }

    #[test]
    fn fields_and_smuggling() {
        let check = |lines: &str, expected: &str| {
            check(&format!("GET / HTTP/1.1\r\n{lines}\r\n\r\n"), expected);
        };
        check("Host: a\r\nX-B:c d ", "Get / - a 1.1 [Host=a] [X-B=c d]");
        check("Host: a\nX: y", "Get / - a 1.1 [Host=a] [X=y]");
        check("a_b: 1\r\nc.d: 2\r\nE: 3", "Get / - - 1.1 [E=3]");
        check("No-Colon", "Get / - - 1.1 [No-Colon=]");
        let bad = "400 client sent invalid header line";
        check("Transfer-Encoding : chunked", bad);
        check("Transfer-Encoding\t: chunked", bad);
        check("A: b\r\n folded", bad);
        check("A: b\r\n\tfolded", bad);
        check("A: b\0", bad);
        check("A: b\rContent-Length: 5", bad);
        check("\x0bContent-Length: 5", bad);
        check(": b", bad);
    }

    #[test]
    fn limits_fall_where_those_of_nginx_do() {
        let limits = HeadLimits { initial: 64, large_count: 2, large_size: 128, ..HeadLimits::default() };
        let check = |input: String, expected: &str| {
            let shown = parse_with(input.as_bytes(), &limits);
            assert!(shown.starts_with(expected), "{shown} for {} bytes", input.len());
        };
        let request = |length: usize| format!("GET /{} HTTP/1.1\r\n", "a".repeat(length - 16));
        let field = |length: usize| format!("A: {}\r\n", "b".repeat(length - 5));
        check(request(128) + "\r\n", "Get");
        check(request(129) + "\r\n", "414");
        check(request(64) + &field(128) + &field(128), "494");
        check(request(64) + &field(128) + &field(126) + "\r\n", "Get");
        check(request(30) + &field(128) + "\r\n", "Get");
        check(request(30) + &field(129) + "\r\n", "494");
        check("\n".repeat(60) + &request(128) + "\r\n", "Get");
        check("\n".repeat(640) + &request(64) + &field(128) + &field(126) + "\r\n", "Get");
        check("a".repeat(200), "400");
        let few = HeadLimits { max_fields: 2, ..HeadLimits::default() };
        let head = "GET / HTTP/1.1\r\nA: 1\r\na_b: 2\r\nB: 2\r\n";
        assert!(parse_with(format!("{head}\r\n").as_bytes(), &few).starts_with("Get"));
        assert!(parse_with(format!("{head}C: 3\r\n\r\n").as_bytes(), &few).starts_with("494"));
    }

    #[test]
    fn invalid_names_are_ignored_or_kept() {
        let input = b"GET / HTTP/1.1\r\na_b: 1\r\nc.d: 2\r\n\r\n";
        let keep = HeadLimits { invalid: InvalidFields::Keep, ..HeadLimits::default() };
        assert_eq!(parse_with(input, &keep), "Get / - - 1.1 [a_b=1] [c.d=2]");
        let allow = HeadLimits { underscores: Underscores::Allow, ..HeadLimits::default() };
        assert_eq!(parse_with(input, &allow), "Get / - - 1.1 [a_b=1]");
        let mut head = RequestHead::default();
        head.parse(input, &HeadLimits::default()).expect("a head");
        assert_eq!(head.ignored_count, 2);
        assert_eq!(head.ignored[1].of(input), b"c.d: 2");
    }

    #[test]
    fn what_is_logged_of_a_bad_head() {
        let mut head = RequestHead::default();
        let input = b"GET /\x01 HTTP/1.1\r\nA: b\r\n";
        assert!(head.parse(input, &HeadLimits::default()).is_err());
        assert_eq!(head.line.of(input), b"GET /\x01 HTTP/1.1");
        head.reset();
        let input = b"GET / HTTP/1.1\r\nA b: c\r\n";
        assert!(head.parse(input, &HeadLimits::default()).is_err());
        assert_eq!(head.culprit.of(input), b"A");
    }
}
