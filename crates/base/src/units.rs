//! Sizes and times as nginx.conf writes them: `8k`, `1m`, `1g`, `30s`, `1h 30m`, `500ms`.
//!
//! Follows `ngx_parse_size`, `ngx_parse_offset` and `ngx_parse_time`, their overflow checks included.

/// The text is no size or time, or its value does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnitError;

/// Bytes of a size such as `512`, `8k` or `1M` (`ngx_parse_size`).
///
/// # Errors
/// [`UnitError`] for anything else, and where the value overflows.
pub fn parse_size(text: &[u8]) -> Result<u64, UnitError> {
    scaled(text, &[(b'k', 10), (b'm', 20)])
}

/// Bytes of an offset, which may also be written in gigabytes: `1g` (`ngx_parse_offset`).
///
/// # Errors
/// [`UnitError`] for anything else, and where the value overflows.
pub fn parse_offset(text: &[u8]) -> Result<u64, UnitError> {
    scaled(text, &[(b'k', 10), (b'm', 20), (b'g', 30)])
}

fn scaled(text: &[u8], units: &[(u8, u32)]) -> Result<u64, UnitError> {
    let (digits, shift) = match text.split_last() {
        Some((last, head)) => match units.iter().find(|(unit, _)| *unit == last.to_ascii_lowercase()) {
            Some((_, shift)) => (head, *shift),
            None => (text, 0),
        },
        None => return Err(UnitError),
    };
    let limit = (i64::MAX as u64) >> shift;
    let value = decimal(digits)?;
    if value > limit { Err(UnitError) } else { Ok(value << shift) }
}

fn decimal(digits: &[u8]) -> Result<u64, UnitError> {
    if digits.is_empty() {
        return Err(UnitError);
    }
    digits.iter().try_fold(0u64, |value, byte| {
        if !byte.is_ascii_digit() {
            return Err(UnitError);
        }
        let next = value.checked_mul(10).and_then(|v| v.checked_add(u64::from(byte - b'0')));
        next.filter(|v| *v <= i64::MAX as u64).ok_or(UnitError)
    })
}

/// Milliseconds of a time such as `60`, `1m30s` or `250ms`; a bare number is seconds (`ngx_parse_time`).
///
/// # Errors
/// [`UnitError`] when units are unknown or not in falling order, and where the value overflows.
pub fn parse_time_ms(text: &[u8]) -> Result<u64, UnitError> {
    parse_time(text, false)
}

/// Seconds of a time; milliseconds are refused, as nginx does for directives that count seconds.
///
/// # Errors
/// As [`parse_time_ms`].
pub fn parse_time_sec(text: &[u8]) -> Result<u64, UnitError> {
    parse_time(text, true)
}

fn parse_time(text: &[u8], in_seconds: bool) -> Result<u64, UnitError> {
    // Years, months, weeks, days, hours, minutes, seconds, milliseconds: each at most once and in this order.
    const UNITS: [(&[u8], u64); 8] = [
        (b"y", 31_536_000),
        (b"M", 2_592_000),
        (b"w", 604_800),
        (b"d", 86_400),
        (b"h", 3_600),
        (b"m", 60),
        (b"s", 1),
        (b"ms", 0),
    ];
    let second = if in_seconds { 1 } else { 1000 };
    let (mut rest, mut next_unit, mut total) = (text, 0usize, 0u64);
    if rest.is_empty() {
        return Err(UnitError);
    }
    while !rest.is_empty() {
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let value = decimal(&rest[..digits])?;
        rest = &rest[digits..];
        let letters =
            if rest.starts_with(b"ms") { 2 } else { usize::from(!rest.is_empty() && rest[0] != b' ') };
        let unit = if letters == 0 { &b"s"[..] } else { &rest[..letters] };
        rest = &rest[letters..];
        let index = UNITS.iter().position(|(name, _)| *name == unit).ok_or(UnitError)?;
        if index < next_unit {
            return Err(UnitError);
        }
        next_unit = index + 1;
        let scale = match UNITS[index].1 {
            0 if in_seconds => return Err(UnitError),
            0 => 1,
            seconds => seconds * second,
        };
        let part = value.checked_mul(scale).ok_or(UnitError)?;
        total = total.checked_add(part).filter(|t| *t <= i64::MAX as u64).ok_or(UnitError)?;
        while rest.first() == Some(&b' ') {
            rest = &rest[1..];
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let check = |text: &str, expected| assert_eq!(parse_size(text.as_bytes()), expected, "{text}");
        check("0", Ok(0));
        check("8k", Ok(8192));
        check("1M", Ok(1 << 20));
        check("1g", Err(UnitError));
        check("", Err(UnitError));
        check("k", Err(UnitError));
        check("9223372036854775807k", Err(UnitError));
        assert_eq!(parse_offset(b"2g"), Ok(2 << 30));
    }

    #[test]
    fn times() {
        let check = |text: &str, expected| assert_eq!(parse_time_ms(text.as_bytes()), expected, "{text}");
        check("60", Ok(60_000));
        check("1m30s", Ok(90_000));
        check("1h 30m", Ok(5_400_000));
        check("250ms", Ok(250));
        check("1s1m", Err(UnitError));
        check("1x", Err(UnitError));
        check("-1", Err(UnitError));
        check("", Err(UnitError));
        assert_eq!(parse_time_sec(b"1M"), Ok(2_592_000));
        assert_eq!(parse_time_sec(b"1ms"), Err(UnitError));
    }
}
