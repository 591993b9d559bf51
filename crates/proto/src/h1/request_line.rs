//! The request line, byte for byte as `ngx_http_parse_request_line` takes it.
//!
//! It can be fed in any pieces, and an error shows with the first byte that is wrong, not with the line's end.

use base::Span;

/// Request methods that nginx knows by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each variant is the method of that name")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Mkcol,
    Copy,
    Move,
    Options,
    Propfind,
    Proppatch,
    Lock,
    Unlock,
    Patch,
    Trace,
    Connect,
    #[default]
    Other,
}

impl Method {
    /// The method of this name; letters count with their case.
    #[inline]
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        match name {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"MKCOL" => Self::Mkcol,
            b"COPY" => Self::Copy,
            b"MOVE" => Self::Move,
            b"OPTIONS" => Self::Options,
            b"PROPFIND" => Self::Propfind,
            b"PROPPATCH" => Self::Proppatch,
            b"LOCK" => Self::Lock,
            b"UNLOCK" => Self::Unlock,
            b"PATCH" => Self::Patch,
            b"TRACE" => Self::Trace,
            b"CONNECT" => Self::Connect,
            _ => Self::Other,
        }
    }

    /// The name as it is sent; empty for [`Method::Other`].
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Mkcol => "MKCOL",
            Self::Copy => "COPY",
            Self::Move => "MOVE",
            Self::Options => "OPTIONS",
            Self::Propfind => "PROPFIND",
            Self::Proppatch => "PROPPATCH",
            Self::Lock => "LOCK",
            Self::Unlock => "UNLOCK",
            Self::Patch => "PATCH",
            Self::Trace => "TRACE",
            Self::Connect => "CONNECT",
            Self::Other => "",
        }
    }
}

/// An HTTP version; compares as nginx's `http_version` does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The digits before the dot.
    pub major: u16,
    /// The digits behind it, at most 999.
    pub minor: u16,
}

impl Version {
    /// A request without a version.
    pub const HTTP_09: Self = Self { major: 0, minor: 9 };
    /// HTTP/1.0.
    pub const HTTP_10: Self = Self { major: 1, minor: 0 };
    /// HTTP/1.1.
    pub const HTTP_11: Self = Self { major: 1, minor: 1 };
    /// HTTP/2.
    pub const HTTP_20: Self = Self { major: 2, minor: 0 };
}

/// What was seen in a target and decides whether its path needs work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathFlags(u8);

impl PathFlags {
    /// A `%`: the path must be decoded (`quoted_uri`).
    pub const QUOTED: Self = Self(1);
    /// `//`, `/.` or `#`: the path must be normalised (`complex_uri`).
    pub const COMPLEX: Self = Self(2);
    /// A `+` (`plus_in_uri`).
    pub const PLUS: Self = Self(4);
    /// The absolute form had no path: the path is `/`, the target may be `?args` (`empty_path_in_uri`).
    pub const EMPTY: Self = Self(8);

    /// Whether all flags of `other` are set.
    #[inline]
    #[must_use]
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the raw path differs, or may differ, from the normalised one.
    #[inline]
    #[must_use]
    pub fn needs_normalizing(self) -> bool {
        self.0 & (Self::QUOTED.0 | Self::COMPLEX.0) != 0
    }

    /// Sets the flags of `other`.
    #[inline]
    pub fn set(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// Why a request line is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineError {
    Method,
    Request,
    Version,
    OldMethod,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Method,
    BeforeTarget,
    Scheme,
    SchemeSlash,
    SchemeSlashes,
    BeforeHost,
    HostStart,
    Host,
    Literal,
    AfterLiteral,
    PortStart,
    Port,
    Path,
    Rest,
    AfterTarget,
    Protocol,
    Major,
    MajorMore,
    Minor,
    MinorMore,
    AfterVersion,
    LineFeed,
    Done,
}

/// The parts of a request line and where its scan stands. Offsets of zero are unset, but for `start`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RequestLine {
    step: Step,
    after_slash: bool,
    pub(crate) at: usize,
    pub(crate) start: usize,
    /// Behind the last byte without the line's end.
    pub(crate) end: usize,
    pub(crate) method: Method,
    method_end: usize,
    scheme: (usize, usize),
    host: (usize, usize),
    target: (usize, usize),
    path_end: usize,
    args: (usize, usize),
    protocol: usize,
    pub(crate) flags: PathFlags,
    pub(crate) version: Version,
}

type Next = Result<Option<Step>, LineError>;

pub(super) const USUAL: u8 = 0;
pub(super) const IN_PATH: u8 = 1;
const ENDING: u8 = 2;

/// Bytes of a target: those without a meaning, those with one in paths, and those that end it or a part of it
/// (or must not be there).
pub(super) static TARGET: [u8; 256] = {
    let mut class = [USUAL; 256];
    let mut byte = 0;
    while byte < 256 {
        class[byte] = match byte as u8 {
            b'/' | b'.' | b'%' | b'+' | b'?' => IN_PATH,
            0..=b' ' | b'#' | 0x7f => ENDING,
            _ => USUAL,
        };
        byte += 1;
    }
    class
};

impl RequestLine {
    /// A line that begins at `start`.
    pub(crate) fn from(start: usize) -> Self {
        Self { start, at: start, ..Self::default() }
    }

    /// Scans on; true when the line has ended, with `at` behind its line feed.
    ///
    /// # Errors
    /// [`LineError`] with the first byte that is wrong.
    #[inline]
    pub(crate) fn scan(&mut self, buffer: &[u8]) -> Result<bool, LineError> {
        while self.step != Step::Done {
            let next = match self.step {
                Step::Method => self.scan_method(buffer)?,
                Step::Path => self.scan_path(buffer)?,
                Step::Rest => self.scan_rest(buffer)?,
                Step::AfterTarget => self.scan_after_target(buffer)?,
                _ => self.scan_rare(buffer)?,
            };
            match next {
                Some(step) => self.step = step,
                None => return Ok(false),
            }
        }
        if self.version == Version::HTTP_09 && self.method != Method::Get {
            return Err(LineError::OldMethod);
        }
        Ok(true)
    }

    fn scan_method(&mut self, buffer: &[u8]) -> Next {
        let mut at = self.at;
        while let Some(&byte) = buffer.get(at) {
            match byte {
                b'A'..=b'Z' | b'_' | b'-' => at += 1,
                b' ' if at > self.start => {
                    self.method_end = at;
                    self.at = at + 1;
                    self.method = Method::of(buffer.get(self.start..at).unwrap_or_default());
                    if self.method == Method::Connect {
                        return Ok(Some(Step::BeforeHost));
                    }
                    // Nearly every target begins right here with its slash.
                    if buffer.get(self.at) == Some(&b'/') {
                        self.at += 1;
                        return Ok(Some(self.begin_path(at + 1)));
                    }
                    return Ok(Some(Step::BeforeTarget));
                }
                _ => return Err(LineError::Method),
            }
        }
        self.at = at;
        Ok(None)
    }

    /// The steps of one byte each.
    fn scan_rare(&mut self, buffer: &[u8]) -> Next {
        let Some(&byte) = buffer.get(self.at) else { return Ok(None) };
        let at = self.at;
        self.at += 1;
        let step = match self.step {
            Step::BeforeTarget => match byte {
                b'/' => self.begin_path(at),
                b' ' => Step::BeforeTarget,
                byte if byte.is_ascii_alphabetic() => {
                    self.scheme.0 = at;
                    Step::Scheme
                }
                _ => return Err(LineError::Request),
            },
            Step::Scheme => match byte {
                b':' => {
                    self.scheme.1 = at;
                    Step::SchemeSlash
                }
                b'+' | b'-' | b'.' => Step::Scheme,
                byte if byte.is_ascii_alphanumeric() => Step::Scheme,
                _ => return Err(LineError::Request),
            },
            Step::SchemeSlash if byte == b'/' => Step::SchemeSlashes,
            Step::SchemeSlashes if byte == b'/' => Step::HostStart,
            Step::BeforeHost if byte == b' ' => Step::BeforeHost,
            Step::BeforeHost | Step::HostStart => {
                self.host.0 = at;
                if byte == b'[' { Step::Literal } else { self.host_byte(at, byte)? }
            }
            Step::Host => self.host_byte(at, byte)?,
            Step::Literal => match byte {
                b']' => Step::AfterLiteral,
                byte if in_literal(byte) => Step::Literal,
                _ => return Err(LineError::Request),
            },
            Step::AfterLiteral => self.after_host(at, byte)?,
            Step::PortStart | Step::Port => self.port_byte(at, byte)?,
            _ => self.version_byte(at, byte)?,
        };
        Ok(Some(step))
    }

    fn begin_path(&mut self, at: usize) -> Step {
        self.target.0 = at;
        self.after_slash = true;
        Step::Path
    }

    fn host_byte(&mut self, at: usize, byte: u8) -> Result<Step, LineError> {
        match byte {
            b'.' | b'-' => Ok(Step::Host),
            byte if byte.is_ascii_alphanumeric() => Ok(Step::Host),
            _ => self.after_host(at, byte),
        }
    }

    fn after_host(&mut self, at: usize, byte: u8) -> Result<Step, LineError> {
        match byte {
            b':' => Ok(Step::PortStart),
            _ if self.method == Method::Connect => Err(LineError::Request),
            _ => self.after_authority(at, byte),
        }
    }

    fn port_byte(&mut self, at: usize, byte: u8) -> Result<Step, LineError> {
        if byte.is_ascii_digit() {
            return Ok(Step::Port);
        }
        if self.method == Method::Connect {
            if self.step == Step::PortStart || byte != b' ' {
                return Err(LineError::Request);
            }
            self.host.1 = at;
            return Ok(Step::AfterTarget);
        }
        self.after_authority(at, byte)
    }

    /// The end of an absolute form's authority. Where it has no path, the slash of its scheme stands for one.
    fn after_authority(&mut self, at: usize, byte: u8) -> Result<Step, LineError> {
        self.host.1 = at;
        match byte {
            b'/' => Ok(self.begin_path(at)),
            b'?' => {
                self.flags.set(PathFlags::EMPTY);
                self.target.0 = at;
                self.path_end = at;
                self.args.0 = at + 1;
                Ok(Step::Rest)
            }
            b' ' => {
                self.target = (self.scheme.1 + 1, self.scheme.1 + 2);
                self.path_end = self.target.1;
                Ok(Step::AfterTarget)
            }
            _ => Err(LineError::Request),
        }
    }

    fn scan_path(&mut self, buffer: &[u8]) -> Next {
        let mut at = self.at;
        loop {
            let from = at;
            while buffer.get(at).is_some_and(|byte| TARGET[*byte as usize] == USUAL) {
                at += 1;
            }
            if at > from {
                self.after_slash = false;
            }
            let Some(&byte) = buffer.get(at) else {
                self.at = at;
                return Ok(None);
            };
            match byte {
                b'/' => {
                    if self.after_slash {
                        self.flags.set(PathFlags::COMPLEX);
                    }
                    self.after_slash = true;
                }
                b'.' => {
                    if self.after_slash {
                        self.flags.set(PathFlags::COMPLEX);
                    }
                    self.after_slash = false;
                }
                b'%' => {
                    self.flags.set(PathFlags::QUOTED);
                    self.after_slash = false;
                }
                b'+' => self.flags.set(PathFlags::PLUS),
                b'?' | b'#' => {
                    self.path_end = at;
                    if byte == b'?' {
                        self.args.0 = at + 1;
                    } else {
                        self.flags.set(PathFlags::COMPLEX);
                    }
                    self.at = at + 1;
                    return Ok(Some(Step::Rest));
                }
                _ => {
                    self.path_end = at;
                    return self.end_target(at, byte);
                }
            }
            at += 1;
        }
    }

    /// Arguments and a fragment, which is cut off.
    fn scan_rest(&mut self, buffer: &[u8]) -> Next {
        let mut at = self.at;
        loop {
            while buffer.get(at).is_some_and(|byte| TARGET[*byte as usize] <= IN_PATH) {
                at += 1;
            }
            match buffer.get(at) {
                Some(b'#') => {
                    self.flags.set(PathFlags::COMPLEX);
                    if self.args.0 != 0 && self.args.1 == 0 {
                        self.args.1 = at;
                    }
                }
                Some(&byte) => return self.end_target(at, byte),
                None => {
                    self.at = at;
                    return Ok(None);
                }
            }
            at += 1;
        }
    }

    /// The target ends with a space, or with the line in HTTP/0.9.
    fn end_target(&mut self, at: usize, byte: u8) -> Next {
        self.target.1 = at;
        if self.args.0 != 0 && self.args.1 == 0 {
            self.args.1 = at;
        }
        self.at = at + 1;
        match byte {
            b' ' => Ok(Some(Step::AfterTarget)),
            b'\r' | b'\n' => self.end_old(at, byte),
            _ => Err(LineError::Request),
        }
    }

    /// The line ends without a version.
    fn end_old(&mut self, at: usize, byte: u8) -> Next {
        self.version = Version::HTTP_09;
        self.end = at;
        Ok(Some(if byte == b'\n' { Step::Done } else { Step::LineFeed }))
    }

    fn scan_after_target(&mut self, buffer: &[u8]) -> Next {
        let rest = buffer.get(self.at..).unwrap_or_default();
        // The whole tail of nearly every line at once.
        if let Some(tail) = rest.first_chunk::<10>() {
            // Not a `match`, which would compare byte by byte.
            self.version = if tail == b"HTTP/1.1\r\n" {
                Version::HTTP_11
            } else if tail == b"HTTP/1.0\r\n" {
                Version::HTTP_10
            } else {
                return self.scan_version_start(buffer);
            };
            self.protocol = self.at;
            self.end = self.at + 8;
            self.stand_in_for_path();
            self.at += 10;
            return Ok(Some(Step::Done));
        }
        self.scan_version_start(buffer)
    }

    fn scan_version_start(&mut self, buffer: &[u8]) -> Next {
        let Some(&byte) = buffer.get(self.at) else { return Ok(None) };
        let at = self.at;
        self.at += 1;
        match byte {
            b' ' => Ok(Some(Step::AfterTarget)),
            b'\r' | b'\n' => self.end_old(at, byte),
            b'H' => {
                self.protocol = at;
                Ok(Some(Step::Protocol))
            }
            _ => Err(LineError::Request),
        }
    }

    /// A CONNECT request has no target; the slash of its protocol stands for one.
    fn stand_in_for_path(&mut self) {
        if self.method == Method::Connect {
            self.target = (self.protocol + 4, self.protocol + 5);
            self.path_end = self.target.1;
        }
    }

    fn version_byte(&mut self, at: usize, byte: u8) -> Result<Step, LineError> {
        let digit = u16::from(byte.wrapping_sub(b'0'));
        match (self.step, byte) {
            (Step::Protocol, _) => {
                let index = at - self.protocol;
                if b"HTTP/".get(index) != Some(&byte) {
                    return Err(LineError::Request);
                }
                if index < 4 {
                    return Ok(Step::Protocol);
                }
                self.stand_in_for_path();
                Ok(Step::Major)
            }
            (Step::Major, b'1') => {
                self.version.major = 1;
                Ok(Step::MajorMore)
            }
            (Step::Major, b'2'..=b'9') | (Step::MajorMore, b'0'..=b'9') => Err(LineError::Version),
            (Step::MajorMore, b'.') => Ok(Step::Minor),
            (Step::Minor, b'0'..=b'9') => {
                self.version.minor = digit;
                Ok(Step::MinorMore)
            }
            (Step::MinorMore, b'0'..=b'9') if self.version.minor <= 99 => {
                self.version.minor = self.version.minor * 10 + digit;
                Ok(Step::MinorMore)
            }
            (Step::MinorMore | Step::AfterVersion, b' ') => Ok(Step::AfterVersion),
            (Step::MinorMore | Step::AfterVersion, b'\r') => {
                self.end = at;
                Ok(Step::LineFeed)
            }
            (Step::MinorMore | Step::AfterVersion, b'\n') => {
                self.end = at;
                Ok(Step::Done)
            }
            (Step::LineFeed, b'\n') => Ok(Step::Done),
            _ => Err(LineError::Request),
        }
    }
}

/// Unreserved bytes, sub-delimiters and the colon: what may stand between brackets (RFC 3986, 3.2.2).
fn in_literal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b":-._~!$&'()*+,;=".contains(&byte)
}

fn span((start, end): (usize, usize)) -> Span {
    Span::new(start, end)
}

impl RequestLine {
    /// Reads a path with arguments that stands alone, as in `:path` of HTTP/2 (`ngx_http_parse_uri`); `None` for
    /// bytes that cannot be in one.
    pub(crate) fn of_target(buffer: &[u8], target: Span) -> Option<Self> {
        let (start, end) = (target.start as usize, target.end as usize);
        let window = buffer.get(..end)?;
        if window.get(start) != Some(&b'/') {
            return None;
        }
        let mut line = Self::from(start + 1);
        line.step = line.begin_path(start);
        loop {
            let next = match line.step {
                Step::Path => line.scan_path(window),
                Step::Rest => line.scan_rest(window),
                _ => return None,
            };
            match next.ok()? {
                Some(step) => line.step = step,
                None => break,
            }
        }
        line.target.1 = end;
        if line.step == Step::Path {
            line.path_end = end;
        }
        if line.args.0 != 0 && line.args.1 == 0 {
            line.args.1 = end;
        }
        Some(line)
    }

    pub(crate) fn method_text(&self) -> Span {
        Span::new(self.start, self.method_end)
    }

    pub(crate) fn line(&self) -> Span {
        Span::new(self.start, self.end)
    }

    pub(crate) fn scheme(&self) -> Option<Span> {
        (self.scheme.1 != 0).then(|| span(self.scheme))
    }

    pub(crate) fn authority(&self) -> Option<Span> {
        (self.host.1 != 0).then(|| span(self.host))
    }

    pub(crate) fn target(&self) -> Span {
        span(self.target)
    }

    pub(crate) fn path(&self) -> Span {
        if self.flags.has(PathFlags::EMPTY) {
            return Span::new(self.scheme.1 + 1, self.scheme.1 + 2);
        }
        Span::new(self.target.0, self.path_end)
    }

    pub(crate) fn args(&self) -> Option<Span> {
        (self.args.1 > self.args.0).then(|| span(self.args))
    }

    pub(crate) fn protocol(&self) -> Span {
        if self.protocol == 0 { Span::EMPTY } else { Span::new(self.protocol, self.end) }
    }
}
