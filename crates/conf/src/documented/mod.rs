//! Every directive that nginx documents or knows, so that none is ever taken for unknown.
//!
//! Contexts and arities follow the tables of nginx's source where a module is there, else the documentation.

mod core;
mod http_core;
mod http_extensions;
mod http_gateways;
mod http_modules;
mod http_proxy;
mod js;
mod mail;
mod stream;

use crate::{Arity, Contexts, Row};

/// Which nginx has the directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edition {
    /// The open-source one, or a free module beside it.
    Open,
    /// The commercial one.
    Commercial,
}

/// A directive of nginx.
#[derive(Clone, Copy, Debug)]
pub struct Documented {
    /// Name, module, contexts, arity and body; without default and documentation.
    pub row: Row,
    /// Which nginx has it.
    pub edition: Edition,
}

const FAMILIES: &[&[Documented]] = &[
    core::ROWS,
    http_core::ROWS,
    http_extensions::ROWS,
    http_gateways::ROWS,
    http_modules::ROWS,
    http_proxy::ROWS,
    js::ROWS,
    mail::ROWS,
    stream::ROWS,
];

/// All of them; one name may come several times, for different contexts.
pub fn documented() -> impl Iterator<Item = &'static Documented> {
    FAMILIES.iter().copied().flatten()
}

const fn open(module: &'static str, name: &'static str, contexts: Contexts, arity: Arity) -> Documented {
    let row = Row::new(name, contexts, arity).module(module).many().not_yet();
    Documented { row, edition: Edition::Open }
}

const fn commercial(
    module: &'static str,
    name: &'static str,
    contexts: Contexts,
    arity: Arity,
) -> Documented {
    Documented { edition: Edition::Commercial, ..open(module, name, contexts, arity) }
}

impl Documented {
    const fn block(self, inside: Contexts) -> Self {
        Self { row: self.row.block(inside), ..self }
    }

    const fn free(self) -> Self {
        Self { row: self.row.free(), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_module_has_two_rows_of_a_name_in_one_context() {
        let rows: Vec<&Row> = documented().map(|known| &known.row).collect();
        for (index, row) in rows.iter().enumerate() {
            let same = |other: &&&Row| other.name == row.name && other.contexts.has(row.contexts);
            for twin in rows.iter().skip(index + 1).filter(same) {
                assert_ne!(twin.module, row.module, "{}", row.name);
                assert_eq!(twin.body, row.body, "{}", row.name);
            }
            assert_ne!(row.contexts, Contexts::NOWHERE, "{}", row.name);
        }
        assert!(rows.len() > 950, "{}", rows.len());
    }
}
