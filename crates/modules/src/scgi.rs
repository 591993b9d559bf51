//! `ngx_http_scgi_module`: requests passed to SCGI servers.
//!
//! The request is one netstring; the answer is that of a CGI program.

use conf::{Arity, Contexts, Directive, Error};
use http::conf::compile::Cx;
use http::module::{Module, Settings, Slot};
use http::phases::Outcome;
use http::relay::cgi::{self, Cgi};
use http::relay::{BodyUse, Layout, Params, Pass, Plan, Protocol, RelaySettings, Wire};
use http::request::Request;
use http::rows::{Row, row};
use net::Buf;

/// `ngx_http_scgi_module`.
pub struct Scgi;

static SLOT: Slot = Slot::new();

http::relay_rows!("scgi", ScgiSettings, RELAY_ROWS);

#[rustfmt::skip]
static ROWS: [Row<ScgiSettings>; 2] = [
    row("scgi_pass", Contexts::LOCATION.or(Contexts::IF_LOCATION), Arity::ONE, "", "Where requests are passed to.", pass),
    row("scgi_param", Contexts::HTTP_ALL, Arity::TAKE23, "HTTP_HOST $host$is_request_port$request_port", "A variable of the request.", |s: &mut ScgiSettings, cx, d| s.params.set(cx, d)).many(),
];

impl Layout for Scgi {
    fn begin_name(_: usize, _: &mut Vec<u8>) {}

    fn end_name(out: &mut Vec<u8>) {
        proto::scgi::end_part(out);
    }

    fn end_value(_: usize, _: usize, out: &mut Vec<u8>) {
        proto::scgi::end_part(out);
    }
}

/// Settings of the module in one block.
#[derive(Clone, Default)]
pub struct ScgiSettings {
    /// What all upstream protocols share.
    pub relay: RelaySettings,
    params: Params,
    pass: Option<Pass>,
}

impl Settings for ScgiSettings {
    fn enter(&mut self) {
        self.relay.enter();
        self.params.enter();
    }

    fn finish(&mut self, cx: &mut Cx<'_>) -> Result<(), Error> {
        self.params.finish::<Scgi>(&self.relay);
        self.relay.finish(cx, "scgi", &["Status"])
    }
}

impl Module for Scgi {
    const NAME: &'static str = "ngx_http_scgi_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = ScgiSettings;
    type Main = ();

    fn rows() -> &'static [Row<ScgiSettings>] {
        &ROWS
    }

    fn shared_rows() -> &'static [&'static [Row<ScgiSettings>]] {
        &RELAY_ROWS
    }
}

impl Protocol for ScgiSettings {
    fn settings(&self) -> &RelaySettings {
        &self.relay
    }

    fn body_use(&self, r: &mut Request) -> Result<BodyUse, Outcome> {
        Ok(cgi::body_use(r, &self.relay))
    }

    fn wire(&self, _: &Request) -> Wire {
        Wire::Plain(Box::new(Cgi::default()))
    }

    fn pass(&self) -> Option<&Pass> {
        self.pass.as_ref()
    }

    fn create(&self, r: &mut Request, plan: &mut Plan) -> Result<(), Outcome> {
        let r = &*r;
        let mut variables = Buf::with_capacity(4096 + r.head.len());
        let out = variables.vec();
        self.params.write::<Scgi>(r, &self.relay, out);
        let mut head = Buf::empty();
        proto::scgi::write(r.content_length.unwrap_or(0), &variables, head.vec());
        *plan = cgi::plan(r, &self.relay, head);
        Ok(())
    }

    fn scheme(&self, _: &Request) -> &'static str {
        "scgi://"
    }
}

fn pass(s: &mut ScgiSettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let word = d.arg(0)?;
    s.pass = Some(Pass::compile(cx, word, &word.bytes, &[])?);
    cx.block.relay_by::<Scgi>();
    Ok(())
}
