//! The table of requests. Characters are octets (Latin-1); `@REP(n,text)@` is the text n times.
//!
//! What a second request would ask for is called `/smuggled`.

use testkit::places::Places;

/// What must become of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Refused or closed; the origin sees nothing.
    Refused,
    /// Refused or understood; the origin sees at most one request.
    Harmless,
    /// Found out while the body is passed on: the origin may see the beginning of it.
    Streamed,
}

/// One row.
#[derive(Debug)]
pub struct Case {
    /// What is wrong.
    pub name: &'static str,
    /// What must become of it.
    pub wanted: Wanted,
    /// What is sent.
    pub text: &'static str,
}

/// The bytes of a row's text.
pub fn bytes(text: &str) -> Result<Vec<u8>, String> {
    let places = Places::new(std::path::Path::new("/"));
    let expanded = places.expand(text).map_err(|error| error.to_string())?;
    let octet = |c: char| u8::try_from(u32::from(c)).map_err(|_| format!("{c:?} is no octet"));
    expanded.chars().map(octet).collect()
}

const fn no(name: &'static str, text: &'static str) -> Case {
    Case { name, wanted: Wanted::Refused, text }
}

const fn may(name: &'static str, text: &'static str) -> Case {
    Case { name, wanted: Wanted::Harmless, text }
}

const fn stream(name: &'static str, text: &'static str) -> Case {
    Case { name, wanted: Wanted::Streamed, text }
}

/// All rows.
#[rustfmt::skip]
pub const ROWS: &[Case] = &[
    // The request line.
    no("lower-case method", "get / HTTP/1.1\r\nHost: a\r\n\r\n"),
    no("method with a digit", "G3T / HTTP/1.1\r\nHost: a\r\n\r\n"),
    no("method with a high octet", "G\u{c9}T / HTTP/1.1\r\nHost: a\r\n\r\n"),
    no("method with NUL", "G\0T / HTTP/1.1\r\nHost: a\r\n\r\n"),
    no("method with a colon", "GET: / HTTP/1.1\r\nHost: a\r\n\r\n"),
    no("space in front of the method", " GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    no("tab behind the method", "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    no("no target", "GET HTTP/1.1\r\nHost: a\r\n\r\n"),
    no("method alone", "GET\r\nHost: a\r\n\r\n"),
    no("target without a slash", "GET index.html HTTP/1.1\r\nHost: a\r\n\r\n"),
    no("target is a backslash", "GET \\ HTTP/1.1\r\nHost: a\r\n\r\n"),
    no("asterisk for GET", "GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
    no("NUL in the target", "GET /a\0b HTTP/1.1\r\nHost: a\r\n\r\n"),
    no("encoded NUL in the target", "GET /a%00b HTTP/1.1\r\nHost: a\r\n\r\n"),
    no("control character in the target", "GET /a\u{1}b HTTP/1.1\r\nHost: a\r\n\r\n"),
    no("DEL in the target", "GET /a\u{7f}b HTTP/1.1\r\nHost: a\r\n\r\n"),
    no("tab in the target", "GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n"),
    no("bare CR in the target", "GET /a\rb HTTP/1.1\r\nHost: a\r\n\r\n"),
    no("space in the target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
    no("broken escape in the target", "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n"),
    no("half an escape at the end of the path", "GET /a% HTTP/1.1\r\nHost: a\r\n\r\n"),
    no("path above the root", "GET /../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n"),
    no("path above the root, escaped", "GET /%2e%2e/etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n"),
    no("path above the root, behind a folder", "GET /a/../../b HTTP/1.1\r\nHost: a\r\n\r\n"),
    no("bare CR behind the version", "GET / HTTP/1.1\rHost: a\r\n\r\n"),
    no("text behind the version", "GET / HTTP/1.1 x\r\nHost: a\r\n\r\n"),
    no("no version number", "GET / HTTP/\r\nHost: a\r\n\r\n"),
    no("version without a dot", "GET / HTTP/11\r\nHost: a\r\n\r\n"),
    no("version 2.0", "GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
    no("version 3.0", "GET / HTTP/3.0\r\nHost: a\r\n\r\n"),
    no("version 0.5", "GET / HTTP/0.5\r\nHost: a\r\n\r\n"),
    no("version 1.1000", "GET / HTTP/1.1000\r\nHost: a\r\n\r\n"),
    no("version 111.1", "GET / HTTP/111.1\r\nHost: a\r\n\r\n"),
    no("negative version", "GET / HTTP/-1.1\r\nHost: a\r\n\r\n"),
    no("lower-case protocol", "GET / http/1.1\r\nHost: a\r\n\r\n"),
    no("other protocol", "GET / RTSP/1.0\r\nHost: a\r\n\r\n"),
    no("misspelt protocol", "GET / HTTQ/1.1\r\nHost: a\r\n\r\n"),
    no("version with a letter", "GET / HTTP/1.x\r\nHost: a\r\n\r\n"),
    no("TRACE", "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n"),
    no("CONNECT", "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n"),
    no("CONNECT to a path", "CONNECT /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"),
    no("HTTP/0.9 POST", "POST /\r\n\r\n"),
    no("TLS handshake", "\u{16}\u{3}\u{1}\0\u{a5}\u{1}\0\0\u{a1}\u{3}\u{3}abcdefgh\r\n\r\n"),
    no("HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    no("PROXY header", "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    no("binary noise", "\u{80}\u{81}\u{ff}\u{fe}\u{1}\u{2}\r\n\r\n"),
    no("only NULs", "@REP(64,\0)@\r\n\r\n"),
    may("CR in front of the request", "\r\rGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    // Absolute forms.
    no("absolute form without a host", "GET http:///a HTTP/1.1\r\nHost: a\r\n\r\n"),
    no("absolute form with one slash", "GET http:/a HTTP/1.1\r\nHost: a\r\n\r\n"),
    no("absolute form with a broken scheme", "GET ht!tp://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    no("absolute form with user", "GET http://user@a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    no("absolute form with a space", "GET http://a b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    no("absolute form with a broken port", "GET http://a:8x/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    no("absolute form with an unclosed address", "GET http://[::1/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    no("absolute form without Host", "GET http://good.example/ HTTP/1.1\r\n\r\n"),
    no("absolute form, bad Host", "GET http://good.example/ HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    may("absolute form, other Host", "GET http://good.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
    may("absolute form of another scheme", "GET ftp://good.example/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    may("absolute form in the path", "GET /http://evil.example/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    // Host.
    no("no Host", "GET / HTTP/1.1\r\n\r\n"),
    no("two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    no("two equal Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
    no("Host with a slash", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    no("Host with two dots", "GET / HTTP/1.1\r\nHost: a..b\r\n\r\n"),
    no("Host is a dot", "GET / HTTP/1.1\r\nHost: .\r\n\r\n"),
    no("Host with NUL", "GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n"),
    no("Host with a space", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    no("Host with a control character", "GET / HTTP/1.1\r\nHost: a\u{1}b\r\n\r\n"),
    no("Host with an unclosed address", "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"),
    no("Host with a broken port", "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n"),
    no("Host with two ports", "GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n"),
    no("Host with too large a port", "GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n"),
    no("Host is a port", "GET / HTTP/1.1\r\nHost: :80\r\n\r\n"),
    // Header lines.
    may("header without a colon", "GET / HTTP/1.1\r\nHost: a\r\nX-Nothing\r\n\r\n"),
    no("header that begins with a colon", "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n"),
    no("space in front of the colon", "GET / HTTP/1.1\r\nHost: a\r\nX-A : b\r\n\r\n"),
    no("tab in front of the colon", "GET / HTTP/1.1\r\nHost: a\r\nX-A\t: b\r\n\r\n"),
    no("space in front of Host's colon", "GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
    no("folded line", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\n\r\n"),
    no("folded line with a tab", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n\tc\r\n\r\n"),
    no("folded first line", "GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
    no("NUL in a name", "GET / HTTP/1.1\r\nHost: a\r\nX\0A: b\r\n\r\n"),
    no("NUL in a value", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\0c\r\n\r\n"),
    no("control character in a name", "GET / HTTP/1.1\r\nHost: a\r\nX\u{1}A: b\r\n\r\n"),
    no("space in a name", "GET / HTTP/1.1\r\nHost: a\r\nX A: b\r\n\r\n"),
    no("bare CR in a name", "GET / HTTP/1.1\r\nHost: a\r\nX\rA: b\r\n\r\n"),
    no("bare CR in front of a name", "GET / HTTP/1.1\r\nHost: a\r\n\rX-A: b\r\n\r\n"),
    may("bare CR in a value", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\rc\r\n\r\n"),
    may("bare CR that hides a header", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\rTransfer-Encoding: chunked\r\n\r\n"),
    may("bare LF line ends", "GET / HTTP/1.1\nHost: a\n\n"),
    may("name that is no token", "GET / HTTP/1.1\r\nHost: a\r\nX(A): b\r\n\r\n"),
    may("name with an underscore", "GET / HTTP/1.1\r\nHost: a\r\nTransfer_Encoding: chunked\r\n\r\n"),
    may("name with a high octet", "GET / HTTP/1.1\r\nHost: a\r\nX\u{e9}: b\r\n\r\n"),
    // Sizes.
    no("target of 9000", "GET /@REP(9000,a)@ HTTP/1.1\r\nHost: a\r\n\r\n"),
    no("target of 100000", "GET /@REP(100000,a)@ HTTP/1.1\r\nHost: a\r\n\r\n"),
    no("method of 100000", "@REP(100000,A)@ / HTTP/1.1\r\nHost: a\r\n\r\n"),
    no("value of 9000", "GET / HTTP/1.1\r\nHost: a\r\nX-A: @REP(9000,a)@\r\n\r\n"),
    no("name of 9000", "GET / HTTP/1.1\r\nHost: a\r\n@REP(9000,X)@: a\r\n\r\n"),
    no("header that never ends", "GET / HTTP/1.1\r\nHost: a\r\nX-A: @REP(300000,a)@"),
    no("40 KB of headers", "GET / HTTP/1.1\r\nHost: a\r\n@REP(1000,X-A: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n)@\r\n"),
    no("body over the limit", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1025\r\n\r\n@REP(1025,a)@"),
    no("body far over the limit, none sent", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999999\r\n\r\n"),
    no("chunked body over the limit", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n800\r\n@REP(2048,a)@\r\n0\r\n\r\n"),
    no("chunk far over the limit", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\naaa"),
    // Content-Length.
    no("negative length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n"),
    no("length with a plus", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\naaaaa"),
    no("length in hexadecimal", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\naaaaa"),
    no("length with a fraction", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5.0\r\n\r\naaaaa"),
    no("length with text", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5a\r\n\r\naaaaa"),
    no("length with a space inside", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1 0\r\n\r\naaaaa"),
    no("length that overflows", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551621\r\n\r\naaaaa"),
    no("list of lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\naaaaa"),
    no("two lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\naaaaaa"),
    no("two equal lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\naaaaa"),
    no("short body", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\naaa"),
    may("body of a GET", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 36\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"),
    // Transfer-Encoding.
    no("length and chunked", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"),
    no("chunked and length", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 40\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"),
    no("chunked twice", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    no("chunked, then identity", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
    no("chunked, chunked", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    no("gzip, chunked", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    no("chunked, gzip", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
    no("identity", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\nContent-Length: 5\r\n\r\naaaaa"),
    no("xchunked", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    no("chunked in quotes", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"),
    no("chunked behind a vertical tab", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \u{b}chunked\r\n\r\n0\r\n\r\n"),
    no("chunked with a parameter", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\n"),
    no("space in front of the colon of chunked", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n"),
    no("folded chunked", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n"),
    no("chunked in HTTP/1.0", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    no("empty coding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\nContent-Length: 5\r\n\r\naaaaa"),
    may("chunked in capitals", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n"),
    may("chunked named by Connection", "POST / HTTP/1.1\r\nHost: a\r\nConnection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    // Chunks.
    no("chunk size with text", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\naaaaa\r\n0\r\n\r\n"),
    no("negative chunk size", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\naaaaa\r\n0\r\n\r\n"),
    no("chunk size with 0x", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\naaaaa\r\n0\r\n\r\n"),
    no("chunk size that overflows", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000005\r\naaaaa\r\n0\r\n\r\n"),
    no("no chunk size", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\r\naaaaa\r\n0\r\n\r\n"),
    no("space in front of a chunk size", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n 5\r\naaaaa\r\n0\r\n\r\n"),
    no("chunk longer than its size", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\naaaaa\r\n0\r\n\r\n"),
    no("chunk size ended by a bare CR", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\raaaaa\r\n0\r\n\r\n"),
    no("NUL in a chunk size", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\0\r\naaaaa\r\n0\r\n\r\n"),
    no("chunked body without an end", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\naaaaa\r\n"),
    may("chunk extension", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\naaaaa\r\n0\r\n\r\n"),
    may("chunk extension with a bare LF", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a\nb\r\naaaaa\r\n0\r\n\r\n"),
    may("request behind the body as a trailer", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nGET /smuggled HTTP/1.1: a\r\n\r\n"),
    may("length as a trailer", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 50\r\n\r\n"),
    may("chunk extension without an end", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;@REP(50000,a)@"),
    // The same when the body is passed on as it comes.
    stream("streamed: chunk size with text", "POST /stream/text HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\naaa\r\nxyz\r\n"),
    stream("streamed: chunk size that overflows", "POST /stream/overflow HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\naaa\r\n10000000000000005\r\naaaaa\r\n0\r\n\r\n"),
    stream("streamed: chunk longer than its size", "POST /stream/long HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\naaaaa\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"),
    stream("streamed: chunk that ends early", "POST /stream/short HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n30\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"),
    stream("streamed: short body", "POST /stream/cut HTTP/1.1\r\nHost: a\r\nContent-Length: 60\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"),
    stream("streamed: chunked over the limit", "POST /stream/limit HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\naaa\r\n800\r\n@REP(2048,a)@\r\n0\r\n\r\n"),
];
