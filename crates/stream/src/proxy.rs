//! `ngx_stream_proxy_module`: sessions are passed on to a server, or to one of a group.
//!
//! Peers are connected to by the relay of `http`, as one more of its protocols: one that asks nothing.

use std::rc::Rc;
use std::sync::Arc;

use conf::resources::SocketKind;
use conf::{Arity, Contexts, Directive, Error, Level};
use http::Request;
use http::conf::compile::Cx;
use http::conf::location::Content;
use http::module::{Module, Settings, Slot};
use http::phases::{LocalFuture, Outcome, Serve};
use http::relay::session::reach;
use http::relay::settings::next;
use http::relay::{Offer, Pass, Passing, Plan, Protocol, RelaySettings};
use http::rows::{Row, flag, number, row, size, template, time, value};
use http::variables::Template;
use os::errlog;
use os::socket::PeerAddr;
use proto::haproxy::{Transport, write_v1, write_v2};

use crate::session::OK;
use crate::udp::Mailbox;
use crate::{datagrams, pump};

/// `ngx_stream_proxy_module`.
pub struct Proxy;

static SLOT: Slot = Slot::new();

const ALL: Contexts = Contexts::STREAM_ALL;

/// `proxy_protocol`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Greeting {
    #[default]
    Off,
    V1,
    V2,
}

const GREETINGS: [(&str, Greeting); 4] =
    [("off", Greeting::Off), ("on", Greeting::V1), ("v1", Greeting::V1), ("v2", Greeting::V2)];

#[rustfmt::skip]
static ROWS: [Row<ProxySettings>; 22] = [
    row("proxy_pass", Contexts::STREAM_SERVER, Arity::ONE, "", "Where sessions are passed on to.", proxy_pass),
    row("proxy_bind", ALL, Arity::TAKE12, "", "Local address towards the upstream.", |s, cx, d| s.relay.set_bind(cx, d)),
    flag("proxy_socket_keepalive", ALL, "off", "TCP keep-alive to the upstream.", |s, v| s.relay.socket_keepalive = v),
    size("proxy_socket_rcvbuf", ALL, "", "Receive buffer of the connection.", |s, v| s.relay.socket_rcvbuf = u32::try_from(v).unwrap_or(u32::MAX)),
    size("proxy_socket_sndbuf", ALL, "", "Send buffer of the connection.", |s, v| s.relay.socket_sndbuf = u32::try_from(v).unwrap_or(u32::MAX)),
    time("proxy_connect_timeout", ALL, "60s", "Time to connect.", |s, v| s.relay.connect_timeout = v),
    time("proxy_timeout", ALL, "10m", "Time in which something must pass.", |s, v| { s.relay.read_timeout = v; s.relay.send_timeout = v; }),
    size("proxy_buffer_size", ALL, "16k", "Buffer of each direction.", |s, v| s.relay.buffer_size = v),
    row("proxy_downstream_buffer", ALL, Arity::ONE, "", "Now `proxy_buffer_size`.", old_buffer),
    row("proxy_upstream_buffer", ALL, Arity::ONE, "", "Now `proxy_buffer_size`.", old_buffer),
    template("proxy_upload_rate", ALL, "Bytes per second from a client.", |s, v| s.upload_rate = Some(v)),
    template("proxy_download_rate", ALL, "Bytes per second from an upstream.", |s, v| s.download_rate = Some(v)),
    flag("proxy_next_upstream", ALL, "on", "Tries the next server when one cannot be connected to.", |s, v| s.relay.next_upstream = if v { next::ERROR | next::TIMEOUT } else { next::OFF }),
    number("proxy_next_upstream_tries", ALL, "0", "Most servers tried.", |s, v| s.relay.next_upstream_tries = u32::try_from(v).unwrap_or(u32::MAX)),
    time("proxy_next_upstream_timeout", ALL, "0", "Time in which servers are tried.", |s, v| s.relay.next_upstream_timeout = v),
    value("proxy_protocol", ALL, Arity::ONE, "off", "Tells the upstream of the client by the PROXY protocol.", |s, d| {
        s.greeting = d.one_of(&GREETINGS)?;
        Ok(())
    }),
    number("proxy_requests", ALL, "0", "Datagrams of a client that make a session; 0: any number.", |s, v| s.requests = v),
    number("proxy_responses", ALL, "", "Datagrams that answer each; unset: any number.", |s, v| s.responses = Some(v)),
    flag("proxy_half_close", ALL, "off", "Lets each direction end by itself.", |s, v| s.half_close = v),
    flag("proxy_session_drop", ALL, "off", "Ends the sessions of a server that is removed, down or unhealthy.", |s, v| s.session_drop = v),
    flag("proxy_ssl", ALL, "off", "Speaks TLS to the upstream.", |s, v| s.ssl = v),
    row("proxy_ssl_alpn", ALL, Arity::MORE1, "", "Protocols that upstreams are offered.", ssl_alpn),
];

http::relay_tls_rows!("proxy", ProxySettings, TLS_ROWS, conf::Contexts::STREAM_ALL);
static SHARED_ROWS: [&[Row<ProxySettings>]; 1] = [&TLS_ROWS];

/// Settings of the module in one block.
#[derive(Clone, Default)]
pub struct ProxySettings {
    /// What all upstream protocols share.
    pub(crate) relay: RelaySettings,
    pub(crate) upload_rate: Option<Template>,
    pub(crate) download_rate: Option<Template>,
    pub(crate) half_close: bool,
    pub(crate) session_drop: bool,
    pub(crate) requests: u64,
    pub(crate) responses: Option<u64>,
    greeting: Greeting,
    ssl: bool,
    alpn: Arc<Vec<Template>>,
    pass: Option<Pass>,
}

impl Settings for ProxySettings {
    fn enter(&mut self) {
        self.relay.enter();
    }

    fn finish(&mut self, cx: &mut Cx<'_>) -> Result<(), Error> {
        // What `stream` itself says may be incomplete until a server has said the rest.
        if self.ssl && cx.block.context == Contexts::STREAM_SERVER {
            self.relay.tls.make(cx, "proxy")?;
        }
        Ok(())
    }
}

impl Module for Proxy {
    const NAME: &'static str = "ngx_stream_proxy_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = ProxySettings;
    type Main = ();

    fn rows() -> &'static [Row<ProxySettings>] {
        &ROWS
    }

    fn shared_rows() -> &'static [&'static [Row<ProxySettings>]] {
        &SHARED_ROWS
    }
}

fn proxy_pass(s: &mut ProxySettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let word = d.arg(0)?;
    s.pass = Some(Pass::compile(cx, word, &word.bytes, &[])?);
    cx.block.content = Some(Content::Session(Arc::new(Proxy)));
    Ok(())
}

fn ssl_alpn(s: &mut ProxySettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let mut protocols = Vec::new();
    for word in &d.args {
        let protocol = Template::compile(cx, word)?;
        if protocol.as_literal().is_some_and(|name| name.len() > usize::from(u8::MAX)) {
            return Err(Error::on(d, "protocol too long"));
        }
        protocols.push(protocol);
    }
    s.alpn = Arc::new(protocols);
    Ok(())
}

fn old_buffer(s: &mut ProxySettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let sentence = format!(
        "the \"{}\" directive is deprecated, use the \"proxy_buffer_size\" directive instead",
        d.name.as_str()
    );
    cx.notices.push(Error::at(&d.name, sentence).with_level(Level::Warn));
    s.relay.buffer_size = usize::try_from(d.size()?).unwrap_or(usize::MAX);
    Ok(())
}

impl Protocol for ProxySettings {
    fn settings(&self) -> &RelaySettings {
        &self.relay
    }

    fn pass(&self) -> Option<&Pass> {
        self.pass.as_ref()
    }

    fn create(&self, _: &mut Request, _: &mut Plan) -> Result<(), Outcome> {
        Ok(())
    }

    fn tls(&self, r: &Request) -> Option<Offer> {
        if !self.ssl || r.conn.kind == SocketKind::Datagram {
            return None;
        }
        let mut offer = Vec::new();
        for protocol in self.alpn.iter() {
            let name = protocol.value(r);
            // One without a name, or with a longer one than there can be, is left away.
            if let Ok(length @ 1..) = u8::try_from(name.len()) {
                offer.push(length);
                offer.extend_from_slice(&name);
            }
        }
        Some(Offer::Owned(offer))
    }

    /// The PROXY protocol header. A health check is nobody's connection, and says so.
    fn greeting(&self, r: &Request) -> Vec<u8> {
        let mut out = Vec::new();
        let addresses = match (r.client(), r.conn.local()) {
            (PeerAddr::Inet(source), PeerAddr::Inet(destination)) => Some((*source, *destination)),
            _ => None,
        };
        let transport = match r.conn.kind {
            SocketKind::Stream => Transport::Stream,
            SocketKind::Datagram => Transport::Datagram,
        };
        match self.greeting {
            Greeting::Off => {}
            Greeting::V1 => write_v1(addresses, &mut out),
            Greeting::V2 => write_v2(addresses, transport, &[], &mut out),
        }
        out
    }

    /// It has none.
    fn scheme(&self, _: &Request) -> &'static str {
        ""
    }

    fn log_url(&self, _: &Request, peer: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(peer.as_bytes());
    }
}

impl Serve for Proxy {
    fn serve<'r>(&'r self, r: &'r mut Request) -> LocalFuture<'r, u16> {
        Box::pin(proxy(r))
    }

    fn passing(&self) -> Option<Passing> {
        Some(|location| location.settings::<Self>())
    }
}

async fn proxy(r: &mut Request) -> u16 {
    let cycle = Rc::clone(&r.cycle);
    let location = cycle.http.location(r.location);
    let settings = location.settings::<Proxy>();
    let mut reached = match reach(r, settings, &settings.relay).await {
        Ok(reached) => reached,
        Err(status) => return status,
    };
    tell(r, &reached);
    let mailbox = r.lasting.get::<Rc<Mailbox>>().map(Rc::clone);
    if let Some(mailbox) = mailbox {
        return datagrams::run(r, reached, settings, &mailbox).await;
    }
    if location.core.tcp_nodelay {
        reached.send_small_pieces();
    }
    pump::run(r, &mut reached, settings).await;
    reached.finish(r);
    OK
}

fn tell(r: &Request, reached: &http::relay::session::Reached<'_>) {
    use std::os::fd::AsFd;
    if !r.logs(errlog::Level::Info) {
        return;
    }
    let (Ok(local), Some(state)) = (os::socket::local_addr(reached.stream().as_fd()), r.upstreams.last())
    else {
        return;
    };
    let udp = if r.conn.kind == SocketKind::Datagram { "udp " } else { "" };
    r.error_log().log_for(
        errlog::Level::Info,
        r.conn.scope(),
        format_args!("{udp}proxy {local} connected to {}", state.addr),
    );
}
