//! Integers with a prefix (RFC 7541, 5.1), as far as nginx reads them: four bytes at most.

/// Bytes of the longest integer.
const LONGEST: usize = 4;

/// An integer that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadInteger {
    /// It goes on behind the end of the block.
    Cut,
    /// It has more bytes than any honest one.
    Long,
}

/// Reads an integer whose first byte has `bits` bits of it; gives the value and the bytes that it took.
#[inline]
pub(super) fn read(input: &[u8], bits: u32) -> Result<(usize, usize), BadInteger> {
    let most = (1usize << bits) - 1;
    let first = usize::from(*input.first().ok_or(BadInteger::Cut)?) & most;
    if first < most {
        return Ok((first, 1));
    }
    let mut value = most;
    for at in 1..LONGEST {
        let byte = *input.get(at).ok_or(BadInteger::Cut)?;
        value += usize::from(byte & 0x7f) << (7 * (at - 1));
        if byte & 0x80 == 0 {
            return Ok((value, at + 1));
        }
    }
    Err(BadInteger::Long)
}

/// Appends an integer behind the high bits `mark` of its first byte.
#[inline]
pub(super) fn write(value: usize, bits: u32, mark: u8, out: &mut Vec<u8>) {
    let most = (1usize << bits) - 1;
    if value < most {
        out.push(mark | value as u8);
        return;
    }
    out.push(mark | most as u8);
    let mut rest = value - most;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_survive() {
        for bits in 4..=7 {
            for value in (0..300).chain([1336, 1337, 16_383, 16_384, 65_535, 2_000_000]) {
                let mut out = Vec::new();
                write(value, bits, 0, &mut out);
                assert_eq!(read(&out, bits), Ok((value, out.len())), "{value} in {bits} bits");
                for end in 0..out.len() {
                    assert_eq!(read(&out[..end], bits), Err(BadInteger::Cut));
                }
            }
        }
        assert_eq!(read(&[0xff, 0x80, 0x80, 0x80, 0], 7), Err(BadInteger::Long));
    }
}
