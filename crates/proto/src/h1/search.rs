//! Where a byte of some kind comes next: sixteen bytes at once, as most names and values of heads are that short.

use wide::u8x16;

/// Bytes of one step.
const LANES: usize = 16;

/// The offset of the colon behind a name at the beginning of `line`; `None` where there is none so near. A line without
/// one must not cost a search through all that follows it.
#[inline]
pub(crate) fn find_colon(line: &[u8]) -> Option<usize> {
    const NEAR: usize = 4 * LANES;
    let colon = u8x16::splat(b':');
    let near = line.get(..NEAR).unwrap_or(line);
    find(near, 0, |bytes| bytes.simd_eq(colon), |byte| byte == b':')
}

/// The offset of the first byte at or behind `at` that is no letter, digit or hyphen; the length of `buffer` where
/// there is none.
#[inline]
pub(crate) fn find_non_token(buffer: &[u8], at: usize) -> usize {
    let (case, a, zero) = (u8x16::splat(b' '), u8x16::splat(b'a'), u8x16::splat(b'0'));
    let (letters, digits, hyphen) = (u8x16::splat(25), u8x16::splat(9), u8x16::splat(b'-'));
    let is_other = |bytes: u8x16| {
        let (letter, digit) = ((bytes | case) - a, bytes - zero);
        let is_letter = letter.min(letters).simd_eq(letter);
        let is_digit = digit.min(digits).simd_eq(digit);
        !(is_letter | is_digit | bytes.simd_eq(hyphen))
    };
    find(buffer, at, is_other, |byte| !is_token(byte)).unwrap_or(buffer.len())
}

/// Whether a byte is a letter, a digit or a hyphen, of which names of fields are made.
#[inline]
pub(crate) const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-'
}

/// The offset of the first CR, LF or NUL at or behind `at`; the length of `buffer` where there is none.
#[inline]
pub(crate) fn find_control(buffer: &[u8], at: usize) -> usize {
    // Wider steps, for which a call must be made, pay off behind these many bytes.
    const NEAR: usize = 4 * LANES;
    let (cr, lf, nul) = (u8x16::splat(b'\r'), u8x16::splat(b'\n'), u8x16::splat(0));
    let near = buffer.get(..at + NEAR).unwrap_or(buffer);
    let is_control = |bytes: u8x16| bytes.simd_eq(cr) | bytes.simd_eq(lf) | bytes.simd_eq(nul);
    find(near, at, is_control, |byte| matches!(byte, b'\r' | b'\n' | 0)).unwrap_or_else(|| {
        let far = buffer.get(near.len()..).unwrap_or_default();
        memchr::memchr3(b'\r', b'\n', 0, far).map_or(buffer.len(), |offset| near.len() + offset)
    })
}

/// The offset of the first byte up to CR at or behind `at`, which in most values is the CR behind them; `None` where
/// there is none.
#[inline]
pub(crate) fn find_low_control(buffer: &[u8], mut at: usize) -> Option<usize> {
    let cr = u8x16::splat(b'\r');
    let Some(last) = buffer.len().checked_sub(LANES) else {
        let offset = buffer.get(at..)?.iter().position(|byte| *byte <= b'\r')?;
        return Some(at + offset);
    };
    while at < buffer.len() {
        // The last step reaches back over bytes that were seen.
        let from = at.min(last);
        let bytes = u8x16::from(*buffer.get(from..)?.first_chunk::<LANES>()?);
        let found = bytes.min(cr).simd_eq(bytes).to_bitmask() >> (at - from);
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize);
        }
        at = from + LANES;
    }
    None
}

/// The offset of the first byte at or behind `at` that `is_meant`; of many bytes at once `are_meant` tells which.
#[inline]
fn find(
    buffer: &[u8],
    mut at: usize,
    are_meant: impl Fn(u8x16) -> u8x16,
    is_meant: impl Fn(u8) -> bool,
) -> Option<usize> {
    while let Some(step) = buffer.get(at..).and_then(|rest| rest.first_chunk::<LANES>()) {
        let meant = are_meant(u8x16::from(*step)).to_bitmask();
        if meant != 0 {
            return Some(at + meant.trailing_zeros() as usize);
        }
        at += LANES;
    }
    let rest = buffer.get(at..).filter(|rest| !rest.is_empty())?;
    let Some(last) = buffer.last_chunk::<LANES>() else {
        return rest.iter().position(|byte| is_meant(*byte)).map(|offset| at + offset);
    };
    // The last step reaches back over bytes that were seen.
    let meant = are_meant(u8x16::from(*last)).to_bitmask() >> (LANES - rest.len());
    (meant != 0).then(|| at + meant.trailing_zeros() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_found_at_every_distance() {
        for length in 0..150 {
            for byte in 0..=255u8 {
                for tail in [&b""[..], b"\r: tail of the line"] {
                    let mut text = vec![b'x'; length];
                    let at = length.min(3);
                    text.push(byte);
                    text.extend_from_slice(tail);
                    let expected = |is_meant: &dyn Fn(u8) -> bool| {
                        text.iter().skip(at).position(|byte| is_meant(*byte)).map(|offset| at + offset)
                    };
                    let end = text.len();
                    let colon = text.iter().take(64).position(|byte| *byte == b':');
                    assert_eq!(find_colon(&text), colon);
                    assert_eq!(find_non_token(&text, at), expected(&|byte| !is_token(byte)).unwrap_or(end));
                    let is_control = |byte: u8| matches!(byte, b'\r' | b'\n' | 0);
                    assert_eq!(find_control(&text, at), expected(&is_control).unwrap_or(end));
                    assert_eq!(find_low_control(&text, at), expected(&|byte| byte <= b'\r'));
                }
            }
        }
    }

    #[test]
    fn nothing_is_found_behind_the_end() {
        for at in 0..3 {
            assert_eq!((find_colon(b""), find_control(b"", at), find_non_token(b"", at)), (None, 0, 0));
        }
    }
}
