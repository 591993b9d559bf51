//! `ngx_http_auth_request_module`: the answer of another location decides whether a client may go on.
//!
//! 2xx lets it through, 401 and 403 refuse it, anything else is an error.

use std::sync::Arc;

use conf::{Arity, Contexts, Directive, Error};
use http::body::RequestBody;
use http::conf::compile::Cx;
use http::conf::{Lines, Location};
use http::module::{Module, Registry, Settings, Slot};
use http::phases::{Outcome, Phase, PhaseHandler, Verdict};
use http::request::Request;
use http::rows::{Row, row, value};
use http::subrequest::{Kind, Start, Subrequest, start};
use http::variables::{Template, VariableId};
use os::errlog::Level;
use proto::h1::Known;

/// `ngx_http_auth_request_module`.
pub struct AuthRequest;

static SLOT: Slot = Slot::new();

/// Settings of the module in one block.
#[derive(Clone, Default)]
pub struct AuthRequestSettings {
    uri: Option<Arc<[u8]>>,
    variables: Lines<(VariableId, Template)>,
}

impl Settings for AuthRequestSettings {
    fn enter(&mut self) {
        self.variables.enter();
    }
}

static ROWS: [Row<AuthRequestSettings>; 2] = [
    value("auth_request", Contexts::HTTP_ALL, Arity::ONE, "off", "Who decides about access.", |s, d| {
        let word = d.arg(0)?;
        s.uri = (!word.is("off")).then(|| word.bytes.as_ref().into());
        Ok(())
    }),
    row(
        "auth_request_set",
        Contexts::HTTP_ALL,
        Arity::TWO,
        "",
        "Sets a variable to a value of the request that asked.",
        set_variable,
    )
    .many(),
];

impl Module for AuthRequest {
    const NAME: &'static str = "ngx_http_auth_request_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = AuthRequestSettings;
    type Main = ();

    fn rows() -> &'static [Row<Self::Settings>] {
        &ROWS
    }

    fn register(registry: &mut Registry) {
        registry.phase(Phase::Access, &Self);
    }
}

fn set_variable(s: &mut AuthRequestSettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let word = d.arg(0)?;
    let Some(name) = word.after("$").filter(|name| !name.is_empty()) else {
        return Err(Error::at(word, format!("invalid variable name \"{}\"", word.as_str())));
    };
    let id = cx.define_assigned(&name.to_ascii_lowercase(), word)?;
    let value = Template::compile(cx, d.arg(1)?)?;
    s.variables.push((id, value));
    Ok(())
}

impl PhaseHandler for AuthRequest {
    fn concerns(&self, location: &Location) -> bool {
        location.settings::<Self>().uri.is_some()
    }

    fn run<'r>(&self, r: &'r mut Request) -> Verdict<'r> {
        let settings = r.location().settings::<Self>();
        let Some(uri) = settings.uri.clone() else { return Verdict::Declined };
        let variables = settings.variables.clone();
        let Ok(mut sr) = r.subrequest(&uri, b"", Kind::Background, Start::Rewrite) else {
            return Verdict::Finish(Outcome::Status(500));
        };
        // The body is for the request that is let through.
        sr.body = RequestBody::None;
        sr.content_length = None;
        sr.response.header_only = true;
        let asked = start(sr);
        Verdict::Wait(Box::pin(decide(r, asked, variables)))
    }
}

async fn decide(
    r: &mut Request,
    asked: Subrequest,
    variables: Lines<(VariableId, Template)>,
) -> Verdict<'static> {
    let sr = match asked.ended(r).await {
        Ok(sr) => sr,
        Err(outcome) => return Verdict::Finish(outcome),
    };
    for (id, template) in variables.iter() {
        let value = template.value(&sr);
        r.set_variable(*id, &value);
    }
    match sr.response.status {
        403 => Verdict::Finish(Outcome::Status(403)),
        401 => {
            pass_challenge(r, &sr);
            Verdict::Finish(Outcome::Status(401))
        }
        200..=299 => Verdict::Pass,
        status => {
            r.log(Level::Error, format_args!("auth request unexpected status: {status}"));
            Verdict::Finish(Outcome::Status(500))
        }
    }
}

/// The client is told how to identify itself in the words of the one who decides.
fn pass_challenge(r: &mut Request, sr: &Request) {
    let is_challenge = |known: Known| known == Known::WwwAuthenticate;
    let own = sr.response.headers.iter().filter(|(.., known)| is_challenge(*known));
    let mut challenges: Vec<_> = own.map(|(name, value, _)| (name, value)).collect();
    if challenges.is_empty() {
        let head = &sr.upstream_head;
        let fields = head.head.fields.iter().filter(|field| is_challenge(field.known));
        challenges = fields.map(|field| (field.name.of(&head.text), field.value.of(&head.text))).collect();
    }
    for (name, value) in challenges {
        r.response.headers.push_known(Known::WwwAuthenticate, name, value);
    }
}
