//! `ngx_http_addition_filter_module`: the answers of other locations in front of a body and behind it.

use std::io;
use std::sync::Arc;

use conf::{Arity, Contexts};
use http::chunk::Queue;
use http::conf::Location;
use http::conf::TypeSet;
use http::filters::{BodyFilter, Filtered, HeaderFilter, More, Sees, Taken};
use http::module::{Module, Registry, Settings, Slot};
use http::request::Request;
use http::rows::{Row, row, value};
use http::subrequest::{Kind, Start, start};

/// `ngx_http_addition_filter_module`.
pub struct Addition;

static SLOT: Slot = Slot::new();

/// Settings of the module in one block.
#[derive(Clone, Default)]
pub struct AdditionSettings {
    before: Option<Arc<[u8]>>,
    after: Option<Arc<[u8]>>,
    types: TypeSet,
}

impl Settings for AdditionSettings {
    fn enter(&mut self) {
        self.types.enter();
    }
}

const ALL: Contexts = Contexts::HTTP_ALL;

static ROWS: [Row<AdditionSettings>; 3] = [
    value("add_before_body", ALL, Arity::ONE, "", "What is put in front of a body.", |s, d| {
        s.before = path(&d.arg(0)?.bytes);
        Ok(())
    }),
    value("add_after_body", ALL, Arity::ONE, "", "What is put behind a body.", |s, d| {
        s.after = path(&d.arg(0)?.bytes);
        Ok(())
    }),
    row(
        "addition_types",
        ALL,
        Arity::MORE1,
        "text/html",
        "Types of the answers that something is added to.",
        |s, cx, d| {
            s.types.add(cx, d, &["text/html"]);
            Ok(())
        },
    ),
];

/// An empty path takes an inherited one back.
fn path(text: &[u8]) -> Option<Arc<[u8]>> {
    (!text.is_empty()).then(|| text.into())
}

impl Module for Addition {
    const NAME: &'static str = "ngx_http_addition_filter_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = AdditionSettings;
    type Main = ();

    fn rows() -> &'static [Row<Self::Settings>] {
        &ROWS
    }

    fn register(registry: &mut Registry) {
        registry.header_filter(&Self);
    }
}

impl HeaderFilter for Addition {
    fn concerns(&self, location: &Location) -> bool {
        let settings = location.settings::<Self>();
        settings.before.is_some() || settings.after.is_some()
    }

    fn filter(&self, r: &mut Request) -> Filtered {
        let settings = r.location().settings::<Self>();
        if r.response.status != 200 || r.is_subrequest || !settings.types.matches(&r.response) {
            return Filtered::Next;
        }
        let added = Added { before: settings.before.clone(), after: settings.after.clone() };
        r.response.clear_content_length();
        r.response.clear_accept_ranges();
        r.response.weaken_etag();
        r.output.add_filter(Box::new(added));
        r.output.expect_subrequests();
        Filtered::Next
    }
}

/// What is still to be added.
struct Added {
    before: Option<Arc<[u8]>>,
    after: Option<Arc<[u8]>>,
}

impl BodyFilter for Added {
    fn sees(&self) -> Sees {
        Sees::Chunks
    }

    fn filter(
        &mut self,
        r: &mut Request,
        input: &mut Queue,
        output: &mut Queue,
        more: More,
    ) -> io::Result<Taken> {
        if let Some(uri) = self.before.take() {
            add(r, &uri, output)?;
        }
        output.append(input);
        if more == More::End
            && let Some(uri) = self.after.take()
        {
            add(r, &uri, output)?;
        }
        Ok(Taken::All)
    }
}

fn add(r: &mut Request, uri: &[u8], output: &mut Queue) -> io::Result<()> {
    let sr = r.subrequest(uri, b"", Kind::InOrder, Start::Rewrite);
    let sr = sr.map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    output.push_subrequest(start(sr));
    Ok(())
}
