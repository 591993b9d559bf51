//! Variables: their table, how they are read and set, and the strings made of them.
//!
//! A variable costs nothing where it is not used; one that is declared cacheable is computed once per request.

mod address;
pub mod clock;
mod cookie;
pub mod core;
mod header;
mod sent;
pub mod stream;
mod template;

use std::collections::HashMap;
use std::sync::Arc;

pub use self::address::push_addr;
pub(crate) use self::cookie::without_spaces;
pub use self::cookie::{find_cookie, find_parameter};
pub use self::header::{join_values, name_matches};
pub use self::template::Template;

use crate::request::Request;

/// Index of a variable in the configuration's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VariableId(pub u32);

/// Appends the value to the buffer and says whether there is one.
pub type Read = fn(&Request, &mut Vec<u8>) -> bool;
/// As [`Read`], for a family of variables; the second argument is the rest of the name.
pub type ReadNamed = fn(&Request, &[u8], &mut Vec<u8>) -> bool;
/// Says where the value lies in the request or the configuration; `None` where there is none.
pub type Find = for<'r> fn(&'r Request) -> Option<&'r [u8]>;
/// Takes a value assigned by `set` and the like.
pub type Write = fn(&mut Request, &[u8]);

/// What a value comes from. Most lie there already, and are copied by whoever wants them.
#[derive(Clone, Copy, Debug, Eq)]
pub enum Origin {
    /// It is made.
    Made(Read),
    /// It lies somewhere.
    Lies(Find),
}

impl Origin {
    /// Appends the value and says whether there is one.
    #[inline]
    pub fn append(self, r: &Request, out: &mut Vec<u8>) -> bool {
        match self {
            Self::Made(read) => read(r, out),
            Self::Lies(find) => match find(r) {
                Some(value) => {
                    out.extend_from_slice(value);
                    true
                }
                None => false,
            },
        }
    }
}

impl PartialEq for Origin {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            // Functions with one address append the same.
            (Self::Made(own), Self::Made(other)) => std::ptr::fn_addr_eq(*own, *other),
            (Self::Lies(own), Self::Lies(other)) => std::ptr::fn_addr_eq(*own, *other),
            _ => false,
        }
    }
}

/// How long a value stays what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasts {
    /// As long as its request, at most.
    Request,
    /// Through all requests of a connection to a server, unless `realip` gives one another client.
    Connection,
}

/// A variable as what reads it for every request holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Nothing assigns or keeps it, so all there is to it is this function.
    Straight(Origin, Lasts),
    /// The table and the request know its value.
    Kept(VariableId),
}

impl Reader {
    /// As [`Request::append_variable`].
    #[inline]
    pub fn append(self, r: &Request, out: &mut Vec<u8>) -> bool {
        match self {
            Self::Straight(origin, _) => origin.append(r, out),
            Self::Kept(id) => r.append_variable(id, out),
        }
    }
}

/// A variable of a module's own, as a row.
pub struct Variable {
    /// Name without the dollar sign.
    pub name: &'static str,
    /// What its value comes from.
    pub origin: Origin,
    /// How it is assigned, where that does more than storing the value.
    pub write: Option<Write>,
    /// Whether its value is computed once per request or each time.
    pub cache: Cache,
    /// Whether `set`, `map` and others may define it anew.
    pub change: Change,
    /// How long its value stays what it is.
    pub lasts: Lasts,
    /// What it is in every request, where that is known at load.
    pub constant: Option<&'static str>,
}

impl Variable {
    /// A variable that is computed each time and may not be redefined.
    #[must_use]
    pub const fn new(name: &'static str, read: Read) -> Self {
        Self::of(name, Origin::Made(read))
    }

    /// As [`Self::new`], for a value that lies somewhere.
    #[must_use]
    pub const fn lying(name: &'static str, find: Find) -> Self {
        Self::of(name, Origin::Lies(find))
    }

    const fn of(name: &'static str, origin: Origin) -> Self {
        Self {
            name,
            origin,
            write: None,
            cache: Cache::No,
            change: Change::Fixed,
            lasts: Lasts::Request,
            constant: None,
        }
    }

    /// Computed once per request.
    #[must_use]
    pub const fn cached(mut self) -> Self {
        self.cache = Cache::PerRequest;
        self
    }

    /// May be defined anew by `set` or `map`.
    #[must_use]
    pub const fn changeable(mut self) -> Self {
        self.change = Change::Redefinable;
        self
    }

    /// The same in every request of a connection to a server.
    #[must_use]
    pub const fn lasting(mut self) -> Self {
        self.lasts = Lasts::Connection;
        self
    }

    /// The same in every request: what is compiled holds its text.
    #[must_use]
    pub const fn always(mut self, text: &'static str) -> Self {
        self.constant = Some(text);
        self
    }

    /// How to read it without the table, where nothing can come before its own function.
    pub(crate) fn straight(&self) -> Option<Reader> {
        let is_plain = self.change == Change::Fixed && self.cache == Cache::No;
        is_plain.then_some(Reader::Straight(self.origin, self.lasts))
    }

    /// Assigning it calls `write`.
    #[must_use]
    pub const fn settable(mut self, write: Write) -> Self {
        self.write = Some(write);
        self.change = Change::Redefinable;
        self
    }
}

/// The variables that the modules define, by name.
#[derive(Clone, Default)]
pub struct KnownVariables(HashMap<&'static [u8], &'static Variable>);

impl KnownVariables {
    /// The first one of a name counts.
    pub(crate) fn add(&mut self, variables: &'static [Variable]) {
        for variable in variables {
            self.0.entry(variable.name.as_bytes()).or_insert(variable);
        }
    }

    pub(crate) fn find(&self, name: &[u8]) -> Option<&'static Variable> {
        self.0.get(name).copied()
    }
}

/// A family of variables such as `$http_*`.
pub struct PrefixVariable {
    /// The prefix without the dollar sign.
    pub prefix: &'static str,
    /// How a member is computed.
    pub read: ReadNamed,
}

/// Whether a value is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// Computed each time.
    No,
    /// Computed once per request.
    PerRequest,
}

/// Whether a variable may be defined anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// `the duplicate "x" variable`.
    Fixed,
    /// Allowed.
    Redefinable,
}

/// A variable whose computation carries data: `map`, `geo`, `split_clients`.
pub trait Compute: Send + Sync {
    /// Appends the value and says whether there is one.
    fn compute(&self, r: &Request, out: &mut Vec<u8>) -> bool;
}

/// How a variable of the table gets its value.
#[derive(Clone)]
pub(crate) enum Source {
    Plain(Origin),
    Named(ReadNamed, Box<[u8]>),
    Computed(Arc<dyn Compute>),
    /// Assigned by `set`, a capture, `auth_request_set`; empty until then.
    Assigned,
}

#[derive(Clone)]
pub(crate) struct Definition {
    pub name: Box<[u8]>,
    pub source: Source,
    pub write: Option<Write>,
    pub cache: Cache,
}

/// The variables that a configuration uses.
#[derive(Default)]
pub struct Table {
    pub(crate) definitions: Vec<Definition>,
    pub(crate) names: HashMap<Box<[u8]>, VariableId>,
}

impl Table {
    pub(crate) fn get(&self, id: VariableId) -> Option<&Definition> {
        self.definitions.get(id.0 as usize)
    }

    /// The variable of this name, if the configuration uses it.
    #[must_use]
    pub fn find(&self, name: &[u8]) -> Option<VariableId> {
        self.names.get(name).copied()
    }

    pub(crate) fn add(&mut self, definition: Definition) -> VariableId {
        let id = VariableId(u32::try_from(self.definitions.len()).unwrap_or(u32::MAX));
        self.names.insert(definition.name.clone(), id);
        self.definitions.push(definition);
        id
    }
}

/// Values that a request keeps: assigned ones and computed ones that are cacheable.
#[derive(Debug, Default)]
pub struct Values {
    slots: Vec<Option<Value>>,
    used: bool,
}

/// A kept value; `None` inside says that the variable was looked for and is not there.
pub(crate) type Value = Option<Box<[u8]>>;

impl Values {
    pub(crate) fn reset(&mut self) {
        if self.used {
            self.slots.clear();
            self.used = false;
        }
    }

    pub(crate) fn get(&self, id: VariableId) -> Option<&Value> {
        self.slots.get(id.0 as usize)?.as_ref()
    }

    pub(crate) fn set(&mut self, id: VariableId, value: Value) {
        let index = id.0 as usize;
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, || None);
        }
        if let Some(slot) = self.slots.get_mut(index) {
            *slot = Some(value);
        }
        self.used = true;
    }
}
