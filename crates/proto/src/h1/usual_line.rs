//! The request line as nearly all are, in one go: `METHOD /path?args HTTP/1.1`, all of it at hand.
//!
//! It takes nothing that [`RequestLine`](super::request_line::RequestLine) would not take for the same.

use base::Span;

use super::request_line::{IN_PATH, Method, TARGET, USUAL, Version};

/// Where the parts of a usual line are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UsualLine {
    pub(crate) method: Method,
    pub(crate) method_text: Span,
    pub(crate) target: Span,
    pub(crate) path: Span,
    pub(crate) args: Option<Span>,
    pub(crate) protocol: Span,
    pub(crate) version: Version,
}

/// The longest method and the space behind it.
const METHOD: usize = b"PROPPATCH ".len();

/// `HTTP/1.1` and the line's end.
const TAIL: usize = b"HTTP/1.1\r\n".len();

impl UsualLine {
    /// The line at `start`; `None` where it is another one, or not whole.
    pub(crate) fn of(buffer: &[u8], start: usize) -> Option<Self> {
        // Offsets that fit spans.
        u32::try_from(buffer.len()).ok()?;
        let line = buffer.get(start..)?;
        let (method, length) = method(line)?;
        let target = length + 1;
        let path_end = path_end(line, target)?;
        let (target_end, args) = match line.get(path_end)? {
            b'?' => {
                let end = args_end(line, path_end + 1);
                (end, path_end + 1..end)
            }
            _ => (path_end, 0..0),
        };
        let protocol = target_end + 1;
        let tail: &[u8; TAIL] = line.get(protocol..)?.first_chunk()?;
        // Not a `match`, which would compare byte by byte.
        let version = if tail == b"HTTP/1.1\r\n" {
            Version::HTTP_11
        } else if tail == b"HTTP/1.0\r\n" {
            Version::HTTP_10
        } else {
            return None;
        };
        if line.get(target_end) != Some(&b' ') {
            return None;
        }
        let span = |from: usize, to: usize| Span { start: (start + from) as u32, end: (start + to) as u32 };
        Some(Self {
            method,
            method_text: span(0, length),
            target: span(target, target_end),
            path: span(target, path_end),
            args: (!args.is_empty()).then(|| span(args.start, args.end)),
            protocol: span(protocol, protocol + TAIL - 2),
            version,
        })
    }

    /// The line without its end.
    #[inline]
    pub(crate) fn line(&self) -> Span {
        Span { start: self.method_text.start, end: self.protocol.end }
    }

    /// Where the next line begins.
    #[inline]
    pub(crate) fn next(&self) -> usize {
        self.protocol.end as usize + 2
    }
}

/// The method and its length, where a space and a slash follow it.
#[inline]
fn method(line: &[u8]) -> Option<(Method, usize)> {
    if line.starts_with(b"GET /") {
        return Some((Method::Get, 3));
    }
    let length = line.iter().take(METHOD).position(|byte| *byte == b' ')?;
    let method = Method::of(line.get(..length)?);
    let is_usual = !matches!(method, Method::Other | Method::Connect) && line.get(length + 1) == Some(&b'/');
    is_usual.then_some((method, length))
}

/// Where the path that begins at `start` with its slash ends; `None` where something in it has a meaning, which of slashes
/// and dots only those have that follow another one.
#[inline]
fn path_end(line: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        let from = at + 1;
        at = from;
        while TARGET[*line.get(at)? as usize] == USUAL {
            at += 1;
        }
        match line.get(at)? {
            b'/' | b'.' if at > from => {}
            b'/' | b'.' | b'%' | b'+' => return None,
            _ => return Some(at),
        }
    }
}

/// Where arguments that begin at `start` end, or what is at hand of them.
#[inline]
fn args_end(line: &[u8], start: usize) -> usize {
    let args = line.get(start..).unwrap_or_default();
    let length = args.iter().position(|byte| TARGET[*byte as usize] > IN_PATH);
    start + length.unwrap_or(args.len())
}

#[cfg(test)]
mod tests {
    use super::super::request_line::RequestLine;
    use super::*;

    #[test]
    fn usual_lines_are_read_as_all_others_are() {
        let methods = ["GET", "HEAD", "POST", "PROPPATCH", "CONNECT", "BREW", "get", ""];
        let targets = [
            "/",
            "/a",
            "/a/b.c",
            "//",
            "/a//b",
            "/.",
            "/a/.b",
            "/a..b",
            "/a./",
            "/a.",
            "/%41",
            "/a+b",
            "/a?",
            "/a?b",
            "/a?b=/..//%+?c",
            "/?",
            "/a#b",
            "/a?b#c",
            "*",
            "http://a/b",
            "/\u{e9}",
            "/\0",
            "/a\t",
            "",
        ];
        let ends = [
            " HTTP/1.1\r\n",
            " HTTP/1.0\r\n",
            " HTTP/1.1\n",
            "  HTTP/1.1\r\n",
            " HTTP/1.2\r\n",
            "\r\n",
            " HTTP/1.1\r",
        ];
        let mut taken = 0;
        for (method, target) in methods.iter().flat_map(|method| targets.map(|target| (method, target))) {
            for end in ends {
                let text = format!("\r\n{method} {target}{end}Host: a\r\n");
                let Some(usual) = UsualLine::of(text.as_bytes(), 2) else { continue };
                taken += 1;
                let mut line = RequestLine::from(2);
                assert_eq!(line.scan(text.as_bytes()), Ok(true), "{text:?}");
                let same = UsualLine {
                    method: line.method,
                    method_text: line.method_text(),
                    target: line.target(),
                    path: line.path(),
                    args: line.args(),
                    protocol: line.protocol(),
                    version: line.version,
                };
                assert_eq!(usual, same, "{text:?}");
                assert_eq!((line.scheme(), line.authority(), line.flags), Default::default(), "{text:?}");
                assert_eq!(line.line(), usual.line(), "{text:?}");
                assert_eq!(line.at, usual.next(), "{text:?}");
            }
        }
        // GET, HEAD, POST and PROPPATCH; nine targets; two ends.
        assert_eq!(taken, 4 * 9 * 2);
    }

    #[test]
    fn no_line_is_usual_in_part() {
        let text = b"GET /a?b HTTP/1.1\r\n";
        for end in 0..text.len() {
            assert_eq!(UsualLine::of(&text[..end], 0), None);
        }
        assert!(UsualLine::of(text, 0).is_some());
    }
}
