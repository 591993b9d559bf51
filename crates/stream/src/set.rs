//! `ngx_stream_set_module`: variables that are assigned when a session begins.

use std::sync::Arc;

use conf::{Arity, Contexts, Directive, Error};
use http::conf::Location;
use http::conf::compile::Cx;
use http::module::{Module, Registry, Settings, Slot};
use http::phases::{Phase, PhaseHandler, Verdict};
use http::request::Request;
use http::rows::{Row, row};
use http::variables::{Template, VariableId};

/// `ngx_stream_set_module`.
pub struct Set;

static SLOT: Slot = Slot::new();

static ROWS: [Row<SetSettings>; 1] =
    [row("set", Contexts::STREAM_SERVER, Arity::TWO, "", "Assigns a variable.", set).many()];

/// The assignments of one server, in their order.
#[derive(Clone, Default)]
pub struct SetSettings(Arc<Vec<(VariableId, Template)>>);

impl Settings for SetSettings {}

impl Module for Set {
    const NAME: &'static str = "ngx_stream_set_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = SetSettings;
    type Main = ();

    fn rows() -> &'static [Row<SetSettings>] {
        &ROWS
    }

    fn register(registry: &mut Registry) {
        // Before all others that act before access is checked, as in nginx.
        registry.stream_phase(Phase::Rewrite, &Set);
    }
}

fn set(s: &mut SetSettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let word = d.arg(0)?;
    let Some(name) = word.bytes.strip_prefix(b"$").filter(|name| !name.is_empty()) else {
        return Err(Error::at(word, format!("invalid variable name \"{}\"", word.as_str())));
    };
    let id = cx.define_assigned(&name.to_ascii_lowercase(), word)?;
    let value = Template::compile(cx, d.arg(1)?)?;
    Arc::make_mut(&mut s.0).push((id, value));
    Ok(())
}

impl PhaseHandler for Set {
    fn concerns(&self, location: &Location) -> bool {
        !location.settings::<Self>().0.is_empty()
    }

    fn run<'r>(&self, r: &'r mut Request) -> Verdict<'r> {
        let assignments = Arc::clone(&r.location().settings::<Self>().0);
        for (id, value) in assignments.iter() {
            let value = value.value(r);
            r.set_variable(*id, &value);
        }
        Verdict::Declined
    }
}
