//! Where a body ends: the only place that decides it, for requests and for responses.
//!
//! A message that could be framed in two ways is refused and never guessed at (RFC 9112, 6.3), as in nginx.

use super::fields::{Field, Fields};
use super::known::Known;
use super::request::RequestHead;
use super::request_line::{Method, Version};
use super::response::ResponseHead;

/// How the body of a request is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body, and nothing was said about one.
    None,
    /// Content-Length, in bytes; zero too, since it is passed on.
    Length(u64),
    /// Chunks follow.
    Chunked,
}

/// How the body of a response is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseFraming {
    /// The status or the method rules out a body, whatever the fields say.
    None,
    /// Content-Length, in bytes.
    Length(u64),
    /// Chunks follow.
    Chunked,
    /// All that comes until the upstream closes.
    UntilClose,
}

/// Why the framing of a message is refused; displays as nginx's sentence without its subject
/// ("client sent ", "upstream sent ").
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// A field that may come once came twice; both lines as they were sent.
    #[error("duplicate header line: \"{line}\", previous value: \"{previous}\"")]
    Duplicate {
        /// The second line.
        line: String,
        /// The first one.
        previous: String,
    },
    /// Two Host fields, for which nginx has words of its own.
    #[error("duplicate host header: \"{line}\", previous value: \"{previous}\"")]
    DuplicateHost {
        /// The second line.
        line: String,
        /// The first one.
        previous: String,
    },
    /// A Content-Length that is no decimal number of at most 63 bits.
    #[error("invalid \"Content-Length\" header")]
    InvalidLength,
    /// Transfer-Encoding in a request older than HTTP/1.1.
    #[error("HTTP/1.0 request with \"Transfer-Encoding\" header")]
    OldTransferEncoding,
    /// Both ways to frame a body at once.
    #[error("\"Content-Length\" and \"Transfer-Encoding\" headers at the same time")]
    LengthAndEncoding,
    /// A status below 100, of which nobody knows whether a body follows.
    #[error("invalid status {0:03}")]
    InvalidStatus(u16),
    /// A coding other than `chunked`, which is the value.
    #[error("unknown \"Transfer-Encoding\": \"{0}\"")]
    UnknownEncoding(String),
}

impl FramingError {
    /// The status that a client is answered with. An upstream's error leads to the next peer or to 502.
    #[must_use]
    pub fn status(&self) -> u16 {
        if matches!(self, Self::UnknownEncoding(_)) { 501 } else { 400 }
    }
}

/// Fields that a request may have once (`ngx_http_headers_in`: Host and the unique ones).
const UNIQUE_IN_REQUESTS: u64 = Known::Host.bit()
    | Known::IfModifiedSince.bit()
    | Known::IfUnmodifiedSince.bit()
    | Known::IfMatch.bit()
    | Known::IfNoneMatch.bit()
    | Known::ContentLength.bit()
    | Known::ContentRange.bit()
    | Known::IfRange.bit()
    | Known::TransferEncoding.bit()
    | Known::Expect.bit()
    | Known::Authorization.bit()
    | Known::ProxyAuthorization.bit();

/// Fields that end a response when they come twice (`ngx_http_upstream_headers_in`).
const UNIQUE_IN_RESPONSES: u64 = Known::ContentLength.bit() | Known::TransferEncoding.bit();

/// Fields of a response of which nginx takes the first and drops the others with a warning.
const FIRST_IN_RESPONSES: u64 = Known::Status.bit()
    | Known::ContentType.bit()
    | Known::Date.bit()
    | Known::LastModified.bit()
    | Known::ETag.bit()
    | Known::Server.bit()
    | Known::Location.bit()
    | Known::Refresh.bit()
    | Known::Expires.bit()
    | Known::XAccelExpires.bit()
    | Known::XAccelRedirect.bit()
    | Known::XAccelLimitRate.bit();

/// The framing of a request (`ngx_http_process_request_header`).
///
/// # Errors
/// [`FramingError`] for duplicates of unique fields, for contradictions, and for what is not understood.
#[inline]
pub fn request_framing(head: &RequestHead, buffer: &[u8]) -> Result<Framing, FramingError> {
    fields_framing(&head.fields, head.version, buffer)
}

/// As [`request_framing`], for requests whose fields came another way.
///
/// # Errors
/// As [`request_framing`].
#[inline]
pub fn fields_framing(fields: &Fields, version: Version, buffer: &[u8]) -> Result<Framing, FramingError> {
    if let Some(pair) = fields.duplicate(UNIQUE_IN_REQUESTS) {
        return Err(duplicate(pair, buffer));
    }
    let length = match fields.value(Known::ContentLength, buffer) {
        Some(value) => Some(content_length(value).ok_or(FramingError::InvalidLength)?),
        None => None,
    };
    let Some(coding) = fields.value(Known::TransferEncoding, buffer) else {
        return Ok(length.map_or(Framing::None, Framing::Length));
    };
    if version < Version::HTTP_11 {
        return Err(FramingError::OldTransferEncoding);
    }
    if !coding.eq_ignore_ascii_case(b"chunked") {
        return Err(unknown(coding));
    }
    if length.is_some() { Err(FramingError::LengthAndEncoding) } else { Ok(Framing::Chunked) }
}

/// The framing of a response to a request with `method` (`ngx_http_proxy_input_filter_init`).
///
/// A status of 101 has no body here; whether a tunnel follows is the caller's to know.
///
/// # Errors
/// [`FramingError`] for two ways of framing, for duplicates and for what is not understood, also where
/// the status rules out a body.
#[inline]
pub fn response_framing(
    head: &ResponseHead,
    buffer: &[u8],
    method: Method,
) -> Result<ResponseFraming, FramingError> {
    let fields = &head.fields;
    // RFC 9110, 15: no such class. nginx takes it for a final one, others for an interim one.
    if head.status < 100 {
        return Err(FramingError::InvalidStatus(head.status));
    }
    if let Some(pair) = fields.duplicate(UNIQUE_IN_RESPONSES) {
        return Err(duplicate(pair, buffer));
    }
    let coding = fields.value(Known::TransferEncoding, buffer);
    let length = fields.value(Known::ContentLength, buffer);
    let framing = match (coding, length) {
        (Some(_), Some(_)) => return Err(FramingError::LengthAndEncoding),
        (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") => ResponseFraming::Chunked,
        (Some(coding), None) => return Err(unknown(coding)),
        (None, Some(value)) => {
            ResponseFraming::Length(content_length(value).ok_or(FramingError::InvalidLength)?)
        }
        (None, None) => ResponseFraming::UntilClose,
    };
    let bodiless = matches!(head.status, 100..=199 | 204 | 304) || method == Method::Head;
    Ok(if bodiless { ResponseFraming::None } else { framing })
}

/// Whether there is any field of a response that nginx drops as a repetition.
#[inline]
#[must_use]
pub fn has_ignored_duplicates(fields: &Fields) -> bool {
    fields.repeat_any(FIRST_IN_RESPONSES)
}

/// Whether nginx drops this field of a response, since it is a repetition of one that counts once.
///
/// `index` is its place in `fields`. The caller warns `upstream sent duplicate header line: …, ignored`.
#[inline]
#[must_use]
pub fn is_ignored_duplicate(fields: &Fields, index: usize) -> bool {
    let Some(field) = fields.get(index) else { return false };
    fields.repeat_any(field.known.bit() & FIRST_IN_RESPONSES)
        && fields.iter().take(index).any(|before| before.known == field.known)
}

/// A decimal number of at most 63 bits and nothing else (`ngx_atoof`): no sign, no list, no space.
#[inline]
#[must_use]
pub fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0u64, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        let next = number.checked_mul(10)?.checked_add(u64::from(digit))?;
        (next <= i64::MAX as u64).then_some(next)
    })
}

#[cold]
fn unknown(coding: &[u8]) -> FramingError {
    FramingError::UnknownEncoding(String::from_utf8_lossy(coding).into_owned())
}

#[cold]
fn duplicate((field, first): (&Field, &Field), buffer: &[u8]) -> FramingError {
    let text = |field: &Field| {
        let name = String::from_utf8_lossy(field.name.of(buffer));
        format!("{name}: {}", String::from_utf8_lossy(field.value.of(buffer)))
    };
    let (line, previous) = (text(field), text(first));
    if field.known == Known::Host {
        FramingError::DuplicateHost { line, previous }
    } else {
        FramingError::Duplicate { line, previous }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{HeadLimits, Progress};
    use super::*;

    fn request(version: &str, lines: &str) -> String {
        let input = format!("POST / HTTP/{version}\r\n{lines}\r\n\r\n");
        let mut head = RequestHead::default();
        assert_eq!(head.parse(input.as_bytes(), &HeadLimits::default()), Ok(Progress::Complete), "{lines:?}");
        match request_framing(&head, input.as_bytes()) {
            Ok(framing) => format!("{framing:?}"),
            Err(error) => format!("{} {error}", error.status()),
        }
    }

    #[test]
    fn requests() {
        let check = |lines: &str, expected: &str| assert_eq!(request("1.1", lines), expected, "{lines:?}");
        check("Host: a", "None");
        check("Content-Length: 0", "Length(0)");
        check("Content-Length: 5", "Length(5)");
        check("content-length:   5  ", "Length(5)");
        check("Content-Length: 005", "Length(5)");
        check("Content-Length: 9223372036854775807", "Length(9223372036854775807)");
        check("Transfer-Encoding: chunked", "Chunked");
        check("Transfer-Encoding: CHUNKED", "Chunked");
        let invalid = "400 invalid \"Content-Length\" header";
        for value in
            ["", "+5", "-5", "5, 5", "5,5", "5 5", "0x5", "5\t", "\t5", "5.0", "９", "9223372036854775808"]
        {
            check(&format!("Content-Length: {value}"), invalid);
        }
        check(
            "Content-Length: 5\r\nContent-length: 5",
            "400 duplicate header line: \"Content-length: 5\", previous value: \"Content-Length: 5\"",
        );
        let both = "400 \"Content-Length\" and \"Transfer-Encoding\" headers at the same time";
        check("Content-Length: 5\r\nTransfer-Encoding: chunked", both);
        check("Transfer-Encoding: chunked\r\nContent-Length: 5", both);
        for value in
            ["xchunked", "chunked, chunked", "gzip, chunked", "identity", "chunked\t", "\tchunked", ""]
        {
            let expected = format!("501 unknown \"Transfer-Encoding\": \"{value}\"");
            check(&format!("Transfer-Encoding: {value}"), &expected);
        }
        let twice = "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity";
        assert!(request("1.1", twice).starts_with("400 duplicate header line"));
        assert!(request("1.1", "Host: a\r\nHost: a").starts_with("400 duplicate host header: \"Host: a\""));
        assert!(request("1.1", "If-Match: a\r\nIf-Match: a").starts_with("400 duplicate"));
        check("Cookie: a\r\nCookie: b\r\nRange: a\r\nRange: b", "None");
        let old = "400 HTTP/1.0 request with \"Transfer-Encoding\" header";
        assert_eq!(request("1.0", "Transfer-Encoding: chunked"), old);
        assert_eq!(request("1.0", "Content-Length: 3"), "Length(3)");
    }

    fn response(status: u16, lines: &str, method: Method) -> String {
        let input = format!("HTTP/1.1 {status} X\r\n{lines}\r\n\r\n");
        let mut head = ResponseHead::default();
        assert_eq!(head.parse(input.as_bytes(), 4096, 100), Ok(Progress::Complete), "{lines:?}");
        match response_framing(&head, input.as_bytes(), method) {
            Ok(framing) => format!("{framing:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn responses() {
        let check = |status, lines, expected| {
            assert_eq!(response(status, lines, Method::Get), expected, "{status} {lines:?}");
        };
        check(200, "A: b", "UntilClose");
        check(200, "Content-Length: 0", "Length(0)");
        check(200, "Content-Length: 7", "Length(7)");
        check(200, "Transfer-Encoding: chunked", "Chunked");
        check(204, "Content-Length: 7", "None");
        check(304, "Transfer-Encoding: chunked", "None");
        check(304, "Content-Length: 7", "None");
        check(101, "Upgrade: x", "None");
        check(103, "Link: x", "None");
        assert_eq!(response(200, "Content-Length: 7", Method::Head), "None");
        let both = "\"Content-Length\" and \"Transfer-Encoding\" headers at the same time";
        check(200, "Content-Length: 7\r\nTransfer-Encoding: chunked", both);
        check(204, "Transfer-Encoding: chunked\r\nContent-Length: 7", both);
        check(200, "Content-Length: 7, 7", "invalid \"Content-Length\" header");
        check(200, "Transfer-Encoding: gzip", "unknown \"Transfer-Encoding\": \"gzip\"");
        assert!(
            response(200, "Content-Length: 7\r\nContent-Length: 7", Method::Get).starts_with("duplicate")
        );
    }

    #[test]
    fn repetitions_that_are_dropped() {
        let input = b"HTTP/1.1 200 OK\r\nETag: 1\r\nVary: a\r\nVary: b\r\nETag: 2\r\n\r\n";
        let mut head = ResponseHead::default();
        assert_eq!(head.parse(input, 4096, 100), Ok(Progress::Complete));
        assert!(has_ignored_duplicates(&head.fields));
        let dropped: Vec<bool> = (0..5).map(|index| is_ignored_duplicate(&head.fields, index)).collect();
        assert_eq!(dropped, [false, false, false, true, false]);
    }
}
