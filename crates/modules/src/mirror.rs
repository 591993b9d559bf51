//! `ngx_http_mirror_module`: the same request to other places as well, whose answers nobody looks at.
//!
//! The client's answer does not wait for them; the next request of its connection does, as in nginx.

use std::sync::Arc;

use conf::{Arity, Contexts, Directive, Error};
use http::body;
use http::conf::Location;
use http::conf::compile::Cx;
use http::module::{Module, Registry, Settings, Slot};
use http::phases::{Outcome, Phase, PhaseHandler, Verdict};
use http::request::Request;
use http::rows::{Row, flag, row};
use http::subrequest::{Kind, Start, start};

/// `ngx_http_mirror_module`.
pub struct Mirror;

static SLOT: Slot = Slot::new();

/// Settings of the module in one block.
#[derive(Clone, Default)]
pub struct MirrorSettings {
    places: Places,
    sends_body: bool,
    is_own: bool,
}

#[derive(Clone, Default)]
enum Places {
    #[default]
    Off,
    At(Arc<Vec<Box<[u8]>>>),
}

impl Settings for MirrorSettings {
    fn enter(&mut self) {
        self.is_own = false;
    }
}

static ROWS: [Row<MirrorSettings>; 2] = [
    row("mirror", Contexts::HTTP_ALL, Arity::ONE, "off", "Where requests go besides.", set_mirror).many(),
    flag("mirror_request_body", Contexts::HTTP_ALL, "on", "Whether their bodies go there too.", |s, v| {
        s.sends_body = v
    }),
];

impl Module for Mirror {
    const NAME: &'static str = "ngx_http_mirror_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = MirrorSettings;
    type Main = ();

    fn rows() -> &'static [Row<Self::Settings>] {
        &ROWS
    }

    fn register(registry: &mut Registry) {
        registry.phase(Phase::PreContent, &Self);
    }
}

fn set_mirror(s: &mut MirrorSettings, _: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let word = d.arg(0)?;
    let is_first = !std::mem::replace(&mut s.is_own, !d.is_default());
    if is_first {
        s.places = Places::Off;
    }
    match (&mut s.places, word.is("off")) {
        (Places::Off, true) if is_first => {}
        (Places::Off, false) if is_first => s.places = Places::At(Arc::new(vec![word.bytes.to_boxed()])),
        (Places::At(places), false) => Arc::make_mut(places).push(word.bytes.to_boxed()),
        _ => return Err(Error::at(&d.name, "\"mirror\" directive is duplicate")),
    }
    Ok(())
}

impl PhaseHandler for Mirror {
    fn concerns(&self, location: &Location) -> bool {
        matches!(location.settings::<Self>().places, Places::At(_))
    }

    fn run<'r>(&self, r: &'r mut Request) -> Verdict<'r> {
        let settings = r.location().settings::<Self>();
        let Places::At(places) = &settings.places else { return Verdict::Declined };
        if r.is_subrequest {
            return Verdict::Declined;
        }
        let places = Arc::clone(places);
        if !settings.sends_body || !r.reader.is_open() {
            return send(r, &places);
        }
        Verdict::Wait(Box::pin(async move {
            match body::read_all(r).await {
                Ok(()) => send(r, &places),
                Err(outcome) => Verdict::Finish(outcome),
            }
        }))
    }
}

fn send(r: &mut Request, places: &[Box<[u8]>]) -> Verdict<'static> {
    for uri in places {
        let args = r.args.clone();
        let Ok(mut sr) = r.subrequest(uri, &args, Kind::Background, Start::Rewrite) else {
            return Verdict::Finish(Outcome::Status(500));
        };
        sr.method = r.method;
        sr.response.header_only = true;
        // Nobody waits for it, and nobody need.
        drop(start(sr));
    }
    Verdict::Declined
}
