//! `*_cache_tag`: words that an answer is stored with, to be purged by.

use crate::request::Request;
use crate::variables::Template;

/// Most bytes of the tags of an answer. One with more is not kept, since no purge could be relied on to find it.
const MOST: usize = 16 << 10;

/// The tags of an answer whose head is there; `None`: there are too many.
pub(super) fn of(templates: &[Template], r: &Request) -> Option<Vec<u8>> {
    if templates.is_empty() {
        return Some(Vec::new());
    }
    let mut text = Vec::new();
    for template in templates {
        template.append(r, &mut text);
        text.push(b' ');
    }
    let tags = normal(&text);
    (tags.len() <= MOST).then_some(tags)
}

/// Words that are parted by spaces or commas, as the store wants them: each once, with one space between them.
pub(super) fn normal(text: &[u8]) -> Vec<u8> {
    let words = text.split(|byte| matches!(byte, b' ' | b',' | b'\t')).filter(|word| !word.is_empty());
    let mut known: Vec<&[u8]> = words.collect();
    known.sort_unstable();
    known.dedup();
    known.join(&b' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_parted_by_spaces_and_commas() {
        let check = |text: &str, expected: &str| {
            assert_eq!(String::from_utf8_lossy(&normal(text.as_bytes())), expected, "{text}");
        };
        check("b, a", "a b");
        check(" a,,a\tb ", "a b");
        check(", ", "");
    }
}
