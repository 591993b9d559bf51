//! The known name nearest to a misspelled one.
//!
//! Distance counts inserted, dropped, changed and swapped neighbouring letters, each as one.

use crate::{Contexts, Schema};

/// The nearest name, of the context if one is near enough there, else of all.
pub(crate) fn nearest(name: &str, context: Contexts, schema: &Schema) -> Option<&'static str> {
    let limit = (name.len() / 3).clamp(1, 3);
    let near = |contexts| {
        let candidates = schema.names(contexts).map(|known| (distance(name, known, limit), known));
        candidates.filter(|(far, _)| *far <= limit).min().map(|(_, known)| known)
    };
    // A longer name would cost time and be near to nothing.
    if name.len() > 64 { None } else { near(context).or_else(|| near(Contexts::ANY)) }
}

/// Distance of two names, or `limit + 1` where their lengths alone tell that it is more.
fn distance(a: &str, b: &str, limit: usize) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len().abs_diff(b.len()) > limit {
        return limit + 1;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, right) in b.iter().enumerate() {
            let change = above[j] + usize::from(left != right);
            let mut best = change.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *left == b[j - 1] && a[i - 1] == *right {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::distance;

    #[test]
    fn distances() {
        let check = |a, b, expected| assert_eq!(distance(a, b, 3), expected, "{a} {b}");
        check("listen", "listen", 0);
        check("lisetn", "listen", 1);
        check("listn", "listen", 1);
        check("lissten", "listen", 1);
        check("proxy_pas", "proxy_pass", 1);
        check("ab", "abcdefgh", 4);
        check("", "abc", 3);
    }
}
