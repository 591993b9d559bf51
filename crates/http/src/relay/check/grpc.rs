//! The question and the answer of gRPC's health checking protocol (`grpc.health.v1.Health/Check`).
//!
//! Both messages have one field of interest, so the few bytes of protobuf are written and read here.

use os::errlog::Level;

use crate::request::Request;
use crate::variables::name_matches;

/// What is asked.
pub(super) const PATH: &[u8] = b"/grpc.health.v1.Health/Check";
/// `SERVING` of `HealthCheckResponse.ServingStatus`.
const SERVING: u64 = 1;

/// The body of the request: a message that is not compressed, with the service's name as its first field.
pub(super) fn question(service: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(1 << 3 | 2);
        push_varint(service.len() as u64, &mut message);
        message.extend_from_slice(service);
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&[0], &length.to_be_bytes()[..], &message].concat()
}

/// Whether the server says that it serves; or, where it does not know the protocol, whether its status is the expected
/// one.
///
/// # Errors
/// What was being checked.
pub(super) fn test(r: &Request, expected: Option<u32>, body: &[u8]) -> Result<(), &'static str> {
    let status = status(r);
    if status.is_some() && status == expected {
        return Ok(());
    }
    if status != Some(0) {
        r.log(Level::Debug, format_args!("health check grpc-status {status:?}"));
        return Err("checking gRPC status");
    }
    if serving(body) == Some(SERVING) { Ok(()) } else { Err("checking gRPC health") }
}

/// `grpc-status`, from the trailers or, where there is nothing else, the head.
fn status(r: &Request) -> Option<u32> {
    const NAME: &[u8] = b"grpc_status";
    let head = &r.upstream_head;
    let trailer =
        head.trailers.iter().find(|(name, _)| name_matches(name, NAME)).map(|(_, value)| &value[..]);
    let text = trailer.or_else(|| {
        let mut fields = head.head.fields.iter();
        let field = fields.find(|field| name_matches(field.name.of(&head.text), NAME))?;
        Some(field.value.of(&head.text))
    })?;
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The status in the first message of a body; zero, as protobuf has it, where the message does not name one.
fn serving(body: &[u8]) -> Option<u64> {
    let (head, rest) = body.split_first_chunk::<5>()?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    if head[0] != 0 {
        return None;
    }
    let mut message = rest.get(..usize::try_from(length).ok()?)?;
    let mut status = 0;
    while !message.is_empty() {
        let tag = take_varint(&mut message)?;
        match tag & 7 {
            0 => {
                let value = take_varint(&mut message)?;
                if tag >> 3 == 1 {
                    status = value;
                }
            }
            1 => message = message.get(8..)?,
            2 => {
                let length = take_varint(&mut message)?;
                message = message.get(usize::try_from(length).ok()?..)?;
            }
            5 => message = message.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn push_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions() {
        assert_eq!(question(b""), [0, 0, 0, 0, 0]);
        assert_eq!(question(b"a.B"), *b"\0\0\0\0\x05\x0a\x03a.B");
        assert_eq!(question(&[b'x'; 200])[..8], *b"\0\0\0\0\xcb\x0a\xc8\x01");
    }

    #[test]
    fn answers() {
        let check = |body: &[u8], expected| assert_eq!(serving(body), expected, "{body:?}");
        check(b"\0\0\0\0\x02\x08\x01", Some(SERVING));
        check(b"\0\0\0\0\x02\x08\x02", Some(2));
        check(b"\0\0\0\0\0", Some(0));
        // Other fields pass: a number, eight bytes, a text, four bytes.
        check(b"\0\0\0\0\x16\x10\x05\x1912345678\x22\x02ab\x2d1234\x08\x01", Some(SERVING));
        check(b"", None);
        check(b"\x01\0\0\0\x02\x08\x01", None);
        check(b"\0\0\0\0\x03\x08\x01", None);
        check(b"\0\0\0\0\x01\x08", None);
        check(b"\0\0\0\0\x01\x0b", None);
        check(b"\0\0\0\0\x0b\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", None);
    }
}
