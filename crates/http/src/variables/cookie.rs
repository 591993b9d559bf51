//! One cookie among those that a client sent (`ngx_http_parse_cookie_lines`).
//!
//! All Cookie fields are searched in their order; a name is compared without regard to case, as nginx does.

/// The value of the cookie of this name, in the first field that has it.
pub fn find_cookie<'a>(fields: impl Iterator<Item = &'a [u8]>, name: &[u8]) -> Option<&'a [u8]> {
    find_parameter(fields, name, b';')
}

/// The value of `name=value` among parameters that `separator` parts, in the first field that has it.
pub fn find_parameter<'a>(
    mut fields: impl Iterator<Item = &'a [u8]>,
    name: &[u8],
    separator: u8,
) -> Option<&'a [u8]> {
    fields.find_map(|field| {
        let mut rest = field;
        while !rest.is_empty() {
            let (part, after) = match memchr::memchr(separator, rest) {
                Some(at) => (&rest[..at], &rest[at + 1..]),
                None => (rest, &rest[rest.len()..]),
            };
            if let Some(value) = value_of(part, name) {
                return Some(value);
            }
            rest = without_spaces(after);
        }
        None
    })
}

fn value_of<'a>(part: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = part.split_at_checked(name.len())?;
    if !start.eq_ignore_ascii_case(name) {
        return None;
    }
    without_spaces(rest).strip_prefix(b"=").map(without_spaces)
}

/// Spaces in front do not count; tabs do.
pub(crate) fn without_spaces(text: &[u8]) -> &[u8] {
    let spaces = text.iter().take_while(|byte| **byte == b' ').count();
    &text[spaces..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies() {
        let check = |fields: &[&str], name: &str, expected: Option<&str>| {
            let found = find_cookie(fields.iter().map(|field| field.as_bytes()), name.as_bytes());
            assert_eq!(found, expected.map(str::as_bytes), "{fields:?} {name}");
        };
        check(&["a=1; b=2"], "a", Some("1"));
        check(&["a=1; b=2"], "b", Some("2"));
        check(&["a=1;b=2"], "b", Some("2"));
        check(&["a=1; b=2"], "c", None);
        check(&["ab=1; a=2"], "a", Some("2"));
        check(&["A=1"], "a", Some("1"));
        check(&["a = 1 ;b=2"], "a", Some("1 "));
        check(&["a; a=1"], "a", Some("1"));
        check(&["a"], "a", None);
        check(&["a="], "a", Some(""));
        check(&["a=x=y"], "a", Some("x=y"));
        check(&["b=1", "a=2"], "a", Some("2"));
        check(&["a=1", "a=2"], "a", Some("1"));
        check(&["x=a=1"], "a", None);
        check(&[";;a=1"], "a", Some("1"));
        check(&[], "a", None);
        check(&[""], "a", None);
    }
}
