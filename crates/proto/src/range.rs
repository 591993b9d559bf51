//! The Range field: which parts of a body a client asks for (`ngx_http_range_parse`, RFC 9110, 14).
//!
//! A range that nginx cannot read is answered with 416; one that asks for more than there is, with all of it.

/// What a Range field comes to for a body of a known length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ranges {
    /// It is ignored: the whole body is sent with 200.
    Ignore,
    /// 416, with `Content-Range: bytes */LENGTH`.
    NotSatisfiable,
    /// One or more parts `start..end` in bytes, never empty, in the order asked for.
    Parts(Vec<(u64, u64)>),
}

/// Reads a number of at most 63 bits; `None` where it overflows.
fn number(text: &mut &[u8]) -> Option<i64> {
    let mut value = 0i64;
    while let [digit @ b'0'..=b'9', rest @ ..] = text {
        value = value.checked_mul(10)?.checked_add(i64::from(digit - b'0'))?;
        *text = rest;
    }
    Some(value)
}

fn skip_spaces(text: &mut &[u8]) {
    while let [b' ', rest @ ..] = text {
        *text = rest;
    }
}

/// One element of the list: where it starts and where it ends, which may be no later.
fn element(text: &mut &[u8], length: i64) -> Option<(i64, i64)> {
    skip_spaces(text);
    let start = match text {
        [b'-', rest @ ..] => {
            *text = rest;
            None
        }
        [b'0'..=b'9', ..] => {
            let start = number(text)?;
            skip_spaces(text);
            *text = text.strip_prefix(b"-")?;
            skip_spaces(text);
            if matches!(text, [] | [b',', ..]) {
                return Some((start, length));
            }
            Some(start)
        }
        _ => return None,
    };
    if !matches!(text, [b'0'..=b'9', ..]) {
        return None;
    }
    let number = number(text)?;
    skip_spaces(text);
    if !matches!(text, [] | [b',', ..]) {
        return None;
    }
    let (start, last) = match start {
        Some(start) => (start, number),
        None => (length.saturating_sub(number).max(0), length - 1),
    };
    Some((start, if last >= length { length } else { last + 1 }))
}

/// Parses the value of a Range field for a body of `content_length` bytes.
///
/// `max_ranges` is nginx's directive of that name, `None` without it: then many small ranges, whose part
/// headers would weigh more than the body, are ignored too.
#[must_use]
pub fn parse(value: &[u8], content_length: u64, max_ranges: Option<u32>) -> Ranges {
    let Some((unit, mut text)) = value.split_at_checked(6) else { return Ranges::Ignore };
    let Ok(length) = i64::try_from(content_length) else { return Ranges::Ignore };
    if !unit.eq_ignore_ascii_case(b"bytes=") || text.is_empty() || max_ranges == Some(0) {
        return Ranges::Ignore;
    }
    let most = max_ranges.unwrap_or(i32::MAX as u32) as usize;
    let mut parts = Vec::new();
    let mut size = 0i64;
    loop {
        let Some((start, end)) = element(&mut text, length) else { return Ranges::NotSatisfiable };
        if start < end {
            let Some(sum) = size.checked_add(end - start) else { return Ranges::NotSatisfiable };
            size = sum;
            if parts.len() >= most {
                return Ranges::Ignore;
            }
            parts.push((start as u64, end as u64));
        } else if start == 0 {
            return Ranges::Ignore;
        }
        match text.strip_prefix(b",") {
            Some(rest) => text = rest,
            None => break,
        }
    }
    // What nginx reckons for the headers of each part, and the surplus it allows for them.
    const PART: i64 = 256;
    const SURPLUS: i64 = 4096;
    let heavy = max_ranges.is_none()
        && size.saturating_add(parts.len() as i64 * PART) > length.saturating_add(SURPLUS);
    match parts.len() {
        0 => Ranges::NotSatisfiable,
        1 => Ranges::Parts(parts),
        _ if size > length || heavy => Ranges::Ignore,
        _ => Ranges::Parts(parts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(value: &str, length: u64, max: Option<u32>) -> String {
        match parse(value.as_bytes(), length, max) {
            Ranges::Ignore => "ignore".into(),
            Ranges::NotSatisfiable => "416".into(),
            Ranges::Parts(parts) => {
                let texts: Vec<String> = parts.iter().map(|(start, end)| format!("{start}..{end}")).collect();
                texts.join(" ")
            }
        }
    }

    #[test]
    fn ranges() {
        let check = |value: &str, expected: &str| assert_eq!(show(value, 100, None), expected, "{value}");
        check("bytes=0-9", "0..10");
        check("BYTES=0-0", "0..1");
        check("bytes=90-", "90..100");
        check("bytes=90-200", "90..100");
        check("bytes=-10", "90..100");
        check("bytes=-200", "0..100");
        check("bytes= 1 - 2 , 5 - ", "1..3 5..100");
        check("bytes=0-1,5-6,-1", "0..2 5..7 99..100");
        check("bytes=5-6,0-1", "5..7 0..2");
        check("bytes=100-", "416");
        check("bytes=5-4", "416");
        check("bytes=-0", "416");
        check("bytes=100-,0-1", "0..2");
        check("bytes=0-0,0-99", "ignore");
        check("bytes=0-,-1", "ignore");
        check("bytes=a", "416");
        check("bytes=1", "416");
        check("bytes=-", "416");
        check("bytes=1-2;", "416");
        check("bytes=1-2,", "416");
        check("bytes=1-x", "416");
        check("bytes=9223372036854775808-", "416");
        check("bytes=9223372036854775807-", "416");
        check("bytes=1-9223372036854775807", "1..100");
        check("bytes=", "ignore");
        check("byte=1-2", "ignore");
        check("items=1-2", "ignore");
    }

    #[test]
    fn empty_bodies_and_limits() {
        assert_eq!(show("bytes=0-1", 0, None), "ignore");
        assert_eq!(show("bytes=-5", 0, None), "ignore");
        assert_eq!(show("bytes=1-", 0, None), "416");
        assert_eq!(show("bytes=0-1", 10, Some(0)), "ignore");
        assert_eq!(show("bytes=0-1", 10, Some(1)), "0..2");
        assert_eq!(show("bytes=0-1,3-3", 10, Some(1)), "ignore");
        assert_eq!(show("bytes=0-1,3-3", 10, Some(2)), "0..2 3..4");
        let many = format!("bytes={}", ["0-0"; 20].join(","));
        assert_eq!(show(&many, 100, None), "ignore");
        assert_ne!(show(&many, 100, Some(20)), "ignore");
    }
}
