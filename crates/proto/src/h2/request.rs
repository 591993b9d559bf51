//! A request's head out of its header block: pseudo fields become the request line, crumbs one cookie.
//!
//! What is wrong with it is answered on its stream, with nginx's status and words (`ngx_http_v2_pseudo_header` and
//! `ngx_http_v2_run_request`); the block must be read to its end all the same.

use base::Span;

use super::hpack::Decoded;
use crate::h1::{Field, HeadLimits, InvalidFields, Known, Method, RequestHead, Underscores, Version};
use crate::uri::validate_host;

/// Names of fields with invalid characters that are kept for the log.
const MAX_IGNORED: usize = 16;

/// A head that is answered with an error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("client sent {sentence}")]
pub struct Refusal {
    /// The status.
    pub status: u16,
    sentence: String,
}

fn refuse<T>(sentence: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { status: 400, sentence: sentence.into() })
}

/// Fills a head from the fields of a block, one after the other.
#[derive(Debug, Default)]
pub struct RequestReader {
    method: Option<Span>,
    scheme: Option<Span>,
    path: Option<Span>,
    protocol: Option<Span>,
    cookies: Vec<Span>,
    /// A field that is no pseudo field came, so no pseudo field may.
    is_past_pseudo: bool,
    refusal: Option<Refusal>,
}

impl RequestReader {
    /// Takes a field whose text lies in `text`. After the first that is refused, the rest is only skipped.
    pub fn field(&mut self, field: Decoded, head: &mut RequestHead, text: &[u8], limits: &HeadLimits) {
        if self.refusal.is_none()
            && let Err(refusal) = self.take(field, head, text, limits)
        {
            self.refusal = Some(refusal);
        }
    }

    fn take(
        &mut self,
        field: Decoded,
        head: &mut RequestHead,
        text: &[u8],
        limits: &HeadLimits,
    ) -> Result<(), Refusal> {
        let (name, value) = (field.name.of(text), field.value.of(text));
        let validity = check_name(name, limits)?;
        // Without a branch, so that many bytes are looked at together.
        if value.iter().fold(false, |found, byte| found | matches!(byte, 0 | b'\r' | b'\n')) {
            let (name, value) = (String::from_utf8_lossy(name), String::from_utf8_lossy(value));
            return refuse(format!("header \"{name}\" with invalid value: \"{value}\""));
        }
        if name.first() == Some(&b':') {
            return self.pseudo(name, field.value, head, text);
        }
        self.is_past_pseudo = true;
        self.check_line(head)?;
        if validity == Validity::Odd && limits.invalid == InvalidFields::Ignore {
            head.ignored_count += 1;
            if head.ignored.len() < MAX_IGNORED {
                head.ignored.push(field.name);
            }
            return Ok(());
        }
        if head.fields.len() + self.cookies.len() >= limits.max_fields {
            return Err(Refusal { status: 494, sentence: "too many header lines".into() });
        }
        match Known::of(name) {
            Known::Cookie => self.cookies.push(field.value),
            known => head.fields.push(Field::new(field.name, field.value, known)),
        }
        Ok(())
    }

    fn pseudo(
        &mut self,
        name: &[u8],
        value: Span,
        head: &mut RequestHead,
        text: &[u8],
    ) -> Result<(), Refusal> {
        if self.is_past_pseudo {
            return refuse("out of order pseudo-headers");
        }
        let shown = || String::from_utf8_lossy(value.of(text)).into_owned();
        match name {
            b":path" => {
                once(&mut self.path, value, "path")?;
                if !head.set_target(text, value) {
                    return refuse(format!("invalid :path header: \"{}\"", shown()));
                }
            }
            b":method" => {
                once(&mut self.method, value, "method")?;
                head.method = Method::of(value.of(text));
                let is_valid = |byte: &u8| byte.is_ascii_uppercase() || matches!(byte, b'_' | b'-');
                if !value.of(text).iter().all(is_valid) {
                    return refuse(format!("invalid method: \"{}\"", shown()));
                }
            }
            b":scheme" => {
                once(&mut self.scheme, value, "scheme")?;
                let (first, rest) = value.of(text).split_first().unwrap_or((&0, &[]));
                let is_valid = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
                if !first.is_ascii_alphabetic() || !rest.iter().all(is_valid) {
                    return refuse(format!("invalid :scheme header: \"{}\"", shown()));
                }
            }
            b":authority" => {
                if head.authority.is_some() {
                    return refuse("duplicate \":authority\" header");
                }
                head.authority = Some(value);
                if validate_host(value.of(text)).is_err() {
                    return refuse("invalid \":authority\" header");
                }
            }
            // RFC 8441, 4.
            b":protocol" => {
                once(&mut self.protocol, value, "protocol")?;
                if !value.of(text).iter().all(is_protocol_byte) {
                    return refuse(format!("invalid :protocol header: \"{}\"", shown()));
                }
            }
            _ => {
                let name = String::from_utf8_lossy(name.get(1..).unwrap_or_default());
                return refuse(format!("unknown pseudo-header \":{name}\""));
            }
        }
        Ok(())
    }

    /// What a request line is made of must have come before the first field.
    fn check_line(&self, head: &RequestHead) -> Result<(), Refusal> {
        if self.method.is_none() {
            return refuse("no :method header");
        }
        if self.scheme.is_none() {
            return refuse("no :scheme header");
        }
        if self.path.is_none() {
            return refuse("no :path header");
        }
        if self.protocol.is_some() && head.method != Method::Connect {
            return refuse("unknown pseudo-header \":protocol\"");
        }
        Ok(())
    }

    /// The block is over: writes the request line, the cookie and the host behind the other text. A CONNECT with a
    /// protocol (RFC 8441) becomes the request that asks for the same over HTTP/1, so that whatever reads it
    /// finds what it knows: a GET with `Upgrade` and `Connection`. Gives that protocol.
    ///
    /// # Errors
    /// What is wrong with the head.
    pub fn finish(&mut self, head: &mut RequestHead, text: &mut Vec<u8>) -> Result<Option<Span>, Refusal> {
        head.version = Version::HTTP_20;
        if let Some(refusal) = self.refusal.take() {
            return Err(refusal);
        }
        self.check_line(head)?;
        self.write_line(head, text);
        self.write_cookie(head, text);
        check_connection(head, text)?;
        let authority = head.authority;
        match (authority, head.fields.first(Known::Host).copied()) {
            (None, None) => return refuse("neither \":authority\" nor \"Host\" header"),
            (None, Some(_)) => {}
            (Some(authority), Some(host)) if authority.of(text) != host.value.of(text) => {
                return refuse("\":authority\" and \"Host\" headers with different values");
            }
            (Some(_), Some(_)) => {}
            (Some(value), None) => {
                let name = append(text, b"host");
                head.fields.push(Field::new(name, value, Known::Host));
            }
        }
        if let Some(protocol) = self.protocol {
            head.method = Method::Get;
            let name = append(text, b"upgrade");
            head.fields.push(Field::new(name, protocol, Known::Upgrade));
            let name = append(text, b"connection");
            let value = append(text, b"upgrade");
            head.fields.push(Field::new(name, value, Known::Connection));
        }
        head.length = text.len();
        Ok(self.protocol)
    }

    fn write_line(&self, head: &mut RequestHead, text: &mut Vec<u8>) {
        let start = text.len();
        match (self.protocol, self.method) {
            (Some(_), _) => text.extend_from_slice(b"GET"),
            (None, method) => text.extend_from_within(range(method.unwrap_or_default())),
        }
        head.method_text = Span::new(start, text.len());
        text.push(b' ');
        let target = head.target;
        text.extend_from_within(range(target));
        text.push(b' ');
        head.protocol = append(text, b"HTTP/2.0");
        head.line = Span::new(start, text.len());
    }

    /// Crumbs are put together, as whoever reads them expects (RFC 9113, 8.2.3).
    fn write_cookie(&self, head: &mut RequestHead, text: &mut Vec<u8>) {
        let Some((first, rest)) = self.cookies.split_first() else { return };
        let name = append(text, b"cookie");
        let mut value = *first;
        if !rest.is_empty() {
            let start = text.len();
            text.extend_from_within(range(*first));
            for crumb in rest {
                text.extend_from_slice(b"; ");
                text.extend_from_within(range(*crumb));
            }
            value = Span::new(start, text.len());
        }
        head.fields.push(Field::new(name, value, Known::Cookie));
    }
}

/// Whether a field may stand behind a body: none that makes a head is there, and nothing that could end a line
/// (RFC 9113, 8.1 and 8.2.1).
#[must_use]
pub fn is_trailer(field: Decoded, text: &[u8]) -> bool {
    let (name, value) = (field.name.of(text), field.value.of(text));
    let is_bad = |byte: &u8| CLASSES[usize::from(*byte)] & class::BAD != 0;
    !name.iter().any(is_bad) && !value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n'))
}

fn append(text: &mut Vec<u8>, bytes: &[u8]) -> Span {
    let start = text.len();
    text.extend_from_slice(bytes);
    Span::new(start, text.len())
}

/// The bytes of a span that was made of this very buffer.
fn range(span: Span) -> std::ops::Range<usize> {
    span.start as usize..span.end as usize
}

fn once(slot: &mut Option<Span>, value: Span, name: &str) -> Result<(), Refusal> {
    if slot.is_some() {
        return refuse(format!("duplicate :{name} header"));
    }
    if value.is_empty() {
        return refuse(format!("empty :{name} header"));
    }
    *slot = Some(value);
    Ok(())
}

/// What the name of a protocol is made of: a token, or two with their version (RFC 9110, 7.8).
fn is_protocol_byte(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~/".contains(byte)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Validity {
    Good,
    /// Other characters than nginx likes in names; `ignore_invalid_headers` decides.
    Odd,
}

/// What bytes of a name say about it.
mod class {
    pub const ODD: u8 = 1;
    pub const UNDERSCORE: u8 = 2;
    pub const BAD: u8 = 4;
}

static CLASSES: [u8; 256] = {
    let mut classes = [class::ODD; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'a'..=b'z' | b'-' | b'0'..=b'9' => 0,
            b'_' => class::UNDERSCORE,
            0..=b' ' | 0x7f | b':' | b'A'..=b'Z' => class::BAD,
            _ => class::ODD,
        };
        byte += 1;
    }
    classes
};

fn check_name(name: &[u8], limits: &HeadLimits) -> Result<Validity, Refusal> {
    let text = name.strip_prefix(b":").unwrap_or(name);
    let found = text.iter().fold(0, |found, byte| found | CLASSES[usize::from(*byte)]);
    if found & class::BAD != 0 {
        let shown = String::from_utf8_lossy(name);
        return refuse(format!("invalid header name: \"{shown}\""));
    }
    let is_odd =
        found & class::ODD != 0 || found & class::UNDERSCORE != 0 && limits.underscores != Underscores::Allow;
    Ok(if is_odd { Validity::Odd } else { Validity::Good })
}

/// Fields about one connection mean nothing in HTTP/2 (RFC 9113, 8.2.2).
fn check_connection(head: &RequestHead, text: &[u8]) -> Result<(), Refusal> {
    for known in [Known::Connection, Known::KeepAlive, Known::TransferEncoding, Known::Upgrade] {
        if head.fields.has(known) {
            return refuse(format!("\"{}\" header", known.name()));
        }
    }
    let mut te = head.fields.all(Known::Te);
    if te.next().is_some_and(|field| !field.value.of(text).eq_ignore_ascii_case(b"trailers"))
        || te.next().is_some()
    {
        return refuse("invalid \"TE\" header");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &[(&str, &str)], limits: &HeadLimits) -> Result<String, String> {
        let (mut reader, mut head, mut text) = (RequestReader::default(), RequestHead::default(), Vec::new());
        for (name, value) in fields {
            let name = append(&mut text, name.as_bytes());
            let value = append(&mut text, value.as_bytes());
            reader.field(Decoded { name, value }, &mut head, &text, limits);
        }
        let protocol = reader.finish(&mut head, &mut text).map_err(|r| format!("{} {r}", r.status))?;
        let show = |span: Span| String::from_utf8_lossy(span.of(&text)).into_owned();
        let mut shown = format!("{} {} {:?}", show(head.line), show(head.path), head.args.map(show));
        for field in &head.fields {
            shown += &format!(" [{}={}]", show(field.name), show(field.value));
        }
        if let Some(protocol) = protocol {
            shown += &format!(" {}", show(protocol));
        }
        Ok(shown)
    }

    #[test]
    fn trailers() {
        let check = |name: &str, value: &str, expected| {
            let mut text = Vec::new();
            let (name, value) = (append(&mut text, name.as_bytes()), append(&mut text, value.as_bytes()));
            assert_eq!(is_trailer(Decoded { name, value }, &text), expected, "{text:?}");
        };
        check("grpc-status", "0", true);
        check("x", "", true);
        check("x_y.z", "\u{e4}", true);
        check(":path", "/", false);
        check("X", "a", false);
        check("x y", "a", false);
        check("x", "a\r\nb: c", false);
        check("x", "a\0", false);
    }

    const GET: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "http"), (":path", "/a?b"), (":authority", "h")];

    fn check(more: &[(&str, &str)], expected: Result<&str, &str>) {
        let fields = [&GET, more].concat();
        let read = read(&fields, &HeadLimits::default());
        let read = read.as_ref().map(String::as_str).map_err(String::as_str);
        assert_eq!(read, expected, "{more:?}");
    }

    #[test]
    fn requests() {
        check(&[], Ok("GET /a?b HTTP/2.0 /a Some(\"b\") [host=h]"));
        check(&[("host", "h")], Ok("GET /a?b HTTP/2.0 /a Some(\"b\") [host=h]"));
        check(
            &[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2")],
            Ok("GET /a?b HTTP/2.0 /a Some(\"b\") [x=y] [cookie=a=1; b=2] [host=h]"),
        );
        check(&[("cookie", "a")], Ok("GET /a?b HTTP/2.0 /a Some(\"b\") [cookie=a] [host=h]"));
        check(
            &[("x_y", "z"), ("te", "trailers")],
            Ok("GET /a?b HTTP/2.0 /a Some(\"b\") [te=trailers] [host=h]"),
        );
    }

    #[test]
    fn a_connect_with_a_protocol_is_an_upgrade() {
        let fields = |protocol: &'static str| {
            let pseudo = [(":method", "CONNECT"), (":protocol", protocol), (":scheme", "https")];
            [&pseudo[..], &[(":path", "/chat?a"), (":authority", "h"), ("x", "y")]].concat()
        };
        let check = |protocol: &'static str, expected: Result<&str, &str>| {
            let read = read(&fields(protocol), &HeadLimits::default());
            assert_eq!(read.as_ref().map(String::as_str).map_err(String::as_str), expected, "{protocol}");
        };
        check(
            "websocket",
            Ok(
                "GET /chat?a HTTP/2.0 /chat Some(\"a\") [x=y] [host=h] [upgrade=websocket] [connection=upgrade] \
                websocket",
            ),
        );
        check("a b", Err("400 client sent invalid :protocol header: \"a b\""));
        check("", Err("400 client sent empty :protocol header"));
    }

    #[test]
    fn refusals() {
        check(&[(":status", "1")], Err("400 client sent unknown pseudo-header \":status\""));
        check(&[(":path", "/")], Err("400 client sent duplicate :path header"));
        check(&[("a", "b"), (":path", "/")], Err("400 client sent out of order pseudo-headers"));
        check(&[("A", "b")], Err("400 client sent invalid header name: \"A\""));
        check(&[("a b", "b")], Err("400 client sent invalid header name: \"a b\""));
        check(&[("a", "b\n")], Err("400 client sent header \"a\" with invalid value: \"b\n\""));
        check(&[("connection", "close")], Err("400 client sent \"Connection\" header"));
        check(&[("transfer-encoding", "chunked")], Err("400 client sent \"Transfer-Encoding\" header"));
        check(&[("te", "gzip")], Err("400 client sent invalid \"TE\" header"));
        check(&[("te", "trailers"), ("te", "trailers")], Err("400 client sent invalid \"TE\" header"));
        check(
            &[("host", "i")],
            Err("400 client sent \":authority\" and \"Host\" headers with different values"),
        );
        check(&[(":protocol", "x")], Err("400 client sent unknown pseudo-header \":protocol\""));
        let check = |fields: &[(&str, &str)], expected: &str| {
            assert_eq!(read(fields, &HeadLimits::default()), Err(expected.to_owned()), "{fields:?}");
        };
        check(&[], "400 client sent no :method header");
        check(&GET[..1], "400 client sent no :scheme header");
        check(&GET[..2], "400 client sent no :path header");
        check(&GET[..3], "400 client sent neither \":authority\" nor \"Host\" header");
        check(&[("a", "b")], "400 client sent no :method header");
        check(&[(":method", "")], "400 client sent empty :method header");
        check(&[(":method", "get")], "400 client sent invalid method: \"get\"");
        check(&[(":scheme", "1")], "400 client sent invalid :scheme header: \"1\"");
        check(&[(":path", "x")], "400 client sent invalid :path header: \"x\"");
        check(&[(":path", "/a b")], "400 client sent invalid :path header: \"/a b\"");
        check(&[(":authority", "a..b")], "400 client sent invalid \":authority\" header");
    }

    #[test]
    fn crumbs_count_as_fields() {
        let limits = HeadLimits { max_fields: 3, ..HeadLimits::default() };
        let crumbs = |count: usize| [&GET[..], &vec![("cookie", "a"); count]].concat();
        assert!(read(&crumbs(3), &limits).is_ok());
        assert_eq!(read(&crumbs(4), &limits), Err("494 client sent too many header lines".into()));
    }
}
