//! `ngx_http_gzip_static_module`: a `.gz` file in the place of the plain one.
//!
//! Named `always`, the file goes to clients that do not take gzip too.

use conf::{Arity, Contexts};
use http::coding::{self, Coding, Precompressed};
use http::conf::Location;
use http::module::{Module, Registry, Settings, Slot};
use http::phases::{Answer, Answered};
use http::request::Request;
use http::rows::{Row, value};

/// `ngx_http_gzip_static_module`.
pub struct GzipStatic;

/// `gzip_static`.
#[derive(Clone, Default)]
pub struct GzipStaticSettings(Precompressed);

impl Settings for GzipStaticSettings {}

static SLOT: Slot = Slot::new();

static ROWS: [Row<GzipStaticSettings>; 1] = [value(
    "gzip_static",
    Contexts::HTTP_ALL,
    Arity::ONE,
    "off",
    "Answers with the .gz file beside a file.",
    |s: &mut GzipStaticSettings, d| {
        s.0 = d.one_of(&Precompressed::NAMES)?;
        Ok(())
    },
)];

impl Module for GzipStatic {
    const NAME: &'static str = "ngx_http_gzip_static_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = GzipStaticSettings;
    type Main = ();

    fn rows() -> &'static [Row<Self::Settings>] {
        &ROWS
    }

    fn register(registry: &mut Registry) {
        registry.content(&Self);
    }
}

impl Answer for GzipStatic {
    fn concerns(&self, location: &Location) -> bool {
        location.settings::<Self>().0 != Precompressed::Off
    }

    fn answer<'r>(&'r self, r: &'r mut Request) -> Answered<'r> {
        let mode = r.location().settings::<Self>().0;
        Answered::Now(coding::serve(r, Coding::Gzip, mode))
    }
}
