//! `log_format`: a line as a small program, compiled once.
//!
//! A value is copied from where it lies, or made and looked at for what is to be escaped, which numbers and times are
//! spared; nothing is allocated for a line.

use base::append::push_start;
use conf::{Directive, Error, Word};
use http::conf::compile::Cx;
use http::output::push_decimal;
use http::request::Request;
use http::side::Side;
use http::variables::core::push_status;
use http::variables::{Find, Origin, Reader, clock, join_values, push_addr};
use os::socket::PeerAddr;
use proto::h1::Known;
use proto::uri::escape_json;

/// The format that is always there.
pub(super) const COMBINED: &[u8] = b"$remote_addr - $remote_user [$time_local] \"$request\" $status \
$body_bytes_sent \"$http_referer\" \"$http_user_agent\"";

/// Bytes that what stands between two values mostly fits in.
const BETWEEN: usize = 8;

/// `escape=`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Escape {
    /// Quotes, backslashes, controls and bytes from 127 on as `\xHH`; a missing value as `-`.
    #[default]
    Default,
    /// As in a JSON string; a missing value as nothing.
    Json,
    /// Not at all.
    None,
}

/// A value of the line.
#[derive(Clone, Debug)]
struct Step {
    /// Bytes of the text that stand before it.
    before: usize,
    op: Op,
}

#[derive(Clone, Debug)]
enum Op {
    /// It lies somewhere.
    Text(Find),
    /// A number or a time, in which nothing is ever escaped.
    Number(fn(&Request, &mut Vec<u8>)),
    RemoteAddr,
    Header(Known),
    Variable(Reader),
}

/// A compiled format.
#[derive(Clone, Debug, Default)]
pub(super) struct Format {
    /// All that stands between the values, one behind the other, and [`BETWEEN`] bytes more.
    text: Vec<u8>,
    steps: Vec<Step>,
    /// Bytes of the text that stand behind the last value.
    rest: usize,
    escape: Escape,
}

/// Variables of which more is known than what they come from, where that is so on this side.
fn special(name: &[u8], side: Side) -> Option<Op> {
    Some(match name {
        b"remote_addr" => Op::RemoteAddr,
        b"time_local" => Op::Number(|_, out| clock::push_time_local(out)),
        b"time_iso8601" => Op::Number(|_, out| clock::push_time_iso8601(out)),
        b"msec" => Op::Number(|_, out| clock::push_msec(out)),
        b"bytes_sent" => Op::Number(|r, out| push_decimal(r.output.sent, out)),
        _ if side != Side::Http => return None,
        b"status" => Op::Number(push_status),
        b"body_bytes_sent" => Op::Number(|r, out| push_decimal(r.bytes_sent().1, out)),
        b"request_length" => Op::Number(|r, out| push_decimal(r.received, out)),
        b"request_time" => Op::Number(|r, out| clock::push_seconds(r.elapsed_ms(), out)),
        b"http_host" => Op::Header(Known::Host),
        b"http_referer" => Op::Header(Known::Referer),
        b"http_user_agent" => Op::Header(Known::UserAgent),
        b"http_x_forwarded_for" => Op::Header(Known::XForwardedFor),
        _ => return None,
    })
}

impl From<Reader> for Op {
    fn from(reader: Reader) -> Self {
        match reader {
            Reader::Straight(Origin::Lies(find), _) => Self::Text(find),
            reader => Self::Variable(reader),
        }
    }
}

impl Format {
    /// Compiles the words behind a format's name (`ngx_http_log_compile_format`).
    ///
    /// # Errors
    /// `unknown log format escaping "…"` and those of [`Self::add`].
    pub fn read(cx: &mut Cx<'_>, d: &Directive) -> Result<Self, Error> {
        let mut format = Self::default();
        let mut words = d.args.get(1..).unwrap_or_default();
        if let Some((first, rest)) = words.split_first()
            && let Some(escape) = first.after("escape=")
        {
            format.escape = match escape {
                b"default" => Escape::Default,
                b"json" => Escape::Json,
                b"none" => Escape::None,
                other => {
                    let shown = String::from_utf8_lossy(other);
                    return Err(Error::at(first, format!("unknown log format escaping \"{shown}\"")));
                }
            };
            words = rest;
        }
        for word in words {
            format.add(cx, word, &word.bytes)?;
        }
        Ok(format)
    }

    /// Appends a text with variables; `word` is where errors point to.
    ///
    /// # Errors
    /// `invalid parameter "…"`, `the closing bracket in "…" variable is missing`, `unknown "…" variable`.
    pub fn add(&mut self, cx: &mut Cx<'_>, word: &Word, text: &[u8]) -> Result<(), Error> {
        self.text.truncate(self.text.len().saturating_sub(BETWEEN));
        let mut rest = text;
        while !rest.is_empty() {
            let (literal, variable) = match memchr::memchr(b'$', rest) {
                Some(at) => rest.split_at(at),
                None => (rest, &b""[..]),
            };
            self.text.extend_from_slice(literal);
            self.rest += literal.len();
            if variable.is_empty() {
                break;
            }
            let (name, behind) = variable_name(variable).map_err(|sentence| Error::at(word, sentence))?;
            let name = name.to_ascii_lowercase();
            let op = match special(&name, cx.side) {
                Some(op) => op,
                None => cx.reader(&name, word)?.into(),
            };
            self.steps.push(Step { before: std::mem::take(&mut self.rest), op });
            rest = behind;
        }
        self.text.resize(self.text.len() + BETWEEN, 0);
        Ok(())
    }

    /// Appends the line without its end.
    pub fn append(&self, r: &Request, out: &mut Vec<u8>) {
        let mut text = &*self.text;
        for step in &self.steps {
            push_start::<BETWEEN>(text, step.before, out);
            text = text.get(step.before..).unwrap_or_default();
            self.value(&step.op, r, out);
        }
        push_start::<BETWEEN>(text, self.rest, out);
    }

    #[inline]
    fn value(&self, op: &Op, r: &Request, out: &mut Vec<u8>) {
        match op {
            Op::Text(find) => self.text(find(r), out),
            Op::Number(push) => push(r, out),
            Op::RemoteAddr => match r.client() {
                addr @ PeerAddr::Inet(_) => push_addr(addr, out),
                unix @ PeerAddr::Unix(_) => {
                    let start = out.len();
                    push_addr(unix, out);
                    self.escape_from(start, out);
                }
            },
            Op::Header(known) if r.line.fields.repeat_any(known.bit()) => self.joined(r, *known, out),
            Op::Header(known) => self.text(r.header(*known), out),
            Op::Variable(reader) => {
                let start = out.len();
                if reader.append(r, out) {
                    return self.escape_from(start, out);
                }
                out.truncate(start);
                self.text(None, out);
            }
        }
    }

    /// Fields of one name become one value.
    #[cold]
    fn joined(&self, r: &Request, known: Known, out: &mut Vec<u8>) {
        let start = out.len();
        let values = r.line.fields.all(known).map(|field| field.value.of(&r.head));
        join_values(values, b", ", out);
        self.escape_from(start, out);
    }

    /// A value that lies somewhere already.
    fn text(&self, text: Option<&[u8]>, out: &mut Vec<u8>) {
        match (text, self.escape) {
            (Some(text), Escape::Default) => escape(text, out),
            (Some(text), Escape::Json) => escape_json(text, out),
            (Some(text), Escape::None) => out.extend_from_slice(text),
            (None, Escape::Default) => out.push(b'-'),
            (None, _) => {}
        }
    }

    /// A value that was made from `start` on; it is escaped where it lies.
    fn escape_from(&self, start: usize, out: &mut Vec<u8>) {
        let made = out.get(start..).unwrap_or_default();
        let is_plain = match self.escape {
            Escape::None => true,
            Escape::Default => is_plain_text(made),
            Escape::Json => made.iter().all(|byte| *byte > 0x1f && !matches!(byte, b'"' | b'\\')),
        };
        if !is_plain {
            let made = out.split_off(start);
            self.text(Some(&made), out);
        }
    }
}

/// The name behind a `$`, with or without brackets, and what follows it.
fn variable_name(text: &[u8]) -> Result<(&[u8], &[u8]), String> {
    let invalid = || format!("invalid parameter \"{}\"", String::from_utf8_lossy(text));
    let rest = text.strip_prefix(b"$").ok_or_else(invalid)?;
    let (is_braced, rest) = match rest.strip_prefix(b"{") {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    if rest.is_empty() {
        return Err(invalid());
    }
    let length = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
    let (name, rest) = rest.split_at(length);
    let rest = match (is_braced, rest.strip_prefix(b"}")) {
        (true, Some(rest)) => rest,
        (true, None) => {
            let shown = String::from_utf8_lossy(name);
            return Err(format!("the closing bracket in \"{shown}\" variable is missing"));
        }
        (false, _) => rest,
    };
    if name.is_empty() { Err(invalid()) } else { Ok((name, rest)) }
}

/// Without branches, so that it is asked of many bytes at once.
fn is_plain(byte: u8) -> bool {
    (byte.wrapping_sub(b' ') <= b'~' - b' ') & (byte != b'"') & (byte != b'\\')
}

/// Whether all bytes are plain.
fn is_plain_text(text: &[u8]) -> bool {
    match text.len() {
        0..8 => text.iter().all(|byte| is_plain(*byte)),
        8..16 => is_plain_in_blocks::<8>(text),
        _ => is_plain_in_blocks::<16>(text),
    }
}

/// As [`is_plain_text`], for at least `N` bytes: the last so many are looked at apart, some of them again.
#[inline]
fn is_plain_in_blocks<const N: usize>(text: &[u8]) -> bool {
    let is_plain_block = |block: &[u8; N]| block.iter().fold(true, |so_far, byte| so_far & is_plain(*byte));
    text.as_chunks().0.iter().all(is_plain_block) && text.last_chunk().is_some_and(is_plain_block)
}

/// Appends a text with `\xHH` for what could be mistaken (`ngx_http_log_escape`).
fn escape(text: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut rest = text;
    if is_plain_text(text) {
        return out.extend_from_slice(text);
    }
    while let Some(at) = rest.iter().position(|byte| !is_plain(*byte)) {
        let (plain, behind) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((&byte, behind)) = behind.split_first() else { break };
        let (high, low) = (DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]);
        out.extend_from_slice(&[b'\\', b'x', high, low]);
        rest = behind;
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_escaped() {
        let check = |escape: Escape, value: Option<&[u8]>, expected: &str| {
            let format = Format { escape, ..Format::default() };
            let (mut from_text, mut made) = (b"<".to_vec(), b"<".to_vec());
            format.text(value, &mut from_text);
            assert_eq!(String::from_utf8_lossy(&from_text), format!("<{expected}"), "{value:?}");
            if let Some(value) = value {
                made.extend_from_slice(value);
                format.escape_from(1, &mut made);
                assert_eq!(made, from_text, "{value:?}");
            }
        };
        check(Escape::Default, None, "-");
        check(Escape::Default, Some(b""), "");
        check(Escape::Default, Some(b"GET / HTTP/1.1"), "GET / HTTP/1.1");
        check(Escape::Default, Some(b"a\"b\\c\n\x7f\xe4"), r"a\x22b\x5Cc\x0A\x7F\xE4");
        check(Escape::Default, Some(b"\""), r"\x22");
        check(Escape::Json, None, "");
        check(Escape::Json, Some(b"a\"b\\c\n\x01/"), r#"a\"b\\c\n\u0001/"#);
        check(Escape::None, None, "");
        check(Escape::None, Some(b"a\"\n"), "a\"\n");
    }

    #[test]
    fn texts_are_plain_where_each_byte_is() {
        for length in 0..40 {
            let plain = vec![b'~'; length];
            assert!(is_plain_text(&plain), "{length}");
            for (place, byte) in (0..length).flat_map(|place| [(place, b'"'), (place, b'\n'), (place, 0x7f)])
            {
                let mut text = plain.clone();
                text[place] = byte;
                assert!(!is_plain_text(&text), "{place} of {length}");
            }
        }
        for byte in 0..=255 {
            let expected = matches!(byte, 0x20..=0x7e) && !matches!(byte, b'"' | b'\\');
            assert_eq!((is_plain(byte), is_plain_text(&[byte; 16])), (expected, expected), "{byte}");
        }
    }

    #[test]
    fn names() {
        let check = |text: &str, expected: Result<(&str, &str), &str>| {
            let seen = variable_name(text.as_bytes());
            let expected = expected.map(|(name, rest)| (name.as_bytes(), rest.as_bytes()));
            assert_eq!(seen, expected.map_err(str::to_owned), "{text}");
        };
        check("$a b", Ok(("a", " b")));
        check("${a}b", Ok(("a", "b")));
        check("$a", Ok(("a", "")));
        check("$a$b", Ok(("a", "$b")));
        check("$", Err("invalid parameter \"$\""));
        check("${", Err("invalid parameter \"${\""));
        check("$-", Err("invalid parameter \"$-\""));
        check("${a", Err("the closing bracket in \"a\" variable is missing"));
        check("${a-}", Err("the closing bracket in \"a\" variable is missing"));
    }
}
