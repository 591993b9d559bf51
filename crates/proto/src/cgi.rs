//! The head of a CGI answer (RFC 3875, 6): fields, of which `Status` or `Location` make the status.
//!
//! uwsgi and SCGI servers may send an HTTP status line instead, and nginx takes both.

use base::Span;

use crate::h1::{Known, Progress, ResponseError, ResponseHead};

/// Parses what is new in `buffer` as [`ResponseHead::parse`] does, with or without a status line.
///
/// The head's status is that of the status line, or zero until [`set_status`] was called.
///
/// # Errors
/// [`ResponseError`], but never [`ResponseError::NoStatusLine`].
pub fn parse(
    head: &mut ResponseHead,
    buffer: &[u8],
    max_bytes: usize,
    max_fields: usize,
) -> Result<Progress, ResponseError> {
    match head.parse(buffer, max_bytes, max_fields) {
        Err(ResponseError::NoStatusLine) => {
            head.expect_fields();
            head.parse(buffer, max_bytes, max_fields)
        }
        parsed => parsed,
    }
}

/// A `Status` that does not begin with three digits: where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidStatus(pub Span);

/// Makes the status of a complete head without a status line: `Status`, or 302 with a `Location`, or 200
/// (`ngx_http_fastcgi_process_header`). One with a status line keeps it.
///
/// # Errors
/// [`InvalidStatus`].
pub fn set_status(head: &mut ResponseHead, buffer: &[u8]) -> Result<(), InvalidStatus> {
    if head.status != 0 {
        return Ok(());
    }
    if let Some(field) = head.fields.all(Known::Status).next() {
        let value = field.value;
        let digits =
            value.of(buffer).first_chunk::<3>().filter(|digits| digits.iter().all(u8::is_ascii_digit));
        let Some(digits) = digits else { return Err(InvalidStatus(value)) };
        head.status = digits.iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
        if value.len() > 3 {
            head.status_line = value;
        }
        return Ok(());
    }
    head.status = if head.fields.value(Known::Location, buffer).is_some() { 302 } else { 200 };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_comes_from_a_line_or_a_field() {
        let check = |text: &str, expected: Result<(u16, &str), &str>| {
            let mut head = ResponseHead::default();
            assert_eq!(parse(&mut head, text.as_bytes(), 200, 10), Ok(Progress::Complete), "{text:?}");
            let result = set_status(&mut head, text.as_bytes());
            let line = String::from_utf8_lossy(head.status_line.of(text.as_bytes())).into_owned();
            let shown = |span: Span| String::from_utf8_lossy(span.of(text.as_bytes())).into_owned();
            let found = result.map(|()| (head.status, line)).map_err(|InvalidStatus(at)| shown(at));
            let expected = expected.map(|(status, line)| (status, line.to_owned())).map_err(str::to_owned);
            assert_eq!(found, expected, "{text:?}");
        };
        check("A: b\r\n\r\n", Ok((200, "")));
        check("Status: 404 Not Found\r\n\r\n", Ok((404, "404 Not Found")));
        check("Status: 404\n\n", Ok((404, "")));
        check("Status: 404\r\nStatus: 200\r\n\r\n", Ok((404, "")));
        check("Location: /a\r\n\r\n", Ok((302, "")));
        check("Location: /a\r\nStatus: 201 Made\r\n\r\n", Ok((201, "201 Made")));
        check("HTTP/1.1 503 Busy\r\nStatus: 200\r\n\r\n", Ok((503, "503 Busy")));
        check("Status: 40\r\n\r\n", Err("40"));
        check("Status: OK 200\r\n\r\n", Err("OK 200"));
        check("Status:\r\n\r\n", Err(""));
        check("Status: 2004\r\n\r\n", Ok((200, "2004")));
    }

    #[test]
    fn heads_arrive_in_pieces() {
        let text = b"HTTPX: 1\r\nStatus: 200 OK\r\n\r\nbody";
        let mut head = ResponseHead::default();
        for end in 1..28 {
            assert_eq!(parse(&mut head, &text[..end], 200, 10), Ok(Progress::Partial), "{end}");
        }
        assert_eq!(parse(&mut head, text, 200, 10), Ok(Progress::Complete));
        assert_eq!((head.fields.len(), head.length), (2, 28));
        head.reset();
        assert_eq!(parse(&mut head, text, 20, 10), Err(ResponseError::TooBig));
    }
}
