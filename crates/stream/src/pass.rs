//! `ngx_stream_pass_module`: hands a connection to whoever listens on another address, as if it had come there.
//!
//! Nothing is connected to: it is the same socket that a server of `http` or another one of `stream` goes on with.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use conf::resources::{ListenAddr, SocketKind};
use conf::{Arity, Contexts, Directive, Error};
use http::Request;
use http::conf::compile::Cx;
use http::conf::location::Content;
use http::conf::{UriPart, parse_upstream_url};
use http::connection::Conn;
use http::cycle::Worker;
use http::module::{Module, Slot};
use http::phases::{LocalFuture, Serve};
use http::rows::{Row, row};
use http::server::accept::Served;
use http::server::h1;
use http::side::Side;
use http::variables::Template;
use os::errlog::Level;
use os::socket::PeerAddr;

use crate::session::{INTERNAL, OK};

/// `ngx_stream_pass_module`.
pub struct PassOn;

static SLOT: Slot = Slot::new();

/// How often a connection may be handed on (`NGX_STREAM_PASS_MAX_PASSES`).
const MOST_PASSES: u8 = 10;

static ROWS: [Row<()>; 1] =
    [row("pass", Contexts::STREAM_SERVER, Arity::ONE, "", "Hands connections to another listener.", pass)];

impl Module for PassOn {
    const NAME: &'static str = "ngx_stream_pass_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = ();
    type Main = ();

    fn rows() -> &'static [Row<()>] {
        &ROWS
    }
}

/// Where connections are handed on to.
enum Target {
    Fixed(ListenAddr),
    Named(Template),
}

fn pass((): &mut (), cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let word = d.arg(0)?;
    let target = if Template::has_variables(&word.bytes) {
        Target::Named(Template::compile(cx, word)?)
    } else {
        let refuse =
            |why| Error::at(word, format!("{why} in \"{}\" of the \"pass\" directive", word.as_str()));
        Target::Fixed(address(&word.bytes).map_err(refuse)?)
    };
    cx.block.content = Some(Content::Session(Arc::new(Passes(target))));
    Ok(())
}

/// The address of a listener.
fn address(text: &[u8]) -> Result<ListenAddr, &'static str> {
    if text.iter().all(u8::is_ascii_digit)
        && let Some(port) = conf::parse_number(text).and_then(|port| u16::try_from(port).ok())
    {
        return Ok(ListenAddr::Inet(SocketAddr::from(([0, 0, 0, 0], port))));
    }
    let url = parse_upstream_url(text, UriPart::Refused)?;
    let host = url.host_text();
    if let Some(path) = host.strip_prefix("unix:") {
        return Ok(ListenAddr::Unix(path.into()));
    }
    let port = url.port.ok_or("no port")?;
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&host);
    let ip = if bare == "*" { Ok([0, 0, 0, 0].into()) } else { bare.parse() };
    ip.map(|ip| ListenAddr::Inet(SocketAddr::new(ip, port))).map_err(|_| "no addresses")
}

/// What serves sessions that are handed on.
struct Passes(Target);

/// Who gets a connection when its session has let go of it.
pub(crate) struct Handover {
    side: Side,
    listener: (u32, usize),
    listen_addr: ListenAddr,
    local: ListenAddr,
    client: PeerAddr,
}

impl Serve for Passes {
    fn serve<'r>(&'r self, r: &'r mut Request) -> LocalFuture<'r, u16> {
        let status = match self.find(r) {
            Ok(Some(handover)) => {
                r.lasting.put(handover);
                OK
            }
            Ok(None) => OK,
            Err(()) => INTERNAL,
        };
        Box::pin(std::future::ready(status))
    }
}

impl Passes {
    /// Who is to have the connection; why nobody is, is logged.
    fn find(&self, r: &Request) -> Result<Option<Handover>, ()> {
        const PASSING: &str = "while passing connection to port";
        let wanted = match &self.0 {
            Target::Fixed(address) => address.clone(),
            Target::Named(template) => {
                let text = template.value(r);
                address(&text).map_err(|why| {
                    let shown = String::from_utf8_lossy(&text);
                    r.log(Level::Error, format_args!("{why} in pass \"{shown}\" {PASSING}"));
                })?
            }
        };
        if r.conn.is_tls() && r.conn.has_leftover() {
            // What was looked at of a plain connection is read anew by whoever goes on with it.
            r.log(Level::Error, format_args!("cannot pass connection with preread data {PASSING}"));
            return Err(());
        }
        if r.conn.kind == SocketKind::Datagram {
            r.log(Level::Error, format_args!("cannot pass udp connection {PASSING}"));
            return Err(());
        }
        if r.conn.passes.get() >= MOST_PASSES {
            r.log(Level::Error, format_args!("stream pass cycle {PASSING}"));
            return Err(());
        }
        let worker = Worker::current();
        for side in [Side::Http, Side::Stream] {
            let cycle = worker.cycle_of(side);
            let found = cycle.http.listeners.iter().position(|listener| {
                listener.spec.kind == SocketKind::Stream && takes(&listener.spec.addr, &wanted)
            });
            if let Some(index) = found {
                return Ok(Some(Handover {
                    side,
                    listener: (cycle.generation, index),
                    listen_addr: cycle.http.listeners[index].spec.addr.clone(),
                    local: wanted,
                    client: r.client().clone(),
                }));
            }
        }
        let shown = Shown(&wanted);
        r.log(Level::Error, format_args!("port not found for \"{shown}\" {PASSING}"));
        Ok(None)
    }
}

struct Shown<'a>(&'a ListenAddr);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            ListenAddr::Inet(addr) => addr.fmt(f),
            ListenAddr::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Whether a listener takes connections to an address (`ngx_stream_pass_match`).
fn takes(listener: &ListenAddr, wanted: &ListenAddr) -> bool {
    match (listener, wanted) {
        (ListenAddr::Inet(own), ListenAddr::Inet(wanted)) if own.ip().is_unspecified() => {
            own.is_ipv4() == wanted.is_ipv4() && own.port() == wanted.port()
        }
        _ => listener == wanted,
    }
}

impl Handover {
    /// Has the other listener's side go on with the connection.
    pub(crate) fn complete(self, conn: Conn) {
        let local = match self.local {
            ListenAddr::Inet(addr) => PeerAddr::Inet(addr),
            ListenAddr::Unix(path) => PeerAddr::Unix(path),
        };
        let conn = conn.pass_on(self.client, self.listener, Rc::new(self.listen_addr), local);
        let served = Served::new(Rc::new(conn));
        match self.side {
            Side::Http => {
                net::spawn(h1::Serve::passed(served));
            }
            Side::Stream => crate::session::serve(served),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners() {
        let check = |listener: &str, wanted: &str, expected: bool| {
            let (listener, wanted) = (address(listener.as_bytes()), address(wanted.as_bytes()));
            assert_eq!(takes(&listener.expect("address"), &wanted.expect("address")), expected);
        };
        check("127.0.0.1:80", "127.0.0.1:80", true);
        check("127.0.0.1:80", "127.0.0.2:80", false);
        check("0.0.0.0:80", "127.0.0.2:80", true);
        check("0.0.0.0:80", "127.0.0.2:81", false);
        check("0.0.0.0:80", "[::1]:80", false);
        check("80", "10.0.0.1:80", true);
        check("unix:/tmp/s", "unix:/tmp/s", true);
        check("unix:/tmp/s", "unix:/tmp/t", false);
    }

    #[test]
    fn what_is_no_address() {
        assert_eq!(address(b"127.0.0.1"), Err("no port"));
        assert_eq!(address(b"example.com:80"), Err("no addresses"));
    }
}
