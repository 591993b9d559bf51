//! Texts that are the same for many requests of a connection, such as its addresses in the form that an application wants.
//!
//! They are kept from a connection's second request on: one that ends with its first would pay for nothing.

use std::cell::{Cell, RefCell};

use crate::conf::ServerId;

/// Longest text that is kept, in bytes: an idle connection pays for it.
const LONGEST: usize = 512;
/// Most texts that are kept.
const MOST: usize = 4;

/// Whose texts they are: what makes them, by a number that nothing else has, and for which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub maker: u64,
    pub server: ServerId,
}

/// What a connection keeps for the last owner that asked.
#[derive(Debug, Default)]
pub(crate) struct LastingTexts {
    owner: Cell<Option<Owner>>,
    texts: RefCell<Vec<Box<[u8]>>>,
}

impl LastingTexts {
    /// Appends an owner's text of this number, counted from zero; `make` appends it where it is not kept.
    #[inline]
    pub fn append(&self, owner: Owner, number: usize, out: &mut Vec<u8>, make: impl FnOnce(&mut Vec<u8>)) {
        if self.owner.get() == Some(owner)
            && let Some(text) = self.texts.borrow().get(number)
        {
            return out.extend_from_slice(text);
        }
        let start = out.len();
        make(out);
        self.keep(owner, number, out.get(start..).unwrap_or_default());
    }

    /// Keeps a text behind those before it, if those are kept.
    #[cold]
    fn keep(&self, owner: Owner, number: usize, text: &[u8]) {
        let mut texts = self.texts.borrow_mut();
        if self.owner.replace(Some(owner)) != Some(owner) {
            texts.clear();
        }
        if number == texts.len() && number < MOST && text.len() <= LONGEST {
            texts.reserve_exact(1);
            texts.push(text.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_made_once_for_each_owner() {
        let texts = LastingTexts::default();
        let made = Cell::new(0);
        let check = |maker, server, number, length: usize, expected| {
            let mut out = b"<".to_vec();
            texts.append(Owner { maker, server: ServerId(server) }, number, &mut out, |out| {
                made.set(made.get() + 1);
                out.resize(1 + length, b'a' + number as u8);
            });
            assert_eq!((out.len(), out.last()), (1 + length, Some(&(b'a' + number as u8))));
            assert_eq!(made.take(), expected, "{maker} {server} {number}");
        };
        check(1, 0, 0, 10, 1);
        check(1, 0, 0, 10, 0);
        check(1, 0, 1, 20, 1);
        check(1, 0, 0, 10, 0);
        check(1, 0, 1, 20, 0);
        check(1, 1, 0, 10, 1);
        check(2, 1, 0, 10, 1);
        // Not in order, and too long.
        check(2, 1, 2, 10, 1);
        check(2, 1, 2, 10, 1);
        check(2, 1, 1, LONGEST + 1, 1);
        check(2, 1, 1, LONGEST + 1, 1);
        check(2, 1, 0, 10, 0);
    }
}
