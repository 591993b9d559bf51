//! All rows by name: those that modules register, and below them everything that nginx documents.
//!
//! A name that only the documentation knows is refused by name, never taken for unknown.

use std::collections::HashMap;

use crate::documented::{Documented, documented};
use crate::row::INCLUDE;
use crate::{Contexts, Row};

/// What is known about a name in a context.
#[derive(Clone, Copy, Debug)]
pub enum Lookup {
    /// A module registered it for this context.
    Registered(&'static Row),
    /// nginx has it in this context, and no module registered it.
    Documented(&'static Row),
    /// It exists, in these other contexts.
    Elsewhere(Contexts),
    /// Nobody knows it.
    Unknown,
}

/// The directives of a program.
#[derive(Debug)]
pub struct Schema {
    registered: HashMap<&'static str, Vec<&'static Row>>,
    documented: HashMap<&'static str, Vec<&'static Documented>>,
    rows: Vec<&'static Row>,
}

impl Schema {
    /// A schema of these rows; one name may have several, for different contexts.
    pub fn new(rows: impl IntoIterator<Item = &'static Row>) -> Self {
        let mut schema = Self { registered: HashMap::new(), documented: HashMap::new(), rows: Vec::new() };
        // First, so that no row of that name can hide it.
        schema.registered.entry(INCLUDE.name).or_default().push(&INCLUDE);
        for row in rows {
            schema.registered.entry(row.name).or_default().push(row);
            schema.rows.push(row);
        }
        for known in documented() {
            schema.documented.entry(known.row.name).or_default().push(known);
        }
        schema
    }

    /// The registered rows in the order of registration.
    pub fn rows(&self) -> impl Iterator<Item = &'static Row> {
        self.rows.iter().copied()
    }

    /// What is known about `name` in a (single) context.
    #[must_use]
    pub fn lookup(&self, name: &str, context: Contexts) -> Lookup {
        if let Some(row) = self.registered_rows(name).find(|row| row.contexts.has(context)) {
            return Lookup::Registered(row);
        }
        if let Some(row) = self.documented_rows(name).find(|row| row.contexts.has(context)) {
            return Lookup::Documented(row);
        }
        let all = self.registered_rows(name).chain(self.documented_rows(name));
        match all.map(|row| row.contexts).reduce(Contexts::or) {
            Some(contexts) => Lookup::Elsewhere(contexts),
            None => Lookup::Unknown,
        }
    }

    /// Whether any directive has this name.
    #[must_use]
    pub fn knows(&self, name: &str) -> bool {
        self.registered.contains_key(name) || self.documented.contains_key(name)
    }

    /// The names that may stand in a context, unsorted and possibly repeated.
    pub fn names(&self, context: Contexts) -> impl Iterator<Item = &'static str> {
        let registered = self.registered.values().flatten().copied();
        let documented = self.documented.values().flatten().map(|known| &known.row);
        registered.chain(documented).filter(move |row| row.contexts.has(context)).map(|row| row.name)
    }

    fn registered_rows(&self, name: &str) -> impl Iterator<Item = &'static Row> {
        self.registered.get(name).into_iter().flatten().copied()
    }

    fn documented_rows(&self, name: &str) -> impl Iterator<Item = &'static Row> {
        self.documented.get(name).into_iter().flatten().map(|known| &known.row)
    }
}
