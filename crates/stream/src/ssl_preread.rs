//! `ngx_stream_ssl_preread_module`: what a client's hello says, while TLS passes as it is.
//!
//! The name leads to the server that has it, and what was looked at is passed on as if nobody had.

use std::rc::Rc;

use conf::Contexts;
use http::Request;
use http::conf::listen::Address;
use http::logging::Doing;
use http::module::{Module, Registry, Settings, Slot};
use http::rows::{Row, flag};
use http::variables::Variable;
use net::Buf;
use os::errlog::Level;
use proto::client_hello::{ClientHello, Peeked, peek};

use crate::core::Core;
use crate::session::{BAD_REQUEST, OK, enter_server};

/// `ngx_stream_ssl_preread_module`.
pub struct SslPreread;

static SLOT: Slot = Slot::new();

static ROWS: [Row<PrereadSettings>; 1] = [flag(
    "ssl_preread",
    Contexts::STREAM_ALL,
    "off",
    "Reads names and protocols from a hello of TLS.",
    |s, v| s.enabled = v,
)];

static VARIABLES: [Variable; 3] = [
    Variable::new("ssl_preread_protocol", |r, out| show(r, out, |hello| hello.version().as_bytes())),
    Variable::new("ssl_preread_server_name", |r, out| show(r, out, |hello| &hello.name)),
    Variable::new("ssl_preread_alpn_protocols", |r, out| show(r, out, |hello| &hello.protocols)),
];

fn show(r: &Request, out: &mut Vec<u8>, part: impl Fn(&ClientHello) -> &[u8]) -> bool {
    let Some(hello) = r.lasting.get::<ClientHello>() else { return false };
    out.extend_from_slice(part(hello));
    true
}

/// Settings of the module in one block.
#[derive(Clone, Default)]
pub struct PrereadSettings {
    enabled: bool,
}

impl Settings for PrereadSettings {}

impl Module for SslPreread {
    const NAME: &'static str = "ngx_stream_ssl_preread_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = PrereadSettings;
    type Main = ();

    fn rows() -> &'static [Row<PrereadSettings>] {
        &ROWS
    }

    fn register(registry: &mut Registry) {
        registry.stream_variables(&VARIABLES);
    }
}

/// Looks at what the client sends first, where the server asks for it; an error is the status of a session that ends
/// there.
pub(crate) async fn look(r: &mut Request, address: &Address) -> Result<(), u16> {
    if !r.location().settings::<SslPreread>().enabled {
        return Ok(());
    }
    r.contexts.put(Doing("prereading client data"));
    let conn = Rc::clone(&r.conn);
    let (most, timeout_ms) = {
        let core = r.location().settings::<Core>();
        (core.preread_buffer_size, core.preread_timeout)
    };
    conn.deadline.set_after(timeout_ms);
    let mut bytes = conn.take_leftover();
    if bytes.capacity() == 0 {
        bytes = Buf::with_capacity(most);
    }
    let hello = loop {
        match peek(&bytes) {
            Peeked::Hello(hello) => break Some(hello),
            Peeked::Other => break None,
            Peeked::More => {}
        }
        let room = most.saturating_sub(bytes.len());
        if room == 0 {
            r.log(Level::Error, format_args!("preread buffer full"));
            return Err(BAD_REQUEST);
        }
        if !matches!(conn.stream.recv(&mut bytes, room, &conn.deadline).await, Ok(1..)) {
            // Too slow, or gone: as nginx, which takes it for served.
            return Err(OK);
        }
    };
    conn.keep_leftover(bytes);
    let Some(hello) = hello else { return Ok(()) };
    if let Ok(host) = proto::uri::validate_host(&hello.name) {
        enter_server(r, address, &host.name);
    }
    r.lasting.put(hello);
    Ok(())
}
