//! Comparing what must not leak.

use std::hint::black_box;

/// Whether two byte strings are equal, in a time that tells nothing but their lengths.
#[must_use]
pub fn equal_in_constant_time(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let difference = a.iter().zip(b).fold(0, |difference, (a, b)| black_box(difference | (a ^ b)));
    black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::equal_in_constant_time;

    #[test]
    fn equal_is_equal() {
        let check = |a: &str, b: &str| {
            assert_eq!(equal_in_constant_time(a.as_bytes(), b.as_bytes()), a == b, "{a} {b}");
        };
        check("", "");
        check("abc", "abc");
        check("abc", "abd");
        check("bbc", "abc");
        check("abc", "ab");
    }
}
