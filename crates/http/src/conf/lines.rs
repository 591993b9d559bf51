//! What a directive says that adds up line by line.
//!
//! A block begins with all that stands around it, and the first line of its own takes the place of that.

use std::ops::Deref;
use std::sync::Arc;

use conf::{Directive, Error};

use super::compile::Cx;
use crate::variables::Template;

/// What the lines of such a directive have brought, in their order; a part of the settings of a block.
///
/// Blocks without a line of their own share what they inherit.
#[derive(Clone, Debug)]
pub struct Lines<T> {
    /// `None` as long as there is nothing, which is most of the time.
    values: Option<Arc<Vec<T>>>,
    is_own: bool,
}

impl<T> Lines<T> {
    /// For [`crate::module::Settings::enter`]: the next line is a block's first.
    pub fn enter(&mut self) {
        self.is_own = false;
    }

    /// Whether the block that is being read has had a line of its own.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.is_own
    }
}

impl<T: Clone> Lines<T> {
    /// What the block's own lines have brought; nothing at its first. To be called for a line that brings nothing, too.
    pub fn own(&mut self) -> &mut Vec<T> {
        if !std::mem::replace(&mut self.is_own, true) {
            self.values = None;
        }
        Arc::make_mut(self.values.get_or_insert_default())
    }

    /// Adds what a line of the block brings.
    pub fn push(&mut self, value: T) {
        self.own().push(value);
    }
}

impl Lines<Template> {
    /// Adds the words of a line, such as the conditions of `proxy_no_cache` (`ngx_http_set_predicate_slot`).
    ///
    /// # Errors
    /// Those of [`Template::compile`].
    pub fn push_words(&mut self, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
        let own = self.own();
        for word in &d.args {
            own.push(Template::compile(cx, word)?);
        }
        Ok(())
    }
}

impl<T> Default for Lines<T> {
    fn default() -> Self {
        Self { values: None, is_own: false }
    }
}

impl<T> From<Vec<T>> for Lines<T> {
    fn from(values: Vec<T>) -> Self {
        Self { values: Some(Arc::new(values)), is_own: true }
    }
}

impl<T> Deref for Lines<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        self.values.as_ref().map_or(&[], |values| values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_a_block_replaces_what_it_inherits() {
        let mut outer = Lines::default();
        outer.push(1);
        outer.push(2);
        assert!(outer.is_own());

        let mut inner = outer.clone();
        inner.enter();
        assert_eq!((&*inner, inner.is_own()), (&[1, 2][..], false));
        inner.push(3);
        inner.push(4);
        assert_eq!((&*inner, inner.is_own()), (&[3, 4][..], true));
        assert_eq!(*outer, [1, 2]);
    }

    #[test]
    fn a_line_that_brings_nothing_is_one() {
        let mut lines = Lines::from(vec![1]);
        lines.enter();
        assert!(lines.own().is_empty());
        assert!(lines.is_own() && lines.is_empty());
    }
}
