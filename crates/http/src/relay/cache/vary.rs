//! Variants of an answer: each has a key made of what a request says in the fields that `Vary` names
//! (`ngx_http_file_cache_vary`).

use ::cache::{Key, Meta};

use super::Case;
use crate::request::Request;

/// Fields whose lists are compared without regard to how they are spaced.
const LISTS: [&[u8]; 3] = [b"accept-charset", b"accept-encoding", b"accept-language"];

/// The key of the variant that a request asks for.
pub(super) fn variant(r: &Request, main: &Key, vary: &[u8]) -> Key {
    let fields = r.line.fields.iter().map(|field| (field.name.of(&r.head), field.value.of(&r.head)));
    variant_of(fields, main, vary)
}

fn variant_of<'a>(
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
    main: &Key,
    vary: &[u8],
) -> Key {
    let mut text = main.bytes().to_vec();
    for name in words(&vary.to_ascii_lowercase()) {
        text.extend_from_slice(name);
        text.push(b':');
        let start = text.len();
        let separate = |text: &mut Vec<u8>| {
            if text.len() > start {
                text.push(b',');
            }
        };
        let values = fields.clone().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        let mut is_first = true;
        for (_, value) in values {
            if LISTS.contains(&name) {
                for word in words(value) {
                    separate(&mut text);
                    text.extend_from_slice(word);
                }
                continue;
            }
            if !std::mem::replace(&mut is_first, false) {
                text.push(b',');
            }
            text.extend_from_slice(value);
        }
        text.extend_from_slice(b"\r\n");
    }
    Key::of(&text)
}

fn words(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| matches!(byte, b' ' | b',')).filter(|word| !word.is_empty())
}

/// Whether an entry is the variant that a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variant {
    /// It is.
    This,
    /// It tells which other one is.
    Other,
    /// It lies where that one belongs, and is another all the same.
    Wrong,
}

/// Goes over to the variant that this request asks for, if the entry is another one.
pub(super) fn select(r: &Request, case: &mut Case, meta: &Meta) -> Variant {
    if meta.vary.is_empty() {
        return Variant::This;
    }
    let wanted = variant(r, &case.main, &meta.vary);
    if wanted == meta.variant {
        return Variant::This;
    }
    if case.is_variant {
        return Variant::Wrong;
    }
    case.choose(wanted, meta);
    Variant::Other
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_that_say_the_same_get_the_same() {
        let key = |vary: &str, fields: &[(&str, &str)]| {
            let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
            variant_of(fields, &Key::of(b"main"), vary.as_bytes())
        };
        let same = |vary: &str, one: &[(&str, &str)], other: &[(&str, &str)]| {
            assert_eq!(key(vary, one), key(vary, other), "{vary}");
        };
        let differ = |vary: &str, one: &[(&str, &str)], other: &[(&str, &str)]| {
            assert_ne!(key(vary, one), key(vary, other), "{vary}");
        };
        same("X", &[("x", "1"), ("y", "2")], &[("Y", "3"), ("X", "1")]);
        differ("X", &[("x", "1")], &[("x", "2")]);
        differ("X", &[("x", "1")], &[]);
        same("Accept-Encoding", &[("accept-encoding", "a,b")], &[("Accept-Encoding", "a, b")]);
        same(
            "accept-language",
            &[("accept-language", "a"), ("accept-language", "b")],
            &[("accept-language", "a,b")],
        );
        differ("x", &[("x", "a,b")], &[("x", "a, b")]);
        same("x", &[("x", "a"), ("x", "b")], &[("x", "a,b")]);
        differ("a", &[], &[("a", "")].map(|_| ("a", "1")));
    }
}
