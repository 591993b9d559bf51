//! Which modules have something to do in a location, found out at load: all others cost its requests nothing.

use std::collections::HashMap;
use std::sync::Arc;

use super::location::Location;
use crate::filters::{Answers, HeaderFilter};
use crate::module::{ContentHandler, Registry};
use crate::phases::{Phase, PhaseHandler};
use crate::side::Side;

/// What the modules say of a location.
#[derive(PartialEq, Eq, Hash)]
struct Choice {
    /// Which handlers it concerns, of phases and then of content.
    handlers: Vec<bool>,
    filters: Vec<Answers>,
}

/// The modules that a location concerns, each list in the registry's order.
#[derive(Default)]
pub struct Concerned {
    phases: [Vec<&'static dyn PhaseHandler>; Phase::COUNT],
    /// Content handlers for requests that no handler of the location's own answers.
    pub content: Vec<ContentHandler>,
    /// Header filters, and which answers each is asked about.
    pub header_filters: Vec<(Answers, &'static dyn HeaderFilter)>,
}

impl Concerned {
    /// The handlers of a phase.
    #[inline]
    #[must_use]
    pub fn handlers(&self, phase: Phase) -> &[&'static dyn PhaseHandler] {
        &self.phases[phase as usize]
    }

    /// Fills in the lists of every location. Locations with the same modules share theirs.
    pub(super) fn find<'l>(
        registry: &Registry,
        side: Side,
        locations: impl Iterator<Item = &'l mut Location>,
    ) {
        let mut known: HashMap<Choice, Arc<Self>> = HashMap::new();
        for location in locations {
            let of_phases = registry.part(side).phases.iter().map(|(_, handler)| handler.concerns(location));
            let (content, filters) = answers(registry, side);
            let of_content = content.iter().map(|handler| handler.concerns(location));
            let of_filters = filters.iter().map(|filter| match filter.concerns(location) {
                true => filter.answers(location),
                false => Answers::None,
            });
            let choice =
                Choice { handlers: of_phases.chain(of_content).collect(), filters: of_filters.collect() };
            let found =
                known.entry(choice).or_insert_with_key(|choice| Arc::new(Self::of(registry, side, choice)));
            location.concerned = Arc::clone(found);
        }
    }

    /// The lists of the modules that were chosen.
    fn of(registry: &Registry, side: Side, choice: &Choice) -> Self {
        let mut concerned = Self::default();
        let mut handlers = choice.handlers.iter().copied();
        let mut is_chosen = || handlers.next().unwrap_or(true);
        for (phase, handler) in &registry.part(side).phases {
            if is_chosen() {
                concerned.phases[*phase as usize].push(*handler);
            }
        }
        let (content, filters) = answers(registry, side);
        concerned.content = content.iter().filter(|_| is_chosen()).copied().collect();
        let filters = choice.filters.iter().copied().zip(filters.iter().copied());
        concerned.header_filters = filters.filter(|(answers, _)| *answers != Answers::None).collect();
        concerned
    }
}

/// What answers requests and changes answers; a session of `stream` has neither.
fn answers(registry: &Registry, side: Side) -> (&[ContentHandler], &[&'static dyn HeaderFilter]) {
    match side {
        Side::Http => (&registry.content, &registry.header_filters),
        Side::Stream => (&[], &[]),
    }
}
