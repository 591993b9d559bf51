//! `ngx_http_fastcgi_module`: requests passed to FastCGI applications such as PHP-FPM.
//!
//! What every upstream protocol shares is in `http::relay`; here are the records, the parameters and the script's
//! name.

mod codec;
mod request;
mod split;

use std::sync::Arc;

use conf::{Arity, Contexts, Directive, Error};
use http::conf::Lines;
use http::conf::compile::Cx;
use http::module::{Module, Registry, Settings, Slot};
use http::phases::Outcome;
use http::regex::Regex;
use http::relay::{BodyUse, Layout, Params, Pass, Plan, Protocol, RelaySettings, Wire};
use http::request::Request;
use http::rows::{Row, flag, row, value, without_effect};
use proto::fastcgi::{self, AfterAnswer};

use self::codec::FastcgiCodec;

/// `ngx_http_fastcgi_module`.
pub struct Fastcgi;

static SLOT: Slot = Slot::new();

const ALL: Contexts = Contexts::HTTP_ALL;

http::relay_rows!("fastcgi", FastcgiSettings, RELAY_ROWS);

#[rustfmt::skip]
static ROWS: [Row<FastcgiSettings>; 7] = [
    row("fastcgi_pass", Contexts::LOCATION.or(Contexts::IF_LOCATION), Arity::ONE, "", "Where requests are passed to.", pass),
    row("fastcgi_param", ALL, Arity::TAKE23, "HTTP_HOST $host$is_request_port$request_port", "A parameter of the application.", |s: &mut FastcgiSettings, cx, d| s.params.set(cx, d)).many(),
    value("fastcgi_index", ALL, Arity::ONE, "", "The file behind a script name that ends with a slash.", index),
    row("fastcgi_split_path_info", ALL, Arity::ONE, "", "Parts the script's name from what follows it.", split::set).many(),
    value("fastcgi_catch_stderr", ALL, Arity::ONE, "", "A text on stderr that makes an answer invalid.", catch_stderr).many(),
    flag("fastcgi_keep_conn", ALL, "off", "Leaves connections open for further requests.", |s, on| {
        s.after = if on { AfterAnswer::Keep } else { AfterAnswer::Close };
    }),
    without_effect("fastcgi_send_lowat", ALL, Arity::ONE, "Linux has no low-water mark for sending"),
];

impl Layout for Fastcgi {
    fn begin_name(length: usize, out: &mut Vec<u8>) {
        fastcgi::open_param(length, out);
    }

    fn end_name(_: &mut Vec<u8>) {}

    fn end_value(name: usize, start: usize, out: &mut Vec<u8>) {
        fastcgi::close_param(name, start, out);
    }
}

/// Settings of the module in one block.
#[derive(Clone)]
pub struct FastcgiSettings {
    /// What all upstream protocols share.
    pub relay: RelaySettings,
    params: Params,
    pass: Option<Pass>,
    index: Box<[u8]>,
    split: Option<Arc<Regex>>,
    catch_stderr: Lines<Box<[u8]>>,
    after: AfterAnswer,
}

impl Default for FastcgiSettings {
    fn default() -> Self {
        Self {
            relay: RelaySettings::default(),
            params: Params::default(),
            pass: None,
            index: Box::default(),
            split: None,
            catch_stderr: Lines::default(),
            after: AfterAnswer::Close,
        }
    }
}

impl Settings for FastcgiSettings {
    fn enter(&mut self) {
        self.relay.enter();
        self.params.enter();
        self.catch_stderr.enter();
    }

    fn finish(&mut self, cx: &mut Cx<'_>) -> Result<(), Error> {
        self.params.finish::<Fastcgi>(&self.relay);
        self.relay.finish(cx, "fastcgi", &["Status"])
    }
}

impl Module for Fastcgi {
    const NAME: &'static str = "ngx_http_fastcgi_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = FastcgiSettings;
    type Main = ();

    fn rows() -> &'static [Row<FastcgiSettings>] {
        &ROWS
    }

    fn shared_rows() -> &'static [&'static [Row<FastcgiSettings>]] {
        &RELAY_ROWS
    }

    fn register(registry: &mut Registry) {
        registry.variables(&split::VARIABLES);
    }
}

impl Protocol for FastcgiSettings {
    fn settings(&self) -> &RelaySettings {
        &self.relay
    }

    fn body_use(&self, _: &mut Request) -> Result<BodyUse, Outcome> {
        let passed = self.relay.pass_request_body;
        Ok(if passed { BodyUse::Stream } else { BodyUse::Whole })
    }

    fn wire(&self, _: &Request) -> Wire {
        Wire::Plain(Box::new(FastcgiCodec::new(self.after)))
    }

    fn pass(&self) -> Option<&Pass> {
        self.pass.as_ref()
    }

    fn create(&self, r: &mut Request, plan: &mut Plan) -> Result<(), Outcome> {
        request::create(self, r, plan)
    }

    fn scheme(&self, _: &Request) -> &'static str {
        "fastcgi://"
    }
}

fn pass(s: &mut FastcgiSettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let word = d.arg(0)?;
    s.pass = Some(Pass::compile(cx, word, &word.bytes, &[])?);
    cx.block.relay_by::<Fastcgi>();
    Ok(())
}

fn index(s: &mut FastcgiSettings, d: &Directive) -> Result<(), Error> {
    s.index = d.arg(0)?.bytes.to_boxed();
    Ok(())
}

fn catch_stderr(s: &mut FastcgiSettings, d: &Directive) -> Result<(), Error> {
    s.catch_stderr.push(d.arg(0)?.bytes.to_boxed());
    Ok(())
}
