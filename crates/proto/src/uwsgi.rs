//! The uwsgi packet: a header of four bytes, then names and values behind their lengths (uWSGI protocol 1.9).
//!
//! The answer is that of a CGI program.

/// Bytes of the header.
const HEADER: usize = 4;

/// The variables do not fit the packet; their length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("uwsgi request is too big: {0}")]
pub struct TooBig(pub usize);

/// Begins a packet; [`end`] takes what this returns.
#[must_use]
pub fn begin(modifier1: u8, modifier2: u8, out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(&[modifier1, 0, 0, modifier2]);
    out.len()
}

/// Appends what stands before the name of a variable, `length` bytes long; [`begin_value`] follows the name. A length
/// above 65535 is cut off here and there, and refused by [`end`].
pub fn open_variable(length: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&(length as u16).to_le_bytes());
}

/// Appends what stands before a value; [`close_variable`] concludes it once the value is there.
pub fn begin_value(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0, 0]);
}

/// Tells the length of a value that goes from `start` to the end, right in front of it.
pub fn close_variable(start: usize, out: &mut [u8]) {
    let length = out.len().saturating_sub(start) as u16;
    if let Some(told) = start.checked_sub(2).and_then(|at| out.get_mut(at..start)) {
        told.copy_from_slice(&length.to_le_bytes());
    }
}

/// Ends the packet whose variables began at `start`.
///
/// # Errors
/// [`TooBig`] above 65535 bytes.
pub fn end(start: usize, out: &mut [u8]) -> Result<(), TooBig> {
    let length = out.len().saturating_sub(start);
    let Ok(short) = u16::try_from(length) else { return Err(TooBig(length)) };
    if let Some(header) = start.checked_sub(HEADER).and_then(|at| out.get_mut(at..start)) {
        header[1..3].copy_from_slice(&short.to_le_bytes());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push_variable(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        open_variable(name.len(), out);
        out.extend_from_slice(name);
        begin_value(out);
        let start = out.len();
        out.extend_from_slice(value);
        close_variable(start, out);
    }

    #[test]
    fn packets() {
        let mut out = b"before".to_vec();
        let start = begin(5, 7, &mut out);
        push_variable(b"A", b"bc", &mut out);
        push_variable(b"N", &[b'v'; 300], &mut out);
        assert_eq!(end(start, &mut out), Ok(()));
        let mut expected = b"before\x05\x38\x01\x07\x01\0A\x02\0bc\x01\0N\x2c\x01".to_vec();
        expected.extend_from_slice(&[b'v'; 300]);
        assert_eq!(out, expected, "{}", out.escape_ascii());
        push_variable(b"N", &vec![b'v'; 70_000], &mut out);
        assert_eq!(end(start, &mut out), Err(TooBig(70_317)));
    }
}
