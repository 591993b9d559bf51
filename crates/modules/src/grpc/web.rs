//! gRPC-Web (`grpc_web`): what browsers can send and read, in front of servers that speak gRPC.
//!
//! Messages lie on the wire as in gRPC, or as base64 of that; trailers, which a browser never shows, become a last
//! frame of the body. What is no gRPC answer, such as an error page, becomes one without a body: a browser's client
//! looks at `grpc-status` and knows no other statuses than 200.

use std::io;

use http::chunk::Queue;
use http::credentials::encode_base64;
use http::filters::{BodyFilter, Filtered, More, Taken};
use http::request::Request;
use http::response::Headers;
use net::Buf;
use proto::h1::{Known, Method};

/// The types of a request end in the format of its messages, such as `+proto`.
const BINARY: &[u8] = b"application/grpc-web";
const TEXT: &[u8] = b"application/grpc-web-text";
/// What servers answer.
const GRPC: &[u8] = b"application/grpc";
/// The first byte of a frame that holds trailers.
const TRAILERS: u8 = 0x80;

/// How messages lie on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// As in gRPC.
    Binary,
    /// In base64.
    Text,
}

/// How a request of gRPC-Web has its messages, and the format of these; none where it is another request.
pub(super) fn request(r: &Request) -> Option<(Coding, &[u8])> {
    // An error page may have changed the method since.
    if r.line.method != Method::Post {
        return None;
    }
    parse(r.header(Known::ContentType)?)
}

fn parse(content_type: &[u8]) -> Option<(Coding, &[u8])> {
    let after = |prefix: &[u8]| {
        let (start, rest) = content_type.split_at_checked(prefix.len())?;
        let is_whole = rest.first().is_none_or(|byte| matches!(byte, b'+' | b';' | b' '));
        (start.eq_ignore_ascii_case(prefix) && is_whole).then_some(rest)
    };
    let text = after(TEXT).map(|format| (Coding::Text, format));
    text.or_else(|| after(BINARY).map(|format| (Coding::Binary, format)))
}

/// The coding that the client wants back: that of the request, unless it asks for the other.
fn wanted(r: &Request, coding: Coding) -> Coding {
    r.header(Known::Accept).and_then(parse).map_or(coding, |(coding, _)| coding)
}

/// Turns the head of an answer into one that the client understands.
pub(super) fn answer(r: &mut Request) -> Filtered {
    let Some((coding, _)) = request(r) else { return Filtered::Next };
    let coding = wanted(r, coding);
    let response = &mut r.response;
    let is_grpc = response.content_type.len() >= GRPC.len()
        && response.content_type[..GRPC.len()].eq_ignore_ascii_case(GRPC)
        && response.status < 300;
    response.expect_trailers = false;
    if is_grpc {
        let format = response.content_type.split_off(GRPC.len());
        response.content_type = [if coding == Coding::Text { TEXT } else { BINARY }, &format].concat();
        r.output.add_filter(Box::new(Body::Passed(coding)));
    } else {
        let status = response.status;
        response.content_type = BINARY.to_vec();
        response.charset.clear();
        // An error page without a body is the configuration's own answer, whose fields are added later.
        let is_told = status == 204 || response.headers.by_name(b"grpc-status").next().is_some();
        if !is_told {
            response.headers.push(b"grpc-status", grpc_status(status).as_bytes());
            response.headers.push(b"grpc-message", format!("HTTP status {status}").as_bytes());
        }
        r.output.add_filter(Box::new(Body::Dropped));
    }
    let response = &mut r.response;
    response.status = 200;
    response.status_line.clear();
    response.clear_content_length();
    response.clear_accept_ranges();
    if !is_grpc {
        response.content_length = Some(0);
    }
    Filtered::Next
}

/// What a status of HTTP means to gRPC (`http-grpc-status-mapping` of its documentation), and a body that is too large.
fn grpc_status(status: u16) -> &'static str {
    match status {
        400 => "13",
        401 => "16",
        403 => "7",
        404 => "12",
        413 => "8",
        429 | 502 | 503 | 504 => "14",
        _ => "2",
    }
}

/// The body of an answer.
enum Body {
    /// It passes, with the trailers behind it.
    Passed(Coding),
    /// The client would not know what to do with it.
    Dropped,
}

impl BodyFilter for Body {
    fn filter(
        &mut self,
        r: &mut Request,
        input: &mut Queue,
        output: &mut Queue,
        more: More,
    ) -> io::Result<Taken> {
        let Self::Passed(coding) = self else {
            input.clear();
            return Ok(Taken::All);
        };
        let mut last = Vec::new();
        if more == More::End {
            trailers(&r.response.trailers, &mut last);
            r.response.trailers.clear();
        }
        match coding {
            Coding::Binary => {
                output.append(input);
                output.push_bytes(&last);
            }
            Coding::Text => {
                // Each piece is padded, so that a message is readable when it is there.
                let mut pieces = Buf::empty();
                input
                    .iter()
                    .filter_map(|chunk| chunk.bytes())
                    .for_each(|bytes| pieces.extend_from_slice(bytes));
                pieces.extend_from_slice(&last);
                output.push_bytes(&encode_base64(&pieces));
                input.clear();
            }
        }
        Ok(Taken::All)
    }
}

/// Appends the frame of the trailers; none for an answer whose head said all.
fn trailers(trailers: &Headers, out: &mut Vec<u8>) {
    if trailers.is_empty() {
        return;
    }
    let mut text = Vec::new();
    for (name, value, _) in trailers.iter() {
        text.extend(name.iter().map(u8::to_ascii_lowercase));
        text.extend_from_slice(b": ");
        text.extend_from_slice(value);
        text.extend_from_slice(b"\r\n");
    }
    out.push(TRAILERS);
    out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(&text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types() {
        let check = |text: &str, expected: Option<(Coding, &str)>| {
            let expected = expected.map(|(coding, format)| (coding, format.as_bytes()));
            assert_eq!(parse(text.as_bytes()), expected, "{text}");
        };
        check("application/grpc-web", Some((Coding::Binary, "")));
        check("Application/gRPC-Web+proto", Some((Coding::Binary, "+proto")));
        check("application/grpc-web+json; charset=utf-8", Some((Coding::Binary, "+json; charset=utf-8")));
        check("application/grpc-web-text", Some((Coding::Text, "")));
        check("application/grpc-web-text+proto", Some((Coding::Text, "+proto")));
        check("application/grpc-website", None);
        check("application/grpc", None);
        check("application/grpc+proto", None);
        check("", None);
    }

    #[test]
    fn trailers_become_a_frame() {
        let mut headers = Headers::default();
        let mut out = Vec::new();
        trailers(&headers, &mut out);
        assert_eq!(out, b"");
        headers.push(b"grpc-status", b"0");
        headers.push(b"X-Why", b"a b");
        trailers(&headers, &mut out);
        assert_eq!(out, b"\x80\0\0\0\x1cgrpc-status: 0\r\nx-why: a b\r\n");
    }
}
