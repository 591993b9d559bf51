//! Short texts, appended as blocks.
//!
//! To copy as many bytes as a variable says is a call, which takes longer than the few bytes of a name or a number do. To
//! copy a block of a fixed size, and then to cut it to what was wanted, takes none.

/// Appends the first `length` bytes of a text: as a block of `N` where that is enough and the text is as long.
#[inline]
pub fn push_start<const N: usize>(text: &[u8], length: usize, out: &mut Vec<u8>) {
    match text.first_chunk::<N>() {
        Some(block) if length <= N => push_cut(block, length, out),
        _ => out.extend_from_slice(text.get(..length).unwrap_or(text)),
    }
}

/// Appends the first `length` bytes of a block.
#[inline]
pub fn push_cut<const N: usize>(block: &[u8; N], length: usize, out: &mut Vec<u8>) {
    let end = out.len() + length;
    out.extend_from_slice(block);
    out.truncate(end);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts() {
        let check = |text: &str, length: usize, expected: &str| {
            let mut out = b"<".to_vec();
            push_start::<4>(text.as_bytes(), length, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), format!("<{expected}"), "{length} of {text}");
        };
        check("abcdef", 0, "");
        check("abcdef", 3, "abc");
        check("abcdef", 4, "abcd");
        check("abcdef", 5, "abcde");
        check("abc", 2, "ab");
        check("abc", 3, "abc");
        check("abc", 4, "abc");
        check("", 0, "");
    }
}
