//! `ngx_http_uwsgi_module`: requests passed to uWSGI servers.
//!
//! The request is one packet of names and values; the answer is that of a CGI program.

use conf::{Arity, Contexts, Directive, Error};
use http::conf::compile::Cx;
use http::module::{Module, Settings, Slot};
use http::phases::Outcome;
use http::relay::cgi::{self, Cgi};
use http::relay::{
    BodyUse, Layout, Offer, Params, Pass, Plan, Protocol, RelaySettings, Schemes, Security, Wire,
};
use http::request::Request;
use http::rows::{Row, row, value};
use net::Buf;
use os::errlog::Level;

/// `ngx_http_uwsgi_module`.
pub struct Uwsgi;

static SLOT: Slot = Slot::new();

const ALL: Contexts = Contexts::HTTP_ALL;

http::relay_rows!("uwsgi", UwsgiSettings, RELAY_ROWS);
http::relay_tls_rows!("uwsgi", UwsgiSettings, TLS_ROWS);

static SHARED_ROWS: [&[Row<UwsgiSettings>]; 6] =
    [RELAY_ROWS[0], RELAY_ROWS[1], RELAY_ROWS[2], RELAY_ROWS[3], RELAY_ROWS[4], &TLS_ROWS];

#[rustfmt::skip]
static ROWS: [Row<UwsgiSettings>; 4] = [
    row("uwsgi_pass", Contexts::LOCATION.or(Contexts::IF_LOCATION), Arity::ONE, "", "Where requests are passed to.", pass),
    row("uwsgi_param", ALL, Arity::TAKE23, "HTTP_HOST $host$is_request_port$request_port", "A variable of the request.", |s: &mut UwsgiSettings, cx, d| s.params.set(cx, d)).many(),
    value("uwsgi_modifier1", ALL, Arity::ONE, "0", "First modifier of the packet.", |s, d| {
        s.modifier1 = modifier(d)?;
        Ok(())
    }),
    value("uwsgi_modifier2", ALL, Arity::ONE, "0", "Second modifier of the packet.", |s, d| {
        s.modifier2 = modifier(d)?;
        Ok(())
    }),
];

const SCHEMES: Schemes = &[("uwsgi://", Security::Plain), ("suwsgi://", Security::Tls)];

impl Layout for Uwsgi {
    fn begin_name(length: usize, out: &mut Vec<u8>) {
        proto::uwsgi::open_variable(length, out);
    }

    fn end_name(out: &mut Vec<u8>) {
        proto::uwsgi::begin_value(out);
    }

    fn end_value(_: usize, start: usize, out: &mut Vec<u8>) {
        proto::uwsgi::close_variable(start, out);
    }
}

/// Settings of the module in one block.
#[derive(Clone, Default)]
pub struct UwsgiSettings {
    /// What all upstream protocols share.
    pub relay: RelaySettings,
    params: Params,
    pass: Option<Pass>,
    modifier1: u8,
    modifier2: u8,
}

impl Settings for UwsgiSettings {
    fn enter(&mut self) {
        self.relay.enter();
        self.params.enter();
    }

    fn finish(&mut self, cx: &mut Cx<'_>) -> Result<(), Error> {
        self.params.finish::<Uwsgi>(&self.relay);
        self.relay.finish(cx, "uwsgi", &[])?;
        if self.pass.as_ref().is_some_and(Pass::may_need_tls) {
            self.relay.tls.make(cx, "uwsgi")?;
        }
        Ok(())
    }
}

impl Module for Uwsgi {
    const NAME: &'static str = "ngx_http_uwsgi_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = UwsgiSettings;
    type Main = ();

    fn rows() -> &'static [Row<UwsgiSettings>] {
        &ROWS
    }

    fn shared_rows() -> &'static [&'static [Row<UwsgiSettings>]] {
        &SHARED_ROWS
    }
}

impl Protocol for UwsgiSettings {
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
        let mut head = Buf::with_capacity(4096 + r.head.len());
        let out = head.vec();
        let start = proto::uwsgi::begin(self.modifier1, self.modifier2, out);
        self.params.write::<Uwsgi>(r, &self.relay, out);
        if let Err(error) = proto::uwsgi::end(start, out) {
            r.log(Level::Alert, format_args!("{error}"));
            return Err(Outcome::Status(500));
        }
        *plan = cgi::plan(r, &self.relay, head);
        Ok(())
    }

    fn tls(&self, r: &Request) -> Option<Offer> {
        (self.pass()?.security(r) == Security::Tls).then_some(Offer::default())
    }

    fn scheme(&self, r: &Request) -> &'static str {
        if self.tls(r).is_some() { "suwsgi://" } else { "uwsgi://" }
    }
}

fn pass(s: &mut UwsgiSettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let word = d.arg(0)?;
    s.pass = Some(Pass::compile(cx, word, &word.bytes, SCHEMES)?);
    cx.block.relay_by::<Uwsgi>();
    Ok(())
}

fn modifier(d: &Directive) -> Result<u8, Error> {
    let number = d.number_between(0, 255)?;
    Ok(u8::try_from(number).unwrap_or(u8::MAX))
}
