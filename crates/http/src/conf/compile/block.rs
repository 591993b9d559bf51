//! The block that is being read, and the blocks inside of it: servers, locations, `if`, `limit_except`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use conf::{Bytes, Contexts, Directive, Error, Word};

use super::{Cx, Pass};
use crate::conf::ends::End;
use crate::conf::location::{Content, Kind, Location, LocationId, LocationTree, Origin};
use crate::conf::server_name::ServerName;
use crate::conf::{Server, core, listen};
use crate::module::{Module, Slots};
use crate::regex::Regex;
use crate::relay::Protocol;
use crate::side::Side;
use crate::tls::ServerTls;

/// A nested block that waits until the lines around it are applied.
pub(super) enum Nested<'t> {
    Server(&'t Directive),
    Location(&'t Directive),
    LimitExcept(&'t Directive),
    If(&'t Directive, LocationId),
}

/// The block that is being read.
pub struct Block {
    /// Settings so far.
    pub slots: Slots,
    /// Which kind of block this is.
    pub context: Contexts,
    /// What answers here.
    pub content: Option<Content>,
    /// See [`Location::origin`].
    origin: Origin,
    /// See [`Location::auto_redirect`].
    pub auto_redirect: bool,
    /// Path or name of a location.
    pub name: Box<[u8]>,
    /// How the location is written.
    pub kind: Kind,
    pub(super) id: LocationId,
    pub(super) touched: Vec<bool>,
    /// Bits that lines of this block have set, by their row.
    pub(super) bits: HashMap<*const conf::Row, u32>,
    limit_except: Option<(u32, LocationId)>,
    pub(super) pending_if: Vec<(*const Directive, LocationId)>,
}

/// The server that is being read.
#[derive(Default)]
pub struct ServerDraft {
    /// `server_name`.
    pub names: Vec<ServerName>,
    /// `listen`.
    pub listens: Vec<listen::ListenDraft>,
    /// TLS, where the server has certificates or refuses handshakes.
    pub tls: Option<Arc<ServerTls>>,
    /// The server takes CONNECT.
    pub allows_connect: bool,
    /// The word that begins the block.
    pub word: Option<Word>,
    named: Vec<(Box<[u8]>, LocationId)>,
}

impl Block {
    /// The location that this block will be filed as.
    #[must_use]
    pub fn id(&self) -> LocationId {
        self.id
    }

    /// Requests of the block are passed on by a protocol: what every `*_pass` of a location says besides where to.
    pub fn relay_by<M: Module<Settings: Protocol>>(&mut self) {
        self.content = Some(Content::Relay(|location| location.settings::<M>()));
        self.auto_redirect = self.name.last() == Some(&b'/');
    }

    pub(super) fn new(slots: Slots, context: Contexts, id: LocationId, modules: usize) -> Self {
        Self {
            slots,
            context,
            content: None,
            origin: Origin::Own,
            auto_redirect: false,
            name: Box::default(),
            kind: Kind::Unnamed,
            id,
            touched: vec![false; modules],
            bits: HashMap::new(),
            limit_except: None,
            pending_if: Vec::new(),
        }
    }
}

impl Cx<'_> {
    /// Announces that `directive` (an `if` block) has settings of its own; they are compiled after the block
    /// around it, under the returned id.
    pub fn nest_if(&mut self, directive: &Directive) -> LocationId {
        let id = self.new_location();
        self.block.pending_if.push((std::ptr::from_ref(directive), id));
        id
    }

    fn nested_block(&mut self, context: Contexts, id: LocationId) -> Block {
        let mut block = Block::new(self.block.slots.clone(), context, id, self.registry.modules.len());
        for module in &self.registry.modules {
            (module.inherit)(&mut block.slots);
        }
        block.name = self.block.name.clone();
        std::mem::replace(&mut self.block, block)
    }

    pub(super) fn compile_server(&mut self, directive: &Directive) -> Result<(Server, ServerDraft), Error> {
        self.server = Some(ServerDraft { word: Some(directive.name.clone()), ..ServerDraft::default() });
        let id = self.new_location();
        let outer = self.nested_block(self.side.server(), id);
        self.block.name = Box::default();
        let nested = self.read_block(directive.body(), false)?;
        for index in 0..self.registry.modules.len() {
            let module = &self.registry.modules[index];
            if self.pass == Pass::Whole && module.serves(self.side) {
                let done = (module.finish_server)(self);
                self.ends.take(End::of(module.name), done);
            }
        }
        let tree = self.compile_nested(nested)?;
        self.close_block(outer, tree);
        let mut draft = self.server.take().unwrap_or_default();
        if draft.listens.is_empty() {
            if self.side == Side::Stream {
                return Err(Error::at_close(directive, "no \"listen\" is defined for server"));
            }
            draft.listens.push(listen::ListenDraft::default_address());
        }
        if draft.names.is_empty() {
            draft.names.push(ServerName::Text(Bytes::default()));
        }
        let name = draft.names.first().map(ServerName::text).unwrap_or_default();
        let named = std::mem::take(&mut draft.named);
        let (tls, allows_connect) = (draft.tls.clone(), draft.allows_connect);
        Ok((Server { name, root: id, named, tls, allows_connect }, draft))
    }

    /// Compiles the blocks inside the current one and gives the tree of its locations.
    pub(super) fn compile_nested(&mut self, nested: Vec<Nested<'_>>) -> Result<LocationTree, Error> {
        let mut literals = Vec::new();
        let mut regexes = Vec::new();
        let mut known = HashSet::new();
        for block in nested {
            match block {
                Nested::Server(_) => {}
                Nested::Location(directive) => self
                    .compile_location(directive, &mut known, &mut literals, &mut regexes)
                    .map_err(|error| error.found(directive.order))?,
                Nested::If(directive, id) => {
                    let context = if self.block.context == Contexts::SERVER
                        || self.block.context == Contexts::IF_SERVER
                    {
                        Contexts::IF_SERVER
                    } else {
                        Contexts::IF_LOCATION
                    };
                    self.compile_inner(directive, context, id)?;
                }
                Nested::LimitExcept(directive) => {
                    let id = self.new_location();
                    let allowed = core::limit_except_methods(directive)
                        .map_err(|error| error.found(directive.order))?;
                    self.block.limit_except = Some((allowed, id));
                    self.compile_inner(directive, Contexts::LIMIT_EXCEPT, id)?;
                }
            }
        }
        Ok(LocationTree::new(&literals, regexes))
    }

    /// An `if` or `limit_except` block: the settings around it, and what answers there, with its own lines.
    fn compile_inner(
        &mut self,
        directive: &Directive,
        context: Contexts,
        id: LocationId,
    ) -> Result<(), Error> {
        let content = self.block.content.clone();
        let (kind, auto_redirect) = (self.block.kind, self.block.auto_redirect);
        let outer = self.nested_block(context, id);
        self.block.kind = if kind == Kind::Regex { Kind::Regex } else { Kind::Unnamed };
        self.block.auto_redirect = auto_redirect;
        let nested = self.read_block(directive.body(), false)?;
        if self.block.content.is_none() {
            self.block.content = content;
            self.block.origin = Origin::Inherited;
        }
        let tree = self.compile_nested(nested)?;
        self.close_block(outer, tree);
        Ok(())
    }

    fn compile_location(
        &mut self,
        directive: &Directive,
        known: &mut HashSet<(Box<[u8]>, bool)>,
        literals: &mut Vec<(Box<[u8]>, Kind, LocationId, bool)>,
        regexes: &mut Vec<(Regex, LocationId)>,
    ) -> Result<(), Error> {
        let (kind, case, name) = core::location_name(directive)?;
        self.check_nesting(directive, kind, &name)?;
        let word = directive.arg(directive.args.len().saturating_sub(1))?;
        let regex = match kind {
            Kind::Regex => Some(Regex::compile(self, word, &name, case)?),
            _ => None,
        };
        let twice = match kind {
            Kind::Regex => false,
            Kind::Named => self
                .server
                .as_ref()
                .is_some_and(|server| server.named.iter().any(|(known, _)| *known == name)),
            _ => !known.insert((name.clone(), kind == Kind::Exact)),
        };
        if twice {
            let shown = String::from_utf8_lossy(&name).into_owned();
            return Err(Error::at(word, format!("duplicate location \"{shown}\"")));
        }
        let id = self.new_location();
        let outer = self.nested_block(Contexts::LOCATION, id);
        self.block.kind = kind;
        self.block.name = name.clone();
        let nested = self.read_block(directive.body(), false)?;
        let tree = self.compile_nested(nested)?;
        let auto_redirect = self.block.auto_redirect;
        self.close_block(outer, tree);
        match (kind, regex) {
            (Kind::Regex, Some(regex)) => regexes.push((regex, id)),
            (Kind::Named, _) => {
                if let Some(server) = &mut self.server {
                    server.named.push((name, id));
                }
            }
            _ => literals.push((name, kind, id, auto_redirect)),
        }
        Ok(())
    }

    /// Which locations may stand inside which (`ngx_http_core_location`).
    fn check_nesting(&self, directive: &Directive, kind: Kind, name: &[u8]) -> Result<(), Error> {
        if self.block.context != Contexts::LOCATION {
            return Ok(());
        }
        let shown = String::from_utf8_lossy(name).into_owned();
        let outer = String::from_utf8_lossy(&self.block.name).into_owned();
        let refuse = |sentence: String| Err(Error::at(&directive.name, sentence));
        if self.block.kind == Kind::Exact {
            return refuse(format!("location \"{shown}\" cannot be inside the exact location \"{outer}\""));
        }
        if self.block.kind == Kind::Named {
            return refuse(format!("location \"{shown}\" cannot be inside the named location \"{outer}\""));
        }
        if kind == Kind::Named {
            return refuse(format!("named location \"{shown}\" can be on the server level only"));
        }
        if kind != Kind::Regex && self.block.kind != Kind::Regex && !name.starts_with(&self.block.name) {
            return refuse(format!("location \"{shown}\" is outside location \"{outer}\""));
        }
        Ok(())
    }

    /// Files the current block as a location and goes back to the block around it.
    pub(super) fn close_block(&mut self, outer: Block, nested: LocationTree) {
        let block = std::mem::replace(&mut self.block, outer);
        let location = Location {
            core: block.slots.share::<core::Core>(),
            name: block.name,
            kind: block.kind,
            slots: block.slots,
            content: block.content,
            origin: block.origin,
            auto_redirect: block.auto_redirect,
            nested,
            limit_except: block.limit_except,
            concerned: Arc::default(),
        };
        self.locations[block.id.0 as usize] = Some(location);
    }
}
