//! The TLS handshake with a client, and what HTTP asks of TLS afterwards: 421, 495, 496, 497.
//!
//! The hello's name picks the server, whose certificates and policy are used; `Host` may not lead elsewhere when that
//! server asks for certificates.

use std::io;
use std::rc::Rc;

use net::tls::{Begun, Fault, fault};
use os::errlog::{Errno, Level};

use crate::conf::ServerId;
use crate::conf::listen::Address;
use crate::conf::server_name::Found;
use crate::connection::Conn;
use crate::cycle::{Cycle, Worker};
use crate::request::Request;
use crate::server::h2::Http2;
use crate::tls::{Alpn, Refused, ServerTls};

/// Does the handshake where the listener wants TLS and it has not been done; says whether the connection may go
/// on.
pub(super) async fn begin(worker: &Worker, r: &mut Request, conn: &Rc<Conn>) -> bool {
    if conn.is_tls() || conn.requests.get() > 0 {
        return true;
    }
    let cycle = worker.cycle();
    let Some(listener) = conn.listener_in(&cycle).and_then(|index| cycle.http.listeners.get(index)) else {
        return true;
    };
    let local = if listener.needs_local_address() { conn.local_ip() } else { None };
    let address = listener.address(local);
    if !address.options.ssl {
        return true;
    }
    let timeout = |server| {
        let root = cycle.http.server(server).root;
        cycle.http.location(root).core.client_header_timeout
    };
    conn.deadline.set_after(timeout(address.default_server));
    match conn.stream.read_hello(conn.take_leftover(), &conn.deadline).await {
        Ok(Begun::Tls) => {}
        Ok(Begun::Plain(bytes)) => {
            conn.keep_leftover(bytes);
            return true;
        }
        Err(error) => {
            log_failure(&cycle, conn, &error);
            return false;
        }
    }
    let server = server_by_name(conn, address);
    r.begin(Rc::clone(&cycle), Rc::clone(conn));
    r.server = server;
    r.location = cycle.http.server(server).root;
    let speaks_http2 = address.options.http2 || cycle.http.location(r.location).settings::<Http2>().enable;
    let alpn = if speaks_http2 { Alpn::Http2 } else { Alpn::Http1 };
    if !accept(r, address, alpn).await {
        return false;
    }
    conn.deadline.set_after(timeout(server));
    if let Err(error) = shake(r, address).await {
        log_failure(&cycle, conn, &error);
        return false;
    }
    true
}

/// Does the handshake by the configuration that the hello was answered by, and asks what must be known of the
/// client's certificate (`ngx_ssl_handshake`), all before the connection's deadline.
///
/// # Errors
/// The handshake failed, or the time is over.
pub async fn shake(r: &Request, address: &Address) -> io::Result<()> {
    let conn = &r.conn;
    conn.stream.handshake(&conn.deadline).await?;
    let policy =
        tls_of(r, address).and_then(|tls| tls.client.as_ref()).filter(|policy| policy.ocsp.is_some());
    let (Some(policy), Some(session)) = (policy, conn.stream.tls()) else { return Ok(()) };
    // Rare, and larger than all of the handshake.
    let asked = Box::pin(policy.ask_status(r, session));
    conn.deadline.bound(asked).await.ok_or_else(|| io::ErrorKind::TimedOut.into())
}

/// Whose TLS a connection has: its server's, or the default server's where that one has none of its own.
fn tls_of<'r>(r: &'r Request, address: &Address) -> Option<&'r ServerTls> {
    let http = &r.cycle.http;
    http.server(r.server).tls.as_deref().or(http.server(address.default_server).tls.as_deref())
}

/// The server of the hello's name, as the session is to remember it (`ngx_http_ssl_servername`).
fn server_by_name(conn: &Conn, address: &Address) -> ServerId {
    let Some(session) = conn.stream.tls() else { return address.default_server };
    let name = session.hello().and_then(|hello| hello.name.as_deref()).unwrap_or_default();
    let Ok(host) = proto::uri::validate_host(name.as_bytes()) else { return address.default_server };
    match address.hosts.find(&host.name) {
        None => address.default_server,
        Some(Found::Server(server) | Found::Regex(_, server)) => {
            session.accept_name(&host.name);
            server
        }
    }
}

/// Answers the hello by the server's configuration, or by the default server's where it has none of its own.
pub async fn accept(r: &Request, address: &Address, alpn: Alpn) -> bool {
    let (conn, cycle) = (&r.conn, &r.cycle);
    let Some(tls) = tls_of(r, address) else { return false };
    if r.server().tls.as_ref().is_some_and(|own| own.rejects) {
        conn.stream.refuse_name().await;
        conn.log(cycle, Level::Info, format_args!("handshake rejected while SSL handshaking"));
        return false;
    }
    for stapling in &tls.staplings {
        stapling.freshen(&cycle.globals.log);
    }
    let Some(session) = conn.stream.tls() else { return false };
    let config = match (tls.config(alpn), &tls.certificates) {
        (Ok(config), None) => Some(config),
        (Ok(config), Some(certificates)) => {
            certificates.for_connection(r).map(|identities| config.with_identities(&identities))
        }
        (Err(reason), _) => {
            conn.log(cycle, Level::Crit, format_args!("{reason} while SSL handshaking"));
            None
        }
    };
    let accepted = config.is_some_and(|config| session.accept(&config).is_ok());
    if !accepted {
        conn.stream.refuse_hello().await;
    }
    accepted
}

/// Tells of a failed handshake as nginx does.
fn log_failure(cycle: &Cycle, conn: &Conn, error: &io::Error) {
    if error.kind() == io::ErrorKind::TimedOut && conn.is_aborted.get() {
        return;
    }
    let (level, said) = told(error);
    conn.log(cycle, level, format_args!("{said} while SSL handshaking"));
}

/// What the log says of a handshake that failed, and at which level (`ngx_ssl_connection_error`).
#[must_use]
pub fn told(error: &io::Error) -> (Level, String) {
    match fault(error) {
        Some((net::tls::Error::Closed, _)) => {
            (Level::Info, "peer closed connection in SSL handshake".to_owned())
        }
        Some((reason, fault)) => {
            let level = if fault == Fault::Peer { Level::Info } else { Level::Crit };
            (level, format!("SSL_do_handshake() failed ({reason})"))
        }
        None if error.kind() == io::ErrorKind::TimedOut => {
            (Level::Info, "client timed out (110: Connection timed out)".to_owned())
        }
        None => (Level::Info, format!("peer closed connection in SSL handshake {}", Errno(error))),
    }
}

/// What a request's connection must be for its server (`ngx_http_process_request`).
///
/// # Errors
/// The status that says what it is not.
pub(super) fn check(r: &Request, address: &Address) -> Result<(), u16> {
    if !address.options.ssl {
        return Ok(());
    }
    if !r.conn.is_tls() {
        r.log(
            Level::Info,
            format_args!("client sent plain HTTP request to HTTPS port while reading client request headers"),
        );
        return Err(497);
    }
    let Some(policy) = r.server().tls.as_ref().and_then(|tls| tls.client.as_ref()) else { return Ok(()) };
    let Some(session) = r.conn.stream.tls() else { return Ok(()) };
    if session.accepted_name().is_some_and(|name| name != r.host) {
        r.log(
            Level::Info,
            format_args!(
                "client attempted to request the server name different from the one that was negotiated"
            ),
        );
        return Err(421);
    }
    policy.admit(session).map_err(|refused| {
        r.log(Level::Info, format_args!("{refused} while reading client request headers"));
        session.forget();
        if refused == Refused::Missing { 496 } else { 495 }
    })
}
