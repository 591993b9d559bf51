//! `gzip_types`, `sub_filter_types` and the like: for which media types a filter acts.
//!
//! A block's first own line replaces what it inherited, and begins with the directive's default type.

use std::sync::Arc;

use conf::{Directive, Error, Level};

use super::compile::Cx;
use crate::response::Response;

/// Media types for which a filter acts; none by default.
#[derive(Clone, Debug, Default)]
pub struct TypeSet {
    /// In lower case.
    types: Arc<Vec<Box<[u8]>>>,
    /// `*`.
    is_any: bool,
    is_own: bool,
}

impl TypeSet {
    /// To be called from `Settings::enter`: the next line is a block's first.
    pub fn enter(&mut self) {
        self.is_own = false;
    }

    /// Applies a line of types or `*` (`ngx_http_types_slot`). `always` are the types that every such line has
    /// besides those that it names.
    pub fn add(&mut self, cx: &mut Cx<'_>, d: &Directive, always: &[&str]) {
        if !self.is_own {
            let always = always.iter().map(|kind| kind.as_bytes().into()).collect();
            *self = Self { types: Arc::new(always), is_any: false, is_own: !d.is_default() };
        }
        for word in &d.args {
            if word.is("*") {
                self.is_any = true;
            }
            if self.is_any {
                return;
            }
            let kind = word.bytes.to_ascii_lowercase().into_boxed_slice();
            if self.types.contains(&kind) {
                if !d.is_default() {
                    let sentence = format!("duplicate MIME type \"{}\"", String::from_utf8_lossy(&kind));
                    cx.notices.push(Error::at(word, sentence).with_level(Level::Warn));
                }
                continue;
            }
            Arc::make_mut(&mut self.types).push(kind);
        }
    }

    /// Whether the answer's type is among them (`ngx_http_test_content_type`).
    #[must_use]
    pub fn matches(&self, response: &Response) -> bool {
        self.is_any || self.has(&response.content_type)
    }

    fn has(&self, kind: &[u8]) -> bool {
        self.types.iter().any(|own| own.eq_ignore_ascii_case(kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_match_in_any_case_and_as_a_whole() {
        let types = vec![(*b"text/html").into(), (*b"text/css").into()];
        let set = TypeSet { types: Arc::new(types), is_any: false, is_own: true };
        assert!(set.has(b"text/html") && set.has(b"Text/CSS"));
        assert!(!set.has(b"text/htm") && !set.has(b"") && !set.has(b"text/html; x"));
        let any = TypeSet { is_any: true, ..TypeSet::default() };
        assert!(any.matches(&Response::default()));
        assert!(!set.matches(&Response::default()));
    }
}
