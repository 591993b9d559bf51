//! `ngx_http_auth_jwt_module`: access by a signed JSON Web Token.
//!
//! Keys come from files or from requests of the module's own; the algorithm is that of the key, never the
//! token's choice alone. Encrypted tokens are refused when the configuration is read.

mod cache;
mod keys;
mod rows;
mod token;
mod variables;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::rc::Rc;

use http::conf::{Lines, Location};
use http::module::{Module, Registry, Settings, Slot};
use http::phases::{Outcome, Phase, PhaseHandler, Verdict};
use http::request::Request;
use http::rows::Row;
use http::subrequest::{Kind, Start, start};
use http::variables::Template;
use os::errlog::{Errno, Level};
use proto::h1::Known;

use self::keys::Keys;
use self::token::Token;

/// `ngx_http_auth_jwt_module`.
pub struct AuthJwt;

static SLOT: Slot = Slot::new();

/// Bytes of the largest file of keys.
const KEYS_MAX: u64 = 1 << 20;

/// Where keys come from.
#[derive(Clone)]
enum Source {
    File(Template),
    Request(Template),
}

/// `auth_jwt_require`: values that must be there, and the status otherwise.
#[derive(Clone)]
struct Requirement {
    values: Vec<Template>,
    status: u16,
}

/// Settings of one block.
#[derive(Clone, Default)]
pub struct AuthJwtSettings {
    /// None where it is off.
    realm: Option<Template>,
    /// `token=`; the Authorization field by default.
    token: Option<Template>,
    sources: Lines<Source>,
    requirements: Lines<Requirement>,
    /// Seconds.
    leeway: i64,
    /// Milliseconds; 0: keys are not kept.
    key_cache: u64,
    conf_prefix: PathBuf,
}

impl Settings for AuthJwtSettings {
    fn enter(&mut self) {
        self.sources.enter();
        self.requirements.enter();
    }
}

impl Module for AuthJwt {
    const NAME: &'static str = "ngx_http_auth_jwt_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = AuthJwtSettings;
    type Main = ();

    fn rows() -> &'static [Row<AuthJwtSettings>] {
        &rows::ROWS
    }

    fn register(registry: &mut Registry) {
        registry.phase(Phase::Access, &AuthJwt);
        registry.variables(&variables::VARIABLES);
        registry.prefixes(&variables::PREFIXES);
    }
}

impl PhaseHandler for AuthJwt {
    fn concerns(&self, location: &Location) -> bool {
        location.settings::<Self>().realm.is_some()
    }

    fn run<'r>(&self, r: &'r mut Request) -> Verdict<'r> {
        let cycle = Rc::clone(&r.cycle);
        let settings = cycle.http.location(r.location).settings::<Self>();
        let Some(realm) = &settings.realm else { return Verdict::Declined };
        let realm = realm.value(r);
        if realm == b"off" {
            return Verdict::Declined;
        }
        let token = match &settings.token {
            Some(token) => Some(token.value(r)),
            None => bearer(r).map(<[u8]>::to_vec),
        };
        let Some(token) = token.filter(|token| !token.is_empty()) else {
            r.log(Level::Info, format_args!("no JSON Web Token was provided"));
            return challenge(r, &realm, Refusal::NoToken);
        };
        let pending = Pending { realm, token, keys: Vec::new() };
        if settings.sources.iter().all(|source| matches!(source, Source::File(_))) {
            return match files(r, settings) {
                Ok(keys) => decide(r, settings, Pending { keys, ..pending }),
                Err(outcome) => Verdict::Finish(outcome),
            };
        }
        Verdict::Wait(Box::pin(ask_and_decide(r, pending)))
    }
}

/// A request whose keys are being gathered.
struct Pending {
    realm: Vec<u8>,
    token: Vec<u8>,
    keys: Vec<Rc<Keys>>,
}

/// The token of `Authorization: Bearer …` (RFC 6750).
fn bearer(r: &Request) -> Option<&[u8]> {
    let (scheme, token) = r.header(Known::Authorization)?.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

/// The keys of all files.
fn files(r: &Request, settings: &AuthJwtSettings) -> Result<Vec<Rc<Keys>>, Outcome> {
    settings
        .sources
        .iter()
        .filter_map(|source| match source {
            Source::File(path) => Some(file(r, settings, path)),
            Source::Request(_) => None,
        })
        .collect()
}

fn file(r: &Request, settings: &AuthJwtSettings, path: &Template) -> Result<Rc<Keys>, Outcome> {
    let path = settings.conf_prefix.join(OsStr::from_bytes(&path.value(r)));
    let name = path.as_os_str().as_bytes();
    if let Some(keys) = cache::find(name, settings.key_cache) {
        return Ok(keys);
    }
    let read = || -> std::io::Result<Vec<u8>> {
        let mut text = Vec::new();
        std::io::Read::read_to_end(
            &mut std::io::Read::take(std::fs::File::open(&path)?, KEYS_MAX),
            &mut text,
        )?;
        Ok(text)
    };
    let text = read().map_err(|error| {
        r.log(Level::Crit, format_args!("open() \"{}\" failed {}", path.display(), Errno(&error)));
        Outcome::Status(500)
    })?;
    parse(r, &text, name, settings.key_cache)
}

fn parse(r: &Request, text: &[u8], name: &[u8], keep_ms: u64) -> Result<Rc<Keys>, Outcome> {
    match Keys::read(text) {
        Ok(keys) => {
            let keys = Rc::new(keys);
            cache::keep(name, &keys, keep_ms);
            Ok(keys)
        }
        Err(fault) => {
            let name = String::from_utf8_lossy(name);
            r.log(Level::Error, format_args!("\"{name}\" {fault}"));
            Err(Outcome::Status(500))
        }
    }
}

/// Asks other locations for keys, then decides.
async fn ask_and_decide(r: &mut Request, mut pending: Pending) -> Verdict<'static> {
    let cycle = Rc::clone(&r.cycle);
    let settings = cycle.http.location(r.location).settings::<AuthJwt>();
    match files(r, settings) {
        Ok(keys) => pending.keys = keys,
        Err(outcome) => return Verdict::Finish(outcome),
    }
    for source in settings.sources.iter() {
        let Source::Request(uri) = source else { continue };
        let uri = uri.value(r);
        match ask(r, settings, &uri).await {
            Ok(keys) => pending.keys.push(keys),
            Err(outcome) => return Verdict::Finish(outcome),
        }
    }
    decide(r, settings, pending)
}

async fn ask(r: &mut Request, settings: &AuthJwtSettings, uri: &[u8]) -> Result<Rc<Keys>, Outcome> {
    let name = [b"request ", uri].concat();
    if let Some(keys) = cache::find(&name, settings.key_cache) {
        return Ok(keys);
    }
    let (path, args) = http::special::split_args(uri);
    let Ok(mut sr) = r.subrequest(&path, &args, Kind::InMemory, Start::Rewrite) else {
        return Err(Outcome::Status(500));
    };
    // The body is for the request that is let through.
    sr.body = http::body::RequestBody::None;
    sr.content_length = None;
    let sr = start(sr).ended(r).await?;
    let text = sr.output.capture.as_deref().unwrap_or_default();
    if sr.response.status != 200 {
        let shown = String::from_utf8_lossy(uri);
        r.log(Level::Error, format_args!("\"{shown}\" gave no keys but status {}", sr.response.status));
        return Err(Outcome::Status(500));
    }
    parse(r, text, &name, settings.key_cache)
}

fn decide(r: &mut Request, settings: &AuthJwtSettings, pending: Pending) -> Verdict<'static> {
    let keys: Vec<&Keys> = pending.keys.iter().map(|keys| &**keys).collect();
    match Token::check(&pending.token, &keys, net::timer::wall_clock().0, settings.leeway) {
        Ok(token) => r.lasting.put(token),
        Err(fault) => {
            r.log(Level::Error, format_args!("{fault}"));
            return challenge(r, &pending.realm, Refusal::BadToken);
        }
    }
    let lacks = |one: &&Requirement| one.values.iter().any(|value| !value.holds(r));
    match settings.requirements.iter().find(lacks).map(|requirement| requirement.status) {
        None => Verdict::Pass,
        Some(status) => {
            r.log(Level::Error, format_args!("the token lacks what \"auth_jwt_require\" asks for"));
            if status == 401 {
                return challenge(r, &pending.realm, Refusal::BadToken);
            }
            Verdict::Finish(Outcome::Status(status))
        }
    }
}

/// Why a client is asked for a token.
enum Refusal {
    NoToken,
    BadToken,
}

/// Asks for a token (RFC 6750, 3).
fn challenge(r: &mut Request, realm: &[u8], why: Refusal) -> Verdict<'static> {
    let mut value = [b"Bearer realm=\"", realm, b"\""].concat();
    match why {
        Refusal::NoToken => {}
        Refusal::BadToken => value.extend_from_slice(b", error=\"invalid_token\""),
    }
    r.response.headers.push_known(Known::WwwAuthenticate, b"WWW-Authenticate", &value);
    Verdict::Finish(Outcome::Status(401))
}
