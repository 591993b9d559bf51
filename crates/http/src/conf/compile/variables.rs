//! The variables of a configuration while it is read.
//!
//! Some are used before the line that defines them is reached, so whether all are defined is looked at in the end.

use conf::{Error, Order, Word};

use super::Cx;
use crate::variables::{Cache, Change, Compute, Definition, ReadNamed, Reader, Source, Variable, VariableId};

/// Which directive, and when it was read.
pub(super) type Applied = (&'static str, Order);

/// Whether there are servers, into which the settings of `http` are merged.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Merged {
    Yes,
    No,
}

impl Cx<'_> {
    /// The variable of this name, which the text at `word` uses.
    ///
    /// # Errors
    /// `unknown "…" variable`.
    pub fn variable(&mut self, name: &[u8], word: &Word) -> Result<VariableId, Error> {
        if let Some(id) = self.table.find(name) {
            return Ok(id);
        }
        if let Some(id) = self.known_variable(name) {
            return Ok(id);
        }
        // It may be defined further below (`map`, `set`): whether it was is checked at the end.
        self.unresolved.push((name.into(), word.clone(), self.applied));
        Ok(self.assigned_variable(name))
    }

    /// As [`Self::variable`], for what reads its value for every request.
    ///
    /// # Errors
    /// As [`Self::variable`].
    pub fn reader(&mut self, name: &[u8], word: &Word) -> Result<Reader, Error> {
        match self.known(name).and_then(Variable::straight) {
            Some(straight) => Ok(straight),
            None => self.variable(name, word).map(Reader::Kept),
        }
    }

    /// The value of a variable that is the same in every request.
    #[must_use]
    pub fn constant(&self, name: &[u8]) -> Option<&'static str> {
        self.known(name)?.constant
    }

    /// A variable that the modules define.
    fn known(&self, name: &[u8]) -> Option<&'static Variable> {
        self.registry.part(self.side).variables.find(name)
    }

    /// Takes a variable that the modules define into the table.
    fn known_variable(&mut self, name: &[u8]) -> Option<VariableId> {
        if let Some(known) = self.known(name) {
            return Some(self.table.add(Definition {
                name: name.into(),
                source: Source::Plain(known.origin),
                write: known.write,
                cache: known.cache,
            }));
        }
        let prefixes = &self.registry.part(self.side).prefixes;
        let family = prefixes.iter().find(|p| name.starts_with(p.prefix.as_bytes()))?;
        Some(self.table.add(Definition {
            name: name.into(),
            source: Source::Named(family.read, name[family.prefix.len()..].into()),
            write: None,
            cache: Cache::No,
        }))
    }

    /// Defines a variable that is assigned while requests run (`set`, `auth_request_set`).
    ///
    /// # Errors
    /// `the duplicate "…" variable` for one that may not be redefined.
    pub fn define_assigned(&mut self, name: &[u8], word: &Word) -> Result<VariableId, Error> {
        self.check_redefinition(name, word)?;
        self.defined.insert(name.into());
        // A variable with a value of its own (`$args`, `$limit_rate`, `$http_*`, a map) keeps it until it is set.
        match self.table.find(name).or_else(|| self.known_variable(name)) {
            Some(id) => Ok(id),
            None => Ok(self.assigned_variable(name)),
        }
    }

    /// As [`Self::define_assigned`]; `unset` computes the value while none is assigned.
    ///
    /// # Errors
    /// As [`Self::define_assigned`].
    pub fn define_assigned_or(
        &mut self,
        name: &[u8],
        word: &Word,
        unset: ReadNamed,
    ) -> Result<VariableId, Error> {
        let id = self.define_assigned(name, word)?;
        if let Some(definition) = self.table.definitions.get_mut(id.0 as usize)
            && matches!(definition.source, Source::Assigned)
            && self.captured.insert(name.into())
        {
            definition.source = Source::Named(unset, name.into());
        }
        Ok(id)
    }

    /// Defines a variable with a computation of its own (`map`, `geo`, `split_clients`).
    ///
    /// # Errors
    /// `the duplicate "…" variable` for one that may not be redefined.
    pub fn define_computed(
        &mut self,
        name: &[u8],
        word: &Word,
        compute: std::sync::Arc<dyn Compute>,
        cache: Cache,
    ) -> Result<VariableId, Error> {
        self.check_redefinition(name, word)?;
        self.defined.insert(name.into());
        let definition =
            Definition { name: name.into(), source: Source::Computed(compute), write: None, cache };
        Ok(match self.table.find(name) {
            Some(id) => {
                self.table.definitions[id.0 as usize] = definition;
                id
            }
            None => self.table.add(definition),
        })
    }

    fn check_redefinition(&self, name: &[u8], word: &Word) -> Result<(), Error> {
        if self.known(name).is_some_and(|known| known.change == Change::Fixed) {
            let shown = String::from_utf8_lossy(name);
            return Err(Error::at(word, format!("the duplicate \"{shown}\" variable")));
        }
        Ok(())
    }

    /// Every variable that is used must be defined somewhere. What is passed on is looked at where settings are merged.
    pub(super) fn check_variables(&self, merged: Merged) -> Result<(), Error> {
        let is_passed_on = |user: &str| user.ends_with("_set_header") || user.ends_with("_param");
        let unknown = self.unresolved.iter().filter(|(name, ..)| !self.defined.contains(name));
        let unknown = unknown.filter(|(.., (user, _))| merged == Merged::Yes || !is_passed_on(user));
        match unknown.min_by_key(|(.., (user, order))| (is_passed_on(user), *order)) {
            Some((name, word, _)) => {
                let shown = String::from_utf8_lossy(name);
                Err(Error::at(word, format!("unknown \"{shown}\" variable")))
            }
            None => Ok(()),
        }
    }

    /// A variable that a named group fills; one with this name is reused.
    ///
    /// # Errors
    /// `the duplicate "…" variable` for one that may not be redefined.
    pub fn capture_variable(&mut self, name: &[u8], word: &Word) -> Result<VariableId, Error> {
        self.check_redefinition(name, word)?;
        self.defined.insert(name.into());
        self.captured.insert(name.into());
        Ok(self.assigned_variable(name))
    }

    fn assigned_variable(&mut self, name: &[u8]) -> VariableId {
        match self.table.find(name) {
            Some(id) => id,
            None => self.table.add(Definition {
                name: name.into(),
                source: Source::Assigned,
                write: None,
                cache: Cache::PerRequest,
            }),
        }
    }
}
