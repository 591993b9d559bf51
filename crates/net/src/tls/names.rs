//! The parts of a certificate as text, the way OpenSSL prints them and nginx's variables show them.

use super::der::{Element, Reader, tag};
use super::x509::Certificate;

/// Attributes by the content bytes of their identifiers, with OpenSSL's short names.
const SHORT: [(&[u8], &str); 19] = [
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 4], "SN"),
    (&[0x55, 4, 5], "serialNumber"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 9], "street"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x55, 4, 12], "title"),
    (&[0x55, 4, 13], "description"),
    (&[0x55, 4, 17], "postalCode"),
    (&[0x55, 4, 41], "name"),
    (&[0x55, 4, 42], "GN"),
    (&[0x55, 4, 43], "initials"),
    (&[0x55, 4, 46], "dnQualifier"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1], "emailAddress"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1], "UID"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], "DC"),
];

/// Most attributes of a name that are shown.
const MOST: usize = 200;

struct Attribute<'a> {
    id: &'a [u8],
    value: Element<'a>,
}

/// The attributes of a name, set by set.
fn sets(name: &[u8]) -> Vec<Vec<Attribute<'_>>> {
    let mut found = Vec::new();
    let Ok(mut reader) = Reader::new(name).sequence() else { return found };
    while let Ok(set) = reader.expect(tag::SET) {
        let mut attributes = Vec::new();
        let mut parts = set.reader();
        while let Ok(mut part) = parts.sequence() {
            if let (Ok(id), Ok(value)) = (part.expect(tag::OID), part.element()) {
                attributes.push(Attribute { id: id.content, value });
            }
        }
        found.push(attributes);
        if found.len() >= MOST {
            break;
        }
    }
    found
}

/// A name as RFC 2253 writes it, its last part first: `CN=a,O=b`.
#[must_use]
pub fn rfc2253(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (index, set) in sets(name).iter().rev().enumerate() {
        for (place, attribute) in set.iter().rev().enumerate() {
            if index + place > 0 {
                out.push(if place > 0 { b'+' } else { b',' });
            }
            match short(attribute.id) {
                Some(short) => {
                    out.extend_from_slice(short.as_bytes());
                    out.push(b'=');
                    escape(&utf8(&attribute.value), &mut out);
                }
                None => {
                    out.extend_from_slice(dotted(attribute.id).as_bytes());
                    out.extend_from_slice(b"=#");
                    push_hex_upper(attribute.value.whole, &mut out);
                }
            }
        }
    }
    out
}

/// A name as OpenSSL wrote it in former days: `/O=b/CN=a`.
#[must_use]
pub fn oneline(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for attribute in sets(name).iter().flatten() {
        out.push(b'/');
        match short(attribute.id) {
            Some(short) => out.extend_from_slice(short.as_bytes()),
            None => out.extend_from_slice(dotted(attribute.id).as_bytes()),
        }
        out.push(b'=');
        for byte in attribute.value.content {
            match byte {
                b' '..=b'~' => out.push(*byte),
                _ => {
                    out.extend_from_slice(b"\\x");
                    push_hex_upper(&[*byte], &mut out);
                }
            }
        }
    }
    out
}

fn short(id: &[u8]) -> Option<&'static str> {
    SHORT.iter().find(|(known, _)| *known == id).map(|(_, short)| *short)
}

/// An identifier in numbers and dots.
fn dotted(id: &[u8]) -> String {
    let mut numbers = Vec::new();
    let mut number = 0u64;
    for byte in id {
        number = number << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if numbers.is_empty() {
                let first = (number / 40).min(2);
                numbers.push(first);
                number -= first * 40;
            }
            numbers.push(number);
            number = 0;
        }
    }
    let numbers: Vec<String> = numbers.iter().map(u64::to_string).collect();
    numbers.join(".")
}

/// A string as UTF-8, whatever kind of string it is.
fn utf8(value: &Element<'_>) -> Vec<u8> {
    const T61: u8 = 0x14;
    const UNIVERSAL: u8 = 0x1c;
    const BMP: u8 = 0x1e;
    let of_chars = |chars: &mut dyn Iterator<Item = u32>| {
        chars.map(|code| char::from_u32(code).unwrap_or('\u{fffd}')).collect::<String>().into_bytes()
    };
    match value.tag {
        BMP => {
            let mut chars = value
                .content
                .chunks(2)
                .map(|pair| pair.iter().fold(0, |all, byte| all << 8 | u32::from(*byte)));
            of_chars(&mut chars)
        }
        UNIVERSAL => {
            let mut chars = value
                .content
                .chunks(4)
                .map(|four| four.iter().fold(0, |all, byte| all << 8 | u32::from(*byte)));
            of_chars(&mut chars)
        }
        T61 => of_chars(&mut value.content.iter().map(|byte| u32::from(*byte))),
        _ => value.content.to_vec(),
    }
}

fn escape(text: &[u8], out: &mut Vec<u8>) {
    for (at, byte) in text.iter().enumerate() {
        let is_edge_space = *byte == b' ' && (at == 0 || at + 1 == text.len());
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => out.extend_from_slice(&[b'\\', *byte]),
            b'#' if at == 0 => out.extend_from_slice(b"\\#"),
            b' ' if is_edge_space => out.extend_from_slice(b"\\ "),
            b' '..=b'~' => out.push(*byte),
            _ => {
                out.push(b'\\');
                push_hex_upper(&[*byte], out);
            }
        }
    }
}

fn push_hex_upper(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}

/// The serial number in hexadecimal.
#[must_use]
pub fn serial(certificate: &Certificate) -> Vec<u8> {
    let bytes = certificate.serial();
    let mut out = Vec::new();
    let (sign, bytes): (&[u8], Vec<u8>) = if bytes.first().is_some_and(|byte| byte & 0x80 != 0) {
        (b"-", negated(bytes))
    } else {
        (b"", bytes.to_vec())
    };
    out.extend_from_slice(sign);
    let digits = match &bytes[..] {
        [0, rest @ ..] if !rest.is_empty() => rest,
        all => all,
    };
    push_hex_upper(digits, &mut out);
    out
}

/// The magnitude of a negative number.
fn negated(bytes: &[u8]) -> Vec<u8> {
    let mut carry = true;
    let mut out: Vec<u8> = bytes
        .iter()
        .rev()
        .map(|byte| {
            let (sum, overflows) = (!byte).overflowing_add(u8::from(carry));
            carry = overflows;
            sum
        })
        .collect();
    out.reverse();
    out
}

/// A time as OpenSSL prints it: `Nov 25 23:00:00 2026 GMT`.
#[must_use]
pub fn time(seconds: i64) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days since the first of March of the year zero.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let of_year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * of_year + of_year / 4 - of_year / 100);
    let part = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * part + 2) / 5 + 1;
    let month = if part < 10 { part + 2 } else { part - 10 };
    let year = of_year + era * 400 + i64::from(month < 2);
    let name = MONTHS[usize::try_from(month).unwrap_or(0) % 12];
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{name} {day:2} {hour:02}:{minute:02}:{second:02} {year} GMT")
}

/// The SHA-1 of a certificate, which variables show as its fingerprint.
#[must_use]
pub fn fingerprint(der: &[u8]) -> Vec<u8> {
    use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
    digest(&SHA1_FOR_LEGACY_USE_ONLY, der).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::super::der::push;
    use super::*;

    fn name(parts: &[(&[u8], u8, &[u8])]) -> Vec<u8> {
        let mut sets = Vec::new();
        for (id, kind, value) in parts {
            let (mut pair, mut attribute) = (Vec::new(), Vec::new());
            push(tag::OID, id, &mut pair);
            push(*kind, value, &mut pair);
            push(tag::SEQUENCE, &pair, &mut attribute);
            push(tag::SET, &attribute, &mut sets);
        }
        let mut out = Vec::new();
        push(tag::SEQUENCE, &sets, &mut out);
        out
    }

    #[test]
    fn names_are_written_as_openssl_writes_them() {
        let check = |parts: &[(&[u8], u8, &[u8])], new: &str, old: &str| {
            let name = name(parts);
            assert_eq!(String::from_utf8_lossy(&rfc2253(&name)), new);
            assert_eq!(String::from_utf8_lossy(&oneline(&name)), old);
        };
        check(&[(&[0x55, 4, 6], 0x13, b"DE"), (&[0x55, 4, 3], 0x0c, b"a")], "CN=a,C=DE", "/C=DE/CN=a");
        check(&[(&[0x55, 4, 3], 0x0c, b" a,b+\"#\\ ")], "CN=\\ a\\,b\\+\\\"#\\\\\\ ", "/CN= a,b+\"#\\ ");
        check(&[(&[0x55, 4, 3], 0x0c, "é".as_bytes())], "CN=\\C3\\A9", "/CN=\\xC3\\xA9");
        check(&[(&[0x55, 4, 3], 0x1e, &[0, 0xe9])], "CN=\\C3\\A9", "/CN=\\x00\\xE9");
        check(&[(&[0x55, 4, 3], 0x0c, b"#x")], "CN=\\#x", "/CN=#x");
        check(&[(&[0x2a, 3, 4], 0x0c, b"x")], "1.2.3.4=#0C0178", "/1.2.3.4=x");
        check(&[], "", "");
    }

    #[test]
    fn times() {
        assert_eq!(time(0), "Jan  1 00:00:00 1970 GMT");
        assert_eq!(time(1_709_208_000), "Feb 29 12:00:00 2024 GMT");
        assert_eq!(time(2_524_607_999), "Dec 31 23:59:59 2049 GMT");
        assert_eq!(time(-1), "Dec 31 23:59:59 1969 GMT");
        assert_eq!(time(951_868_800), "Mar  1 00:00:00 2000 GMT");
    }

    #[test]
    fn numbers() {
        assert_eq!(dotted(&[0x2a, 0x86, 0x48]), "1.2.840");
        assert_eq!(negated(&[0xff]), [1]);
        assert_eq!(negated(&[0x80, 0]), [0x80, 0]);
    }
}
