//! The head of an answer, out of its header block (`ngx_http_grpc_process_header`).

use base::Span;
use proto::h1::{Field, Known, ResponseHead, Version};
use proto::h2::Violation;
use proto::h2::hpack::{BlockLimits, Decoded, Decoder};

/// Why a block is no head of an answer; displays without its subject, as in "upstream sent …".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Invalid(pub String);

impl From<Violation> for Invalid {
    fn from(violation: Violation) -> Self {
        Self(violation.to_string())
    }
}

/// Reads a block into `head`, whose spans lie in `text`; a status below 200 is given back as it is.
pub(super) fn read(
    decoder: &mut Decoder,
    mut block: &[u8],
    limits: BlockLimits,
    head: &mut ResponseHead,
    text: &mut Vec<u8>,
) -> Result<(), Invalid> {
    let mut limits = limits;
    head.reset();
    head.version = Version::HTTP_20;
    let mut result = Ok(());
    while let Some(field) = decoder.next(&mut block, &mut limits, text)? {
        // The rest must be decoded all the same: the next block builds on it.
        if result.is_ok() {
            result = take(field, head, text);
        }
    }
    result?;
    if head.status == 0 {
        return Err(Invalid("sent no :status header".into()));
    }
    head.length = text.len();
    Ok(())
}

fn take(field: Decoded, head: &mut ResponseHead, text: &[u8]) -> Result<(), Invalid> {
    let (name, value) = (field.name.of(text), field.value.of(text));
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    check(name, value)?;
    if !name.starts_with(b":") {
        head.fields.push(Field::new(field.name, trim(field.value, text), Known::of(name)));
        return Ok(());
    }
    if !head.fields.is_empty() || name != b":status" {
        return Err(Invalid(format!("sent invalid header \"{}: {}\"", shown(name), shown(value))));
    }
    if head.status != 0 {
        return Err(Invalid("sent duplicate :status header".into()));
    }
    let digits = (value.len() == 3 && value.iter().all(u8::is_ascii_digit))
        .then(|| value.iter().fold(0u16, |number, digit| number * 10 + u16::from(digit - b'0')));
    let Some(status) = digits.filter(|status| *status >= 100) else {
        return Err(Invalid(format!("sent invalid :status \"{}\"", shown(value))));
    };
    if status == 101 {
        return Err(Invalid(format!("sent unexpected :status \"{}\"", shown(value))));
    }
    head.status = status;
    Ok(())
}

/// Names in lower case without control characters, values without line ends.
fn check(name: &[u8], value: &[u8]) -> Result<(), Invalid> {
    let is_bad = |byte: &u8| matches!(byte, 0..=b' ' | 0x7f | b'A'..=b'Z');
    let rest = name.strip_prefix(b":").unwrap_or(name);
    if rest.iter().any(|byte| is_bad(byte) || *byte == b':')
        || memchr::memchr3(0, b'\r', b'\n', value).is_some()
    {
        let (name, value) = (String::from_utf8_lossy(name), String::from_utf8_lossy(value));
        return Err(Invalid(format!("sent invalid header: \"{name}: {value}\"")));
    }
    Ok(())
}

/// Without the spaces around it, which mean nothing and would not survive HTTP/1.
fn trim(value: Span, text: &[u8]) -> Span {
    let bytes = value.of(text);
    let start = bytes.len() - bytes.trim_ascii_start().len();
    let length = bytes.trim_ascii().len();
    let from = value.start as usize + start;
    Span::new(from, from + length)
}

/// Reads the trailers of a block behind those that are there.
pub(super) fn trailers(
    decoder: &mut Decoder,
    mut block: &[u8],
    limits: BlockLimits,
    trailers: &mut Vec<(Vec<u8>, Vec<u8>)>,
) -> Result<(), Invalid> {
    let (mut limits, mut text) = (limits, Vec::new());
    let mut result = Ok(());
    while let Some(field) = decoder.next(&mut block, &mut limits, &mut text)? {
        let (name, value) = (field.name.of(&text), field.value.of(&text));
        if result.is_err() {
            continue;
        }
        if name.starts_with(b":") {
            result = Err(Invalid(format!("sent invalid trailer \"{}\"", String::from_utf8_lossy(name))));
            continue;
        }
        result = check(name, value);
        trailers.push((name.to_vec(), value.to_vec()));
    }
    result
}

#[cfg(test)]
mod tests {
    use proto::h2::hpack::{Encoder, Indexing};

    use super::*;

    fn check_head(fields: &[(&str, &str)], expected: Result<(u16, usize), &str>) {
        let (mut block, mut encoder) = (Vec::new(), Encoder::default());
        for (name, value) in fields {
            encoder.field(name.as_bytes(), value.as_bytes(), Indexing::Useless, &mut block);
        }
        let (mut head, mut text) = (ResponseHead::default(), Vec::new());
        let limits = BlockLimits { field: 1000, total: 1000 };
        let read = read(&mut Decoder::default(), &block, limits, &mut head, &mut text);
        let read = read.map(|()| (head.status, head.fields.len()));
        assert_eq!(read, expected.map_err(|sentence| Invalid(sentence.into())), "{fields:?}");
    }

    #[test]
    fn heads() {
        check_head(&[(":status", "200"), ("a", "b")], Ok((200, 1)));
        check_head(&[(":status", "103")], Ok((103, 0)));
        check_head(&[("a", "b")], Err("sent no :status header"));
        check_head(&[(":status", "20")], Err("sent invalid :status \"20\""));
        check_head(&[(":status", "2x0")], Err("sent invalid :status \"2x0\""));
        check_head(&[(":status", "101")], Err("sent unexpected :status \"101\""));
        check_head(&[(":status", "200"), (":status", "200")], Err("sent duplicate :status header"));
        check_head(&[(":path", "/")], Err("sent invalid header \":path: /\""));
        check_head(&[("a", "b"), (":status", "200")], Err("sent invalid header \":status: 200\""));
        check_head(&[(":status", "200"), ("a", "b\n")], Err("sent invalid header: \"a: b\n\""));
        check_head(&[(":status", "200"), ("a b", "c")], Err("sent invalid header: \"a b: c\""));
    }
}
