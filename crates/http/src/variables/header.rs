//! Header fields as variables: how a variable's name stands for a field's, and how several fields become one value.
//!
//! `$http_x_real_ip` names `X-Real-IP`: letters in lower case, dashes as underscores.

/// Whether the rest of a variable's name (lower case, underscores) stands for this field's name.
#[must_use]
pub fn name_matches(field: &[u8], variable: &[u8]) -> bool {
    field.len() == variable.len()
        && field.iter().zip(variable).all(|(byte, wanted)| match byte {
            b'-' => *wanted == b'_',
            _ => byte.to_ascii_lowercase() == *wanted,
        })
}

/// Appends the values with a separator between them; says whether there was one at all
/// (`ngx_http_variable_headers_internal`).
pub fn join_values<'a>(values: impl Iterator<Item = &'a [u8]>, separator: &[u8], out: &mut Vec<u8>) -> bool {
    let mut is_first = true;
    for value in values {
        if !is_first {
            out.extend_from_slice(separator);
        }
        is_first = false;
        out.extend_from_slice(value);
    }
    !is_first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let check = |field: &str, variable: &str, expected| {
            assert_eq!(name_matches(field.as_bytes(), variable.as_bytes()), expected, "{field} {variable}");
        };
        check("X-Real-IP", "x_real_ip", true);
        check("x_real_ip", "x_real_ip", true);
        check("X-Real-I", "x_real_ip", false);
        check("Host", "host", true);
        check("Hosu", "host", false);
        check("", "", true);
    }

    #[test]
    fn values() {
        let check = |values: &[&str], expected: Option<&str>| {
            let mut out = Vec::new();
            let found = join_values(values.iter().map(|value| value.as_bytes()), b", ", &mut out);
            assert_eq!(found.then_some(&*out), expected.map(str::as_bytes), "{values:?}");
        };
        check(&[], None);
        check(&[""], Some(""));
        check(&["a"], Some("a"));
        check(&["a", "b"], Some("a, b"));
        check(&["", "b"], Some(", b"));
    }
}
