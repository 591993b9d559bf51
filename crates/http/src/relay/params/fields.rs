//! The fields of a request as parameters: `HTTP_NAME`.
//!
//! Most names are known, and their parameters' too; those lie ready.

use std::sync::LazyLock;

use base::append::push_cut;
use proto::h1::{Field, Fields, Known};

use super::{BEGINNING, FIELD, Layout, Program};

impl Program {
    /// Whether a parameter of the configuration stands for the field.
    fn replaces(&self, known: Known, name: &[u8]) -> bool {
        if known != Known::Other {
            return self.replaced_known & known.bit() != 0;
        }
        self.replaced.iter().any(|replaced| crate::variables::name_matches(name, replaced))
    }

    /// The fields of the request; lines of the same name become one value.
    #[inline(never)]
    pub(super) fn write_fields<L: Layout>(&self, fields: &Fields, head: &[u8], out: &mut Vec<u8>) {
        let all = fields.iter().as_slice();
        let repeats = has_repeats(fields, head);
        for (index, field) in all.iter().enumerate() {
            let own = field.name.of(head);
            if self.replaces(field.known, own) {
                continue;
            }
            let (before, rest) = all.split_at(index);
            if repeats && before.iter().any(|other| is_same_name(field, other, head)) {
                continue;
            }
            let name = FIELD.len() + own.len();
            L::begin_name(name, out);
            match NAMES.get(field.known as usize) {
                Some(known) => push_cut(known, name, out),
                None => push_name(own, out),
            }
            L::end_name(out);
            let start = out.len();
            out.extend_from_slice(field.value.of(head));
            if repeats {
                let separator: &[u8] = if field.known == Known::Cookie { b"; " } else { b", " };
                for other in rest.iter().skip(1).filter(|other| is_same_name(field, other, head)) {
                    out.extend_from_slice(separator);
                    out.extend_from_slice(other.value.of(head));
                }
            }
            L::end_value(name, start, out);
        }
    }
}

/// The parameters of the fields that are [`Known`], in that order; they are as long as the fields' names are with
/// [`FIELD`].
static NAMES: LazyLock<Box<[[u8; BEGINNING]]>> = LazyLock::new(|| {
    let block = |known: Known| {
        let mut name = Vec::with_capacity(BEGINNING);
        push_name(known.name().as_bytes(), &mut name);
        name.resize(BEGINNING, 0);
        name.try_into().unwrap_or([0; BEGINNING])
    };
    Known::all().map(block).collect()
});

/// Appends the name of the parameter that a field of this name is.
#[inline(never)]
fn push_name(field: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(FIELD);
    let start = out.len();
    out.extend_from_slice(field);
    to_param_name(out.get_mut(start..).unwrap_or_default());
}

/// Makes the name of a field that of a parameter. Eight bytes are changed at a time, the last of them perhaps twice: names
/// are too short for what a loop over all of them is made into.
fn to_param_name(name: &mut [u8]) {
    let change = |byte: &mut u8| *byte = if *byte == b'-' { b'_' } else { byte.to_ascii_uppercase() };
    for block in name.as_chunks_mut::<8>().0 {
        block.iter_mut().for_each(change);
    }
    match name.last_chunk_mut::<8>() {
        Some(last) => last.iter_mut().for_each(change),
        None => name.iter_mut().for_each(change),
    }
}

/// Whether any name comes twice.
fn has_repeats(fields: &Fields, head: &[u8]) -> bool {
    let others = Known::Other.bit();
    fields.repeat_any(!others) || fields.repeat_any(others) && do_others_repeat(fields, head)
}

/// Whether any name that is not [`Known`] comes twice. Most requests show by a few bits that none does.
#[inline(never)]
fn do_others_repeat(fields: &Fields, head: &[u8]) -> bool {
    let mut seen = 0u64;
    let all = fields.iter().as_slice();
    all.iter().enumerate().filter(|(_, field)| field.known == Known::Other).any(|(index, field)| {
        let bit = likeness(field.name.of(head));
        let is_new = seen & bit == 0;
        seen |= bit;
        !is_new && all.iter().take(index).any(|other| is_same_name(field, other, head))
    })
}

/// A bit that names share which are the same.
fn likeness(name: &[u8]) -> u64 {
    let last = name.last().map_or(0, u8::to_ascii_lowercase);
    1 << ((name.len() * 7 + usize::from(last)) % 64)
}

fn is_same_name(one: &Field, other: &Field, head: &[u8]) -> bool {
    one.known == other.known
        && (one.known != Known::Other || one.name.of(head).eq_ignore_ascii_case(other.name.of(head)))
}

#[cfg(test)]
mod tests {
    use super::super::Param;
    use super::super::tests::{Shown, param};
    use super::*;
    use proto::h1::{HeadLimits, RequestHead};

    #[test]
    fn fields_become_variables() {
        let check = |params: &[&str], head: &str, expected: &str| {
            let lines: Vec<Param> = params.iter().map(|name| param(name, "x")).collect();
            let text = format!("GET / HTTP/1.1\r\n{head}\r\n");
            let mut line = RequestHead::default();
            line.parse(text.as_bytes(), &HeadLimits::default()).expect("head");
            let mut found = Vec::new();
            Program::new::<Shown>(&lines, &[]).write_fields::<Shown>(
                &line.fields,
                text.as_bytes(),
                &mut found,
            );
            assert_eq!(String::from_utf8_lossy(&found), expected, "{head:?}");
        };
        check(&[], "Host: a\r\nx-one: 1\r\n", "<HTTP_HOST:=a><HTTP_X_ONE;=1>");
        check(&["HTTP_X_ONE", "QUERY"], "X-One: 1\r\nX-Two: 2\r\n", "<HTTP_X_TWO;=2>");
        check(&["http_x_one"], "X-One: 1\r\n", "<HTTP_X_ONE;=1>");
        check(&[], "X: 1\r\nY: 2\r\nx: 3\r\n", "<HTTP_X:=1, 3><HTTP_Y7=2>");
        check(&[], "Cookie: a\r\ncookie: b\r\n", "<HTTP_COOKIE?=a; b>");
        check(&["HTTP_COOKIE"], "Cookie: a\r\ncookie: b\r\n", "");
        check(&["HTTP_IF_RANGE", "http_via"], "if-range: a\r\nVia: b\r\n", "<HTTP_VIA9=b>");
        check(
            &["HTTP_X"],
            "x-abcdefghijk: 1\r\na-b-c-d-: 2\r\n",
            "<HTTP_X_ABCDEFGHIJKC=1><HTTP_A_B_C_D_>=2>",
        );
    }

    #[test]
    fn known_fields_have_their_names() {
        for known in Known::all() {
            let mut name = Vec::new();
            push_name(known.name().as_bytes(), &mut name);
            assert!(NAMES[known as usize].starts_with(&name), "{known:?}");
        }
    }
}
