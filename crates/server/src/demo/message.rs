//! HTTP as far as the demo's origins speak it: one request is read whole, one answer written whole.
//!
//! What stands in front of them is Tidegate, so the requests are well formed; they are bounded all the same.

use std::fmt::Write as _;
use std::io::{self, BufRead, Read, Write};

/// Largest head of a request, bytes.
const HEAD_MAX: u64 = 64 * 1024;

/// A request as an origin saw it. The body is read and counted.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The request line.
    pub(super) line: String,
    /// Names and values in the order in which they came.
    pub(super) headers: Vec<(String, String)>,
    /// Length of the body, bytes.
    pub(super) body: u64,
}

impl Seen {
    /// Reads the next request; `None` when the connection has ended.
    pub(super) fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut seen = Self::default();
        let mut head = from.by_ref().take(HEAD_MAX);
        seen.line = read_line(&mut head)?;
        if seen.line.is_empty() {
            return Ok(None);
        }
        loop {
            let line = read_line(&mut head)?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
            seen.headers.push((name.to_owned(), value.trim().to_owned()));
        }
        seen.body = match seen.header("transfer-encoding") {
            Some(_) => discard_chunks(from)?,
            None => discard(from, seen.header("content-length").map_or(Ok(0), parse)?)?,
        };
        Ok(Some(seen))
    }

    /// The first value under a name, in any case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Method and path, without the query.
    pub(super) fn target(&self) -> (&str, &str) {
        let mut words = self.line.split(' ');
        let (method, uri) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        (method, uri.split_once('?').map_or(uri, |(path, _)| path))
    }

    /// Whether a program reads the answer.
    pub(super) fn wants_json(&self) -> bool {
        self.header("accept").is_some_and(|types| types.contains("application/json"))
    }
}

fn parse(text: &str) -> io::Result<u64> {
    text.parse().map_err(|_| io::ErrorKind::InvalidData.into())
}

/// A line without its end; empty at the end of the connection.
fn read_line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    from.read_until(b'\n', &mut line)?;
    Ok(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned())
}

fn discard(from: &mut impl BufRead, length: u64) -> io::Result<u64> {
    io::copy(&mut from.take(length), &mut io::sink())
}

fn discard_chunks(from: &mut impl BufRead) -> io::Result<u64> {
    let mut total = 0;
    loop {
        let size = u64::from_str_radix(&read_line(from)?, 16).map_err(|_| io::ErrorKind::InvalidData)?;
        total += discard(from, size)?;
        // The end of the chunk; behind the last one the end of the (empty) trailers.
        if !read_line(from)?.is_empty() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if size == 0 {
            return Ok(total);
        }
    }
}

/// An answer with a short body.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    /// Code and reason.
    pub(super) status: &'a str,
    /// The media type.
    pub(super) kind: &'a str,
    /// One header more, with its value.
    pub(super) header: &'a str,
    /// The body.
    pub(super) body: &'a str,
}

impl Answer<'_> {
    /// Writes it.
    pub(super) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let Self { status, kind, header, body } = self;
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}; charset=utf-8\r\nContent-Length: {length}\r\n\
             Cache-Control: no-store\r\n{header}\r\n\r\n"
        );
        to.write_all((head + body).as_bytes())
    }
}

/// A text as JSON writes it.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        let check = |text: &str, expected: Option<(&str, &str, u64)>| {
            let seen = Seen::read(&mut text.as_bytes());
            let found = seen.as_ref().ok().and_then(Option::as_ref).map(|seen| {
                let (method, path) = seen.target();
                (method, path, seen.body)
            });
            assert_eq!(found, expected, "{text:?}");
        };
        check("", None);
        check("GET /a?b HTTP/1.1\r\nHost: x\r\n\r\n", Some(("GET", "/a", 0)));
        check("POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc", Some(("POST", "/", 3)));
        check(
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n",
            Some(("POST", "/", 10)),
        );
        check("GET / HTTP/1.1\r\nno colon\r\n\r\n", None);
        check("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", None);
        check("POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", None);
    }

    #[test]
    fn texts_in_json() {
        let check = |text: &str, expected: &str| assert_eq!(quoted(text), expected);
        check("a", "\"a\"");
        check("a\"\\\n", "\"a\\\"\\\\\\u000a\"");
        check("ü", "\"ü\"");
    }
}
