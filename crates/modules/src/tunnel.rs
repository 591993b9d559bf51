//! `ngx_http_tunnel_module`: a CONNECT is answered by a connection to where it leads.
//!
//! Nothing is asked of the upstream: once it is connected to, the client is told so and both talk to each other.

use std::sync::Arc;

use conf::{Arity, Contexts, Directive, Error, Word};
use http::chunk::Queue;
use http::conf::UpstreamId;
use http::conf::compile::Cx;
use http::conf::location::Content;
use http::module::{Module, Settings, Slot};
use http::phases::Outcome;
use http::relay::settings::next;
use http::relay::{
    BodyLength, BodyUse, Carrier, Closing, Codec, Connected, Decoded, HeadStep, Opening, Pass, Plan,
    Protocol, RelaySettings, Wire,
};
use http::request::Request;
use http::rows::{Row, row, size, without_effect};
use net::Buf;
use proto::h1::{FramingError, Method};

/// `ngx_http_tunnel_module`.
pub struct Tunnel;

static SLOT: Slot = Slot::new();

const ALL: Contexts = Contexts::HTTP_ALL;
const PASS: Contexts = Contexts::SERVER.or(Contexts::LOCATION).or(Contexts::IF_LOCATION);

/// Where a CONNECT goes unless the configuration says it.
const ASKED: &[u8] = b"$host:$request_port";
/// The status that tells the client that its tunnel stands.
const ESTABLISHED: u16 = 200;

static CONNECTION_ROWS: &[Row<TunnelSettings>] =
    &http::relay_connection_rows!("tunnel", TunnelSettings, "16k");
static SHARED_ROWS: [&[Row<TunnelSettings>]; 1] = [CONNECTION_ROWS];

#[rustfmt::skip]
static ROWS: [Row<TunnelSettings>; 5] = [
    row("tunnel_pass", PASS, Arity::NOARGS.or(Arity::ONE), "", "Where a CONNECT leads to.", pass),
    row("tunnel_next_upstream", ALL, Arity::MORE1, "error timeout", "When the next server is tried.", next_upstream).many(),
    size("tunnel_socket_rcvbuf", ALL, "", "Receive buffer of the connection.", |s, v| {
        s.relay.socket_rcvbuf = u32::try_from(v).unwrap_or(u32::MAX);
    }),
    size("tunnel_socket_sndbuf", ALL, "", "Send buffer of the connection.", |s, v| {
        s.relay.socket_sndbuf = u32::try_from(v).unwrap_or(u32::MAX);
    }),
    without_effect("tunnel_send_lowat", ALL, Arity::ONE, "Linux has no low-water mark for sending"),
];

/// Conditions of `tunnel_next_upstream`.
const CONDITIONS: [(&str, u32); 4] =
    [("error", next::ERROR), ("timeout", next::TIMEOUT), ("denied", next::DENIED), ("off", next::OFF)];

/// Settings of the module in one block.
#[derive(Clone, Default)]
pub struct TunnelSettings {
    /// What all upstream protocols share.
    pub relay: RelaySettings,
    pass: Option<Pass>,
}

impl Settings for TunnelSettings {
    fn enter(&mut self) {
        self.relay.enter();
    }
}

impl Module for Tunnel {
    const NAME: &'static str = "ngx_http_tunnel_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = TunnelSettings;
    type Main = ();

    fn rows() -> &'static [Row<TunnelSettings>] {
        &ROWS
    }

    fn shared_rows() -> &'static [&'static [Row<TunnelSettings>]] {
        &SHARED_ROWS
    }
}

impl Protocol for TunnelSettings {
    fn settings(&self) -> &RelaySettings {
        &self.relay
    }

    fn body_use(&self, r: &mut Request) -> Result<BodyUse, Outcome> {
        // A page that stands in for an answer is fetched from elsewhere.
        if r.method == Method::Connect { Ok(BodyUse::Discard) } else { Err(Outcome::Status(405)) }
    }

    fn wire(&self, _: &Request) -> Wire {
        Wire::Own(Box::new(Through))
    }

    fn pass(&self) -> Option<&Pass> {
        self.pass.as_ref()
    }

    /// A check would have nothing to ask.
    fn upstream(&self) -> Option<UpstreamId> {
        None
    }

    fn create(&self, _: &mut Request, plan: &mut Plan) -> Result<(), Outcome> {
        plan.tunnel = Some(ESTABLISHED);
        Ok(())
    }

    fn scheme(&self, _: &Request) -> &'static str {
        ""
    }
}

/// A connection through which nothing goes but what both ends say.
struct Through;

impl Carrier for Through {
    /// A tunnel is never given to somebody else's request, nor a request's connection to a tunnel.
    fn channel(&self) -> Option<Arc<str>> {
        Some(Arc::from("tunnel"))
    }

    fn open(&mut self, _: &Request, _: &mut Connected, _: &Plan, _: &RelaySettings) -> Opening {
        Opening::Answered(ESTABLISHED)
    }
}

impl Codec for Through {
    fn head(&mut self, _: &mut Request, _: &mut Buf, _: &RelaySettings) -> Result<HeadStep, u32> {
        Ok(HeadStep::Complete { text: 0, body: 0 })
    }

    fn begin(&mut self, _: &Request, _: Method, _: &RelaySettings) -> Result<BodyLength, FramingError> {
        Ok(BodyLength::None)
    }

    fn decode(&mut self, _: &mut Request, _: Buf, _: usize, _: &mut Queue) -> Decoded {
        Decoded::End
    }

    fn closing(&self) -> Closing {
        Closing::Complete
    }

    fn may_keep(&self, _: &Request) -> bool {
        false
    }

    fn may_keep_unread(&self, _: &Request, _: &[u8]) -> bool {
        false
    }
}

fn pass(s: &mut TunnelSettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let word: &Word = d.args.first().unwrap_or(&d.name);
    let address = if d.args.is_empty() { ASKED } else { &word.bytes };
    s.pass = Some(Pass::compile(cx, word, address, &[])?);
    cx.block.content = Some(Content::Relay(|location| location.settings::<Tunnel>()));
    if let Some(server) = &mut cx.server {
        server.allows_connect = true;
    }
    Ok(())
}

fn next_upstream(s: &mut TunnelSettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    s.relay.next_upstream = cx.bits(d, &CONDITIONS)?;
    Ok(())
}
