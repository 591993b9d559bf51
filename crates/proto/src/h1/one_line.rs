//! Values that a configuration makes of variables, which may hold what a client has escaped: line ends among it.
//!
//! A line end that is followed by a space stays, since values are folded on purpose (`$ssl_client_cert`).

/// Puts a space in the place of each line end in `text` that would begin another field.
pub fn keep_one_line(text: &mut [u8]) {
    let mut from = 0;
    while let Some(at) = memchr::memchr2(b'\r', b'\n', text.get(from..).unwrap_or_default()) {
        let at = from + at;
        let is_pair = text[at] == b'\r' && text.get(at + 1) == Some(&b'\n');
        from = at + if is_pair { 2 } else { 1 };
        if !matches!(text.get(from), Some(b' ' | b'\t')) {
            text[at..from].fill(b' ');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_begins_another_field() {
        let check = |text: &str, expected: &str| {
            let mut text = text.as_bytes().to_vec();
            keep_one_line(&mut text);
            assert_eq!(text.escape_ascii().to_string(), expected);
        };
        check("", "");
        check("plain", "plain");
        check("a\r\nX: y", "a  X: y");
        check("a\nX: y\rZ", "a X: y Z");
        check("a\r\n", "a  ");
        check("\n", " ");
        check("a\r\r\nb", "a   b");
        check("a\n\tb\r\n c", "a\\n\\tb\\r\\n c");
        check("a\n\r\n b", "a \\r\\n b");
    }
}
