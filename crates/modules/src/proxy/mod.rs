//! `ngx_http_proxy_module`: requests passed on over HTTP/1 or HTTP/2, with the URI, fields and cookies rewritten.
//!
//! All that a request needs is made at load; what is left is copying bytes.

mod cookie;
mod pass;
mod redirect;
mod request;
mod rows;
mod uri;
mod variables;

use std::sync::Arc;

use conf::Error;
use http::conf::compile::Cx;
use http::conf::{Lines, UpstreamId};
use http::module::{Module, Registry, Settings, Slot};
use http::phases::Outcome;
use http::relay::fields::{Line, PROXY_CACHE_FIELDS, PROXY_FIELDS, Program};
use http::relay::{
    BodyUse, Http2, Offer, Plan, Protocol, RelaySettings, Rewritten, Target, Wire, push_peer_url,
};
use http::request::Request;
use http::rows::Row;
use http::variables::Template;
use proto::h1::Known;

use self::cookie::CookieRewrites;
use self::pass::Pass;
use self::redirect::{Redirects, Rewrite};

/// `ngx_http_proxy_module`.
pub struct Proxy;

static SLOT: Slot = Slot::new();

impl Module for Proxy {
    const NAME: &'static str = "ngx_http_proxy_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = ProxySettings;
    type Main = ();

    fn rows() -> &'static [Row<ProxySettings>] {
        &rows::ROWS
    }

    fn shared_rows() -> &'static [&'static [Row<ProxySettings>]] {
        &rows::SHARED_ROWS
    }

    fn register(registry: &mut Registry) {
        registry.variables(&variables::VARIABLES);
    }
}

/// `proxy_http_version`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpVersion {
    /// `1.0`.
    Http10,
    /// `1.1`.
    #[default]
    Http11,
    /// `2`.
    Http2,
}

/// A directive that is a list or `off`, as far as the current block says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Own {
    /// The block says nothing yet.
    #[default]
    Nothing,
    /// The block says `off`.
    Off,
    /// The block has entries.
    List,
}

/// Settings of the proxy module in one block.
#[derive(Clone, Default)]
pub struct ProxySettings {
    /// What all upstream protocols share.
    pub relay: RelaySettings,
    http_version: HttpVersion,
    pass: Option<Arc<Pass>>,
    has_own_pass: bool,
    method: Option<Template>,
    /// `proxy_set_body`, which takes the place of the client's body.
    body: Option<Template>,
    set_fields: Lines<Line>,
    program: Arc<Program>,
    /// That of requests whose answers may be kept.
    cache_program: Arc<Program>,
    redirects: Redirects,
    own_redirect: Own,
    cookies: CookieRewrites,
}

impl Settings for ProxySettings {
    fn enter(&mut self) {
        self.relay.enter();
        self.has_own_pass = false;
        self.set_fields.enter();
        self.own_redirect = Own::Nothing;
        self.cookies.enter();
    }

    fn finish(&mut self, cx: &mut Cx<'_>) -> Result<(), Error> {
        self.relay.finish(cx, "proxy", &["Date", "Server", "X-Pad"])?;
        // As `ngx_http_proxy_process_header`, and unlike all other protocols.
        let is_http1 = self.http_version != HttpVersion::Http2;
        self.relay.omits_server = is_http1 && !self.relay.hidden.contains(Known::Server, b"Server");
        self.relay.omits_date = is_http1 && !self.relay.hidden.contains(Known::Date, b"Date");
        if self.set_fields.is_own() || self.program.is_unmade() {
            self.program = Arc::new(Program::new(&self.set_fields, PROXY_FIELDS));
            self.cache_program = Arc::default();
        }
        if self.relay.cache.is_on() && self.cache_program.is_unmade() {
            self.cache_program =
                Arc::new(Program::new(&self.set_fields, &[PROXY_FIELDS, PROXY_CACHE_FIELDS].concat()));
        }
        if self.has_own_pass
            && let Some(pass) = self.pass.clone()
        {
            self.redirects.complete(|| Rewrite::default_of(&pass));
            if pass.may_need_tls() {
                self.relay.tls.make(cx, "proxy")?;
            }
        }
        Ok(())
    }
}

impl ProxySettings {
    /// What TLS offers to carry where a request goes over it.
    #[inline(never)]
    fn offer(&self, pass: &Pass, r: &Request) -> Option<Offer> {
        pass.parts(r).filter(|parts| parts.is_https())?;
        Some(Offer::Borrowed(if self.http_version == HttpVersion::Http2 { b"\x02h2" } else { b"" }))
    }
}

impl Protocol for ProxySettings {
    fn settings(&self) -> &RelaySettings {
        &self.relay
    }

    fn body_use(&self, r: &mut Request) -> Result<BodyUse, Outcome> {
        let may_stream = self.body.is_none()
            && self.relay.pass_request_body
            && (!r.reader.is_chunked() || self.http_version != HttpVersion::Http10);
        Ok(if may_stream { BodyUse::Stream } else { BodyUse::Whole })
    }

    fn wire(&self, _: &Request) -> Wire {
        match self.http_version {
            HttpVersion::Http2 => Wire::Own(Box::<Http2>::default()),
            HttpVersion::Http10 | HttpVersion::Http11 => Wire::default(),
        }
    }

    fn target(&self, r: &mut Request) -> Result<Target, Outcome> {
        pass::target(self, r)
    }

    /// The site as the client knows it, and the URL that the upstream is asked for.
    fn cache_key(&self, r: &Request, out: &mut Vec<u8>) {
        http::relay::cache::push_site(r, out);
        if let Some(parts) = pass::parts(r) {
            out.extend_from_slice(if parts.is_https() { b"https://" } else { b"http://" });
            out.extend_from_slice(&parts.host);
        }
        uri::append(r, out);
    }

    fn upstream(&self) -> Option<UpstreamId> {
        self.pass.as_ref()?.fixed().map(|fixed| fixed.upstream)
    }

    fn create(&self, r: &mut Request, plan: &mut Plan) -> Result<(), Outcome> {
        request::create(self, r, plan)
    }

    fn tls(&self, r: &Request) -> Option<Offer> {
        let pass = self.pass.as_deref()?;
        if pass.may_need_tls() { self.offer(pass, r) } else { None }
    }

    fn scheme(&self, r: &Request) -> &'static str {
        if pass::parts(r).is_some_and(pass::Parts::is_https) { "https://" } else { "http://" }
    }

    fn log_url(&self, r: &Request, peer: &str, out: &mut Vec<u8>) {
        push_peer_url(self.scheme(r), peer, out);
        uri::append(r, out);
    }

    fn rewrite_redirect(&self, r: &Request, value: &[u8], out: &mut Vec<u8>) -> Rewritten {
        self.redirects.rewrite(r, value, out)
    }

    fn rewrite_cookie(&self, r: &Request, value: &[u8], out: &mut Vec<u8>) -> Rewritten {
        self.cookies.rewrite(r, value, out)
    }
}
