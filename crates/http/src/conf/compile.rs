//! From the words of the `http` or the `stream` block to the running configuration.
//!
//! A block's own lines are applied first and its nested blocks after them, so that a nested block inherits also
//! what is written below it, as in nginx.

mod block;
mod variables;

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use conf::resources::Resources;
use conf::zones::{Unready, Zones};
use conf::{Contexts, Directive, Error, Order, Spot, Word};

use self::block::Nested;
pub use self::block::{Block, ServerDraft};
use self::variables::{Applied, Merged};
use super::concerned::Concerned;
use super::ends::{End, Ends};
use super::location::{Location, LocationId, LocationTree};
use super::upstreams::{Defaults, UpstreamBlock, UpstreamId, Upstreams};
use super::{HttpConf, Server, ServerId, core, listen};
use crate::module::{Module, Registry, Slots};
use crate::relay::check::HealthCheck;
use crate::side::Side;
use crate::variables::Table;

/// Directories that relative paths of the configuration refer to.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The prefix (`-p`): logs, roots, temporary files.
    pub prefix: PathBuf,
    /// The directory of the main configuration file: keys, included files.
    pub conf_prefix: PathBuf,
}

/// Everything that a setter may ask or change besides its own settings.
pub struct Cx<'a> {
    /// Files, sockets, logs.
    pub resources: &'a mut dyn Resources,
    /// What relative paths refer to.
    pub paths: &'a Paths,
    /// The block that is being read.
    pub block: Block,
    /// The server that is being read, inside of one.
    pub server: Option<ServerDraft>,
    /// The `upstream` block that is being read, inside of one.
    pub upstream: Option<UpstreamBlock>,
    /// All upstreams known so far.
    pub upstreams: Upstreams,
    /// Shared zones known so far.
    pub zones: Zones,
    /// `health_check` of all locations.
    pub checks: Vec<(UpstreamId, Arc<HealthCheck>)>,
    /// A local address is `transparent`, which takes a privilege.
    pub needs_net_raw: bool,
    /// Which block is being compiled.
    pub side: Side,
    /// Where that block ends: nginx names it for what it finds when all lines were read.
    end: Option<Spot>,
    pass: Pass,
    ends: Ends,
    /// Warnings and notices for the operator, in order.
    pub notices: Vec<Error>,
    registry: &'a Registry,
    main: Vec<Option<Box<dyn Any + Send + Sync>>>,
    table: Table,
    /// Variables that were used before anything defined them, and where.
    unresolved: Vec<(Box<[u8]>, Word, Applied)>,
    /// The directive whose setter is at work.
    applied: Applied,
    defined: HashSet<Box<[u8]>>,
    /// Variables that groups fill, or whose unset value is settled.
    captured: HashSet<Box<[u8]>>,
    locations: Vec<Option<Location>>,
    rows: HashMap<*const conf::Row, (usize, usize)>,
}

/// Which part of the work is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    /// All of it.
    Whole,
    /// The lines that were read before this one, each for itself.
    LinesBefore(Order),
}

/// Compiles the block of a side; without one there is nothing to serve.
///
/// # Errors
/// A line that cannot be made to work, not always the first, or what is wrong with all of them together.
pub fn compile(
    registry: &Registry,
    side: Side,
    block: Option<&Directive>,
    paths: &Paths,
    threads: usize,
    resources: &mut dyn Resources,
    notices: &mut Vec<Error>,
) -> Result<HttpConf, Error> {
    let mut cx = Cx::new(registry, side, paths, resources);
    cx.upstreams.threads = threads;
    cx.end = block.and_then(Directive::close).map(|place| Spot { place, line: place.line });
    let read = cx.read(block);
    let done = match read {
        Ok(servers) => cx.finish(servers, notices),
        Err(error) => {
            notices.append(&mut cx.notices);
            Err(error)
        }
    };
    let closed = closed(block);
    let at_end = |order: Option<Order>| order.filter(|order| *order != Order::END_OF_BLOCK).or(Some(closed));
    notices.iter_mut().for_each(|notice| notice.order = at_end(notice.order));
    done.map_err(|error| Error { order: at_end(error.order), ..error })
}

/// When the block ends, and with it what nginx looks at as a whole.
fn closed(block: Option<&Directive>) -> Order {
    block.and_then(|directive| directive.block.as_ref()).map_or(Order::END_OF_BLOCK, |block| block.closed)
}

/// What is wrong with what was read before `before`: some line, not always the first, each for itself; or with all of
/// the block, where it ended before.
pub fn wrong_line(
    registry: &Registry,
    side: Side,
    block: Option<&Directive>,
    paths: &Paths,
    resources: &mut dyn Resources,
    before: Order,
    notices: &mut Vec<Error>,
) -> Option<Error> {
    let (wrong, said) = if closed(block) < before.min(Order::NEVER) {
        let mut said = Vec::new();
        (compile(registry, side, block, paths, 1, resources, &mut said).err(), said)
    } else {
        let mut cx = Cx::new(registry, side, paths, resources);
        cx.pass = Pass::LinesBefore(before);
        (cx.read(block).err(), cx.notices)
    };
    notices.extend(said.into_iter().filter(|notice| notice.order.is_some_and(|order| order < before)));
    wrong.filter(|error| error.order.is_some_and(|order| order < before.min(Order::NEVER)))
}

impl<'a> Cx<'a> {
    fn new(registry: &'a Registry, side: Side, paths: &'a Paths, resources: &'a mut dyn Resources) -> Self {
        let mut slots = Slots::default();
        for module in &registry.modules {
            slots.push((module.default_settings)());
        }
        let mut rows = HashMap::new();
        for (index, module) in registry.modules.iter().enumerate() {
            for (row, definition) in module.rows.iter().enumerate() {
                rows.insert(std::ptr::from_ref(*definition), (index, row));
            }
        }
        let mut cx = Self {
            resources,
            paths,
            block: Block::new(slots, side.top(), LocationId(0), registry.modules.len()),
            server: None,
            upstream: None,
            upstreams: Upstreams::default(),
            zones: Zones::default(),
            checks: Vec::new(),
            needs_net_raw: false,
            side,
            end: None,
            pass: Pass::Whole,
            ends: Ends::default(),
            notices: Vec::new(),
            registry,
            main: registry.modules.iter().map(|module| Some((module.default_main)())).collect(),
            table: Table::default(),
            unresolved: Vec::new(),
            applied: ("", Order::DEFAULT),
            defined: HashSet::new(),
            captured: HashSet::new(),
            locations: Vec::new(),
            rows,
        };
        // Location 0 is the block itself: it serves requests whose head was bad before a server was known.
        cx.block.id = cx.new_location();
        cx
    }

    fn new_location(&mut self) -> LocationId {
        let id = LocationId(u32::try_from(self.locations.len()).unwrap_or(u32::MAX));
        self.locations.push(None);
        id
    }

    /// Sets every default by the directive's own setter.
    fn apply_defaults(&mut self) -> Result<(), Error> {
        for module in &self.registry.modules {
            for (index, row) in module.rows.iter().enumerate() {
                if !row.contexts.has(self.side.top()) || row.body != conf::Body::None {
                    continue;
                }
                if let Some(directive) = Directive::from_default(row)? {
                    (module.set)(index, self, &directive)?;
                }
            }
        }
        Ok(())
    }

    /// Reads the whole block.
    fn read(&mut self, block: Option<&Directive>) -> Result<Vec<(Server, ServerDraft)>, Error> {
        self.apply_defaults()?;
        let mut servers = Vec::new();
        for block in self.read_block(block.map(Directive::body).unwrap_or_default(), true)? {
            let Nested::Server(directive) = block else { continue };
            servers.push(self.compile_server(directive)?);
        }
        if self.pass == Pass::Whole {
            let (registry, side) = (self.registry, self.side);
            for module in registry.modules.iter().filter(|module| module.serves(side)) {
                let done = (module.finish_main)(self);
                self.ends.take(End::of(module.name), done);
            }
        }
        // nginx knows of all addresses while it reads.
        if self.pass != Pass::Whole {
            listen::check(&servers)?;
        }
        Ok(servers)
    }

    /// Whether a line is to be read in this pass.
    fn reads(&self, line: &Directive) -> bool {
        match self.pass {
            Pass::Whole => true,
            Pass::LinesBefore(order) => line.order < order,
        }
    }

    /// Whether an error belongs to what is read in this pass, and is not what nginx would find later.
    fn is_early(&self, error: &Error) -> bool {
        match self.pass {
            Pass::Whole => true,
            Pass::LinesBefore(before) => error.order.is_some_and(|order| order < before.min(Order::NEVER)),
        }
    }

    /// Applies the own lines of the current block; nested blocks are handed back.
    fn read_block<'t>(&mut self, lines: &'t [Directive], all_finish: bool) -> Result<Vec<Nested<'t>>, Error> {
        let mut nested = Vec::new();
        for line in lines {
            if !self.reads(line) {
                continue;
            }
            match (line.name.as_str().as_ref(), &line.block) {
                ("server", Some(_)) if self.block.context == self.side.top() => {
                    nested.push(Nested::Server(line))
                }
                ("location", Some(_)) => nested.push(Nested::Location(line)),
                ("limit_except", Some(_)) => nested.push(Nested::LimitExcept(line)),
                _ => {
                    self.apply(line)?;
                    let at = std::ptr::from_ref(line);
                    if let Some((_, id)) = self.block.pending_if.iter().find(|(known, _)| *known == at) {
                        nested.push(Nested::If(line, *id));
                    }
                }
            }
        }
        for index in 0..self.registry.modules.len() {
            let module = &self.registry.modules[index];
            let is_due = (all_finish && module.serves(self.side)) || self.block.touched[index];
            if self.pass == Pass::Whole && is_due {
                let done = (module.finish_block)(self);
                self.ends.take(End::of(module.name), done);
            }
        }
        Ok(nested)
    }

    /// Applies one line by its row's setter.
    fn apply(&mut self, line: &Directive) -> Result<(), Error> {
        let Some(&(module, row)) = self.rows.get(&std::ptr::from_ref(line.row)) else { return Ok(()) };
        let definition = &self.registry.modules[module];
        if !self.block.touched[module] {
            self.block.touched[module] = true;
            (definition.enter)(&mut self.block.slots);
        }
        let known = self.notices.len();
        self.applied = (line.row.name, line.order);
        self.zones.line(line.order);
        let done = (definition.set)(row, self, line).map_err(|error| found_in(line, error));
        for notice in self.notices.iter_mut().skip(known) {
            notice.order.get_or_insert(line.order);
        }
        match done {
            Err(error) if !self.is_early(&error) => Ok(()),
            done => done,
        }
    }

    /// The bits of a line and of the lines of the same directive before it in this block; a default is not counted
    /// among these.
    ///
    /// # Errors
    /// As [`Directive::bits`].
    pub fn bits(&mut self, d: &Directive, names: &[(&str, u32)]) -> Result<u32, Error> {
        let row = std::ptr::from_ref(d.row);
        let earlier = self.block.bits.get(&row).copied().unwrap_or_default();
        let bits = d.bits(earlier, names, &mut self.notices)?;
        if !d.is_default() {
            self.block.bits.insert(row, bits);
        }
        Ok(bits)
    }

    /// Reads the lines of a block that has no settings of its own (`upstream`), with their setters.
    ///
    /// # Errors
    /// The first line that cannot be made to work.
    pub fn read_lines(&mut self, lines: &[Directive], context: Contexts) -> Result<(), Error> {
        let outer = std::mem::replace(&mut self.block.context, context);
        let mut done = Ok(());
        for line in lines {
            if done.is_ok() && self.reads(line) {
                done = self.apply(line);
            }
        }
        self.block.context = outer;
        done
    }

    fn finish(
        mut self,
        servers: Vec<(Server, ServerDraft)>,
        notices: &mut Vec<Error>,
    ) -> Result<HttpConf, Error> {
        notices.append(&mut self.notices);
        let mut ends = std::mem::take(&mut self.ends);
        let undefined = self.check_variables(if servers.is_empty() { Merged::No } else { Merged::Yes });
        ends.take(End::Variables, undefined);
        let zones = match self.zones.check() {
            // nginx asks for this where it merges, and never without a server.
            Err(Unready::Unknown(_)) if servers.is_empty() => self.zones.check_sizes(),
            Err(Unready::Unknown(error)) => Err(error),
            Err(Unready::Sizeless(error)) => Err(error.found(Order::END_OF_TEXT)),
            Ok(()) => Ok(()),
        };
        ends.take(End::of("ngx_http_proxy_module"), zones);
        let root = Block::new(self.block.slots.clone(), self.side.top(), LocationId(0), 0);
        self.close_block(root, LocationTree::default());
        let mut drafts = Vec::new();
        let mut built = Vec::new();
        for (index, (server, draft)) in servers.into_iter().enumerate() {
            built.push(server);
            drafts.push((ServerId(u32::try_from(index).unwrap_or(u32::MAX)), draft));
        }
        let mut conflicts = Vec::new();
        let listeners = listen::build(drafts, &mut ends, &mut conflicts);
        let core = self.block.slots.of::<core::Core>();
        let defaults = Defaults { resolver: core.resolver.clone(), resolver_timeout: core.resolver_timeout };
        let upstreams = std::mem::take(&mut self.upstreams).finish(self.resources, notices, defaults);
        let upstreams = ends.take(End::of("ngx_http_upstream_module"), upstreams);
        ends.settle()?;
        notices.append(&mut conflicts);
        listen::open(&listeners, self.resources)?;
        Concerned::find(self.registry, self.side, self.locations.iter_mut().flatten());
        let locations: Vec<Location> = self.locations.into_iter().flatten().collect();
        let conf = HttpConf {
            heads_differ: heads_differ(&built, &locations),
            servers: built,
            locations,
            listeners,
            variables: self.table,
            known_variables: self.registry.part(self.side).variables.clone(),
            known_families: self.registry.part(self.side).prefixes.clone(),
            upstreams: upstreams.unwrap_or_default(),
            checks: self.checks,
            zones: self.zones,
            prefix: self.paths.prefix.clone(),
            needs_net_raw: self.needs_net_raw,
            main: self.main.into_iter().flatten().collect(),
        };
        Ok(conf)
    }

    /// The locations that were read so far; all but the `http` block itself when modules finish.
    pub fn locations(&self) -> impl Iterator<Item = &Location> {
        self.locations.iter().flatten()
    }

    /// What is wrong with settings as a whole: nginx finds it at the end of the `http` block and names that line.
    #[must_use]
    pub fn error_at_end(&self, sentence: impl Into<String>) -> Error {
        let mut error = Error::bare(sentence);
        error.spot = self.end;
        error
    }

    /// The settings that module `M` has once.
    ///
    /// # Panics
    /// When `M` was never registered, which is a mistake in the program.
    pub fn main<M: Module>(&mut self) -> &mut M::Main {
        let slot = self.main.get_mut(M::SLOT.index()).and_then(Option::as_mut);
        match slot.and_then(|main| main.downcast_mut()) {
            Some(main) => main,
            None => panic!("module {} is not in the registry", M::NAME),
        }
    }

    pub(crate) fn take_main<M: Module>(&mut self) -> M::Main {
        std::mem::take(self.main::<M>())
    }

    pub(crate) fn put_main<M: Module>(&mut self, main: M::Main) {
        *self.main::<M>() = main;
    }

    /// A path of the configuration, made absolute by the prefix.
    #[must_use]
    pub fn path(&self, text: &[u8]) -> PathBuf {
        absolute(&self.paths.prefix, text)
    }

    /// A path of the configuration, made absolute by the directory of the configuration file.
    #[must_use]
    pub fn conf_path(&self, text: &[u8]) -> PathBuf {
        absolute(&self.paths.conf_prefix, text)
    }
}

/// When nginx finds what is wrong with a directive: at the line of its block that is at fault, else at once.
fn found_in(line: &Directive, error: Error) -> Error {
    let own = |inner: &&Directive| {
        let place = error.spot.map(|spot| spot.place);
        std::iter::once(&inner.name).chain(&inner.args).any(|word| Some(word.place) == place)
    };
    let order = line.body().iter().find(own).map_or(line.order, |inner| inner.order);
    error.found(order)
}

/// A path, made absolute by `base`.
pub(crate) fn absolute(base: &Path, text: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    base.join(std::ffi::OsStr::from_bytes(text))
}

/// Whether servers set differently what counts while a head is read, once its host is known.
fn heads_differ(servers: &[Server], locations: &[Location]) -> bool {
    let mut ways = servers.iter().filter_map(|server| locations.get(server.root.0 as usize)).map(|root| {
        let core = &root.core;
        (
            core.underscores_in_headers,
            core.ignore_invalid_headers,
            core.large_client_header_buffers,
            core.max_headers,
        )
    });
    let first = ways.next();
    ways.any(|way| Some(way) != first)
}
