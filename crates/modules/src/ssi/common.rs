//! What the pages of one client request have in common: variables, groups of expressions, blocks.
//!
//! A page may define them over and over, so there is a limit to each; nginx has none.

use std::cell::RefMut;

use http::request::{Contexts, Request};

/// Most bytes of a variable, of a block, and of all variables' names.
const VALUE_MAX: usize = 64 << 10;
/// Most bytes of all blocks.
const BLOCKS_MAX: usize = 1 << 20;
/// Most variables, and most blocks.
const COUNT_MAX: usize = 1000;

/// Shared by the pages of one client request.
#[derive(Debug, Default)]
pub(super) struct Common {
    variables: Vec<(Vec<u8>, Vec<u8>)>,
    captures: Vec<Vec<u8>>,
    blocks: Vec<Block>,
    /// Bytes in all blocks.
    in_blocks: usize,
}

#[derive(Debug)]
struct Block {
    name: Vec<u8>,
    content: Vec<u8>,
}

/// A limit was exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMuch;

impl Common {
    /// That of `r`, to be used for a moment.
    pub fn of(r: &mut Request) -> RefMut<'_, Self> {
        let mut contexts = r.family().contexts.borrow_mut();
        if contexts.get::<Self>().is_none() {
            contexts.put(Self::default());
        }
        RefMut::map(contexts, Self::within)
    }

    #[expect(clippy::expect_used, reason = "it was put there a line before")]
    fn within(contexts: &mut Contexts) -> &mut Self {
        contexts.get_mut().expect("common to all pages")
    }

    /// A variable of the pages (not of the server), or a group of the last expression.
    pub fn variable(&self, name: &[u8]) -> Option<&[u8]> {
        if let [digit @ b'0'..=b'9'] = name
            && let Some(group) = self.captures.get(usize::from(digit - b'0'))
        {
            return Some(group);
        }
        self.variables.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    /// Sets a variable; a name of one digit that is a group at the moment becomes that, as in nginx.
    pub fn set(&mut self, name: &[u8], value: &[u8]) -> Result<(), TooMuch> {
        if value.len() > VALUE_MAX {
            return Err(TooMuch);
        }
        if let [digit @ b'0'..=b'9'] = name
            && let Some(group) = self.captures.get_mut(usize::from(digit - b'0'))
        {
            *group = value.to_vec();
            return Ok(());
        }
        if let Some((_, known)) = self.variables.iter_mut().find(|(known, _)| known == name) {
            *known = value.to_vec();
            return Ok(());
        }
        if self.variables.len() >= COUNT_MAX {
            return Err(TooMuch);
        }
        self.variables.push((name.to_vec(), value.to_vec()));
        Ok(())
    }

    /// The groups of an expression that matched.
    pub fn set_captures(&mut self, captures: Vec<Vec<u8>>) {
        self.captures = captures;
    }

    /// Begins a block.
    pub fn begin_block(&mut self, name: &[u8]) -> Result<(), TooMuch> {
        if self.blocks.len() >= COUNT_MAX {
            return Err(TooMuch);
        }
        self.blocks.push(Block { name: name.to_vec(), content: Vec::new() });
        Ok(())
    }

    /// Adds to the block that was begun last.
    pub fn add_to_block(&mut self, bytes: &[u8]) -> Result<(), TooMuch> {
        if self.in_blocks + bytes.len() > BLOCKS_MAX {
            return Err(TooMuch);
        }
        self.in_blocks += bytes.len();
        if let Some(block) = self.blocks.last_mut() {
            block.content.extend_from_slice(bytes);
        }
        Ok(())
    }

    /// The content of the first block of this name.
    pub fn block(&self, name: &[u8]) -> Option<&[u8]> {
        self.blocks.iter().find(|block| block.name == name).map(|block| &*block.content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_and_groups() {
        let mut common = Common::default();
        assert_eq!(common.set(b"a", b"1"), Ok(()));
        assert_eq!(common.set(b"a", b"2"), Ok(()));
        assert_eq!(common.variable(b"a"), Some(&b"2"[..]));
        assert_eq!(common.variable(b"1"), None);
        common.set_captures(vec![b"xy".to_vec(), b"y".to_vec()]);
        assert_eq!(common.variable(b"1"), Some(&b"y"[..]));
        assert_eq!(common.variable(b"2"), None);
        assert_eq!(common.set(b"b", &vec![0; VALUE_MAX + 1]), Err(TooMuch));
        for number in 0..COUNT_MAX {
            let _ = common.set(format!("v{number}").as_bytes(), b"");
        }
        assert_eq!(common.set(b"one more", b""), Err(TooMuch));
    }

    #[test]
    fn blocks_are_limited() {
        let mut common = Common::default();
        assert_eq!(common.begin_block(b"a"), Ok(()));
        assert_eq!(common.add_to_block(b"text"), Ok(()));
        assert_eq!(common.begin_block(b"a"), Ok(()));
        assert_eq!(common.add_to_block(b"other"), Ok(()));
        assert_eq!(common.block(b"a"), Some(&b"text"[..]));
        assert_eq!(common.block(b"b"), None);
        assert_eq!(common.add_to_block(&vec![0; BLOCKS_MAX]), Err(TooMuch));
    }
}
