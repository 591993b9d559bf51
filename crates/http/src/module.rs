//! What a module is: its settings, its directive rows, and what it adds to the way of a request.
//!
//! The registry's order is the order of execution: of phase handlers, header filters and content handlers.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use conf::{Directive, Error};

use crate::conf::compile::Cx;
use crate::filters::HeaderFilter;
use crate::phases::{Answer, Phase, PhaseHandler};
use crate::rows::Row;
use crate::side::Side;
use crate::variables::{KnownVariables, PrefixVariable, Variable};

/// Settings of one module in one block.
///
/// A nested block starts with a copy of the settings around it; [`Settings::enter`] marks in that copy what is
/// not inherited or is replaced as a whole by the block's first own line.
pub trait Settings: Clone + Default + Send + Sync + 'static {
    /// What a nested block begins with where that is not a plain copy, such as settings that are not inherited.
    fn inherited(&self) -> Option<Self> {
        None
    }

    /// Called on the copy before the first line of a nested block is applied to it.
    fn enter(&mut self) {}

    /// Called when every line of a block has been applied (and once at the level of `http`).
    ///
    /// # Errors
    /// What makes the block as a whole impossible.
    fn finish(&mut self, _cx: &mut Cx<'_>) -> Result<(), Error> {
        Ok(())
    }
}

impl Settings for () {}

/// Where a module's settings lie among those of all modules; given out by the registry.
#[derive(Debug)]
pub struct Slot(AtomicUsize);

impl Slot {
    /// A slot that the registry has not placed yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicUsize::new(usize::MAX))
    }

    /// The place among all modules.
    #[inline]
    #[must_use]
    pub fn index(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Default for Slot {
    fn default() -> Self {
        Self::new()
    }
}

/// An nginx module, written anew: of `http`, of `stream`, or one that nginx has in both.
pub trait Module: Sized + Send + Sync + 'static {
    /// nginx's name for it: `ngx_http_headers_module`.
    const NAME: &'static str;
    /// Other modules of nginx whose directives are rows of this one.
    const ALSO: &'static [&'static str] = &[];
    /// A `static` of the module's own.
    const SLOT: &'static Slot;
    /// Settings that every block has and inherits.
    type Settings: Settings;
    /// Settings that exist once per `http` block.
    type Main: Default + Send + Sync + 'static;

    /// The directives.
    fn rows() -> &'static [Row<Self::Settings>] {
        &[]
    }

    /// Tables of directives that a macro makes alike for several modules, such as `relay_rows!`.
    fn shared_rows() -> &'static [&'static [Row<Self::Settings>]] {
        &[]
    }

    /// Adds phase handlers, filters and variables.
    fn register(_registry: &mut Registry) {}

    /// Called for every server block when its own lines were applied, whether or not they are of this module.
    ///
    /// # Errors
    /// What makes the server as a whole impossible.
    fn finish_server(
        _settings: &Self::Settings,
        _main: &mut Self::Main,
        _cx: &mut Cx<'_>,
    ) -> Result<(), Error> {
        Ok(())
    }

    /// Called once after the whole `http` block was read.
    ///
    /// # Errors
    /// What makes the configuration as a whole impossible.
    fn finish(_main: &mut Self::Main, _cx: &mut Cx<'_>) -> Result<(), Error> {
        Ok(())
    }
}

/// The settings of all modules in one block, shared with the blocks that did not change them.
#[derive(Clone, Default)]
pub struct Slots(Vec<Arc<dyn Any + Send + Sync>>);

impl Slots {
    /// The settings of module `M`.
    ///
    /// # Panics
    /// When `M` was never registered, which is a mistake in the program.
    #[inline]
    #[must_use]
    pub fn of<M: Module>(&self) -> &M::Settings {
        match self.0.get(M::SLOT.index()).and_then(|slot| slot.downcast_ref()) {
            Some(settings) => settings,
            None => unregistered(M::NAME),
        }
    }

    /// A copy of the pointer to the settings of module `M`.
    #[must_use]
    pub fn share<M: Module>(&self) -> Arc<M::Settings> {
        match self.0.get(M::SLOT.index()).cloned().and_then(|slot| slot.downcast().ok()) {
            Some(settings) => settings,
            None => unregistered(M::NAME),
        }
    }

    /// Takes the settings of `M` out to be changed: a copy where another block shares them.
    pub(crate) fn edit<M: Module>(&self) -> M::Settings {
        self.of::<M>().clone()
    }

    /// Puts changed settings back.
    pub(crate) fn put<M: Module>(&mut self, settings: M::Settings) {
        if let Some(slot) = self.0.get_mut(M::SLOT.index()) {
            *slot = Arc::new(settings);
        }
    }

    pub(crate) fn push(&mut self, slot: Arc<dyn Any + Send + Sync>) {
        self.0.push(slot);
    }
}

#[cold]
fn unregistered(name: &str) -> ! {
    panic!("module {name} is not in the registry")
}

/// A module with its types erased, as the registry and the compiler handle it.
pub(crate) struct Erased {
    pub name: &'static str,
    pub also: &'static [&'static str],
    pub rows: Vec<&'static conf::Row>,
    pub default_settings: fn() -> Arc<dyn Any + Send + Sync>,
    pub default_main: fn() -> Box<dyn Any + Send + Sync>,
    pub inherit: fn(&mut Slots),
    pub enter: fn(&mut Slots),
    pub finish_block: fn(&mut Cx<'_>) -> Result<(), Error>,
    pub finish_server: fn(&mut Cx<'_>) -> Result<(), Error>,
    pub finish_main: fn(&mut Cx<'_>) -> Result<(), Error>,
    /// Applies the row with this index.
    pub set: fn(usize, &mut Cx<'_>, &Directive) -> Result<(), Error>,
}

impl Erased {
    /// Whether the module has a part in this side: some directive of it may stand there. One without directives is
    /// a module of `http`.
    pub fn serves(&self, side: Side) -> bool {
        self.rows.iter().any(|row| side.takes(row.contexts)) || (self.rows.is_empty() && side == Side::Http)
    }
}

/// What the modules add to the way of a request, or of a session of `stream`.
#[derive(Default)]
pub(crate) struct Part {
    pub phases: Vec<(Phase, &'static dyn PhaseHandler)>,
    pub variables: KnownVariables,
    pub prefixes: Vec<&'static PrefixVariable>,
}

fn all_rows<M: Module>() -> impl Iterator<Item = &'static Row<M::Settings>> {
    M::rows().iter().chain(M::shared_rows().iter().copied().flatten())
}

/// A content handler that every location has, tried in order until one answers.
pub type ContentHandler = &'static dyn Answer;

/// All modules of the program, in their order of execution.
#[derive(Default)]
pub struct Registry {
    pub(crate) modules: Vec<Erased>,
    pub(crate) parts: [Part; Side::COUNT],
    pub(crate) content: Vec<ContentHandler>,
    pub(crate) header_filters: Vec<&'static dyn HeaderFilter>,
}

impl Registry {
    /// Adds a module behind those that are there.
    pub fn add<M: Module>(&mut self) {
        M::SLOT.0.store(self.modules.len(), Ordering::Relaxed);
        self.modules.push(Erased {
            name: M::NAME,
            also: M::ALSO,
            rows: all_rows::<M>().map(|row| &row.row).collect(),
            default_settings: || Arc::new(M::Settings::default()),
            default_main: || Box::new(M::Main::default()),
            inherit: |slots| {
                if let Some(settings) = slots.of::<M>().inherited() {
                    slots.put::<M>(settings);
                }
            },
            enter: |slots| {
                let mut settings = slots.edit::<M>();
                settings.enter();
                slots.put::<M>(settings);
            },
            finish_block: |cx| {
                let mut settings = cx.block.slots.edit::<M>();
                let done = settings.finish(cx);
                cx.block.slots.put::<M>(settings);
                done
            },
            finish_server: |cx| {
                let settings = cx.block.slots.share::<M>();
                let mut main = cx.take_main::<M>();
                let done = M::finish_server(&settings, &mut main, cx);
                cx.put_main::<M>(main);
                done
            },
            finish_main: |cx| {
                let mut main = cx.take_main::<M>();
                let done = M::finish(&mut main, cx);
                cx.put_main::<M>(main);
                done
            },
            set: |index, cx, directive| {
                let Some(row) = all_rows::<M>().nth(index) else { return Ok(()) };
                let mut settings = cx.block.slots.edit::<M>();
                let done = row.set.apply(&mut settings, cx, directive);
                cx.block.slots.put::<M>(settings);
                done
            },
        });
        M::register(self);
    }

    /// Adds a handler to a phase of requests.
    pub fn phase(&mut self, phase: Phase, handler: &'static dyn PhaseHandler) {
        self.parts[Side::Http as usize].phases.push((phase, handler));
    }

    /// Adds a handler to a phase of sessions of `stream`.
    pub fn stream_phase(&mut self, phase: Phase, handler: &'static dyn PhaseHandler) {
        self.parts[Side::Stream as usize].phases.push((phase, handler));
    }

    /// Adds variables of `stream`.
    pub fn stream_variables(&mut self, variables: &'static [Variable]) {
        self.parts[Side::Stream as usize].variables.add(variables);
    }

    /// Adds families of variables of `stream`.
    pub fn stream_prefixes(&mut self, prefixes: &'static [PrefixVariable]) {
        self.parts[Side::Stream as usize].prefixes.extend(prefixes);
    }

    pub(crate) fn part(&self, side: Side) -> &Part {
        &self.parts[side as usize]
    }

    /// Adds a content handler that is tried in every location without one of its own.
    pub fn content(&mut self, handler: ContentHandler) {
        self.content.push(handler);
    }

    /// Adds a header filter; filters run in the order in which they were added.
    pub fn header_filter(&mut self, filter: &'static dyn HeaderFilter) {
        self.header_filters.push(filter);
    }

    /// Adds variables of requests.
    pub fn variables(&mut self, variables: &'static [Variable]) {
        self.parts[Side::Http as usize].variables.add(variables);
    }

    /// Adds families of variables of requests such as `$http_*`.
    pub fn prefixes(&mut self, prefixes: &'static [PrefixVariable]) {
        self.parts[Side::Http as usize].prefixes.extend(prefixes);
    }

    /// Every directive row of every module.
    pub fn rows(&self) -> impl Iterator<Item = &'static conf::Row> {
        self.modules.iter().flat_map(|module| module.rows.iter().copied())
    }

    /// nginx's names of the modules that are there.
    pub fn module_names(&self) -> impl Iterator<Item = &'static str> {
        self.modules.iter().flat_map(|module| std::iter::once(module.name).chain(module.also.iter().copied()))
    }
}
