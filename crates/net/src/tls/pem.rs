//! PEM: blocks of base64 between lines that name them, with the header lines of encrypted keys.
//!
//! What lies between blocks is skipped, as OpenSSL does: people keep the text of their certificates there.

/// A block of a PEM file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// What stands behind `BEGIN`, such as `CERTIFICATE`.
    pub label: String,
    /// Header lines, such as `Proc-Type: 4,ENCRYPTED`.
    pub headers: Vec<(String, String)>,
    /// The bytes.
    pub der: Vec<u8>,
}

/// The blocks of a text; what is broken ends the list, as the error says.
///
/// # Errors
/// OpenSSL's reason, such as `bad base64 decode`.
pub fn blocks(text: &[u8]) -> Result<Vec<Block>, &'static str> {
    let mut found = Vec::new();
    let mut lines = text.split(|byte| *byte == b'\n').map(|line| line.trim_ascii());
    while let Some(line) = lines.next() {
        let Some(label) = line.strip_prefix(b"-----BEGIN ").and_then(|rest| rest.strip_suffix(b"-----"))
        else {
            continue;
        };
        let label = String::from_utf8_lossy(label).into_owned();
        let end = format!("-----END {label}-----");
        let mut headers: Vec<(String, String)> = Vec::new();
        let mut base64 = Vec::new();
        loop {
            let line = lines.next().ok_or("error:04800066:PEM routines::bad end line")?;
            if line == end.as_bytes() {
                break;
            }
            match memchr::memchr(b':', line) {
                Some(at) if base64.is_empty() => {
                    let part = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
                    headers.push((part(&line[..at]), part(&line[at + 1..])));
                }
                _ => base64.extend_from_slice(line),
            }
        }
        let der = decode(&base64).ok_or("error:04800064:PEM routines::bad base64 decode")?;
        found.push(Block { label, headers, der });
    }
    Ok(found)
}

/// Decodes base64 with its padding.
#[must_use]
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let padding = text.iter().rev().take(2).take_while(|byte| **byte == b'=').count();
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    for group in text.chunks(4) {
        let mut bits = 0u32;
        for byte in group {
            let value = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                b'=' => 0,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        out.extend_from_slice(&bits.to_be_bytes()[1..]);
    }
    let inner = text.get(..text.len() - padding).unwrap_or_default();
    if inner.contains(&b'=') {
        return None;
    }
    out.truncate(out.len() - padding);
    Some(out)
}

/// Appends base64.
pub fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let shown = digit <= group.len();
            let value = DIGITS[(bits >> (18 - 6 * digit) & 63) as usize];
            out.push(if shown { value } else { b'=' });
        }
    }
}

/// A block as text, lines of 64 as OpenSSL writes them.
#[must_use]
pub fn write(label: &str, der: &[u8]) -> Vec<u8> {
    let mut base64 = Vec::new();
    encode(der, &mut base64);
    let mut out = format!("-----BEGIN {label}-----\n").into_bytes();
    for line in base64.chunks(64) {
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.extend_from_slice(format!("-----END {label}-----\n").as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64() {
        let check = |bytes: &str, text: &str| {
            let mut out = Vec::new();
            encode(bytes.as_bytes(), &mut out);
            assert_eq!(String::from_utf8_lossy(&out), text);
            assert_eq!(decode(text.as_bytes()).as_deref(), Some(bytes.as_bytes()));
        };
        check("", "");
        check("f", "Zg==");
        check("fo", "Zm8=");
        check("foo", "Zm9v");
        check("foob", "Zm9vYg==");
        for bad in ["Zg=", "Z===", "====", "Zm9*", "Zg==Zg=="] {
            assert_eq!(decode(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn texts() {
        let text = b"subject: x\n-----BEGIN A-----\r\nProc-Type: 4,ENCRYPTED\nDEK-Info: X,00\n\nZm9v\nYg==\n\
                     -----END A-----\nbetween\n-----BEGIN B-----\n-----END B-----\n";
        let found = blocks(text).expect("two blocks");
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].label.as_str(), &found[0].der[..]), ("A", &b"foob"[..]));
        assert_eq!(found[0].headers[1], ("DEK-Info".to_owned(), "X,00".to_owned()));
        assert_eq!(blocks(b"nothing"), Ok(Vec::new()));
        assert!(blocks(b"-----BEGIN A-----\nZm9v\n").is_err());
        assert!(blocks(b"-----BEGIN A-----\nZm9\n-----END A-----\n").is_err());
        let der: Vec<u8> = (0..200).collect();
        assert_eq!(blocks(&write("CERTIFICATE", &der)).map(|found| found[0].der.clone()), Ok(der));
    }
}
