//! `ngx_http_auth_require_module`: every value must be there, or the request is refused.
//!
//! A value that is empty or `0` is not there.

use conf::{Arity, Contexts, Directive, Error, parse_number};
use http::conf::compile::Cx;
use http::conf::{Lines, Location};
use http::module::{Module, Registry, Settings, Slot};
use http::phases::{Outcome, Phase, PhaseHandler, Verdict};
use http::request::Request;
use http::rows::{Row, row};
use http::variables::Template;
use os::errlog::Level;

/// `ngx_http_auth_require_module`.
pub struct AuthRequire;

static SLOT: Slot = Slot::new();

/// The values of one line, and the status of a request that lacks one.
#[derive(Clone)]
struct Requirement {
    values: Vec<Template>,
    status: u16,
}

/// Settings of one block.
#[derive(Clone, Default)]
pub struct AuthRequireSettings {
    requirements: Lines<Requirement>,
}

impl Settings for AuthRequireSettings {
    fn enter(&mut self) {
        self.requirements.enter();
    }
}

const PLACES: Contexts = Contexts::HTTP_ALL.or(Contexts::LIMIT_EXCEPT);

static ROWS: [Row<AuthRequireSettings>; 1] = [row(
    "auth_require",
    PLACES,
    Arity::MORE1,
    "off",
    "Values that a request must have to be let through.",
    auth_require,
)
.many()];

impl Module for AuthRequire {
    const NAME: &'static str = "ngx_http_auth_require_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = AuthRequireSettings;
    type Main = ();

    fn rows() -> &'static [Row<AuthRequireSettings>] {
        &ROWS
    }

    fn register(registry: &mut Registry) {
        registry.phase(Phase::Access, &AuthRequire);
    }
}

fn auth_require(s: &mut AuthRequireSettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let own = s.requirements.own();
    if d.args.len() == 1 && d.arg(0)?.is("off") {
        return Ok(());
    }
    let mut requirement = Requirement { values: Vec::new(), status: 403 };
    for word in &d.args {
        match word.after("error=") {
            Some(digits) => {
                let status = parse_number(digits).filter(|status| (400..=599).contains(status));
                requirement.status = status
                    .and_then(|status| u16::try_from(status).ok())
                    .ok_or_else(|| Error::at(word, format!("invalid parameter \"{}\"", word.as_str())))?;
            }
            None => requirement.values.push(Template::compile(cx, word)?),
        }
    }
    own.push(requirement);
    Ok(())
}

impl PhaseHandler for AuthRequire {
    fn concerns(&self, location: &Location) -> bool {
        !location.settings::<Self>().requirements.is_empty()
    }

    fn run<'r>(&self, r: &'r mut Request) -> Verdict<'r> {
        let requirements = &r.location().settings::<Self>().requirements;
        let lacking = requirements.iter().find(|one| one.values.iter().any(|value| !value.holds(r)));
        match lacking.map(|requirement| requirement.status) {
            None => Verdict::Pass,
            Some(status) => {
                r.log(Level::Error, format_args!("access forbidden by \"auth_require\""));
                Verdict::Finish(Outcome::Status(status))
            }
        }
    }
}
