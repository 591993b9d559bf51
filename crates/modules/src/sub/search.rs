//! Searching for several texts at once without regard to case.
//!
//! A table tells by one byte how far the search may jump ahead (Horspool's, over all texts); a beginning at the
//! end of what is there is told from nothing at all.

/// Texts to search for, in lower case.
#[derive(Debug)]
pub(super) struct Search {
    /// Each with the number of its pair, in the order in which they are tried.
    texts: Vec<(usize, Box<[u8]>)>,
    shortest: usize,
    /// By the byte under the end of the shortest text: how far the next place is at which any text may stand.
    shift: [u8; 256],
}

/// Whether the text that is searched ends where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Text {
    /// This is all of it.
    Whole,
    /// More of it follows.
    GoesOn,
}

/// What a search came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A text.
    Match {
        start: usize,
        length: usize,
        pair: usize,
    },
    /// From here on it may be the beginning of one.
    Beginning(usize),
    Nothing,
}

enum Comparison {
    Equal,
    /// As far as there is something to compare.
    Beginning,
    Different,
}

impl Search {
    /// `texts` are numbered; none is empty.
    pub fn new<'a>(texts: impl Iterator<Item = (usize, &'a [u8])>) -> Self {
        let texts: Vec<(usize, Box<[u8]>)> =
            texts.map(|(pair, text)| (pair, text.to_ascii_lowercase().into())).collect();
        let shortest = texts.iter().map(|(_, text)| text.len()).min().unwrap_or(0);
        let longest_jump = u8::try_from(shortest).unwrap_or(u8::MAX);
        let mut shift = [longest_jump; 256];
        for (_, text) in &texts {
            let fronts = text.iter().take(shortest).rev().zip(0..longest_jump);
            for (byte, distance) in fronts {
                for byte in [*byte, byte.to_ascii_uppercase()] {
                    let shift = &mut shift[usize::from(byte)];
                    *shift = distance.min(*shift);
                }
            }
        }
        Self { texts, shortest, shift }
    }

    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// Number of texts.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// One more than the highest number of a pair.
    pub fn pairs(&self) -> usize {
        self.texts.iter().map(|(pair, _)| pair + 1).max().unwrap_or(0)
    }

    /// The first place from `from` on at which a text stands that is not used up, or may begin at the end.
    pub fn find(&self, text: &[u8], from: usize, end: Text, is_used: impl Fn(usize) -> bool) -> Found {
        let mut start = from;
        while start < text.len() {
            if let Some(byte) = text.get(start + self.shortest - 1) {
                let shift = self.shift[usize::from(*byte)];
                if shift > 0 {
                    start += usize::from(shift);
                    continue;
                }
            }
            for (pair, wanted) in &self.texts {
                if is_used(*pair) {
                    continue;
                }
                match compare(&text[start..], wanted) {
                    Comparison::Equal => return Found::Match { start, length: wanted.len(), pair: *pair },
                    Comparison::Beginning if end == Text::GoesOn => return Found::Beginning(start),
                    Comparison::Beginning | Comparison::Different => {}
                }
            }
            start += 1;
        }
        Found::Nothing
    }
}

fn compare(text: &[u8], wanted: &[u8]) -> Comparison {
    let length = text.len().min(wanted.len());
    let is_alike = text.iter().zip(wanted).all(|(byte, wanted)| byte.to_ascii_lowercase() == *wanted);
    match (is_alike, length == wanted.len()) {
        (true, true) => Comparison::Equal,
        (true, false) => Comparison::Beginning,
        (false, _) => Comparison::Different,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_leftmost_and_first() {
        let check = |texts: &str, text: &str, expected: Option<(usize, usize)>| {
            let search = Search::new(texts.split(' ').map(str::as_bytes).enumerate());
            let found = match search.find(text.as_bytes(), 0, Text::Whole, |_| false) {
                Found::Match { start, pair, .. } => Some((start, pair)),
                _ => None,
            };
            assert_eq!(found, expected, "{texts} in {text}");
        };
        check("c", "abc", Some((2, 0)));
        check("b abc", "xabc", Some((1, 1)));
        check("ab abc", "xabc", Some((1, 0)));
        check("abc ab", "xabd", Some((1, 1)));
        check("needle", "a haystack with a NeEdLe", Some((18, 0)));
        check("needle", "a haystack with a needl", None);
        check("aaa", "aabaaa", Some((3, 0)));
        check("a", "", None);
    }

    #[test]
    fn a_beginning_at_the_end_is_told() {
        let check = |texts: &str, text: &str, expected| {
            let search = Search::new(texts.split(' ').map(str::as_bytes).enumerate());
            assert_eq!(
                search.find(text.as_bytes(), 0, Text::GoesOn, |_| false),
                expected,
                "{texts} in {text}"
            );
        };
        check("abc", "xxab", Found::Beginning(2));
        check("abc", "xxb", Found::Nothing);
        check("abcdef x", "zabc", Found::Beginning(1));
        check("ab abc", "xab", Found::Match { start: 1, length: 2, pair: 0 });
        check("abc ab", "xab", Found::Beginning(1));
    }

    #[test]
    fn long_texts_jump_no_further_than_a_byte_tells() {
        let long = "x".repeat(300) + "y";
        let text = "-".repeat(1000) + &long;
        let search = Search::new([long.as_bytes()].into_iter().enumerate());
        let found = search.find(text.as_bytes(), 0, Text::Whole, |_| false);
        assert_eq!(found, Found::Match { start: 1000, length: 301, pair: 0 });
    }
}
