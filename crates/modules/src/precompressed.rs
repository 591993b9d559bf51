//! `gzip_static`, `brotli_static` and `zstd_static`: a file that was coded beforehand in the place of the plain one.
//!
//! One module with three names. Called `always`, the file goes to clients that do not
//! take the coding too.

use std::marker::PhantomData;

use conf::{Arity, Contexts};
use http::coding::{self, Coding, Precompressed};
use http::conf::Location;
use http::module::{Module, Registry, Settings, Slot};
use http::phases::{Answer, Answered};
use http::request::Request;
use http::rows::{Row, value};

/// `ngx_http_gzip_static_module` and its likes.
pub struct Beside<K>(PhantomData<fn() -> K>);

/// `ngx_http_gzip_static_module`.
pub struct Gzip;
/// `ngx_http_brotli_static_module`.
pub struct Brotli;
/// `ngx_http_zstd_static_module`.
pub struct Zstd;

/// What tells one of the modules from the others.
pub trait Kind: 'static {
    /// nginx's name for the module.
    const NAME: &'static str;
    /// How the files are coded.
    const CODING: Coding;
    /// Where its settings lie.
    const SLOT: &'static Slot;
    /// Its directive.
    const ROWS: &'static [Row<Mode>];
}

/// The value of the directive.
#[derive(Clone, Default)]
pub struct Mode(Precompressed);

impl Settings for Mode {}

const fn mode(name: &'static str, doc: &'static str) -> Row<Mode> {
    value(name, Contexts::HTTP_ALL, Arity::ONE, "off", doc, |s, d| {
        s.0 = d.one_of(&Precompressed::NAMES)?;
        Ok(())
    })
}

static SLOTS: [Slot; 3] = [Slot::new(), Slot::new(), Slot::new()];
static ROWS: [[Row<Mode>; 1]; 3] = [
    [mode("gzip_static", "Answers with the .gz file beside a file.")],
    [mode("brotli_static", "Answers with the .br file beside a file.")],
    [mode("zstd_static", "Answers with the .zst file beside a file.")],
];

impl Kind for Gzip {
    const NAME: &'static str = "ngx_http_gzip_static_module";
    const CODING: Coding = Coding::Gzip;
    const SLOT: &'static Slot = &SLOTS[0];
    const ROWS: &'static [Row<Mode>] = &ROWS[0];
}

impl Kind for Brotli {
    const NAME: &'static str = "ngx_http_brotli_static_module";
    const CODING: Coding = Coding::Brotli;
    const SLOT: &'static Slot = &SLOTS[1];
    const ROWS: &'static [Row<Mode>] = &ROWS[1];
}

impl Kind for Zstd {
    const NAME: &'static str = "ngx_http_zstd_static_module";
    const CODING: Coding = Coding::Zstd;
    const SLOT: &'static Slot = &SLOTS[2];
    const ROWS: &'static [Row<Mode>] = &ROWS[2];
}

impl<K: Kind> Module for Beside<K> {
    const NAME: &'static str = K::NAME;
    const SLOT: &'static Slot = K::SLOT;
    type Settings = Mode;
    type Main = ();

    fn rows() -> &'static [Row<Mode>] {
        K::ROWS
    }

    fn register(registry: &mut Registry) {
        registry.content(&Self(PhantomData));
    }
}

impl<K: Kind> Answer for Beside<K> {
    fn concerns(&self, location: &Location) -> bool {
        location.settings::<Self>().0 != Precompressed::Off
    }

    fn answer<'r>(&'r self, r: &'r mut Request) -> Answered<'r> {
        let mode = r.location().settings::<Self>().0;
        Answered::Now(coding::serve(r, K::CODING, mode))
    }
}
