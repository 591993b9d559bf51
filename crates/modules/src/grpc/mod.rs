//! `ngx_http_grpc_module`: requests passed on over HTTP/2, both directions at once, with their trailers.
//!
//! Neither a request nor an answer is buffered: each message goes on as soon as it is there.

mod web;

use std::sync::Arc;

use conf::{Arity, Contexts, Directive, Error};
use http::conf::compile::Cx;
use http::conf::{Lines, Location, UriPart, parse_upstream_url};
use http::filters::{Filtered, HeaderFilter};
use http::module::{Module, Registry, Settings, Slot};
use http::phases::Outcome;
use http::relay::fields::{BodyLength, Default as DefaultHost, GRPC_FIELDS, Line, Program};
use http::relay::{
    BodyCoding, BodyUse, Http2, Offer, Pass, Plan, PlanBody, Protocol, RelaySettings, Schemes, Security,
    Target, Wire, no_upstream, split_scheme,
};
use http::request::Request;
use http::rows::{Row, flag, is_number, row, without_effect};
use net::Buf;
use proto::h1::{Fields, Known};
use proto::uri::EscapeKind;

/// `ngx_http_grpc_module`.
pub struct Grpc;

static SLOT: Slot = Slot::new();

const ALL: Contexts = Contexts::HTTP_ALL;
const PASS: Contexts = Contexts::LOCATION.or(Contexts::IF_LOCATION);

static CONNECTION_ROWS: &[Row<GrpcSettings>] = &http::relay_connection_rows!("grpc", GrpcSettings);
static ANSWER_ROWS: &[Row<GrpcSettings>] = &http::relay_answer_rows!("grpc", GrpcSettings);
static CACHE_ROWS: &[Row<GrpcSettings>] = &http::relay_cache_rows!("grpc", GrpcSettings, "POST");
static SHARED_ROWS: [&[Row<GrpcSettings>]; 4] = [CONNECTION_ROWS, ANSWER_ROWS, &TLS_ROWS, CACHE_ROWS];

http::relay_tls_rows!("grpc", GrpcSettings, TLS_ROWS);

#[rustfmt::skip]
static ROWS: [Row<GrpcSettings>; 5] = [
    row("grpc_pass", PASS, Arity::ONE, "", "Where requests are passed to.", pass),
    row("grpc_set_header", ALL, Arity::TWO, "Content-Length $content_length", "Sets a field of the request.", |s: &mut GrpcSettings, cx, d| s.set_fields.set(cx, d)).many(),
    flag("grpc_web", ALL, "off", "Translates browsers' gRPC-Web, and answers it with errors that they understand.", |s, v| s.web = v),
    without_effect("grpc_headers_hash_max_size", ALL, Arity::ONE, "no hash of names is built").checked(is_number),
    without_effect("grpc_headers_hash_bucket_size", ALL, Arity::ONE, "no hash of names is built").checked(is_number),
];

const SCHEMES: Schemes = &[("grpc://", Security::Plain), ("grpcs://", Security::Tls)];

/// Bytes that nearly every head fits in.
const HEAD_SIZE: usize = 4096;

/// Settings of the module in one block.
#[derive(Clone, Default)]
pub struct GrpcSettings {
    /// What all upstream protocols share.
    pub relay: RelaySettings,
    pass: Option<Pass>,
    /// The name that the upstream is asked by; empty where variables say it.
    host: Arc<[u8]>,
    /// `grpc_web`.
    web: bool,
    set_fields: Lines<Line>,
    program: Arc<Program>,
}

impl GrpcSettings {
    /// Appends what makes gRPC of a request of gRPC-Web, and the rest of its fields.
    fn write_web(&self, r: &Request, format: &[u8], out: &mut Vec<u8>) {
        // A browser cannot say that it takes trailers.
        if !r.line.fields.has(Known::Te) {
            out.extend_from_slice(b"TE: trailers\r\n");
        }
        if !self.set_fields.iter().any(|line| line.name.eq_ignore_ascii_case(b"Content-Type")) {
            out.extend_from_slice(b"Content-Type: application/grpc");
            out.extend_from_slice(format);
            out.extend_from_slice(b"\r\n");
        }
        let mut fields = Fields::default();
        let passed = r.line.fields.iter().filter(|field| field.known != Known::ContentType);
        passed.for_each(|field| fields.push(*field));
        self.program.write_rest(&fields, &r.head, out);
    }
}

/// The host of `grpc_pass` with variables.
struct Host(Box<[u8]>);

impl Settings for GrpcSettings {
    fn enter(&mut self) {
        self.relay.enter();
        self.set_fields.enter();
    }

    fn finish(&mut self, cx: &mut Cx<'_>) -> Result<(), Error> {
        self.relay.buffering = false;
        self.relay.request_buffering = false;
        self.relay.pass_request_headers = true;
        self.relay.pass_request_body = true;
        self.relay.pass_trailers = true;
        self.relay.keeps_unbuffered = true;
        self.relay.buffers = (8, self.relay.buffer_size);
        self.relay.finish(cx, "grpc", &["Date", "Server"])?;
        if self.pass.as_ref().is_some_and(Pass::may_need_tls) {
            self.relay.tls.make(cx, "grpc")?;
        }
        if self.set_fields.is_own() || self.program.is_unmade() {
            self.program = Arc::new(Program::new(&self.set_fields, GRPC_FIELDS));
        }
        Ok(())
    }
}

impl Module for Grpc {
    const NAME: &'static str = "ngx_http_grpc_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = GrpcSettings;
    type Main = ();

    fn rows() -> &'static [Row<GrpcSettings>] {
        &ROWS
    }

    fn shared_rows() -> &'static [&'static [Row<GrpcSettings>]] {
        &SHARED_ROWS
    }

    fn register(registry: &mut Registry) {
        registry.header_filter(&Self);
    }
}

impl HeaderFilter for Grpc {
    fn concerns(&self, location: &Location) -> bool {
        location.settings::<Self>().web
    }

    fn filter(&self, r: &mut Request) -> Filtered {
        web::answer(r)
    }
}

impl Protocol for GrpcSettings {
    fn settings(&self) -> &RelaySettings {
        &self.relay
    }

    /// What is asked for stands in the message, so an answer that may be kept is looked for by all of that.
    fn body_use(&self, _: &mut Request) -> Result<BodyUse, Outcome> {
        let is_kept = self.relay.cache.is_on();
        Ok(if is_kept { BodyUse::Whole } else { BodyUse::Stream })
    }

    fn cache_key(&self, r: &Request, out: &mut Vec<u8>) {
        http::relay::cache::push_site(r, out);
        write_uri(r, out);
        http::relay::cache::push_body_sum(r, out);
    }

    fn wire(&self, _: &Request) -> Wire {
        Wire::Own(Box::<Http2>::default())
    }

    fn pass(&self) -> Option<&Pass> {
        self.pass.as_ref()
    }

    fn target(&self, r: &mut Request) -> Result<Target, Outcome> {
        let target = self.pass().ok_or_else(|| no_upstream(r))?.target(r)?;
        if let Target::Host { host, port, .. } = &target {
            let name = match port {
                _ if host.starts_with("unix:") => "localhost".to_owned(),
                Some(port) => format!("{host}:{port}"),
                None => host.clone(),
            };
            r.contexts.put(Host(name.into_bytes().into()));
        }
        Ok(target)
    }

    fn is_grpc(&self) -> bool {
        true
    }

    fn create(&self, r: &mut Request, plan: &mut Plan) -> Result<(), Outcome> {
        let r = &*r;
        let mut head = Buf::with_capacity(HEAD_SIZE.max(r.head.len() + HEAD_SIZE / 4));
        let out = head.vec();
        if r.method == r.line.method {
            out.extend_from_slice(r.line.method_text.of(&r.head));
        } else {
            out.extend_from_slice(r.method.name().as_bytes());
        }
        out.push(b' ');
        write_uri(r, out);
        out.extend_from_slice(b" HTTP/2.0\r\n");
        let host = r.contexts.get::<Host>().map_or(&self.host[..], |host| &host.0);
        self.program.write_host(r, DefaultHost::WhenEmpty(host), out);
        let web = if self.web { web::request(r) } else { None };
        let length = match (web, r.content_length) {
            (Some((web::Coding::Text, _)), _) | (_, None) => BodyLength::Untold,
            (_, Some(length)) => BodyLength::Bytes(length),
        };
        let _ = self.program.write(r, length, out);
        match web {
            None => self.program.write_rest(&r.line.fields, &r.head, out),
            Some((coding, format)) => {
                if coding == web::Coding::Text {
                    plan.coding = BodyCoding::Base64;
                }
                self.write_web(r, format, out);
            }
        }
        out.extend_from_slice(b"\r\n");
        plan.head = head;
        plan.body = PlanBody::of(r, &self.relay);
        Ok(())
    }

    fn tls(&self, r: &Request) -> Option<Offer> {
        (self.pass()?.security(r) == Security::Tls).then_some(Offer::Borrowed(b"\x02h2"))
    }

    fn scheme(&self, r: &Request) -> &'static str {
        if self.tls(r).is_some() { "grpcs://" } else { "grpc://" }
    }
}

/// The path as it was sent, or made anew of what became of it (`ngx_http_grpc_create_request`).
fn write_uri(r: &Request, out: &mut Vec<u8>) {
    if r.valid_unparsed_uri {
        out.extend_from_slice(r.line.target.of(&r.head));
        return;
    }
    proto::uri::escape(&r.uri, EscapeKind::Uri, out);
    if !r.args.is_empty() {
        out.push(b'?');
        out.extend_from_slice(&r.args);
    }
}

/// The setter of `grpc_pass`.
fn pass(s: &mut GrpcSettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let word = d.arg(0)?;
    cx.block.relay_by::<Grpc>();
    let pass = Pass::compile(cx, word, &word.bytes, SCHEMES)?;
    s.host = match parse_upstream_url(split_scheme(&word.bytes, SCHEMES).1, UriPart::Refused) {
        _ if pass.known().is_none() => Arc::default(),
        Ok(url) if url.is_unix() => b"localhost"[..].into(),
        Ok(url) if url.port.is_some() => [url.host, b":", url.port_text].concat().into(),
        Ok(url) => url.host.into(),
        Err(_) => Arc::default(),
    };
    s.pass = Some(pass);
    Ok(())
}
