//! `ngx_http_auth_basic_module`: user and password against a file of hashes.
//!
//! Hashes that are slow to check are checked on other threads; what was right is known again for a while.

mod known;
mod password;
mod user_file;

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::rc::Rc;

use conf::{Arity, Contexts, Directive, Error};
use http::blocking;
use http::conf::Location;
use http::conf::compile::Cx;
use http::credentials::Basic;
use http::module::{Module, Registry, Settings, Slot};
use http::phases::{Outcome, Phase, PhaseHandler, Verdict};
use http::request::Request;
use http::rows::{Row, row, template};
use http::variables::Template;
use os::errlog::{Errno, Level};
use proto::h1::{Known, Method};

use self::known::Proof;

/// `ngx_http_auth_basic_module`.
pub struct AuthBasic;

static SLOT: Slot = Slot::new();

/// Settings of one block.
#[derive(Clone, Default)]
pub struct AuthBasicSettings {
    realm: Option<Template>,
    user_file: Option<Template>,
    /// What a relative name of the file refers to.
    conf_prefix: PathBuf,
}

impl Settings for AuthBasicSettings {}

const PLACES: Contexts = Contexts::HTTP_ALL.or(Contexts::LIMIT_EXCEPT);

static ROWS: [Row<AuthBasicSettings>; 2] = [
    template("auth_basic", PLACES, "Asks for a user and a password; the text is shown.", |s, v| {
        s.realm = Some(v);
    }),
    row("auth_basic_user_file", PLACES, Arity::ONE, "", "File of users and hashes.", auth_basic_user_file),
];

fn auth_basic_user_file(s: &mut AuthBasicSettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    s.user_file = Some(Template::compile(cx, d.arg(0)?)?);
    s.conf_prefix.clone_from(&cx.paths.conf_prefix);
    Ok(())
}

impl Module for AuthBasic {
    const NAME: &'static str = "ngx_http_auth_basic_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = AuthBasicSettings;
    type Main = ();

    fn rows() -> &'static [Row<AuthBasicSettings>] {
        &ROWS
    }

    fn register(registry: &mut Registry) {
        registry.phase(Phase::Access, &AuthBasic);
    }
}

impl PhaseHandler for AuthBasic {
    fn concerns(&self, location: &Location) -> bool {
        let settings = location.settings::<Self>();
        settings.realm.is_some() && settings.user_file.is_some()
    }

    fn run<'r>(&self, r: &'r mut Request) -> Verdict<'r> {
        let cycle = Rc::clone(&r.cycle);
        let settings = cycle.http.location(r.location).settings::<Self>();
        let (Some(realm), Some(user_file)) = (&settings.realm, &settings.user_file) else {
            return Verdict::Declined;
        };
        let realm = realm.value(r);
        if realm == b"off" {
            return Verdict::Declined;
        }
        let Some(basic) = r.basic_credentials() else {
            r.log(Level::Info, format_args!("no user/password was provided for basic authentication"));
            return challenge(r, &realm);
        };
        let path = settings.conf_prefix.join(OsStr::from_bytes(&user_file.value(r)));
        let hash = match user_file::find(&path, basic.user()) {
            Ok(Some(hash)) => hash,
            Ok(None) => {
                let (user, path) = (String::from_utf8_lossy(basic.user()), path.display());
                r.log(Level::Error, format_args!("user \"{user}\" was not found in \"{path}\""));
                return challenge(r, &realm);
            }
            Err(error) => return refuse_file(r, &path.display(), &error),
        };
        if !password::is_slow(&hash) {
            return match password::fits(basic.password(), &hash) {
                true => Verdict::Pass,
                false => mismatch(r, &realm, &basic),
            };
        }
        let proof = Proof::new(basic.user(), basic.password(), &hash);
        if known::is_known(&proof, net::timer::now_ms()) {
            return Verdict::Pass;
        }
        Verdict::Wait(Box::pin(check_slowly(r, realm, basic, hash, proof)))
    }
}

/// Checks a password on another thread.
async fn check_slowly(
    r: &mut Request,
    realm: Vec<u8>,
    basic: Basic,
    hash: Vec<u8>,
    proof: Proof,
) -> Verdict<'static> {
    let password = basic.password().to_vec();
    let work = blocking::run(move || password::fits(&password, &hash));
    let is_right = match http::delay::while_connected(r, work).await {
        None => return Verdict::Finish(Outcome::Status(499)),
        Some(Ok(fits)) => fits,
        Some(Err(undone)) => {
            r.log(Level::Crit, format_args!("a password could not be checked: {undone}"));
            return Verdict::Finish(Outcome::Status(500));
        }
    };
    if !is_right {
        return mismatch(r, &realm, &basic);
    }
    known::keep(proof, net::timer::now_ms());
    Verdict::Pass
}

fn mismatch(r: &mut Request, realm: &[u8], basic: &Basic) -> Verdict<'static> {
    let user = String::from_utf8_lossy(basic.user());
    r.log(Level::Error, format_args!("user \"{user}\": password mismatch"));
    challenge(r, realm)
}

/// A file that is not there lets nobody in; any other error is the server's.
fn refuse_file(r: &Request, path: &dyn std::fmt::Display, error: &io::Error) -> Verdict<'static> {
    let (level, status) = match error.kind() {
        io::ErrorKind::NotFound => (Level::Error, 403),
        _ => (Level::Crit, 500),
    };
    r.log(level, format_args!("open() \"{path}\" failed {}", Errno(error)));
    Verdict::Finish(Outcome::Status(status))
}

/// Asks for a user and a password.
fn challenge(r: &mut Request, realm: &[u8]) -> Verdict<'static> {
    let value = [b"Basic realm=\"", realm, b"\""].concat();
    let headers = &mut r.response.headers;
    let status = if r.method == Method::Connect {
        headers.push_known(Known::ProxyAuthenticate, b"Proxy-Authenticate", &value);
        407
    } else {
        headers.push_known(Known::WwwAuthenticate, b"WWW-Authenticate", &value);
        401
    };
    Verdict::Finish(Outcome::Status(status))
}
