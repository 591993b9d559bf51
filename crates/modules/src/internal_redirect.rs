//! `ngx_http_internal_redirect_module`: another location goes on with a request that was let through.
//!
//! Unlike `rewrite` it comes after limits and access were checked, so what those find out may choose the location.

use http::conf::Location;
use http::module::{Module, Registry, Settings, Slot};
use http::phases::{Outcome, Phase, PhaseHandler, Verdict};
use http::request::Request;
use http::rows::{Row, template};
use http::variables::Template;
use os::errlog::Level;

use conf::Contexts;

/// `ngx_http_internal_redirect_module`.
pub struct InternalRedirect;

static SLOT: Slot = Slot::new();

/// Settings of one block.
#[derive(Clone, Default)]
pub struct InternalRedirectSettings {
    target: Option<Template>,
}

impl Settings for InternalRedirectSettings {}

const PLACES: Contexts = Contexts::SERVER.or(Contexts::LOCATION);

static ROWS: [Row<InternalRedirectSettings>; 1] =
    [template("internal_redirect", PLACES, "The URI or named location that goes on.", |s, v| {
        s.target = Some(v);
    })];

impl Module for InternalRedirect {
    const NAME: &'static str = "ngx_http_internal_redirect_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = InternalRedirectSettings;
    type Main = ();

    fn rows() -> &'static [Row<InternalRedirectSettings>] {
        &ROWS
    }

    fn register(registry: &mut Registry) {
        registry.phase(Phase::PreContent, &InternalRedirect);
    }
}

impl PhaseHandler for InternalRedirect {
    fn concerns(&self, location: &Location) -> bool {
        location.settings::<Self>().target.is_some()
    }

    fn run<'r>(&self, r: &'r mut Request) -> Verdict<'r> {
        let Some(target) = &r.location().settings::<Self>().target else { return Verdict::Declined };
        let target = target.value(r);
        match target.first() {
            // Without a value the request stays where it is.
            None => Verdict::Declined,
            Some(b'@') => Verdict::Finish(Outcome::named(target)),
            Some(_) => {
                let mut uri = Vec::new();
                match proto::uri::parse_unsafe(&target, &mut uri) {
                    Ok(args) => {
                        let args = args.unwrap_or_default().to_vec();
                        Verdict::Finish(Outcome::redirect(uri, args))
                    }
                    Err(_) => {
                        let shown = String::from_utf8_lossy(&target);
                        r.log(Level::Error, format_args!("unsafe URI \"{shown}\" was detected"));
                        Verdict::Finish(Outcome::Status(404))
                    }
                }
            }
        }
    }
}
